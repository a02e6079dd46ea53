# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Where a network lies: whole, on one device. Its heads are the embedding tables of other parts, which accelerate
would move in only while those parts run."""

from collections.abc import Mapping

import torch

# By which accelerate cuts a model apart, as it finds room.
_STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")


def whole_device_map(device_map):
    """The one device that `device_map` means; a strategy means this process's accelerator, or the CPU without one.

    Args:
        device_map (`str`, `int`, `torch.device` or `Mapping`, *optional*): As in transformers' `from_pretrained`.

    Returns:
        What transformers is to be given.

    Raises:
        ValueError: If parts of the model would lie on several devices, or on disk.
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


class WholeModelMixin:
    """`from_pretrained` of [`ITITModel`] and its heads."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, **kwargs):
        """Open a folder or a repository of the Hub, as in transformers, on one device.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): Folder or Hub id.
            model_args: As in transformers.
            kwargs: As in transformers; of `device_map` see [`whole_device_map`], and there is no `max_memory`.

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
            kwargs["device_map"] = whole_device_map(kwargs["device_map"])
        return super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)


class WholeComponentsMixin:
    """Offloading of [`ITITPipeline`]: components as a whole."""

    def enable_sequential_cpu_offload(self, gpu_id: int | None = None, device: torch.device | str | None = None):
        """Refused, whatever the device.

        Args:
            gpu_id (`int`, *optional*): Part of diffusers' signature.
            device (`torch.device` or `str`, *optional*): Part of diffusers' signature.

        Raises:
            ValueError: Always; it names what to call instead.
        """
        raise ValueError(
            "`enable_sequential_cpu_offload` would move single layers, and ITIT's heads are the embedding tables of "
            "other parts; call `enable_model_cpu_offload()`, which moves whole components, or, without a GPU, nothing"
        )
