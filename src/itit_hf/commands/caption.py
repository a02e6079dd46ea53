# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Caption images."""

import logging

from .checkpoints import MODEL, load_pipeline
from .console import command_parser, show_messages

logger = logging.getLogger(__name__)


def parse_args(arguments: list[str] | None = None):
    """Command line."""
    parser = command_parser("caption")
    parser.add_argument("images", nargs="+", help="Image files.")
    parser.add_argument("--model", default=MODEL, help="Pipeline folder or Hub id.")
    parser.add_argument("--prompt", help="How the captions begin.")
    parser.add_argument("--num_beams", type=int, help="Beams; 1 is greedy; the checkpoint's by default.")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None):
    """Load, caption, log."""
    args = parse_args(arguments)
    show_messages()
    pipe = load_pipeline(args.model)
    captions = pipe.caption(list(args.images), prompt=args.prompt, num_beams=args.num_beams)
    for path, caption in zip(args.images, captions, strict=True):
        logger.info(f"{path}: {caption}")


if __name__ == "__main__":
    main()
