# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""A second judge of generated images: a small Transformer that reads a scene as a set of objects.

It shares nothing with [`SceneClassifier`] but what it answers: no convolution over the grid finds a
centre here, two learned tokens look at the whole image and say each one object or none (Carion et al., 2020).
"""

from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from torch import nn

from .categories import CATEGORIES, COLOURS
from .scenes import BACKGROUNDS
from .seen_scenes import INPUT_SIZE, SceneReader, SeenObject, SeenScene, in_order

PATCH = 8  # pixels of a token: three convolutions of stride 2


@dataclass
class ObjectReading(BaseOutput):
    """Output of [`SceneTransformer`], for each of its object tokens.

    Args:
        category_logits (`torch.FloatTensor` of shape `(batch_size, num_objects, num_categories + 1)`):
            What it is; the last is "no object".
        colour_logits (`torch.FloatTensor` of shape `(batch_size, num_objects, num_colours)`): Its colour.
        boxes (`torch.FloatTensor` of shape `(batch_size, num_objects, 4)`):
            Across and down to its centre, width and height, in sides of the image.
        background_logits (`torch.FloatTensor` of shape `(batch_size, num_backgrounds)`): Which background.
        patch_logits (`torch.FloatTensor` of shape `(batch_size, 64, num_categories + 1)`):
            What each patch belongs to, row by row; a help in training that nothing reads afterwards.
    """

    category_logits: torch.Tensor
    colour_logits: torch.Tensor
    boxes: torch.Tensor
    background_logits: torch.Tensor
    patch_logits: torch.Tensor


class SceneTransformer(SceneReader, ModelMixin, ConfigMixin):
    r"""Reads the objects of an image with a Transformer over its patches and one token for each object.

    Trained on renders alone (`utils/train_scene_transformer.py`), whose answers are known.

    ```python
    >>> from itit_hf.emoji_scenes.scene_transformer import SceneTransformer

    >>> judge = SceneTransformer.from_pretrained("checkpoints/emoji-scenes-transformer")
    >>> [(item.colour, item.category) for item in judge.read([image])[0].objects]
    [('red', 'bus')]
    ```

    Args:
        categories (`tuple[str, ...]`, *optional*): Things it can tell apart; the committed table by default.
        colours (`tuple[str, ...]`, *optional*): Colours.
        backgrounds (`tuple[str, ...]`, *optional*): Backgrounds.
        hidden_size (`int`, defaults to 128): Width.
        num_hidden_layers (`int`, defaults to 3): Blocks.
        num_attention_heads (`int`, defaults to 4): Heads of each.
        num_objects (`int`, defaults to 2): Object tokens: the most objects that it can see.
    """

    @register_to_config
    def __init__(
        self,
        categories: tuple[str, ...] = tuple(CATEGORIES),
        colours: tuple[str, ...] = tuple(COLOURS),
        backgrounds: tuple[str, ...] = tuple(BACKGROUNDS),
        hidden_size: int = 128,
        num_hidden_layers: int = 3,
        num_attention_heads: int = 4,
        num_objects: int = 2,
    ):
        super().__init__()
        self.patches = nn.Sequential(
            nn.Conv2d(3, hidden_size // 4, kernel_size=3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(hidden_size // 4, hidden_size // 2, kernel_size=3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(hidden_size // 2, hidden_size, kernel_size=3, stride=2, padding=1),
        )
        # The first token reads the background, each of the others one object; the patches follow.
        self.tokens = nn.Parameter(0.02 * torch.randn(1 + num_objects, hidden_size))
        self.positions = nn.Parameter(0.02 * torch.randn((INPUT_SIZE // PATCH) ** 2, hidden_size))
        layer = nn.TransformerEncoderLayer(
            hidden_size,
            num_attention_heads,
            dim_feedforward=4 * hidden_size,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        norm = nn.LayerNorm(hidden_size)
        self.encoder = nn.TransformerEncoder(layer, num_hidden_layers, norm, enable_nested_tensor=False)
        self.category_head = nn.Linear(hidden_size, len(categories) + 1)
        self.colour_head = nn.Linear(hidden_size, len(colours))
        self.box_head = nn.Linear(hidden_size, 4)
        self.background_head = nn.Linear(hidden_size, len(backgrounds))
        self.patch_head = nn.Linear(hidden_size, len(categories) + 1)

    def forward(self, pixel_values: torch.Tensor) -> ObjectReading:
        """Read images.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, 64, 64)`): Pixels in [-1, 1].

        Returns:
            [`ObjectReading`].
        """
        patches = self.patches(pixel_values).flatten(2).transpose(1, 2) + self.positions  # (B, 64, C)
        tokens = self.tokens.expand(len(patches), -1, -1)  # (B, 1 + K, C)
        hidden_states = self.encoder(torch.cat([tokens, patches], dim=1))  # (B, 1 + K + 64, C)
        objects = hidden_states[:, 1 : self.tokens.size(0)]  # (B, K, C)
        return ObjectReading(
            category_logits=self.category_head(objects),
            colour_logits=self.colour_head(objects),
            boxes=self.box_head(objects).sigmoid(),
            background_logits=self.background_head(hidden_states[:, 0]),
            patch_logits=self.patch_head(hidden_states[:, self.tokens.size(0) :]),
        )

    def _scenes(self, reading: ObjectReading, resolutions: list[int]) -> list[SeenScene]:
        return [self._scene(reading, number, side) for number, side in enumerate(resolutions)]

    def _scene(self, reading: ObjectReading, number: int, side: int) -> SeenScene:
        categories = reading.category_logits[number].argmax(dim=1).tolist()
        colours = reading.colour_logits[number].argmax(dim=1).tolist()
        boxes = (side * reading.boxes[number]).tolist()
        objects = []
        for category, colour, (across, down, width, height) in zip(categories, colours, boxes, strict=True):
            if category < len(self.config.categories):
                box = (across - width / 2, down - height / 2, width, height)
                objects.append(SeenObject(self.config.categories[category], self.config.colours[colour], box))
        background = self.config.backgrounds[int(reading.background_logits[number].argmax())]
        return SeenScene(side, background, in_order(objects))
