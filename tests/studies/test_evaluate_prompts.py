# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import json
from collections import Counter
from types import SimpleNamespace

import pytest

import evaluate_prompts
from itit_hf.emoji_scenes.categories import CATEGORIES, COLOURS
from itit_hf.emoji_scenes.free_forms import CATEGORY_SYNONYMS, COLOUR_SYNONYMS
from itit_hf.emoji_scenes.splits import is_held_out_pair

PROMPTS = json.loads(evaluate_prompts.PROMPTS.read_text(encoding="utf-8"))


def seen(*names):
    return SimpleNamespace(objects=[SimpleNamespace(category=category, colour=colour) for colour, category in names])


def asked(group, category, colour=None):
    return {"group": group, "category": category, "colour": colour}


def test_shares_count_the_thing_and_its_colour_apart():
    reader = SimpleNamespace(read=lambda images: [seen(("red", "bus")), seen(("blue", "cat")), seen()])
    prompts = [asked("a", "bus", "red"), asked("a", "cat", "red"), asked("b", "tree")]
    found = evaluate_prompts.judge([None] * 3, prompts, reader)
    assert found["a"]["category"]["share"] == 1.0 and found["a"]["colour"]["share"] == 0.5
    assert found["b"] == {"category": {"share": 0.0, "interval": found["b"]["category"]["interval"], "count": 1}}
    assert found["all"]["category"]["share"] == pytest.approx(2 / 3) and found["all"]["colour"]["count"] == 2


def test_images_come_from_seeds_of_their_own_whatever_the_batch_size():
    def pipe(prompts, generator, **settings):
        return SimpleNamespace(
            images=[(prompt, each.initial_seed()) for prompt, each in zip(prompts, generator, strict=True)]
        )

    whole = evaluate_prompts.generate(pipe, list("abcde"), {}, 5)
    assert whole == evaluate_prompts.generate(pipe, list("abcde"), {}, 2) == list(zip("abcde", range(5), strict=True))


def test_the_list_has_four_groups_of_known_things_in_colours_that_training_may_have():
    assert Counter(prompt["group"] for prompt in PROMPTS) == {
        "bare noun": 40,
        "free form": 80,
        "synonym of training": 40,
        "unseen synonym": 40,
    }
    assert all(prompt["category"] in CATEGORIES and prompt["colour"] in (None, *COLOURS) for prompt in PROMPTS)
    assert not any(is_held_out_pair(prompt["category"], prompt["colour"]) for prompt in PROMPTS if prompt["colour"])


def test_unseen_synonyms_are_those_kept_out_of_training():
    held_out = {
        word for table in (CATEGORY_SYNONYMS, COLOUR_SYNONYMS) for each in table.values() for word in each.held_out
    }
    unseen = [prompt["prompt"] for prompt in PROMPTS if prompt["group"] == "unseen synonym"]
    others = [prompt["prompt"].lower().split() for prompt in PROMPTS if prompt["group"] != "unseen synonym"]
    assert all(any(word in prompt for word in held_out) for prompt in unseen)
    assert not any(set(prompt) & held_out for prompt in others)


def test_a_judge_that_knows_none_of_the_things_is_refused_before_images_are_generated():
    knows = {name: SimpleNamespace(config=SimpleNamespace(categories=[name])) for name in ("bus", "cat")}
    evaluate_prompts.check_prompts([asked("a", "bus"), asked("a", "cat")], knows)
    with pytest.raises(ValueError, match="things that cat knows"):
        evaluate_prompts.check_prompts([asked("a", "bus")], knows)
