# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import datasets
import pytest
import torch

from evaluate_dual_encoder import truths
from itit_hf.emoji_scenes.grammar import captions
from itit_hf.emoji_scenes.scenes import Scene, SceneObject
from study_pair_weights import area_under_curve, shuffled_pairs


def test_the_area_under_the_curve_counts_pairs_and_half_of_the_ties():
    scores = torch.tensor([0.9, 0.5, 0.5, 0.1])
    is_clean = torch.tensor([True, True, False, False])
    assert area_under_curve(scores, is_clean) == pytest.approx(3.5 / 4)


def test_a_share_of_the_captions_changes_places_and_no_other_does():
    rows = datasets.Dataset.from_dict(
        {"image": list(range(20)), "text": [[f"first {i}", f"second {i}"] for i in range(20)]}
    )
    shuffled, is_clean = shuffled_pairs(rows, 0.3, seed=0)
    before = [own[i % 2] for i, own in enumerate(rows["text"])]
    changed = [now != was for now, was in zip(shuffled["text"], before, strict=True)]
    assert changed == (~is_clean).tolist() and sum(changed) == 6
    assert sorted(shuffled["text"]) == sorted(before)


def scene(category: str, colour: str) -> Scene:
    thing = SceneObject(category=category, colour=colour, style="noto", box=(20, 20, 44, 44))
    return Scene(seed=0, index=0, resolution=64, background="grass", objects=(thing,), relation=None)


def test_a_caption_is_true_of_every_image_that_shows_what_it_says():
    scenes = [scene("bus", "red"), scene("bus", "red"), scene("fish", "blue")]
    texts = ["a red bus", "a blue fish", captions(scenes[0])[1], "a red bus at night"]
    relevant = truths(texts, scenes)
    assert relevant[:, 0].tolist() == [True, True, False]
    assert relevant[:, 1].tolist() == [False, False, True]
    assert relevant[:, 2].tolist() == [True, True, False]
    assert not relevant[:, 3].any()
