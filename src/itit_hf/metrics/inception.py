# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The Inception v3 of the Frechet inception distance (Heusel et al., 2017), without torchvision.

It is TensorFlow's network of December 2015, whose weights torch-fidelity converted. It differs from torchvision's: an
average leaves out what was padded, the last block takes a maximum, images are resized as TensorFlow 1 did, and there
are 1,008 classes. Names of the weights are those of that file.
"""

import os
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

INPUT_SIZE = 299
NUM_FEATURES = 2048
NUM_CLASSES = 1008  # of the last layer, which the features do not need

# A step of a branch is a convolution (name, channels, kernel, stride), several whose results stand side by side, or a
# pool by name. With stride 1 the size stays.
Step = tuple | list | str


def _block_a(pool_channels: int) -> list[list[Step]]:
    return [
        [("branch1x1", 64, 1, 1)],
        [("branch5x5_1", 48, 1, 1), ("branch5x5_2", 64, 5, 1)],
        [("branch3x3dbl_1", 64, 1, 1), ("branch3x3dbl_2", 96, 3, 1), ("branch3x3dbl_3", 96, 3, 1)],
        ["average", ("branch_pool", pool_channels, 1, 1)],
    ]


def _block_b() -> list[list[Step]]:
    return [
        [("branch3x3", 384, 3, 2)],
        [("branch3x3dbl_1", 64, 1, 1), ("branch3x3dbl_2", 96, 3, 1), ("branch3x3dbl_3", 96, 3, 2)],
        ["halving"],
    ]


def _block_c(channels: int) -> list[list[Step]]:
    row = (1, 7)
    column = (7, 1)
    double: list[Step] = [
        ("branch7x7dbl_1", channels, 1, 1),
        ("branch7x7dbl_2", channels, column, 1),
        ("branch7x7dbl_3", channels, row, 1),
        ("branch7x7dbl_4", channels, column, 1),
        ("branch7x7dbl_5", 192, row, 1),
    ]
    single: list[Step] = [
        ("branch7x7_1", channels, 1, 1),
        ("branch7x7_2", channels, row, 1),
        ("branch7x7_3", 192, column, 1),
    ]
    return [[("branch1x1", 192, 1, 1)], single, double, ["average", ("branch_pool", 192, 1, 1)]]


def _block_d() -> list[list[Step]]:
    long = [("branch7x7x3_1", 192, 1, 1), ("branch7x7x3_2", 192, (1, 7), 1), ("branch7x7x3_3", 192, (7, 1), 1)]
    return [
        [("branch3x3_1", 192, 1, 1), ("branch3x3_2", 320, 3, 2)],
        [*long, ("branch7x7x3_4", 192, 3, 2)],
        ["halving"],
    ]


def _block_e(pool: str) -> list[list[Step]]:
    def two(name: str) -> list[tuple]:
        return [(f"{name}a", 384, (1, 3), 1), (f"{name}b", 384, (3, 1), 1)]

    return [
        [("branch1x1", 320, 1, 1)],
        [("branch3x3_1", 384, 1, 1), two("branch3x3_2")],
        [("branch3x3dbl_1", 448, 1, 1), ("branch3x3dbl_2", 384, 3, 1), two("branch3x3dbl_3")],
        [pool, ("branch_pool", 192, 1, 1)],
    ]


# Name, channels that come in, branches.
_BLOCKS = (
    ("Mixed_5b", 192, _block_a(32)),
    ("Mixed_5c", 256, _block_a(64)),
    ("Mixed_5d", 288, _block_a(64)),
    ("Mixed_6a", 288, _block_b()),
    ("Mixed_6b", 768, _block_c(128)),
    ("Mixed_6c", 768, _block_c(160)),
    ("Mixed_6d", 768, _block_c(160)),
    ("Mixed_6e", 768, _block_c(192)),
    ("Mixed_7a", 768, _block_d()),
    ("Mixed_7b", 1280, _block_e("average")),
    ("Mixed_7c", 2048, _block_e("maximum")),
)


class _Convolution(nn.Module):
    """Convolution, batch norm by its running statistics, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel, stride: int = 1, same: bool = True):
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (0, 0)
        if same and stride == 1:
            padding = (height // 2, width // 2)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))  # (B, C, h, w)


class _Block(nn.Module):
    """Branches side by side, along the channels."""

    def __init__(self, in_channels: int, branches: Sequence[Sequence[Step]]):
        super().__init__()
        self.branches = branches
        for branch in branches:
            channels = in_channels
            for step in branch:
                if isinstance(step, str):
                    continue  # a pool has no weights
                for name, out_channels, kernel, stride in step if isinstance(step, list) else [step]:
                    self.add_module(name, _Convolution(channels, out_channels, kernel, stride))
                channels = out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = []
        for branch in self.branches:
            hidden_states = x
            for step in branch:
                hidden_states = self._step(step, hidden_states)
            outputs.append(hidden_states)
        return torch.cat(outputs, dim=1)  # (B, C, h, w)

    def _step(self, step: Step, hidden_states: torch.Tensor) -> torch.Tensor:
        if step == "average":
            return F.avg_pool2d(hidden_states, 3, stride=1, padding=1, count_include_pad=False)
        if step == "maximum":
            return F.max_pool2d(hidden_states, 3, stride=1, padding=1)
        if step == "halving":
            return F.max_pool2d(hidden_states, 3, stride=2)
        if isinstance(step, list):
            return torch.cat([self._step(each, hidden_states) for each in step], dim=1)
        return self.get_submodule(step[0])(hidden_states)


class InceptionV3(nn.Module):
    """8-bit images -> the features that the Frechet inception distance is of. Frozen, in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Convolution(32, 32, 3, same=False)
        self.Conv2d_2b_3x3 = _Convolution(32, 64, 3)
        self.Conv2d_3b_1x1 = _Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = _Convolution(80, 192, 3, same=False)
        for name, in_channels, branches in _BLOCKS:
            self.add_module(name, _Block(in_channels, branches))
        self.fc = nn.Linear(NUM_FEATURES, NUM_CLASSES)  # in the file, and not used
        self.eval().requires_grad_(False)

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> "InceptionV3":
        """The network with the weights of a file.

        Args:
            path (`str` or `os.PathLike`): `weights-inception-2015-12-05-6726825d.pth` of torch-fidelity. It is read
                without running any code that may be in it.

        Raises:
            ValueError: If it is another file.
        """
        with torch.device("meta"):
            network = cls()
        try:
            network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), assign=True)
        except Exception as error:  # of torch, of pickle or of zip files
            raise ValueError(f"`{path}` holds no weights of this Inception v3: {str(error):.300}") from error
        return network.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features before the last layer.

        Args:
            images (`torch.ByteTensor` of shape `(batch_size, 3, height, width)`): 0 to 255.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, 2048)`.
        """
        x = (resize_bilinear(images.float(), INPUT_SIZE) - 128.0) / 128.0  # (B, 3, 299, 299)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  # (B, 64, 147, 147)
        x = F.max_pool2d(x, 3, stride=2)  # (B, 64, 73, 73)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))  # (B, 192, 71, 71)
        x = F.max_pool2d(x, 3, stride=2)  # (B, 192, 35, 35)
        for name, _, _ in _BLOCKS:
            x = self.get_submodule(name)(x)  # (B, C, h, w)
        return x.mean(dim=(2, 3))  # (B, 2048)


def resize_bilinear(images: torch.Tensor, size: int) -> torch.Tensor:
    """Resize as TensorFlow 1 did: pixel i of the result is at `i * old / new`, no filter, no half pixels.

    Args:
        images (`torch.FloatTensor` of shape `(batch_size, channels, height, width)`): Any values.
        size (`int`): New height and width.

    Returns:
        `torch.FloatTensor` of shape `(batch_size, channels, size, size)`.
    """
    for dim in (3, 2):  # along the rows first
        place = torch.arange(size, device=images.device) * (images.size(dim) / size)
        low = place.long()
        high = (low + 1).clamp(max=images.size(dim) - 1)
        share = (place - low).view(-1, *[1] * (3 - dim))  # (size) or (size, 1)
        first = images.index_select(dim, low)
        second = images.index_select(dim, high)
        images = first + (second - first) * share
    return images
