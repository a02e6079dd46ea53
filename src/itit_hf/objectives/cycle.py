# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Cycle consistency, equations (3) and (4): the heart of the paper (section 3.2), line by line.

Everything random is an argument: the synthetic sample, the masks and the Gumbel noise. What the paper leaves open is
an argument too ([`TextCycleSettings`]), and `docs/experiments.md` compares the candidates. How much each leg hides is
the masks' own matter: by default what text to image, or image to text, does.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from ..rng import gumbel, rand
from .forward import ForwardOutput, GradientScales, caption_forward, image_forward
from .losses import caption_loss, masked_image_loss

RECONSTRUCTIONS = ("hidden", "all")
CODE_GRADIENTS = ("trained", "frozen")

ImageLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Masks = tuple[dict[str, torch.Tensor | None], dict[str, torch.Tensor | None]]


@dataclass(frozen=True)
class TextCycleSettings:
    r"""What text -> image -> text can be told.

    Args:
        text_gradient_scale (`float`): See [`ITITForPreTraining`].
        label_smoothing (`float`): See [`~objectives.losses.caption_loss`].
        reconstruction (`str`): Which tokens of the reconstruction $\tilde I$ come from the logits: `"hidden"`, those
            that the first mask hid, the others copied from I'; or `"all"`.
        code_gradient (`str`): Whether the second leg trains the embeddings of the codes that the first leg said:
            `"trained"` or `"frozen"`. Those of copied tokens are trained always.

    Raises:
        ValueError: If a choice is unknown.
    """

    text_gradient_scale: float = 0.1
    label_smoothing: float = 0.1
    reconstruction: str = "hidden"
    code_gradient: str = "trained"

    def __post_init__(self):
        for name, known in (("reconstruction", RECONSTRUCTIONS), ("code_gradient", CODE_GRADIENTS)):
            if getattr(self, name) not in known:
                raise ValueError(f"`{name}` must be one of {known}, got {getattr(self, name)!r}")


def gumbel_noise(num_tokens: int, num_classes: int, generator, device=None) -> torch.Tensor:
    """Standard Gumbel noise for every token of every sample.

    Args:
        num_tokens (`int`): Tokens per sample.
        num_classes (`int`): Classes per token.
        generator (`Sequence[torch.Generator]`): One per sample.
        device (`torch.device` or `str`, *optional*): Where the result lies.

    Returns:
        `torch.FloatTensor` of shape `(batch_size, num_tokens, num_classes)`.
    """
    return gumbel(rand(len(generator), (num_tokens, num_classes), generator, device))


@dataclass
class CycleOutput:
    """A cycle's loss, and what its two legs said.

    Args:
        loss (`torch.FloatTensor` of shape `()`): In nats.
        first_pass ([`~objectives.forward.ForwardOutput`]): The one whose argmax is the reconstruction.
        second_pass ([`~objectives.forward.ForwardOutput`]): The one that the loss is taken of.
    """

    loss: torch.Tensor
    first_pass: ForwardOutput
    second_pass: ForwardOutput


def resample_image_tokens(
    model,
    image_token_ids: torch.Tensor,
    masked: dict[str, torch.Tensor | None],
    condition: dict[str, torch.Tensor],
    noise: torch.Tensor | None = None,
    wanted: torch.Tensor | None = None,
    encoder_gradient_scale: float = 1.0,
) -> tuple[dict[str, torch.Tensor], ForwardOutput]:
    r"""Draw hidden tokens of an image anew, $\tilde i_k = \arg\max_i p(i_k | I'_M, T)$, in one step with a gradient.

    What the second leg of text -> image -> text reads, and what a reward for images looks at.

    Args:
        model: Called like [`ITITForPreTraining`]; the wrapped one when it is distributed.
        image_token_ids (`torch.LongTensor` of shape `(batch_size, num_image_tokens)`): I'.
        masked (`dict`): M, from [`~masking.draw_mask`].
        condition (`dict`): `text_embeds` and `text_attention_mask`, see [`~objectives.forward.image_forward`].
        noise (`torch.FloatTensor` of shape `(batch_size, num_image_tokens, codebook_size)`, *optional*):
            [`gumbel_noise`], for the straight-through Gumbel softmax; none is the plain one.
        wanted (`torch.BoolTensor` of shape `(batch_size, num_image_tokens)`, *optional*):
            Which tokens to draw; the hidden ones by default.
        encoder_gradient_scale (`float`, *optional*, defaults to 1.0): See [`ITITForPreTraining`].

    Returns:
        `(image, drawn)`: the image by the names of the model's arguments, `image_token_ids`, and `soft_logits` of
        shape `(batch_size, num_generated, codebook_size)` at `soft_positions`; and the
        [`~objectives.forward.ForwardOutput`].
    """
    drawn = image_forward(
        model,
        image_token_ids,
        masked,
        condition,
        encoder_gradient_scale=encoder_gradient_scale,
        wanted=wanted,
    )  # p(i_k | I'_M, T)
    logits = drawn.image_logits  # (B, M, V)
    if noise is not None:
        logits = logits + noise.gather(1, drawn.positions[..., None].expand_as(logits)).to(logits.dtype)
    # Rows that hide fewer tokens are filled up with visible ones: these stay what they are, and get no gradient.
    visible = F.one_hot(image_token_ids.gather(1, drawn.positions), logits.size(-1)).to(logits.dtype)
    logits = torch.where(drawn.valid[..., None], logits, visible)
    return {"image_token_ids": image_token_ids, "soft_logits": logits, "soft_positions": drawn.positions}, drawn


def t2i2t_loss(
    model,
    config,
    text: dict[str, torch.Tensor],
    text_embeds: torch.Tensor,
    synthetic_image_token_ids: torch.Tensor,
    masks: Masks,
    noise: torch.Tensor | None = None,
    settings: TextCycleSettings | None = None,
) -> CycleOutput:
    r"""Text -> image -> text, equation (3): $-\log p(t_l | \tilde I_M, t_0 ... t_{l-1})$.

    Gradients reach the image decoder through $\tilde I$, and the encoder through the second pass only: through both
    passes they made training unstable (appendix B, "Cycle training").

    Args:
        model: Called like [`ITITForPreTraining`]; the wrapped one when it is distributed.
        config ([`ITITConfig`]): The model's.
        text (`dict`): `input_ids` and `attention_mask` of shape `(batch_size, text_length)`: T, to be said again.
        text_embeds (`torch.FloatTensor` of shape `(batch_size, text_length, text_hidden_size)`): T, encoded.
        synthetic_image_token_ids (`torch.LongTensor` of shape `(batch_size, num_image_tokens)`): I', drawn from T.
        masks (`tuple[dict, dict]`): M of each leg, from [`~masking.draw_mask`].
        noise (`torch.FloatTensor` of shape `(batch_size, num_image_tokens, codebook_size)`, *optional*):
            [`gumbel_noise`], for the straight-through Gumbel softmax; none is the plain one.
        settings ([`TextCycleSettings`], *optional*): The paper's by default.

    Returns:
        [`CycleOutput`].
    """
    settings = settings or TextCycleSettings()
    condition = {"text_embeds": text_embeds, "text_attention_mask": text["attention_mask"]}
    image, drawn = resample_image_tokens(
        model,
        synthetic_image_token_ids,
        masks[0],
        condition,
        noise=noise,
        wanted=_read_by_the_second_leg(masks, settings.reconstruction),
        encoder_gradient_scale=0.0,
    )  # I~; no gradient into this encoder pass
    return _described_again(model, config, image, drawn, masks[1], text, settings)


def t2i2t_half_loss(
    model,
    config,
    text: dict[str, torch.Tensor],
    text_embeds: torch.Tensor,
    synthetic_image_token_ids: torch.Tensor,
    masks: Masks,
    noise: torch.Tensor | None = None,
    settings: TextCycleSettings | None = None,
) -> CycleOutput:
    """The half cycle of Table 2: as [`t2i2t_loss`], but the gradient stops at the argmax, so that the reconstruction
    is a synthetic image for a given text. Arguments, shapes and result are those of [`t2i2t_loss`]."""
    settings = settings or TextCycleSettings()
    condition = {"text_embeds": text_embeds, "text_attention_mask": text["attention_mask"]}
    wanted = _read_by_the_second_leg(masks, settings.reconstruction)
    with torch.no_grad():
        image, drawn = resample_image_tokens(model, synthetic_image_token_ids, masks[0], condition, noise, wanted)
    return _described_again(model, config, image, drawn, masks[1], text, settings)


def _described_again(model, config, image, drawn: ForwardOutput, masked, text, settings) -> CycleOutput:
    """The second leg of text -> image -> text."""
    if settings.code_gradient == "frozen":
        image["soft_code_gradient"] = ~drawn.valid  # filling is copied: it is trained as the other copied tokens are
    described = caption_forward(
        model, config, image, masked, text, GradientScales(text=settings.text_gradient_scale)
    )  # p(t_l | I~_M, t_0 ... t_l-1)
    loss = caption_loss(described.text_logits, described.text_labels, settings.label_smoothing)
    return CycleOutput(loss, drawn, described)


def i2t2i_loss(
    model,
    config,
    text_encoder: torch.nn.Module,
    image_token_ids: torch.Tensor,
    synthetic_text: dict[str, torch.Tensor],
    masks: Masks,
    image_loss: ImageLoss = masked_image_loss,
    image_latents: torch.Tensor | None = None,
) -> CycleOutput:
    r"""Image -> text -> image, equation (4): $-\log p(i_k | I_M, \tilde T)$ at the hidden k.

    Gradients reach the text decoder through $\tilde T$ and the frozen text encoder (plain straight-through softmax:
    Gumbel noise brings nothing here), and the encoder through the second pass only. Positions behind the end of T' are
    masked in the text encoder.

    Args:
        model: Called like [`ITITForPreTraining`]; the wrapped one when it is distributed.
        config ([`ITITConfig`]): The model's.
        text_encoder (`torch.nn.Module`): Frozen, called as transformers' `T5EncoderModel` with `inputs_embeds`.
        image_token_ids (`torch.LongTensor` of shape `(batch_size, num_image_tokens)`): I, to be drawn again.
        synthetic_text (`dict`): `input_ids` and `attention_mask` of shape `(batch_size, text_length)`: T', what the
            model said of I, its end of sequence included.
        masks (`tuple[dict, dict]`): M of each leg, from [`~masking.draw_mask`].
        image_loss (`Callable`, *optional*, defaults to [`~objectives.losses.masked_image_loss`]): Of the second leg's
        logits and
            labels.
        image_latents (`torch.FloatTensor` of shape `(batch_size, num_image_tokens, image_latent_size)`, *optional*):
            Of I, if they are what the model describes.

    Returns:
        [`CycleOutput`].
    """
    image = _image(image_token_ids, image_latents)
    table = text_encoder.get_input_embeddings().weight
    described = caption_forward(
        model, config, image, masks[0], synthetic_text, GradientScales(encoder=0.0), text_embedding_table=table
    )  # p(t_l | I_M, t'_0 ... t'_{l-1}); no gradient into this encoder pass
    condition = _reconstructed_text(text_encoder, described, synthetic_text)  # T~
    drawn = image_forward(model, image_token_ids, masks[1], condition)  # p(i_k | I_M, T~)
    loss = image_loss(drawn.image_logits, drawn.image_labels)
    return CycleOutput(loss, described, drawn)


def i2t2i_half_loss(
    model,
    config,
    text_encoder: torch.nn.Module,
    image_token_ids: torch.Tensor,
    synthetic_text: dict[str, torch.Tensor],
    masks: Masks,
    image_loss: ImageLoss = masked_image_loss,
    image_latents: torch.Tensor | None = None,
) -> CycleOutput:
    """The half cycle of Table 2: as [`i2t2i_loss`], but the gradient stops at the argmax, so that the reconstruction
    is a synthetic text for a given image. Arguments, shapes and result are those of [`i2t2i_loss`]."""
    image = _image(image_token_ids, image_latents)
    table = text_encoder.get_input_embeddings().weight
    with torch.no_grad():
        described = caption_forward(model, config, image, masks[0], synthetic_text, text_embedding_table=table)
    condition = _reconstructed_text(text_encoder, described, synthetic_text)
    drawn = image_forward(model, image_token_ids, masks[1], condition)
    loss = image_loss(drawn.image_logits, drawn.image_labels)
    return CycleOutput(loss, described, drawn)


def _read_by_the_second_leg(masks: Masks, reconstruction: str) -> torch.Tensor:
    """Which tokens the first leg has to say, `(B, K)`: the second leg is not shown what its own mask hides."""
    first, second = (masked["bool_masked_pos"] for masked in masks)
    said = first if reconstruction == "hidden" else torch.ones_like(first)
    wanted = said & ~second
    return torch.where(wanted.any(), wanted, said)  # with nothing to say the image decoder would get no gradient


def _image(image_token_ids: torch.Tensor, image_latents: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """I by the names of the model's arguments."""
    latents = {} if image_latents is None else {"image_latents": image_latents}
    return {"image_token_ids": image_token_ids} | latents


def _reconstructed_text(text_encoder, described: ForwardOutput, text: dict[str, torch.Tensor]) -> dict:
    """T~, read by the text encoder, by the names of the model's arguments."""
    mask = text["attention_mask"]
    text_embeds = text_encoder(
        inputs_embeds=described.predicted_embeds, attention_mask=mask
    ).last_hidden_state  # (B, L, C)
    return {"text_embeds": text_embeds, "text_attention_mask": mask}
