# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import gzip
import os
import shutil

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from itit_hf.data.direct_loading import open_rows
from itit_hf.data.loading import load_rows

from .sources import write_source


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Where copies would be written."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def size_of(folder):
    return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(folder) for name in names)


def test_parquet_and_lance_leave_nothing_in_the_cache_and_archives_a_small_index(tmp_path, cache):
    shutil.rmtree(cache, ignore_errors=True)
    open_rows(write_source("archive", tmp_path / "archive", 200))
    index = size_of(cache)
    assert 0 < index < 0.1 * size_of(tmp_path / "archive")
    source = write_source("parquet", tmp_path / "parquet")
    before = size_of(cache)
    assert len(open_rows(source)) == 24 and size_of(cache) == before


def test_an_index_of_archives_is_made_once_and_again_when_they_change(tmp_path, cache, monkeypatch):
    source = write_source("archive", tmp_path / "pairs")
    assert len(open_rows(source)) == 24
    with monkeypatch.context() as patched:
        patched.setattr("itit_hf.data.direct_loading.read_samples", None)
        assert len(open_rows(source)) == 24
    os.remove(tmp_path / "pairs" / "00020.tar")
    assert len(open_rows(source)) == 20


def test_splits_of_lance_are_folders_by_their_names(tmp_path):
    path = write_source("lance", tmp_path / "source", 3)
    for name in ("train", "validation"):
        shutil.copytree(path, tmp_path / "both" / f"{name}.lance")
    assert len(open_rows(tmp_path / "both", "validation")) == 3
    with pytest.raises(ValueError, match="`split` must be one of \\['train', 'validation'\\] .*got None"):
        open_rows(tmp_path / "both")
    with pytest.raises(ValueError, match="is a Lance dataset, which is read where it is"):
        load_rows(path)


def test_columns_have_the_names_that_streams_know(tmp_path):
    pq.write_table(pa.table({"photo": [b"1", b"2"], "alt": ["one", "two"]}), tmp_path / "a.parquet")
    rows = open_rows(tmp_path / "a.parquet", columns={"image": "photo", "text": "alt"}, needed=("image", "text"))
    assert rows[1] == {"image": b"2", "text": "two"}
    with pytest.raises(ValueError, match="has no column 'text', it has \\['photo', 'alt'\\]"):
        open_rows(tmp_path / "a.parquet", needed=("text",))


def test_what_cannot_be_read_where_it_is_is_refused(tmp_path):
    source = write_source("archive", tmp_path / "archive", 10)
    packed = tmp_path / "packed.tar.gz"
    packed.write_bytes(gzip.compress((tmp_path / "archive" / "00000.tar").read_bytes()))
    with pytest.raises(ValueError, match="packed.tar.gz` is compressed"):
        open_rows(packed)
    pq.write_table(pa.table({"text": ["one"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": [1]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="b.parquet`: its columns are"):
        open_rows(str(tmp_path / "*.parquet"))
    with pytest.raises(ValueError, match='`bad_captions` must be "raise"'):
        open_rows(tmp_path / "a.parquet", bad_captions="skip")
    rows = open_rows(source)
    (tmp_path / "archive" / "00000.tar").write_bytes(b"cut")
    with pytest.raises(ValueError, match="is shorter than it was"):
        rows[5]
