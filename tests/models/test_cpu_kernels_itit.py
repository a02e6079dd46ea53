# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from itit_hf.models import cpu_kernels_itit
from itit_hf.models.cpu_kernels_itit import ITITDropout, cpu_multiplies_bfloat16, tall_linear


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


def test_dropout_keeps_the_share_it_should_and_makes_up_for_the_rest():
    torch.manual_seed(0)
    dropped = ITITDropout(0.3)(torch.ones(1000, 999))  # no multiple of the four masks of one random number
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.002)  # four standard errors
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.003)


def test_dropout_of_neighbours_is_independent():
    torch.manual_seed(0)
    kept = (ITITDropout(0.5)(torch.ones(400_000)) > 0).float()
    together = [(kept[shift:] * kept[: len(kept) - shift]).mean().item() for shift in (1, 2, 3, 4, 8)]
    assert together == pytest.approx([0.25] * 5, abs=0.003)


def test_dropout_has_the_gradient_of_its_mask_and_follows_torchs_seed():
    x = torch.ones(50, requires_grad=True)
    dropout = ITITDropout(0.5)
    torch.manual_seed(3)
    first = dropout(x)
    torch.manual_seed(3)
    assert torch.equal(dropout(x), first) and not torch.equal(dropout(x), first)
    first.sum().backward()
    assert torch.equal(x.grad, first)


@pytest.mark.parametrize("probability, dropped", [(0.0, 0), (1.0, 5)])
def test_dropout_of_none_and_of_all(probability, dropped):
    assert (ITITDropout(probability)(torch.ones(5)) == 0).sum() == dropped


def test_dropout_is_for_training():
    assert torch.equal(ITITDropout(0.5).eval()(torch.ones(5)), torch.ones(5))


@pytest.mark.parametrize("on_amd", [True, False])
@pytest.mark.parametrize("num_rows", [1, 2, 4, 8, 9])
def test_a_tall_linear_layer_gives_what_a_linear_layer_gives(num_rows, on_amd, monkeypatch):
    monkeypatch.setattr(cpu_kernels_itit, "ON_AMD", on_amd)
    inputs = tall_inputs(1, num_rows)
    torch.testing.assert_close(tall_linear(*inputs), torch.nn.functional.linear(*inputs))


def test_a_tall_linear_layer_has_the_gradients_of_a_linear_layer(monkeypatch):
    monkeypatch.setattr(cpu_kernels_itit, "ON_AMD", True)
    gradients = []
    for layer in (tall_linear, torch.nn.functional.linear):
        inputs = [value.requires_grad_() for value in tall_inputs(2, 2)]
        layer(*inputs).square().sum().backward()
        gradients.append([value.grad for value in inputs])
    torch.testing.assert_close(gradients[0], gradients[1])


def tall_inputs(batch_size, num_rows):
    """Hidden states, weight and bias of a layer with 500 outputs."""
    generator = torch.Generator().manual_seed(0)
    sizes = (batch_size, num_rows, 6), (500, 6), (500,)
    return [torch.randn(size, generator=generator) for size in sizes]


class TallHead(torch.nn.Module):
    """A head for the states of a few rows."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(50, 6))

    def forward(self, states):
        return tall_linear(states, self.weight, torch.zeros(50))


@pytest.mark.parametrize("on_amd", [True, False])
def test_a_head_is_exported_for_more_rows_than_a_processor_is_asked_about(monkeypatch, on_amd):
    monkeypatch.setattr(cpu_kernels_itit, "ON_AMD", on_amd)
    torch.manual_seed(0)
    head = TallHead()
    batch = torch.export.Dim("batch", max=1024)
    graph = torch.export.export(head, (torch.randn(3, 1, 6),), dynamic_shapes=({0: batch},)).module()
    states = torch.randn(20, 1, 6)
    torch.testing.assert_close(graph(states), head(states))
