# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Filter the pairs of the web before training on them, and tell what was dropped and why.

ALIGN's rules, and no near-duplicate of the test set:

    python examples/filter_pairs.py --dataset "cc3m/*.tar" --test_dataset path/to/coco --test_split test

Also what a dual encoder does not find to belong together; and with a trained checkpoint, what is left gets a column
`sample_weight`, by which `examples/train_itit.py` trusts each pair (experimental):

    python examples/filter_pairs.py --dataset path/to/pairs --min_side 64 --output_dir out/filtered \
        --scorer openai/clip-vit-base-patch32 --min_cosine 0.25 --weigh_with out/itit/pipeline

The numbers of the rules are flags, see `FilterRules`; in a recipe for `--config`, `null` leaves a rule out. The output
folder is a dataset: `--paired_dataset out/filtered` trains on it.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

from data_curation.filters import FilterReport, FilterRules, filter_pairs
from data_curation.pair_weights import clean_probabilities, pair_losses
from itit_hf import ITITPipeline
from itit_hf.data.loading import load_rows, parse_columns, without_decoding
from itit_hf.data.streams import STREAM_COLUMNS
from itit_hf.rewards.dual_encoder import DualEncoderScorer
from itit_hf.training.training_args import parse_arguments

logger = logging.getLogger(__name__)


@dataclass
class ScriptArguments:
    """What this script needs besides [`FilterRules`].

    Args:
        dataset (`str`): Folder, pattern of files or Hub id with `image` and `text`.
        split (`str`, *optional*): Its split, or a part of it such as `train[:500]`.
        columns (`list[str]`): What its columns are called, such as `image=photo text=alt`.
        bad_captions (`str`): What to do about captions that are none: raise, or skip, which leaves them out.
        test_dataset (`str`, *optional*): Images that no near-duplicate may be kept of.
        test_split (`str`, *optional*): Its split.
        test_columns (`list[str]`): What its column is called, such as `image=photo`.
        scorer (`str`, *optional*): Dual encoder: folder or Hub id.
        min_cosine (`float`, *optional*): The least cosine that is kept; of CLIP ViT-B/32, 0.25 to 0.3 is usual.
        weigh_with (`str`, *optional*): Pipeline folder or Hub id whose losses tell how far a pair can be trusted.
        batch_size (`int`): Pairs that the scorer or the pipeline sees at a time.
        num_workers (`int`): Processes beside this one.
        output_dir (`str`): Where the parquet file and the card are written.
    """

    dataset: str
    split: str | None = None
    columns: list[str] = field(default_factory=list)
    bad_captions: str = "raise"
    test_dataset: str | None = None
    test_split: str | None = None
    test_columns: list[str] = field(default_factory=list)
    scorer: str | None = None
    min_cosine: float | None = None
    weigh_with: str | None = None
    batch_size: int = 64
    num_workers: int = 0
    output_dir: str = "out/filtered"


def card(args: ScriptArguments, rules: FilterRules, report: FilterReport) -> str:
    """What was done, for those who find the folder."""
    lines = [f"- {name}: {value}" for name, value in {**vars(args), **vars(rules)}.items() if name != "output_dir"]
    return "\n".join(["# Filtered pairs", "", *lines, "", "Each dropped pair counts for the first reason.", ""]) + (
        "\n" + report.markdown()
    )


def main(arguments: list[str] | None = None) -> FilterReport:
    """Filter, weigh, write."""
    args, rules = parse_arguments([ScriptArguments, FilterRules], arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    columns = parse_columns(args.columns, "--columns")
    rows = load_rows(
        args.dataset, args.split, columns, needed=STREAM_COLUMNS["paired"], bad_captions=args.bad_captions
    )
    test_columns = parse_columns(args.test_columns, "--test_columns")
    tested = None
    if args.test_dataset:
        tested = load_rows(args.test_dataset, args.test_split, test_columns, needed=["image"])
    scorer = DualEncoderScorer.from_pretrained(args.scorer, args.batch_size) if args.scorer else None
    kept, report = filter_pairs(
        rows,
        rules,
        test_images=None if tested is None else without_decoding(tested)["image"],
        scorer=scorer,
        min_cosine=args.min_cosine,
        num_workers=args.num_workers,
    )
    if args.weigh_with:
        pipe = ITITPipeline.from_pretrained(args.weigh_with)
        weights = clean_probabilities(pair_losses(pipe, without_decoding(kept), args.batch_size))
        kept = kept.add_column("sample_weight", weights.tolist())
        logger.info(f"mean weight of a pair: {weights.mean():.3f}")
    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    kept.to_parquet(folder / "train.parquet")
    folder.joinpath("README.md").write_text(card(args, rules, report), encoding="utf-8")
    logger.info(report.markdown())
    logger.info(f"written: {folder}")
    return report


if __name__ == "__main__":
    main()
