# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""What a start is worth for few pairs, on the emoji scenes of 12 categories:

    python utils/studies/study_starts.py --pairs 200 1000 --seeds 0 1 2 --output_dir out/starts -- --use_cpu true

The frozen parts are those of the emoji scenes. Each run trains on pairs alone (i2t, t2i, i2i) from one of four starts:

- `random`: new weights, `--steps` updates.
- `stage1`: images and sentences alone first (examples/recipes/images_first/stage1.yaml, `--stage1_steps` updates, one
  a seed), then `--steps` updates on the pairs.
- `mage`: a small MAGE in its own layout, trained on the same images alone (`--mage_steps` updates, one a seed), stored
  as MAGE's files are and converted by utils/convert_mage.py, then `--steps` updates.
- `longer`: new weights and as much CPU time as `stage1` had in all: its number of updates follows from the measured
  seconds of stage 1 and of an update on the pairs.

Each is judged by utils/studies/evaluate_emoji_scenes.py, and by the losses of the validation split. What is finished
is not run again: interrupted, the same command goes on. All runs, and mean (least to greatest) over the seeds, go into
`results.json` and `table.md` of the output folder, rewritten after each run.

What follows `--` goes to each training.
"""

import itertools
import json
import logging
import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

import torch
from tqdm.auto import tqdm

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / folder) for folder in ("examples", "utils")]

import evaluate_emoji_scenes  # noqa: E402  (the folders come first)
import train_itit  # noqa: E402
from convert_mage import convert_mage  # noqa: E402
from convert_vqgan import read_weights  # noqa: E402
from itit_hf import ITITConfig  # noqa: E402
from itit_hf.data.image_tokens import add_image_token_ids  # noqa: E402
from itit_hf.data.loading import load_rows  # noqa: E402
from itit_hf.models.configuration_itit import text_fields  # noqa: E402
from small_mage import MageSize, train_small_mage  # noqa: E402

logger = logging.getLogger(__name__)

RECIPES = Path(__file__).resolve().parents[2] / "examples" / "recipes"
PAIRS_RECIPE = RECIPES / "emoji_scenes_few_pairs.yaml"
STAGE1_RECIPE = RECIPES / "images_first" / "stage1.yaml"
STARTS = ("random", "stage1", "mage", "longer")
# Columns of the table: title, split, figure; of no split where it is a loss on unseen pairs.
COLUMNS = {
    "captions: category": ("validation", "caption_category"),
    "captions: colour": ("validation", "caption_colour"),
    "images: category": ("validation", "generated_category"),
    "images: colour": ("validation", "generated_colour"),
    "images: both": ("validation", "generated_both"),
    "held out, captions: category": ("heldout", "caption_category"),
    "held out, captions: colour": ("heldout", "caption_colour"),
    "held out, images: both": ("heldout", "generated_both"),
    "i2t loss": (None, "eval_loss_i2t"),
    "t2i loss": (None, "eval_loss_t2i"),
    "i2i loss": (None, "eval_loss_i2i"),
}


def finished(folder: Path) -> dict | None:
    """What is known of a training that was finished."""
    file = folder / "run.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def finish(folder: Path, run: dict) -> dict:
    """Write down that a training is finished."""
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    return run


def train(arguments: list[str], seed: int, steps: int, folder: Path, options: Namespace) -> float:
    """One training by examples/train_itit.py; the CPU seconds it took, with loading and saving."""
    common = ["--scenes_folder", options.dataset, "--seed", str(seed), "--max_steps", str(steps)]
    common += ["--eval_split", f"validation[:{options.num_losses}]", "--output_dir", str(folder)]
    common += ["--save_strategy", "no", "--sample_steps", "0", "--sample_prompts", "a red bus"]
    before = time.process_time()
    train_itit.main([*arguments, *common, *options.train_arguments])
    return time.process_time() - before


def prepare_stage1(seed: int, folder: Path, options: Namespace) -> dict:
    """Images and sentences alone."""
    seconds = train(["--config", str(STAGE1_RECIPE)], seed, options.stage1_steps, folder, options)
    return {"model": str(folder / "pipeline" / "model"), "steps": options.stage1_steps, "cpu_seconds": seconds}


def prepare_mage(seed: int, folder: Path, options: Namespace) -> dict:
    """Images alone in a small MAGE, stored as MAGE's files are, read again and converted."""
    text_encoder, processor = train_itit.load_frozen_parts(train_itit.ScriptArguments())
    rows = add_image_token_ids(load_rows(options.dataset, "image", needed=["image"]), processor)
    preset = ITITConfig.preset("tiny")
    size = MageSize(
        codes=processor.image_tokenizer.config.num_vq_embeddings,
        side=processor.image_grid[0],
        width=preset.hidden_size,
        depth=preset.num_hidden_layers,
        heads=preset.num_attention_heads,
        decoder_width=preset.decoder_hidden_size,
        decoder_depth=preset.image_decoder_num_hidden_layers,
        decoder_heads=preset.decoder_num_attention_heads,
        dropout=0.1,
    )
    before = time.process_time()
    mage, losses = train_small_mage(torch.tensor(rows["image_token_ids"][:]), size, options.mage_steps, seed)
    seconds = time.process_time() - before
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"model": mage.state_dict()}, folder / "checkpoint.pth")
    fields = text_fields(processor.tokenizer, text_encoder.config)
    fields |= {"num_attention_heads": size.heads, "image_decoder_num_attention_heads": size.decoder_heads}
    fields |= {"decoder_num_attention_heads": size.decoder_heads, "initializer": preset.initializer}
    fields |= {"text_decoder_num_hidden_layers": preset.text_decoder_num_hidden_layers}
    fields |= {"hidden_dropout_prob": size.dropout, "attention_probs_dropout_prob": size.dropout}
    convert_mage(read_weights(str(folder / "checkpoint.pth")), fields).save_pretrained(folder / "model")
    last = losses[-max(1, len(losses) // 10) :]
    started = {"model": str(folder / "model"), "steps": options.mage_steps, "cpu_seconds": seconds}
    return started | {"train_loss": sum(last) / len(last)}


PREPARATIONS = {"stage1": prepare_stage1, "mage": prepare_mage}


def prepare(kind: str, seed: int, options: Namespace) -> dict:
    """The weights of a start, made once a seed."""
    folder = Path(options.output_dir, f"{kind}-seed{seed}").resolve()
    return finished(folder) or finish(folder, PREPARATIONS[kind](seed, folder, options))


def steps_of_equal_time(random: dict, start: dict) -> int:
    """Updates on the pairs in as much CPU time as a start and its updates on the pairs took."""
    an_update = random["cpu_seconds"] / random["steps"]
    return random["steps"] + round(start["cpu_seconds"] / an_update)


def run_pairs(kind: str, seed: int, pairs: int, runs: list[dict], options: Namespace) -> dict:
    """Train from one start on the pairs, and judge."""
    folder = Path(options.output_dir, f"{kind}-pairs{pairs}-seed{seed}").resolve()
    run = finished(folder)
    if run is not None:
        return run
    steps = options.steps
    start = prepare(kind, seed, options) if kind in PREPARATIONS else None
    if kind == "longer":
        (random,) = [each for each in runs if each["key"] == ["random", seed, pairs]]
        steps = steps_of_equal_time(random, prepare("stage1", seed, options))
    arguments = ["--config", str(PAIRS_RECIPE), "--objectives", "i2t", "t2i", "i2i"]
    arguments += ["--paired_split", f"paired[:{pairs}]"]
    if start is not None:
        arguments += ["--model_name_or_path", start["model"]]
    seconds = train(arguments, seed, steps, folder, options)
    run = {"key": [kind, seed, pairs], "steps": steps, "cpu_seconds": seconds}
    run["start_cpu_seconds"] = 0.0 if start is None else start["cpu_seconds"]
    return finish(folder, run | {"figures": judge(folder, options)})


def judge(folder: Path, options: Namespace) -> dict[str, float]:
    """Figures of one run, each column's."""
    command = ["--model", str(folder / "pipeline"), "--dataset", options.dataset, "--seed", "0"]
    command += ["--num_scenes", str(options.num_scenes), "--num_beams", "1", "--max_new_tokens", "20"]
    command += ["--num_inference_steps", "12", "--guidance_scale", "3.0", "--temperature", "0.5"]
    results = evaluate_emoji_scenes.main(command)
    losses = json.loads((folder / "eval_results.json").read_text(encoding="utf-8"))
    return {
        title: losses[name] if split is None else results[split]["shares"][name]
        for title, (split, name) in COLUMNS.items()
    }


def table(runs: list[dict]) -> str:
    """Markdown: one line per number of pairs and start, each figure as mean (least to greatest) over the seeds."""
    groups: dict[tuple[int, str], list[dict]] = {}
    for run in runs:
        kind, _, pairs = run["key"]
        groups.setdefault((pairs, kind), []).append(run)
    lines = [["pairs", "start", "seeds", "updates", "CPU s", *COLUMNS]]
    lines.append(["---"] * len(lines[0]))
    for pairs, kind in sorted(groups, key=lambda each: (each[0], STARTS.index(each[1]))):
        found = groups[pairs, kind]
        seconds = [run["cpu_seconds"] + run["start_cpu_seconds"] for run in found]
        cells = [str(pairs), kind, str(len(found)), _range([run["steps"] for run in found], "{:.0f}")]
        cells.append(_range(seconds, "{:.0f}"))
        lines.append(cells + [_range([run["figures"][title] for run in found], "{:.3f}") for title in COLUMNS])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _range(values: list[float], form: str) -> str:
    """Mean (least to greatest), or the one value that all have."""
    if min(values) == max(values):
        return form.format(values[0])
    mean = form.format(sum(values) / len(values))
    return f"{mean} ({form.format(min(values))} to {form.format(max(values))})"


def run_all(options: Namespace) -> list[dict]:
    """All that was asked for, seed by seed; written after each run."""
    runs: list[dict] = []
    asked = list(itertools.product(options.seeds, options.pairs, STARTS))
    Path(options.output_dir).mkdir(parents=True, exist_ok=True)
    for seed, pairs, kind in tqdm(asked, desc="runs"):
        runs.append(run_pairs(kind, seed, pairs, runs, options))
        starts = [{"key": [name, each]} | prepare(name, each, options) for each, name in _prepared(options)]
        starts = [{name: value for name, value in start.items() if name != "model"} for start in starts]
        result = {"settings": vars(options), "starts": starts, "runs": runs}
        Path(options.output_dir, "results.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        Path(options.output_dir, "table.md").write_text(table(runs), encoding="utf-8")
    return runs


def _prepared(options: Namespace) -> list[tuple[int, str]]:
    """Starts that are there already."""
    named = itertools.product(options.seeds, PREPARATIONS)
    return [
        (seed, kind) for seed, kind in named if Path(options.output_dir, f"{kind}-seed{seed}", "run.json").is_file()
    ]


def main(arguments: list[str] | None = None) -> str:
    """Train, judge, write; the table."""
    arguments = sys.argv[1:] if arguments is None else arguments
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    parser = ArgumentParser(description="What a start is worth for few pairs.")
    parser.add_argument("--pairs", type=int, nargs="+", default=[200, 1000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=250, help="On the pairs.")
    parser.add_argument("--stage1_steps", type=int, default=250, help="On images and sentences alone.")
    parser.add_argument("--mage_steps", type=int, default=300, help="Of MAGE: about the CPU time of stage 1.")
    parser.add_argument("--num_scenes", type=int, default=120, help="Judged of each split.")
    parser.add_argument("--num_losses", type=int, default=300, help="Scenes of validation for the losses.")
    parser.add_argument("--dataset", default="data/emoji-scenes-64-12-kinds", help="Built if it is not there.")
    parser.add_argument("--output_dir", default="out/starts")
    options = parser.parse_args(arguments[:cut])
    options.train_arguments = arguments[cut + 1 :]
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    text = table(run_all(options))
    logger.info(text)
    return text


if __name__ == "__main__":
    main()
