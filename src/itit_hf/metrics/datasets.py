# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What an evaluation reads: whatever training reads, COCO in Karpathy's split, and which samples FID is of.

Rows are dictionaries with `image` and `text`, a list of captions. They are read one by one, as often as asked.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import torch

from ..data.captions import captions_of, clean_captions
from ..data.folders import kind_of
from ..data.loading import COLUMNS, load_rows, source_name, without_decoding
from ..data.streams import BAD_IMAGE_POLICIES, captions_of_rows, readable_images
from ..data.text_files import text_lines
from ..rng import keyed_integer

KARPATHY_SPLITS = ("train", "restval", "val", "test")


@dataclass(frozen=True)
class Preset:
    """Which prompts images are generated of, and which true images these are held against.

    Args:
        features (`str`): Network of the features: `"classifier"` of the emoji scenes, or `"inception"`.
        protocol (`str`): All of it in words, for the record.
        splits (`tuple[str, ...]`): Splits of Karpathy's file, in order; empty for any other dataset.
        num_samples (`int`, *optional*): Prompts; all by default.
        choice (`str`): `"first"`; `"pairs"`, random images with a random caption each; or `"captions"`, random
            captions of all.
        all_references (`bool`): The true images are all of the splits, not those of the prompts alone.
    """

    features: str
    protocol: str
    splits: tuple[str, ...] = ()
    num_samples: int | None = None
    choice: str = "first"
    all_references: bool = False


PRESETS = {
    "emoji-scenes": Preset("classifier", "first caption of each row; reference: the images of the same rows"),
    "dataset": Preset("inception", "first caption of each row; reference: the images of the same rows"),
    "itit": Preset(
        "inception",
        "30,000 random images of the COCO training set (train2014), a random caption each; reference: the same "
        "images (the paper says 30K pairs of the training set, and no more)",
        ("train",),
        30_000,
        "pairs",
    ),
    "umt": Preset(
        "inception",
        "the first 30,000 images of Karpathy's test, val and restval in this order, the first caption of each; "
        "reference: the same images",
        ("test", "val", "restval"),
        30_000,
    ),
    "coco30k": Preset(
        "inception",
        "30,000 random captions of val2014; reference: all images of val2014",
        ("test", "val", "restval"),
        30_000,
        "captions",
        all_references=True,
    ),
}


def karpathy_rows(file: str, images: str, splits: Sequence[str], bad_captions: str = "raise") -> list[dict]:
    """Rows of COCO in Karpathy's split, in the order of the named splits and of the file; no image is opened.

    Args:
        file (`str`): `dataset_coco.json`.
        images (`str`): Folder that holds `train2014` and `val2014`.
        splits (`Sequence[str]`): Of `train`, `restval`, `val` and `test`.
        bad_captions (`str`, *optional*, defaults to `"raise"`): What to do about captions that are none: `"raise"` or
            `"skip"`, as [`~data.captions.clean_captions`] does.

    Returns:
        `list[dict]`: With `image`, a path, and `text`, the captions.

    Raises:
        ValueError: If a split is unknown or empty, captions are none, or the file is not of this form.
    """
    unknown = [name for name in splits if name not in KARPATHY_SPLITS]
    if unknown or not splits:
        raise ValueError(f"`splits` must be of {KARPATHY_SPLITS}, got {list(splits)}")
    found: dict[str, list[dict]] = {name: [] for name in splits}
    try:
        for entry in json.loads("".join(text_lines(file)))["images"]:
            if entry["split"] in found:
                path = os.path.join(images, entry.get("filepath", ""), entry["filename"])
                captions = [sentence["raw"] for sentence in entry["sentences"]]
                found[entry["split"]].append({"image": path, "text": captions})
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"`file` must have the form of dataset_coco.json, got {file}: {error!r}") from error
    empty = [name for name, rows in found.items() if not rows]
    if empty:
        raise ValueError(f"`{file}` has no image in the splits {empty}")
    rows = [row for name in splits for row in found[name]]
    return list(clean_captions(datasets.Dataset.from_list(rows), bad_captions, os.path.basename(file)))


class EvaluationRows:
    """Rows with an image and a list of captions, of which captions can be read without images.

    Args:
        rows (`Sequence[Mapping]` or `datasets.Dataset`): With `image` and `text`, a caption or several. Images of a
            dataset are left as they are stored, for [`load_image`].
        number (`int`, *optional*): How many, the first ones; all by default.
    """

    def __init__(self, rows: Sequence[Mapping] | datasets.Dataset, number: int | None = None):
        number = len(rows) if number is None else min(number, len(rows))
        is_table = isinstance(rows, datasets.Dataset)
        self._rows = without_decoding(rows).select(range(number)) if is_table else rows[:number]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[dict]:
        for row in self._rows:
            yield {"image": row["image"], "text": captions_of(row["text"])}

    def captions(self) -> Iterator[list[str]]:
        """The captions of each row; no image is read."""
        return captions_of_rows(self._rows)


@dataclass
class EvaluationData:
    """What an evaluation goes through.

    Args:
        to_caption ([`EvaluationRows`]): Rows whose images are captioned.
        prompts (`list[str]`): What images are generated of.
        references ([`EvaluationRows`]): Rows whose images the generated ones are held against.
    """

    to_caption: EvaluationRows
    prompts: list[str]
    references: EvaluationRows


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


@dataclass(frozen=True)
class EvaluationSource:
    """Where an evaluation's rows come from, and what becomes of those that are not as they should be.

    Args:
        dataset (`str`): What [`~data.loading.load_rows`] takes, or `dataset_coco.json`.
        split (`str`, *optional*): Split of the dataset; of Karpathy's file, those captioned (`"test"`).
        images (`str`, *optional*): Folder of COCO's images; the folder of the file by default.
        columns (`Mapping[str, str]`, *optional*): Which columns `image` and `text` are.
        bad_captions (`str`, *optional*, defaults to `"raise"`): What to do about captions that are none: `"raise"` or
            `"skip"`.
        on_bad_image (`str`, *optional*, defaults to `"raise"`): What to do about images that cannot be read:
            `"raise"`, when they are, or `"skip"`, which leaves out their rows, and prompts that are of them.

    Raises:
        ValueError: If `on_bad_image` is unknown.
    """

    dataset: str
    split: str | None = None
    images: str | None = None
    columns: Mapping[str, str] | None = None
    bad_captions: str = "raise"
    on_bad_image: str = "raise"

    def __post_init__(self):
        if self.on_bad_image not in BAD_IMAGE_POLICIES:
            raise ValueError(f"`on_bad_image` must be one of {BAD_IMAGE_POLICIES}, got {self.on_bad_image!r}")


def open_evaluation(
    preset: Preset, source: EvaluationSource, num_samples: int | None = None, seed: int = 0
) -> EvaluationData:
    """Open what a preset asks for.

    Args:
        preset ([`Preset`]): One of `PRESETS`.
        source ([`EvaluationSource`]): Where the rows come from.
        num_samples (`int`, *optional*): Fewer than the preset says: figures are then no longer of its protocol.
        seed (`int`, *optional*, defaults to 0): Of random choices.

    Raises:
        ValueError: If the preset needs COCO and the dataset is not, a number is not positive, or the rows cannot be
            read.
    """
    if num_samples is not None and num_samples < 1:
        raise ValueError(f"`num_samples` must be at least 1, got {num_samples}")
    dataset = source.dataset
    skip = source.on_bad_image == "skip"
    if preset.splits and not dataset.endswith(".json"):
        raise ValueError(f"`dataset` must be COCO's dataset_coco.json for this preset, got {dataset}")
    if not dataset.endswith(".json"):
        # Of archives no more is read than is asked for.
        stream_rows = num_samples if kind_of(dataset) == "tar" else None
        rows = load_rows(dataset, source.split, source.columns, stream_rows, COLUMNS, source.bad_captions)
        rows = rows.select(range(min(num_samples or len(rows), len(rows))))
        if skip:
            rows = readable_images(rows, source.split or source_name(dataset))
        return _of_the_same_rows(rows)
    folder = str(Path(dataset).parent) if source.images is None else source.images
    to_caption = karpathy_rows(dataset, folder, (source.split or "test",), source.bad_captions)[:num_samples]
    if skip:
        to_caption = [to_caption[i] for i in _readable(to_caption)]
    if not preset.splits:
        return _of_the_same_rows(to_caption)
    rows = karpathy_rows(dataset, folder, preset.splits, source.bad_captions)
    number = min(num_samples or preset.num_samples, preset.num_samples)
    prompts, references = choose_prompts(rows, preset.choice, number, seed)
    if skip and not preset.all_references:
        readable = _readable(references)
        prompts = [prompts[i] for i in readable]
        references = [references[i] for i in readable]
    if preset.all_references:
        references = [rows[i] for i in _readable(rows)] if skip else rows
    return EvaluationData(EvaluationRows(to_caption), prompts, EvaluationRows(references))


def _of_the_same_rows(rows: Sequence[Mapping] | datasets.Dataset) -> EvaluationData:
    """The images that are captioned are those that generated ones are held against, by their first captions."""
    rows = EvaluationRows(rows)
    return EvaluationData(rows, [texts[0] for texts in rows.captions()], rows)


def _readable(rows: Sequence[Mapping]) -> list[int]:
    """Which of these rows have images that can be read."""
    files = datasets.Dataset.from_dict({"image": [row["image"] for row in rows], "index": range(len(rows))})
    return readable_images(files, "images")["index"][:]
