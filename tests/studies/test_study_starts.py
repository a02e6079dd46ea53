# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""`utils/studies/study_starts.py`: what it trains from what, what it does not run again, and how it sums up."""

import json
from pathlib import Path

import pytest
import torch

import study_starts
from small_mage import MageSize, train_small_mage

LOSSES = {"eval_loss_i2t": 1.0, "eval_loss_t2i": 2.0, "eval_loss_i2i": 3.0}


def value(command, name):
    return command[command.index(name) + 1]


@pytest.fixture
def trainings(monkeypatch):
    """In the place of trainings and judges: the arguments of each training, which takes a second an update."""
    ran = []
    clock = [0.0]

    def train(arguments):
        ran.append(arguments)
        folder = Path(value(arguments, "--output_dir"))
        folder.mkdir(parents=True)
        (folder / "eval_results.json").write_text(json.dumps(LOSSES))
        clock[0] += float(value(arguments, "--max_steps"))

    def judge(arguments):
        shares = dict.fromkeys((name for split, name in study_starts.COLUMNS.values() if split), 0.5)
        return {split: {"shares": shares} for split in ("validation", "heldout")}

    def prepare_mage(seed, folder, options):
        folder.mkdir(parents=True)
        return {"model": str(folder / "model"), "steps": options.mage_steps, "cpu_seconds": 7.0}

    monkeypatch.setattr(study_starts.train_itit, "main", train)
    monkeypatch.setattr(study_starts.evaluate_emoji_scenes, "main", judge)
    monkeypatch.setattr(study_starts.time, "process_time", lambda: clock[0])
    monkeypatch.setitem(study_starts.PREPARATIONS, "mage", prepare_mage)
    return ran


def arguments(folder, *more):
    sizes = ["--pairs", "200", "--steps", "20", "--stage1_steps", "15"]
    return [*sizes, "--output_dir", str(folder), *more]


def test_each_start_trains_on_the_same_pairs_and_stage_1_reads_none(trainings, tmp_path):
    study_starts.main(arguments(tmp_path, "--seeds", "5", "--", "--use_cpu", "true"))
    random, stage1, after_stage1, after_mage, longer = trainings
    on_pairs = (random, after_stage1, after_mage, longer)
    assert {value(each, "--paired_split") for each in on_pairs} == {"paired[:200]"}
    assert "stage1.yaml" in value(stage1, "--config") and "--paired_split" not in stage1
    assert value(after_stage1, "--model_name_or_path") == str(tmp_path / "stage1-seed5" / "pipeline" / "model")
    assert value(after_mage, "--model_name_or_path") == str(tmp_path / "mage-seed5" / "model")
    assert "--model_name_or_path" not in random and "--model_name_or_path" not in longer
    assert {value(each, "--seed") for each in trainings} == {"5"}
    assert all(each[-2:] == ["--use_cpu", "true"] for each in trainings)


def test_the_longer_run_takes_the_seconds_of_stage_1_and_of_its_pairs(trainings, tmp_path):
    study_starts.main(arguments(tmp_path, "--seeds", "5"))
    assert [value(each, "--max_steps") for each in trainings] == ["20", "15", "20", "20", "35"]
    runs = json.loads((tmp_path / "results.json").read_text())["runs"]
    seconds = {run["key"][0]: run["cpu_seconds"] + run["start_cpu_seconds"] for run in runs}
    assert seconds == {"random": 20.0, "stage1": 35.0, "mage": 27.0, "longer": 35.0}


def test_what_is_finished_is_not_run_again_and_a_further_seed_is_added(trainings, tmp_path):
    first = study_starts.main(arguments(tmp_path, "--seeds", "5"))
    trainings.clear()
    assert study_starts.main(arguments(tmp_path, "--seeds", "5")) == first and trainings == []
    study_starts.main(arguments(tmp_path, "--seeds", "5", "6"))
    assert {value(each, "--seed") for each in trainings} == {"6"}
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results["runs"]) == 8 and [start["key"] for start in results["starts"]] == [
        ["stage1", 5],
        ["mage", 5],
        ["stage1", 6],
        ["mage", 6],
    ]


def test_the_results_are_written_after_each_run(trainings, tmp_path, monkeypatch):
    def interrupted(arguments):
        raise KeyboardInterrupt

    study = study_starts.train_itit
    train = study.main
    monkeypatch.setattr(study, "main", lambda each: interrupted(each) if "stage1" in each[1] else train(each))
    with pytest.raises(KeyboardInterrupt):
        study_starts.main(arguments(tmp_path, "--seeds", "5"))
    (run,) = json.loads((tmp_path / "results.json").read_text())["runs"]
    assert run["key"] == ["random", 5, 200] and run["figures"]["t2i loss"] == 2.0


def test_the_table_has_mean_and_range_over_the_seeds():
    def run(seed, captions):
        figures = dict.fromkeys(study_starts.COLUMNS, 0.5) | {"captions: category": captions}
        times = {"steps": 20, "cpu_seconds": 100.0, "start_cpu_seconds": 50.0}
        return {"key": ["stage1", seed, 200], **times, "figures": figures}

    line = study_starts.table([run(0, 0.2), run(1, 0.3), run(2, 0.7)]).splitlines()[2]
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells[:7] == ["200", "stage1", "3", "20", "150", "0.400 (0.200 to 0.700)", "0.500"]


def test_a_small_mage_learns_an_image_by_heart_from_image_tokens_alone():
    size = MageSize(7, 4, width=16, depth=1, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2, mlp_ratio=2)
    ids = torch.arange(16).remainder(7).expand(4, -1)
    mage, losses = train_small_mage(ids, size, num_steps=100, seed=0, batch_size=4)
    assert losses[0] > 1.9 and losses[-1] < 1.0 and not mage.training  # log 7 = 1.95 knows nothing
    _, same = train_small_mage(ids, size, num_steps=2, seed=0, batch_size=4)
    _, other = train_small_mage(ids, size, num_steps=2, seed=1, batch_size=4)
    assert same[0] == losses[0] != other[0]
