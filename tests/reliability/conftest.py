# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Figures of docs/reliability.md: each test names its own by a mark, and tells of how many cases how many held;
utils/measure_reliability.py sums them up."""

import json

import pytest


@pytest.fixture
def figure(record_property):
    """`figure(held, count)` counts the cases of a test, and fails it unless all held; a note tells what else was
    measured, or why there are fewer cases than promised."""

    def tell(held: int, count: int, note: str = ""):
        record_property("figure", json.dumps([int(held), count, note]))
        assert held == count, f"{held} of {count} held"

    return tell
