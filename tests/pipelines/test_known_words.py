# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import json
import logging
import re

import PIL.Image
import pytest

from itit_hf import ITITPipeline
from itit_hf.emoji_scenes.categories import CATEGORIES, COLOURS
from itit_hf.emoji_scenes.english import ENGLISH
from itit_hf.pipelines.known_words import MAX_NAMED, MAX_WARNINGS, STOP_WORDS, content_words

from ..testing_utils import ROOT, tiny_pairs, tiny_pipeline


@pytest.fixture
def pipe(caplog):
    """Trained on texts about buses and trees."""
    logging.getLogger("itit_hf").propagate = True
    pipe = tiny_pipeline(known_words="blue bus grass green red tree")
    pipe.set_progress_bar_config(disable=True)
    pipe.sampling = {"num_inference_steps": 2}
    return pipe


def warnings(caplog):
    return [each.message for each in caplog.records if "training texts" in each.message]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A Crimson BUS, on the grass!", ["crimson", "bus", "grass"]),
        ("two dogs' bones; the dog's bowl", ["two", "dogs", "bones", "dog", "bowl"]),
        ("it\u2019s a T-shirt, don't you think", ["shirt", "think"]),
        ("caf\u00e9 cafe\u0301", ["caf\u00e9", "caf\u00e9"]),
        ("Ein rotes M\u00e4dchen, gro\u00df", ["ein", "rotes", "m\u00e4dchen", "gro\u00df"]),
        ("l'eau rouge", ["l'eau", "rouge"]),
        ("красный АВТОБУС", ["красный", "автобус"]),
        ("\u0932\u093e\u0932 \u092c\u0938\u0964", ["\u0932\u093e\u0932", "\u092c\u0938"]),
        ("محطة، حمراء", ["محطة", "حمراء"]),
        ("\u7ea2\u8272\u7684\u516c\u5171\u6c7d\u8f66 red", ["red"]),
        ("\u8d64\u3044\u30d0\u30b9\u3001\u0e23\u0e16\u0e40\u0e21\u0e25\u0e4c", []),
        ("x 3 42nd 50% \U0001f68c \u2665 " + "a" * 41, ["nd"]),
        ("", []),
    ],
)  # fmt: skip
def test_content_words_are_in_lower_case_and_without_what_stands_around_them(text, words):
    assert list(content_words(text)) == words


def test_no_stop_word_is_a_content_word():
    assert len(STOP_WORDS) > 100 and not list(content_words(" ".join(sorted(STOP_WORDS))))


def test_a_word_that_no_training_text_had_is_named_in_one_warning(pipe, caplog):
    assert len(pipe("a crimson bus in the grass").images) == 1
    (message,) = warnings(caplog)
    assert message.startswith("`prompt` has words") and message.endswith("guessed: crimson")


def test_words_of_all_prompts_are_named_together_and_each_once(pipe, caplog):
    pipe(["a crimson bus", "a lorry", "a crimson lorry", "a red tree"])
    pipe("a crimson tree")
    assert [message.split("guessed: ")[1] for message in warnings(caplog)] == ["crimson, lorry"]
    assert pipe.unknown_words(["a crimson bus", "the Lorry"]) == ["crimson", "lorry"]


def test_known_words_in_any_case_are_not_named(pipe, caplog):
    pipe("The RED bus, on green grass.", negative_prompt="blue")
    pipe.encode_prompt("a tree")
    assert warnings(caplog) == []


def test_inpainting_negative_prompts_encoding_and_cycles_say_it_too(pipe, caplog):
    image = tiny_pairs(1)["image"][0]
    pipe("a van", image=image, mask_image=PIL.Image.new("L", (16, 16), 255))
    pipe("a bus", negative_prompt="fog")
    pipe.encode_prompt("a lake")
    pipe.cycle("a pond", rounds=2, num_beams=1, max_new_tokens=4)
    found = [(message.split("`")[1], message.split("guessed: ")[1]) for message in warnings(caplog)]
    assert found == [("prompt", "van"), ("negative_prompt", "fog"), ("prompt", "lake"), ("prompt", "pond")]


def test_what_is_scored_or_captioned_is_not_judged(pipe, caplog):
    image = tiny_pairs(1)["image"][0]
    pipe.score(image, "a crimson lorry")
    pipe.caption(image, prompt="a lorry")
    assert warnings(caplog) == []


def test_a_checkpoint_without_a_list_never_warns(caplog):
    logging.getLogger("itit_hf").propagate = True
    pipe = tiny_pipeline()
    pipe.encode_prompt("a crimson lorry")
    assert pipe.unknown_words("a crimson lorry") == [] and warnings(caplog) == []


def test_without_its_model_a_pipeline_never_warns(pipe, tmp_path, caplog):
    pipe.save_pretrained(tmp_path)
    ITITPipeline.from_pretrained(tmp_path, model=None, image_tokenizer=None).encode_prompt("a crimson lorry")
    assert warnings(caplog) == []


def test_the_words_travel_with_the_checkpoint(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    assert ITITPipeline.from_pretrained(tmp_path).unknown_words("a crimson bus") == ["crimson"]


def test_an_evaluation_of_many_prompts_is_not_drowned_in_warnings(pipe, caplog):
    names = [f"{one}{two}" * 2 for one in "abcde" for two in "abcde"]
    for name in names:
        pipe.encode_prompt(f"a {name}")
    messages = warnings(caplog)
    assert len(messages) == MAX_WARNINGS and messages[-1].endswith("further ones are not named")


def test_of_many_words_the_first_are_named(pipe, caplog):
    pipe.encode_prompt(" ".join(letter * 3 for letter in "abcdefghijklm"))
    (message,) = warnings(caplog)
    assert MAX_NAMED == 10 and "jjj and 3 more" in message and "kkk" not in message


def test_with_an_adapter_nothing_is_named(pipe, monkeypatch):
    monkeypatch.setattr(pipe, "get_list_adapters", lambda: ["default"])
    assert pipe.unknown_words("a crimson lorry") == []


@pytest.mark.parametrize(("name", "num_categories"), [("emoji-scenes-64", 24), ("emoji-scenes-96-two", 12)])
def test_the_committed_checkpoints_know_the_words_of_their_grammar(name, num_categories):
    phrases = [*ENGLISH.phrases.values(), *ENGLISH.backgrounds.values(), *ENGLISH.positions.values()]
    phrases += [*ENGLISH.relations.values(), *ENGLISH.plain, *ENGLISH.with_background, *ENGLISH.with_position]
    texts = [re.sub(r"{.*?}", " ", phrase) for phrase in phrases]
    texts += [*list(CATEGORIES)[:num_categories], *COLOURS, "big", "small"]
    words = sorted({word for text in texts for word in content_words(text)})
    config = json.loads((ROOT / "checkpoints" / name / "model" / "config.json").read_text())
    assert config["known_words"] == " ".join(words)
