# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Where rows come from: folders of images, parquet, arrow, JSON lines, CSV, text, webdataset archives, and the Hub.

Everything ends as a `datasets.Dataset` with random access, with the columns `image` and `text`. What is there under a
name is read by [`~folders`] and [`~readers`]; only what is not is looked for on the Hub.
"""

import collections
import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from transformers.utils import logging

from ..rng import KeyedPermutation
from .captions import LIST_OF_TEXTS, clean_captions, replace_column
from .folders import SplitFiles, file_state, find_splits, kind_of
from .readers import read_split

logger = logging.get_logger(__name__)

COLUMNS = ("image", "text")
MAX_OPEN_FILES = 32  # of a stream whose rows are drawn
MIN_BUFFER_ROWS = 1000  # of all its open files
LANCE_ENDING = ".lance"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_NUM_NAMED = 3  # files that a message names


def source_name(source: str) -> str:
    """What messages call a source.

    Args:
        source (`str`): Folder, file, pattern or Hub id.
    """
    return os.path.basename(os.path.normpath(source))


class Splits(Mapping):
    """Splits by name, of which each is read when it is asked for.

    Args:
        names (`Iterable[str]`): Their names.
        read (`Callable`): From a name to its rows.
    """

    def __init__(self, names: Iterable[str], read: Callable[[str], datasets.Dataset]):
        self._found: dict[str, datasets.Dataset | None] = dict.fromkeys(names)
        self._read = read

    def __getitem__(self, name: str) -> datasets.Dataset:
        """The rows of a split; only the first time they are read."""
        if self._found[name] is None:
            self._found[name] = self._read(name)
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def open_source(
    source: str,
    columns: Mapping[str, str] | None = None,
    stream_rows: int | None = None,
    stream_seed: int | None = None,
) -> Mapping[str, datasets.Dataset]:
    """Find the splits of a source; files without a folder are one split, `"train"`. Columns keep their names.

    Args:
        source (`str`): Folder; file, or pattern of files of one kind; or Hub id. What is there under this name is
            taken as it stands: `"[v1]"` in the name of a folder is no pattern.
        columns (`Mapping[str, str]`, *optional*): Which columns `image` and `text` are.
        stream_rows (`int`, *optional*): Keep only so many rows of a split.
        stream_seed (`int`, *optional*): Draws them, as [`~data.loading.load_rows`] says; the first ones by default.

    Returns:
        `Mapping[str, datasets.Dataset]`: By the names of the splits, each read when it is asked for.

    Raises:
        ValueError: If there is nothing under this name, or, later, a file cannot be read, by name and line.
    """
    if stream_rows is not None and stream_rows < 1:
        raise ValueError(f"`stream_rows` must be at least 1, got {stream_rows}")
    local = local_splits(source)
    if local is None:
        return _from_hub(source, stream_rows, stream_seed)

    def read(name: str) -> datasets.Dataset:
        return read_split(local[name], columns or {}, stream_rows, source_name(source), stream_seed)

    return Splits(local, read)


def local_splits(source: str) -> dict[str, SplitFiles] | None:
    """What there is on this machine under a name, by split; `None` if it can only be a Hub id.

    Args:
        source (`str`): Folder, file, pattern or Hub id.

    Raises:
        ValueError: If there is nothing, and it is no Hub id.
    """
    path = os.path.abspath(os.path.expanduser(source))
    if path.endswith(LANCE_ENDING):
        raise ValueError(f"`{source}` is a Lance dataset, which is read where it is: by `open_rows`, `direct`")
    if os.path.isdir(path):
        return find_splits(path)
    files = [path] if os.path.isfile(path) else []
    if not files and glob.has_magic(path):
        files = sorted(file for file in glob.glob(_pattern(path), recursive=True) if os.path.isfile(file))
    if not files:
        if kind_of(source) is not None or not _HUB_ID.fullmatch(source):
            raise ValueError(f"there is no file or folder at `{source}`")
        return None
    kinds = {kind_of(file) for file in files}
    if len(kinds) > 1:
        raise ValueError(f"`{source}` means files of several kinds: {files[:_NUM_NAMED]}")
    (kind,) = kinds
    if kind is None:
        raise ValueError(f"`{source}`: a file must hold rows, as .jsonl, .csv, .txt, .parquet, .arrow or .tar does")
    return {"train": SplitFiles(kind, files, file_state(files), source_name(source))}


def _pattern(path: str) -> str:
    """A pattern in which the folders that exist are meant as they stand, such as `"photos [v1]/*.tar"`."""
    above = path
    below = ""
    while not os.path.isdir(above):
        above, name = os.path.split(above)
        below = os.path.join(name, below) if below else name
    return os.path.join(glob.escape(above), below)


def _from_hub(source: str, stream_rows: int | None, stream_seed: int | None) -> Mapping[str, datasets.Dataset]:
    repo_id = _hub_id(source)
    try:
        found = datasets.load_dataset(repo_id, streaming=stream_rows is not None)
    except (DatasetNotFoundError, OfflineModeIsEnabled, ConnectionError, FileNotFoundError, HfHubHTTPError) as error:
        raise ValueError(f"`{source}` is no file or folder here, and no dataset of the Hub: {error}") from error
    if stream_rows is None:
        return found

    def some_rows(name: str) -> datasets.Dataset:
        files = without_decoding(found[name])
        rows = list(
            islice(files if stream_seed is None else _mixed_rows(files, stream_rows, stream_seed), stream_rows)
        )
        if not rows:
            raise ValueError(f"`{source}`: the split {name!r} holds no row")
        return datasets.Dataset.from_list(rows, features=found[name].features)

    return Splits(found, some_rows)


def _mixed_rows(stream: datasets.IterableDataset, number: int, seed: int) -> Iterator[dict]:
    """Rows of a stream, from many of its files at a time, in turn: files in a keyed order, each through a buffer."""
    num_files = stream.num_shards
    num_open = min(num_files, MAX_OPEN_FILES)
    if num_files == 1:
        logger.warning(f"the stream has one file: {number} rows are drawn from its first rows alone")
    buffer_size = -(-max(number, MIN_BUFFER_ROWS) // num_open)
    waiting = [
        stream.shard(num_files, file).shuffle(seed=seed, buffer_size=buffer_size)
        for file in KeyedPermutation(num_files, seed, "files of a stream", 0).table()
    ]
    opened = collections.deque(iter(file) for file in waiting[:num_open])
    waiting = waiting[num_open:]
    while opened:
        file = opened.popleft()
        row = next(file, None)
        if row is not None:
            yield row
            opened.append(file)
        elif waiting:
            opened.append(iter(waiting.pop(0)))


def _hub_id(source: str) -> str:
    """The id of a dataset of the Hub. A bare name is one only if the Hub says so: the library would take whatever
    folder of that name it ever read, wherever that was."""
    if "/" in source:
        return source
    if datasets.config.HF_HUB_OFFLINE:
        raise ValueError(f"there is no file or folder at `{source}`; a dataset of the Hub is named owner/name")
    try:
        return HfApi(endpoint=datasets.config.HF_ENDPOINT).dataset_info(source).id
    except (OfflineModeIsEnabled, OSError) as error:  # those of the network are of OSError
        raise ValueError(
            f"there is no file or folder at `{source}`, and no such dataset of the Hub: {error}"
        ) from error


def parse_columns(items: Sequence[str], name: str = "columns") -> dict[str, str]:
    """Which columns are meant, from the words of a command line.

    Args:
        items (`Sequence[str]`): Such as `["image=photo", "text=alt"]`.
        name (`str`, *optional*, defaults to `"columns"`): What the message calls the argument.

    Returns:
        `dict[str, str]`: Such as `{"image": "photo", "text": "alt"}`, as [`~data.loading.load_rows`] takes it.

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
    names = {column: name for name, column in columns.items()}
    if len(names) < len(columns):
        raise ValueError(f"`columns` must map `image` and `text` to two columns, got {dict(columns)}")
    replaced = [name for name in columns if name in rows.column_names and name not in names]
    rows = rows.remove_columns(replaced).rename_columns(names)
    for name in needed:
        if name not in rows.column_names and not (name == "image" and "image_token_ids" in rows.column_names):
            others = [column for column in rows.column_names if column not in COLUMNS]
            remedy = f": say which one is meant, such as columns {name}={others[0]}" if others else ""
            raise ValueError(f"`{source}` has no column {name!r}, it has {rows.column_names}{remedy}")
    label = rows.features.get("text")
    if isinstance(label, datasets.List):
        label = label.feature
    if isinstance(label, datasets.ClassLabel):
        texts = pa.array([name.replace("_", " ") for name in label.names])
        rows = replace_column(rows, "text", lambda codes: _label_texts(codes, texts), LIST_OF_TEXTS, "labels")
    return rows


def with_image_files(rows: datasets.Dataset, source: str) -> datasets.Dataset:
    """Rows whose images are named in a table, as files: a name is seen from where the table is, if a file is there.

    Args:
        rows (`datasets.Dataset`): With a column `image`; other columns than one of names are left as they are.
        source (`str`): File, pattern or folder that they were read from.
    """
    if rows.features.get("image") not in (datasets.Value("string"), datasets.Value("large_string")):
        return rows
    folder = os.path.abspath(os.path.expanduser(source))
    if not os.path.isdir(folder):
        folder = os.path.dirname(folder)

    def found(name: str) -> str:
        path = os.path.join(folder, name)
        return path if os.path.exists(path) else name

    def to_files(names: pa.Array) -> pa.Array:
        paths = [name and found(name) for name in names.to_pylist()]
        return pa.array([path and {"bytes": None, "path": path} for path in paths], datasets.Image().pa_type)

    return replace_column(rows, "image", to_files, datasets.Image(), f"images/{folder}")


def _label_texts(codes: pa.Array, names: pa.Array) -> pa.Array:
    """Captions of class labels, a list for each row; null for a label that is not known, which is -1 or null."""
    flat = pc.list_flatten(codes) if pa.types.is_nested(codes.type) else codes
    flat = flat.cast(pa.int64())
    texts = names.take(pc.if_else(pc.greater_equal(flat, 0), flat, None))
    if pa.types.is_nested(codes.type):
        lengths = np.asarray(pc.fill_null(pc.list_value_length(codes), 0))
    else:
        lengths = np.ones(len(codes), dtype=np.int64)
    return pa.ListArray.from_arrays(pa.array(np.concatenate(([0], np.cumsum(lengths))), pa.int32()), texts)


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


def without_decoding(rows):
    """The rows with their images as files, which [`load_image`] opens: what a library would decode on the way has
    passed no limit of size.

    Args:
        rows: A `datasets.Dataset`; anything else is returned as it is.
    """
    features = getattr(rows, "features", None) or {}
    for column, feature in features.items():
        if isinstance(feature, datasets.Image) and feature.decode:
            rows = rows.cast_column(column, datasets.Image(decode=False))
    return rows


def load_rows(
    source: str | os.PathLike,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    stream_rows: int | None = None,
    needed: Sequence[str] | None = None,
    bad_captions: str = "raise",
    stream_seed: int | None = None,
) -> datasets.Dataset:
    """Open a dataset: a folder, files of one kind, or a Hub id; see [`~data.loading.open_source`] and [`~folders`].

    Captions are normalised, and those that are none are named or left out, by [`~data.captions.clean_captions`].

    Args:
        source (`str` or `os.PathLike`): Folder of images, with `metadata.jsonl`, `.csv` or `.parquet`, with a `.txt`
            beside each, or alone; or of tables. A file or pattern that ends in `.tar` (webdataset), `.parquet`,
            `.arrow`, `.jsonl`, `.json`, `.csv`, `.tsv` or `.txt`, compressed or not. Or a Hub id.
        split (`str`, *optional*): Its split, or a part of it in datasets' words, such as `"train[:500]"`,
            `"train[:2%]"` or `"train[:500]+extra"`; may be left out if there is one only.
        columns (`Mapping[str, str]`, *optional*): Which columns `image` and `text` are, such as
            `{"text": "caption"}`; of class labels the names become the captions.
        stream_rows (`int`, *optional*): Keep only so many rows of a whole split that is too large to keep.
        stream_seed (`int`, *optional*): Draws them; by default they are the first ones, and no more is read. Of files
            on this machine each set of rows is equally likely, and all are read, twice. A split of the Hub is read
            no further than it must be: its files are taken in a keyed order, up to 32 at a time, a row of each in
            turn, through buffers of as many rows as are drawn, 1,000 at least. Such rows come from the beginnings of
            these files, whatever stands behind; a split of at most that many rows more is read whole.
        needed (`Sequence[str]`, *optional*): Which of `image` and `text` are used: it is an error if one is missing,
            and captions are looked at only if they are used. Those that are there, by default.
        bad_captions (`str`, *optional*, defaults to `"raise"`): What to do about captions that are none: `"raise"`,
            or `"skip"`, which leaves them out and counts them.

    Returns:
        `datasets.Dataset`: With `image` (or `image_token_ids`) and `text`, a caption or a list, as far as they are
        there, and all other columns.

    Raises:
        ValueError: If there is no such split, or several and none was named, or the part holds no row; a column is
            missing; captions are none; or a file is broken, by its name and line.
    """
    source = os.fspath(source)
    name = source_name(source)
    found = open_source(source, columns, stream_rows, stream_seed)
    if stream_rows is not None and split is not None and split not in found:
        raise ValueError(f"`{name}`: with `stream_rows`, `split` must be one of {sorted(found)}, got {split!r}")
    rows = _rows_of(found, name, split)
    rows = with_image_files(with_columns(rows, columns or {}, name, needed or ()), source)
    if "text" in (rows.column_names if needed is None else needed):
        rows = clean_captions(rows, bad_captions, name)
    return rows


def _rows_of(found: Mapping[str, datasets.Dataset], name: str, split: str | None) -> datasets.Dataset:
    """A split of these, or some rows of it; the others are not read."""
    if split is None and len(found) == 1:
        return next(iter(found.values()))
    if split is None:
        raise ValueError(f"`{name}`: name one of its splits, of {sorted(found)}")
    if split in found:
        return found[split]
    sizes = {each: len(found[each]) for each in found if each in split}
    try:
        ranges = datasets.ReadInstruction.from_spec(split).to_absolute(sizes)
    except ValueError as error:
        wanted = "wanted one of these, or a part such as `train[:500]` or `train[:2%]`"
        raise ValueError(f"`{name}`: it has no split {split!r}, of {sorted(found)}; {wanted}: {error}") from error
    if any(rows.from_ >= rows.to for rows in ranges):
        raise ValueError(f"`{name}`: {split!r} holds no row; rows of each split: {sizes}")
    return datasets.concatenate_datasets([found[r.splitname].select(range(r.from_, r.to)) for r in ranges])
