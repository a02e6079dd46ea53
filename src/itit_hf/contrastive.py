# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Losses that teach a dual encoder which text belongs to which picture of a batch."""

import torch
from torch.nn import functional as F

_PAIR_SHARE = 0.5  # of a target that stays on the pair itself
_TRANSPORT_TEMPERATURE = 0.15
_TRANSPORT_ROUNDS = 50


def contrastive_loss(
    logits: torch.Tensor, targets: torch.Tensor | None = None, label_smoothing: float = 0.1
) -> torch.Tensor:
    r"""ALIGN's loss, equations (1) and (2): the sum of two cross entropies, of the texts for each picture and of the
    pictures for each text. What else is in the batch is what they are told apart from.

    Transformers' `AlignModel` gives the mean of the two; half of this.

    Args:
        logits (`torch.FloatTensor` of shape `(batch_size, batch_size)`): Cosines over sigma; a row for each picture.
        targets (`torch.FloatTensor` of shape `(batch_size, batch_size)`, *optional*):
            Probabilities of the texts for each picture, as from [`transport_targets`]; rows and columns sum to 1. By
            default a picture's text is its own.
        label_smoothing (`float`, *optional*, defaults to 0.1): Share of the target spread over the batch.

    Returns:
        `torch.FloatTensor` of shape `()`, in nats.
    """
    own = torch.arange(len(logits), device=logits.device)
    of_images, of_texts = (own, own) if targets is None else (targets, targets.T)
    return F.cross_entropy(logits, of_images, label_smoothing=label_smoothing) + F.cross_entropy(
        logits.T, of_texts, label_smoothing=label_smoothing
    )


@torch.no_grad()
def transport_targets(image_embeds: torch.Tensor, text_embeds: torch.Tensor) -> torch.Tensor:
    """OTTER's soft targets (https://huggingface.co/papers/2112.09445), experimental: half of a picture's target is its
    own text, half goes to the others, by the optimal transport between pictures and texts that look alike.

    OTTER takes the embeddings from a moving average of the weights; these are the model's own of this step.

    Args:
        image_embeds (`torch.FloatTensor` of shape `(batch_size, embed_dim)`): Of length 1.
        text_embeds (`torch.FloatTensor` of shape `(batch_size, embed_dim)`): Of length 1.

    Returns:
        `torch.FloatTensor` of shape `(batch_size, batch_size)`, of which rows and columns sum to 1.
    """
    alike = (image_embeds @ image_embeds.T + text_embeds @ text_embeds.T).float() / _TRANSPORT_TEMPERATURE
    own = torch.eye(len(alike), dtype=torch.bool, device=alike.device)
    plan = alike.masked_fill(own, -1e4)  # its own text has its share already
    for _ in range(_TRANSPORT_ROUNDS):  # Sinkhorn, in logarithms
        plan = plan - plan.logsumexp(dim=0, keepdim=True)
        plan = plan - plan.logsumexp(dim=1, keepdim=True)
    return _PAIR_SHARE * own.float() + (1.0 - _PAIR_SHARE) * plan.exp()
