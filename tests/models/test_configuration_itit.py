# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import json

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from itit_hf.models.configuration_itit import PRESETS, ITITConfig, padded_vocab_size, text_fields
from itit_hf.models.modeling_itit import ITITForPreTraining

from ..testing_utils import tiny_text_encoder, tiny_tokenizer


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
    fields |= {"bos_token_id": None, "text_begins_with_bos": False, "image_token_id": None}
    encoder = tiny_text_encoder().config
    assert text_fields(tokenizer, encoder) == fields | {"vocab_size": 64}
    encoder.vocab_size = 90
    assert text_fields(tokenizer, encoder) == fields | {"vocab_size": 90}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"image_grid": (8, 0)}, "`image_grid` must be two numbers of at least 1"),
        ({"image_grid": (8, 8, 8)}, "`image_grid` must be two numbers of at least 1"),
        ({"hidden_size": 770}, "`hidden_size` must be a multiple"),
        ({"hidden_size": 774, "num_attention_heads": 6, "initializer": "xavier"}, "`hidden_size` .* multiple of 4"),
        ({"num_text_tokens": 32127}, "`num_text_tokens` must be in"),
        ({"encoder_drop": "some"}, "`encoder_drop` must be one of"),
        ({"initializer": "zeros"}, "`initializer` must be one of"),
        ({"image_decoder_fill": "null"}, "`image_decoder_fill` must be one of"),
        ({"image_decoder_num_attention_heads": 10}, "must be a multiple of `image_decoder_num_attention_heads`"),
        ({"bos_token_id": 32128}, "`bos_token_id` must be in 0..vocab_size - 1 = 32127"),
        ({"bos_token_id": 32127}, "`bos_token_id` must be .* and not `image_token_id` 32127"),
        ({"image_token_id": 32099}, "`image_token_id` must be in num_text_tokens..vocab_size - 1 = 32100..32127"),
        ({"codebook_size": 0}, "`codebook_size` must be at least 1"),
        ({"hidden_size": "wide"}, "hidden_size"),
    ],
)
def test_sizes_that_do_not_fit_are_named(bad, message):
    with pytest.raises(StrictDataclassError, match=message):
        ITITConfig(**bad)


@pytest.mark.parametrize("given", [{"num_image_tokens": 36}, {"num_image_tokens": 36, "image_grid": [6, 6]}])
def test_a_configuration_of_before_has_a_square_number_of_tokens(given):
    config = ITITConfig.from_dict(given)
    assert config.image_grid == (6, 6) and config.num_image_tokens == 36
    saved = config.to_dict()
    assert saved["image_grid"] == [6, 6] and "num_image_tokens" not in saved


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_image_tokens": 200}, "`num_image_tokens` must be a square"),
        ({"num_image_tokens": 0}, "`num_image_tokens` must be a square of at least 1, got 0"),
        ({"num_image_tokens": 64, "image_grid": (8, 12)}, r"give `image_grid` alone, got \(8, 12\)"),
    ],
)
def test_a_number_of_tokens_that_tells_no_grid_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        ITITConfig(**given)


def test_rows_and_columns_survive_a_file_in_their_order(tmp_path):
    ITITConfig(image_grid=(8, 12)).save_pretrained(tmp_path)
    config = ITITConfig.from_pretrained(tmp_path)
    assert config.image_grid == (8, 12) and config.num_image_tokens == 96


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_each_preset_is_a_configuration_with_its_values(name):
    config = ITITConfig.preset(name)
    assert {field: getattr(config, field) for field in PRESETS[name]} == PRESETS[name]


def test_an_unknown_preset_is_named():
    with pytest.raises(ValueError, match="`name` must be one of"):
        ITITConfig.preset("giant")


def test_config_round_trip(tmp_path):
    ITITConfig(codebook_size=64, text_encoder_name_or_path="some/t5").save_pretrained(tmp_path)
    loaded = ITITConfig.from_pretrained(tmp_path)
    assert (loaded.codebook_size, loaded.mask_token_id, loaded.text_encoder_name_or_path) == (64, 64, "some/t5")


@pytest.mark.parametrize("given", [{}, {"bos_token_id": None, "image_token_id": None}])
def test_ids_that_are_not_given_follow_the_sizes(given, tmp_path):
    config = ITITConfig(**given)
    config.num_text_tokens, config.vocab_size = 77, 90
    config.save_pretrained(tmp_path)
    config = ITITConfig.from_pretrained(tmp_path)
    assert (config.bos_token_id, config.image_token_id) == (77, 89)


def test_ids_that_are_given_stay(tmp_path):
    ITITConfig(image_token_id=32105).save_pretrained(tmp_path)
    config = ITITConfig.from_pretrained(tmp_path, bos_token_id=5)
    config.vocab_size = 40000
    config.save_pretrained(tmp_path)
    loaded = ITITConfig.from_pretrained(tmp_path)
    assert (loaded.bos_token_id, loaded.image_token_id) == (5, 32105)
    assert json.loads((tmp_path / "config.json").read_text())["bos_token_id"] == 5


def test_an_id_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="`bos_token_id` must be an integer or None, got '<s>'"):
        ITITConfig(bos_token_id="<s>")


def test_the_text_decoder_has_a_configuration_of_its_own_sizes():
    config = ITITConfig.preset("large")
    text = config.get_text_config(decoder=True)
    sizes = text.num_hidden_layers, text.hidden_size, text.num_attention_heads, text.intermediate_size
    assert sizes == (6, 896, 14, 3584)
    assert config.get_text_config() is config and config.num_hidden_layers == 24
