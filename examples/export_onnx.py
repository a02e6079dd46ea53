# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Export a pipeline folder to ONNX, by default the one in this repository; needs the extra `onnx`:

    python examples/export_onnx.py --output_dir out/onnx
    python examples/export_onnx.py --output_dir out/onnx-int8 --precision int8

`examples/run_onnx.py` then generates and captions, without torch. Takes two minutes on a CPU.
"""

import logging
from argparse import ArgumentParser

from itit_hf import ITITPipeline
from itit_hf.export.onnx_export import PRECISIONS, export_onnx

logger = logging.getLogger(__name__)


def parse_args(arguments: list[str] | None = None):
    """Command line."""
    parser = ArgumentParser(description="Export a pipeline to ONNX.")
    parser.add_argument("--model", default="checkpoints/emoji-scenes-64", help="Pipeline folder or Hub id.")
    parser.add_argument("--output_dir", default="out/onnx", help="Where the graphs are written.")
    parser.add_argument("--precision", default="float32", choices=PRECISIONS, help="Of the transformers' weights.")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None):
    """Load, export, say how large it is."""
    args = parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    folder = export_onnx(ITITPipeline.from_pretrained(args.model), args.output_dir, args.precision)
    for path in sorted(folder.glob("*.onnx")):
        logger.info(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
