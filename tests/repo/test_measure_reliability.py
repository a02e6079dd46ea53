# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import json
import re

import pytest

import measure_reliability
from measure_reliability import (
    BEGIN,
    END,
    FIGURES,
    PAGE,
    SUITE,
    Result,
    is_current,
    table,
    to_run,
    versions,
    write_page,
)

CASES = FIGURES["R3"].cases


def held(**changes):
    """What a run of R3 finds if all is well; it read one file, as it is now."""
    return Result(**({"count": CASES, "held": CASES, "day": "2026-01-02", "seconds": 90.0} | changes))


def told(*properties, failed=False, when="call"):
    """A report as pytest gives it."""
    values = [("figure", json.dumps(each)) for each in properties]
    return type("Report", (), {"nodeid": "test_it", "failed": failed, "when": when, "user_properties": values})


def test_each_figure_is_in_order_and_has_a_test_or_the_faults():
    assert list(FIGURES) == [f"R{number}" for number in range(1, 28)]
    text = "".join(path.read_text() for path in SUITE.glob("test_*.py"))
    assert set(re.findall(r'mark\.figure\(name="(R\d+)"\)', text)) == set(FIGURES) - {"R27"}


def test_the_page_names_every_figure():
    rows = re.findall(r"^\| (?:\*\*)?(R\d+), ", PAGE.read_text().split(BEGIN)[1].split(END)[0], re.MULTILINE)
    assert rows == list(FIGURES)


def test_cases_and_notes_of_several_tests_are_summed_up():
    result = Result()
    result.pytest_runtest_logreport(told([24, 24, "tmpfs"]))
    result.pytest_runtest_logreport(told([1, 2, "tmpfs"]))
    result.pytest_runtest_logreport(told([5, 5, ""], when="teardown"))
    assert (result.held, result.count, result.notes) == (25, 26, ["tmpfs"])


@pytest.mark.parametrize(
    ("result", "good"),
    [
        (held(), True),
        (held(held=CASES - 1), False),
        (held(count=CASES - 1, held=CASES - 1), False),  # fewer than promised
        (held(failed=["test_it"]), False),  # which told of no cases
    ],
)
def test_a_figure_is_held_if_all_of_the_promised_cases_are(result, good):
    assert result.holds(FIGURES["R3"]) is good
    (line,) = (line for line in table({"R3": result}).splitlines() if "R3" in line)
    assert ("| held |" in line) is good and ("open" in line) is not good


def test_a_figure_that_asks_for_a_share_of_its_cases_holds_with_it_and_says_how_many():
    figure = FIGURES["R27"]
    assert figure.share == 0.95 and figure.cases == 200
    assert held(held=190, count=200).holds(figure) and not held(held=189, count=200).holds(figure)
    assert not held(held=199, count=199).holds(figure)
    assert "| 200 | held: 190 |" in table({"R27": held(held=190, count=200)})
    assert "| 200 | **open: 189** |" in table({"R27": held(held=189, count=200)})


def test_a_figure_that_never_ran_is_said():
    assert "| **R5, kill -9** | 112 | **not run** |" in table({"R3": held()})


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A folder with one file, in place of the repository."""
    monkeypatch.setattr(measure_reliability, "ROOT", tmp_path)
    (tmp_path / "code.py").write_text("right")
    return tmp_path


def test_what_is_kept_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(measure_reliability, "RESULTS", tmp_path / "results")
    measure_reliability.keep(held(notes=["a note"], files={"code.py": "1"}), "R3")
    assert measure_reliability.load_results() == {"R3": held(notes=["a note"], files={"code.py": "1"})}


def test_a_figure_depends_on_the_modules_that_its_run_loads():
    files = {str(path.relative_to(PAGE.parents[1])) for path in measure_reliability.loaded_files()}
    assert {"tests/repo/test_measure_reliability.py", "tests/conftest.py"} <= files
    assert not any("site-packages" in name for name in files)


def test_a_figure_is_measured_again_if_a_file_or_a_library_has_changed(repository):
    result = held(versions=versions(), files=measure_reliability.hashes([repository / "code.py"]))
    assert is_current("R3", result)
    assert not is_current("R3", held(versions=versions() | {"torch": "0"}, files=result.files))
    assert not is_current("R3", held(held=1, versions=versions(), files=result.files))
    (repository / "code.py").write_text("wrong")
    assert not is_current("R3", result)
    (repository / "code.py").unlink()
    assert not is_current("R3", result)


def test_the_quick_ones_come_first_and_those_that_are_current_not_at_all(repository):
    results = {name: held(seconds=100.0 - number) for number, name in enumerate(FIGURES) if name != "R9"}
    current = held(
        count=112, held=112, versions=versions(), files=measure_reliability.hashes([repository / "code.py"])
    )
    names = to_run(results | {"R5": current}, [], everything=False)
    assert names[:2] == ["R27", "R26"] and names[-1] == "R9" and "R5" not in names
    assert set(to_run(results | {"R5": current}, [], everything=True)) == set(FIGURES)
    assert to_run(results | {"R5": current}, ["R5"], everything=False) == ["R5"]


def test_the_table_of_the_page_is_replaced_and_nothing_else(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}old\n{END}\nbehind\n")
    write_page(page, {"R3": held()})
    assert page.read_text() == f"before\n{BEGIN}\n{table({'R3': held()})}\n{END}\nbehind\n"
    page.write_text("no place for it")
    with pytest.raises(ValueError, match="page.md: it must have one line"):
        write_page(page, {})
