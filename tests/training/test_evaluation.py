# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from ..testing_utils import ONE_LAYER, tiny_pipeline
from ..training_utils import FULL_CYCLE, make_trainer


def test_evaluation_covers_the_cycles_too(tmp_path):
    metrics = make_trainer(tmp_path, **FULL_CYCLE).evaluate()
    assert math.isfinite(metrics["eval_loss_t2i2t"]) and math.isfinite(metrics["eval_loss_i2t2i"])


def test_evaluation_does_not_touch_what_the_training_keeps(tmp_path):
    trainer = make_trainer(tmp_path, **FULL_CYCLE, synthesis_replay=2, max_steps=1, logging_steps=2)
    trainer.train()
    before = {name: value.clone() for name, value in trainer.objectives.replay.state_dict().items()}
    metrics = trainer.evaluate()
    after = trainer.objectives.replay.state_dict()
    assert before and before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert metrics["eval_synthesis/t2i2t/code_usage"] > 0.0
    drawn = trainer.objectives.monitor._ratios[trainer.objectives.names.index("t2i2t"), 0, 1]
    assert drawn == 4  # the images of the one training step


def test_evaluation_gives_the_same_numbers_for_any_batch_size(tmp_path):
    pipe = tiny_pipeline(**ONE_LAYER)
    one, four = (make_trainer(tmp_path, pipe, per_device_eval_batch_size=size).evaluate() for size in (1, 4))
    assert set(one) >= {"eval_loss", "eval_loss_i2t", "eval_loss_t2i", "eval_loss_i2i"}
    assert one["eval_loss"] == pytest.approx(four["eval_loss"], abs=1e-5)


def test_held_out_pairs_have_the_order_of_the_run(tmp_path):
    orders = {}
    for order in ("keyed", "randperm"):
        trainer = make_trainer(tmp_path, data_order=order)
        stream = trainer._eval_stream(trainer.eval_dataset)
        orders[order] = [stream.row_index(index) for index in range(6)]
        stream.set_order(order)
        assert orders[order] == [stream.row_index(index) for index in range(6)]
        assert sorted(orders[order]) == list(range(6))
    assert orders["keyed"] != orders["randperm"]
