# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Which way of decoding generates what was asked for, and at what cost: every combination of order, temperature,
number of steps and guidance, on one checkpoint and the same prompts:

    python utils/studies/study_sampler.py --model checkpoints/emoji-scenes-64 --dataset data/emoji-scenes-64

Image i is generated from the same seed in every setting, and judged by each judge. The figures go into a JSON
file, written after each setting: started again, the script goes on where it was. Beside it stands a Markdown table,
the best first.

The best of many settings looks better than it is, as luck is picked too. Measure the one that you choose again on
scenes that this table has not seen: `utils/studies/evaluate_emoji_scenes.py` with another split or seed.
"""

import itertools
import json
import logging
import os
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from tqdm.auto import tqdm

from itit_hf import ITITPipeline, ITITScheduler, TextCondition, decode_image_tokens
from itit_hf.data.loading import load_rows
from itit_hf.decoding.sampling import CALL_PRESETS, SamplingSettings
from itit_hf.decoding.scheduling_itit import PRESETS
from itit_hf.emoji_scenes.evaluation import confidence_interval, prompt_accuracy, with_objects
from itit_hf.emoji_scenes.judges import COMMITTED, SceneJudge, open_judge

logger = logging.getLogger(__name__)

GUIDANCES = ("none", "constant", "linear", "interval")
WITHOUT_TEMPERATURE = ("random", "halton")
SHARES = ("category", "colour", "both", "true")
# What the figures depend on besides the setting; files of other values are never added to.
CONDITIONS = ("model", "dataset", "split", "num_scenes", "num_objects", "judges", "seed")
CONDITIONS += ("guidance_scale", "guidance_interval")


@dataclass(frozen=True)
class Setting:
    """One way of decoding; `temperature` is `None` for an order that reads none."""

    decoding_order: str
    masking_schedule: str
    temperature: float | None
    num_inference_steps: int
    guidance: str

    @property
    def name(self) -> str:
        """Its key in the JSON file."""
        return "/".join(f"{value:g}" if isinstance(value, float) else str(value) for value in asdict(self).values())

    def scheduler(self, mask_token_id: int) -> ITITScheduler:
        """The scheduler that decodes so."""
        temperature = 0.0 if self.temperature is None else self.temperature
        return ITITScheduler(
            mask_token_id, self.masking_schedule, temperature=temperature, decoding_order=self.decoding_order
        )

    def sampling(self, options: Namespace) -> SamplingSettings:
        """Steps and guidance of `decode_image_tokens`."""
        return SamplingSettings(
            self.num_inference_steps,
            guidance_scale=1.0 if self.guidance == "none" else options.guidance_scale,
            guidance_schedule="linear" if self.guidance == "linear" else "constant",
            guidance_interval=options.guidance_interval if self.guidance == "interval" else (0.0, 1.0),
        )


def paper_setting() -> Setting:
    """The preset that every cost is compared with."""
    scheduler = PRESETS["paper"]
    call = CALL_PRESETS["paper"]
    return Setting(
        scheduler["decoding_order"],
        scheduler["masking_schedule"],
        scheduler["temperature"],
        call["num_inference_steps"],
        call["guidance_schedule"],
    )


def grid(options: Namespace) -> list[Setting]:
    """All combinations, each once: an order that reads no temperature is not repeated for each."""
    axes = (options.orders, options.masking_schedules, options.temperatures, options.steps, options.guidances)
    settings = [
        Setting(order, schedule, None if order in WITHOUT_TEMPERATURE else temperature, steps, guidance)
        for order, schedule, temperature, steps, guidance in itertools.product(*axes)
    ]
    return list(dict.fromkeys(settings))


def generate(pipe: ITITPipeline, prompts: list[str], setting: Setting, options: Namespace) -> tuple[list, int]:
    """Images of prompts, and how often the network looked at each on the way."""
    images: list = []
    looks = 0

    def count(module, args, kwargs):
        nonlocal looks
        looks += len(kwargs["image_token_ids"])  # of one call or two: small passes of guidance go side by side

    scheduler = setting.scheduler(pipe.model.config.mask_token_id)
    hook = pipe.model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        for start in range(0, len(prompts), options.batch_size):
            batch = prompts[start : start + options.batch_size]
            seeds = range(options.seed + start, options.seed + start + len(batch))
            ids = decode_image_tokens(
                pipe.model,
                TextCondition(*pipe.encode_prompt(batch)),
                scheduler,
                setting.sampling(options),
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            )
            images += pipe.postprocess(ids, "pil")
    finally:
        hook.remove()
    return images, looks // len(prompts)


@torch.no_grad()
def measure(
    pipe: ITITPipeline, judges: Sequence[SceneJudge], prompts: list[str], setting: Setting, options: Namespace
) -> dict:
    """Shares by each judge with their 95% intervals, calls of the network per image, and seconds of this machine per
    image."""
    start = time.perf_counter()
    images, calls = generate(pipe, prompts, setting, options)
    seconds = time.perf_counter() - start
    shares = [prompt_accuracy(images, prompts, judge) for judge in judges]
    return {
        "setting": asdict(setting),
        "shares": shares,
        "intervals": [
            {name: confidence_interval(share, len(prompts)) for name, share in each.items()} for each in shares
        ],
        "model_calls": calls,
        "seconds_per_image": round(seconds / len(prompts), 4),
    }


def paper_calls() -> int:
    """Calls of the network per image with the paper's preset: two a step, as each is guided."""
    return 2 * CALL_PRESETS["paper"]["num_inference_steps"]


def least_true(result: dict) -> float:
    """Share of true images that every judge grants."""
    return min(shares["true"] for shares in result["shares"])


def table(study: dict) -> str:
    """Markdown: one row per setting; first the one of which the judge that finds fewer images true finds most, of
    equals the cheapest."""
    conditions = ", ".join(f"{name} {study['conditions'][name]}" for name in CONDITIONS)
    head = ["order", "schedule", "temperature", "steps", "guidance", "model calls", "cost, paper = 1"]
    head += [f"{name}, by {Path(judge).name}" for judge in study["conditions"]["judges"] for name in SHARES]
    lines = [
        f"{len(study['results'])} settings; {conditions}.",
        "",
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
    ]
    results = study["results"].values()
    for result in sorted(results, key=lambda each: (-least_true(each), each["model_calls"])):
        setting = [("-" if value is None else f"{value}") for value in result["setting"].values()]
        if Setting(**result["setting"]) == paper_setting():
            setting[0] += " (paper)"
        calls = result["model_calls"]
        cells = [*setting, f"{calls}", f"{calls / paper_calls():.2f}"]
        for shares, intervals in zip(result["shares"], result["intervals"], strict=True):
            low, high = intervals["true"]
            *parts, true = (f"{shares[name]:.3f}" for name in SHARES)
            cells += [*parts, f"{true} ({low:.3f} to {high:.3f})"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def open_study(path: Path, options: Namespace) -> dict:
    """What the file holds, or a new study.

    Raises:
        ValueError: If the file was written under other conditions.
    """
    conditions = {name: getattr(options, name) for name in CONDITIONS}
    versions = {name: version(name) for name in ("itit_hf", "torch", "transformers", "diffusers")}
    if not path.is_file():
        return {"conditions": conditions, "versions": versions, "results": {}}
    study = json.loads(path.read_text(encoding="utf-8"))
    written = study["conditions"]
    other = {
        name: written.get(name) for name in CONDITIONS if name not in written or written[name] != conditions[name]
    }
    if other:
        raise ValueError(f"`output` {path} holds a study with {other}; name another file")
    return study


def write_study(study: dict, path: Path):
    """JSON, in whole or not at all, and the table beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(study, indent=2), encoding="utf-8")
    os.replace(unfinished, path)
    path.with_suffix(".md").write_text(table(study), encoding="utf-8")


def run_study(pipe: ITITPipeline, judges: Sequence[SceneJudge], prompts: list[str], options: Namespace) -> dict:
    """Measure each setting that the file of `options.output` lacks, and write it down at once."""
    path = Path(options.output)
    study = open_study(path, options)
    missing = [setting for setting in grid(options) if setting.name not in study["results"]]
    logger.info(f"{len(missing)} settings to measure, {len(study['results'])} measured before")
    for setting in tqdm(missing, desc="settings"):
        study["results"][setting.name] = measure(pipe, judges, prompts, setting, options)
        write_study(study, path)
    return study


def parse(arguments: list[str] | None = None) -> Namespace:
    """Options of the command line."""
    parser = ArgumentParser(description="Compare ways of decoding on the emoji scenes.")
    parser.add_argument("--model", default="checkpoints/emoji-scenes-64", help="Pipeline folder or Hub id.")
    parser.add_argument("--dataset", default="data/emoji-scenes-64", help="Dataset folder.")
    parser.add_argument("--split", default="validation", help="Split whose plain captions are the prompts.")
    parser.add_argument("--num_scenes", type=int, default=300, help="The first so many of the split.")
    parser.add_argument("--num_objects", type=int, choices=(1, 2), help="Only scenes of so many things.")
    parser.add_argument(
        "--judges", nargs="+", default=list(COMMITTED), help="What reads generated images: folders or Hub ids."
    )
    parser.add_argument("--orders", nargs="+", default=["confidence", "random", "halton", "remasking"])
    parser.add_argument("--masking_schedules", nargs="+", default=["cosine"])
    parser.add_argument("--temperatures", nargs="+", type=float, default=[0.0, 2.0, 8.0, 32.0], help="Of the order.")
    parser.add_argument("--steps", nargs="+", type=int, default=[4, 8, 12, 16, 24])
    parser.add_argument("--guidances", nargs="+", choices=GUIDANCES, default=["constant", "linear", "interval"])
    parser.add_argument("--guidance_scale", type=float, default=3.0, help="1 + tau.")
    parser.add_argument(
        "--guidance_interval", nargs=2, type=float, default=[0.25, 0.75], help="Shares of the steps, of `interval`."
    )
    parser.add_argument("--seed", type=int, default=0, help="Image i is generated from this seed plus i.")
    parser.add_argument("--batch_size", type=int, default=50, help="Images at a time.")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="Where to compute.")
    parser.add_argument("--output", default="out/study_sampler.json", help="JSON file; the table stands beside it.")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> dict:
    """Measure what is missing, and log the table."""
    options = parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    pipe = ITITPipeline.from_pretrained(options.model).to(options.device)
    rows = load_rows(options.dataset, options.split)
    if options.num_objects:
        rows = with_objects(rows, options.num_objects)
    options.num_scenes = min(options.num_scenes, len(rows))
    prompts = [texts[0] for texts in rows["text"][: options.num_scenes]]
    judges = [open_judge(folder).to(options.device) for folder in options.judges]
    study = run_study(pipe, judges, prompts, options)
    logger.info(table(study))
    return study


if __name__ == "__main__":
    main()
