# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The planning of `utils/benchmarks/gpu_run.py`, with stages that cost nothing."""

import json
import sys
from pathlib import Path

import pytest

import gpu_run
from gpu_run import REAL, TOY, Stage, measured_speed, plan, run, steps_that_fit

FACTS = {"device": "cpu"}


def stage(name: str, code: str, seconds: float = 30.0, needs: tuple[str, ...] = ()) -> Stage:
    return Stage(name, lambda left: [sys.executable, "-c", code], seconds, needs)


def statuses(stages, folder: Path, minutes: float = 1.0) -> dict[str, str]:
    return {record.name: record.status for record in run(stages, folder, minutes, FACTS)}


def test_stages_are_run_in_order_and_recorded_with_their_logs(tmp_path):
    stages = [stage("first", "print('one')"), stage("second", "print('two')", needs=("first",))]
    assert statuses(stages, tmp_path) == {"first": "done", "second": "done"}
    assert (tmp_path / "second.log").read_text() == "two\n"
    written = json.loads((tmp_path / "run.json").read_text())
    assert written["facts"] == FACTS and [each["returncode"] for each in written["stages"]] == [0, 0]


def test_a_failure_is_recorded_and_only_what_needs_it_is_left_out(tmp_path):
    stages = [stage("broken", "raise SystemExit(3)"), stage("after", "", needs=("broken",)), stage("other", "")]
    assert statuses(stages, tmp_path) == {"broken": "failed", "after": "left out", "other": "done"}


def test_a_benchmark_that_misses_a_goal_is_done(tmp_path):
    missed = Stage("missed", lambda left: [sys.executable, "-c", "raise SystemExit(1)"], 30.0, done_by=(0, 1))
    assert statuses([missed], tmp_path) == {"missed": "done"}
    assert [each.done_by for each in plan(tmp_path, TOY, 25.0)] == [(0, 1), (0,), (0,), (0,), (0,)]


def test_what_is_done_is_not_run_again_and_what_is_not_goes_on(tmp_path):
    marker = tmp_path / "marker"
    once = stage("once", f"open({str(marker)!r}, 'x')")  # a second time there would be such a file
    assert statuses([once, stage("later", "raise SystemExit(1)")], tmp_path) == {"once": "done", "later": "failed"}
    assert statuses([once, stage("later", "")], tmp_path) == {"once": "done", "later": "done"}


def test_a_stage_that_takes_too_long_is_asked_to_stop(tmp_path):
    code = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *a: sys.exit(7)); print(1); time.sleep(60)"
    (record,) = run([stage("slow", code, seconds=1.0)], tmp_path, 1.0, FACTS)
    assert record.status == "out of time" and record.seconds < 20


def test_without_time_left_nothing_is_started(tmp_path):
    assert statuses([stage("any", "")], tmp_path, minutes=0.0) == {"any": "left out"}


@pytest.mark.parametrize(
    ("speed", "seconds", "steps"),
    [
        (10.0, 600.0, 4800),  # 10 a second of 540 s, less 60 s
        (10.0, 30.0, 1),
        (1000.0, 600.0, 20_000),
    ],
)
def test_a_training_has_as_many_updates_as_fit(speed, seconds, steps):
    assert steps_that_fit(speed, seconds, most=20_000) == steps


def test_the_speed_is_what_the_last_line_of_a_log_says(tmp_path):
    log = tmp_path / "probe.log"
    log.write_text("{'train_steps_per_second': '1.5'}\n{'train_runtime': '3', 'train_steps_per_second': '2.5'}")
    assert measured_speed(log) == 2.5
    log.write_text("nothing")
    with pytest.raises(ValueError, match="names no `train_steps_per_second`"):
        measured_speed(log)


def test_a_training_without_a_speed_fails_and_is_no_exception(tmp_path):
    (tmp_path / "probe.log").write_text("nothing")
    training = next(each for each in plan(tmp_path, TOY, 10.0) if each.name == "training")
    record = gpu_run.run_stage(training, tmp_path, 10.0)
    assert record.status == "failed" and "train_steps_per_second" in (tmp_path / "training.log").read_text()


@pytest.mark.parametrize("size", [REAL, TOY])
def test_the_stages_fit_into_their_time_and_name_files_that_are_there(size, tmp_path):
    stages = plan(tmp_path, size, 25.0)
    assert [each.name for each in stages] == ["benchmark", "scenes", "probe", "training", "evaluation"]
    assert sum(each.seconds for each in stages) == pytest.approx(25 * 60)
    (tmp_path / "probe.log").write_text("'train_steps_per_second': '2.0'")
    for each in stages:
        files = [part for part in each.command(600.0) if part.endswith((".py", ".yaml", "goals.json"))]
        assert files and all((gpu_run.ROOT / file).exists() for file in files)


def test_a_training_that_was_interrupted_goes_on_with_the_updates_it_had_planned(tmp_path):
    training = plan(tmp_path, REAL, 25.0)[3]
    (tmp_path / "probe.log").write_text("'train_steps_per_second': '2.0'")
    first = training.command(600.0)
    (tmp_path / "training" / "checkpoint-100").mkdir(parents=True)
    again = training.command(60.0)
    assert first[first.index("--max_steps") + 1] == again[again.index("--max_steps") + 1] == "960"
    assert "--resume_from_checkpoint" in again and "--resume_from_checkpoint" not in first


def test_without_a_gpu_the_real_run_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_run.torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="`--toy`"):
        gpu_run.main(["--output", str(tmp_path)])
