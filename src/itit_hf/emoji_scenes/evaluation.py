# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""How true captions and images of emoji scenes are: exact, by one rule for both directions.

A caption is read by the grammar and held against the scene its image was rendered from. An image is read by the
classifier, and the prompt that asked for it is held against what was read.
"""

import math
from collections.abc import Sequence

import torch

from .grammar import ParsedCaption, is_true_of, parse
from .judges import SceneJudge
from .scenes import Scene
from .seen_scenes import SeenScene

_TRUTHS = ("category", "colour", "both", "true")
_NORMAL_QUANTILE = 1.959964  # of 97.5%


def _truths(caption: ParsedCaption, scene: Scene | SeenScene) -> tuple[bool, bool, bool, bool]:
    """Whether the categories, the colours, both together, and all that a caption tells are right."""
    named, there = ([(item.category, item.colour) for item in side.objects] for side in (caption, scene))
    category, colour = (sorted(pair[n] for pair in named) == sorted(pair[n] for pair in there) for n in (0, 1))
    both = sorted(named) == sorted(there)
    return category, colour, both, both and is_true_of(caption, scene)  # type: ignore[arg-type]


def caption_accuracy(captions: Sequence[str], scenes: Sequence[Scene], language: str = "en") -> dict[str, float]:
    """Shares of captions that name what is in the image.

    Args:
        captions (`Sequence[str]`): Those of a model, one per scene.
        scenes (`Sequence[Scene]`): What is there.
        language (`str`, *optional*, defaults to `"en"`): What the captions are in: the `language` of the world's
            [`SceneConfig`].

    Returns:
        `dict[str, float]`: `grammatical` (the grammar can read it), `category`, `colour` and `both` (those of every
        object are right), `true` (so is all else it tells: size, position, background, relation).

    Raises:
        ValueError: If there are none, not as many captions as scenes, or no such language.
    """
    if not captions or len(captions) != len(scenes):
        raise ValueError(f"wanted one of `captions` per scene, at least one, got {len(captions)} and {len(scenes)}")
    counts = dict.fromkeys(("grammatical", *_TRUTHS), 0)
    for caption, scene in zip(captions, scenes, strict=True):
        parsed = parse(caption, language=language)
        if parsed is None:
            continue
        counts["grammatical"] += 1
        for name, right in zip(_TRUTHS, _truths(parsed, scene), strict=True):
            counts[name] += right
    return {name: count / len(captions) for name, count in counts.items()}


def prompt_accuracy(
    images: Sequence, prompts: Sequence[str], classifier: SceneJudge, language: str = "en"
) -> dict[str, float]:
    """Shares of images that show what was asked for.

    Args:
        images (`Sequence` of `PIL.Image.Image`, or of `np.ndarray` of shape `(height, width, 3)` in uint8):
            What a model generated, one per prompt.
        prompts (`Sequence[str]`): What was asked for, in sentences of the grammar.
        classifier ([`SceneJudge`]): Reads the images. Its own errors count as theirs: give its figures on true
            images beside those on generated ones.
        language (`str`, *optional*, defaults to `"en"`): What the prompts are in; the classifier knows none.

    Returns:
        `dict[str, float]`: `number` (as many objects as asked for), `category`, `colour` and `both` (those of every
        object are as asked), `true` (so is all else the prompt tells: size, position, background, relation).

    Raises:
        ValueError: If there are none, not as many images as prompts, or the grammar cannot read a prompt.
    """
    if not prompts or len(images) != len(prompts):
        raise ValueError(f"wanted one of `images` per prompt, at least one, got {len(images)} and {len(prompts)}")
    counts = dict.fromkeys(("number", *_TRUTHS), 0)
    for scene, prompt in zip(classifier.read(images), prompts, strict=True):
        asked = parse(prompt, tuple(classifier.config.categories), tuple(classifier.config.colours), language)
        if asked is None:
            raise ValueError(f"`prompts` must be sentences of the grammar, got {prompt!r}")
        counts["number"] += len(scene.objects) == len(asked.objects)
        for name, right in zip(_TRUTHS, _truths(asked, scene), strict=True):
            counts[name] += right
    return {name: count / len(prompts) for name, count in counts.items()}


def with_objects(rows, num_objects: int):
    """Rows whose scene has so many things.

    Args:
        rows (`datasets.Dataset`): Of the emoji scenes.
        num_objects (`int`): How many.

    Returns:
        `datasets.Dataset`: Those rows, in their order.
    """
    counts = [len(Scene.from_json(text).objects) for text in rows["scene"]]
    return rows.select([i for i, count in enumerate(counts) if count == num_objects])


def confidence_interval(share: float, count: int) -> tuple[float, float]:
    """Where the share in an endless sample lies with a confidence of 95% (Wilson, 1927), honest near 0 and 1 too.

    Args:
        share (`float`): Share found, from 0 to 1.
        count (`int`): Size of the sample.

    Returns:
        `tuple[float, float]`: Lower and upper bound.

    Raises:
        ValueError: If the share is no share or the sample is empty.
    """
    if not 0 <= share <= 1 or count < 1:
        raise ValueError(f"`share` must be from 0 to 1 and `count` at least 1, got {share} and {count}")
    squared = _NORMAL_QUANTILE**2 / count
    middle = (share + squared / 2) / (1 + squared)
    reach = math.sqrt(squared * (share * (1 - share) + squared / 4)) / (1 + squared)
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


def copied_shares(
    image_token_ids: torch.Tensor, training_token_ids: torch.Tensor, num_ground_codes: int = 8
) -> torch.Tensor:
    """How much of each image one training image has at the same places: a model that repeats the few images it
    was shown generates what it is asked for as well.

    The most frequent codes of the training images are those of plain grounds, which all images share; tokens of
    these codes do not count.

    Args:
        image_token_ids (`torch.LongTensor` of shape `(num_images, num_image_tokens)`): Generated images.
        training_token_ids (`torch.LongTensor` of shape `(num_training, num_image_tokens)`): Those trained on.
        num_ground_codes (`int`, *optional*, defaults to 8): How many codes count as ground.

    Returns:
        `torch.FloatTensor` of shape `(num_images,)`: From 0 to 1, of the training image that has most; 0 for an
        image that is ground alone.

    Raises:
        ValueError: If there is no training image, or the two have different numbers of tokens.
    """
    if not len(training_token_ids) or image_token_ids.shape[1:] != training_token_ids.shape[1:]:
        raise ValueError(
            "`training_token_ids` must hold at least one image of as many tokens as `image_token_ids`, got shapes "
            f"{tuple(training_token_ids.shape)} and {tuple(image_token_ids.shape)}"
        )
    counts = training_token_ids.flatten().bincount()
    ground = counts.topk(min(num_ground_codes, len(counts))).indices
    counted = ~torch.isin(image_token_ids, ground)  # (N, K)
    shares = []
    for image, places in zip(image_token_ids, counted, strict=True):
        same = (training_token_ids == image) & places  # (T, K)
        shares.append(same.sum(dim=-1).max() / places.sum().clamp(min=1))
    return torch.stack(shares)
