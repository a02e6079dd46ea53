# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Files of text, line by line: sentences, JSON lines and CSV, compressed or not.

Text is UTF-8, with a byte order mark or without one. What is wrong is said with the file and the line.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath
from typing import Any, BinaryIO

from .captions import without_lone_surrogates

# How a file is opened, by the last ending of its name.
COMPRESSIONS: dict[str, Callable[..., Any]] = {
    ".gz": gzip.GzipFile,
    ".tgz": gzip.GzipFile,
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}
_BAD_COMPRESSION = (EOFError, OSError, zlib.error, lzma.LZMAError)
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD]")  # in JSON


def open_binary(path: str) -> BinaryIO:
    """Open a file for reading, decompressed if its name ends in `.gz`, `.tgz`, `.bz2` or `.xz`.

    Args:
        path (`str`): The file.
    """
    decompress = COMPRESSIONS.get(os.path.splitext(path)[1].lower())
    return open(path, "rb") if decompress is None else decompress(path, "rb")


def decode_text(data: bytes, place: str) -> str:
    """Decode UTF-8, without the byte order mark.

    Args:
        data (`bytes`): A whole file.
        place (`str`): What the message calls it.

    Raises:
        ValueError: If it is no UTF-8, by its line.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _encoding_error(data.splitlines(), place) from error
    if "\0" in text:
        raise _encoding_error(data.splitlines(), place)
    return text


def text_lines(path: str, newline: str | None = None) -> Iterator[str]:
    """Lines of a file, one by one, each with its line break.

    Args:
        path (`str`): A file of UTF-8, compressed or not.
        newline (`str`, *optional*): As in `open`; by default `"\\r"`, `"\\n"` and `"\\r\\n"` all end a line, and
            become `"\\n"`.

    Raises:
        ValueError: If it is no UTF-8, or the compressed file is broken or cut, by file and line.
    """
    number = 0
    is_text = True
    with open_binary(path) as binary, io.TextIOWrapper(binary, encoding="utf-8-sig", newline=newline) as file:
        try:
            for line in file:
                if "\0" in line:
                    is_text = False
                    break
                number += 1
                yield line
        except UnicodeDecodeError:
            is_text = False
        except _BAD_COMPRESSION as error:
            raise ValueError(f"`{path}`: cannot be read on after line {number}: {error}") from error
    if not is_text:  # decoding is by blocks, so the line is looked for once more
        with open_binary(path) as binary:
            raise _encoding_error(binary, f"`{path}`")


def _encoding_error(lines: Iterable[bytes], place: str) -> ValueError:
    """What is wrong with the first line that is no UTF-8."""
    for number, line in enumerate(lines, 1):
        if b"\0" in line or line.startswith(_UTF_16):
            return ValueError(f"{place}, line {number}: is no UTF-8, but UTF-16 or UTF-32: save it as UTF-8")
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            fault = f"is no UTF-8, at the byte 0x{line[error.start]:02x}: it may be Windows-1252 or Latin-1"
            return ValueError(f"{place}, line {number}: {fault}; save it as UTF-8")
    return ValueError(f"{place}: is no UTF-8")


def sentence_rows(path: str) -> Iterator[tuple[int, dict]]:
    """Rows of a file with a text on each line.

    Args:
        path (`str`): The file.

    Yields:
        `(line, row)`: The number of the line, from 1, and `{"text": ...}`; blank lines are rows too.
    """
    for number, line in enumerate(text_lines(path), 1):
        yield number, {"text": line.removesuffix("\n")}


def json_rows(path: str) -> Iterator[tuple[int, dict]]:
    """Rows of JSON lines, or, in a `.json` file, of one JSON list, which is read as a whole.

    Args:
        path (`str`): The file.

    Yields:
        `(line, row)`: The number of the line, or of the object in the list, from 1, and the object.

    Raises:
        ValueError: If something is no JSON, or no object, by file and line.
    """
    lines = ((number, line.lstrip("\ufeff")) for number, line in enumerate(text_lines(path), 1))
    lines = ((number, line) for number, line in lines if not line.isspace())
    may_be_list = ".json" in PurePath(path.lower()).suffixes
    for number, line in lines:
        if may_be_list and line.lstrip().startswith("["):
            yield from _json_list(path, line + "".join(rest for _, rest in lines))
            return
        may_be_list = False
        row = _parsed(line, f"`{path}`, line {number}")
        if not isinstance(row, dict):
            raise ValueError(f'`{path}`, line {number}: wanted an object such as {{"text": ...}}, got {line:.80}')
        yield number, row


def _json_list(path: str, text: str) -> Iterator[tuple[int, dict]]:
    rows = _parsed(text, f"`{path}`")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ValueError(f'`{path}`, item {number}: wanted an object such as {{"text": ...}}, got {row!r:.80}')
        yield number, row


def _parsed(text: str, place: str):
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{place}: is no JSON: {error}") from error
    # Only an escape can be half of a surrogate pair: as bytes it would be no UTF-8.
    return _writable(value) if _SURROGATE_ESCAPE.search(text) else value


def _writable(value):
    if isinstance(value, str):
        return without_lone_surrogates(value)
    if isinstance(value, list):
        return [_writable(item) for item in value]
    if isinstance(value, dict):
        return {_writable(name): _writable(item) for name, item in value.items()}
    return value


def csv_rows(path: str, delimiter: str = ",") -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV file whose first line names the columns; all cells are text.

    Args:
        path (`str`): The file.
        delimiter (`str`, *optional*, defaults to `","`): What stands between two cells.

    Yields:
        `(line, row)`: The number of the line that the row begins on, from 1, and its cells by column.

    Raises:
        ValueError: If a line has another number of cells than the first, a quote is not closed, or a name stands
            twice, by file and line.
    """
    reader = csv.reader(text_lines(path, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(f"`{path}`, line {line}: is no CSV: {error}") from error
        if not names:
            names = _column_names(cells, f"`{path}`, line {line}")
            continue
        if not cells and len(names) > 1:  # a blank line; with one column it is an empty cell
            continue
        if len(cells or [""]) != len(names):
            raise ValueError(
                f"`{path}`, line {line}: has another number of cells than the first line: {len(cells)}, and not "
                f"{len(names)}"
            )
        yield line, dict(zip(names, cells or [""], strict=True))


def _column_names(cells: list[str], place: str) -> list[str]:
    # pandas writes its index under an empty name, and reads it so.
    names = [cell.strip() or f"Unnamed: {number}" for number, cell in enumerate(cells)]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"{place}: columns must have different names, got {sorted(twice)} more than once")
    return names
