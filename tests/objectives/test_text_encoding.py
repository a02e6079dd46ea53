# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What a text encoder of any kind reads when words are predicted."""

import pytest
import torch

from itit_hf.objectives.text_encoding import encode_predicted

from ..text_encoders import CASES, CORPUS, encoder_for


@pytest.fixture(params=CASES)
def tokenizer(request):
    return CASES[request.param]()


@pytest.fixture
def text_encoder(tokenizer):
    return encoder_for(tokenizer).requires_grad_(False)


def rows(tokenizer) -> dict[str, torch.Tensor]:
    encoded = tokenizer(list(CORPUS), padding=True, return_tensors="pt")
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


def test_words_that_are_predicted_rightly_are_read_as_given_ones(tokenizer, text_encoder):
    text = rows(tokenizer)
    num_begin = len(tokenizer("").input_ids) - 1
    words = text_encoder.get_input_embeddings()(text["input_ids"][:, num_begin:])
    condition = encode_predicted(text_encoder, text, words)
    real = text["attention_mask"].bool()
    expected = text_encoder(**text).last_hidden_state
    torch.testing.assert_close(condition.embeds[real], expected[real], atol=1e-6, rtol=1e-5)


def test_gradient_reaches_the_predicted_words_and_the_encoder_is_as_before(tokenizer, text_encoder):
    text = rows(tokenizer)
    num_begin = len(tokenizer("").input_ids) - 1
    words = text_encoder.get_input_embeddings()(text["input_ids"][:, num_begin:]).requires_grad_()
    before = text_encoder(**text).last_hidden_state
    encode_predicted(text_encoder, text, words * 1.5).embeds.square().sum().backward()
    assert words.grad[:, 0].abs().sum() > 0
    assert torch.equal(text_encoder(**text).last_hidden_state, before)
