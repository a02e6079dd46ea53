# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import math
import os
import time
from types import SimpleNamespace

import PIL.Image
import pytest
import torch
from datasets import Dataset, Image
from transformers import TrainerCallback

from itit_hf.data.streams import BAD_IMAGE_REASONS
from itit_hf.objectives.objectives import ITITObjectives
from itit_hf.training.callbacks import FigureCallback, SkipCallback

from ..testing_utils import tiny_pairs
from ..training_utils import FULL_CYCLE, make_trainer, weights_of


def logs_of(trainer):
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def test_what_is_synthesised_and_predicted_is_logged_by_name(tmp_path):
    trainer = make_trainer(tmp_path, logging_steps=2, max_steps=2, **FULL_CYCLE)
    trainer.train()
    (entry,) = logs_of(trainer)
    assert 0.0 < entry["synthesis/t2i2t/code_usage"] <= 1.0
    assert 0.0 < entry["synthesis/t2i2t/code_entropy"] <= math.log(23)
    assert entry["synthesis/t2i2t/one_colour_images"] == 0.0
    assert {"identical_captions", "distinct_1", "distinct_2", "endless_captions"} <= {
        name.removeprefix("synthesis/i2t2i/") for name in entry
    }
    buckets = {name.split("/")[1] for name in entry if name.startswith("cross_entropy/")}
    assert buckets == {"t2i", "i2i", "i2t2i"}
    assert not any(name.startswith("gradient_") for name in entry)


def test_the_monitor_looks_closely_on_logged_steps_alone(tmp_path):
    trainer = make_trainer(tmp_path, logging_steps=3, logging_first_step=True, max_steps=6)
    active, objectives = [], trainer.objectives
    trainer.objectives.encode_text = lambda *args: (  # once in an update, by text to image
        active.append(objectives.monitor.active) or ITITObjectives.encode_text(objectives, *args)
    )
    trainer.train()
    assert active == [True, False, True, False, False, True]


def test_alarms_name_the_step_once_the_warm_up_is_over(tmp_path, caplog):
    trainer = make_trainer(tmp_path, max_steps=3, warmup_steps=2)
    trainer.objectives.monitor.pop = lambda reduce: {"synthesis/t2i2t/code_entropy": 0.25}
    trainer.train()
    (message,) = [record.getMessage() for record in caplog.records if "synthesis" in record.getMessage()]
    assert message.startswith("step 3: `synthesis/t2i2t/code_entropy` is 0.25, below 1: images have collapsed")


def test_a_panel_per_cycle_is_drawn_with_the_samples(tmp_path):
    trainer = make_trainer(tmp_path, sample_steps=2, max_steps=2, **FULL_CYCLE)
    trainer.train()
    assert sorted(os.listdir(tmp_path / "samples")) == [
        "step-0000002-i2t2i.png", "step-0000002-t2i2t.png", "step-0000002.png"
    ]  # fmt: skip
    with PIL.Image.open(tmp_path / "samples" / "step-0000002-i2t2i.png") as panel:
        assert panel.size == (3 * 168 + 8, 4 * 202 + 8)  # image, caption, image; four samples


def test_the_parts_of_a_cycle_are_shown_as_images_and_as_text_without_its_padding(tmp_path):
    trainer = make_trainer(tmp_path)
    ids = trainer.processing_class(text=["a red bus", "fish"], return_tensors="pt")
    ids["input_ids"][1, -1] = ids["input_ids"][0, 0]  # what stands behind the end does not count
    assert trainer.samples.cells(dict(ids)) == ["a red bus", "fish"]
    (image,) = trainer.samples.cells(torch.zeros(1, 16, dtype=torch.long))
    assert image.size == (16, 16)


def test_the_average_is_used_for_evaluation_and_then_put_away(tmp_path):
    trainer = make_trainer(tmp_path, ema_decay=0.9)
    trainer.train()
    before = weights_of(trainer)
    with trainer.averaged_weights():
        averaged = weights_of(trainer)
    assert torch.equal(weights_of(trainer), before) and not torch.equal(averaged, before)
    torch.testing.assert_close(averaged, torch.cat([p.flatten() for p in trainer.ema.average.shadow_params]))


def test_samples_are_drawn_of_held_out_captions_unless_others_are_given(tmp_path):
    trainer = make_trainer(tmp_path)
    assert trainer.samples.prompts() == ["a red bus", "a blue bus", "a green bus"]  # each once
    trainer.eval_dataset = None
    trainer.streams[0].rows = [{"text": "a tree"}, {"text": ["", "fish"]}]
    assert trainer.samples.prompts() == ["a tree", "fish"]
    assert make_trainer(tmp_path, sample_prompts=["a bus"]).samples.prompts() == ["a bus"]
    assert make_trainer(tmp_path, sample_prompts=[]).samples.prompts() == []


def test_held_out_images_that_cannot_be_read_are_left_out_if_bad_images_are(tmp_path):
    rows = tiny_pairs(6).cast_column("image", Image(decode=False)).to_list()
    rows[0]["image"] = {"bytes": b"<html>", "path": None}
    held_out = Dataset.from_list(rows)
    trainer = make_trainer(tmp_path, on_bad_image="skip")
    trainer.eval_dataset = held_out
    assert len(trainer.samples._first_eval_images()) == 5 and trainer.evaluate()["eval_loss"] > 0
    trainer.args.on_bad_image = "raise"
    with pytest.raises(ValueError, match="row 0 of the evaluation: it cannot be read"):
        trainer.samples._first_eval_images()
    with pytest.raises(ValueError, match="it cannot be read"):
        trainer.evaluate()


class Temperature(FigureCallback):
    """What a user may add."""

    def pop_figures(self):
        return {"room/temperature": 21.5}


def test_a_callback_with_figures_has_them_in_the_log(tmp_path):
    trainer = make_trainer(tmp_path, max_steps=1)
    trainer.add_callback(Temperature())
    trainer.train()
    (entry,) = logs_of(trainer)
    assert entry["room/temperature"] == 21.5 and entry["loss_t2i"] > 0.0


def skipping(skipped: list[list[int]], num_updates: int = 1) -> SkipCallback:
    """After updates of one micro-batch, whose samples came after so many images of each reason."""
    args = SimpleNamespace(device="cpu")
    accelerator = SimpleNamespace(reduce=lambda counts, reduction: counts)
    micro_batches = [{"skipped": [torch.tensor(skipped)]}]
    trainer = SimpleNamespace(args=args, accelerator=accelerator, micro_batches=micro_batches, num_skipped=0)
    callback = SkipCallback(trainer)
    for _ in range(num_updates):
        callback.on_pre_optimizer_step(args, None, None)
    return callback


def test_images_that_were_left_out_are_counted_by_reason():
    callback = skipping([[2, 0], [0, 0], [1, 0]])
    assert BAD_IMAGE_REASONS == ("unreadable", "oversized")
    assert callback.pop_figures() == {"skipped/unreadable_images": 3}
    assert callback.num_images == 3
    callback.trainer.num_skipped = 4
    assert callback.pop_figures() == {"skipped/updates": 4, "skipped/unreadable_images": 3}


def test_too_many_images_that_were_left_out_end_the_training():
    assert skipping([[1, 0]], num_updates=99).pop_figures() == {"skipped/unreadable_images": 99}  # too few to judge
    with pytest.raises(ValueError, match="100 images could not be used of 200, more than"):
        skipping([[1, 0]], num_updates=100).pop_figures()


class SlowRows(list):
    """Rows that take a while."""

    def __getitem__(self, index):
        time.sleep(0.02)
        return super().__getitem__(index)


class LogReader(TrainerCallback):
    """Keeps what is logged."""

    def __init__(self):
        self.shares = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.shares += [logs["data/wait_share"]] if "data/wait_share" in logs else []


def wait_shares(folder, rows):
    """A trainer of five updates, and what was logged of its waiting."""
    trainer = make_trainer(folder, objectives=["t2i"], max_steps=5)
    trainer.streams[0].rows = rows(trainer.streams[0].rows)
    reader = LogReader()
    trainer.add_callback(reader)
    trainer.train()
    return trainer, reader.shares


def test_a_run_that_waits_for_its_samples_is_told_what_to_do(tmp_path, caplog):
    trainer, shares = wait_shares(tmp_path, SlowRows)
    assert len(shares) == 4 and all(0.1 < share < 1.0 for share in shares)  # four samples of 20 ms an update
    assert caplog.text.count("raise `dataloader_num_workers`, now 0") == 1
    assert not any("data/wait_share" in entry for entry in trainer.state.log_history)  # no state of the run


def test_a_run_that_does_not_wait_is_told_nothing(tmp_path, caplog):
    trainer, shares = wait_shares(tmp_path, lambda rows: [rows[i] for i in range(len(rows))])
    assert min(shares) < 0.1 and all(0.0 <= share < 1.0 for share in shares)
