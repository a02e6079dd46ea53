# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The pages of the site: how they are made, and, where mkdocs is, that each link of the built site leads somewhere."""

import configparser
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

import itit_hf
from site_pages import (
    PAGES,
    public_paths,
    readable,
    reference_page,
    rooms,
    site_link,
    with_nested_lists,
    with_site_links,
)

from ..testing_utils import ROOT

URL = "https://example.org/itit"


class Loader(yaml.SafeLoader):
    """Of mkdocs.yml, without what calls Python."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)
CONFIG = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)  # noqa: S506


@pytest.mark.parametrize(
    ("target", "page", "wanted"),
    [
        ("equations.md#part", "architecture.md", "equations.md#part"),
        ("../src/itit_hf/rng.py#L3", "equations.md", f"{URL}/blob/main/src/itit_hf/rng.py#L3"),
        ("docs/data.md", "index.md", "data.md"),
        ("model_cards/emoji-scenes-64.md", "index.md", "checkpoints/emoji-scenes-64.md"),
        ("../docs/images/two.png", "checkpoints/emoji-scenes-64.md", "../images/two.png"),
        (
            "emoji-scenes-64.json",
            "checkpoints/emoji-scenes-64.md",
            f"{URL}/blob/main/model_cards/emoji-scenes-64.json",
        ),
        ("../../examples/recipes", "experiments/cycles.md", f"{URL}/tree/main/examples/recipes"),
        ("../README.md#train", "data.md", "index.md#train"),
        ("LICENSE", "contributing.md", f"{URL}/blob/main/LICENSE"),
        ("https://huggingface.co", "data.md", "https://huggingface.co"),
        ("#here", "data.md", "#here"),
    ],
)
def test_a_link_leads_to_a_page_where_there_is_one_and_else_to_the_repository(target, page, wanted):
    assert site_link(target, page, URL) == wanted


def test_links_in_code_stay_as_they_are():
    page = "[`f`](../src/itit_hf/rng.py) and `[a](b.md)`\n```\n[a](b.md)\n```\n"
    assert with_site_links(page, "data.md", URL) == page.replace("../src", f"{URL}/blob/main/src")


def test_a_list_within_a_list_is_indented_by_four_and_code_is_not():
    page = "1. a\n   1. b\n      more\n```\n   - c\n```"
    assert with_nested_lists(page) == "1. a\n    1. b\n      more\n```\n   - c\n```"


PATHS = {"load_image": "itit_hf.models.image_loading_itit.load_image"}


@pytest.mark.parametrize(
    ("docstring", "wanted"),
    [
        ("Calls [`load_image`].", f"Calls [`load_image`][{PATHS['load_image']}]."),
        ("Calls [`~rooms.nothing`].", "Calls `nothing`."),
        ("Args:\n    x (`int`, *optional*, defaults to 3): Steps.", "Args:\n    x (int): Steps."),
        ("    x (`Tensor` of shape `(B, K)`): Ids.", "    x (Tensor): Of shape `(B, K)`. Ids."),
        ("    x (`Tensor` of shape `(B, K)`)\n", "    x (Tensor): Of shape `(B, K)`.\n"),
        ("    more (and more) prose", "    more (and more) prose"),
    ],
)
def test_a_docstring_is_written_as_mkdocstrings_reads_it(docstring, wanted):
    assert readable(docstring, PATHS) == wanted


def test_every_public_name_is_in_the_reference():
    pages = "\n".join(reference_page(room, modules) for room, modules in rooms().items())
    shown = re.findall(r"^::: (\S+)$", pages, re.MULTILINE)
    for module, names in itit_hf._import_structure.items():
        assert f"itit_hf.{module}" in shown and all(name in public_paths() for name in names)


def named_pages(nav):
    for entry in nav:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else named_pages(value)


def test_every_page_of_docs_is_in_the_navigation():
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    pages |= {page for page in PAGES.values() if not page.startswith("checkpoints/")}  # those are added by the hook
    assert pages == set(named_pages(CONFIG["nav"]))


def test_the_site_and_the_package_name_the_same_repository():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    urls = dict(line.split(" = ") for line in setup["metadata"]["project_urls"].strip().splitlines())
    assert (CONFIG["repo_url"], CONFIG["site_url"].rstrip("/")) == (urls["Source"], urls["Documentation"])


class Page(HTMLParser):
    """Links and anchors of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = [], {"", "__skip"}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors.add(values.get("id"))
        self.links += [values[name] for name in ("href", "src") if values.get(name)]


@pytest.mark.slow
def test_every_link_of_the_built_site_leads_to_a_file_and_an_anchor(tmp_path):
    pytest.importorskip("mkdocs", reason="pip install 'itit-hf[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-3000:]
    pages = {
        file: Page(file.read_text(encoding="utf-8")) for file in tmp_path.rglob("*.html") if file.name != "404.html"
    }
    assert len(pages) > 40
    assert [
        (file.name, link) for file, page in pages.items() for link in page.links if is_lost(file, link, pages)
    ] == []


def is_lost(file, link, pages):
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return False
    target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    target = target / "index.html" if target.is_dir() else target
    return not Path(target).exists() or (target in pages and unquote(parts.fragment) not in pages[target].anchors)
