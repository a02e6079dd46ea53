# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Copies of training images among generated images."""

import pytest
import torch

from itit_hf.emoji_scenes.evaluation import copied_shares

GROUND = 0
# Two training images of four tokens: 0 is their most frequent code.
TRAINED_ON = torch.tensor([[0, 5, 6, 0], [0, 0, 7, 8]])


def shares(*images):
    return copied_shares(torch.tensor(images), TRAINED_ON, num_ground_codes=1).tolist()


def test_a_training_image_is_a_whole_copy():
    assert shares([0, 5, 6, 0], [0, 0, 7, 8]) == [1.0, 1.0]


def test_the_nearest_training_image_counts_place_by_place():
    assert shares([0, 5, 7, 0], [5, 0, 8, 7], [0, 5, 7, 8]) == [0.5, 0.0, pytest.approx(2 / 3)]


def test_ground_does_not_count():
    assert shares([0, 0, 0, 0], [0, 0, 0, 9]) == [0.0, 0.0]


def test_training_images_must_be_there_and_as_large():
    with pytest.raises(ValueError, match="training_token_ids"):
        copied_shares(TRAINED_ON, TRAINED_ON[:0])
    with pytest.raises(ValueError, match="training_token_ids"):
        copied_shares(TRAINED_ON, TRAINED_ON[:, :2])
