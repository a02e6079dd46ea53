# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What is in an image of the emoji scenes, as a small network reads it: the instrument that judges generated images.

It answers in the terms of a scene (categories, colours, boxes, background, relation), so that the rule that judges
captions judges images too.
"""

from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from torch import nn
from torch.nn import functional as F

from .categories import CATEGORIES, COLOURS
from .scenes import BACKGROUNDS
from .seen_scenes import INPUT_SIZE, SceneReader, SeenObject, SeenScene, in_order

CELL = 8  # pixels of the grid that categories, colours and boxes are read on
POINT = 4  # pixels of the finer grid that centres are found on
_POINTS = CELL // POINT
_NEIGHBOURHOOD = 5  # points to a side within which one object has one centre: boxes do not touch, so two are apart


@dataclass
class SceneReading(BaseOutput):
    """Output of [`SceneClassifier`], on a grid of cells of 8 pixels and one of points of 4 pixels.

    Args:
        centre_logits (`torch.FloatTensor` of shape `(batch_size, 16, 16)`): Whether a centre lies in a point.
        category_logits (`torch.FloatTensor` of shape `(batch_size, num_categories, 8, 8)`):
            What is centred near a cell.
        colour_logits (`torch.FloatTensor` of shape `(batch_size, num_colours, 8, 8)`): Its colour.
        boxes (`torch.FloatTensor` of shape `(batch_size, 4, 8, 8)`):
            From the middle of the cell to the centre, across and down, in cells; logarithm of width and height in
            cells.
        background_logits (`torch.FloatTensor` of shape `(batch_size, num_backgrounds)`): Which background.
    """

    centre_logits: torch.Tensor
    category_logits: torch.Tensor
    colour_logits: torch.Tensor
    boxes: torch.Tensor
    background_logits: torch.Tensor


def _convolution(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class _Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.first = _convolution(channels, channels)
        self.second = _convolution(channels, channels)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states + self.second(self.first(hidden_states))


class SceneClassifier(SceneReader, ModelMixin, ConfigMixin):
    r"""Finds the objects of an image by their centres, and reads the category, colour and box of each.

    Trained on renders alone (`utils/train_scene_classifier.py`), whose answers are known.

    ```python
    >>> from itit_hf.emoji_scenes.classifier import SceneClassifier

    >>> classifier = SceneClassifier.from_pretrained("checkpoints/emoji-scenes-classifier")
    >>> scene = classifier.read([image])[0]
    >>> [(item.colour, item.category) for item in scene.objects]
    [('red', 'bus')]
    ```

    Args:
        categories (`tuple[str, ...]`, *optional*): Things it can tell apart; the committed table by default.
        colours (`tuple[str, ...]`, *optional*): Colours.
        backgrounds (`tuple[str, ...]`, *optional*): Backgrounds.
        block_out_channels (`tuple[int, int, int]`, defaults to `(32, 48, 88)`):
            Widths on the grids of 2, 4 and 8 pixels.
        centre_threshold (`float`, defaults to 0.4): Score of a centre, from 0 to 1, above which it is an object.
    """

    @register_to_config
    def __init__(
        self,
        categories: tuple[str, ...] = tuple(CATEGORIES),
        colours: tuple[str, ...] = tuple(COLOURS),
        backgrounds: tuple[str, ...] = tuple(BACKGROUNDS),
        block_out_channels: tuple[int, int, int] = (32, 48, 88),
        centre_threshold: float = 0.4,
    ):
        super().__init__()
        first, second, third = block_out_channels
        self.body = nn.Sequential(
            nn.PixelUnshuffle(2),
            _convolution(12, first),
            _convolution(first, second, stride=2),
            _Residual(second),
            _convolution(second, third, stride=2),
            _Residual(third),
            _Residual(third),
        )
        self.head_channels = (
            _POINTS**2,
            len(categories),
            len(colours),
            4,
        )  # of centres, categories, colours and boxes
        self.head = nn.Conv2d(third, sum(self.head_channels), kernel_size=1)
        self.background_head = nn.Linear(third, len(backgrounds))
        nn.init.constant_(self.head.bias[: _POINTS**2], -4.0)  # centres are rare

    def forward(self, pixel_values: torch.Tensor) -> SceneReading:
        """Read images.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, 64, 64)`): Pixels in [-1, 1].

        Returns:
            [`SceneReading`].
        """
        hidden_states = self.body(pixel_values)  # (B, C, 8, 8)
        centres, categories, colours, boxes = self.head(hidden_states).split(self.head_channels, dim=1)
        return SceneReading(
            centre_logits=F.pixel_shuffle(centres, _POINTS)[:, 0],  # (B, 16, 16)
            category_logits=categories,
            colour_logits=colours,
            boxes=boxes,
            background_logits=self.background_head(hidden_states.mean(dim=(2, 3))),
        )

    def _scenes(self, reading: SceneReading, resolutions: list[int]) -> list[SeenScene]:
        peaks = F.max_pool2d(reading.centre_logits[:, None], _NEIGHBOURHOOD, 1, _NEIGHBOURHOOD // 2)[:, 0]
        is_centre = (reading.centre_logits == peaks) & (reading.centre_logits.sigmoid() > self.config.centre_threshold)
        number, point_down, point_across = is_centre.nonzero(as_tuple=True)
        down = point_down // _POINTS  # row of the cell
        across = point_across // _POINTS
        categories = reading.category_logits[number, :, down, across].argmax(dim=1).tolist()
        colours = reading.colour_logits[number, :, down, across].argmax(dim=1).tolist()
        boxes = cell_boxes(reading.boxes[number, :, down, across], torch.stack([across, down], dim=1)).tolist()
        objects = [[] for _ in resolutions]
        for n, category, colour, box in zip(number.tolist(), categories, colours, boxes, strict=True):
            scaled = tuple(length * resolutions[n] / INPUT_SIZE for length in box)
            objects[n].append(SeenObject(self.config.categories[category], self.config.colours[colour], scaled))
        backgrounds = [self.config.backgrounds[n] for n in reading.background_logits.argmax(dim=1).tolist()]
        return [
            SeenScene(resolution, background, in_order(items))
            for resolution, background, items in zip(resolutions, backgrounds, objects, strict=True)
        ]


def cell_boxes(boxes: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """Boxes in pixels from what the network reads in a cell.

    Args:
        boxes (`torch.FloatTensor` of shape `(num_objects, 4)`): As in [`SceneReading`].
        cells (`torch.LongTensor` of shape `(num_objects, 2)`): Column and row of the cell.

    Returns:
        `torch.FloatTensor` of shape `(num_objects, 4)`: left, top, width and height.
    """
    size = boxes[:, 2:].exp() * CELL
    centre = (cells + 0.5 + boxes[:, :2]) * CELL
    return torch.cat([centre - size / 2, size], dim=1)
