# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Model cards from what is known of a checkpoint, in the order of `model_cards/template.md`; what is not known is
named as missing, never made up."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from enum import Enum
from importlib.metadata import version

import yaml
from huggingface_hub import EvalResult, ModelCardData
from transformers import TrainingArguments

NOT_RECORDED = "*not recorded*"
TAGS = ["itit", "text-to-image", "image-to-text", "any-to-any"]
# What an evaluation measured of the model itself, by task; the rest are ceilings and self-consistency.
_TASKS = {"caption": "image-to-text", "generated": "text-to-image"}
# Settings of transformers that change the weights, besides those that our own arguments name.
_INHERITED = ("per_device_train_batch_size", "gradient_accumulation_steps", "bf16", "fp16", "seed", "data_seed")
_LIBRARIES = ("itit_hf", "torch", "transformers", "diffusers")


@dataclass
class StreamFacts:
    """A training stream as a card tells it.

    Args:
        name (`str`): `"paired"`, `"image"` or `"text"`.
        rows (`int`): Different samples in it.
        source (`str`, *optional*): Dataset and split.
        licence (`str`, *optional*): Of the data.
    """

    name: str
    rows: int
    source: str | None = None
    licence: str | None = None


@dataclass
class ModelFacts:
    """What a card tells. Everything but the name may be missing, and is then named as missing.

    Args:
        name (`str`): Of the checkpoint.
        description (`str`, *optional*): One sentence: what it generates and captions, at what resolution.
        licence (`str`, *optional*): Licence of the weights, as the Hub writes it, such as `"apache-2.0"`.
        location (`str`, *optional*): Folder or Hub id that `from_pretrained` opens.
        opened_by (`str`): Public class whose `from_pretrained` that is.
        prompt (`str`, *optional*): Something it can generate.
        images (`dict[str, str]`): What it generated: file, named as seen from the card, by prompt or title.
        streams (`list[StreamFacts]`): What it was trained on.
        held_out (`str`, *optional*): What was kept out of the training data.
        command (`str`, *optional*): What trained it.
        settings (`dict`, *optional*): Settings that differ from the defaults of [`ITITTrainingArguments`].
        objectives (`list[str]`): Losses by name.
        steps (`int`, *optional*): Updates made.
        batch_size (`int`, *optional*): Pairs of one update, over all processes.
        seed (`int`, *optional*): Of the run.
        parameters (`dict[str, int]`): Number of parameters by part.
        frozen_parts (`dict[str, str]`): Where the text encoder and the image tokenizer come from.
        seconds (`float`, *optional*): Wall clock of the training.
        device (`str`, *optional*): `"cpu"`, or the name of the accelerator.
        num_processes (`int`, *optional*): How many of them trained, for that long.
        losses (`dict[str, float]`): The last ones logged, by name, in nats; those with `eval_` on held-out pairs.
        evaluation (`dict`, *optional*): The JSON of `utils/studies/evaluate_emoji_scenes.py`.
        limitations (`str`, *optional*): What it gets wrong.
        versions (`dict[str, str]`): Of the libraries that trained it.
    """

    name: str
    description: str | None = None
    licence: str | None = None
    location: str | None = None
    opened_by: str = "ITITPipeline"
    prompt: str | None = None
    images: Mapping[str, str] = field(default_factory=dict)
    streams: Sequence[StreamFacts] = ()
    held_out: str | None = None
    command: str | None = None
    settings: Mapping | None = None
    objectives: Sequence[str] = ()
    steps: int | None = None
    batch_size: int | None = None
    seed: int | None = None
    parameters: Mapping[str, int] = field(default_factory=dict)
    frozen_parts: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None
    device: str | None = None
    num_processes: int | None = None
    losses: Mapping[str, float] = field(default_factory=dict)
    evaluation: Mapping | None = None
    limitations: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> list[str]:
        """Names of the facts that are not known."""
        unknown = [item.name for item in fields(self) if _is_unknown(getattr(self, item.name), item.name)]
        return unknown + [
            f"{name} of the stream {stream.name}"
            for stream in self.streams
            for name in ("source", "licence")
            if getattr(stream, name) is None
        ]


def _is_unknown(value, name: str) -> bool:
    # No setting that differs from the defaults is a fact; an empty list of objectives, losses or versions is not.
    may_be_empty = name in ("settings", "images")
    return value is None or (not may_be_empty and isinstance(value, Mapping | Sequence) and not value)


def training_facts(
    args: TrainingArguments,
    global_step: int,
    log_history: Sequence[Mapping],
    rows: Mapping[str, int],
    parameters: Mapping[str, int],
) -> dict:
    """What a trainer knows, by the names of [`ModelFacts`].

    Args:
        args ([`ITITTrainingArguments`]): Its settings.
        global_step (`int`): Updates made.
        log_history (`Sequence[Mapping]`): What it logged, `trainer.state.log_history`.
        rows (`Mapping[str, int]`): Number of samples by stream.
        parameters (`Mapping[str, int]`): Number of parameters by part.

    Returns:
        `dict`, to be completed by what only the user knows: `ModelFacts(name, **training_facts(...), licence=...)`.
        The seconds are those of runs that came to their end.
    """
    losses = {}
    for line in log_history:
        losses |= {name: value for name, value in line.items() if name.startswith(("loss_", "eval_loss"))}
    seconds = [line["train_runtime"] for line in log_history if "train_runtime" in line]
    return {
        "streams": [StreamFacts(name, count) for name, count in rows.items()],
        "settings": changed_settings(args),
        "objectives": list(args.objectives),
        "steps": global_step,
        "batch_size": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        "seed": args.seed,
        "parameters": dict(parameters),
        "seconds": sum(seconds) if seconds else None,
        "device": args.device.type,
        "num_processes": args.world_size,
        "losses": losses,
        "versions": {name: version(name) for name in _LIBRARIES},
    }


def changed_settings(args: TrainingArguments) -> dict:
    """Settings that change the weights and differ from their defaults; never a path, an address or a token.

    Args:
        args ([`ITITTrainingArguments`]): Settings of a run.

    Returns:
        `dict` of plain values by name.
    """
    own = [each for each in type(args).__mro__ if each not in TrainingArguments.__mro__]
    told = {*_INHERITED, *(name for each in own for name in each.__annotations__)}
    changed = {}
    for item in fields(args):
        default = item.default if item.default_factory is MISSING else item.default_factory()
        value = getattr(args, item.name)
        if item.name in told and value != default and value != {}:
            changed[item.name] = value.value if isinstance(value, Enum) else value
    return changed


def eval_results(evaluation: Mapping) -> list[EvalResult]:
    """The figures of an evaluation in the form in which the Hub shows them.

    Only what the model itself gets right is among them: not the ceilings (`rendered_*`, `reconstructed_*`), and not
    whether it agrees with itself (`generated_then_captioned_*`).

    Args:
        evaluation (`Mapping`): The JSON of `utils/studies/evaluate_emoji_scenes.py`.

    Returns:
        `list[EvalResult]`, one for each share of each split.
    """
    dataset = str(evaluation["settings"]["dataset"]).rstrip("/").split("/")[-1]
    results = []
    for split, figures in evaluation["results"].items():
        for name, share in figures["shares"].items():
            what, truth = name.rsplit("_", 1)
            if what in _TASKS:
                results.append(
                    EvalResult(
                        task_type=_TASKS[what],
                        dataset_type=dataset,
                        dataset_name=dataset,
                        dataset_split=split,
                        metric_type="accuracy",
                        metric_name=f"{what}: {truth}",
                        metric_value=share,
                    )
                )
    return results


def loss_results(losses: Mapping[str, float]) -> list[EvalResult]:
    """Losses on held-out pairs in the form in which the Hub shows them.

    Args:
        losses (`Mapping[str, float]`): By the names of the log; only `eval_loss_<objective>` is told.

    Returns:
        `list[EvalResult]`, one for each objective, in nats.
    """
    results = []
    for name, value in losses.items():
        objective = name.removeprefix("eval_loss_")
        if objective != name:
            results.append(
                EvalResult(
                    task_type="image-to-text" if objective.startswith("i2t") else "text-to-image",
                    dataset_type="pairs",
                    dataset_name="held-out pairs",
                    metric_type="loss",
                    metric_name=f"{objective} (nats)",
                    metric_value=value,
                )
            )
    return results


def model_card(facts: ModelFacts) -> str:
    """Write the card.

    Args:
        facts ([`ModelFacts`]): What is known.

    Returns:
        `str`: Markdown with the Hub's front matter, `model-index` included if there is an evaluation.
    """
    results = [*(eval_results(facts.evaluation) if facts.evaluation else ()), *loss_results(facts.losses)]
    data = ModelCardData(
        license=facts.licence,
        library_name="itit_hf",
        pipeline_tag="image-text-to-text" if facts.opened_by == "ITITForCaptioning" else "text-to-image",
        tags=TAGS,
        model_name=facts.name,
        eval_results=results or None,
        # What the Hub shows as a gallery.
        widget=[{"text": text, "output": {"url": path}} for text, path in facts.images.items()] or None,
    )
    sections = {
        "How to use": _how_to_use(facts),
        "What it was trained on": _trained_on(facts),
        "How it was trained": _trained_how(facts),
        "What it does, in numbers": _numbers(facts.evaluation),
        "What it gets wrong": facts.limitations or NOT_RECORDED,
        "How to reproduce": _reproduce(facts),
    }
    head = f"---\n{data.to_yaml()}\n---\n\n# {facts.name}\n\n{facts.description or NOT_RECORDED}\n"
    if facts.missing:
        head += f"\nNot recorded: {', '.join(facts.missing)}.\n"
    head += "".join(f"\n![{text}]({path})\n" for text, path in facts.images.items())
    return head + "".join(f"\n## {title}\n\n{text}\n" for title, text in sections.items())


def _table(head: Sequence[str], rows: Sequence[Sequence]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value) -> str:
    if value is None or value == "":
        return NOT_RECORDED
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|").replace("\n", " ")


def _how_to_use(facts: ModelFacts) -> str:
    location = json.dumps(facts.location or facts.name)
    prompt = json.dumps(facts.prompt or "")
    variable = "pipe" if facts.opened_by == "ITITPipeline" else "model"
    lines = [f"from itit_hf import {facts.opened_by}", ""]
    lines += [f"{variable} = {facts.opened_by}.from_pretrained({location})"]
    if variable == "pipe":
        lines += [f"image = pipe({prompt}).images[0]", "pipe.caption(image)"]
    return "\n".join(["```python", *lines, "```"])


def _trained_on(facts: ModelFacts) -> str:
    rows = [(stream.name, stream.rows, stream.source, stream.licence) for stream in facts.streams]
    streams = _table(("stream", "rows", "source", "licence"), rows) if rows else NOT_RECORDED
    return f"{streams}\n\nHeld out: {facts.held_out or NOT_RECORDED}"


def _trained_how(facts: ModelFacts) -> str:
    lines = [
        ("objectives", ", ".join(facts.objectives)),
        ("updates", facts.steps),
        ("pairs per update", facts.batch_size),
        ("seed", facts.seed),
        ("cost", _cost(facts)),
        ("versions", ", ".join(f"{name} {number}" for name, number in facts.versions.items())),
        *((f"parameters, {name}", count) for name, count in facts.parameters.items()),
        *facts.frozen_parts.items(),
        *((f"last {name}", value) for name, value in facts.losses.items()),
    ]
    return _table(("what", "value"), lines)


def _cost(facts: ModelFacts) -> str | None:
    if None in (facts.seconds, facts.device, facts.num_processes):
        return None
    total = facts.seconds * facts.num_processes
    return f"{facts.seconds:,.0f} s on {facts.num_processes} x {facts.device}: {total:,.0f} device-seconds"


def _numbers(evaluation: Mapping | None) -> str:
    if not evaluation:
        return NOT_RECORDED
    splits = evaluation["results"]
    names = dict.fromkeys(name for figures in splits.values() for name in figures["shares"])
    rows = [(name, *(_share(figures, name) for figures in splits.values())) for name in names]
    head = [
        "share, with its 95% interval",
        *(f"{split}, {each['num_scenes']} scenes" for split, each in splits.items()),
    ]
    settings = {
        name: value for name, value in evaluation["settings"].items() if value is not None and name != "output"
    }
    protocol = ", ".join(f"{name} {_without_folders(value)}" for name, value in settings.items())
    return f"Protocol: {protocol}.\n\n{_table(head, rows)}"


def _without_folders(value):
    """The last part of an absolute path: where it lies on one machine says nothing to others."""
    if isinstance(value, str) and os.path.isabs(value):
        return os.path.basename(value)
    return value


def _share(figures: Mapping, name: str) -> str | None:
    if name not in figures["shares"]:
        return None
    low, high = figures["intervals"][name]
    return f"{figures['shares'][name]:.3f} ({low:.3f} to {high:.3f})"


def _reproduce(facts: ModelFacts) -> str:
    command = f"```\n{facts.command}\n```" if facts.command else f"Command: {NOT_RECORDED}"
    if facts.settings is None:
        return f"{command}\n\nSettings: {NOT_RECORDED}"
    if not facts.settings:
        return f"{command}\n\nAll settings are the defaults of `ITITTrainingArguments`."
    settings = yaml.safe_dump(dict(facts.settings), default_flow_style=False).strip()  # a recipe, for `--config`
    return f"{command}\n\nSettings, where they differ from `ITITTrainingArguments`:\n\n```yaml\n{settings}\n```"
