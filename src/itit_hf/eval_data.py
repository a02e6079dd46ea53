# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What an evaluation reads: datasets, COCO in Karpathy's split, webdataset archives, and which samples FID is of.

Rows are dictionaries with `image` and `text`, a list of captions. They are read one by one, as often as asked.
"""

import glob
import itertools
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import torch

from .data import load_rows
from .masking import keyed_integer
from .sources import PICTURE_FIELDS

logger = logging.getLogger(__name__)

KARPATHY_SPLITS = ("train", "restval", "val", "test")


@dataclass(frozen=True)
class Preset:
    """Which prompts are drawn, and which true pictures the drawn ones are held against.

    Args:
        features (`str`): Network of the features: `"recogniser"` of the emoji scenes, or `"inception"`.
        protocol (`str`): All of it in words, for the record.
        splits (`tuple[str, ...]`): Splits of Karpathy's file, in order; empty for any other dataset.
        num_samples (`int`, *optional*): Prompts; all by default.
        choice (`str`): `"first"`; `"pairs"`, random pictures with a random caption each; or `"captions"`, random
            captions of all.
        all_references (`bool`): The true pictures are all of the splits, not those of the prompts alone.
    """

    features: str
    protocol: str
    splits: tuple[str, ...] = ()
    num_samples: int | None = None
    choice: str = "first"
    all_references: bool = False


PRESETS = {
    "emoji-scenes": Preset("recogniser", "first caption of each row; reference: the pictures of the same rows"),
    "dataset": Preset("inception", "first caption of each row; reference: the pictures of the same rows"),
    "itit": Preset(
        "inception",
        "30,000 random pictures of the COCO training set (train2014), a random caption each; reference: the same "
        "pictures (the paper says 30K pairs of the training set, and no more)",
        ("train",),
        30_000,
        "pairs",
    ),
    "umt": Preset(
        "inception",
        "the first 30,000 pictures of Karpathy's test, val and restval in this order, the first caption of each; "
        "reference: the same pictures",
        ("test", "val", "restval"),
        30_000,
    ),
    "coco30k": Preset(
        "inception",
        "30,000 random captions of val2014; reference: all pictures of val2014",
        ("test", "val", "restval"),
        30_000,
        "captions",
        all_references=True,
    ),
}


def karpathy_rows(file: str, images: str, splits: Sequence[str]) -> list[dict]:
    """Rows of COCO in Karpathy's split, in the order of the named splits and of the file; no picture is opened.

    Args:
        file (`str`): `dataset_coco.json`.
        images (`str`): Folder that holds `train2014` and `val2014`.
        splits (`Sequence[str]`): Of `train`, `restval`, `val` and `test`.

    Returns:
        `list[dict]`: With `image`, a path, and `text`, the captions.

    Raises:
        ValueError: If a split is unknown or empty, or the file is not of this form.
    """
    unknown = [name for name in splits if name not in KARPATHY_SPLITS]
    if unknown or not splits:
        raise ValueError(f"`splits` must be of {KARPATHY_SPLITS}, got {list(splits)}")
    found = {name: [] for name in splits}
    try:
        with open(file, encoding="utf-8") as text:
            entries = json.load(text)["images"]
        for entry in entries:
            if entry["split"] in found:
                path = os.path.join(images, entry.get("filepath", ""), entry["filename"])
                captions = [sentence["raw"].strip() for sentence in entry["sentences"]]
                found[entry["split"]].append({"image": path, "text": captions})
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"`file` must have the form of dataset_coco.json, got {file}: {error!r}") from error
    empty = [name for name, rows in found.items() if not rows]
    if empty:
        raise ValueError(f"`{file}` has no picture in the splits {empty}")
    return [row for name in splits for row in found[name]]


class WebdatasetRows:
    """Rows of webdataset archives such as those of CC3M, streamed one by one.

    A picture is a `.jpg`, `.jpeg`, `.png` or `.webp`; its caption a `.txt`, or `caption` of its `.json`. What lacks
    one of both is left out, and counted in a warning.

    Args:
        pattern (`str`): An archive, or a pattern of archives such as `"cc3m/*.tar"`, read in order of their names.

    Raises:
        ValueError: If there is none.
    """

    def __init__(self, pattern: str):
        files = sorted(glob.glob(pattern))
        if not files:
            raise ValueError(f"`pattern` must name archives, and there is none at {pattern}")
        self._rows = datasets.load_dataset("webdataset", data_files={"all": files}, split="all", streaming=True)

    def __iter__(self) -> Iterator[dict]:
        left_out = 0
        for row in self._rows:
            image = next((row[field] for field in PICTURE_FIELDS if row.get(field) is not None), None)
            caption = row["txt"] if row.get("txt") is not None else (row.get("json") or {}).get("caption")
            if image is None or not caption:
                left_out += 1
                continue
            yield {"image": image, "text": [caption.strip()]}
        if left_out:
            logger.warning(f"{left_out} samples have no picture or no caption and are left out")


class FirstRows:
    """The first rows of something that can be read more than once.

    Args:
        rows (`Iterable[Mapping]`): With `image` and `text`, a caption or several.
        number (`int`, *optional*): How many; all by default.
    """

    def __init__(self, rows: Iterable[Mapping], number: int | None = None):
        self.rows, self.number = rows, number

    def __iter__(self) -> Iterator[dict]:
        for row in itertools.islice(self.rows, self.number):
            text = row["text"]
            yield {"image": row["image"], "text": [text] if isinstance(text, str) else list(text)}


@dataclass
class EvaluationData:
    """What an evaluation goes through.

    Args:
        to_describe (`Iterable[dict]`): Rows whose pictures are described.
        prompts (`list[str]`): What is drawn.
        references (`Iterable[dict]`): Rows whose pictures the drawn ones are held against.
    """

    to_describe: Iterable[dict]
    prompts: list[str]
    references: Iterable[dict]


def choose_prompts(rows: Sequence[dict], choice: str, number: int, seed: int) -> tuple[list[str], list[dict]]:
    """Prompts and the rows that they are of; the same for one seed, wherever and however often it is called.

    Args:
        rows (`Sequence[dict]`): With `image` and `text`, a list.
        choice (`str`): See [`Preset`].
        number (`int`): How many; fewer if there are fewer.
        seed (`int`): Of the choice.
    """
    if choice == "first":
        chosen = [(row, 0) for row in rows[:number]]
    elif choice == "pairs":
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()[:number]
        chosen = [(rows[i], keyed_integer(seed, "evaluation/caption", i) % len(rows[i]["text"])) for i in order]
    else:
        captions = [(row, n) for row in rows for n in range(len(row["text"]))]
        order = torch.randperm(len(captions), generator=torch.Generator().manual_seed(seed)).tolist()[:number]
        chosen = [captions[i] for i in order]
    return [row["text"][n] for row, n in chosen], [row for row, _ in chosen]


def open_evaluation(
    preset: Preset,
    dataset: str,
    split: str | None = None,
    images: str | None = None,
    num_samples: int | None = None,
    seed: int = 0,
) -> EvaluationData:
    """Open what a preset asks for.

    Args:
        preset ([`Preset`]): One of `PRESETS`.
        dataset (`str`): Folder or Hub id, `dataset_coco.json`, or a pattern of `.tar` archives.
        split (`str`, *optional*): Split of a folder or Hub id; of Karpathy's file, those described (`"test"`).
        images (`str`, *optional*): Folder of COCO's pictures; the folder of the file by default.
        num_samples (`int`, *optional*): Fewer than the preset says: figures are then no longer of its protocol.
        seed (`int`, *optional*, defaults to 0): Of random choices.

    Raises:
        ValueError: If the preset needs COCO and the dataset is not, or a number is not positive.
    """
    if num_samples is not None and num_samples < 1:
        raise ValueError(f"`num_samples` must be at least 1, got {num_samples}")
    if dataset.endswith(".json"):
        folder = str(Path(dataset).parent) if images is None else images
        to_describe = FirstRows(karpathy_rows(dataset, folder, (split or "test",)), num_samples)
        if preset.splits:
            rows = karpathy_rows(dataset, folder, preset.splits)
            number = min(num_samples or preset.num_samples, preset.num_samples)
            prompts, chosen = choose_prompts(rows, preset.choice, number, seed)
            return EvaluationData(to_describe, prompts, rows if preset.all_references else chosen)
    elif preset.splits:
        raise ValueError(f"`dataset` must be COCO's dataset_coco.json for this preset, got {dataset}")
    else:
        rows = WebdatasetRows(dataset) if dataset.endswith(".tar") else load_rows(dataset, split)
        to_describe = FirstRows(rows, num_samples)
    return EvaluationData(to_describe, [row["text"][0] for row in to_describe], to_describe)
