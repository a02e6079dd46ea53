# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What examples/train_itit.py starts the text decoder with."""

import pytest
import torch

from ..models.test_adaptation import SPEAKS, byte_tokenizer, gpt2, speaker
from ..testing_utils import script, tiny_pipeline


@pytest.fixture(scope="module")
def train():
    return script("train_itit")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A checkpoint to start from, and a GPT-2 beside it."""
    folder = tmp_path_factory.mktemp("start")
    speaker().save_pretrained(folder / "model")
    gpt2().save_pretrained(folder / "gpt2")
    byte_tokenizer().save_pretrained(folder / "gpt2")
    return folder


def created(train, start, **arguments):
    args = train.ScriptArguments(model_name_or_path=str(start / "model"), **arguments)
    pipe = tiny_pipeline()
    return train.create_model(args, pipe.text_encoder, pipe.processor), pipe


def test_without_a_word_the_text_decoder_is_the_checkpoints(train, start):
    model, _ = created(train, start)
    assert torch.equal(model.get_parameter(SPEAKS), speaker().get_parameter(SPEAKS))


def test_the_text_embedding_can_start_from_the_text_encoders_table(train, start):
    model, pipe = created(train, start, text_embeddings="text_encoder")
    expected = speaker()
    table = pipe.text_encoder.get_input_embeddings().weight
    expected.initialize_text_embeddings(table, torch.Generator().manual_seed(0))
    assert torch.equal(model.get_parameter(SPEAKS), expected.get_parameter(SPEAKS))
    assert not torch.equal(model.get_parameter(SPEAKS), speaker().get_parameter(SPEAKS))


def test_the_text_decoder_can_start_as_a_gpt2(train, start):
    model, _ = created(train, start, text_decoder=str(start / "gpt2"))
    assert model.config.text_decoder_num_hidden_layers == 3
    source = gpt2().transformer.h[2].mlp.c_fc.weight
    assert torch.equal(model.text_decoder.layers[2].fc1.weight, source.T)


@pytest.mark.parametrize(("arguments", "named"), [
    ({"text_embeddings": "t5"}, "`text_embeddings` must be one of .*, got 't5'"),
    ({"text_embeddings": "text_encoder", "text_decoder": "distilgpt2"}, "give `text_embeddings` or `text_decoder`"),
])  # fmt: skip
def test_starts_that_cannot_be_are_refused_before_anything_is_loaded(train, arguments, named):
    with pytest.raises(ValueError, match=named):
        train.ScriptArguments(**arguments)
