# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import os
import pickle

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader

from itit_hf.data.captions import captions_of
from itit_hf.data.direct_loading import open_rows
from itit_hf.data.direct_rows import DirectRows, LanceRows, ParquetRows
from itit_hf.data.streams import (
    TOKENIZER_COLUMN,
    MixedBatchSampler,
    MixedDataset,
    Stream,
    check_image_tokenizer,
)

from .sources import KINDS, ROWS_OF_A_GROUP, open_source, pairs

DIRECT = [kind for kind in KINDS if kind != "folder"]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """24 pairs by the kind of their source; each is written once."""
    found = {}

    def get(kind):
        if kind not in found:
            found[kind] = open_source(kind, tmp_path_factory.mktemp(kind))
        return found[kind]

    return get


@pytest.mark.parametrize("kind", DIRECT)
def test_rows_are_those_that_were_written(kind, opened):
    rows = opened(kind)
    assert isinstance(rows, DirectRows) and len(rows) == 24
    assert {"image", "text"} <= set(rows.column_names)
    for (_, image, captions), row in zip(pairs(24), rows, strict=True):
        assert row["image"]["bytes"] == image and captions_of(row["text"]) == captions
    with pytest.raises(IndexError, match="has 24 rows, got 24"):
        rows[24]


@pytest.mark.parametrize("kind", DIRECT)
def test_a_range_of_rows_is_a_table_that_the_datasets_library_reads(kind, opened):
    rows = opened(kind)
    table = datasets.Dataset(rows.table(3, 7))
    assert isinstance(table.features["image"], datasets.Image) and len(table) == 4
    assert table[0]["image"].size == (16, 16 + 3)


@pytest.mark.parametrize("kind", DIRECT)
def test_captions_of_neighbours_are_read_alone(kind, opened):
    texts = [captions_of(text) for text in opened(kind).texts(range(3, 21))]
    assert texts == [captions for _, _, captions in list(pairs(24))[3:21]]


@pytest.mark.parametrize("kind", DIRECT)
def test_another_process_opens_its_own_files(kind, opened):
    rows = opened(kind)
    rows[0]
    assert pickle.loads(pickle.dumps(rows))[9] == rows[9]


def test_few_row_groups_are_kept_and_blocks_read_each_once(tmp_path, monkeypatch):
    rows = open_source("parquet", tmp_path)
    assert rows.block_sizes.tolist() == [5, 5, 5, 5, 4] and ROWS_OF_A_GROUP == 5
    read = []
    group = ParquetRows._group
    monkeypatch.setattr(ParquetRows, "_group", lambda self, block: read.append(block) or group(self, block))
    stream = Stream("paired", rows)
    stream.set_order("keyed", shuffle_blocks=2)
    for index in range(len(rows)):
        stream.sample(index)
    assert sorted(read) == [0, 1, 2, 3, 4] and len(rows._groups) == 3


def test_a_forked_process_does_not_read_lance(opened, monkeypatch):
    rows = opened("lance")
    number = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: number + 1)
    with pytest.raises(RuntimeError, match="do not live on in a forked process: .*spawn"):
        rows[0]


def test_lance_rows_are_those_of_the_version_that_was_opened(tmp_path):
    rows = open_source("lance", tmp_path, 6)
    pytest.importorskip("lance").dataset(rows.path).delete("source_row < 3")
    assert len(rows) == 6 and captions_of(rows[0]["text"]) == ["a red bus 0"]
    assert len(LanceRows(rows.path, {}, "pairs")) == 3


def test_tokens_of_another_image_tokenizer_are_refused(tmp_path, processor):
    columns = {"image_token_ids": [[1]], TOKENIZER_COLUMN: ["another"]}
    pq.write_table(pa.table(columns), tmp_path / "tokens.parquet")
    with pytest.raises(ValueError, match="made by another image tokenizer"):
        check_image_tokenizer(open_rows(tmp_path / "tokens.parquet"), processor)


def captions_by_update(rows, world_size, workers, blocks, first_update=0):
    """The captions of all ranks in each update, sorted: what a global batch holds."""
    updates = []
    for rank in range(world_size):
        stream = Stream("paired", rows, seed=2)
        stream.set_order("keyed", blocks)
        sampler = MixedBatchSampler({"paired": 8 // world_size}, 7, rank, world_size, first_update=first_update)
        loader = DataLoader(
            MixedDataset([stream]),
            batch_sampler=sampler,
            collate_fn=captions_of_batch,
            num_workers=workers,
            multiprocessing_context=getattr(rows, "start_method", None) if workers else None,
        )
        updates.append(list(loader))
    return [sorted(sum(parts, [])) for parts in zip(*updates, strict=True)]


def captions_of_batch(samples):
    torch.set_num_threads(1)
    return [sample["text"] for _, sample in samples]


@pytest.mark.parametrize("blocks", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_ranks_reads_the_same_batches_and_goes_on_where_it_was(kind, blocks, opened):
    rows = opened(kind)
    whole = captions_by_update(rows, 1, 0, blocks)
    assert [captions_by_update(rows, world_size, 0, blocks) for world_size in (2, 4)] == [whole] * 2
    assert captions_by_update(rows, 2, 0, blocks, first_update=3) == whole[3:]
    epoch = sum(whole[:3], [])
    assert len(set(epoch)) == 24 and sum(whole[3:6], []) != epoch


@pytest.mark.parametrize("blocks", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind == "parquet" else pytest.mark.slow) for kind in KINDS]
)
def test_any_number_of_workers_reads_the_same_batches(kind, blocks, opened):
    rows = opened(kind)
    assert captions_by_update(rows, 1, 2, blocks) == captions_by_update(rows, 1, 0, blocks)


@pytest.mark.slow
def test_forked_workers_of_lance_end_with_an_error_and_do_not_wait(opened):
    stream = Stream("paired", opened("lance"))
    sampler = MixedBatchSampler({"paired": 4}, 2)
    loader = DataLoader(
        MixedDataset([stream]),
        batch_sampler=sampler,
        collate_fn=captions_of_batch,
        num_workers=1,
        multiprocessing_context="fork",
    )
    with pytest.raises(RuntimeError, match="do not live on in a forked process"):
        list(loader)
