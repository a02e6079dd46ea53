# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Architecture of ITIT."""

import copy
import math
from collections.abc import Sequence

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

ENCODER_DROPS = ("half", "all", "none")

INITIALIZERS = ("normal", "xavier")
IMAGE_FEATURES = ("codes", "latents")
IMAGE_DECODER_FILLS = ("mask", "text")

# Totals without T5 and VQ tokenizer: 221M, 487M and 868M in Table 1. The paper does not give the decoder widths of L
# and H; these are the multiples of a 64-wide head whose totals come nearest (asserted by a test to be within 5%).
PRESETS: dict[str, dict] = {
    "tiny": {
        "codebook_size": 512,
        "image_grid": (8, 8),
        "vocab_size": 512,
        "num_text_tokens": 500,
        "text_hidden_size": 128,
        "hidden_size": 192,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "intermediate_size": 768,
        "decoder_hidden_size": 192,
        "decoder_num_attention_heads": 6,
        "decoder_intermediate_size": 768,
        "image_decoder_num_hidden_layers": 3,
        "text_decoder_num_hidden_layers": 2,
        "initializer": "xavier",
    },
    "base": {},
    "large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "decoder_hidden_size": 896,
        "decoder_num_attention_heads": 14,
        "decoder_intermediate_size": 3584,
    },
    "huge": {
        "hidden_size": 1280,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "intermediate_size": 5120,
        "decoder_hidden_size": 1024,
        "decoder_num_attention_heads": 16,
        "decoder_intermediate_size": 4096,
    },
}


def padded_vocab_size(num_text_tokens: int) -> int:
    """Rows of a text embedding for a tokenizer of so many pieces: a multiple of 64, as matrix products are fastest on,
    with room for `bos_token_id` and `image_token_id`."""
    return -(-(num_text_tokens + 2) // 64) * 64


def text_fields(tokenizer, text_encoder_config) -> dict:
    """What a configuration has of the frozen text encoder and of its tokenizer.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): Whose pieces are read and generated.
        text_encoder_config (`PreTrainedConfig`): Of a T5, mT5 or UMT5 encoder, of BERT and its like, or of CLIP's text
            tower.

    Returns:
        `dict`: Fields of [`ITITConfig`] by name.

    Raises:
        ValueError: If the tokenizer puts more around a text than a begin and an end.
    """
    around = tokenizer("").input_ids
    if len(around) not in (1, 2):
        raise ValueError(
            "`tokenizer` must end each text with one special token and may begin it with one, such as T5's, BERT's, "
            f"RoBERTa's or CLIP's; this one makes {tokenizer.convert_ids_to_tokens(around)} of the empty text"
        )
    num_text_tokens = len(tokenizer)
    encoder = text_encoder_config.get_text_config()
    return {
        "text_hidden_size": encoder.hidden_size,
        "num_text_tokens": num_text_tokens,
        "vocab_size": max(encoder.vocab_size, padded_vocab_size(num_text_tokens)),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": around[-1],
        "bos_token_id": around[0] if len(around) == 2 else None,
        "text_begins_with_bos": len(around) == 2,
        "image_token_id": None,
    }


def _grid_of_before(num_image_tokens: int, image_grid: Sequence[int]) -> tuple[int, int]:
    """The grid of a configuration that has `num_image_tokens`, which must not contradict one that was given."""
    side = math.isqrt(max(0, num_image_tokens))
    if num_image_tokens < 1 or side * side != num_image_tokens:
        raise ValueError(
            f"`num_image_tokens` must be a square of at least 1, got {num_image_tokens}; for images that are not "
            "square give `image_grid`, height and width"
        )
    if tuple(image_grid) not in (ITITConfig.image_grid, (side, side)):
        raise ValueError(f"give `image_grid` alone, got {tuple(image_grid)} and `num_image_tokens` {num_image_tokens}")
    return side, side


@strict
class ITITConfig(PreTrainedConfig):
    r"""Architecture of ITIT's trainable network; training settings live in [`ITITTrainingArguments`], sampling ones in
    [`ITITScheduler`] and the generation config. The frozen text encoder and image tokenizer are not part of it.

    Defaults are ITIT-B. "B" below is appendix B of the paper (https://huggingface.co/papers/2310.03734).

    Args:
        codebook_size (`int`, defaults to 8192):
            Codes of the image tokenizer (B, "Image Tokenizer"). The embedding has one row more, for `mask_token_id`.
        image_grid (`Sequence[int]` of length 2, defaults to `(16, 16)`):
            Rows and columns of an image's tokens: 16 x 16 for 256 x 256 pixels, 16 x 24 for images 256 high and 384
            wide. A saved configuration from before it has `num_image_tokens` in its place, a square, and is read.
        vocab_size (`int`, defaults to 32128): Rows of the text embedding; T5's number.
        num_text_tokens (`int`, defaults to 32100):
            Ids below this are the tokenizer's and may be generated. At least two rows must be spare.
        max_text_length (`int`, defaults to 64): Text tokens at most, end of sequence included (B, "Text Tokenizer").
        text_hidden_size (`int`, defaults to 4096): Width of the text encoder's features; T5-XXL's number.
        hidden_size (`int`, defaults to 768): Width of the joint image-text encoder; ViT-B.
        num_hidden_layers (`int`, defaults to 12): Its blocks.
        num_attention_heads (`int`, defaults to 12): Its heads.
        intermediate_size (`int`, defaults to 3072): Its MLP width.
        decoder_hidden_size (`int`, defaults to 768): Width of both decoders.
        decoder_num_attention_heads (`int`, defaults to 12): Heads of both decoders.
        decoder_intermediate_size (`int`, defaults to 3072): MLP width of both decoders.
        image_decoder_num_hidden_layers (`int`, defaults to 8): Blocks of the image decoder (B, "ViT architecture").
        text_decoder_num_hidden_layers (`int`, defaults to 6): Blocks of the text decoder.
        image_decoder_num_attention_heads (`int`, *optional*):
            Heads of the image decoder alone; `decoder_num_attention_heads` by default. MAGE has 16.
        image_decoder_fill (`str`, defaults to `"mask"`):
            What stands at masked positions of the image decoder: `"mask"` is a learned embedding; `"text"` is the
            projected feature of the text's last token, of the null text its only one. MAGE fills with its class token.
        hidden_act (`str`, defaults to `"gelu"`): Activation; the exact form is faster than tanh's on a CPU.
        hidden_dropout_prob (`float`, defaults to 0.1): Dropout on embeddings and residual branches (Table 3).
        attention_probs_dropout_prob (`float`, defaults to 0.1): Dropout on attention weights (Table 3).
        layer_norm_eps (`float`, defaults to 1e-6): Epsilon of the layer norms.
        image_head_layer_norm_eps (`float`, *optional*):
            Epsilon of the norm in the image decoder's head; `layer_norm_eps` by default. MAGE has 1e-5.
        text_decoder_hidden_act (`str`, *optional*):
            Activation of the text decoder alone; `hidden_act` by default. GPT-2 has `"gelu_new"`.
        text_decoder_layer_norm_eps (`float`, *optional*):
            Epsilon of the text decoder's norms; `layer_norm_eps` by default. GPT-2 has 1e-5.
        initializer (`str`, defaults to `"normal"`):
            `"normal"` draws linear weights from N(0, initializer_range); `"xavier"` draws them uniformly by fan-in and
            fan-out, and image positions start as sines and cosines: what small runs need
            (docs/experiments/training.md).
        initializer_range (`float`, defaults to 0.02): Standard deviation of `"normal"`, and of all embeddings.
        encoder_drop (`str`, defaults to `"half"`):
            Which masked image positions the encoder is not given: `"half"` drops exactly half of all positions, the
            rest of the masked ones stay as mask embeddings (B; MAGE's rule); `"all"` drops every masked one; `"none"`
            drops none.
        image_features (`str`, defaults to `"codes"`):
            What the encoder sees of an image that is to be captioned: `"codes"` embeds its token ids; `"latents"`
            projects what the image tokenizer has before it quantizes (UMT's two levels). Images are generated as
            codes always.
        image_latent_size (`int`, *optional*): Channels of these latents, as many as a code vector has.
        pad_token_id (`int`, defaults to 0): Padding id of the text tokenizer.
        eos_token_id (`int`, defaults to 1): End of text.
        bos_token_id (`int`, *optional*): Starts a caption; the first spare row by default.
        text_begins_with_bos (`bool`, defaults to `False`):
            Whether texts begin with `bos_token_id` for the text encoder too, as BERT's with [CLS] and RoBERTa's with
            <s>. T5's do not.
        image_token_id (`int`, *optional*):
            Placeholder of an image feature in `input_ids`, a spare row; the last one by default.
        use_cache (`bool`, defaults to `True`): Keep keys and values while generating captions.
        text_encoder_name_or_path (`str`, *optional*):
            Hub id or path of the frozen text encoder the weights were trained with. Not `text_encoder`: transformers
            takes a field of that name for a sub-configuration.
        image_tokenizer_name_or_path (`str`, *optional*): Hub id or path of the frozen image tokenizer.
        known_words (`str`, *optional*): The content words of the texts it was trained on, with spaces between; a
            prompt with another one is warned of. `None` if they are not known.

    Raises:
        StrictDataclassError: If a field has the wrong type, or sizes do not fit each other.
    """

    model_type = "itit"
    keys_to_ignore_at_inference = ["past_key_values"]

    codebook_size: int = 8192
    image_grid: list[int] | tuple[int, ...] = (16, 16)
    vocab_size: int = 32128
    num_text_tokens: int = 32100
    max_text_length: int = 64
    text_hidden_size: int = 4096
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    decoder_hidden_size: int = 768
    decoder_num_attention_heads: int = 12
    decoder_intermediate_size: int = 3072
    image_decoder_num_hidden_layers: int = 8
    text_decoder_num_hidden_layers: int = 6
    image_decoder_num_attention_heads: int | None = None
    image_decoder_fill: str = "mask"
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    layer_norm_eps: float = 1e-6
    image_head_layer_norm_eps: float | None = None
    text_decoder_hidden_act: str | None = None
    text_decoder_layer_norm_eps: float | None = None
    initializer: str = "normal"
    initializer_range: float = 0.02
    encoder_drop: str = "half"
    image_features: str = "codes"
    image_latent_size: int | None = None
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1
    text_begins_with_bos: bool = False
    use_cache: bool = True
    text_encoder_name_or_path: str | None = None
    image_tokenizer_name_or_path: str | None = None
    known_words: str | None = None

    def __post_init__(self, num_image_tokens: int | None = None, **kwargs):
        """Read `num_image_tokens` of a configuration from before `image_grid`; the rest is transformers' own."""
        if num_image_tokens is not None:
            self.image_grid = _grid_of_before(num_image_tokens, self.image_grid)
        self.image_grid = tuple(self.image_grid)  # a file has a list
        super().__post_init__(**kwargs)

    @classmethod
    def preset(cls, name: str) -> "ITITConfig":
        """The configuration of a named size.

        Args:
            name (`str`): `"tiny"` (4.6M parameters, for two CPU cores), `"base"`, `"large"` or `"huge"` (Table 1).

        Raises:
            ValueError: If the name is unknown.
        """
        if name not in PRESETS:
            raise ValueError(f"`name` must be one of {sorted(PRESETS)}, got {name!r}")
        return cls(**PRESETS[name])

    @property
    def num_image_tokens(self) -> int:
        """Tokens per image, which stand row by row."""
        height, width = self.image_grid
        return height * width

    @property
    def mask_token_id(self) -> int:
        """Id of a masked image token: the embedding row after the last code."""
        return self.codebook_size

    # These two are no fields: what is not given follows the sizes, also where these are changed later. What is given
    # lies in the instance's dictionary, by the same name, so that it is saved and shown as fields are.

    @property
    def bos_token_id(self) -> int:
        """Id that starts a caption, `t_0` of equation (1); T5 has no such token."""
        given = self.__dict__.get("bos_token_id")
        return self.num_text_tokens if given is None else given

    @bos_token_id.setter
    def bos_token_id(self, value: int | None):
        self._give_id("bos_token_id", value)

    @property
    def image_token_id(self) -> int:
        """Placeholder of one encoder feature in the captioner's `input_ids`."""
        given = self.__dict__.get("image_token_id")
        return self.vocab_size - 1 if given is None else given

    @image_token_id.setter
    def image_token_id(self, value: int | None):
        self._give_id("image_token_id", value)

    def _give_id(self, name: str, value: int | None):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise ValueError(f"`{name}` must be an integer or None, got {value!r}")
        self.__dict__[name] = value

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> "ITITConfig":
        """What transformers asks for the sizes of the module that generates text: caches have its layers and heads.

        Args:
            decoder (`bool`, *optional*): Whether the text decoder's own sizes are asked for.
            encoder (`bool`, *optional*): As in transformers.

        Returns:
            [`ITITConfig`]: With `decoder=True` a copy whose sizes are the text decoder's, else this configuration.
        """
        if not decoder or encoder:
            return super().get_text_config(decoder=decoder, encoder=encoder)
        config = copy.copy(self)
        config.num_hidden_layers = self.text_decoder_num_hidden_layers
        config.hidden_size = self.decoder_hidden_size
        config.num_attention_heads = self.decoder_num_attention_heads
        config.intermediate_size = self.decoder_intermediate_size
        return config

    @property
    def num_null_text_tokens(self) -> int:
        """Tokens of the empty text as the text encoder reads it: its end, and its begin if it has one."""
        return 2 if self.text_begins_with_bos else 1

    @property
    def num_prefix_tokens(self) -> int:
        """Encoder features of a whole image: its tokens and those of the null text."""
        return self.num_image_tokens + self.num_null_text_tokens

    @property
    def image_decoder_heads(self) -> int:
        """Attention heads of the image decoder."""
        own = self.image_decoder_num_attention_heads
        return self.decoder_num_attention_heads if own is None else own

    def validate_image_tokens(self):
        """Called by `@strict`."""
        if len(self.image_grid) != 2 or min(self.image_grid) < 1:
            raise ValueError(
                f"`image_grid` must be two numbers of at least 1, height and width, got {self.image_grid}"
            )
        if self.codebook_size < 1:
            raise ValueError(f"`codebook_size` must be at least 1, got {self.codebook_size}")

    def validate_text_tokens(self):
        """Called by `@strict`."""
        if not 0 < self.num_text_tokens <= self.vocab_size - 2:
            raise ValueError(
                f"`num_text_tokens` must be in 1..vocab_size - 2 = {self.vocab_size - 2}, got {self.num_text_tokens}"
            )
        if not self.num_text_tokens <= self.image_token_id < self.vocab_size:
            raise ValueError(
                f"`image_token_id` must be in num_text_tokens..vocab_size - 1 = {self.num_text_tokens}.."
                f"{self.vocab_size - 1}, got {self.image_token_id}"
            )
        if not 0 <= self.bos_token_id < self.vocab_size or self.bos_token_id == self.image_token_id:
            raise ValueError(
                f"`bos_token_id` must be in 0..vocab_size - 1 = {self.vocab_size - 1} and not `image_token_id` "
                f"{self.image_token_id}, got {self.bos_token_id}"
            )

    def validate_widths(self):
        """Called by `@strict`."""
        for width, heads in (
            ("hidden_size", "num_attention_heads"),
            ("decoder_hidden_size", "decoder_num_attention_heads"),
            ("decoder_hidden_size", "image_decoder_num_attention_heads"),
        ):
            if getattr(self, heads) is None:
                continue
            if getattr(self, heads) < 1 or getattr(self, width) % getattr(self, heads):
                raise ValueError(
                    f"`{width}` must be a multiple of `{heads}`, got {getattr(self, width)} and {getattr(self, heads)}"
                )
            if self.initializer == "xavier" and getattr(self, width) % 4:  # sines and cosines of two coordinates
                raise ValueError(
                    f'`{width}` must be a multiple of 4 with `initializer="xavier"`, got {getattr(self, width)}'
                )

    def validate_names(self):
        """Called by `@strict`."""
        if self.encoder_drop not in ENCODER_DROPS:
            raise ValueError(f"`encoder_drop` must be one of {ENCODER_DROPS}, got {self.encoder_drop!r}")
        if self.initializer not in INITIALIZERS:
            raise ValueError(f"`initializer` must be one of {INITIALIZERS}, got {self.initializer!r}")
        if self.image_decoder_fill not in IMAGE_DECODER_FILLS:
            raise ValueError(
                f"`image_decoder_fill` must be one of {IMAGE_DECODER_FILLS}, got {self.image_decoder_fill!r}"
            )
        if self.image_features not in IMAGE_FEATURES:
            raise ValueError(f"`image_features` must be one of {IMAGE_FEATURES}, got {self.image_features!r}")

    def validate_image_latents(self):
        """Called by `@strict`."""
        size = self.image_latent_size
        sees_latents = self.image_features == "latents"
        if (sees_latents and (size is None or size < 1)) or (size is not None and not sees_latents):
            raise ValueError(
                '`image_latent_size` must be at least 1 with `image_features="latents"`, and None without, '
                f"got {size} with {self.image_features!r}"
            )
