# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""A copy of captioned images in which a share of the captions belong to other images, for studies of poor captions:

    python utils/studies/shuffle_captions.py --dataset data/emoji-scenes-64-noto --split "paired[:1000]" \
        --wrong_share 0.3 --seed 0 --output data/poor-30-0

The folder has one split, `paired`, with one caption an image and the column `is_clean`, which no training reads. With
`--weigh_with` a column `sample_weight` tells how far a trained pipeline trusts each pair, by which training weighs it.
"""

import logging
from argparse import ArgumentParser
from pathlib import Path

from datasets import Dataset

from itit_hf.data.loading import load_rows
from study_pair_weights import clean_probabilities, open_pipeline, pair_losses, shuffled_pairs

logger = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> Dataset:
    """Shuffle and write; the rows that were written."""
    parser = ArgumentParser(description="Captioned images of which a share have a wrong caption.")
    parser.add_argument("--dataset", required=True, help="Folder or Hub id with the columns image and text.")
    parser.add_argument("--split", default="paired[:1000]", help="Which rows.")
    parser.add_argument("--wrong_share", type=float, default=0.3, help="Share of wrong captions, from 0 to 1.")
    parser.add_argument("--seed", type=int, default=0, help="Which ones.")
    parser.add_argument("--weigh_with", help="Pipeline folder whose losses tell how far a pair can be trusted.")
    parser.add_argument("--batch_size", type=int, default=50, help="Pairs that it sees at a time.")
    parser.add_argument("--output", required=True, help="New folder.")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not 0.0 <= options.wrong_share <= 1.0:
        raise ValueError(f"`--wrong_share` must be from 0 to 1, got {options.wrong_share}")
    if Path(options.output).exists():
        raise ValueError(f"`--output` must be a new folder, {options.output} exists")
    rows = load_rows(options.dataset, options.split)
    rows, is_clean = shuffled_pairs(rows, options.wrong_share, options.seed)
    rows = rows.add_column("is_clean", is_clean.tolist())
    if options.weigh_with:
        weights = clean_probabilities(pair_losses(open_pipeline(options.weigh_with), rows, options.batch_size))
        rows = rows.add_column("sample_weight", weights.tolist())
    Path(options.output, "data").mkdir(parents=True)
    rows.to_parquet(Path(options.output, "data", "paired-00000-of-00001.parquet"))
    logger.info(f"{options.output}: {len(rows)} images, {int((~is_clean).sum())} with the caption of another")
    return rows


if __name__ == "__main__":
    main()
