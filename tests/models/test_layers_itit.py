# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from itit_hf import ITITForCaptioning, ITITForImageGeneration, ITITForPreTraining
from itit_hf.models.layers_itit import (
    ITITImageDecoder,
    ITITLayer,
    ITITTextDecoder,
    gather_tokens,
    scale_gradient,
    sine_cosine_positions,
)
from itit_hf.models.types_itit import ImageMask, TextCondition

from ..testing_utils import tiny_config


def test_gather_tokens_takes_rows_of_each_sample():
    hidden = torch.arange(12.0).view(2, 3, 2)
    assert gather_tokens(hidden, torch.tensor([[2, 0], [1, 1]])).tolist() == [[[4, 5], [0, 1]], [[8, 9], [8, 9]]]


def test_training_with_dropout_is_the_same_whichever_attention_is_asked_for():
    inputs = {
        "image_token_ids": torch.arange(32).view(2, 16) % 7,
        "text_condition": TextCondition(
            torch.randn(2, 3, tiny_config().text_hidden_size, generator=torch.Generator().manual_seed(1)),
            torch.tensor([[1, 1, 0], [1, 1, 1]]),
        ),
    }
    drawn = []
    for implementation in ("sdpa", "eager"):
        torch.manual_seed(0)
        config = tiny_config(attention_probs_dropout_prob=0.5, attn_implementation=implementation)
        drawn.append(ITITForImageGeneration(config).train()(**inputs).image_logits)
    torch.testing.assert_close(*drawn)


def test_scale_gradient_at_its_ends():
    x = torch.ones(2, requires_grad=True)
    assert scale_gradient(x, 1.0) is x
    assert not scale_gradient(x, 0.0).requires_grad


def test_a_block_that_is_asked_for_some_rows_gives_the_same_rows():
    torch.manual_seed(0)
    config = tiny_config()
    config._attn_implementation = "sdpa"
    layer = ITITLayer(config, 16, 2, 24, layer_idx=0).eval()
    hidden, positions = torch.randn(2, 5, 16), torch.tensor([[4, 1], [0, 2]])
    some = layer(hidden, None, None, positions)
    torch.testing.assert_close(some, gather_tokens(layer(hidden), positions))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_text_decoder_that_is_asked_for_the_last_places_gives_the_same_states(attention):
    torch.manual_seed(0)
    config = tiny_config()
    config._attn_implementation = attention
    decoder = ITITTextDecoder(config).eval()
    ids, features = torch.tensor([[47, 47, 47, 40, 3, 4], [47, 47, 47, 40, 5, 6]]), torch.randn(2, 3, 24)
    padding = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 1, 1]])
    last = decoder(ids, features, padding, num_queries=2)
    torch.testing.assert_close(last, decoder(ids, features, padding)[:, -2:])


def test_masked_positions_carry_the_mask_embedding_into_the_image_decoder():
    decoder = ITITImageDecoder(tiny_config())
    torch.nn.init.normal_(decoder.mask_embedding)
    hidden = torch.ones(1, 16, dtype=torch.bool)
    hidden[0, [3, 7]] = False
    kept = torch.tensor([[1, 3, 7, 9]])  # 1 and 9 were kept as mask embeddings
    image = torch.randn(1, 4, 16)
    restored = decoder._restore(image, decoder.mask_embedding, ImageMask(hidden, kept))
    assert torch.equal(restored[0, 3], image[0, 1]) and torch.equal(restored[0, 7], image[0, 2])
    others = [k for k in range(16) if k not in (3, 7)]
    assert torch.equal(restored[0, others], decoder.mask_embedding.expand(14, -1))


def test_the_last_token_of_each_text_can_stand_in_for_masked_positions():
    decoder = ITITImageDecoder(tiny_config(image_decoder_fill="text"))
    text, visible = torch.randn(2, 3, 16), torch.ones(2, 4, dtype=torch.bool)
    is_text = torch.cat([visible, torch.tensor([[1, 1, 0], [1, 1, 1]]).bool()], dim=1)
    assert torch.equal(decoder._fill(text, is_text)[:, 0], torch.stack([text[0, 1], text[1, 2]]))
    assert torch.equal(decoder._fill(text, None), text[:, -1:])
    fill, masked = decoder._fill(text, is_text), torch.zeros(2, 16, dtype=torch.bool)
    masked[0, 5:], masked[1, 9:] = True, True
    restored = decoder._restore(torch.randn(2, 16, 16), fill, ImageMask(masked))
    for b, start in enumerate((5, 9)):
        assert torch.equal(restored[b, start:], fill[b].expand(16 - start, -1))


def test_a_decoder_that_fills_with_text_has_no_embedding_that_nothing_trains():
    model = ITITForImageGeneration(tiny_config(image_decoder_fill="text"))
    mask = ImageMask(torch.arange(16)[None] > 3)
    model(image_token_ids=torch.zeros(1, 16, dtype=torch.long), image_mask=mask).image_logits.sum().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


def test_heads_of_the_image_decoder_and_norms_of_the_head_are_its_own():
    config = tiny_config(image_decoder_num_attention_heads=4, image_head_layer_norm_eps=0.5)
    decoder = ITITImageDecoder(config)
    assert [layer.self_attn.head_dim for layer in decoder.layers] == [4, 4]
    assert ITITTextDecoder(config).layers[0].self_attn.head_dim == 8
    assert (decoder.head_norm.eps, decoder.norm.eps) == (0.5, 1e-6)


def test_activation_and_epsilon_of_the_text_decoder_are_its_own():
    config = tiny_config(text_decoder_hidden_act="relu", text_decoder_layer_norm_eps=0.5)
    own, others = ITITTextDecoder(config), ITITImageDecoder(config)
    assert {norm.eps for norm in own.modules() if isinstance(norm, torch.nn.LayerNorm)} == {0.5}
    assert {norm.eps for norm in others.modules() if isinstance(norm, torch.nn.LayerNorm)} == {1e-6}
    x = torch.tensor([-1.0])
    assert own.layers[0].activation(x).item() == 0 and others.layers[0].activation(x).item() == pytest.approx(
        -0.1587, abs=1e-4
    )


@pytest.mark.parametrize("named", [
    {"image_decoder_num_attention_heads": 2}, {"image_head_layer_norm_eps": 1e-6}, {"image_decoder_fill": "mask"},
    {"text_decoder_hidden_act": "gelu"}, {"text_decoder_layer_norm_eps": 1e-6},
])  # fmt: skip
def test_an_option_that_names_what_both_decoders_share_changes_nothing(named):
    inputs = {
        "image_token_ids": torch.arange(32).view(2, 16) % 7,
        "image_mask": ImageMask(torch.arange(32).view(2, 16) % 3 > 0),
        "input_ids": torch.tensor([[47] * 17 + [40, 3, 4]] * 2),
        "logit_positions": torch.arange(16).expand(2, -1),
    }
    outputs = []
    for changes in ({}, named):
        torch.manual_seed(0)
        outputs.append(ITITForPreTraining(tiny_config(**changes)).eval()(**inputs))
    assert torch.equal(outputs[0].image_logits, outputs[1].image_logits)
    assert torch.equal(outputs[0].logits, outputs[1].logits)


def test_equal_steps_on_the_grid_are_equal_products_of_positions():
    positions = sine_cosine_positions(grid=(5, 5), width=16).view(5, 5, 16)
    assert torch.allclose(positions.pow(2).sum(-1), torch.tensor(8.0))
    below = (positions[1:] * positions[:-1]).sum(-1)
    beside = (positions[:, 1:] * positions[:, :-1]).sum(-1)
    assert torch.allclose(below, below[0, 0].expand_as(below))
    assert torch.allclose(beside, below[0, 0].expand_as(beside))


def test_rows_and_columns_have_their_own_half_of_the_width():
    positions = sine_cosine_positions(grid=(3, 3), width=8).view(3, 3, 8)
    assert torch.equal(positions[0, :, :4], positions[0, :1, :4].expand(3, 4))
    assert torch.equal(positions[:, 0, 4:], positions[:1, 0, 4:].expand(3, 4))


def test_positions_of_a_wide_grid_are_a_part_of_those_of_a_square():
    square = sine_cosine_positions(grid=(5, 5), width=8).view(5, 5, 8)
    assert torch.equal(sine_cosine_positions(grid=(2, 5), width=8).view(2, 5, 8), square[:2])
    assert torch.equal(sine_cosine_positions(grid=(5, 2), width=8).view(5, 2, 8), square[:, :2])


def test_a_width_that_four_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="`width` must be a multiple of 4, got 6"):
        sine_cosine_positions(grid=(2, 2), width=6)


def test_positions_of_the_small_start_are_as_large_as_what_they_are_added_to():
    model = ITITForImageGeneration(tiny_config(initializer="xavier", initializer_range=0.02))
    assert abs(model.model.embed_image_positions.weight.pow(2).mean().sqrt() - 0.02) < 1e-6
    assert abs(model.image_decoder.embed_positions.weight.pow(2).mean() - 0.5) < 1e-6


def test_spare_rows_of_the_vocabulary_are_never_generated_and_get_no_gradient():
    decoder = ITITForCaptioning(tiny_config()).text_decoder
    num_text_tokens = decoder.config.num_text_tokens
    logits = decoder.logits(torch.randn(2, 3, decoder.config.decoder_hidden_size))
    assert logits.size(-1) == decoder.config.vocab_size > num_text_tokens
    assert logits.isfinite().all() and logits.softmax(dim=-1)[..., num_text_tokens:].sum() == 0
    logits.log_softmax(dim=-1)[..., :num_text_tokens].sum().backward()
    assert decoder.embed_tokens.weight.grad[:num_text_tokens].abs().sum(dim=-1).min() > 0
    assert decoder.embed_tokens.weight.grad[num_text_tokens:].abs().sum() == 0
