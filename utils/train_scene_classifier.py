# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Train the classifier of the emoji scenes, the instrument that generated images are judged by:

    python utils/train_scene_classifier.py --output_dir out/emoji-scenes-classifier

About twelve minutes on one core. It sees renders alone, made as it goes: all categories, colours and styles, one or
two objects or none, blurred, coarse, noisy or as they are. It is an instrument and not a model under test, so that it
is taught every category in every colour, pairs that `splits.is_held_out_pair` keeps from other trainings included.
Images that `splits.is_validation` gives to validation are kept from it, and its accuracy is measured on those.
"""

import itertools
import json
import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from tqdm.auto import tqdm
from transformers import get_cosine_schedule_with_warmup

from itit_hf.emoji_scenes.art import STYLES, available_categories
from itit_hf.emoji_scenes.classifier import CELL, POINT, SceneClassifier, SceneReading, cell_boxes
from itit_hf.emoji_scenes.evaluation import prompt_accuracy
from itit_hf.emoji_scenes.grammar import captions
from itit_hf.emoji_scenes.judges import SceneJudge
from itit_hf.emoji_scenes.scenes import Scene, SceneConfig, world_of
from itit_hf.emoji_scenes.seen_scenes import INPUT_SIZE, to_pixel_values
from itit_hf.emoji_scenes.splits import check_held_out_pairs, held_out_split, is_validation, scene_hash

logger = logging.getLogger(__name__)

_EMPTY_ONE_IN = 32  # scenes without an object, so that an empty image is read as one
_CENTRE_SPREAD = 1 / 32  # of the target around a centre, by the object's longer side in pixels, in points
_LEAST_CENTRE_SPREAD = 0.8
_CENTRE_JITTER = 3.0  # pixels: a cell beside the centre must be able to answer too
_NEAR = 2.0  # pixels
_EVALUATION_SEED = 2**32  # far from any training seed


def scenes_of(
    config: SceneConfig, seed: int, validation: bool, wanted=lambda scene: True
) -> Iterator[tuple[np.ndarray, Scene]]:
    """Endless renders of one side of the rule of the pixels, with the scenes they show.

    Args:
        config (`SceneConfig`): The world.
        seed (`int`): Which sequence of scenes.
        validation (`bool`): Images that belong to validation; or all others, with an empty one now and then.
        wanted (`Callable[[Scene], bool]`): Which scenes to render.

    Yields:
        `tuple[np.ndarray, Scene]`: uint8 pixels of shape `(resolution, resolution, 3)` and the scene.
    """
    world = world_of(config)
    for index in itertools.count():
        scene = world.sample(seed, index)
        if not wanted(scene):
            continue
        if not validation and index % _EMPTY_ONE_IN == 0:
            scene = replace(scene, objects=(), relation=None)
        pixels = world.render(scene)
        if not scene.objects or is_validation(scene_hash(pixels)) == validation:
            yield pixels, scene


def augment(pixel_values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Images as a weak image tokenizer might give them back: a quarter each blurred little or much, coarse, or left.

    All get noise and a change of contrast and brightness, of a strength of their own.

    Args:
        pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, height, width)`): Pixels in [-1, 1].
        generator (`torch.Generator`): Where the strengths come from.

    Returns:
        `torch.FloatTensor` of the same shape.
    """
    quarters = list(pixel_values.chunk(4))
    for number, (low, high) in enumerate(((0.4, 1.0), (1.0, 3.0))):
        quarters[number] = _blur(quarters[number], low + (high - low) * float(torch.rand((), generator=generator)))
    quarters[2] = F.interpolate(F.avg_pool2d(quarters[2], 2), scale_factor=2, mode="bilinear")
    images = torch.cat(quarters)
    strength = torch.rand(3, len(images), 1, 1, 1, generator=generator)
    noise = torch.randn(images.shape, generator=generator)
    images = images * (0.9 + 0.2 * strength[0]) + 0.1 * (strength[1] - 0.5)
    return images + 0.2 * (strength[2] - 0.5).clamp(min=0) * noise


def _blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    offsets = torch.arange(-6.0, 7.0)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = F.pad(images, (6, 6, 6, 6), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3), groups=3)


@dataclass
class Targets:
    """What the network should say of a batch; the objects of all its images stand in one row.

    Args:
        heat (`torch.FloatTensor` of shape `(batch_size, 16, 16)`): 1 at a centre, falling off around it the slower the
            larger the object is.
        number (`torch.LongTensor` of shape `(num_objects,)`): Image of each object.
        cells (`torch.LongTensor` of shape `(num_objects, 2)`): Column and row of the cell that is asked about it.
        categories (`torch.LongTensor` of shape `(num_objects,)`): Which category.
        colours (`torch.LongTensor` of shape `(num_objects,)`): Which colour.
        boxes (`torch.FloatTensor` of shape `(num_objects, 4)`): left, top, width and height in pixels.
        backgrounds (`torch.LongTensor` of shape `(batch_size,)`): Which background.
    """

    heat: torch.Tensor
    number: torch.Tensor
    cells: torch.Tensor
    categories: torch.Tensor
    colours: torch.Tensor
    boxes: torch.Tensor
    backgrounds: torch.Tensor


def targets_of(scenes: list[Scene], classifier: SceneClassifier, generator: torch.Generator) -> Targets:
    """Say what the network should say.

    Args:
        scenes (`list[Scene]`): Of 64 pixels.
        classifier ([`SceneClassifier`]): Whose names of categories, colours and backgrounds count.
        generator (`torch.Generator`): Which cell near its centre is asked about an object.

    Returns:
        [`Targets`]: Its tensors have the shapes it names.
    """
    names = classifier.config
    items = [(n, item) for n, scene in enumerate(scenes) for item in scene.objects]
    number = torch.tensor([n for n, _ in items])
    boxes = torch.tensor([item.box for _, item in items], dtype=torch.float32)
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    jitter = _CENTRE_JITTER * (2 * torch.rand(centres.shape, generator=generator) - 1)
    cells = ((centres + jitter) / CELL).long().clamp(0, INPUT_SIZE // CELL - 1)
    spread = (boxes[:, 2:].amax(dim=1, keepdim=True) * _CENTRE_SPREAD).clamp(min=_LEAST_CENTRE_SPREAD)
    side = torch.arange(INPUT_SIZE // POINT) + 0.5
    across, down = (-0.5 * ((side - centres[:, n, None] / POINT) / spread) ** 2 for n in (0, 1))
    heat = torch.zeros(len(scenes), len(side), len(side))
    for row, n in enumerate(number.tolist()):
        heat[n] = torch.maximum(heat[n], (down[row][:, None] + across[row][None]).exp())
    return Targets(
        heat,
        number,
        cells,
        torch.tensor([names.categories.index(item.category) for _, item in items]),
        torch.tensor([names.colours.index(item.colour) for _, item in items]),
        boxes,
        torch.tensor([names.backgrounds.index(scene.background) for scene in scenes]),
    )


def losses_of(reading: SceneReading, targets: Targets) -> dict[str, torch.Tensor]:
    """Losses by name. That of the centres is the quality focal loss of Li et al. (2020, eq. 3).

    Args:
        reading ([`SceneReading`]): What the network read.
        targets ([`Targets`]): What is true.

    Returns:
        `dict[str, torch.Tensor]`: Scalars of shape `()`, to be added up.
    """
    where = (targets.number, slice(None), targets.cells[:, 1], targets.cells[:, 0])
    logits = reading.centre_logits
    error = F.binary_cross_entropy_with_logits(logits, targets.heat, reduction="none")
    error = (logits.sigmoid() - targets.heat) ** 2 * error
    found = cell_boxes(reading.boxes[where], targets.cells)
    return {
        "centre": error.sum() / len(targets.number),
        "category": F.cross_entropy(reading.category_logits[where], targets.categories),
        "colour": F.cross_entropy(reading.colour_logits[where], targets.colours),
        "box": 0.3 * F.smooth_l1_loss(found, targets.boxes),
        "background": 0.2 * F.cross_entropy(reading.background_logits, targets.backgrounds),
    }


def train(classifier: SceneClassifier, config: SceneConfig, options) -> None:
    """Train on renders that do not belong to validation."""
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=options.learning_rate, weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimizer, options.max_steps // 20, options.max_steps)
    generator = torch.Generator().manual_seed(options.seed)
    stream = scenes_of(config, options.seed, validation=False)
    classifier.train()
    bar = tqdm(range(options.max_steps), desc="steps")
    for step in bar:
        pixels, scenes = zip(*itertools.islice(stream, options.batch_size), strict=True)
        targets = targets_of(list(scenes), classifier, generator)
        pixel_values = augment(to_pixel_values(np.stack(pixels)), generator)
        with torch.autocast("cpu", torch.bfloat16):
            reading = classifier(pixel_values)
        losses = losses_of(SceneReading(**{name: value.float() for name, value in reading.items()}), targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(classifier.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            bar.set_postfix({name: f"{float(value.detach()):.3f}" for name, value in losses.items()})


def accuracy(classifier: SceneJudge, config: SceneConfig, num_scenes: int, wanted) -> dict:
    """Figures on validation scenes of one sort.

    Args:
        classifier ([`SceneJudge`]): The instrument.
        config (`SceneConfig`): The world.
        num_scenes (`int`): How many.
        wanted (`Callable[[Scene], bool]`): Which scenes count.

    Returns:
        `dict`: `prompt_accuracy` for the plain caption; `true_in_detail`, its `true` for the caption that names a size
        or a position too; `position` (every centre is within 2 pixels of the true one); `background`.
    """
    stream = scenes_of(config, _EVALUATION_SEED, validation=True, wanted=wanted)
    pixels, scenes = zip(*itertools.islice(stream, num_scenes), strict=True)
    pairs = list(zip(classifier.read(pixels), scenes, strict=True))
    plain, detailed = (
        prompt_accuracy(pixels, [captions(scene)[number] for scene in scenes], classifier) for number in (0, 3)
    )
    near = [
        len(read.objects) == len(scene.objects)
        and all(
            np.hypot(*np.subtract(item.centre, true.centre)) <= _NEAR
            for item, true in zip(read.objects, scene.objects, strict=True)
        )
        for read, scene in pairs
    ]
    return plain | {
        "true_in_detail": detailed["true"],
        "position": sum(near) / num_scenes,
        "background": sum(read.background == scene.background for read, scene in pairs) / num_scenes,
    }


def evaluate(classifier: SceneJudge, styles: list[str], num_scenes: int) -> dict:
    """Figures for each style: scenes of one object, of two, and of pairs held out of other trainings."""
    groups = {
        "one_object": lambda scene: len(scene.objects) == 1 and held_out_split(scene) is None,
        "one_object_heldout_pair": lambda scene: len(scene.objects) == 1 and held_out_split(scene) == "heldout",
        "two_objects": lambda scene: len(scene.objects) == 2,
    }
    categories = tuple(classifier.config.categories)
    if not check_held_out_pairs(categories, tuple(classifier.config.colours)):
        del groups["one_object_heldout_pair"]
    figures = {}
    for style in tqdm(styles, desc="styles"):
        for group, wanted in groups.items():
            max_objects = 2 if group == "two_objects" else 1
            config = SceneConfig(styles=(style,), categories=categories, max_objects=max_objects)
            figures[f"{style}/{group}"] = accuracy(classifier, config, num_scenes, wanted)
    return figures


def judge_parser(name: str, batch_size: int) -> ArgumentParser:
    """What every training of a judge is asked for.

    Args:
        name (`str`): Of the folder that is written by default.
        batch_size (`int`): Images of a step by default.

    Returns:
        `ArgumentParser`.
    """
    parser = ArgumentParser(description=f"Train {name}, a judge of generated images.")
    parser.add_argument("--output_dir", default=f"out/{name}", help="Folder to write.")
    parser.add_argument("--styles", nargs="+", default=list(STYLES), help="Packaged styles, or folders of cut-outs.")
    parser.add_argument("--max_steps", type=int, default=3000, help="Steps.")
    parser.add_argument("--batch_size", type=int, default=batch_size, help="Images of a step.")
    parser.add_argument("--num_scenes", type=int, default=500, help="Validation scenes of each figure.")
    parser.add_argument("--seed", type=int, default=0, help="Of the weights, the scenes and their changes.")
    return parser


def make_judge(judge_class: type, train: Callable, options: Namespace) -> dict:
    """Train a judge of all categories that the styles have, measure it, and write the weights and the figures.

    Args:
        judge_class (`type`): [`SceneClassifier`] or another that takes `categories`.
        train (`Callable`): Takes the judge, the `SceneConfig` of its world and the options.
        options (`Namespace`): Of [`judge_parser`] and what the training adds.

    Returns:
        `dict`: As of `evaluate`.

    Raises:
        ValueError: If a batch cannot be cut into four.
    """
    if options.batch_size < 4:  # of which a quarter each is changed in one way
        raise ValueError(f"`batch_size` must be at least 4, got {options.batch_size}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(options.seed)
    categories = tuple(available_categories(options.styles))
    judge = judge_class(categories=categories)
    train(judge, SceneConfig(styles=tuple(options.styles), categories=categories, max_objects=2), options)
    judge.save_pretrained(options.output_dir)
    figures = evaluate(judge, options.styles, options.num_scenes)
    for group, values in figures.items():
        logger.info(f"{group}: " + ", ".join(f"{name} {value:.3f}" for name, value in values.items()))
    settings = {name: value for name, value in vars(options).items() if name != "output_dir"}
    report = {"settings": settings, "torch": torch.__version__, "accuracy": figures}
    Path(options.output_dir, "accuracy.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return figures


def main(arguments: list[str] | None = None) -> dict:
    """Train, measure, and write the weights and the figures."""
    parser = judge_parser("emoji-scenes-classifier", batch_size=128)
    parser.add_argument("--learning_rate", type=float, default=4e-3, help="At its peak.")
    return make_judge(SceneClassifier, train, parser.parse_args(arguments))


if __name__ == "__main__":
    main()
