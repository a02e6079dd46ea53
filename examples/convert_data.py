# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Turn a dataset of any kind into a Lance dataset, which is read row by row at any size:

    pip install 'itit-hf[lance]'
    python examples/convert_data.py path/to/shards --output data/pairs.lance
    python examples/train_itit.py --paired_dataset data/pairs.lance --tokenize online ...

Images are written as the bytes of their files, so the result is as large as they are. Parquet and webdataset archives
are read where they are and nothing else is written. Run the same command again after an interruption and it goes on
where it stopped.
"""

import logging
from argparse import ArgumentParser

from tqdm import tqdm

from itit_hf.data.captions import BAD_CAPTION_POLICIES
from itit_hf.data.convert import convert_to_lance
from itit_hf.data.direct_loading import open_rows
from itit_hf.data.loading import load_rows, parse_columns

logger = logging.getLogger(__name__)


def main(arguments: list[str] | None = None):
    """Open, convert what is missing, count."""
    parser = ArgumentParser(description="Convert a dataset to Lance.")
    parser.add_argument("dataset", help="Folder, files or Hub id.")
    parser.add_argument("--split", help="Its split; a part such as `train[:500]` if it is copied.")
    parser.add_argument("--columns", nargs="*", default=[], help="What its columns are called: image=photo text=alt.")
    parser.add_argument("--output", required=True, help="Folder of the new dataset, which ends in .lance.")
    parser.add_argument("--bad_captions", choices=BAD_CAPTION_POLICIES, default="raise", help="What to do about them.")
    parser.add_argument("--rows_per_commit", type=int, default=20_000, help="That an interruption costs at most.")
    parser.add_argument(
        "--copy", action="store_true", help="Read it into the cache first: for compressed archives and class labels."
    )
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
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
