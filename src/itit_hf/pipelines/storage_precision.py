# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""A frozen text encoder on disk in half precision, in memory in the model's: CPUs compute in float32."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_HALVES = (torch.float16, torch.bfloat16)


def lossless_half(module: torch.nn.Module) -> torch.dtype | None:
    """The half precision that holds each of a module's float32 weights exactly.

    Args:
        module (`torch.nn.Module`): Whose weights are asked about.

    Returns:
        `torch.dtype`, *optional*: float16 or bfloat16; `None` if either would change a number, or if not all weights
        are float32, or some are quantized.
    """
    if getattr(module, "hf_quantizer", None) is not None:
        return None
    weights = [weight.detach() for weight in module.state_dict().values() if weight.is_floating_point()]
    if not weights or any(weight.dtype != torch.float32 for weight in weights):
        return None
    for dtype in _HALVES:
        if all(torch.equal(weight.to(dtype).float(), weight) for weight in weights):
            return dtype
    return None


@contextmanager
def stored_in_half(module: torch.nn.Module | None) -> Iterator[None]:
    """Within it, a module that loses nothing by it is in half precision, to be saved in half as many bytes.

    Args:
        module (`torch.nn.Module`, *optional*): Nothing is done without one.
    """
    dtype = None if module is None else lossless_half(module)
    if dtype is None:
        yield
        return
    module.to(dtype)
    try:
        yield
    finally:
        module.to(torch.float32)
