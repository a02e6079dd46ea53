# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""One healthy training and three sick ones, and the plots of docs/training_curves.md:

    python utils/studies/study_training_curves.py --output_dir out/training-curves -- --use_cpu true
    python utils/studies/study_training_curves.py --plot_only

All four read emoji scenes of 12 categories by `examples/recipes/emoji_scenes_few_pairs.yaml` with both cycles, which
take 4 images and 4 sentences an update, and differ from the healthy one in what `RUNS` says. The logs of all go into
one JSON file (`--logs`), from which the plots are made; a run whose log is in that file is not trained again.

What follows `--` goes to each training.
"""

import json
import logging
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

import matplotlib
from tqdm.auto import tqdm

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  (the backend comes first)

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "examples")]

import train_itit  # noqa: E402  (the folder comes first)

logger = logging.getLogger(__name__)

RECIPE = ROOT / "examples" / "recipes" / "emoji_scenes_few_pairs.yaml"
BOTH_CYCLES = ["--objectives", "t2i", "i2t", "i2i", "t2i2t", "i2t2i"]
RUNS = {
    "healthy": [*BOTH_CYCLES, "--paired_split", "paired[:1000]"],
    "rate too high": [
        *BOTH_CYCLES,
        *("--paired_split", "paired[:1000]", "--learning_rate", "6e-2", "--muon_learning_rate", "2e-1"),
    ],
    # Without i2t nothing tells the captioner what a caption is: only the cycle trains it.
    "collapsed captions": ["--objectives", "t2i", "i2i", "i2t2i", "--paired_split", "paired[:1000]"],
    "memorised pairs": [
        *("--objectives", "t2i", "i2t", "i2i", "--paired_split", "paired[:32]", "--dropout", "0"),
        *("--weight_decay", "0"),
    ],
}
# Files of the plots: of the panels title, and by label the run and the figure of the log.
PLOTS = {
    "rate": {
        "loss_t2i": {name: (name, "loss_t2i") for name in ("healthy", "rate too high")},
        "loss_i2t": {name: (name, "loss_i2t") for name in ("healthy", "rate too high")},
        "grad_norm": {name: (name, "grad_norm") for name in ("healthy", "rate too high")},
    },
    "captions": {
        figure: {name: (name, f"synthesis/i2t2i/{figure}") for name in ("healthy", "collapsed captions")}
        for figure in ("identical_captions", "endless_captions", "distinct_1")
    },
    "memory": {
        loss: {
            f"{name}, {what}": (name, prefix + loss)
            for name in ("healthy", "memorised pairs")
            for what, prefix in (("training", ""), ("validation", "eval_"))
        }
        for loss in ("loss_t2i", "loss_i2t")
    },
}
COLOURS = {"healthy": "tab:green", "rate too high": "tab:red", "collapsed captions": "tab:red"}
COLOURS |= {"memorised pairs": "tab:red"}


def train(name: str, options: Namespace) -> list[dict]:
    """One training by examples/train_itit.py; what it logged."""
    folder = Path(options.output_dir, name.replace(" ", "-")).resolve()
    arguments = ["--config", str(RECIPE), *RUNS[name], "--scenes_folder", options.dataset, "--seed", "0"]
    arguments += ["--per_device_image_batch_size", "4", "--per_device_text_batch_size", "4", "--synthesis_steps", "4"]
    arguments += ["--max_steps", str(options.steps), "--save_steps", str(options.steps), "--warmup_steps", "20"]
    arguments += ["--logging_steps", str(options.logging_steps), "--sample_steps", "0"]
    arguments += ["--eval_split", f"validation[:{options.num_losses}]", "--eval_strategy", "steps"]
    arguments += ["--eval_steps", str(5 * options.logging_steps), "--output_dir", str(folder)]
    train_itit.main([*arguments, *options.train_arguments])
    state = folder / f"checkpoint-{options.steps}" / "trainer_state.json"
    return json.loads(state.read_text(encoding="utf-8"))["log_history"]


def shown(history: list[dict]) -> list[dict]:
    """Of each log the update and the figures that a plot or the page shows, rounded."""
    names = {figure for panels in PLOTS.values() for lines in panels.values() for _, figure in lines.values()}
    names |= {"loss_i2t2i", "loss_t2i2t", "cross_entropy/t2i/0.9-1.0"}
    kept = [{key: value for key, value in log.items() if key in names} for log in history]
    return [
        {"step": log["step"]} | {key: float(f"{value:.4g}") for key, value in figures.items()}
        for log, figures in zip(history, kept, strict=True)
        if figures
    ]


def curve(history: list[dict], figure: str) -> tuple[list[int], list[float]]:
    """Updates and values of a figure, where it was logged."""
    found = [(log["step"], log[figure]) for log in history if figure in log]
    return [step for step, _ in found], [value for _, value in found]


def plot(logs: dict[str, list[dict]], panels: dict, file: Path):
    """The panels of one plot beside each other."""
    figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 2.8), layout="constrained")
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        for label, (name, what) in lines.items():
            style = "--" if what.startswith("eval_") else "-"
            axis.plot(*curve(logs[name], what), style, color=COLOURS[name], label=label)
        axis.set_title(title)
        axis.set_xlabel("update")
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize="small")
    figure.savefig(file, dpi=75)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> dict[str, list[dict]]:
    """Train what is not there, write, plot; the logs of all runs."""
    arguments = sys.argv[1:] if arguments is None else arguments
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    parser = ArgumentParser(description="Curves of one healthy training and of three sick ones.")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--logging_steps", type=int, default=5)
    parser.add_argument("--num_losses", type=int, default=48, help="Scenes of validation for the losses.")
    parser.add_argument("--dataset", default="data/emoji-scenes-64-12-kinds", help="Built if it is not there.")
    parser.add_argument("--output_dir", default="out/training-curves")
    parser.add_argument("--logs", default="docs/images/training_curves.json")
    parser.add_argument("--images", default="docs/images", help="Folder of the plots.")
    parser.add_argument("--plot_only", action="store_true", help="Plot the logs, train nothing.")
    options = parser.parse_args(arguments[:cut])
    options.train_arguments = arguments[cut + 1 :]
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    file = Path(options.logs)
    logs = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    missing = [name for name in RUNS if name not in logs]
    if options.plot_only and missing:
        raise ValueError(f"`--logs` must hold all runs to be plotted, {file} lacks {missing}")
    for name in tqdm(missing, desc="runs"):
        logs[name] = shown(train(name, options))
        lines = ",\n".join(f"{json.dumps(each)}: {json.dumps(logs[each])}" for each in logs)
        file.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    for name, panels in PLOTS.items():
        plot(logs, panels, Path(options.images, f"training_curves_{name}.png"))
    return logs


if __name__ == "__main__":
    main()
