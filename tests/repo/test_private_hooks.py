# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The table of docs/hugging_face.md of what is overridden in transformers and diffusers though it is theirs alone."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import itit_hf

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `(\w+\.)(_\w+)` \| `([\w.]+)` \| .+ \|$", re.MULTILINE)
LIBRARIES = ("transformers", "diffusers")
MODULES = {  # where a class, or a class of a caller, of the table is
    "BaseImageProcessor": "transformers.image_processing_utils",
    "DiffusionPipeline": "diffusers",
    "GenerationMixin": "transformers",
    "ModelMixin": "diffusers",
    "PreTrainedModel": "transformers",
    "Trainer": "transformers",
    "TrainingArguments": "transformers",
}


def hooks_of_the_table() -> dict[tuple[str, str], str]:
    """Class of the library and hook -> which of the library's functions uses it."""
    text = (ROOT / "docs" / "hugging_face.md").read_text(encoding="utf-8")
    return {(owner.rstrip("."), hook): caller for owner, hook, caller in ROW.findall(text)}


HOOKS = hooks_of_the_table()


def classes_of_the_package() -> list[type]:
    modules = pkgutil.walk_packages(itit_hf.__path__, "itit_hf.")
    found = [value for module in modules for value in vars(importlib.import_module(module.name)).values()]
    return list({each: None for each in found if inspect.isclass(each) and each.__module__.startswith("itit_hf.")})


def is_of(cls: type, packages: tuple[str, ...]) -> bool:
    return cls.__module__.partition(".")[0] in packages


def overridden_hooks() -> set[tuple[str, str]]:
    """Class of the library and private name, wherever a class of ours stands before it and has that name too."""
    found = set()
    for cls in classes_of_the_package():
        ours = [base for base in cls.__mro__ if is_of(base, ("itit_hf",))]
        names = {name for base in ours for name in vars(base) if re.match(r"_[^_]", name)}
        for base in cls.__mro__:
            if is_of(base, LIBRARIES):
                found |= {(base.__name__, name) for name in names & vars(base).keys() if name != "_abc_impl"}
                names -= vars(base).keys()
    return found


def test_the_table_names_every_private_hook_that_is_overridden_and_no_other():
    assert overridden_hooks() == HOOKS.keys()


@pytest.mark.parametrize(("owner", "hook"), HOOKS)
def test_the_library_still_uses_the_hook_where_the_table_says(owner, hook):
    caller = HOOKS[owner, hook]
    holder, _, function = caller.rpartition(".")
    source = inspect.getsource(getattr(getattr(importlib.import_module(MODULES[holder]), holder), function))
    assert re.search(rf"\b{hook}\b", source), f"`{caller}` does not use `{hook}`: what is overridden has no effect"


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_upper_bound_is_the_newest_minor_version_that_was_tested(library):
    tested = re.findall(rf"^{library}==(\d+)\.(\d+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    major, minor = max((int(major), int(minor)) for major, minor in tested)
    required = (ROOT / "setup.cfg").read_text()
    assert re.findall(rf"^    {library}>=[\d.]+,<(.+)$", required, re.MULTILINE) == [f"{major}.{minor + 1}"]
