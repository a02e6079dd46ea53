# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Recolouring and scaling of one drawing."""

from functools import lru_cache

import numpy as np
from PIL import Image

from .art import render_category
from .categories import COLOURS, SPARED_HUES

_HUE_WINDOW = 45.0  # degrees to either side of the dominant hue
_SHADING_KEPT = 0.75
_MIN_COVERAGE = 1 / 3  # of the opaque pixels; below it every pixel that is not dark takes the colour
_DARK = 0.17  # HSL lightness of outlines, tyres and eyes, which keep their colour
_MIN_CHROMA = 0.12  # max - min of RGB; below it the hue of a pixel is noise
_CACHE_BYTES = 256 * 2**20


def _hue_chroma_lightness(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hue in degrees, chroma and HSL lightness in [0, 1] of float `rgb` of shape `(..., 3)`."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    high = rgb.max(axis=-1)
    low = rgb.min(axis=-1)
    chroma = high - low
    safe = np.where(chroma == 0, 1, chroma)
    hue = np.select(
        [high == red, high == green],
        [(green - blue) / safe % 6, (blue - red) / safe + 2],
        (red - green) / safe + 4,
    )
    return 60 * hue, chroma, (high + low) / 2


def _paint_mask(rgb: np.ndarray, opaque: np.ndarray, spared_hue: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Pixels that take the new colour (near the dominant hue, or all that are not dark), and the lightness of all."""
    hue, chroma, lightness = _hue_chroma_lightness(rgb)
    light = opaque & (lightness > _DARK)
    coloured = light & (chroma > _MIN_CHROMA)
    centre = _dominant_hue(hue[coloured], chroma[coloured]) if spared_hue is None else spared_hue
    near = coloured & (np.abs((hue - centre + 180) % 360 - 180) <= _HUE_WINDOW)
    if spared_hue is not None:
        return light & ~near, lightness
    return near if near.sum() >= _MIN_COVERAGE * opaque.sum() else light, lightness


def _dominant_hue(hue: np.ndarray, chroma: np.ndarray) -> float:
    """Centre of the 30 degrees that hold the most chroma."""
    histogram = np.bincount((hue // 10).astype(int) % 36, weights=chroma, minlength=36)
    return 10 * (histogram + np.roll(histogram, 1) + np.roll(histogram, -1)).argmax() + 5


def recolour(drawing: np.ndarray, colour: str, spared_hue: float | None = None) -> np.ndarray:
    """Move the dominant hue of a drawing to `colour`, in HSL, keeping 75% of its shading.

    Pixels within 45 degrees of the dominant hue change; where they are less than a third of the drawing (many hues, or
    grey), every pixel that is not dark does. The mid-tone of what changes becomes the mid-tone of the colour.

    Args:
        drawing (`np.ndarray` of shape `(height, width, 4)`): uint8 RGBA.
        colour (`str`): A key of `COLOURS`.
        spared_hue (`float`, *optional*): In degrees. If given, this hue stays and all else that is not dark changes.

    Returns:
        `np.ndarray` of the same shape and type.

    Raises:
        `ValueError`: If the colour is unknown.
    """
    if colour not in COLOURS:
        raise ValueError(f"`colour` takes {', '.join(COLOURS)}; got {colour!r}")
    mask, lightness = _paint_mask(drawing[..., :3] / 255.0, drawing[..., 3] > 127, spared_hue)
    result = drawing.copy()
    if not mask.any():
        return result
    new_hue, saturation, new_lightness = COLOURS[colour]
    shade = np.clip(new_lightness + _SHADING_KEPT * (lightness[mask] - np.median(lightness[mask])), 0.06, 0.94)
    sector = (np.array([0, 8, 4]) + new_hue / 30) % 12  # HSL to RGB in closed form, one row per channel
    weight = -np.clip(np.minimum(sector - 3, 9 - sector), -1, 1)
    painted = shade[:, None] + (saturation * np.minimum(shade, 1 - shade))[:, None] * weight
    result[mask, :3] = np.round(255 * painted).astype(np.uint8)
    return result


class SpriteSheet:
    """Drawings of a world, rendered once, recoloured once and scaled once per size.

    `sprite(style, category, colour, size)` gives the premultiplied colours times 255 and 255 minus alpha, both uint16,
    of shapes (height, width, 3) and (height, width, 1); the longer side is `size` pixels.

    Args:
        resolution (`int`): Longer side of the images the sprites go into, in pixels.
    """

    def __init__(self, resolution: int):
        self._master_size = max(resolution, 192)  # sharper than any size it is scaled down to
        self._drawing = lru_cache(maxsize=None)(self._render)
        self._painted = lru_cache(maxsize=_CACHE_BYTES // (4 * self._master_size**2))(self._paint)
        self.sprite = lru_cache(maxsize=_CACHE_BYTES // (5 * resolution**2))(self._scale)

    def _render(self, style: str, category: str) -> np.ndarray:
        return render_category(style, category, self._master_size)

    def _paint(self, style: str, category: str, colour: str) -> np.ndarray:
        return recolour(self._drawing(style, category), colour, SPARED_HUES.get((style, category)))

    def box(self, style: str, category: str, size: int) -> tuple[int, int]:
        """Width and height in pixels of a drawing whose longer side is `size`."""
        height, width = self._drawing(style, category).shape[:2]
        return max(1, round(width * size / max(width, height))), max(1, round(height * size / max(width, height)))

    def _scale(self, style: str, category: str, colour: str, size: int) -> tuple[np.ndarray, np.ndarray]:
        painted = Image.fromarray(self._painted(style, category, colour))
        master = painted.convert("RGBa")  # scale premultiplied: no halo
        scaled = np.asarray(master.resize(self.box(style, category, size), Image.Resampling.BOX)).astype(np.uint16)
        return scaled[..., :3] * 255, 255 - scaled[..., 3:]
