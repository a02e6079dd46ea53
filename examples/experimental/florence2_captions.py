# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Experimental: pseudo captions for images that have none, by Florence-2 of transformers.

    python examples/experimental/florence2_captions.py --dataset path/to/images --output_dir out/pseudo-pairs

The output folder is a dataset of pairs. What to compare it with: the same images as the `image` stream of
`examples/train_itit.py` with the objective `i2t2i`, which needs no captions at all.
"""

import logging
from argparse import ArgumentParser
from pathlib import Path

import torch
from tqdm.auto import tqdm
from transformers import AutoProcessor, Florence2ForConditionalGeneration

from itit_hf.data.loading import load_rows, parse_columns, source_name, without_decoding
from itit_hf.data.streams import BAD_IMAGE_POLICIES, readable_images
from itit_hf.models.image_loading_itit import load_image

logger = logging.getLogger(__name__)

TASKS = ("<CAPTION>", "<DETAILED_CAPTION>", "<MORE_DETAILED_CAPTION>")


@torch.no_grad()
def caption(model, processor, images: list, task: str, max_new_tokens: int) -> list[str]:
    """One caption for each image, by beam search."""
    inputs = processor(text=[task] * len(images), images=images, return_tensors="pt").to(model.device, model.dtype)
    ids = model.generate(**inputs, num_beams=3, do_sample=False, max_new_tokens=max_new_tokens)
    return [text.strip() for text in processor.tokenizer.batch_decode(ids, skip_special_tokens=True)]


def main(arguments: list[str] | None = None):
    """Describe every image, and write pairs."""
    parser = ArgumentParser(description="Pseudo captions by Florence-2.")
    parser.add_argument("--dataset", required=True, help="Folder, pattern of files or Hub id with `image`.")
    parser.add_argument("--split", help="Its split, or a part of it.")
    parser.add_argument("--model", default="florence-community/Florence-2-base", help="Folder or Hub id.")
    parser.add_argument("--task", choices=TASKS, default=TASKS[0], help="How long captions are.")
    parser.add_argument("--max_new_tokens", type=int, default=64, help="Tokens of a caption at most.")
    parser.add_argument("--batch_size", type=int, default=8, help="Images at a time.")
    parser.add_argument("--output_dir", default="out/pseudo-pairs", help="Where the parquet file is written.")
    parser.add_argument("--columns", nargs="+", default=[], help="Such as image=photo.")
    parser.add_argument("--on_bad_image", choices=BAD_IMAGE_POLICIES, default="raise", help="That cannot be read.")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Florence2ForConditionalGeneration.from_pretrained(options.model, use_safetensors=True).to(device).eval()
    processor = AutoProcessor.from_pretrained(options.model)
    columns = parse_columns(options.columns, "--columns")
    rows = load_rows(options.dataset, options.split, columns, needed=["image"])
    rows = (
        readable_images(rows, options.split or source_name(options.dataset))
        if options.on_bad_image == "skip"
        else rows
    )
    files = without_decoding(rows)
    captions: list[str] = []
    for start in tqdm(range(0, len(rows), options.batch_size), desc="captions"):
        batch = files[start : start + options.batch_size]["image"]
        images = [load_image(image, name=f"row {i}") for i, image in enumerate(batch, start)]
        captions += caption(model, processor, images, options.task, options.max_new_tokens)
    pairs = rows.remove_columns([name for name in rows.column_names if name != "image"]).add_column("text", captions)
    folder = Path(options.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    pairs.to_parquet(folder / "train.parquet")
    logger.info(f"written: {len(pairs)} pairs in {folder}")


if __name__ == "__main__":
    main()
