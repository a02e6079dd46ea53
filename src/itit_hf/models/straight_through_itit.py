# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Gradients through an argmax: one-hot forward, softmax backward (section 3.2 of the paper)."""

import torch
from torch.nn import functional as F

_NUMBERS_PER_CHUNK = 2**22  # probabilities that exist at the same time: 16 MiB of float32


def straight_through(logits: torch.Tensor, noise: torch.Tensor | float = 0.0) -> torch.Tensor:
    """One-hot argmax in the forward pass, gradient of the softmax in the backward pass.

    The plain form, which [`straight_through_embedding`] equals after a product with the table; that one is used, as
    this one keeps several tensors of the size of the logits.

    Args:
        logits (`torch.FloatTensor` of shape `(..., num_classes)`)
        noise (`torch.Tensor` of the same shape or `float`, *optional*, defaults to 0.0):
            Added to the logits; standard Gumbel noise makes it the straight-through Gumbel softmax of strength 1.

    Returns:
        `torch.FloatTensor` of shape `(..., num_classes)`.
    """
    probs = (logits + noise).softmax(dim=-1)
    hard = F.one_hot(probs.argmax(dim=-1), logits.size(-1)).to(probs.dtype)
    return hard + probs - probs.detach()


class _StraightThroughEmbedding(torch.autograd.Function):
    """`straight_through(logits) @ table` that keeps the logits alone, and no row of probabilities for long."""

    @staticmethod
    def forward(ctx, logits: torch.Tensor, table: torch.Tensor, trained: torch.Tensor | None) -> torch.Tensor:
        ids = logits.argmax(dim=-1)
        saved = logits if ctx.needs_input_grad[0] else None  # the half cycle needs none
        ctx.save_for_backward(saved, table, ids, trained)
        return table[ids]

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        logits, table, ids, trained = ctx.saved_tensors
        flat_gradient = gradient.reshape(-1, table.size(1))  # (N, D)
        logits_gradient = table_gradient = None
        if ctx.needs_input_grad[0]:
            flat_logits = logits.reshape(-1, logits.size(-1))  # (N, V)
            logits_gradient = torch.empty_like(flat_logits)
            for rows in torch.arange(len(flat_logits), device=logits.device).split(_rows_per_chunk(table)):
                logits_gradient[rows] = _softmax_gradient(flat_logits[rows], flat_gradient[rows] @ table.t())
            logits_gradient = logits_gradient.view_as(logits)
        if ctx.needs_input_grad[1]:
            if trained is not None:
                flat_gradient = flat_gradient * trained.reshape(-1, 1)
            table_gradient = torch.zeros_like(table).index_add_(0, ids.flatten(), flat_gradient.to(table.dtype))
        return logits_gradient, table_gradient, None


def straight_through_embedding(
    logits: torch.Tensor,
    table: torch.Tensor,
    noise: torch.Tensor | None = None,
    trained: torch.Tensor | None = None,
) -> torch.Tensor:
    """Embedding of the most likely class, with the gradient of the softmax: `straight_through(logits, noise) @ table`.

    Looks rows up in the forward pass and multiplies by the table's transpose in the backward pass, so that no one-hot
    rows exist. Where the logits come from a head without noise, [`straight_through_projection`] saves them too.

    Args:
        logits (`torch.FloatTensor` of shape `(..., num_classes)`)
        table (`torch.FloatTensor` of shape `(num_classes, embedding_size)`): Gets a gradient if it wants one.
        noise (`torch.FloatTensor` of shape `(..., num_classes)`, *optional*): See [`straight_through`].
        trained (`torch.BoolTensor` of shape `(...)`, *optional*): Which embeddings train the table; all by default.

    Returns:
        `torch.FloatTensor` of shape `(..., embedding_size)`.

    Raises:
        ValueError: If the table has another number of rows than there are classes.
    """
    if logits.size(-1) != len(table):
        raise ValueError(f"`logits` have {logits.size(-1)} classes, `table` has {len(table)} rows")
    return _StraightThroughEmbedding.apply(logits if noise is None else logits + noise, table, trained)


class _StraightThroughProjection(torch.autograd.Function):
    """`straight_through(states @ weight.T) @ table` that makes the logits a few rows at a time, twice."""

    @staticmethod
    def forward(ctx, states: torch.Tensor, weight: torch.Tensor, table: torch.Tensor):
        rows = states.reshape(-1, states.size(-1)).split(_rows_per_chunk(table))
        ids = torch.cat([(chunk @ weight.t()).argmax(dim=-1) for chunk in rows])  # (N,)
        ctx.save_for_backward(states, weight, table, ids)
        ids = ids.view(states.shape[:-1])
        ctx.mark_non_differentiable(ids)
        return table[ids], ids

    @staticmethod
    def backward(ctx, gradient: torch.Tensor, _):
        states, weight, table, ids = ctx.saved_tensors
        flat_states = states.reshape(-1, states.size(-1))
        flat_gradient = gradient.reshape(-1, table.size(1))
        states_gradient = torch.empty_like(flat_states)
        weight_gradient = torch.zeros_like(weight)
        for rows in torch.arange(len(ids), device=ids.device).split(_rows_per_chunk(table)):
            logits_gradient = _softmax_gradient(flat_states[rows] @ weight.t(), flat_gradient[rows] @ table.t())
            states_gradient[rows] = logits_gradient @ weight
            weight_gradient.addmm_(logits_gradient.t(), flat_states[rows])
        table_gradient = None
        if ctx.needs_input_grad[2]:
            table_gradient = torch.zeros_like(table).index_add_(0, ids, flat_gradient.to(table.dtype))
        return states_gradient.view_as(states), weight_gradient, table_gradient


def straight_through_projection(
    states: torch.Tensor, weight: torch.Tensor, table: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Embedding of the most likely class, with the gradient of the softmax, without keeping the logits:
    `straight_through(states @ weight.T) @ table`.

    The logits are made a few rows at a time, and once more in the backward pass. With 64 x 64 tokens and 32128 words
    they, and what the plain form keeps beside them, would be gigabytes.

    Args:
        states (`torch.FloatTensor` of shape `(..., hidden_size)`): What the head is applied to.
        weight (`torch.FloatTensor` of shape `(num_classes, hidden_size)`): The head, without bias.
        table (`torch.FloatTensor` of shape `(num_classes, embedding_size)`): Gets a gradient if it wants one.

    Returns:
        `tuple`: Embeddings, a `torch.FloatTensor` of shape `(..., embedding_size)`, and the classes themselves, a
        `torch.LongTensor` of shape `(...)`.

    Raises:
        ValueError: If the head and the table have different numbers of rows.
    """
    if len(weight) != len(table):
        raise ValueError(f"`weight` and `table` must have a row per class, got {len(weight)} and {len(table)} rows")
    return _StraightThroughProjection.apply(states, weight, table)


def _rows_per_chunk(table: torch.Tensor) -> int:
    """Rows whose probabilities exist at the same time."""
    return max(1, _NUMBERS_PER_CHUNK // len(table))


def _softmax_gradient(logits: torch.Tensor, upstream: torch.Tensor) -> torch.Tensor:
    """Gradient of logits `(N, num_classes)` from that of the one-hot rows, which is overwritten."""
    probs = logits.softmax(dim=-1)
    return probs.mul_(upstream.sub_((upstream * probs).sum(dim=-1, keepdim=True)))
