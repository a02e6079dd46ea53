# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Turn a dataset of any kind into a Lance dataset."""

import logging

from tqdm import tqdm

from ..data.captions import BAD_CAPTION_POLICIES
from ..data.convert import convert_to_lance
from ..data.direct_loading import open_rows
from ..data.loading import load_rows, parse_columns
from .console import command_parser, show_messages

logger = logging.getLogger(__name__)


def parse_args(arguments: list[str] | None = None):
    """Command line."""
    parser = command_parser("convert")
    parser.add_argument("dataset", help="Folder, files or Hub id.")
    parser.add_argument("--split", help="Its split; a part such as `train[:500]` if it is copied.")
    parser.add_argument("--columns", nargs="*", default=[], help="What its columns are called: image=photo text=alt.")
    parser.add_argument("--output", required=True, help="Folder of the new dataset, which ends in .lance.")
    parser.add_argument("--bad_captions", choices=BAD_CAPTION_POLICIES, default="raise", help="What to do about them.")
    parser.add_argument("--rows_per_commit", type=int, default=20_000, help="That an interruption costs at most.")
    parser.add_argument(
        "--copy", action="store_true", help="Read it into the cache first: for compressed archives and class labels."
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None):
    """Open, convert what is missing, count."""
    args = parse_args(arguments)
    show_messages()
    columns = parse_columns(args.columns, "--columns")
    if args.copy:
        rows = load_rows(args.dataset, args.split, columns, needed=[])
    else:
        rows = open_rows(args.dataset, args.split, columns, needed=[])
    with tqdm(total=len(rows), unit=" rows") as progress_bar:
        counts = convert_to_lance(
            rows,
            args.output,
            args.bad_captions,
            args.rows_per_commit,
            on_progress=lambda done: progress_bar.update(done - progress_bar.n),
        )
    logger.info(
        f"{counts.read} rows read, {counts.without_caption} left out now for want of a caption, {counts.written} rows "
        f"in {args.output}"
    )


if __name__ == "__main__":
    main()
