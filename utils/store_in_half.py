# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""A pipeline folder whose model takes half the bytes on disk, and computes in float32 when it is opened:

    python utils/store_in_half.py --model out/emoji-words/one/pipeline --output_dir checkpoints/emoji-words-64

Weights are rounded to float16, which keeps 11 bits of each; what is measured of the new folder is measured of these.
"""

import logging
from argparse import ArgumentParser
from pathlib import Path

import torch

from itit_hf import ITITPipeline

logger = logging.getLogger(__name__)


def rounded(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The model's weights in float16, which the model has from then on, in its own precision.

    Args:
        model (`torch.nn.Module`): Of float32.

    Returns:
        `dict[str, torch.HalfTensor]`: By name.

    Raises:
        ValueError: If a weight is too large for float16.
    """
    halves = {name: weight.half() for name, weight in model.state_dict().items()}
    too_large = [name for name, weight in halves.items() if not weight.isfinite().all()]
    if too_large:
        raise ValueError(f"`model` must have finite weights below 65,504, {too_large[0]} has others")
    model.load_state_dict({name: weight.float() for name, weight in halves.items()})
    return halves


def main(arguments: list[str] | None = None) -> None:
    """Open, round, save."""
    parser = ArgumentParser(description="Store a pipeline's model in half the bytes.")
    parser.add_argument("--model", required=True, help="Pipeline folder or Hub id.")
    parser.add_argument("--output_dir", required=True, help="New pipeline folder.")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if Path(options.output_dir).exists():
        raise ValueError(f"`--output_dir` must be a new folder, {options.output_dir} exists")
    pipe = ITITPipeline.from_pretrained(options.model)
    halves = rounded(pipe.model)
    pipe.save_pretrained(options.output_dir)
    pipe.model.save_pretrained(Path(options.output_dir, "model"), state_dict=halves)
    size = sum(file.stat().st_size for file in Path(options.output_dir, "model").glob("*.safetensors"))
    logger.info(f"{options.output_dir}: {size / 1e6:.1f} MB of model weights")


if __name__ == "__main__":
    main()
