# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The protocol of `utils/benchmarks/benchmark.py`, on cases that cost nothing; its goals file speaks of cases that
exist."""

import ctypes
import json
import platform
import resource
from argparse import Namespace
from pathlib import Path

import pytest
import torch

import benchmark
from benchmark_cases import (
    AMUSED,
    DROPS,
    OPTIMIZERS,
    SYNTHESES,
    TEXT_LENGTHS,
    TRAINED_TEXTS,
    Case,
    EndAfter,
    growth_cases,
    update_cases,
)
from itit_hf.training.optimization import Muon

from ..reliability.harness import run_in_child

GOALS = json.loads((Path(benchmark.__file__).parent / "benchmark_goals.json").read_text())
MEASURED = {
    "seconds": {"ours": [2.0, 3.0], "half of ours": [1.0, 1.0], "theirs": [4.0, 4.0]},
    "flops": {"ours": 6e9, "half of ours": 3e9, "theirs": 24e9},
    "saved_mib": {"t2i": 200.0, "t2i2t": 300.0},
    "ceiling": 10.0,
}


def values(metric, of, to=None, batch_size=1):
    return benchmark.goal_values({"metric": metric, "of": of, "to": to or {}}, MEASURED, batch_size)


def test_a_ratio_is_taken_within_a_round():
    assert values("ratio", {"ours": 1}, {"theirs": 1}) == [0.5, 0.75]


def test_a_ratio_may_be_of_sums_and_of_parts():
    assert values("ratio", {"ours": 1, "half of ours": 2}, {"theirs": 1, "half of ours": -1}) == [4 / 3, 5 / 3]


def test_a_ratio_to_flops_is_one_where_the_time_is_that_of_the_work():
    assert values("ratio to flops", {"ours": 1}, {"half of ours": 1}) == [1.0, 1.5]


def test_the_share_of_the_ceiling_counts_work_by_time():
    assert values("share of ceiling", {"ours": 1}) == [0.3, 0.2]


def test_rates_and_times_of_a_batch():
    assert values("a second", {"ours": 1}, batch_size=6) == [3.0, 2.0]
    assert values("milliseconds", {"ours": 1}) == [2000.0, 3000.0]


def test_saved_activations_are_summed():
    assert values("saved MiB", {"t2i": 1, "t2i2t": 1}) == [500.0]


def test_what_was_not_measured_has_no_value():
    assert values("ratio", {"ours": 1}, {"nobody": 1}) is None


def test_an_unknown_metric_is_named():
    with pytest.raises(ValueError, match="got 'beauty'"):
        values("beauty", {"ours": 1})


@pytest.mark.parametrize(
    ("bounds", "verdict"),
    [
        ({"at_most": 2.0, "stretch": 1.0}, "PASS"),
        ({"at_most": 2.0, "stretch": 1.5}, "PASS, stretch"),
        ({"at_most": 1.4, "stretch": 1.0}, "FAIL"),
        ({"at_least": 1.0, "stretch": 2.0}, "PASS"),
        ({"at_least": 1.6, "stretch": 2.0}, "FAIL"),
    ],
)
def test_the_median_is_judged(bounds, verdict):
    assert benchmark.judge(bounds, [0.1, 1.5, 9.0]) == verdict


RATIO = {"what": "", "metric": "ratio", "at_most": 1, "stretch": 0}
WRITTEN_GOALS = [
    {"goal": "G1", "batch_size": 1, "of": {"ours": 1}, "to": {"theirs": 1}} | RATIO,
    {"goal": "G2", "batch_size": 4, "of": {"a": 1}, "to": {"b": 1}} | RATIO,
    {"goal": "G3", "what": "", "metric": "milliseconds", "batch_size": 1, "of": {"ours": 1}, "device": "cuda"},
]


def test_goals_of_another_device_are_left_out(tmp_path):
    path = tmp_path / "goals.json"
    path.write_text(json.dumps(WRITTEN_GOALS))
    assert [goal["goal"] for goal in benchmark.read_goals(str(path), "cpu")] == ["G1", "G2"]
    assert benchmark.read_goals(None, "cpu") == []


def test_a_goal_whose_cases_were_not_measured_says_so():
    checked = benchmark.check_goals(WRITTEN_GOALS[:2], {"measured": {"1": MEASURED}})
    assert [goal["verdict"] for goal in checked] == ["PASS", "not measured"]
    assert len(benchmark.goal_lines(checked)) == 4


def test_only_what_goals_speak_of_is_timed_at_their_batch_size():
    assert benchmark.cases_of(WRITTEN_GOALS[:2]) == {1: {"ours", "theirs"}, 4: {"a", "b"}}


def test_each_round_times_each_case_and_starts_at_another(monkeypatch):
    order = []
    cases = [Case(name, lambda name=name: order.append(name), times=3.0) for name in "abc"]
    monkeypatch.setattr(benchmark, "Stopwatch", lambda device: lambda run: run() or 2.0)
    options = Namespace(device="cpu", rounds=2, warmup=0)
    assert benchmark.time_rounds(cases, options, "") == {name: [6.0, 6.0] for name in "abc"}
    assert "".join(order) == "abcbca"


def test_the_stopwatch_counts_cpu_time():
    assert 0.0 < benchmark.Stopwatch("cpu")(lambda: torch.randn(300, 300) @ torch.randn(300, 300)) < 10.0


def first_touches_of_another_block() -> int:
    """Pages of 400 MB that the system gives out anew after as much was freed."""
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.zeros(100_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def touch_before_and_after():
    ctypes.CDLL(None).mallopt(-4, 2**16)  # M_MMAP_MAX as it was, whatever ran in this process before
    given_back = first_touches_of_another_block()
    assert given_back > 100  # even of 2 MiB each
    benchmark.keep_memory()
    assert first_touches_of_another_block() < given_back / 4  # a few are of Python, after a fork


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="memory of another library is not kept")
def test_memory_that_was_freed_is_kept():
    assert run_in_child(touch_before_and_after) == 0


def test_every_goal_speaks_of_cases_that_exist():
    known = {f"generate {text}{drop}" for text in TEXT_LENGTHS for drop in DROPS}
    known |= {"generate naively", "aMUSEd's decoder"}
    known |= set(AMUSED) | {f"train t2i2t, {name}" for name in SYNTHESES}
    known |= {f"train {name}{text}" for name in (*AMUSED, "GIT", "pairs") for text in TRAINED_TEXTS}
    known |= {"caption", "GIT", "GIT, vision of all beams", "patch tokenizer", "aMUSEd's tokenizer"}
    known |= {"train pairs, no dropout", "train GIT, no dropout"}
    known |= {"tiny losses"} | {f"tiny update, {name}" for name in OPTIMIZERS}
    known |= {"train i2t", "train i2t2i"} | {"t2i", "i2t + i2i", "t2i2t", "i2t2i"}
    assert {name for goal in GOALS for name in (*goal["of"], *goal.get("to", {}))} <= known


def test_the_fast_paths_are_found_equal_and_a_wrong_one_is_named(monkeypatch):
    options = benchmark.parse([])
    benchmark.check_fast_paths(options)
    monkeypatch.setattr(benchmark, "_draws_agree", lambda device: False)
    with pytest.raises(RuntimeError, match="inverse of the distribution"):
        benchmark.check_fast_paths(options)


def test_the_smallest_run_reports_and_writes_every_round(tmp_path, caplog):
    path, goals = tmp_path / "out" / "benchmark.json", tmp_path / "goals.json"
    ratio = {"metric": "ratio", "of": {"train t2i": 1}, "to": {"train pairs": 1}, "at_most": 9, "stretch": 0}
    goals.write_text(json.dumps([{"goal": "G0", "what": "half of a pair", "batch_size": 1} | ratio]))
    with caplog.at_level("INFO"):
        status = benchmark.main(
            ["--preset", "tiny", "--groups", "train", "--anchors"]
            + ["--rounds", "2", "--json", str(path), "--check", str(goals)]
        )
    written = json.loads(path.read_text())
    rounds = {name: len(seconds) for name, seconds in written["measured"]["1"]["seconds"].items()}
    assert status == 0 and rounds == {"train t2i": 2, "train pairs": 2}
    assert written["goals"][0]["verdict"] == "PASS" and len(written["gemm"]) == 2
    assert "| G0 | 1 | half of a pair |" in caplog.text


def test_a_larger_image_is_a_longer_pass():
    cases = growth_cases(benchmark.parse(["--preset", "tiny"]), batch_size=1)
    assert [case.name for case in cases] == [f"pass of {side} x {side} tokens" for side in (8, 16, 32)]
    assert [case.run().image_logits.size(1) for case in cases] == [64, 256, 1024]


def test_an_update_is_its_losses_and_a_step(monkeypatch):
    steps = []
    for optimizer in (torch.optim.AdamW, Muon):
        monkeypatch.setattr(optimizer, "step", lambda self, name=optimizer.__name__: steps.append(name))
    losses, adamw, muon = update_cases(benchmark.parse([]), batch_size=1)
    taken = []
    for case in (losses, adamw, muon):
        steps.clear()
        case.run()
        taken.append(list(steps))
    assert [case.name for case in (losses, adamw, muon)] == ["tiny losses", "tiny update, AdamW", "tiny update, Muon"]
    assert taken == [[], ["AdamW"], ["Muon", "AdamW"]]


def test_a_caption_is_ended_after_so_many_words():
    end, scores = EndAfter(2, eos_token_id=1), torch.zeros(1, 3)
    assert [end(torch.zeros(1, length), scores).argmax().item() for length in (1, 2, 3)] == [0, 0, 1]
