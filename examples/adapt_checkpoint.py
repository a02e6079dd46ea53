# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Take a checkpoint to images of another size, or to another text encoder, and train on from there:

    python examples/adapt_checkpoint.py --resolution 96 --text_encoder out/two/text_encoder --output_dir out/two/start
    accelerate launch examples/train_itit.py --frozen_parts out/two/start --model_name_or_path out/two/start/model ...

Image tokens stay as large, there are more or fewer of them; `--resolution 64 96` is 64 pixels high and 96 wide. Of
another text encoder's vocabulary the model can write the words that it could write before; what prompts mean has to be
learned anew.
"""

import logging
from argparse import ArgumentParser

import torch
from transformers import AutoModelForTextEncoding, AutoTokenizer

from itit_hf import ITITPipeline
from itit_hf.models.adaptation import replace_text_encoder, resize_image_grid
from itit_hf.models.image_processing_itit import height_and_width
from itit_hf.models.image_tokenization_itit import downsampling_factor

logger = logging.getLogger(__name__)


def parse_args(arguments: list[str] | None = None):
    """Command line."""
    parser = ArgumentParser(description="Take a checkpoint to images of another size, or to another text encoder.")
    parser.add_argument("--model", default="checkpoints/emoji-scenes-64", help="Pipeline folder or Hub id.")
    parser.add_argument(
        "--resolution", type=int, nargs="+", default=[], help="Side of the new images in pixels, or height and width."
    )
    parser.add_argument("--text_encoder", help="Folder or Hub id of a text encoder with its tokenizer.")
    parser.add_argument("--output_dir", required=True, help="New pipeline folder.")
    parser.add_argument("--seed", type=int, default=0, help="Draws the projection of the new text features.")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None):
    """Load, adapt, save."""
    args = parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    size = height_and_width(args.resolution, "--resolution")
    if size is None and args.text_encoder is None:
        raise ValueError("give `--resolution`, `--text_encoder` or both: there is nothing to adapt to")
    pipe = ITITPipeline.from_pretrained(args.model)
    modules = dict(pipe.components)
    if size is not None:
        factor = downsampling_factor(modules["image_tokenizer"])
        if any(length % factor for length in size):
            raise ValueError(
                f"`--resolution` must be a multiple of {factor}, a token's side; got {size[0]} x {size[1]}"
            )
        modules["model"] = resize_image_grid(modules["model"], [length // factor for length in size])
        modules["image_processor"] = modules["image_processor"].with_size(size[0], size[1])
    if args.text_encoder is not None:
        tokenizer = AutoTokenizer.from_pretrained(args.text_encoder)
        text_encoder = AutoModelForTextEncoding.from_pretrained(args.text_encoder, dtype=torch.float32)
        generator = torch.Generator().manual_seed(args.seed)
        model = replace_text_encoder(modules["model"], modules["tokenizer"], tokenizer, text_encoder, generator)
        model.config.text_encoder_name_or_path = args.text_encoder
        modules |= {"model": model, "tokenizer": tokenizer, "text_encoder": text_encoder}
    ITITPipeline(**modules, sampling=pipe.sampling).save_pretrained(args.output_dir)
    logger.info(f"{args.output_dir}: {modules['model'].config.num_image_tokens} tokens an image; train on from it")


if __name__ == "__main__":
    main()
