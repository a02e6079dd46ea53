# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""How true captions of emoji scenes are: exact, as the grammar reads them back."""

from collections.abc import Sequence

from .grammar import describes, parse
from .scenes import Scene


def caption_accuracy(captions: Sequence[str], scenes: Sequence[Scene]) -> dict[str, float]:
    """Shares of captions that name what is in the picture.

    Args:
        captions (`Sequence[str]`): What a model said, one per scene.
        scenes (`Sequence[Scene]`): What is there.

    Returns:
        `dict[str, float]`: `grammatical` (the grammar can read it), `kind`, `colour` and `both` (those of every object
        are right), `true` (so is all else it says: size, position, background, relation).

    Raises:
        ValueError: If there are none, or not as many captions as scenes.
    """
    if not captions or len(captions) != len(scenes):
        raise ValueError(f"wanted one of `captions` per scene, at least one, got {len(captions)} and {len(scenes)}")
    counts = dict.fromkeys(("grammatical", "kind", "colour", "both", "true"), 0)
    for caption, scene in zip(captions, scenes, strict=True):
        parsed = parse(caption)
        if parsed is None:
            continue
        said, there = ([(item.kind, item.colour) for item in side.objects] for side in (parsed, scene))
        counts["grammatical"] += 1
        counts["kind"] += sorted(kind for kind, _ in said) == sorted(kind for kind, _ in there)
        counts["colour"] += sorted(colour for _, colour in said) == sorted(colour for _, colour in there)
        counts["both"] += sorted(said) == sorted(there)
        counts["true"] += describes(parsed, scene)
    return {name: count / len(captions) for name, count in counts.items()}
