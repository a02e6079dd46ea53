# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Inputs of the model that are more than one tensor: a mask, an encoded text, a reconstruction.

Each is a pytree, so that `torch.compile`, `torch.export` and FSDP find its tensors, and has `to`, which the hooks of
accelerate call.
"""

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch

Group = TypeVar("Group", bound="TensorGroup")


@dataclass(frozen=True)
class TensorGroup:
    """What the types of this module have in common."""

    def to(self: Group, device: torch.device | str | None, non_blocking: bool = False) -> Group:
        """The same with its tensors on `device`; they keep their shapes."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {name: value for name, value in values.items() if value is not None}
        return replace(self, **{name: value.to(device, non_blocking=non_blocking) for name, value in tensors.items()})


@dataclass(frozen=True)
class ImageMask(TensorGroup):
    """M of the paper: which image tokens are masked, and which positions the encoder is given of them.

    The encoder sees each visible token. Of masked ones it sees none, or some as mask embeddings (MAGE's rule, see
    [`~masking.drop_masked`]).

    Args:
        bool_masked_pos (`torch.BoolTensor` of shape `(batch_size, num_image_tokens)`): `True` where masked.
        encoder_positions (`torch.LongTensor` of shape `(batch_size, num_encoded)`, *optional*):
            Positions that the encoder is given, ascending; all by default.
        encoder_attention_mask (`torch.BoolTensor` of shape `(batch_size, num_encoded)`, *optional*):
            `False` where a row of `encoder_positions` is shorter than others and was filled up; nothing is filled up
            by default.
    """

    bool_masked_pos: torch.Tensor
    encoder_positions: torch.Tensor | None = None
    encoder_attention_mask: torch.Tensor | None = None

    @property
    def num_encoded(self) -> int:
        """Image positions that the encoder is given of each row."""
        positions = self.bool_masked_pos if self.encoder_positions is None else self.encoder_positions
        return positions.size(1)

    def repeat(self, times: int) -> "ImageMask":
        """The mask of `times` copies of the batch, one below the other; `(times * batch_size, ...)`."""
        tensors = (self.bool_masked_pos, self.encoder_positions, self.encoder_attention_mask)
        return ImageMask(*(None if tensor is None else tensor.repeat(times, 1) for tensor in tensors))


@dataclass(frozen=True)
class TextCondition(TensorGroup):
    """T of the paper, as the image-text encoder is given it: what an image is generated from.

    Args:
        embeds (`torch.FloatTensor` of shape `(batch_size, text_length, text_hidden_size)`):
            Last hidden states of the text encoder.
        attention_mask (`torch.Tensor` of shape `(batch_size, text_length)`, *optional*):
            1 for text, 0 for padding; `None` when nothing is padded.
    """

    embeds: torch.Tensor
    attention_mask: torch.Tensor | None = None


@dataclass(frozen=True)
class SoftTokens(TensorGroup):
    r"""Image tokens that gradient passes through: $\tilde I$ of equation (3), where it was predicted.

    In the forward pass a token is the argmax of its logits, in the backward pass it has the gradient of their softmax
    (section 3.2).

    Args:
        logits (`torch.FloatTensor` of shape `(batch_size, num_soft, codebook_size)`): Of the codes.
        positions (`torch.LongTensor` of shape `(batch_size, num_soft)`): Where these tokens stand in the image.
        train_embeddings (`torch.BoolTensor` of shape `(batch_size, num_soft)`, *optional*):
            Which of them train the embeddings of their codes; all by default.
    """

    logits: torch.Tensor
    positions: torch.Tensor
    train_embeddings: torch.Tensor | None = None


for _type in (ImageMask, TextCondition, SoftTokens):
    torch.export.register_dataclass(_type, serialized_type_name=f"{_type.__module__}.{_type.__name__}")
