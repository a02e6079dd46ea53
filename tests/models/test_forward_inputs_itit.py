# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from transformers.cache_utils import DynamicCache

from itit_hf.models.forward_inputs_itit import TextInputs, check_kwargs, kept_rows

from ..testing_utils import tiny_config

CONFIG = tiny_config()  # 17 features of an image, [BOS] 40, placeholder 47, 32 tokens of text


def text(input_ids, mask=None, positions=None, cache=None):
    return TextInputs(torch.tensor(input_ids), None, mask, positions, cache, None, 0, every_row=False)


def test_rows_are_kept_from_the_end_or_by_their_places():
    rows = torch.arange(5)[None]
    assert kept_rows(rows, 2).tolist() == [[3, 4]] and kept_rows(rows, 0).tolist() == [[0, 1, 2, 3, 4]]
    assert kept_rows(rows, torch.tensor([4, 1])).tolist() == [[4, 1]]


def test_arguments_without_a_value_are_none():
    check_kwargs("Model", {"inputs_of_tomorrow": None, "num_items_in_batch": 3}, has_image=False)
    with pytest.raises(TypeError, match=r"Model.forward\(\) got unexpected keyword arguments \['a', 'b'\]"):
        check_kwargs("Model", {"b": 0, "a": False}, has_image=True)


def test_positions_behind_a_cache_leave_padding_out():
    mask = torch.ones(1, 22, dtype=torch.long)
    mask[0, :2] = 0  # so 20 places are attended to: 17 features, [BOS] and two words, of which the last is new
    assert text([[5]], mask).positions(CONFIG, num_past=21).tolist() == [[2]]
    assert text([[5]]).positions(CONFIG, num_past=21).tolist() == [[4]]
    assert text([[5]], mask, torch.tensor([[19]])).positions(CONFIG, num_past=21).tolist() == [[2]]
    assert text([[47, 40]]).positions(CONFIG, num_past=0) is None


def test_a_text_is_as_long_as_what_is_no_padding():
    ids, mask = [[0] * 10 + [47] * 17 + [40] + [3] * 32], torch.ones(1, 60, dtype=torch.long)
    mask[0, :10] = 0
    text(ids, mask).check(CONFIG, 0, num_features=17)
    with pytest.raises(ValueError, match="the text has 42 tokens after .BOS., more than `max_text_length` 32"):
        text(ids).check(CONFIG, 0, num_features=17)
    with pytest.raises(ValueError, match="the text has 33 tokens"):
        text([[3]], cache=DynamicCache()).check(CONFIG, 50, num_features=None)


def test_features_are_repeated_for_the_texts_of_an_image():
    features = torch.tensor([1.0, 2.0])[:, None, None]
    assert text([[3]] * 4).for_each(features).flatten().tolist() == [1, 1, 2, 2]
    assert text([[3]] * 2).for_each(features) is features
