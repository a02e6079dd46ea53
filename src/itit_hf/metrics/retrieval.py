# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Figures of scores between queries and what is searched: recall at k, R-precision, CLIPScore."""

import re
from collections.abc import Sequence

import torch


def best_ranks(scores: torch.Tensor, relevant: torch.Tensor) -> torch.Tensor:
    """Where the best relevant entry of each query stands; of equal scores the earlier entry stands first.

    Args:
        scores (`torch.FloatTensor` of shape `(num_queries, num_entries)`): Larger is nearer.
        relevant (`torch.BoolTensor` of shape `(num_queries, num_entries)`): What counts as found, one or more a query.

    Returns:
        `torch.LongTensor` of shape `(num_queries,)`, from 0.

    Raises:
        ValueError: If the shapes differ, a score is not finite, or a query has nothing relevant.
    """
    if scores.shape != relevant.shape or scores.dim() != 2:
        raise ValueError(
            f"`scores` and `relevant` must be of one shape (num_queries, num_entries), got {tuple(scores.shape)} "
            f"and {tuple(relevant.shape)}"
        )
    if not scores.isfinite().all():
        raise ValueError("`scores` must be finite")
    without = (~relevant.any(dim=1)).nonzero()[:, 0].tolist()
    if without:
        raise ValueError(f"`relevant` must name an entry for each query, queries {without[:5]} have none")
    best = scores.masked_fill(~relevant, -torch.inf).amax(dim=1, keepdim=True)
    first = ((scores == best) & relevant).int().argmax(dim=1, keepdim=True)  # the earliest of equal ones
    earlier = torch.arange(scores.size(1), device=scores.device) < first
    return ((scores > best) | ((scores == best) & earlier)).sum(dim=1)


def recall_at_k(scores: torch.Tensor, relevant: torch.Tensor, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Share of the queries that find something relevant among their first k entries; see [`best_ranks`].

    Args:
        scores (`torch.FloatTensor` of shape `(num_queries, num_entries)`): Larger is nearer.
        relevant (`torch.BoolTensor` of shape `(num_queries, num_entries)`): What counts as found.
        ks (`Sequence[int]`): How many entries are looked at.

    Returns:
        `dict` of `recall_at_<k>`, in [0, 1].

    Raises:
        ValueError: See [`best_ranks`].
    """
    ranks = best_ranks(scores, relevant)
    return {f"recall_at_{k}": (ranks < k).double().mean().item() for k in ks}


def r_precision(own_scores: torch.Tensor, other_scores: torch.Tensor) -> float:
    """Share of images whose own text scores above every other one that it is held against; a tie is a miss.

    Args:
        own_scores (`torch.FloatTensor` of shape `(num_images,)`): Of each image and its text.
        other_scores (`torch.FloatTensor` of shape `(num_images, num_others)`): Of each image and wrong texts;
            99 random ones are usual, changed copies of its text make it hard. `-inf` stands for none.

    Returns:
        `float` in [0, 1].

    Raises:
        ValueError: If the shapes do not go together, or a score is NaN.
    """
    if other_scores.dim() != 2 or len(other_scores) != len(own_scores) or not other_scores.size(1):
        raise ValueError(
            f"`other_scores` must be ({len(own_scores)}, num_others), of one or more, got {tuple(other_scores.shape)}"
        )
    if own_scores.isnan().any() or other_scores.isnan().any():
        raise ValueError("`own_scores` and `other_scores` must not be NaN")
    return (own_scores > other_scores.max(dim=1).values).double().mean().item()


def clip_score(cosines: torch.Tensor) -> dict[str, float]:
    """CLIPScore in the two scales that papers use.

    Args:
        cosines (`torch.FloatTensor` of shape `(num_images,)`): Of each image and its text.

    Returns:
        `dict` with `clip_score`, the mean of 100 * max(cos, 0), and `clip_score_w`, that of 2.5 * max(cos, 0) (the w
        of https://huggingface.co/papers/2104.08718).
    """
    mean = cosines.double().clamp(min=0.0).mean().item()
    return {"clip_score": 100.0 * mean, "clip_score_w": 2.5 * mean}


def ref_clip_score(cosines: torch.Tensor, reference_cosines: Sequence[torch.Tensor]) -> float:
    """RefCLIPScore (https://huggingface.co/papers/2104.08718): of each caption the harmonic mean of 2.5 * max(cos, 0)
    with its image and of its largest max(cos, 0) with a true caption.

    Args:
        cosines (`torch.FloatTensor` of shape `(num_images,)`): Of each image and its caption.
        reference_cosines (`Sequence[torch.FloatTensor]`): Of each caption and the true ones of its image, of shape
            `(num_references,)` each.

    Returns:
        `float`, the mean over images; 0 where a caption has nothing to do with one of the two.

    Raises:
        ValueError: If there are not as many sets of true captions as images, or one is empty.
    """
    if len(reference_cosines) != len(cosines) or any(len(values) == 0 for values in reference_cosines):
        raise ValueError(
            f"`reference_cosines` must be {len(cosines)} sets of one at least, got "
            f"{[len(values) for values in reference_cosines][:5]} of {len(reference_cosines)}"
        )
    with_image = 2.5 * cosines.double().clamp(min=0.0)
    with_texts = torch.stack([values.double().max() for values in reference_cosines]).clamp(min=0.0)
    product = 2.0 * with_image * with_texts
    return (product / (with_image + with_texts).clamp(min=torch.finfo(torch.float64).tiny)).mean().item()


def random_others(texts: Sequence[str], number: int, seed: int) -> torch.Tensor:
    """For each text, others to hold its image against, which do not say the same words.

    Args:
        texts (`Sequence[str]`): One for each image.
        number (`int`): How many others each has; all different texts if there are fewer.
        seed (`int`): Of the draw.

    Returns:
        `torch.LongTensor` of shape `(num_texts, num_others)`: Places in `texts`, of a different text each.

    Raises:
        ValueError: If all texts are the same.
    """
    if len(set(texts)) < 2:
        raise ValueError("`texts` must not all be the same")
    different = list(dict.fromkeys(texts))
    places = {text: place for place, text in reversed(list(enumerate(texts)))}
    number = min(number, len(different) - 1)
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for text in texts:
        order = torch.randperm(len(different), generator=generator)[: number + 1].tolist()
        rows.append([places[different[i]] for i in order if different[i] != text][:number])  # one too many was drawn
    return torch.tensor(rows)


def hard_texts(text: str, groups: Sequence[Sequence[str]]) -> list[str]:
    """Copies of a text with one word changed for another of its group: a colour, a thing, a number. "a" and "an" are
    put right.

    Args:
        text (`str`): A caption.
        groups (`Sequence[Sequence[str]]`): Words of which one may stand for another.

    Returns:
        `list[str]`, empty if no word is of a group.
    """
    changed = []
    for group in groups:
        for word in group:
            found = re.compile(rf"\b{re.escape(word)}\b", re.IGNORECASE)
            if found.search(text):
                changed += [_with_articles(found.sub(other, text)) for other in group if other != word]
    return changed


def _with_articles(text: str) -> str:
    def article(match: re.Match) -> str:
        right = "an" if match[2].lower() in "aeiou" else "a"
        return (right.capitalize() if match[1][0].isupper() else right) + " " + match[2]

    return re.sub(r"\b(an?) (\w)", article, text, flags=re.IGNORECASE)
