# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Open a source without copying it: parquet, webdataset archives and Lance are read where they are.

[`~data.loading.load_rows`] writes what it reads into the cache once, which is simple and quick up to some millions of
rows; [`open_rows`] is for what is too large to stand on the disk twice.
"""

import glob
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import datasets
import pyarrow as pa

from .archives import open_archive, read_samples
from .captions import LIST_OF_TEXTS, clean_captions
from .direct_rows import ArchiveRows, DirectRows, LanceRows, ParquetRows
from .folders import SplitFiles
from .loading import COLUMNS, LANCE_ENDING, load_rows, local_splits, source_name
from .readers import captions_in_sample, image_field_of
from .row_store import batched, stored_rows
from .text_files import COMPRESSIONS

DATA_ACCESS = ("copy", "direct")
_VERSION = 1  # of the index of archives
_INDEX_SCHEMA = datasets.Features(
    {
        "text": LIST_OF_TEXTS,
        "path": datasets.Value("string"),
        "archive": datasets.Value("int32"),
        "start": datasets.Value("int64"),
        "size": datasets.Value("int64"),
    }
).arrow_schema


def open_rows(
    source: str | os.PathLike,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    needed: Sequence[str] | None = None,
    bad_captions: str = "raise",
) -> DirectRows | datasets.Dataset:
    """Open a source; parquet, archives and Lance stay where they are, other kinds are read by `load_rows`.

    Of archives an index is made once, which holds captions and where each image is, and kept in the cache of the
    datasets library. Captions of parquet and Lance are looked at when their row comes.

    Args:
        source (`str` or `os.PathLike`): As for [`~data.loading.load_rows`]; or a folder that ends in `.lance`, or one
            of such folders, each a split.
        split (`str`, *optional*): Its split; may be left out if there is one only. Parts such as `train[:500]` are for
            kinds that are copied.
        columns (`Mapping[str, str]`, *optional*): Which columns `image` and `text` are.
        needed (`Sequence[str]`, *optional*): Which of `image` and `text` are used; those that are there, by default.
        bad_captions (`str`, *optional*, defaults to `"raise"`): What to do about captions that are none; `"skip"` not
            of parquet and Lance, whose rows are not looked through.

    Raises:
        ValueError: If there is no such source or split, a column is missing, archives are compressed, or captions are
            none.
    """
    source = os.fspath(source)
    name = source_name(source)
    columns = columns or {}
    lance = lance_splits(source)
    found: Mapping[str, Any] = lance or local_splits(source) or {}
    kinds = {"lance" if lance else files.kind for files in found.values()}
    if not kinds & {"lance", "parquet", "tar"}:
        return load_rows(source, split, columns, needed=needed, bad_captions=bad_captions)
    chosen = _chosen(found, name, split)
    if lance or chosen.kind == "parquet":
        if bad_captions != "raise":
            raise ValueError(
                f'`bad_captions` must be "raise" for `{name}`, whose rows are not looked through, got '
                f"{bad_captions!r}: examples/convert_data.py leaves such captions out"
            )
        rows = LanceRows(chosen, columns, name) if lance else _parquet(chosen, columns, name)
    elif chosen.kind == "tar":
        index = archive_index(chosen, columns, name)
        if "text" in (COLUMNS if needed is None else needed) and _has_text(index):
            index = clean_captions(index, bad_captions, name)
        rows = ArchiveRows(index, chosen.paths, name)
    else:
        return load_rows(source, split, columns, needed=needed, bad_captions=bad_captions)
    _check_columns(rows, name, needed or ())
    return rows


def lance_splits(source: str) -> dict[str, str]:
    """The Lance datasets under a name, by split; none if it is something else.

    Args:
        source (`str`): A folder that ends in `.lance`, or one that holds some.
    """
    path = os.path.abspath(os.path.expanduser(source))
    if path.endswith(LANCE_ENDING) and os.path.isdir(path):
        return {"train": path}
    paths = sorted(glob.glob(os.path.join(glob.escape(path), f"*{LANCE_ENDING}")))
    return {os.path.basename(each).removesuffix(LANCE_ENDING): each for each in paths}


def _chosen(found: Mapping, name: str, split: str | None):
    if split is None and len(found) == 1:
        return next(iter(found.values()))
    if split not in found:
        raise ValueError(
            f"`{name}`: `split` must be one of {sorted(found)} where rows are read where they are, got {split!r}"
        )
    return found[split]


def _check_columns(rows: DirectRows, name: str, needed: Sequence[str]):
    for column in needed:
        if column not in rows.column_names and not (column == "image" and "image_token_ids" in rows.column_names):
            raise ValueError(f"`{name}` has no column {column!r}, it has {rows.column_names}")
    text = datasets.Features.from_arrow_schema(rows.schema).get("text")
    if isinstance(text, datasets.ClassLabel):
        raise ValueError(f"`{name}`: class labels become captions only when rows are copied or converted")


def _parquet(files: SplitFiles, columns: Mapping[str, str], name: str) -> ParquetRows:
    fingerprint = hashlib.sha256(json.dumps([files.state, sorted(columns.items())]).encode()).hexdigest()[:16]
    return ParquetRows(files.paths, columns, name, fingerprint)


def archive_index(files: SplitFiles, columns: Mapping[str, str], name: str) -> datasets.Dataset:
    """Captions of archives and where their images are, made once: the one pass over all headers.

    Args:
        files ([`SplitFiles`]): The archives.
        columns (`Mapping[str, str]`): Which fields of a sample `image` and `text` are.
        name (`str`): What messages call them.

    Returns:
        `datasets.Dataset`: As [`ArchiveRows`] takes it, mapped from the cache.

    Raises:
        ValueError: If an archive is compressed, broken or cut, or no sample has an image or a caption.
    """
    packed = [path for path in files.paths if os.path.splitext(path)[1].lower() in COMPRESSIONS]
    if packed:
        raise ValueError(f"`{packed[0]}` is compressed, so its samples cannot be read one at a time: unpack it")
    facts = ["archive index", _VERSION, files.state, sorted(columns.items())]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    return stored_rows(key, lambda: _index_tables(files.paths, columns), name)


def _index_tables(paths: Sequence[str], columns: Mapping[str, str]) -> Iterator[pa.Table]:
    for number, path in enumerate(paths):
        for batch in batched(_index_rows(path, number, columns)):
            yield pa.Table.from_pylist(batch, schema=_INDEX_SCHEMA)


def _index_rows(path: str, number: int, columns: Mapping[str, str]) -> Iterator[dict]:
    with open_archive(path) as file:
        for sample in read_samples(file, path):
            name = f"{os.path.basename(path)}/{sample.key}"
            field = image_field_of(sample, columns)
            texts = captions_in_sample(file, sample, name, columns)
            if field is None and not texts:
                continue
            start, size = (None, None) if field is None else sample.fields[field]
            image_path = None if field is None else f"{name}.{field}"
            yield {"text": texts, "path": image_path, "archive": number, "start": start, "size": size}


def _has_text(index: datasets.Dataset) -> bool:
    return any(len(chunk.flatten()) > 0 for chunk in index.data.column("text").chunks)
