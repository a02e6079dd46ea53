# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What a language tells the grammar: tables, and one function for the words that agree with each other."""

from collections.abc import Callable
from dataclasses import dataclass

_GROUPS = ("plain", "with_background", "with_size", "with_position", "with_size_and_position")
_GROUPS += ("pair", "pair_with_background", "pair_with_size")


@dataclass(frozen=True)
class LanguageTemplates:
    """A language, as the grammar writes and reads it. Everything is in small letters.

    A template is a sentence with slots: `{relation}`, `{background}`, `{position}`, and the words and phrases of an
    object with its number, such as `{category0}` or `{a1}`.

    Args:
        name (`str`): The language in English, for dataset cards.
        words (`Callable[[str, str, str | None], dict[str, str]]`):
            From the canonical category, colour and size ("small", "big" or `None`) of an object to the words that its
            slots can take. The words named "category", "colour" and "size", alone or with "_" and a form
            ("colour_dem"), tell that attribute; all others, such as articles, only agree with it. No two attributes
            may have one word in one form.
        phrases (`dict[str, str]`): Short for several words of one object: "#" stands for its number.
        backgrounds (`dict[str, str]`): Phrase of each background.
        positions (`dict[str, str]`): Phrase of each position.
        relations (`dict[str, str]`): Phrase of each relation.
        plain (`tuple[str, ...]`): Templates of one object, the plainest first.
        with_background (`tuple[str, ...]`): Those that also name the background.
        with_size (`tuple[str, ...]`): Those that tell how large it is.
        with_position (`tuple[str, ...]`): Those that tell where it is.
        with_size_and_position (`tuple[str, ...]`): Those that tell both.
        pair (`tuple[str, ...]`): Templates of two objects, the plainest first.
        pair_with_background (`tuple[str, ...]`): Those that also name the background.
        pair_with_size (`tuple[str, ...]`): Those that tell which is smaller or larger.
        contractions (`dict[str, str]`): What words become that follow each other.
        source (`str`): Where its words are from, and their licence, if they are from elsewhere.
    """

    name: str
    words: Callable[[str, str, str | None], dict[str, str]]
    phrases: dict[str, str]
    backgrounds: dict[str, str]
    positions: dict[str, str]
    relations: dict[str, str]
    plain: tuple[str, ...]
    with_background: tuple[str, ...]
    with_size: tuple[str, ...]
    with_position: tuple[str, ...]
    with_size_and_position: tuple[str, ...]
    pair: tuple[str, ...]
    pair_with_background: tuple[str, ...]
    pair_with_size: tuple[str, ...]
    contractions: dict[str, str]
    source: str = ""

    def __post_init__(self):
        for field in _GROUPS:
            object.__setattr__(self, field, tuple(map(self._spell_out, getattr(self, field))))

    def _spell_out(self, template: str) -> str:
        for name, words in self.phrases.items():
            for number in "01":
                template = template.replace(f"{{{name}{number}}}", words.replace("#", number))
        return template

    @property
    def all(self) -> tuple[str, ...]:
        """All templates, those of one object first."""
        return tuple(template for field in _GROUPS for template in getattr(self, field))
