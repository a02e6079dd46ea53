# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Train the second judge of generated images, a Transformer that reads a scene as a set of objects:

    python utils/train_scene_transformer.py --output_dir out/emoji-scenes-transformer

About half an hour on one core. As the first judge (`train_scene_classifier.py`) it sees renders alone, of all
categories, colours and styles, none from an image tokenizer and none that a model generated. What differs: another
architecture, all categories of today's table, and images that are also zoomed and moved. The object tokens learn from
the assignment of tokens to objects that costs least; each patch learns whose box it lies in, which makes it faster.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F
from tqdm.auto import tqdm
from transformers import get_cosine_schedule_with_warmup

from itit_hf.emoji_scenes.scene_transformer import PATCH, ObjectReading, SceneTransformer
from itit_hf.emoji_scenes.scenes import Scene, SceneConfig
from itit_hf.emoji_scenes.seen_scenes import INPUT_SIZE, to_pixel_values
from itit_hf.training.optimization import create_muon
from train_scene_classifier import augment, judge_parser, make_judge, scenes_of

_MOST_ZOOM = 0.2  # in logarithms: from 0.82 to 1.22
_MOST_SHIFT = 0.1  # of the image's side
_WEIGHT_DECAY = 0.03
_LOSS_WEIGHTS = {"category": 1.0, "colour": 1.0, "box": 5.0, "background": 0.2, "patch": 1.0}


@dataclass
class Targets:
    """What the network should say of a batch; rows without an object have the last category.

    Args:
        categories (`torch.LongTensor` of shape `(batch_size, num_objects)`): Which category, or none.
        colours (`torch.LongTensor` of shape `(batch_size, num_objects)`): Which colour; -100 where there is no object.
        boxes (`torch.FloatTensor` of shape `(batch_size, num_objects, 4)`): Across and down to the centre, width and
            height, in sides of the image; 0 where there is no object.
        backgrounds (`torch.LongTensor` of shape `(batch_size,)`): Which background.
    """

    categories: torch.Tensor
    colours: torch.Tensor
    boxes: torch.Tensor
    backgrounds: torch.Tensor


def targets_of(scenes: list[Scene], judge: SceneTransformer) -> Targets:
    """What is true of scenes, in the judge's terms.

    Args:
        scenes (`list[Scene]`): Of 64 pixels, each of at most as many objects as the judge has tokens for.
        judge ([`SceneTransformer`]): Whose names of categories, colours and backgrounds count.

    Returns:
        [`Targets`]: Its tensors have the shapes it names.
    """
    names = judge.config
    shape = (len(scenes), names.num_objects)
    categories = torch.full(shape, len(names.categories))
    colours = torch.full(shape, -100)
    boxes = torch.zeros(*shape, 4)
    for n, scene in enumerate(scenes):
        for k, item in enumerate(scene.objects):
            left, top, width, height = item.box
            categories[n, k] = names.categories.index(item.category)
            colours[n, k] = names.colours.index(item.colour)
            boxes[n, k] = torch.tensor([left + width / 2, top + height / 2, width, height]) / INPUT_SIZE
    backgrounds = torch.tensor([names.backgrounds.index(scene.background) for scene in scenes])
    return Targets(categories, colours, boxes, backgrounds)


def zoomed(
    pixel_values: torch.Tensor, boxes: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each image zoomed and moved at random, its edge repeated; and the boxes where they are then.

    Args:
        pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, height, width)`): Pixels in [-1, 1].
        boxes (`torch.FloatTensor` of shape `(batch_size, num_objects, 4)`): As in [`Targets`].
        generator (`torch.Generator`): Where zoom and shift come from.

    Returns:
        `tuple[torch.FloatTensor, torch.FloatTensor]`: Of the same shapes.
    """
    draws = 2 * torch.rand(len(pixel_values), 3, generator=generator) - 1
    zoom = (_MOST_ZOOM * draws[:, 0]).exp()
    shift = _MOST_SHIFT * draws[:, 1:]  # in sides of the image, (B, 2)
    matrices = torch.zeros(len(pixel_values), 2, 3)
    matrices[:, 0, 0] = matrices[:, 1, 1] = 1 / zoom
    matrices[:, :, 2] = -2 * shift / zoom[:, None]  # the grid goes from -1 to 1
    grid = F.affine_grid(matrices, list(pixel_values.shape), align_corners=False)
    moved = F.grid_sample(pixel_values, grid, padding_mode="border", align_corners=False)
    scale = zoom[:, None, None]
    centres = 0.5 + (boxes[..., :2] - 0.5) * scale + shift[:, None]
    return moved, torch.cat([centres, boxes[..., 2:] * scale], dim=-1)


def patch_categories(targets: Targets, none: int) -> torch.Tensor:
    """Category of the object in whose box the middle of each patch lies.

    Args:
        targets ([`Targets`]): Of a batch.
        none (`int`): Category of a patch that lies in none.

    Returns:
        `torch.LongTensor` of shape `(batch_size, 64)`, row by row.
    """
    side = (torch.arange(INPUT_SIZE // PATCH) + 0.5) * PATCH / INPUT_SIZE
    across, down = torch.meshgrid(side, side, indexing="xy")
    middles = torch.stack([across.flatten(), down.flatten()], dim=-1)  # (64, 2)
    centres = targets.boxes[:, :, None, :2]  # (B, K, 1, 2)
    inside = ((middles - centres).abs() <= targets.boxes[:, :, None, 2:] / 2).all(dim=-1)  # (B, K, 64)
    inside &= (targets.colours != -100)[..., None]
    categories = targets.categories[..., None].expand_as(inside)
    # Boxes do not overlap, so that a patch has one object at most; none is the greatest number.
    return categories.masked_fill(~inside, none).amin(dim=1)


def losses_of(reading: ObjectReading, targets: Targets) -> dict[str, torch.Tensor]:
    """Losses by name, of the assignment of object tokens to objects that costs least.

    Args:
        reading ([`ObjectReading`]): What the network read.
        targets ([`Targets`]): What is true.

    Returns:
        `dict[str, torch.Tensor]`: Scalars of shape `()`, weighed, to be added up.
    """
    num_objects = targets.categories.size(1)
    found = []
    for order in itertools.permutations(range(num_objects)):
        categories, colours, boxes = (
            value[:, order] for value in (targets.categories, targets.colours, targets.boxes)
        )
        is_object = colours != -100
        found.append(
            {
                "category": F.cross_entropy(reading.category_logits.transpose(1, 2), categories, reduction="none"),
                "colour": F.cross_entropy(reading.colour_logits.transpose(1, 2), colours, reduction="none"),
                "box": (reading.boxes - boxes).abs().mean(dim=-1) * is_object,
            }
        )
    # (orders, B): what each order costs; the least is learned.
    costs = torch.stack([sum(_LOSS_WEIGHTS[name] * loss.sum(dim=1) for name, loss in each.items()) for each in found])
    best = costs.argmin(dim=0)
    losses = {
        name: torch.stack([each[name].sum(dim=1) for each in found]).gather(0, best[None]).mean() for name in found[0]
    }
    losses["background"] = F.cross_entropy(reading.background_logits, targets.backgrounds)
    none = reading.category_logits.size(-1) - 1
    losses["patch"] = F.cross_entropy(reading.patch_logits.transpose(1, 2), patch_categories(targets, none))
    return {name: _LOSS_WEIGHTS[name] * loss for name, loss in losses.items()}


def train(judge: SceneTransformer, config: SceneConfig, options) -> None:
    """Train on renders that do not belong to validation."""
    adamw = (torch.optim.AdamW, {"lr": options.learning_rate})
    optimizer = create_muon(judge, options.muon_learning_rate, _WEIGHT_DECAY, adamw)
    schedule = get_cosine_schedule_with_warmup(optimizer, options.max_steps // 20, options.max_steps)
    generator = torch.Generator().manual_seed(options.seed)
    stream = scenes_of(config, options.seed, validation=False)
    judge.train()
    bar = tqdm(range(options.max_steps), desc="steps", mininterval=10)
    for step in bar:
        pixels, scenes = zip(*itertools.islice(stream, options.batch_size), strict=True)
        targets = targets_of(list(scenes), judge)
        pixel_values, targets.boxes = zoomed(to_pixel_values(np.stack(pixels)), targets.boxes, generator)
        losses = losses_of(judge(augment(pixel_values, generator)), targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            bar.set_postfix({name: f"{float(value.detach()):.3f}" for name, value in losses.items()})


def main(arguments: list[str] | None = None) -> dict:
    """Train, measure, and write the weights and the figures."""
    parser = judge_parser("emoji-scenes-transformer", batch_size=64)
    parser.add_argument("--learning_rate", type=float, default=2e-3, help="Of AdamW, at its peak.")
    parser.add_argument("--muon_learning_rate", type=float, default=1e-2, help="Of the blocks' matrices, at its peak.")
    return make_judge(SceneTransformer, train, parser.parse_args(arguments))


if __name__ == "__main__":
    main()
