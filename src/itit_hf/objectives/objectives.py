# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Objectives by name: `(model, mixed batch) -> {name: loss}`. All noise is keyed by sample.

`OBJECTIVES` is the table of them. A new objective is one row there and one function.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from ..decoding.sampling import SamplingSettings, decode_image_tokens
from ..masking import MaskRatio, draw_mask
from ..models.image_tokenization_itit import image_inputs
from ..models.types_itit import ImageMask, TextCondition
from ..rng import keyed_generators
from .caching import SynthesisReplay, TextFeatureCache
from .cycle import Monitor, TextCycleSettings, gumbel_noise, image_to_text_to_image, text_to_image_to_text
from .forward import ForwardOutput, GradientScales, caption_forward, image_forward, image_of, unwrap
from .losses import caption_loss, code_neighbours, masked_image_loss

Losses = dict[str, torch.Tensor]


@dataclass
class ObjectiveSettings:
    """Training settings of the losses; defaults are the paper's.

    Args:
        t2i_mask_ratio ([`MaskRatio`]): Share of masked tokens in text to image.
        i2t_mask_ratio ([`MaskRatio`]): The same in image to text; `high=0.0` captions whole images.
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
        synthesis_steps (`int`): Decoding steps of the images generated for T2I2T.
        synthesis_guidance_scale (`float`): Their guidance.
        synthesis_temperature (`float`, *optional*): Their temperature; the scheduler's by default.
        synthesis_max_new_tokens (`int`): Tokens of the captions generated for I2T2I, at most.
        synthesis_replay (`int`): Updates that each synthesis serves, each with new masks and noise.
        text_cache_size (`int`): Texts whose features are kept, see [`~objectives.caching.TextFeatureCache`].
        t2i2t_second_mask_ratio ([`MaskRatio`], *optional*): Of the second pass; that of image to text by default.
        i2t2i_second_mask_ratio ([`MaskRatio`], *optional*): Of the second pass; that of text to image by default.
        reconstruction (`str`): Which tokens of T2I2T's reconstruction come from the logits: `"masked"` or `"all"`, see
            [`~objectives.cycle.TextCycleSettings`].
        train_code_embeddings (`bool`): Whether T2I2T's second pass trains the embeddings of the codes that the first
            pass predicted, see there.
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
    reconstruction: str = "masked"
    train_code_embeddings: bool = True
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
            train_code_embeddings=self.train_code_embeddings,
        )


class ITITObjectives:
    """The chosen losses of a mixed batch.

    A mixed batch holds a batch of each stream, `{"paired": ..., "image": ..., "text": ...}`, which is a dictionary of

    - `image_token_ids` `(batch_size, num_image_tokens)`, with `image_latents`
      `(batch_size, num_image_tokens, image_latent_size)` if the model captions these, or `pixel_values`
      `(batch_size, 3, height, width)`: if it has images;
    - `input_ids` and `attention_mask` `(batch_size, text_length)`: if it has texts;
    - `sample_index` `(batch_size,)`: each sample's place in its stream, which keys its noise;
    - `replay_index` `()`: how many updates it has served before; with replay;
    - `sample_weight` `(batch_size,)`, *optional*: what each pair counts in `t2i` and `i2t`.

    `monitor`, if set, is shown what the objectives synthesise and predict, see [`~training.monitoring.Monitor`].

    Args:
        names (`Sequence[str]`): Of `OBJECTIVES`.
        config ([`ITITConfig`]): The model's.
        text_encoder (`torch.nn.Module`): Frozen text encoder of transformers: T5, BERT, CLIP's tower
            and their like.
        image_tokenizer (`torch.nn.Module`, *optional*): Frozen image tokenizer; needed for `pixel_values`, and
            for its codebook with `smoothing_neighbours`.
        settings ([`ObjectiveSettings`], *optional*): The paper's by default.
        scheduler ([`ITITScheduler`], *optional*): Of the images that are generated for a cycle.

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
        if scheduler is None and any(OBJECTIVES[name].generates_images for name in names):
            raise ValueError(f"objectives {list(names)} generate images: `scheduler` must be given")
        self.names = tuple(names)
        self.config = config
        self.text_encoder = text_encoder
        self.image_tokenizer = image_tokenizer
        self.settings = settings or ObjectiveSettings()
        self.scheduler = scheduler
        self.neighbours = self._neighbours()
        self.monitor: Monitor | None = None
        self.replay = SynthesisReplay(self.settings.synthesis_replay)
        self.text_features = TextFeatureCache(text_encoder, self.settings.text_cache_size)

    def __call__(self, model, batches: dict[str, dict]) -> Losses:
        """Losses by name.

        Args:
            model: Called like [`ITITForPreTraining`]; the *wrapped* one when it is distributed.
            batches (`dict`): A mixed batch, see the class.

        Returns:
            `dict` of scalar tensors of shape `()`, in the order of `names`.

        Raises:
            ValueError: If a stream that an objective needs is not in the batch.
        """
        missing = [stream for stream in self.streams if stream not in batches]
        if missing:
            raise ValueError(f"objectives {self.names} need the streams {missing}, the batch has {sorted(batches)}")
        batches = {stream: self.with_ids(batches[stream]) for stream in self.streams}
        losses: Losses = {}
        for name in self.names:
            objective = OBJECTIVES[name]
            losses |= objective.function(self, model, batches[objective.stream], name)
        return {name: losses[name] for name in self.names}

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams that the objectives read."""
        return tuple(dict.fromkeys(OBJECTIVES[name].stream for name in self.names))

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the model's modules that not every objective trains: decoders, and the projection of latents."""
        latents = (LATENTS,) if self.config.image_features == "latents" else ()
        return (TEXT_DECODER, IMAGE_DECODER, *latents)

    @property
    def untrained_modules(self) -> tuple[str, ...]:
        """Names of those that none of these objectives trains. They are to be frozen, as plain DDP waits for every
        gradient."""
        trained = {module for name in self.names for module in OBJECTIVES[name].trained_modules}
        return tuple(name for name in self.modules if name not in trained)

    # What the objectives are made of

    def encode_text(self, batch: dict) -> TextCondition:
        """T: features of shape `(batch_size, text_length, text_hidden_size)`, and their padding mask."""
        embeds = self.text_features(batch["input_ids"], batch["attention_mask"])  # (B, L, C)
        return TextCondition(embeds, batch["attention_mask"])

    def draw_mask(self, batch: dict, name: str, ratio: MaskRatio) -> ImageMask:
        """M: a new mask of shape `(batch_size, num_image_tokens)`, keyed by the samples and `name`."""
        generators = self.generators(batch, f"mask/{name}")
        device = batch["sample_index"].device
        return draw_mask(self.config.num_image_tokens, ratio, self.config.encoder_drop, generators, device)

    def gumbel_noise(self, batch: dict, name: str) -> torch.Tensor | None:
        """Noise of a straight-through sample, of shape `(batch_size, num_image_tokens, codebook_size)`, if there is
        any."""
        strength = self.settings.gumbel_strength
        if strength == 0.0:
            return None
        generators = self.generators(batch, f"gumbel/{name}")
        device = batch["sample_index"].device
        return gumbel_noise(self.config.num_image_tokens, self.config.codebook_size, generators, device) * strength

    def generators(self, batch: dict, purpose: str) -> list[torch.Generator]:
        """Noise of each sample, a function of the run's seed, the purpose, the sample's index and its replay alone."""
        replay_index = int(batch.get("replay_index", 0))
        if replay_index:
            purpose = f"{purpose}/{replay_index}"
        return keyed_generators(self.settings.seed, purpose, batch["sample_index"].tolist())

    def generate_images(self, model, batch: dict, text_condition: TextCondition, name: str) -> torch.Tensor:
        """I': images of the texts by the shipped loop, of shape `(batch_size, num_image_tokens)`; no gradient."""
        settings = self.settings
        with eval_mode(model) as network:
            return decode_image_tokens(
                network,
                text_condition,
                self.scheduler,
                SamplingSettings(
                    num_inference_steps=settings.synthesis_steps,
                    guidance_scale=settings.synthesis_guidance_scale,
                    temperature=settings.synthesis_temperature,
                ),
                generator=self.generators(batch, f"synthesis/{name}"),
            )

    def caption_images(self, model, image: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """T': greedy captions of whole images by the shipped loop, of shape `(batch_size, text_length)`, see
        [`synthetic_text`]; no gradient. It stops when all rows have ended."""
        with eval_mode(model) as network:
            ids = network.generate(
                **image, max_new_tokens=self.settings.synthesis_max_new_tokens, num_beams=1, do_sample=False
            )
        return synthetic_text(self.config, ids)

    @property
    def image_loss(self) -> Callable[..., torch.Tensor]:
        """[`~objectives.losses.masked_image_loss`] by these settings: of logits, labels and `sample_weights`, a scalar
        of shape `()`."""
        return partial(masked_image_loss, label_smoothing=self.settings.label_smoothing, neighbours=self.neighbours)

    @property
    def i2i_shares_pass(self) -> bool:
        """Whether image to image is done in the encoder pass of image to text, if both are trained (section 3.1)."""
        # Latents are for what is captioned; guidance asks for the codes without a text.
        on_codes = self.config.image_features == "codes"
        return on_codes and self.settings.i2i_mask_ratio is None and {"i2t", "i2i"} <= set(self.names)

    def with_ids(self, batch: dict) -> dict:
        """A batch of a stream with `image_token_ids` of shape `(batch_size, num_image_tokens)`, if it has images, and
        with their `image_latents` if they are what is captioned."""
        if "image_token_ids" in batch or "pixel_values" not in batch:
            return batch
        if self.image_tokenizer is None:
            raise ValueError("the batch holds `pixel_values`: `image_tokenizer` must be given to turn them into ids")
        with torch.no_grad():
            return batch | image_inputs(self.image_tokenizer, batch["pixel_values"], self.config.image_features)

    def _neighbours(self) -> torch.Tensor | None:
        """Codes over which label smoothing is spread, `(codebook_size, smoothing_neighbours)`, if not over all."""
        number = self.settings.smoothing_neighbours
        if number == 0:
            return None
        if self.image_tokenizer is None:
            raise ValueError(f"`image_tokenizer` must be given with `smoothing_neighbours` {number}, for its codebook")
        return code_neighbours(self.image_tokenizer.quantize.embedding.weight, number)


# Objectives: `(objectives, model, batch of the stream, name) -> losses by name`


def text_to_image(objectives: ITITObjectives, model, batch: dict, name: str) -> Losses:
    """Equation (2) of pairs: a scalar of shape `()` by its name."""
    settings = objectives.settings
    batch = take_rows(batch, settings.t2i_batch_fraction, "t2i_batch_fraction")
    text_condition = objectives.encode_text(batch)  # T
    image_mask = objectives.draw_mask(batch, name, settings.t2i_mask_ratio)  # M
    output = image_forward(model, batch["image_token_ids"], image_mask, text_condition)  # p(i_k | I_M, T)
    _monitor_predicted(objectives, name, output, image_mask)
    weights = batch.get("sample_weight")
    return {name: objectives.image_loss(output.image_logits, output.image_labels, sample_weights=weights)}


def image_to_text(objectives: ITITObjectives, model, batch: dict, name: str) -> Losses:
    """Equation (1) of pairs and, where it shares the pass, image to image: scalars of shape `()` by name."""
    settings = objectives.settings
    batch = take_rows(batch, settings.i2t_batch_fraction, "i2t_batch_fraction", from_back=True)
    image_mask = objectives.draw_mask(batch, name, settings.i2t_mask_ratio)  # M
    scales = GradientScales(text=settings.text_gradient_scale)
    output = caption_forward(
        model, image_of(batch), image_mask, batch, scales, with_image_logits=objectives.i2i_shares_pass
    )  # p(t_l | I_M, t_0 ... t_{l-1})
    weights = batch.get("sample_weight")
    losses = {name: caption_loss(output.text_logits, output.text_labels, settings.label_smoothing, weights)}
    if objectives.i2i_shares_pass:
        _monitor_predicted(objectives, "i2i", output, image_mask)
        losses["i2i"] = objectives.image_loss(output.image_logits, output.image_labels)
    return losses


def image_to_image(objectives: ITITObjectives, model, batch: dict, name: str) -> Losses:
    """Equation (2) with the empty text, for guidance: a scalar of shape `()` by its name.

    Of pairs (`"i2i"`) it has a pass of its own unless it shares that of image to text.
    """
    settings = objectives.settings
    if name == "i2i":
        if objectives.i2i_shares_pass:
            return {}  # `image_to_text` has it
        batch = take_rows(batch, settings.i2i_batch_fraction, "i2i_batch_fraction", from_back=True)
    image_mask = objectives.draw_mask(batch, name, settings.i2i_mask_ratio or settings.i2t_mask_ratio)  # M
    output = image_forward(model, batch["image_token_ids"], image_mask)  # p(i_k | I_M)
    _monitor_predicted(objectives, name, output, image_mask)
    return {name: objectives.image_loss(output.image_logits, output.image_labels)}


def text_to_text(objectives: ITITObjectives, model, batch: dict, name: str, is_copy: bool = False) -> Losses:
    r"""What Table 2 trains on unpaired sentences in place of a cycle: a scalar of shape `()` by its name.

    `"t2t"` is equation (1) without the image, $-\log p(t_l | t_0 ... t_{l-1})$: all of I is masked and the text is
    the empty one, so that nothing but the words before tells of the next word. That is SimVLM's prefix language
    model (Wang et al. 2022, https://huggingface.co/papers/2108.10904), whose prefix is the image in image to text,
    with an empty prefix. With `is_copy` the encoder is given T itself: an autoencoder, which learns to copy.
    """
    settings = objectives.settings
    config = objectives.config
    image_mask = objectives.draw_mask(batch, "t2t", MaskRatio(1.0, 0.0, 1.0, 1.0))
    ids = torch.zeros_like(image_mask.bool_masked_pos, dtype=torch.long)  # what is masked does not matter
    inputs: dict[str, Any] = {"image_token_ids": ids}
    if config.image_features == "latents":
        inputs["image_latents"] = torch.zeros(*ids.shape, config.image_latent_size, device=ids.device)
    if is_copy:
        inputs["text_condition"] = objectives.encode_text(batch)
    scales = GradientScales(text=settings.text_gradient_scale)
    output = caption_forward(model, inputs, image_mask, batch, scales)  # p(t_l | t_0 ... t_{l-1})
    return {name: caption_loss(output.text_logits, output.text_labels, settings.label_smoothing)}


def _monitor_predicted(objectives: ITITObjectives, name: str, output: ForwardOutput, image_mask: ImageMask):
    if objectives.monitor is not None:
        objectives.monitor.predicted(name, output, image_mask.bool_masked_pos)


@dataclass(frozen=True)
class Objective:
    """A row of the table of objectives.

    Args:
        stream (`str`): The stream that it reads: `"paired"`, `"image"` or `"text"`.
        trained_modules (`tuple[str, ...]`): Modules of the model that it trains, of those that not every objective
            trains. The first pass of the cycle of images trains no part of the encoder, and its second pass sees ids:
            so it does not train the projection of latents.
        function (`Callable`): `(objectives, model, batch, name) -> losses by name`, its own and those that come with
            it, scalars of shape `()`; `batch` is that of the stream.
        about (`str`): A few words for the help of the training script.
        generates_images (`bool`, *optional*, defaults to `False`): Whether it needs a scheduler.
        cycle (`tuple[str, ...]`, *optional*): Of a cycle, what goes in, what is made of it and what comes back: the
            labels of its samples.
    """

    stream: str
    trained_modules: tuple[str, ...]
    function: Callable[..., Losses]
    about: str
    generates_images: bool = False
    cycle: tuple[str, ...] = ()


TEXT_DECODER = "text_decoder"
IMAGE_DECODER = "image_decoder"
LATENTS = "model.embed_image_latents"
_TEXT_CYCLE = ("prompt", "generated", "caption (teacher-forced)")
_IMAGE_CYCLE = ("image", "caption", "masked tokens, generated")

OBJECTIVES: dict[str, Objective] = {
    "t2i": Objective("paired", (IMAGE_DECODER,), text_to_image, "equation (2)"),
    "i2t": Objective("paired", (TEXT_DECODER, LATENTS), image_to_text, "equation (1)"),
    "i2i": Objective("paired", (IMAGE_DECODER,), image_to_image, "equation (2) with the empty text, for guidance"),
    "t2t": Objective("text", (TEXT_DECODER, LATENTS), text_to_text, "equation (1) without the image, Table 2"),
    "t2t_copy": Objective(
        "text",
        (TEXT_DECODER, LATENTS),
        partial(text_to_text, is_copy=True),
        "another reading of t2t: the encoder is given the text",
    ),
    "t2i2t": Objective(
        "text",
        (IMAGE_DECODER, TEXT_DECODER, LATENTS),
        text_to_image_to_text,
        "equation (3)",
        generates_images=True,
        cycle=_TEXT_CYCLE,
    ),
    "t2i2t_half": Objective(
        "text",
        (TEXT_DECODER, LATENTS),
        partial(text_to_image_to_text, is_half=True),
        "half cycle of equation (3), Table 2",
        generates_images=True,
        cycle=_TEXT_CYCLE,
    ),
    "i2i_unpaired": Objective("image", (IMAGE_DECODER,), image_to_image, "i2i of unpaired images, Table 2"),
    "i2t2i": Objective(
        "image", (IMAGE_DECODER, TEXT_DECODER), image_to_text_to_image, "equation (4)", cycle=_IMAGE_CYCLE
    ),
    "i2t2i_half": Objective(
        "image",
        (IMAGE_DECODER,),
        partial(image_to_text_to_image, is_half=True),
        "half cycle of equation (4), Table 2",
        cycle=_IMAGE_CYCLE,
    ),
}


def synthetic_text(config, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """A generated text T' as the text encoder reads it, and where it ends.

    Args:
        config ([`ITITConfig`]): The model's.
        ids (`torch.LongTensor` of shape `(batch_size, length)`): What `generate` returned: the image's prefix, [BOS],
            a text, padding after its end. A text that was cut has no end of sequence.

    Returns:
        `dict` with `input_ids` and `attention_mask` of shape `(batch_size, text_length)`; the mask is 1 up to the
        first end of sequence, that one included. [BOS] is there if texts begin with it.
    """
    start = config.num_prefix_tokens if config.text_begins_with_bos else config.num_prefix_tokens + 1
    ids = ids[:, start:]
    is_end = ids == config.eos_token_id
    after_end = is_end.long().cumsum(dim=-1) - is_end.long() > 0
    return {"input_ids": ids, "attention_mask": (~after_end).long()}


@contextmanager
def eval_mode(model) -> Iterator:
    """The network inside a wrapper, without dropout and without gradients: how a sample is synthesised."""
    network = unwrap(model)
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield network
    finally:
        network.train(training)


def take_rows(batch: dict, fraction: float, name: str, from_back: bool = False) -> dict:
    """The first or last rows of a batch; as many of each batch, so that accumulating changes nothing.

    Args:
        batch (`dict`): Tensors of shape `(batch_size, ...)` or `()`.
        fraction (`float`): Of its rows.
        name (`str`): Of the setting, for the error.
        from_back (`bool`, *optional*, defaults to `False`): Take the last rows.

    Raises:
        ValueError: If that is no whole number of rows.
    """
    batch_size = len(batch["sample_index"])
    count = round(fraction * batch_size)
    if not 0 < count <= batch_size or abs(count - fraction * batch_size) > 1e-6:
        raise ValueError(f"`{name}` must give a whole number of 1 to {batch_size} rows of a batch, got {fraction}")
    rows = slice(batch_size - count, None) if from_back else slice(count)
    return {key: value[rows] if value.ndim else value for key, value in batch.items()}
