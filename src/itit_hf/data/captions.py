# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What a caption is: one rule for every reader, and for rows that somebody else read.

A caption is text on one line. White space and control characters become single spaces, so that a caption never holds a
line break of any kind; half of a surrogate pair becomes U+FFFD, as it cannot be written as UTF-8. Numbers are text. A
caption is *none* if nothing visible is in it, or if it is a word that stands for a missing value (`NULL_WORDS`):
pandas reads these as null, and `str(None)` writes one of them.
"""

import hashlib
import numbers
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from transformers.utils import logging

logger = logging.get_logger(__name__)

LIST_OF_TEXTS = datasets.List(datasets.Value("string"))
BAD_CAPTION_POLICIES = ("raise", "skip")
# What pandas' `read_csv` reads as null, empty cells apart.
NULL_WORDS = (
    *("#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
)
# U+FEFF, the byte order mark, is no white space to Unicode, and nothing else to a reader.
_SPACES = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ufeff]+")
_ARROW_SPACES = r"[\p{Z}\p{Cc}\x{feff}]+"
# Where the above would change a text: a search is ten times as fast as a replacement.
_ARROW_UNTIDY = r"[\p{Cc}\p{Zl}\p{Zp}\x{a0}\x{1680}\x{2000}-\x{200a}\x{202f}\x{205f}\x{3000}\x{feff}]|  |^ | $"
_ARROW_INVISIBLE = r"^[\p{Z}\p{Cc}\p{Cf}\x{fffd}]*$"
_BATCH_SIZE = 10_000  # rows that are looked at together
_NUM_NAMED = 5  # rows that a message names
_VERSION = 1  # of the rule; a part of the fingerprints of what it made


def normalise_caption(text: str) -> str:
    """Put a caption on one line: runs of white space and control characters become one space, and none at the ends.

    Args:
        text (`str`): Any text; half of a surrogate pair in it becomes U+FFFD.

    Returns:
        `str`: Valid Unicode without line breaks.
    """
    return _SPACES.sub(" ", without_lone_surrogates(text)).strip(" ")


def without_lone_surrogates(text: str) -> str:
    """Text that can be written as UTF-8: both halves of a surrogate pair become their character, one half U+FFFD.

    Args:
        text (`str`): Any text, such as what `json.loads` makes of `"\\ud83d"`.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def is_caption(text: str) -> bool:
    """Tell whether a normalised text is a caption, and not one that is none.

    Args:
        text (`str`): As [`normalise_caption`] gives it.
    """
    if text in NULL_WORDS:
        return False
    return any(unicodedata.category(letter) not in ("Zs", "Cc", "Cf") and letter != "\ufffd" for letter in text)


def captions_of(value) -> list[str]:
    """The captions in a cell: normalised, without those that are none.

    Args:
        value (`str`, number, `Sequence` of these or `None`): What a row holds as its text.

    Returns:
        `list[str]`: Empty if there are none.

    Raises:
        ValueError: If it is something else.
    """
    if value is None:
        return []
    if isinstance(value, (str, numbers.Number)):
        text = normalise_caption(value if isinstance(value, str) else pa.scalar(value).cast(pa.string()).as_py())
        return [text] if is_caption(text) else []
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [text for each in value for text in captions_of(each)]
    raise ValueError(f"a caption must be text, or a list of texts, got {value!r:.80}")


def clean_captions(
    rows: datasets.Dataset, bad_captions: str = "raise", name: str = "dataset", column: str = "text"
) -> datasets.Dataset:
    """Rows with normalised captions; those that are none are named, or left out.

    One pass over the column of captions, which is read alone: no image is. A dataset whose captions are as they should
    be is returned as it is.

    Args:
        rows (`datasets.Dataset`): With a column of captions, or of lists of them.
        bad_captions (`str`, *optional*, defaults to `"raise"`): What to do about captions that are none (null, empty,
            blank, an empty list, or a word such as `NA`): `"raise"`, or `"skip"`, which leaves them out, and rows
            that have no other, and counts them in a warning.
        name (`str`, *optional*): What messages call the rows.
        column (`str`, *optional*, defaults to `"text"`): Where the captions are.

    Returns:
        `datasets.Dataset`: The column holds strings if it held single values, lists of strings if it held lists.

    Raises:
        ValueError: If `bad_captions` is unknown, the column holds no text, or captions are none and not skipped, or
            all of them are.
    """
    if bad_captions not in BAD_CAPTION_POLICIES:
        raise ValueError(f"`bad_captions` must be one of {BAD_CAPTION_POLICIES}, got {bad_captions!r}")
    texts = rows.select_columns(column)
    found = _examine(texts, name)
    if found.num_bad:
        _report(rows, found, bad_captions, name, column)
    if found.num_changed:
        rows = replace_column(rows, column, _cleaned, found.feature, f"captions-{_VERSION}")
    if len(found.empty_rows):
        rows = rows.select(np.delete(np.arange(len(rows)), found.empty_rows))
    return rows


def replace_column(
    rows: datasets.Dataset, column: str, change: Callable[[pa.Array], pa.Array], feature, fingerprint: str
) -> datasets.Dataset:
    """Rows with one column changed; the others, such as images, are neither read nor copied.

    Args:
        rows (`datasets.Dataset`): Any.
        column (`str`): The column's name, which stays.
        change (`Callable`): From a part of the column to what stands there after.
        feature: Type of the column after, of the datasets library.
        fingerprint (`str`): Names the change, for the cache.
    """
    if rows._indices is not None:  # or the library would copy the other columns: order them by an index again, after
        order = np.asarray(rows._indices.column(0))
        whole = datasets.Dataset(rows._data, info=rows.info.copy(), split=rows.split)
        whole._fingerprint = hashlib.sha256(f"{rows._fingerprint}/whole".encode()).hexdigest()[:16]
        return replace_column(whole, column, change, feature, fingerprint).select(order)
    texts = rows.select_columns(column).with_format("arrow")
    changed = texts.map(
        lambda table: pa.table({column: change(_combined(table[column]))}),
        batched=True,
        batch_size=_BATCH_SIZE,
        features=datasets.Features({column: feature}),
        new_fingerprint=hashlib.sha256(f"{rows._fingerprint}/{column}/{fingerprint}".encode()).hexdigest()[:16],
        desc=f"{column}s",
    ).with_format(None)
    if rows.column_names == [column]:
        return changed
    joined = datasets.concatenate_datasets([rows.remove_columns(column), changed], axis=1)
    return joined.select_columns(rows.column_names)


@dataclass
class _Findings:
    """What one pass over the captions found."""

    feature: object  # of the cleaned column
    num_changed: int = 0  # rows whose captions are not as they should be
    num_bad: int = 0  # rows with a caption that is none
    bad_rows: tuple = ()  # the first of these
    empty_rows: np.ndarray = ()  # all rows that have no caption


def _examine(texts: datasets.Dataset, name: str) -> _Findings:
    (column,) = texts.column_names
    empty = []
    start = 0  # rows before this batch
    found = _Findings(_feature(texts.features[column], name, column))
    for table in texts.with_format("arrow").iter(batch_size=_BATCH_SIZE):
        before = _combined(table[column])
        after, bad = _clean(before, name, start)
        found.num_changed += int(before.type != after.type or not before.equals(after))
        found.num_bad += int(bad.sum())
        if len(found.bad_rows) < _NUM_NAMED:
            named = np.flatnonzero(bad)[: _NUM_NAMED - len(found.bad_rows)] + start
            found.bad_rows += tuple(int(row) for row in named)
        empty.append(np.flatnonzero(_is_empty(after)) + start)
        start += len(before)
    found.empty_rows = np.concatenate(empty) if empty else np.zeros(0, dtype=np.int64)
    return found


def _report(rows: datasets.Dataset, found: _Findings, bad_captions: str, name: str, column: str):
    places = [_place(rows, row, column) for row in found.bad_rows]
    more = f" and {found.num_bad - len(places)} more" if found.num_bad > len(places) else ""
    where = f"{', '.join(places)}{more}"
    if len(found.empty_rows) == len(rows):
        raise ValueError(f"`{name}`: none of its {len(rows)} rows has a caption: {where}")
    if bad_captions == "raise":
        raise ValueError(
            f"`{name}`: {found.num_bad} of {len(rows)} rows have a caption that is none: {where}; mend them, or leave "
            'them out: bad_captions="skip"'
        )
    logger.warning(
        f"`{name}`: {found.num_bad} of {len(rows)} rows have a caption that is none, which is left out; "
        f"{len(found.empty_rows)} of these have no other, and are left out: {where}"
    )


def _place(rows: datasets.Dataset, row: int, column: str) -> str:
    """A row by its number, counted from 0, the file of its image, and what its caption is."""
    (text,) = rows.select_columns(column).with_format("arrow")[row : row + 1][column].to_pylist()
    path = None
    if isinstance(rows.features.get("image"), datasets.Image):
        (image,) = rows.select_columns("image").with_format("arrow")[row : row + 1]["image"].to_pylist()
        path = (image or {}).get("path")
    return f"row {row} ({'' if path is None else f'{path}: '}{text!r:.40})"


def _feature(feature, name: str, column: str):
    """The type of a cleaned column."""
    kind = datasets.Features({column: feature}).arrow_schema.field(column).type
    if _is_list(kind):
        return LIST_OF_TEXTS
    if pa.types.is_nested(kind):
        raise ValueError(f"`{name}`: the column `{column}` must hold text, or lists of texts, got {kind}")
    return datasets.Value("string")


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _combined(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _cleaned(array: pa.Array) -> pa.Array:
    return _clean(array, "dataset", 0)[0]


def _clean(array: pa.Array, name: str, start: int) -> tuple[pa.Array, np.ndarray]:
    """Cleaned captions of some rows, and which rows had one that is none, `bool` of shape `(num_rows,)`.

    A single caption that is none becomes null; one in a list leaves the list.
    """
    if not _is_list(array.type):
        texts, good = _clean_flat(array, name, start)
        return pc.if_else(pa.array(good), texts, pa.scalar(None, pa.string())), ~good
    lengths = np.asarray(pc.fill_null(pc.list_value_length(array), 0))
    flat = pc.list_flatten(array)
    if _is_list(flat.type) or pa.types.is_nested(flat.type):
        raise ValueError(f"`{name}`: captions must be text, or lists of texts, got {array.type}")
    texts, good = _clean_flat(flat, name, start)
    ends = np.cumsum(lengths)
    before = np.concatenate(([0], np.cumsum(good)))  # good captions before each one
    offsets = before[np.concatenate(([0], ends))].astype(np.int32)
    kept = before[ends] - before[ends - lengths]
    cleaned = pa.ListArray.from_arrays(pa.array(offsets), texts.filter(pa.array(good)))
    return cleaned, (kept < lengths) | (kept == 0)


def _clean_flat(array: pa.Array, name: str, start: int) -> tuple[pa.Array, np.ndarray]:
    """Normalised texts, and which of them are captions."""
    texts = _as_text(array, name, start)
    untidy = pc.fill_null(pc.match_substring_regex(texts, _ARROW_UNTIDY), False)
    if pc.any(untidy).as_py():
        tidy = pc.utf8_trim(pc.replace_substring_regex(texts.filter(untidy), _ARROW_SPACES, " "), " ")
        texts = pc.replace_with_mask(texts, untidy, tidy)
    is_none = pc.or_(pc.match_substring_regex(texts, _ARROW_INVISIBLE), pc.is_in(texts, pa.array(NULL_WORDS)))
    return texts, ~np.asarray(pc.fill_null(is_none, True))


def _as_text(array: pa.Array, name: str, start: int) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if not is_text and not pa.types.is_binary(kind) and not pa.types.is_large_binary(kind):
        return pc.cast(array, pa.string())
    try:
        texts = pc.cast(array, pa.string())
        texts.validate(full=True)
    except pa.ArrowInvalid:  # not UTF-8
        return pa.array([_decoded(each, f"`{name}`, near row {start}") for each in pc.cast(array, pa.binary())])
    return texts


def _decoded(value: pa.Scalar, place: str) -> str | None:
    """Text of bytes, where halves of surrogate pairs may have been written as if they were characters."""
    data = value.as_py()
    if data is None:
        return None
    try:
        return without_lone_surrogates(data.decode("utf-8", "surrogatepass"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{place}: a caption is no UTF-8: {data!r:.60}: {error}") from error


def _is_empty(array: pa.Array) -> np.ndarray:
    if _is_list(array.type):
        return np.asarray(pc.equal(pc.list_value_length(array), 0))
    return np.asarray(pc.is_null(array))
