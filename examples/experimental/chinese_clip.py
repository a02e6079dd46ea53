# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Experimental: how well Chinese captions go with their images, by Chinese-CLIP of transformers.

    python examples/experimental/chinese_clip.py --dataset path/to/pairs --min_cosine 0.3

prints the spread of the cosines, which tells where to cut, and writes the pairs above the cut. ALIGN's rules of words
are left out: Chinese has no spaces to count words by.
"""

import logging
import sys
from argparse import ArgumentParser
from pathlib import Path

import torch

from itit_hf.data.captions import BAD_CAPTION_POLICIES
from itit_hf.data.loading import load_rows, parse_columns, without_decoding
from itit_hf.rewards.dual_encoder import DualEncoderScorer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where data_curation is

from data_curation.filters import FilterRules, filter_pairs, texts_of

logger = logging.getLogger(__name__)

RULES = FilterRules(min_words=None, max_words=None, frequent_ngrams=None)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def main(arguments: list[str] | None = None):
    """Score, cut, write."""
    parser = ArgumentParser(description="Filter Chinese pairs by Chinese-CLIP.")
    parser.add_argument("--dataset", required=True, help="Folder, pattern of files or Hub id with `image` and `text`.")
    parser.add_argument("--split", help="Its split, or a part of it.")
    parser.add_argument("--model", default="OFA-Sys/chinese-clip-vit-base-patch16", help="Folder or Hub id.")
    parser.add_argument("--min_cosine", type=float, required=True, help="The least cosine that is kept.")
    parser.add_argument("--output_dir", default="out/filtered-chinese", help="Where the parquet file is written.")
    parser.add_argument("--columns", nargs="+", default=[], help="Such as image=photo text=alt.")
    parser.add_argument(
        "--bad_captions", choices=BAD_CAPTION_POLICIES, default="raise", help="Captions that are none."
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    columns = parse_columns(options.columns, "--columns")
    rows = load_rows(options.dataset, options.split, columns, bad_captions=options.bad_captions)
    scorer = DualEncoderScorer.from_pretrained(options.model)
    scorer.model.to("cuda" if torch.cuda.is_available() else "cpu")
    first = [texts_of(row)[0] for row in rows.select_columns("text")]
    cosines = scorer.cosine(without_decoding(rows)["image"][:], first)
    spread = torch.quantile(cosines, torch.tensor(QUANTILES, device=cosines.device)).tolist()
    for share, value in zip(QUANTILES, spread, strict=True):
        logger.info(f"{share:4.0%} of the first captions have a cosine below {value:.3f}")
    kept, report = filter_pairs(rows, RULES, scorer=scorer, min_cosine=options.min_cosine)
    folder = Path(options.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    kept.to_parquet(folder / "train.parquet")
    logger.info(report.markdown())


if __name__ == "__main__":
    main()
