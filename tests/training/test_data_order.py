# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""A run goes on in the order that it was begun in."""

import pytest

from itit_hf.training.checkpointing import MANIFEST_NAME, read_manifest

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
