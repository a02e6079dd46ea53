# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Figures of docs/reliability.md: each test tells how many cases it had and how many held; the sums are printed."""

import json
from collections import defaultdict
from datetime import date
from importlib.metadata import version

import pytest

LIBRARIES = ("torch", "transformers", "diffusers", "accelerate", "datasets", "safetensors", "Pillow")


@pytest.fixture
def figure(record_property):
    """`figure("R1", held, count)` counts the cases of a test, and fails it unless all held; a note tells what else was
    measured, or why there are fewer cases than promised."""

    def tell(name: str, held: int, count: int, note: str = ""):
        record_property("figure", json.dumps([name, held, count, note]))
        assert held == count, f"{name}: {held} of {count} held"

    return tell


def pytest_terminal_summary(terminalreporter):
    """One line per figure, as it stands in docs/reliability.md."""
    held, counts, notes = defaultdict(int), defaultdict(int), defaultdict(list)
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", []):
                if name == "figure" and getattr(report, "when", "") == "call":
                    figure, good, count, note = json.loads(value)
                    held[figure] += good
                    counts[figure] += count
                    notes[figure] += [note] if note and note not in notes[figure] else []
    if not counts:
        return
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    terminalreporter.section("reliability")
    terminalreporter.write_line(f"{date.today()}; {versions}\n")
    terminalreporter.write_line("| figure | count | held | note |\n|---|---|---|---|")
    for figure in sorted(counts, key=lambda name: int(name[1:])):
        terminalreporter.write_line(f"| {figure} | {counts[figure]} | {held[figure]} | {'; '.join(notes[figure])} |")
