# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Samples of tar archives, as webdataset writes them: files of one name and different endings are one sample.

The members may stand in any order, and samples may have different fields. A first pass reads the headers alone and
groups them; the second reads what is asked for. An archive that is cut is refused, and never read in part.
"""

import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

from .text_files import COMPRESSIONS, open_binary

_BLOCK = 512  # bytes; of these an archive is made


@dataclass
class Sample:
    """Where the files of one sample stand in its archive.

    Args:
        key (`str`): What the names of its files begin with.
        fields (`dict[str, tuple[int, int]]`): By ending, in lower case, where the content starts and its length, both
            in bytes.
    """

    key: str
    fields: dict[str, tuple[int, int]] = field(default_factory=dict)

    def first_of(self, names: Sequence[str]) -> str | None:
        """The first of these fields that the sample has.

        Args:
            names (`Sequence[str]`): Endings, in the order of preference.
        """
        return next((name for name in names if name in self.fields), None)


@contextmanager
def open_archive(path: str) -> Iterator[BinaryIO]:
    """Open an archive so that any place in it can be read; a compressed one is unpacked into a temporary file.

    Args:
        path (`str`): A `.tar`, or one with `.gz`, `.bz2` or `.xz` behind it, or `.tgz`.

    Raises:
        ValueError: If the compressed file is broken or cut.
    """
    if os.path.splitext(path)[1].lower() not in COMPRESSIONS:
        with open(path, "rb") as file:
            yield file
        return
    with tempfile.TemporaryFile() as unpacked:
        try:
            with open_binary(path) as packed:
                shutil.copyfileobj(packed, unpacked, 1 << 20)
        except (EOFError, OSError, ValueError) as error:
            raise ValueError(f"`{path}` is cut or broken: {error}") from error
        unpacked.seek(0)
        yield unpacked


def read_samples(file: BinaryIO, path: str) -> list[Sample]:
    """Group the members of an archive into samples, in the order in which each first occurs.

    A file's key goes up to the first dot of its name, and the rest is its field, as webdataset has it. Where no file
    of a key has a field without a dot, as of `1.5.jpg` and `1.5.txt`, the last dot parts them instead.

    Args:
        file (`BinaryIO`): As [`open_archive`] gives it.
        path (`str`): What messages call it.

    Raises:
        ValueError: If it is no archive, is cut, or holds a name twice; the message names the last whole sample.
    """
    groups: dict[str, list[tuple[str, int, int]]] = {}
    order: list[str] = []  # keys as they follow one another
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            end = _members(archive, groups, order)
    except tarfile.TarError as error:
        if not groups:
            raise ValueError(f"`{path}` is no archive: {error}") from error
        raise ValueError(f"`{path}` is cut: {error}; {_last_whole(groups, order)}") from error
    _check_end(file, path, end, _last_whole(groups, order))
    return [sample for key, members in groups.items() for sample in _samples(path, key, members)]


def _members(archive: tarfile.TarFile, groups: dict, order: list[str]) -> int:
    """Group what the headers say; returns where the last content ends, rounded up to blocks."""
    end = 0
    for member in archive:
        end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK * member.isreg()
        name = os.path.normpath(member.name)
        is_hidden = any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
        if not member.isreg() or is_hidden:
            continue
        folder, base = os.path.split(name)
        key = os.path.join(folder, base.split(".", 1)[0])
        groups.setdefault(key, []).append((name, member.offset_data, member.size))
        if [key] != order[-1:]:
            order[:] = [*order[-1:], key]
    return end


def _check_end(file: BinaryIO, path: str, end: int, last_whole: str):
    """After the last member there is a block of zeros, and nothing else: otherwise the archive was cut, or another one
    was written behind it, which no reader would look at."""
    size = file.seek(0, os.SEEK_END)
    if size < end + _BLOCK:
        raise ValueError(f"`{path}` is cut: it has no end mark; {last_whole}")
    file.seek(end)
    while block := file.read(1 << 20):
        if block.strip(b"\0"):
            raise ValueError(
                f"`{path}` is broken: there is more behind its end, as if another archive had been appended; "
                f"{last_whole}"
            )


def _last_whole(groups: dict, order: list[str]) -> str:
    """The sample before the last one that was read: of that, something may be missing."""
    if len(order) < 2:
        return "it holds no whole sample"
    return f"the last whole sample is {order[-2]!r}, number {list(groups).index(order[-2]) + 1}"


def _samples(path: str, key: str, members: list[tuple[str, int, int]]) -> list[Sample]:
    fields = [os.path.basename(name).partition(".")[2].lower() for name, _, _ in members]
    keys = [key] * len(members)
    if all("." in each for each in fields):
        keys = [os.path.splitext(name)[0] for name, _, _ in members]
        fields = [os.path.splitext(name)[1][1:].lower() for name, _, _ in members]
    found: dict[str, Sample] = {}
    for each_key, name, (member, start, size) in zip(keys, fields, members, strict=True):
        sample = found.setdefault(each_key, Sample(each_key))
        if name in sample.fields:
            raise ValueError(f"`{path}`: there are two files for {name!r} of the sample {each_key!r}, as {member}")
        sample.fields[name] = (start, size)
    return list(found.values())


def read_field(file: BinaryIO, sample: Sample, name: str) -> bytes:
    """The content of one file of a sample.

    Args:
        file (`BinaryIO`): The archive that the sample is of.
        sample ([`Sample`]): As [`read_samples`] found it.
        name (`str`): The field.
    """
    start, size = sample.fields[name]
    file.seek(start)
    return file.read(size)
