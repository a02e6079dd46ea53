# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Text -> image -> text -> image ... (Figures 6 and 10): the loop."""

from collections.abc import Callable

import torch


def run_cycle(
    generate: Callable[[list[str]], torch.Tensor],
    caption: Callable[[torch.Tensor], list[str]],
    rounds: int,
    texts: list[str] | None = None,
    image_token_ids: torch.Tensor | None = None,
) -> tuple[list[list[str]], torch.Tensor]:
    """Generate images and caption them, `rounds` times, from texts or from images.

    Args:
        generate (`Callable`): Texts -> ids of shape `(batch_size, num_image_tokens)`.
        caption (`Callable`): Ids of that shape -> texts.
        rounds (`int`): Images, and captions, that are generated, at least 1.
        texts (`list[str]`, *optional*): The start; exactly one of the two is given.
        image_token_ids (`torch.LongTensor` of shape `(batch_size, num_image_tokens)`, *optional*): The start.

    Returns:
        `(texts, image_token_ids)`: a list for each sample, and a tensor of shape
        `(batch_size, num_images, num_image_tokens)`; both hold the start if it is of their kind.
    """
    all_texts = [] if texts is None else [texts]
    all_ids = [] if image_token_ids is None else [image_token_ids]
    for _ in range(rounds):
        if texts is None:
            all_texts.append(caption(all_ids[-1]))
            all_ids.append(generate(all_texts[-1]))
        else:
            all_ids.append(generate(all_texts[-1]))
            all_texts.append(caption(all_ids[-1]))
    return [list(chain) for chain in zip(*all_texts, strict=True)], torch.stack(all_ids, dim=1)
