# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""An image as a judge reads it, in the terms of a scene, and the pixels that a judge takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from .scenes import Boxed

INPUT_SIZE = 64


@dataclass(frozen=True)
class SeenObject(Boxed):
    """One object as read; `box` is (left, top, width, height) in pixels, not rounded."""

    category: str
    colour: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class SeenScene:
    """An image as read, with the fields of a `Scene` that a caption can speak of.

    Two objects stand in the order of their relation (left before right, upper before lower), more from left to right.
    """

    resolution: int
    background: str
    objects: tuple[SeenObject, ...]

    @property
    def height(self) -> int:
        """In pixels; images are square."""
        return self.resolution

    @property
    def width(self) -> int:
        """In pixels."""
        return self.resolution

    @property
    def relation(self) -> str | None:
        """ "left of" or "above": the direction in which the boxes of two objects are further apart."""
        if len(self.objects) != 2:
            return None
        return _relation(*(item.box for item in self.objects))


def _relation(box, other) -> str:
    across, down = (
        max(other[side] - box[side] - box[side + 2], box[side] - other[side] - other[side + 2]) for side in (0, 1)
    )
    return "left of" if across >= down else "above"


def in_order(objects: list[SeenObject]) -> tuple[SeenObject, ...]:
    """Two objects in the order of their relation, others from left to right."""
    down = len(objects) == 2 and _relation(*(item.box for item in objects)) == "above"
    return tuple(sorted(objects, key=lambda item: item.centre[down]))


def to_pixel_values(images: np.ndarray) -> torch.Tensor:
    """What the network takes.

    Args:
        images (`np.ndarray` of shape `(batch_size, height, width, 3)`): uint8 RGB.

    Returns:
        `torch.FloatTensor` of shape `(batch_size, 3, height, width)` in [-1, 1].
    """
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def to_input(images: Sequence[Image.Image | np.ndarray]) -> tuple[torch.Tensor, list[int]]:
    """Images at the size that judges read, and the side of each as it was given.

    Args:
        images (`Sequence` of `PIL.Image.Image`, or of `np.ndarray` of shape `(height, width, 3)` in uint8): Square.

    Returns:
        `tuple[torch.FloatTensor, list[int]]`: Pixels of shape `(num_images, 3, 64, 64)` in [-1, 1]; sides in pixels.

    Raises:
        ValueError: If an image is not square, or an array is not of that shape and type.
    """
    squares = [_rgb(image) for image in images]
    pixels = np.stack([np.asarray(_resized(image)) for image in squares])
    return to_pixel_values(pixels), [image.width for image in squares]


class SceneReader:
    """What both judges have in common: a network whose answers become scenes.

    Its `forward` takes pixels of shape `(batch_size, 3, 64, 64)` in [-1, 1], `_scenes` makes scenes of the answers.
    """

    @torch.no_grad()
    def read(self: Any, images: Sequence[Image.Image | np.ndarray], batch_size: int = 100) -> list[SeenScene]:
        """Read what is in images. Puts the network into evaluation mode.

        Args:
            images (`Sequence` of `PIL.Image.Image`, or of `np.ndarray` of shape `(height, width, 3)` in uint8):
                Square images of any size; they are read at 64 x 64 pixels.
            batch_size (`int`, *optional*, defaults to 100): Images per pass.

        Returns:
            `list[SeenScene]`: One per image, its boxes in pixels of that image.

        Raises:
            ValueError: If an image is not square, or an array is not of that shape and type.
        """
        self.eval()
        scenes = []
        for start in range(0, len(images), batch_size):
            pixel_values, sides = to_input(images[start : start + batch_size])
            scenes += self._scenes(self(pixel_values.to(self.device)), sides)
        return scenes


def _rgb(image: Image.Image | np.ndarray) -> Image.Image:
    if not isinstance(image, Image.Image):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            shape = f"{image.dtype} of shape {image.shape}"
            raise ValueError(f"arrays in `images` must be uint8 of shape (height, width, 3), got {shape}")
        image = Image.fromarray(image)
    if image.width != image.height:
        raise ValueError(f"`images` must be square, got {image.width} x {image.height} pixels")
    return image.convert("RGB")


def _resized(image: Image.Image) -> Image.Image:
    size = (INPUT_SIZE, INPUT_SIZE)
    return image if image.size == size else image.resize(size, Image.Resampling.BOX)
