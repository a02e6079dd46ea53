# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Gradients through an argmax: one-hot forward, softmax backward (section 3.3 of the paper)."""

import torch
from torch.nn import functional as F

_ROWS_PER_CHUNK = 1024  # rows whose probabilities exist at the same time in the backward pass


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
    def forward(ctx, logits: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        ids = logits.argmax(dim=-1)
        ctx.save_for_backward(logits, table, ids)
        return table[ids]

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        logits, table, ids = ctx.saved_tensors
        flat_gradient = gradient.reshape(-1, table.size(1))  # (N, D)
        logits_gradient = table_gradient = None
        if ctx.needs_input_grad[0]:
            flat_logits = logits.reshape(-1, logits.size(-1))  # (N, V)
            logits_gradient = torch.empty_like(flat_logits)
            for rows in torch.arange(len(flat_logits), device=logits.device).split(_ROWS_PER_CHUNK):
                probs = flat_logits[rows].softmax(dim=-1)
                upstream = flat_gradient[rows] @ table.t()  # gradient on the one-hot rows
                mean = (upstream * probs).sum(dim=-1, keepdim=True)
                logits_gradient[rows] = probs.mul_(upstream.sub_(mean))
            logits_gradient = logits_gradient.view_as(logits)
        if ctx.needs_input_grad[1]:
            table_gradient = torch.zeros_like(table).index_add_(0, ids.flatten(), flat_gradient.to(table.dtype))
        return logits_gradient, table_gradient


def straight_through_embedding(
    logits: torch.Tensor, table: torch.Tensor, noise: torch.Tensor | None = None
) -> torch.Tensor:
    """Embedding of the most likely class, with the gradient of the softmax: `straight_through(logits, noise) @ table`.

    Looks rows up in the forward pass and multiplies by the table's transpose in the backward pass, so that no one-hot
    rows exist: with 64 x 64 tokens and 32128 words these alone are half a gigabyte.

    Args:
        logits (`torch.FloatTensor` of shape `(..., num_classes)`)
        table (`torch.FloatTensor` of shape `(num_classes, embedding_size)`): Gets a gradient if it wants one.
        noise (`torch.FloatTensor` of shape `(..., num_classes)`, *optional*): See [`straight_through`].

    Returns:
        `torch.FloatTensor` of shape `(..., embedding_size)`.

    Raises:
        ValueError: If the table has another number of rows than there are classes.
    """
    if logits.size(-1) != len(table):
        raise ValueError(f"`logits` have {logits.size(-1)} classes, `table` has {len(table)} rows")
    return _StraightThroughEmbedding.apply(logits if noise is None else logits + noise, table)
