# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What the pipeline asks of its arguments, and how it talks to a user's callback."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

from .sampling import DecodingState, TextCondition

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
TENSOR_INPUTS = ("image_token_ids", "filled_image_token_ids", "prompt_embeds", "negative_prompt_embeds")


def check_call(num_images_per_prompt: int, guidance_scale: float, output_type: str) -> None:
    """Raise a `ValueError` that names the argument which is out of range, if one is."""
    if not isinstance(num_images_per_prompt, int) or num_images_per_prompt < 1:
        raise ValueError(f"`num_images_per_prompt` must be an integer of at least 1, got {num_images_per_prompt!r}")
    if not np.isfinite(guidance_scale):
        raise ValueError(f"`guidance_scale` must be finite, got {guidance_scale}")
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
        raise ValueError(f"`generator` is a list of {len(generator)}; wanted one for each of {num_images} pictures")


def check_return_best(return_best: int | None, num_images_per_prompt: int, prompt, rerank=None) -> None:
    """Raise a `ValueError` if there are not as many pictures, no words to rank them by, or a judge without a task."""
    if return_best is None:
        if rerank is not None:
            raise ValueError("`rerank` chooses the pictures of `return_best`; give both")
        return
    if not isinstance(return_best, int) or not 1 <= return_best <= num_images_per_prompt:
        raise ValueError(
            f"`return_best` must be an integer from 1 to `num_images_per_prompt` ({num_images_per_prompt}), "
            f"got {return_best!r}"
        )
    if prompt is None:
        raise ValueError("`return_best` ranks pictures by the words of `prompt`; `prompt_embeds` have none")


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


def call_back(pipe, state: DecodingState, callback: Callable, names: Sequence[str]) -> DecodingState:
    """Show the named tensors to a user's callback, and take over what it returns.

    Args:
        pipe ([`ITITPipeline`]): What the callback is given.
        state ([`DecodingState`]): After a step.
        callback (`Callable`): `(pipe, step, timestep, tensors) -> tensors`.
        names (`Sequence[str]`): Of [`TENSOR_INPUTS`].

    Returns:
        [`DecodingState`].
    """
    tensors = {
        "image_token_ids": state.image_token_ids,
        "filled_image_token_ids": state.filled_image_token_ids,
        "prompt_embeds": state.condition.embeds,
        "negative_prompt_embeds": None if state.negative_condition is None else state.negative_condition.embeds,
    }
    returned = callback(pipe, state.step, state.timestep, {name: tensors[name] for name in names}) or {}
    state.image_token_ids = returned.get("image_token_ids", state.image_token_ids)
    if returned.get("prompt_embeds") is not None:
        state.condition = TextCondition(returned["prompt_embeds"], state.condition.attention_mask)
    if returned.get("negative_prompt_embeds") is not None:
        mask = None if state.negative_condition is None else state.negative_condition.attention_mask
        state.negative_condition = TextCondition(returned["negative_prompt_embeds"], mask)
    return state
