# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The committed general image tokenizer, and its card."""

import json
import re
from pathlib import Path

import PIL.Image
import PIL.ImageDraw
import pytest
import torch

from itit_hf import PatchVQModel
from itit_hf.models.image_processing_itit import load_image_processor
from itit_hf.models.image_tokenization_itit import decode_image_token_ids, encode_images
from itit_hf.pretraining.vq_evaluation import psnr

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "checkpoints" / "image-tokenizer-art"
CARD = ROOT / "model_cards" / "image-tokenizer-art.md"
SOURCES = {"OpenMoji": "unseen_drawings", "photographs": "unseen_photos"}
COLUMNS = ("art", "scenes", "own_64", "own_128")


def test_it_is_below_ten_megabytes():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 10_000_000


@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
def test_a_plain_drawing_comes_back(size):
    image = PIL.Image.new("RGB", size[::-1], "white")
    PIL.ImageDraw.Draw(image).ellipse((12, 12, 50, 50), fill="crimson")
    processor = load_image_processor(str(FOLDER), str(FOLDER), list(size), None)
    pixel_values = processor(images=image, return_tensors="pt").pixel_values
    image_tokenizer = PatchVQModel.from_pretrained(FOLDER).eval()
    with torch.no_grad():
        ids = encode_images(image_tokenizer, pixel_values)
        sample = decode_image_token_ids(image_tokenizer, ids, image_grid=(size[0] // 8, size[1] // 8))
    assert ids.shape == (1, size[0] * size[1] // 64)
    assert psnr(sample, pixel_values) > 20.0


def test_the_card_prints_what_the_study_found():
    results = json.loads(CARD.with_suffix(".json").read_text(encoding="utf-8"))["results"]
    found = {(r["split"], r["pixels"], r["image_tokenizer"]): f"{r['psnr']:.2f} / {r['lpips']:.3f}" for r in results}
    rows = re.findall(
        r"^\| (OpenMoji|photographs) \| (\d+) \| (.*) \|$", CARD.read_text(encoding="utf-8"), re.MULTILINE
    )
    printed = {
        (SOURCES[source], int(pixels), column): cell
        for source, pixels, cells in rows
        for column, cell in zip(COLUMNS, cells.split(" | "), strict=True)
    }
    assert printed == found
