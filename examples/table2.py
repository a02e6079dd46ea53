# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Table 2 and Figure 4 at small scale: what each objective, and unpaired data, is worth.

    python examples/table2.py --rows 3 7 10 14 --seeds 0 1 2
    python examples/table2.py --rows 3 14 --pairs 20000 2000 1000 400 200 60 --output_dir out/figure4
    python examples/table2.py --rows 3 14 --go_on_from out/table2 --output_dir out/longer -- --data_seed 1

Every row of Table 2 is a recipe of examples/recipes/table2. Of each seed, all rows start from the same weights, which
were trained on the pairs alone (row 3) for `--start_steps`, and take `--steps` more; with `--go_on_from`, each row
from the weights of its own run in that folder. Each run is judged on scenes that
no stream holds (utils/studies/evaluate_emoji_scenes.py), and its losses on unseen pairs are kept. What is finished is
not run again: interrupted, the same command goes on. All runs, and mean and range over the seeds, go into
`results.json`, `table.md` and `figure.png` of the output folder.

What follows `--` goes to each training: `-- --use_cpu --scenes_folder data/scenes --max_grad_norm 0.5`.
"""

import json
import logging
import re
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

import matplotlib
from tqdm.auto import tqdm

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  (the backend comes first)

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "examples" / "recipes" / "table2"
START_ROW = 3  # both directions, pairs alone
# Columns of the table: title, split, figure; of no split where it is a loss on unseen pairs.
COLUMNS = {
    "captions": ("validation", "caption_both"),
    "generated": ("validation", "generated_both"),
    "generated, no copy": ("validation", "generated_true_and_new"),
    "captions, held out": ("heldout", "caption_both"),
    "generated, held out": ("heldout", "generated_both"),
    "i2t loss": (None, "eval_loss_i2t"),
    "t2i loss": (None, "eval_loss_t2i"),
}
PLOTTED = ("captions", "captions, held out", "i2t loss", "generated", "generated, held out", "t2i loss")
ROW_NAMES = {3: "none", 7: "autoencoding", 10: "half cycles", 14: "full cycles"}


def recipe(row: int) -> Path:
    """File of a row of Table 2."""
    return RECIPES / f"row{row:02d}.yaml"


def paper_figures(row: int) -> str:
    """What the paper has in this row, from the head of the recipe."""
    found = re.search(r"^# In the paper: (.*)\.$", recipe(row).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return found[1] if found else ""


def run_name(row: int, seed: int, pairs: int | None) -> str:
    """Folder of one run."""
    return f"row{row:02d}-seed{seed}" if pairs is None else f"row{row:02d}-pairs{pairs}-seed{seed}"


def train(row: int, seed: int, pairs: int | None, steps: int, folder: Path, start: Path | None, options: Namespace):
    """One training, in a process of its own; a folder that has its pipeline already is left as it is."""
    if (folder / "pipeline" / "model_index.json").is_file():
        return
    command = [sys.executable, str(ROOT / "examples" / "train_itit.py"), "--config", str(recipe(row))]
    command += ["--seed", str(seed), "--max_steps", str(steps), "--output_dir", str(folder)]
    command += ["--eval_split", "validation"]  # its losses are columns of the table
    command += ["--resume_from_checkpoint"]  # from its last checkpoint, if it was interrupted
    if pairs is not None:
        command += ["--paired_split", f"paired[:{pairs}]"]
    if start is not None:
        command += ["--model_name_or_path", str(start / "pipeline" / "model")]
    subprocess.run(command + options.train_arguments, check=True, cwd=ROOT)


def judge(folder: Path, pairs: int | None, options: Namespace) -> dict[str, float | None]:
    """Figures of one run, each column's; measured once."""
    file = folder / "figures.json"
    if not file.is_file():
        command = [sys.executable, str(ROOT / "utils" / "studies" / "evaluate_emoji_scenes.py"), "--output", str(file)]
        command += ["--model", str(folder / "pipeline"), "--dataset", options.dataset]
        command += ["--num_scenes", str(options.num_scenes), "--num_beams", "1", "--temperature", "0.5"]
        command += ["--max_new_tokens", "24", "--num_inference_steps", "12", "--guidance_scale", "3.0"]
        command += ["--copies_of", f"paired[:{pairs}]" if pairs is not None else options.copies_of]
        subprocess.run(command, check=True, cwd=ROOT)
    results = json.loads(file.read_text(encoding="utf-8"))["results"]
    losses = json.loads((folder / "eval_results.json").read_text(encoding="utf-8"))
    return {
        title: losses.get(name) if split is None else results[split]["shares"][name]
        for title, (split, name) in COLUMNS.items()
    }


def run_all(options: Namespace) -> list[dict]:
    """Train and judge every row, number of pairs and seed that was asked for."""
    folder = Path(options.output_dir).resolve()
    runs: list[dict] = []
    asked = [(row, seed, pairs) for seed in options.seeds for pairs in options.pairs for row in options.rows]
    for row, seed, pairs in tqdm(asked, desc="runs"):
        start = None
        if options.go_on_from:
            start = Path(options.go_on_from).resolve() / run_name(row, seed, pairs)
        elif options.start_steps:
            start = folder / f"start-{run_name(START_ROW, seed, pairs)}"
            train(START_ROW, seed, pairs, options.start_steps, start, None, options)
        at = folder / run_name(row, seed, pairs)
        train(row, seed, pairs, options.steps, at, start, options)
        runs.append({"row": row, "seed": seed, "pairs": pairs, "figures": judge(at, pairs, options)})
        (folder / "results.json").write_text(json.dumps({"settings": vars(options), "runs": runs}, indent=2))
    return runs


def summarise(runs: list[dict]) -> dict[tuple[int, int | None], dict[str, tuple[float, float, float] | None]]:
    """Mean, least and greatest over the seeds, of each column, for each row and number of pairs."""
    groups: dict[tuple[int, int | None], list[dict]] = {}
    for run in runs:
        groups.setdefault((run["row"], run["pairs"]), []).append(run["figures"])
    summary = {}
    for key, figures in groups.items():
        columns = {title: [each[title] for each in figures] for title in COLUMNS}
        summary[key] = {
            title: None if None in values else (sum(values) / len(values), min(values), max(values))
            for title, values in columns.items()
        }
    return summary


def table(runs: list[dict]) -> str:
    """Markdown: one line per row of Table 2 and number of pairs, each figure as mean (least to greatest)."""
    lines = [["row", "pairs", "seeds", *COLUMNS, "in the paper"]]
    lines.append(["---"] * len(lines[0]))
    for (row, pairs), columns in summarise(runs).items():
        seeds = sum(run["row"] == row and run["pairs"] == pairs for run in runs)
        cells = ["" if each is None else "{:.3f} ({:.3f} to {:.3f})".format(*each) for each in columns.values()]
        lines.append([str(row), "recipe's" if pairs is None else str(pairs), str(seeds), *cells, paper_figures(row)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def plot(runs: list[dict], file: Path):
    """Every run a dot, and a line through the means: over the rows, or over the number of pairs where there are
    several."""
    rows = sorted({run["row"] for run in runs})
    by_pairs = len({run["pairs"] for run in runs}) > 1
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.5), layout="constrained")
    for axis, title in zip(axes.flat, PLOTTED, strict=True):
        found = [run for run in runs if run["figures"][title] is not None]
        if by_pairs:
            for row in rows:
                _plot_points(
                    axis, [(run["pairs"], run["figures"][title]) for run in found if run["row"] == row], label(row)
                )
            axis.set_xscale("log")
            axis.set_xlabel("pairs")
            axis.legend()
        else:
            _plot_points(axis, [(rows.index(run["row"]), run["figures"][title]) for run in found], "")
            axis.set_xticks(range(len(rows)), [label(row) for row in rows])
        axis.set_title(title)
        axis.grid(axis="y", alpha=0.3)
    figure.savefig(file, dpi=100)
    plt.close(figure)


def label(row: int) -> str:
    """What a row is called in the figure."""
    return f"{row}\n{ROW_NAMES[row]}" if row in ROW_NAMES else str(row)


def _plot_points(axis, points: list[tuple[int, float]], name: str):
    """Points of one colour, and a line through the means of those with the same x."""
    at: dict[int, list[float]] = {}
    for x, y in sorted(points):
        at.setdefault(x, []).append(y)
    (line,) = axis.plot(list(at), [sum(ys) / len(ys) for ys in at.values()], label=name)
    axis.plot([x for x, _ in points], [y for _, y in points], "o", color=line.get_color(), alpha=0.6)


def parse(arguments: list[str] | None) -> Namespace:
    """The command line; what follows `--` goes to the trainings."""
    arguments = sys.argv[1:] if arguments is None else arguments
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    parser = ArgumentParser(description="Table 2 and Figure 4 at small scale.")
    parser.add_argument("--rows", type=int, nargs="+", default=[3, 7, 10, 14], choices=range(1, 15), metavar="ROW")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pairs", type=int, nargs="+", default=[None], help="Numbers of pairs; the recipe's if none.")
    parser.add_argument(
        "--copies_of", default="paired[:1000]", help="The recipes' pairs, of which generated images may be copies."
    )
    parser.add_argument(
        "--start_steps", type=int, default=1200, help="On the pairs alone; 0: all rows from new weights."
    )
    parser.add_argument("--steps", type=int, default=1800, help="Of each row.")
    parser.add_argument("--go_on_from", help="Folder of an earlier table, whose runs are trained on; no other start.")
    parser.add_argument("--dataset", default="data/emoji-scenes-64-noto", help="Scenes that the runs are judged on.")
    parser.add_argument("--num_scenes", type=int, default=300, help="Of each split.")
    parser.add_argument("--output_dir", default="out/table2")
    options = parser.parse_args(arguments[:cut])
    options.train_arguments = arguments[cut + 1 :]
    check_earlier_runs(options)
    return options


def check_earlier_runs(options: Namespace):
    """Before hours of training: what is to be trained on must be there.

    Raises:
        ValueError: If `--go_on_from` lacks the finished run of a row, seed and number of pairs.
    """
    if options.go_on_from is None:
        return
    names = [run_name(row, seed, n) for row in options.rows for seed in options.seeds for n in options.pairs]
    missing = [each for each in names if not Path(options.go_on_from, each, "pipeline", "model_index.json").is_file()]
    if missing:
        raise ValueError(f"`--go_on_from` must hold the finished runs {names}, {options.go_on_from} lacks {missing}")


def main(arguments: list[str] | None = None) -> str:
    """Train, judge, write; the table."""
    options = parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    Path(options.output_dir).mkdir(parents=True, exist_ok=True)
    runs = run_all(options)
    text = table(runs)
    Path(options.output_dir, "table.md").write_text(text, encoding="utf-8")
    plot(runs, Path(options.output_dir, "figure.png"))
    logger.info(text)
    return text


if __name__ == "__main__":
    main()
