# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Evaluate a checkpoint on the emoji scenes, exactly:

    python utils/studies/evaluate_emoji_scenes.py --model checkpoints/emoji-scenes-64 --dataset data/emoji-scenes-64

For each split, with 95% intervals, in the language of the dataset:

- `caption_*`: how true the captions of its images are, by the grammar.
- `generated_*`: how true the images are that the model generates for the plain captions, as the classifier reads them.
- `reconstructed_*`: the same of the true images, coded and decoded by the image tokenizer: the ceiling of
  `generated_*`.
- `rendered_*`: the same of the true images: what the classifier itself gets right.
- `second_generated_*`, `second_reconstructed_*`, `second_rendered_*`: the same by the second judge, of another
  architecture.
- `sharpness`: spectral energy of the generated images in fine detail, as a multiple of that of the true ones.
- `generated_then_captioned_*`: whether the *same* model names what it was asked for in the image that it generated.
  That is self-consistency, not accuracy: a model that generates and captions wrongly in the same way would pass.
- With `--copies_of` the split trained on: `generated_copied`, how many images have more than half of their thing,
  token by token, from one image of that split, and `generated_true_and_new`, how many are true and no such copy. From
  few images a model learns them by heart, and repeats them when it is asked.

With `--num_images_per_prompt 4` four are generated, and judged is the one given which the model itself finds the
prompt most likely (`ITITPipeline(..., return_best=1)`); neither classifier nor true image has a part in the choice.
With `--sheet` the first hundred generated images of the last split stand in one image, in the order of its scenes.
With `--unlike` only the scenes with a thing that no scene of that split shows in its colour: what the pairs lack.
With `--num_objects 2` only the scenes of two things, whose plain captions also tell how the two stand:
`generated_true`.
Beams, lengths, steps, guidance and temperature are by default what the checkpoint was saved with; the file of
`--output` has what they were.
"""

import json
import logging
from argparse import ArgumentParser
from collections.abc import Sequence
from importlib.metadata import version

import torch
from diffusers.utils import make_image_grid
from tqdm.auto import tqdm

from itit_hf import ITITPipeline
from itit_hf.data.image_tokens import add_image_token_ids
from itit_hf.data.loading import load_rows
from itit_hf.emoji_scenes.build import load_config
from itit_hf.emoji_scenes.evaluation import (
    caption_accuracy,
    confidence_interval,
    copied_shares,
    prompt_accuracy,
    with_objects,
)
from itit_hf.emoji_scenes.judges import COMMITTED, SceneJudge, open_judge
from itit_hf.emoji_scenes.scenes import Scene
from itit_hf.metrics.images import relative_sharpness
from itit_hf.pipelines.call_defaults import settle_options

logger = logging.getLogger(__name__)

BETWEEN_IMAGES = 1_000_000  # seeds from one image of a prompt to its next: more than a split has scenes


@torch.no_grad()
def tokens_of(pipe: ITITPipeline, images: list) -> torch.Tensor:
    """Token ids of images, of shape `(num_images, num_image_tokens)`."""
    return pipe.processor(images=images, return_tensors="pt")["image_token_ids"]


@torch.no_grad()
def reconstruct(pipe: ITITPipeline, images: list) -> list:
    """Images as the image tokenizer gives them back."""
    return pipe.postprocess(tokens_of(pipe, images), "pil")


def generate(pipe: ITITPipeline, prompts: list[str], seed: int, options) -> list:
    """An image of each prompt. Image j of prompt i has a seed of its own, whatever the batch size; of several the
    model itself chooses."""
    seeds = [seed + i + j * BETWEEN_IMAGES for i in range(len(prompts)) for j in range(options.num_images_per_prompt)]
    return pipe(
        prompts,
        num_inference_steps=options.num_inference_steps,
        guidance_scale=options.guidance_scale,
        temperature=options.temperature,
        num_images_per_prompt=options.num_images_per_prompt,
        return_best=1,
        generator=[torch.Generator().manual_seed(each) for each in seeds],
    ).images


def evaluate_split(
    pipe: ITITPipeline,
    judges: Sequence[SceneJudge],
    rows,
    options,
    trained_on: torch.Tensor | None = None,
    language: str = "en",
) -> dict:
    """What is found of one split.

    `shares`: all shares, and of copies if the tokens of the images trained on are given; `sharpness`; `scenes`: of
    each its prompt, its caption, and whether its generated image is right, as the first of one or two judges finds.
    """
    prompts = [texts[0] for texts in rows["text"]]
    scenes = [Scene.from_json(text) for text in rows["scene"]]
    images: list = []
    reconstructed: list = []
    captions: list[str] = []
    generated: list = []
    captions_of_generated: list[str] = []
    caption_options = {"num_beams": options.num_beams, "max_new_tokens": options.max_new_tokens}
    for start in tqdm(range(0, len(rows), options.batch_size), desc="scenes"):
        batch = list(rows[start : start + options.batch_size]["image"])
        images += batch
        reconstructed += reconstruct(pipe, batch)
        captions += pipe.caption(batch, **caption_options)
        generated += generate(pipe, prompts[start : start + len(batch)], options.seed + start, options)
        captions_of_generated += pipe.caption(generated[start:], **caption_options)
    if options.sheet:
        in_a_row = min(len(generated), 10)
        shown = generated[: min(len(generated), 100) // in_a_row * in_a_row]
        make_image_grid(shown, rows=len(shown) // in_a_row, cols=in_a_row).save(options.sheet)
    figures = {
        "caption": caption_accuracy(captions, scenes, language),
        "generated_then_captioned": caption_accuracy(captions_of_generated, scenes, language),
    }
    for prefix, judge in zip(("", "second_"), judges, strict=False):
        for what, judged in (("generated", generated), ("reconstructed", reconstructed), ("rendered", images)):
            figures[f"{prefix}{what}"] = prompt_accuracy(judged, prompts, judge, language)
    shares = {f"{what}_{name}": share for what, shares in figures.items() for name, share in shares.items()}
    pairs = list(zip(generated, prompts, strict=True))
    right = [prompt_accuracy([image], [prompt], judges[0], language)["true"] == 1.0 for image, prompt in pairs]
    if trained_on is not None:
        shares |= evaluate_copies(tokens_of(pipe, generated), right, trained_on)
    scenes_found = {"prompts": prompts, "generated_right": right, "captions": captions}
    return {"shares": shares, "sharpness": relative_sharpness(generated, images), "scenes": scenes_found}


def check_categories(folder: str, judge: SceneJudge, categories: Sequence[str]):
    """Before images are generated: a judge must know what the scenes show.

    Raises:
        ValueError: If there is a category that it does not know.
    """
    unknown = [category for category in categories if category not in judge.config.categories]
    if unknown:
        raise ValueError(
            f"`--judges` must know the categories of the dataset, {folder} does not know {', '.join(unknown)}; "
            "leave it out"
        )


def unlike(rows, others):
    """Rows with a thing that none of the other rows shows in its colour."""

    def things(text: str) -> set[tuple[str, str]]:
        return {(thing.category, thing.colour) for thing in Scene.from_json(text).objects}

    shown = set().union(*map(things, others["scene"]))
    return rows.select([i for i, scene in enumerate(rows["scene"]) if things(scene) - shown])


def evaluate_copies(image_token_ids: torch.Tensor, right: list[bool], trained_on: torch.Tensor) -> dict[str, float]:
    """Shares of generated images that copy images trained on, and of those that are right and no copies."""
    copied = (copied_shares(image_token_ids, trained_on) > 0.5).tolist()
    new = sum(good and not copy for good, copy in zip(right, copied, strict=True))
    return {"generated_copied": sum(copied) / len(right), "generated_true_and_new": new / len(right)}


def main(arguments: list[str] | None = None) -> dict:
    """Evaluate, log, and write JSON if asked."""
    parser = ArgumentParser(description="Evaluate a checkpoint on the emoji scenes.")
    parser.add_argument("--model", default="checkpoints/emoji-scenes-64", help="Pipeline folder or Hub id.")
    parser.add_argument("--dataset", default="data/emoji-scenes-64", help="Dataset folder.")
    parser.add_argument(
        "--judges",
        nargs="+",
        default=list(COMMITTED),
        help="One or two that read generated images: folders or Hub ids.",
    )
    parser.add_argument("--splits", nargs="+", default=["validation", "heldout"], help="Splits never trained on.")
    parser.add_argument("--num_scenes", type=int, default=300, help="The first so many of each split.")
    parser.add_argument("--num_beams", type=int, help="Beams of the captions; 1 is greedy and faster.")
    parser.add_argument("--max_new_tokens", type=int, help="Tokens of a caption at most.")
    parser.add_argument("--num_inference_steps", type=int, help="Decoding steps.")
    parser.add_argument("--guidance_scale", type=float, help="1 + tau.")
    parser.add_argument(
        "--num_images_per_prompt", type=int, default=1, help="Generated of a prompt; judged is the model's own choice."
    )
    parser.add_argument("--temperature", type=float, help="Of the order of decoding.")
    parser.add_argument("--seed", type=int, default=0, help="The image of scene i is generated from this seed plus i.")
    parser.add_argument("--batch_size", type=int, default=50, help="Scenes at a time.")
    parser.add_argument("--copies_of", help="Split of the dataset that was trained on, such as paired[:500].")
    parser.add_argument("--unlike", help="Judge only scenes with a thing that this split shows not in its colour.")
    parser.add_argument("--num_objects", type=int, choices=(1, 2), help="Judge only scenes of so many things.")
    parser.add_argument("--sheet", help="PNG for the first hundred generated images of the last split.")
    parser.add_argument("--output", help="JSON file for figures, each scene's result, settings, versions.")
    options = parser.parse_args(arguments)
    if len(options.judges) > 2:
        raise ValueError(f"`--judges` must be one or two, got {len(options.judges)}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    pipe = ITITPipeline.from_pretrained(options.model)
    pipe.set_progress_bar_config(disable=True)
    settle_options(options, pipe)
    config = load_config(options.dataset)
    language = config.language
    judges = [open_judge(folder) for folder in options.judges]
    for folder, judge in zip(options.judges, judges, strict=True):
        check_categories(folder, judge, config.categories)
    trained_on = None
    if options.copies_of:
        rows = add_image_token_ids(load_rows(options.dataset, options.copies_of), pipe.processor)
        trained_on = torch.tensor(rows["image_token_ids"][:])  # (T, K)
    results = {}
    for split in options.splits:
        rows = load_rows(options.dataset, split)
        if options.unlike:
            rows = unlike(rows, load_rows(options.dataset, options.unlike))
        if options.num_objects:
            rows = with_objects(rows, options.num_objects)
        rows = rows.select(range(min(options.num_scenes, len(rows))))
        found = evaluate_split(pipe, judges, rows, options, trained_on, language)
        found["intervals"] = {name: confidence_interval(share, len(rows)) for name, share in found["shares"].items()}
        results[split] = {"num_scenes": len(rows)} | found
        logger.info(f"{split}, {len(rows)} scenes, sharpness {found['sharpness']}:")
        for name, share in found["shares"].items():
            low, high = found["intervals"][name]
            logger.info(f"  {name:34} {share:.3f}  ({low:.3f} to {high:.3f})")
    if options.output:
        versions = {name: version(name) for name in ("itit_hf", "torch", "transformers", "diffusers")}
        with open(options.output, "w", encoding="utf-8") as file:
            json.dump({"settings": vars(options), "versions": versions, "results": results}, file)
    return results


if __name__ == "__main__":
    main()
