# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import re

import pytest

from itit_hf.emoji_scenes.build import Row
from itit_hf.emoji_scenes.categories import CATEGORIES, COLOURS
from itit_hf.emoji_scenes.free_forms import CATEGORY_SYNONYMS, COLOUR_SYNONYMS, article, free_captions, plural
from itit_hf.emoji_scenes.scenes import Scene, SceneConfig, SceneObject


def scene(index, *names, relation=None):
    objects = tuple(SceneObject(category, colour, "noto", (0, 0, 20, 20)) for colour, category in names)
    return Scene(64, "snow", objects, relation, 0, index)


ONE = [scene(index, ("red", "bus")) for index in range(1500)]
TEXTS = [text for each in ONE for text in free_captions(each, 5)]


def words(text):
    return set(re.findall(r"[\w'-]+", text.lower()))


@pytest.mark.parametrize("form", ["bus", "red bus", "bus, red", "buses", "RED BUS", "Red bus.", "red bus in winter"])
def test_people_type_bare_nouns_other_orders_plurals_capitals_and_stops(form):
    assert form in TEXTS


def test_every_caption_names_the_thing_by_its_name_or_a_trained_synonym():
    nouns = ("bus", *CATEGORY_SYNONYMS["bus"].trained)
    assert all(any(noun in text.lower() for noun in nouns) for text in TEXTS)


def test_synonyms_of_training_are_used():
    assert any("coach" in text for text in TEXTS) and any("scarlet" in text for text in TEXTS)


@pytest.mark.parametrize("table", [CATEGORY_SYNONYMS, COLOUR_SYNONYMS])
def test_no_synonym_is_both_trained_and_held_out(table):
    trained = {word for each in table.values() for word in each.trained}
    held_out = {word for each in table.values() for word in each.held_out}
    assert not (trained | set(table)) & held_out


def test_held_out_synonyms_never_stand_in_a_caption():
    names = [(colour, category) for category in CATEGORY_SYNONYMS for colour in COLOURS]
    texts = [text for index, name in enumerate(names) for text in free_captions(scene(index, name), 5)]
    held_out = {
        word for table in (CATEGORY_SYNONYMS, COLOUR_SYNONYMS) for each in table.values() for word in each.held_out
    }
    single = {word for word in held_out if " " not in word}
    assert not single & set().union(*map(words, texts))


def test_captions_never_change_between_machines_or_versions():
    assert free_captions(ONE[7], 5) == [
        "an image of a crimson bus",
        "Some red buses.",
        "a bus, and it is red.",
        "a coach, and it is red",
        "bus on snow",
    ]


def test_captions_are_a_pure_function_of_the_scene():
    assert free_captions(ONE[7], 4) == free_captions(scene(7, ("red", "bus")), 4)
    assert free_captions(ONE[7], 5) != free_captions(ONE[8], 5)


def test_two_things_are_named_in_the_order_of_their_relation():
    pairs = [scene(index, ("red", "bell"), ("blue", "whale"), relation="above") for index in range(60)]
    texts = [text.lower() for each in pairs for text in free_captions(each, 5)]
    assert all(
        text.index("whale") > min(text.find(noun) for noun in ("bell", "chime") if noun in text) for text in texts
    )
    assert any(" over " in text for text in texts)


@pytest.mark.parametrize("count", [-1, 6])
def test_a_number_of_captions_outside_0_to_5_is_refused(count):
    with pytest.raises(ValueError, match="`count` must be from 0 to 5 captions"):
        free_captions(ONE[0], count)


@pytest.mark.parametrize(
    "noun, many",
    [("bus", "buses"), ("fish", "fish"), ("butterfly", "butterflies"), ("key", "keys"), ("torch", "torches")],
)
def test_plurals(noun, many):
    assert plural(noun) == many


@pytest.mark.parametrize("noun, expected", [("umbrella", "an"), ("owl", "an"), ("ukulele", "a"), ("boot", "a")])
def test_articles(noun, expected):
    assert article(noun) == expected


def test_synonyms_belong_to_known_categories_and_colours():
    assert set(CATEGORY_SYNONYMS) <= set(CATEGORIES) and set(COLOUR_SYNONYMS) == set(COLOURS)


def test_a_world_asks_for_free_captions_beside_the_five_of_the_grammar():
    row = Row("text", None, ONE[0], "hash", "en", 3).as_dict()
    assert row["text"][0] == "a red bus" and row["text"][5:] == free_captions(ONE[0], 3)


@pytest.mark.parametrize("changes", [{"free_captions": 9}, {"free_captions": 1, "language": "de"}])
def test_free_captions_are_english_and_at_most_five(changes):
    with pytest.raises(ValueError, match="`free_captions` must be 0 to 5"):
        SceneConfig(**changes)
