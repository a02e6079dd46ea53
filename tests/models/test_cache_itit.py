# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.nn import functional as F
from transformers.cache_utils import DynamicCache

from itit_hf.models.cache_itit import PrefixCache, prefix_attention

COPIES = 3


@pytest.fixture
def states():
    """Two samples of three copies: a prefix of 5 positions each, and 2 positions that each copy says."""
    torch.manual_seed(0)
    prefix = DynamicCache()
    prefix.update(torch.randn(2, 4, 5, 8), torch.randn(2, 4, 5, 8), 0)
    said = torch.randn(6, 4, 2, 8), torch.randn(6, 4, 2, 8)
    return prefix, said


def repeated(prefix, said):
    """Keys and values as they would be with a prefix for each copy."""
    layer = prefix.layers[0]
    return [
        torch.cat([shared.repeat_interleave(COPIES, dim=0), own], dim=2)
        for shared, own in zip((layer.keys, layer.values), said, strict=True)
    ]


@pytest.mark.parametrize("num_queries", [1, 2])
@pytest.mark.parametrize("mask", ["none", "bool", "added"])
def test_attention_equals_that_over_a_prefix_for_each_copy(states, mask, num_queries):
    prefix, said = states
    cache = PrefixCache(prefix, COPIES)
    own = cache.update(*said, 0)
    query = torch.randn(6, 4, num_queries, 8)
    attention_mask = None
    if mask != "none":
        attention_mask = torch.rand(6, 1, num_queries, 7) > 0.3
        attention_mask[..., -1] = True
    if mask == "added":
        attention_mask = torch.zeros(attention_mask.shape).masked_fill(~attention_mask, -1e9)
    want = F.scaled_dot_product_attention(query, *repeated(prefix, said), attn_mask=attention_mask, scale=0.3)
    out, weights = prefix_attention(query, *own, attention_mask, cache.layers[0], scaling=0.3)
    torch.testing.assert_close(out, want.transpose(1, 2), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weights @ repeated(prefix, said)[1], want, atol=1e-5, rtol=1e-5)


def test_the_prefix_counts_as_length(states):
    prefix, said = states
    cache = PrefixCache(prefix, COPIES)
    assert cache.get_seq_length() == 5 and cache.get_mask_sizes(1, 0) == (6, 0)
    cache.update(*said, 0)
    assert cache.get_seq_length() == 7


def test_only_what_was_said_is_moved_when_beams_change_places(states):
    prefix, said = states
    cache = PrefixCache(prefix, COPIES)
    cache.update(*said, 0)
    shared = cache.layers[0].prefix_keys
    cache.reorder_cache(torch.tensor([2, 2, 0, 3, 5, 4]))
    assert cache.layers[0].prefix_keys is shared is prefix.layers[0].keys
    assert torch.equal(cache.layers[0].keys, said[0][[2, 2, 0, 3, 5, 4]])
    assert torch.equal(cache.layers[0].values, said[1][[2, 2, 0, 3, 5, 4]])


def test_beams_may_change_places_before_they_said_anything(states):
    cache = PrefixCache(states[0], COPIES)
    cache.reorder_cache(torch.tensor([0, 0, 1, 3, 3, 5]))
    assert cache.get_seq_length() == 5


def test_the_last_step_can_be_taken_back(states):
    prefix, said = states
    cache = PrefixCache(prefix, COPIES)
    cache.update(*said, 0)
    cache.crop(-1)
    assert cache.get_seq_length() == 6 and torch.equal(cache.layers[0].keys, said[0][:, :, :1])
