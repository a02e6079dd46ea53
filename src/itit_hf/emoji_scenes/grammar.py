# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Captions of a scene and the exact way back, from one table of templates for each language.

What a caption tells is in canonical names, those of `categories` and `scenes`, whatever the language.
"""

import itertools
import re
from dataclasses import dataclass
from functools import lru_cache

from .categories import CATEGORIES, COLOURS
from .languages import LANGUAGES
from .scenes import KeyedDraws, Scene
from .templates import LanguageTemplates

SIZES = ("small", "big")
INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
_CAPTION_STREAM = 1  # of the keyed draws; stream 0 samples the scene
_ATTRIBUTES = ("category", "colour", "size")  # of one object


@dataclass(frozen=True)
class ParsedObject:
    """What a caption tells of one object, in canonical names; `size` is "small", "big" or `None`."""

    category: str
    colour: str
    size: str | None = None


@dataclass(frozen=True)
class ParsedCaption:
    """What a caption tells, in canonical names. `None`: not mentioned. `relation`: that of the first to the second."""

    objects: tuple[ParsedObject, ...]
    relation: str | None = None
    position: str | None = None
    background: str | None = None


def size_word(scene: Scene, which: int) -> str | None:
    """ "small", "big" or `None`: by its share of the image for a single object, against the other one for two."""
    size = max(scene.objects[which].box[2:])
    if len(scene.objects) == 2:
        other = max(scene.objects[1 - which].box[2:])
        is_small = size <= 0.85 * other
        is_big = other <= 0.85 * size
    else:
        share = size / min(scene.width, scene.height)
        is_small = share < 0.69
        is_big = share > 0.78
    if is_small:
        return "small"
    return "big" if is_big else None


def position_words(scene: Scene) -> list[str]:
    """Where the centre of a single object lies; nothing for two objects or if it is neither central nor aside."""
    if len(scene.objects) == 2:
        return []
    x, y = scene.objects[0].centre
    across = x / scene.width - 0.5
    down = y / scene.height - 0.5
    words = [name for name, offset in (("left", -across), ("right", across)) if offset > 0.06]
    words += [name for name, offset in (("top", -down), ("bottom", down)) if offset > 0.06]
    return words or (["middle"] if max(abs(across), abs(down)) <= 0.04 else [])


def _templates_of(language: str) -> LanguageTemplates:
    if language not in LANGUAGES:
        raise ValueError(f"`language` must be one of {', '.join(LANGUAGES)}, got {language!r}")
    return LANGUAGES[language]


def _fill(template: str, content: ParsedCaption, templates: LanguageTemplates) -> str:
    """Write a template out."""
    slots = {
        "relation": templates.relations.get(content.relation),
        "background": templates.backgrounds.get(content.background),
        "position": templates.positions.get(content.position),
    }
    for number, item in enumerate(content.objects):
        words = templates.words(item.category, item.colour, item.size)
        slots |= {f"{name}{number}": word for name, word in words.items()}
    text = template.format(**slots)
    for words, short in templates.contractions.items():
        text = text.replace(f"{words} ", f"{short} ")
    return text


def _attribute(name: str) -> str | None:
    """What a word of this name tells of an object; `None` if it only agrees with it."""
    attribute = name.partition("_")[0]
    return attribute if attribute in _ATTRIBUTES else None


@dataclass(frozen=True)
class _Reader:
    """`patterns`: templates with the expressions that read them. `meanings`: words of each name to what they tell."""

    patterns: tuple[tuple[str, re.Pattern], ...]
    meanings: dict[str, dict[str, str]]


@lru_cache(maxsize=16)
def _reader(categories: tuple[str, ...], colours: tuple[str, ...], language: str) -> _Reader:
    """What reads the captions of a world.

    Raises:
        `ValueError`: If a category has no noun in the language, or one that is not plain lowercase words or uses a
            word of the grammar.
    """
    templates = _templates_of(language)
    meanings: dict[str, dict[str, str]] = {}
    for category, colour, size in itertools.product(categories, colours, SIZES):
        attributes = {"category": category, "colour": colour, "size": size}
        for name, word in templates.words(category, colour, size).items():
            meanings.setdefault(name, {})[word] = attributes.get(_attribute(name), "")
    _check_nouns(templates, meanings)
    slots = {
        f"{name}{number}": _group(f"{name}{number}", words) if _attribute(name) else _any_of(words)
        for name, words in meanings.items()
        for number in "01"
    }
    tables = {"relation": templates.relations, "position": templates.positions, "background": templates.backgrounds}
    for name, table in tables.items():
        meanings[name] = {phrase: key for key, phrase in table.items()}
        slots[name] = _group(name, meanings[name])
    patterns = tuple((template, re.compile(template.format(**slots))) for template in templates.all)
    return _Reader(patterns, meanings)


def _check_nouns(templates: LanguageTemplates, meanings: dict[str, dict[str, str]]) -> None:
    """Refuse nouns that the patterns could not tell from the words around them."""
    tables = (templates.backgrounds, templates.positions, templates.relations, templates.contractions)
    phrases = [re.sub(r"{\w+}", " ", template) for template in templates.all]
    phrases += [phrase for table in tables for phrase in table.values()]
    phrases += [word for name, words in meanings.items() if _attribute(name) != "category" for word in words]
    reserved = set(re.findall(r"[^\W\d_]+", " ".join(phrases)))
    nouns = [item for name, words in meanings.items() if _attribute(name) == "category" for item in words.items()]
    for noun, category in nouns:
        plain = noun == noun.lower() and re.fullmatch(r"[^\W\d_]+([ -][^\W\d_]+)*", noun)
        if not plain or reserved & set(re.split("[ -]", noun)):
            known = ", ".join(sorted(reserved))
            raise ValueError(f"`categories` must be called by lowercase words outside {known}; got {category!r}")


def check_category_names(categories: tuple[str, ...], language: str = "en") -> None:
    """Raise `ValueError` if the grammar of a language has no noun for a category, or could not read it back."""
    _reader(tuple(categories), tuple(COLOURS), language)


def _any_of(words) -> str:
    return f"(?:{'|'.join(sorted(map(re.escape, words), key=len, reverse=True))})"


def _group(name: str, words) -> str:
    return f"(?P<{name}>{_any_of(words)})"


def parse(
    caption: str,
    categories: tuple[str, ...] = tuple(CATEGORIES),
    colours: tuple[str, ...] = tuple(COLOURS),
    language: str = "en",
) -> ParsedCaption | None:
    """Read a caption back.

    Args:
        caption (`str`): Any text.
        categories (`tuple[str, ...]`): Canonical names of things, the whole committed table by default.
        colours (`tuple[str, ...]`): Canonical names of colours.
        language (`str`): What it is written in, a key of `LANGUAGES`.

    Returns:
        `ParsedCaption`, or `None` if the text is not, letter by letter, a sentence of the grammar.

    Raises:
        `ValueError`: If there is no such language, or a category has no noun in it that can be read back.
    """
    reader = _reader(tuple(categories), tuple(colours), language)
    templates = _templates_of(language)
    text = caption
    for words, short in templates.contractions.items():
        text = text.replace(f"{short} ", f"{words} ")
    for template, pattern in reader.patterns:
        match = pattern.fullmatch(text)
        if match is None:
            continue
        parsed = _parsed(match.groupdict(), reader.meanings)
        if _fill(template, parsed, templates) == caption:  # refuses "an red bus"
            return parsed
    return None


def _parsed(found: dict[str, str], meanings: dict[str, dict[str, str]]) -> ParsedCaption:
    """What the groups of a match tell."""
    objects: tuple[dict[str, str], ...] = ({}, {})
    about = {}
    for name, words in found.items():
        if name in meanings:
            about[name] = meanings[name][words]
        else:
            objects[int(name[-1])][_attribute(name[:-1])] = meanings[name[:-1]][words]
    return ParsedCaption(tuple(ParsedObject(**item) for item in objects if item), **about)


def is_true_of(caption: ParsedCaption, scene: Scene) -> bool:
    """Whether all that a caption tells is true of a scene, and it names every object and no other."""
    order = [(item.category, item.colour) for item in caption.objects]
    numbers = [
        number for pair in order for number, item in enumerate(scene.objects) if (item.category, item.colour) == pair
    ]
    if not order or len(order) != len(scene.objects) or sorted(numbers) != list(range(len(order))):
        return False
    relation = scene.relation if numbers[0] == 0 else INVERSE.get(scene.relation)
    sizes = [(item.size, number) for item, number in zip(caption.objects, numbers, strict=True) if item.size]
    return (
        caption.relation in (None, relation)
        and caption.background in (None, scene.background)
        and (caption.position is None or caption.position in position_words(scene))
        and all(size == size_word(scene, number) for size, number in sizes)
    )


def _single_groups(scene: Scene, draws: KeyedDraws, templates: LanguageTemplates):
    """What captions tell of a scene of one object, and the groups of templates, one for each caption."""
    item = scene.objects[0]
    size = size_word(scene, 0)
    positions = position_words(scene)
    position = draws.choice(positions) if positions else None
    content = ParsedCaption((ParsedObject(item.category, item.colour, size),), None, position, scene.background)
    plain = templates.plain
    with_background = templates.with_background
    details: tuple[str, ...] = ()
    if size:
        details += templates.with_size
    if position:
        details += templates.with_position
    if size and position:
        details += templates.with_size_and_position
    return [content], (plain, with_background, details or with_background, plain + with_background + details)


def _pair_groups(scene: Scene, templates: LanguageTemplates):
    """What captions tell of a scene of two objects, from either end, and the groups of templates."""
    items = tuple(
        ParsedObject(item.category, item.colour, size_word(scene, n)) for n, item in enumerate(scene.objects)
    )
    forward = ParsedCaption(items, scene.relation, None, scene.background)
    backward = ParsedCaption(items[::-1], INVERSE[scene.relation], None, scene.background)
    plain = templates.pair
    with_background = templates.pair_with_background
    sizes = templates.pair_with_size if items[0].size else ()  # sizes of two are relative: both have a word or none
    return [forward, backward], (plain, with_background, sizes or with_background, plain + with_background + sizes)


def plain_caption(category: str, colour: str, language: str = "en") -> str:
    """The shortest sentence about one thing, such as "a red bus".

    Args:
        category (`str`): Canonical name of the thing.
        colour (`str`): Canonical name of its colour.
        language (`str`): What to write in, a key of `LANGUAGES`.

    Raises:
        `ValueError`: If there is no such language, or it has no noun for the category.
    """
    templates = _templates_of(language)
    return _fill(templates.plain[0], ParsedCaption((ParsedObject(category, colour),)), templates)


def captions(scene: Scene, language: str = "en") -> list[str]:
    """Five different captions of a scene, each true of it; the first is the plain one ("a red bus").

    Args:
        scene (`Scene`): Its seed and index key the choice, so the result is a pure function.
        language (`str`): What to write in, a key of `LANGUAGES`.

    Returns:
        `list[str]`: The plain caption, another plain one, one with the background, one with size or position where the
        scene has a word for them, and one of any sort.

    Raises:
        `ValueError`: If there is no such language, or it has no noun for a category of the scene.
    """
    templates = _templates_of(language)
    draws = KeyedDraws(scene.seed, scene.index, _CAPTION_STREAM)
    if len(scene.objects) == 1:
        contents, groups = _single_groups(scene, draws, templates)
    else:
        contents, groups = _pair_groups(scene, templates)
    result = [_fill(groups[0][0], contents[0], templates)]
    for group in groups:
        sentences = [_fill(template, content, templates) for template in group for content in contents]
        result.append(draws.choice([sentence for sentence in sentences if sentence not in result]))
    return result
