# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""A run goes on in the order that it was begun in."""

import pickle

import pytest
import torch

from itit_hf.data.direct_loading import open_rows
from itit_hf.training.checkpointing import MANIFEST_NAME, read_manifest

from ..testing_utils import tokenized_pairs
from ..training_utils import losses_of, make_trainer

SAVING = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "objectives": ["t2i"]}


def forget_the_order(checkpoint):
    """What a version wrote that knew one order only."""
    manifest = read_manifest(str(checkpoint))
    del manifest.facts["data"]["order"], manifest.facts["data"]["shuffle_blocks"]
    (checkpoint / MANIFEST_NAME).write_bytes(manifest.to_bytes())


def test_a_run_of_before_goes_on_with_its_order_to_the_bit(tmp_path, caplog):
    old = make_trainer(tmp_path, data_order="randperm", **SAVING)
    old.train()
    forget_the_order(tmp_path / "checkpoint-2")
    new = make_trainer(tmp_path, **SAVING)
    assert [new.streams[0].row_index(i) for i in range(24)] != [old.streams[0].row_index(i) for i in range(24)]
    new.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert [new.streams[0].row_index(i) for i in range(48)] == [old.streams[0].row_index(i) for i in range(48)]
    assert losses_of(new)[-2:] == losses_of(old)[-2:]
    assert new.data_metadata()["order"] == "randperm" and "other data" not in caplog.text


def test_a_run_that_changes_its_order_is_told(tmp_path, caplog):
    make_trainer(tmp_path, **SAVING).train()
    trainer = make_trainer(tmp_path, data_order="randperm", **SAVING)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert "'order': ('keyed', 'randperm')" in caplog.text


@pytest.mark.parametrize(("name", "value"), [("data_order", "sorted"), ("shuffle_blocks", -1)])
def test_an_order_that_there_is_not_is_refused_by_the_arguments(name, value, tmp_path):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        make_trainer(tmp_path, **{name: value})


def lance_rows(folder, processor):
    """The pairs of `make_trainer`, with their tokens, as a Lance dataset."""
    pytest.importorskip("lance", reason="pip install 'itit-hf[lance]' (217 MB) to test it")
    from itit_hf.data.convert import convert_to_lance

    folder.mkdir(exist_ok=True)
    convert_to_lance(tokenized_pairs(processor), str(folder / "pairs.lance"))
    return open_rows(folder / "pairs.lance")


def test_workers_are_spawned_where_a_source_needs_it(tmp_path):
    trainer = make_trainer(tmp_path, dataloader_num_workers=2, **SAVING)
    assert trainer.get_train_dataloader().multiprocessing_context is None
    trainer.streams[0].rows = lance_rows(tmp_path, trainer.processing_class)
    assert trainer.get_train_dataloader().multiprocessing_context.get_start_method() == "spawn"
    trainer.args.dataloader_num_workers = 0
    assert trainer.get_train_dataloader().multiprocessing_context is None


def test_what_a_spawned_worker_is_sent_has_no_network(tmp_path):
    trainer = make_trainer(tmp_path, **SAVING)
    collator = pickle.loads(pickle.dumps(trainer.data_collator))
    assert collator.processor.image_tokenizer is None and trainer.processing_class.image_tokenizer is not None
    samples = [("paired", trainer.streams[0].sample(index)) for index in range(2)]
    ours = trainer.data_collator(samples)["paired"]
    theirs = collator(samples)["paired"]
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_a_training_on_lance_by_a_spawned_worker_is_that_on_copied_rows(tmp_path):
    losses = []
    for workers in (None, 0, 1):
        trainer = make_trainer(tmp_path, dataloader_num_workers=workers or 0, **SAVING)
        if workers is not None:
            trainer.streams[0].rows = lance_rows(tmp_path / str(workers), trainer.processing_class)
        trainer.train()
        losses.append(losses_of(trainer))
    assert losses[0] == losses[1] == losses[2]
