# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from itit_hf.text_features import TextFeatureCache

from .testing_utils import tiny_text_encoder

IDS = torch.tensor([[3, 4, 1, 0], [5, 6, 7, 1], [3, 4, 1, 0]])
MASK = (IDS > 0).long()


@pytest.fixture
def encoder():
    """Counts the texts that it reads."""
    torch.manual_seed(0)
    encoder = tiny_text_encoder()
    encoder.num_read = 0

    def count(module, args, kwargs):
        module.num_read += len(kwargs["input_ids"])

    encoder.register_forward_pre_hook(count, with_kwargs=True)
    return encoder


def test_features_are_those_of_the_encoder(encoder):
    want = encoder(input_ids=IDS, attention_mask=MASK).last_hidden_state
    features = TextFeatureCache(encoder, 8)(IDS, MASK)
    torch.testing.assert_close(features[MASK == 1], want[MASK == 1], atol=1e-5, rtol=1e-5)


def test_a_text_is_read_once_however_it_is_padded(encoder):
    cache = TextFeatureCache(encoder, 8)
    first = cache(IDS, MASK)
    again = cache(IDS[:1, :3], MASK[:1, :3])
    assert encoder.num_read == 2 and len(cache) == 2
    assert torch.equal(again[0], first[0, :3]) and torch.equal(first[2], first[0])


def test_features_do_not_depend_on_the_batch_that_a_text_came_in(encoder):
    alone = TextFeatureCache(encoder, 8)(IDS[:1, :3], MASK[:1, :3])
    assert torch.equal(TextFeatureCache(encoder, 8)(IDS, MASK)[0, :3], alone[0])


def test_the_texts_read_last_are_kept(encoder):
    cache = TextFeatureCache(encoder, 1)
    cache(IDS, MASK)  # the first, the second, the first again
    assert encoder.num_read == 3 and len(cache) == 1
    cache(IDS[2:], MASK[2:])
    assert encoder.num_read == 3


def test_without_room_a_batch_is_read_as_it_is(encoder):
    cache = TextFeatureCache(encoder)
    with torch.no_grad():
        want = encoder(input_ids=IDS, attention_mask=MASK).last_hidden_state
    assert torch.equal(cache(IDS, MASK), want) and len(cache) == 0
