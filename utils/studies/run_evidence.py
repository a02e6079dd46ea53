# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Every run that docs/results.md rests on, or is to rest on, by one command that goes on where it was interrupted:

    python utils/studies/run_evidence.py --list                     # what there is, and what it takes
    python utils/studies/run_evidence.py --only unpaired drift      # some of it; all without --only
    python utils/studies/run_evidence.py --training_arguments --bf16 true    # on a GPU

A stage is a list of commands, each of which skips what it has done. Their figures are copied to `--figures`, from
where they are committed. Hours are those of one core with AVX2, from measured seconds an update.
"""

import logging
import shlex
import shutil
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
SEEDS = (0, 1, 2)
PAIRS_SECONDS = 0.5  # an update on pairs
CYCLES_SECONDS = 1.2  # an update with both cycles
JUDGING_SECONDS = 240.0  # a run's evaluation
# Of Table 2's rows at small scale.
START_STEPS = 1200
STEPS = 1800
SHARE_STEPS = 3000  # of the study of 2%
SAME_TIME = round(CYCLES_SECONDS / PAIRS_SECONDS * SHARE_STEPS)  # updates on pairs in the time of the cycles
WORLD = "data/emoji-scenes-64-noto"
SHARE_WORLD = "data/emoji-scenes-64-80k"
UNPAIRED_WORLD = "data/emoji-scenes-64-unpaired"
UNPAIRED = (2_000, 5_000, 20_000, 80_000)
WRONG_SHARES = {0.3: SEEDS, 0.6: (0,)}
BUILD = "utils/build_emoji_scenes.py --styles noto --num_categories 24 --output"


@dataclass(frozen=True)
class Stage:
    """A study: what it asks, its commands, and where its figures are.

    Args:
        question (`str`): In words.
        commands (`tuple[str, ...]`): Arguments of the interpreter; ` -- ` ends with what goes to each training.
        results (`dict[str, str]`): File that a command writes, by the name its copy gets.
        hours (`float`): On one core.
    """

    question: str
    commands: tuple[str, ...]
    results: dict[str, str]
    hours: float


def hours(runs: int, steps: int, seconds: float) -> float:
    """Of so many runs, each judged."""
    return runs * (steps * seconds + JUDGING_SECONDS) / 3600


def judging() -> Stage:
    """The committed checkpoints by both judges."""
    evaluate = "utils/studies/evaluate_emoji_scenes.py --num_scenes"
    two = "--model checkpoints/emoji-scenes-96-two --dataset data/emoji-scenes-96-two --copies_of paired[:8000]"
    return Stage(
        "What do the committed checkpoints get right, by both judges?",
        (
            f"{BUILD} data/emoji-scenes-64 --paired 40000",
            f"{BUILD} data/emoji-scenes-96-two --num_categories 12 --resolution 96 --max_objects 2 "
            "--size_range 0.42 0.48 --heldout_relations 500",
            f"{evaluate} 500 --dataset data/emoji-scenes-64 --copies_of paired[:4000] "
            "--output out/evidence/emoji-scenes-64.json",
            f"{evaluate} 300 {two} --num_objects 2 --splits validation heldout heldout_relations --output "
            "out/evidence/emoji-scenes-96-two.json",
        ),
        {f"{name}.json": f"out/evidence/{name}.json" for name in ("emoji-scenes-64", "emoji-scenes-96-two")},
        0.5,
    )


def samplers() -> Stage:
    """Fewer steps, by both judges."""
    grid = "--orders confidence --temperatures 0.5 --steps 4 6 8 12 16 24 --guidances none constant interval"
    return Stage(
        "How many steps, and how much guidance, do both judges ask for?",
        (f"utils/studies/study_sampler.py --dataset {WORLD} {grid} --output out/evidence/sampler.json",),
        {"sampler.json": "out/evidence/sampler.json"},
        0.5,
    )


def two_percent() -> Stage:
    """2% of the captions, at equal updates and at equal time, and a curve over shares."""
    streams = f"--paired_dataset {SHARE_WORLD} --image_dataset {SHARE_WORLD} --text_dataset {SHARE_WORLD}"
    split = '--image_split "paired[4000:]" --text_split "paired[4000:]" --dropout 0.0'
    table = f"examples/table2.py --dataset {SHARE_WORLD} --num_scenes 1000"
    seeds = " ".join(map(str, SEEDS))

    def runs(row: int, pairs: str, which: str, steps: int, folder: str) -> str:
        options = f"--rows {row} --pairs {pairs} --seeds {which} --steps {steps} --output_dir out/evidence/{folder}"
        return f"{table} {options} -- {streams} {split}"

    return Stage(
        "What are 2% of the captions worth, with and without cycles, at equal updates and at equal time?",
        (
            f"{BUILD} {SHARE_WORLD} --paired 80000 --image 1 --text 1",
            runs(14, "1600", seeds, SHARE_STEPS, "share-cycles"),
            runs(3, "1600 80000", seeds, SHARE_STEPS, "share-pairs"),
            runs(3, "1600 80000", seeds, SAME_TIME, "share-pairs-same-time"),
            runs(14, "240 800 4000", "0", SHARE_STEPS, "share-curve"),
        ),
        {
            f"{name}.json": f"out/evidence/{name}/results.json"
            for name in ("share-cycles", "share-pairs", "share-pairs-same-time", "share-curve")
        },
        hours(6, SHARE_STEPS, CYCLES_SECONDS)
        + hours(6, SHARE_STEPS + START_STEPS, PAIRS_SECONDS)
        + hours(6, SAME_TIME + START_STEPS, PAIRS_SECONDS),
    )


def unpaired() -> Stage:
    """More unpaired data against more pairs (Figure 5)."""
    table = f"examples/table2.py --dataset {UNPAIRED_WORLD} --start_steps {START_STEPS}"
    streams = f"--scenes_folder {UNPAIRED_WORLD}"
    commands = [f"{BUILD} {UNPAIRED_WORLD} --paired 81000 --image 80000 --text 80000"]
    results = {}
    for number in UNPAIRED:
        seeds = " ".join(map(str, SEEDS if number in (UNPAIRED[0], UNPAIRED[-1]) else (0,)))
        for row, pairs, name in ((14, 1_000, "unpaired"), (3, 1_000 + number, "pairs")):
            folder = f"out/evidence/more-{name}-{number}"
            split = f'--image_split "image[:{number}]" --text_split "text[:{number}]"' if row == 14 else ""
            options = f"--rows {row} --pairs {pairs} --seeds {seeds} --output_dir {folder}"
            commands.append(f"{table} {options} -- {streams} {split}".rstrip())
            results[f"more-{name}-{number}.json"] = f"{folder}/results.json"
    runs = 2 * len(SEEDS) + len(UNPAIRED) - 2
    return Stage(
        "Are more images and sentences that do not belong together worth more pairs (Figure 5)?",
        tuple(commands),
        results,
        hours(runs, STEPS, CYCLES_SECONDS) + hours(2 * runs, STEPS + START_STEPS, PAIRS_SECONDS),
    )


def poor_captions() -> Stage:
    """Wrong captions: pairs alone, with cycles, with weights."""
    commands = [f"{BUILD} {WORLD}"]
    results = {}
    for share, seeds in WRONG_SHARES.items():
        for seed in seeds:
            name = f"poor-{round(100 * share)}-{seed}"
            shuffle = f'utils/studies/shuffle_captions.py --dataset {WORLD} --split "paired[:1000]"'
            shuffle += f" --wrong_share {share} --seed {seed}"
            table = f"examples/table2.py --seeds {seed} --dataset {WORLD}"
            commands.append(f"{shuffle} --output data/{name}")
            commands.append(
                f"{table} --rows 3 14 --output_dir out/evidence/{name} -- "
                f"--paired_dataset data/{name} --paired_split paired"
            )
            # What the start of these runs trusts, weighs the pairs of a third one.
            start = f"out/evidence/{name}/start-row03-seed{seed}/pipeline"
            commands.append(f"{shuffle} --weigh_with {start} --output data/{name}-weighed")
            commands.append(
                f"{table} --rows 3 --output_dir out/evidence/{name}-weighed -- "
                f"--paired_dataset data/{name}-weighed --paired_split paired"
            )
            results |= {f"{each}.json": f"out/evidence/{each}/results.json" for each in (name, f"{name}-weighed")}
    runs = sum(map(len, WRONG_SHARES.values()))
    return Stage(
        "What do wrong captions cost, and what do cycles and weights of pairs give back?",
        tuple(commands),
        results,
        hours(runs, STEPS, CYCLES_SECONDS) + hours(2 * runs, STEPS + START_STEPS, PAIRS_SECONDS),
    )


def drift() -> Stage:
    """What survives rounds, with and without cycles from the same start."""
    table = f"examples/table2.py --rows 3 14 --dataset {WORLD} --output_dir out/evidence/drift-runs"
    models = " ".join(f"out/evidence/drift-runs/row{row:02d}-seed{seed}/pipeline" for seed in SEEDS for row in (3, 14))
    return Stage(
        "Does a model trained with cycles keep what was asked for over rounds (Figures 6 and 10)?",
        (
            f"{BUILD} {WORLD}",
            table,
            f"utils/studies/study_drift.py --dataset {WORLD} --models {models} --output out/evidence/drift.json",
        ),
        {"drift.json": "out/evidence/drift.json"},
        hours(len(SEEDS), STEPS, CYCLES_SECONDS) + hours(len(SEEDS), STEPS + START_STEPS, PAIRS_SECONDS) + 0.5,
    )


def fourteen_rows() -> Stage:
    """All rows of Table 2, one seed."""
    rows = " ".join(map(str, range(1, 15)))
    return Stage(
        "All rows of Table 2 at a small budget, one seed.",
        (
            f"{BUILD} {WORLD}",
            f"examples/table2.py --dataset {WORLD} --output_dir out/evidence/table2 --rows {rows} --seeds 0",
        ),
        {"table2-rows.json": "out/evidence/table2/results.json"},
        hours(14, STEPS, (PAIRS_SECONDS + CYCLES_SECONDS) / 2) + hours(1, START_STEPS, PAIRS_SECONDS),
    )


def claims() -> Stage:
    """The rows of the claims, three seeds."""
    seeds = " ".join(map(str, SEEDS))
    return Stage(
        "Autoencoding, half cycles and full cycles at equal weights, three seeds.",
        (
            f"{BUILD} {WORLD}",
            f"examples/table2.py --dataset {WORLD} --output_dir out/evidence/table2 "
            f"--rows 3 7 8 10 14 --seeds {seeds}",
        ),
        {"table2.json": "out/evidence/table2/results.json"},
        hours(5 * len(SEEDS), STEPS, (PAIRS_SECONDS + CYCLES_SECONDS) / 2)
        + hours(len(SEEDS), START_STEPS, PAIRS_SECONDS),
    )


STAGES: dict[str, Callable[[], Stage]] = {
    "judging": judging,
    "samplers": samplers,
    "drift": drift,
    "poor_captions": poor_captions,
    "fourteen_rows": fourteen_rows,
    "claims": claims,
    "unpaired": unpaired,
    "two_percent": two_percent,
}


def words(command: str, training_arguments: list[str]) -> list[str]:
    """Arguments of the interpreter, with what goes to each training at the end of those that train."""
    found = shlex.split(command)
    if found[0] == "examples/table2.py" and training_arguments:
        found += [*([] if "--" in found else ["--"]), *training_arguments]
    return found


def is_done(command: list[str]) -> bool:
    """Whether a command that refuses to run twice has run: what it builds is there."""
    if command[0] not in ("utils/build_emoji_scenes.py", "utils/studies/shuffle_captions.py"):
        return False
    return Path(ROOT, command[command.index("--output") + 1]).exists()


def run(stage: Stage, options: Namespace):
    """The commands of a stage that are not done, and copies of their figures."""
    for command in (words(each, options.training_arguments) for each in stage.commands):
        if not is_done(command):
            logger.info(shlex.join(command))
            subprocess.run([sys.executable, *command], check=True, cwd=ROOT)
    Path(options.figures).mkdir(parents=True, exist_ok=True)
    for name, source in stage.results.items():
        shutil.copyfile(ROOT / source, Path(options.figures, name))


def main(arguments: list[str] | None = None):
    """List the stages, or run them."""
    parser = ArgumentParser(description="The runs that docs/results.md rests on.")
    parser.add_argument("--list", action="store_true", help="Say what there is, and run nothing.")
    parser.add_argument("--only", nargs="+", choices=tuple(STAGES), default=list(STAGES), help="Which stages.")
    parser.add_argument("--figures", default="out/evidence/figures", help="Folder for copies of the figures.")
    parser.add_argument(
        "--training_arguments", nargs="...", default=[], help="The rest of the line: to each training, last of all."
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in options.only:
        stage = STAGES[name]()
        logger.info(f"{name}: {stage.question} About {stage.hours:.1f} hours of one core.")
        if options.list:
            for command in stage.commands:
                logger.info(f"  python {shlex.join(words(command, options.training_arguments))}")
        else:
            run(stage, options)


if __name__ == "__main__":
    main()
