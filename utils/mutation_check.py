# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""How many of the faults that one draws at random do the tests notice? Figure R27 of docs/reliability.md.

    python utils/mutation_check.py [--number 200] [--seed 0] [--only WORD] [--again] [--list]

Needs the package's dev extra. Faults are those of utils/mutants.py. For each, the default tests that run the function
with the fault are run, those of the module's own test file first, until one fails; a fault that none notices has
survived. Which test runs which function is found out once for each test file. The repository itself is not touched:
the fault is put in while the module is imported, in a process of its own, which may write to a temporary folder only.

What was found is kept in out/mutation/: verdicts.jsonl has a line for each fault, of which the last one counts, and
maps/ a file for each test file. A call that was interrupted goes on where it stopped. A fault is judged anew if its
module has changed, or the test file that noticed it, or any test file if none did; `--again` judges all anew.
`EQUIVALENT` names drawn faults that change nothing, and why; others are drawn in their place. The exit status is 0 if
the share of the faults that were noticed is `GOAL` or more.
"""

import argparse
import ast
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tqdm import tqdm

from mutants import Mutant, Source, draw, function_at

ROOT = Path(__file__).resolve().parents[1]
GOAL = 0.95
NUMBER = 200

# Drawn faults that change nothing that anybody could see: what they change, and why that is nothing.
EQUIVALENT: dict[str, tuple[str, str]] = {
    "folders:_saved_splits:comparison:0": (
        "`{'state.json', 'dataset_info.json'} <= set(names)` -> `{'state.json', 'dataset_info.json'} < set(names)`",
        "a dataset that was saved has files of rows too",
    ),
    "image_processing_itit:ITITImageProcessorPil.preprocess_mask:constant:1": (
        "`255` -> `254`",
        "a share of an image that is marked still rounds to more than nothing, but for one pixel in 510",
    ),
    "layers_itit:ITITTextDecoder.logits:constant:0": (
        "`2` -> `3`",
        "a spare row is as impossible at a third of the lowest number as at half of it",
    ),
    "masking:MaskRatio.quantile:constant:2": (
        "`1e-09` -> `1.0000000000000002e-06`",
        "a part of the normal as narrow as that is flat to the sixth digit too",
    ),
    "modeling_itit:ITITModel._embed_image:attribute:0": (
        "`self.config.mask_token_id` -> `self.config.codebook_size`",
        "the mask's id is the size of the codebook, by definition",
    ),
    "readers:_archives:operator:2": (
        "`num_rows += len(kept)` -> `num_rows -= len(kept)`",
        "asked is only whether there were any",
    ),
    "scoring:caption_log_likelihoods:keyword:2": (
        "`model(input_ids=decoder_input_ids[:, start:], past_key_values=past_key_values, use_cache=True)` -> "
        "`model(input_ids=decoder_input_ids[:, start:], past_key_values=past_key_values)`",
        "a cache that is given is used in any case",
    ),
    "streams:ITITCollator._stream_batch:keyword:2": (
        "`self.processor(text=texts, max_length=self.max_text_length, return_tensors='pt')` -> "
        "`self.processor(text=texts, max_length=self.max_text_length)`",
        "tensors are what the processor gives by default",
    ),
    "sprites:_paint_mask:operator:5": (
        "`hue - centre + 180` -> `hue - centre - 180`",
        "the same angle modulo 360, which is taken next",
    ),
    "vq_training:ImageDataset._decode:attribute:0": (
        "`torch.uint8` -> `torch.Tensor`",
        "torch.frombuffer takes that class for bytes",
    ),
}

_SECONDS = 60.0  # of a processor, for a process to start; what its tests take comes on top, ten times
_LONGEST = 300.0  # seconds of a processor that the tests for one fault may take without it
_WALL = 3600.0  # seconds; only what waits in vain takes so long
_DATA = 8 * 2**30  # bytes of memory of one process
# Events of Python's audit: which arguments are paths, and which the open folders that these are counted from.
_WRITES = {
    "os.remove": ((0,), (1,)),
    "os.rmdir": ((0,), (1,)),
    "os.mkdir": ((0,), (2,)),
    "os.rename": ((0, 1), (2, 3)),
    "os.link": ((1,), (3,)),
    "os.symlink": ((1,), (2,)),
    "os.truncate": ((0,), (None,)),
    "shutil.rmtree": ((0,), (None,)),
}


@dataclass(frozen=True)
class Place:
    """A package and its tests.

    Args:
        root (`Path`): Folder of the repository, from which the tests are run.
        package (`str`): Name of the package, in `root/src`.
        results (`Path`): Folder of what was found.
    """

    root: Path = ROOT
    package: str = "itit_hf"
    results: Path = ROOT / "out" / "mutation"

    @property
    def folder(self) -> Path:
        """The package's own."""
        return self.root / "src" / self.package

    def test_files(self) -> list[str]:
        """Their paths, counted from the root."""
        return sorted(path.relative_to(self.root).as_posix() for path in (self.root / "tests").rglob("test_*.py"))

    def module_path(self, module: str) -> str:
        """Of a module as [`Mutant`] names it, counted from the root."""
        return f"src/{self.package}/{module}.py"

    def digests(self, files: Iterable[str]) -> dict[str, str]:
        """SHA-256 of files, by their paths counted from the root."""
        return {file: digest(self.root / file) for file in sorted(set(files))}


@dataclass
class Map:
    """What a test file's tests run.

    Args:
        digests (`dict[str, str]`): Of the test file, and of the modules that it runs.
        seconds (`dict[str, float]`): Of a processor, by the tests that pass.
        functions (`dict[str, list[str]]`): By test, the functions it runs, such as `masking:MaskRatio.sample`.
        shared (`list[str]`): Functions that were run while something was set up, which several tests may share.
    """

    digests: dict[str, str]
    seconds: dict[str, float] = field(default_factory=dict)
    functions: dict[str, list[str]] = field(default_factory=dict)
    shared: list[str] = field(default_factory=list)

    def tests_of(self, module: str, function: str) -> set[str]:
        """Tests that run a function, or a module, if `function` is empty."""

        def runs(names: Iterable[str]) -> bool:
            wanted = f"{module}:{function}"
            return any(n == wanted or n.startswith(f"{wanted}." if function else f"{module}:") for n in names)

        if runs(self.shared):
            return set(self.seconds)
        return {test for test in self.seconds if runs(self.functions[test])}


@dataclass
class Verdict:
    """What became of a fault.

    Args:
        mutant (`dict`): See [`Mutant`].
        caught (`bool`): Whether a test noticed it.
        by (`str`): The first test that did, or what happened to the process.
        tests (`int`): Tests that were run without noticing it.
        seconds (`float`): By the clock.
        digests (`dict[str, str]`): Of the files that this rests upon.
    """

    mutant: dict
    caught: bool
    by: str
    tests: int
    seconds: float
    digests: dict[str, str]


def digest(path: Path) -> str:
    """SHA-256 of a file; `"gone"` if it is not there."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "gone"


def keep(path: Path, value) -> None:
    """Write JSON; a file is there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)


def file_of(folder: Path, name: str) -> Path:
    """Where what is called `name` is kept."""
    return folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '-', name)}.json"


# Processes of their own.


def confine(folder: Path) -> None:
    """Let this process write to `folder` only: a fault in what deletes files deletes no others."""
    allowed = tuple(str(Path(place).resolve()) for place in (folder, "/dev", "/proc", _cache_folder()))

    def check(event: str, args: tuple) -> None:
        for path in _written(event, args):
            place = os.path.realpath(os.fsdecode(path))
            if not place.startswith(tuple(f"{each}{os.sep}" for each in allowed)) and place not in allowed:
                raise PermissionError(f"{event} of {place}: a process with a fault may write to {folder} only")

    sys.addaudithook(check)


def _written(event: str, args: tuple) -> list:
    """Paths that are written to at an event of Python's audit, as far as a mistake would do it."""
    if event == "open":
        path, mode, flags = args
        writes = (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or set("wax+") & set(mode or "")
        return [path] if writes and not isinstance(path, int) else []
    if event not in _WRITES:
        return []
    paths, folders = _WRITES[event]
    # A relative name within an open folder: that folder was opened here.
    folders = [args[index] if index is not None else None for index in folders]
    found = [(args[index], fd) for index, fd in zip(paths, folders, strict=True)]
    return [path for path, fd in found if not isinstance(path, int) and (fd in (None, -1) or os.path.isabs(path))]


def _cache_folder() -> str:
    return os.environ.get("HF_HOME", os.path.expanduser("~/.cache/huggingface"))


def in_child(work: Callable[[Path], dict], seconds: float) -> dict:
    """What `work` returns, called in a forked process with a temporary folder. If the process ends otherwise, how.

    Args:
        work (`Callable`): Returns what JSON can write.
        seconds (`float`): Of a processor that it may take.

    Returns:
        `dict`: That, or `{"ended": ..., "said": ...}`.
    """
    folder = Path(tempfile.mkdtemp(prefix="mutation-"))
    child = os.fork()
    if child == 0:
        _work_in_child(work, folder, seconds)
    try:
        status = _wait(child)
        answer = folder / "answer"
        if answer.is_file():
            return json.loads(answer.read_text(encoding="utf-8"))
        said = folder / "said"
        tail = said.read_text(encoding="utf-8", errors="replace")[-2000:] if said.is_file() else ""
        return {"ended": f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}", "said": tail}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(child: int) -> int:
    """Exit status of a process, which is killed if it only waits."""
    start = time.monotonic()
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() - start > _WALL:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.05)


def _work_in_child(work: Callable[[Path], dict], folder: Path, seconds: float) -> None:
    status = 99
    try:
        os.setpgid(0, 0)  # so that its own children can be ended with it
        sys.dont_write_bytecode = True
        limit = int(time.process_time() + seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
        resource.setrlimit(resource.RLIMIT_DATA, (_DATA, _DATA))
        for stream in (1, 2):
            os.dup2(os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
        confine(folder)
        answer = work(folder)
        (folder / "answer").write_text(json.dumps(answer), encoding="utf-8")
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


# Which test runs which function.


class Tracer:
    """A plugin of pytest that takes down which functions of a package each test runs.

    Args:
        place ([`Place`]): Whose functions.
    """

    def __init__(self, place: Place):
        self.place, self.prefix = place, f"{place.folder}{os.sep}"
        self.codes: set = set()
        self.ran: dict[str, set] = {}
        self.setups: set = set()
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()

    def __call__(self, frame, event, arg):
        """What `sys.settrace` calls at each call of a function; no line is looked at."""
        self.codes.add(frame.f_code)

    def pytest_runtest_protocol(self, item, nextitem):
        """Called by pytest for each test; nothing is returned, so that pytest runs it."""
        self.seconds[item.nodeid] = -time.process_time()

    def pytest_runtest_logreport(self, report):
        """Called by pytest after each phase of each test."""
        all_codes = self.codes
        self.codes = set()  # what is called from here on is traced too
        codes = {code for code in all_codes if code.co_filename.startswith(self.prefix)}
        if report.when == "setup":
            self.setups |= codes
        self.ran.setdefault(report.nodeid, set()).update(codes)
        if report.outcome != "passed":
            self.failed.add(report.nodeid)
        if report.when == "teardown":
            self.seconds[report.nodeid] += time.process_time()

    def answer(self) -> dict:
        """The fields of a [`Map`] but its digest, and the modules that were loaded."""
        trees: dict[str, ast.Module] = {}

        def name(code) -> str:
            path = Path(code.co_filename)
            if code.co_filename not in trees:
                trees[code.co_filename] = ast.parse(path.read_text(encoding="utf-8"))
            module = path.relative_to(self.place.folder).with_suffix("").as_posix()
            return f"{module}:{function_at(trees[code.co_filename], code.co_firstlineno)}"

        names = {code: name(code) for code in set().union(self.setups, *self.ran.values())}
        passed = [test for test in self.ran if test not in self.failed]
        return {
            "seconds": {test: round(self.seconds[test], 3) for test in passed},
            "functions": {test: sorted({names[code] for code in self.ran[test]}) for test in passed},
            "shared": sorted({names[code] for code in self.setups}),
            "modules": sorted(foreign_modules(self.place)),
        }


def foreign_modules(place: Place) -> set[str]:
    """Loaded modules that are neither the package's nor the tests', and are found by their names."""
    own = (place.package, "tests", "examples", "conftest", "__main__", "__mp_main__")
    found = set()
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in own or getattr(module, "__spec__", None) is None or module.__spec__.name != name:
            continue
        path = getattr(module, "__file__", None) or ""
        if not path.startswith(f"{place.root}{os.sep}") or "site-packages" in path:
            found.add(name)
    return found


def run_pytest(place: Place, folder: Path, files: list[str], plugins: list, options: Iterable[str] = ()) -> int:
    """Exit status of pytest on some test files, in this process."""
    import pytest

    os.chdir(place.root)
    sys.path.insert(0, str(place.root / "src"))
    common = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=no", f"--basetemp={folder / 'tests'}"]
    return int(pytest.main([*common, *options, *files], plugins=plugins))


def map_tests(place: Place, test_file: str) -> Map:
    """Which functions the tests of a file run; kept, and found out again if the file has changed, or what it runs."""
    path = file_of(place.results / "maps", test_file)
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if all(digest(place.root / file) == value for file, value in kept["digests"].items()):
            warm_up(kept.pop("modules"))
            return Map(**kept)

    def work(folder: Path) -> dict:
        tracer = Tracer(place)
        sys.settrace(tracer)
        status = run_pytest(place, folder, [test_file], [tracer])
        sys.settrace(None)
        return tracer.answer() | {"status": status}

    answer = in_child(work, 20 * _SECONDS)
    if "ended" in answer:
        raise RuntimeError(f"{test_file}: the process ended with {answer['ended']}: {answer['said']}")
    if answer.pop("status") not in (0, 1, 5):
        tqdm.write(f"{test_file} cannot be read, so that none of its tests is asked: is an extra missing?")
    run = {name.split(":")[0] for names in [*answer["functions"].values(), answer["shared"]] for name in names}
    answer["digests"] = place.digests([test_file, *(place.module_path(module) for module in run)])
    keep(path, answer)
    warm_up(answer.pop("modules"))
    return Map(**answer)


def warm_up(modules: Iterable[str]) -> None:
    """Load what the tests load of other packages, once, for all processes that are forked."""
    for name in modules:
        if name not in sys.modules:
            try:
                importlib.import_module(name)
            except Exception:  # some can be loaded in their own way only; each process does so itself then
                continue


# Faults.


class FaultyLoader(importlib.machinery.SourceFileLoader):
    """Loads a module from a syntax tree.

    Args:
        fullname (`str`): Name of the module.
        path (`str`): Its file.
        tree (`ast.Module`): What is run in its place.
    """

    def __init__(self, fullname: str, path: str, tree: ast.Module):
        super().__init__(fullname, path)
        self.tree = tree

    def get_code(self, fullname):
        """Called by Python's import."""
        return compile(self.tree, self.path, "exec", dont_inherit=True)


class FaultyFinder(importlib.abc.MetaPathFinder):
    """Finds one module with a fault in it.

    Args:
        fullname (`str`): Name of the module.
        path (`Path`): Its file.
        tree (`ast.Module`): See [`FaultyLoader`].
    """

    def __init__(self, fullname: str, path: Path, tree: ast.Module):
        self.fullname, self.path, self.tree, self.found = fullname, str(path), tree, False

    def find_spec(self, fullname, path, target=None):
        """Called by Python's import."""
        if fullname != self.fullname:
            return None
        self.found = True
        loader = FaultyLoader(fullname, self.path, self.tree)
        is_package = Path(self.path).name == "__init__.py"
        search = [str(Path(self.path).parent)] if is_package else None
        return importlib.util.spec_from_file_location(
            fullname, self.path, loader=loader, submodule_search_locations=search
        )


class Chosen:
    """A plugin of pytest that runs some tests only, the quickest first, and takes down the first that fails.

    Args:
        seconds (`dict[str, float]`): Which, and how long each takes; none is all of them.
    """

    def __init__(self, seconds: dict[str, float]):
        self.seconds, self.failed, self.passed = seconds, "", 0

    def pytest_collection_modifyitems(self, items):
        """Called by pytest when it has found the tests."""
        items[:] = [item for item in items if not self.seconds or item.nodeid in self.seconds]
        items.sort(key=lambda item: self.seconds.get(item.nodeid, 0.0))

    def pytest_runtest_logreport(self, report):
        """Called by pytest after each phase of each test."""
        if report.failed and not self.failed:
            self.failed = report.nodeid
        self.passed += report.when == "call" and report.outcome == "passed"


def run_with_fault(place: Place, mutant: Mutant, seed: int, tests: dict[str, float]) -> tuple[str, int]:
    """Run tests on a fault.

    Args:
        place ([`Place`]): Whose tests.
        mutant ([`Mutant`]): The fault.
        seed (`int`): It was drawn from.
        tests (`dict[str, float]`): Seconds by test.

    Returns:
        `(by, passed)`: What noticed it, empty if nothing did, and how many tests passed before.
    """
    path = place.root / place.module_path(mutant.module)
    tree = Source(mutant.module, path.read_text(encoding="utf-8"), seed).with_fault(mutant.name)
    parts = [part for part in mutant.module.split("/") if part != "__init__"]
    finder = FaultyFinder(".".join([place.package, *parts]), path, tree)
    files = sorted({test.split("::")[0] for test in tests})

    def work(folder: Path) -> dict:
        sys.meta_path.insert(0, finder)
        chosen = Chosen(tests)
        status = run_pytest(place, folder, files, [chosen], ["-x"])
        by = chosen.failed or ("" if status in (0, 5) else f"pytest status {status}")
        return {"by": by, "passed": chosen.passed, "found": finder.found}

    answer = in_child(work, _SECONDS + 10 * sum(tests.values()))
    if "ended" in answer:
        return f"the process ended with {answer['ended']}", 0
    if answer["passed"] and not answer["found"]:
        raise RuntimeError(f"the tests {files} never loaded {finder.fullname} with its fault")
    return answer["by"], answer["passed"]


def near_and_far_test_files(place: Place, module: str) -> tuple[list[str], list[str]]:
    """The test files of a module's room, and all others; those first that are likely to notice a fault in it: with its
    name, with a name that begins with its own, and those that speak of it more often."""
    *rooms, name = module.split("/")
    folder = "/".join(["tests", *rooms])
    word = re.compile(rf"\b{name}\b")

    def order(file: str) -> tuple[bool, bool, int]:
        stem = Path(file).stem
        counted = len(word.findall((place.root / file).read_text(encoding="utf-8")))
        return stem != f"test_{name}", not stem.startswith(f"test_{name}"), -counted

    files = sorted(place.test_files(), key=order)
    near = [file for file in files if Path(file).parent.as_posix() == folder]
    return near, [file for file in files if file not in near]


@dataclass
class Trial:
    """A fault whose tests are run, until one notices it.

    Args:
        place ([`Place`]): Whose tests.
        mutant ([`Mutant`]): The fault.
        seed (`int`): It was drawn from.
    """

    place: Place
    mutant: Mutant
    seed: int
    by: str = ""
    passed: int = 0
    seconds: float = 0.0
    left: float = _LONGEST

    def ask(self, files: Iterable[str]) -> None:
        """Run the tests of these files that run the function with the fault."""
        start = time.monotonic()
        for test_file in files:
            known = map_tests(self.place, test_file)
            wanted = known.tests_of(self.mutant.module, self.mutant.function)
            tests = {}
            for test in sorted(wanted, key=known.seconds.get):
                if known.seconds[test] <= self.left:
                    tests[test] = known.seconds[test]
                    self.left -= tests[test]
            if tests:
                self.by, passed = run_with_fault(self.place, self.mutant, self.seed, tests)
                self.passed += passed
            if self.by:
                break
        self.seconds += time.monotonic() - start

    def verdict(self) -> Verdict:
        """What became of it so far."""
        rests_upon = [self.by.split("::")[0]] if "::" in self.by else self.place.test_files()
        digests = self.place.digests([self.place.module_path(self.mutant.module), *rests_upon])
        return Verdict(asdict(self.mutant), bool(self.by), self.by, self.passed, round(self.seconds, 1), digests)


def key(mutant: Mutant) -> tuple[str, str]:
    """What a fault is called in all rooms."""
    return mutant.module, mutant.name


def kept_verdicts(place: Place) -> dict[str, Verdict]:
    """What was found before, by the module and name of each fault."""
    path = place.results / "verdicts.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    found = (Verdict(**json.loads(line)) for line in lines if line.endswith("}"))  # the last may be cut
    return {key(Mutant(**verdict.mutant)): verdict for verdict in found}


def still_holds(place: Place, verdict: Verdict, mutant: Mutant) -> bool:
    """Whether the fault is the same one, and nothing that the verdict rests upon has changed."""
    files = set(verdict.digests) if verdict.caught else set(verdict.digests) | set(place.test_files())
    return verdict.mutant == asdict(mutant) and verdict.digests == place.digests(files)


def add_verdict(place: Place, verdict: Verdict) -> None:
    """Write down what was found, on a line of its own."""
    place.results.mkdir(parents=True, exist_ok=True)
    with open(place.results / "verdicts.jsonl", "a", encoding="utf-8") as file:
        file.write(f"{json.dumps(asdict(verdict))}\n")


def is_equivalent(mutant: Mutant) -> bool:
    """Whether `EQUIVALENT` names a fault. One of that name which changes something else is another."""
    return mutant.name in EQUIVALENT and EQUIVALENT[mutant.name][0] == mutant.change


def drawn_faults(place: Place, number: int, seed: int) -> list[Mutant]:
    """The first faults that are drawn, those left out that change nothing."""
    faults = (mutant for mutant in draw(place.folder, seed) if not is_equivalent(mutant))
    return list(itertools.islice(faults, number))


def check(place: Place, number: int, seed: int = 0, only: str = "", again: bool = False) -> list[Verdict]:
    """Judge drawn faults, those that were not before: each by the tests of its room first, then what is left by all
    others.

    Args:
        place ([`Place`]): Where.
        number (`int`): How many faults.
        seed (`int`, *optional*, defaults to 0): Draws them.
        only (`str`, *optional*): Of the drawn ones, those with this word in their names.
        again (`bool`, *optional*, defaults to `False`): Judge all anew.

    Returns:
        `list[Verdict]`, in the order in which they were drawn.
    """
    drawn = [mutant for mutant in drawn_faults(place, number, seed) if only in mutant.name]
    kept = {} if again else kept_verdicts(place)
    verdicts = {m: kept[key(m)] for m in drawn if key(m) in kept and still_holds(place, kept[key(m)], m)}
    trials = [Trial(place, mutant, seed) for mutant in drawn if mutant not in verdicts]
    for is_last in (False, True):
        for trial in (progress := tqdm([trial for trial in trials if not trial.by], unit="fault")):
            progress.set_description(trial.mutant.name)
            trial.ask(near_and_far_test_files(place, trial.mutant.module)[is_last])
            if trial.by or is_last:
                verdicts[trial.mutant] = trial.verdict()
                add_verdict(place, verdicts[trial.mutant])
            if not trial.by:
                outcome = "survived" if is_last else "not yet caught by"
                progress.write(f"{outcome} {trial.passed} tests: {trial.mutant}")
    return [verdicts[mutant] for mutant in drawn]


def share_caught(verdicts: Iterable[Verdict]) -> float:
    """Of the faults; 1.0 if there are none."""
    caught = [verdict.caught for verdict in verdicts]
    return sum(caught) / len(caught) if caught else 1.0


def summary(verdicts: list[Verdict]) -> str:
    """The figure, the survivors, and what was left out as it changes nothing."""
    survivors = [verdict for verdict in verdicts if not verdict.caught]
    kinds = Counter(verdict.mutant["kind"] for verdict in verdicts)
    missed = Counter(verdict.mutant["kind"] for verdict in survivors)
    lines = [f"R27: {len(verdicts) - len(survivors)} of {len(verdicts)} caught, {share_caught(verdicts):.3f}"]
    lines += [f"  {kind}: {kinds[kind] - missed[kind]} of {kinds[kind]}" for kind in sorted(kinds)]
    lines += [f"survived {verdict.tests} tests: {Mutant(**verdict.mutant)}" for verdict in survivors]
    lines += [f"left out: {name}: {change}: {reason}" for name, (change, reason) in EQUIVALENT.items()]
    return "\n".join(lines)


def main() -> int:
    """Judge, print the figure and the survivors; the exit status is 1 if the share caught is below `GOAL`."""
    parser = argparse.ArgumentParser(description="How many of the faults drawn at random do the tests notice?")
    parser.add_argument("--number", type=int, default=NUMBER, help="how many faults are drawn")
    parser.add_argument("--seed", type=int, default=0, help="draws them")
    parser.add_argument("--only", default="", help="those with this word in their names")
    parser.add_argument("--again", action="store_true", help="judge anew what was judged before")
    parser.add_argument("--list", action="store_true", help="print the drawn faults and judge none")
    args = parser.parse_args()
    place = Place()
    if args.list:
        print(*(m for m in drawn_faults(place, args.number, args.seed) if args.only in m.name), sep="\n")
        return 0
    verdicts = check(place, args.number, args.seed, args.only, args.again)
    print(summary(verdicts))
    return int(share_caught(verdicts) < GOAL)


if __name__ == "__main__":
    sys.exit(main())
