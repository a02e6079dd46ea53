# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The 14 rows of Table 2, each a recipe of examples/recipes/table2."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import Dataset

from itit_hf import ITITTrainingArguments
from itit_hf.commands import train
from itit_hf.objectives.objectives import OBJECTIVES
from itit_hf.training.training_args import parse_arguments

from ..testing_utils import tiny_pairs, tiny_pipeline

RECIPES = Path(__file__).parents[2] / "examples" / "recipes"
# T2I stands with I2I, which its guidance needs; "." is what the row leaves out.
TABLE_2 = {
    1: "t2i i2i .   .          .            ",
    2: ".   .   i2t .          .            ",
    3: "t2i i2i i2t .          .            ",
    4: "t2i i2i i2t .          .            ",
    5: "t2i i2i i2t t2t        .            ",
    6: "t2i i2i i2t .          i2i_unpaired ",
    7: "t2i i2i i2t t2t        i2i_unpaired ",
    8: "t2i i2i i2t t2i2t_half .            ",
    9: "t2i i2i i2t .          i2t2i_half   ",
    10: "t2i i2i i2t t2i2t_half i2t2i_half   ",
    11: "t2i i2i i2t t2i2t      .            ",
    12: "t2i i2i i2t .          i2t2i        ",
    13: "t2i i2i i2t t2i2t      i2t2i        ",
    14: "t2i i2i i2t t2i2t      i2t2i        ",
}
OBJECTIVES_OF_ROW = {row: [name for name in line.split() if name != "."] for row, line in TABLE_2.items()}


def recipe(row):
    return str(RECIPES / "table2" / f"row{row:02d}.yaml")


def parse(*arguments):
    return parse_arguments([train.ScriptArguments, ITITTrainingArguments], [*arguments, "--use_cpu"])


@pytest.mark.parametrize("row", TABLE_2)
def test_a_recipe_has_the_objectives_of_its_row(row):
    _, args = parse("--config", recipe(row))
    assert sorted(args.objectives) == sorted(OBJECTIVES_OF_ROW[row])
    assert args.output_dir == f"out/table2/row{row:02d}"


def test_the_rows_differ_from_one_base_in_nothing_but_objectives_and_data():
    differing = {"objectives", "output_dir", "paired_split", "image_split", "text_split"}

    def common(path):
        script_args, args = parse("--config", str(path))
        values = (vars(script_args) | vars(args)).items()
        return {k: v for k, v in values if k not in differing and isinstance(v, int | float | str | list | dict)}

    base = common(RECIPES / "emoji_scenes_table2.yaml")
    for row in TABLE_2:
        assert common(recipe(row)) == base, row


def test_row_4_has_more_pairs_and_row_13_reads_its_pairs_as_if_they_were_none():
    splits = {}
    for row in TABLE_2:
        args, _ = parse("--config", recipe(row))
        splits[row] = (args.paired_split, args.image_split, args.text_split)
    few = splits[14][0]
    assert splits.pop(4) == ("paired[:20000]", None, None)
    assert splits.pop(13) == (few, few, few)
    assert set(splits.values()) == {(few, None, None)}


def test_there_is_no_other_recipe():
    names = sorted(path.name for path in (RECIPES / "table2").iterdir())
    assert names == [f"row{row:02d}.yaml" for row in TABLE_2]


def test_with_and_without_cycles_few_pairs_take_as_many_steps_from_the_same_start():
    runs = {}
    for path in (RECIPES / "few_pairs").iterdir():
        script_args, args = parse("--config", str(path))
        assert (args.output_dir, script_args.paired_split) == (f"out/few-pairs/{path.stem}", "paired[:200]")
        rates = (args.learning_rate, args.muon_learning_rate)
        runs[path.stem] = (script_args.model_name_or_path, args.max_steps, rates, args.per_device_train_batch_size)
    assert runs["none"] == runs["cycles"] == ("out/few-pairs/pairs/pipeline/model", 1200, (2e-3, 7e-3), 16)
    assert runs.pop("pairs")[0] is None and len(runs) == 2


def test_the_committed_checkpoints_second_stage_starts_where_its_first_ended():
    stages = {}
    for stage in ("pairs", "full"):
        script_args, args = parse("--config", str(RECIPES / "emoji_scenes" / f"{stage}.yaml"))
        assert (script_args.scenes_num_categories, script_args.paired_split) == (24, "paired[:4000]")
        stages[stage] = (script_args.model_name_or_path, args.objectives, args.output_dir)
    assert stages["pairs"] == (None, ["i2t", "t2i", "i2i"], "out/emoji-scenes/pairs")
    assert stages["full"][:2] == ("out/emoji-scenes/pairs/pipeline/model", [*stages["pairs"][1], "t2i2t", "i2t2i"])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder like that of the emoji scenes: 24 pairs, 8 images without text and 8 sentences without image."""
    folder = tmp_path_factory.mktemp("world")
    pairs = tiny_pairs(24)
    unpaired = pairs.select(range(8)).to_list()
    splits = {
        "paired": pairs,
        "image": Dataset.from_list([row | {"text": []} for row in unpaired], features=pairs.features),
        "text": Dataset.from_list([row | {"image": None} for row in unpaired], features=pairs.features),
        "validation": pairs.select(range(4)),
    }
    files = ""
    for name, rows in splits.items():
        rows.to_parquet(folder / f"{name}.parquet")
        files += f"  - split: {name}\n    path: {name}.parquet\n"
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")
    return str(folder)


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frozen")
    tiny_pipeline().save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def tiny_world(world, monkeypatch):
    monkeypatch.setattr(train, "ensure_emoji_scenes", lambda *_: world)


def streams_of(*arguments):
    args, _ = parse(*arguments)
    return train.load_streams(args, [row.stream for row in OBJECTIVES.values()], tiny_pipeline().processor)


def test_a_part_of_the_emoji_scenes_is_chosen_by_its_split():
    streams, held_out = streams_of("--config", recipe(14), "--paired_split", "paired[:5]", "--text_split", "text[2:4]")
    assert {name: len(rows) for name, rows in streams.items()} == {"paired": 5, "text": 2, "image": 8}
    assert len(held_out) == 4


def test_the_held_out_split_of_the_emoji_scenes_can_be_chosen():
    _, held_out = streams_of("--config", recipe(14), "--eval_split", "validation[:3]")
    assert len(held_out) == 3


def test_row_13_reads_the_images_and_texts_of_its_pairs():
    streams, _ = streams_of("--config", recipe(13))
    assert streams["image"]["image_token_ids"] == streams["paired"]["image_token_ids"]
    assert streams["text"]["text"] == streams["paired"]["text"]


def arguments_of_row(row, steps, frozen, folder, batch_size):
    """Of the one command, with everything tiny."""
    arguments = ["--config", recipe(row), "--frozen_parts", frozen, "--model_name_or_path", f"{frozen}/model"]
    arguments += ["--output_dir", str(folder), "--use_cpu", "--disable_tqdm", "true", "--logging_steps", "1"]
    arguments += ["--max_steps", str(steps), "--save_steps", str(steps), "--sample_steps", "0"]
    for stream in ("train", "image", "text"):
        arguments += [f"--per_device_{stream}_batch_size", str(batch_size)]
    arguments += ["--t2i_batch_fraction", "1", "--i2t_batch_fraction", "1", "--i2i_batch_fraction", "1"]
    arguments += ["--synthesis_steps", "2", "--synthesis_max_new_tokens", "4", "--sample_inference_steps", "2"]
    return arguments


def log_of(folder, steps):
    """The losses of each step by name."""
    with open(folder / f"checkpoint-{steps}" / "trainer_state.json") as file:
        log = [entry for entry in json.load(file)["log_history"] if "loss" in entry]
    return [{name: value for name, value in entry.items() if name.startswith("loss")} for entry in log]


def check_row(row, steps, frozen, folder):
    train.main(arguments_of_row(row, steps, frozen, folder, batch_size=4))
    log = log_of(folder, steps)
    assert len(log) == steps
    for losses in log:
        assert losses.keys() == {"loss", *(f"loss_{name}" for name in OBJECTIVES_OF_ROW[row])}
        assert all(math.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize("row", [3, 10, 14])
def test_a_row_trains(row, frozen, tmp_path):
    check_row(row, 2, frozen, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("row", TABLE_2)
def test_each_row_trains_for_twenty_steps(row, frozen, tmp_path):
    check_row(row, 20, frozen, tmp_path)


@pytest.mark.slow
def test_the_one_command_trains_in_two_processes_as_in_one(frozen, world, tmp_path):
    train.main(arguments_of_row(14, 2, frozen, tmp_path / "one", batch_size=4))
    # `accelerate launch --cpu --num_processes 2` starts a single process; the configuration file starts two.
    config = str(RECIPES.parent / "accelerate_configs" / "cpu_2_processes.yaml")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config, "--main_process_port", "0"]
    command += [str(RECIPES.parent / "train.py"), *arguments_of_row(14, 2, frozen, tmp_path / "two", batch_size=2)]
    for name in ("paired", "image", "text"):
        command += [f"--{name}_dataset", world, f"--{name}_split", name]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "two" / "checkpoint-2" / "rng_state-1.safetensors").is_file()  # one for each process
    for ours, theirs in zip(log_of(tmp_path / "two", 2), log_of(tmp_path / "one", 2), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)  # the log rounds
