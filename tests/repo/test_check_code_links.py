# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import re
from pathlib import Path

import pytest

import check_code_links

ROOT = Path(__file__).parents[2]
CODE = """\
STROKES = 3


class Fish:
    fins: int = 2

    def swim(self):
        push()  # equation (1)


@fast
def swim():
    pull()  # equation (2)
    pull()
"""


@pytest.fixture
def problems_with(tmp_path):
    """Problems of a page with one link, which is line 3 of it."""

    def problems_with(link: str, fix: bool = False) -> list[str]:
        (tmp_path / "src").mkdir(exist_ok=True)
        (tmp_path / "docs").mkdir(exist_ok=True)
        (tmp_path / "src" / "fish.py").write_text(CODE)
        (tmp_path / "docs" / "page.md").write_text(f"# Fishes\n\n| how | {link} |\n")
        return check_code_links.check(tmp_path, fix)

    return problems_with


@pytest.mark.parametrize(
    "link",
    [
        "[`STROKES`](../src/fish.py#L1)",
        "[`Fish`](../src/fish.py#L4)",
        "[`Fish.fins`](../src/fish.py#L5)",
        "[`Fish.swim`](../src/fish.py#L7)",
        "[`swim`](../src/fish.py#L12)",  # the function, not its decorator
        '[`Fish.swim`](../src/fish.py#L8 "# equation (1)")',
        '[`swim`](../src/fish.py#L13 "equation (2)")',
        "[fishes](../src/fish.py)",  # of no line
    ],
)
def test_a_link_to_the_line_of_what_it_names_is_right(problems_with, link):
    assert problems_with(link) == []


@pytest.mark.parametrize(
    ("link", "right"),
    [
        ("[`swim`](../src/fish.py#L7)", "[`swim`](../src/fish.py#L12)"),
        ("[`swim`](../src/fish.py#)", "[`swim`](../src/fish.py#L12)"),
        (
            '[`Fish.swim`](../src/fish.py#L13 "# equation (1)")',
            '[`Fish.swim`](../src/fish.py#L8 "# equation (1)")',
        ),
    ],
)
def test_another_line_is_a_problem_and_fix_writes_the_right_one(problems_with, tmp_path, link, right):
    (problem,) = problems_with(link)
    assert problem.startswith("docs/page.md:3: a link's line number is not that of what it names; run `python")
    assert problems_with(link, fix=True) == []
    assert (tmp_path / "docs" / "page.md").read_text() == f"# Fishes\n\n| how | {right} |\n"


@pytest.mark.parametrize("fix", [False, True])
@pytest.mark.parametrize(
    ("link", "message"),
    [
        ("[`dive`](../src/fish.py#L1)", "`dive` is not defined there"),
        ("[`Fish.STROKES`](../src/fish.py#L1)", "`Fish.STROKES` is not defined there"),
        ('[`swim`](../src/fish.py#L8 "# equation (1)")', "0 lines of `swim` hold `# equation (1)`, and one must"),
        ('[`swim`](../src/fish.py#L13 "pull()")', "2 lines of `swim` hold `pull()`, and one must"),
        ("[`swim`](../src/bird.py#L1)", "../src/bird.py does not exist"),
    ],
)
def test_what_is_no_longer_there_is_a_problem_that_no_number_mends(problems_with, link, message, fix):
    (problem,) = problems_with(link, fix)
    assert problem.startswith(f"docs/page.md:3: {message}; mend the link")


@pytest.mark.parametrize(
    "link",
    [
        '[`swim`](../src/fish.py#L13 "pull("two")")',
        "[`swim`](../src/fish.py#L12 'pull')",
        "[`a[b]`](../src/fish.py#L12)",
    ],
)
def test_a_link_that_cannot_be_read_is_a_problem(problems_with, link):
    (problem,) = problems_with(link)
    assert problem.startswith("docs/page.md:3: no link to a line of code is written so: ](../src/fish.py#L1")


def test_every_link_to_a_line_of_this_repository_points_at_what_it_names():
    assert check_code_links.check(ROOT) == []


def test_every_symbol_and_equation_is_linked_to_a_line():
    page = (ROOT / "docs" / "equations.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ")][1:]
    assert [row for row in rows if not check_code_links.LINK.search(row)] == []
    assert {number for row in rows for number in re.findall(r"equation \((\d)\)", row.split("|")[1])} == set("1234")
