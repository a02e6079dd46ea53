# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Pictures and texts into the places that `report_to` names: TensorBoard, Weights & Biases, Trackio."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import PIL.Image
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback
from transformers.utils import logging

logger = logging.get_logger(__name__)


def _show_in_tensorboard(callback, name: str, image: PIL.Image.Image, texts: Sequence[str], step: int):
    callback.tb_writer.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")
    if texts:
        callback.tb_writer.add_text(name, "\n".join(f"- {text}" for text in texts), step)


def _show_in_wandb(callback, name: str, image: PIL.Image.Image, texts: Sequence[str], step: int):
    # Its own step counts calls of `log`; like the figures, pictures stand at `train/global_step`.
    picture = callback._wandb.Image(image, caption="\n".join(texts) or None)
    callback._wandb.log({name: picture, "train/global_step": step})


def _show_in_trackio(callback, name: str, image: PIL.Image.Image, texts: Sequence[str], step: int):
    callback._trackio.log({name: callback._trackio.Image(image, caption="\n".join(texts)), "train/global_step": step})


# Callback of transformers, which of its attributes is set once it is open, and how it is shown something.
_PLACES: tuple[tuple[type[TrainerCallback], str, Callable], ...] = (
    (TensorBoardCallback, "tb_writer", _show_in_tensorboard),
    (WandbCallback, "_wandb", _show_in_wandb),
    (TrackioCallback, "_trackio", _show_in_trackio),
)


def show(
    callbacks: Iterable[TrainerCallback],
    name: str,
    image: PIL.Image.Image,
    step: int,
    texts: Sequence[str] = (),
) -> list[str]:
    """Show a picture wherever a training reports to. A place that fails is named in a warning, and training goes on.

    Args:
        callbacks (`Iterable[TrainerCallback]`): Those of the trainer; others than the three are passed over.
        name (`str`): Under which it stands there, such as `"samples/t2i2t"`.
        image (`PIL.Image.Image`): What to show.
        step (`int`): Updates done.
        texts (`Sequence[str]`): Captions or prompts in it, to be searched for.

    Returns:
        `list[str]`: Names of the callbacks that were shown it.
    """
    shown = []
    for callback in callbacks:
        for kind, attribute, show_in in _PLACES:
            # Closed, before training and in all processes but the first, they have nothing there.
            if isinstance(callback, kind) and getattr(callback, attribute, None) is not None:
                try:
                    show_in(callback, name, image, texts, step)
                    shown.append(kind.__name__)
                except Exception as error:  # a full disk or a lost connection there is no reason to stop here
                    logger.warning(f"{kind.__name__} cannot show `{name}` of step {step}: {error}")
    return shown
