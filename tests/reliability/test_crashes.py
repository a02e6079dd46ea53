# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""R5, R9, R10, R11: kills, damaged files, full disks and signals never cost more than one save interval."""

import contextlib
import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from itit_hf.training import checkpointing
from itit_hf.training.checkpointing import find_checkpoint, list_checkpoints, verify_checkpoint

from .harness import contents, fork, make_trainer, pipe, run_in_child, wait

STEPS = 24
KILLS_PER_RUN = 25


def train(folder, stop_after=STEPS, writer=None):
    """From the newest checkpoint on; tells of the beginning and the end of each save."""
    trainer = make_trainer(folder, stop_after=stop_after)
    save = trainer._save_checkpoint

    def save_and_tell(*arguments):
        writer.send_bytes(b"(")
        save(*arguments)
        writer.send_bytes(b")")

    if writer is not None:
        trainer._save_checkpoint = save_and_tell
    trainer.train(resume_from_checkpoint="last")


def newest_step(folder) -> int:
    found, _ = find_checkpoint(str(folder))
    return verify_checkpoint(found).step if found else 0


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unkilled")
    assert run_in_child(train, folder) == 0
    return contents(folder / f"checkpoint-{STEPS}")


def save_and_be_killed(folder, delay: float) -> tuple[float, int, bool]:
    """Kill a run `delay` seconds after its first save began. Returns how long a save takes, if it ended before that,
    how many saves were finished, and whether one was under way."""
    reader, writer = pipe()
    child = fork(train, folder, STEPS, writer)
    assert reader.recv_bytes() == b"(", "the run ended before its first save"
    start = time.monotonic()
    begun, ended, duration = 1, 0, 0.0
    while (left := start + delay - time.monotonic()) > 0 and reader.poll(left):
        try:
            said = reader.recv_bytes()
        except EOFError:  # the run is over
            break
        begun, ended = begun + (said == b"("), ended + (said == b")")
        duration = duration or time.monotonic() - start
    child.kill()
    wait(child)
    with contextlib.suppress(EOFError):
        while True:
            said = reader.recv_bytes()
            begun, ended = begun + (said == b"("), ended + (said == b")")
    return duration, ended, begun > ended


@pytest.mark.figure(name="R5")
@pytest.mark.slow
@pytest.mark.parametrize("run", range(4))
def test_a_hundred_kills_while_saving(run, unkilled, tmp_path, figure):
    generator, window, held, while_saving, kills = random.Random(run), 0.2, 0, 0, 0
    folder = tmp_path / "0"
    while while_saving < KILLS_PER_RUN:
        kills += 1
        if newest_step(folder) >= STEPS - 2:
            folder = tmp_path / str(kills)
        before = newest_step(folder)
        duration, ended, saving = save_and_be_killed(folder, generator.uniform(0.0, 1.0) * window)
        window = 0.5 * window + 0.5 * duration if duration else 1.1 * window
        while_saving += saving
        # What was saved before is there, and each save that ended is.
        held += saving and newest_step(folder) >= before + ended
    assert run_in_child(train, folder) == 0
    assert contents(folder / f"checkpoint-{STEPS}") == unkilled
    figure(held, KILLS_PER_RUN, "kills while saving, those between two saves not counted")


def kill_at(folder, step, event):
    """Kill at the n-th event that changes the disk, in the save of an update."""
    seen, saving = [], []

    def note(name, arguments):
        changes = name in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.fsync")
        writes = name == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wxa+")
        if saving and (changes or writes):
            seen.append(name)
            if len(seen) == event:
                os.kill(os.getpid(), signal.SIGKILL)

    fsync = os.fsync
    os.fsync = lambda descriptor: (note("os.fsync", ()), fsync(descriptor))
    sys.addaudithook(note)
    trainer = make_trainer(folder, stop_after=step, save_total_limit=2)
    save = trainer._save_checkpoint

    def save_and_watch(*arguments):
        if trainer.state.global_step == step:
            saving.append(True)
        save(*arguments)

    trainer._save_checkpoint = save_and_watch
    trainer.train(resume_from_checkpoint="last")


@pytest.mark.figure(name="R5")
@pytest.mark.slow
def test_a_kill_at_each_write_of_a_save(unkilled, tmp_path, figure):
    start = tmp_path / "start"
    assert run_in_child(train, start, 3) == 0
    event, held = 0, 0
    while True:
        event += 1
        folder = shutil.copytree(start, tmp_path / str(event))
        ended = run_in_child(kill_at, folder, 4, event)
        if ended == 0:  # the save has no more events
            break
        assert ended == -signal.SIGKILL
        held += newest_step(folder) in (3, 4)
        assert len(list_checkpoints(str(folder))) >= 2
        shutil.rmtree(folder, ignore_errors=event % 10 != 1)
    assert event > 12
    assert run_in_child(train, shutil.copytree(start, tmp_path / "end")) == 0
    assert contents(tmp_path / "end" / f"checkpoint-{STEPS}") == unkilled
    figure(held, event - 1, f"{event - 1} writes of a save")


def damage(path: Path, how: str):
    if how == "deleted":
        path.unlink()
    elif how == "halved":
        os.truncate(path, path.stat().st_size // 2)
    elif how == "emptied":
        os.truncate(path, 0)
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


def train_two(folder):
    make_trainer(folder, kind="half cycle", stop_after=2).train()


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    assert run_in_child(train_two, folder) == 0
    return folder


@pytest.mark.figure(name="R9")
def test_each_file_damaged_in_each_way_is_refused_by_name(two_checkpoints, tmp_path, figure):
    names = [*verify_checkpoint(str(two_checkpoints / "checkpoint-2")).files, "manifest.json"]
    assert {"optimizer.safetensors", "replay-0.safetensors", "ema.safetensors", "trainer_state.json"} <= set(names)
    held, count = 0, 0
    folder = shutil.copytree(two_checkpoints, tmp_path / "damaged")
    for name in names:
        for how in ("deleted", "halved", "emptied", "one bit flipped"):
            path = folder / "checkpoint-2" / name
            damage(path, how)
            found, (reason,) = find_checkpoint(str(folder))
            held += found == str(folder / "checkpoint-1") and name in reason
            count += 1
            shutil.copy(two_checkpoints / "checkpoint-2" / name, path)
    assert count >= 40 and find_checkpoint(str(folder)) == (str(folder / "checkpoint-2"), [])
    figure(held, count)


def test_resuming_takes_the_older_one_and_says_what_it_skipped(two_checkpoints, tmp_path, caplog):
    folder = shutil.copytree(two_checkpoints, tmp_path / "damaged")
    damage(folder / "checkpoint-2" / "rng_state-0.safetensors", "deleted")
    trainer = make_trainer(folder, kind="half cycle", stop_after=2)
    trainer.train(resume_from_checkpoint=True)
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "skipped a checkpoint" in said and "rng_state-0.safetensors: it is missing" in said
    assert contents(folder / "checkpoint-2") == contents(two_checkpoints / "checkpoint-2")


def fill_and_save(folder, limit: int | None):
    """Save once more on a disk that is almost full; `disk_usage` is not asked, so the writes themselves fail."""
    trainer = make_trainer(folder, stop_after=2)
    checkpointing.shutil.disk_usage = lambda place: shutil._ntuple_diskusage(10**12, 0, 10**12)
    if limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        trainer.train(resume_from_checkpoint="last")
    except OSError as error:
        assert error.errno in (errno.ENOSPC, errno.EFBIG), error
        assert "the disk is full: a checkpoint needs" in str(error) and "are free" in str(error), error
        raise SystemExit(7) from error


@pytest.mark.figure(name="R10")
@pytest.mark.slow
def test_a_full_disk_leaves_the_old_checkpoint_and_says_how_much_is_needed(tmp_path, figure):
    start = tmp_path / "start"
    assert run_in_child(train, start, 1) == 0
    old = contents(start / "checkpoint-1")
    size = sum(path.stat().st_size for path in start.rglob("*") if path.is_file())
    largest = max(path.stat().st_size for path in start.rglob("*") if path.is_file())
    held, full, mounted = 0, 0, True
    for share in [0.05 + 1.15 * i / 19 for i in range(20)]:
        place = tmp_path / f"{share:.2f}"
        place.mkdir()
        room = int(size + share * size + 250_000)  # folders and the last pages of files take some
        mount = ["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(place)]
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
        try:
            shutil.copytree(start / "checkpoint-1", place / "run" / "checkpoint-1")
            status = run_in_child(fill_and_save, place / "run", None if mounted else int(share * largest))
            kept = contents(place / "run" / "checkpoint-1") == old
            whole = newest_step(place / "run") == 2 if status == 0 else not (place / "run" / ".staging").exists()
            held += kept and whole and status in (0, 7)
            full += status == 7
        finally:
            if mounted:
                subprocess.run(["umount", str(place)], check=True)
    assert 0 < full < 20 or not mounted
    figure(held, 20, f"{full} of 20 ran full; " + ("tmpfs" if mounted else "by RLIMIT_FSIZE: no right to mount"))


def train_slowly(folder, writer, seconds: float):
    trainer = make_trainer(folder, save_strategy="no")

    def rest(trainer):
        writer.send_bytes(b".")
        time.sleep(seconds)

    trainer.before_micro_batch = rest
    trainer.train()


def start_slow_run(folder, seconds):
    reader, writer = pipe()
    child = fork(train_slowly, folder, writer, seconds)
    assert reader.recv_bytes() == b"."
    return child, reader


@pytest.mark.figure(name="R11")
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_the_run_after_its_update_with_a_checkpoint(number, tmp_path, figure):
    held, generator = 0, random.Random(number)
    for case in range(4):
        child, reader = start_slow_run(tmp_path / str(case), 0.05)
        time.sleep(generator.uniform(0.0, 0.5))
        os.kill(child.pid, number)
        status = wait(child)
        micro_batches = 1
        with contextlib.suppress(EOFError):
            while reader.recv_bytes():
                micro_batches += 1
        step = newest_step(tmp_path / str(case))
        held += status == 128 + number and step > 0 and micro_batches == 2 * step  # none after the update's last
    figure(held, 4)


@pytest.mark.figure(name="R11")
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_second_signal_ends_the_run_at_once(number, tmp_path, figure):
    """By far before its first micro-batch is over. On a busy machine the first may be noticed late, and one that comes
    within a second of that counts as the same: hence not exactly two."""
    rest = 60.0
    child, _ = start_slow_run(tmp_path, rest)
    start = time.monotonic()
    while child.is_alive() and time.monotonic() - start < rest / 2:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, number)
        child.join(1.2)
    at_once = time.monotonic() - start < rest / 2
    status = wait(child, 2 * rest)
    ended = status == (-number if number == signal.SIGTERM else 130)
    figure(int(at_once and ended and newest_step(tmp_path) == 0), 1)
