# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Mean losses over held-out pairs."""

from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import replace

import torch

from ..objectives.caching import SynthesisReplay
from ..objectives.objectives import ITITObjectives
from .monitoring import Monitor


def evaluation_objectives(objectives: ITITObjectives, monitor: Monitor | None) -> ITITObjectives:
    """The same losses, each of every pair, in a copy: what training keeps for replay is not touched.

    Args:
        objectives ([`ITITObjectives`]): Those of the training.
        monitor ([`Monitor`], *optional*): Looks at the copy.

    Returns:
        [`ITITObjectives`].
    """
    copied = copy(objectives)
    copied.settings = replace(
        objectives.settings, t2i_batch_fraction=1.0, i2t_batch_fraction=1.0, i2i_batch_fraction=1.0
    )
    copied.replay = SynthesisReplay()
    copied.monitor = monitor
    return copied


def mean_losses(
    objectives: ITITObjectives,
    model: torch.nn.Module,
    batches: Iterable[dict[str, torch.Tensor]],
    sum_over_ranks: Callable[[torch.Tensor], torch.Tensor],
) -> dict[str, float]:
    """Mean of each loss over pairs, which serve every stream that an objective reads.

    Args:
        objectives ([`ITITObjectives`]): The losses.
        model (`torch.nn.Module`): In evaluation mode.
        batches (`Iterable[dict]`): Pairs of this rank; see [`ITITObjectives`] for names and shapes.
        sum_over_ranks (`Callable`): Sums a tensor of shape `(num_objectives + 1,)` over the processes, all of which
            call it.

    Returns:
        `dict[str, float]`: By the names of the objectives.
    """
    device = next(model.parameters()).device
    totals = torch.zeros(len(objectives.names) + 1, device=device)  # the last is the number of pairs
    for pairs in batches:
        losses = objectives(model, dict.fromkeys(objectives.streams, pairs))
        totals += torch.stack([*losses.values(), torch.ones_like(totals[0])]) * len(pairs["sample_index"])
    totals = sum_over_ranks(totals)
    means = (totals[:-1] / totals[-1]).tolist()
    return dict(zip(objectives.names, means, strict=True))
