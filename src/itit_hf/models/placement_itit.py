# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Where a network lies: whole, on one device. Its heads are the embedding tables of other modules, which accelerate
would move in only while those modules run."""

import os
from collections.abc import Mapping
from contextlib import nullcontext
from inspect import signature

import torch
from transformers import PreTrainedModel

from .weight_files_itit import weights_replaced

# By which accelerate cuts a model apart, as it finds room.
_STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")


def single_device_map(device_map):
    """The one device that `device_map` means; a strategy means this process's accelerator, or the CPU without one.

    Args:
        device_map (`str`, `int`, `torch.device` or `Mapping`, *optional*): As in transformers' `from_pretrained`.

    Returns:
        What transformers is to be given.

    Raises:
        ValueError: If modules of the model would lie on several devices, or on disk.
    """
    if isinstance(device_map, str) and device_map in _STRATEGIES:
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        if accelerator is None:
            return {"": torch.device("cpu")}
        return {"": torch.device(accelerator.type, torch.accelerator.current_device_index())}
    devices = {str(device) for device in (device_map.values() if isinstance(device_map, Mapping) else [device_map])}
    if len(devices) > 1 or "disk" in devices:
        raise ValueError(
            f"`device_map` must name one device, and not the disk, got {device_map!r}: this model is not cut apart, "
            "as its heads are the embedding tables of other parts; `ITITPipeline.enable_model_cpu_offload()` saves "
            "memory"
        )
    return device_map


class SingleDeviceMixin:
    """`from_pretrained` and `save_pretrained` of [`ITITModel`] and its heads."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, **kwargs):
        """Open a folder or a repository of the Hub, as in transformers, on one device.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): Folder or Hub id.
            model_args: As in transformers.
            kwargs: As in transformers; of `device_map` see [`single_device_map`], and there is no `max_memory`.

        Returns:
            The model.

        Raises:
            ValueError: If the model would be cut apart.
        """
        if kwargs.get("max_memory") is not None:
            raise ValueError(
                f"`max_memory` must be None, got {kwargs['max_memory']!r}: this model is not cut apart to fit; name "
                "its one device by `device_map`"
            )
        if kwargs.get("device_map") is not None:
            kwargs["device_map"] = single_device_map(kwargs["device_map"])
        return super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike, is_main_process: bool = True, **kwargs):
        """As in transformers; weights of an earlier save go, whether they were whole or in shards.

        Args:
            save_directory (`str` or `os.PathLike`): Folder, made if it is not there.
            is_main_process (`bool`, *optional*, defaults to `True`): Whether this process writes.
            kwargs: As in transformers.
        """
        with weights_replaced(save_directory, kwargs.get("variant")) if is_main_process else nullcontext():
            super().save_pretrained(save_directory, is_main_process, **kwargs)  # type: ignore[misc]


# diffusers reads from it which options it may give.
SingleDeviceMixin.save_pretrained.__signature__ = signature(PreTrainedModel.save_pretrained)  # type: ignore[attr-defined]
