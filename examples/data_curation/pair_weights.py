# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""How far a pair can be trusted, by the loss it has, and which texts to hear more often. Experimental.

A model learns what holds for many pairs before it learns single ones by heart, so a wrong pair has a large loss (after
NLIP, https://huggingface.co/papers/2212.07086, which weighs a contrastive loss so). The column `sample_weight` of a
dataset scales what its pairs count in `t2i` and `i2t`.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from tqdm.auto import tqdm

from .filters import texts_of, words_of

_ROUNDS = 200
_LEAST_VARIANCE = 1e-4  # of the whole variance: a component may not shrink to a point


def pair_losses(pipe, rows: Sequence[Mapping], batch_size: int = 64) -> torch.Tensor:
    """Nats per token of the captions, given their image: the loss of image to text, with nothing hidden.

    Args:
        pipe ([`ITITPipeline`]): In evaluation mode. It should not know the pairs by heart.
        rows: A `datasets.Dataset`, or any sequence of dictionaries, with `image` and `text`.
        batch_size (`int`, *optional*, defaults to 64): Rows at a time.

    Returns:
        `torch.FloatTensor` of shape `(num_rows,)`: Of several captions, the mean.
    """
    losses = []
    starts = range(0, len(rows), batch_size)
    for start in tqdm(starts, desc="pair losses", disable=len(starts) < 2):
        batch = [rows[i] for i in range(start, min(start + batch_size, len(rows)))]
        texts = [texts_of(row) for row in batch]
        images = [row["image"] for row, own in zip(batch, texts, strict=True) for _ in own]
        scores = pipe.score(images, [text for own in texts for text in own]).log_likelihoods_per_token
        losses += [-own.mean() for own in scores.split([len(own) for own in texts])]
    return torch.stack(losses).cpu()


def clean_probabilities(losses: torch.Tensor) -> torch.Tensor:
    """Probability that each loss belongs to the lower of two Gaussians, fitted by expectation maximisation.

    The fit starts from the lower and the upper half, and draws nothing. Below the lower mean the probability is that
    at the mean, as the wider Gaussian would win again far out.

    Args:
        losses (`torch.Tensor` of shape `(num_pairs,)`): Such as those of [`pair_losses`].

    Returns:
        `torch.DoubleTensor` of shape `(num_pairs,)`, in [0, 1], which never grows with the loss.

    Raises:
        ValueError: If there are fewer than four, or one is not finite; or all are the same.
    """
    values = losses.double().flatten()
    if len(values) < 4 or not values.isfinite().all() or values.max() == values.min():
        raise ValueError("`losses` must be four or more finite numbers that are not all the same")
    least = _LEAST_VARIANCE * values.var(correction=0)
    half = values.sort().values.chunk(2)
    means, variances = (torch.stack([statistic(part) for part in half]) for statistic in (torch.mean, torch.var))
    shares = torch.full((2,), 0.5, dtype=torch.double)
    for _ in range(_ROUNDS):
        member = _memberships(values, means, variances.clamp(min=least), shares)  # (N, 2)
        sizes = member.sum(dim=0).clamp(min=1e-12)
        means = (member * values[:, None]).sum(dim=0) / sizes
        variances = (member * (values[:, None] - means) ** 2).sum(dim=0) / sizes
        shares = sizes / len(values)
    order = means.argsort()
    between = values.clamp(means.min(), means.max())
    member = _memberships(between, means[order], variances[order].clamp(min=least), shares[order])  # (N, 2)
    return member[:, 0]


def _memberships(values, means, variances, shares) -> torch.Tensor:
    logits = shares.log() - 0.5 * (variances * 2 * math.pi).log() - (values[:, None] - means) ** 2 / (2 * variances)
    return logits.softmax(dim=1)


def word_balanced_indices(
    texts: Sequence[str], number: int, generator: torch.Generator, power: float = 0.5
) -> torch.Tensor:
    """Which texts to take so that rare words are heard more often: a text is drawn in proportion to the mean of
    `frequency ** -power` over its words.

    Args:
        texts (`Sequence[str]`): The corpus.
        number (`int`): How many to draw, with replacement.
        generator (`torch.Generator`): Of the draws.
        power (`float`, *optional*, defaults to 0.5): 0 draws each text alike; 1 gives each word the same weight.

    Returns:
        `torch.LongTensor` of shape `(number,)`.

    Raises:
        ValueError: If a text has no word, or there is no text.
    """
    words = [words_of(text) for text in texts]
    empty = [i for i, own in enumerate(words) if not own]
    if empty or not words:
        raise ValueError(f"`texts` must have words each, those at {empty[:5]} have none")
    frequencies = Counter(word for own in words for word in own)
    weights = [sum(frequencies[word] ** -power for word in own) / len(own) for own in words]
    return torch.multinomial(torch.tensor(weights, dtype=torch.double), number, replacement=True, generator=generator)


def bag_of_words(text: str, common: frozenset[str] = frozenset()) -> str:
    """A text as its different words in alphabetical order, the common ones left out: extra unpaired text that says
    what is there and not how.

    Args:
        text (`str`): A caption.
        common (`frozenset[str]`, *optional*): Words that say little, such as those of [`common_words`].

    Returns:
        `str`, empty if all its words are common.
    """
    return " ".join(sorted(set(words_of(text)) - common))


def common_words(texts: Sequence[str], share: float = 0.2) -> frozenset[str]:
    """Words that stand in more than a share of the texts.

    Args:
        texts (`Sequence[str]`): The corpus.
        share (`float`, *optional*, defaults to 0.2): Of the texts.

    Returns:
        `frozenset[str]`.
    """
    found = Counter(word for text in texts for word in set(words_of(text)))
    return frozenset(word for word, count in found.items() if count > share * len(texts))
