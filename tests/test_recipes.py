# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The recipes of examples/train_itit.py: their arguments exist, and each stage goes on from one that is there."""

import re
from functools import cache
from pathlib import Path

import pytest

from itit_hf import ITITRewardConfig, ITITTrainingArguments
from itit_hf.training_args import parse_arguments

from .examples.test_examples import script

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "examples" / "recipes"
OF_OTHER_SCRIPTS = {"emoji_scenes/dual_encoder.yaml", "lora_twenty_pictures.yaml"}
OF_OTHER_SCRIPTS |= {f"rewards/{name}.yaml" for name in ("cider_d", "clip_image", "without_pairs")}
NAMES = [path.relative_to(RECIPES).as_posix() for path in sorted(RECIPES.rglob("*.yaml"))]
NAMES = [name for name in NAMES if name not in OF_OTHER_SCRIPTS]


@cache
def parsed(name):
    arguments = script("train_itit").ScriptArguments
    return parse_arguments([arguments, ITITTrainingArguments], ["--config", str(RECIPES / name), "--use_cpu"])


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_has_arguments_that_exist_and_a_folder_of_its_own(name):
    _, training_args = parsed(name)
    others = [parsed(other)[1].output_dir for other in NAMES if other != name]
    assert training_args.output_dir.startswith("out/") and training_args.output_dir not in others


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_starts_from_weights_that_another_recipe_or_command_writes(name):
    start = parsed(name)[0].model_name_or_path
    if start is None:
        return
    trained = {f"{parsed(other)[1].output_dir}/pipeline/model" for other in NAMES}
    commands = (RECIPES / name).read_text(encoding="utf-8")
    adapted = {f"{folder}/model" for folder in re.findall(r"--output_dir (\S+)", commands)}
    assert start in trained | adapted | {"out/rewards/start/pipeline/model"}  # see rewards/cider_d.yaml


def test_the_control_of_the_image_reward_differs_by_the_reward_alone(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    recipes = [RECIPES / "rewards" / f"{name}.yaml" for name in ("clip_image_control", "clip_image")]
    arguments = script("train_rewards").RewardArguments
    control, rewarded = (
        parse_arguments([arguments, ITITRewardConfig], ["--config", str(recipe), "--use_cpu"])[1].to_dict()
        for recipe in recipes
    )
    assert {name for name in control if control[name] != rewarded[name]} <= {"output_dir", "direction", "ce_interval"}
