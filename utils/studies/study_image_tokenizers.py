# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""How image tokenizers give back images of sources that the general one never saw, side by side:

    python utils/build_art_images.py --output_dir data/art-64 && python utils/build_art_images.py --side 128 \
        --output_dir data/art-128
    python utils/studies/study_image_tokenizers.py --image_tokenizers art=checkpoints/image-tokenizer-art \
        scenes=checkpoints/emoji-scenes-64/image_tokenizer own=out/image_tokenizer_own \
        --datasets 64=data/art-64 128=data/art-128 --perceptual_loss data/lpips-alexnet.safetensors \
        --output docs/experiments/image_tokenizers.json --sheets docs/images

PSNR is of the mean squared error over a whole split, LPIPS the mean over its images. Each sheet has a row of images,
and below it a row for each tokenizer.
"""

import argparse
import json
import logging
from pathlib import Path

import torch
from diffusers import VQModel
from PIL import Image
from tqdm.auto import tqdm

from itit_hf import PatchVQModel
from itit_hf.data.loading import load_rows
from itit_hf.models.image_tokenization_itit import decode_image_token_ids, encode_images
from itit_hf.pretraining.perceptual_loss import PerceptualLoss, load_perceptual_loss
from itit_hf.pretraining.vq_evaluation import psnr
from itit_hf.pretraining.vq_training import ImageDataset

logger = logging.getLogger(__name__)

BATCH = 32
ON_SHEET = 12  # images, evenly spread over a split


def load_image_tokenizer(source: str) -> VQModel | PatchVQModel:
    """Either kind of image tokenizer, from its folder."""
    is_patch = PatchVQModel.load_config(source)["_class_name"] == "PatchVQModel"
    return (PatchVQModel if is_patch else VQModel).from_pretrained(source).eval()


@torch.no_grad()
def reconstruct(image_tokenizer: VQModel | PatchVQModel, pixel_values: torch.Tensor) -> torch.Tensor:
    """Images through the codes and back.

    Args:
        image_tokenizer (`VQModel` or [`PatchVQModel`]): Of either kind.
        pixel_values (`torch.FloatTensor` of shape `(num_images, 3, height, width)`): Pixels in [-1, 1].

    Returns:
        `torch.FloatTensor` of the same shape, within [-1, 1].
    """
    batches = [
        decode_image_token_ids(image_tokenizer, encode_images(image_tokenizer, batch)).clamp(-1.0, 1.0)
        for batch in pixel_values.split(BATCH)
    ]
    return torch.cat(batches)  # (N, 3, H, W)


@torch.no_grad()
def judge(samples: torch.Tensor, pixel_values: torch.Tensor, perceptual_loss: PerceptualLoss) -> dict[str, float]:
    """PSNR in dB and LPIPS of reconstructions.

    Args:
        samples (`torch.FloatTensor` of shape `(num_images, 3, height, width)`): Pixels in [-1, 1].
        pixel_values (`torch.FloatTensor` of the same shape): What they should be.
        perceptual_loss ([`PerceptualLoss`]): LPIPS.

    Returns:
        `dict[str, float]`: `psnr` and `lpips`.
    """
    total = 0.0
    for sample, wanted in zip(samples.split(BATCH), pixel_values.split(BATCH), strict=True):
        total += float(perceptual_loss(sample, wanted).mean()) * len(sample)
    return {"psnr": psnr(samples, pixel_values), "lpips": total / len(samples)}


def sheet(rows: list[torch.Tensor]) -> Image.Image:
    """Rows of images below each other, each of shape `(num_images, 3, height, width)`."""
    pixels = torch.cat([torch.cat(list(row), dim=-1) for row in rows], dim=-2)  # (3, R * H, N * W)
    return Image.fromarray((pixels * 127.5 + 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy())


def pairs_of(values: list[str], name: str) -> dict[str, str]:
    """`key=value` arguments as a dictionary.

    Raises:
        ValueError: If one is no such pair.
    """
    found = dict(value.split("=", 1) for value in values if "=" in value)
    if len(found) != len(values):
        raise ValueError(f"`{name}` must be different names with a value, such as art=folder, got {values}")
    return found


def main(arguments: list[str] | None = None) -> dict:
    """Reconstruct, judge, write; what was written."""
    parser = argparse.ArgumentParser(description="Image tokenizers on images of unseen sources.")
    parser.add_argument("--image_tokenizers", nargs="+", required=True, help="name=folder of each.")
    parser.add_argument("--datasets", nargs="+", required=True, help="pixels=folder of each size.")
    parser.add_argument("--splits", nargs="+", default=["unseen_drawings", "unseen_photos"])
    parser.add_argument("--num_images", type=int, default=300, help="Of a split, evenly spread (default: 300).")
    parser.add_argument("--perceptual_loss", required=True, help="LPIPS as utils/convert_lpips.py stores it.")
    parser.add_argument("--output", required=True, help="JSON file.")
    parser.add_argument("--sheets", help="Folder of the images.")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sources = pairs_of(options.image_tokenizers, "--image_tokenizers")
    tokenizers = {name: load_image_tokenizer(source) for name, source in sources.items()}
    perceptual_loss = load_perceptual_loss(options.perceptual_loss)
    results = []
    for pixels, folder in pairs_of(options.datasets, "--datasets").items():
        for split in options.splits:
            rows = load_rows(folder, split, needed=["image"])
            count = min(options.num_images, len(rows))
            chosen = rows.select([number * len(rows) // count for number in range(count)])
            images = ImageDataset(chosen, resolution=int(pixels))
            pixel_values = torch.stack([images[number] for number in range(count)]) / 127.5 - 1.0  # (N, 3, H, W)
            shown = [number * count // ON_SHEET for number in range(ON_SHEET)]
            sheet_rows = [pixel_values[shown]]
            for name, image_tokenizer in tqdm(tokenizers.items(), desc=f"{split} at {pixels} pixels"):
                samples = reconstruct(image_tokenizer, pixel_values)
                sheet_rows.append(samples[shown])
                setting = {"image_tokenizer": name, "split": split, "pixels": int(pixels), "num_images": count}
                results.append(setting | judge(samples, pixel_values, perceptual_loss))
            if options.sheets is not None:
                Path(options.sheets).mkdir(parents=True, exist_ok=True)
                sheet(sheet_rows).save(Path(options.sheets) / f"image-tokenizers-{split}-{pixels}.png")
    written = {"sources": sources, "results": results}
    Path(options.output).parent.mkdir(parents=True, exist_ok=True)
    Path(options.output).write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    for result in results:
        logger.info(" ".join(f"{value:.3f}" if isinstance(value, float) else str(value) for value in result.values()))
    return written


if __name__ == "__main__":
    main()
