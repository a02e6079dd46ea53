# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import os
import shutil
from pathlib import Path

import pytest

import mutation_check
from mutants import KINDS
from mutation_check import (
    EQUIVALENT,
    Map,
    Place,
    check,
    drawn_faults,
    in_child,
    map_tests,
    near_and_far_test_files,
    share_caught,
    summary,
)

CODE = """
def half(x):
    return x / 2


def unseen(x):
    return x + 1
"""
TESTS = """
from toy_package.numbers import half


def test_half_of_four_is_two():
    assert half(4) == 2
"""


@pytest.fixture
def place(tmp_path):
    """A package with two functions, of which one is tested."""
    for folder in ("src/toy_package", "tests"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "src/toy_package/__init__.py").write_text("")
    (tmp_path / "src/toy_package/numbers.py").write_text(CODE)
    (tmp_path / "tests/test_numbers.py").write_text(TESTS)
    return Place(tmp_path, "toy_package", tmp_path / "out")


def test_faults_are_caught_where_a_test_looks_and_survive_elsewhere(place):
    verdicts = check(place, number=100)
    caught = {verdict.mutant["function"]: verdict.caught for verdict in verdicts}
    assert caught == {"half": True, "unseen": False}
    assert {verdict.by for verdict in verdicts} == {"tests/test_numbers.py::test_half_of_four_is_two", ""}
    assert share_caught(verdicts) == 0.5 and "numbers:unseen:operator:0" in summary(verdicts)


def test_what_was_judged_is_judged_anew_only_if_something_changed(place, monkeypatch):
    first = check(place, number=100)
    judged = []

    class Watched(mutation_check.Trial):
        def ask(self, files):
            judged.append(self.mutant.function)
            super().ask(files)

    monkeypatch.setattr(mutation_check, "Trial", Watched)
    assert check(place, number=100) == first and not judged
    with open(place.root / "tests/test_numbers.py", "a") as file:
        file.write("\n\ndef test_more():\n    from toy_package.numbers import unseen\n    assert unseen(1) == 2\n")
    assert share_caught(check(place, number=100)) == 1.0
    assert set(judged) == {"half", "unseen"}
    judged.clear()
    (place.root / "tests/test_others.py").write_text("")
    check(place, number=100)
    assert judged == []  # what was caught stays caught, whatever other tests there are


def test_a_map_tells_which_test_runs_which_function(place):
    found = map_tests(place, "tests/test_numbers.py")
    name = "tests/test_numbers.py::test_half_of_four_is_two"
    assert set(found.functions) == {name} and "numbers:half" in found.functions[name]
    assert not any("unseen" in each for each in [*found.functions[name], *found.shared])
    assert found.tests_of("numbers", "half") == {name} and found.tests_of("numbers", "unseen") == set()
    assert found.tests_of("numbers", "") == {name} and found.tests_of("letters", "") == set()


def test_what_was_set_up_belongs_to_all_tests_of_the_file():
    found = Map({}, {"a": 1.0, "b": 2.0}, {"a": ["m:f"], "b": ["m:g.inner"]}, ["m:Table.make"])
    assert found.tests_of("m", "Table.make") == {"a", "b"} and found.tests_of("m", "g") == {"b"}


def test_a_process_with_a_fault_writes_to_its_own_folder_only(tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")

    def work(folder: Path) -> dict:
        (folder / "sub").mkdir()
        (folder / "sub" / "own").write_text("x")
        shutil.rmtree(folder / "sub")
        refused = 0
        deeds = (
            lambda: shutil.rmtree(precious),
            lambda: os.remove(precious / "file"),
            lambda: (precious / "file").write_text("lost"),
            lambda: os.replace(folder / "said", precious / "file"),
            lambda: os.mkdir(precious / "new"),
        )
        for deed in deeds:
            try:
                deed()
            except PermissionError:
                refused += 1
        return {"refused": refused, "read": (precious / "file").read_text()}

    assert in_child(work, 60.0) == {"refused": 5, "read": "kept"}


def test_a_fault_that_never_ends_or_kills_its_process_is_told():
    assert in_child(lambda folder: os._exit(3), 60.0)["ended"] == "status 3"
    assert in_child(lambda folder: os.abort(), 60.0)["ended"] == "signal SIGABRT"

    def spin(folder: Path) -> dict:
        while True:
            pass

    assert in_child(spin, 0.0)["ended"] == "signal SIGXCPU"


def test_a_modules_own_tests_come_first():
    place = Place()
    near, far = near_and_far_test_files(place, "masking")
    assert near[0] == "tests/test_masking.py" and "tests/metrics/test_captions.py" in far
    near, far = near_and_far_test_files(place, "metrics/captions")
    assert near[0] == "tests/metrics/test_captions.py" and "tests/data/test_captions.py" in far[:3]
    assert sorted(near + far) == place.test_files()


def test_each_fault_that_is_left_out_says_what_it_changes_and_why_that_is_nothing():
    for name, (change, reason) in EQUIVALENT.items():
        assert name.split(":")[2] in KINDS and " -> " in change and len(reason.split()) >= 4, name


def test_a_fault_is_left_out_for_what_it_changes_and_not_for_its_name(place, monkeypatch):
    mutant = next(m for m in drawn_faults(place, 100, seed=0) if m.function == "unseen")
    monkeypatch.setitem(EQUIVALENT, mutant.name, (mutant.change, "nobody asks for the successor"))
    assert mutant not in drawn_faults(place, 100, seed=0)
    assert f"{mutant.change}: nobody asks" in summary([])
    monkeypatch.setitem(EQUIVALENT, mutant.name, ("`x` -> `y`", "it was another fault then"))
    assert mutant in drawn_faults(place, 100, seed=0)
