# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Evaluate a checkpoint on the emoji scenes, by the grammar:

    python utils/evaluate_emoji_scenes.py --model checkpoints/emoji-scenes-64 --dataset data/emoji-scenes-64

For each split: how true captions of its pictures are; and how often the *same* model, describing what it drew for the
plain caption of a scene, names the kind and colour asked for. The second figure is self-consistency, not accuracy: a
model that draws and describes wrongly in the same way would pass, and pictures that only it can read count as right.
"""

import json
import logging
from argparse import ArgumentParser

import torch
from tqdm.auto import tqdm

from itit_hf import ITITPipeline
from itit_hf.data import load_rows
from itit_hf.emoji_scenes.evaluation import caption_accuracy
from itit_hf.emoji_scenes.scenes import Scene

logger = logging.getLogger(__name__)


def evaluate_split(pipe: ITITPipeline, rows, options) -> dict:
    """Both figures of one split; scene i is drawn from seed i."""
    scenes = [Scene.from_json(row["scene"]) for row in rows]
    said, redescribed = [], []
    for start in tqdm(range(0, len(rows), options.batch_size), desc="scenes"):
        batch = rows.select(range(start, min(start + options.batch_size, len(rows))))
        said += pipe.caption(list(batch["image"]), num_beams=options.num_beams, max_new_tokens=24)
        drawn = pipe(
            [captions[0] for captions in batch["text"]],
            num_inference_steps=options.num_inference_steps,
            guidance_scale=options.guidance_scale,
            generator=[torch.Generator().manual_seed(start + i) for i in range(len(batch))],
        ).images
        redescribed += pipe.caption(drawn, num_beams=options.num_beams, max_new_tokens=24)
    asked = caption_accuracy(redescribed, scenes)
    drawing = {f"drawn_then_described_{name}": asked[name] for name in ("kind", "colour", "both")}
    return {f"caption_{name}": share for name, share in caption_accuracy(said, scenes).items()} | drawing


def main(arguments: list[str] | None = None) -> dict:
    """Evaluate, log, and write JSON if asked."""
    parser = ArgumentParser(description="Evaluate a checkpoint on the emoji scenes.")
    parser.add_argument("--model", default="checkpoints/emoji-scenes-64", help="Pipeline folder or Hub id.")
    parser.add_argument("--dataset", default="data/emoji-scenes-64", help="Dataset folder.")
    parser.add_argument("--splits", nargs="+", default=["validation", "heldout"], help="Splits never trained on.")
    parser.add_argument("--num_scenes", type=int, default=200, help="The first so many of each split.")
    parser.add_argument("--num_beams", type=int, default=4, help="Beams of the captions.")
    parser.add_argument("--num_inference_steps", type=int, default=12, help="Decoding steps.")
    parser.add_argument("--guidance_scale", type=float, default=3.0, help="1 + tau.")
    parser.add_argument("--batch_size", type=int, default=50, help="Scenes at a time.")
    parser.add_argument("--output", help="JSON file for the figures.")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    pipe = ITITPipeline.from_pretrained(options.model)
    pipe.set_progress_bar_config(disable=True)
    results = {}
    for split in options.splits:
        rows = load_rows(options.dataset, split)
        rows = rows.select(range(min(options.num_scenes, len(rows))))
        results[split] = {"num_scenes": len(rows)} | evaluate_split(pipe, rows, options)
        logger.info(f"{split}: {results[split]}")
    if options.output:
        with open(options.output, "w") as file:
            json.dump({"settings": vars(options), "results": results}, file, indent=2)
    return results


if __name__ == "__main__":
    main()
