# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Peak memory of the two forms of the straight-through softmax, forward and backward:

    python utils/benchmarks/benchmark_straight_through.py --batch_size 64 --length 64 --num_classes 32128

From the text decoder's states over its head and the argmax to the text encoder's embeddings: `dense` multiplies
one-hot rows by the table; `lean`, the one that I2T2I uses, never keeps the logits. Each runs in a process of its own.
The figure is how far the resident memory rises above what the states, the head and the table need.
"""

import logging
import resource
from argparse import ArgumentParser, Namespace
from multiprocessing import get_context

import torch

from itit_hf.models.straight_through_itit import straight_through, straight_through_projection

logger = logging.getLogger(__name__)

MEBIBYTE_IN_KIBIBYTES = 1024
FORMS = {
    "dense": lambda states, weight, table: straight_through(states @ weight.t()) @ table,
    "lean": lambda states, weight, table: straight_through_projection(states, weight, table)[0],
}


def peak_mebibytes(form: str, options: Namespace) -> float:
    """Rise of the peak of resident memory over one forward and backward pass of one of `FORMS`, in MiB."""
    generator = torch.Generator().manual_seed(options.seed)
    states = torch.randn(options.batch_size, options.length, options.width, generator=generator).requires_grad_()
    weight = torch.randn(options.num_classes, options.width, generator=generator).requires_grad_()
    table = torch.randn(options.num_classes, options.width, generator=generator)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    FORMS[form](states, weight, table).sum().backward()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / MEBIBYTE_IN_KIBIBYTES


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Measure both forms and log the ratio."""
    parser = ArgumentParser(description="Peak memory of the straight-through softmax.")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--length", type=int, default=64, help="Tokens of a sample.")
    parser.add_argument("--num_classes", type=int, default=32128, help="Words, or codes.")
    parser.add_argument("--width", type=int, default=512, help="Of states and embeddings.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        peaks = {form: pool.apply(peak_mebibytes, (form, options)) for form in FORMS}
    ratio = peaks["dense"] / peaks["lean"]
    logger.info(f"dense {peaks['dense']:.0f} MiB, lean {peaks['lean']:.0f} MiB: {ratio:.1f} times less")
    return peaks


if __name__ == "__main__":
    main()
