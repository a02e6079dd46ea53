# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What a terminal shows of the commands: what each is for, with examples, and the messages of a run."""

import logging
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """What `--help` says of a command.

    Args:
        description (`str`): What it does, in a sentence.
        examples (`tuple[str, ...]`): Command lines, the simplest first.
    """

    description: str
    examples: tuple[str, ...]

    @property
    def epilog(self) -> str:
        """The examples, for the end of the help."""
        return "\n  ".join(["examples:", *self.examples])


# Each is a module of this room.
COMMANDS: dict[str, Command] = {
    "generate": Command(
        "Generate images from text, or edit one.",
        (
            'itit generate "a red bus"',
            'itit generate "a red bus" "a blue fish" --num_images_per_prompt 4 --seed 1',
            'itit generate "a blue fish" --image bus.png --mask_image mask.png',
            'itit generate "a boat at night" --model out/mine/pipeline',
        ),
    ),
    "caption": Command(
        "Caption images.",
        ("itit caption bus.png", 'itit caption bus.png --prompt "a picture of" --model out/mine/pipeline'),
    ),
    "train": Command(
        "Train on captioned images, and on images and sentences that do not belong together.",
        (
            "itit train --paired_dataset images --output_dir out/mine",
            "itit train --paired_dataset images --output_dir out/mine --resume_from_checkpoint",
            "itit train --config mine.yaml --max_steps 300",
            "accelerate launch --multi_gpu -m itit_hf.commands.train --paired_dataset images --output_dir out/mine",
        ),
    ),
    "evaluate": Command(
        "Measure a checkpoint in both directions, on any captioned images.",
        (
            "itit evaluate --model out/mine/pipeline --dataset images --split train --directions captions",
            'itit evaluate --model me/mine --preset dataset --dataset "shards/*.tar" --num_samples 5000',
        ),
    ),
    "app": Command(
        "Generate, edit, caption and cycle in the browser.",
        ("itit app", "itit app --model out/mine/pipeline --server_name 0.0.0.0 --server_port 7861"),
    ),
    "convert": Command(
        "Turn a dataset of any kind into a Lance dataset, which is read row by row at any size.",
        ("itit convert path/to/shards --output data/pairs.lance",),
    ),
}


def command_parser(name: str) -> ArgumentParser:
    """A parser that knows what a command is for, and no argument yet.

    Args:
        name (`str`): One of [`COMMANDS`].

    Returns:
        `ArgumentParser`.
    """
    command = COMMANDS[name]
    return ArgumentParser(
        prog=f"itit {name}",
        description=command.description,
        epilog=command.epilog,
        formatter_class=RawDescriptionHelpFormatter,
    )


def show_messages():
    """Write what a run says to the standard output, a line for each message; of requests to the Hub only warnings."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    for name in ("httpx", "httpx2"):  # of huggingface_hub
        logging.getLogger(name).setLevel(logging.WARNING)
