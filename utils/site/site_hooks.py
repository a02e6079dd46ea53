# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What mkdocs calls while it builds the site, see mkdocs.yml: adds pages, and rewrites those of docs/."""

from pathlib import Path

from mkdocs.structure.files import File

from site_pages import (
    PAGES,
    REFERENCE,
    ROOT,
    reference_index,
    reference_page,
    rooms,
    with_nested_lists,
    with_site_links,
)


def on_config(config):
    """Put the rooms into the navigation.

    Args:
        config (`MkDocsConfig`): Of the site.

    Returns:
        `MkDocsConfig`.
    """
    pages = [{"Overview": f"{REFERENCE}/index.md"}]
    pages += [{"rng, masking" if room == "core" else room: f"{REFERENCE}/{room}.md"} for room in rooms()]
    (reference,) = [entry["Reference"] for entry in config.nav if "Reference" in entry]
    reference[:0] = pages[:1]
    reference += pages[1:]
    cards = [{Path(page).stem: page} for page in PAGES.values() if page.startswith("checkpoints/")]
    config.nav.insert(-2, {"Checkpoints": cards})
    return config


def on_files(files, config):
    """Add the pages that are not in docs/.

    Args:
        files (`Files`): Of docs/.
        config (`MkDocsConfig`): Of the site.

    Returns:
        `Files`.
    """
    texts = {page: (ROOT / path).read_text(encoding="utf-8") for path, page in PAGES.items()}
    texts[f"{REFERENCE}/index.md"] = reference_index()
    texts |= {f"{REFERENCE}/{room}.md": reference_page(room, modules) for room, modules in rooms().items()}
    for page, text in texts.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Rewrite links and lists.

    Args:
        markdown (`str`): The page.
        page (`Page`): Where it is.
        config (`MkDocsConfig`): Of the site.
        files (`Files`): All of them.

    Returns:
        `str`.
    """
    if page.file.src_uri.startswith(f"{REFERENCE}/"):
        return markdown
    return with_site_links(with_nested_lists(markdown), page.file.src_uri, config.repo_url)
