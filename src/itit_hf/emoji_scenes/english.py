# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""English: things and colours are called by their canonical names."""

from .templates import LanguageTemplates


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _words(category: str, colour: str, size: str | None) -> dict[str, str]:
    words = {"category": category, "colour": colour, "an_category": _article(category), "an_colour": _article(colour)}
    return words if size is None else words | {"size": size}


ENGLISH = LanguageTemplates(
    name="English",
    words=_words,
    phrases={"a": "{an_colour#} {colour#} {category#}", "sized": "a {size#} {colour#} {category#}"},
    backgrounds={
        "sky": "in the sky",
        "grass": "on the grass",
        "sand": "on the sand",
        "snow": "in the snow",
        "night": "at night",
        "plain": "on a plain background",
    },
    positions={
        "left": "on the left",
        "right": "on the right",
        "top": "at the top",
        "bottom": "at the bottom",
        "middle": "in the middle",
    },
    relations={"left of": "left of", "right of": "right of", "above": "above", "below": "below"},
    plain=(
        "{a0}",
        "there is {a0}",
        "this is {a0}",
        "a picture of {a0}",
        "the {category0} is {colour0}",
        "{an_category0} {category0} that is {colour0}",
    ),
    with_background=(
        "{a0} {background}",
        "there is {a0} {background}",
        "a picture of {a0} {background}",
        "{background} there is {a0}",
        "the {category0} {background} is {colour0}",
    ),
    with_size=("{sized0}", "there is {sized0}", "{sized0} {background}", "the {colour0} {category0} is {size0}"),
    with_position=("{a0} {position}", "{a0} {position} {background}", "the {colour0} {category0} is {position}"),
    with_size_and_position=("{sized0} {position}", "{sized0} {position} {background}"),
    pair=(
        "{a0} {relation} {a1}",
        "there is {a0} {relation} {a1}",
        "a picture of {a0} {relation} {a1}",
        "the {colour0} {category0} is {relation} the {colour1} {category1}",
        "{a0} and {a1}",
    ),
    pair_with_background=(
        "{a0} {relation} {a1} {background}",
        "{background} there is {a0} {relation} {a1}",
        "{a0} and {a1} {background}",
    ),
    pair_with_size=("{sized0} {relation} {a1}", "{a0} {relation} {sized1}", "{sized0} {relation} {a1} {background}"),
    contractions={},
)
