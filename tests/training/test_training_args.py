# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import logging

import pytest
import yaml

from itit_hf import ITITTrainingArguments
from itit_hf.masking import MaskRatio
from itit_hf.training.training_args import parse_arguments


def test_defaults_are_table_3(tmp_path):
    args = ITITTrainingArguments(str(tmp_path), use_cpu=True)
    assert (args.optim, args.learning_rate, args.lr_scheduler_type) == ("adafactor", 1e-4, "cosine")
    assert (args.warmup_steps, args.max_steps, args.weight_decay) == (5000, 1_500_000, 0.045)
    assert (args.adam_beta1, args.adam_beta2, args.max_grad_norm) == (0.9, 0.96, 3.0)


def test_the_saved_model_keeps_keys_and_values_while_it_describes(tmp_path):
    args = ITITTrainingArguments(str(tmp_path), use_cpu=True)
    assert args.use_cache  # the Trainer writes it into the configuration


def test_the_losses_defaults_are_the_papers(tmp_path):
    settings = ITITTrainingArguments(str(tmp_path), use_cpu=True, seed=7).objective_settings()
    assert settings.t2i_mask_ratio == MaskRatio(0.75, 0.25, 0.5, 1.0)
    assert settings.i2t_mask_ratio == MaskRatio(0.75, 0.25, 0.5, 0.75)
    assert (settings.i2i_mask_ratio, settings.text_gradient_scale, settings.label_smoothing) == (None, 0.1, 0.1)
    assert settings.seed == 7


def test_a_seed_of_the_data_may_be_zero(tmp_path):
    seeds = [ITITTrainingArguments(str(tmp_path), use_cpu=True, seed=7, data_seed=each) for each in (None, 0, 3)]
    assert [each.data_seed_or_seed for each in seeds] == [7, 0, 3]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"max_steps": 0}, "`max_steps` must be at least 1"),
        ({"ema_decay": 1.0}, r"`ema_decay` must be in \[0, 1\)"),
        ({"loss_weights": {"i2t2t": 0.5}}, "`loss_weights` must name some of .* got \\['i2t2t'\\]"),
        ({"ignore_data_skip": False}, "`ignore_data_skip` must be on"),
        ({"enable_jit_checkpoint": True}, "`enable_jit_checkpoint` must be off"),
        ({"max_skipped_steps": -1}, "`max_skipped_steps` must be 0 or more, got -1"),
        ({"allow_partial_resume": ["optimiser"]}, "`allow_partial_resume` must name some of .*, got .'optimiser'."),
        ({"gradient_norm_steps": -1}, "`gradient_norm_steps` must be 0 or more, got -1"),
        ({"t2i_mask_ratio": [0.5, 0.5]}, "`t2i_mask_ratio` must be four numbers"),
        ({"i2t_mask_ratio": [0.5, 0.1, 0.9, 0.2]}, "`i2t_mask_ratio` is mean, std, low and high, got .*low <= high"),
        ({"objectives": ["i2t", "t2ii"]}, "`objectives` must be one or more of .*, each once, got .*'t2ii'.$"),
        ({"objectives": ["i2t,i2i"]}, "`objectives` must be .* got .'i2t,i2i'.; put spaces between them"),
        ({"objectives": []}, "`objectives` must be one or more of"),
        ({"objectives": ["i2i", "i2i"]}, "`objectives` must be .* each once"),
        ({"loss_weights": {"i2t": "much"}}, "`loss_weights` must be numbers, got 'much' for i2t"),
        ({"loss_weights": "i2t=2"}, "`loss_weights` must be a mapping such as"),
        ({"per_device_eval_batch_size": 0}, "`per_device_eval_batch_size` must be at least 1, got 0"),
        ({"per_device_text_batch_size": 0}, "`per_device_text_batch_size` must be at least 1, got 0"),
        ({"gradient_accumulation_steps": 0}, "`gradient_accumulation_steps` must be at least 1, got 0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be 0 or more, got nan"),
        ({"t2i_batch_fraction": 1.5}, "`t2i_batch_fraction` must be above 0 and at most 1, got 1.5"),
        ({"adam_beta2": 1.0}, "`adam_beta2` must be in .0, 1., got 1.0"),
        ({"on_bad_image": "ignore"}, "`on_bad_image` must be one of .*, got 'ignore'"),
    ],
)
def test_settings_that_cannot_be_are_named(tmp_path, bad, message):
    with pytest.raises(ValueError, match=message):
        ITITTrainingArguments(str(tmp_path), use_cpu=True, **bad)


def test_a_recipe_may_weigh_objectives_that_a_run_does_not_train(tmp_path):
    args = ITITTrainingArguments(str(tmp_path), use_cpu=True, objectives=["t2i"], loss_weights={"i2i": 0.25})
    assert args.loss_weights == {"i2i": 0.25}


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"output_dir: {tmp_path}\nlearning_rate: 1.0e-3\nobjectives: [t2i]\nuse_cpu: true\n")
    return str(path)


def test_flags_override_the_recipe(recipe):
    (args,) = parse_arguments([ITITTrainingArguments], ["--config", recipe, "--learning_rate", "5e-4"])
    assert (args.learning_rate, args.objectives) == (5e-4, ["t2i"])


def test_a_recipe_can_be_the_default(recipe):
    (args,) = parse_arguments([ITITTrainingArguments], [], default_config=recipe)
    assert args.learning_rate == 1e-3 and args.resume_from_checkpoint is None


@pytest.mark.parametrize("words", [[], ["last"], ["latest"], ["True"], ["LAST"]])
def test_resuming_without_a_name_means_the_last_checkpoint(recipe, words):
    (args,) = parse_arguments([ITITTrainingArguments], ["--config", recipe, "--resume_from_checkpoint", *words])
    assert args.resume_from_checkpoint == "last"


@pytest.mark.parametrize(("value", "wanted"), [("true", "last"), ("false", None), ("out/a", "out/a"), ("null", None)])
def test_a_recipe_says_whether_to_resume(recipe, value, wanted):
    with open(recipe, "a") as file:
        file.write(f"resume_from_checkpoint: {value}\n")
    (args,) = parse_arguments([ITITTrainingArguments], ["--config", recipe])
    assert args.resume_from_checkpoint == wanted


def test_bfloat16_on_a_processor_that_emulates_it_is_warned(tmp_path, monkeypatch, caplog):
    logging.getLogger("itit_hf").propagate = True
    for has, wanted in ((True, 0), (False, 1)):
        caplog.clear()
        monkeypatch.setattr("itit_hf.training.training_args.cpu_multiplies_bfloat16", lambda has=has: has)
        ITITTrainingArguments(str(tmp_path), use_cpu=True, bf16=True)
        assert caplog.text.count("`bf16`: this CPU does not multiply bfloat16") == wanted


def test_a_recipe_with_an_unknown_name_is_refused(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("lerning_rate: 1.0\n")
    with pytest.raises(ValueError, match="names arguments that do not exist: .'lerning_rate'."):
        parse_arguments([ITITTrainingArguments], ["--config", str(path)])


def write(path, **values):
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(values))
    return str(path)


def test_a_recipe_builds_upon_others_and_says_what_differs(tmp_path):
    write(tmp_path / "first.yaml", output_dir="first", learning_rate=1e-3, max_steps=10, use_cpu=True)
    write(tmp_path / "table" / "second.yaml", base="../first.yaml", output_dir="second", max_steps=20)
    third = write(tmp_path / "table" / "third.yaml", base="second.yaml", output_dir="third")
    (args,) = parse_arguments([ITITTrainingArguments], ["--config", third, "--seed", "7"])
    assert (args.output_dir, args.max_steps, args.learning_rate, args.seed) == ("third", 20, 1e-3, 7)


def test_recipes_that_build_upon_each_other_are_refused(tmp_path):
    a = write(tmp_path / "a.yaml", base="b.yaml")
    write(tmp_path / "b.yaml", base="a.yaml")
    with pytest.raises(ValueError, match="must not build upon itself, got .*a.yaml -> .*b.yaml -> .*a.yaml"):
        parse_arguments([ITITTrainingArguments], ["--config", a])


def test_an_unknown_name_is_blamed_on_the_recipe_that_has_it(tmp_path):
    write(tmp_path / "bad.yaml", lerning_rate=1.0)
    good = write(tmp_path / "good.yaml", base="bad.yaml", learning_rate=1.0)
    with pytest.raises(ValueError, match="bad.yaml` names arguments that do not exist: .'lerning_rate'."):
        parse_arguments([ITITTrainingArguments], ["--config", good])


def test_a_recipe_that_holds_no_names_is_refused(tmp_path):
    path = tmp_path / "list.yaml"
    path.write_text("- learning_rate\n- 1.0\n")
    with pytest.raises(ValueError, match="list.yaml` must hold lines `name: value`, got a list"):
        parse_arguments([ITITTrainingArguments], ["--config", str(path)])


def test_an_empty_name_means_no_recipe_at_all(recipe, tmp_path):
    flags = ["--config", "", "--output_dir", str(tmp_path), "--use_cpu"]
    (args,) = parse_arguments([ITITTrainingArguments], flags, default_config=recipe)
    assert args.learning_rate == 1e-4
