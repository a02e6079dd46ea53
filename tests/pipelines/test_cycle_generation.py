# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import torch

from itit_hf.pipelines.cycle_generation import run_cycle


def draw(texts):
    """A picture of one token: the text's length."""
    return torch.tensor([[len(text)] for text in texts])


def describe(image_token_ids):
    """One letter more than was drawn."""
    return ["x" * (length + 1) for (length,) in image_token_ids.tolist()]


def test_from_texts_each_image_is_drawn_from_the_text_before_it():
    texts, image_token_ids = run_cycle(draw, describe, 2, texts=["", "abcd"])
    assert texts == [["", "x", "xx"], ["abcd", "xxxxx", "xxxxxx"]]
    assert image_token_ids.tolist() == [[[0], [1]], [[4], [5]]]


def test_from_images_each_text_is_said_of_the_image_before_it():
    texts, image_token_ids = run_cycle(draw, describe, 2, image_token_ids=torch.tensor([[7], [0]]))
    assert texts == [["x" * 8, "x" * 9], ["x", "xx"]]
    assert image_token_ids.tolist() == [[[7], [8], [9]], [[0], [1], [2]]]
