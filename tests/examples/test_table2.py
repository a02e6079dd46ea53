# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""`examples/table2.py`: what it runs, what it does not run again, and how it sums up."""

import json
from pathlib import Path

import pytest

from ..testing_utils import script

table2 = script("table2")

SHARES = {"caption_both": 0.5, "generated_both": 0.25, "generated_true_and_new": 0.25}


@pytest.fixture
def commands(monkeypatch):
    """In the place of trainings and judges: what was to be run; each leaves the files of a finished one."""
    ran = []

    def run(command, check, cwd):
        ran.append(command)
        at = {key: command[command.index(key) + 1] for key in ("--output_dir", "--output") if key in command}
        if "--output_dir" in at:
            folder = Path(at["--output_dir"])
            (folder / "pipeline").mkdir(parents=True)
            (folder / "pipeline" / "model_index.json").write_text("{}")
            (folder / "eval_results.json").write_text('{"eval_loss_t2i": 2.0}')  # a row without image to text
        else:
            results = {split: {"shares": SHARES} for split in ("validation", "heldout")}
            Path(at["--output"]).write_text(json.dumps({"results": results}))

    monkeypatch.setattr(table2.subprocess, "run", run)
    return ran


def value(command, name):
    return command[command.index(name) + 1]


def test_all_rows_of_a_seed_start_from_the_same_weights(commands, tmp_path):
    table2.main(["--rows", "3", "14", "--seeds", "5", "--output_dir", str(tmp_path)])
    start, row3, _, row14, _ = commands
    assert "row03.yaml" in value(start, "--config") and value(start, "--max_steps") == "1200"
    assert "row14.yaml" in value(row14, "--config") and value(row14, "--max_steps") == "1800"
    assert value(row14, "--eval_split") == "validation"
    weights = str(tmp_path / "start-row03-seed5" / "pipeline" / "model")
    assert value(row3, "--model_name_or_path") == value(row14, "--model_name_or_path") == weights
    assert {value(command, "--seed") for command in (start, row3, row14)} == {"5"}


def test_what_is_finished_is_not_run_again(commands, tmp_path):
    arguments = ["--rows", "3", "--seeds", "0", "--output_dir", str(tmp_path)]
    first = table2.main(arguments)
    commands.clear()
    assert table2.main(arguments) == first and commands == []


def test_each_row_goes_on_from_its_own_run_of_an_earlier_table(commands, tmp_path):
    arguments = ["--rows", "3", "14", "--seeds", "5"]
    table2.main([*arguments, "--output_dir", str(tmp_path / "first")])
    commands.clear()
    longer = ["--go_on_from", str(tmp_path / "first"), "--output_dir", str(tmp_path / "longer")]
    table2.main([*arguments, *longer])
    row3, _, row14, _ = commands
    weights = [str(tmp_path / "first" / f"{row}-seed5" / "pipeline" / "model") for row in ("row03", "row14")]
    assert [value(row, "--model_name_or_path") for row in (row3, row14)] == weights


def test_going_on_from_a_table_that_lacks_a_run_is_refused_before_any_training(commands, tmp_path):
    table2.main(["--rows", "3", "--seeds", "0", "--output_dir", str(tmp_path)])
    commands.clear()
    with pytest.raises(ValueError, match="--go_on_from.*lacks.*row03-seed1"):
        table2.main(["--rows", "3", "--seeds", "0", "1", "--go_on_from", str(tmp_path), "--output_dir", "unused"])
    assert commands == []


def test_a_number_of_pairs_goes_to_training_and_judge(commands, tmp_path):
    table2.main(["--rows", "14", "--seeds", "0", "--pairs", "60", "--start_steps", "0", "--output_dir", str(tmp_path)])
    training, judge = commands
    assert value(training, "--paired_split") == value(judge, "--copies_of") == "paired[:60]"
    assert "--model_name_or_path" not in training


def test_what_follows_two_dashes_goes_to_the_trainings(commands, tmp_path):
    table2.main(["--rows", "3", "--seeds", "0", "--output_dir", str(tmp_path), "--", "--use_cpu", "--dropout", "0"])
    start, row, judge = commands
    assert start[-3:] == row[-3:] == ["--use_cpu", "--dropout", "0"] and "--dropout" not in judge


def run_of(seed, captions, row=3, pairs=None):
    figures = dict.fromkeys(table2.COLUMNS, 0.5) | {"captions": captions, "i2t loss": None}
    return {"row": row, "seed": seed, "pairs": pairs, "figures": figures}


def test_the_table_has_mean_and_range_over_the_seeds_and_the_papers_figures():
    line = table2.table([run_of(0, 0.2), run_of(1, 0.3), run_of(2, 0.7)]).splitlines()[2]
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells[:4] == ["3", "recipe's", "3", "0.400 (0.200 to 0.700)"]
    assert cells[-1] == "FID 15.7, CIDEr 23.5"


def test_a_column_that_a_row_has_not_is_empty():
    figures = table2.summarise([run_of(0, 0.2)])[3, None]
    assert figures["i2t loss"] is None and figures["captions"] == (0.2, 0.2, 0.2)


def plotted(monkeypatch, tmp_path, runs):
    """Axes of the figure, by title."""
    monkeypatch.setattr(table2.plt, "close", lambda figure: None)
    table2.plot(runs, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000
    return {axis.get_title(): axis for axis in table2.plt.gcf().axes}


def test_the_figure_shows_each_seed_and_the_mean_over_the_rows(monkeypatch, tmp_path):
    axes = plotted(monkeypatch, tmp_path, [run_of(0, 0.2), run_of(1, 0.4), run_of(0, 0.7, row=14)])
    means, dots = axes["captions"].lines
    assert list(means.get_ydata()) == [pytest.approx(0.3), 0.7]
    assert list(dots.get_xdata()) == [0, 0, 1] and list(dots.get_ydata()) == [0.2, 0.4, 0.7]
    assert [tick.get_text() for tick in axes["captions"].get_xticklabels()] == ["3\nnone", "14\nfull cycles"]
    assert not list(axes["i2t loss"].lines[1].get_ydata())  # no row has it


def test_the_figure_has_a_line_for_each_row_over_the_number_of_pairs(monkeypatch, tmp_path):
    runs = [run_of(0, 0.4, pairs=200), run_of(0, 0.2, pairs=60), run_of(0, 0.6, row=14, pairs=60)]
    axes = plotted(monkeypatch, tmp_path, runs)
    first, _, second, _ = axes["captions"].lines
    assert list(first.get_xdata()) == [60, 200] and list(first.get_ydata()) == [0.2, 0.4]
    assert list(second.get_xdata()) == [60] and second.get_label() == "14\nfull cycles"
