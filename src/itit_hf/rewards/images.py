# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Rewards for images: a module, `reward(pixel_values, texts)`, with a gradient to the pixels."""

from collections.abc import Sequence

import torch

from .dual_encoder import DualEncoderScorer


class ClipImageReward(torch.nn.Module):
    """How well an image fits its text, by a dual encoder, with a gradient to the pixels (UMT).

    Args:
        scorer ([`DualEncoderScorer`]): Frozen; never report a figure by the same one.
        template (`str`, *optional*, defaults to `"{}"`): Sentence around a text; UMT's is `"A photo depicts {}"`.

    Raises:
        ValueError: If the template has no place for the text.
    """

    def __init__(self, scorer: DualEncoderScorer, template: str = "{}"):
        super().__init__()
        if "{}" not in template:
            raise ValueError(f"`template` must hold {{}}, where the text goes, got {template!r}")
        self.scorer = scorer
        self.template = template

    def forward(self, pixel_values: torch.Tensor, texts: Sequence[str]) -> torch.Tensor:
        """Score images.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, height, width)`): In [-1, 1].
            texts (`Sequence[str]`): What each is to show.

        Returns:
            `torch.FloatTensor` of shape `(batch_size,)`: `logit_scale * cosine + logit_bias`.
        """
        images = self.scorer.embed_pixels(0.5 * pixel_values.float() + 0.5)  # (B, D)
        embeds = self.scorer.embed_texts([self.template.format(text) for text in texts])  # (B, D)
        return self.scorer.scaled((images * embeds).sum(dim=-1))
