# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""A run over each kind of source that was killed goes on where it was, without and with blocks."""

import json
import os
import signal

import pytest
from torch.utils.data import DataLoader

from itit_hf.data.streams import MixedBatchSampler, MixedDataset, Stream

from ..data.sources import KINDS, write_source
from .harness import run_in_child

UPDATES = 12
SAVED_EVERY = 4


def read_rows(kind, source, folder, blocks, die_after):
    """Reads 12 updates of 4 captions by two workers, notes how far it is every four, and may die without a word."""
    from itit_hf.data.direct_loading import open_rows

    rows = open_rows(source)
    stream = Stream("paired", rows, seed=1)
    stream.set_order("keyed", blocks)
    saved = folder / "saved.json"
    captions = json.loads(saved.read_text()) if saved.exists() else []
    loader = DataLoader(
        MixedDataset([stream]),
        batch_sampler=MixedBatchSampler({"paired": 4}, UPDATES, first_update=len(captions)),
        collate_fn=list,
        num_workers=2,
        multiprocessing_context=getattr(rows, "start_method", None),
    )
    for batch in loader:
        captions.append([sample["text"] for _, sample in batch])
        if len(captions) % SAVED_EVERY == 0:
            saved.with_suffix(".part").write_text(json.dumps(captions))
            os.replace(saved.with_suffix(".part"), saved)
        if len(captions) == die_after:
            os.kill(os.getpid(), signal.SIGKILL)


CASES = [
    pytest.param(kind, blocks, marks=[] if (kind, blocks) == ("parquet", 2) else pytest.mark.slow)
    for kind in KINDS
    for blocks in (0, 2)
]


@pytest.mark.parametrize(("kind", "blocks"), CASES)
def test_a_run_that_was_killed_reads_what_one_reads_that_was_not(kind, blocks, tmp_path):
    source = write_source(kind, tmp_path / "source")
    read = []
    for name, deaths in (("whole", [None]), ("killed", [6, 11, None])):
        folder = tmp_path / name
        folder.mkdir()
        for die_after in deaths:
            status = run_in_child(read_rows, kind, source, folder, blocks, die_after)
            assert status == (0 if die_after is None else -signal.SIGKILL)
        read.append(json.loads((folder / "saved.json").read_text()))
    assert len(read[0]) == UPDATES and read[0] == read[1]
