# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The two teacher-forced passes that every objective is made of: caption an image, and predict its masked tokens."""

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch

from ..masking import masked_positions
from ..models.types_itit import ImageMask, TextCondition
from .losses import masked_labels

T = TypeVar("T")


class PassModel(Protocol):
    """What a pass asks of a model: to be called by the names of [`ITITForPreTraining`]'s arguments. A wrapper such as
    `DistributedDataParallel` has that too; what `unwrap` finds in it has a configuration."""

    def __call__(self, **inputs: Any) -> Any:
        """The outputs of [`ITITForPreTraining`], by their names."""


def unwrap(model) -> Any:
    """The network inside a wrapper such as `DistributedDataParallel`: what has the configuration and `generate`.

    Args:
        model: Wrapped or not.
    """
    return getattr(model, "module", model)


@dataclass(frozen=True)
class GradientScales:
    """How much of a gradient the encoder is given.

    Args:
        text (`float`): Of the text decoder's: `text_gradient_scale` of [`ITITForPreTraining`].
        encoder (`float`): Of both decoders': `encoder_gradient_scale` there.
    """

    text: float = 1.0
    encoder: float = 1.0


@dataclass
class ForwardOutput:
    """What the decoders predict, and the labels; shapes as in [`~objectives.losses.caption_loss`] and
    [`~objectives.losses.masked_image_loss`].

    Args:
        text_logits (`torch.FloatTensor` of shape `(batch_size, text_length, num_text_tokens)`, *optional*)
        text_labels (`torch.LongTensor` of shape `(batch_size, text_length)`, *optional*)
        image_logits (`torch.FloatTensor` of shape `(batch_size, num_masked, codebook_size)`, *optional*)
        image_labels (`torch.LongTensor` of shape `(batch_size, num_masked)`, *optional*)
        positions (`torch.LongTensor` of shape `(batch_size, num_masked)`, *optional*): Where the image logits are.
        valid (`torch.BoolTensor` of shape `(batch_size, num_masked)`, *optional*): `False` at filling.
        predicted_embeds (`torch.FloatTensor` of shape `(batch_size, text_length, embedding_size)`, *optional*):
            See [`ITITForPreTraining`].
        predicted_ids (`torch.LongTensor` of shape `(batch_size, text_length)`, *optional*): As there.
    """

    text_logits: torch.Tensor | None = None
    text_labels: torch.Tensor | None = None
    image_logits: torch.Tensor | None = None
    image_labels: torch.Tensor | None = None
    positions: torch.Tensor | None = None
    valid: torch.Tensor | None = None
    predicted_embeds: torch.Tensor | None = None
    predicted_ids: torch.Tensor | None = None


def present(value: T | None, name: str) -> T:
    """What a pass that was asked for it has to give.

    Args:
        value (*optional*): Such as the `image_logits` of a [`ForwardOutput`].
        name (`str`): What it is called.

    Raises:
        ValueError: If there is none.
    """
    if value is None:
        raise ValueError(f"the pass has no `{name}`: it was not asked for any")
    return value


def caption_forward(
    model: PassModel,
    image: dict[str, Any],
    image_mask: ImageMask,
    text: dict[str, torch.Tensor],
    gradient_scales: GradientScales = GradientScales(),
    with_image_logits: bool = False,
    text_embedding_table: torch.Tensor | None = None,
) -> ForwardOutput:
    r"""Image to text, $p(t_l | I_M, t_0 ... t_{l-1})$, and in the same encoder pass image to image if asked for.

    Args:
        model: Called like [`ITITForPreTraining`]; the wrapped one when it is distributed.
        image (`dict`): What the encoder is given, by the names of the model's arguments: `image_token_ids` of shape
            `(batch_size, num_image_tokens)`; `image_latents` if they are what is captioned; `soft_tokens` of a
            reconstruction; `text_condition` when the encoder is given a text too.
        image_mask ([`~models.types_itit.ImageMask`]): M.
        text (`dict`): `input_ids` and `attention_mask` of shape `(batch_size, text_length)`, see [`caption_inputs`].
        gradient_scales ([`GradientScales`], *optional*): 1.0 each by default.
        with_image_logits (`bool`, *optional*, defaults to `False`): Predict the masked image tokens too.
        text_embedding_table (`torch.FloatTensor` of shape `(num_text_tokens, embedding_size)`, *optional*):
            In place of the text logits, the most likely words' embeddings; see [`ITITForPreTraining`].

    Returns:
        [`ForwardOutput`].
    """
    config = unwrap(model).config
    text_condition = image.get("text_condition")
    text_length = config.num_null_text_tokens if text_condition is None else text_condition.embeds.size(1)
    prefix_length = image_mask.num_encoded + text_length
    decoder_input_ids, labels = caption_inputs(config, text, prefix_length)  # (B, P + L), (B, L)
    positions = valid = None
    if with_image_logits:
        positions, valid = masked_positions(image_mask.bool_masked_pos)  # (B, M)
    output = model(
        **image,
        image_mask=image_mask,
        input_ids=decoder_input_ids,
        attention_mask=_attention_mask(decoder_input_ids, image_mask, text_condition),
        use_cache=False,
        logits_to_keep=labels.size(1),
        logit_positions=positions,
        text_embedding_table=text_embedding_table,
        text_gradient_scale=gradient_scales.text,
        encoder_gradient_scale=gradient_scales.encoder,
    )
    result = ForwardOutput(
        text_labels=labels, predicted_embeds=output.predicted_embeds, predicted_ids=output.predicted_ids
    )
    if output.logits is not None:
        result.text_logits = output.logits[..., : config.num_text_tokens]
    if with_image_logits:
        result.image_logits = output.image_logits
        result.image_labels = masked_labels(image["image_token_ids"], positions, valid)
        result.positions = positions
        result.valid = valid
    return result


def _attention_mask(
    decoder_input_ids: torch.Tensor, image_mask: ImageMask, text_condition: TextCondition | None
) -> torch.Tensor | None:
    """Of `[image prefix] t_0 ... t_{L-1}`, `(B, P + L)`: 0 at filling and padding among the encoder's features, which
    stand in the prefix; `None` if there is none."""
    is_image = image_mask.encoder_attention_mask
    is_text = None if text_condition is None else text_condition.attention_mask
    if is_image is None and is_text is None:
        return None
    attention_mask = torch.ones_like(decoder_input_ids)
    num_encoded = image_mask.num_encoded
    if is_image is not None:
        attention_mask[:, :num_encoded] = is_image
    if is_text is not None:
        attention_mask[:, num_encoded : num_encoded + is_text.size(1)] = is_text
    return attention_mask


def image_forward(
    model: PassModel,
    image_token_ids: torch.Tensor,
    image_mask: ImageMask,
    text_condition: TextCondition | None = None,
    encoder_gradient_scale: float = 1.0,
    predict_mask: torch.Tensor | None = None,
) -> ForwardOutput:
    r"""Text to image, $p(i_k | I_M, T)$ at the masked k; without text, image to image.

    Args:
        model: Called like [`ITITForPreTraining`]; the wrapped one when it is distributed.
        image_token_ids (`torch.LongTensor` of shape `(batch_size, num_image_tokens)`): The whole images.
        image_mask ([`~models.types_itit.ImageMask`]): M.
        text_condition ([`~models.types_itit.TextCondition`], *optional*): T; the null text by default.
        encoder_gradient_scale (`float`, *optional*, defaults to 1.0): See [`ITITForPreTraining`].
        predict_mask (`torch.BoolTensor` of shape `(batch_size, num_image_tokens)`, *optional*):
            Which tokens to predict; the masked ones by default.

    Returns:
        [`ForwardOutput`].
    """
    if predict_mask is None:
        predict_mask = image_mask.bool_masked_pos
    positions, valid = masked_positions(predict_mask)  # (B, M)
    output = model(
        image_token_ids=image_token_ids,
        image_mask=image_mask,
        text_condition=text_condition,
        use_cache=False,
        logit_positions=positions,
        encoder_gradient_scale=encoder_gradient_scale,
    )
    labels = masked_labels(image_token_ids, positions, valid)
    return ForwardOutput(image_logits=output.image_logits, image_labels=labels, positions=positions, valid=valid)


def caption_inputs(config, text: dict[str, torch.Tensor], prefix_length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Teacher forcing: what the text decoder reads, `[image prefix] t_0 ... t_{L-1}`, and its labels,
    `t_1 ... t_L`.

    Args:
        config ([`ITITConfig`]): The model's.
        text (`dict`): `input_ids` and `attention_mask` of shape `(batch_size, text_length)`: `t_1 ... t_L` and
            padding, behind `t_0` if texts begin with it.
        prefix_length (`int`): Encoder features in front of the text.

    Returns:
        `(decoder_input_ids, labels)` of shapes `(batch_size, prefix_length + L)` and
        `(batch_size, L)`; labels are -100 at padding.
    """
    input_ids = text["input_ids"]
    attention_mask = text["attention_mask"]
    if config.text_begins_with_bos:
        input_ids = input_ids[:, 1:]
        attention_mask = attention_mask[:, 1:]
    prefix = input_ids.new_full((len(input_ids), prefix_length + 1), config.image_token_id)
    prefix[:, -1] = config.bos_token_id
    decoder_input_ids = torch.cat([prefix, input_ids[:, :-1]], dim=1)
    return decoder_input_ids, input_ids.masked_fill(attention_mask == 0, -100)


def image_of(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The images of a batch that are to be captioned, by the names of the model's arguments.

    Args:
        batch (`dict`): Of a stream with images, see [`~objectives.objectives.ITITObjectives`].

    Returns:
        `dict`: `image_token_ids` of shape `(batch_size, num_image_tokens)`, and `image_latents` of shape
        `(batch_size, num_image_tokens, image_latent_size)` if there are any.
    """
    return {name: batch[name] for name in ("image_token_ids", "image_latents") if name in batch}
