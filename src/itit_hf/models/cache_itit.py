# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Keys and values of a prefix that several continuations of one sample share, such as the beams of a caption.

The prefix is computed, kept and read once for each sample, however many beams it has; when beams change places only
what follows it moves. An image is 257 tokens and a caption some 20, so nearly all keys and values are the prefix's.
"""

import torch
from transformers.cache_utils import Cache, DynamicLayer


class SharedPrefixLayer(DynamicLayer):
    """Keys and values of one block: the prefix once for each sample, and what follows it for each copy of a sample.

    `update` takes and returns what follows; [`prefix_attention`] reads the prefix beside it.

    Args:
        prefix_keys (`torch.FloatTensor` of shape `(batch_size, num_heads, prefix_length, head_dim)`)
        prefix_values (`torch.FloatTensor` of shape `(batch_size, num_heads, prefix_length, head_dim)`)
        num_copies (`int`): Continuations of a sample; those of one sample stand together.
    """

    def __init__(self, prefix_keys: torch.Tensor, prefix_values: torch.Tensor, num_copies: int):
        super().__init__()
        self.prefix_keys = prefix_keys
        self.prefix_values = prefix_values
        self.dtype = prefix_keys.dtype
        self.device = prefix_keys.device
        batch_size, num_heads, _, head_dim = prefix_keys.shape
        self.keys = prefix_keys.new_empty(batch_size * num_copies, num_heads, 0, head_dim)
        self.values = self.keys
        self.is_initialized = True

    def get_seq_length(self) -> int:
        """Positions of a continuation, the prefix counted."""
        return self.prefix_keys.size(2) + self.keys.size(2)


class PrefixCache(Cache):
    """A cache for several continuations of each sample, made from the one of their common prefix.

    Args:
        prefix (`Cache`): Keys and values of the prefix, for `batch_size` samples.
        num_copies (`int`): Continuations of a sample.
    """

    def __init__(self, prefix: Cache, num_copies: int):
        super().__init__(layers=[SharedPrefixLayer(layer.keys, layer.values, num_copies) for layer in prefix.layers])


def prefix_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    layer: SharedPrefixLayer,
    scaling: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention over prefix and continuation; the copies of a sample ask the prefix in one product.

    Args:
        query (`torch.FloatTensor` of shape `(batch_size * num_copies, num_heads, num_queries, head_dim)`)
        key (`torch.FloatTensor` of shape `(batch_size * num_copies, num_heads, num_said, head_dim)`):
            Of what follows the prefix, as `update` returns it.
        value (`torch.FloatTensor` of shape `(batch_size * num_copies, num_heads, num_said, head_dim)`): Likewise.
        attention_mask (`torch.Tensor` of shape `(batch_size * num_copies, 1, num_queries, prefix_length + num_said)`,
            *optional*): `True` where a query may look, or numbers that are added.
        layer ([`SharedPrefixLayer`]): Of this block.
        scaling (`float`): Factor of the scores.

    Returns:
        `(out, weights)` of shapes `(batch_size * num_copies, num_queries, num_heads, head_dim)` and
        `(batch_size * num_copies, num_heads, num_queries, prefix_length + num_said)`.
    """
    num_copies = query.size(0) // layer.prefix_keys.size(0)
    to_prefix = _apart(_together(query, num_copies) @ layer.prefix_keys.mT, num_copies)  # (B * n, heads, Q, P)
    scores = torch.cat([to_prefix, query @ key.mT], dim=-1) * scaling  # (B * n, heads, Q, P + S)
    if attention_mask is not None:
        is_bool = attention_mask.dtype == torch.bool
        lowest = torch.finfo(scores.dtype).min
        scores = scores.masked_fill(~attention_mask, lowest) if is_bool else scores + attention_mask
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(value.dtype)
    of_prefix, of_said = weights.split([to_prefix.size(-1), key.size(2)], dim=-1)
    seen = _apart(_together(of_prefix, num_copies) @ layer.prefix_values, num_copies)  # (B * n, heads, Q, D)
    return (seen + of_said @ value).transpose(1, 2), weights


def _together(rows: torch.Tensor, num_copies: int) -> torch.Tensor:
    """`(B * n, heads, Q, ...) -> (B, heads, n * Q, ...)`."""
    return rows.unflatten(0, (-1, num_copies)).transpose(1, 2).flatten(2, 3)


def _apart(rows: torch.Tensor, num_copies: int) -> torch.Tensor:
    """`(B, heads, n * Q, ...) -> (B * n, heads, Q, ...)`."""
    return rows.unflatten(2, (num_copies, -1)).transpose(1, 2).flatten(0, 1)
