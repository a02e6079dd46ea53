# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Saving over an earlier save: a loader must never find the weights of before beside those of now."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_ASIDE = ".weights-before-"


def weight_files(folder: str | os.PathLike, variant: str | None = None) -> list[str]:
    """Names of the safetensors files of a model, whole or in shards, and of their index.

    Args:
        folder (`str` or `os.PathLike`): Of one model; may be missing.
        variant (`str`, *optional*): Of which variant; those without one by default.

    Returns:
        `list[str]`: In order; empty without weights.
    """
    dotted = "" if variant is None else rf"\.{re.escape(variant)}"
    base = r"(diffusion_pytorch_)?model"
    pattern = re.compile(rf"{base}({dotted}(-\d{{5}}-of-\d{{5}})?\.safetensors|\.safetensors\.index{dotted}\.json)")
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(name for name in names if pattern.fullmatch(name))


@contextmanager
def weights_replaced(folder: str | os.PathLike, variant: str | None = None) -> Iterator[None]:
    """Within it, weights are written into a folder that may hold older ones of the same variant, which are put aside.

    Of a whole file and shards side by side a loader takes one, and shards whose index was left behind do not open. The
    older ones are gone at the end, but come back if that fails, or if nothing was written.

    Args:
        folder (`str` or `os.PathLike`): Of one model; may be missing.
        variant (`str`, *optional*): Of what is written.
    """
    old = weight_files(folder, variant)
    if not old:
        yield
        return
    aside = tempfile.mkdtemp(prefix=_ASIDE, dir=folder)
    for name in old:
        os.replace(os.path.join(folder, name), os.path.join(aside, name))
    is_done = False
    try:
        yield
        is_done = True
    finally:
        new = weight_files(folder, variant)
        if not is_done or not new:
            for name in new:
                os.remove(os.path.join(folder, name))
            for name in old:
                os.replace(os.path.join(aside, name), os.path.join(folder, name))
        shutil.rmtree(aside)
