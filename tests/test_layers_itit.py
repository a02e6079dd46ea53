# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from itit_hf import ITITForImageGeneration
from itit_hf.layers_itit import (
    ITITImageDecoder,
    ITITLayer,
    ITITTextDecoder,
    gather_tokens,
    scale_gradient,
    sine_cosine_positions,
    tall_linear,
)

from .testing_utils import tiny_config


def test_gather_tokens_takes_rows_of_each_sample():
    hidden = torch.arange(12.0).view(2, 3, 2)
    assert gather_tokens(hidden, torch.tensor([[2, 0], [1, 1]])).tolist() == [[[4, 5], [0, 1]], [[8, 9], [8, 9]]]


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


def test_hidden_positions_carry_the_mask_embedding_into_the_image_decoder():
    decoder = ITITImageDecoder(tiny_config())
    torch.nn.init.normal_(decoder.mask_embedding)
    hidden = torch.ones(1, 16, dtype=torch.bool)
    hidden[0, [3, 7]] = False
    kept = torch.tensor([[1, 3, 7, 9]])  # 1 and 9 were kept as mask embeddings
    image = torch.randn(1, 4, 16)
    restored = decoder._restore(image, hidden, kept, None)
    assert torch.equal(restored[0, 3], image[0, 1]) and torch.equal(restored[0, 7], image[0, 2])
    others = [k for k in range(16) if k not in (3, 7)]
    assert torch.equal(restored[0, others], decoder.mask_embedding.expand(14, -1))


def test_equal_steps_on_the_grid_are_equal_products_of_positions():
    positions = sine_cosine_positions(side=5, width=16).view(5, 5, 16)
    assert torch.allclose(positions.pow(2).sum(-1), torch.tensor(8.0))
    below = (positions[1:] * positions[:-1]).sum(-1)
    beside = (positions[:, 1:] * positions[:, :-1]).sum(-1)
    assert torch.allclose(below, below[0, 0].expand_as(below))
    assert torch.allclose(beside, below[0, 0].expand_as(beside))


def test_rows_and_columns_have_their_own_half_of_the_width():
    positions = sine_cosine_positions(side=3, width=8).view(3, 3, 8)
    assert torch.equal(positions[0, :, :4], positions[0, :1, :4].expand(3, 4))
    assert torch.equal(positions[:, 0, 4:], positions[:1, 0, 4:].expand(3, 4))


def test_a_width_that_four_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="`width` must be a multiple of 4, got 6"):
        sine_cosine_positions(side=2, width=6)


def test_positions_of_the_small_start_are_as_large_as_what_they_are_added_to():
    model = ITITForImageGeneration(tiny_config(initializer="xavier", initializer_range=0.02))
    assert abs(model.model.embed_image_positions.weight.pow(2).mean().sqrt() - 0.02) < 1e-6
    assert abs(model.image_decoder.embed_positions.weight.pow(2).mean() - 0.5) < 1e-6


@pytest.mark.parametrize("num_rows", [1, 2, 4, 8, 9])
def test_a_tall_linear_layer_gives_what_a_linear_layer_gives(num_rows):
    generator = torch.Generator().manual_seed(0)
    states, weight = torch.randn(1, num_rows, 6, generator=generator), torch.randn(500, 6, generator=generator)
    torch.testing.assert_close(tall_linear(states, weight), torch.nn.functional.linear(states, weight))


def test_a_tall_linear_layer_has_the_gradients_of_a_linear_layer():
    generator = torch.Generator().manual_seed(0)
    states, weight = torch.randn(2, 2, 6, generator=generator), torch.randn(500, 6, generator=generator)
    gradients = []
    for layer in (tall_linear, torch.nn.functional.linear):
        inputs = [value.clone().requires_grad_() for value in (states, weight)]
        layer(*inputs).square().sum().backward()
        gradients.append([value.grad for value in inputs])
    torch.testing.assert_close(gradients[0], gradients[1])
