# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What the pipeline asks of its arguments, how it talks to a user's callback, and how it is offloaded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

from ..decoding.sampling import DecodingState, InpaintInputs
from ..models.types_itit import TextCondition

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
TENSOR_INPUTS = ("image_token_ids", "filled_image_token_ids", "prompt_embeds", "negative_prompt_embeds")


@dataclass(frozen=True)
class RankingSettings:
    """How many images of a prompt are generated, and which of them are returned.

    Args:
        num_images_per_prompt (`int`, *optional*, defaults to 1): Images of a prompt.
        return_best (`int`, *optional*): How many of them are returned, the best first; all, unranked, by default.
        rerank (*optional*): Who ranks them, by `score(images, texts)`; the model itself by default.

    Raises:
        ValueError: If a number is out of range, or there is a `rerank` and nothing to rank.
    """

    num_images_per_prompt: int = 1
    return_best: int | None = None
    rerank: Any = None

    def __post_init__(self):
        number = self.num_images_per_prompt
        if not isinstance(number, int) or number < 1:
            raise ValueError(f"`num_images_per_prompt` must be an integer of at least 1, got {number!r}")
        if self.return_best is None:
            if self.rerank is not None:
                raise ValueError("`rerank` chooses the images of `return_best`; give both")
        elif not isinstance(self.return_best, int) or not 1 <= self.return_best <= number:
            raise ValueError(
                f"`return_best` must be an integer from 1 to `num_images_per_prompt` ({number}), "
                f"got {self.return_best!r}"
            )


def check_output_type(output_type: str) -> None:
    """Raise a `ValueError` unless there is such a type."""
    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"`output_type` must be one of {OUTPUT_TYPES}, got {output_type!r}")


def check_texts(name: str, text) -> None:
    """Raise a `ValueError` about `name` unless `text` is a string or a list of at least one."""
    if not isinstance(text, str) and not (
        isinstance(text, (list, tuple)) and text and all(isinstance(item, str) for item in text)
    ):
        raise ValueError(f"`{name}` must be a string or a list of at least one string, got {text!r:.200}")


def check_embeds(name: str, embeds: torch.Tensor, width: int) -> None:
    """Raise a `ValueError` about `name` unless it is of shape `(batch_size, text_length, width)`."""
    if embeds.dim() != 3 or embeds.size(-1) != width:
        raise ValueError(f"`{name}` must be (batch_size, text_length, {width}), got {tuple(embeds.shape)}")


def check_generators(generator, num_images: int) -> None:
    """Raise a `ValueError` if `generator` is a list of any other length."""
    if isinstance(generator, (list, tuple)) and len(generator) != num_images:
        raise ValueError(f"`generator` is a list of {len(generator)}; wanted one for each of {num_images} images")


def broadcast_batch_size(lengths: Mapping[str, int]) -> int:
    """How many samples arguments make together, each of them one for all or one for each.

    Args:
        lengths (`Mapping[str, int]`): Entries of each argument, by its name.

    Returns:
        `int`.

    Raises:
        ValueError: If two that are not 1 differ.
    """
    longest = max(lengths.values())
    if any(length not in (1, longest) for length in lengths.values()):
        given = ", ".join(f"`{name}` {length}" for name, length in lengths.items())
        raise ValueError(f"entries do not go together, give one or as many of each: {given}")
    return longest


def repeat_rows(rows: torch.Tensor | None, num_rows: int, times: int = 1) -> torch.Tensor | None:
    """Rows of shape `(1 or num_rows, ...)` as rows of shape `(num_rows * times, ...)`, the same ones neighbours."""
    if rows is None:
        return None
    if len(rows) == 1:
        rows = rows.expand(num_rows, *rows.shape[1:])
    return rows.repeat_interleave(times, dim=0)


def repeat_text(text: TextCondition | None, num_rows: int, times: int = 1) -> TextCondition | None:
    """[`repeat_rows`] of features and mask."""
    if text is None:
        return None
    return TextCondition(repeat_rows(text.embeds, num_rows, times), repeat_rows(text.attention_mask, num_rows, times))


def repeat_start(start: InpaintInputs | None, num_rows: int, times: int = 1) -> InpaintInputs | None:
    """[`repeat_rows`] of ids and mask."""
    if start is None:
        return None
    ids = repeat_rows(start.image_token_ids, num_rows, times)
    return InpaintInputs(ids, repeat_rows(start.bool_masked_pos, num_rows, times), start.strength)


def callback_tensor_inputs(callback: Callable | None, names: Sequence[str] | None) -> list[str]:
    """Which tensors a callback is given; diffusers' own callbacks say it themselves.

    Args:
        callback (`Callable`, *optional*): A function, or a `PipelineCallback` or `MultiPipelineCallbacks`.
        names (`Sequence[str]`, *optional*): What was asked for.

    Returns:
        `list[str]`.

    Raises:
        ValueError: If one of them is not to be had.
    """
    if isinstance(callback, (PipelineCallback, MultiPipelineCallbacks)):
        names = callback.tensor_inputs
    names = ["image_token_ids"] if names is None else list(names)
    unknown = [name for name in names if name not in TENSOR_INPUTS]
    if unknown:
        raise ValueError(f"`callback_on_step_end_tensor_inputs` must be of {list(TENSOR_INPUTS)}, got {unknown}")
    return names


def run_callback(pipe, state: DecodingState, callback: Callable, names: Sequence[str]) -> DecodingState:
    """Show the named tensors to a user's callback, and take over what it returns, or changed in place.

    Args:
        pipe ([`ITITPipeline`]): What the callback is given.
        state ([`DecodingState`]): After a step.
        callback (`Callable`): `(pipe, step, timestep, tensors) -> tensors`.
        names (`Sequence[str]`): Of [`TENSOR_INPUTS`].

    Returns:
        [`DecodingState`].

    Raises:
        ValueError: If a returned tensor is not of the shape of the given one, or an id is none.
    """
    shown = {name: _shown(pipe, state, name) for name in names}
    returned = callback(pipe, state.step, state.timestep, dict(shown)) or {}
    returned = shown | {name: value for name, value in returned.items() if value is not None}
    ids = returned.get("image_token_ids")
    if ids is not None:
        state.image_token_ids = _checked_ids(ids, state.image_token_ids, pipe.model.config.mask_token_id)
    embeds = returned.get("prompt_embeds")
    if embeds is not None:
        state.condition = _taken_over("prompt_embeds", embeds, state.condition, pipe)
    embeds = returned.get("negative_prompt_embeds")
    if embeds is not None:
        given = state.negative_condition or TextCondition(_shown(pipe, state, "negative_prompt_embeds"))
        if not torch.equal(embeds, given.embeds):  # the null text stays the model's own, which costs less
            state.negative_condition = _taken_over("negative_prompt_embeds", embeds, given, pipe)
    return state


def _shown(pipe, state: DecodingState, name: str) -> torch.Tensor:
    """A tensor as a callback sees it. Of the ids it gets a copy, as it may change them in place, which is found by
    there being another tensor; and without a text to move away from, the null text of each sample."""
    if name == "image_token_ids":
        return state.image_token_ids.clone()
    if name == "filled_image_token_ids":
        return state.filled_image_token_ids
    if name == "prompt_embeds":
        return state.condition.embeds
    if state.negative_condition is not None:
        return state.negative_condition.embeds
    embeds = state.condition.embeds
    return pipe.model.model.null_text_embeds.to(embeds).repeat(len(embeds), 1, 1)


def _checked_ids(ids: torch.Tensor, given: torch.Tensor, mask_token_id: int) -> torch.Tensor:
    if ids.shape != given.shape or ids.dtype != given.dtype:
        raise ValueError(
            f"`callback_on_step_end` must return `image_token_ids` as it was given them, {given.dtype} of shape "
            f"{tuple(given.shape)}, got {ids.dtype} of shape {tuple(ids.shape)}"
        )
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) <= mask_token_id:
        raise ValueError(
            f"`callback_on_step_end` must return `image_token_ids` from 0 to {mask_token_id}, which is a masked one, "
            f"got {int(ids.min())} to {int(ids.max())}"
        )
    return ids.to(given.device)


def _taken_over(name: str, embeds: torch.Tensor, given: TextCondition, pipe) -> TextCondition:
    """Features that a callback returned, with the padding mask of those that it was given.

    Callbacks of diffusers that end guidance keep the last row of what they take for unconditional and conditional
    texts in one batch. Here these stand apart: there is nothing to leave out.
    """
    is_last_rows = 0 < len(embeds) < len(given.embeds) and torch.equal(embeds, given.embeds[-len(embeds) :])
    if is_last_rows and not pipe.do_classifier_free_guidance:
        return given
    fits = embeds.dim() == 3 and len(embeds) == len(given.embeds) and embeds.size(2) == given.embeds.size(2)
    if not fits or (given.attention_mask is not None and embeds.size(1) != given.embeds.size(1)):
        raise ValueError(
            f"`callback_on_step_end` must return `{name}` of the shape that it was given, "
            f"{tuple(given.embeds.shape)}, got {tuple(embeds.shape)}"
        )
    return TextCondition(embeds.to(given.embeds.device), given.attention_mask)


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
