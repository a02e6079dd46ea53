# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import json
from argparse import Namespace

import pytest
import torch
from datasets import Dataset
from transformers import T5Config, T5EncoderModel

import probe_text_encoder
from itit_hf.emoji_scenes.build import SplitSizes, build_dataset
from itit_hf.emoji_scenes.scenes import Scene, SceneConfig, SceneObject
from itit_hf.pretraining.text_pretraining import train_unigram_tokenizer

from ..testing_utils import draw_cut_outs

COLOURS = ("red", "blue", "green")
TEXTS = ["a red bus above a blue tree", "a blue tree below a red bus"]


def two_things(first, second) -> str:
    objects = tuple(SceneObject(category, colour, "noto", (8, 8, 24, 24)) for colour, category in (first, second))
    return Scene(64, "night", objects, "above", 0, 0).to_json()


@pytest.fixture(scope="module")
def tokenizer():
    return train_unigram_tokenizer(TEXTS * 4, 200)


class SaysItsOwnPlace:
    """The feature of a token is its place in the text."""

    def __call__(self, input_ids):
        return Namespace(last_hidden_state=torch.arange(input_ids.size(1)).float()[None, :, None])


def test_the_feature_of_a_thing_is_that_of_the_last_token_of_its_noun(tokenizer):
    rows = Dataset.from_dict({"text": [TEXTS], "scene": [two_things(("red", "bus"), ("blue", "tree"))]})
    places, labels = probe_text_encoder.noun_features(SaysItsOwnPlace(), tokenizer, rows, COLOURS)
    assert labels.tolist() == [0, 1, 0, 1]
    for text, (bus, tree) in zip(TEXTS, places.long().view(2, 2).tolist(), strict=True):
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids[: bus + 1]).endswith("bus") and tokenizer.decode(ids[: tree + 1]).endswith("tree")


def test_scenes_of_one_category_are_left_out(tokenizer):
    rows = Dataset.from_dict({"text": [TEXTS], "scene": [two_things(("red", "bus"), ("blue", "bus"))]})
    with pytest.raises(ValueError, match="two different categories"):
        probe_text_encoder.noun_features(SaysItsOwnPlace(), tokenizer, rows, COLOURS)


def test_a_ridge_reads_what_is_linear_and_nothing_from_noise():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 4
    spread = torch.nn.functional.one_hot(labels, 4).float() @ torch.randn(4, 8, generator=generator)
    noise = torch.randn(400, 8, generator=generator)
    halves = [slice(0, 200), slice(200, 400)]
    clear, noisy = ([(x[half], labels[half]) for half in halves] for x in (spread + 0.1 * noise, noise))
    assert probe_text_encoder.ridge_accuracy(*clear, 4) == 1.0
    assert probe_text_encoder.ridge_accuracy(*noisy, 4) < 0.4


def test_the_command_line_judges_trained_and_random_weights(tmp_path, tokenizer):
    categories = ("bus", "tree", "fish", "star", "car")
    style = draw_cut_outs(tmp_path / "art", categories)
    config = SceneConfig(styles=(style,), categories=categories, max_objects=2)
    folder = build_dataset(tmp_path / "scenes", config, SplitSizes(24, 0, 0, 16, 16))
    sizes = {"d_model": 8, "d_kv": 4, "num_heads": 2, "d_ff": 8, "num_layers": 1}
    T5EncoderModel(T5Config(vocab_size=256, **sizes)).save_pretrained(tmp_path / "t5")
    tokenizer.save_pretrained(tmp_path / "t5")
    arguments = ["--text_encoder", str(tmp_path / "t5"), "--dataset", str(folder)]
    shares = probe_text_encoder.main([*arguments, "--output", str(tmp_path / "shares.json")])
    assert set(shares) == {f"{name}/{split}" for name in ("trained", "random") for split in ("validation", "heldout")}
    assert all(0 <= share <= 1 for share in shares.values())
    assert json.loads((tmp_path / "shares.json").read_text())["shares"] == shares


def test_another_language_is_refused(tmp_path):
    folder = tmp_path / "scenes"
    folder.mkdir()
    (folder / "scene_config.json").write_text(SceneConfig(language="de").to_json())
    with pytest.raises(ValueError, match="English.*'de'"):
        probe_text_encoder.main(["--text_encoder", "none", "--dataset", str(folder)])
