# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""LPIPS, the distance of two images in the features of a classifier (Zhang et al. 2018,
https://huggingface.co/papers/1801.03924), without torchvision and without a download."""

from dataclasses import dataclass

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

_SHIFT = (-0.030, -0.088, -0.188)  # of pixels in [-1, 1], as ImageNet's classifiers were trained
_SCALE = (0.458, 0.448, 0.450)
_EPS = 1e-10


@dataclass(frozen=True)
class Convolution:
    """A convolution with ReLU, behind a maximum over `pool` x `pool` pixels at stride 2.

    Args:
        channels (`int`): Output channels.
        kernel (`int`): Side of the kernel in pixels.
        stride (`int`): Its stride.
        pool (`int`): Side of the maximum before it; 0 is none.
        tapped (`bool`): Whether the distance looks at its output.
    """

    channels: int
    kernel: int = 3
    stride: int = 1
    pool: int = 0
    tapped: bool = False


# Padding keeps the size but for AlexNet's first convolution, which has 2.
NETWORKS = {
    "alexnet": (
        Convolution(64, 11, 4, tapped=True),
        Convolution(192, 5, pool=3, tapped=True),
        Convolution(384, pool=3, tapped=True),
        Convolution(256, tapped=True),
        Convolution(256, tapped=True),
    ),
    "vgg16": (
        Convolution(64),
        Convolution(64, tapped=True),
        Convolution(128, pool=2),
        Convolution(128, tapped=True),
        Convolution(256, pool=2),
        Convolution(256),
        Convolution(256, tapped=True),
        Convolution(512, pool=2),
        Convolution(512),
        Convolution(512, tapped=True),
        Convolution(512, pool=2),
        Convolution(512),
        Convolution(512, tapped=True),
    ),
}


class PerceptualLoss(nn.Module):
    """LPIPS.

    Args:
        network (`str`): Whose features: `"vgg16"`, usual in training, or `"alexnet"`, usual in evaluation.

    Raises:
        ValueError: If there is no such network.
    """

    def __init__(self, network: str = "vgg16"):
        super().__init__()
        if network not in NETWORKS:
            raise ValueError(f"`network` must be one of {list(NETWORKS)}, got {network!r}")
        self.network = network
        self.convolutions = nn.ModuleList()
        self.channel_weights = nn.ParameterList()
        channels = 3
        for each in NETWORKS[network]:
            padding = 2 if each.stride > 1 else each.kernel // 2
            self.convolutions.append(nn.Conv2d(channels, each.channels, each.kernel, each.stride, padding))
            channels = each.channels
            if each.tapped:
                self.channel_weights.append(nn.Parameter(torch.ones(channels)))
        self.register_buffer("shift", torch.tensor(_SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE)[:, None, None], persistent=False)

    def features(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """Outputs of the tapped convolutions, each of unit length over the channels.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, 3, height, width)`): Pixels in [-1, 1].

        Returns:
            `list[torch.Tensor]` of shapes `(batch_size, channels, h, w)`, the finest first.
        """
        hidden_states = (pixel_values - self.shift) / self.scale  # (B, 3, H, W)
        found = []
        for each, convolution in zip(NETWORKS[self.network], self.convolutions, strict=True):
            if each.pool:
                hidden_states = F.max_pool2d(hidden_states, each.pool, stride=2)
            hidden_states = convolution(hidden_states).relu()  # (B, C, h, w)
            if each.tapped:
                length = hidden_states.square().sum(dim=1, keepdim=True).sqrt()  # (B, 1, h, w)
                found.append(hidden_states / (length + _EPS))
        return found

    def forward(self, sample: torch.Tensor, pixel_values: torch.Tensor) -> torch.Tensor:
        """Distance of each pair of images.

        Args:
            sample (`torch.Tensor` of shape `(batch_size, 3, height, width)`): Pixels in [-1, 1].
            pixel_values (`torch.Tensor` of the same shape): Pixels in [-1, 1].

        Returns:
            `torch.Tensor` of shape `(batch_size,)`, 0 for equal images.
        """
        distance = sample.new_zeros(len(sample))
        taps = zip(self.features(sample), self.features(pixel_values), self.channel_weights, strict=True)
        for ours, theirs, weights in taps:
            difference = (ours - theirs).square()  # (B, C, h, w)
            distance = distance + (difference * weights[:, None, None]).sum(dim=1).mean(dim=(1, 2))
        return distance

    def save(self, file: str):
        """Write the weights and the network's name.

        Args:
            file (`str`): A new .safetensors file.
        """
        save_file(self.state_dict(), file, metadata={"network": self.network})


def load_perceptual_loss(file: str) -> PerceptualLoss:
    """LPIPS of a file that `utils/convert_lpips.py` wrote, frozen.

    Args:
        file (`str`): The .safetensors file.

    Returns:
        [`PerceptualLoss`] in evaluation mode.

    Raises:
        ValueError: If it is no such file.
    """
    with safe_open(file, framework="pt") as opened:
        network = (opened.metadata() or {}).get("network")
        if network not in NETWORKS:
            raise ValueError(
                f"`file` must be written by utils/convert_lpips.py, got {file} of the network {network!r}"
            )
        weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  (no mapping)
    loss = PerceptualLoss(network)
    loss.load_state_dict(weights)
    return loss.eval().requires_grad_(False)
