# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import datasets
import PIL.Image
import pytest
import torch
from diffusers import VQModel
from torch import nn

from itit_hf.models.image_tokenization_itit import encode_images
from itit_hf.pretraining.vq_training import (
    ImageDataset,
    PatchDiscriminator,
    StepBatchSampler,
    VQAutoencoder,
    VQLossWeights,
    VQStepOutput,
    adaptive_weight,
    discriminator_hinge_loss,
    distinct_points,
    edge_loss,
    kmeans,
    reseed_dead_codes,
    to_pixel_values,
    vq_losses,
    with_new_decoder,
)

from ..testing_utils import generators, tiny_image_tokenizer


def tiny_vqgan() -> VQModel:
    return VQModel(
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        block_out_channels=[8, 8],
        norm_num_groups=4,
        latent_channels=8,
        num_vq_embeddings=23,
        lookup_from_codebook=True,
    )


def make_images(number: int = 24) -> datasets.Dataset:
    """Two colours in each image, 16 x 16 pixels."""
    rows = []
    for i in range(number):
        image = PIL.Image.new("RGB", (16, 16), (10 * i, 255 - 10 * i, 99))
        image.paste((0, 10 * i, 0), (0, 0, 5 + i % 8, 9))
        rows.append({"image": image})
    return datasets.Dataset.from_list(rows, features=datasets.Features({"image": datasets.Image()}))


# Images and their order


def test_images_are_scaled_to_one_size():
    dataset = ImageDataset([{"image": PIL.Image.new("RGB", (40, 20), (255, 0, 7))}], resolution=8)
    assert dataset[0].shape == (3, 8, 8)
    assert dataset[0][:, 3, 3].tolist() == [255, 0, 7]


def test_images_that_are_not_square_are_prepared_as_a_models_are():
    rows = [{"image": PIL.Image.new("RGB", (40, 20), (255, 0, 7))}]
    padded = ImageDataset(rows, resolution=8, aspect_ratio="pad")[0]
    assert padded[:, :, 3].T.tolist() == [[255, 255, 255]] * 2 + [[255, 0, 7]] * 4 + [[255, 255, 255]] * 2


def test_a_image_that_cannot_be_read_is_named_by_its_row():
    rows = [{"image": PIL.Image.new("RGB", (8, 8))}, {"image": {"bytes": b"<html>", "path": None}}]
    with pytest.raises(ValueError, match="row 1 of `paired.image`: it cannot be read"):
        ImageDataset(rows, 8, name="paired+image").cache()


def test_cached_images_are_the_same_ones():
    rows = make_images(5)
    cached = ImageDataset(rows, 8).cache()
    assert cached.num_bytes == 5 * 3 * 8 * 8
    assert all(torch.equal(one, other) for one, other in zip(ImageDataset(rows, 8), cached, strict=True))


def test_black_is_minus_one_and_white_is_one():
    assert to_pixel_values(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]


def test_each_pass_takes_every_row_once_in_an_order_of_its_own():
    batches = list(StepBatchSampler(6, batch_size=2, first_step=0, last_step=6))
    first, second = sum(batches[:3], []), sum(batches[3:], [])
    assert sorted(first) == sorted(second) == list(range(6))
    assert first != second


def test_a_later_start_gives_the_same_steps():
    assert list(StepBatchSampler(7, 2, 5, 9)) == list(StepBatchSampler(7, 2, 0, 9))[5:]


def test_two_processes_share_the_rows_of_one():
    one = list(StepBatchSampler(9, 4, 0, 5))
    two = [StepBatchSampler(9, 2, 0, 5, rank=rank, world_size=2) for rank in range(2)]
    assert [left + right for left, right in zip(*two, strict=True)] == one


# Codebook


def test_kmeans_finds_two_clouds():
    points = torch.tensor([[0.0, 0.0], [0.0, 2.0], [10.0, 0.0], [10.0, 2.0]])
    assert sorted(kmeans(points, 2, *generators(0)).tolist()) == [[0.0, 1.0], [10.0, 1.0]]


def test_kmeans_with_as_many_clusters_as_points_gives_the_points():
    points = torch.arange(6.0)[:, None]
    assert sorted(kmeans(points, 6, *generators(0)).flatten().tolist()) == points.flatten().tolist()


def test_kmeans_is_a_function_of_its_generator():
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(kmeans(points, 7, *generators(1)), kmeans(points, 7, *generators(1)))


def test_kmeans_wants_enough_points():
    with pytest.raises(ValueError, match="`num_clusters` must be at most the number of points, 2, got 3"):
        kmeans(torch.zeros(2, 1), 3)


def test_near_copies_count_once():
    points = torch.tensor([[5.0], [-5.0], [5.001], [-5.001], [0.0]])
    assert distinct_points(points).tolist() == [[5.0], [-5.0], [0.0]]


def test_an_unused_code_moves_to_a_latent_that_no_code_is_near():
    codebook = torch.tensor([[0.0], [1.0], [50.0]])
    moved = reseed_dead_codes(codebook, torch.tensor([4, 3, 0]), torch.tensor([[0.0], [1.0], [9.0]]), *generators(0))
    assert moved == 1
    assert codebook.tolist() == [[0.0], [1.0], [9.0]]


def test_no_two_codes_move_to_one_latent_and_used_codes_stay():
    codebook = torch.tensor([[0.0], [70.0], [80.0], [90.0]])
    latents = torch.tensor([[0.0], [5.0], [7.0]])
    assert reseed_dead_codes(codebook, torch.tensor([1, 0, 0, 0]), latents, *generators(0)) == 2
    assert codebook[0].item() == 0.0
    assert sorted(codebook[1:3].flatten().tolist()) == [5.0, 7.0]
    assert codebook[3].item() == 90.0  # nothing left for it


# Losses


def test_the_edge_loss_sees_an_edge_and_not_a_shade():
    image, shade = torch.zeros(1, 1, 2, 4), torch.full((1, 1, 2, 4), 0.5)
    assert edge_loss(shade, image) == 0.0
    step = torch.tensor([0.0, 0.0, 0.6, 0.6]).expand(1, 1, 2, 4)
    assert edge_loss(step, image).item() == pytest.approx(0.2)  # one of three differences along a row


def test_the_hinge_loss_is_zero_where_real_and_fake_are_well_apart():
    assert discriminator_hinge_loss(torch.tensor([1.0, 3.0]), torch.tensor([-1.0])) == 0.0
    assert discriminator_hinge_loss(torch.tensor([0.0]), torch.tensor([1.0])) == 1.5


def test_the_adaptive_weight_makes_both_losses_pull_alike():
    last_layer = nn.Parameter(torch.tensor([1.0, 1.0]))
    weight = adaptive_weight((last_layer * torch.tensor([3.0, 4.0])).sum(), 0.5 * last_layer[0], last_layer)
    assert weight.item() == pytest.approx(5.0 / 0.5, rel=1e-5)
    assert not weight.requires_grad


def test_the_adaptive_weight_is_bounded():
    last_layer = nn.Parameter(torch.tensor([1.0]))
    assert adaptive_weight(last_layer.sum(), 0.0 * last_layer.sum(), last_layer, largest=7.0) == 7.0


def test_the_losses_are_what_one_computes_by_hand():
    sample = nn.Parameter(torch.full((1, 3, 4, 4), 0.5))
    output = VQStepOutput(sample, torch.tensor(0.25), torch.zeros(()), None)
    weights = VQLossWeights(l1=2.0, l2=4.0, edge=1.0, perceptual=3.0, codebook=8.0, gan=0.5)

    def perceptual(sample, pixel_values):
        return (sample - pixel_values).mean(dim=(1, 2, 3))

    losses = vq_losses(output, torch.zeros(1, 3, 4, 4), weights, sample, perceptual, lambda x: 10.0 * x)
    assert {name: loss.item() for name, loss in losses.items() if name != "gan"} == {
        "l1": 1.0,
        "l2": 1.0,
        "edge": 0.0,
        "perceptual": 1.5,
        "codebook": 2.0,
    }
    # pulls on each of the 48 numbers: 2 + 4 + 3 of the reconstruction, all over 48, and 10 over 48 of the adversary
    assert losses["gan"].item() == pytest.approx(0.5 * (9 / 10) * -5.0, rel=1e-4)


def test_losses_of_weight_zero_are_left_out():
    output = VQStepOutput(torch.ones(1, 3, 4, 4), torch.tensor(0.25), torch.zeros(()), None)
    losses = vq_losses(output, torch.zeros(1, 3, 4, 4), VQLossWeights(edge=0.0), nn.Parameter(torch.zeros(1)))
    assert set(losses) == {"l1", "l2", "codebook"}


@pytest.mark.parametrize(("halvings", "width"), [(1, 12), (2, 26), (3, 54)])
def test_a_patch_of_the_discriminator_is_as_wide_as_its_docstring_says(halvings, width):
    discriminator = PatchDiscriminator(channels=8, num_halvings=halvings)
    for layer in discriminator.layers:
        if isinstance(layer, nn.GroupNorm):  # which sees the whole image's mean and deviation
            layer.forward = lambda x: x
    pixel_values = torch.zeros(1, 3, 96, 96, requires_grad=True)
    logits = discriminator(pixel_values)
    logits[0, 0, logits.size(2) // 2, logits.size(3) // 2].backward()
    seen = (pixel_values.grad.abs().sum(dim=(0, 1)) > 0).nonzero()
    assert (seen.amax(dim=0) - seen.amin(dim=0) + 1).tolist() == [width, width]


def test_the_discriminator_judges_each_image_by_itself():
    discriminator, pixel_values = PatchDiscriminator(channels=8), torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(discriminator(pixel_values)[:1], discriminator(pixel_values[:1]))


def test_the_discriminator_judges_patches_of_the_whole_image():
    assert PatchDiscriminator(channels=8, num_halvings=2)(torch.zeros(1, 3, 64, 64)).shape[-2:] == (16, 16)


def test_the_discriminator_names_a_width_it_cannot_take():
    with pytest.raises(ValueError, match="`channels` must be a multiple of 4"):
        PatchDiscriminator(channels=10)


# The autoencoder


@pytest.fixture(params=["patch", "vqgan"])
def image_tokenizer(request):
    torch.manual_seed(0)
    return tiny_image_tokenizer() if request.param == "patch" else tiny_vqgan()


@pytest.fixture
def pixel_values():
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_quantized_pass_is_the_models_own(image_tokenizer, pixel_values):
    output = VQAutoencoder(image_tokenizer)(pixel_values)
    torch.testing.assert_close(output.sample, image_tokenizer(pixel_values).sample)
    assert torch.equal(output.image_token_ids.view(2, -1), encode_images(image_tokenizer, pixel_values))
    assert output.commit_loss > 0


@pytest.mark.parametrize("quantize", [True, False])
def test_every_parameter_gets_a_gradient_with_codes_and_without(image_tokenizer, pixel_values, quantize):
    autoencoder = VQAutoencoder(image_tokenizer)
    output = autoencoder(pixel_values, quantize=quantize)
    (output.sample.square().mean() + output.commit_loss).backward()
    assert all(p.grad is not None for p in autoencoder.parameters())
    assert (output.image_token_ids is None) == (not quantize)


def test_without_codes_the_decoder_gets_the_latents(image_tokenizer, pixel_values):
    with torch.no_grad():
        image_tokenizer.quantize.embedding.weight.fill_(9.0)
        loud = VQAutoencoder(image_tokenizer)(pixel_values, quantize=False)
        image_tokenizer.quantize.embedding.weight.fill_(-9.0)
        assert torch.equal(VQAutoencoder(image_tokenizer)(pixel_values, quantize=False).sample, loud.sample)
    assert loud.commit_loss == 0.0


def test_decoder_only_leaves_the_codes_alone(image_tokenizer, pixel_values):
    autoencoder = VQAutoencoder(image_tokenizer, decoder_only=True)
    output = autoencoder(pixel_values)
    (output.sample.square().mean() + output.commit_loss).backward()
    reached = {name.split(".")[1] for name, p in autoencoder.named_parameters() if p.grad is not None}
    assert reached <= {"decoder", "post_quant_conv"} and "decoder" in reached
    frozen = {name.split(".")[1] for name, p in autoencoder.named_parameters() if not p.requires_grad}
    assert frozen <= {"encoder", "quantize", "quant_conv"} and "quantize" in frozen


def test_a_new_decoder_keeps_the_codes(pixel_values):
    old = tiny_image_tokenizer()
    new = with_new_decoder(old, {"block_out_channels": (4, 8, 8)})
    assert new.config.block_out_channels == (4, 8, 8)
    assert torch.equal(encode_images(new, pixel_values), encode_images(old, pixel_values))
    with pytest.raises(RuntimeError, match="size mismatch"):
        with_new_decoder(old, {"num_vq_embeddings": 24})
