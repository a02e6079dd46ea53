# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""How recipes are read; and those of examples/train_itit.py: their arguments exist, and each stage goes on from one
that is there."""

import re
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Literal

import pytest

from itit_hf import ITITRewardConfig, ITITTrainingArguments
from itit_hf.commands.train import ScriptArguments
from itit_hf.training.recipes import argument_types, read_recipe
from itit_hf.training.training_args import parse_arguments

from ..testing_utils import script

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "examples" / "recipes"
OF_OTHER_SCRIPTS = {"emoji_scenes/dual_encoder.yaml", "lora_twenty_images.yaml", "lora_with_prior.yaml"}
OF_OTHER_SCRIPTS |= {"image_tokenizer/art_codes.yaml", "image_tokenizer/art_decoder.yaml"}
OF_OTHER_SCRIPTS |= {f"rewards/{name}.yaml" for name in ("cider_d", "clip_image", "without_pairs")}
NAMES = [path.relative_to(RECIPES).as_posix() for path in sorted(RECIPES.rglob("*.yaml"))]
NAMES = [name for name in NAMES if name not in OF_OTHER_SCRIPTS]


@cache
def parsed(name):
    return parse_arguments([ScriptArguments, ITITTrainingArguments], ["--config", str(RECIPES / name), "--use_cpu"])


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


def test_the_recipes_of_the_art_image_tokenizer_have_arguments_of_their_script_and_follow_each_other():
    module = script("train_vq")
    types = [module.ScriptArguments, module.VQTrainingArguments]
    recipes = [str(RECIPES / "image_tokenizer" / f"art_{stage}.yaml") for stage in ("codes", "decoder")]
    codes, decoder = (parse_arguments(types, ["--config", recipe, "--use_cpu"]) for recipe in recipes)
    assert codes[0].splits == decoder[0].splits == ["train"]
    assert decoder[0].model_name_or_path == codes[1].output_dir == "out/image_tokenizer_art/codes"
    assert decoder[1].train_decoder_only and not codes[1].train_decoder_only


def test_the_control_of_the_image_reward_differs_by_the_reward_alone(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    recipes = [RECIPES / "rewards" / f"{name}.yaml" for name in ("clip_image_control", "clip_image")]
    arguments = script("train_rewards").RewardArguments
    control, rewarded = (
        parse_arguments([arguments, ITITRewardConfig], ["--config", str(recipe), "--use_cpu"])[1].to_dict()
        for recipe in recipes
    )
    assert {name for name in control if control[name] != rewarded[name]} <= {"output_dir", "direction", "ce_interval"}


def test_the_papers_recipe_has_its_five_losses_on_2048_samples():
    _, args = parsed("paper/base.yaml")
    assert set(args.objectives) == {"t2i", "i2t", "i2i", "t2i2t", "i2t2i"} and args.loss_weights == {}
    counts = (args.per_device_train_batch_size, args.per_device_image_batch_size, args.per_device_text_batch_size)
    assert [64 * count for count in counts] == [512 + 512, 512, 512]
    assert (args.t2i_batch_fraction, args.i2t_batch_fraction, args.i2i_mask_ratio) == (
        0.5,
        0.5,
        None,
    )  # i2i shares the pass of i2t
    table_3 = ITITTrainingArguments(args.output_dir, use_cpu=True)
    names = ("optim", "learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "max_steps")
    names += ("adam_beta1", "adam_beta2", "max_grad_norm", "t2i_mask_ratio", "i2t_mask_ratio", "label_smoothing")
    assert all(getattr(args, name) == getattr(table_3, name) for name in names)


class Colour(Enum):
    RED = "red"


@dataclass
class Arguments:
    name: str
    rate: float = 0.1
    steps: int = 3
    maybe: int | None = None
    fast: bool = False
    words: list[str] = field(default_factory=list)
    shares: list[float] | None = None
    weights: dict[str, float] | str | None = None
    table: dict[str, list[int]] = field(default_factory=dict)
    kind: Literal["a", "b"] = "a"
    colour: Colour = Colour.RED
    anything: dict | list | None = None


def values(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return read_recipe(str(path), argument_types([Arguments]))


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("rate: 1e-3", 1e-3),  # a string to YAML
        ("rate: '0.5'", 0.5),
        ("rate: 2", 2),
        ("steps: 1e4", 10_000),
        ("steps: 20.0", 20),
        ("maybe: null", None),
        ("fast: 'true'", True),
        ("fast: no", False),
        ("words: []", []),
        ("words: [a red bus, a fish]", ["a red bus", "a fish"]),
        ("shares: [1, 0.5, 1e-1]", [1, 0.5, 0.1]),
        ("shares: null", None),
        ("weights: {t2i: 0.5}", {"t2i": 0.5}),
        ("weights: '{\"t2i\": 0.5}'", '{"t2i": 0.5}'),
        ("table: {x: [1, 2]}", {"x": [1, 2]}),
        ("kind: b", "b"),
        ("colour: red", "red"),
        ("anything: [{a: 1}]", [{"a": 1}]),
        ("name: 'on'", "on"),
    ],
)
def test_a_value_of_the_right_type_is_read_as_it(tmp_path, line, wanted):
    (value,) = values(tmp_path, line).values()
    assert value == wanted and type(value) is type(wanted)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("words: a red bus", "`words` must be a list, such as .a, b., each of it a string, got 'a red bus'"),
        ("words: {a: b}", "`words` must be a list"),
        ("words: [a, 3]", "`words` must be .* a string, got .'a', 3.: put it in quotes"),
        ("words: [[a], [b]]", "`words` must be"),
        ("words: null", "`words` must be a list"),
        ("shares: 0.5", "`shares` must be .* or null, got 0.5"),
        ("shares: [0.5, half]", "`shares` must be .* a number.* got .0.5, 'half'."),
        ("rate: fast", "`rate` must be a number, got 'fast'"),
        ("rate: true", "`rate` must be a number, got True"),
        ("rate: [0.1]", "`rate` must be a number, got .0.1."),
        ("rate: null", "`rate` must be a number, got None"),
        ("steps: 2.5", "`steps` must be a whole number, got 2.5"),
        ("steps: .inf", "`steps` must be a whole number, got inf"),
        ("steps: yes", "`steps` must be a whole number, got True"),
        ("maybe: ten", "`maybe` must be a whole number or null, got 'ten'"),
        ("fast: 1", "`fast` must be true or false, got 1"),
        ("fast: maybe", "`fast` must be true or false, got 'maybe'"),
        ("name: no", "`name` must be a string, got False: YAML reads a bare yes, no, .* put it in quotes"),
        ("name: 7", "`name` must be a string, got 7: put it in quotes"),
        ("name: {a: b}", "`name` must be a string"),
        ("weights: [t2i, 0.5]", "`weights` must be a mapping.* or a string or null"),
        ("weights: {t2i: much}", "`weights` must be"),
        ("table: {x: 1}", "`table` must be a mapping"),
        ("kind: c", "`kind` must be one of .'a', 'b'., got 'c'"),
        ("colour: blue", "`colour` must be one of .'red'., got 'blue'"),
        ("anything: 3", "`anything` must be"),
        ("base: [a.yaml]", "`base` must be the name of a recipe"),
        ("base: other.yaml", "builds upon"),
        ("rate: [0.1", "is no YAML"),
        ("3: 4", "names arguments that do not exist: .'3'."),
    ],
)
def test_a_value_of_another_type_is_refused_with_file_and_argument(tmp_path, line, message):
    with pytest.raises(ValueError, match=f"recipe.yaml.*{message}"):
        values(tmp_path, line)


def test_a_recipe_may_begin_with_a_byte_order_mark(tmp_path):
    assert values(tmp_path, "\ufeffsteps: 7") == {"steps": 7}
