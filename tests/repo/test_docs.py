# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What the pages point to is there: links, headings, and the files and names that are named."""

import ast
import re
from pathlib import Path

import pytest

from check_code_links import definitions

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("model_cards/*.md")]
PACKAGE = ROOT / "src" / "itit_hf"
ROOMS = "|".join(path.name for path in sorted(PACKAGE.iterdir()) if path.is_dir() and path.name != "__pycache__")
# Such as `objectives.losses.caption_loss`, `itit_hf.metrics.captions` and `masking.random_mask`; the changelog also
# tells what names were.
NAMED_OBJECT = re.compile(rf"`(?:itit_hf\.)?((?:{ROOMS})\.\w+|rng|masking)(?!\.py\b)\.?((?<=\.)[\w.]+)?(?=[(`])")
PACKAGE_FILE = re.compile(rf"(?<![\w/.-])(?:src/)?(?:itit_hf/)?((?:{ROOMS})/\w+\.py)")
SPOKEN_OF_TODAY = [page for page in PAGES if page.name != "CHANGELOG.md"]
LINK = re.compile(r"\]\((?!https?:|mailto:)([^()\s]*)(?: \"[^\"]*\")?\)")
LINE = re.compile(r"L\d+")  # of a Python file; utils/check_code_links.py says whether it is the right one
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
NAMED_FILE = re.compile(
    r"(?<![\w/.-])((?:docs|examples|metrics|model_cards|tests|utils)/[\w/-]+\.(?:py|md|yaml|jsonl|json))"
)


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {anchor(heading) for heading in HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8")))}


@pytest.mark.parametrize(
    ("heading", "wanted"),
    [("What it has to compute", "what-it-has-to-compute"), ("2026-11-21: 1,000 `pairs`", "2026-11-21-1000-pairs")],
)
def test_an_anchor_is_the_heading_without_its_marks(heading, wanted):
    assert anchor(heading) == wanted


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(page):
    lost = []
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        name, _, part = target.partition("#")
        file = (page.parent / name) if name else page
        is_line = file.suffix == ".py" and LINE.fullmatch(part)
        if not file.exists() or (part and not is_line and part not in anchors(file)):
            lost.append(target)
    assert lost == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_are_named_exist(page):
    named = set(NAMED_FILE.findall(page.read_text(encoding="utf-8")))
    named |= set(PACKAGE_FILE.findall(page.read_text(encoding="utf-8")))
    assert [name for name in sorted(named) if not (ROOT / name).exists() and not (PACKAGE / name).exists()] == []


def is_defined(module: str, name: str) -> bool:
    """Whether a module of the package, as `room.module`, defines a name; that of the room itself needs no name."""
    file = PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
    return file.is_file() and (not name or name in dict(definitions(ast.parse(file.read_text(encoding="utf-8")))))


@pytest.mark.parametrize("page", SPOKEN_OF_TODAY, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_names_of_the_package_that_are_named_exist(page):
    named = set(NAMED_OBJECT.findall(page.read_text(encoding="utf-8")))
    assert [".".join(parts) for parts in sorted(named) if not is_defined(*parts)] == []
