# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""From files of one kind to rows: a reader for each kind, which yields tables of a few hundred rows.

An image is a path or the bytes of its file, never decoded here. Each row of a file is a row of the dataset; what
cannot be read is an error with the file and the line or sample in it.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets.table import table_cast
from transformers.utils import logging

from .archives import Sample, open_archive, read_field, read_samples
from .captions import LIST_OF_TEXTS, NULL_WORDS, without_lone_surrogates
from .folders import IMAGE_ENDINGS, SplitFiles, images_in, kind_of
from .row_store import TypedColumns, batched, limited, sampled, stored_rows
from .text_files import csv_rows, decode_text, json_rows, sentence_rows, text_lines

logger = logging.get_logger(__name__)

_VERSION = 1  # of the readers; a part of the key of what they read
_IMAGE_TYPE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
_FILE_NAMES = ("file_name", "image_file_name")  # columns of metadata
# Endings of an image in an archive, in the order of preference.
_IMAGE_FIELDS = ("jpg", "jpeg", "png", "webp", *sorted(ending[1:] for ending in IMAGE_ENDINGS))
_CAPTION_FIELDS = ("txt", "caption")
_CAPTION_KEYS = ("caption", "text")  # of the JSON in an archive
_MAX_TABLE_BYTES = 64_000_000
_CONTAINER_BATCH = 500  # rows
_INTEGER = re.compile(r"[+-]?(0|[1-9]\d{0,17})", re.ASCII)
_NUMBER = re.compile(  # an integer that fits into 64 bits, or one with a point or an exponent; `007` is a name
    r"[+-]?(0|[1-9]\d{0,17}|(0|[1-9]\d*)(\.\d*)([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|(0|[1-9]\d*)[eE][+-]?\d+)",
    re.ASCII,
)


def read_split(
    files: SplitFiles,
    columns: Mapping[str, str],
    number: int | None = None,
    name: str = "dataset",
    sample_seed: int | None = None,
) -> datasets.Dataset:
    """The rows of a split, from the disk, where they are written the first time.

    Args:
        files ([`SplitFiles`]): What it is made of.
        columns (`Mapping[str, str]`): Which columns `image` and `text` are; cells of these stay text, and in archives
            they are fields of the samples, or keys of their JSON.
        number (`int`, *optional*): Only so many rows: the first ones, and no more is read; or a sample.
        name (`str`, *optional*): What messages call it.
        sample_seed (`int`, *optional*): Draws the rows from all of the split, which is read twice; see [`sampled`].

    Returns:
        `datasets.Dataset`: With the columns of the files; `image` stands for `file_name` of metadata.

    Raises:
        ValueError: If a file cannot be read, by its name and line.
    """
    read_from = [_VERSION, files.kind, files.state, sorted(columns.items()), number, files.labels, files.has_captions]
    if number is not None and sample_seed is not None:
        read_from += [sample_seed]
    key = hashlib.sha256(json.dumps(read_from).encode()).hexdigest()[:32]
    typed = TypedColumns(name)

    def read() -> Iterator[pa.Table]:
        typed.restart()
        return _READERS[files.kind](files, columns, typed)

    def read_part() -> Iterator[pa.Table]:
        if number is None or sample_seed is None:
            return limited(read(), number)
        return sampled(read, number, sample_seed)

    rows = stored_rows(key, read_part, name)
    return _without_empty_columns(rows, files) if files.kind == "tar" else rows


def _images(files: SplitFiles, columns: Mapping[str, str], typed: TypedColumns) -> Iterator[pa.Table]:
    found = (item for folder in files.paths for item in images_in(folder))
    for batch in batched(found):
        table = {"image": _image_array([path for path, _ in batch])}
        features = {"image": datasets.Image()}
        if files.has_captions:
            texts = [None if text is None else _read_text(text) for _, text in batch]
            table["text"] = pa.array(texts, pa.string())
        if files.labels:
            names = [os.path.basename(os.path.dirname(path)) for path, _ in batch]
            table["label"] = pa.array([files.labels.index(each) for each in names], pa.int64())
            features["label"] = datasets.ClassLabel(names=list(files.labels))
        yield _with_features(pa.table(table), features)


def _image_array(paths: Sequence[str]) -> pa.Array:
    for path in paths:
        try:
            path.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"{os.fsencode(path)!r}: the name of a file must be UTF-8: rename it") from error
    return pa.array([{"bytes": None, "path": path} for path in paths], _IMAGE_TYPE)


def _read_text(path: str) -> str:
    with open(path, "rb") as file:
        return decode_text(file.read(), f"`{path}`")


def _with_features(table: pa.Table, special: Mapping) -> pa.Table:
    """The table with the features of the datasets library in its schema."""
    features = datasets.Features.from_arrow_schema(table.schema) | special
    return table.replace_schema_metadata(datasets.Features(features).arrow_schema.metadata)


def _line_rows(path: str) -> Iterator[tuple[int, dict]]:
    """Numbered rows of a file of text."""
    kind = kind_of(path)
    if kind == "csv":
        is_tabbed = ".tsv" in os.path.basename(path).lower()
        return csv_rows(path, "\t" if is_tabbed else ",")
    return sentence_rows(path) if kind == "txt" else json_rows(path)


def _texts(files: SplitFiles, columns: Mapping[str, str], typed: TypedColumns) -> Iterator[pa.Table]:
    for path in files.paths:
        for batch in _typed_batches(path, columns, typed):
            rows = [row for _, row in batch]
            yield _with_features(typed.table(rows, f"`{path}`, near line {batch[0][0]}"), {})


def _typed_batches(path: str, columns: Mapping[str, str], typed: TypedColumns) -> Iterator[list[tuple[int, dict]]]:
    """Numbered rows of a file of text in batches; cells of CSV are numbers where all of a column are."""
    is_empty = True
    for batch in batched(_line_rows(path)):
        is_empty = False
        if kind_of(path) == "csv":
            texts = (*columns.values(), "text", *_FILE_NAMES)
            rows = _csv_values([row for _, row in batch], typed.types, texts)
            batch = [(line, row) for (line, _), row in zip(batch, rows, strict=True)]
        yield batch
    if is_empty:
        raise ValueError(f"`{path}` is empty: it holds no row")


def _csv_values(rows: list[dict[str, str]], types: Mapping[str, pa.DataType | None], texts: Sequence[str]) -> list:
    changed: list[dict[str, Any]] = [dict(row) for row in rows]
    for name in rows[0]:
        if name in texts:
            continue
        cells = [row[name] for row in rows]
        cells = [None if cell.strip() in ("", *NULL_WORDS) else cell.strip() for cell in cells]
        number = _number_of(cells, types.get(name))
        if number is not None:
            cells = [None if cell is None else number(cell) for cell in cells]
        for row, cell in zip(changed, cells, strict=True):
            row[name] = cell
    return changed


def _number_of(cells: Sequence[str | None], kind: pa.DataType | None) -> Callable | None:
    """What makes numbers of all these cells, if they are numbers and those before were."""
    given = [cell for cell in cells if cell is not None]
    if kind is not None and pa.types.is_string(kind):
        return None
    if all(map(_INTEGER.fullmatch, given)):
        return int
    return float if all(map(_NUMBER.fullmatch, given)) else None


def _metadata(files: SplitFiles, columns: Mapping[str, str], typed: TypedColumns) -> Iterator[pa.Table]:
    seen = []
    for path in files.paths:
        read = _metadata_parquet if kind_of(path) == "parquet" else _metadata_lines
        num_rows = 0
        for table in read(path, columns, typed):
            num_rows += len(table)
            seen.append(pc.struct_field(table["image"], "path"))
            yield table
        num_lines = _rows_written(path)
        if num_rows != num_lines:
            raise ValueError(
                f"`{path}`: {num_rows} rows were read, and {num_lines} are in it: was it changed meanwhile?"
            )
    num_named = pc.count_distinct(pa.chunked_array([chunk for column in seen for chunk in column.chunks])).as_py()
    if num_named < files.num_images:
        logger.warning(
            f"`{files.root}` holds {files.num_images} images, and its metadata names {num_named}: others are not read"
        )


def _rows_written(path: str) -> int:
    """Rows of a file of metadata, counted apart from what makes tables of them."""
    if kind_of(path) == "parquet":
        return pq.read_metadata(path).num_rows
    if kind_of(path) == "jsonl":
        return sum(not line.lstrip("\ufeff").isspace() for line in text_lines(path))
    return sum(1 for _ in csv_rows(path))  # a row may have several lines


def _metadata_lines(path: str, columns: Mapping[str, str], typed: TypedColumns) -> Iterator[pa.Table]:
    folder = os.path.dirname(path)
    for batch in _typed_batches(path, columns, typed):
        images = [_image_path(row, folder, f"`{path}`, line {line}") for line, row in batch]
        rows = [{name: row[name] for name in row if name not in (*_FILE_NAMES, "image")} for _, row in batch]
        yield _with_image(typed.table(rows, f"`{path}`, near line {batch[0][0]}"), images)


def _with_image(table: pa.Table, paths: Sequence[str]) -> pa.Table:
    columns = {"image": _image_array(paths)} | {name: table[name] for name in table.column_names}
    return _with_features(pa.table(columns), {"image": datasets.Image()})


def _image_path(row: Mapping, folder: str, place: str) -> str:
    name = next((row[name] for name in _FILE_NAMES if row.get(name)), None)
    if not isinstance(name, str):
        raise ValueError(f"{place}: wanted `file_name`, the image as seen from there, got {dict(row)!r:.100}")
    path = os.path.join(folder, name)
    if not os.path.isfile(path):
        raise ValueError(f"{place}: there is no image {path}")
    return path


def _metadata_parquet(path: str, columns: Mapping[str, str], typed: TypedColumns) -> Iterator[pa.Table]:
    start = 0
    for table in _containers(SplitFiles("parquet", [path], ""), columns, typed):
        names = [name for name in _FILE_NAMES if name in table.column_names]
        rows = table.select(names).to_pylist()
        folder = os.path.dirname(path)
        images = [_image_path(row, folder, f"`{path}`, row {start + n}") for n, row in enumerate(rows)]
        start += len(rows)
        yield _with_image(table.drop_columns([*names, *({"image"} & set(table.column_names))]), images)


def _archives(files: SplitFiles, columns: Mapping[str, str], typed: TypedColumns) -> Iterator[pa.Table]:
    names = [columns.get("image", "image"), columns.get("text", "text")]
    features = datasets.Features({names[0]: datasets.Image(), names[1]: LIST_OF_TEXTS})
    num_left_out = 0
    num_rows = 0
    example = ""
    for path in files.paths:
        for rows in _archive_batches(path, columns):
            kept = [row for row in rows if row[1][0] is not None or row[1][1]]
            num_left_out += len(rows) - len(kept)
            num_rows += len(kept)
            example = example or rows[0][0]
            if kept:
                images, texts = zip(*(row for _, row in kept), strict=True)
                yield pa.table(
                    [pa.array(images, _IMAGE_TYPE), pa.array(texts, pa.list_(pa.string()))], features.arrow_schema
                )
    if num_rows == 0:
        raise ValueError(
            f"`{files.root}`: no sample has an image ({', '.join(_IMAGE_FIELDS[:4])}, ...) or a caption (txt, or "
            f"`caption` of its json), as {example or 'there is no sample'}"
        )
    if num_left_out:
        logger.warning(f"`{files.root}`: {num_left_out} samples have neither an image nor a caption, and are left out")


def _archive_batches(path: str, columns: Mapping[str, str]) -> Iterator[list[tuple[str, tuple]]]:
    """Samples of an archive, as `(name, (image, captions))`, in lists that are not too large in bytes."""
    with open_archive(path) as file:
        rows: list[tuple[str, tuple]] = []
        num_bytes = 0
        for sample in read_samples(file, path):
            name = f"{os.path.basename(path)}/{sample.key}"
            image_field = image_field_of(sample, columns)
            image = None
            if image_field is not None:
                image = {"bytes": read_field(file, sample, image_field), "path": f"{name}.{image_field}"}
                num_bytes += len(image["bytes"])
            rows.append((name, (image, captions_in_sample(file, sample, name, columns))))
            if num_bytes > _MAX_TABLE_BYTES or len(rows) == 1000:
                yield rows
                rows = []
                num_bytes = 0
        if rows:
            yield rows


def image_field_of(sample: Sample, columns: Mapping[str, str]) -> str | None:
    """Which field of a sample of an archive its image is, if it has one.

    Args:
        sample ([`Sample`]): Of an archive.
        columns (`Mapping[str, str]`): Which field `image` is; the usual endings by default.
    """
    return sample.first_of([columns["image"].lower()] if "image" in columns else _IMAGE_FIELDS)


def captions_in_sample(file, sample: Sample, name: str, columns: Mapping[str, str]) -> list[str | None]:
    """The captions of a sample of an archive: a file of text, or an entry of its JSON, a text or a list.

    Args:
        file: The archive, open.
        sample ([`Sample`]): Of the archive.
        name (`str`): What messages call it.
        columns (`Mapping[str, str]`): Which field, or which key of its JSON, `text` is; the usual ones by default.

    Raises:
        ValueError: If it is no UTF-8, or no JSON.
    """
    wanted = columns.get("text")
    field = sample.first_of(_CAPTION_FIELDS if wanted is None else [wanted.lower()])
    if field is not None:
        return [decode_text(read_field(file, sample, field), f"{name}.{field}")]
    if "json" not in sample.fields:
        return []
    place = f"{name}.json"
    try:
        record = json.loads(decode_text(read_field(file, sample, "json"), place))
    except json.JSONDecodeError as error:
        raise ValueError(f"{place}: is no JSON: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"{place}: wanted an object with `caption`, got {record!r:.80}")
    value = next((record[key] for key in (_CAPTION_KEYS if wanted is None else [wanted]) if key in record), None)
    values = value if isinstance(value, list) else [value]
    return [None if each is None else without_lone_surrogates(str(each)) for each in values]


def _without_empty_columns(rows: datasets.Dataset, files: SplitFiles) -> datasets.Dataset:
    """Archives of images alone have no column of captions, and the other way round."""
    for name, feature in dict(rows.features).items():
        chunks = rows.data.column(name).chunks
        if isinstance(feature, datasets.Image):
            is_empty = sum(chunk.null_count for chunk in chunks) == len(rows)
        else:
            is_empty = not any(pc.any(pc.is_valid(pc.list_flatten(chunk))).as_py() for chunk in chunks)
        if is_empty:
            rows = rows.remove_columns(name)
    return rows


def _containers(files: SplitFiles, columns: Mapping[str, str], typed: TypedColumns) -> Iterator[pa.Table]:
    """Rows of parquet or arrow files, which have types already."""
    schemas = [_schema_of(path) for path in files.paths]
    try:
        bare = pa.unify_schemas([schema.remove_metadata() for schema in schemas], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(f"`{files.root}`: columns must have one type in all files, and do not: {error}") from error
    features = datasets.Features.from_arrow_schema(bare)
    for schema in schemas:  # what the datasets library wrote says more than types
        known = datasets.Features.from_arrow_schema(schema) if b"huggingface" in (schema.metadata or {}) else {}
        features.update({name: known[name] for name in known if schema.field(name).type == bare.field(name).type})
    for field in bare:
        is_image = pa.types.is_struct(field.type) and {each.name for each in field.type} == {"bytes", "path"}
        if is_image and isinstance(features[field.name], dict):  # as other libraries write it
            features[field.name] = datasets.Image()
    for path in files.paths:
        for table in _container_tables(path):
            for field in bare:
                if field.name not in table.column_names:
                    table = table.append_column(field.name, pa.nulls(len(table), field.type))
            yield table_cast(table.select(list(features)), features.arrow_schema)


def _container_tables(path: str) -> Iterator[pa.Table]:
    with _named(path):
        if kind_of(path) == "parquet":
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(_CONTAINER_BATCH):
                    yield pa.Table.from_batches([batch])
        else:
            for batch in _arrow_batches(path):
                for start in range(0, len(batch), _CONTAINER_BATCH):
                    yield pa.Table.from_batches([batch.slice(start, _CONTAINER_BATCH)])


def _schema_of(path: str) -> pa.Schema:
    with _named(path):
        if kind_of(path) == "parquet":
            return pq.read_schema(path)
        with pa.memory_map(path) as file:
            return _open_arrow(file).schema


def _arrow_batches(path: str) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(path) as file:
        reader = _open_arrow(file)
        if isinstance(reader, pa.ipc.RecordBatchStreamReader):
            yield from reader
        else:
            yield from (reader.get_batch(number) for number in range(reader.num_record_batches))


def _open_arrow(file: pa.NativeFile):
    """An arrow file comes in two formats: the stream, as the datasets library writes it, and the one with an index."""
    try:
        return pa.ipc.open_stream(file)
    except pa.ArrowInvalid:
        file.seek(0)
        return pa.ipc.open_file(file)


@contextmanager
def _named(path: str):
    """Errors of arrow, with the file that they are of."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError) as error:
        raise ValueError(f"`{path}` is no {kind_of(path)} file, or is cut: {error}") from error


# By the kind of the files.
_READERS: dict[str, Callable[[SplitFiles, Mapping[str, str], TypedColumns], Iterator[pa.Table]]] = {
    "images": _images,
    "metadata": _metadata,
    "tar": _archives,
    "parquet": _containers,
    "arrow": _containers,
    "jsonl": _texts,
    "json": _texts,
    "csv": _texts,
    "txt": _texts,
}
