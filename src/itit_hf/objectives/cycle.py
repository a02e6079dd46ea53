# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Cycle consistency, equations (3) and (4): the heart of the paper (section 3.2), line by line.

[`text_to_image_to_text`] and [`image_to_text_to_image`] are the two equations whole: synthesise, mask, reconstruct,
score. The last two verbs are [`t2i2t_loss`] and [`i2t2i_loss`], in which everything random is an argument: the
synthetic sample, the masks and the Gumbel noise. What the paper leaves open is an argument too
([`TextCycleSettings`]), and `docs/experiments/cycles.md` compares the candidates.

A half cycle of Table 2 is the same with `is_half=True`: no gradient passes through the reconstruction.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch.nn import functional as F

from ..models.types_itit import ImageMask, SoftTokens, TextCondition
from ..rng import gumbel, rand
from .forward import ForwardOutput, GradientScales, PassModel, caption_forward, image_forward, image_of, present
from .losses import caption_loss, masked_image_loss
from .text_encoding import encode_predicted

RECONSTRUCTIONS = ("masked", "all")

ImageLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Masks = tuple[ImageMask, ImageMask]


@dataclass(frozen=True)
class TextCycleSettings:
    r"""What text -> image -> text can be told.

    Args:
        text_gradient_scale (`float`): See [`ITITForPreTraining`].
        label_smoothing (`float`): See [`~objectives.losses.caption_loss`].
        reconstruction (`str`): Which tokens of the reconstruction $\tilde I$ come from the logits: `"masked"`, those
            of the first mask, the others copied from I'; or `"all"`.
        train_code_embeddings (`bool`): Whether the second pass trains the embeddings of the codes that the first pass
            predicted. Those of copied tokens are trained always.

    Raises:
        ValueError: If a choice is unknown.
    """

    text_gradient_scale: float = 0.1
    label_smoothing: float = 0.1
    reconstruction: str = "masked"
    train_code_embeddings: bool = True

    def __post_init__(self):
        if self.reconstruction not in RECONSTRUCTIONS:
            raise ValueError(f"`reconstruction` must be one of {RECONSTRUCTIONS}, got {self.reconstruction!r}")


@dataclass
class CycleOutput:
    """A cycle's loss, and what its two passes predicted.

    Args:
        loss (`torch.FloatTensor` of shape `()`): In nats.
        first_pass ([`~objectives.forward.ForwardOutput`]): The one whose argmax is the reconstruction.
        second_pass ([`~objectives.forward.ForwardOutput`]): The one that the loss is taken of.
    """

    loss: torch.Tensor
    first_pass: ForwardOutput
    second_pass: ForwardOutput


class Monitor(Protocol):
    """What is told of a training, such as [`~training.monitoring.Monitor`]."""

    def generated(self, name: str, image_token_ids: torch.Tensor) -> None:
        """Images of shape `(batch_size, num_image_tokens)` that the model generated."""

    def captioned(self, name: str, text: dict[str, torch.Tensor]) -> None:
        """Captions that the model gave, of shape `(batch_size, text_length)` each."""

    def predicted(self, name: str, output: ForwardOutput, bool_masked_pos: torch.Tensor) -> None:
        """A pass over images, and their masks of shape `(batch_size, num_image_tokens)`."""

    def cycled(self, name: str, original: Any, synthetic: Any, reconstruction: Any) -> None:
        """What a cycle started from, what it synthesised, and what it got back."""


class CycleObjectives(Protocol):
    """What the equations ask of [`~objectives.objectives.ITITObjectives`]: settings, synthesis and keyed noise."""

    settings: Any
    text_encoder: Any
    monitor: Monitor | None
    replay: Any

    @property
    def image_loss(self) -> ImageLoss:
        """Loss of logits and labels."""

    def encode_text(self, batch: dict) -> TextCondition:
        """T."""

    def draw_mask(self, batch: dict, name: str, ratio: Any) -> ImageMask:
        """M, keyed by the samples and `name`."""

    def gumbel_noise(self, batch: dict, name: str) -> torch.Tensor | None:
        """Of a straight-through sample, of shape `(batch_size, num_image_tokens, codebook_size)`."""

    def generate_images(self, model: Any, batch: dict, text_condition: TextCondition, name: str) -> torch.Tensor:
        """I', of shape `(batch_size, num_image_tokens)`."""

    def caption_images(self, model: Any, image: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """T', of shape `(batch_size, text_length)`."""


# Equation (3)


def text_to_image_to_text(
    objectives: CycleObjectives, model: PassModel, batch: dict, name: str, is_half: bool = False
) -> dict[str, torch.Tensor]:
    r"""Equation (3) of a batch of sentences: T -> I' -> $\tilde I$ -> T.

    Args:
        objectives ([`~objectives.objectives.ITITObjectives`]): Settings, synthesis and keyed noise.
        model: Called like [`ITITForPreTraining`]; the wrapped one when it is distributed.
        batch (`dict`): `input_ids` and `attention_mask` of shape `(batch_size, text_length)`.
        name (`str`): Of the objective; it keys the noise.
        is_half (`bool`, *optional*, defaults to `False`): See [`t2i2t_loss`].

    Returns:
        `dict`: The loss, a scalar of shape `()`, by its name.
    """
    settings = objectives.settings
    text_condition = objectives.encode_text(batch)  # T
    # Synthesise; the images of an update may serve the next ones too.
    image_token_ids = objectives.replay(
        name, batch, lambda: {"ids": objectives.generate_images(model, batch, text_condition, name)}
    )["ids"]  # I' ~ p(I | T), (B, K)
    # Mask.
    second_ratio = settings.t2i2t_second_mask_ratio or settings.i2t_mask_ratio
    masks = (
        objectives.draw_mask(batch, f"{name}/first", settings.t2i_mask_ratio),
        objectives.draw_mask(batch, f"{name}/second", second_ratio),
    )  # M of each pass
    # Reconstruct and score.
    noise = objectives.gumbel_noise(batch, name)
    cycle = t2i2t_loss(
        model, batch, text_condition, image_token_ids, masks, noise, settings.text_cycle_settings(), is_half
    )  # -log p(t_l | I~_M, t_0 ... t_{l-1})
    if objectives.monitor is not None:
        _show_text_cycle(objectives.monitor, name, batch, image_token_ids, cycle)
    return {name: cycle.loss}


def t2i2t_loss(
    model: PassModel,
    text: dict[str, torch.Tensor],
    text_condition: TextCondition,
    synthetic_image_token_ids: torch.Tensor,
    masks: Masks,
    noise: torch.Tensor | None = None,
    settings: TextCycleSettings | None = None,
    is_half: bool = False,
) -> CycleOutput:
    r"""Text -> image -> text, equation (3), of a synthetic image: $-\log p(t_l | \tilde I_M, t_0 ... t_{l-1})$.

    Gradients reach the image decoder through $\tilde I$, and the encoder through the second pass only: through both
    passes they made training unstable (appendix B, "Cycle training").

    Args:
        model: Called like [`ITITForPreTraining`]; the wrapped one when it is distributed.
        text (`dict`): `input_ids` and `attention_mask` of shape `(batch_size, text_length)`: T, to be predicted again.
        text_condition ([`~models.types_itit.TextCondition`]): T, encoded.
        synthetic_image_token_ids (`torch.LongTensor` of shape `(batch_size, num_image_tokens)`): I', generated from T.
        masks (`tuple[ImageMask, ImageMask]`): M of each pass.
        noise (`torch.FloatTensor` of shape `(batch_size, num_image_tokens, codebook_size)`, *optional*):
            [`gumbel_noise`], for the straight-through Gumbel softmax; none is the plain one.
        settings ([`TextCycleSettings`], *optional*): The paper's by default.
        is_half (`bool`, *optional*, defaults to `False`): Stop the gradient at the argmax, as in the half cycle of
            Table 2: the reconstruction is then but a synthetic image for a given text.

    Returns:
        [`CycleOutput`].
    """
    settings = settings or TextCycleSettings()
    # Reconstruct: T, I'_M -> I~.
    with torch.no_grad() if is_half else nullcontext():
        soft_tokens, first_pass = resample_image_tokens(
            model,
            synthetic_image_token_ids,
            masks[0],
            text_condition,
            noise,
            predict_mask=_reconstructed_tokens(masks, settings.reconstruction),
            encoder_gradient_scale=0.0,
        )  # I~; no gradient into this encoder pass
    if not settings.train_code_embeddings:  # filling is copied, and trained as the other copied tokens are
        soft_tokens = replace(soft_tokens, train_embeddings=~present(first_pass.valid, "valid"))
    # Score: I~_M -> T.
    image = {"image_token_ids": synthetic_image_token_ids, "soft_tokens": soft_tokens}
    second_pass = caption_forward(
        model, image, masks[1], text, GradientScales(text=settings.text_gradient_scale)
    )  # p(t_l | I~_M, t_0 ... t_{l-1})
    loss = caption_loss(second_pass.text_logits, second_pass.text_labels, settings.label_smoothing)
    return CycleOutput(loss, first_pass, second_pass)


def resample_image_tokens(
    model: PassModel,
    image_token_ids: torch.Tensor,
    image_mask: ImageMask,
    text_condition: TextCondition,
    noise: torch.Tensor | None = None,
    predict_mask: torch.Tensor | None = None,
    encoder_gradient_scale: float = 1.0,
) -> tuple[SoftTokens, ForwardOutput]:
    r"""Predict masked tokens of an image anew, $\tilde i_k = \arg\max_i p(i_k | I'_M, T)$, in one step with a
    gradient.

    What the second pass of text -> image -> text reads, and what a reward for images looks at.

    Args:
        model: Called like [`ITITForPreTraining`]; the wrapped one when it is distributed.
        image_token_ids (`torch.LongTensor` of shape `(batch_size, num_image_tokens)`): I'.
        image_mask ([`~models.types_itit.ImageMask`]): M.
        text_condition ([`~models.types_itit.TextCondition`]): T, encoded.
        noise (`torch.FloatTensor` of shape `(batch_size, num_image_tokens, codebook_size)`, *optional*):
            [`gumbel_noise`], for the straight-through Gumbel softmax; none is the plain one.
        predict_mask (`torch.BoolTensor` of shape `(batch_size, num_image_tokens)`, *optional*):
            Which tokens to predict; the masked ones by default.
        encoder_gradient_scale (`float`, *optional*, defaults to 1.0): See [`ITITForPreTraining`].

    Returns:
        `tuple`: The tokens, a [`~models.types_itit.SoftTokens`], and the
        [`~objectives.forward.ForwardOutput`] that they come from.
    """
    output = image_forward(
        model, image_token_ids, image_mask, text_condition, encoder_gradient_scale, predict_mask
    )  # p(i_k | I'_M, T)
    logits = present(output.image_logits, "image_logits")  # (B, M, V)
    positions = present(output.positions, "positions")  # (B, M)
    if noise is not None:
        logits = logits + noise.gather(1, positions[..., None].expand_as(logits)).to(logits.dtype)
    # Rows with fewer tokens to predict are filled up with others: these stay what they are, and get no gradient.
    as_they_are = F.one_hot(image_token_ids.gather(1, positions), logits.size(-1)).to(logits.dtype)
    logits = torch.where(present(output.valid, "valid")[..., None], logits, as_they_are)
    return SoftTokens(logits, positions), output


def _reconstructed_tokens(masks: Masks, reconstruction: str) -> torch.Tensor:
    """Which tokens the first pass has to predict, `(B, K)`: the second pass is not shown what its own mask hides."""
    first, second = (mask.bool_masked_pos for mask in masks)
    predicted = first if reconstruction == "masked" else torch.ones_like(first)
    shown = predicted & ~second
    return torch.where(shown.any(), shown, predicted)  # with nothing to predict the image decoder gets no gradient


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


# Equation (4)


def image_to_text_to_image(
    objectives: CycleObjectives, model: PassModel, batch: dict, name: str, is_half: bool = False
) -> dict[str, torch.Tensor]:
    r"""Equation (4) of a batch of images: I -> T' -> $\tilde T$ -> I.

    Args:
        objectives ([`~objectives.objectives.ITITObjectives`]): Settings, synthesis and keyed noise.
        model: Called like [`ITITForPreTraining`]; the wrapped one when it is distributed.
        batch (`dict`): `image_token_ids` of shape `(batch_size, num_image_tokens)`, and `image_latents` if they are
            what the model captions.
        name (`str`): Of the objective; it keys the noise.
        is_half (`bool`, *optional*, defaults to `False`): See [`i2t2i_loss`].

    Returns:
        `dict`: The loss, a scalar of shape `()`, by its name.
    """
    settings = objectives.settings
    image = image_of(batch)  # I
    # Synthesise; the captions of an update may serve the next ones too.
    caption = objectives.replay(name, batch, lambda: objectives.caption_images(model, image))  # T' ~ p(T | I)
    # Mask.
    second_ratio = settings.i2t2i_second_mask_ratio or settings.t2i_mask_ratio
    masks = (
        objectives.draw_mask(batch, f"{name}/first", settings.i2t_mask_ratio),
        objectives.draw_mask(batch, f"{name}/second", second_ratio),
    )  # M of each pass
    # Reconstruct and score.
    cycle = i2t2i_loss(
        model, objectives.text_encoder, image, caption, masks, objectives.image_loss, is_half
    )  # -log p(i_k | I_M, T~)
    if objectives.monitor is not None:
        _show_image_cycle(objectives.monitor, name, image["image_token_ids"], caption, masks[1], cycle)
    return {name: cycle.loss}


def i2t2i_loss(
    model: PassModel,
    text_encoder: torch.nn.Module,
    image: dict[str, Any],
    synthetic_text: dict[str, torch.Tensor],
    masks: Masks,
    image_loss: ImageLoss = masked_image_loss,
    is_half: bool = False,
) -> CycleOutput:
    r"""Image -> text -> image, equation (4), of a synthetic text: $-\log p(i_k | I_M, \tilde T)$ at the masked k.

    Gradients reach the text decoder through $\tilde T$ and the frozen text encoder (plain straight-through softmax:
    Gumbel noise brings nothing here), and the encoder through the second pass only. Positions behind the end of T' are
    masked in the text encoder.

    Args:
        model: Called like [`ITITForPreTraining`]; the wrapped one when it is distributed.
        text_encoder (`torch.nn.Module`): Frozen, see [`~objectives.text_encoding.encode_predicted`].
        image (`dict`): `image_token_ids` of shape `(batch_size, num_image_tokens)`: I, to be predicted again; and
            `image_latents` of shape `(batch_size, num_image_tokens, image_latent_size)`, if they are what the model
            captions.
        synthetic_text (`dict`): `input_ids` and `attention_mask` of shape `(batch_size, text_length)`: T', the
            model's caption of I, its end of sequence included.
        masks (`tuple[ImageMask, ImageMask]`): M of each pass.
        image_loss (`Callable`, *optional*, defaults to [`~objectives.losses.masked_image_loss`]): Of the second pass's
            logits and labels.
        is_half (`bool`, *optional*, defaults to `False`): Stop the gradient at the argmax, as in the half cycle of
            Table 2: the reconstruction is then but a synthetic text for a given image.

    Returns:
        [`CycleOutput`].
    """
    # Reconstruct: I_M, T' -> T~.
    table = text_encoder.get_input_embeddings().weight  # (words, C)
    with torch.no_grad() if is_half else nullcontext():
        first_pass = caption_forward(
            model, image, masks[0], synthetic_text, GradientScales(encoder=0.0), text_embedding_table=table
        )  # p(t_l | I_M, t'_0 ... t'_{l-1}); no gradient into this encoder pass
    text_condition = encode_predicted(text_encoder, synthetic_text, first_pass.predicted_embeds)  # T~
    # Score: T~, I_M -> I.
    second_pass = image_forward(model, image["image_token_ids"], masks[1], text_condition)  # p(i_k | I_M, T~)
    loss = image_loss(second_pass.image_logits, second_pass.image_labels)
    return CycleOutput(loss, first_pass, second_pass)


# What a monitor is shown


def _show_text_cycle(monitor: Monitor, name: str, text: dict, image_token_ids: torch.Tensor, cycle: CycleOutput):
    """The text, the image generated from it, and the text as the second pass predicts it."""
    output = cycle.second_pass
    # Without the token that texts may begin with, which is given and not predicted.
    ids = present(output.text_logits, "text_logits").argmax(dim=-1)  # (B, L)
    predicted = {"input_ids": ids, "attention_mask": (present(output.text_labels, "text_labels") != -100).long()}
    monitor.generated(name, image_token_ids)
    monitor.cycled(name, text, image_token_ids, predicted)


def _show_image_cycle(
    monitor: Monitor,
    name: str,
    image_token_ids: torch.Tensor,
    caption: dict,
    image_mask: ImageMask,
    cycle: CycleOutput,
):
    """The image, its caption, and the image with its masked tokens as the second pass predicts them."""
    output = cycle.second_pass
    masked = image_mask.bool_masked_pos  # (B, K)
    codes = present(output.image_logits, "image_logits").argmax(dim=-1)  # (B, M)
    predicted = image_token_ids.scatter(1, present(output.positions, "positions"), codes)  # (B, K)
    monitor.captioned(name, caption)
    monitor.predicted(name, output, masked)
    monitor.cycled(name, image_token_ids, caption, torch.where(masked, predicted, image_token_ids))
