# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What the pages point to is there: links, headings, and the files that are named."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("model_cards/*.md")]
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
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
