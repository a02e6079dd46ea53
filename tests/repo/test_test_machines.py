# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import json
import os
import subprocess
import sys
from dataclasses import asdict

import pytest

import test_machines
from test_machines import (
    BEGIN,
    END,
    KERNELS,
    PAGE,
    RESULTS,
    SETTINGS,
    Result,
    is_another_name,
    load,
    read_report,
    run,
    table,
    to_run,
    write_page,
)

NATIVE = SETTINGS["native kernels, 1 thread"]


def result(setting="native kernels, 1 thread", **changes):
    known = {"processor": "A", "capability": "AVX2", "torch": "2.0", "sources": "abc"}
    return Result(setting, **(known | changes))


def test_each_kind_of_kernels_is_run_with_one_and_with_two_threads():
    found = {(setting.kernels, setting.threads) for setting in SETTINGS.values()}
    assert found == {(kernels, threads) for kernels in KERNELS for threads in (1, 2)}


@pytest.mark.parametrize(
    ("native", "others"),
    [("AVX2", {"AVX2", "oneDNN's AVX2"}), ("AVX512", set()), ("DEFAULT", {"default", "AVX2"})],
)
def test_kernels_that_the_machine_takes_by_itself_are_another_name(native, others):
    order = ["DEFAULT", "AVX2", "AVX512"]

    def taken(asked):  # never more than the processor has
        return order[min(order.index(asked), order.index(native))]

    capabilities = dict.fromkeys(KERNELS, native) | {"default": taken("DEFAULT"), "AVX2": taken("AVX2")}
    settings = [setting for setting in SETTINGS.values() if setting.threads == 1]
    assert {setting.kernels for setting in settings if is_another_name(setting, capabilities)} == others


def test_what_was_run_is_run_again_only_if_something_else_is_tested_or_it_is_asked_for():
    kept = [result(), result(torch="1.9"), result(processor="B")]
    other, changed = result("default kernels, 1 thread"), result(sources="abd")
    assert to_run([result(), other, changed], kept, again=False) == [other, changed]
    assert to_run([result(), other], kept, again=True) == [result(), other]


REPORT = """<testsuites><testsuite>
<testcase classname="tests.test_a" name="one"/>
<testcase classname="tests.test_a" name="two"><failure message="no"/></testcase>
<testcase classname="tests.test_a" name="three"><skipped/></testcase>
<testcase classname="tests.test_b" name="four"><error/></testcase>
</testsuite></testsuites>"""


def test_the_report_of_pytest_is_counted(tmp_path):
    (tmp_path / "report.xml").write_text(REPORT)
    found = result()
    read_report(tmp_path / "report.xml", found)
    assert (found.passed, found.skipped, found.failed) == (1, 1, ["tests.test_a::two", "tests.test_b::four"])


MAKE = f"""#!{sys.executable}
import json, os, sys
with open("told.json", "w") as file:
    json.dump([sys.argv[1:], {{name: os.environ.get(name) for name in ("MKL_CBWR", "OMP_WAIT_POLICY")}}], file)
report = os.environ["PYTEST_ADDOPTS"].split("--junitxml=")[1]
if "broken" in sys.argv:
    sys.exit(2)
with open(report, "w") as file:
    file.write('''{REPORT}''')
"""


@pytest.fixture
def fake_make(tmp_path, monkeypatch):
    """A `make` that notes how it was called, and writes a report."""
    path = tmp_path / "make"
    path.write_text(MAKE)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(test_machines, "ROOT", tmp_path)
    # The real one would wait for this test's other children, too.
    monkeypatch.setattr(test_machines, "adopt_orphans", lambda: False)
    return tmp_path


def test_a_setting_reaches_make_and_its_tests_are_counted(fake_make):
    found = run(SETTINGS["MKL's oldest kernels, 2 threads"], result(), ["TEST_PROCESSES=1"])
    assert found.passed == 1 and len(found.failed) == 2
    arguments, environment = json.loads((fake_make / "told.json").read_text())
    assert arguments == ["test", "TEST_THREADS=2", "TEST_PROCESSES=1"]
    assert environment == {"MKL_CBWR": "COMPATIBLE", "OMP_WAIT_POLICY": "PASSIVE"}


def test_a_run_without_a_report_has_failed(fake_make):
    assert run(NATIVE, result(), ["broken"]).failed == ["make test ended with status 2"]


ORPHAN = """
import subprocess, sys, time
import test_machines
assert test_machines.adopt_orphans()
busy = "import time\\nwhile time.process_time() < 0.3: pass"
parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {busy!r}])"
subprocess.run([sys.executable, "-c", parent], check=True)
test_machines.wait_for_all()
print(test_machines.cpu_seconds())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt others")
def test_the_time_of_a_process_that_outlives_its_parent_is_counted():
    folder = os.path.dirname(test_machines.__file__)
    done = subprocess.run([sys.executable, "-c", ORPHAN], cwd=folder, check=True, capture_output=True, text=True)
    assert float(done.stdout) >= 0.3


def test_the_page_shows_the_newest_result_of_each_setting_and_processor(tmp_path):
    results = [result(passed=3, failed=["test_a::b"]), result(passed=4, cpu_minutes=6.5), result(processor="B")]
    rows = table(results).splitlines()[2:]
    assert rows[0].startswith("| A | native kernels, 1 thread | AVX2 | 4 | 0 | 0 | 6.5 |") and len(rows) == 2
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}old\n{END}\nafter\n")
    write_page(page, results)
    assert page.read_text() == f"before\n{BEGIN}\n{table(results)}\n{END}\nafter\n"
    with pytest.raises(ValueError, match="must have one line"):
        page.write_text("nothing")
        write_page(page, results)


def test_results_come_back_from_their_file(tmp_path):
    (tmp_path / "machines.jsonl").write_text(json.dumps(asdict(result(failed=["a"]))) + "\n")
    assert load(tmp_path / "machines.jsonl") == [result(failed=["a"])] and load(tmp_path / "none.jsonl") == []


def test_the_repositorys_page_is_written_from_its_file():
    shown = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip()
    assert shown == table(load(RESULTS)).strip()
