# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""R6 to R8: streams of uneven sizes, missing streams, and other numbers of processes."""

import hashlib
import os
from collections import Counter
from itertools import combinations

import pytest
import yaml
from accelerate.state import PartialState
from accelerate.utils import DistributedType

from itit_hf.data.streams import Stream

from ..training.test_distributed import ROOT
from ..training_utils import launch
from .harness import CYCLE, contents, make_trainer, weights_hash

UNEVEN = [
    {"paired": 1000, "image": 37, "text": 5},
    {"paired": 7, "image": 7, "text": 7},
    {"paired": 999, "image": 1000, "text": 1001},
]
# The objectives that read each stream; every non-empty choice of streams is a training without the others.
READERS = {"paired": ["t2i", "i2t"], "image": ["i2t2i"], "text": ["t2i2t"]}
CHOICES = [names for count in (1, 2, 3) for names in combinations(READERS, count)]
# Sums are taken in another order: plain descent, so that an optimizer does not blow rounding up.
PLAIN = {"optim": "sgd", "learning_rate": 0.01, "max_grad_norm": 0.0, "ema_decay": 0.0, "seed": 5}


def watch(trainer):
    """The rows that this process reads, by stream, and a hash of the weights each ten updates."""
    read, hashes = Counter(), []

    def note(trainer):
        if trainer.state.global_step % 10 == 0:
            hashes.append(weights_hash(trainer.accelerator.unwrap_model(trainer.model)))

    compute = trainer.compute_loss

    def compute_and_note(model, inputs, return_outputs=False, num_items_in_batch=None):
        for name, part in inputs.items():
            stream = next(stream for stream in trainer.streams if stream.name == name)
            read.update((name, stream.row_index(position)) for position in part["sample_index"].tolist())
        return compute(model, inputs, return_outputs, num_items_in_batch)

    trainer.before_micro_batch, trainer.compute_loss = note, compute_and_note
    return read, hashes


def train_uneven(folder):
    found = []
    for number, sizes in enumerate(UNEVEN):
        options = {"max_steps": 21, "gradient_accumulation_steps": 1, "save_strategy": "no"}
        trainer = make_trainer(folder / str(number), kind="streams", sizes=sizes, **options)
        read, hashes = watch(trainer)
        trainer.train()
        found.append((trainer.state.global_step, read, hashes))
    return found


@pytest.mark.figure(name="R6")
def test_uneven_streams_never_hang_and_serve_each_row_equally_often(tmp_path, figure):
    held = 0
    for sizes, first, second in zip(UNEVEN, *launch(train_uneven, tmp_path, tmp_path), strict=True):
        read = first[1] + second[1]
        even = True
        for name, size in sizes.items():
            counts = [read[name, row] for row in range(size)]
            even &= sum(counts) == 21 * 2 * 2 and max(counts) - min(counts) <= 1
        held += even and first[0] == second[0] == 21 and len(first[2]) == 3 and first[2] == second[2]
    figure(held, 3)


def train_choices(folder):
    found = []
    for number, names in enumerate(CHOICES):
        objectives = [objective for name in names for objective in READERS[name]]
        options = {"objectives": objectives, "max_steps": 2, "save_strategy": "no", **CYCLE}
        trainer = make_trainer(folder / str(number), **options)
        trainer.train()
        found.append(weights_hash(trainer.accelerator.unwrap_model(trainer.model)))
    return found


def lose_a_stream(folder):
    """One process loses a stream on the way: it must say so, and the other must not go on alone."""
    trainer = make_trainer(folder, kind="streams", max_steps=2, save_strategy="no")
    if trainer.args.process_index == 1:
        collate = trainer.data_collator
        trainer.data_collator = lambda samples: {k: v for k, v in collate(samples).items() if k != "text"}
    trainer.train()


@pytest.mark.figure(name="R7")
def test_streams_that_are_not_read_need_no_search_for_unused_parameters(tmp_path, figure):
    first, second = launch(train_choices, tmp_path, tmp_path)
    held = sum(a == b for a, b in zip(first, second, strict=True))
    (tmp_path / "lost").mkdir()
    with pytest.raises(Exception, match=r"need the streams \['text'\]"):
        launch(lose_a_stream, tmp_path / "lost", tmp_path / "lost", timeout=120)
    figure(held + 1, 8, "a stream that one process alone lacks is an error that names it")


def train_and_hash(folder, batch_size, checkpoint=None):
    options = {"objectives": ["t2i", "i2t", "t2t", "i2i_unpaired"], "max_steps": 6, **PLAIN}
    options |= {"per_device_train_batch_size": batch_size, "gradient_accumulation_steps": 1, "save_steps": 3}
    trainer = make_trainer(folder, **options)
    for module in trainer.model.modules():
        if hasattr(module, "p"):
            module.p = 0.0  # dropout is drawn for a process
    rows, compute = [], trainer.compute_loss

    def compute_and_note(model, inputs, return_outputs=False, num_items_in_batch=None):
        rows.append({name: sorted(part["sample_index"].tolist()) for name, part in inputs.items()})
        return compute(model, inputs, return_outputs, num_items_in_batch)

    trainer.compute_loss = compute_and_note
    trainer.train(resume_from_checkpoint=checkpoint)
    return rows, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def global_batches(results) -> str:
    """A hash of what all processes together read in each update."""
    updates = []
    for parts in zip(*(rows for rows, _ in results), strict=True):
        updates.append(sorted((name, p) for part in parts for name, positions in part.items() for p in positions))
    return hashlib.sha256(repr(updates).encode()).hexdigest()


@pytest.mark.figure(name="R8")
@pytest.mark.slow
def test_the_number_of_processes_changes_neither_batches_nor_losses(tmp_path, figure):
    found = {}
    for processes in (1, 2, 4):
        folder = tmp_path / str(processes)
        folder.mkdir()
        found[processes] = launch(train_and_hash, folder, folder, 8 // processes, processes=processes)
    held = 0
    for processes in (2, 4):
        close = max(abs(a - b) for a, b in zip(found[1][0][1], found[processes][0][1], strict=True)) <= 1e-5
        held += close and global_batches(found[1]) == global_batches(found[processes])
    go_on = tmp_path / "go-on"
    go_on.mkdir()
    resumed = launch(train_and_hash, go_on, go_on, 4, str(tmp_path / "1" / "checkpoint-3"), processes=2)
    rest = [([*rows], losses) for rows, losses in resumed]
    whole = [(rows[3:], losses) for rows, losses in found[1]]
    held += global_batches(rest) == global_batches(whole) and resumed[0][1] == pytest.approx(found[1][0][1], abs=1e-5)
    figure(held, 3)


def train_sharded(folder, checkpoint=None):
    """Two processes that share one copy of weights and optimizer; accelerate is told that the CPU is a GPU."""
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    PartialState._prepare_backend = lambda *_: ("gloo", DistributedType.MULTI_GPU)
    with open(ROOT / "examples" / "accelerate_configs" / "fsdp2.yaml") as file:
        options = {"fsdp": True, "fsdp_config": yaml.safe_load(file)["fsdp_config"], "use_cpu": False}
    trainer = make_trainer(folder, stop_after=4, ema_decay=0.0, gradient_accumulation_steps=1, **options)
    trainer.train(resume_from_checkpoint=checkpoint)
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.figure(name="R8")
@pytest.mark.slow
def test_sharded_weights_and_optimizer_resume_bit_identically(tmp_path, figure):
    for name in ("whole", "resumed"):
        (tmp_path / name).mkdir()
    whole = launch(train_sharded, tmp_path / "whole", tmp_path / "whole")
    checkpoint = str(tmp_path / "whole" / "checkpoint-2")
    resumed = launch(train_sharded, tmp_path / "resumed", tmp_path / "resumed", checkpoint)
    ours, theirs = (contents(tmp_path / name / "checkpoint-4") for name in ("resumed", "whole"))
    figure(int(ours == theirs and whole == resumed), 1, "one case more: FSDP2 on two processes resumes")


def test_the_rows_of_a_stream_depend_on_its_seed():
    """Else the counts above would show nothing."""
    rows = [{"text": str(i)} for i in range(50)]
    assert len({tuple(Stream("text", rows, seed).row_index(p) for p in range(50)) for seed in (1, 2)}) == 2
