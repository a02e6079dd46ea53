# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Dense image features where a picture is described, token ids where it is drawn (UMT, two-level features).

What the image tokenizer has before it quantizes says more than the code that is nearest to it, so `image_features:
latents` projects these latents in place of embedding the codes. Drawing needs classes, and stays on codes.

A picture that the model drew has no latents, only codes. Their code vectors stand in for them, everywhere: they lie
in the latents' own space, are what the tokenizer's commitment loss pulls latents to, and differ from the latents of a
real picture by the quantization error alone. So text -> image -> text stays differentiable: the straight-through
sample is $\sum_k p_k e_k$, its forward pass one code vector $e_k$ and its backward pass the gradient of the
expectation under the softmax $p$. The projection is linear and $\sum_k p_k = 1$, hence
$W \sum_k p_k e_k + b = \sum_k p_k (W e_k + b)$: the cycle's estimator is the one that it has on codes, with the
projected codebook as its table.
"""

import torch
from torch import nn

from .configuration_itit import ITITConfig


class ITITLatentEmbedding(nn.Module):
    """Projects an image tokenizer's latents to the width of the encoder.

    `codebook`, a saved buffer of shape `(codebook_size, image_latent_size)`, holds the image tokenizer's code vectors;
    with it a drawn picture is described without the image tokenizer.

    Args:
        config ([`ITITConfig`]): With `image_features="latents"`.
    """

    def __init__(self, config: ITITConfig):
        super().__init__()
        self.projection = nn.Linear(config.image_latent_size, config.hidden_size)
        self.register_buffer("codebook", torch.zeros(config.codebook_size, config.image_latent_size))

    @property
    def code_embeddings(self) -> torch.Tensor:
        """Projected code vectors, of shape `(codebook_size, hidden_size)`."""
        return self.projection(self.codebook)

    def forward(self, image_latents: torch.Tensor | None) -> torch.Tensor:
        """Latents of shape `(batch_size, num_image_tokens, image_latent_size)` -> `(..., hidden_size)`.

        Raises:
            ValueError: If there are none, or they have another number of channels.
        """
        if image_latents is None:
            raise ValueError(
                '`image_latents` must be given: a picture is described by them with `image_features="latents"`; the '
                "processor makes them, and `model.drawn_image` those of a picture that is known by its codes alone"
            )
        if image_latents.size(-1) != self.codebook.size(1):
            raise ValueError(
                f"`image_latents` must have {self.codebook.size(1)} channels, got shape {tuple(image_latents.shape)}"
            )
        return self.projection(image_latents.to(self.projection.weight.dtype))

    @torch.no_grad()
    def set_codebook(self, codebook: torch.Tensor):
        """Keep the image tokenizer's code vectors.

        Args:
            codebook (`torch.FloatTensor` of shape `(codebook_size, image_latent_size)`): The image tokenizer's.

        Raises:
            ValueError: If the shape is another.
        """
        if codebook.shape != self.codebook.shape:
            raise ValueError(f"`codebook` must be {tuple(self.codebook.shape)}, got {tuple(codebook.shape)}")
        self.codebook.copy_(codebook)
