# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Networks that judge generated images: what they have in common, and the door to either."""

from collections.abc import Sequence
from typing import Any, Protocol

from .classifier import SceneClassifier
from .scene_transformer import SceneTransformer
from .seen_scenes import SeenScene

# Those of this repository; figures are told by each.
COMMITTED = ("checkpoints/emoji-scenes-classifier", "checkpoints/emoji-scenes-transformer")
JUDGES = {"SceneClassifier": SceneClassifier, "SceneTransformer": SceneTransformer}


class SceneJudge(Protocol):
    """Reads images in the terms of a scene. `config` names the `categories` and `colours` that it can tell apart."""

    config: Any

    def read(self, images: Sequence, batch_size: int = 100) -> list[SeenScene]:
        """What is in each image."""


def open_judge(folder: str) -> SceneClassifier | SceneTransformer:
    """The judge of a folder or Hub id, of the class that its configuration names.

    Args:
        folder (`str`): Folder, or id on the Hub.

    Returns:
        [`SceneClassifier`] or [`SceneTransformer`].

    Raises:
        ValueError: If it is neither.
    """
    name = SceneClassifier.load_config(folder).get("_class_name")
    if name not in JUDGES:
        raise ValueError(f"`folder` must hold one of {', '.join(JUDGES)}, got {name} in {folder}")
    return JUDGES[name].from_pretrained(folder)
