# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Rows that are read where they are, one at a time, from parquet, webdataset archives and Lance: nothing is copied.

Each is a sequence of dictionaries that a [`Stream`] reads as it reads a `datasets.Dataset`. What is open is never
pickled: every process opens its own.
"""

import collections
import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .captions import LIST_OF_TEXTS

_CACHED_GROUPS = 4  # row groups that are kept, if no order says how many it goes through at a time
_CACHED_FILES = 16
_LANCE_CACHE_BYTES = 64 << 20  # of metadata, in each process


class DirectRows:
    """Rows of a source that stays where it is.

    Args:
        name (`str`): What messages call it.
        schema (`pa.Schema`): Of the rows, by the names that streams know, with the features of the datasets library.
        block_sizes (`Sequence[int]`): Rows of each block that is read together, in the order of the rows.
        fingerprint (`str`): Changes when the source does.

    Attributes:
        start_method (`str`, *optional*): How processes that read it must be started; `None` for any.
    """

    start_method: str | None = None

    def __init__(self, name: str, schema: pa.Schema, block_sizes: Sequence[int], fingerprint: str):
        self.name = name
        self.schema = schema
        self.block_sizes = np.asarray(block_sizes, dtype=np.int64)
        self._ends = np.cumsum(self.block_sizes)
        self._fingerprint = fingerprint

    @property
    def column_names(self) -> list[str]:
        """Names of the columns."""
        return self.schema.names

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> dict:
        """Row `index`, with its values by column; images as `{"bytes": ..., "path": ...}`."""
        if not 0 <= index < len(self):
            raise IndexError(f"`{self.name}` has {len(self)} rows, got {index}")
        return self._read(index)

    def __iter__(self) -> Iterator[dict]:
        return (self[index] for index in range(len(self)))

    def _read(self, index: int) -> dict:
        raise NotImplementedError

    def keep_blocks(self, number: int):
        """Keep so many blocks in memory, if whole blocks are read.

        Args:
            number (`int`): As many as an order goes through at a time.
        """

    def table(self, start: int, stop: int) -> pa.Table:
        """Rows `start` to `stop - 1`, of the schema."""
        return pa.Table.from_pylist([self[index] for index in range(start, stop)], schema=self.schema)

    def texts(self, indices: range) -> list:
        """The captions of some rows, which are read alone.

        Args:
            indices (`range`): Rows that are neighbours.
        """
        raise NotImplementedError

    def unique_values(self, column: str) -> set:
        """The different values of a column, which is read alone."""
        raise NotImplementedError


def _renamed(schema: pa.Schema, columns: Mapping[str, str]) -> pa.Schema:
    """The schema by the names of streams, with the features of the datasets library; images are left as files."""
    known = datasets.Features.from_arrow_schema(schema)
    names = {column: name for name, column in columns.items()}
    features = {}
    for field in schema:
        is_image = pa.types.is_struct(field.type) and {each.name for each in field.type} == {"bytes", "path"}
        features[names.get(field.name, field.name)] = datasets.Image() if is_image else known[field.name]
    return datasets.Features(features).arrow_schema


class ParquetRows(DirectRows):
    """Rows of parquet files. A row group is read whole, and the newest ones are kept.

    Args:
        paths (`Sequence[str]`): The files, which have the same columns.
        columns (`Mapping[str, str]`): Which columns `image` and `text` are.
        name (`str`): What messages call them.
        fingerprint (`str`): Changes when a file does.

    Raises:
        ValueError: If a file is none, or its columns are others than those of the first.
    """

    def __init__(self, paths: Sequence[str], columns: Mapping[str, str], name: str, fingerprint: str):
        sizes: list[int] = []
        places: list[tuple[int, int]] = []  # (file, row group) of each block
        first = None
        for number, path in enumerate(paths):
            try:
                footer = pq.read_metadata(path)
            except (pa.ArrowException, OSError) as error:
                raise ValueError(f"`{path}` is no parquet file, or is cut: {error}") from error
            schema = footer.schema.to_arrow_schema()
            first = schema if first is None else first
            if not schema.equals(first):
                raise ValueError(f"`{path}`: its columns are {schema.names} of types that `{paths[0]}` has not")
            sizes += [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
            places += [(number, group) for group in range(footer.num_row_groups)]
        super().__init__(name, _renamed(first, columns), sizes, fingerprint)
        self.paths = list(paths)
        self._places = np.asarray(places, dtype=np.int32).reshape(-1, 2)
        self._num_kept = _CACHED_GROUPS
        self._forget()

    def _forget(self):
        self._groups: collections.OrderedDict[int, pa.Table] = collections.OrderedDict()
        self._files: collections.OrderedDict[int, pq.ParquetFile] = collections.OrderedDict()

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name not in ("_groups", "_files")}

    def __setstate__(self, state: dict):
        self.__dict__.update(state)
        self._forget()

    def keep_blocks(self, number: int):
        """Keep so many row groups in memory."""
        self._num_kept = number

    def _read(self, index: int) -> dict:
        block = int(np.searchsorted(self._ends, index, side="right"))
        if block not in self._groups:
            self._groups[block] = self._group(block)
            while len(self._groups) > self._num_kept:
                self._groups.popitem(last=False)
        self._groups.move_to_end(block)
        start = int(self._ends[block] - self.block_sizes[block])
        (row,) = self._groups[block].slice(index - start, 1).to_pylist()
        return row

    def texts(self, indices: range) -> list:
        """The captions of some rows that are neighbours, which are read alone."""
        found: list = []
        column = self.column_names.index("text")
        block = int(np.searchsorted(self._ends, indices.start, side="right"))
        while len(found) < len(indices):
            number, group = self._places[block].tolist()
            with pq.ParquetFile(self.paths[number]) as file:
                name = file.schema_arrow.names[column]
                table = file.read_row_group(group, columns=[name], use_threads=False)
            start = indices.start + len(found) - int(self._ends[block] - self.block_sizes[block])
            found += table.column(0).slice(start, len(indices) - len(found)).to_pylist()
            block += 1
        return found

    def _group(self, block: int) -> pa.Table:
        number, group = self._places[block].tolist()
        if number not in self._files:
            self._files[number] = pq.ParquetFile(self.paths[number])
            while len(self._files) > _CACHED_FILES:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(number)
        try:
            table = self._files[number].read_row_group(group, use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"`{self.paths[number]}`: row group {group} cannot be read: {error}") from error
        return table.rename_columns(self.column_names)

    def unique_values(self, column: str) -> set:
        """The different values of a column, which is read alone."""
        found: set = set()
        for path in self.paths:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(100_000, columns=[column]):
                    found.update(pc.unique(batch.column(0)).to_pylist())
        return found


class ArchiveRows(DirectRows):
    """Samples of webdataset archives, by an index of where their images are.

    Args:
        index (`datasets.Dataset`): For each sample `text`, its captions; `path`, the name of its image; `archive`,
            the number of its file; `start` and `size`, where its image is, in bytes, or null.
        paths (`Sequence[str]`): The archives, not compressed.
        name (`str`): What messages call them.
    """

    def __init__(self, index: datasets.Dataset, paths: Sequence[str], name: str):
        counts = np.zeros(len(paths), dtype=np.int64)
        has_image = has_text = False
        for table in index.select_columns(["archive", "size", "text"]).with_format("arrow").iter(100_000):
            counts += np.bincount(np.asarray(table["archive"]), minlength=len(paths))
            has_image |= table["size"].null_count < len(table)
            has_text |= bool(pc.any(pc.greater(pc.list_value_length(table["text"]), 0)).as_py())
        features = {"image": datasets.Image()} if has_image else {}
        features |= {"text": LIST_OF_TEXTS} if has_text else {}
        super().__init__(name, datasets.Features(features).arrow_schema, counts, index._fingerprint)
        self.places = index
        self.paths = list(paths)

    def _read(self, index: int) -> dict:
        place = self.places[index]
        row: dict = {"text": place["text"]} if "text" in self.column_names else {}
        if "image" in self.column_names:
            row["image"] = None if place["size"] is None else {"bytes": self._image(place), "path": place["path"]}
        return row

    def texts(self, indices: range) -> list:
        """The captions of some rows that are neighbours, which are read alone."""
        return self.places.select_columns("text")[indices.start : indices.stop]["text"]

    def _image(self, place: Mapping) -> bytes:
        path = self.paths[place["archive"]]
        with open(path, "rb") as file:
            file.seek(place["start"])
            data = file.read(place["size"])
        if len(data) < place["size"]:
            raise ValueError(f"`{path}` is shorter than it was: {place['path']} cannot be read")
        return data


class LanceRows(DirectRows):
    """Rows of a Lance dataset, in the version that it has now.

    Lance starts threads, which a forked process does not have: a read in one would wait forever, and is refused.

    Args:
        path (`str`): The folder, `.lance`.
        columns (`Mapping[str, str]`): Which columns `image` and `text` are.
        name (`str`): What messages call it.

    Raises:
        ImportError: If `pylance` is not installed.
        ValueError: If it is no Lance dataset.
    """

    start_method = "spawn"

    def __init__(self, path: str, columns: Mapping[str, str], name: str):
        if importlib.util.find_spec("lance") is None:
            raise ImportError(f"`{path}` is a Lance dataset: pip install 'itit-hf[lance]'")
        self.path = path
        self.version: int | None = None
        self._process = os.getpid()
        try:
            self._dataset = self._open()
        except (ValueError, OSError) as error:
            raise ValueError(f"`{path}` is no Lance dataset: {error}") from error
        self.version = self._dataset.version
        self._source_names = self._dataset.schema.names
        sizes = [fragment.count_rows() for fragment in self._dataset.get_fragments()]
        fingerprint = f"{os.path.abspath(path)}/{self.version}/{sum(sizes)}"
        super().__init__(name, _renamed(self._dataset.schema, columns), sizes, fingerprint)

    def _open(self):
        import lance

        return lance.dataset(
            self.path,
            version=self.version,
            metadata_cache_size_bytes=_LANCE_CACHE_BYTES,
            index_cache_size_bytes=_LANCE_CACHE_BYTES,
        )

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name not in ("_dataset", "_process")}

    def __setstate__(self, state: dict):
        self.__dict__.update(state)
        self._process = os.getpid()
        self._dataset = None

    def opened(self):
        """The dataset of Lance, opened in this process when it is first read.

        Raises:
            RuntimeError: If this process was forked from one that had opened it.
        """
        if self._process != os.getpid():
            raise RuntimeError(
                f"`{self.name}` is a Lance dataset, and its threads do not live on in a forked process: start workers "
                'with multiprocessing_context="spawn" or "forkserver"'
            )
        if self._dataset is None:
            self._dataset = self._open()
        return self._dataset

    def _take(self, indices: list[int], names: list[str]) -> pa.Table:
        sources = [self._source_names[self.schema.get_field_index(name)] for name in names]
        return self.opened().take(indices, columns=sources).rename_columns(names)

    def _read(self, index: int) -> dict:
        (row,) = self._take([index], self.column_names).to_pylist()
        return row

    def texts(self, indices: range) -> list:
        """The captions of some rows that are neighbours, which are read alone."""
        return self._take(list(indices), ["text"]).column(0).to_pylist()

    def row_without(self, index: int, column: str) -> dict:
        """Row `index` without one of its columns, which is not read.

        Args:
            index (`int`): Number of the row.
            column (`str`): By the name that streams know.
        """
        (row,) = self._take([index], [name for name in self.column_names if name != column]).to_pylist()
        return row

    def table(self, start: int, stop: int) -> pa.Table:
        """Rows `start` to `stop - 1`, of the schema."""
        return self._take(list(range(start, stop)), self.column_names).cast(self.schema)

    def unique_values(self, column: str) -> set:
        """The different values of a column, which is read alone."""
        found: set = set()
        for batch in self.opened().to_batches(columns=[column]):
            found.update(pc.unique(batch.column(0)).to_pylist())
        return found
