# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Objectives by name: `(model, mixed batch) -> {name: loss}`. All noise is keyed by sample."""

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from ..decoding.sampling import SamplingSettings, TextCondition, decode_image_tokens
from ..masking import MaskRatio, draw_mask
from ..models.image_tokenization_itit import image_inputs
from ..rng import keyed_generators
from .caching import SynthesisReplay, TextFeatureCache
from .cycle import TextCycleSettings, gumbel_noise, i2t2i_half_loss, i2t2i_loss, t2i2t_half_loss, t2i2t_loss
from .forward import ForwardOutput, GradientScales, caption_forward, image_forward
from .losses import caption_loss, code_neighbours, masked_image_loss

# Name -> the stream it reads.
OBJECTIVES = {
    "t2i": "paired",  # equation (2)
    "i2t": "paired",  # equation (1)
    "i2i": "paired",  # equation (2) with the empty text, for guidance
    "t2t": "text",  # Table 2: equation (1) without the image
    "t2t_copy": "text",  # another reading of it: the encoder is given the text
    "t2i2t": "text",  # equation (3)
    "t2i2t_half": "text",
    "i2i_unpaired": "image",  # autoencoding of Table 2
    "i2t2i": "image",  # equation (4)
    "i2t2i_half": "image",
}
_LATENTS = "model.embed_image_latents"
# Parts that a loss trains; what no loss trains is frozen, as plain DDP waits for every gradient. The first leg of the
# cycle of images trains no part of the encoder, and its second leg draws.
TRAINED_PARTS = {
    "t2i": {"image_decoder"},
    "i2t": {"text_decoder", _LATENTS},
    "i2i": {"image_decoder"},
    "t2t": {"text_decoder", _LATENTS},
    "t2t_copy": {"text_decoder", _LATENTS},
    "t2i2t": {"image_decoder", "text_decoder", _LATENTS},
    "t2i2t_half": {"text_decoder", _LATENTS},
    "i2i_unpaired": {"image_decoder"},
    "i2t2i": {"image_decoder", "text_decoder"},
    "i2t2i_half": {"image_decoder"},
}
_T2I2T = {"t2i2t": t2i2t_loss, "t2i2t_half": t2i2t_half_loss}
_I2T2I = {"i2t2i": i2t2i_loss, "i2t2i_half": i2t2i_half_loss}


@dataclass
class ObjectiveSettings:
    """Training settings of the losses; defaults are the paper's.

    Args:
        t2i_mask_ratio ([`MaskRatio`]): Share of hidden tokens in text to image.
        i2t_mask_ratio ([`MaskRatio`]): The same in image to text; `high=0.0` describes whole images.
        i2i_mask_ratio ([`MaskRatio`], *optional*):
            The same in image to image. By default it is done in the encoder pass of image to text, with its mask
            (section 3.1); a ratio of its own costs a pass of its own, and so do latents as image features.
        t2i_batch_fraction (`float`): Share of the pairs of a batch that text to image takes, from the front.
        i2t_batch_fraction (`float`): Share that image to text takes, from the back. The paper splits 1024 pairs in
            halves (Table 3): 0.5 and 0.5. With 1.0, the default, each pair serves both.
        i2i_batch_fraction (`float`): Share that image to image takes, from the back, when it has a pass of its own.
        text_gradient_scale (`float`): Scale of the text decoder's gradient into the encoder (appendix B).
        label_smoothing (`float`): Of every cross entropy (Table 3).
        smoothing_neighbours (`int`): Of image tokens, spread what label smoothing takes from the true code over so
            many codes that are nearest to it in the image tokenizer's codebook; 0 spreads it over all codes.
        gumbel_strength (`float`): Scale of the Gumbel noise in T2I2T's straight-through softmax; 0.0 is the plain one.
        synthesis_steps (`int`): Decoding steps of the images drawn for T2I2T.
        synthesis_guidance_scale (`float`): Their guidance.
        synthesis_temperature (`float`, *optional*): Their temperature; the scheduler's by default.
        synthesis_max_new_tokens (`int`): Tokens of the captions said for I2T2I, at most.
        synthesis_replay (`int`): Updates that each synthesis serves, each with new masks and noise.
        text_cache_size (`int`): Texts whose features are kept, see [`~objectives.caching.TextFeatureCache`].
        t2i2t_second_mask_ratio ([`MaskRatio`], *optional*): Of the second leg; that of image to text by default.
        i2t2i_second_mask_ratio ([`MaskRatio`], *optional*): Of the second leg; that of text to image by default.
        reconstruction (`str`): Which tokens of T2I2T's reconstruction come from the logits: `"hidden"` or `"all"`, see
            [`~objectives.cycle.TextCycleSettings`].
        code_gradient (`str`): Whether T2I2T's second leg trains the embeddings of the codes that the first leg said:
            `"trained"` or `"frozen"`.
        seed (`int`): Seed of all noise.

    Raises:
        ValueError: If a method is unknown or a number of updates below 1.
    """

    t2i_mask_ratio: MaskRatio = field(default_factory=MaskRatio)
    i2t_mask_ratio: MaskRatio = field(default_factory=lambda: MaskRatio(high=0.75))
    i2i_mask_ratio: MaskRatio | None = None
    t2i_batch_fraction: float = 1.0
    i2t_batch_fraction: float = 1.0
    i2i_batch_fraction: float = 1.0
    text_gradient_scale: float = 0.1
    label_smoothing: float = 0.1
    smoothing_neighbours: int = 0
    gumbel_strength: float = 1.0
    synthesis_steps: int = 24
    synthesis_guidance_scale: float = 3.0
    synthesis_temperature: float | None = None
    synthesis_max_new_tokens: int = 64
    synthesis_replay: int = 1
    text_cache_size: int = 0
    t2i2t_second_mask_ratio: MaskRatio | None = None
    i2t2i_second_mask_ratio: MaskRatio | None = None
    reconstruction: str = "hidden"
    code_gradient: str = "trained"
    seed: int = 0

    def __post_init__(self):
        self.text_cycle_settings()  # refuses choices that it does not know
        if self.smoothing_neighbours < 0 or (self.smoothing_neighbours and not self.label_smoothing):
            raise ValueError(
                "`smoothing_neighbours` must be 0 or more, and 0 without `label_smoothing`, "
                f"got {self.smoothing_neighbours} with {self.label_smoothing}"
            )
        if self.synthesis_replay < 1:
            raise ValueError(f"`synthesis_replay` must be at least 1 update, got {self.synthesis_replay}")
        if self.text_cache_size < 0:
            raise ValueError(f"`text_cache_size` must be 0 or more texts, got {self.text_cache_size}")

    def text_cycle_settings(self) -> TextCycleSettings:
        """T2I2T's share of them."""
        return TextCycleSettings(
            text_gradient_scale=self.text_gradient_scale,
            label_smoothing=self.label_smoothing,
            reconstruction=self.reconstruction,
            code_gradient=self.code_gradient,
        )


class ITITObjectives:
    """The chosen losses of a mixed batch.

    A batch holds a part for each stream, `{"paired": ..., "image": ..., "text": ...}`. A part has `image_token_ids`
    `(batch_size, num_image_tokens)`, with `image_latents` `(batch_size, num_image_tokens, image_latent_size)` if the
    model describes these, or `pixel_values` `(batch_size, 3, height, width)`, if it has images;
    `input_ids` and `attention_mask` `(batch_size, text_length)`, if it has texts; and `sample_index` `(batch_size,)`,
    each sample's place in its stream, which keys its noise. With replay a part also has `replay_index` `()`: how many
    updates it has served before. Pairs may have `sample_weight` `(batch_size,)`: what each counts in `t2i` and `i2t`.

    `monitor`, if set, is shown what the objectives synthesise and predict, see [`~training.monitoring.Monitor`].

    Args:
        names (`Sequence[str]`): Of `OBJECTIVES`: `"t2i"`, `"i2t"`, `"i2i"` read pairs; `"t2t"`, `"t2t_copy"`,
            `"t2i2t"` and `"t2i2t_half"` sentences; `"i2i_unpaired"`, `"i2t2i"` and `"i2t2i_half"` images.
        config ([`ITITConfig`]): The model's.
        text_encoder (`torch.nn.Module`): Frozen text encoder, called as transformers' `T5EncoderModel`.
        image_tokenizer (`torch.nn.Module`, *optional*): Frozen image tokenizer; needed for `pixel_values`, and
            for its codebook with `smoothing_neighbours`.
        settings ([`ObjectiveSettings`], *optional*): The paper's by default.
        scheduler ([`ITITScheduler`], *optional*): Draws the images of T2I2T.

    Raises:
        ValueError: If a name is unknown, repeated, or there is none, or a scheduler is needed and missing.
    """

    def __init__(
        self,
        names: Sequence[str],
        config,
        text_encoder: torch.nn.Module,
        image_tokenizer: torch.nn.Module | None = None,
        settings: ObjectiveSettings | None = None,
        scheduler=None,
    ):
        unknown = [name for name in names if name not in OBJECTIVES]
        if unknown or not names or len(set(names)) != len(names):
            raise ValueError(f"`names` must be one or more of {list(OBJECTIVES)}, each once, got {list(names)}")
        if scheduler is None and any(name in _T2I2T for name in names):
            raise ValueError(f"objectives {list(names)} draw images: `scheduler` must be given")
        self.names = tuple(names)
        self.config = config
        self.text_encoder = text_encoder
        self.image_tokenizer = image_tokenizer
        self.settings = settings or ObjectiveSettings()
        self.scheduler = scheduler
        self.neighbours = self._neighbours()
        self.monitor: Any = None
        self.replay = SynthesisReplay(self.settings.synthesis_replay)
        self.text_features = TextFeatureCache(text_encoder, self.settings.text_cache_size)

    def _neighbours(self) -> torch.Tensor | None:
        """Codes over which label smoothing is spread, `(codebook_size, smoothing_neighbours)`, if not over all."""
        number = self.settings.smoothing_neighbours
        if number == 0:
            return None
        if self.image_tokenizer is None:
            raise ValueError(f"`image_tokenizer` must be given with `smoothing_neighbours` {number}, for its codebook")
        return code_neighbours(self.image_tokenizer.quantize.embedding.weight, number)

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams that the objectives read."""
        return tuple(dict.fromkeys(OBJECTIVES[name] for name in self.names))

    @property
    def untrained_modules(self) -> tuple[str, ...]:
        """Names of the model's parts that none of the objectives trains: decoders, and the projection of latents."""
        trained = set().union(*(TRAINED_PARTS[name] for name in self.names))
        return tuple(name for name in self.parts if name not in trained)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the model's parts that not every objective trains."""
        latents = (_LATENTS,) if self.config.image_features == "latents" else ()
        return ("text_decoder", "image_decoder", *latents)

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
        missing = [stream for stream in self.streams if stream not in batch]
        if missing:
            raise ValueError(f"objectives {self.names} need the streams {missing}, the batch has {sorted(batch)}")
        parts = {stream: self.with_ids(batch[stream]) for stream in self.streams}
        settings = self.settings
        losses = {}
        for name in self.names:
            part = parts[OBJECTIVES[name]]
            if name == "t2i":
                losses[name] = self.text_to_image(
                    model, _share(part, settings.t2i_batch_fraction, "t2i_batch_fraction")
                )
            elif name == "i2t":
                losses |= self.image_to_text(
                    model, _share(part, settings.i2t_batch_fraction, "i2t_batch_fraction", from_back=True)
                )
            elif name == "i2i" and not self._i2i_shares_pass:
                losses[name] = self.image_to_image(
                    model, _share(part, settings.i2i_batch_fraction, "i2i_batch_fraction", True), name
                )
            elif name == "i2i_unpaired":
                losses[name] = self.image_to_image(model, part, name)
            elif name in ("t2t", "t2t_copy"):
                losses[name] = self.text_to_text(model, part, name)
            elif name in _T2I2T:
                losses[name] = self.text_cycle(model, part, name)
            elif name in _I2T2I:
                losses[name] = self.image_cycle(model, part, name)
        return {name: losses[name] for name in self.names}

    @property
    def _i2i_shares_pass(self) -> bool:
        # Latents are for what is described; guidance asks for the codes without a text.
        on_codes = self.config.image_features == "codes"
        return "i2t" in self.names and self.settings.i2i_mask_ratio is None and on_codes

    def text_to_image(self, model, paired: dict) -> torch.Tensor:
        """Equation (2) of the rows of `paired`, see the class: a scalar of shape `()`."""
        condition = {"text_embeds": self._encode(paired), "text_attention_mask": paired["attention_mask"]}
        masked = self._mask(paired, "t2i", self.settings.t2i_mask_ratio)
        drawn = image_forward(model, paired["image_token_ids"], masked, condition)  # p(i_k | I_M, T)
        return self._image_loss(drawn, masked, "t2i", paired.get("sample_weight"))

    def image_to_image(self, model, part: dict, name: str) -> torch.Tensor:
        """Equation (2) without text, in a pass of its own: a scalar of shape `()`."""
        masked = self._mask(part, name, self.settings.i2i_mask_ratio or self.settings.i2t_mask_ratio)
        drawn = image_forward(model, part["image_token_ids"], masked)  # p(i_k | I_M)
        return self._image_loss(drawn, masked, name)

    def _image_loss(self, drawn: ForwardOutput, masked: dict, name: str, sample_weights=None) -> torch.Tensor:
        if self.monitor is not None:
            self.monitor.predicted(name, drawn, masked["bool_masked_pos"])
        return self.masked_image_loss(drawn.image_logits, drawn.image_labels, sample_weights)

    def masked_image_loss(
        self, image_logits: torch.Tensor, labels: torch.Tensor, sample_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """[`~objectives.losses.masked_image_loss`] with these settings: shapes as there."""
        if self.neighbours is not None:
            self.neighbours = self.neighbours.to(labels.device)  # once; it may have been made elsewhere
        smoothing = self.settings.label_smoothing
        return masked_image_loss(image_logits, labels, smoothing, sample_weights, self.neighbours)

    def text_to_text(self, model, part: dict, name: str) -> torch.Tensor:
        r"""What Table 2 trains on unpaired sentences in place of a cycle: a scalar of shape `()`.

        `"t2t"` is equation (1) without the image, $-\log p(t_l | t_0 ... t_{l-1})$: all of I is hidden and the text is
        the empty one, so that nothing but the words before tells of the next word. That is SimVLM's prefix language
        model (Wang et al. 2022, https://huggingface.co/papers/2108.10904), whose prefix is the image in image to text,
        with an empty prefix. With `"t2t_copy"` the encoder is given T itself: an autoencoder, which learns to copy.
        """
        masked = self._mask(part, "t2t", MaskRatio(1.0, 0.0, 1.0, 1.0))
        ids = torch.zeros_like(masked["bool_masked_pos"], dtype=torch.long)  # what is hidden does not matter
        given = {"image_token_ids": ids}
        if self.config.image_features == "latents":
            given["image_latents"] = torch.zeros(*ids.shape, self.config.image_latent_size, device=ids.device)
        if name == "t2t_copy":
            given |= {"text_embeds": self._encode(part), "text_attention_mask": part["attention_mask"]}
        scales = GradientScales(text=self.settings.text_gradient_scale)
        described = caption_forward(model, self.config, given, masked, part, scales)
        return caption_loss(described.text_logits, described.text_labels, self.settings.label_smoothing)

    def text_cycle(self, model, part: dict, name: str) -> torch.Tensor:
        """Equation (3), or its half: draw what the sentences say, then say it again. A scalar of shape `()`."""
        settings = self.settings
        embeds = self._encode(part)
        drawn = self.replay(name, part, lambda: {"ids": self._draw(model, part, embeds, name)})["ids"]  # I'
        masks = (
            self._mask(part, f"{name}/first", settings.t2i_mask_ratio),
            self._mask(part, f"{name}/second", settings.t2i2t_second_mask_ratio or settings.i2t_mask_ratio),
        )
        noise = self._gumbel(part, name)
        cycle = _T2I2T[name](model, self.config, part, embeds, drawn, masks, noise, settings.text_cycle_settings())
        if self.monitor is not None:
            self.monitor.drawn(name, drawn)
            again = {"input_ids": cycle.second_pass.text_logits.argmax(dim=-1)}  # (B, L)
            self.monitor.cycled(name, part, drawn, again)
        return cycle.loss

    def _gumbel(self, part: dict, name: str) -> torch.Tensor | None:
        """Noise of a straight-through sample, `(batch_size, num_image_tokens, codebook_size)`, if there is any."""
        strength = self.settings.gumbel_strength
        if strength == 0.0:
            return None
        generators = self._generators(part, f"gumbel/{name}")
        num_tokens, num_codes = self.config.num_image_tokens, self.config.codebook_size
        return gumbel_noise(num_tokens, num_codes, generators, part["sample_index"].device) * strength

    def _draw(self, model, part: dict, embeds: torch.Tensor, name: str) -> torch.Tensor:
        """I' by the shipped loop, `(batch_size, num_image_tokens)`."""
        settings = self.settings
        with eval_mode(model) as unwrapped:
            return decode_image_tokens(
                unwrapped,
                TextCondition(embeds, part["attention_mask"]),
                self.scheduler,
                SamplingSettings(
                    num_inference_steps=settings.synthesis_steps,
                    guidance_scale=settings.synthesis_guidance_scale,
                    temperature=settings.synthesis_temperature,
                ),
                generator=self._generators(part, f"synthesis/{name}"),
            )

    def image_cycle(self, model, part: dict, name: str) -> torch.Tensor:
        """Equation (4), or its half: say what the images show, then draw it again. A scalar of shape `()`."""
        settings = self.settings
        image_token_ids = part["image_token_ids"]
        said = self.replay(name, part, lambda: self._say(model, image_of(part)))  # T'
        masks = (
            self._mask(part, f"{name}/first", settings.i2t_mask_ratio),
            self._mask(part, f"{name}/second", settings.i2t2i_second_mask_ratio or settings.t2i_mask_ratio),
        )
        cycle = _I2T2I[name](
            model,
            self.config,
            self.text_encoder,
            image_token_ids,
            said,
            masks,
            image_loss=self.masked_image_loss,
            image_latents=part.get("image_latents"),
        )
        if self.monitor is not None:
            drawn, hidden = cycle.second_pass, masks[1]["bool_masked_pos"]
            again = image_token_ids.scatter(1, drawn.positions, drawn.image_logits.argmax(dim=-1))  # (B, K)
            self.monitor.said(name, said)
            self.monitor.predicted(name, drawn, hidden)
            self.monitor.cycled(name, image_token_ids, said, torch.where(hidden, again, image_token_ids))
        return cycle.loss

    def _say(self, model, image: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """T' by the shipped loop, greedy, see [`synthetic_text`]; it stops when all rows have ended."""
        with eval_mode(model) as unwrapped:
            ids = unwrapped.generate(
                **image,
                max_new_tokens=self.settings.synthesis_max_new_tokens,
                num_beams=1,
                do_sample=False,
            )
        return synthetic_text(ids[:, self.config.num_prefix_tokens + 1 :], self.config.eos_token_id)

    def image_to_text(self, model, paired: dict) -> dict[str, torch.Tensor]:
        """Equation (1) and, where it shares the pass, image to image: scalars of shape `()` by name."""
        settings = self.settings
        shares_pass = "i2i" in self.names and self._i2i_shares_pass
        masked = self._mask(paired, "i2t", settings.i2t_mask_ratio)
        scales = GradientScales(text=settings.text_gradient_scale)
        described = caption_forward(
            model, self.config, image_of(paired), masked, paired, scales, with_image_logits=shares_pass
        )  # p(t_l | I_M, t_0 ... t_{l-1})
        loss = caption_loss(
            described.text_logits, described.text_labels, settings.label_smoothing, paired.get("sample_weight")
        )
        losses = {"i2t": loss}
        if shares_pass:
            losses["i2i"] = self._image_loss(described, masked, "i2i")
        return losses

    def _generators(self, part: dict, purpose: str) -> list[torch.Generator]:
        """Noise of each sample, a function of the run's seed, the purpose, the sample's index and its replay alone."""
        replay_index = int(part.get("replay_index", 0))
        if replay_index:
            purpose = f"{purpose}/{replay_index}"
        return keyed_generators(self.settings.seed, purpose, part["sample_index"].tolist())

    def _mask(self, part: dict, name: str, ratio: MaskRatio) -> dict:
        """A new mask for each sample."""
        generators = self._generators(part, f"mask/{name}")
        config, device = self.config, part["sample_index"].device
        return draw_mask(config.num_image_tokens, ratio, config.encoder_drop, generators, device)

    def _encode(self, part: dict) -> torch.Tensor:
        """T, of shape `(batch_size, text_length, text_hidden_size)`."""
        return self.text_features(part["input_ids"], part["attention_mask"])

    def with_ids(self, part: dict) -> dict:
        """A part with `image_token_ids` of shape `(batch_size, num_image_tokens)`, if it has images, and with their
        `image_latents` if they are what is described."""
        if "image_token_ids" in part or "pixel_values" not in part:
            return part
        if self.image_tokenizer is None:
            raise ValueError("the batch holds `pixel_values`: `image_tokenizer` must be given to turn them into ids")
        with torch.no_grad():
            return part | image_inputs(self.image_tokenizer, part["pixel_values"], self.config.image_features)


def image_of(part: dict) -> dict[str, torch.Tensor]:
    """The images of a part that are to be described, by the names of the model's arguments.

    Args:
        part (`dict`): See [`ITITObjectives`].

    Returns:
        `dict`: `image_token_ids` of shape `(batch_size, num_image_tokens)`, and `image_latents` if there are any.
    """
    return {name: part[name] for name in ("image_token_ids", "image_latents") if name in part}


def synthetic_text(ids: torch.Tensor, eos_token_id: int) -> dict[str, torch.Tensor]:
    """A generated text T' and where it ends.

    Args:
        ids (`torch.LongTensor` of shape `(batch_size, text_length)`): What was generated, padding after its end.
        eos_token_id (`int`): End of sequence; a text that was cut has none.

    Returns:
        `dict` with `input_ids` and `attention_mask` of shape `(batch_size, text_length)`; the mask is 1 up to the
        first end of sequence, that one included.
    """
    is_end = ids == eos_token_id
    after_end = is_end.long().cumsum(dim=-1) - is_end.long() > 0
    return {"input_ids": ids, "attention_mask": (~after_end).long()}


@contextmanager
def eval_mode(model):
    """The module inside a wrapper, without dropout and without gradients: how a sample is synthesised."""
    unwrapped = getattr(model, "module", model)
    training = unwrapped.training
    unwrapped.eval()
    try:
        with torch.no_grad():
            yield unwrapped
    finally:
        unwrapped.train(training)


def _share(part: dict, share: float, name: str, from_back: bool = False) -> dict:
    """The first or last rows of each tensor; as many in each batch, so that accumulating changes nothing."""
    batch_size = len(part["sample_index"])
    count = round(share * batch_size)
    if not 0 < count <= batch_size or abs(count - share * batch_size) > 1e-6:
        raise ValueError(f"`{name}` must give a whole number of 1 to {batch_size} rows of a batch, got {share}")
    rows = slice(batch_size - count, None) if from_back else slice(count)
    return {key: value[rows] if value.ndim else value for key, value in part.items()}
