# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Generate an image of a text, caption it, generate of the caption ..., and see what stays (Figures 6 and 10):

    python examples/cycle.py --prompt "a red bus" --rounds 4
    python examples/cycle.py --image out/images/00-a-red-bus.png

Writes one figure with every text and image, and logs how far each is from the first one: the overlap of words (F1),
the share of image tokens that are the same, and the log-likelihood of the first text given the image, per token.
Takes seconds on a CPU.
"""

import logging
from argparse import ArgumentParser
from pathlib import Path

import torch

from itit_hf import ITITPipeline
from itit_hf.pipelines.call_defaults import with_given
from itit_hf.pipelines.pipeline_output import ITITCycleOutput
from itit_hf.training.sample_logging import image_grid

logger = logging.getLogger(__name__)


def parse_args(arguments: list[str] | None = None):
    """Command line."""
    parser = ArgumentParser(description="Generate and caption by turns.")
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--prompt", help="Text to start from.")
    start.add_argument("--image", help="Image file to start from.")
    parser.add_argument("--rounds", type=int, default=4, help="Images, and captions.")
    parser.add_argument("--model", default="checkpoints/emoji-scenes-64", help="Pipeline folder or Hub id.")
    parser.add_argument("--output", default="out/cycle.png", help="Where the figure is written.")
    parser.add_argument("--num_inference_steps", type=int, help="Decoding steps; the checkpoint's by default.")
    parser.add_argument("--guidance_scale", type=float, help="1 + tau; 1 is none; the checkpoint's by default.")
    parser.add_argument("--temperature", type=float, help="Randomness of the order; the checkpoint's by default.")
    parser.add_argument("--num_beams", type=int, help="Beams; 1 is greedy; the checkpoint's by default.")
    parser.add_argument("--seed", type=int, default=0, help="Of all rounds together.")
    return parser.parse_args(arguments)


def labels(output: ITITCycleOutput) -> tuple[list[str], list[str]]:
    """One line for each text, and one for each image, of the first chain."""
    drift = output.drift()
    texts = ["same words" if same else f"F1 {drift.word_f1[0, i]:.2f}" for i, same in enumerate(drift.same_words[0])]
    images = [f"{same:.0%} of the tokens" for same in drift.same_image_tokens[0]]
    texts[0] = "the first text"
    images[0] = "the first image"
    images = [f"{label}, log p {score:.2f}" for label, score in zip(images, output.scores[0], strict=True)]
    starts_with_text = len(output.texts[0]) > len(output.images[0])
    # What is given belongs to no round, and is number 0.
    return _numbered(texts, 0 if starts_with_text else 1), _numbered(images, 1 if starts_with_text else 0)


def _numbered(lines: list[str], first_round: int) -> list[str]:
    return [f"round {i}: {line}" if i else f"given: {line}" for i, line in enumerate(lines, first_round)]


def main(arguments: list[str] | None = None):
    """Load, go round, save, log."""
    args = parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    pipe = ITITPipeline.from_pretrained(args.model)
    if torch.cuda.is_available():
        pipe.to("cuda")
    names = ("num_inference_steps", "guidance_scale", "temperature")
    sampling = with_given(pipe.sampling, {name: getattr(args, name) for name in names})
    output = pipe.cycle(
        prompt=args.prompt,
        image=args.image,
        rounds=args.rounds,
        sampling=sampling,
        num_beams=args.num_beams,
        generator=torch.Generator().manual_seed(args.seed),
    )
    texts = output.texts[0]
    images = output.images[0]
    text_labels, image_labels = labels(output)
    # The upper row is of the kind that the chain starts from; under each cell stands what was made of it.
    if args.image is None:
        cells = [*texts, *images]
        cell_labels = text_labels + image_labels
    else:
        cells = [*images, *texts]
        cell_labels = image_labels + text_labels
    grid = image_grid(cells, cell_labels, columns=len(texts) if args.image is None else len(images), cell_size=192)
    path = Path(args.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    grid.save(path)
    for text, label in zip(texts, text_labels, strict=True):
        logger.info(f"{label}: {text!r}")
    for label in image_labels:
        logger.info(label)
    logger.info(f"every text and image: {path}")


if __name__ == "__main__":
    main()
