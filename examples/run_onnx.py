# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Generate and caption with what `examples/export_onnx.py` wrote, without torch and without this package:

    pip install numpy onnxruntime tokenizers Pillow
    python examples/run_onnx.py --model out/onnx --prompts "a red bus" "a blue fish"
    python examples/run_onnx.py --model out/onnx --images out/images/00.png

Writes an image for each prompt, and logs a line for each. Takes seconds on a CPU.
"""

import logging
import sys
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

logger = logging.getLogger(__name__)


def parse_args(arguments: list[str] | None = None):
    """Command line."""
    parser = ArgumentParser(description="Generate and caption with ONNX graphs.")
    parser.add_argument("--model", default="out/onnx", help="Folder of graphs.")
    parser.add_argument("--prompts", nargs="*", default=[], help="What to generate.")
    parser.add_argument("--images", nargs="*", default=[], help="Image files to caption.")
    parser.add_argument("--output_dir", default="out/images", help="Where generated images are written.")
    parser.add_argument(
        "--num_inference_steps", type=int, help="Decoding steps; those that it was saved with by default."
    )
    parser.add_argument("--guidance_scale", type=float, help="1 + tau; 1 is none.")
    parser.add_argument("--num_beams", type=int, help="Of captions; 1 is greedy.")
    parser.add_argument("--seed", type=int, default=0, help="Of the noise.")
    return parser.parse_args(arguments)


def read_image(path: str, size: tuple[int, int]) -> np.ndarray:
    """An image file as the pipeline sees it: turned upright, on white where it is transparent, squeezed to `size`.

    Args:
        path (`str`): Image file.
        size (`tuple[int, int]`): Width and height in pixels.

    Returns:
        `np.ndarray` of shape `(height, width, 3)`: uint8.
    """
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGBA")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(image, mask=image.getchannel("A"))
    return np.asarray(canvas.resize(size, Image.Resampling.BICUBIC))


def main(arguments: list[str] | None = None):
    """Open the folder, generate, caption."""
    args = parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.path.insert(0, args.model)
    from onnx_runtime import ONNXPipeline  # the copy that lies beside the graphs

    pipe = ONNXPipeline.from_folder(args.model)
    if args.prompts:
        rng = np.random.default_rng(args.seed)
        images = pipe.generate(args.prompts, args.num_inference_steps, args.guidance_scale, rng=rng)
        folder = Path(args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        for index, (image, prompt) in enumerate(zip(images, args.prompts, strict=True)):
            path = folder / f"{index:02d}.png"
            Image.fromarray(image).save(path)
            logger.info(f"{path}: {prompt}")
    if args.images:
        size = pipe.settings["image"]["width"], pipe.settings["image"]["height"]
        captions = pipe.caption(np.stack([read_image(path, size) for path in args.images]), args.num_beams)
        for path, caption in zip(args.images, captions, strict=True):
            logger.info(f"{path}: {caption}")


if __name__ == "__main__":
    main()
