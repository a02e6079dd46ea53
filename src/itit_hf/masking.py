# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Which image tokens are masked and which of them the encoder is given: what training and decoding share.

Randomness comes from a `torch.Generator`, or from a list with one generator per sample, see [`~rng.rand`].
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .models.configuration_itit import ENCODER_DROPS
from .models.types_itit import ImageMask
from .rng import Generators, rand

NEWTON_STEPS = 12  # of a quantile; at the worst, from the mean on, 8 reach the last bit


@dataclass(frozen=True)
class MaskRatio:
    """Law of the share of masked tokens: a normal distribution truncated to `[low, high]` (section 3.1, Table 3).

    Args:
        mean (`float`): Mean of the normal before truncation; 0.75 in the paper.
        std (`float`): Its standard deviation; 0.25 in the paper. 0.0 gives `mean`, cut to the range, each time.
        low (`float`): Smallest ratio, in [0, 1].
        high (`float`): Largest ratio, in [low, 1]; 1.0 for text to image and 0.75 for image to text in the paper.
    """

    mean: float = 0.75
    std: float = 0.25
    low: float = 0.5
    high: float = 1.0

    def __post_init__(self):
        if not 0.0 <= self.low <= self.high <= 1.0:
            raise ValueError(f"`low` and `high` must satisfy 0 <= low <= high <= 1, got {self.low} and {self.high}")
        if not (self.std >= 0.0 and math.isfinite(self.std)):
            raise ValueError(f"`std` must be finite and at least 0, got {self.std}")
        if not math.isfinite(self.mean):
            raise ValueError(f"`mean` must be finite, got {self.mean}")

    def sample(self, batch_size: int, generator: Generators = None) -> torch.Tensor:
        """Draw one ratio per sample by the inverse of the distribution function.

        Args:
            batch_size (`int`): Number of samples.
            generator (`torch.Generator` or a sequence of them, *optional*): Source of randomness.

        Returns:
            `torch.DoubleTensor` of shape `(batch_size,)`, on the CPU: the counts that follow from it shape tensors.
        """
        return self.quantile(rand(batch_size, generator=generator, device="cpu").double())

    def quantile(self, probability: torch.Tensor) -> torch.Tensor:
        """The inverse of the distribution function.

        Args:
            probability (`torch.DoubleTensor` of any shape): In [0, 1].

        Returns:
            `torch.DoubleTensor` of the same shape, in `[low, high]`.
        """
        if self.std == 0.0 or self.low == self.high:
            return torch.full_like(probability, min(max(self.mean, self.low), self.high))
        bounds = torch.tensor([self.low, self.high], dtype=torch.float64)
        first, last = ((bounds - self.mean) / self.std).tolist()  # in standard deviations from the mean
        width = (self.high - self.low) / self.std
        if width * max(1.0, abs(first), abs(last)) < 1e-9:  # so narrow a part of the normal is flat
            ratio = torch.lerp(bounds[0], bounds[1], probability)
        elif first > 0.0:
            ratio = self.low + self.std * _tail_quantile(probability, first, width)
        elif last < 0.0:
            ratio = self.high - self.std * _tail_quantile(1.0 - probability, -last, width)
        else:
            lower, upper = torch.special.ndtr((bounds - self.mean) / self.std)
            ratio = self.mean + self.std * torch.special.ndtri(lower + probability * (upper - lower))
        return ratio.clamp(self.low, self.high)


def _tail_quantile(probability: torch.Tensor, start: float, width: float) -> torch.Tensor:
    """How far behind `start` >= 0 a standard normal, truncated to `[start, start + width]`, lies: its quantiles.

    The distribution function is 1 there to the last bit, and its complement 0. The logarithm of the complement, from
    that at the start on, keeps its digits: it is `-t (start + t / 2)` and that of a ratio of scaled complements.
    """
    start = min(start, 1e300)  # from far below on nothing is left but the end itself; twice as far is a number still

    def scaled(distance: torch.Tensor) -> torch.Tensor:
        return torch.special.erfcx((start + distance) / math.sqrt(2.0))

    def decrease(distance: torch.Tensor) -> torch.Tensor:
        at_start = scaled(torch.zeros((), dtype=torch.float64))
        return distance * (start + distance / 2.0) - (scaled(distance) / at_start).log()

    share = -torch.expm1(-decrease(torch.tensor(width, dtype=torch.float64)))  # of the tail, within the range
    target = -torch.log1p(-probability * share)
    # Newton's steps. The decrease is convex: from 0 the first step is too far, and all others come down to the root.
    distance = torch.zeros_like(probability)
    for _ in range(NEWTON_STEPS):
        slope = math.sqrt(2.0 / math.pi) / scaled(distance)  # the hazard of the normal
        distance = (distance - (decrease(distance) - target) / slope).clamp(0.0, width)
    return torch.where(probability < 1.0, distance, width)


def random_mask(mask_ratio: torch.Tensor, num_tokens: int, generator: Generators = None) -> torch.Tensor:
    """Mask a random subset of exactly `ceil(mask_ratio * num_tokens)` tokens in each row.

    Ranks are unique, so the count is exact by construction; a threshold on the noise could tie.

    Args:
        mask_ratio (`torch.Tensor` of shape `(batch_size,)`): Share of tokens to mask, in [0, 1].
        num_tokens (`int`): Tokens per image.
        generator (`torch.Generator` or a sequence of them, *optional*): Source of randomness.

    Returns:
        `torch.BoolTensor` of shape `(batch_size, num_tokens)`: `bool_masked_pos`, `True` where masked.
    """
    noise = rand(len(mask_ratio), (num_tokens,), generator, mask_ratio.device)
    rank = noise.argsort(dim=-1).argsort(dim=-1)
    return rank < (mask_ratio * num_tokens).ceil()[:, None]


def masked_positions(
    bool_masked_pos: torch.Tensor, num_masked: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the masked tokens are, as indices: the only places at which image logits are needed.

    Args:
        bool_masked_pos (`torch.BoolTensor` of shape `(batch_size, num_tokens)`): `True` where masked.
        num_masked (`int`, *optional*):
            The largest count over the rows if the caller knows it: it spares a synchronisation with the device.

    Returns:
        `(positions, valid)`, both of shape `(batch_size, num_masked)`: indices in ascending order, and a mask that is
        `False` where a row with fewer masked tokens was filled up with visible ones.
    """
    counts = bool_masked_pos.sum(dim=-1)
    if num_masked is None:
        num_masked = int(counts.max()) if len(counts) else 0
    order = (~bool_masked_pos).to(torch.uint8).argsort(dim=-1, stable=True)
    valid = torch.arange(num_masked, device=counts.device) < counts[:, None]
    return order[:, :num_masked], valid


def drop_masked(
    bool_masked_pos: torch.Tensor,
    encoder_drop: str = "half",
    generator: Generators = None,
    num_masked: Sequence[int] | None = None,
) -> ImageMask:
    """Choose which image positions the encoder is given (appendix B, "ViT architecture"; the rule is MAGE's).

    `"half"` drops exactly half of the positions, all of them masked ones, from each row in which at least half are
    masked; the masked positions that stay carry the mask embedding. `"all"` drops every masked position. `"none"`
    drops nothing. Each row is treated on its own, so a row's result does not depend on its neighbours.

    Args:
        bool_masked_pos (`torch.BoolTensor` of shape `(batch_size, num_tokens)`): `True` where masked.
        encoder_drop (`str`, *optional*, defaults to `"half"`): `"half"`, `"all"` or `"none"`.
        generator (`torch.Generator` or a sequence of them, *optional*): Chooses which of the masked ones are dropped.
        num_masked (`Sequence[int]`, *optional*):
            The count of each row if the caller knows it: it spares a synchronisation with the device.

    Returns:
        [`~models.types_itit.ImageMask`]: Its `encoder_positions` are `None` when nothing is dropped, its
        `encoder_attention_mask` is `None` when all rows drop equally many.

    Raises:
        ValueError: If `encoder_drop` is not one of the three names.
    """
    if encoder_drop not in ENCODER_DROPS:
        raise ValueError(f"`encoder_drop` must be one of {ENCODER_DROPS}, got {encoder_drop!r}")
    batch_size, num_tokens = bool_masked_pos.shape
    if encoder_drop == "none" or batch_size == 0:
        return ImageMask(bool_masked_pos)
    counts = bool_masked_pos.sum(dim=-1).tolist() if num_masked is None else num_masked
    device = bool_masked_pos.device
    if encoder_drop == "all":
        num_dropped = counts
        is_dropped = bool_masked_pos
    else:
        half = num_tokens // 2
        num_dropped = [half if count >= half else 0 for count in counts]
        # Drawn even when nothing is dropped: a generator's state must not depend on the neighbours' counts.
        noise = rand(batch_size, (num_tokens,), generator, device)
        rank = noise.masked_fill(~bool_masked_pos, 2.0).argsort(dim=-1).argsort(dim=-1)  # masked ones come first
        is_dropped = rank < torch.tensor(num_dropped, device=device)[:, None]
    if max(num_dropped) == 0:
        return ImageMask(bool_masked_pos)
    num_encoded = num_tokens - min(num_dropped)  # of the longest row
    positions = is_dropped.to(torch.uint8).argsort(dim=-1, stable=True)[:, :num_encoded]
    if min(num_dropped) == max(num_dropped):
        return ImageMask(bool_masked_pos, positions)
    lengths = num_tokens - torch.tensor(num_dropped, device=device)
    return ImageMask(bool_masked_pos, positions, torch.arange(num_encoded, device=device) < lengths[:, None])


def draw_mask(
    num_tokens: int,
    mask_ratio: MaskRatio,
    encoder_drop: str,
    generator: Sequence[torch.Generator],
    device: torch.device | str | None = None,
) -> ImageMask:
    """A new mask M for each sample.

    Args:
        num_tokens (`int`): Tokens per image.
        mask_ratio ([`MaskRatio`]): Law of the share of masked tokens.
        encoder_drop (`str`): See [`drop_masked`].
        generator (`Sequence[torch.Generator]`): One per sample; it says how many samples there are.
        device (`torch.device` or `str`, *optional*): Where the result lies; it is drawn on the CPU.

    Returns:
        [`~models.types_itit.ImageMask`]: Of `len(generator)` samples.
    """
    bool_masked_pos = random_mask(mask_ratio.sample(len(generator), generator), num_tokens, generator)
    return drop_masked(bool_masked_pos, encoder_drop, generator).to(device)
