# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import bz2
import gzip
import json
import lzma
from pathlib import Path

import pytest

from itit_hf.data.text_files import csv_rows, decode_text, json_rows, sentence_rows, text_lines

COMPRESS = {"txt": bytes, "txt.gz": gzip.compress, "txt.bz2": bz2.compress, "txt.xz": lzma.compress}


def written(tmp_path, name, content):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return str(tmp_path / name)


@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_sentences_are_numbered_lines_with_a_byte_order_mark_or_without(tmp_path, ending, mark):
    file = written(tmp_path, f"s.{ending}", COMPRESS[ending](f"{mark}a bus\r\n\nein Fähre\u2028boot".encode()))
    assert list(sentence_rows(file)) == [
        (1, {"text": "a bus"}),
        (2, {"text": ""}),
        (3, {"text": "ein Fähre\u2028boot"}),
    ]


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("cp1252", r"line 3: is no UTF-8, at the byte 0x94: it may be Windows-1252"),
        ("latin-1", r"line 3: is no UTF-8, at the byte 0xf6"),
        ("utf-16", r"line 1: is no UTF-8, but UTF-16 or UTF-32"),
        ("utf-16-le", r"line 1: is no UTF-8, but UTF-16 or UTF-32"),
        ("utf-32", r"line 1: is no UTF-8, but UTF-16 or UTF-32"),
    ],
)
@pytest.mark.parametrize(
    "read", [lambda at: list(text_lines(str(at))), lambda at: decode_text(at.read_bytes(), f"`{at}`")]
)
def test_another_encoding_is_named_with_its_line(tmp_path, encoding, message, read):
    last = "a \u201dbus\u201d" if encoding == "cp1252" else "a böat"
    file = written(tmp_path, "s.txt", f"a bus\na fish\n{last}\n".encode(encoding))
    with pytest.raises(ValueError, match=f"`{file}`, {message}"):
        read(Path(file))


def test_a_file_that_is_cut_or_no_archive_is_named(tmp_path):
    content = gzip.compress("".join(f"line {number}\n" for number in range(5000)).encode())
    with pytest.raises(ValueError, match=r"cut.gz`: cannot be read on after line \d+"):
        list(text_lines(written(tmp_path, "cut.gz", content[: len(content) // 2])))
    with pytest.raises(ValueError, match=r"plain.gz`: cannot be read on after line 0"):
        list(text_lines(written(tmp_path, "plain.gz", "a bus\n")))


def test_json_is_read_by_lines_or_as_one_list(tmp_path):
    rows = [{"text": "a bus"}, {"text": ["a fish", None], "n": 1}]
    lines = "\n\n".join(map(json.dumps, rows))
    for name, content in (("a.jsonl", lines), ("a.json", lines), ("b.json", json.dumps(rows, indent=1))):
        assert [row for _, row in json_rows(written(tmp_path, name, "\ufeff" + content))] == rows
    assert [line for line, _ in json_rows(str(tmp_path / "a.jsonl"))] == [1, 3]


def test_files_that_were_joined_keep_no_byte_order_marks(tmp_path):
    file = written(tmp_path, "a.jsonl", '\ufeff{"text": "a"}\n\ufeff{"text": "b"}\n')
    assert [row["text"] for _, row in json_rows(file)] == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "a"}\n{"text": \n', "a.jsonl`, line 2: is no JSON"),
        ("a.jsonl", '"a bus"\n', 'a.jsonl`, line 1: wanted an object such as .*, got "a bus"'),
        ("a.jsonl", '[{"text": "a"}]\n', "a.jsonl`, line 1: wanted an object"),
        ("a.json", '[{"text": "a"}, "b"]', "a.json`, item 2: wanted an object .* got 'b'"),
        ("a.json", '[{"text": "a"},\n', "a.json`: is no JSON"),
        ("a.jsonl", "[" * 100_000 + "\n", "a.jsonl`, line 1: is no JSON"),
    ],
)
def test_what_is_no_json_is_named_with_its_line(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        list(json_rows(written(tmp_path, name, content)))


def test_half_of_a_surrogate_pair_is_replaced_wherever_it_stands(tmp_path):
    file = written(tmp_path, "a.jsonl", r'{"text": ["a \uD83D bus", "\ud83d\ude8c"], "\udc00": {"x": "\udfff"}}')
    ((_, row),) = json_rows(file)
    assert row == {"text": ["a \ufffd bus", "\U0001f68c"], "\ufffd": {"x": "\ufffd"}}


def test_cells_of_csv_are_text_with_the_line_that_their_row_begins_on(tmp_path):
    file = written(tmp_path, "a.csv", '\ufeff,file_name, text \n0,1.png,"a ""red""\nbus"\n\n1,2.png,NA\n')
    assert list(csv_rows(file)) == [
        (2, {"Unnamed: 0": "0", "file_name": "1.png", "text": 'a "red"\nbus'}),
        (5, {"Unnamed: 0": "1", "file_name": "2.png", "text": "NA"}),
    ]


def test_tabs_part_cells_where_they_are_said_to(tmp_path):
    assert list(csv_rows(written(tmp_path, "a.tsv", "text\tn\na, b\t1\n"), "\t")) == [(2, {"text": "a, b", "n": "1"})]


def test_a_blank_line_is_an_empty_cell_of_the_only_column(tmp_path):
    assert [row["text"] for _, row in csv_rows(written(tmp_path, "a.csv", "text\na\n\nb\n"))] == ["a", "", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,n\na,1\nb\n", "line 3: has another number of cells than the first line: 1, and not 2"),
        ("text,n\na,1,2\n", "line 2: has another number of cells than the first line: 3, and not 2"),
        ('text,n\n"a,1\nb,2\nc,3\n', "line 2: is no CSV: unexpected end of data"),
        ("text,text\na,b\n", r"line 1: columns must have different names, got \['text'\]"),
    ],
)
def test_a_broken_csv_is_named_with_its_line(tmp_path, content, message):
    with pytest.raises(ValueError, match=f"a.csv`, {message}"):
        list(csv_rows(written(tmp_path, "a.csv", content)))
