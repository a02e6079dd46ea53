# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
from argparse import Namespace

import pytest
import torch

import study_quantization
from itit_hf.emoji_scenes.categories import CATEGORIES, COLOURS
from itit_hf.emoji_scenes.seen_scenes import SeenObject, SeenScene

from ..testing_utils import tiny_pipeline

PROMPTS = ["a red bus", "a blue fish", "a red bus"]


class AlwaysARedBus:
    config = Namespace(categories=tuple(CATEGORIES), colours=tuple(COLOURS))

    def read(self, images):
        return [SeenScene(16, "plain", (SeenObject("bus", "red", (4.0, 4.0, 8.0, 8.0)),)) for _ in images]


def test_float32_is_its_own_reference_and_another_ones_tokens_are_counted(tmp_path, monkeypatch):
    tiny_pipeline().save_pretrained(tmp_path)
    monkeypatch.setattr(study_quantization, "open_judge", lambda folder: AlwaysARedBus())
    options = Namespace(model=str(tmp_path), batch_size=2, judges=["one"])
    figures, found = study_quantization.measure("float32", PROMPTS, None, options)
    assert figures["tokens_as_float32"] == 1.0 and figures["reopened_as_saved"]
    assert figures["right"] == {"one": pytest.approx(2 / 3)} and figures["mebibytes"] > 0
    other = found.clone()
    other[0] = (other[0] + 1) % 4
    figures, _ = study_quantization.measure("float32", PROMPTS, other, options)
    assert figures["tokens_as_float32"] == pytest.approx(2 / 3)


def test_an_image_comes_from_its_own_seed_whatever_the_batch(tmp_path):
    pipe = tiny_pipeline()
    pipe.set_progress_bar_config(disable=True)
    assert torch.equal(study_quantization.tokens(pipe, PROMPTS, 1), study_quantization.tokens(pipe, PROMPTS, 3))
