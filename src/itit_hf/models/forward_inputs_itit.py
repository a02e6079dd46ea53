# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What the models of ITIT take besides images: the text decoder's inputs, and what libraries pass to every model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

import torch
from transformers.cache_utils import Cache

from .compilation_itit import check_values
from .configuration_itit import ITITConfig


class ITITForwardKwargs(TypedDict, total=False):
    """What each `forward` takes besides its own arguments, as libraries pass it to every model.

    Args:
        output_hidden_states (`bool`, `int` or `list[int]`): Return hidden states: all, or those of these indices.
        output_attentions (`bool`): Return attention weights; with eager attention.
        return_dict (`bool`): `False` returns a tuple.
        pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, height, width)`):
            What the processor returns beside `image_token_ids`, which are what is seen of them.
        shift_labels (`torch.LongTensor` of shape `(batch_size, length)`):
            In place of `labels`: already shifted, each the token that is to follow.
        num_items_in_batch (`int` or `torch.Tensor`):
            The loss is the sum over all labels divided by this, in place of their mean.
    """

    output_hidden_states: bool | int | list[int] | None
    output_attentions: bool | None
    return_dict: bool | None
    pixel_values: torch.FloatTensor | None
    shift_labels: torch.LongTensor | None
    num_items_in_batch: int | torch.Tensor | None


def check_kwargs(name: str, kwargs: Mapping, has_image: bool):
    """Refuse what is no argument, as Python does, and what is one and would have no effect.

    Args:
        name (`str`): Of the model's class.
        kwargs (`Mapping`): What `forward` was given besides its own arguments.
        has_image (`bool`): Whether it was given an image that the model sees.

    Raises:
        TypeError: If there is an argument that [`ITITForwardKwargs`] does not name, and it is not `None`.
        ValueError: If there are pixels and no image that the model sees.
    """
    given = {name for name, value in kwargs.items() if value is not None}
    unknown = sorted(given - set(ITITForwardKwargs.__annotations__))
    if unknown:
        raise TypeError(f"{name}.forward() got unexpected keyword arguments {unknown}")
    if "pixel_values" in given and not has_image:
        raise ValueError(
            "`pixel_values` alone are not seen: give `image_token_ids` too, which a processor with an "
            "`image_tokenizer` makes of them"
        )


def check_outputs(has_text: bool, has_logit_positions: bool, records_text: bool, records_image: bool):
    """That there is something to predict, and that a decoder runs of which something is to be recorded.

    Args:
        has_text (`bool`): Whether the text decoder runs.
        has_logit_positions (`bool`): Whether the image decoder runs.
        records_text (`bool`): Whether hidden states or attentions of the text decoder are to be returned.
        records_image (`bool`): The same of the image decoder.

    Raises:
        ValueError: If it is not so.
    """
    if not has_text and not has_logit_positions:
        raise ValueError("nothing to predict: give `input_ids` for text logits or `logit_positions` for image logits")
    if records_text and not has_text:
        raise ValueError(
            "`output_hidden_states` and `output_attentions` are the text decoder's, and there is no text: the image "
            "decoder's are `output_image_hidden_states` and `output_image_attentions`"
        )
    if records_image and not has_logit_positions:
        raise ValueError(
            "`output_image_hidden_states` and `output_image_attentions` need `logit_positions`: without them the "
            "image decoder does not run"
        )


def kept_rows(rows: torch.Tensor, logits_to_keep: int | torch.Tensor) -> torch.Tensor:
    """What stands where logits are wanted.

    Args:
        rows (`torch.Tensor` of shape `(batch_size, length, ...)`): A row for each place.
        logits_to_keep (`int` or `torch.LongTensor` of shape `(num_places,)`): The last n places, 0 is all; or these.

    Returns:
        `torch.Tensor` of shape `(batch_size, num_places, ...)`.
    """
    return rows[:, -logits_to_keep:] if isinstance(logits_to_keep, int) else rows[:, logits_to_keep]


@dataclass(frozen=True)
class TextInputs:
    """What the text decoder is given besides the encoded image.

    Args:
        input_ids (`torch.LongTensor` of shape `(batch_size, length)`, *optional*): As [`ITITForCaptioning`] has them.
        inputs_embeds (`torch.FloatTensor` of shape `(batch_size, length, decoder_hidden_size)`, *optional*): Likewise.
        attention_mask (`torch.Tensor` of shape `(batch_size, length)`, *optional*): Likewise.
        position_ids (`torch.LongTensor` of shape `(batch_size, length)`, *optional*): Likewise.
        past_key_values (`Cache`, *optional*): Likewise.
        use_cache (`bool`, *optional*): Likewise.
        logits_to_keep (`int` or `torch.LongTensor` of shape `(num_places,)`): Likewise.
        every_row (`bool`): Whether all rows of all blocks are recorded, not only those that logits are wanted of.
    """

    input_ids: torch.Tensor | None
    inputs_embeds: torch.Tensor | None
    attention_mask: torch.Tensor | None
    position_ids: torch.Tensor | None
    past_key_values: Cache | None
    use_cache: bool | None
    logits_to_keep: int | torch.Tensor
    every_row: bool

    @property
    def given(self) -> torch.Tensor:
        """Ids of shape `(batch_size, length)`, or their embeddings `(batch_size, length, decoder_hidden_size)`."""
        return self.input_ids if self.inputs_embeds is None else self.inputs_embeds

    def for_each(self, features: torch.Tensor) -> torch.Tensor:
        """Features of the images for each of their texts, of which an image has one, or several that stand together.

        Args:
            features (`torch.FloatTensor` of shape `(num_images, num_features, hidden_size)`): Encoded images.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, num_features, hidden_size)`.
        """
        num_texts = self.given.size(0)
        num_images = features.size(0)
        return features if num_images >= num_texts else features.repeat_interleave(num_texts // num_images, dim=0)

    def check(self, config: ITITConfig, num_past: int | torch.Tensor, num_features: int | None):
        """That there is one text, a place in it for an image only if there is one, and a position for each token.

        Args:
            config ([`ITITConfig`]): The model's.
            num_past (`int` or `torch.Tensor` of shape `()`): Places in the cache.
            num_features (`int`, *optional*): Features of the encoded image, if one is given.

        Raises:
            ValueError: If it is not so.
        """
        if (self.input_ids is None) == (self.inputs_embeds is None):
            raise ValueError("give exactly one of `input_ids` and `inputs_embeds`")
        if num_features is None and self.past_key_values is None:
            if self.input_ids is not None:
                check_values(
                    (self.input_ids != config.image_token_id).all(),
                    "`input_ids` hold placeholders of an image, and no image is given: give `image_token_ids`, "
                    "`image_latents` or `encoder_hidden_states`",
                )
            num_features = 0
        self._check_length(config, num_past, config.num_prefix_tokens if num_features is None else num_features)

    def _check_length(self, config: ITITConfig, num_past, prefix_length: int):
        length = num_past + self.given.size(1) - prefix_length - 1
        longest = config.max_text_length
        # A static cache counts on the device: to ask it is to wait, and it holds no more than it was made for.
        if not isinstance(length, int) or length <= longest:
            return
        if self.attention_mask is not None:  # padding has no positions
            if self.position_ids is not None or self.attention_mask.ndim != 2:
                return  # as in `generate`, where padded rows end at the last position
            length = int(self.attention_mask.sum(dim=-1).max()) - prefix_length - 1
        if length > longest:
            raise ValueError(
                f"the text has {length} tokens after [BOS], more than `max_text_length` {longest}: lower "
                "`max_new_tokens` or shorten `input_ids`"
            )

    def positions(self, config: ITITConfig, num_past: int | torch.Tensor) -> torch.Tensor | None:
        """Positions in the text, 0 for [BOS], where they cannot be counted from the ids.

        Args:
            config ([`ITITConfig`]): The model's.
            num_past (`int` or `torch.Tensor` of shape `()`): Places in the cache.

        Returns:
            `torch.LongTensor` of shape `(batch_size, length)` or `(1, length)`, or `None`.
        """
        positions = self.position_ids
        mask = self.attention_mask
        length = self.given.size(1)
        if positions is None and num_past:
            if mask is not None and mask.ndim == 2:
                positions = (mask.long().cumsum(dim=-1) - 1)[:, -length:]
            else:
                positions = torch.arange(num_past, num_past + length, device=self.given.device)[None]
        return None if positions is None else positions - config.num_prefix_tokens  # the text is behind the image
