# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The two cross entropies of the paper, equations (1) and (2). A sample's loss never depends on its neighbours."""

import torch
from torch.nn import functional as F


def _mean_per_sample(
    token_loss: torch.Tensor, counted: torch.Tensor, sample_weights: torch.Tensor | None
) -> torch.Tensor:
    """Mean over a sample's counted tokens, then over the samples; a sample without any counts as zero.

    A mean over all tokens of the batch would weigh a sample by its neighbours' lengths, and accumulating small
    batches would no longer equal one large batch.
    """
    loss = token_loss.sum(dim=-1) / counted.sum(dim=-1).clamp(min=1)  # (batch_size,)
    return loss.mean() if sample_weights is None else (sample_weights * loss).mean()


def caption_loss(
    text_logits: torch.Tensor,
    labels: torch.Tensor,
    label_smoothing: float = 0.1,
    sample_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Image to text, equation (1): $-\log p(t_l | I_M, t_0 ... t_{l-1})$, a mean over l and over the samples.

    Nothing is shifted here: `text_logits[:, l]` is what predicts `labels[:, l]`.

    Args:
        text_logits (`torch.FloatTensor` of shape `(batch_size, text_length, num_text_tokens)`):
            Logits of the words; spare rows of the vocabulary are left out by the caller.
        labels (`torch.LongTensor` of shape `(batch_size, text_length)`): Text ids; -100 is ignored.
        label_smoothing (`float`, *optional*, defaults to 0.1): Share of the target spread over all tokens (Table 3).
        sample_weights (`torch.FloatTensor` of shape `(batch_size,)`, *optional*): What a sample counts; 1 by default.

    Returns:
        `torch.FloatTensor` of shape `()`, in nats.
    """
    # Token by token: over the last dimension softmax and its gradient are 2.5 times as fast as over the second.
    token_loss = F.cross_entropy(
        text_logits.float().flatten(0, 1), labels.flatten(), reduction="none", label_smoothing=label_smoothing
    )  # (batch_size * text_length,), 0 where ignored
    return _mean_per_sample(token_loss.view_as(labels), labels != -100, sample_weights)


def masked_image_loss(
    image_logits: torch.Tensor,
    labels: torch.Tensor,
    label_smoothing: float = 0.1,
    sample_weights: torch.Tensor | None = None,
    neighbours: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Text to image, equation (2): $-\log p(i_k | I_M, T)$, a mean over the masked k and over the samples.

    Args:
        image_logits (`torch.FloatTensor` of shape `(batch_size, num_positions, codebook_size)`):
            Logits at the positions that count; visible tokens need none.
        labels (`torch.LongTensor` of shape `(batch_size, num_positions)`): Image token ids; -100 is ignored.
        label_smoothing (`float`, *optional*, defaults to 0.1): Share of the target spread over all codes (Table 3).
        sample_weights (`torch.FloatTensor` of shape `(batch_size,)`, *optional*): What a sample counts; 1 by default.
        neighbours (`torch.LongTensor` of shape `(codebook_size, num_neighbours)`, *optional*): Of each code, those
            over which that share is spread, evenly, in place of all; see [`code_neighbours`].

    Returns:
        `torch.FloatTensor` of shape `()`, in nats.
    """
    logits = image_logits.float()
    if neighbours is None:
        token_loss = F.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), reduction="none", label_smoothing=label_smoothing
        ).view_as(labels)  # (B, M), 0 where ignored
    else:
        codes = labels.clamp(min=0)  # (B, M)
        target = logits.gather(-1, codes[..., None])[..., 0]  # (B, M)
        near = logits.gather(-1, neighbours.to(codes.device)[codes]).mean(dim=-1)  # (B, M)
        token_loss = logits.logsumexp(dim=-1) - (1 - label_smoothing) * target - label_smoothing * near
        token_loss = token_loss.masked_fill(labels == -100, 0.0)
    return _mean_per_sample(token_loss, labels != -100, sample_weights)


def code_neighbours(codebook: torch.Tensor, num_neighbours: int) -> torch.Tensor:
    """The codes that look most like each code: the nearest ones in the codebook of the image tokenizer.

    Args:
        codebook (`torch.FloatTensor` of shape `(codebook_size, code_dim)`): Its code vectors.
        num_neighbours (`int`): How many of each, itself not among them.

    Returns:
        `torch.LongTensor` of shape `(codebook_size, num_neighbours)`, the nearest first.

    Raises:
        ValueError: If there are not as many others.
    """
    if not 0 < num_neighbours < len(codebook):
        raise ValueError(f"`num_neighbours` must be in 1..{len(codebook) - 1}, got {num_neighbours}")
    codebook = codebook.detach().float()
    nearest = []
    for rows in torch.arange(len(codebook), device=codebook.device).split(1024):  # all distances at once are large
        distances = torch.cdist(codebook[rows], codebook)  # (1024, V)
        distances.scatter_(1, rows[:, None], torch.inf)
        nearest.append(distances.topk(num_neighbours, largest=False).indices)
    return torch.cat(nearest)


def masked_labels(image_token_ids: torch.Tensor, positions: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """The masked ids at `positions`, -100 where a row was filled up; see [`~masking.masked_positions`].

    Args:
        image_token_ids (`torch.LongTensor` of shape `(batch_size, num_tokens)`): The whole images.
        positions (`torch.LongTensor` of shape `(batch_size, num_masked)`): Where logits were asked for.
        valid (`torch.BoolTensor` of shape `(batch_size, num_masked)`): `False` where `positions` is filling.

    Returns:
        `torch.LongTensor` of shape `(batch_size, num_masked)`.
    """
    return image_token_ids.gather(1, positions).masked_fill(~valid, -100)
