# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Measure the figures of docs/reliability.md: run the tests of each, keep what they found, and write the table.

    python utils/measure_reliability.py [--only R5 R20] [--all]

Needs the package's dev extra. The tests are those of tests/reliability/, marked by their figure; for R27, those that
utils/mutation_check.py asks of each fault that it draws. What a figure's run found is kept in out/reliability/, with
the hash of each file of the repository that it loaded and the versions of the libraries. A figure of which none of
that has changed is not run again, unless it is named by `--only` or everything is asked for by `--all`: a call that
was interrupted goes on where it stopped. Figures run one by one, those that took least the last time first.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
SUITE = ROOT / "tests" / "reliability"
RESULTS = ROOT / "out" / "reliability"
PAGE = ROOT / "docs" / "reliability.md"
BEGIN = "<!-- figures: written by make test-reliability -->\n"
END = "<!-- end of the figures -->"
LIBRARIES = (
    "torch", "transformers", "diffusers", "accelerate", "datasets", "safetensors", "huggingface_hub", "Pillow",
)  # fmt: skip
CODE = ("src", "tests", "examples")
UNKNOWN = 3600.0  # seconds: after all whose time is known


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Args:
        title (`str`): What it is about.
        cases (`int`): As many as its tests must have, or it is not held.
        reads (`tuple[str, ...]`): Files and folders it depends on, beyond the modules that its process loads.
        share (`float`): Of the cases, that must hold.
    """

    title: str
    cases: int
    reads: tuple[str, ...] = ()
    share: float = 1.0


FIGURES = {
    "R1": Figure("bit-identical resume", 96),
    "R2": Figure("numbers of workers", 9),
    "R3": Figure("resume from every position", 300),
    "R4": Figure("cost of resuming", 1),
    "R5": Figure("kill -9", 112),
    "R6": Figure("uneven streams", 3),
    "R7": Figure("missing streams", 8),
    "R8": Figure("numbers of processes", 4, ("examples/accelerate_configs",)),
    "R9": Figure("damaged files", 40),
    "R10": Figure("full disk", 20),
    "R11": Figure("signals", 10),
    "R12": Figure("values that are not finite", 24),
    "R13": Figure("logits that are not finite", 48),
    "R14": Figure("malformed images", 401),
    "R15": Figure("bombs", 16),
    "R16": Figure("neighbours in a batch", 64),
    "R17": Figure("texts", 300),
    "R18": Figure("hostile configurations", 200),
    "R19": Figure("mutated weights and pickles", 8012),
    "R20": Figure("no network", 10),
    "R21": Figure("missing extras", 5, ("src/itit_hf/metrics",)),
    "R22": Figure("the same run twice", 1),
    "R23": Figure("accumulation", 3),
    "R24": Figure("leaks", 3),
    "R25": Figure("files of earlier versions", 2, ("tests/fixtures",)),
    "R26": Figure("faults of the Hub", 12),
    "R27": Figure(
        "faults drawn at random", 200, ("src", "tests", "utils/mutants.py", "utils/mutation_check.py"), 0.95
    ),
}


@dataclass
class Result:
    """What a run of a figure's tests found.

    Args:
        count (`int`): Cases.
        held (`int`): Cases that held.
        notes (`list[str]`): What else was measured, or why there are fewer cases.
        failed (`list[str]`): Tests that failed.
        day (`str`): When.
        seconds (`float`): How long it took, by the clock.
        versions (`dict[str, str]`): Of Python and the libraries.
        files (`dict[str, str]`): SHA-256 of each file that it depends on, by its path in the repository.
    """

    count: int = 0
    held: int = 0
    notes: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    day: str = ""
    seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def holds(self, figure: Figure) -> bool:
        """Whether there were as many cases as promised, and as many of them held."""
        return not self.failed and self.count >= figure.cases and self.held >= figure.share * self.count

    def pytest_runtest_logreport(self, report):
        """Called by pytest for each phase of each test."""
        if report.failed:
            self.failed.append(report.nodeid)
        if report.when == "call":
            for name, value in report.user_properties:
                if name == "figure":
                    self.add(*json.loads(value))

    def add(self, held: int, count: int, note: str):
        """Count the cases of a test."""
        self.held = self.held + held
        self.count = self.count + count
        self.notes += [note] if note and note not in self.notes else []


def versions() -> dict[str, str]:
    """Of Python and the libraries that the figures depend on."""
    return {"Python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def hashes(paths: Collection[Path]) -> dict[str, str]:
    """SHA-256 of each file, by its path in the repository; `"gone"` if it is not there."""
    found = {}
    for path in sorted(paths):
        content = path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(ROOT))] = "gone" if content is None else hashlib.sha256(content).hexdigest()
    return found


def loaded_files() -> set[Path]:
    """The repository's modules that this process has loaded."""
    found = {Path(module.__file__) for module in tuple(sys.modules.values()) if getattr(module, "__file__", None)}
    folders = tuple(ROOT / folder for folder in CODE)
    return {path for path in found if any(path.is_relative_to(folder) for folder in folders)}


def read_files(figure: Figure) -> set[Path]:
    """What a figure depends on beyond modules; compiled files are none of it."""
    places = [ROOT / place for place in figure.reads]
    found = {path for place in places for path in (place, *place.rglob("*")) if path.is_file()}
    return {path for path in found if "__pycache__" not in path.parts}


def run_marked_tests(name: str, result: Result):
    """Run the tests that are marked by a figure."""
    import pytest

    mark = f'figure(name="{name}")'
    files = [str(path) for path in sorted(SUITE.glob("test_*.py")) if mark in path.read_text(encoding="utf-8")]
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=short"]
    status = pytest.main([*options, "-m", f"figure(name='{name}')", *files], plugins=[result])
    if status not in (0, 1):
        result.failed.append(f"pytest ended with status {int(status)}")


def run_mutations(result: Result):
    """Draw faults, and run the tests of each, see utils/mutation_check.py; one that was judged before stays so."""
    import mutation_check

    verdicts = mutation_check.check(mutation_check.Place(), FIGURES["R27"].cases)
    caught = sum(verdict.caught for verdict in verdicts)
    left_out = len(mutation_check.EQUIVALENT)
    result.add(caught, len(verdicts), f"noticed by the default tests; {left_out} more change nothing and are left out")


def keep(result: Result, name: str):
    """Write what a figure's run found; a file is there as a whole or not at all."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    part = RESULTS / f"{name}.part"
    part.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")
    os.replace(part, RESULTS / f"{name}.json")


def measure(name: str):
    """In a child: run a figure's tests and keep what they found."""
    os.chdir(ROOT)
    result = Result(day=str(date.today()), versions=versions())
    start = time.time()
    if name == "R27":
        run_mutations(result)
    else:
        run_marked_tests(name, result)
    result.seconds = round(time.time() - start, 1)
    files = loaded_files() | read_files(FIGURES[name])
    edited = {path for path in files if path.stat().st_mtime >= start}
    result.files = hashes(files) | {str(path.relative_to(ROOT)): "edited during the run" for path in edited}
    keep(result, name)


def load_results() -> dict[str, Result]:
    """What is kept, by figure."""
    paths = {name: RESULTS / f"{name}.json" for name in FIGURES}
    return {name: Result(**json.loads(path.read_text())) for name, path in paths.items() if path.is_file()}


def is_current(name: str, result: Result) -> bool:
    """Whether a figure that holds would be measured on the same code, suite and libraries again."""
    if not result.holds(FIGURES[name]) or result.versions != versions():
        return False
    now = hashes({ROOT / place for place in result.files} | read_files(FIGURES[name]))
    return now == result.files


def to_run(results: dict[str, Result], only: Collection[str], everything: bool) -> list[str]:
    """The figures to measure: those of `only`, else all that are not current, the ones that took least first."""
    if only:
        return list(only)
    kept = {name for name, result in results.items() if not everything and is_current(name, result)}
    wanted = [name for name in FIGURES if name not in kept]
    return sorted(wanted, key=lambda name: (results[name].seconds if name in results else 0.0) or UNKNOWN)


def table(results: dict[str, Result]) -> str:
    """The figures as they stand in docs/reliability.md."""
    used = sorted({tuple(result.versions.items()) for result in results.values()})
    lines = [f"{', '.join(' '.join(pair) for pair in pairs)}.\n" for pairs in used]
    lines += ["| figure | count | held | date | minutes | note |", "|---|---|---|---|---|---|"]
    for name, figure in FIGURES.items():
        title = f"{name}, {figure.title}"
        result = results.get(name)
        if result is None:
            lines.append(f"| **{title}** | {figure.cases:,} | **not run** | | | |")
            continue
        count = max(result.count, figure.cases)
        held = "held" if result.held == count else f"held: {result.held:,}"
        held = held if result.holds(figure) else f"**open: {result.held:,}**"
        minutes = f"{result.seconds / 60:.1f}" if result.seconds else ""
        rest = f"{result.day} | {minutes} | {'; '.join(result.notes)}"
        lines.append(f"| {title} | {count:,} | {held} | {rest} |")
    return "\n".join(lines) + "\n"


def write_page(page: Path, results: dict[str, Result]):
    """Put the table into the page, in place of the one that is there."""
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{page}: it must have one line {BEGIN.strip()!r} and one {END!r}")
    before, rest = text.split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def main() -> int:
    """Measure what has changed and write the table; the exit status is 1 if a figure is not held."""
    parser = argparse.ArgumentParser(description="Measure the figures of docs/reliability.md.")
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=[], help="these figures, changed or not")
    parser.add_argument("--all", action="store_true", help="all figures, changed or not")
    args = parser.parse_args()
    for library in ("pytest", "torch", "transformers.trainer", "diffusers", "datasets", "accelerate"):
        __import__(library)  # once, for all children
    results = load_results()
    names = to_run(results, args.only, args.all)
    minutes = sum(results[name].seconds for name in names if name in results) / 60
    print(f"{len(names)} figures to measure, {len(FIGURES) - len(names)} kept; they took {minutes:.0f} minutes before")
    for name in (progress := tqdm(names, unit="figure")):
        progress.set_description(f"{name}, {FIGURES[name].title}")
        child = multiprocessing.get_context("fork").Process(target=measure, args=(name,))
        child.start()
        child.join()
        if child.exitcode != 0:
            keep(Result(failed=[f"its process ended with status {child.exitcode}"], day=str(date.today())), name)
        write_page(PAGE, load_results())
    results = load_results()
    print(table(results))
    open_figures = [name for name in FIGURES if name not in results or not results[name].holds(FIGURES[name])]
    for name in open_figures:
        print(f"{name} is open: {'; '.join(results[name].failed) if name in results else 'never run'}")
    return int(bool(open_figures))


if __name__ == "__main__":
    sys.exit(main())
