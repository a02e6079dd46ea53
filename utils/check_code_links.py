# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Check that the documentation's links to lines of code point at what they name. Needs no installation.

    python utils/check_code_links.py [--root REPOSITORY] [--fix]

A link to a line of a Python file, as GitHub opens it, says twice where it leads: by name and by number.

    [`caption_loss`](../src/itit_hf/objectives/losses.py#L24)
    [`t2i2t_loss`](../src/itit_hf/objectives/cycle.py#L153 "# equation (3)")

- The text is a function, class, method, field or constant of that file, `Class.method` where it stands in a class. The
  number is the line that defines it.
- With a title, the number is the one line within it that holds the title.

Code moves and numbers do not: `--fix` writes the numbers anew. A name or title that is no longer there is an error
with `--fix` too, as somebody has to say what took its place.
"""

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PAGES = ("*.md", "docs/*.md", "model_cards/*.md")
UNREADABLE = re.compile(r"\]\([^()\s]*\.py#[^)]*\)?")  # what is left of them
LINK = re.compile(r"\[(?P<text>[^][]+)\]\((?P<file>[^()\s#]+\.py)#(?P<anchor>[^()\s]*)(?: \"(?P<title>[^\"]*)\")?\)")


def definitions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.stmt]]:
    """Find what a module defines, at its top and in its classes.

    Args:
        tree (`ast.AST`): The module, or a class of it.
        prefix (`str`, *optional*): What stands before each name, such as `Class.`.

    Yields:
        `tuple[str, ast.stmt]`: The name, with the class around it, and the statement that defines it.
    """
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield prefix + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from definitions(node, f"{prefix}{node.name}.")
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        for target in targets:
            if isinstance(target, ast.Name):
                yield prefix + target.id, node


def line_of(source: str, name: str, title: str | None = None) -> int | str:
    """Find the line that a link names.

    Args:
        source (`str`): The Python file.
        name (`str`): What it defines, as `name` or `Class.name`.
        title (`str`, *optional*): A piece of one line within that.

    Returns:
        `int` or `str`: The line, counted from 1; or what keeps it from being found.
    """
    node = dict(definitions(ast.parse(source))).get(name)
    if node is None:
        return f"`{name}` is not defined there"
    if title is None:
        return node.lineno
    lines = source.splitlines()
    found = [number for number in range(node.lineno, node.end_lineno + 1) if title in lines[number - 1]]
    if len(found) == 1:
        return found[0]
    return f"{len(found)} lines of `{name}` hold `{title}`, and one must"


def check_page(page: Path, place: str) -> tuple[list[str], str]:
    """Check the links of one page.

    Args:
        page (`Path`): The page.
        place (`str`): What messages call it.

    Returns:
        `(problems, text)`: a message for each problem that no number mends; and the page with its numbers right.
    """
    problems = []

    def mended(link: re.Match) -> str:
        source = page.parent / link["file"]
        line = f"{link['file']} does not exist"
        if source.is_file():
            line = line_of(source.read_text(encoding="utf-8"), link["text"].strip("`"), link["title"])
        if isinstance(line, str):
            number = link.string.count("\n", 0, link.start()) + 1
            problems.append(f"{place}:{number}: {line}; mend the link to {link['file']}")
            return link[0]
        return link[0].replace(f".py#{link['anchor']}", f".py#L{line}")

    text = page.read_text(encoding="utf-8")
    for link in UNREADABLE.finditer(LINK.sub(lambda link: " " * len(link[0]), text)):
        number = text.count("\n", 0, link.start()) + 1
        problems.append(f"{place}:{number}: no link to a line of code is written so: {link[0]}; mend it")
    return problems, LINK.sub(mended, text)


def check(root: Path, fix: bool = False) -> list[str]:
    """Check the pages of a repository.

    Args:
        root (`Path`): The repository.
        fix (`bool`, *optional*, defaults to `False`): Write numbers that are wrong anew.

    Returns:
        `list[str]`: A message for each problem, as `file:line: what is wrong; the remedy`; empty if there is none.
    """
    problems = []
    for page in sorted(path for pattern in PAGES for path in root.glob(pattern)):
        place = page.relative_to(root).as_posix()
        lost, text = check_page(page, place)
        problems += lost
        before = page.read_text(encoding="utf-8")
        if fix and text != before:
            page.write_text(text, encoding="utf-8")
            continue
        for number, (old, new) in enumerate(zip(before.splitlines(), text.splitlines(), strict=True), start=1):
            if old != new:
                remedy = "run `python utils/check_code_links.py --fix`"
                problems.append(f"{place}:{number}: a link's line number is not that of what it names; {remedy}")
    return problems


def main() -> int:
    """Print the problems of the repository; the exit status is 1 if there is one."""
    parser = argparse.ArgumentParser(description="Check that links to lines of code point at what they name.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="the repository")
    parser.add_argument("--fix", action="store_true", help="write line numbers that are wrong anew")
    args = parser.parse_args()
    problems = check(args.root, args.fix)
    said = "check_code_links: every link to a line of code points at what it names"
    print("\n".join(problems) or said, file=sys.stderr if problems else sys.stdout)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
