# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import json
from argparse import Namespace

import numpy as np
import pytest

import study_sampler
from itit_hf.emoji_scenes.categories import CATEGORIES, COLOURS
from itit_hf.emoji_scenes.seen_scenes import SeenObject, SeenScene
from study_sampler import Setting, grid, measure, parse, run_study, table

from ..testing_utils import tiny_pipeline

PROMPTS = ["a red bus", "a blue fish", "a green tree"]


class AlwaysARedBus:
    """In the place of a classifier."""

    config = Namespace(categories=tuple(CATEGORIES), colours=tuple(COLOURS))

    def read(self, images):
        return [SeenScene(16, "plain", (SeenObject("bus", "red", (4.0, 4.0, 8.0, 8.0)),)) for _ in images]


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


def options_of(path, *more):
    axes = ["--orders", "confidence", "halton", "--temperatures", "2", "8", "--steps", "2", "--guidances", "constant"]
    return parse([*axes, "--batch_size", "2", "--num_scenes", "3", "--output", str(path), *more])


def result(both, calls, **changes):
    setting = {"decoding_order": "random", "masking_schedule": "cosine", "temperature": None}
    setting |= {"num_inference_steps": 4, "guidance": "linear"} | changes
    shares = {"category": both, "colour": 1.0, "both": both, "true": both}
    second = shares | {"true": both / 2}
    intervals = [{"true": (0.1, 0.9)}, {"true": (0.0, 0.5)}]
    return {"setting": setting, "shares": [shares, second], "intervals": intervals, "model_calls": calls}


def test_an_order_without_temperature_is_measured_once(tmp_path):
    assert [setting.name for setting in grid(options_of(tmp_path))] == [
        "confidence/cosine/2/2/constant",
        "confidence/cosine/8/2/constant",
        "halton/cosine/None/2/constant",
    ]


def test_the_default_grid_is_the_whole_one():
    settings = grid(parse([]))
    assert len(settings) == (2 * 4 + 2) * 5 * 3 and study_sampler.paper_setting() in settings


@pytest.mark.parametrize(("guidance", "calls"), [("none", 4), ("constant", 8), ("linear", 7), ("interval", 6)])
def test_the_calls_of_the_network_are_counted_per_image(pipe, tmp_path, guidance, calls):
    setting = Setting("random", "linear", None, 4, guidance)
    result = measure(pipe, [AlwaysARedBus()], PROMPTS, setting, options_of(tmp_path))
    assert result["model_calls"] == calls  # in two batches


def test_images_are_held_against_their_prompts(pipe, tmp_path):
    shares = measure(
        pipe, [AlwaysARedBus()], PROMPTS, Setting("halton", "cosine", None, 1, "none"), options_of(tmp_path)
    )
    assert shares["shares"][0]["both"] == pytest.approx(1 / 3)


def test_a_image_does_not_depend_on_the_batch_size(pipe, tmp_path):
    setting = Setting("remasking", "cosine", 2.0, 3, "linear")
    pairs = [study_sampler.generate(pipe, PROMPTS, setting, options_of(tmp_path, "--batch_size", n))[0] for n in "13"]
    alone, together = (np.stack([np.asarray(image, dtype=int) for image in images]) for images in pairs)
    assert abs(alone - together).max() <= 1  # a token of another code would be far off; rounding may differ by one


def test_a_study_goes_on_where_it_was(pipe, tmp_path, monkeypatch):
    path, measured = tmp_path / "out" / "study.json", []

    def only_two(*arguments):
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(arguments[3].name)
        return measure(*arguments)

    monkeypatch.setattr(study_sampler, "measure", only_two)
    with pytest.raises(KeyboardInterrupt):
        run_study(pipe, [AlwaysARedBus()], PROMPTS, options_of(path))
    assert list(json.loads(path.read_text())["results"]) == measured
    monkeypatch.setattr(
        study_sampler, "measure", lambda *arguments: measured.append(arguments[3].name) or measure(*arguments)
    )
    study = run_study(pipe, [AlwaysARedBus()], PROMPTS, options_of(path))
    assert len(measured) == len(set(measured)) == 3 and list(study["results"]) == measured
    assert path.with_suffix(".md").read_text() == table(study)


def test_figures_of_other_conditions_are_never_mixed(pipe, tmp_path):
    path = tmp_path / "study.json"
    run_study(pipe, [AlwaysARedBus()], PROMPTS, options_of(path, "--orders", "halton"))
    with pytest.raises(ValueError, match="'seed': 0"):
        run_study(pipe, [AlwaysARedBus()], PROMPTS, options_of(path, "--seed", "1"))
    study = json.loads(path.read_text())
    del study["conditions"]["num_objects"]  # a file from before there was this condition
    path.write_text(json.dumps(study))
    with pytest.raises(ValueError, match="'num_objects': None"):
        run_study(pipe, [AlwaysARedBus()], PROMPTS, options_of(path, "--orders", "halton"))


def test_the_table_has_the_best_first_and_of_equals_the_cheapest(tmp_path):
    paper = {"decoding_order": "confidence", "temperature": 32.0, "num_inference_steps": 24, "guidance": "constant"}
    results = {"a": result(0.5, 7), "b": result(0.75, 48, **paper), "c": result(0.5, 4, guidance="none")}
    study = {"conditions": vars(options_of(tmp_path)), "results": results}
    rows = table(study).splitlines()[-3:]
    half, three_quarters = (
        f"{each:.3f} | 1.000 | {each:.3f} | {each:.3f} (0.100 to 0.900) | "
        f"{each:.3f} | 1.000 | {each:.3f} | {each / 2:.3f} (0.000 to 0.500) |"
        for each in (0.5, 0.75)
    )
    assert rows == [
        f"| confidence (paper) | cosine | 32.0 | 24 | constant | 48 | 1.00 | {three_quarters}",
        f"| random | cosine | - | 4 | none | 4 | 0.08 | {half}",
        f"| random | cosine | - | 4 | linear | 7 | 0.15 | {half}",
    ]


def test_the_best_is_what_the_stricter_judge_finds_best(tmp_path):
    liked = result(0.9, 4, guidance="none")
    liked["shares"][1]["true"] = 0.1
    study = {"conditions": vars(options_of(tmp_path)), "results": {"a": liked, "b": result(0.4, 4)}}
    assert ["linear" in row for row in table(study).splitlines()[-2:]] == [True, False]
