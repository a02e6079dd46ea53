# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What this machine's processor is good at. Asked once: a compiled graph is made of the answers."""

from functools import lru_cache

import torch

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
