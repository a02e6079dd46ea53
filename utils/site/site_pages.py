# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What the site's pages are made of, besides the files of docs/, as plain functions of text.

The pages are written for GitHub. Here README.md, CHANGELOG.md, CONTRIBUTING.md and the cards become pages too, each
room of the package gets a page of its docstrings, links to files that are no pages lead to the repository, and lists
that are indented as GitHub reads them are indented as mkdocs does. Docstrings are in the Hugging Face form; here they
become what mkdocstrings reads.
"""

import ast
import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "itit_hf"

# File of the repository -> page of the site; what is in docs/ has its own name.
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"} | {
    f"model_cards/{card.name}": f"checkpoints/{card.name}"
    for card in sorted((ROOT / "model_cards").glob("*.md"))
    if card.name != "template.md"
}
REFERENCE = "reference"
# A module has a heading already.
OPTIONS_OF_MODULE = "    options:\n      show_root_heading: false\n      show_root_toc_entry: false\n"
# What is code in a page, and stays as it is; or the target of a link.
CODE_OR_LINK = re.compile(
    r"^( *)(```|~~~).*?^\1\2 *$|`[^`\n]+`|(?<=\]\()([^()\s]+)(?=[)\s])", re.MULTILINE | re.DOTALL
)
# Of a docstring: a name in brackets.
MENTIONED = re.compile(r"\[`~?([\w.]+)`\](?![(\[])")
# A line of `Args:`, `name (type): What it is.`; the type may have a shape, and what it is may be left out.
ARGUMENT = re.compile(
    r"^( +[\w., *]+) \((?P<type>(?:[^()`]|`[^`]*`|\([^()]*\))*)\)(?P<colon>:?)(?=[ \n]|$)", re.MULTILINE
)
DEFAULT = re.compile(r",? *\*optional\*(?:,? defaults to (?:`[^`]*`|[^,)]+))?")  # the signature has it
SHAPE = re.compile(r" of shape (`[^`]*`(?: or `[^`]*`)*)")
NESTED = re.compile(r"^ {2,3}(?=(?:[-*]|\d+\.) )")


def page_of(path: str) -> str | None:
    """The page of a file of the repository; `None` if it is shown as a file.

    Args:
        path (`str`): Path in the repository, with forward slashes.
    """
    if path.startswith("docs/") and not path.endswith((".jsonl", "/")) and (ROOT / path).is_file():
        return path.removeprefix("docs/")
    return PAGES.get(path)


def source_of(page: str) -> str:
    """The file of the repository that a page of the site is made of.

    Args:
        page (`str`): Path in the site, such as `index.md`.
    """
    return {made: path for path, made in PAGES.items()}.get(page, f"docs/{page}")


def site_link(target: str, page: str, repo_url: str) -> str:
    """A link of a page, as the site has it.

    Args:
        target (`str`): As it stands in the page, such as `../src/itit_hf/rng.py#L3`.
        page (`str`): The page, by its path in the site.
        repo_url (`str`): Of the repository.

    Returns:
        `str`: To a page of the site where there is one, else to the repository.
    """
    if re.match(r"[a-z]+:|#", target):
        return target
    name, hash_sign, anchor = target.partition("#")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source_of(page)), name))
    found = page_of(path)
    if found is not None:
        return posixpath.relpath(found, posixpath.dirname(page) or ".") + hash_sign + anchor
    kind = "tree" if (ROOT / path).is_dir() else "blob"
    return f"{repo_url.rstrip('/')}/{kind}/main/{path}{hash_sign}{anchor}"


def with_site_links(markdown: str, page: str, repo_url: str) -> str:
    """A page with the links of the site; code is left alone.

    Args:
        markdown (`str`): The page.
        page (`str`): Its path in the site.
        repo_url (`str`): Of the repository.
    """

    def moved(match: re.Match) -> str:
        return match[0] if match[3] is None else site_link(match[3], page, repo_url)

    return CODE_OR_LINK.sub(moved, markdown)


def with_nested_lists(markdown: str) -> str:
    """A page whose lists within lists are indented by four, as mkdocs wants them; GitHub is content with two."""
    inside = False
    lines = []
    for line in markdown.split("\n"):
        inside ^= line.lstrip().startswith(("```", "~~~"))
        lines.append(line if inside else NESTED.sub("    ", line))
    return "\n".join(lines)


def rooms() -> dict[str, list[str]]:
    """The rooms of the package, each with its modules, as `itit_hf.room.module`; what stands beside them is `core`."""
    found: dict[str, list[str]] = {"core": []}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        if parts[-1] == "__init__":
            continue
        room = parts[0] if len(parts) == 2 else "core"
        found.setdefault(room, []).append(".".join(["itit_hf", *parts]))
    return found


def what_is_in(room: str) -> str:
    """The line of docs/architecture.md about a room."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    name = "`rng.py`, `masking.py`" if room == "core" else f"`{room}/`"
    (line,) = re.findall(rf"^\| {re.escape(name)} \| (.*) \|$", text, re.MULTILINE)
    return line[0].upper() + line[1:] + "."


def reference_page(room: str, modules: list[str]) -> str:
    """The page of a room: what it is for, then its modules with what is public in them."""
    parts = [f"# {'rng, masking' if room == 'core' else room}\n\n{what_is_in(room)}\n"]
    for module in modules:
        path = ROOT.joinpath("src", *module.split(".")).with_suffix(".py")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        public = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        if any(not name.startswith("_") for name in public):
            parts.append(f"## `{module.removeprefix('itit_hf.')}`\n\n::: {module}\n{OPTIONS_OF_MODULE}")
    return "\n".join(parts)


def reference_index() -> str:
    """The public names, each with its module, as `itit_hf` has them."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (table,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_import_structure"
    ]
    lines = ["# Reference", "", "What `from itit_hf import ...` gives; the pages of the rooms have everything.", ""]
    lines += ["| name | where |", "|---|---|"]
    for module, names in table.items():
        for name in names:
            path = f"itit_hf.{module}.{name}"
            lines.append(f"| [`{name}`][{path}] | `{module}` |")
    return "\n".join(lines) + "\n"


def public_paths() -> dict[str, str]:
    """Every public class, function and method of the package: its name, with and without modules -> its path."""
    found: dict[str, str] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(["itit_hf", *file.relative_to(PACKAGE).with_suffix("").parts])
        for name in _names(ast.parse(file.read_text(encoding="utf-8")), ""):
            path = f"{module}.{name}"
            parts = path.split(".")
            for start in range(len(parts)):
                found.setdefault(".".join(parts[start:]), path)
    return found


def _names(node: ast.Module | ast.ClassDef, prefix: str) -> list[str]:
    names = []
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            names.append(prefix + child.name)
            if isinstance(child, ast.ClassDef):
                names += _names(child, f"{prefix}{child.name}.")
    return names


def readable(text: str, paths: dict[str, str]) -> str:
    """A docstring with links, and types without marks.

    Args:
        text (`str`): The docstring.
        paths (`dict[str, str]`): Of [`public_paths`].

    Returns:
        `str`.
    """

    def linked(match: re.Match) -> str:
        name = match[1].removeprefix("itit_hf.")
        shown = f"`{name.rsplit('.', 1)[-1]}`"
        return f"[{shown}][{paths[name]}]" if name in paths else shown

    def plain(match: re.Match) -> str:
        shapes = SHAPE.findall(match["type"])
        if not match["colon"] and not shapes:
            return match[0]  # no argument, but a line of prose
        types = DEFAULT.sub("", SHAPE.sub("", match["type"]))
        types = re.sub(r"\[`~?([\w.]+)`\]|[`*]", r"\1", types)
        shape = f" Of shape {' or '.join(shapes)}." if shapes else ""
        return f"{match[1]} ({' '.join(types.split())}):{shape}"

    return MENTIONED.sub(linked, ARGUMENT.sub(plain, text))
