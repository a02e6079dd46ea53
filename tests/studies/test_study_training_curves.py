# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""`utils/studies/study_training_curves.py`: what it trains, what it keeps of the logs, and what it plots."""

import json
from pathlib import Path

import pytest

import study_training_curves as study


def value(command, name):
    return command[command.index(name) + 1]


@pytest.fixture
def trainings(monkeypatch):
    """In the place of trainings: their arguments; each leaves the log of two updates."""
    ran = []

    def train(arguments):
        ran.append(arguments)
        checkpoint = Path(value(arguments, "--output_dir"), f"checkpoint-{value(arguments, '--max_steps')}")
        checkpoint.mkdir(parents=True)
        history = [
            {"step": 1, "loss_t2i": 5.12345, "epoch": 0.1},
            {"step": 2, "eval_loss_t2i": 6.0},
            {"step": 2, "train_loss": 5.0},
        ]
        (checkpoint / "trainer_state.json").write_text(json.dumps({"log_history": history}))

    monkeypatch.setattr(study.train_itit, "main", train)
    return ran


def arguments(folder):
    places = ["--logs", str(folder / "logs.json"), "--images", str(folder), "--output_dir", str(folder / "out")]
    return [*places, "--steps", "2", "--", "--use_cpu", "true"]


def test_each_run_differs_from_the_healthy_one_in_what_makes_it_sick(trainings, tmp_path):
    study.main(arguments(tmp_path))
    healthy, rate, captions, memory = trainings
    assert "--learning_rate" not in healthy and value(rate, "--learning_rate") == "6e-2"
    assert "i2t" in healthy and "i2t" not in captions and "i2t2i" in captions
    assert value(healthy, "--paired_split") == "paired[:1000]" and value(memory, "--paired_split") == "paired[:32]"
    assert len({value(each, "--output_dir") for each in trainings}) == 4
    assert all(each[-2:] == ["--use_cpu", "true"] for each in trainings)


def test_kept_are_the_figures_that_are_plotted_with_four_digits(trainings, tmp_path):
    logs = study.main(arguments(tmp_path))
    assert logs["healthy"] == [{"step": 1, "loss_t2i": 5.123}, {"step": 2, "eval_loss_t2i": 6.0}]
    assert study.curve(logs["healthy"], "eval_loss_t2i") == ([2], [6.0])


def test_a_run_whose_log_is_there_is_not_trained_again(trainings, tmp_path):
    first = study.main(arguments(tmp_path))
    trainings.clear()
    assert study.main(arguments(tmp_path)) == first and trainings == []


def test_without_all_logs_nothing_is_plotted(trainings, tmp_path):
    with pytest.raises(ValueError, match="must hold all runs to be plotted.*lacks.*'healthy'"):
        study.main(["--plot_only", "--logs", str(tmp_path / "logs.json")])
    assert trainings == []
