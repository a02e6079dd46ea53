# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import logging
import tracemalloc

import pyarrow as pa
import pytest
from datasets import Dataset, Features, Image, Value

from itit_hf.data.captions import NULL_WORDS, captions_of, clean_captions, is_caption, normalise_caption
from itit_hf.data.streams import Stream

from ..testing_utils import tiny_pairs

NONES = [None, "", " \t ", "\u2003", "\u200b\u200d", "\ufeff", "\ud83d", "NULL", "n/a"]


def table(texts, **others) -> Dataset:
    return Dataset.from_dict({"text": texts} | others)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a  red\tbus", "a red bus"),
        ("a red bus\x0con\x85the\u2029grass", "a red bus on the grass"),
        ("\u3000a red bus\x1c", "a red bus"),
        ("\ufeffa red bus\x00", "a red bus"),
        ("a red \ud83d\ude8c", "a red \U0001f68c"),
        ("a red \udc00 bus", "a red \ufffd bus"),
    ],
)
def test_a_caption_stands_on_one_line_of_valid_unicode(text, want):
    assert normalise_caption(text) == want and want.encode("utf-8")


@pytest.mark.parametrize("none", NONES[1:])
def test_what_says_nothing_is_no_caption(none):
    assert not is_caption(normalise_caption(none)) and captions_of([none, "a bus"]) == ["a bus"]


@pytest.mark.parametrize("text", ["None of the buses", "na", "0", "?", "\U0001f68c", "\u0e23\u0e16", "-"])
def test_what_says_little_is_a_caption(text):
    assert captions_of(text) == [text]


def test_numbers_are_text():
    assert captions_of(1984) == ["1984"] and captions_of([2, 0.5]) == ["2", "0.5"]
    assert clean_captions(table([1984, 7]))["text"][:] == ["1984", "7"]


@pytest.mark.parametrize("value", [{"a": "bus"}, b"a bus", object()])
def test_what_is_no_text_is_refused(value):
    with pytest.raises(ValueError, match="a caption must be text"):
        captions_of(value)


def test_columns_and_single_captions_are_judged_alike():
    letters = [chr(code) for code in range(0x3100) if not 0xD800 <= code <= 0xDFFF]
    texts = [*letters, *("x" + letter + "y" for letter in letters), *(f" {word}\n" for word in NULL_WORDS)]
    rows = clean_captions(table(texts, number=list(range(len(texts)))), "skip")
    want = [(number, *captions) for number, text in enumerate(texts) if (captions := captions_of(text))]
    assert list(zip(rows["number"][:], rows["text"][:], strict=True)) == want


def test_captions_that_are_none_are_named_by_row_file_and_value():
    features = Features({"image": Image(decode=False), "text": Value("string")})
    images = [{"path": f"{number}.png", "bytes": b"x"} for number in range(4)]
    rows = Dataset.from_dict({"image": images, "text": ["a bus", "N/A", "a fish", None]}, features=features)
    with pytest.raises(ValueError, match=r"`pairs`: 2 of 4 rows .*: row 1 \(1.png: 'N/A'\), row 3 \(3.png: None\);"):
        clean_captions(rows, name="pairs")


def test_many_captions_that_are_none_are_counted():
    with pytest.raises(ValueError, match=r"12 of 13 rows .*row 4 \(' '\) and 7 more"):
        clean_captions(table([" "] * 12 + ["a bus"]))


def test_captions_that_are_none_are_left_out_and_counted(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    rows = clean_captions(table([["a bus", "\n"], [], ["a fish", "the fish"], None], n=[0, 1, 2, 3]), "skip")
    assert rows["text"][:] == [["a bus"], ["a fish", "the fish"]] and rows["n"][:] == [0, 2]
    assert "3 of 4 rows have a caption that is none, which is left out; 2 of these" in caplog.text


@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_rows_without_any_caption_are_refused(policy):
    with pytest.raises(ValueError, match="none of its 2 rows has a caption"):
        clean_captions(table(["", None]), policy)


def test_a_policy_or_column_that_cannot_be_is_named():
    with pytest.raises(ValueError, match="`bad_captions` must be one of .*'drop'"):
        clean_captions(table(["a"]), "drop")
    with pytest.raises(ValueError, match="must hold text, or lists of texts, got struct"):
        clean_captions(table([{"en": "a bus"}]))
    with pytest.raises(ValueError, match="must be text, or lists of texts, got list"):
        clean_captions(table([[["a bus"]]]))


def test_clean_captions_leave_the_dataset_as_it_is():
    rows = table(["a bus", "a fish"])
    assert clean_captions(rows) is rows


def test_a_column_of_captions_is_changed_alone():
    rows = tiny_pairs(3).map(lambda row: {"text": [text + "\r\n" for text in row["text"]]}).select([2, 0])
    cleaned = clean_captions(rows)
    assert cleaned["text"][:] == [
        ["a green bus", "the green fish on the grass"],
        ["a red bus", "the red fish on the grass"],
    ]
    assert cleaned.column_names == rows.column_names and cleaned[1]["image"].getpixel((15, 15)) == (220, 30, 30)
    stored = cleaned.data.column("image").chunk(0).field("bytes").buffers()[2]
    assert stored.address == rows.data.column("image").chunk(0).field("bytes").buffers()[2].address


def test_the_same_captions_have_the_same_fingerprint():
    rows = table(["a bus\n", "a fish"])
    assert clean_captions(rows)._fingerprint == clean_captions(rows)._fingerprint != rows._fingerprint


@pytest.mark.parametrize("kind", [pa.large_string(), pa.binary(), pa.dictionary(pa.int8(), pa.string())])
def test_text_of_any_arrow_type_is_text(kind):
    rows = Dataset(pa.table({"text": pa.array(["a bus", "a bus", "a fish"]).cast(kind)}))
    assert clean_captions(rows)["text"][:] == ["a bus", "a bus", "a fish"]


def test_bytes_that_are_no_text_are_refused_and_written_surrogates_replaced():
    halves = Dataset(pa.table({"text": pa.array([b"a \xed\xa0\xbd bus", b"a fish"])}))
    assert clean_captions(halves)["text"][:] == ["a \ufffd bus", "a fish"]
    with pytest.raises(ValueError, match=r"no UTF-8: b'caf\\xe9'"):
        clean_captions(Dataset(pa.table({"text": pa.array([b"caf\xe9"])})))


def test_a_stream_names_all_captions_that_are_none_before_the_first_sample():
    with pytest.raises(ValueError, match=r"`stream text`: 1 of 3 rows .*row 2 \('  '\)"):
        Stream("text", table(["a bus", "a fish", "  "]))


def test_a_stream_of_other_rows_gives_captions_as_they_should_be():
    stream = Stream("text", [{"text": "a\u2028bus \ud83d"}])
    assert stream.sample(0)["text"] == "a bus \ufffd"


def test_captions_of_images_alone_are_not_looked_at():
    rows = tiny_pairs(2).remove_columns("text").add_column("text", ["", ""])
    assert len(Stream("image", rows)) == 2


def test_captions_never_stand_in_a_python_list_as_long_as_the_dataset():
    rows = table(["a red bus on the grass"] * 200_000)
    tracemalloc.start()
    clean_captions(rows)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * len(rows)  # what the pointers of a list alone take
