# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Anything that we read -> a Lance dataset, which is read row by row at any size; columns are added beside."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from transformers.utils import logging

from .captions import captions_of
from .direct_rows import DirectRows, LanceRows
from .loading import LANCE_ENDING, without_decoding

logger = logging.get_logger(__name__)

SOURCE_COLUMN = "source_row"  # where a row was; what resuming goes by
SOURCE_KEY = b"itit_hf.source"  # of the schema's metadata: the fingerprint of what is converted
_BATCH_SIZE = 500  # rows that are in memory at a time


@dataclass
class ConversionCounts:
    """What a conversion did.

    Args:
        read (`int`): Rows of the source, those of earlier calls included.
        written (`int`): Rows of the Lance dataset.
        without_caption (`int`): Rows of this call that were left out, as they have no caption.
    """

    read: int = 0
    written: int = 0
    without_caption: int = 0


def convert_to_lance(
    rows: datasets.Dataset | DirectRows,
    path: str,
    bad_captions: str = "raise",
    rows_per_commit: int = 20_000,
    on_progress: Callable[[int], object] | None = None,
) -> ConversionCounts:
    """Write rows as a Lance dataset, images as the bytes of their files.

    Rows are added so many at a time, each time whole or not at all. Called again after an interruption it goes on
    after the last row that is there: each has its number in the source, `source_row`.

    Args:
        rows (`datasets.Dataset` or [`DirectRows`]): What is converted.
        path (`str`): Folder, which must end in `.lance`.
        bad_captions (`str`, *optional*, defaults to `"raise"`): What to do about rows whose `text` holds no caption:
            `"raise"`, or `"skip"`, which leaves them out and counts them.
        rows_per_commit (`int`, *optional*, defaults to 20,000): Rows that an interruption costs at most; also the
            rows of a file, and of a block of [`BlockOrder`].
        on_progress (`Callable`, *optional*): Called with the number of rows of the source that are done.

    Returns:
        [`ConversionCounts`].

    Raises:
        ValueError: If the folder holds rows of another source, a row has no caption, or an image is missing.
    """
    import lance

    if not path.endswith(LANCE_ENDING):
        raise ValueError(f"`path` must end in {LANCE_ENDING}, got {path!r}")
    schema = _schema(rows)
    counts = ConversionCounts()
    if os.path.isdir(path) and os.listdir(path):
        counts.read, counts.written = _progress_of(lance.dataset(path), path, schema, len(rows))
    while counts.read < len(rows):
        stop = min(counts.read + rows_per_commit, len(rows))
        failures: list[Exception] = []
        batches = _kept_failures(_batches(rows, range(counts.read, stop), schema, bad_captions, counts), failures)
        mode = "append" if counts.written else "create"
        try:
            dataset = lance.write_dataset(pa.RecordBatchReader.from_batches(schema, batches), path, mode=mode)
        except OSError as error:
            raise (failures or [error])[0] from None
        counts.read = stop
        counts.written = dataset.count_rows()
        if on_progress is not None:
            on_progress(stop)
    if counts.without_caption:
        logger.warning(f"`{path}`: {counts.without_caption} rows have no caption and are left out")
    return counts


def _schema(rows: datasets.Dataset | DirectRows) -> pa.Schema:
    """That of the rows, and what resuming goes by."""
    schema = rows.schema if isinstance(rows, DirectRows) else without_decoding(rows).features.arrow_schema
    if SOURCE_COLUMN in schema.names:
        schema = schema.remove(schema.get_field_index(SOURCE_COLUMN))
    features = datasets.Features.from_arrow_schema(schema) | {SOURCE_COLUMN: datasets.Value("int64")}
    schema = datasets.Features(features).arrow_schema
    return schema.with_metadata(schema.metadata | {SOURCE_KEY: rows._fingerprint.encode()})


def _progress_of(dataset, path: str, schema: pa.Schema, num_rows: int) -> tuple[int, int]:
    """Rows of the source that are done, and rows that are there."""
    begun = (dataset.schema.metadata or {}).get(SOURCE_KEY)
    if begun != schema.metadata[SOURCE_KEY]:
        raise ValueError(f"`{path}` holds rows of another source, or of one that has changed: name another folder")
    num_written = dataset.count_rows()
    if num_written == 0:
        return 0, 0
    last = dataset.take([num_written - 1], columns=[SOURCE_COLUMN])[SOURCE_COLUMN][0].as_py()
    logger.warning(f"`{path}`: going on after row {last} of {num_rows}")
    return last + 1, num_written


def _batches(
    rows, indices: range, schema: pa.Schema, bad_captions: str, counts: ConversionCounts
) -> Iterator[pa.RecordBatch]:
    features = datasets.Features.from_arrow_schema(schema)
    image_columns = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    for start in indices[::_BATCH_SIZE]:
        stop = min(start + _BATCH_SIZE, indices.stop)
        kept = []
        for number, row in zip(range(start, stop), _rows_between(rows, start, stop), strict=True):
            if "text" in row and not captions_of(row["text"]):
                if bad_captions == "raise":
                    raise ValueError(
                        f"row {number} has no caption, but {row['text']!r:.40}: mend it, or leave such rows out: "
                        'bad_captions="skip"'
                    )
                counts.without_caption += 1
                continue
            kept.append(_with_bytes(row, image_columns) | {SOURCE_COLUMN: number})
        yield from pa.Table.from_pylist(kept, schema=schema).to_batches()


def _kept_failures(batches: Iterator[pa.RecordBatch], failures: list[Exception]) -> Iterator[pa.RecordBatch]:
    """The batches; Lance would make a text of what goes wrong in them."""
    try:
        yield from batches
    except (ValueError, OSError) as error:
        failures.append(error)
        raise


def _rows_between(rows, start: int, stop: int) -> Sequence[dict]:
    if isinstance(rows, DirectRows):
        return [rows[index] for index in range(start, stop)]
    table = without_decoding(rows).with_format("arrow")[start:stop]
    return table.to_pylist()


def _with_bytes(row: dict, image_columns: Sequence[str]) -> dict:
    """The row with the bytes of the images that it names."""
    for name in image_columns:
        image = row[name]
        if image is not None and image["bytes"] is None:
            with open(image["path"], "rb") as file:
                row[name] = {"bytes": file.read(), "path": os.path.basename(image["path"])}
    return row


def add_lance_columns(rows: LanceRows, paths: Sequence[str | os.PathLike]):
    """Add columns to a Lance dataset where it is: all at once, as its next version, or not at all.

    Its data files stay as they are; each fragment gets one more file. If several processes add the same columns, one
    does, and the others find them.

    Args:
        rows ([`LanceRows`]): What gets the columns.
        paths (`Sequence[str]`): Parquet files with the new columns, of one schema, whose rows are those of `rows`, in
            their order.

    Raises:
        ValueError: If the files hold another number of rows, a column is there already, or the dataset was changed
            since `rows` was opened.
    """
    import lance

    schema = pq.read_schema(paths[0]).remove_metadata()
    try:
        dataset = lance.dataset(rows.path, version=rows.version)
        dataset.add_columns(pa.RecordBatchReader.from_batches(schema, _parquet_batches(paths, schema)))
    except (OSError, lance.commit.CommitConflictError) as error:
        newest = lance.dataset(rows.path)
        if newest.version == rows.version or not set(schema.names) <= set(newest.schema.names):
            raise ValueError(f"`{rows.path}`: the columns {schema.names} cannot be added: {error}") from error


def _parquet_batches(paths: Sequence[str | os.PathLike], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH_SIZE):
                yield batch.cast(schema)
