# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""R1 to R4, R22, R23: a run that was interrupted is the run that was not."""

import os
import shutil
import time

import pytest
import torch

from itit_hf.data.streams import MixedBatchSampler, MixedDataset, Stream
from itit_hf.training.checkpointing import list_checkpoints

from .harness import KINDS, SIZES, contents, make_trainer, rows, run_in_child, weights_hash

LAST, QUICK = 24, 6  # stops of all tests, and of the default ones
GO_ON = 2  # updates after each stop, whose checkpoint must be that of the run without a stop
UPDATES = 12  # of the runs by micro-batches of different sizes


def train(folder, checkpoint=None, **options):
    torch.use_deterministic_algorithms(True)
    make_trainer(folder, **options).train(resume_from_checkpoint=checkpoint)


def die_within_the_next_update(folder, **options):
    """Fails between two micro-batches of the first update after resuming."""
    trainer = make_trainer(folder, **options)

    def fail(trainer):
        if trainer.micro_batches:
            raise InterruptedError("between two micro-batches")

    trainer.before_micro_batch = fail
    with pytest.raises(InterruptedError):
        trainer.train(resume_from_checkpoint="last")


def copy_checkpoint(source, folder):
    os.makedirs(folder)
    shutil.copytree(source, os.path.join(folder, os.path.basename(source)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a kind of training's first updates without a stop, a checkpoint for each."""
    folders = {}

    def get(kind, updates):
        if (kind, updates) not in folders:
            folders[kind, updates] = tmp_path_factory.mktemp(kind.replace(" ", "-"))
            train(folders[kind, updates], kind=kind, stop_after=updates)
        return folders[kind, updates]

    return get


# A quarter of the stops of each kind in the default tests. In these six the streams of pairs, of images and of texts
# begin anew, an accumulation is cut, samples are kept for replay and drawn again, and the warm-up ends.
STOPS = [
    pytest.param(kind, stop, id=f"{kind}-{stop}", marks=[] if stop <= QUICK else pytest.mark.slow)
    for kind in KINDS
    for stop in range(1, LAST + 1)
]


@pytest.mark.figure(name="R1")
@pytest.mark.parametrize(("kind", "stop"), STOPS)
def test_a_run_goes_on_bit_identically_after_any_step(kind, stop, whole, tmp_path, figure):
    run, folder = whole(kind, (QUICK if stop <= QUICK else LAST) + GO_ON), tmp_path / "resumed"
    copy_checkpoint(f"{run}/checkpoint-{stop}", folder)
    if stop % 2:  # half of the stops are in the midst of accumulation
        die_within_the_next_update(folder, kind=kind)
    train(folder, "last", kind=kind, stop_after=stop + GO_ON)
    ours, theirs = (contents(f"{place}/checkpoint-{stop + GO_ON}") for place in (folder, run))
    assert "rng_state-0.safetensors" in ours and "trainer_state.json" in ours
    assert ours == theirs
    figure(1, 1)


@pytest.mark.figure(name="R2")
@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(tmp_path, figure):
    held = 0
    for before in range(3):
        train(tmp_path / str(before), kind="streams", stop_after=4, dataloader_num_workers=before)
        for after in range(3):
            folder = tmp_path / f"{before}-{after}"
            copy_checkpoint(tmp_path / str(before) / "checkpoint-2", folder)
            train(folder, "last", kind="streams", stop_after=4, dataloader_num_workers=after)
            ours, theirs = contents(folder / "checkpoint-4"), contents(tmp_path / "0" / "checkpoint-4")
            held += ours == theirs
    figure(held, 9)


def mixed(first_update=0, updates=301):
    counts = {"paired": 3, "image": 2, "text": 4}
    return MixedBatchSampler(counts, updates, accumulation=1, replay=2, first_update=first_update)


@pytest.mark.figure(name="R3")
def test_no_row_is_lost_or_repeated_wherever_a_run_resumes(figure):
    dataset = MixedDataset([Stream(name, rows(name, size), seed=3) for name, size in SIZES.items()])
    whole = list(mixed())
    held = 0
    for position in range(300):
        rest = list(mixed(position))
        same_rows = [dataset[address] for address in rest[0]] == [dataset[address] for address in whole[position]]
        held += rest == whole[position:] and same_rows
    figure(held, 300)


class CountingRows(list):
    """Rows that count how often one is read."""

    reads = 0

    def __getitem__(self, index):
        self.reads += 1
        return super().__getitem__(index)


@pytest.mark.figure(name="R4")
def test_resuming_late_costs_what_resuming_early_does(figure):
    size = 500

    def first_batch(position):
        counting = {name: CountingRows(rows(name, size)) for name in SIZES}
        start = time.process_time()
        dataset = MixedDataset([Stream(name, counting[name]) for name in SIZES])
        for own in counting.values():
            own.reads = 0  # `Stream` looks at the first row to learn the columns
        addresses = next(iter(mixed(position, position + 1)))
        before = sum(own.reads for own in counting.values())
        batch = [dataset[address] for address in addresses]
        assert before == 0 and sum(own.reads for own in counting.values()) == len(batch) == 9
        return time.process_time() - start

    times = [(first_batch(10**3), first_batch(10**9)) for _ in range(30)]
    early, late = (min(column) for column in zip(*times, strict=True))
    figure(int(late / early < 1.5), 1, f"first batch at update 10^9 takes {late / early:.2f} of that at 10^3")


def train_with_threads(folder, threads):
    torch.set_num_threads(threads)
    train(folder, kind="full cycle", stop_after=4)


@pytest.mark.figure(name="R22")
@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(tmp_path, figure):
    for name, threads in (("first", 1), ("second", 1), ("two", 2)):
        assert run_in_child(train_with_threads, tmp_path / name, threads) == 0
    first, second, two = (contents(tmp_path / name / "checkpoint-4") for name in ("first", "second", "two"))
    same = first["model.safetensors"] == two["model.safetensors"]
    figure(int(first == second), 1, f"two threads: {'the same' if same else 'other'} weights, not promised")


@pytest.mark.figure(name="R23")
def test_accumulation_is_a_large_batch(tmp_path, figure):
    losses, masks = [], []
    for batch, accumulation in ((8, 1), (4, 2), (1, 8)):
        options = {
            "optim": "sgd",
            "learning_rate": 0.01,
            "save_strategy": "no",
            "ema_decay": 0.0,
            "max_steps": UPDATES,
        }
        trainer = make_trainer(
            tmp_path,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            objectives=["t2i"],
            **options,
        )
        for module in trainer.model.modules():  # dropout is drawn for a batch, not for a sample
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        seen, draw = {}, trainer.objectives.draw_mask

        def keep(part, name, ratio, seen=seen, draw=draw):
            masked = draw(part, name, ratio)
            for position, mask in zip(part["sample_index"].tolist(), masked.bool_masked_pos, strict=True):
                seen[position] = mask.tolist()
            return masked

        trainer.objectives.draw_mask = keep
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
        masks.append(seen)
    assert len(masks[0]) == 8 * UPDATES and masks[0] == masks[1] == masks[2]
    worst = max(abs(a - b) for other in losses[1:] for a, b in zip(losses[0], other, strict=True))
    figure(sum(worst <= 1e-5 for _ in losses), 3, f"losses differ by {worst:.1e} at most in {UPDATES} updates")


def test_every_update_left_its_checkpoint(whole):
    assert len(list_checkpoints(str(whole("pairs", QUICK + GO_ON)))) == QUICK + GO_ON


def test_two_runs_of_other_seeds_differ(tmp_path):
    """Else the comparisons above would show nothing."""
    trainers = [make_trainer(tmp_path / str(seed), seed=seed, stop_after=2, save_strategy="no") for seed in (1, 2)]
    assert len({(trainer.train(), weights_hash(trainer.model))[1] for trainer in trainers}) == 2
