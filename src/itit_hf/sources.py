# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Where rows come from: folders of pictures, parquet, JSON lines, CSV, text files, webdataset archives, and the Hub.

Everything ends as a `datasets.Dataset` with random access, with the columns `image` and `text`. What is wrong with a
file is said with its name and the line or sample in it.
"""

import csv
import glob
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from transformers.utils import logging

from .captions import replace_column

logger = logging.get_logger(__name__)

PICTURE_FIELDS = ("jpg", "jpeg", "png", "webp")
COLUMNS = ("image", "text")
LIST_OF_TEXTS = datasets.List(datasets.Value("string"))
METADATA_NAMES = ("metadata.jsonl", "metadata.csv")
# Builder of the datasets library by the end of a file's name.
_BUILDERS = {
    ".tar": "webdataset",
    ".parquet": "parquet",
    ".jsonl": "json",
    ".json": "json",
    ".csv": "csv",
    ".txt": "text",
}
_NUM_NAMED = 3  # samples that a message names


def files_of(source: str) -> list[str]:
    """The files that a pattern such as `"cc3m/*.tar"` means, sorted; none for a folder or a Hub id.

    Args:
        source (`str`): File, pattern of files, folder or Hub id.

    Returns:
        `list[str]`.

    Raises:
        ValueError: If a pattern with a known ending means no file, or files have different endings.
    """
    if os.path.isdir(source) or Path(source).suffix not in _BUILDERS:
        return []
    files = sorted(name for name in glob.glob(source, recursive=True) if os.path.isfile(name))
    if not files:
        raise ValueError(f"there is no file at `{source}`")
    if len({Path(name).suffix for name in files}) > 1:
        raise ValueError(f"`{source}` means files of several kinds: {files[:_NUM_NAMED]}")
    return files


def open_source(source: str, cache_dir: str | None = None) -> datasets.DatasetDict:
    """Open everything there is, by split; files without a folder are one split, `"train"`.

    Args:
        source (`str`): Folder of pictures with `metadata.jsonl` or `metadata.csv`, or of parquet files; a file or a
            pattern of files that end in `.tar`, `.parquet`, `.jsonl`, `.json`, `.csv` or `.txt`; or a Hub id.
        cache_dir (`str`, *optional*): Of the datasets library.

    Raises:
        ValueError: If a file is not what its name says, naming file and line.
    """
    files = files_of(source)
    for check in (_check_metadata, _check_parquet, _check_archives):
        check(source, files)
    if not files:
        return datasets.load_dataset(source, cache_dir=cache_dir)
    builder = _BUILDERS[Path(files[0]).suffix]
    found = datasets.load_dataset(builder, data_files={"train": files}, cache_dir=cache_dir)
    if builder == "webdataset":
        found["train"] = webdataset_rows(found["train"])
    return found


def first_rows(source: str, split: str | None, number: int, cache_dir: str | None = None) -> datasets.Dataset:
    """The first rows of something that is too large to fetch, read one by one and kept.

    Training asks for rows in any order; a stream has only one. So the part that is used is stored.

    Args:
        source (`str`): As for [`open_source`].
        split (`str`, *optional*): Its split; may be left out if there is one only.
        number (`int`): How many.
        cache_dir (`str`, *optional*): Of the datasets library.

    Raises:
        ValueError: If the number is not positive, there is no such split, or it holds no row.
    """
    if number < 1:
        raise ValueError(f"`stream_rows` must be at least 1, got {number}")
    files = files_of(source)
    options = {"path": _BUILDERS[Path(files[0]).suffix], "data_files": {"train": files}} if files else {"path": source}
    found = datasets.load_dataset(**options, streaming=True, cache_dir=cache_dir)
    name = split or (next(iter(found)) if len(found) == 1 else None)
    if name not in found:
        raise ValueError(f"`{source}`: name one of its splits, of {sorted(found)}, got {split!r}")
    stream = found[name]
    rows = list(islice(stream, number))
    if not rows:
        raise ValueError(f"`{source}`: the split {name!r} holds no row")
    rows = datasets.Dataset.from_list(rows, features=stream.features)
    return webdataset_rows(rows) if files and options["path"] == "webdataset" else rows


def webdataset_rows(rows: datasets.Dataset) -> datasets.Dataset:
    """Samples of archives as rows with `image` and `text`, where they have them.

    A picture is a `.jpg`, `.jpeg`, `.png` or `.webp`; its caption a `.txt`, or `caption` of its `.json`, a string or a
    list. If some samples have both, those that lack one are left out, and named in a warning.

    Args:
        rows (`datasets.Dataset`): With the fields of the samples as columns.

    Raises:
        ValueError: If no sample has a picture or a caption.
    """
    bare = rows.cast(_undecoded_features(rows.features))
    with_pictures = [name for name in PICTURE_FIELDS if name in rows.column_names]
    with_captions = [name for name in ("txt", "json") if name in rows.column_names]

    def normalise(row: dict) -> dict:
        image = next((row[name] for name in with_pictures if row[name] is not None), None)
        text = row["txt"] if row.get("txt") is not None else (row.get("json") or {}).get("caption")
        texts = [text] if isinstance(text, str) else list(text or [])
        return {"image": image, "text": [each.strip() for each in texts if each.strip()]}

    features = datasets.Features(
        {"image": datasets.Image(decode=False), "text": datasets.List(datasets.Value("string"))}
    )
    names = [f"{Path(url).name}: {key}" for url, key in zip(bare["__url__"], bare["__key__"], strict=True)]
    made = bare.map(normalise, remove_columns=bare.column_names, features=features, desc="samples")
    pictures = [image is not None for image in made["image"]] if with_pictures else [False] * len(made)
    captions = [bool(text) for text in made["text"]] if with_captions else [False] * len(made)
    if not any(pictures) and not any(captions):
        raise ValueError(
            f"no sample has a picture ({', '.join(PICTURE_FIELDS)}) or a caption (txt, json), as {names[0]}"
        )
    wanted = [True] * len(made)
    for has in (pictures, captions):
        if any(has):
            wanted = [a and b for a, b in zip(wanted, has, strict=True)]
    left_out = [name for name, keep in zip(names, wanted, strict=True) if not keep]
    if left_out:
        logger.warning(f"{len(left_out)} samples lack picture or caption and are left out: {left_out[:_NUM_NAMED]}")
        made = made.select([i for i, keep in enumerate(wanted) if keep])
    if not any(pictures):
        return made.remove_columns("image")
    made = made.cast_column("image", datasets.Image())
    return made if any(captions) else made.remove_columns("text")


def _undecoded_features(features: datasets.Features) -> datasets.Features:
    bare = {
        name: datasets.Image(decode=False) if isinstance(feature, datasets.Image) else feature
        for name, feature in features.items()
    }
    return datasets.Features(bare)


def parse_columns(items: Sequence[str], name: str = "columns") -> dict[str, str]:
    """Which columns are meant, from the words of a command line.

    Args:
        items (`Sequence[str]`): Such as `["image=photo", "text=alt"]`.
        name (`str`, *optional*, defaults to `"columns"`): What the message calls the argument.

    Returns:
        `dict[str, str]`: Such as `{"image": "photo", "text": "alt"}`, as [`~data.load_rows`] takes it.

    Raises:
        ValueError: If an item has another form, or names another column than `image` and `text`.
    """
    wrong = [item for item in items if not all(item.partition("=")) or item.partition("=")[0] not in COLUMNS]
    if wrong:
        raise ValueError(f"`{name}` must be of the form image=photo or text=alt, got {wrong}")
    return dict(item.split("=", 1) for item in items)


def with_columns(
    rows: datasets.Dataset, columns: Mapping[str, str], source: str, needed: Sequence[str] = ()
) -> datasets.Dataset:
    """Rows with their columns under the names that streams know. Class labels become captions, their names.

    Args:
        rows (`datasets.Dataset`): Any.
        columns (`Mapping[str, str]`): Of `image` and `text`, which column is meant.
        source (`str`): What the message calls the rows.
        needed (`Sequence[str]`, *optional*): Of `image` and `text`, those that the rows must have; `image_token_ids`
            stands for `image`.

    Raises:
        ValueError: If a name is not of `image` and `text`, or there is no such column.
    """
    unknown = [name for name in (*columns, *needed) if name not in COLUMNS]
    if unknown:
        raise ValueError(f"`columns` and `needed` must be of `image` and `text`, got {unknown[0]!r}")
    for name, column in columns.items():
        if column not in rows.column_names:
            raise ValueError(f"`{source}` has no column {column!r} for {name!r}, it has {rows.column_names}")
        if name != column:
            if name in rows.column_names:
                rows = rows.remove_columns(name)
            rows = rows.rename_column(column, name)
    for name in needed:
        if name not in rows.column_names and not (name == "image" and "image_token_ids" in rows.column_names):
            raise ValueError(
                f"`{source}` has no column {name!r}, it has {rows.column_names}: say which one is meant, such as "
                f"columns {name}={rows.column_names[0]}"
            )
    label = rows.features.get("text")
    if isinstance(label, datasets.ClassLabel):
        texts = pa.array([[name.replace("_", " ")] for name in label.names])
        rows = replace_column(rows, "text", lambda codes: _label_texts(codes, texts), LIST_OF_TEXTS, "labels")
    return rows


def _label_texts(codes: pa.Array, texts: pa.Array) -> pa.Array:
    """Captions of class labels; null for a row without a label, which is -1 or null."""
    codes = codes.cast(pa.int64())
    return texts.take(pc.if_else(pc.greater_equal(codes, 0), codes, None))


def label_captions(
    label: datasets.ClassLabel, templates: Sequence[str] = ("{}",), column: str = "label"
) -> Callable[[dict], dict]:
    """What `rows.map` makes captions of class labels with: `rows.map(label_captions(rows.features["label"]))`.

    Args:
        label (`datasets.ClassLabel`): The feature, which knows the names; `_` in them is a space.
        templates (`Sequence[str]`): A caption for each, such as `"a picture of a {}"`.
        column (`str`, *optional*, defaults to `"label"`): Where the numbers are.

    Returns:
        `Callable` from a row to its `text`, a list of captions; none for a row without a label.

    Raises:
        ValueError: If a template has no place for the name.
    """
    without = [template for template in templates if "{}" not in template]
    if without or not templates:
        raise ValueError(f"`templates` must hold {{}}, where the name goes, got {list(without or templates)}")
    names = [name.replace("_", " ") for name in label.names]

    def caption(row: dict) -> dict:
        known = row[column] is not None and row[column] >= 0
        return {"text": [template.format(names[row[column]]) for template in templates] if known else []}

    return caption


def _check_metadata(source: str, files: Sequence[str]):
    """A line of metadata that cannot be used, before the library fails without a word about where."""
    if not os.path.isdir(source):
        return
    for name in METADATA_NAMES:
        for path in sorted(Path(source).rglob(name)):
            for number, row in _json_lines(path) if path.suffix == ".jsonl" else _csv_lines(path):
                place = f"`{path}`, line {number}"
                file_name = row.get("file_name") or row.get("image_file_name")
                if not isinstance(file_name, str):
                    raise ValueError(f"{place}: wanted `file_name`, the picture as seen from there, got {row!r:.100}")
                if not (path.parent / file_name).is_file():
                    raise ValueError(f"{place}: there is no picture {path.parent / file_name}")


def _json_lines(path: Path) -> Iterator[tuple[int, dict]]:
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"`{path}`, line {number}: is no JSON: {error}") from error
            if not isinstance(row, dict):
                raise ValueError(f"`{path}`, line {number}: wanted an object with `file_name`, got {line.strip():.80}")
            yield number, row


def _csv_lines(path: Path) -> Iterator[tuple[int, dict]]:
    with open(path, encoding="utf-8", newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines), 2):  # the first line names the columns
            if None in row or None in row.values():
                raise ValueError(f"`{path}`, line {number}: has another number of cells than the first line")
            yield number, row


def _check_parquet(source: str, files: Sequence[str]):
    inside = Path(source).rglob("*.parquet") if os.path.isdir(source) else ()
    for name in sorted(map(str, inside)) or [name for name in files if name.endswith(".parquet")]:
        try:
            pq.read_metadata(name)
        except (OSError, ValueError) as error:  # pyarrow's own errors are of these
            raise ValueError(f"`{name}` is no parquet file, or is cut: {error}") from error


def _check_archives(source: str, files: Sequence[str]):
    for name in files:
        if name.endswith(".tar"):
            try:
                with tarfile.open(name) as archive:
                    archive.next()
            except tarfile.TarError as error:
                raise ValueError(f"`{name}` is no archive: {error}") from error
