# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Run `make test` as other machines would: with the kernels of other processors, and with one and two threads.

    python utils/test_machines.py [--only "default kernels, 1 thread" ...] [--again]

`make test-machines` does so in the project's environment. Each setting adds one line to docs/machines.jsonl, and all
lines stand as a table in docs/reliability.md. A call that was interrupted goes on where it stopped: what was run on
this processor with these sources is not run again, unless `--again` asks for it. A setting whose kernels are those
that the processor takes by itself is run once, under the first of its names.

CPU time is that of all processes of a run, also of those that outlive the one that started them: on Linux this
process adopts and waits for them. Elsewhere it is not known.
"""

import argparse
import ctypes
import hashlib
import json
import logging
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

from tqdm import tqdm

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "machines.jsonl"
PAGE = ROOT / "docs" / "reliability.md"
BEGIN = "<!-- machines: written by make test-machines -->\n"
END = "<!-- end of the machines -->"
PLACES = (
    "src", "tests", "examples", "utils", "metrics", "checkpoints", "docs", "model_cards", "README.md", "CHANGELOG.md",
    "Makefile", "pyproject.toml", "setup.cfg", "constraints.txt",
)  # fmt: skip
PR_SET_CHILD_SUBREAPER = 36  # of Linux's prctl
# What tells how a processor computes, asked in a process of its own: torch reads the environment once.
ASK = "import torch; print(torch.backends.cpu.get_cpu_capability(), torch.__version__)"


@dataclass(frozen=True)
class Setting:
    """A machine that this one can play.

    Args:
        kernels (`str`): Whose kernels, in words.
        threads (`int`): Of each process; two compute by other partial sums than one.
        environment (`dict[str, str]`): What chooses the kernels.
    """

    kernels: str
    threads: int
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called on the command line and in the table."""
        return f"{self.kernels} kernels, {self.threads} thread{'s' if self.threads > 1 else ''}"


KERNELS = {
    "native": {},
    # torch's own vectorised code, without AVX and with AVX2.
    "default": {"ATEN_CPU_CAPABILITY": "default"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    # Of the libraries below torch: oneDNN as if the processor had no more than AVX2, MKL as on the oldest processors.
    "oneDNN's AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "MKL's oldest": {"MKL_CBWR": "COMPATIBLE"},
}
SETTINGS = {
    setting.name: setting
    for setting in (Setting(kernels, threads, KERNELS[kernels]) for threads in (1, 2) for kernels in KERNELS)
}


@dataclass
class Result:
    """What a setting's run of the tests found: one line of docs/machines.jsonl.

    Args:
        setting (`str`): Its name.
        processor (`str`): The machine's own.
        capability (`str`): Kernels that torch took.
        torch (`str`): Its version.
        sources (`str`): Hash of what was tested.
        day (`str`): When.
        passed (`int`): Tests that passed.
        skipped (`int`): Tests that were skipped.
        failed (`list[str]`): Names of the tests that failed, or what ended the run.
        cpu_minutes (`float`, *optional*): Of all processes; unknown but on Linux.
        minutes (`float`): By the clock.
    """

    setting: str
    processor: str
    capability: str
    torch: str
    sources: str
    day: str = ""
    passed: int = 0
    skipped: int = 0
    failed: list[str] = field(default_factory=list)
    cpu_minutes: float | None = None
    minutes: float = 0.0

    @property
    def key(self) -> tuple[str, ...]:
        """What it would not differ by if it was run again."""
        return self.setting, self.processor, self.torch, self.sources


def processor() -> str:
    """Name of this machine's processor."""
    if Path("/proc/cpuinfo").exists():
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        if models:
            return models[0].split(":")[1].strip()
    return platform.processor() or platform.machine()


def capability_and_torch(environment: dict[str, str]) -> tuple[str, str]:
    """Kernels that torch takes in an environment, and its version."""
    command = [sys.executable, "-c", ASK]
    said = subprocess.run(command, env=os.environ | environment, check=True, capture_output=True, text=True).stdout
    capability, version = said.split()[-2:]
    return capability, version


def sources() -> str:
    """A hash of all files that a test may read, but for what this script writes."""
    digest = hashlib.sha256()
    for path in sorted(path for place in PLACES for path in (ROOT / place, *(ROOT / place).rglob("*"))):
        if path.is_file() and "__pycache__" not in path.parts and path not in (RESULTS, PAGE):
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def is_another_name(setting: Setting, capabilities: dict[str, str]) -> bool:
    """Whether torch takes the setting's kernels on this machine by itself.

    Args:
        setting ([`Setting`])
        capabilities (`dict[str, str]`): What torch takes, by the name of the kernels.
    """
    if "MKL_CBWR" in setting.environment or setting.kernels == "native":
        return False
    if "ONEDNN_MAX_CPU_ISA" in setting.environment:
        return capabilities["native"] == "AVX2"
    return capabilities[setting.kernels] == capabilities["native"]


def adopt_orphans() -> bool:
    """Become the parent of processes whose parent ends, so that their time can be told; whether that is possible."""
    if platform.system() != "Linux":
        return False
    return ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def cpu_seconds() -> float:
    """Of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def wait_for_all():
    """Wait for adopted processes, until there are none."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def read_report(path: Path, result: Result):
    """Add what pytest wrote about its tests, as JUnit's XML."""
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        kinds = {child.tag for child in case}
        name = f"{case.get('classname')}::{case.get('name')}"
        if kinds & {"failure", "error"}:
            result.failed.append(name)
        elif "skipped" in kinds:
            result.skipped += 1
        else:
            result.passed += 1


def run(setting: Setting, result: Result, arguments: Collection[str] = ()) -> Result:
    """Run `make test` once.

    Args:
        setting ([`Setting`])
        result ([`Result`]): What is known beforehand; the rest is filled in.
        arguments (`Collection[str]`): More of `make`, such as `PYTHON=python3.12`.

    Returns:
        [`Result`]: `result`.
    """
    adopted = adopt_orphans()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = f"{os.environ.get('PYTEST_ADDOPTS', '')} --junitxml={report}"
        # Threads that wait would otherwise spin, and take the cores from those that compute.
        environment = os.environ | setting.environment | {"PYTEST_ADDOPTS": options, "OMP_WAIT_POLICY": "PASSIVE"}
        command = ["make", "test", f"TEST_THREADS={setting.threads}", *arguments]
        start = time.time()
        before = cpu_seconds()
        status = subprocess.run(command, cwd=ROOT, env=environment).returncode
        if adopted:
            wait_for_all()
            result.cpu_minutes = round((cpu_seconds() - before) / 60, 1)
        result.minutes = round((time.time() - start) / 60, 1)
        result.day = str(date.today())
        if report.exists():
            read_report(report, result)
        if status != 0 and not result.failed:
            result.failed.append(f"make test ended with status {status}")
    return result


def load(path: Path) -> list[Result]:
    """The lines of a file, oldest first; none without a file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [Result(**json.loads(line)) for line in lines]


def newest(results: Collection[Result]) -> list[Result]:
    """The last result of each setting on each processor."""
    return list({(result.processor, result.setting): result for result in results}.values())


def table(results: Collection[Result]) -> str:
    """The newest results as they stand in docs/reliability.md."""
    lines = ["| processor | setting | torch took | passed | skipped | failed | CPU minutes | minutes | date |"]
    lines += ["|" + "---|" * 9]
    for result in newest(results):
        failed = f"**{len(result.failed)}**: {', '.join(result.failed)}" if result.failed else "0"
        cpu = "" if result.cpu_minutes is None else f"{result.cpu_minutes:.1f}"
        counts = f"{result.passed:,} | {result.skipped} | {failed}"
        known = f"{result.processor} | {result.setting} | {result.capability}"
        lines.append(f"| {known} | {counts} | {cpu} | {result.minutes:.1f} | {result.day} |")
    return "\n".join(lines) + "\n"


def write_page(page: Path, results: Collection[Result]):
    """Put the table into the page, in place of the one that is there.

    Raises:
        ValueError: If the page does not say where.
    """
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"`page` must have one line {BEGIN.strip()!r} and one {END!r}, {page} has not")
    before, rest = text.split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def to_run(wanted: Collection[Result], kept: Collection[Result], again: bool) -> list[Result]:
    """Those that were not run yet, or all."""
    known = set() if again else {result.key for result in kept}
    return [result for result in wanted if result.key not in known]


def main(arguments: list[str] | None = None) -> int:
    """Run what was not run, write the table; the exit status is 1 if a test failed under a setting."""
    parser = argparse.ArgumentParser(description="Run the default tests with the kernels of other machines.")
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="these settings")
    parser.add_argument("--again", action="store_true", help="also what was run with these sources")
    parser.add_argument("--make", nargs="+", default=[], help="arguments of make, such as TEST_PROCESSES=1")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    asked = {name: capability_and_torch(environment) for name, environment in KERNELS.items()}
    capabilities = {name: capability for name, (capability, _) in asked.items()}
    wanted = []
    for setting in map(SETTINGS.__getitem__, args.only):
        if is_another_name(setting, capabilities):
            logger.info(f"{setting.name}: those of this machine, which `native` runs")
        else:
            wanted.append(Result(setting.name, processor(), *asked[setting.kernels], sources()))
    results = to_run(wanted, load(RESULTS), args.again)
    for result in tqdm(results, unit="setting"):
        run(SETTINGS[result.setting], result, args.make)
        with open(RESULTS, "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")
        write_page(PAGE, load(RESULTS))
    keys = {result.key for result in wanted}
    found = [result for result in load(RESULTS) if result.key in keys]
    logger.info(table(found))
    return int(any(result.failed for result in newest(found)))


if __name__ == "__main__":
    sys.exit(main())
