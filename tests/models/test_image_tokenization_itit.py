# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from diffusers import VQModel

from itit_hf.models.image_tokenization_itit import (
    PatchVQModel,
    decode_image_token_ids,
    decode_soft_image_tokens,
    downsampling_factor,
    encode_images,
)
from itit_hf.models.straight_through_itit import straight_through
from itit_hf.models.types_itit import SoftTokens


@torch.no_grad()
def spread_codes(model):
    """Put the codes where the latents of noise are, so that many of them are used."""
    latents = model.encode(torch.rand(2, 3, 16, 16) * 2 - 1).latents  # (2, 8, 4, 4)
    model.quantize.embedding.weight.copy_(latents.permute(0, 2, 3, 1).reshape(-1, 8)[:23])
    return model


def patch_tokenizer(**changes) -> PatchVQModel:
    """16 x 16 pixels -> 4 x 4 tokens of 23 codes."""
    config = {
        "patch_size": 4,
        "encoder_channels": 16,
        "num_vq_embeddings": 23,
        "block_out_channels": (8, 8),
        "norm_num_groups": 4,
    }
    torch.manual_seed(0)
    return spread_codes(PatchVQModel(**(config | changes)).eval())


def vqgan(**changes) -> VQModel:
    """The same geometry by diffusers."""
    config = {
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
        "block_out_channels": [8, 8, 8],
        "norm_num_groups": 4,
        "latent_channels": 8,
        "num_vq_embeddings": 23,
        "lookup_from_codebook": True,
    }
    torch.manual_seed(0)
    return spread_codes(VQModel(**(config | changes)).eval())


KINDS = {"patch": patch_tokenizer, "vqgan": vqgan}


@pytest.fixture(params=KINDS)
def image_tokenizer(request):
    return KINDS[request.param]()


@pytest.fixture
def pixel_values():
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_ids_have_one_row_per_image_and_one_id_per_patch(image_tokenizer, pixel_values):
    ids = encode_images(image_tokenizer, pixel_values)
    assert ids.shape == (2, 16)
    assert ids.dtype == torch.long
    assert ids.min() >= 0 and ids.max() < 23
    assert len(ids.unique()) > 4


def test_decoded_images_are_pixels_in_minus_one_to_one(image_tokenizer):
    image_tokenizer.decoder.conv_out.bias.data.fill_(5.0)
    pixels = decode_image_token_ids(image_tokenizer, torch.arange(16)[None])
    assert pixels.shape == (1, 3, 16, 16)
    assert pixels.max() == 1.0


def test_decoding_the_ids_is_the_models_own_reconstruction(image_tokenizer, pixel_values):
    with torch.no_grad():
        ours = decode_image_token_ids(image_tokenizer, encode_images(image_tokenizer, pixel_values))
        theirs = image_tokenizer(pixel_values).sample.clamp(-1, 1)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_a_vqgan_without_lookup_is_decoded_alike(pixel_values):
    new, old = vqgan(), vqgan(lookup_from_codebook=False)
    ids = encode_images(new, pixel_values)
    assert torch.equal(decode_image_token_ids(old, ids), decode_image_token_ids(new, ids))


def test_a_batch_is_its_images_one_by_one(image_tokenizer, pixel_values):
    singly = torch.cat([encode_images(image_tokenizer, image[None]) for image in pixel_values])
    assert torch.equal(encode_images(image_tokenizer, pixel_values), singly)


def test_images_need_not_be_square_to_be_encoded(image_tokenizer, pixel_values):
    assert encode_images(image_tokenizer, pixel_values[:, :, :8]).shape == (2, 8)


@pytest.mark.parametrize("create", [patch_tokenizer, vqgan])
def test_a_wide_image_is_decoded_as_the_model_itself_reconstructs_it(create):
    tokenizer = create()
    pixel_values = torch.rand(1, 3, 8, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    ids = encode_images(tokenizer, pixel_values)
    with torch.no_grad():
        theirs = tokenizer(pixel_values).sample.clamp(-1, 1)
        ours = decode_image_token_ids(tokenizer, ids, (2, 6))
        soft = SoftTokens(torch.nn.functional.one_hot(ids[:, :2], 23) * 50.0, torch.tensor([[0, 1]]))
        as_soft = decode_soft_image_tokens(tokenizer, ids, soft, (2, 6))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    torch.testing.assert_close(as_soft, theirs, atol=1e-5, rtol=0)


def test_a_grid_of_another_number_of_tokens_is_refused(image_tokenizer):
    with pytest.raises(ValueError, match="`image_grid` must have as many tokens as an image, 12, got 3 x 5"):
        decode_image_token_ids(image_tokenizer, torch.zeros(1, 12, dtype=torch.long), (3, 5))


def test_gradients_flow_through_decoding_to_the_codes(image_tokenizer):
    ids = torch.full((1, 16), 3)
    decode_image_token_ids(image_tokenizer, ids).sum().backward()
    reached = image_tokenizer.quantize.embedding.weight.grad.abs().sum(dim=1) > 0
    assert reached.nonzero().flatten().tolist() == [3]


def test_a_token_depends_on_nothing_but_its_patch(pixel_values):
    model = patch_tokenizer()
    changed = pixel_values.clone()
    changed[:, :, 4:8, 8:12] = 1.0  # second row, third column
    with torch.no_grad():
        difference = model.encode(changed).latents - model.encode(pixel_values).latents
    assert (difference.abs().amax(dim=(0, 1)) > 0).nonzero().tolist() == [[1, 2]]


def test_the_decoder_sees_the_neighbours():
    model = patch_tokenizer()
    with torch.no_grad():
        images = decode_image_token_ids(model, torch.tensor([[3] * 16, [3] * 15 + [7]]))
    assert (images[0] != images[1])[:, :8, :8].any()  # the code that differs is in the opposite corner


def test_the_interface_is_that_of_diffusers(pixel_values):
    model = patch_tokenizer()
    latents = model.encode(pixel_values).latents
    quantized, loss, (_, _, ids) = model.quantize(latents)
    assert latents.shape == quantized.shape == (2, 8, 4, 4)
    assert loss.ndim == 0 and ids.shape == (32,)
    from_latents = model.decode(latents).sample
    torch.testing.assert_close(model.decode(ids, force_not_quantize=True, shape=(2, 4, 4, 8)).sample, from_latents)
    torch.testing.assert_close(model.decode(quantized, force_not_quantize=True).sample, from_latents)
    assert torch.equal(model(pixel_values, return_dict=False)[0], model(pixel_values).sample)
    assert torch.equal(model.encode(pixel_values, return_dict=False)[0], latents)


def test_save_and_load_give_the_same_ids_and_images(image_tokenizer, pixel_values, tmp_path):
    image_tokenizer.save_pretrained(tmp_path)
    loaded = type(image_tokenizer).from_pretrained(tmp_path)
    for name in ("num_vq_embeddings", "in_channels", "lookup_from_codebook"):
        assert loaded.config[name] == image_tokenizer.config[name]
    ids = encode_images(image_tokenizer, pixel_values)
    assert torch.equal(encode_images(loaded, pixel_values), ids)
    assert torch.equal(decode_image_token_ids(loaded, ids), decode_image_token_ids(image_tokenizer, ids))


def test_the_downsampling_factor_is_the_side_of_a_token(image_tokenizer):
    assert downsampling_factor(image_tokenizer) == 4


def test_the_default_is_small():
    model = PatchVQModel()
    assert 1.5e6 < sum(p.numel() for p in model.parameters()) < 3e6
    assert decode_image_token_ids(model, torch.zeros(1, 64, dtype=torch.long)).shape == (1, 3, 64, 64)


@pytest.mark.parametrize(
    ("pixel_values", "message"),
    [
        (torch.zeros(1, 1, 16, 16), r"`pixel_values` must be \(batch_size, 3, height, width\), got \(1, 1, 16, 16\)"),
        (torch.zeros(3, 16, 16), r"got \(3, 16, 16\)"),
        (torch.zeros(1, 3, 16, 18), "`pixel_values` must have sides that 4 divides, got 16 x 18"),
        (torch.zeros(1, 3, 0, 16), "got 0 x 16"),
        (torch.zeros(1, 3, 16, 16, dtype=torch.uint8), r"`pixel_values` must be floating point .* got torch.uint8"),
    ],
)
def test_images_of_the_wrong_form_are_refused(image_tokenizer, pixel_values, message):
    with pytest.raises(ValueError, match=message):
        encode_images(image_tokenizer, pixel_values)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.full((1, 16), 23), r"`image_token_ids` must be in 0\.\.22, got 23\.\.23"),
        (torch.full((1, 16), -100), r"got -100\.\.-100"),
        (torch.zeros(1, 15, dtype=torch.long), "must hold a square number of tokens, got 15"),
        (torch.zeros(1, 0, dtype=torch.long), "got 0"),
        (
            torch.zeros(16, dtype=torch.long),
            r"shape \(batch_size, num_image_tokens\), got torch.int64 of shape \(16,\)",
        ),
        (torch.zeros(1, 16), "must be integers"),
    ],
)
def test_ids_that_are_no_codes_are_refused(image_tokenizer, ids, message):
    with pytest.raises(ValueError, match=message):
        decode_image_token_ids(image_tokenizer, ids)


class Bound(torch.nn.Module):
    """A function of an image tokenizer, as a network."""

    def __init__(self, function, image_tokenizer):
        super().__init__()
        self.function = function
        self.image_tokenizer = image_tokenizer

    def forward(self, rows):
        return self.function(self.image_tokenizer, rows)


@pytest.mark.slow
@pytest.mark.parametrize("function", [encode_images, decode_image_token_ids])
def test_an_image_tokenizer_is_exported_for_any_number_of_images(image_tokenizer, function):
    network = Bound(function, image_tokenizer)
    images = torch.rand(5, 3, 16, 16) * 2 - 1
    rows = images if function is encode_images else encode_images(image_tokenizer, images)
    batch = torch.export.Dim("batch", max=63)  # diffusers treats 64 rows and more in another way
    graph = torch.export.export(network, (rows[:3],), dynamic_shapes=({0: batch},)).module()
    with torch.no_grad():
        torch.testing.assert_close(graph(rows), network(rows))


def test_a_decoder_that_would_outgrow_the_pixels_is_refused():
    with pytest.raises(ValueError, match="`patch_size` must be a multiple of 8"):
        patch_tokenizer(block_out_channels=(8, 8, 8, 8))


@pytest.mark.parametrize("create", [patch_tokenizer, vqgan])
def test_soft_tokens_are_decoded_as_their_argmax_with_the_gradient_of_the_softmax(create):
    tokenizer, ids = create().requires_grad_(False), torch.randint(23, (2, 16))
    logits = torch.randn(2, 3, 23, requires_grad=True)
    positions = torch.tensor([[0, 5, 9], [1, 2, 15]])
    pixels = decode_soft_image_tokens(tokenizer, ids, SoftTokens(logits, positions))
    torch.testing.assert_close(pixels, decode_image_token_ids(tokenizer, ids.scatter(1, positions, logits.argmax(-1))))
    (gradient,) = torch.autograd.grad(pixels.square().sum(), logits)
    codebook = tokenizer.quantize.embedding.weight  # (23, C)
    codes = codebook[ids].scatter(
        1, positions[..., None].expand(-1, -1, codebook.size(1)), straight_through(logits) @ codebook
    )
    latents = codes.transpose(1, 2).reshape(2, -1, 4, 4)
    by_hand = tokenizer.decode(latents).sample.clamp(-1, 1)  # each is its own nearest code, and passes gradients on
    torch.testing.assert_close(gradient, torch.autograd.grad(by_hand.square().sum(), logits)[0])
    assert gradient.abs().sum() > 0
