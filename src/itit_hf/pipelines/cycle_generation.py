# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Text -> image -> text -> image ... (Figures 6 and 10): the loop."""

from collections.abc import Callable

import torch


def run_cycle(
    draw: Callable[[list[str]], torch.Tensor],
    describe: Callable[[torch.Tensor], list[str]],
    rounds: int,
    texts: list[str] | None = None,
    image_token_ids: torch.Tensor | None = None,
) -> tuple[list[list[str]], torch.Tensor]:
    """Draw what was said and describe what was drawn, `rounds` times, from texts or from images.

    Args:
        draw (`Callable`): Texts -> ids of shape `(batch_size, num_image_tokens)`.
        describe (`Callable`): Ids of that shape -> texts.
        rounds (`int`): Images drawn, and captions said, at least 1.
        texts (`list[str]`, *optional*): The start; exactly one of the two is given.
        image_token_ids (`torch.LongTensor` of shape `(batch_size, num_image_tokens)`, *optional*): The start.

    Returns:
        `(texts, image_token_ids)`: a list for each sample, and a tensor of shape
        `(batch_size, num_images, num_image_tokens)`; both hold the start if it is of their kind.
    """
    said = [] if texts is None else [texts]
    drawn = [] if image_token_ids is None else [image_token_ids]
    for _ in range(rounds):
        if texts is None:
            said.append(describe(drawn[-1]))
            drawn.append(draw(said[-1]))
        else:
            drawn.append(draw(said[-1]))
            said.append(describe(drawn[-1]))
    return [list(chain) for chain in zip(*said, strict=True)], torch.stack(drawn, dim=1)
