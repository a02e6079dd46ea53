# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Objectives by name: `(model, mixed batch) -> {name: loss}`. All masks are drawn from noise keyed by sample."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from .image_tokenization_itit import encode_images
from .losses import caption_inputs, caption_loss, masked_image_loss, masked_labels
from .masking import MaskRatio, kept_positions, keyed_generators, masked_positions, random_mask

OBJECTIVES = ("i2t", "t2i", "i2i")


@dataclass
class ObjectiveSettings:
    """Training settings of the losses; defaults are the paper's.

    Args:
        t2i_mask_ratio ([`MaskRatio`]): Share of hidden tokens in text to image.
        i2t_mask_ratio ([`MaskRatio`]): The same in image to text; `high=0.0` describes whole pictures.
        i2i_mask_ratio ([`MaskRatio`], *optional*):
            The same in image to image. By default it is done in the encoder pass of image to text, with its mask
            (section 3.2); a ratio of its own costs a pass of its own.
        t2i_share (`float`): Share of the pairs of a batch that text to image takes, from the front.
        i2t_share (`float`): Share that image to text takes, from the back. The paper splits 1024 pairs in halves
            (Table 3): 0.5 and 0.5. With 1.0, the default, each pair serves both.
        i2i_share (`float`): Share that image to image takes, from the back, when it has a pass of its own.
        text_gradient_scale (`float`): Scale of the text decoder's gradient into the encoder (section 3.4).
        label_smoothing (`float`): Of every cross entropy (Table 3).
        seed (`int`): Seed of the masks.
    """

    t2i_mask_ratio: MaskRatio = field(default_factory=MaskRatio)
    i2t_mask_ratio: MaskRatio = field(default_factory=lambda: MaskRatio(high=0.75))
    i2i_mask_ratio: MaskRatio | None = None
    t2i_share: float = 1.0
    i2t_share: float = 1.0
    i2i_share: float = 1.0
    text_gradient_scale: float = 0.1
    label_smoothing: float = 0.1
    seed: int = 0


class ITITObjectives:
    """The chosen losses of a mixed batch.

    A batch holds a part for each stream: `{"paired": {...}}` with `image_token_ids` `(batch_size, num_image_tokens)`
    or `pixel_values` `(batch_size, 3, height, width)`, `input_ids` and `attention_mask` `(batch_size, text_length)`,
    and `position` `(batch_size,)`, each sample's place in its stream, which keys its noise.

    Args:
        names (`Sequence[str]`): Objectives, of `"i2t"` (equation 1), `"t2i"` (equation 2) and `"i2i"` (equation 2 with
            the empty text, for classifier-free guidance).
        config ([`ITITConfig`]): The model's.
        text_encoder (`torch.nn.Module`): Frozen text encoder, called as transformers' `T5EncoderModel`.
        image_tokenizer (`torch.nn.Module`, *optional*): Frozen image tokenizer; needed for `pixel_values` only.
        settings ([`ObjectiveSettings`], *optional*): The paper's by default.

    Raises:
        ValueError: If a name is unknown, repeated, or there is none.
    """

    def __init__(
        self,
        names: Sequence[str],
        config,
        text_encoder: torch.nn.Module,
        image_tokenizer: torch.nn.Module | None = None,
        settings: ObjectiveSettings | None = None,
    ):
        unknown = [name for name in names if name not in OBJECTIVES]
        if unknown or not names or len(set(names)) != len(names):
            raise ValueError(f"`names` must be one or more of {OBJECTIVES}, each once, got {list(names)}")
        self.names = tuple(names)
        self.config = config
        self.text_encoder = text_encoder
        self.image_tokenizer = image_tokenizer
        self.settings = settings or ObjectiveSettings()

    def __call__(self, model, batch: dict) -> dict[str, torch.Tensor]:
        """Losses by name.

        Args:
            model: Called like [`ITITForPreTraining`]; the *wrapped* one when it is distributed.
            batch (`dict`): See the class.

        Returns:
            `dict` of scalar tensors of shape `()`, in the order of `names`.

        Raises:
            ValueError: If a stream that an objective needs is not in the batch.
        """
        if "paired" not in batch:
            raise ValueError(f"objectives {self.names} need the stream `paired`, the batch has {sorted(batch)}")
        paired, settings = batch["paired"], self.settings
        if "image_token_ids" not in paired:
            paired = paired | {"image_token_ids": self._tokenize(paired)}
        losses = {}
        if "t2i" in self.names:
            losses["t2i"] = self.text_to_image(model, _share(paired, settings.t2i_share, "t2i_share"))
        if "i2t" in self.names:
            losses |= self.image_to_text(model, _share(paired, settings.i2t_share, "i2t_share", from_back=True))
        if "i2i" in self.names and "i2i" not in losses:
            losses["i2i"] = self.image_to_image(model, _share(paired, settings.i2i_share, "i2i_share", from_back=True))
        return {name: losses[name] for name in self.names}

    def text_to_image(self, model, paired: dict) -> torch.Tensor:
        """Equation (2) of the rows of `paired`, see the class: a scalar of shape `()`."""
        with torch.no_grad():
            text_embeds = self.text_encoder(
                input_ids=paired["input_ids"], attention_mask=paired["attention_mask"]
            ).last_hidden_state  # T, (B, L, E)
        masked = self._mask(paired, "t2i", self.settings.t2i_mask_ratio)
        text = {"text_embeds": text_embeds, "text_attention_mask": paired["attention_mask"]}
        return self._masked_image_loss(model, paired["image_token_ids"], masked, text)

    def image_to_image(self, model, paired: dict) -> torch.Tensor:
        """Equation (2) without text, in a pass of its own: a scalar of shape `()`."""
        masked = self._mask(paired, "i2i", self.settings.i2i_mask_ratio or self.settings.i2t_mask_ratio)
        return self._masked_image_loss(model, paired["image_token_ids"], masked)

    def image_to_text(self, model, paired: dict) -> dict[str, torch.Tensor]:
        """Equation (1) and, where it shares the pass, image to image: scalars of shape `()` by name."""
        settings, config = self.settings, self.config
        masked = self._mask(paired, "i2t", settings.i2t_mask_ratio)
        kept, kept_mask = masked["kept_positions"], masked["kept_attention_mask"]
        prefix_length = (config.num_image_tokens if kept is None else kept.size(1)) + 1  # and the null text
        decoder_input_ids, labels = caption_inputs(
            paired["input_ids"],
            paired["attention_mask"],
            prefix_length,
            config.bos_token_id,
            config.image_token_id,
        )
        attention_mask = None
        if kept_mask is not None:  # hide the filling of rows that keep fewer positions
            attention_mask = torch.ones_like(decoder_input_ids)
            attention_mask[:, : kept.size(1)] = kept_mask
        shares_pass = "i2i" in self.names and settings.i2i_mask_ratio is None
        positions, valid = masked_positions(masked["bool_masked_pos"]) if shares_pass else (None, None)
        image_token_ids = paired["image_token_ids"]
        output = model(
            image_token_ids=image_token_ids,
            **masked,
            input_ids=decoder_input_ids,
            attention_mask=attention_mask,
            use_cache=False,
            logits_to_keep=labels.size(1),
            logit_positions=positions,
            text_gradient_scale=settings.text_gradient_scale,
        )
        text_logits = output.logits[..., : config.num_text_tokens]  # p(t_l | I_M, t_0 ... t_{l-1})
        losses = {"i2t": caption_loss(text_logits, labels, settings.label_smoothing)}
        if shares_pass:
            image_labels = masked_labels(image_token_ids, positions, valid)
            losses["i2i"] = masked_image_loss(output.image_logits, image_labels, settings.label_smoothing)
        return losses

    def _masked_image_loss(self, model, image_token_ids, masked: dict, text: dict | None = None) -> torch.Tensor:
        positions, valid = masked_positions(masked["bool_masked_pos"])
        output = model(
            image_token_ids=image_token_ids, **masked, **(text or {}), use_cache=False, logit_positions=positions
        )  # p(i_k | I_M, T)
        labels = masked_labels(image_token_ids, positions, valid)
        return masked_image_loss(output.image_logits, labels, self.settings.label_smoothing)

    def _mask(self, part: dict, name: str, ratio: MaskRatio) -> dict:
        """A new mask M for each sample, and what of it the encoder is given; noise keyed by the sample."""
        keys = part["position"].tolist()
        generators = keyed_generators(self.settings.seed, f"mask/{name}", keys)
        mask = random_mask(ratio.sample(len(keys), generators), self.config.num_image_tokens, generators)
        kept, kept_mask = kept_positions(mask, self.config.encoder_drop, generators)
        masked = {"bool_masked_pos": mask, "kept_positions": kept, "kept_attention_mask": kept_mask}
        device = part["position"].device
        return {name: value if value is None else value.to(device) for name, value in masked.items()}

    def _tokenize(self, part: dict) -> torch.Tensor:
        if self.image_tokenizer is None:
            raise ValueError("the batch holds `pixel_values`: `image_tokenizer` must be given to turn them into ids")
        with torch.no_grad():
            return encode_images(self.image_tokenizer, part["pixel_values"])  # (B, K)


def _share(part: dict, share: float, name: str, from_back: bool = False) -> dict:
    """The first or last rows of each tensor; as many in each batch, so that accumulating changes nothing."""
    batch_size = len(part["position"])
    count = round(share * batch_size)
    if not 0 < count <= batch_size or abs(count - share * batch_size) > 1e-6:
        raise ValueError(f"`{name}` must give a whole number of 1 to {batch_size} rows of a batch, got {share}")
    rows = slice(batch_size - count, None) if from_back else slice(count)
    return {key: value[rows] for key, value in part.items()}
