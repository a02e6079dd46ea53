# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Teach a pipeline something new from twenty images, as a LoRA adapter of its network; all else stays as it is.

With no argument: twenty images of a thing that the committed checkpoint has never seen, on two CPU cores in minutes:

    python examples/train_lora.py

On your own images (whatever examples/train_itit.py reads; columns `image` and `text`, or named by `--columns`):

    python examples/train_lora.py --dataset path/to/twenty --prompts "my cat" --output_dir out/my-cat

With `--prior_images 96` the checkpoint first generates and captions images of what it knows, and half of each batch is
of these, so that it forgets less. Of your own checkpoint name the texts that it was trained on, or their like, one a
line:

    python examples/train_lora.py --dataset path/to/twenty --prior_images 96 --prior_prompts known.txt

Interrupted, or with `--save_strategy steps`? The same command with `--resume_from_checkpoint` goes on.

Writes the adapter, which `pipe.load_lora_weights` opens, and a grid of what is generated before and after from the
same seeds, and logs the losses on held-out images before and after. `--push_to_hub --hub_model_id NAME` uploads it.
"""

import itertools
import logging
import os
from dataclasses import dataclass, field

import PIL.Image
import torch
from datasets import Dataset
from transformers import set_seed

from itit_hf import ITITPipeline, ITITTrainer, ITITTrainingArguments
from itit_hf.data.captions import captions_of
from itit_hf.data.image_tokens import add_image_token_ids
from itit_hf.data.loading import load_rows, parse_columns
from itit_hf.data.streams import STREAM_COLUMNS
from itit_hf.emoji_scenes.grammar import captions
from itit_hf.emoji_scenes.scenes import SceneConfig, first_categories, render_scene, world_of
from itit_hf.emoji_scenes.splits import held_out_split
from itit_hf.pipelines.lora import add_lora
from itit_hf.training.prior import PriorArguments, add_prior
from itit_hf.training.sample_logging import image_grid
from itit_hf.training.training_args import parse_arguments

logger = logging.getLogger(__name__)

NUM_KNOWN = 24  # categories of things that the committed checkpoint knows
NUM_SHOWN = 6  # images of each prompt, before and after


@dataclass
class ScriptArguments:
    """What this script needs besides [`ITITTrainingArguments`].

    Args:
        model (`str`): Pipeline folder or Hub id to start from.
        dataset (`str`, *optional*): Folder or Hub id with `image` and `text`; rendered for the occasion by default.
        split (`str`, *optional*): Its split; may be left out if there is one only.
        columns (`list[str]`): What its columns are called, such as `image=photo text=alt`; class labels become
            captions.
        bad_captions (`str`): What to do about captions that are none (null, empty, blank, words such as NA): raise, or
            skip, which leaves them out and counts them.
        num_held_out (`int`): How many of your images, from the end, are held out for the losses before and after.
        new_category (`str`): Without a dataset, the thing to learn; none of those that the checkpoint was trained on.
        new_colour (`str`): Its colour.
        new_style (`str`): Art that it is taken from.
        num_images (`int`): Without a dataset, images to learn from.
        prompts (`list[str]`): What to generate before and after; the first caption by default.
        rank (`int`): Rank of the adapter.
        adapter_name (`str`): What the adapter is called.
    """

    model: str = "checkpoints/emoji-scenes-64"
    dataset: str | None = None
    split: str | None = None
    columns: list[str] = field(default_factory=list)
    bad_captions: str = "raise"
    num_held_out: int = 4
    new_category: str = "dinosaur"
    new_colour: str = "green"
    new_style: str = "openmoji"
    num_images: int = 20
    prompts: list[str] = field(default_factory=list)
    rank: int = 16
    adapter_name: str = "default"


def render_new_thing(args: ScriptArguments, size: tuple[int, int], seed: int) -> tuple[Dataset, Dataset]:
    """Images to learn from, and as many held-out ones: the same thing at other places, in other sizes."""
    world = SceneConfig(size, styles=(args.new_style,), categories=(args.new_category,), colours=(args.new_colour,))
    rows = []
    for index in range(2 * args.num_images):
        pixels, scene = render_scene(world, seed, index)
        rows.append({"image": PIL.Image.fromarray(pixels), "text": captions(scene)})
    return Dataset.from_list(rows[: args.num_images]), Dataset.from_list(rows[args.num_images :])


def known_texts(args: ScriptArguments, size: tuple[int, int], seed: int, num_rows: int) -> Dataset:
    """Captions such as the committed checkpoint was trained on: of its world, without what was held out there."""
    styles = (args.new_style,)
    world = world_of(SceneConfig(size, styles=styles, categories=first_categories(styles, NUM_KNOWN)))
    scenes = (world.sample(seed, index) for index in itertools.count())
    seen = (scene for scene in scenes if held_out_split(scene) is None)
    return Dataset.from_list([{"text": captions(scene)} for scene in itertools.islice(seen, num_rows)])


def load_images(args: ScriptArguments, size: tuple[int, int], seed: int) -> tuple[Dataset, Dataset]:
    """Images to learn from, and held-out ones."""
    if args.dataset is None:
        return render_new_thing(args, size, seed)
    columns = parse_columns(args.columns, "--columns")
    rows = load_rows(
        args.dataset, args.split, columns, needed=STREAM_COLUMNS["paired"], bad_captions=args.bad_captions
    )
    if not 1 <= args.num_held_out < len(rows):
        raise ValueError(f"`num_held_out` must be from 1 to {len(rows) - 1}, got {args.num_held_out}")
    last = len(rows) - args.num_held_out
    return rows.select(range(last)), rows.select(range(last, len(rows)))


def generate(pipe: ITITPipeline, prompts: list[str], args: ITITTrainingArguments) -> list[PIL.Image.Image]:
    """`NUM_SHOWN` images of each prompt, from the same seeds each time, by the checkpoint's own settings."""
    pipe.set_progress_bar_config(disable=True)
    seeds = [torch.Generator().manual_seed(args.seed + i) for i in range(NUM_SHOWN * len(prompts))]
    return pipe(
        prompts,
        num_images_per_prompt=NUM_SHOWN,
        generator=seeds,
    ).images


def report(before: dict[str, float], after: dict[str, float], prefix: str = "eval_loss_"):
    """A line for each loss on held-out images."""
    for name in sorted(name for name in before if name.startswith(prefix)):
        logger.info(f"held-out {name.removeprefix(prefix)}: {before[name]:.3f} -> {after[name]:.3f} nats")


def main(arguments: list[str] | None = None) -> tuple[dict, dict]:
    """Load, generate, train, generate again, save; the losses on held-out images before and after."""
    recipe = os.path.join(os.path.dirname(__file__), "recipes", "lora_twenty_images.yaml")
    types = [ScriptArguments, PriorArguments, ITITTrainingArguments]
    args, prior, training_args = parse_arguments(types, arguments, recipe)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    set_seed(training_args.seed)
    pipe = ITITPipeline.from_pretrained(args.model)
    size = pipe.image_processor.output_size
    train, held_out = load_images(args, size, training_args.seed)
    prompts = list(args.prompts or captions_of(train[0]["text"])[:1])
    images = generate(pipe, prompts, training_args)
    labels = [f"before: {prompt}" for prompt in prompts for _ in range(NUM_SHOWN)]

    on_bad_image = training_args.on_bad_image
    train = add_image_token_ids(train, pipe.processor, on_bad_image=on_bad_image)
    held_out = add_image_token_ids(held_out, pipe.processor, on_bad_image=on_bad_image)
    known = None
    if args.dataset is None and prior.prior_images:
        known = known_texts(args, size, training_args.seed, prior.prior_images)
    train = add_prior(train, pipe, prior, training_args, known)
    add_lora(pipe.model, args.rank, adapter_name=args.adapter_name)
    # The adapter is uploaded below, and not the pipeline with it.
    push_to_hub = training_args.push_to_hub
    training_args.push_to_hub = False
    trainer = ITITTrainer(
        model=pipe.model,
        args=training_args,
        processing_class=pipe.processor,
        text_encoder=pipe.text_encoder,
        train_streams={"paired": train},
        eval_dataset=held_out,
        scheduler=pipe.scheduler,
    )
    before = trainer.evaluate()
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    after = trainer.evaluate()
    report(before, after)

    pipe.model.eval()
    images += generate(pipe, prompts, training_args)
    labels += [label.replace("before", "after") for label in labels]
    grid = os.path.join(training_args.output_dir, "before-after.png")
    image_grid(images, labels, columns=NUM_SHOWN).save(grid)
    adapter = os.path.join(training_args.output_dir, "adapter")
    pipe.save_lora_weights(adapter, args.adapter_name)
    logger.info(f"adapter: {adapter}   images: {grid}")
    if push_to_hub:
        name = training_args.hub_model_id or os.path.basename(os.path.abspath(training_args.output_dir))
        options = {"private": training_args.hub_private_repo, "token": training_args.hub_token}
        pipe.push_lora_to_hub(name, args.adapter_name, base_model=args.model, prompts=prompts, **options)
    return before, after


if __name__ == "__main__":
    main()
