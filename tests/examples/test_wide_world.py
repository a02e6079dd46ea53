# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Images that are not square, from the first pixel to the last: height and width are never taken for each other."""

import numpy as np
import PIL.Image
import pytest
import torch

import build_emoji_scenes
from itit_hf import ITITPipeline
from itit_hf.data.loading import load_rows

from ..testing_utils import ROOT, draw_cut_outs, script

FROZEN_PARTS = str(ROOT / "checkpoints" / "emoji-scenes-64")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Sixty scenes of 64 x 96 pixels, of two things."""
    at = tmp_path_factory.mktemp("wide")
    art = draw_cut_outs(at / "art", ("bus", "tree"), 1)
    rows = {"paired": 20, "image": 20, "text": 20, "validation": 4, "heldout": 0}
    arguments = [text for name, count in rows.items() for text in (f"--{name}", str(count))]
    arguments += ["--styles", art, "--num_categories", "2", "--resolution", "64", "96"]
    build_emoji_scenes.main(["--output", str(at / "world"), *arguments])
    return str(at / "world")


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    """A pipeline of two steps with both cycles, from what a command line says."""
    folder = tmp_path_factory.mktemp("trained")
    arguments = ["--config", "", "--frozen_parts", FROZEN_PARTS, "--resolution", "64", "96", "--max_steps", "2"]
    for name in ("paired", "image", "text"):
        arguments += [f"--{name}_dataset", world, f"--{name}_split", name]
    arguments += ["--objectives", "i2t", "t2i", "i2i_unpaired", "t2i2t", "i2t2i", "--eval_split", "validation"]
    arguments += ["--per_device_train_batch_size", "4", "--i2i_batch_fraction", "1.0", "--i2t_batch_fraction", "1.0"]
    arguments += ["--synthesis_steps", "2", "--synthesis_max_new_tokens", "4", "--sample_inference_steps", "2"]
    arguments += ["--use_cpu", "--disable_tqdm", "true", "--save_strategy", "no", "--output_dir", str(folder)]
    script("train_itit").main(arguments)
    return str(folder / "pipeline")


@pytest.fixture
def pipe(trained):
    pipe = ITITPipeline.from_pretrained(trained)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def scene(world):
    return load_rows(world, "validation")[0]["image"]


def test_a_wide_world_is_trained_on_generated_and_captioned(pipe, scene):
    assert tuple(pipe.model.config.image_grid) == (8, 12) and scene.size == (96, 64)
    assert pipe("a red bus", num_inference_steps=2).images[0].size == (96, 64)
    assert isinstance(pipe.caption(scene, num_beams=1, max_new_tokens=4)[0], str)
    assert pipe.cycle("a red bus", rounds=1).images[0][0].size == (96, 64)


def test_an_image_of_it_comes_back_from_its_tokens(pipe, scene):
    (back,) = pipe.postprocess(pipe.preprocess(scene)["image_token_ids"], "pil")
    error = np.abs(np.asarray(back, dtype=float) - np.asarray(scene, dtype=float)).mean()
    assert error < 12  # of 255


@pytest.mark.parametrize("order", ["confidence", "halton"])
def test_what_a_mask_leaves_out_stays_and_what_it_marks_is_generated(pipe, scene, order):
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, decoding_order=order)
    mask = PIL.Image.new("L", (96, 64))
    mask.paste(255, (64, 0, 96, 64))  # the right third: the last 4 of 12 columns
    seen = []

    def see(pipe, step, timestep, tensors):
        seen.append(tensors["image_token_ids"] == pipe.model.config.mask_token_id)
        return {}

    options = {"num_inference_steps": 4, "output_type": "latent", "callback_on_step_end": see}
    ids = pipe("a red bus", image=scene, mask_image=mask, **options).images.view(8, 12)
    before = pipe.preprocess(scene)["image_token_ids"].view(8, 12)
    assert torch.equal(ids[:, :8], before[:, :8])
    masked = seen[0].view(8, 12)
    assert masked[:, 8:].any() and not masked[:, :8].any()


def test_what_was_painted_over_is_put_back_in_place(pipe, scene):
    mask = PIL.Image.new("L", (96, 64))
    mask.paste(255, (0, 0, 96, 8))  # the first row of tokens
    red = PIL.Image.new("RGB", (96, 64), "red")
    edited = np.asarray(pipe.image_processor.apply_overlay(mask, scene, red))
    assert (edited[:8] == (255, 0, 0)).all()
    np.testing.assert_array_equal(edited[8:], np.asarray(scene)[8:])
