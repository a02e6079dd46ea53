# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of `utils/benchmarks/plan_training.py` is what optimizers keep, and docs/distributed.md prints it."""

from pathlib import Path

import pytest
import torch

import plan_training
from flops import SAVED, Workload
from itit_hf.models.configuration_itit import ITITConfig
from itit_hf.models.modeling_itit import ITITForPreTraining
from itit_hf.training.optimization import CappedAdafactor, create_muon

from ..testing_utils import tiny_config

PAGE = Path(__file__).parents[2] / "docs" / "distributed.md"


@pytest.fixture(scope="module")
def planned():
    """The default table: values by row, as text."""
    lines = [line.strip("| ").split(" | ") for line in plan_training.main([]).splitlines()]
    return {name: values for name, *values in lines}


def kept_by(optimizer):
    """Numbers that an optimizer keeps after a step, its counts of steps left out."""
    values = [value for state in optimizer.state.values() for name, value in state.items() if name != "step"]
    return sum(value.numel() for value in values if isinstance(value, torch.Tensor) and value.ndim > 0)


@pytest.mark.parametrize("name", ["AdamW", "Muon", "Adafactor"])
def test_an_optimizer_keeps_as_many_numbers_as_planned(name):
    model = ITITForPreTraining(tiny_config())
    parameters = list(model.parameters())
    optimizer = {
        "AdamW": lambda: torch.optim.AdamW(parameters),
        "Muon": lambda: create_muon(model, 1e-3, 0.0, (torch.optim.AdamW, {})),
        "Adafactor": lambda: CappedAdafactor(parameters, lr=1e-3),
    }[name]()
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert kept_by(optimizer) == plan_training.optimizer_numbers(model)[name]


def test_a_gpu_holds_weight_gradient_and_two_states_and_ddp_a_bucket_besides():
    assert plan_training.memory_of_a_gpu(100, 1, sharded=False) == 100 * 4 * 4
    assert plan_training.memory_of_a_gpu(100, 8, sharded=False) == 100 * 4 * 5


def test_fsdp_shards_all_four_and_keeps_the_gathered_weights():
    assert plan_training.memory_of_a_gpu(100, 8, sharded=True) == 4 * (400 // 8 + 100)


def test_the_text_encoder_is_as_large_as_t5_xxls():
    total, multiplied = plan_training.text_encoder_numbers()
    assert total == pytest.approx(4.76e9, rel=0.01)
    assert total - multiplied == 32128 * 4096


def test_a_token_costs_the_text_encoder_two_flops_a_parameter():
    short, long = (Workload(ITITConfig.preset("tiny"), text_length=length) for length in (1, 2))
    difference = plan_training.flops_of_each_loss(long)["pairs"] - plan_training.flops_of_each_loss(short)["pairs"]
    network = plan_training.paired_step(long) - plan_training.paired_step(short)
    assert difference - network == 2 * plan_training.text_encoder_numbers()[1]


def test_activations_are_those_of_one_sample_of_each_loss(planned):
    numbers = sum(SAVED[name](Workload(ITITConfig.preset("base"))) for name in ("t2i", "i2t + i2i", "t2i2t", "i2t2i"))
    assert planned["activations of one sample of each loss, GB"][0] == f"{numbers * 4 / 1e9:.2f}"


def test_hours_are_work_by_rate(planned):
    each = sum(plan_training.flops_of_each_loss(Workload(ITITConfig.preset("base"))).values())
    hours = each * 512 * 1_500_000 / 400e12 / 3600
    (row,) = [values for name, values in planned.items() if name.startswith("hours, with both cycles")]
    assert row[0].split(" / ") == [f"{hours / gpus:,.0f}" for gpus in (1, 8, 64)]


def test_the_page_has_the_table_as_it_is_printed():
    assert plan_training.main([]) in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("bad", [["--tflops", "0"], ["--gpus", "0"], ["--samples", "-1"]])
def test_numbers_that_cannot_be_are_refused(bad, capsys):
    with pytest.raises(SystemExit):
        plan_training.main(bad)
    assert f"`{bad[0]}` must be" in capsys.readouterr().err
