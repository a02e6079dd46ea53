# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What a text encoder of any kind reads when words are predicted."""

import pytest
import torch
from transformers import (
    DistilBertConfig,
    DistilBertModel,
    MPNetConfig,
    MPNetModel,
    MT5Config,
    MT5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from itit_hf.models.configuration_itit import text_fields
from itit_hf.objectives.text_encoding import encode_predicted

from ..text_encoders import CASES, CORPUS, SIZES, encoder_for

T5_SIZES = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
# Kin of the encoders of `CASES`: tokenizer, model, configuration.
KIN = {
    "mT5": ("Unigram", MT5EncoderModel, MT5Config, T5_SIZES),
    "UMT5": ("Unigram", UMT5EncoderModel, UMT5Config, T5_SIZES),
    "DistilBERT": (
        "WordPiece", DistilBertModel, DistilBertConfig, {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24}
    ),
    "MPNet": ("WordPiece", MPNetModel, MPNetConfig, SIZES),
    "XLM-R": ("BPE of bytes", XLMRobertaModel, XLMRobertaConfig, SIZES | {"max_position_embeddings": 64}),
}  # fmt: skip


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


@pytest.mark.parametrize("kin", KIN)
def test_kin_of_these_encoders_read_predicted_words_too(kin):
    case, model_class, config_class, sizes = KIN[kin]
    torch.manual_seed(0)
    tokenizer = CASES[case]()
    config = config_class(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **sizes)
    text_encoder = model_class(config).eval().requires_grad_(False)
    fields = text_fields(tokenizer, config)
    assert fields["text_hidden_size"] == 16
    text = rows(tokenizer)
    num_begin = int(fields["text_begins_with_bos"])
    words = text_encoder.get_input_embeddings()(text["input_ids"][:, num_begin:])
    condition = encode_predicted(text_encoder, text, words)
    real = text["attention_mask"].bool()
    expected = text_encoder(**text).last_hidden_state
    torch.testing.assert_close(condition.embeds[real], expected[real], atol=1e-6, rtol=1e-5)
