# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The two teacher-forced passes that every objective is made of: describe an image, and fill in its hidden tokens."""

from dataclasses import dataclass

import torch

from ..masking import masked_positions
from .losses import masked_labels


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
    """What the decoders say and what they should have said; shapes as in [`~objectives.losses.caption_loss`] and
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


def caption_forward(
    model,
    config,
    image: dict[str, torch.Tensor],
    masked: dict[str, torch.Tensor | None],
    text: dict[str, torch.Tensor],
    gradient_scales: GradientScales = GradientScales(),
    with_image_logits: bool = False,
    text_embedding_table: torch.Tensor | None = None,
) -> ForwardOutput:
    r"""Image to text, $p(t_l | I_M, t_0 ... t_{l-1})$, and in the same encoder pass image to image if asked for.

    Args:
        model: Called like [`ITITForPreTraining`]; the wrapped one when it is distributed.
        config ([`ITITConfig`]): The model's.
        image (`dict`): `image_token_ids` of shape `(batch_size, num_image_tokens)`, and `image_latents` if they are
            what is described; `soft_logits` and `soft_positions` where they are a reconstruction; `text_embeds` and
            `text_attention_mask` when the encoder is given a text too.
        masked (`dict`): From [`~masking.draw_mask`].
        text (`dict`): `input_ids` and `attention_mask` of shape `(batch_size, text_length)`: `t_1 ... t_L`.
        gradient_scales ([`GradientScales`], *optional*): 1.0 each by default.
        with_image_logits (`bool`, *optional*, defaults to `False`): Predict the hidden image tokens too.
        text_embedding_table (`torch.FloatTensor` of shape `(num_text_tokens, embedding_size)`, *optional*):
            In place of the text logits, the most likely words' embeddings; see [`ITITForPreTraining`].

    Returns:
        [`ForwardOutput`].
    """
    kept, kept_mask = masked["kept_positions"], masked["kept_attention_mask"]
    num_kept = config.num_image_tokens if kept is None else kept.size(1)
    text_length = image["text_embeds"].size(1) if "text_embeds" in image else 1  # the null text is one token
    decoder_input_ids, labels = caption_inputs(
        text["input_ids"], text["attention_mask"], num_kept + text_length, config.bos_token_id, config.image_token_id
    )
    attention_mask = None
    if kept_mask is not None or "text_attention_mask" in image:  # hide filling and padding in the prefix
        attention_mask = torch.ones_like(decoder_input_ids)
        if kept_mask is not None:
            attention_mask[:, :num_kept] = kept_mask
        if "text_attention_mask" in image:
            attention_mask[:, num_kept : num_kept + text_length] = image["text_attention_mask"]
    positions, valid = masked_positions(masked["bool_masked_pos"]) if with_image_logits else (None, None)
    output = model(
        **image,
        **masked,
        input_ids=decoder_input_ids,
        attention_mask=attention_mask,
        use_cache=False,
        logits_to_keep=labels.size(1),
        logit_positions=positions,
        text_embedding_table=text_embedding_table,
        text_gradient_scale=gradient_scales.text,
        encoder_gradient_scale=gradient_scales.encoder,
    )
    described = ForwardOutput(
        text_labels=labels, predicted_embeds=output.predicted_embeds, predicted_ids=output.predicted_ids
    )
    if output.logits is not None:
        described.text_logits = output.logits[..., : config.num_text_tokens]
    if with_image_logits:
        described.image_logits, described.positions, described.valid = output.image_logits, positions, valid
        described.image_labels = masked_labels(image["image_token_ids"], positions, valid)
    return described


def image_forward(
    model,
    image_token_ids: torch.Tensor,
    masked: dict[str, torch.Tensor | None],
    text: dict[str, torch.Tensor] | None = None,
    encoder_gradient_scale: float = 1.0,
    wanted: torch.Tensor | None = None,
) -> ForwardOutput:
    r"""Text to image, $p(i_k | I_M, T)$ at the hidden k; without text, image to image.

    Args:
        model: Called like [`ITITForPreTraining`]; the wrapped one when it is distributed.
        image_token_ids (`torch.LongTensor` of shape `(batch_size, num_image_tokens)`): The whole images.
        masked (`dict`): From [`~masking.draw_mask`].
        text (`dict`, *optional*): `text_embeds` of shape `(batch_size, text_length, text_hidden_size)` and
            `text_attention_mask` of shape `(batch_size, text_length)`; the null text by default.
        encoder_gradient_scale (`float`, *optional*, defaults to 1.0): See [`ITITForPreTraining`].
        wanted (`torch.BoolTensor` of shape `(batch_size, num_image_tokens)`, *optional*):
            Which tokens to predict; the hidden ones by default.

    Returns:
        [`ForwardOutput`].
    """
    positions, valid = masked_positions(masked["bool_masked_pos"] if wanted is None else wanted)
    output = model(
        image_token_ids=image_token_ids,
        **masked,
        **(text or {}),
        use_cache=False,
        logit_positions=positions,
        encoder_gradient_scale=encoder_gradient_scale,
    )
    labels = masked_labels(image_token_ids, positions, valid)
    return ForwardOutput(image_logits=output.image_logits, image_labels=labels, positions=positions, valid=valid)


def caption_inputs(
    input_ids: torch.Tensor, attention_mask: torch.Tensor, prefix_length: int, bos_token_id: int, image_token_id: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Teacher forcing: what the text decoder reads, `[image prefix] t_0 ... t_{L-1}`, and what it is to say,
    `t_1 ... t_L`.

    Args:
        input_ids (`torch.LongTensor` of shape `(batch_size, text_length)`): `t_1 ... t_L` and padding.
        attention_mask (`torch.Tensor` of shape `(batch_size, text_length)`): 1 for text, 0 for padding.
        prefix_length (`int`): Encoder features in front of the text.
        bos_token_id (`int`): `t_0`.
        image_token_id (`int`): Placeholder of an encoder feature.

    Returns:
        `(decoder_input_ids, labels)` of shapes `(batch_size, prefix_length + text_length)` and
        `(batch_size, text_length)`; labels are -100 at padding.
    """
    batch_size = len(input_ids)
    prefix = input_ids.new_full((batch_size, prefix_length + 1), image_token_id)
    prefix[:, -1] = bos_token_id
    decoder_input_ids = torch.cat([prefix, input_ids[:, :-1]], dim=1)
    return decoder_input_ids, input_ids.masked_fill(attention_mask == 0, -100)
