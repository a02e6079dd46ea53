# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import os
from itertools import count

import datasets
import pyarrow as pa
import pytest

from itit_hf.data.row_store import (
    OtherTypes,
    TypedColumns,
    batched,
    common_type,
    converted,
    limited,
    sampled,
    stored_rows,
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "itit_hf"


def test_rows_are_read_once_for_a_key():
    reads = []

    def tables():
        reads.append(1)
        yield pa.table({"text": ["a"]})
        yield pa.table({"text": ["b", "c"]})

    first, again = stored_rows("1", tables, "set"), stored_rows("1", tables, "set")
    assert first["text"][:] == again["text"][:] == ["a", "b", "c"] and len(reads) == 1
    assert first._fingerprint == again._fingerprint == "1" and first.cache_files


def test_what_was_cut_short_is_never_taken_for_the_whole(cache):
    def tables(fail):
        yield pa.table({"text": ["a"]})
        if fail:
            raise KeyboardInterrupt
        yield pa.table({"text": ["b"]})

    with pytest.raises(KeyboardInterrupt):
        stored_rows("1", lambda: tables(True), "set")
    assert os.listdir(cache / "1") == []
    assert len(stored_rows("1", lambda: tables(False), "set")) == 2


def test_a_set_without_rows_is_refused():
    with pytest.raises(ValueError, match="`set` holds no row"):
        stored_rows("1", lambda: iter([]), "set")


def test_no_more_is_read_than_is_asked_for():
    tables = (pa.table({"n": [number, number]}) for number in count())
    assert [table["n"].to_pylist() for table in limited(tables, 5)] == [[0, 0], [1, 1], [2]]
    assert next(tables)["n"].to_pylist() == [3, 3]
    assert list(batched(range(5), 2)) == [[0, 1], [2, 3], [4]]


def read(*batches):
    """Rows of all batches as a table, read again as often as their types turn out to be others."""
    typed = TypedColumns("set")
    while True:
        typed.restart()
        try:
            return pa.concat_tables([typed.table(batch, "here") for batch in batches])
        except OtherTypes:
            continue


@pytest.mark.parametrize(
    ("values", "want"),
    [
        (["a", ["b", None], None], [["a"], ["b", None], None]),
        ([["a"], "b"], [["a"], ["b"]]),
        ([1984, "b", True, 0.5], ["1984", "b", "true", "0.5"]),
        ([1, 2.5, None], [1.0, 2.5, None]),
        ([None, None, "a"], [None, None, "a"]),
        ([[1], [2.5], []], [[1.0], [2.5], []]),
        ([[], 7], [[], [7]]),
        ([{"x": 1}, {"y": "a"}], [{"x": 1, "y": None}, {"x": None, "y": "a"}]),
        ([[1], ["a"]], [["1"], ["a"]]),
    ],
)
def test_values_of_a_column_get_one_type_in_one_batch_or_in_many(values, want):
    rows = [{"value": value, "n": 1} for value in values]
    assert read(*[[row] for row in rows])["value"].to_pylist() == want
    if not isinstance(values[0], dict):
        assert read(rows)["value"].to_pylist() == want


def test_columns_may_come_later_and_be_missing():
    assert read([{"a": 1}], [{"b": "x"}, {}]).to_pylist() == [
        {"a": 1, "b": None},
        {"a": None, "b": "x"},
        {"a": None, "b": None},
    ]


def test_a_column_without_one_type_is_left_out_and_the_others_are_kept():
    assert read([{"a": 1, "meta": {"x": 1}}], [{"a": 2, "meta": "none"}]).to_pylist() == [{"a": 1}, {"a": 2}]


def test_types_have_one_in_common_in_either_order():
    for a, b, want in [
        (pa.int64(), pa.float64(), pa.float64()),
        (pa.null(), pa.list_(pa.string()), pa.list_(pa.string())),
        (pa.string(), pa.list_(pa.int64()), pa.list_(pa.string())),
        (pa.bool_(), pa.int64(), pa.string()),
        (pa.string(), pa.struct({"a": pa.string()}), None),
        (pa.struct({"a": pa.string()}), pa.list_(pa.struct({"a": pa.string()})), None),
    ]:
        assert common_type(a, b) == common_type(b, a) == want
    assert converted([7, [None, "a"]], pa.list_(pa.string())).to_pylist() == [["7"], [None, "a"]]


def test_sampled_rows_are_each_as_likely_and_keep_their_order():
    tables = [pa.table({"n": list(range(start, start + 5))}) for start in (0, 5, 10, 15)]
    counts = [0] * 20
    for seed in range(400):
        (table,) = [pa.concat_tables(sampled(lambda: iter(tables), 4, seed))]
        numbers = table["n"].to_pylist()
        assert numbers == sorted(set(numbers)) and len(numbers) == 4
        for number in numbers:
            counts[number] += 1
    assert min(counts) > 50 and max(counts) < 115  # 80 on average, with a standard deviation of 8
    assert sum(len(table) for table in sampled(lambda: iter(tables), 30, 0)) == 20
