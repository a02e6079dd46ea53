# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from itit_hf.models.modeling_itit import ITITForCaptioning, ITITForImageGeneration

from ..testing_utils import tiny_config

IMAGES = torch.randint(23, (2, 16), generator=torch.Generator().manual_seed(1))


def said(model, **options):
    """Short captions of two images, without the prefix."""
    options = {"num_beams": 1, "max_new_tokens": 4, "do_sample": False} | options
    return model.generate(image_token_ids=IMAGES, **options)[:, model.config.num_prefix_tokens + 1 :]


def ids(model):
    return model.config.vocab_size, model.config.bos_token_id, model.config.image_token_id


@pytest.mark.parametrize("num_added", [1, 2, 6, 30])
def test_tokens_that_are_added_leave_the_captions_and_the_codes_alone(model, num_added, tmp_path):
    begun = {"input_ids": torch.tensor([[9, 21], [3, 5]])}
    before, before_begun = said(model), said(model, **begun)
    embeddings = model.resize_token_embeddings(40 + num_added)  # as with `len(tokenizer)`
    config = model.config
    assert config.num_text_tokens == 40 + num_added <= config.vocab_size - 2
    assert embeddings is model.get_input_embeddings() and embeddings.weight.shape[0] == config.vocab_size
    assert model.model.embed_image_tokens.weight.shape[0] == 24
    model.save_pretrained(tmp_path)
    for network in (model, ITITForCaptioning.from_pretrained(tmp_path)):
        assert torch.equal(said(network), before)
        assert torch.equal(said(network, **begun), before_begun)


def test_tokens_that_are_added_can_be_said_and_read(model):
    model.resize_token_embeddings(44)
    loud = 9 * model.get_input_embeddings().weight.data[43].sign()
    model.get_input_embeddings().weight.data[41] = loud
    model.text_decoder.norm.bias.data = loud.clone()
    assert (said(model) == 41).all()
    assert (said(model, input_ids=torch.tensor([[41], [3]]))[:, 1:] == 41).all()


def test_new_tokens_begin_near_the_mean_also_where_rows_were_spare(model):
    table = model.get_input_embeddings().weight.data
    table[40:] = 100.0
    mean = table[:40].mean(dim=0)
    model.resize_token_embeddings(46)
    new = model.get_input_embeddings().weight[40:46]
    assert (new - mean).abs().max() < 0.05


def test_a_start_and_a_placeholder_stay_where_no_token_takes_their_place(model):
    model.resize_token_embeddings(42)
    assert ids(model) == (48, 42, 47)
    model.resize_token_embeddings(pad_to_multiple_of=32)
    assert ids(model) == (64, 42, 47)
    model.resize_token_embeddings(30)
    assert ids(model) == (32, 30, 31)
    model.config.bos_token_id = 7  # of a tokenizer that has one
    model.resize_token_embeddings(90)
    assert ids(model) == (92, 7, 91)


def test_a_start_in_the_generation_settings_moves_along(model):
    model.generation_config.bos_token_id = 40
    model.resize_token_embeddings(44)
    assert model.generation_config.bos_token_id == model.config.bos_token_id == 44


def test_nothing_is_asked_for_and_nothing_changes(model):
    table = model.get_input_embeddings().weight
    assert model.resize_token_embeddings().weight is table and ids(model) == (48, 40, 47)
    assert torch.equal(model.resize_token_embeddings(40).weight, table) and ids(model) == (48, 40, 47)


def test_what_is_no_table_of_text_tokens_is_not_resized(model):
    for network in (model.model, ITITForImageGeneration(tiny_config())):
        with pytest.raises(ValueError, match="no embedding of text tokens to resize"):
            network.resize_token_embeddings(60)
    with pytest.raises(ValueError, match="`new_num_tokens` must be at least 1, got 0"):
        model.resize_token_embeddings(0)
