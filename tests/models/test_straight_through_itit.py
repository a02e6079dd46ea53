# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from itit_hf.models import straight_through_itit as module
from itit_hf.models.straight_through_itit import (
    straight_through,
    straight_through_embedding,
    straight_through_projection,
)
from itit_hf.rng import gumbel


def test_one_hot_forward_and_softmax_backward():
    logits = torch.tensor([[1.0, 3.0, 2.0]], requires_grad=True)
    weight = torch.tensor([[1.0, 10.0, 100.0]])
    out = straight_through(logits)
    torch.testing.assert_close(out, torch.tensor([[0.0, 1.0, 0.0]]))
    (got,) = torch.autograd.grad((out * weight).sum(), logits)
    (want,) = torch.autograd.grad((logits.softmax(-1) * weight).sum(), logits)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("numbers_per_chunk", [14, 2**22])
@pytest.mark.parametrize("noisy", [False, True])
def test_the_lean_form_equals_the_dense_one(monkeypatch, numbers_per_chunk, noisy):
    monkeypatch.setattr(module, "_NUMBERS_PER_CHUNK", numbers_per_chunk)
    torch.manual_seed(0)
    logits, table = torch.randn(2, 5, 7, requires_grad=True), torch.randn(7, 4, requires_grad=True)
    noise = gumbel(torch.rand(2, 5, 7)) if noisy else None
    weight = torch.randn(2, 5, 4)
    dense = straight_through(logits, 0.0 if noise is None else noise) @ table
    lean = straight_through_embedding(logits, table, noise)
    torch.testing.assert_close(lean, dense)
    want = torch.autograd.grad((dense.sin() * weight).sum(), (logits, table))
    got = torch.autograd.grad((lean.sin() * weight).sum(), (logits, table))
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("numbers_per_chunk", [14, 2**22])
def test_the_form_without_logits_equals_the_dense_one(monkeypatch, numbers_per_chunk):
    monkeypatch.setattr(module, "_NUMBERS_PER_CHUNK", numbers_per_chunk)
    torch.manual_seed(0)
    sizes = (2, 5, 3), (7, 3), (7, 4)
    states, weight, table = (torch.randn(size, requires_grad=True) for size in sizes)
    upstream = torch.randn(2, 5, 4)
    dense = straight_through(states @ weight.t()) @ table
    lean, ids = straight_through_projection(states, weight, table)
    torch.testing.assert_close(lean, dense)
    assert torch.equal(ids, (states @ weight.t()).argmax(-1))
    want = torch.autograd.grad((dense.sin() * upstream).sum(), (states, weight, table))
    got = torch.autograd.grad((lean.sin() * upstream).sum(), (states, weight, table))
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_logits_are_not_kept():
    states, saved = torch.randn(8, 16, 4, requires_grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        straight_through_projection(states, torch.randn(1000, 4), torch.randn(1000, 4))
    assert sorted(saved) == [8 * 16, 8 * 16 * 4, 1000 * 4, 1000 * 4]


def test_a_head_of_another_size_is_named():
    with pytest.raises(ValueError, match="a row per class, got 5 and 7 rows"):
        straight_through_projection(torch.zeros(2, 3), torch.zeros(5, 3), torch.zeros(7, 4))


def test_the_gradient_of_the_table_is_exact():
    torch.manual_seed(0)
    logits, table = torch.randn(3, 5, dtype=torch.double), torch.randn(5, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: straight_through_embedding(logits, t).sin(), table)


def test_the_gradient_of_the_logits_is_that_of_the_softmax_by_finite_differences():
    torch.manual_seed(0)
    logits = torch.randn(3, 5, dtype=torch.double, requires_grad=True)
    table, weight = torch.randn(5, 4, dtype=torch.double), torch.randn(3, 4, dtype=torch.double)
    (got,) = torch.autograd.grad((straight_through_embedding(logits, table) * weight).sum(), logits)
    step, want = 1e-6, torch.zeros_like(logits)
    for place in torch.cartesian_prod(torch.arange(3), torch.arange(5)).tolist():
        nudge = torch.zeros_like(logits)
        nudge[tuple(place)] = step
        rise = (((logits + nudge).softmax(-1) - (logits - nudge).softmax(-1)) @ table * weight).sum()
        want[tuple(place)] = rise.detach() / (2 * step)
    torch.testing.assert_close(got, want, atol=1e-8, rtol=1e-6)


def test_a_frozen_table_gets_no_gradient_but_lets_it_through():
    logits, table = torch.randn(3, 7, requires_grad=True), torch.randn(7, 4)
    straight_through_embedding(logits, table).sum().backward()
    assert table.grad is None and logits.grad.abs().sum() > 0


def test_embeddings_that_do_not_train_the_table_train_the_logits_all_the_same():
    torch.manual_seed(0)
    logits, table = torch.randn(2, 3, 7, requires_grad=True), torch.randn(7, 4, requires_grad=True)
    trained = torch.tensor([[True, False, False], [False, True, True]])
    upstream = torch.randn(2, 3, 4)
    got = torch.autograd.grad(
        (straight_through_embedding(logits, table, trained=trained) * upstream).sum(), (logits, table)
    )
    all_of_it = torch.autograd.grad((straight_through_embedding(logits, table) * upstream).sum(), (logits, table))
    assert torch.equal(got[0], all_of_it[0])
    want = torch.zeros(7, 4).index_add(0, logits.argmax(-1)[trained], upstream[trained])
    torch.testing.assert_close(got[1], want)


def test_one_hot_rows_are_never_made():
    logits = torch.randn(8, 16, 1000, requires_grad=True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        straight_through_embedding(logits, torch.randn(1000, 4))
    assert sorted(saved) == [8 * 16, 4 * 1000, logits.numel()]


def test_gumbel_noise_samples_from_the_softmax():
    logits = torch.tensor([0.5, 0.3, 0.2]).log().expand(100_000, 3)
    noise = gumbel(torch.rand(100_000, 3, generator=torch.Generator().manual_seed(0)))
    shares = straight_through(logits, noise).mean(0)
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.2]), atol=0.01, rtol=0)


def test_a_table_of_another_size_is_named():
    with pytest.raises(ValueError, match="`logits` have 5 classes, `table` has 7 rows"):
        straight_through_embedding(torch.zeros(2, 5), torch.zeros(7, 4))
