# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The rules that keep category-colour pairs, relations and images out of training, without a world."""

from collections import Counter

import numpy as np
import pytest

from itit_hf.emoji_scenes.categories import CATEGORIES, COLOURS
from itit_hf.emoji_scenes.splits import (
    check_held_out_pairs,
    is_held_out_pair,
    is_held_out_relation,
    is_validation,
    scene_hash,
    training_stream,
)


def test_held_out_pairs_of_the_committed_rule_stay_as_they_are():
    assert is_held_out_pair("bus", "pink") and not is_held_out_pair("bus", "red")
    assert is_held_out_relation("left of", "bus", "car") and not is_held_out_relation("left of", "car", "bus")


@pytest.mark.parametrize("num_categories", [24, 40, len(CATEGORIES)])
def test_about_one_pair_in_ten_is_held_out_and_every_word_stays_in_training(num_categories):
    categories = tuple(CATEGORIES)[:num_categories]
    held_out = check_held_out_pairs(categories, tuple(COLOURS))
    assert 0.08 < len(held_out) / (num_categories * len(COLOURS)) < 0.13
    assert max(Counter(category for category, _ in held_out).values()) <= 3
    assert max(Counter(colour for _, colour in held_out).values()) <= num_categories / 4


def test_a_word_that_training_would_never_see_is_refused():
    with pytest.raises(ValueError, match="'bus' is held out"):
        check_held_out_pairs(("bus", "tree"), ("pink",))


def test_equal_pixels_have_one_hash_and_one_stream():
    pixels = np.zeros((64, 64, 3), np.uint8)
    assert scene_hash(pixels) == scene_hash(pixels.copy())
    other = pixels.copy()
    other[0, 0, 0] = 1
    assert scene_hash(pixels) != scene_hash(other)
    assert scene_hash(pixels) != scene_hash(pixels.reshape(32, 128, 3))


def test_streams_share_the_hashes_in_proportion():
    counts = {"paired": 300, "image": 100, "text": 0}
    hashes = [f"{n:016x}{n:016x}" for n in range(800)]
    assert Counter(training_stream(item, counts) for item in hashes) == {"paired": 600, "image": 200}
    assert sum(is_validation(item) for item in hashes) == 40
