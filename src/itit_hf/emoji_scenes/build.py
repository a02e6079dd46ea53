# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Build a dataset folder of emoji scenes: parquet shards and a card, in the layout `datasets.load_dataset` opens."""

import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, Image, List, Value
from PIL import Image as PILImage
from tqdm.auto import tqdm

from .art import render_category
from .card import dataset_card
from .free_forms import free_captions
from .grammar import captions, check_category_names
from .scenes import Scene, SceneConfig, first_categories, world_of
from .splits import (
    TRAINING_STREAMS,
    check_held_out_pairs,
    held_out_split,
    is_validation,
    scene_hash,
    training_stream,
)

CONFIG_NAME = "scene_config.json"
FEATURES = Features(
    {"image": Image(), "text": List(Value("string")), "scene": Value("string"), "scene_hash": Value("string")}
)
_ROWS_PER_GROUP = 1000
_ROWS_PER_SHARD = 100_000
_PATIENCE = 20  # scenes looked at without a new row, for each row wanted, before a world is called too small
_LEAST_PATIENCE = 10_000


@dataclass(frozen=True)
class SplitSizes:
    """Rows of each split; a split of 0 rows is not written."""

    paired: int = 20_000
    image: int = 20_000
    text: int = 20_000
    validation: int = 1_000
    heldout: int = 1_000
    heldout_relations: int = 0
    unseen_style: int = 0

    def __post_init__(self):
        for name, count in vars(self).items():
            if count < 0:
                raise ValueError(f"`{name}` must not be negative, got {count}")
        if not any(vars(self).values()):
            raise ValueError("at least one split must have rows, got 0 for all")


@dataclass(frozen=True)
class Row:
    """One scene on its way into a split, the language of its captions and how many are in free forms."""

    split: str
    pixels: np.ndarray
    scene: Scene
    pixel_hash: str
    language: str
    free_captions: int = 0

    def as_dict(self) -> dict:
        """The columns. `image` rows carry no text and `text` rows no image: the streams cannot leak pairs."""
        image = None if self.split == "text" else {"bytes": _png(self.pixels), "path": None}
        text = []
        if self.split != "image":
            text = captions(self.scene, self.language) + free_captions(self.scene, self.free_captions)
        return {"image": image, "text": text, "scene": self.scene.to_json(), "scene_hash": self.pixel_hash}


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    PILImage.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def split_rows(config: SceneConfig, sizes: SplitSizes, seed: int, seen: set[str] | None = None) -> Iterator[Row]:
    """Walk the scenes of a seed in order and send each to the one split its content and pixels allow.

    Args:
        config (`SceneConfig`): The world.
        sizes (`SplitSizes`): Rows wanted; `unseen_style` is not made here.
        seed (`int`): Which sequence of scenes.
        seen (`set[str]`, *optional*): Hashes of images to pass over; those of the rows are added to it.

    Yields:
        `Row`: Until every split is full; no two with equal pixels.

    Raises:
        `ValueError`: If the world is too small to fill the splits with different images.
    """
    world = world_of(config)
    left = {name: count for name, count in vars(sizes).items() if name != "unseen_style" and count}
    wanted = {name: getattr(sizes, name) for name in TRAINING_STREAMS}
    patience = _LEAST_PATIENCE + _PATIENCE * sum(left.values())
    seen = set() if seen is None else seen
    index = 0
    last = 0  # index of the scene after the last row
    while left:
        scene = world.sample(seed, index)
        index += 1
        if index - last > patience:
            raise ValueError(f"no new scene for {', '.join(left)} in the last {index - last}: ask for fewer rows")
        split = held_out_split(scene)
        if split and split not in left:
            continue  # not rendered: nobody wants it
        pixels = world.render(scene)
        pixel_hash = scene_hash(pixels)
        if split is None:
            split = _open_split(pixel_hash, wanted)
        if split not in left or pixel_hash in seen:
            continue
        seen.add(pixel_hash)
        last = index
        left[split] -= 1
        if not left[split]:
            del left[split]
        yield Row(split, pixels, scene, pixel_hash, config.language, config.free_captions)


def _open_split(pixel_hash: str, wanted: dict[str, int]) -> str | None:
    """The split of a scene that nothing holds out; `None` if it is no validation image and none else is wanted."""
    if is_validation(pixel_hash):
        return "validation"
    return training_stream(pixel_hash, wanted) if any(wanted.values()) else None


def unseen_style_rows(config: SceneConfig, style: str, count: int, seed: int, seen: set[str]) -> Iterator[Row]:
    """Scenes of category-colour pairs that training contains, in an art style that it does not.

    Args:
        config (`SceneConfig`): The world; its styles are replaced by `style`.
        style (`str`): A packaged style or a folder of cut-outs.
        count (`int`): Rows.
        seed (`int`): Which sequence of scenes.
        seen (`set[str]`): Hashes of images to pass over; those of the rows are added to it.

    Yields:
        `Row`: Of the split "unseen_style", no two with equal pixels.
    """
    sizes = SplitSizes(paired=count, image=0, text=0, validation=0, heldout=0)
    for row in split_rows(replace(config, styles=(style,)), sizes, seed, seen):
        yield replace(row, split="unseen_style")


class _SplitWriter:
    """Writes the rows of one split into as many shards as its size asks for, a group of rows at a time."""

    def __init__(self, folder: Path, split: str, count: int):
        self._shards = -(-count // _ROWS_PER_SHARD)
        self._stem = f"{folder}/{split}"
        self._rows: list[dict] = []
        self._file: pq.ParquetWriter | None = None
        self._written = 0  # rows in it
        self._shard = 0  # its number

    def add(self, row: Row) -> None:
        self._rows.append(row.as_dict())
        if len(self._rows) == _ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._file is None:
            path = f"{self._stem}-{self._shard:05d}-of-{self._shards:05d}.parquet"
            self._file = pq.ParquetWriter(path, FEATURES.arrow_schema)
        self._file.write_table(pa.Table.from_pylist(self._rows, schema=FEATURES.arrow_schema))
        self._written += len(self._rows)
        self._rows = []
        if self._written == _ROWS_PER_SHARD:
            self._file.close()
            self._file = None
            self._written = 0
            self._shard += 1

    def close(self) -> None:
        self._flush()
        if self._file is not None:
            self._file.close()


def _write_splits(folder: Path, rows: Iterator[Row], sizes: SplitSizes) -> None:
    folder.mkdir()
    counts = {name: count for name, count in vars(sizes).items() if count}
    with ExitStack() as stack, tqdm(total=sum(counts.values()), desc="scenes", unit="row") as bar:
        writers = {name: _SplitWriter(folder, name, count) for name, count in counts.items()}
        for writer in writers.values():
            stack.callback(writer.close)
        for row in rows:
            writers[row.split].add(row)
            bar.update()


def build_dataset(
    output: str | os.PathLike,
    config: SceneConfig | None = None,
    sizes: SplitSizes | None = None,
    seed: int = 0,
    unseen_style: str | None = None,
) -> Path:
    """Build a dataset of emoji scenes.

    The rows are written to a hidden folder beside `output`, which is renamed when all of them are there: a build that
    was killed never looks complete.

    Args:
        output (`str` or `os.PathLike`): Folder to make; it may exist if it is empty.
        config (`SceneConfig`, *optional*): The world; 24 categories in 8 colours at 64 pixels in the noto style by
            default.
        sizes (`SplitSizes`, *optional*): Rows of each split.
        seed (`int`, defaults to 0): Which sequence of scenes.
        unseen_style (`str`, *optional*): Style of the split "unseen_style", whose size `sizes` gives.

    Returns:
        `pathlib.Path`: The folder, for `datasets.load_dataset(str(path))`.

    Raises:
        `FileExistsError`: If `output` has content.
        `ImportError` or `RuntimeError`: If a package or program that the art needs is missing.
        `ValueError`: If the world cannot have the splits asked for.
    """
    output = Path(output)
    config = config or SceneConfig()
    sizes = sizes or SplitSizes()
    _check_request(output, config, sizes, unseen_style)
    output.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}-"))
    try:
        _write_splits(staging / "data", _all_rows(config, sizes, seed, unseen_style), sizes)
        (staging / CONFIG_NAME).write_text(config.to_json() + "\n", encoding="utf-8")
        card = dataset_card(output.name, config, vars(sizes), seed, unseen_style)
        (staging / "README.md").write_text(card, encoding="utf-8")
        staging.chmod(0o755)  # mkdtemp makes it private
        staging.replace(output)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return output


def _check_request(output: Path, config: SceneConfig, sizes: SplitSizes, unseen_style: str | None) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"`output` must be a new or empty folder; {output} has content: move it away first")
    if (unseen_style is None) != (sizes.unseen_style == 0):
        raise ValueError(f"`unseen_style` {unseen_style!r} and its {sizes.unseen_style} rows must come together")
    if unseen_style in config.styles:
        raise ValueError(f"`unseen_style` must not be one of the styles {config.styles}, got {unseen_style!r}")
    if sizes.heldout_relations and config.max_objects == 1:
        raise ValueError(f"`heldout_relations` needs scenes of two objects, got {sizes.heldout_relations} rows")
    held_out = check_held_out_pairs(config.categories, config.colours)
    if sizes.heldout and not held_out:
        raise ValueError(f"`heldout` must be 0: no pair of this world is held out, got {sizes.heldout} rows")
    check_category_names(config.categories, config.language)
    styles = config.styles if unseen_style is None else (*config.styles, unseen_style)
    for style in styles:
        render_category(style, config.categories[0], 64)  # missing art shows now, not after the first rows


def _all_rows(config: SceneConfig, sizes: SplitSizes, seed: int, unseen_style: str | None) -> Iterator[Row]:
    seen = set()
    yield from split_rows(config, sizes, seed, seen)
    if unseen_style is not None:
        yield from unseen_style_rows(config, unseen_style, sizes.unseen_style, seed, seen)


def load_config(folder: str | os.PathLike) -> SceneConfig:
    """The `SceneConfig` that a dataset folder was built from."""
    return SceneConfig.from_json((Path(folder) / CONFIG_NAME).read_text(encoding="utf-8"))


def ensure_emoji_scenes(
    folder: str | os.PathLike,
    styles: Sequence[str],
    resolution: int | tuple[int, int] = 64,
    num_categories: int = 24,
) -> str:
    """The dataset folder, built first if it is not there: one object in a scene, 20,000 pairs, English captions.

    Args:
        folder (`str` or `os.PathLike`): Dataset folder.
        styles (`Sequence[str]`): Art to build with.
        resolution (`int` or `tuple[int, int]`, *optional*, defaults to 64): Side of an image in pixels, or height
            and width.
        num_categories (`int`, *optional*, defaults to 24): Things, the first so many that the styles can draw.

    Returns:
        `str`: The folder.

    Raises:
        ValueError: If the folder holds another world.
    """
    config = SceneConfig(
        resolution=resolution, styles=tuple(styles), categories=first_categories(tuple(styles), num_categories)
    )
    if not Path(folder).is_dir():
        build_dataset(folder, config, SplitSizes(paired=20000, image=20000, text=20000))
    elif load_config(folder) != config:
        raise ValueError(
            f"`folder` {folder} holds another world than the one asked for: move it away, or name another"
        )
    return os.fspath(folder)
