# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from itit_hf.configuration_itit import ITITConfig, padded_vocab_size, text_fields
from itit_hf.modeling_itit import ITITForPreTraining

from .testing_utils import tiny_text_encoder, tiny_tokenizer


@pytest.mark.parametrize(("name", "millions"), [("base", 221), ("large", 487), ("huge", 868)])
def test_presets_have_the_papers_size(name, millions):
    with torch.device("meta"):
        model = ITITForPreTraining(ITITConfig.preset(name))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.05)


def test_ids_outside_the_tokenizers_stand_in_spare_rows():
    config = ITITConfig()
    assert (config.mask_token_id, config.bos_token_id, config.image_token_id) == (8192, 32100, 32127)
    assert config.num_prefix_tokens == 257


@pytest.mark.parametrize(("pieces", "rows"), [(62, 64), (63, 128), (498, 512), (32100, 32128)])
def test_a_vocabulary_is_padded_to_a_multiple_of_64_with_two_rows_to_spare(pieces, rows):
    assert padded_vocab_size(pieces) == rows


def test_what_a_text_encoder_and_its_tokenizer_ask_for():
    tokenizer = tiny_tokenizer()  # 30 pieces
    fields = {"text_hidden_size": 10, "num_text_tokens": 30, "pad_token_id": 0, "eos_token_id": 1}
    encoder = tiny_text_encoder().config
    assert text_fields(tokenizer, encoder) == fields | {"vocab_size": 64}
    encoder.vocab_size = 90
    assert text_fields(tokenizer, encoder) == fields | {"vocab_size": 90}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"num_image_tokens": 200}, "must be a square"),
        ({"hidden_size": 770}, "`hidden_size` must be a multiple"),
        ({"hidden_size": 774, "num_attention_heads": 6, "initializer": "xavier"}, "`hidden_size` .* multiple of 4"),
        ({"num_text_tokens": 32127}, "`num_text_tokens` must be in"),
        ({"encoder_drop": "some"}, "`encoder_drop` must be one of"),
        ({"initializer": "zeros"}, "`initializer` must be one of"),
        ({"image_decoder_fill": "null"}, "`image_decoder_fill` must be one of"),
        ({"image_decoder_num_attention_heads": 10}, "must be a multiple of `image_decoder_num_attention_heads`"),
        ({"codebook_size": 0}, "`codebook_size` must be at least 1"),
        ({"hidden_size": "wide"}, "hidden_size"),
    ],
)
def test_sizes_that_do_not_fit_are_named(bad, message):
    with pytest.raises(StrictDataclassError, match=message):
        ITITConfig(**bad)


def test_an_unknown_preset_is_named():
    with pytest.raises(ValueError, match="`name` must be one of"):
        ITITConfig.preset("giant")


def test_config_round_trip(tmp_path):
    ITITConfig(codebook_size=64, text_encoder_name_or_path="some/t5").save_pretrained(tmp_path)
    loaded = ITITConfig.from_pretrained(tmp_path)
    assert (loaded.codebook_size, loaded.mask_token_id, loaded.text_encoder_name_or_path) == (64, 64, "some/t5")
