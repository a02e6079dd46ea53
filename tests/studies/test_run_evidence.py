# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import shlex
from argparse import Namespace
from pathlib import Path

import pytest
from datasets import Dataset, load_dataset

import build_emoji_scenes
import run_evidence
import shuffle_captions
from run_evidence import STAGES, Stage, is_done, run, words

from ..testing_utils import script

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", STAGES)
def test_commands_name_scripts_that_are_there_and_options_that_they_have(name):
    stage = STAGES[name]()
    for command in map(shlex.split, stage.commands):
        path, *arguments = command
        if path == "utils/build_emoji_scenes.py":
            assert build_emoji_scenes.parse_args(arguments).styles == ["noto"]
            continue
        source = (ROOT / path).read_text(encoding="utf-8")
        own = arguments[: arguments.index("--")] if "--" in arguments else arguments
        assert all(f'"{word}"' in source for word in own if word.startswith("--"))
        if path == "examples/table2.py":
            options = script("table2").parse(arguments)
            assert set(options.train_arguments[::2]) <= {
                "--paired_dataset", "--paired_split", "--image_dataset", "--image_split", "--text_dataset",
                "--text_split", "--scenes_folder", "--dropout",
            }  # fmt: skip
    assert stage.hours > 0


@pytest.mark.parametrize("name", STAGES)
def test_every_figure_that_is_kept_is_written_by_a_command_of_the_stage(name):
    stage = STAGES[name]()
    for source in stage.results.values():
        folder = source.removesuffix("/results.json")
        assert any(folder in shlex.split(command) for command in stage.commands), source


def test_arguments_of_the_trainings_stand_last_and_go_to_no_other_script():
    assert words("examples/table2.py --rows 3 -- --dropout 0.0", ["--bf16", "true"]) == [
        "examples/table2.py", "--rows", "3", "--", "--dropout", "0.0", "--bf16", "true",
    ]  # fmt: skip
    assert words("examples/table2.py --rows 3", ["--bf16"]) == ["examples/table2.py", "--rows", "3", "--", "--bf16"]
    assert words("examples/table2.py --rows 3", []) == ["examples/table2.py", "--rows", "3"]
    assert words("utils/studies/study_drift.py --rounds 4", ["--bf16"])[-1] == "4"


def test_a_stage_builds_once_trains_by_itself_and_copies_its_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(run_evidence, "ROOT", tmp_path)
    ran = []

    def finish(command, check, cwd):
        ran.append(command[1:])
        (tmp_path / "world").mkdir(exist_ok=True)
        (tmp_path / "figures.json").write_text("{}")

    monkeypatch.setattr(run_evidence.subprocess, "run", finish)
    commands = ("utils/build_emoji_scenes.py --output world", "examples/table2.py --rows 3")
    stage = Stage("?", commands, {"kept.json": "figures.json"}, 1.0)
    options = Namespace(training_arguments=[], figures=str(tmp_path / "kept"))
    run(stage, options)
    run(stage, options)
    build, train = map(shlex.split, commands)
    assert ran == [build, train, train] and is_done(build) and not is_done(train)
    assert (tmp_path / "kept" / "kept.json").read_text() == "{}"


def test_poor_captions_are_those_of_other_images_and_say_so(tmp_path, monkeypatch):
    rows = Dataset.from_dict({"image": [f"{n}.png" for n in range(10)], "text": [[f"text {n}"] for n in range(10)]})
    monkeypatch.setattr(shuffle_captions, "load_rows", lambda *names: rows)
    arguments = ["--dataset", "any", "--wrong_share", "0.3", "--output", str(tmp_path / "poor")]
    shuffle_captions.main(arguments)
    written = load_dataset("parquet", data_dir=str(tmp_path / "poor"), cache_dir=str(tmp_path), split="paired")
    right = [
        text == f"text {image.split('.')[0]}" for image, text in zip(written["image"], written["text"], strict=True)
    ]
    assert right == list(written["is_clean"]) and right.count(False) == 3
    with pytest.raises(ValueError, match="must be a new folder"):
        shuffle_captions.main(arguments)
    with pytest.raises(ValueError, match="from 0 to 1, got 1.5"):
        shuffle_captions.main([*arguments[:-1], str(tmp_path / "other"), "--wrong_share", "1.5"])
