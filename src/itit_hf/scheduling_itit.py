# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""How parallel decoding goes from all tokens hidden to none: how many stay hidden, which, at what temperature."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput

from .masking import Generators, gumbel, rand

MASKING_SCHEDULES = {
    "cosine": lambda progress: math.cos(math.pi / 2 * progress),  # the paper, MaskGIT
    "linear": lambda progress: 1 - progress,
    "arccos": lambda progress: math.acos(progress) / (math.pi / 2),
    "pow": lambda progress: 1 - progress**2,
    "sigmoid": lambda progress: (_sigmoid(3 - 6 * progress) - _sigmoid(-3)) / (_sigmoid(3) - _sigmoid(-3)),
}
CONFIDENCE_SCORES = ("log_prob", "prob")


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def sample_categorical(logits: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Draw one class per row by the inverse of the distribution function: one uniform number, one cumulative sum.

    Exact in law, and about 15 times cheaper than `torch.multinomial` or Gumbel-argmax over 8192 codes on a CPU.

    Args:
        logits (`torch.FloatTensor` of shape `(..., num_classes)`)
        uniform (`torch.FloatTensor` of shape `(...)`): Noise in [0, 1).

    Returns:
        `torch.LongTensor` of shape `(...)`.
    """
    cumulative = logits.float().softmax(dim=-1).cumsum(dim=-1)  # (..., num_classes)
    # Scaling by the last value makes the end of the table 1 up to rounding; `right` skips classes of probability 0.
    threshold = (uniform * cumulative[..., -1]).unsqueeze(-1)
    drawn = torch.searchsorted(cumulative, threshold, right=True).squeeze(-1)
    return drawn.clamp(max=logits.size(-1) - 1)


@dataclass
class ITITSchedulerOutput(BaseOutput):
    """Result of [`ITITScheduler.step`].

    Args:
        prev_sample (`torch.LongTensor` of shape `(batch_size, num_tokens)`):
            Token ids with `mask_token_id` where still hidden: the input of the next step.
        pred_original_sample (`torch.LongTensor` of shape `(batch_size, num_tokens)`):
            Token ids with every hidden one filled in: a whole picture, to look at while it forms.
    """

    prev_sample: torch.Tensor
    pred_original_sample: torch.Tensor


class ITITScheduler(SchedulerMixin, ConfigMixin):
    r"""Confidence-ordered parallel decoding (section 3.3 of the paper; Chang et al. 2022; Chang et al. 2023).

    After step s of S, `floor(n * schedule(s / S))` of a sample's n hidden tokens stay hidden: those with the lowest
    confidence, `score + temperature * Gumbel noise`. The temperature falls linearly to 0 over the steps; the list of
    all temperatures is computed once in [`~ITITScheduler.set_timesteps`], so it can never compound.

    The scheduler knows ids and logits only, no model.

    Args:
        mask_token_id (`int`, defaults to 8192): Id of a hidden token, equal to the codebook size.
        masking_schedule (`str`, defaults to `"cosine"`): `"cosine"`, `"linear"`, `"arccos"`, `"pow"` or `"sigmoid"`.
        temperature (`float` or list of floats, defaults to 32.0):
            Scale of the Gumbel noise on the confidence. A number t falls linearly from `t * (1 - 1 / S)` after the
            first step to 0 after the last; a pair `[first, last]` gives both ends; a longer list holds one for each
            step. With 256 tokens 32.0 (the paper) makes the order almost random until the last steps; small
            vocabularies want less.
        score (`str`, defaults to `"log_prob"`): Confidence is the log-probability (MaskGIT) or the probability.
    """

    order = 1

    @register_to_config
    def __init__(
        self,
        mask_token_id: int = 8192,
        masking_schedule: str = "cosine",
        temperature: float | list[float] = 32.0,
        score: str = "log_prob",
    ):
        if masking_schedule not in MASKING_SCHEDULES:
            raise ValueError(
                f"`masking_schedule` must be one of {sorted(MASKING_SCHEDULES)}, got {masking_schedule!r}"
            )
        if score not in CONFIDENCE_SCORES:
            raise ValueError(f"`score` must be one of {CONFIDENCE_SCORES}, got {score!r}")
        self.timesteps: list[int] = []
        self.temperatures: list[float] = []
        self.mask_ratios: list[float] = []

    def set_timesteps(self, num_inference_steps: int, temperature: float | Sequence[float] | None = None):
        """Compute the lists that [`~ITITScheduler.step`] reads; Python numbers, so that no step waits for the device.

        Args:
            num_inference_steps (`int`): Number of steps S, at least 1.
            temperature (`float` or sequence of floats, *optional*): In place of the configured one.

        Raises:
            ValueError: If `num_inference_steps` is not a positive integer, or a temperature list has another length.
        """
        if not isinstance(num_inference_steps, int) or num_inference_steps < 1:
            raise ValueError(f"`num_inference_steps` must be an integer of at least 1, got {num_inference_steps!r}")
        schedule = MASKING_SCHEDULES[self.config.masking_schedule]
        steps = range(1, num_inference_steps + 1)
        self.mask_ratios = [schedule(step / num_inference_steps) for step in steps]
        self.mask_ratios[-1] = 0.0  # cos(pi / 2) is not exactly zero in floating point
        temperature = self.config.temperature if temperature is None else temperature
        self.temperatures = self._temperature_list(temperature, num_inference_steps)
        self.timesteps = list(reversed(range(num_inference_steps)))

    @staticmethod
    def _temperature_list(temperature: float | Sequence[float], num_steps: int) -> list[float]:
        if isinstance(temperature, (int, float)):
            values = [temperature * (1 - step / num_steps) for step in range(1, num_steps + 1)]
        elif len(temperature) == num_steps:
            values = [float(value) for value in temperature]
        elif len(temperature) == 2:
            first, last = temperature
            values = [first + (last - first) * step / max(num_steps - 1, 1) for step in range(num_steps)]
        else:
            raise ValueError(
                f"`temperature` must be a number, a pair or a list of {num_steps} (one per step), "
                f"got a list of {len(temperature)}"
            )
        if not all(math.isfinite(value) and value >= 0 for value in values):
            raise ValueError(f"`temperature` must be finite and at least 0, got {temperature}")
        return values

    def num_masked_after(self, step: int, num_masked: int | torch.Tensor) -> int | torch.Tensor:
        """How many of the tokens that were hidden at the start stay hidden after `step`.

        `floor(n * schedule)`, but at least one token more is fixed in each step, so that no step is wasted on the
        flat start of the cosine.

        Args:
            step (`int`): 0 for the first step.
            num_masked (`int` or `torch.LongTensor` of shape `(batch_size,)`): Hidden tokens at the start.

        Returns:
            `int` or `torch.LongTensor` of shape `(batch_size,)`, like `num_masked`.
        """
        if isinstance(num_masked, int):
            return max(0, min(int(num_masked * self.mask_ratios[step]), num_masked - step - 1))
        scheduled = (num_masked.double() * self.mask_ratios[step]).long()
        return torch.minimum(scheduled, num_masked - step - 1).clamp(min=0)

    def step(
        self,
        model_output: torch.Tensor,
        timestep: int,
        sample: torch.Tensor,
        num_masked: torch.Tensor,
        logit_positions: torch.Tensor | None = None,
        generator: Generators = None,
        return_dict: bool = True,
    ) -> ITITSchedulerOutput | tuple[torch.Tensor, torch.Tensor]:
        """Fill the hidden tokens, then hide the least confident of the new ones again; given ids never change.

        Args:
            model_output (`torch.FloatTensor` of shape `(batch_size, num_positions, codebook_size)`): Guided logits.
            timestep (`int`): An entry of `timesteps`: the number of steps that follow this one.
            sample (`torch.LongTensor` of shape `(batch_size, num_tokens)`): Ids, `mask_token_id` where hidden.
            num_masked (`torch.LongTensor` of shape `(batch_size,)`): Tokens hidden before the *first* step.
            logit_positions (`torch.LongTensor` of shape `(batch_size, num_positions)`, *optional*):
                Which tokens the logits speak of, without repeats, covering the hidden ones; all tokens by default.
            generator (`torch.Generator` or a list with one per sample, *optional*): Source of randomness.
            return_dict (`bool`, *optional*, defaults to `True`): An [`ITITSchedulerOutput`] instead of a tuple.

        Returns:
            [`ITITSchedulerOutput`] or `(prev_sample, pred_original_sample)`, each of shape
            `(batch_size, num_tokens)`.

        Raises:
            ValueError: If `set_timesteps` was not called, or `timestep` is not one of its steps.
        """
        if timestep not in self.timesteps:
            raise ValueError(f"`timestep` must be one of `timesteps` {self.timesteps}, got {timestep}")
        step = len(self.timesteps) - 1 - timestep
        batch_size, num_tokens = sample.shape
        positions = logit_positions
        if positions is None:
            positions = torch.arange(num_tokens, device=sample.device).expand(batch_size, -1)
        # Noise is drawn for every token, hidden or not: a sample's noise then depends on nothing but its generator.
        noise = rand(batch_size, (2, num_tokens), generator, sample.device)
        drawn = sample_categorical(model_output, noise[:, 0].gather(1, positions))  # (batch_size, num_positions)
        log_prob = model_output.float().log_softmax(dim=-1).gather(-1, drawn[..., None])[..., 0]
        score = log_prob if self.config.score == "log_prob" else log_prob.exp()
        score = score + self.temperatures[step] * gumbel(noise[:, 1].gather(1, positions))

        hidden = sample == self.config.mask_token_id
        filled = torch.where(hidden, sample.scatter(1, positions, drawn), sample)
        confidence = torch.full_like(noise[:, 0], torch.inf).scatter(1, positions, score)
        rank = confidence.masked_fill(~hidden, torch.inf).argsort(dim=-1, stable=True).argsort(dim=-1)
        hide = rank < self.num_masked_after(step, num_masked)[:, None]
        previous = filled.masked_fill(hide & hidden, self.config.mask_token_id)
        return ITITSchedulerOutput(previous, filled) if return_dict else (previous, filled)
