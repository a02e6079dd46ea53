# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What no training stream may contain, by rules that depend on names and pixels alone.

The rules know nothing of seeds, counts or configs: two worlds built apart agree on what is held out.
"""

import hashlib
import itertools

import numpy as np

from .scenes import Scene

_PAIR_SALT = "pair-411"  # chosen so that each colour loses two or three of the first 24 categories
_RELATION_SALT = "relation"
_HELD_OUT_ONE_IN = 10
_VALIDATION_ONE_IN = 20
TRAINING_STREAMS = ("paired", "image", "text")


def _keyed(*parts: str) -> int:
    return int.from_bytes(hashlib.blake2b("|".join(parts).encode(), digest_size=8).digest(), "big")


def is_held_out_pair(category: str, colour: str) -> bool:
    """Whether a category in a colour, about one in ten, is kept from every training stream, image and text."""
    return _keyed(_PAIR_SALT, category, colour) % _HELD_OUT_ONE_IN == 0


def is_held_out_relation(relation: str, first: str, second: str) -> bool:
    """Whether the category `first` in a relation ("left of" or "above") to `second`, about one in ten, is kept out."""
    return _keyed(_RELATION_SALT, relation, first, second) % _HELD_OUT_ONE_IN == 0


def check_held_out_pairs(categories: tuple[str, ...], colours: tuple[str, ...]) -> list[tuple[str, str]]:
    """The held-out pairs of a world.

    Returns:
        `list[tuple[str, str]]`: (category, colour).

    Raises:
        `ValueError`: If a category or a colour would never be seen in training.
    """
    held_out = [pair for pair in itertools.product(categories, colours) if is_held_out_pair(*pair)]
    for name, position, others in [(n, 0, colours) for n in categories] + [(n, 1, categories) for n in colours]:
        if sum(pair[position] == name for pair in held_out) == len(others):
            raise ValueError(f"{name!r} is held out with all of {', '.join(others)}: give more categories and colours")
    return held_out


def held_out_split(scene: Scene) -> str | None:
    """The split that a scene's content sends it to: "heldout", "heldout_relations", or `None` for neither."""
    if any(is_held_out_pair(item.category, item.colour) for item in scene.objects):
        return "heldout"
    if scene.relation:
        first, second = (item.category for item in scene.objects)
        if is_held_out_relation(scene.relation, first, second):
            return "heldout_relations"
    return None


def scene_hash(pixels: np.ndarray) -> str:
    """First 128 bits of the SHA-256 of the pixels and their shape, in hex: equal for equal images."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()[:32]


def is_validation(pixel_hash: str) -> bool:
    """Whether an image, one in twenty, belongs to validation: so a repeated scene is never on both sides."""
    return int(pixel_hash[:16], 16) % _VALIDATION_ONE_IN == 0


def training_stream(pixel_hash: str, counts: dict[str, int]) -> str:
    """The one training stream that an image may enter, in proportion to the rows wanted of each.

    Args:
        pixel_hash (`str`): From `scene_hash`.
        counts (`dict[str, int]`): Rows wanted of "paired", "image" and "text"; not all zero.

    Returns:
        `str`: The name of the stream: equal images never stand in two streams.
    """
    place = int(pixel_hash[16:], 16) % sum(counts[name] for name in TRAINING_STREAMS)
    for name in TRAINING_STREAMS:
        if place < counts[name]:
            break
        place -= counts[name]
    return name
