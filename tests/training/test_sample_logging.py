# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import json
import logging
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest
from transformers import PrinterCallback
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from itit_hf.training.sample_logging import image_grid, log_image

from ..training_utils import make_trainer


def test_images_stand_in_rows():
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    grid = image_grid([PIL.Image.new("RGB", (8, 8), c) for c in colours], ["r", "g", "b"], columns=2, cell_size=16)
    assert grid.size == (2 * 24 + 8, 2 * 58 + 8)
    assert [grid.getpixel(at) for at in ((16, 16), (40, 16), (16, 74))] == colours


def test_small_images_are_not_smoothed():
    image = PIL.Image.new("RGB", (2, 1), "white")
    image.putpixel((0, 0), (0, 0, 0))
    grid = image_grid([image.resize((2, 2), PIL.Image.Resampling.NEAREST)], [""], cell_size=64)
    assert {grid.getpixel((8 + x, 40)) for x in range(64)} == {(0, 0, 0), (255, 255, 255)}


def test_a_wide_image_keeps_its_shape_in_the_middle_of_its_cell():
    grid = image_grid([PIL.Image.new("RGB", (8, 4), (250, 0, 0))], [""], cell_size=16)
    assert [grid.getpixel((16, 8 + y)) == (250, 0, 0) for y in range(16)] == [False] * 4 + [True] * 8 + [False] * 4
    assert grid.getpixel((8, 16)) == grid.getpixel((23, 16)) == (250, 0, 0)


def ink(image, box):
    """Share of dark pixels in a box."""
    part = image.crop(box).convert("L")
    return sum(part.histogram()[:100]) / (part.width * part.height)


def test_a_text_may_stand_in_a_images_place_and_stays_in_it():
    red = PIL.Image.new("RGB", (8, 8), (250, 0, 0))
    grid = image_grid([red, "a long sentence " * 30, "", "a"], ["", "", "", ""], columns=4, cell_size=80)
    assert grid.size == (4 * 88 + 8, 80 + 34 + 8 + 8)
    assert grid.getpixel((48, 48)) == (250, 0, 0) and grid.getpixel((97, 9)) == (240, 240, 240)
    cells = [ink(grid, (8 + 88 * i, 8, 88 + 88 * i, 88)) for i in range(1, 4)]
    assert cells[0] > 5 * cells[2] > 0.0 and cells[1] > 0.0  # an empty text is a dash
    assert ink(grid, (96, 80, 176, 130)) == 0.0  # a long text is cut before the cell ends


@pytest.mark.parametrize("images", [[], [PIL.Image.new("RGB", (2, 2))]])
def test_a_wrong_number_of_labels_is_named(images):
    with pytest.raises(ValueError, match="wanted as many `labels` as `images`"):
        image_grid(images, ["a", "b"])


IMAGE = PIL.Image.new("RGB", (8, 4), "red")
WATCHED = {
    "objectives": ["t2i", "i2t", "t2i2t"],
    "max_steps": 2,
    "sample_steps": 2,
    "sample_prompts": ["a red bus"],
    "sample_inference_steps": 1,
    "synthesis_steps": 2,
    "synthesis_max_new_tokens": 4,
}


class Log:
    """Stands for the module of a tracker: what was logged, and images as they were given."""

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


def nothing(*_, **__):
    """In the place of what a callback of transformers does besides."""


@pytest.mark.parametrize("kind, attribute", [(WandbCallback, "_wandb"), (TrackioCallback, "_trackio")])
def test_a_tracker_is_given_the_image_its_texts_and_the_step(kind, attribute):
    tracker = Log()
    shown = log_image([PrinterCallback(), place(kind, attribute, tracker)], "samples", IMAGE, 7, ["a bus", "a fish"])
    assert shown == [kind.__name__]
    assert tracker.logged == [{"samples": ((8, 4), "a bus\na fish"), "train/global_step": 7}]


def test_a_place_that_is_not_open_is_passed_over():
    assert (
        log_image([place(WandbCallback, "_wandb", None), place(TensorBoardCallback, "tb_writer", None)], "a", IMAGE, 1)
        == []
    )


def test_a_place_that_fails_is_named_and_the_next_one_is_served(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    places = place(WandbCallback, "_wandb", Log(fails=True)), place(TrackioCallback, "_trackio", Log())
    assert log_image(places, "samples", IMAGE, 3) == ["TrackioCallback"]
    assert "WandbCallback cannot show `samples` of step 3: no space left" in caplog.text


def test_a_training_gives_its_trackers_samples_captions_and_cycles(tmp_path):
    places = (WandbCallback, "_wandb", Log()), (TrackioCallback, "_trackio", Log())
    trainer = make_trainer(tmp_path, **WATCHED)
    for kind, attribute, tracker in places:
        silent = type("Silent", (kind,), dict.fromkeys(("on_train_begin", "on_log", "on_train_end"), nothing))
        trainer.add_callback(place(silent, attribute, tracker))
    trainer.train()
    for _, _, tracker in places:
        samples, cycle = tracker.logged
        assert samples["train/global_step"] == cycle["train/global_step"] == 2
        said = samples["samples"][1].split("\n")
        assert said[0] == "a red bus" and len(said) == 7 and all(text.startswith("caption: ") for text in said[1:])
        panel, texts = cycle["samples/t2i2t"]
        assert panel[0] > 3 * 16 and len(texts.split("\n")) == 8  # four prompts, and what was said of each image


def test_tensorboard_has_the_samples_the_captions_and_the_cycles_of_a_training(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "runs"))
    make_trainer(tmp_path, report_to=["tensorboard"], **WATCHED).train()
    events = EventAccumulator(str(tmp_path / "runs"))
    events.Reload()
    assert set(events.Tags()["images"]) == {"samples", "samples/t2i2t"}
    assert any(tag.startswith("samples") for tag in events.Tags()["tensors"])
    assert "train/loss_t2i2t" in events.Tags()["scalars"]


TRAIN = """
import sys
from tests.training.test_trainer import make_trainer
from tests.training.test_sample_logging import WATCHED
make_trainer(sys.argv[1], report_to=[sys.argv[2]], **WATCHED).train()
"""


def train_watched_by(tracker, folder):
    """In a process of its own: these libraries read the environment once, and write the rest when they end."""
    folders = {"WANDB_DIR": str(folder), "TRACKIO_DIR": str(folder / "trackio")}
    environment = os.environ | folders | {"WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", TRAIN, str(folder / "out"), tracker]
    root = Path(__file__).parents[2]
    finished = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-3000:]


@pytest.mark.slow
def test_wandb_keeps_the_samples_the_captions_and_the_cycles_offline(tmp_path):
    pytest.importorskip("wandb")
    train_watched_by("wandb", tmp_path)
    (run,) = tmp_path.glob("wandb/offline-run-*")
    assert len(list(run.glob("files/media/images/samples_*.png"))) == 1
    assert len(list(run.glob("files/media/images/samples/t2i2t_*.png"))) == 1
    (records,) = run.glob("*.wandb")
    assert rb'"a red bus\ncaption: ' in records.read_bytes()


@pytest.mark.slow
def test_trackio_keeps_the_samples_the_captions_and_the_cycles(tmp_path):
    pytest.importorskip("trackio")
    train_watched_by("trackio", tmp_path)
    (database,) = tmp_path.glob("trackio/*.db")
    with sqlite3.connect(database) as connection:
        rows = [json.loads(row) for (row,) in connection.execute("select metrics from metrics")]
    images = {name: value for row in rows for name, value in row.items() if name.startswith("samples")}
    assert images.keys() == {"samples", "samples/t2i2t"}
    assert images["samples"]["caption"].startswith("a red bus\ncaption: ")
    assert all((tmp_path / "trackio" / "media" / each["file_path"]).is_file() for each in images.values())
