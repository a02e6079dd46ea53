# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Measure the sources of docs/data.md on images of random bytes: disk, time of a row, memory of the workers.

    python utils/benchmarks/benchmark_data.py --kinds parquet archive lance --rows 20000 --folder /tmp/data

Each kind is written once, then read in the order of training: all rows at once, and by blocks. `--ranks 2 --workers 2`
reads a whole epoch by that many started processes and says whether all ranks together saw each row once, and what the
memory of a worker was at its first and at its last batch.
"""

import io
import json
import os
import sys
import tarfile
import time
import tracemalloc
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch.utils.data import DataLoader

from itit_hf.data.convert import convert_to_lance
from itit_hf.data.direct_loading import open_rows
from itit_hf.data.order import KeyedOrder, RandpermOrder
from itit_hf.data.streams import MixedBatchSampler, MixedDataset, Stream

KINDS = ("order", "folder", "parquet", "archive", "lance")
SIDE = 96  # pixels of an image; random ones of 96 pixels are files of about 8 KB
ROWS_OF_A_GROUP = 1000
ROWS_OF_AN_ARCHIVE = 10_000
BATCH_SIZE = 64


def jpegs(num_rows: int) -> Iterator[bytes]:
    """Files of random pixels, each another one."""
    generator = np.random.default_rng(0)
    for _ in range(num_rows):
        file = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(file, "JPEG")
        yield file.getvalue()


def size_of(path: str) -> int:
    """Bytes of the files under a path."""
    return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(path) for name in names)


def write_folder(folder: str, num_rows: int):
    """Files with metadata.jsonl."""
    os.makedirs(folder)
    with open(os.path.join(folder, "metadata.jsonl"), "w", encoding="utf-8") as metadata:
        for number, data in enumerate(jpegs(num_rows)):
            with open(os.path.join(folder, f"{number:09d}.jpg"), "wb") as file:
                file.write(data)
            metadata.write(json.dumps({"file_name": f"{number:09d}.jpg", "text": f"image {number}"}) + "\n")


def write_parquet(folder: str, num_rows: int):
    """One file, of row groups of 1,000 rows."""
    os.makedirs(folder)
    images = [{"bytes": data, "path": None} for data in jpegs(num_rows)]
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    texts = [f"image {number}" for number in range(num_rows)]
    table = pa.table({"image": images, "text": texts}, schema=features.arrow_schema)
    pq.write_table(table, os.path.join(folder, "train.parquet"), row_group_size=ROWS_OF_A_GROUP, compression="none")


def write_archives(folder: str, num_rows: int):
    """Archives of 10,000 samples."""
    os.makedirs(folder)
    for number, data in enumerate(jpegs(num_rows)):
        if number % ROWS_OF_AN_ARCHIVE == 0:
            archive = tarfile.open(os.path.join(folder, f"{number:09d}.tar"), "w")  # noqa: SIM115
        for ending, content in ((".jpg", data), (".txt", f"image {number}".encode())):
            info = tarfile.TarInfo(f"{number:09d}{ending}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if number % ROWS_OF_AN_ARCHIVE == ROWS_OF_AN_ARCHIVE - 1 or number == num_rows - 1:
            archive.close()


WRITERS = {"folder": write_folder, "parquet": write_parquet, "archive": write_archives}


def source_of(kind: str, args: Namespace) -> str:
    """The source of a kind, written the first time; Lance is made of the archives."""
    name = "pairs.lance" if kind == "lance" else kind
    path = os.path.join(args.folder, f"{args.rows}", name)
    if os.path.exists(path):
        return path
    start = time.perf_counter()
    if kind == "lance":
        convert_to_lance(open_rows(source_of("archive", args)), path)
    else:
        WRITERS[kind](path, args.rows)
    print(f"{kind}: written in {time.perf_counter() - start:.1f} s")
    return path


def order_costs(num_rows: int):
    """Time and memory of an epoch's first row, and of a further one, by the keyed order and by `torch.randperm`."""
    for name, order, rows in (
        ("randperm", RandpermOrder, num_rows),
        ("keyed", KeyedOrder, num_rows),
        ("keyed", KeyedOrder, 10**12),
    ):
        tracemalloc.start()
        start = time.perf_counter()
        made = order(rows, 0, "paired")
        made(0)
        first = time.perf_counter() - start
        held = made._order.nbytes if name == "randperm" else tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        start = time.perf_counter()
        for index in range(10_000):
            made(index * 7919 % rows)
        each = (time.perf_counter() - start) / 10_000
        print(f"order {name}, {rows:.0e} rows: {first:.2g} s to begin, {1e6 * each:.1f} us a row, {held} bytes")


def time_rows(kind: str, source: str, shuffle_blocks: int, number: int):
    """Milliseconds of a row in the order of training, not decoded."""
    start = time.perf_counter()
    rows = open_rows(source)
    opening = time.perf_counter() - start
    stream = Stream("paired", rows)
    stream.set_order("keyed", shuffle_blocks)
    start = time.perf_counter()
    for index in range(number):
        rows[stream.row_index(index)]
    each = 1e3 * (time.perf_counter() - start) / number
    order = f"blocks {shuffle_blocks}" if shuffle_blocks else "all rows"
    print(f"{kind}, {order}: opened in {opening:.2f} s, {each:.3f} ms a row")


def note_of_batch(samples: list) -> tuple[list[str], int, int]:
    """Captions of a batch, and of the worker that made it the process and its resident megabytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    return [sample["text"] for _, sample in samples], os.getpid(), pages * os.sysconf("SC_PAGE_SIZE") // 1_000_000


def read_epoch(kind: str, source: str, args: Namespace):
    """An epoch of all ranks, each with its workers; images are decoded."""
    rows = open_rows(source)
    captions: list[str] = []
    start = time.perf_counter()
    for rank in range(args.ranks):
        stream = Stream("paired", rows)
        stream.set_order("keyed", args.shuffle_blocks)
        updates = len(rows) // (BATCH_SIZE * args.ranks)
        loader = DataLoader(
            MixedDataset([stream]),
            batch_sampler=MixedBatchSampler({"paired": BATCH_SIZE}, updates, rank, args.ranks),
            collate_fn=note_of_batch,
            num_workers=args.workers,
            multiprocessing_context="spawn" if args.workers else None,
        )
        memory: dict[int, list[int]] = {}
        for texts, process, megabytes in loader:
            captions += texts
            memory.setdefault(process, []).append(megabytes)
        for seen in memory.values():
            early = seen[len(seen) // 10]
            print(f"{kind}, rank {rank}: a worker held {early} MB after a tenth, {seen[-1]} MB at the end")
    seconds = time.perf_counter() - start
    is_whole = len(set(captions)) == len(captions)
    print(
        f"{kind}: {len(captions)} rows by {args.ranks} ranks of {args.workers} workers in {seconds:.0f} s, each once: "
        f"{is_whole}"
    )


def main(arguments: list[str] | None = None):
    """Write what is missing, measure, print."""
    parser = ArgumentParser(description="Measure how rows are read.")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--timed_rows", type=int, default=500, help="That are read for the time of one.")
    parser.add_argument("--order_rows", type=int, default=10_000_000, help="Of the comparison with randperm.")
    parser.add_argument("--folder", required=True, help="Where the sources are, or are written.")
    parser.add_argument("--shuffle_blocks", type=int, default=4)
    parser.add_argument("--ranks", type=int, default=0, help="Read an epoch as so many; 0 does not.")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for kind in args.kinds:
        if kind == "order":
            order_costs(args.order_rows)
            continue
        source = source_of(kind, args)
        cached = size_of(datasets.config.HF_DATASETS_CACHE)
        open_rows(source)
        made = size_of(datasets.config.HF_DATASETS_CACHE) - cached
        print(f"{kind}: {size_of(source) / 1e6:.1f} MB, and {made / 1e6:.1f} MB in the cache")
        for blocks in (0, args.shuffle_blocks):
            time_rows(kind, source, blocks, min(args.timed_rows, args.rows))
        if args.ranks:
            read_epoch(kind, source, args)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
