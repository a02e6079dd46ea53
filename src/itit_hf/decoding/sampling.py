# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Parallel decoding of image tokens: the one text-to-image loop, behind the pipeline and the T2I2T cycle alike."""

import math
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Protocol

import torch
from torch.nn import functional as F

from ..masking import drop_masked, masked_positions
from ..models.types_itit import TextCondition
from ..rng import Generators

GUIDANCE_SCHEDULES = ("constant", "linear")
# All settings of a call by name, whatever a checkpoint was saved with: `pipe(prompt, **CALL_PRESETS["paper"])`.
CALL_PRESETS: dict[str, dict] = {
    "paper": {  # appendix B
        "num_inference_steps": 24,
        "guidance_scale": 3.0,
        "guidance_schedule": "constant",
        "guidance_interval": (0.0, 1.0),
        "temperature": 32.0,
    },
}
# Both passes of guidance are one call of the model while that is faster on a CPU (docs/performance.md).
MAX_POSITIONS_OF_ONE_CALL = 768  # image positions of both passes; larger ones gain nothing from each other
MAX_PADDING_OF_ONE_CALL = 0.05  # of all positions: what the shorter text costs in vain


@dataclass(frozen=True)
class SamplingSettings:
    """How image tokens are generated: in how many steps, in which order and how strongly guided.

    Args:
        num_inference_steps (`int`, *optional*, defaults to 24): Steps.
        guidance_scale (`float`, *optional*, defaults to 3.0):
            `1 + tau`; at 1.0 and below there is no guidance, and no second pass.
        guidance_schedule (`str`, *optional*, defaults to `"constant"`): Or `"linear"`, see [`guidance_scales`].
        guidance_interval (`Sequence[float]` of length 2, *optional*, defaults to `(0.0, 1.0)`):
            From which share of the steps to which there is guidance; the second pass is spared elsewhere.
        temperature (`float` or list of floats, *optional*): Randomness of the order; the scheduler's by default.

    Raises:
        ValueError: If a number is none or out of range, there is no such schedule, or the interval is not in [0, 1].
    """

    num_inference_steps: int = 24
    guidance_scale: float = 3.0
    guidance_schedule: str = "constant"
    guidance_interval: Sequence[float] = (0.0, 1.0)
    temperature: float | Sequence[float] | None = None

    def __post_init__(self):
        steps = self.num_inference_steps
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
            raise ValueError(f"`num_inference_steps` must be an integer of at least 1, got {steps!r}")
        if not _is_number(self.guidance_scale):
            raise ValueError(f"`guidance_scale` must be finite, a number, got {self.guidance_scale!r}")
        temperature = self.temperature
        values = temperature if isinstance(temperature, (list, tuple)) else [temperature]
        if temperature is not None and not (values and all(_is_number(value) and value >= 0 for value in values)):
            raise ValueError(
                f"`temperature` must be a number or a list of them, finite and at least 0, got {temperature!r}"
            )
        check_guidance(self.guidance_schedule, self.guidance_interval)

    def scale_of_step(self, step: int, guidance_scale: float) -> float:
        """The scale of one step, by the schedule and the interval; `guidance_scale` may have changed on the way."""
        scales = guidance_scales(
            guidance_scale, self.num_inference_steps, self.guidance_schedule, self.guidance_interval
        )
        return scales[step]


@dataclass(frozen=True)
class InpaintInputs:
    """An image to start from, and what of it is generated anew.

    Args:
        image_token_ids (`torch.LongTensor` of shape `(batch_size, num_image_tokens)`): The image; `mask_token_id`
            where nothing is given.
        bool_masked_pos (`torch.BoolTensor` of shape `(batch_size, num_image_tokens)`, *optional*):
            `True` where tokens are generated anew, all others stay; by default where the image has `mask_token_id`.
        strength (`float`, *optional*, defaults to 1.0):
            Share of the steps to take, see [`ITITScheduler.set_timesteps`]; below 1.0 a random part of the tokens at
            `bool_masked_pos` stays too.

    Raises:
        ValueError: If `strength` is below 1.0 and there is no `bool_masked_pos`.
    """

    image_token_ids: torch.Tensor
    bool_masked_pos: torch.Tensor | None = None
    strength: float = 1.0

    def __post_init__(self):
        if self.strength < 1.0 and self.bool_masked_pos is None:
            raise ValueError("a `strength` below 1 needs `bool_masked_pos`: which tokens may be generated anew")


@dataclass
class DecodingState:
    """What a `on_step_end` callback of [`decode_image_tokens`] sees and may replace.

    Args:
        step (`int`): 0 for the first step.
        timestep (`int`): Steps that follow.
        image_token_ids (`torch.LongTensor` of shape `(batch_size, num_tokens)`):
            `mask_token_id` where masked. Another tensor in its place may unmask tokens, which then stay as they are,
            and mask others, which are then generated anew; what it masks after the last step stays as it was filled.
        filled_image_token_ids (`torch.LongTensor` of shape `(batch_size, num_tokens)`): A whole image, a preview.
        condition ([`TextCondition`]): The text asked for.
        negative_condition ([`TextCondition`], *optional*): The text to move away from; `None` is the empty text.
        interrupt (`bool`, *optional*, defaults to `False`): Stop here, with the preview as the result.
        guidance_scale (`float`, *optional*, defaults to 1.0): Of the steps that follow, before its schedule.
    """

    step: int
    timestep: int
    image_token_ids: torch.Tensor
    filled_image_token_ids: torch.Tensor
    condition: TextCondition
    negative_condition: TextCondition | None = field(default=None)
    interrupt: bool = False
    guidance_scale: float = 1.0


def check_mask_token(config, scheduler):
    """Refuse a scheduler that means another id by a masked token than the model does, or knows none.

    Args:
        config ([`ITITConfig`]): Of the model.
        scheduler ([`ITITScheduler`]): Of any setting.

    Raises:
        ValueError: It names both ids, or the class.
    """
    if not hasattr(scheduler, "num_masked_after"):
        raise ValueError(f"`scheduler` must be an ITITScheduler, got {type(scheduler).__name__}")
    if scheduler.config.mask_token_id != config.mask_token_id:
        raise ValueError(
            f"`scheduler`: `mask_token_id` must be that of the model, {config.mask_token_id}, "
            f"got {scheduler.config.mask_token_id!r}"
        )


def classifier_free_guidance(cond: torch.Tensor, uncond: torch.Tensor, guidance_scale: float) -> torch.Tensor:
    """Move logits away from the unconditional ones: `uncond + guidance_scale * (cond - uncond)`.

    This is diffusers' convention, in which 1.0 means no guidance. The paper writes `(1 + tau) * cond - tau * uncond`,
    so `guidance_scale = 1 + tau`: its `tau = 2.0` is 3.0 here.

    Args:
        cond (`torch.FloatTensor`): Logits given the text, of any shape.
        uncond (`torch.FloatTensor`): Logits given the empty or negative text, of the same shape.
        guidance_scale (`float`): 1.0 leaves `cond` as it is.

    Returns:
        `torch.FloatTensor` of the same shape.
    """
    return torch.lerp(uncond, cond, guidance_scale)


def _is_number(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def check_guidance(schedule: str, interval: Sequence[float]) -> None:
    """Raise a `ValueError` if there is no such schedule, or the interval does not lie in [0, 1]."""
    if schedule not in GUIDANCE_SCHEDULES:
        raise ValueError(f"`guidance_schedule` must be one of {GUIDANCE_SCHEDULES}, got {schedule!r}")
    is_pair = isinstance(interval, (list, tuple)) and len(interval) == 2 and all(map(_is_number, interval))
    if not is_pair or not 0.0 <= interval[0] <= interval[1] <= 1.0:
        raise ValueError(
            f"`guidance_interval` must be two shares of the steps, 0 <= start <= stop <= 1, got {interval}"
        )


def guidance_scales(
    guidance_scale: float,
    num_inference_steps: int,
    schedule: str = "constant",
    interval: Sequence[float] = (0.0, 1.0),
) -> list[float]:
    """The scale of each step; a step of 1.0 has no guidance and needs no second pass of the model.

    Args:
        guidance_scale (`float`): `1 + tau`.
        num_inference_steps (`int`): Number of steps S.
        schedule (`str`, *optional*, defaults to `"constant"`):
            `"constant"` (the paper), or `"linear"`: from 1.0 at the first step to `guidance_scale` at the last (Chang
            et al. 2023), which leaves more freedom while little of the image stands.
        interval (`Sequence[float]` of length 2, *optional*, defaults to `(0.0, 1.0)`):
            Guide from this share of the steps to that one only, 1.0 elsewhere (Kynkäänniemi et al. 2024,
            https://huggingface.co/papers/2404.07724): step s, counted from 0, with `start <= s / S < stop`.

    Returns:
        `list[float]` of length `num_inference_steps`.

    Raises:
        ValueError: If there is no such schedule, or the interval does not lie in [0, 1].
    """
    check_guidance(schedule, interval)
    start, stop = interval
    shares = [step / num_inference_steps for step in range(num_inference_steps)]
    scales = [guidance_scale] * num_inference_steps
    if schedule == "linear" and num_inference_steps > 1:
        rise = (guidance_scale - 1.0) / (num_inference_steps - 1)
        scales[:-1] = [1.0 + rise * step for step in range(num_inference_steps - 1)]
    return [scale if start <= share < stop else 1.0 for scale, share in zip(scales, shares, strict=True)]


def should_batch_guidance(batch_size: int, num_image_tokens: int, text_length: int, negative_length: int) -> bool:
    """Whether both passes of guidance go through the model side by side, the shorter text padded.

    A few samples are faster so: fewer operations, and larger ones. Many are not, nor texts of very different length.

    Args:
        batch_size (`int`): Images.
        num_image_tokens (`int`): Of one image.
        text_length (`int`): Tokens of the texts asked for.
        negative_length (`int`): Tokens of the texts to move away from.

    Returns:
        `bool`: By `MAX_POSITIONS_OF_ONE_CALL` and `MAX_PADDING_OF_ONE_CALL`.
    """
    padding = abs(text_length - negative_length)
    padded_length = 2 * (num_image_tokens + max(text_length, negative_length))
    is_small = 2 * batch_size * num_image_tokens <= MAX_POSITIONS_OF_ONE_CALL
    return is_small and padding <= MAX_PADDING_OF_ONE_CALL * padded_length


class ImageModel(Protocol):
    """What the loop asks of a model, such as [`ITITForImageGeneration`]; a stub of a few lines has it.

    Args:
        config ([`ITITConfig`]): Numbers of tokens and codes, and the mask id.
    """

    config: Any

    def __call__(self, **inputs: Any) -> Any:
        """`image_logits` of shape `(batch_size, num_masked, codebook_size)` for `image_token_ids`, `image_mask`,
        `logit_positions` and `text_condition`, of which `None` is the empty text."""


def _guided_logits(model: Any, inputs: dict, condition, negative_condition, guidance_scale: float) -> torch.Tensor:
    if condition.embeds.device.type == "cuda":  # elsewhere there are no such graphs, and this imports the compiler
        torch.compiler.cudagraph_mark_step_begin()  # a compiled model's two results both live for this step
    if guidance_scale <= 1.0:
        return model(**inputs, text_condition=condition).image_logits  # (batch_size, num_masked, codebook_size)
    batch_size, text_length = condition.embeds.shape[:2]
    negative_length = 1 if negative_condition is None else negative_condition.embeds.size(1)
    if should_batch_guidance(batch_size, model.config.num_image_tokens, text_length, negative_length):
        if negative_condition is None:
            null_text = model.model.null_text_embeds.to(condition.embeds)
            negative_condition = TextCondition(null_text.expand(batch_size, -1, -1))
        both = _one_below_the_other(condition, negative_condition)
        cond, uncond = model(**_twice(inputs), text_condition=both).image_logits.chunk(2)
    else:
        # Without a text the model takes its own null text: one token, so cheaper than a padded batch.
        cond = model(**inputs, text_condition=condition).image_logits
        uncond = model(**inputs, text_condition=negative_condition).image_logits
    return classifier_free_guidance(cond, uncond, guidance_scale)


def _twice(inputs: dict) -> dict:
    """The inputs of a step for two copies of the batch, one below the other."""
    return {
        "image_token_ids": inputs["image_token_ids"].repeat(2, 1),
        "image_mask": inputs["image_mask"].repeat(2),
        "logit_positions": inputs["logit_positions"].repeat(2, 1),
    }


def _one_below_the_other(*texts: TextCondition) -> TextCondition:
    """The rows of several texts as one batch, padded to the longest; without a mask where nothing is padded."""
    length = max(text.embeds.size(1) for text in texts)
    embeds = torch.cat([F.pad(text.embeds, (0, 0, 0, length - text.embeds.size(1))) for text in texts])
    if all(text.attention_mask is None and text.embeds.size(1) == length for text in texts):
        return TextCondition(embeds)
    masks = [
        text.embeds.new_ones(text.embeds.shape[:2]) if text.attention_mask is None else text.attention_mask
        for text in texts
    ]
    return TextCondition(embeds, torch.cat([F.pad(mask.bool(), (0, length - mask.size(1))) for mask in masks]))


@torch.no_grad()
def decode_image_tokens(
    model: ImageModel,
    condition: TextCondition,
    scheduler,
    settings: SamplingSettings | None = None,
    negative_condition: TextCondition | None = None,
    start: InpaintInputs | None = None,
    generator: Generators = None,
    on_step_end: Callable[[DecodingState], DecodingState] | None = None,
) -> torch.Tensor:
    """Generate image tokens: fill what is masked in parallel steps (appendix B).

    At each step in which at least half of a sample's tokens are masked the encoder is given half of the positions
    only, just as in training.

    Args:
        model: Called like [`ITITForImageGeneration`]; `model.config` names the number of tokens and the mask id.
        condition ([`TextCondition`]): The text of each sample.
        scheduler ([`ITITScheduler`]): Left as it is: each call steps through a copy, so that several may run at once.
        settings ([`SamplingSettings`], *optional*): The paper's by default.
        negative_condition ([`TextCondition`], *optional*): In place of the empty text.
        start ([`InpaintInputs`], *optional*): What to start from; an image of which all is masked by default.
        generator (`torch.Generator` or a list with one per sample, *optional*): Source of randomness.
        on_step_end (`Callable`, *optional*): Called with a [`DecodingState`] after each step; returns it, changed or
            not.

    Returns:
        `torch.LongTensor` of shape `(batch_size, num_tokens)`, without a mask id.

    Raises:
        ValueError: If the model gave logits that are not finite, or an argument is out of range.
    """
    config = model.config
    settings = settings or SamplingSettings()
    check_mask_token(config, scheduler)
    scheduler = copy(scheduler)
    strength = 1.0 if start is None else start.strength
    scheduler.set_timesteps(settings.num_inference_steps, settings.temperature, strength)

    image_token_ids, num_to_generate = _initial_tokens(config, scheduler, condition, start, generator)
    tokens = _TokenCounts(scheduler, config, num_to_generate)
    state = DecodingState(
        step=-1,
        timestep=-1,
        image_token_ids=image_token_ids,
        filled_image_token_ids=image_token_ids,
        condition=_without_idle_mask(condition),
        negative_condition=None if negative_condition is None else _without_idle_mask(negative_condition),
        guidance_scale=settings.guidance_scale,
    )
    is_finite = torch.ones((), dtype=torch.bool, device=image_token_ids.device)
    for step, timestep in enumerate(scheduler.timesteps, start=scheduler.first_step):
        if max(tokens.masked, default=0) > 0:
            inputs, positions = _step_inputs(config, state.image_token_ids, tokens.masked, generator)
            scale = settings.scale_of_step(step, state.guidance_scale)
            logits = _guided_logits(model, inputs, state.condition, state.negative_condition, scale)
            # One sum tells, and is read at the end: reading it here would wait for the device.
            is_finite &= logits.sum(dtype=torch.float32).isfinite()
            state.image_token_ids, state.filled_image_token_ids = scheduler.step(
                logits,
                timestep,
                state.image_token_ids,
                tokens.to_generate,
                positions,
                generator,
                image_grid=config.image_grid,
                return_dict=False,
            )
        tokens.after(step, state.image_token_ids)
        if on_step_end is not None:
            state.step = step - scheduler.first_step
            state.timestep = timestep
            state = tokens.count_around(on_step_end, state)
            if state.interrupt:
                break
    if not is_finite:
        raise ValueError("the model gave image logits that are not finite (NaN or infinite): its weights are broken")
    is_masked = state.image_token_ids == config.mask_token_id  # of an interrupted call, or by a callback
    return torch.where(is_masked, state.filled_image_token_ids, state.image_token_ids)


def _initial_tokens(
    config, scheduler, condition: TextCondition, start: InpaintInputs | None, generator: Generators
) -> tuple[torch.Tensor, list[int]]:
    """Token ids of shape `(batch_size, num_tokens)` before the first step, and how many of each sample are to be
    generated in all steps together."""
    if start is None:
        shape = (len(condition.embeds), config.num_image_tokens)
        ids = torch.full(shape, config.mask_token_id, dtype=torch.long, device=condition.embeds.device)
        return ids, [config.num_image_tokens] * len(ids)
    bool_masked_pos = start.bool_masked_pos
    if bool_masked_pos is None:
        bool_masked_pos = start.image_token_ids == config.mask_token_id
    ids = scheduler.add_noise(start.image_token_ids, bool_masked_pos, generator)
    return ids, bool_masked_pos.sum(dim=-1).tolist()


class _TokenCounts:
    """How many tokens of each sample are masked now, and how many are generated in all steps together. Known on the
    host, where no step has to wait for the device; but once somebody has replaced tokens, or if the logits have a say
    in how many a step fixes, they are counted there.

    Args:
        scheduler ([`ITITScheduler`]): With its lists.
        config ([`ITITConfig`]): Of the model.
        to_generate (`list[int]`): Of each sample.
    """

    def __init__(self, scheduler, config, to_generate: list[int]):
        self.scheduler = scheduler
        self.config = config
        self.masked = [scheduler.num_masked_at_start(count) for count in to_generate]
        self.to_generate = torch.tensor(to_generate, dtype=torch.long)
        self.are_replaced = False

    def after(self, step: int, image_token_ids: torch.Tensor):
        """Counts after a step, the first of the schedule being 0."""
        if self.are_replaced or self.scheduler.is_adaptive:
            self.masked = self._count(image_token_ids)
        else:
            self.masked = self.scheduler.num_masked_after(step, self.to_generate).tolist()

    def count_around(self, on_step_end: Callable[[DecodingState], DecodingState], state: DecodingState):
        """Call it, and count the tokens that it put there; what it masks beyond the schedule is generated too."""
        before = state.image_token_ids
        state = on_step_end(state)
        if state.image_token_ids is not before:
            masked = self._count(state.image_token_ids)
            more = [max(0, now - then) for now, then in zip(masked, self.masked, strict=True)]
            to_generate = self.to_generate + torch.tensor(more, dtype=torch.long)
            self.to_generate = to_generate.clamp(max=self.config.num_image_tokens)
            self.masked = masked
            self.are_replaced = True
        return state

    def _count(self, image_token_ids: torch.Tensor) -> list[int]:
        return (image_token_ids == self.config.mask_token_id).sum(dim=-1).tolist()


def _without_idle_mask(text: TextCondition) -> TextCondition:
    """Without a mask where nothing is padded: attention is faster, and no step has to ask the device."""
    is_idle = text.attention_mask is not None and bool(text.attention_mask.all())
    return TextCondition(text.embeds) if is_idle else text


def _step_inputs(config, image_token_ids, num_masked: list[int], generator: Generators):
    """Model inputs of one step, and the positions that get logits; the device is not asked how many are masked."""
    bool_masked_pos = image_token_ids == config.mask_token_id  # (batch_size, num_tokens)
    positions, _ = masked_positions(bool_masked_pos, max(num_masked))  # (batch_size, num_masked)
    inputs = {
        "image_token_ids": image_token_ids,
        "image_mask": drop_masked(bool_masked_pos, config.encoder_drop, generator, num_masked),
        "logit_positions": positions,
    }
    return inputs, positions
