# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import json
from collections import Counter
from itertools import chain

import pytest
from datasets import Dataset

from itit_hf import ITITForPreTraining, ITITPipeline
from itit_hf.training import known_words
from itit_hf.training.known_words import choose_words, count_words, counted_rows

from ..data.sources import open_source
from ..testing_utils import ONE_LAYER, tiny_pipeline
from ..training_utils import make_trainer

WORDS = "blue bus fish grass green red"  # of `tiny_pairs`


@pytest.mark.parametrize("num_rows", [1, 1999, 2000, 2001, 200_000])
def test_of_few_rows_all_are_counted(num_rows):
    assert list(chain(*counted_rows(num_rows))) == list(range(num_rows))


@pytest.mark.parametrize("num_rows", [200_001, 10**9])
def test_of_many_rows_runs_are_counted_that_are_spread_over_all(num_rows):
    runs = list(counted_rows(num_rows))
    assert len(runs) == 100 and {len(run) for run in runs} == {2000}
    assert runs[0].start == 0 and runs[-1].stop == num_rows
    assert all(one.stop <= other.start for one, other in zip(runs, runs[1:], strict=False))


@pytest.mark.parametrize("kind", ["dataset", "list", "parquet", "archive"])
def test_words_are_counted_without_looking_at_an_image(kind, tmp_path):
    if kind in ("dataset", "list"):
        rows = [{"image": None, "text": ["a red bus", "the BUS"]}, {"image": None, "text": "a blue bus"}]
        rows = Dataset.from_list([{"text": row["text"]} for row in rows[:1]]) if kind == "dataset" else rows
        counts, num_texts = count_words(rows)
        assert (counts["bus"], num_texts) == ((2, 2) if kind == "dataset" else (3, 3))
    else:
        counts, num_texts = count_words(open_source(kind, tmp_path))
        assert (counts, num_texts) == (Counter(bus=24, red=8, green=8, blue=8), 24)


def test_in_many_texts_a_word_must_occur_twice():
    counts = {"bus": 700, "bsu": 1, "tree": 2}
    assert choose_words(counts, 1000) == "bus tree" and choose_words(counts, 999) == "bsu bus tree"


def test_words_of_an_earlier_training_stay_and_the_most_frequent_new_ones_come(monkeypatch):
    monkeypatch.setattr(known_words, "MAX_KNOWN_WORDS", 3)
    assert choose_words({"bus": 5, "tree": 9, "fish": 7}, 10, "bus zebra") == "bus tree zebra"
    monkeypatch.setattr(known_words, "MAX_KNOWN_BYTES", len(json.dumps("tree") + json.dumps("fish")))
    assert choose_words({"bus": 5, "tree": 9, "fish": 7}, 10) == "fish tree"


def test_a_new_model_is_saved_with_the_words_it_was_trained_on(tmp_path):
    trainer = make_trainer(tmp_path, objectives=["t2i"], max_steps=1, save_strategy="steps", save_steps=1)
    trainer.train()
    trainer.save_pipeline(str(tmp_path / "pipeline"))
    pipe = ITITPipeline.from_pretrained(tmp_path / "pipeline")
    assert pipe.model.config.known_words == WORDS
    assert json.loads((tmp_path / "checkpoint-1" / "config.json").read_text())["known_words"] == WORDS
    assert pipe.unknown_words("a red lorry") == ["lorry"]


@pytest.mark.parametrize(("before", "after"), [("bus zebra", f"{WORDS} zebra"), ("", WORDS), (None, None)])
def test_a_training_that_goes_on_adds_its_words_to_a_list_but_begins_none(tmp_path, before, after):
    pipe = tiny_pipeline(**ONE_LAYER, known_words=before)
    pipe.model.save_pretrained(tmp_path / "start")
    pipe.register_modules(model=ITITForPreTraining.from_pretrained(tmp_path / "start"))
    trainer = make_trainer(tmp_path, pipe, objectives=["t2i"], max_steps=1)
    trainer.train()
    assert trainer.model.config.known_words == after


def test_a_stream_of_images_has_no_words(tmp_path):
    trainer = make_trainer(tmp_path, objectives=["i2i"], max_steps=1)
    for stream in trainer.streams:
        stream.name = "image"
    trainer.streams[0].rows = trainer.streams[0].rows.remove_columns("text")
    known_words.KnownWordsCallback(trainer).on_train_begin(trainer.args, trainer.state, trainer.control)
    assert trainer.model.config.known_words == ""
