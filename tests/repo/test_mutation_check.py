# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

from mutation_check import FAULTS, PACKAGE, ROOT


def test_what_each_fault_replaces_stands_there_once():
    found = {fault: (ROOT / "src" / PACKAGE / f"{fault.module}.py").read_text().count(fault.right) for fault in FAULTS}
    assert {fault.right: count for fault, count in found.items() if count != 1} == {}


def test_each_fault_names_a_test_that_exists():
    for fault in FAULTS:
        file, name = fault.test.split("::")
        assert f"def {name.partition('[')[0]}(" in Path(ROOT, "tests", file).read_text(), fault.test


def test_there_are_as_many_faults_as_promised():
    assert len(FAULTS) >= 40 and len(set(FAULTS)) == len(FAULTS)
