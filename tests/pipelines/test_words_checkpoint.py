# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The checkpoint for words that people type: what its card says is what was found, and it opens and answers."""

import json
from pathlib import Path

import pytest
import torch

from itit_hf import ITITPipeline

ROOT = Path(__file__).parents[2]
CARD = (ROOT / "model_cards" / "emoji-words-64.md").read_text(encoding="utf-8")
PROMPTS = json.loads((ROOT / "model_cards" / "emoji-words-64-prompts.json").read_text(encoding="utf-8"))["judges"]
SCENES = json.loads((ROOT / "model_cards" / "emoji-words-64.json").read_text(encoding="utf-8"))["results"]
JUDGES = ("checkpoints/emoji-scenes-classifier", "checkpoints/emoji-scenes-transformer")
ROWS = {
    "captions: category and colour right": "caption_both",
    "generated: category as asked": "generated_category",
    "generated: colour as asked": "generated_colour",
    "**generated: category and colour as asked**": "generated_both",
    "ceiling: true images through the image tokenizer": "reconstructed_both",
    "true images": "rendered_both",
}


@pytest.fixture(scope="module")
def pipe():
    pipe = ITITPipeline.from_pretrained(ROOT / "checkpoints" / "emoji-words-64")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def share(found: dict | None) -> str:
    if found is None:
        return ""
    low, high = found["interval"]
    return f"{found['share']:.3f} ({low:.3f} to {high:.3f}) of {found['count']}"


@pytest.mark.parametrize("group", ["bare noun", "free form", "synonym of training", "unseen synonym"])
def test_the_card_says_what_both_judges_found_of_a_group_of_prompts(group):
    found = [PROMPTS[judge]["results"][group] for judge in JUDGES]
    cells = [share(each.get(what)) for what in ("category", "colour") for each in found]
    assert f"| {group} | {' | '.join(cells)} |" in CARD


@pytest.mark.parametrize("title", ROWS)
def test_the_card_says_what_was_found_of_scenes(title):
    cells = []
    for split in ("validation", "heldout"):
        low, high = SCENES[split]["intervals"][ROWS[title]]
        cells.append(f"{SCENES[split]['shares'][ROWS[title]]:.3f} ({low:.3f} to {high:.3f})")
    assert f"| {title} | {' | '.join(cells)} |" in CARD


def test_its_parts_are_the_committed_ones(pipe):
    scenes = ITITPipeline.from_pretrained(ROOT / "checkpoints" / "emoji-scenes-64").image_tokenizer.state_dict()
    assert all(torch.equal(weight, scenes[name]) for name, weight in pipe.image_tokenizer.state_dict().items())
    assert pipe.model.dtype == pipe.text_encoder.dtype == torch.float32


def test_it_knows_synonyms_and_says_what_it_does_not_know(pipe):
    assert pipe.unknown_words("a crimson kitty and a unicorn") == ["unicorn"]
    assert pipe.sampling.num_inference_steps == 12


def test_a_bare_noun_and_a_capital_sentence_have_images(pipe):
    images = pipe(["mushroom", "A BLUE HOUND."], generator=[torch.Generator().manual_seed(n) for n in (0, 1)]).images
    assert [image.size for image in images] == [(64, 64)] * 2
    assert "mushroom" in pipe.caption(images[0])[0]
