# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from itit_hf.data.captions import captions_of
from itit_hf.data.direct_rows import LanceRows

from .sources import KINDS, open_source, pairs

lance = pytest.importorskip("lance", reason="pip install 'itit-hf[lance]' (217 MB) to test it")
from itit_hf.data.convert import add_lance_columns, convert_to_lance  # noqa: E402


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_of_any_kind_becomes_the_same_rows(kind, tmp_path):
    path = str(tmp_path / "out.lance")
    counts = convert_to_lance(open_source(kind, tmp_path / "source", 12), path, rows_per_commit=5)
    assert (counts.read, counts.written, counts.without_caption) == (12, 12, 0)
    rows = LanceRows(path, {}, "out")
    assert rows.block_sizes.tolist() == [5, 5, 2]
    for number, ((_, image, captions), row) in enumerate(zip(pairs(12), rows, strict=True)):
        assert row["image"]["bytes"] == image and captions_of(row["text"]) == captions
        assert row["source_row"] == number


def test_an_interrupted_conversion_goes_on_after_the_last_row(tmp_path, monkeypatch):
    rows = open_source("folder", tmp_path / "source", 12)
    path = str(tmp_path / "out.lance")

    def stop(done):
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_to_lance(rows, path, rows_per_commit=4, on_progress=stop)
    done = []
    counts = convert_to_lance(rows, path, rows_per_commit=4, on_progress=done.append)
    assert done == [12] and counts.written == 12
    assert [row["source_row"] for row in LanceRows(path, {}, "out")] == list(range(12))


def test_a_part_that_fails_in_the_middle_leaves_no_row(tmp_path):
    rows = open_source("folder", tmp_path / "source", 12)
    path = str(tmp_path / "out.lance")
    image = rows.with_format("arrow")[9]["image"][0]["path"].as_py()
    with open(image, "rb") as file:
        content = file.read()
    os.remove(image)
    with pytest.raises(FileNotFoundError, match="0009.png"):
        convert_to_lance(rows, path, rows_per_commit=4)
    assert lance.dataset(path).count_rows() == 8
    with open(image, "wb") as file:
        file.write(content)
    assert convert_to_lance(rows, path, rows_per_commit=4).written == 12


def test_rows_without_a_caption_are_named_or_counted(tmp_path):
    rows = Dataset.from_dict({"text": ["one", None, "NA", "four", "five", ""]})
    with pytest.raises(ValueError, match="row 1 has no caption, but None"):
        convert_to_lance(rows, str(tmp_path / "a.lance"))
    counts = convert_to_lance(rows, str(tmp_path / "b.lance"), bad_captions="skip", rows_per_commit=2)
    assert (counts.read, counts.written, counts.without_caption) == (6, 3, 3)
    again = convert_to_lance(rows, str(tmp_path / "b.lance"), bad_captions="skip")
    assert again.written == 3
    assert [row["text"] for row in LanceRows(str(tmp_path / "b.lance"), {}, "b")] == ["one", "four", "five"]


def test_rows_of_two_sources_are_never_mixed(tmp_path):
    path = str(tmp_path / "a.lance")
    convert_to_lance(Dataset.from_dict({"text": ["one"]}), path)
    with pytest.raises(ValueError, match="holds rows of another source"):
        convert_to_lance(Dataset.from_dict({"text": ["two"]}), path)
    with pytest.raises(ValueError, match="must end in .lance, got 'out'"):
        convert_to_lance(Dataset.from_dict({"text": ["one"]}), "out")


def squares(folder, rows):
    """Parquet files of a new column, of which each value tells its row."""
    numbers = [row["source_row"] for row in rows]
    paths = [folder / "0.parquet", folder / "1.parquet"]
    for path, part in zip(paths, (numbers[:4], numbers[4:]), strict=True):
        pq.write_table(pa.table({"square": [number**2 for number in part]}), path)
    return paths


def test_columns_are_added_row_by_row_where_rows_were_deleted(tmp_path):
    at = open_source("lance", tmp_path / "source", 12).path
    lance.dataset(at).delete("source_row % 5 = 3")
    rows = LanceRows(at, {}, "pairs")
    add_lance_columns(rows, squares(tmp_path, rows))
    found = [(row["source_row"], row["square"]) for row in LanceRows(at, {}, "pairs")]
    assert found == [(number, number**2) for number in range(12) if number % 5 != 3]
    add_lance_columns(rows, squares(tmp_path, rows))  # another process, which opened the rows before: it finds them
    assert LanceRows(at, {}, "pairs").version == rows.version + 1


def test_columns_of_other_rows_are_refused(tmp_path):
    rows = open_source("lance", tmp_path / "source", 12)
    paths = squares(tmp_path, rows)
    with pytest.raises(ValueError, match="cannot be added: .*before producing values for all rows"):
        add_lance_columns(rows, paths[:1])
    lance.dataset(rows.path).delete("source_row < 3")
    with pytest.raises(ValueError, match="cannot be added: .*conflict"):
        add_lance_columns(rows, paths)
    assert "square" not in LanceRows(rows.path, {}, "pairs").column_names
