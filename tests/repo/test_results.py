# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Tables of the pages are those of the committed JSON."""

import pytest

import write_results


@pytest.mark.parametrize("page", write_results.PAGES, ids=lambda page: page.name)
def test_every_table_of_a_page_is_printed_from_the_runs(page):
    text = page.read_text(encoding="utf-8")
    assert write_results.TABLE.search(text)
    assert text == write_results.with_tables(text), "run `python utils/write_results.py --write`"


def test_every_table_stands_on_one_page():
    pages = "\n".join(page.read_text(encoding="utf-8") for page in write_results.PAGES)
    assert sorted(found[2] for found in write_results.TABLE.finditer(pages)) == sorted(write_results.TABLES)


def test_a_table_that_nobody_makes_is_refused():
    with pytest.raises(ValueError, match="must ask for one of the tables .* got weather"):
        write_results.with_tables("<!-- table: weather -->\n<!-- end of the table -->\n")


def test_seeds_are_told_by_their_mean_and_both_ends():
    assert write_results.spread([0.25, 0.5, 0.75]) == "0.500 (0.250 to 0.750)"
    assert write_results.markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"


def test_the_readme_is_short():
    assert len(write_results.PAGES[0].read_text(encoding="utf-8").splitlines()) <= 130
