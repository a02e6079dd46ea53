# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
from pathlib import Path
from xml.etree import ElementTree

import draw_architecture

ROOT = Path(__file__).parents[2]


def test_the_committed_figure_is_what_the_script_draws():
    committed = (ROOT / "docs" / "images" / "architecture.svg").read_text(encoding="utf-8")
    assert committed == draw_architecture.figure()


def test_the_figure_is_well_formed_and_has_colours_for_light_and_for_dark_pages():
    figure = draw_architecture.figure()
    ElementTree.fromstring(figure)
    light, dark = figure.split("@media (prefers-color-scheme:dark)")
    assert ".page{fill:#ffffff}" in light
    assert ".page{fill:#161b22}" in dark


def test_a_piece_between_underscores_stands_lower():
    text = draw_architecture.words(0, 0, "p(i_k_)")
    assert text.count('<tspan class="sub" dy="4">k</tspan>') == 1
    assert "_" not in text


def test_every_room_has_a_line_in_the_architecture():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = [
        path
        for path in (ROOT / "src" / "itit_hf").iterdir()
        if not path.name.startswith("_") and path.suffix != ".typed"
    ]
    names = [f"`{room.name}/`" if room.is_dir() else f"`{room.name}`" for room in rooms]
    assert [name for name in names if name not in page] == []
