# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Rows that were read once, on disk as an arrow file that is mapped into memory: whole or not at all.

A file's folder is named after all that its rows depend on, so that rows of another state are never given.
"""

import functools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import NoneType

import datasets
import numpy as np
import pyarrow as pa
from datasets.table import MemoryMappedTable
from tqdm.auto import tqdm
from transformers.utils import logging

from ..rng import KeyedPermutation

logger = logging.get_logger(__name__)

ROWS_FILE = "rows.arrow"
_BATCH_SIZE = 1000  # rows whose types are looked at together


class OtherTypes(Exception):
    """Rows that came later do not fit the types of those before: they must be read again from the first one on."""


def stored_rows(key: str, tables: Callable[[], Iterator[pa.Table]], name: str) -> datasets.Dataset:
    """The rows of a key: those on disk, or, the first time, what is read.

    Args:
        key (`str`): Digest of all that the rows depend on; their fingerprint.
        tables (`Callable`): Reads them, as tables of one schema with the features of the datasets library. If it
            raises [`OtherTypes`], it is called again.
        name (`str`): What the progress bar calls them.

    Raises:
        ValueError: If there is no row.
    """
    folder = os.path.join(datasets.config.HF_DATASETS_CACHE, "itit_hf", key)
    path = os.path.join(folder, ROWS_FILE)
    if not os.path.exists(path):
        os.makedirs(folder, exist_ok=True)
        handle, unfinished = tempfile.mkstemp(dir=folder, suffix=".unfinished")
        os.close(handle)
        try:
            while not _write(unfinished, tables, name):
                pass
            os.replace(unfinished, path)
        finally:
            if os.path.exists(unfinished):
                os.remove(unfinished)
    return datasets.Dataset(MemoryMappedTable.from_file(path), fingerprint=key, split=datasets.NamedSplit("train"))


def _write(path: str, tables: Callable[[], Iterator[pa.Table]], name: str) -> bool:
    """Write all tables; `False` if their types turned out to be others."""
    writer = None
    progress_bar = tqdm(desc=f"read {name}", unit=" rows", delay=2.0, leave=False)
    try:
        for table in tables():
            writer = writer or pa.ipc.new_stream(path, table.schema)
            writer.write_table(table)
            progress_bar.update(len(table))
    except OtherTypes:
        return False
    finally:
        progress_bar.close()
        if writer is not None:
            writer.close()
    if writer is None:
        raise ValueError(f"`{name}` holds no row")
    return True


def limited(tables: Iterable[pa.Table], number: int | None) -> Iterator[pa.Table]:
    """The first rows of tables.

    Args:
        tables (`Iterable[pa.Table]`): Read no further than it must be.
        number (`int`, *optional*): How many rows; all by default.
    """
    left = number
    for table in tables:
        if left is None:
            yield table
            continue
        yield table.slice(0, left)
        left -= len(table)
        if left <= 0:
            return


def sampled(tables: Callable[[], Iterator[pa.Table]], number: int, seed: int) -> Iterator[pa.Table]:
    """So many rows, of which each set is equally likely, in their order; all rows if there are no more.

    The rows are read twice, to count them and to take those that were chosen, so that no row waits in memory.

    Args:
        tables (`Callable`): Reads them, as tables; called twice.
        number (`int`): How many rows, at least 1.
        seed (`int`): Of the choice, which depends on the number of all rows besides.
    """
    num_rows = sum(len(table) for table in tables())
    if num_rows <= number:
        yield from tables()
        return
    permutation = KeyedPermutation(num_rows, seed, "sampled rows", 0)
    chosen = np.sort([permutation(index) for index in range(number)])
    start = 0
    for table in tables():
        first, last = np.searchsorted(chosen, [start, start + len(table)])
        if first < last:
            yield table.take(chosen[first:last] - start)
        start += len(table)


def batched(rows: Iterable, batch_size: int = _BATCH_SIZE) -> Iterator[list]:
    """Rows in lists of a length; the last one may be shorter.

    Args:
        rows (`Iterable`): Any.
        batch_size (`int`, *optional*, defaults to 1000): The length.
    """
    batch = []
    for row in rows:
        batch.append(row)
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


class TypedColumns:
    """Types of the columns of rows that have none, such as those of JSON lines, found while they are read.

    Text, numbers and lists of these may stand in one column: numbers become text, and single values lists of one. A
    column whose values have nothing in common is left out.

    Args:
        name (`str`): What messages call the rows.
    """

    def __init__(self, name: str):
        self.name = name
        self.types: dict[str, pa.DataType | None] = {}
        self._left_out: set[str] = set()
        self._written = False

    def restart(self):
        """The rows are read from the first one on again."""
        self._written = False

    def table(self, rows: Sequence[Mapping], place: str) -> pa.Table:
        """The next rows as a table.

        Args:
            rows (`Sequence[Mapping]`): Of a value by column; columns may be missing.
            place (`str`): Where they begin, in words.

        Raises:
            OtherTypes: If they do not fit the types of those before.
        """
        types = dict(self.types)
        for name in dict.fromkeys(name for row in rows for name in row):
            found = _infer([row.get(name) for row in rows])
            types[name] = common_type(types[name], found) if name in types else found
            if types[name] is None and name not in self._left_out:
                self._left_out.add(name)
                logger.warning(f"{place}: the column {name!r} holds values of several kinds, and is left out")
        changed = types != self.types
        self.types = types
        if changed and self._written:
            raise OtherTypes
        self._written = True
        kept = {name: kind for name, kind in types.items() if kind is not None}
        arrays = [converted([row.get(name) for row in rows], kind) for name, kind in kept.items()]
        return pa.table(arrays, names=list(kept))


def _infer(values: list) -> pa.DataType | None:
    """One arrow type for these values, or `None`."""
    try:
        return pa.array(values).type
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        pass
    if len(values) > 1:
        return functools.reduce(common_type, (_infer([value]) for value in values))
    (value,) = values
    if isinstance(value, int):  # too large for 64 bits
        return pa.string()
    if isinstance(value, list) and all(isinstance(item, (str, int, float, NoneType)) for item in value):
        return pa.list_(pa.string())
    return None


def common_type(a: pa.DataType | None, b: pa.DataType | None) -> pa.DataType | None:
    """The narrowest type that holds values of both, or `None`.

    Args:
        a (`pa.DataType`, *optional*): One type.
        b (`pa.DataType`, *optional*): Another.
    """
    if a is None or b is None:
        return None
    if a == b or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    if pa.types.is_list(a) or pa.types.is_list(b):
        inner, other = (each.value_type if pa.types.is_list(each) else each for each in (a, b))
        common = common_type(inner, other)
        if common is None:
            return None
        if a.id != b.id and pa.types.is_nested(common):  # a single value of a nested type beside lists
            return None
        return pa.list_(common)
    if pa.types.is_struct(a) and pa.types.is_struct(b):
        fields = {field.name: field.type for field in a}
        for field in b:
            fields[field.name] = common_type(fields.get(field.name, pa.null()), field.type)
        return None if None in fields.values() else pa.struct(list(fields.items()))
    if pa.types.is_nested(a) or pa.types.is_nested(b):
        return None
    is_number = [pa.types.is_integer(each) or pa.types.is_floating(each) for each in (a, b)]
    return pa.float64() if all(is_number) else pa.string()


def converted(values: list, kind: pa.DataType) -> pa.Array:
    """Values as an array of a type that [`common_type`] found for them.

    Args:
        values (`list`): Any that JSON knows.
        kind (`pa.DataType`): The type.
    """
    if pa.types.is_string(kind):
        return pa.array([None if value is None else _as_text(value) for value in values], kind)
    if pa.types.is_list(kind) and not pa.types.is_nested(kind.value_type):
        lists = [value if isinstance(value, (list, NoneType)) else [value] for value in values]
        if pa.types.is_string(kind.value_type):
            lists = [each and [None if item is None else _as_text(item) for item in each] for each in lists]
        return pa.array(lists, kind)
    return pa.array(values, kind)


def _as_text(value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
