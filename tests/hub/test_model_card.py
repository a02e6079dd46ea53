# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from transformers import TrainingArguments

from itit_hf.hub.model_card import (
    NOT_RECORDED,
    ModelFacts,
    StreamFacts,
    changed_settings,
    eval_results,
    loss_results,
    model_card,
    training_facts,
)
from itit_hf.training.training_args import ITITTrainingArguments

TEMPLATE = Path(__file__).parents[2] / "model_cards" / "template.md"


def headings(text):
    return [line for line in text.splitlines() if line.startswith("## ")]


def row(card, name):
    """Cells of the row of a table that starts so."""
    lines = [line for line in card.splitlines() if line.startswith(f"| {name} |")]
    assert len(lines) == 1, f"{name}: {lines}"
    return [cell.strip() for cell in lines[0].strip("|").split("|")][1:]


@pytest.fixture
def evaluation():
    def figures(*values):
        names = ("caption_both", "generated_category", "rendered_category", "generated_then_captioned_category")
        shares = dict(zip(names, values, strict=True))
        return {"num_scenes": 200, "shares": shares, "intervals": {name: [0.1, 0.9] for name in names}}

    settings = {"model": "/home/someone/out/mine", "dataset": "/data/scenes", "seed": 3, "num_beams": 4}
    return {
        "settings": settings | {"temperature": None, "output": "figures.json"},
        "versions": {"torch": "2.13.0"},
        "results": {"validation": figures(0.67, 0.155, 1.0, 0.5), "heldout": figures(0.16, 0.035, 0.99, 0.4)},
    }


@pytest.fixture
def facts(evaluation):
    return ModelFacts(
        "mine",
        description="Draws scenes of one thing at 64 x 64 pixels and describes them.",
        licence="apache-2.0",
        location="out/mine/pipeline",
        prompt='a "red" bus',
        streams=[StreamFacts("paired", 40_000, "emoji-scenes-64, split paired", "apache-2.0")],
        held_out="19 category-colour pairs",
        command="accelerate launch examples/train_itit.py --max_steps 4000",
        settings={"learning_rate": 0.001, "t2i_mask_ratio": [0.75, 0.25, 0.5, 1.0]},
        objectives=["t2i", "i2t"],
        steps=4000,
        batch_size=32,
        seed=0,
        parameters={"model": 4_300_000},
        frozen_parts={"text encoder": "checkpoints/emoji-scenes-64"},
        seconds=3300.0,
        device="cpu",
        num_processes=2,
        losses={"loss_t2i": 3.25, "eval_loss_t2i": 3.5},
        evaluation=evaluation,
        limitations="It draws lumps.",
        versions={"torch": "2.13.0"},
    )


def test_a_card_has_the_sections_of_the_template(facts):
    assert headings(model_card(facts)) == headings(model_card(ModelFacts("mine"))) == headings(TEMPLATE.read_text())


def test_the_front_matter_has_the_names_of_the_template(facts):
    template, data = ModelCard.load(TEMPLATE).data, ModelCard(model_card(facts)).data
    for name in ("library_name", "pipeline_tag", "tags"):
        assert getattr(data, name) == getattr(template, name)
    assert data.license == "apache-2.0" and data.model_name == "mine"


def test_a_card_tells_each_fact(facts):
    card = model_card(facts)
    assert NOT_RECORDED not in card and "Not recorded" not in card
    assert row(card, "paired") == ["40,000", "emoji-scenes-64, split paired", "apache-2.0"]
    assert row(card, "cost") == ["3,300 s on 2 x cpu: 6,600 device-seconds"]
    assert row(card, "updates") == ["4,000"] and row(card, "seed") == ["0"]
    assert row(card, "parameters, model") == ["4,300,000"] and row(card, "last eval_loss_t2i") == ["3.5"]
    assert row(card, "text encoder") == ["checkpoints/emoji-scenes-64"]
    assert 'pipe("a \\"red\\" bus")' in card and '"out/mine/pipeline"' in card
    assert "learning_rate: 0.001\nt2i_mask_ratio:\n- 0.75\n" in card
    assert facts.command in card and facts.limitations in card and facts.held_out in card


def test_what_is_not_known_is_named_and_nothing_is_made_up():
    card = model_card(ModelFacts("mine", streams=[StreamFacts("paired", 7)]))
    assert ModelCard(card).data.get("license") is None and "model-index" not in card
    named = card.split("Not recorded: ")[1].split(".\n")[0].split(", ")
    assert {"licence", "evaluation", "seconds", "limitations", "source of the stream paired"} <= set(named)
    assert "name" not in named and "streams" not in named
    assert row(card, "paired") == ["7", NOT_RECORDED, NOT_RECORDED] and row(card, "cost") == [NOT_RECORDED]
    for title in ("What it does, in numbers", "What it gets wrong"):
        assert f"## {title}\n\n{NOT_RECORDED}\n" in card


@pytest.mark.parametrize(("name", "empty"), [("licence", None), ("losses", {}), ("objectives", []), ("prompt", "")])
def test_each_empty_fact_is_missing(facts, name, empty):
    assert facts.missing == [] and replace(facts, **{name: empty}).missing == [name]


def test_seed_0_and_settings_as_they_come_are_facts(facts):
    assert replace(facts, seed=0, settings={}).missing == []
    assert "All settings are the defaults" in model_card(replace(facts, settings={}))


def test_the_settings_of_a_card_are_a_recipe(facts, tmp_path):
    settings = {"learning_rate": 1e-5, "objectives": ["t2i"], "loss_weights": {"t2i": 0.5}, "optim": "adamw_torch"}
    block = model_card(replace(facts, settings=settings)).split("```yaml\n")[1].split("```")[0]
    assert yaml.safe_load(block) == settings


def test_the_hub_is_shown_what_the_model_gets_right_and_no_ceiling(evaluation):
    results = eval_results(evaluation)
    told = {(each.dataset_split, each.task_type, each.metric_name): each.metric_value for each in results}
    assert told == {
        ("validation", "image-to-text", "caption: both"): 0.67,
        ("validation", "text-to-image", "generated: category"): 0.155,
        ("heldout", "image-to-text", "caption: both"): 0.16,
        ("heldout", "text-to-image", "generated: category"): 0.035,
    }
    assert {each.dataset_name for each in results} == {"scenes"}


def test_losses_on_held_out_pairs_are_told_by_objective_and_others_are_not():
    results = loss_results({"loss_t2i": 1.0, "eval_loss": 9.0, "eval_loss_t2i": 2.0, "eval_loss_i2t2i": 3.0})
    assert {(each.task_type, each.metric_name, each.metric_value) for each in results} == {
        ("text-to-image", "t2i (nats)", 2.0),
        ("image-to-text", "i2t2i (nats)", 3.0),
    }


def test_images_stand_in_the_text_and_in_the_gallery(facts):
    card = ModelCard(model_card(replace(facts, images={"a red bus": "images/00.png"})))
    assert "![a red bus](images/00.png)" in card.text
    assert card.data.widget == [{"text": "a red bus", "output": {"url": "images/00.png"}}]


def test_the_model_index_is_read_back_by_the_hub_library(facts):
    data = ModelCard(model_card(facts)).data
    told, read_back = eval_results(facts.evaluation) + loss_results(facts.losses), data.eval_results
    assert len(told) == len(read_back) and all(result in told for result in read_back)


def test_the_text_shows_every_figure_with_its_interval_and_protocol(facts):
    card = model_card(facts)
    assert row(card, "rendered_category") == ["1.000 (0.100 to 0.900)", "0.990 (0.100 to 0.900)"]
    assert "Protocol: model mine, dataset scenes, seed 3, num_beams 4." in card


def arguments(tmp_path, **changes):
    return ITITTrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", **changes)


def test_changed_settings_are_those_that_differ(tmp_path):
    assert changed_settings(arguments(tmp_path)) == {}
    changes = {"learning_rate": 1e-3, "lr_scheduler_type": "linear", "objectives": ["t2i"], "seed": 7}
    assert changed_settings(arguments(tmp_path, **changes)) == changes


def test_no_token_and_no_path_gets_into_a_card(tmp_path):
    args = arguments(tmp_path, hub_token="hf_secret", hub_model_id="me/mine", resume_from_checkpoint="/home/me/last")
    assert TrainingArguments.__annotations__.keys() > {"hub_token"}
    card = model_card(ModelFacts("mine", **training_facts(args, 1, [], {"paired": 1}, {})))
    assert "hf_secret" not in card and str(tmp_path) not in card and "/home/me" not in card


def test_a_trainer_knows_its_figures(tmp_path):
    args = arguments(tmp_path, per_device_train_batch_size=8, gradient_accumulation_steps=2)
    log = [
        {"loss": 9.0, "loss_t2i": 9.0, "step": 1},
        {"train_runtime": 10.0, "train_loss": 8.0},
        {"loss": 7.0, "loss_t2i": 7.0, "grad_norm": 1.0},
        {"train_runtime": 2.5},
        {"eval_loss": 6.0, "eval_loss_t2i": 6.0, "eval_drawn_entropy": 1.0},
    ]
    known = training_facts(args, 12, log, {"paired": 40, "text": 9}, {"model": 5})
    assert known["losses"] == {"loss_t2i": 7.0, "eval_loss": 6.0, "eval_loss_t2i": 6.0}
    assert (known["seconds"], known["device"], known["num_processes"]) == (12.5, "cpu", 1)
    assert (known["steps"], known["batch_size"], known["seed"]) == (12, 16, 42)
    assert known["streams"] == [StreamFacts("paired", 40), StreamFacts("text", 9)]
    facts = ModelFacts("mine", **known)
    assert "licence" in facts.missing and "steps" not in facts.missing and facts.versions["itit_hf"]
    assert row(model_card(facts), "updates") == ["12"]
