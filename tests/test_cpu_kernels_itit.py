# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from itit_hf.cpu_kernels_itit import cpu_multiplies_bfloat16


@pytest.fixture(autouse=True)
def asked_anew():
    cpu_multiplies_bfloat16.cache_clear()
    yield
    cpu_multiplies_bfloat16.cache_clear()


@pytest.mark.parametrize(
    "capabilities, expected",
    [
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"neon": True, "bf16": True}, True),
        ({"neon": True}, False),
    ],
)
def test_a_processor_multiplies_bfloat16_if_torch_names_such_an_instruction(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert cpu_multiplies_bfloat16() is expected


def test_a_torch_that_cannot_be_asked_counts_as_one_without(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not cpu_multiplies_bfloat16()
