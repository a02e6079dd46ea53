# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Recipes: YAML files with the settings of a run, each checked by the type of the argument that it is for."""

import os
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

_WORDS = {  # what a type is called in a message
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    list: "a list, such as [a, b]",
    dict: "a mapping, such as {a: 1}",
    type(None): "null",
}
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class _WrongType(Exception):
    pass


def argument_types(dataclass_types) -> dict[str, Any]:
    """The types that the arguments of some dataclasses may have.

    Args:
        dataclass_types (`Iterable[type]`): Dataclasses, such as [`ITITTrainingArguments`].

    Returns:
        `dict[str, Any]`: Type by name. One whose default is `None` may be `None`.
    """
    found: dict[str, Any] = {}
    for each in dataclass_types:
        hints = get_type_hints(each)
        for field in fields(each):
            if field.init:
                wanted = hints[field.name]
                found[field.name] = wanted | None if field.default is None else wanted
                if field.default is MISSING and field.default_factory is MISSING:
                    found[field.name] = wanted
    return found


def read_recipe(path: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a recipe over those of the recipe that it builds upon, `base: other.yaml`.

    A value must have the type of its argument: a list is never read out of one string, nor a number out of a word.
    Numbers and booleans in quotes are read as on the command line, since YAML takes `1e-3` for a string. A whole
    number may be written as `1e5`.

    Args:
        path (`str`): YAML file with lines `name: value`. `base` is named as seen from its folder.
        wanted (`Mapping[str, Any]`): Type of each argument, see [`argument_types`].

    Returns:
        `dict[str, Any]`: Value by name.

    Raises:
        ValueError: If there is no such file, it is no YAML, names an argument that does not exist, gives one a value
            of another type, or builds upon itself. The message names file and argument.
    """
    return _read(path, wanted, ())


def _read(path: str, wanted: Mapping[str, Any], above: tuple[str, ...]) -> dict[str, Any]:
    """`above` are the recipes that build upon this one."""
    path = os.path.realpath(path)
    if path in above:
        raise ValueError(f"a recipe must not build upon itself, got {' -> '.join([*above, path])}")
    if not os.path.isfile(path):
        raise ValueError(f"there is no recipe `{path}`" + (f", which `{above[-1]}` builds upon" if above else ""))
    with open(path, encoding="utf-8-sig") as file:
        try:
            recipe = yaml.safe_load(file) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"`{path}` is no YAML: {error}") from error
    if not isinstance(recipe, dict):
        raise ValueError(f"`{path}` must hold lines `name: value`, got a {type(recipe).__name__}")
    base = recipe.pop("base", None)
    unknown = sorted(map(str, set(recipe) - set(wanted)))
    if unknown:
        raise ValueError(f"`{path}` names arguments that do not exist: {unknown}")
    for name, value in recipe.items():
        try:
            recipe[name] = _converted(value, wanted[name])
        except _WrongType as error:
            raise ValueError(f"`{path}`: `{name}` must be {_words(wanted[name])}, got {value!r}{error}") from None
    if base is None:
        return recipe
    if not isinstance(base, str):
        raise ValueError(f"`{path}`: `base` must be the name of a recipe, got {base!r}")
    return _read(os.path.join(os.path.dirname(path), base), wanted, (*above, path)) | recipe


def _converted(value, wanted):
    """The value as the type that is wanted."""
    origin = get_origin(wanted)
    inner = get_args(wanted)
    if wanted is Any:
        return value
    if origin in (Union, types.UnionType):
        return _first_that_fits(value, inner)
    if origin is Literal:
        return _one_of(value, inner)
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        return _one_of(value, [each.value for each in wanted])
    container = origin or wanted
    if container in (list, tuple):
        return _list(value, inner)
    if container is dict:
        return _dict(value, inner)
    if wanted is bool:
        return _bool(value)
    if wanted in (int, float):
        return _number(value, wanted)
    if not isinstance(value, wanted):
        raise _WrongType(_hint(value))
    return value


def _first_that_fits(value, wanted: tuple):
    """Of several types that which the value has, before one that it could be read as."""
    exact = [each for each in wanted if type(value) is (get_origin(each) or each)]
    hint = ""
    for each in (*exact, *wanted):
        try:
            return _converted(value, each)
        except _WrongType as error:
            hint = hint or str(error)
    raise _WrongType(hint)


def _one_of(value, choices):
    if value not in choices:
        raise _WrongType(_hint(value))
    return value


def _list(value, inner: tuple) -> list:
    if not isinstance(value, list):
        raise _WrongType("")
    return [_converted(each, inner[0]) for each in value] if inner else value


def _dict(value, inner: tuple) -> dict:
    if not isinstance(value, dict):
        raise _WrongType("")
    return {_converted(key, inner[0]): _converted(each, inner[1]) for key, each in value.items()} if inner else value


def _bool(value) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in _BOOLEANS:
        raise _WrongType("")
    return _BOOLEANS[value.lower()]


def _number(value, wanted: type) -> int | float:
    if isinstance(value, int) and not isinstance(value, bool):
        return value  # also for a float: the settings that are saved then stay as they were written
    if not isinstance(value, (float, str)):
        raise _WrongType("")
    try:
        number = float(value)
    except ValueError:
        raise _WrongType("") from None
    if wanted is int and not number.is_integer():
        raise _WrongType("")
    return wanted(number)


def _hint(value) -> str:
    if isinstance(value, bool):
        return ": YAML reads a bare yes, no, on and off as true and false; put it in quotes"
    return ": put it in quotes" if isinstance(value, (int, float)) else ""


def _words(wanted) -> str:
    """A type for people."""
    origin = get_origin(wanted)
    inner = get_args(wanted)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(each) for each in inner))
    if origin is Literal:
        return f"one of {list(inner)}"
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        return f"one of {[each.value for each in wanted]}"
    if origin is list and inner:
        return f"a list, such as [a, b], each of it {_words(inner[0])}"
    return _WORDS.get(origin or wanted, str(wanted))
