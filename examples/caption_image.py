# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Caption images with a pipeline folder, by default the one in this repository:

    python examples/caption_image.py out/images/00-a-red-bus.png
    python examples/caption_image.py out/images/00-a-red-bus.png --prompt "a picture of"

Logs one line per image: its file and its caption.
"""

import logging
from argparse import ArgumentParser

import torch

from itit_hf import ITITPipeline

logger = logging.getLogger(__name__)


def main(arguments: list[str] | None = None):
    """Load, caption, log."""
    parser = ArgumentParser(description="Caption images.")
    parser.add_argument("images", nargs="+", help="Image files.")
    parser.add_argument("--model", default="checkpoints/emoji-scenes-64", help="Pipeline folder or Hub id.")
    parser.add_argument("--prompt", help="How the captions begin.")
    parser.add_argument("--num_beams", type=int, help="Beams; 1 is greedy; the checkpoint's by default.")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    pipe = ITITPipeline.from_pretrained(args.model)
    if torch.cuda.is_available():
        pipe.to("cuda")
    captions = pipe.caption(list(args.images), prompt=args.prompt, num_beams=args.num_beams)
    for path, caption in zip(args.images, captions, strict=True):
        logger.info(f"{path}: {caption}")


if __name__ == "__main__":
    main()
