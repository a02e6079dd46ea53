# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import logging

import PIL.Image
import pytest
from transformers import PrinterCallback
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from itit_hf.watching import show

from .test_trainer import make_trainer

PICTURE = PIL.Image.new("RGB", (8, 4), "red")


class Log:
    """Stands for the module of a tracker: what was logged, and pictures as they were given."""

    def __init__(self, fails=False):
        self.logged, self.fails = [], fails

    def log(self, figures):
        if self.fails:
            raise OSError("no space left")
        self.logged.append(figures)

    def Image(self, image, caption=None):  # noqa: N802, the trackers' own name
        return image.size, caption


def place(kind, attribute, module):
    """A callback of transformers as it is while it is open, without asking whether its library is installed."""
    callback = object.__new__(kind)
    setattr(callback, attribute, module)
    return callback


@pytest.mark.parametrize("kind, attribute", [(WandbCallback, "_wandb"), (TrackioCallback, "_trackio")])
def test_a_tracker_is_given_the_picture_its_texts_and_the_step(kind, attribute):
    tracker = Log()
    shown = show([PrinterCallback(), place(kind, attribute, tracker)], "samples", PICTURE, 7, ["a bus", "a fish"])
    assert shown == [kind.__name__]
    assert tracker.logged == [{"samples": ((8, 4), "a bus\na fish"), "train/global_step": 7}]


def test_a_place_that_is_not_open_is_passed_over():
    assert (
        show([place(WandbCallback, "_wandb", None), place(TensorBoardCallback, "tb_writer", None)], "a", PICTURE, 1)
        == []
    )


def test_a_place_that_fails_is_named_and_the_next_one_is_served(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    places = place(WandbCallback, "_wandb", Log(fails=True)), place(TrackioCallback, "_trackio", Log())
    assert show(places, "samples", PICTURE, 3) == ["TrackioCallback"]
    assert "WandbCallback cannot show `samples` of step 3: no space left" in caplog.text


def test_tensorboard_has_the_samples_the_captions_and_the_cycles_of_a_training(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "runs"))
    sampling = {"sample_steps": 2, "sample_inference_steps": 1, "sample_prompts": ["a red bus"], "synthesis_steps": 2}
    options = {"objectives": ["t2i", "i2t", "t2i2t"], "report_to": ["tensorboard"], "max_steps": 2}
    trainer = make_trainer(tmp_path, synthesis_max_new_tokens=4, **sampling, **options)
    trainer.train()
    events = EventAccumulator(str(tmp_path / "runs"))
    events.Reload()
    assert set(events.Tags()["images"]) == {"samples", "samples/t2i2t"}
    assert any(tag.startswith("samples") for tag in events.Tags()["tensors"])
    assert "train/loss_t2i2t" in events.Tags()["scalars"]


@pytest.mark.slow
def test_wandb_keeps_the_samples_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    sampling = {"sample_steps": 2, "sample_inference_steps": 1, "sample_prompts": ["a red bus"]}
    trainer = make_trainer(tmp_path, report_to=["wandb"], max_steps=2, **sampling)
    trainer.train()
    assert list(tmp_path.glob("wandb/offline-run-*/files/media/images/samples*.png"))
