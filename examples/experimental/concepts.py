# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Experimental, after ViCHA: the words that a dual encoder finds nearest to an image, put in front of its caption.

    python examples/experimental/concepts.py --dataset path/to/pairs --scorer openai/clip-vit-base-patch32 \
        --output_dir out/with-concepts

The vocabulary is the words of the captions, or of a text file with one a line. A model that was trained on these pairs
captions better when it is told the concepts of a new image: `pipe.caption(image, prompt="bus, red:")`. Images
without captions get the concepts alone.
"""

import logging
import sys
from argparse import ArgumentParser
from collections import Counter
from pathlib import Path

from datasets import Dataset

from itit_hf.data.captions import BAD_CAPTION_POLICIES
from itit_hf.data.loading import load_rows, parse_columns, without_decoding
from itit_hf.rewards.dual_encoder import DualEncoderScorer, search

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where data_curation is

from data_curation.filters import texts_of, words_of

logger = logging.getLogger(__name__)


def vocabulary(rows: Dataset, number: int) -> list[str]:
    """The most frequent words of the captions with three letters or more; of equal ones in alphabetical order."""
    found = Counter(word for row in rows.select_columns("text") for text in texts_of(row) for word in words_of(text))
    words = sorted((word for word in found if len(word) > 2), key=lambda word: (-found[word], word))
    return words[:number]


def concepts(scorer: DualEncoderScorer, images: list, words: list[str], top_k: int) -> list[str]:
    """For each image its nearest words, as the beginning of a caption: "bus, red:"."""
    _, places = search(scorer.embed_images(images), scorer.embed_texts(words), top_k)
    return [", ".join(words[i] for i in row) + ":" for row in places.tolist()]


def main(arguments: list[str] | None = None):
    """Find concepts, and write pairs."""
    parser = ArgumentParser(description="Concepts of images in front of their captions.")
    parser.add_argument("--dataset", required=True, help="Folder, pattern of files or Hub id with `image`.")
    parser.add_argument("--split", help="Its split, or a part of it.")
    parser.add_argument("--scorer", required=True, help="Dual encoder: folder or Hub id.")
    parser.add_argument("--words", help="Text file with one word a line; those of the captions by default.")
    parser.add_argument("--num_words", type=int, default=1000, help="The most frequent so many of the captions.")
    parser.add_argument("--top_k", type=int, default=3, help="Words for each image.")
    parser.add_argument("--output_dir", default="out/with-concepts", help="Where the parquet file is written.")
    parser.add_argument("--columns", nargs="+", default=[], help="Such as image=photo text=alt.")
    parser.add_argument(
        "--bad_captions", choices=BAD_CAPTION_POLICIES, default="raise", help="Captions that are none."
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    columns = parse_columns(options.columns, "--columns")
    rows = load_rows(options.dataset, options.split, columns, bad_captions=options.bad_captions)
    if options.words:
        words = [line for line in Path(options.words).read_text(encoding="utf-8").splitlines() if line]
    else:
        words = vocabulary(rows, options.num_words)
    scorer = DualEncoderScorer.from_pretrained(options.scorer)
    beginnings = concepts(scorer, without_decoding(rows)["image"][:], words, options.top_k)
    captions = (
        [texts_of(row) for row in rows.select_columns("text")] if "text" in rows.column_names else [[]] * len(rows)
    )
    texts = [
        [f"{beginning} {text}" for text in own] or [beginning.rstrip(":")]
        for beginning, own in zip(beginnings, captions, strict=True)
    ]
    others = [name for name in rows.column_names if name != "image"]
    folder = Path(options.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    rows.remove_columns(others).add_column("text", texts).to_parquet(folder / "train.parquet")
    logger.info(f"written: {len(rows)} rows in {folder}, such as {texts[0][0]!r}")


if __name__ == "__main__":
    main()
