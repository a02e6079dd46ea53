# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Captions of a scene and the exact way back, from one table of templates."""

import re
from dataclasses import dataclass
from functools import lru_cache

from .kinds import COLOURS, KINDS
from .scenes import KeyedDraws, Scene

BACKGROUND_PHRASES = {
    "sky": "in the sky",
    "grass": "on the grass",
    "sand": "on the sand",
    "snow": "in the snow",
    "night": "at night",
    "plain": "on a plain background",
}
POSITION_PHRASES = {
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
    "middle": "in the middle",
}
SIZES = ("small", "big")
INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

_PLAIN = (
    "{a0}",
    "there is {a0}",
    "this is {a0}",
    "a picture of {a0}",
    "the {kind0} is {colour0}",
    "{article0} {kind0} that is {colour0}",
)
_WITH_BACKGROUND = (
    "{a0} {background}",
    "there is {a0} {background}",
    "a picture of {a0} {background}",
    "{background} there is {a0}",
    "the {kind0} {background} is {colour0}",
)
_WITH_SIZE = ("{sized0}", "there is {sized0}", "{sized0} {background}", "the {colour0} {kind0} is {size0}")
_WITH_POSITION = ("{a0} {position}", "{a0} {position} {background}", "the {colour0} {kind0} is {position}")
_WITH_SIZE_AND_POSITION = ("{sized0} {position}", "{sized0} {position} {background}")

_PAIR_PLAIN = (
    "{a0} {relation} {a1}",
    "there is {a0} {relation} {a1}",
    "a picture of {a0} {relation} {a1}",
    "the {colour0} {kind0} is {relation} the {colour1} {kind1}",
    "{a0} and {a1}",
)
_PAIR_WITH_BACKGROUND = (
    "{a0} {relation} {a1} {background}",
    "{background} there is {a0} {relation} {a1}",
    "{a0} and {a1} {background}",
)
_PAIR_WITH_SIZE = ("{sized0} {relation} {a1}", "{a0} {relation} {sized1}", "{sized0} {relation} {a1} {background}")

_SINGLE_TEMPLATES = (*_PLAIN, *_WITH_BACKGROUND, *_WITH_SIZE, *_WITH_POSITION, *_WITH_SIZE_AND_POSITION)
_PAIR_TEMPLATES = (*_PAIR_PLAIN, *_PAIR_WITH_BACKGROUND, *_PAIR_WITH_SIZE)
_CAPTION_STREAM = 1  # of the keyed draws; stream 0 draws the scene
NUM_CAPTIONS = 5


@dataclass(frozen=True)
class ParsedObject:
    """What a caption says of one object; `size` is "small", "big" or `None`."""

    kind: str
    colour: str
    size: str | None = None


@dataclass(frozen=True)
class ParsedCaption:
    """What a caption says. `None`: not mentioned. `relation` is that of the first object to the second."""

    objects: tuple[ParsedObject, ...]
    relation: str | None = None
    position: str | None = None
    background: str | None = None


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def size_word(scene: Scene, which: int) -> str | None:
    """ "small", "big" or `None`: by its share of the picture for a single object, against the other one for two."""
    size = max(scene.objects[which].box[2:])
    if len(scene.objects) == 2:
        other = max(scene.objects[1 - which].box[2:])
        return "small" if size <= 0.85 * other else "big" if other <= 0.85 * size else None
    share = size / scene.resolution
    return "small" if share < 0.69 else "big" if share > 0.78 else None


def position_words(scene: Scene) -> list[str]:
    """Where the centre of a single object lies; nothing for two objects or if it is neither central nor aside."""
    if len(scene.objects) == 2:
        return []
    across, down = (centre / scene.resolution - 0.5 for centre in scene.objects[0].centre)
    words = [name for name, offset in (("left", -across), ("right", across)) if offset > 0.06]
    words += [name for name, offset in (("top", -down), ("bottom", down)) if offset > 0.06]
    return words or (["middle"] if max(abs(across), abs(down)) <= 0.04 else [])


def _fill(template: str, facts: ParsedCaption) -> str:
    """Write a template out."""
    slots = {
        "relation": facts.relation,
        "background": BACKGROUND_PHRASES.get(facts.background),
        "position": POSITION_PHRASES.get(facts.position),
    }
    for number, item in enumerate(facts.objects):
        slots[f"kind{number}"], slots[f"colour{number}"], slots[f"size{number}"] = item.kind, item.colour, item.size
        slots[f"article{number}"] = _article(item.kind)
        slots[f"a{number}"] = f"{_article(item.colour)} {item.colour} {item.kind}"
        slots[f"sized{number}"] = f"a {item.size} {item.colour} {item.kind}"
    return template.format(**slots)


@lru_cache(maxsize=16)
def _patterns(kinds: tuple[str, ...], colours: tuple[str, ...]) -> tuple[tuple[str, re.Pattern], ...]:
    """Each template with the regular expression that reads it.

    Raises:
        `ValueError`: If a kind's name is not plain lowercase words, or uses a word of the grammar.
    """
    templates = _SINGLE_TEMPLATES + _PAIR_TEMPLATES
    phrases = (*templates, *BACKGROUND_PHRASES.values(), *POSITION_PHRASES.values(), *INVERSE, *SIZES, *colours, "an")
    reserved = set(re.findall(r"(?<![{\w])[a-z]+(?![\w}])", " ".join(phrases)))
    for kind in kinds:
        if not re.fullmatch("[a-z]+( [a-z]+)*", kind) or reserved & set(kind.split()):
            raise ValueError(f"`kinds` must be lowercase words outside {', '.join(sorted(reserved))}; got {kind!r}")
    slots = {name: _group(name, words) for name, words in (("relation", INVERSE),)}
    slots["background"] = _group("background", BACKGROUND_PHRASES.values())
    slots["position"] = _group("position", POSITION_PHRASES.values())
    for number in "01":
        kind, colour, size = (
            _group(f"{name}{number}", words) for name, words in (("kind", kinds), ("colour", colours), ("size", SIZES))
        )
        slots |= {f"kind{number}": kind, f"colour{number}": colour, f"size{number}": size, f"article{number}": "an?"}
        slots |= {f"a{number}": f"an? {colour} {kind}", f"sized{number}": f"a {size} {colour} {kind}"}
    return tuple((template, re.compile(template.format(**slots))) for template in templates)


def check_kind_names(kinds: tuple[str, ...]) -> None:
    """Raise `ValueError` if the grammar could not read one of the names back."""
    _patterns(tuple(kinds), tuple(COLOURS))


def _group(name: str, words) -> str:
    return f"(?P<{name}>{'|'.join(sorted(map(re.escape, words), key=len, reverse=True))})"


def _key_of(phrases: dict[str, str], phrase: str | None) -> str | None:
    return next((name for name, value in phrases.items() if value == phrase), None)


def parse(
    caption: str, kinds: tuple[str, ...] = tuple(KINDS), colours: tuple[str, ...] = tuple(COLOURS)
) -> ParsedCaption | None:
    """Read a caption back.

    Args:
        caption (`str`): Any text.
        kinds (`tuple[str, ...]`): Words for things, the whole committed table by default.
        colours (`tuple[str, ...]`): Words for colours.

    Returns:
        `ParsedCaption`, or `None` if the text is not, letter by letter, a sentence of the grammar.
    """
    for template, pattern in _patterns(tuple(kinds), tuple(colours)):
        match = pattern.fullmatch(caption)
        if match is None:
            continue
        found = match.groupdict()
        objects = tuple(
            ParsedObject(found[f"kind{number}"], found[f"colour{number}"], found.get(f"size{number}"))
            for number in "01"
            if f"kind{number}" in found
        )
        facts = ParsedCaption(
            objects,
            found.get("relation"),
            _key_of(POSITION_PHRASES, found.get("position")),
            _key_of(BACKGROUND_PHRASES, found.get("background")),
        )
        if _fill(template, facts) == caption:  # refuses "an red bus"
            return facts
    return None


def describes(caption: ParsedCaption, scene: Scene) -> bool:
    """Whether all that a caption says is true of a scene, and it names every object."""
    order = [(item.kind, item.colour) for item in caption.objects]
    numbers = [
        number for pair in order for number, item in enumerate(scene.objects) if (item.kind, item.colour) == pair
    ]
    if sorted(numbers) != list(range(len(scene.objects))):
        return False
    relation = scene.relation if numbers[0] == 0 else INVERSE.get(scene.relation)
    said_sizes = [(item.size, number) for item, number in zip(caption.objects, numbers, strict=True) if item.size]
    return (
        caption.relation in (None, relation)
        and caption.background in (None, scene.background)
        and (caption.position is None or caption.position in position_words(scene))
        and all(size == size_word(scene, number) for size, number in said_sizes)
    )


def _single_groups(scene: Scene, draws: KeyedDraws):
    """Facts of a scene of one object, and the groups of templates, one for each caption after the first."""
    item, positions = scene.objects[0], position_words(scene)
    size, position = size_word(scene, 0), draws.choice(positions) if positions else None
    facts = ParsedCaption((ParsedObject(item.kind, item.colour, size),), None, position, scene.background)
    details = (
        *(_WITH_SIZE if size else ()),
        *(_WITH_POSITION if position else ()),
        *(_WITH_SIZE_AND_POSITION if size and position else ()),
    )
    groups = (_PLAIN, _WITH_BACKGROUND, details or _WITH_BACKGROUND, _PLAIN + _WITH_BACKGROUND + details)
    return [facts], groups


def _pair_groups(scene: Scene):
    """Facts of a scene of two objects read from either end, and the groups of templates."""
    items = tuple(ParsedObject(item.kind, item.colour, size_word(scene, n)) for n, item in enumerate(scene.objects))
    forward = ParsedCaption(items, scene.relation, None, scene.background)
    backward = ParsedCaption(items[::-1], INVERSE[scene.relation], None, scene.background)
    sizes = _PAIR_WITH_SIZE if items[0].size else ()  # sizes of two are relative: either both have a word or none
    groups = (_PAIR_PLAIN, _PAIR_WITH_BACKGROUND, sizes or _PAIR_WITH_BACKGROUND, _PAIR_TEMPLATES[:8] + sizes)
    return [forward, backward], groups


def captions(scene: Scene) -> list[str]:
    """Five different captions of a scene, each true of it; the first is the plain one ("a red bus").

    Args:
        scene (`Scene`): Its seed and index key the choice, so the result is a pure function.

    Returns:
        `list[str]`: The plain caption, another plain one, one with the background, one with size or position where the
        scene has a word for them, and one of any sort.
    """
    draws = KeyedDraws(scene.seed, scene.index, _CAPTION_STREAM)
    views, groups = _single_groups(scene, draws) if len(scene.objects) == 1 else _pair_groups(scene)
    plain = (_PLAIN if len(views) == 1 else _PAIR_PLAIN)[0]
    result = [_fill(plain, views[0])]
    for group in groups:
        sentences = [_fill(template, facts) for template in group for facts in views]
        result.append(draws.choice([sentence for sentence in sentences if sentence not in result]))
    return result
