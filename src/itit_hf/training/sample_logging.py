# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Grids of images and texts, and the places that `report_to` names: TensorBoard, Weights & Biases, Trackio."""

import textwrap
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback
from transformers.utils import logging

logger = logging.get_logger(__name__)


def _log_to_tensorboard(callback, name: str, image: PIL.Image.Image, texts: Sequence[str], step: int):
    callback.tb_writer.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")
    if texts:
        callback.tb_writer.add_text(name, "\n".join(f"- {text}" for text in texts), step)


def _log_to_wandb(callback, name: str, image: PIL.Image.Image, texts: Sequence[str], step: int):
    # Its own step counts calls of `log`; like the figures, images stand at `train/global_step`.
    logged = callback._wandb.Image(image, caption="\n".join(texts) or None)
    callback._wandb.log({name: logged, "train/global_step": step})


def _log_to_trackio(callback, name: str, image: PIL.Image.Image, texts: Sequence[str], step: int):
    callback._trackio.log({name: callback._trackio.Image(image, caption="\n".join(texts)), "train/global_step": step})


# Callback of transformers, which of its attributes is set once it is open, and how an image is logged there.
_PLACES: tuple[tuple[type[TrainerCallback], str, Callable], ...] = (
    (TensorBoardCallback, "tb_writer", _log_to_tensorboard),
    (WandbCallback, "_wandb", _log_to_wandb),
    (TrackioCallback, "_trackio", _log_to_trackio),
)


def log_image(
    callbacks: Iterable[TrainerCallback],
    name: str,
    image: PIL.Image.Image,
    step: int,
    texts: Sequence[str] = (),
) -> list[str]:
    """Log an image wherever a training reports to. A place that fails is named in a warning, and training goes on.

    Args:
        callbacks (`Iterable[TrainerCallback]`): Those of the trainer; others than the three are passed over.
        name (`str`): Under which it stands there, such as `"samples/t2i2t"`.
        image (`PIL.Image.Image`): What to log.
        step (`int`): Updates done.
        texts (`Sequence[str]`): Captions or prompts in it, to be searched for.

    Returns:
        `list[str]`: Names of the callbacks that logged it.
    """
    logged = []
    for callback in callbacks:
        for kind, attribute, log_to in _PLACES:
            # Closed, before training and in all processes but the first, they have nothing there.
            if isinstance(callback, kind) and getattr(callback, attribute, None) is not None:
                try:
                    log_to(callback, name, image, texts, step)
                    logged.append(kind.__name__)
                except Exception as error:  # a full disk or a lost connection there is no reason to stop here
                    logger.warning(f"{kind.__name__} cannot show `{name}` of step {step}: {error}")
    return logged


def image_grid(
    images: Sequence[PIL.Image.Image | str], labels: Sequence[str], columns: int = 6, cell_size: int = 160
) -> PIL.Image.Image:
    """Lay images out in rows, each over its label; a text may stand in an image's place.

    Args:
        images (`Sequence[PIL.Image.Image | str]`): Images; the longer side of each is scaled to `cell_size`, without
            smoothing if it grows by a whole factor, so that a 64 px image is seen as it is. A text is wrapped, and
            cut if it is too long for its cell.
        labels (`Sequence[str]`): One per image; wrapped to two lines at most.
        columns (`int`, *optional*, defaults to 6): Images per row.
        cell_size (`int`, *optional*, defaults to 160): Side of a cell in pixels.

    Returns:
        `PIL.Image.Image` in RGB.

    Raises:
        ValueError: If there are no images, or another number of labels.
    """
    if not images or len(images) != len(labels):
        raise ValueError(f"wanted as many `labels` as `images`, at least one, got {len(labels)} and {len(images)}")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    margin = 8
    text_height = 34
    width = cell_size + margin
    height = cell_size + text_height + margin
    grid = PIL.Image.new("RGB", (columns * width + margin, rows * height + margin), "white")
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        left = margin + index % columns * width
        top = margin + index // columns * height
        cell = _text_cell(image, cell_size) if isinstance(image, str) else _scaled(image, cell_size)
        grid.paste(cell, (left + (cell_size - cell.width) // 2, top + (cell_size - cell.height) // 2))
        _write(grid, (left, top + cell_size + 2), label, 13, width=cell_size // 7, max_lines=2)
    return grid


def _scaled(image: PIL.Image.Image, size: int) -> PIL.Image.Image:
    longest = max(image.size)
    whole = size % longest == 0 and size >= longest
    resample = PIL.Image.Resampling.NEAREST if whole else PIL.Image.Resampling.LANCZOS
    scaled = tuple(max(1, round(length * size / longest)) for length in image.size)
    return image.convert("RGB").resize(scaled, resample)


def _text_cell(text: str, size: int) -> PIL.Image.Image:
    """Text on light grey; one that is empty is seen as a dash."""
    cell = PIL.Image.new("RGB", (size, size), (240, 240, 240))
    _write(cell, (8, 8), text.strip() or "\u2013", 15, width=(size - 16) // 8, max_lines=max(1, (size - 16) // 18))
    return cell


def _write(image: PIL.Image.Image, at: tuple[int, int], text: str, font_size: int, width: int, max_lines: int):
    lines = textwrap.wrap(text, width=max(8, width), max_lines=max_lines, placeholder="...")
    font = PIL.ImageFont.load_default(size=font_size)
    PIL.ImageDraw.Draw(image).multiline_text(at, "\n".join(lines), fill="black", font=font, spacing=2)
