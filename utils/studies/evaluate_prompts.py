# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""How often a checkpoint of the emoji scenes generates what a prompt of free form asks for:

    python utils/studies/evaluate_prompts.py --model checkpoints/emoji-scenes-64 --output out/prompts.json

`free_prompts.json` beside it has 200 prompts in four groups: bare nouns, free forms, synonyms that training texts
may have, and synonyms that they have not. Each judge judges the prompts of things that it knows; how many it left out
is counted. Image i is generated from seed i by the settings given, or by the pipeline's own.
"""

import argparse
import json
import logging
from pathlib import Path

import torch
from diffusers.utils import make_image_grid
from tqdm.auto import tqdm

from itit_hf import ITITPipeline
from itit_hf.emoji_scenes.evaluation import confidence_interval
from itit_hf.emoji_scenes.judges import COMMITTED, SceneJudge, open_judge
from itit_hf.pipelines.call_defaults import settle_options

logger = logging.getLogger(__name__)

PROMPTS = Path(__file__).with_name("free_prompts.json")


def judge(images: list, asked: list[dict], reader: SceneJudge) -> dict[str, dict]:
    """Shares of images that show the thing, and its colour where one was asked for.

    Args:
        images (`list`): One for each prompt.
        asked (`list[dict]`): `group`, `category` and `colour` of each prompt; a colour of `None` is any.
        reader ([`SceneJudge`]): Reads the images.

    Returns:
        `dict[str, dict]`: For each group, and for all, `category` and `colour`, each with `share`, `interval` and
        `count`.
    """
    answers: dict[str, dict[str, list[bool]]] = {}
    for scene, prompt in zip(reader.read(images), asked, strict=True):
        for group in (prompt["group"], "all"):
            found = answers.setdefault(group, {"category": [], "colour": []})
            found["category"].append(prompt["category"] in {item.category for item in scene.objects})
            if prompt["colour"] is not None:
                found["colour"].append(prompt["colour"] in {item.colour for item in scene.objects})
    return {group: {name: _share(right) for name, right in found.items() if right} for group, found in answers.items()}


def _share(right: list[bool]) -> dict:
    share = sum(right) / len(right)
    return {"share": share, "interval": confidence_interval(share, len(right)), "count": len(right)}


def generate(pipe: ITITPipeline, prompts: list[str], settings: dict, batch_size: int) -> list:
    """An image of each prompt, from seeds 0, 1, 2, ..., whatever the batch size."""
    images = []
    for start in tqdm(range(0, len(prompts), batch_size), desc="images"):
        batch = prompts[start : start + batch_size]
        generators = [torch.Generator().manual_seed(start + offset) for offset in range(len(batch))]
        images += pipe(batch, generator=generators, **settings).images
    return images


def check_prompts(prompts: list[dict], judges: dict[str, SceneJudge]):
    """Before images are generated: each judge must know some of the things.

    Raises:
        ValueError: If a judge knows none.
    """
    for folder, reader in judges.items():
        if not any(prompt["category"] in reader.config.categories for prompt in prompts):
            raise ValueError(f"`--prompts` must ask for things that {folder} knows, got none")


def main(arguments: list[str] | None = None) -> dict:
    """Generate, judge, write; what was written."""
    parser = argparse.ArgumentParser(description="Prompts of free form, judged.")
    parser.add_argument("--model", default="checkpoints/emoji-scenes-64", help="Pipeline: a folder or a Hub id.")
    parser.add_argument(
        "--judges", nargs="+", default=list(COMMITTED), help="What reads generated images: folders or Hub ids."
    )
    parser.add_argument("--sheet", help="PNG for the images, twenty in a row, in the order of the prompts.")
    parser.add_argument("--prompts", default=str(PROMPTS), help="JSON list of group, prompt, category and colour.")
    parser.add_argument("--num_inference_steps", type=int, help="The pipeline's own by default.")
    parser.add_argument("--guidance_scale", type=float, help="The pipeline's own by default.")
    parser.add_argument("--temperature", type=float, help="The pipeline's own by default.")
    parser.add_argument("--batch_size", type=int, default=20)
    parser.add_argument("--output", required=True, help="JSON file.")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    judges = {folder: open_judge(folder) for folder in options.judges}
    prompts = json.loads(Path(options.prompts).read_text(encoding="utf-8"))
    check_prompts(prompts, judges)
    pipe = ITITPipeline.from_pretrained(options.model)
    pipe.set_progress_bar_config(disable=True)
    settle_options(options, pipe)
    names = ("num_inference_steps", "guidance_scale", "temperature")
    settings = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    images = generate(pipe, [prompt["prompt"] for prompt in prompts], settings, options.batch_size)
    if options.sheet:
        shown = images[: len(images) // 20 * 20]
        make_image_grid(shown, rows=len(shown) // 20, cols=20).save(options.sheet)
    result = {"settings": vars(options), "judges": {}}
    for folder, reader in judges.items():
        known = [i for i, prompt in enumerate(prompts) if prompt["category"] in reader.config.categories]
        found = judge([images[i] for i in known], [prompts[i] for i in known], reader)
        result["judges"][folder] = {"left_out": len(prompts) - len(known), "results": found}
        for group, figures in found.items():
            shares = "  ".join(f"{name} {each['share']:.3f} of {each['count']}" for name, each in figures.items())
            logger.info(f"{folder}, {group}: {shares}")
    Path(options.output).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


if __name__ == "__main__":
    main()
