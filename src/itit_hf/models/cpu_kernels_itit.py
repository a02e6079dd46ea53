# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Kernels for the CPU, and what this machine's processor is good at: asked once, as a compiled graph is made of the
answers."""

import platform
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

# Instructions that multiply bfloat16: of Intel and AMD, of AMX, of Arm.
_BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")


@lru_cache
def cpu_multiplies_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware, by torch's own query.

    Where it does not, torch emulates the product: 16 to 35 times as slow as float32 on an AVX2 machine. A torch that
    cannot be asked (below 2.13) counts as one without: float32 is right everywhere.

    Returns:
        `bool`.
    """
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in _BFLOAT16_INSTRUCTIONS)


def _processor() -> str:
    """What the system calls its processor, the vendor's name in it; empty where it has none to say."""
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8") if path.exists() else platform.processor()


# There torch multiplies a few rows slowly. Known once, as it decides what a compiled graph is made of.
ON_AMD = "AuthenticAMD" in _processor()


def tall_linear(hidden_states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """`F.linear` with a weight of very many rows, of which all are read for a word of each of a few beams.

    On a CPU the product is then bound by how fast the weight is read. With the weight as its left factor and 2 to 8
    columns that is 2.3 times as fast on an AMD EPYC, and half as fast on an Intel Xeon
    (`utils/benchmarks/benchmark.py` times both as a share of a caption).

    Args:
        hidden_states (`torch.FloatTensor` of shape `(..., width)`)
        weight (`torch.FloatTensor` of shape `(num_rows, width)`)
        bias (`torch.FloatTensor` of shape `(num_rows,)`)

    Returns:
        `torch.FloatTensor` of shape `(..., num_rows)`.
    """
    # An exported graph is for any number of rows, and for other processors.
    if torch.compiler.is_exporting():
        return F.linear(hidden_states, weight, bias)
    columns = hidden_states.flatten(0, -2)  # (N, W)
    if not ON_AMD or hidden_states.device.type != "cpu" or not 1 < columns.size(0) <= 8:
        return F.linear(hidden_states, weight, bias)
    return torch.addmm(bias[:, None], weight, columns.T).T.reshape(*hidden_states.shape[:-1], -1)  # (..., V)


class ITITDropout(nn.Dropout):
    """`nn.Dropout` whose masks are cheap on a CPU: four of its numbers from each random one.

    torch draws every number of a mask by itself there, which was 8% of a step of pairs (docs/experiments/training.md).
    With 16 random bits for each the probability is a multiple of 1/65536. Elsewhere this is torch's own, and so it is
    in a compiled graph: four from one would be another graph for each remainder of the size.
    """

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Numbers of any shape; while training each is 0 with probability `p`, else `1 / (1 - p)` times itself."""
        is_torchs = hidden_states.device.type != "cpu" or torch.compiler.is_compiling()
        if not self.training or self.p in (0, 1) or is_torchs:
            return super().forward(hidden_states)
        size = hidden_states.numel()
        drawn = torch.empty((size + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        bits = drawn.view(torch.int16)[:size].view(hidden_states.shape)
        scaled = bits.float().ge_(self.p * 2**16 - 2**15).mul_(1 / (1 - self.p))
        return hidden_states * scaled.to(hidden_states.dtype)
