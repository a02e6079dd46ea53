# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Evaluate a dual encoder on the emoji scenes, exactly:

    python utils/studies/evaluate_dual_encoder.py --output out/dual-encoder.json

For each split, with 95% intervals:

- `image_to_text_*`, `text_to_image_*`: recall at 1 and 5 among all images and all different captions of the split. A
  caption counts as found if it is true of the image by the grammar, whichever image it was written for: many
  scenes show a red bus.
- `own_image_to_text_*`, `own_text_to_image_*`: the same, where only captions count that were written for the image.
- `category`, `colour`, `both`: zero-shot labels of images of one object, by "a red bus", in the language of the
  dataset, for all categories and colours of the world; a category is the mean of its colours, and a colour that of its
  categories. Chance is 1/24, 1/8 and 1/192 for the world of 24 categories.
"""

import itertools
import json
import logging
from argparse import ArgumentParser
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import torch
from torch.nn import functional as F

from itit_hf.data.loading import load_rows
from itit_hf.emoji_scenes.build import load_config
from itit_hf.emoji_scenes.evaluation import confidence_interval
from itit_hf.emoji_scenes.grammar import is_true_of, parse, plain_caption
from itit_hf.emoji_scenes.scenes import Scene, SceneConfig
from itit_hf.metrics.retrieval import recall_at_k
from itit_hf.rewards.dual_encoder import DualEncoderScorer

logger = logging.getLogger(__name__)

KS = (1, 5)


def truths(texts: list[str], scenes: list[Scene], language: str = "en") -> torch.Tensor:
    """Which texts are true of which scenes, of shape `(num_scenes, num_texts)`."""
    of_things = defaultdict(list)  # only captions of the same things can be true
    for i, text in enumerate(texts):
        caption = parse(text, language=language)
        of_things[frozenset((thing.category, thing.colour) for thing in caption.objects)].append((i, caption))
    relevant = torch.zeros(len(scenes), len(texts), dtype=torch.bool)
    for row, scene in zip(relevant, scenes, strict=True):
        things = frozenset((thing.category, thing.colour) for thing in scene.objects)
        row[[i for i, caption in of_things[things] if is_true_of(caption, scene)]] = True
    return relevant


def retrieval(scores: torch.Tensor, relevant: torch.Tensor, prefix: str = "") -> dict[str, float]:
    """Recall in both directions, for queries that have something to find."""
    figures = {}
    for name, rows, wanted in (("image_to_text", scores, relevant), ("text_to_image", scores.T, relevant.T)):
        with_any = wanted.any(dim=1)
        found = recall_at_k(rows[with_any], wanted[with_any], KS)
        figures |= {f"{prefix}{name}_{metric}": value for metric, value in found.items()}
    return figures


def zero_shot(scorer: DualEncoderScorer, image_embeds: torch.Tensor, scenes: list[Scene], world: SceneConfig) -> dict:
    """Shares of images whose category, colour and both are the nearest labels."""
    categories = list(world.categories)
    colours = list(world.colours)
    label_embeds = scorer.embed_texts(
        [plain_caption(category, colour, world.language) for category in categories for colour in colours]
    )
    label_embeds = label_embeds.view(len(categories), len(colours), -1)  # (K, C, D)
    things = [(scene.objects[0].category, scene.objects[0].colour) for scene in scenes]

    def right(labels: torch.Tensor, names: list, wanted: list) -> float:
        nearest = (image_embeds @ F.normalize(labels, dim=-1).T).argmax(dim=1).tolist()
        return sum(names[i] == name for i, name in zip(nearest, wanted, strict=True)) / len(wanted)

    return {
        "category": right(label_embeds.mean(dim=1), categories, [category for category, _ in things]),
        "colour": right(label_embeds.mean(dim=0), colours, [colour for _, colour in things]),
        "both": right(label_embeds.flatten(0, 1), list(itertools.product(categories, colours)), things),
    }


def evaluate_split(scorer: DualEncoderScorer, rows, world: SceneConfig) -> dict[str, dict[str, float]]:
    """All figures of one split, and of how many queries each is."""
    scenes = [Scene.from_json(scene) for scene in rows["scene"]]
    captions = list(rows["text"])
    texts = sorted({text for own in captions for text in own})
    image_embeds = scorer.embed_images(list(rows["image"]))
    text_embeds = scorer.embed_texts(texts)
    scores = scorer.similarity(image_embeds, text_embeds)
    place = {text: i for i, text in enumerate(texts)}
    own = torch.zeros(len(rows), len(texts), dtype=torch.bool)
    for i, written in enumerate(captions):
        own[i, [place[text] for text in written]] = True
    figures = retrieval(scores, truths(texts, scenes, world.language)) | retrieval(scores, own, "own_")
    figures |= zero_shot(scorer, image_embeds, scenes, world)
    numbers = {name: len(texts) if "text_to_image" in name else len(rows) for name in figures}
    return {
        name: {"value": value, "interval": confidence_interval(value, numbers[name]), "queries": numbers[name]}
        for name, value in figures.items()
    }


def main(arguments: list[str] | None = None) -> dict:
    """Evaluate, log, and write JSON if asked."""
    parser = ArgumentParser(description="Evaluate a dual encoder on the emoji scenes.")
    parser.add_argument("--model", default="checkpoints/emoji-scenes-dual-encoder", help="Folder or Hub id.")
    parser.add_argument("--dataset", default="data/emoji-scenes-64", help="Dataset folder.")
    parser.add_argument("--splits", nargs="+", default=["validation", "heldout"], help="Splits never trained on.")
    parser.add_argument("--num_scenes", type=int, default=1000, help="The first so many of each split.")
    parser.add_argument("--output", help="JSON file for figures, settings and versions.")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    scorer = DualEncoderScorer.from_pretrained(options.model)
    world = load_config(options.dataset)
    results = {}
    for split in options.splits:
        rows = load_rows(options.dataset, split)
        results[split] = evaluate_split(scorer, rows.select(range(min(options.num_scenes, len(rows)))), world)
        logger.info(f"{split}:")
        for name, figure in results[split].items():
            logger.info(
                f"  {name:34} {figure['value']:.3f}  ({figure['interval'][0]:.3f} to {figure['interval'][1]:.3f})"
            )
    if options.output:
        versions = {name: version(name) for name in ("itit_hf", "torch", "transformers")}
        written = {"settings": vars(options), "versions": versions, "results": results}
        Path(options.output).write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    return results


if __name__ == "__main__":
    main()
