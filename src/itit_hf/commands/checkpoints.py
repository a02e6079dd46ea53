# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The checkpoints that commands take where no argument names any: the one place that says so, and where they are."""

import os

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError

from ..pipelines.pipeline_itit import ITITPipeline

# A checkpoint of the repository is a folder in a checkout, `checkpoints/NAME`, and elsewhere a repository of the Hub.
HUB_OWNER = "itit-hf"
FOLDER = "checkpoints/"
PUBLISHED = (
    "emoji-scenes-64",
    "emoji-scenes-96-two",
    "emoji-scenes-classifier",
    "emoji-scenes-dual-encoder",
    "emoji-scenes-transformer",
    "emoji-words-64",
    "image-tokenizer-art",
    "text-encoder-minilm",
)

# What generates and captions.
MODEL = "checkpoints/emoji-scenes-64"
# Text encoder, tokenizer, image tokenizer and image processor of the emoji scenes, and of a checkpoint to start from.
FROZEN_PARTS = "checkpoints/emoji-scenes-64"
# What reads one's own texts and images, for new weights; `None` is what `FROZEN_PARTS` has.
OWN_TEXT_ENCODER: str | None = "checkpoints/text-encoder-minilm"
OWN_IMAGE_TOKENIZER: str | None = "checkpoints/image-tokenizer-art"
# What judges images of the emoji scenes.
CLASSIFIER = "checkpoints/emoji-scenes-classifier"

_DOWNLOADED = ("*.json", "*.safetensors", "*.model", "*.txt")  # no pickles


def locate(source: str, argument: str) -> str:
    """Where a checkpoint is: what is named, or the Hub repository of a folder that only a checkout has.

    Args:
        source (`str`): Folder or Hub id, or what is below one of the folders of `checkpoints/`.
        argument (`str`): What names another one, for the message.

    Returns:
        `str`: A folder or a Hub id. What comes from the Hub is in its cache then.

    Raises:
        ValueError: If neither the folder nor the repository can be reached.
    """
    name, _, below = source.removeprefix(FOLDER).partition("/")
    if os.path.exists(source) or not source.startswith(FOLDER) or name not in PUBLISHED:
        return source
    repository = f"{HUB_OWNER}/{name}"
    try:
        folder = snapshot_download(repository, allow_patterns=_DOWNLOADED)
    except Exception as error:  # whatever the HTTP library of the day raises
        raise ValueError(
            f"there is no folder `{source}` here, and `{repository}` of the Hub cannot be reached "
            f"({type(error).__name__}); name another one with `{argument}`"
        ) from error
    return os.path.join(folder, below) if below else repository


def load_pipeline(model: str) -> ITITPipeline:
    """The pipeline that a command is to use, on a GPU if there is one.

    Args:
        model (`str`): Folder or Hub id.

    Returns:
        [`ITITPipeline`].

    Raises:
        ValueError: If there is none.
    """
    source = locate(model, "--model")
    try:
        pipe = ITITPipeline.from_pretrained(source)
    except (OSError, HFValidationError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"`--model` must be a pipeline folder or a Hub id, got {model!r}: {reason}") from error
    return pipe.to("cuda") if torch.cuda.is_available() else pipe
