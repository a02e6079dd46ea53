# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Turn the images of a dataset into image tokens once, so that no training has to:

    python examples/prepare_tokens.py path/to/images --split train --output_dir data/tokens
    python examples/train_itit.py --paired_dataset data/tokens --paired_split train ...

An image of 256 x 256 pixels becomes 256 numbers, and a step of training spares its encoding, which for a
convolutional tokenizer is more work than half of the step. The rows keep their other columns, such as captions;
images stay behind unless `--keep_images` is given. The tokens belong to the tokenizer that made them, whose
fingerprint stands beside them: training with another one is refused.

The work is done file by file, and a file is written whole or not at all: run the same command again after an
interruption and it goes on where it stopped. So can many processes, on as many GPUs or machines that see the folder,
each its part of the files; nothing has to be joined afterwards:

    python examples/prepare_tokens.py path/to/shards --output_dir data/tokens --num_parts 8 --part 0
    ...
    python examples/prepare_tokens.py path/to/shards --output_dir data/tokens --num_parts 8 --part 7

With `--data_access direct` parquet, webdataset archives and Lance are read where they are, and nothing else is written
than the result.

A Lance dataset can be given its tokens where it is, beside its images, which are neither written nor moved:

    python examples/prepare_tokens.py data/pairs.lance
    python examples/train_itit.py --paired_dataset data/pairs.lance --data_access direct ...

The tokens gather in `data/pairs.lance.tokens`, by one process or by many, and become columns once all are there.
"""

import hashlib
import json
import logging
import os
import shutil
from argparse import ArgumentParser, Namespace
from pathlib import Path

import datasets
import torch
from diffusers import VQModel
from tqdm import tqdm
from transformers import AutoTokenizer

from itit_hf.commands.checkpoints import FROZEN_PARTS, OWN_IMAGE_TOKENIZER
from itit_hf.data.convert import add_lance_columns
from itit_hf.data.direct_loading import DATA_ACCESS, lance_splits, open_rows
from itit_hf.data.direct_rows import DirectRows, LanceRows
from itit_hf.data.image_tokens import add_image_token_ids, image_tokens_fingerprint
from itit_hf.data.loading import load_rows, parse_columns
from itit_hf.data.streams import BAD_IMAGE_POLICIES, TOKENIZER_COLUMN, check_image_tokenizer
from itit_hf.models.configuration_itit import IMAGE_FEATURES
from itit_hf.models.image_loading_itit import ASPECT_RATIOS
from itit_hf.models.image_processing_itit import load_image_processor
from itit_hf.models.image_tokenization_itit import PatchVQModel
from itit_hf.models.processing_itit import ITITProcessor

logger = logging.getLogger(__name__)

RECORD = "tokens.json"


def load_processor(args: Namespace) -> ITITProcessor:
    """What turns images into tokens, from a pipeline folder, with another image tokenizer if one is named."""
    source = args.image_tokenizer or args.model
    at = {} if args.image_tokenizer else {"subfolder": "image_tokenizer"}
    is_patch = PatchVQModel.load_config(source, **at)["_class_name"] == "PatchVQModel"
    image_tokenizer = (PatchVQModel if is_patch else VQModel).from_pretrained(source, **at)
    image_tokenizer.to(f"cuda:{args.part % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu")
    image_processor = load_image_processor(args.model, args.image_tokenizer, args.resolution, args.aspect_ratio)
    tokenizer = AutoTokenizer.from_pretrained(args.model, subfolder="tokenizer")
    return ITITProcessor(image_processor, tokenizer, image_tokenizer, args.image_features)


def check_record(output_dir: Path, record: dict):
    """Begin the folder, or see that it was begun with the same images, tokenizer and files.

    Raises:
        ValueError: If it was not: its files do not go together with those that would be added.
    """
    path = output_dir / RECORD
    if path.exists():
        begun = json.loads(path.read_text())
        changed = {name: (begun.get(name), value) for name, value in record.items() if begun.get(name) != value}
        if changed:
            raise ValueError(
                f"the folder {output_dir} was begun otherwise (then, now): {changed}; name another, or delete it"
            )
    output_dir.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")  # several processes may begin at the same time
    unfinished.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(unfinished, path)


def rows_between(rows: datasets.Dataset | DirectRows, start: int, stop: int) -> datasets.Dataset:
    """The rows of one file."""
    if isinstance(rows, DirectRows):
        fingerprint = hashlib.sha256(f"{rows._fingerprint}/{start}/{stop}".encode()).hexdigest()[:16]
        return datasets.Dataset(rows.table(start, stop), fingerprint=fingerprint)
    return rows.select(range(start, stop))


def write_file(rows: datasets.Dataset, processor: ITITProcessor, path: Path, left_out: set[str], args: Namespace):
    """One parquet file, whole or not at all."""
    rows = add_image_token_ids(rows, processor, args.batch_size, args.on_bad_image)
    rows = rows.remove_columns([name for name in rows.column_names if name in left_out])
    unfinished = path.with_suffix(".unfinished")
    rows.to_parquet(unfinished)
    os.replace(unfinished, path)


def write_files(
    rows: datasets.Dataset | DirectRows, processor: ITITProcessor, folder: Path, left_out: set[str], args: Namespace
) -> list[Path]:
    """This process's part of the files of a folder, as far as they are missing.

    Returns:
        `list[Path]`: All files, if all parts are done; else none.
    """
    num_files = -(-len(rows) // args.rows_per_file)
    record = {"fingerprint": image_tokens_fingerprint(rows, processor), "rows": len(rows), "parts": num_files}
    record |= {"image_tokenizer": args.image_tokenizer or args.model, "keep_images": args.keep_images}
    check_record(folder, record)
    (folder / "data").mkdir(exist_ok=True)
    split = args.output_split or "train"
    names = [f"{split}-{number:05d}-of-{num_files:05d}.parquet" for number in range(num_files)]
    paths = [folder / "data" / name for name in names]
    own = range(args.part, num_files, args.num_parts)
    with tqdm(total=len(own), unit=" files") as progress_bar:
        for number in own:
            if not paths[number].exists():
                start = number * args.rows_per_file
                part = rows_between(rows, start, min(start + args.rows_per_file, len(rows)))
                write_file(part, processor, paths[number], left_out, args)
            progress_bar.update()
    num_missing = sum(not path.exists() for path in paths)
    if num_missing:
        logger.info(f"{num_missing} of {num_files} files are still to come, from other parts: {folder}")
        return []
    return paths


def add_beside_images(rows: LanceRows, processor: ITITProcessor, args: Namespace):
    """Give a Lance dataset the columns of its image tokens.

    Raises:
        ValueError: If it has tokens of another image tokenizer, or some of these columns.
    """
    wanted = {*processor.image_input_names, TOKENIZER_COLUMN}
    present = wanted & set(rows.column_names)
    check_image_tokenizer(rows, processor, rows.name)
    if present and present != wanted:
        raise ValueError(
            f"`{rows.name}` has the columns {sorted(present)}, of {sorted(wanted)}: drop them with Lance's "
            "`drop_columns`, or name a new folder with `--output_dir`"
        )
    folder = Path(f"{rows.path}.tokens")
    if not present:
        paths = write_files(rows, processor, folder, set(rows.column_names), args)
        if not paths:
            return
        add_lance_columns(rows, paths)
    if (folder / RECORD).exists():  # the columns are there
        shutil.rmtree(folder, ignore_errors=True)  # which another part may do as well
    logger.info(f"{len(rows)} rows with image tokens: {rows.path}")


def parse_arguments(arguments: list[str] | None) -> Namespace:
    """The command line, whose arguments go together."""
    parser = ArgumentParser(description="Tokenize the images of a dataset once.")
    parser.add_argument("dataset", help="Folder, files or Hub id, with a column `image`.")
    parser.add_argument("--split", help="Its split, or a part such as `train[:500]`.")
    parser.add_argument("--columns", nargs="*", default=[], help="What its columns are called: image=photo text=alt.")
    parser.add_argument("--output_dir", help="Folder of the new dataset; a Lance dataset gets its tokens without it.")
    parser.add_argument("--output_split", help="Name of the split in the new dataset; train by default.")
    parser.add_argument("--model", help="Pipeline folder or Hub id whose image tokenizer is taken.")
    parser.add_argument("--image_tokenizer", help="Another image tokenizer; by default that of train_itit.py.")
    parser.add_argument(
        "--resolution",
        type=int,
        nargs="+",
        default=[],
        help="Pixels of a side, or height and width; the pipeline's by default.",
    )
    parser.add_argument(
        "--aspect_ratio",
        choices=ASPECT_RATIOS,
        help="What becomes of images of another shape; see train_itit.py.",
    )
    parser.add_argument(
        "--image_features", choices=IMAGE_FEATURES, default="codes", help="Of the model to be trained."
    )
    parser.add_argument("--on_bad_image", choices=BAD_IMAGE_POLICIES, default="raise", help="What to do about them.")
    parser.add_argument("--batch_size", type=int, default=64, help="Images tokenized at the same time.")
    parser.add_argument("--rows_per_file", type=int, default=10_000, help="Rows of a file, which is written whole.")
    parser.add_argument("--num_parts", type=int, default=1, help="Processes that share the work.")
    parser.add_argument("--part", type=int, default=0, help="Which of them this one is, from 0.")
    parser.add_argument(
        "--data_access", choices=DATA_ACCESS, default="copy", help="Copy rows into the cache, or read them directly."
    )
    parser.add_argument("--keep_images", action="store_true", help="Keep the images beside their tokens.")
    args = parser.parse_args(arguments)
    if args.model is None:
        args.model = FROZEN_PARTS
        args.image_tokenizer = args.image_tokenizer or OWN_IMAGE_TOKENIZER
    for name in ("rows_per_file", "num_parts"):
        if getattr(args, name) < 1:
            parser.error(f"`--{name}` must be at least 1, got {getattr(args, name)}")
    if not 0 <= args.part < args.num_parts:
        parser.error(f"`--part` must be from 0 to {args.num_parts - 1}, got {args.part}")
    if args.output_dir is not None:
        return args
    if not lance_splits(args.dataset):
        parser.error("`--output_dir` may be left out of a Lance dataset alone, which gets the tokens itself")
    if args.keep_images or args.output_split or args.on_bad_image == "skip":
        parser.error("`--keep_images`, `--output_split` and `--on_bad_image skip` need a new folder, `--output_dir`")
    return args


def main(arguments: list[str] | None = None):
    """Load, tokenize what is missing, write."""
    args = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    datasets.disable_progress_bars()
    processor = load_processor(args)
    columns = parse_columns(args.columns, "--columns")
    load = open_rows if args.output_dir is None or args.data_access == "direct" else load_rows
    rows = load(args.dataset, args.split, columns, needed=["image"])
    if args.output_dir is None:
        add_beside_images(rows, processor, args)
    elif write_files(rows, processor, Path(args.output_dir), set() if args.keep_images else {"image"}, args):
        logger.info(f"{len(rows)} rows with image tokens: {args.output_dir}")


if __name__ == "__main__":
    main()
