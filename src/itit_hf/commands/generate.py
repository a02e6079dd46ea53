# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Generate images from text, or edit one."""

import logging
import re
from pathlib import Path

import torch

from ..training.sample_logging import image_grid
from .checkpoints import MODEL, load_pipeline
from .console import command_parser, show_messages

logger = logging.getLogger(__name__)


def parse_args(arguments: list[str] | None = None):
    """Command line."""
    parser = command_parser("generate")
    parser.add_argument("prompts", nargs="+", help="What the images show.")
    parser.add_argument("--model", default=MODEL, help="Pipeline folder or Hub id.")
    parser.add_argument("--output_dir", default="out/images", help="Where the images are written.")
    parser.add_argument("--image", help="Image file to edit.")
    parser.add_argument("--mask_image", help="Image file, white where the image is generated anew; all of it without.")
    parser.add_argument("--strength", type=float, help="Share of the steps; 1 with a mask, 0.5 without by default.")
    parser.add_argument("--negative_prompt", help="What to move away from.")
    parser.add_argument("--num_inference_steps", type=int, help="Decoding steps; the checkpoint's by default.")
    parser.add_argument("--guidance_scale", type=float, help="1 + tau; 1 is none; the checkpoint's by default.")
    parser.add_argument("--temperature", type=float, help="Randomness of the order; the checkpoint's by default.")
    parser.add_argument("--num_images_per_prompt", type=int, default=1, help="Images of each prompt.")
    parser.add_argument("--seed", type=int, default=0, help="Image i is generated from seed + i.")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None):
    """Load, generate, save."""
    args = parse_args(arguments)
    show_messages()
    pipe = load_pipeline(args.model)
    labels = [prompt for prompt in args.prompts for _ in range(args.num_images_per_prompt)]
    images = pipe(
        args.prompts,
        image=args.image,
        mask_image=args.mask_image,
        strength=args.strength,
        negative_prompt=args.negative_prompt,
        num_inference_steps=args.num_inference_steps,
        guidance_scale=args.guidance_scale,
        temperature=args.temperature,
        num_images_per_prompt=args.num_images_per_prompt,
        generator=[torch.Generator().manual_seed(args.seed + i) for i in range(len(labels))],
    ).images
    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        name = re.sub(r"\W+", "-", label.lower()).strip("-")[:60] or "image"
        image.save(folder / f"{index:02d}-{name}.png")
    image_grid(images, labels).save(folder / "grid.png")
    logger.info(f"{len(images)} images and their grid: {folder / 'grid.png'}")


if __name__ == "__main__":
    main()
