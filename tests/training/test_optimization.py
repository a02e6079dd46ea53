# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import copy

import pytest
import torch

from itit_hf.models.modeling_itit import ITITForPreTraining
from itit_hf.training import optimization
from itit_hf.training.optimization import CappedAdafactor, CombinedOptimizer, Muon, create_muon, orthogonalize

from ..testing_utils import tiny_config

ADAMW = torch.optim.AdamW, {"lr": 1e-3}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return ITITForPreTraining(tiny_config())


def take_steps(model, optimizer, num_steps):
    for step in range(num_steps):
        generator = torch.Generator().manual_seed(step)
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()


def test_adafactors_rate_is_not_scaled_by_the_parameter():
    small, large = (torch.nn.Parameter(torch.full((4,), value)) for value in (1.0, 100.0))
    for parameter in (small, large):
        parameter.grad = torch.ones(4)
    CappedAdafactor([small, large], lr=0.1).step()
    torch.testing.assert_close(1.0 - small, 100.0 - large, rtol=1e-3, atol=0.0)


def test_adafactors_second_moment_decay_is_capped():
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = CappedAdafactor([parameter], lr=0.1, beta1=0.9, beta2=0.96)
    decays = []
    for step in range(1, 101):
        parameter.grad = torch.ones(3)
        optimizer.step()
        decays.append(1 - step ** optimizer.param_groups[0]["decay_rate"])
    assert decays[9] == pytest.approx(1 - 10**-0.8) and decays[99] == pytest.approx(0.96)
    assert "exp_avg" in optimizer.state[parameter]


def test_muon_takes_the_matrices_of_the_blocks_and_no_other_parameter(model):
    muon, others = create_muon(model, 0.02, 0.1, ADAMW).optimizers
    names = {id(p): name for name, p in model.named_parameters()}
    by_muon = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    by_adamw = {names[id(p)] for group in others.param_groups for p in group["params"]}
    assert by_muon | by_adamw == set(names.values()) and not by_muon & by_adamw
    assert all(".layers." in name and name.endswith("weight") and "norm" not in name for name in by_muon)
    assert "model.embed_image_tokens.weight" in by_adamw


def test_only_matrices_decay(model):
    _, others = create_muon(model, 0.02, 0.1, ADAMW).optimizers
    assert all(
        (group["weight_decay"] == 0.1) == (p.ndim >= 2) for group in others.param_groups for p in group["params"]
    )


def test_frozen_parameters_are_left_out(model):
    model.text_decoder.requires_grad_(False)
    combined = create_muon(model, 0.02, 0.1, ADAMW)
    assert all(p.requires_grad for group in combined.param_groups for p in group["params"])


def test_combined_optimizers_step_as_each_would_alone(model):
    alone = copy.deepcopy(model)
    matrix, vector = alone.model.layers[0].self_attn.q_proj.weight, alone.model.embed_image_tokens.weight
    take_steps(model, create_muon(model, 0.02, 0.1, ADAMW), 2)
    muon = Muon([matrix], lr=0.02, weight_decay=0.1)
    adamw = torch.optim.AdamW([vector], lr=1e-3, weight_decay=0.1)
    for optimizer in (muon, adamw):
        take_steps(alone, optimizer, 2)
    torch.testing.assert_close(model.model.layers[0].self_attn.q_proj.weight, matrix)
    torch.testing.assert_close(model.model.embed_image_tokens.weight, vector)


def steps_on_a_matrix(optimizer_class, **options):
    torch.manual_seed(0)
    matrix = torch.nn.Parameter(torch.randn(24, 16))
    optimizer = optimizer_class([matrix], lr=0.02, weight_decay=0.1, **options)
    for _ in range(3):
        matrix.grad = torch.randn(24, 16)
        optimizer.step()
    return matrix, optimizer


@pytest.mark.parametrize("options", [{}, {"nesterov": False, "momentum": 0.8}])
def test_muon_in_bfloat16_is_that_of_torch(monkeypatch, options):
    monkeypatch.setattr(optimization, "cpu_multiplies_bfloat16", lambda: True)
    ours, _ = steps_on_a_matrix(Muon, **options)
    theirs, _ = steps_on_a_matrix(torch.optim.Muon, **options)
    torch.testing.assert_close(ours, theirs, rtol=0.0, atol=1e-3)  # of updates of 0.02; bfloat16 has 8 bits


def test_muon_in_float32_is_that_of_torch_up_to_the_rounding_of_bfloat16(monkeypatch):
    monkeypatch.setattr(optimization, "cpu_multiplies_bfloat16", lambda: False)
    (ours, optimizer), (theirs, torchs) = steps_on_a_matrix(Muon), steps_on_a_matrix(torch.optim.Muon)
    torch.testing.assert_close(ours, theirs, rtol=0.0, atol=2e-3)
    torch.testing.assert_close(optimizer.state_dict(), torchs.state_dict())  # either continues the other's run


@pytest.mark.parametrize("in_hardware, dtype", [(True, torch.bfloat16), (False, torch.float32)])
def test_muon_multiplies_in_what_the_processor_multiplies(monkeypatch, in_hardware, dtype):
    dtypes = []

    def spy(*arguments):
        dtypes.append(arguments[-1])
        return orthogonalize(*arguments)

    monkeypatch.setattr(optimization, "cpu_multiplies_bfloat16", lambda: in_hardware)
    monkeypatch.setattr(optimization, "orthogonalize", spy)
    steps_on_a_matrix(Muon)
    assert dtypes == [dtype] * 3


@pytest.mark.parametrize("smallest", [1.0, 1e-3, 0.0])
@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (12, 17), (12, 12)])
def test_float32_orthogonalizes_as_the_plain_iteration_in_float64_does(shape, smallest):
    left, values, right = torch.linalg.svd(
        torch.randn(shape, generator=torch.Generator().manual_seed(0)).double(), full_matrices=False
    )
    values[-3:] *= smallest  # three directions that are weak, or gone
    matrix, coefficients = left * values @ right, (3.4445, -4.7750, 2.0315)
    plain = orthogonalize(matrix, coefficients, 5, 1e-7, torch.float64)
    ours = orthogonalize(matrix.float(), coefficients, 5, 1e-7, torch.float32)
    torch.testing.assert_close(ours.double(), plain, rtol=0.0, atol=1e-4)


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (12, 12)])
def test_orthogonalized_matrices_keep_their_directions(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    result = orthogonalize(matrix, (3.4445, -4.7750, 2.0315), 5, 1e-7, torch.float32)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    inner = left.T @ result @ right.T  # diagonal, of the singular values of the result
    assert torch.allclose(inner, torch.diag(inner.diagonal()), atol=1e-4)
    assert (inner.diagonal() > 0.3).all() and (inner.diagonal() < 1.4).all()


def test_a_schedule_scales_every_rate(model):
    combined = create_muon(model, 0.02, 0.1, ADAMW)
    torch.optim.lr_scheduler.LambdaLR(combined, lambda step: 0.5)
    rates = [{group["lr"] for group in optimizer.param_groups} for optimizer in combined.optimizers]
    assert rates == [{0.01}, {5e-4}]


def test_a_loaded_state_goes_on_as_if_never_interrupted(model):
    resumed = copy.deepcopy(model)
    whole, first = create_muon(model, 0.02, 0.1, ADAMW), create_muon(resumed, 0.02, 0.1, ADAMW)
    take_steps(model, whole, 2)
    take_steps(resumed, first, 2)
    second = create_muon(resumed, 0.02, 0.1, ADAMW)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for group in second.param_groups:
        group["lr"] *= 0.5  # reaches the optimizers inside also after loading
    for group in whole.param_groups:
        group["lr"] *= 0.5
    take_steps(model, whole, 1)
    take_steps(resumed, second, 1)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), resumed.parameters(), strict=True))


def test_the_state_of_another_optimizer_is_refused(model):
    with pytest.raises(ValueError, match="states of 2 optimizers, got 0"):
        create_muon(model, 0.02, 0.1, ADAMW).load_state_dict(torch.optim.AdamW(model.parameters()).state_dict())


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ValueError, match="must have matrices in `layers`"):
        create_muon(torch.nn.Linear(2, 2), 0.02, 0.1, ADAMW)


def test_a_closures_loss_is_returned():
    parameter = torch.nn.Parameter(torch.ones(2))
    assert CombinedOptimizer([torch.optim.SGD([parameter], lr=0.1)]).step(lambda: 3.0) == 3.0
