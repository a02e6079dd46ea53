# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import json
from argparse import Namespace

import pytest
from datasets import Dataset

import study_drift
from itit_hf.emoji_scenes.categories import CATEGORIES, COLOURS
from itit_hf.emoji_scenes.scenes import Scene, SceneObject
from itit_hf.emoji_scenes.seen_scenes import SeenObject, SeenScene

PROMPTS = ["a red bus", "a blue cat", "a green tree"]
BOX = (8, 8, 48, 48)


def words_of(prompt):
    _, colour, category = prompt.split()
    return category, colour


class Forgetful:
    """Goes wrong in chain i after i rounds: then all is a red bus. An image is the caption that it shows."""

    def __init__(self):
        self.seeds = []

    def cycle(self, rounds, num_beams, generator, prompt=None, image=None):
        self.seeds += [each.initial_seed() for each in generator]
        start = prompt or image
        chains = [[text if n < PROMPTS.index(text) else PROMPTS[0] for n in range(rounds)] for text in start]
        # As the pipeline does, the start stands in front of what is of its kind.
        first = [[text] for text in start]
        texts = [[*a, *b] for a, b in zip(first, chains, strict=True)] if prompt else chains
        images = chains if prompt else [[*a, *b] for a, b in zip(first, chains, strict=True)]
        return Namespace(texts=texts, images=images)


class ReadsWords:
    config = Namespace(categories=tuple(CATEGORIES), colours=tuple(COLOURS))

    def read(self, images):
        return [SeenScene(64, "night", (SeenObject(*words_of(image), BOX),)) for image in images]


@pytest.fixture
def rows():
    scenes = [
        Scene(64, "night", (SceneObject(*words_of(prompt), "noto", BOX),), None, 0, 0).to_json() for prompt in PROMPTS
    ]
    return Dataset.from_dict({"text": [[prompt] for prompt in PROMPTS], "scene": scenes, "image": PROMPTS})


@pytest.fixture
def options(tmp_path):
    return Namespace(rounds=3, num_beams=1, batch_size=2, seed=5, output=str(tmp_path / "drift.json"))


def test_what_survives_is_counted_round_by_round_from_texts_and_from_images(rows, options):
    pipe = Forgetful()
    found = study_drift.study(pipe, rows, [ReadsWords(), ReadsWords()], options)
    # The red bus stays; the blue cat is lost after one round, the green tree after two.
    shares = pytest.approx([1.0, 2 / 3, 1 / 3])
    for start in ("texts", "images"):
        assert found[start]["captions"] == shares
        assert len(found[start]["images"]) == 2 and all(each == shares for each in found[start]["images"])
    assert pipe.seeds == [5, 6, 7] * 2  # a chain draws from its own seed, in whatever batch


def test_the_table_says_what_the_rounds_lose():
    results = {"full": {"texts": {"captions": [0.9, 0.8], "images": [[1.0, 0.5]]}}}
    found = {"conditions": {"rounds": 2, "judges": ["checkpoints/first"]}, "results": results}
    assert study_drift.table(found).splitlines()[2:] == [
        "| full | texts | captions | 0.900 | 0.800 | 0.100 |",
        "| full | texts | images, by first | 1.000 | 0.500 | 0.500 |",
    ]


def test_models_are_studied_once_and_under_one_set_of_conditions(rows, tmp_path, monkeypatch):
    studied = []

    def study(pipe, *others):
        studied.append(pipe.name)
        return {"texts": {"captions": [1.0], "images": [[1.0]]}}

    def opened(name):
        return Namespace(name=name, set_progress_bar_config=lambda disable: None)

    monkeypatch.setattr(study_drift, "study", study)
    monkeypatch.setattr(study_drift, "load_rows", lambda *names: rows)
    monkeypatch.setattr(study_drift, "open_judge", lambda folder: None)
    monkeypatch.setattr(study_drift.ITITPipeline, "from_pretrained", opened)
    arguments = ["--output", str(tmp_path / "drift.json"), "--judges", "first", "--rounds", "1", "--models"]
    study_drift.main([*arguments, "a"])
    study_drift.main([*arguments, "a", "b"])
    assert studied == ["a", "b"]
    assert list(json.loads((tmp_path / "drift.json").read_text())["results"]) == ["a", "b"]
    with pytest.raises(ValueError, match="holds a study with"):
        study_drift.main([*arguments, "a", "--seed", "1"])
