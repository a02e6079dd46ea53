# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""What a GPU is needed for, in one command and 25 minutes of an H100 or H200:

    python utils/benchmarks/gpu_run.py --output out/gpu

Into that folder go, stage by stage: the goals G11 to G13 of the benchmark (`benchmark.json`), the scenes of the recipe
`examples/recipes/emoji_words` at 128 pixels (`scenes`), a training of as many updates as fit into its time
(`training`, with its pipeline and images of its prompts), and figures of both directions (`evaluation.json`). Each
stage has seconds of its own, a log, and a line in `run.json`, which is written after each. A stage that fails or runs
out of time is recorded, and those that do not need it go on. The same command again goes on with what is not done.

On a CPU, at toy size, in about ten minutes:

    python utils/benchmarks/gpu_run.py --output out/gpu-toy --toy
"""

import json
import logging
import re
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
RECIPE = "examples/recipes/emoji_words/one.yaml"
STATE = "run.json"
# Of the time that is left for training, what a start and the last checkpoint take.
TRAINING_OVERHEAD = 60.0
TRAINING_SHARE = 0.9
GRACE = 30.0  # seconds that a stage has to stop in once it is asked to
SPEED = re.compile(r"'train_steps_per_second': '?([0-9.]+)'?")


@dataclass(frozen=True)
class Size:
    """What differs between the real run and the toy.

    Args:
        scenes (`tuple[str, ...]`): Arguments of the scenes.
        training (`tuple[str, ...]`): Arguments of the training beside the recipe.
        benchmark (`tuple[str, ...]`): Arguments of the benchmark.
        num_evaluated (`int`): Scenes that are judged.
        probe_steps (`int`): Updates that the speed is measured by.
        max_steps (`int`): Updates of the training at most.
    """

    scenes: tuple[str, ...]
    training: tuple[str, ...]
    benchmark: tuple[str, ...]
    num_evaluated: int
    probe_steps: int
    max_steps: int


REAL = Size(
    scenes=("--resolution", "128", "--paired", "8000", "--image", "100", "--text", "100"),  # the recipe reads pairs
    training=("--resolution", "128", "--bf16", "true"),
    benchmark=("--device", "cuda", "--dtype", "bfloat16", "--warmup", "3", "--compile", "reduce-overhead"),
    num_evaluated=300,
    probe_steps=60,
    max_steps=20_000,
)
TOY = Size(
    scenes=("--paired", "200", "--image", "20", "--text", "20", "--validation", "20", "--heldout", "20"),
    training=("--paired_split", "paired[:200]", "--per_device_train_batch_size", "8", "--use_cpu", "true"),
    benchmark=("--preset", "tiny", "--groups", "update", "--rounds", "1"),
    num_evaluated=10,
    probe_steps=2,
    max_steps=4,
)


@dataclass(frozen=True)
class Stage:
    """A command with a time limit.

    Args:
        name (`str`): Of its line in the record, and of its log.
        command (`Callable`): `seconds left -> list[str]`, made when the stage begins.
        seconds (`float`): It may take at most.
        needs (`tuple[str, ...]`): Stages that must be done before.
        done_by (`tuple[int, ...]`): Exit statuses of a command that came to its end.
    """

    name: str
    command: Callable[[float], Sequence[str]]
    seconds: float
    needs: tuple[str, ...] = ()
    done_by: tuple[int, ...] = (0,)


@dataclass
class Record:
    """What became of a stage.

    Args:
        name (`str`): Of the stage.
        status (`str`): `"done"`, `"failed"`, `"out of time"` or `"left out"`.
        seconds (`float`): It took.
        returncode (`int`, *optional*): Of its command.
        command (`list[str]`): That was run.
    """

    name: str
    status: str
    seconds: float = 0.0
    returncode: int | None = None
    command: Sequence[str] = ()


def steps_that_fit(steps_per_second: float, seconds: float, most: int) -> int:
    """Updates of a training that is to end within some seconds, its start and its end included.

    Args:
        steps_per_second (`float`): As a probe measured it.
        seconds (`float`): For all of it.
        most (`int`): No more than these.

    Returns:
        `int` from 1 to `most`.
    """
    steps = int(steps_per_second * (seconds * TRAINING_SHARE - TRAINING_OVERHEAD))
    return max(1, min(steps, most))


def measured_speed(log: Path) -> float:
    """Updates a second, as the log of a training says.

    Args:
        log (`Path`): Of a training that came to its end.

    Returns:
        `float`.

    Raises:
        ValueError: If it does not say.
    """
    found = SPEED.findall(log.read_text(encoding="utf-8", errors="replace"))
    if not found or float(found[-1]) <= 0.0:
        raise ValueError(f"{log} names no `train_steps_per_second`")
    return float(found[-1])


def plan(folder: Path, size: Size, minutes: float) -> list[Stage]:
    """The stages of a run.

    Args:
        folder (`Path`): Where everything is written.
        size ([`Size`]): Of the real run or of the toy.
        minutes (`float`): For all of it; stages get shares.

    Returns:
        `list[Stage]`.
    """
    total = 60.0 * minutes
    python = sys.executable
    scenes = str(folder / "scenes")

    def train(name: str, steps: int, seconds: float) -> list[str]:
        """A training of so many updates; one of its checkpoints is in the middle, so that it can go on."""
        command = [python, "examples/train_itit.py", "--config", RECIPE, "--paired_dataset", scenes, *size.training]
        command += ["--output_dir", str(folder / name), "--max_steps", str(steps), "--sample_steps", str(steps)]
        command += ["--save_steps", str(max(1, steps // 2))]
        if any((folder / name).glob("checkpoint-*")):
            command += ["--resume_from_checkpoint"]
        return command

    def train_in_time(seconds: float) -> list[str]:
        """As many updates as fit; those that an interrupted run had planned, if there is one."""
        planned = folder / "max_steps.txt"
        if not planned.exists():
            planned.write_text(str(steps_that_fit(measured_speed(folder / "probe.log"), seconds, size.max_steps)))
        return train("training", int(planned.read_text()), seconds)

    goals = ["--check", "utils/benchmarks/benchmark_goals.json", "--json", str(folder / "benchmark.json")]
    build = [python, "utils/build_emoji_scenes.py", "--output", scenes, "--styles", "noto", "--num_categories", "72"]
    build += ["--free_captions", "5", "--size_range", "0.62", "0.75", *size.scenes]
    # The figures that need no judge of its 72 categories.
    evaluate = [python, "examples/evaluate_itit.py", "--model", str(folder / "training" / "pipeline")]
    evaluate += ["--dataset", scenes, "--split", "validation", "--num_samples", str(size.num_evaluated)]
    evaluate += ["--num_cycles", str(min(size.num_evaluated, 100)), "--output", str(folder / "evaluation.json")]
    bench = [python, "utils/benchmarks/benchmark.py", *goals, *size.benchmark]
    return [
        Stage("benchmark", lambda seconds: bench, 0.3 * total, done_by=(0, 1)),  # 1 is a goal that was missed
        Stage("scenes", lambda seconds: build, 0.1 * total),
        Stage("probe", lambda seconds: train("probe", size.probe_steps, seconds), 0.1 * total, ("scenes",)),
        Stage("training", train_in_time, 0.4 * total, ("probe",)),
        Stage("evaluation", lambda seconds: evaluate, 0.1 * total, ("training",)),
    ]


def run_stage(stage: Stage, folder: Path, seconds: float) -> Record:
    """Run one stage, its output in `<name>.log`; whatever goes wrong is recorded, never raised.

    Args:
        stage ([`Stage`]): What to run.
        folder (`Path`): Of its log.
        seconds (`float`): That it has.

    Returns:
        [`Record`].
    """
    start = time.monotonic()
    try:
        command = list(stage.command(seconds))
    except (OSError, ValueError) as error:
        (folder / f"{stage.name}.log").write_text(f"{error}\n", encoding="utf-8")
        return Record(stage.name, "failed")
    with open(folder / f"{stage.name}.log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return Record(stage.name, "out of time", time.monotonic() - start, _stop(process), command)
    return Record(stage.name, "done" if code in stage.done_by else "failed", time.monotonic() - start, code, command)


def _stop(process: subprocess.Popen) -> int:
    """Ask a process to stop, a training then writes a checkpoint, and end it if it does not."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def read_records(folder: Path) -> dict[str, Record]:
    """What an earlier run in the folder recorded, by stage; empty without one."""
    path = folder / STATE
    records = json.loads(path.read_text(encoding="utf-8"))["stages"] if path.exists() else []
    return {record["name"]: Record(**record) for record in records}


def run(stages: Sequence[Stage], folder: Path, minutes: float, facts: dict) -> list[Record]:
    """Run the stages that are not done, and record each.

    Args:
        stages (`Sequence[Stage]`): In their order.
        folder (`Path`): Made if it is not there.
        minutes (`float`): For all of them; a stage has what is left at most.
        facts (`dict`): About the machine, for the record.

    Returns:
        `list[Record]`, one for each stage.
    """
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60.0 * minutes
    records = read_records(folder)
    for stage in stages:
        before = records.get(stage.name)
        if before is not None and before.status == "done":
            continue
        missing = [name for name in stage.needs if name not in records or records[name].status != "done"]
        left = min(stage.seconds, end - time.monotonic())
        if missing or left <= 0.0:
            records[stage.name] = Record(stage.name, "left out")
        else:
            logger.info(f"{stage.name}: {left:.0f} s at most")
            records[stage.name] = run_stage(stage, folder, left)
        logger.info(f"{stage.name}: {records[stage.name].status}, {records[stage.name].seconds:.0f} s")
        written = {"facts": facts, "stages": [asdict(record) for record in records.values()]}
        (folder / STATE).write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    return [records[stage.name] for stage in stages]


def machine_facts() -> dict[str, str]:
    """Which accelerator and torch this is."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {"device": device, "torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}


def parse(arguments: list[str] | None) -> Namespace:
    """The command line."""
    parser = ArgumentParser(description="What a GPU is needed for, see the head of this file.")
    parser.add_argument("--output", required=True, help="Folder of all results; the same again goes on.")
    parser.add_argument("--minutes", type=float, default=25.0, help="For all stages together.")
    parser.add_argument("--toy", action="store_true", help="Toy size, on a CPU.")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run what is not done yet; returns 1 if something is not done then."""
    options = parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not options.toy and not torch.cuda.is_available():
        raise ValueError("there is no GPU here: `--toy` tries the stages on a CPU")
    folder = Path(options.output).resolve()
    stages = plan(folder, TOY if options.toy else REAL, options.minutes)
    records = run(stages, folder, options.minutes, machine_facts())
    return int(any(record.status != "done" for record in records))


if __name__ == "__main__":
    sys.exit(main())
