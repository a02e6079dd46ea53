# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""How parallel decoding goes from all tokens masked to none: how many stay masked, which, at what temperature."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TypeVar

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput

from ..rng import Generators, gumbel, rand, sample_categorical

Count = TypeVar("Count", int, torch.Tensor)  # of one sample, or of each of a batch
MASKING_SCHEDULES = {
    "cosine": lambda progress: math.cos(math.pi / 2 * progress),  # the paper, MaskGIT
    "linear": lambda progress: 1 - progress,
    "arccos": lambda progress: math.acos(progress) / (math.pi / 2),
    "pow": lambda progress: 1 - progress**2,
    "sigmoid": lambda progress: (_sigmoid(3 - 6 * progress) - _sigmoid(-3)) / (_sigmoid(3) - _sigmoid(-3)),
}
CONFIDENCE_SCORES = ("log_prob", "prob")
DECODING_ORDERS = ("confidence", "random", "halton", "remasking", "entropy")
PRESETS = {
    "paper": {  # appendix B
        "masking_schedule": "cosine",
        "temperature": 32.0,
        "score": "log_prob",
        "decoding_order": "confidence",
    },
}


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _radical_inverse(index: int, base: int) -> tuple[int, int]:
    """Digits of `index` mirrored at the point, as numerator and denominator: in floats 7 / 9 * 9 could be below 7."""
    numerator = 0
    denominator = 1
    while index:
        index, digit = divmod(index, base)
        numerator = numerator * base + digit
        denominator = denominator * base
    return numerator, denominator


@lru_cache
def halton_order(num_rows: int, num_columns: int) -> tuple[int, ...]:
    """Cells of a grid in the order in which the Halton sequence of bases 2 (down) and 3 (across) first visits
    them: at any time those visited are spread evenly.

    Args:
        num_rows (`int`): Of the grid.
        num_columns (`int`): Of the grid.

    Returns:
        `tuple[int, ...]` of length `num_rows * num_columns`: positions, row by row, each once.
    """
    order = {}
    index = 0
    while len(order) < num_rows * num_columns:
        index += 1
        down = _radical_inverse(index, 2)
        across = _radical_inverse(index, 3)
        row = down[0] * num_rows // down[1]
        column = across[0] * num_columns // across[1]
        order[row * num_columns + column] = None  # a dictionary keeps the order of first visits
    return tuple(order)


@dataclass
class ITITSchedulerOutput(BaseOutput):
    """Result of [`ITITScheduler.step`].

    Args:
        prev_sample (`torch.LongTensor` of shape `(batch_size, num_tokens)`):
            Token ids with `mask_token_id` where still masked: the input of the next step.
        pred_original_sample (`torch.LongTensor` of shape `(batch_size, num_tokens)`):
            Token ids with every masked one filled in: a whole image, to look at while it forms.
    """

    prev_sample: torch.Tensor
    pred_original_sample: torch.Tensor


class ITITScheduler(SchedulerMixin, ConfigMixin):
    r"""Ordered parallel decoding (appendix B of the paper; Chang et al. 2022; Chang et al. 2023).

    After step s of S, `floor(n * schedule(s / S))` of a sample's n masked tokens stay masked, and `decoding_order`
    says which:

    - `"confidence"` (the paper): those with the lowest confidence, `score + temperature * Gumbel noise`, among the
      tokens generated in this step; what is fixed stays fixed. The temperature falls linearly to 0 over the steps; the
      list of all temperatures is computed once in [`~ITITScheduler.set_timesteps`], so it can never compound.
    - `"random"`: any of them; what `"confidence"` becomes at an endless temperature.
    - `"halton"`: the last ones in the Halton sequence of the grid, see [`halton_order`] (Besnier et al. 2025,
      https://huggingface.co/papers/2503.17076, who fix tokens by the schedule `"arccos"`). One order for all samples,
      as there: samples differ by their tokens.
    - `"remasking"`: those with the lowest confidence among all but the tokens given at the start, so that a fixed one
      may be masked and generated again. A token keeps the score of its step. That is Mask-Predict (Ghazvininejad
      et al. 2019, https://huggingface.co/papers/1904.09324), with the noise of `"confidence"`, drawn anew at each
      step. As many tokens are masked as in the other orders, so it costs no more.
    - `"entropy"`: those of the highest entropy, with the noise of `"confidence"`, and no more of them than must be.
      Tokens that are fixed in one step are sampled as if they were independent. What that leaves out is at most the
      sum of their entropies less the largest of them, in nats; as many are fixed as keep this within `entropy_bound`
      (Ben-Hamu et al. 2025, https://huggingface.co/papers/2505.24857), and as many at least as by
      `masking_schedule`. So a sample of which the model is sure is done in fewer steps, and none takes more than S.

    `temperature` says nothing to `"random"` and `"halton"`, `score` nothing to these and to `"entropy"`. The scheduler
    knows ids and logits only, no model.

    Args:
        mask_token_id (`int`, defaults to 8192): Id of a masked token, equal to the codebook size.
        masking_schedule (`str`, defaults to `"cosine"`): `"cosine"`, `"linear"`, `"arccos"`, `"pow"` or `"sigmoid"`.
        temperature (`float` or list of floats, defaults to 32.0):
            Scale of the Gumbel noise on the confidence. A number t falls linearly from `t * (1 - 1 / S)` after the
            first step to 0 after the last; a pair `[first, last]` gives both ends; a longer list holds one for each
            step. With 256 tokens 32.0 (the paper) makes the order almost random until the last steps; small
            vocabularies want less.
        score (`str`, defaults to `"log_prob"`): Confidence is the log-probability (MaskGIT) or the probability.
        decoding_order (`str`, defaults to `"confidence"`):
            `"confidence"`, `"random"`, `"halton"`, `"remasking"` or `"entropy"`.
        entropy_bound (`float`, defaults to 0.1):
            Of the order `"entropy"`, in nats, at least 0: how far the tokens of one step may depend on each other. 0.0
            fixes a token a step beyond the schedule at most, but for those that are certain; above `n * log(codes)`
            all is done in one step.
    """

    order = 1

    @register_to_config
    def __init__(
        self,
        mask_token_id: int = 8192,
        masking_schedule: str = "cosine",
        temperature: float | list[float] = 32.0,
        score: str = "log_prob",
        decoding_order: str = "confidence",
        entropy_bound: float = 0.1,
    ):
        if masking_schedule not in MASKING_SCHEDULES:
            raise ValueError(
                f"`masking_schedule` must be one of {sorted(MASKING_SCHEDULES)}, got {masking_schedule!r}"
            )
        if score not in CONFIDENCE_SCORES:
            raise ValueError(f"`score` must be one of {CONFIDENCE_SCORES}, got {score!r}")
        if decoding_order not in DECODING_ORDERS:
            raise ValueError(f"`decoding_order` must be one of {DECODING_ORDERS}, got {decoding_order!r}")
        if not math.isfinite(entropy_bound) or entropy_bound < 0:
            raise ValueError(f"`entropy_bound` must be finite and at least 0, got {entropy_bound}")
        self.timesteps: list[int] = []
        self.temperatures: list[float] = []
        self.mask_ratios: list[float] = []
        # Of "remasking", between two steps: the ids as a step left them, and their scores; -inf: given or masked.
        self._left: tuple[torch.Tensor, torch.Tensor] | None = None

    @classmethod
    def preset(cls, name: str, mask_token_id: int = 8192) -> "ITITScheduler":
        """A published way to decode; [`~decoding.sampling.CALL_PRESETS`] has its number of steps and its guidance.

        Args:
            name (`str`): `"paper"`.
            mask_token_id (`int`, *optional*, defaults to 8192): Id of a masked token, equal to the codebook size.

        Returns:
            [`ITITScheduler`].

        Raises:
            ValueError: If there is no such preset.
        """
        if name not in PRESETS:
            raise ValueError(f"`name` must be one of {sorted(PRESETS)}, got {name!r}")
        return cls(mask_token_id=mask_token_id, **PRESETS[name])

    def set_timesteps(
        self, num_inference_steps: int, temperature: float | Sequence[float] | None = None, strength: float = 1.0
    ):
        """Compute the lists that [`~ITITScheduler.step`] reads; Python numbers, so that no step waits for the device.

        Args:
            num_inference_steps (`int`): Number of steps S, at least 1.
            temperature (`float` or sequence of floats, *optional*): In place of the configured one.
            strength (`float`, *optional*, defaults to 1.0):
                Share of the steps to take, in (0, 1], rounded down: below 1.0 the first ones are left out, and
                [`~ITITScheduler.add_noise`] makes the state that they would have led to from a whole image.

        Raises:
            ValueError: If `num_inference_steps` is not a positive integer, a temperature list has another length, or
                `strength` is out of range or leaves no step.
        """
        if not isinstance(num_inference_steps, int) or num_inference_steps < 1:
            raise ValueError(f"`num_inference_steps` must be an integer of at least 1, got {num_inference_steps!r}")
        if not 0.0 < strength <= 1.0:
            raise ValueError(f"`strength` must be above 0 and at most 1, got {strength}")
        num_steps = int(round(num_inference_steps * strength, 6))  # 100 * 0.29 is below 29 in floating point
        if num_steps < 1:
            raise ValueError(f"`strength` {strength} of `num_inference_steps` {num_inference_steps} leaves no step")
        schedule = MASKING_SCHEDULES[self.config.masking_schedule]
        steps = range(1, num_inference_steps + 1)
        self.mask_ratios = [schedule(step / num_inference_steps) for step in steps]
        self.mask_ratios[-1] = 0.0  # cos(pi / 2) is not exactly zero in floating point
        temperature = self.config.temperature if temperature is None else temperature
        self.temperatures = self._temperature_list(temperature, num_inference_steps)
        self.timesteps = list(reversed(range(num_steps)))
        self._left = None

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

    @property
    def is_adaptive(self) -> bool:
        """Whether the logits have a say in how many tokens a step fixes: counts are then known on the device alone."""
        return self.config.decoding_order == "entropy"

    @property
    def first_step(self) -> int:
        """Steps left out for a `strength` below 1.0."""
        return len(self.mask_ratios) - len(self.timesteps)

    def num_masked_at_start(self, num_masked: Count) -> Count:
        """How many of a sample's n tokens are masked before the first step that is taken: all of them, or with a
        `strength` below 1.0 `floor(n * schedule)` after the steps left out, but one at least.

        Args:
            num_masked (`int` or `torch.LongTensor` of shape `(batch_size,)`): Tokens to generate.

        Returns:
            `int` or `torch.LongTensor` of shape `(batch_size,)`, like `num_masked`.
        """
        if isinstance(num_masked, torch.Tensor):
            return _of_each(self.num_masked_at_start, num_masked)
        if self.first_step == 0:
            return num_masked
        return min(num_masked, max(1, int(num_masked * self.mask_ratios[self.first_step - 1])))

    def num_masked_after(self, step: int, num_masked: Count) -> Count:
        """How many of the tokens that are to be generated stay masked after `step`.

        `floor(n * schedule)`, but at least one token more is fixed in each step taken, so that no step is wasted on
        the flat start of the cosine. If [`~ITITScheduler.is_adaptive`] that is the most that may stay masked.

        Args:
            step (`int`): 0 for the first step, counted with those left out for a `strength` below 1.0.
            num_masked (`int` or `torch.LongTensor` of shape `(batch_size,)`): Tokens to generate.

        Returns:
            `int` or `torch.LongTensor` of shape `(batch_size,)`, like `num_masked`.
        """
        if isinstance(num_masked, torch.Tensor):
            return _of_each(partial(self.num_masked_after, step), num_masked)
        most = self.num_masked_at_start(num_masked) - (step - self.first_step) - 1
        return max(0, min(int(num_masked * self.mask_ratios[step]), most))

    def add_noise(
        self, original_samples: torch.Tensor, bool_masked_pos: torch.Tensor, generator: Generators = None
    ) -> torch.Tensor:
        """Mask what is to be generated, as much of it as is masked before the first step: random ones, if not all.

        Args:
            original_samples (`torch.LongTensor` of shape `(batch_size, num_tokens)`): Token ids.
            bool_masked_pos (`torch.BoolTensor` of shape `(batch_size, num_tokens)`): `True` at tokens to generate.
            generator (`torch.Generator` or a list with one per sample, *optional*): Chooses which are masked.

        Returns:
            `torch.LongTensor` of shape `(batch_size, num_tokens)`: `mask_token_id` where masked.
        """
        masked = bool_masked_pos
        if self.first_step > 0:
            noise = rand(len(masked), (masked.size(1),), generator, masked.device).masked_fill(~bool_masked_pos, 2.0)
            count = self.num_masked_at_start(bool_masked_pos.sum(dim=-1))
            masked = noise.argsort(dim=-1).argsort(dim=-1) < count[:, None]
        return original_samples.masked_fill(masked, self.config.mask_token_id)

    def step(
        self,
        model_output: torch.Tensor,
        timestep: int,
        sample: torch.Tensor,
        num_masked: torch.Tensor,
        logit_positions: torch.Tensor | None = None,
        generator: Generators = None,
        image_grid: Sequence[int] | None = None,
        return_dict: bool = True,
    ) -> ITITSchedulerOutput | tuple[torch.Tensor, torch.Tensor]:
        """Fill the masked tokens, then mask again those that `decoding_order` names; given ids never change.

        Args:
            model_output (`torch.FloatTensor` of shape `(batch_size, num_positions, codebook_size)`): Guided logits.
            timestep (`int`): An entry of `timesteps`: the number of steps that follow this one.
            sample (`torch.LongTensor` of shape `(batch_size, num_tokens)`): Ids, `mask_token_id` where masked.
            num_masked (`torch.LongTensor` of shape `(batch_size,)`):
                Tokens to generate in all steps together; best on the CPU, where nothing waits for it.
            logit_positions (`torch.LongTensor` of shape `(batch_size, num_positions)`, *optional*):
                Which tokens the logits speak of, without repeats, covering the masked ones; all tokens by default.
            generator (`torch.Generator` or a list with one per sample, *optional*): Source of randomness.
            image_grid (`Sequence[int]` of length 2, *optional*):
                Rows and columns of tokens, which the order `"halton"` asks for; as many of each by default.
            return_dict (`bool`, *optional*, defaults to `True`): An [`ITITSchedulerOutput`] instead of a tuple.

        Returns:
            [`ITITSchedulerOutput`] or `(prev_sample, pred_original_sample)`, each of shape
            `(batch_size, num_tokens)`.

        Raises:
            ValueError: If `set_timesteps` was not called, or `timestep` is not one of its steps; with the order
                `"remasking"` if the first step was left out, with `"halton"` if there are not as many tokens as
                `image_grid` has, or without it no square number.
        """
        if timestep not in self.timesteps:
            raise ValueError(f"`timestep` must be one of `timesteps` {self.timesteps}, got {timestep}")
        step = len(self.mask_ratios) - 1 - timestep
        batch_size, num_tokens = sample.shape
        positions = logit_positions
        if positions is None:
            positions = torch.arange(num_tokens, device=sample.device).expand(batch_size, -1)
        # Noise is drawn for every token, masked or not: a sample's noise then depends on nothing but its generator.
        noise = rand(batch_size, (2, num_tokens), generator, sample.device)
        probs = model_output.float().softmax(dim=-1)  # (batch_size, num_positions, codebook_size)
        sampled = sample_categorical(probs, noise[:, 0].gather(1, positions))  # (batch_size, num_positions)
        log_prob = probs.gather(-1, sampled[..., None])[..., 0].clamp(min=torch.finfo(probs.dtype).tiny).log()
        entropies = None
        if self.is_adaptive:
            entropies = torch.zeros_like(noise[:, 1]).scatter(1, positions, torch.special.entr(probs).sum(dim=-1))
        scores = log_prob if entropies is None else -entropies.gather(1, positions)
        confidence = self._confidence(scores, noise[:, 1], positions, sample, step, image_grid)  # (B, num_tokens)

        is_masked = sample == self.config.mask_token_id
        filled = torch.where(is_masked, sample.scatter(1, positions, sampled), sample)
        order = confidence.argsort(dim=-1, stable=True)
        rank = order.argsort(dim=-1)
        num_to_mask = self.num_masked_after(step, num_masked).to(sample.device)
        if entropies is not None:
            bounded = num_beyond_bound(
                entropies.masked_fill(~is_masked, 0.0).gather(1, order.flip(-1)), self.config.entropy_bound
            )
            num_to_mask = num_to_mask.minimum(bounded)
        masked_again = (rank < num_to_mask[:, None]) & confidence.isfinite()
        previous = filled.masked_fill(masked_again, self.config.mask_token_id)
        if self._left is not None:
            # Masked again: without a score, so that an id that the caller puts there counts as given.
            scores = self._left[1].masked_fill(masked_again, -torch.inf)
            self._left = (previous.clone(), scores) if timestep else None  # the caller may change what it gets
        return ITITSchedulerOutput(previous, filled) if return_dict else (previous, filled)

    def _confidence(self, score, uniform, positions, sample, step: int, image_grid) -> torch.Tensor:
        """The lower, the rather it stays masked; infinite where it must not be masked. `(batch_size, num_tokens)`; of
        a log-probability or a negative entropy at each position, `(batch_size, num_positions)`."""
        order = self.config.decoding_order
        eligible = sample == self.config.mask_token_id  # (batch_size, num_tokens)
        if order == "halton":
            confidence = -_halton_rank(sample, image_grid)
        elif order == "random":
            confidence = uniform
        else:
            is_prob = self.config.score == "prob" and order != "entropy"
            score = score.exp() if is_prob else score
            scores = torch.zeros_like(uniform).scatter(1, positions, score)
            if order == "remasking":
                scores = self._remember(scores, sample, step)
                self._left = sample, scores
                eligible = scores.isfinite()
            confidence = scores + self.temperatures[step] * gumbel(uniform)
        return confidence.masked_fill(~eligible, torch.inf)

    def _remember(self, scores: torch.Tensor, sample: torch.Tensor, step: int) -> torch.Tensor:
        """Scores that tokens were sampled with, now or before; -inf where given. `(batch_size, num_tokens)`."""
        if step == self.first_step:
            self._left = sample, torch.full_like(scores, -torch.inf)
        if self._left is None or self._left[0].shape != sample.shape:
            raise ValueError(
                "`timestep` must be the first of `timesteps` for a new batch: remasking goes step by step"
            )
        left, before = self._left
        before = before.masked_fill(sample != left, -torch.inf)  # the caller put another id there: given
        return torch.where(sample == self.config.mask_token_id, scores, before)


def num_beyond_bound(entropies: torch.Tensor, entropy_bound: float) -> torch.Tensor:
    """How many tokens would be too many for one step: their entropies sum up to more than the bound, less the largest.

    Args:
        entropies (`torch.FloatTensor` of shape `(batch_size, num_tokens)`): In nats, in the order in which tokens are
            fixed; 0 at those that are fixed already.
        entropy_bound (`float`): In nats.

    Returns:
        `torch.LongTensor` of shape `(batch_size,)`: Those at the end that are too many; never the first one.
    """
    excess = entropies.cumsum(dim=-1) - entropies.cummax(dim=-1).values  # grows from token to token
    return (excess > entropy_bound).sum(dim=-1)


def _of_each(count: Callable[[int], int], num_masked: torch.Tensor) -> torch.Tensor:
    """`count` of each number, in Python's floats: not every device has float64, and float32 rounds down elsewhere."""
    return torch.tensor([count(n) for n in num_masked.tolist()], dtype=torch.long, device=num_masked.device)


def _halton_rank(sample: torch.Tensor, image_grid: Sequence[int] | None) -> torch.Tensor:
    """When each token comes in the Halton order, from 0 on; float of shape `(batch_size, num_tokens)`."""
    num_tokens = sample.size(1)
    if image_grid is None:
        image_grid = (math.isqrt(num_tokens),) * 2
    height, width = image_grid
    if height * width != num_tokens:
        raise ValueError(
            f"`image_grid` must be given for the Halton order and have as many tokens as `sample`, {num_tokens}, "
            f"got {height} x {width}; without it `sample` must have a square number of tokens"
        )
    order = torch.tensor(halton_order(height, width), device=sample.device)
    rank = torch.empty(num_tokens, dtype=torch.float32, device=sample.device)
    rank[order] = torch.arange(num_tokens, dtype=rank.dtype, device=sample.device)
    return rank.expand(sample.shape)
