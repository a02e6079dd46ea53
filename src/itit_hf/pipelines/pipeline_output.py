# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What the pipeline returns: images, scores, and cycles with how far they drift."""

import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
import torch
from diffusers.utils import BaseOutput


@dataclass
class ITITCycleDrift(BaseOutput):
    """How far each text of a cycle is from its first text, and each image from its first image.

    Args:
        same_words (`torch.BoolTensor` of shape `(batch_size, num_texts)`):
            Whether the words are those of the first text, in the same order.
        word_f1 (`torch.FloatTensor` of shape `(batch_size, num_texts)`): See [`word_f1`].
        same_image_tokens (`torch.FloatTensor` of shape `(batch_size, num_images)`):
            Share of image tokens that are, place by place, those of the first image, in [0, 1].
    """

    same_words: torch.Tensor
    word_f1: torch.Tensor
    same_image_tokens: torch.Tensor


@dataclass
class ITITCycleOutput(BaseOutput):
    """Every text and every image of a cycle, in order; see [`ITITPipeline.cycle`].

    From prompts, `texts[i]` is the prompt and the `rounds` captions that followed, and image r was generated from text
    r. From images, `images[i]` is the given image, as the image tokenizer keeps it, and the `rounds` images that
    followed, and text r is the caption of image r.

    Args:
        texts (`list[list[str]]`): One list for each prompt or given image.
        images (`list[list[PIL.Image.Image]]`, `np.ndarray` or `torch.Tensor`):
            Likewise: `np.ndarray` of shape `(batch_size, num_images, height, width, 3)` in [0, 1],
            `torch.FloatTensor` of shape `(batch_size, num_images, 3, height, width)` in [0, 1], or
            `image_token_ids`.
        image_token_ids (`torch.LongTensor` of shape `(batch_size, num_images, num_image_tokens)`):
            The images as the model sees them.
        scores (`torch.FloatTensor` of shape `(batch_size, num_images)`):
            Log-likelihood of the first text given each image, per token; see [`ITITPipeline.score`].
    """

    texts: list[list[str]]
    images: list[list[PIL.Image.Image]] | np.ndarray | torch.Tensor
    image_token_ids: torch.Tensor
    scores: torch.Tensor

    def drift(self) -> ITITCycleDrift:
        """How far texts and images are from the first ones; shapes as in [`ITITCycleDrift`]."""
        return cycle_drift(self.texts, self.image_token_ids)


def _words(text: str) -> list[str]:
    """Words between white space, without case and without ASCII punctuation around them."""
    stripped = (word.strip(string.punctuation) for word in text.casefold().split())
    return [word for word in stripped if word]


def word_f1(first: str, second: str) -> float:
    r"""Harmonic mean of precision and recall of words: $2 n_{both} / (n_{first} + n_{second})$.

    Args:
        first (`str`): A text; case and the punctuation around words do not matter, nor does the order of words.
        second (`str`): Another. A word counts as often as it stands in both.

    Returns:
        `float` in [0, 1]; two texts without words are equal, 1.0.
    """
    first_words = _words(first)
    second_words = _words(second)
    if not first_words and not second_words:
        return 1.0
    both = (Counter(first_words) & Counter(second_words)).total()
    return 2 * both / (len(first_words) + len(second_words))


def cycle_drift(texts: Sequence[Sequence[str]], image_token_ids: torch.Tensor) -> ITITCycleDrift:
    """Measure each text against its chain's first text, and each image against its chain's first image.

    Args:
        texts (`Sequence[Sequence[str]]`): A chain of texts for each sample.
        image_token_ids (`torch.LongTensor` of shape `(batch_size, num_images, num_image_tokens)`): As many chains.

    Returns:
        [`ITITCycleDrift`], on the CPU.
    """
    same_words = [[_words(text) == _words(chain[0]) for text in chain] for chain in texts]
    overlap = [[word_f1(chain[0], text) for text in chain] for chain in texts]
    same_image_tokens = (image_token_ids == image_token_ids[:, :1]).float().mean(dim=-1)  # (B, R)
    return ITITCycleDrift(torch.tensor(same_words), torch.tensor(overlap), same_image_tokens.cpu())


@dataclass
class ITITScoreOutput(BaseOutput):
    """How likely texts are, given images; see [`caption_log_likelihoods`].

    Args:
        log_likelihoods (`torch.FloatTensor` of shape `(batch_size,)`):
            In nats, at most 0: the sum over a text's tokens, its end of sequence included.
        log_likelihoods_per_token (`torch.FloatTensor` of shape `(batch_size,)`):
            The mean over the same tokens, which texts of different lengths can be compared by.
    """

    log_likelihoods: torch.Tensor
    log_likelihoods_per_token: torch.Tensor


@dataclass
class ITITPipelineOutput(BaseOutput):
    """Output of [`ITITPipeline`].

    Args:
        images (`list[PIL.Image.Image]`, `np.ndarray` or `torch.Tensor`):
            Images, grouped by prompt: `np.ndarray` of shape `(n, height, width, 3)` in [0, 1], `torch.FloatTensor`
            of shape `(n, 3, height, width)` in [0, 1], or image token ids of shape `(n, num_image_tokens)`.
        scores (`torch.FloatTensor` of shape `(n,)`, *optional*):
            With `return_best`, log-likelihood per token of an image's prompt, see [`ITITPipeline.score`]; with
            `rerank`, its scores.
    """

    images: list[PIL.Image.Image] | np.ndarray | torch.Tensor
    scores: torch.Tensor | None = None
