# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Images and texts into what the model takes, and back."""

import copy
import json
import os
import re
import textwrap
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoProcessor, BatchFeature
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin, TextKwargs, Unpack
from transformers.utils import cached_file, logging

from .configuration_itit import IMAGE_FEATURES, ITITConfig
from .image_processing_itit import ITITImagesKwargs

logger = logging.get_logger(__name__)

# Options of the image processor that set the range of `pixel_values`.
_SCALES = ("rescale_factor", "do_normalize", "image_mean", "image_std")
IMAGE_TOKENIZER_FOLDER = "image_tokenizer"
# A conversation as the captioner knows it: an image, and how its caption begins, which is what the assistant has begun
# to say. The template renders the beginning; the image goes beside it.
CHAT_TEMPLATE = """
{%- if messages and messages[-1].role == "assistant" and not add_generation_prompt -%}
  {%- if messages[-1].content is string -%}
    {{- messages[-1].content -}}
  {%- else -%}
    {%- for block in messages[-1].content if block.type == "text" -%}{{- block.text -}}{%- endfor -%}
  {%- endif -%}
{%- endif -%}
""".lstrip()
LONG_TEXT_POLICIES = ("warn", "error")


def clean_text(text: str, name: str = "text") -> str:
    """A text every tokenizer can take: lone surrogates become U+FFFD, control characters become spaces.

    Args:
        text (`str`): Any Python string; two surrogates that belong together become the character they mean.
        name (`str`, *optional*, defaults to `"text"`): What the error message calls it.

    Returns:
        `str` that can be encoded as UTF-8.

    Raises:
        ValueError: If `text` is not a string.
    """
    if not isinstance(text, str):
        raise ValueError(f"`{name}` must be a string, got {type(text).__name__}")
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return "".join(" " if _is_control(character) else character for character in text)


def _is_control(character: str) -> bool:
    return ord(character) < 32 or 127 <= ord(character) < 160


# The copies of `plain_backend`, with the number of tokens that each was made for.
_PLAIN_BACKENDS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def plain_backend(tokenizer) -> Tokenizer:
    """A copy of a fast tokenizer's backend that finds no special token in a text.

    `split_special_tokens` is not enough: T5's pieces hold the special tokens too, and its unigram model then finds
    them there, where SentencePiece does not. Here they have names that no text holds after [`clean_text`].

    Args:
        tokenizer (`PreTrainedTokenizerFast`): Is left as it is.

    Returns:
        `tokenizers.Tokenizer`.
    """
    size, backend = _PLAIN_BACKENDS.get(tokenizer, (0, None))
    if size == len(tokenizer):
        return backend
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["truncation"] = state["padding"] = None
    special = {token["content"] for token in state["added_tokens"] if token["special"]}
    special |= set(tokenizer.all_special_tokens)

    def renamed(piece: str) -> str:
        return "\0" + piece if piece in special else piece

    for token in state["added_tokens"]:
        if token["content"] in special:
            token["content"] = renamed(token["content"])
            token["normalized"] = False
    vocab = state["model"]["vocab"]
    if isinstance(vocab, dict):
        state["model"]["vocab"] = {renamed(piece): index for piece, index in vocab.items()}
    else:
        state["model"]["vocab"] = [[renamed(piece), score] for piece, score in vocab]
    if isinstance(state["model"].get("unk_token"), str):
        state["model"]["unk_token"] = renamed(state["model"]["unk_token"])
    backend = Tokenizer.from_str(json.dumps(state))
    _PLAIN_BACKENDS[tokenizer] = len(tokenizer), backend
    return backend


def _slow_ids(tokenizer, text: str) -> list[int]:
    """The ids that such a copy of a tokenizer in Python would give; its own option would split added words too."""
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if not token.special]
    words = "|".join(re.escape(word) for word in sorted(added, key=len, reverse=True))
    ids: list[int] = []
    for part in re.split(f"({words})", text) if added else [text]:
        pieces = [part] if part in added else tokenizer.tokenize(part, split_special_tokens=True)
        ids += tokenizer.convert_tokens_to_ids(pieces)
    return tokenizer.build_inputs_with_special_tokens(ids)


def text_ids(tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts in which `</s>`, `<pad>`, `<extra_id_0>` and their like are words as any others.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): Fast or slow; it ends each text, as T5's, and may begin it, as BERT's.
        texts (`Sequence[str]`): What [`clean_text`] returns.

    Returns:
        `list[list[int]]`: A row per text, its begin and end included.
    """
    rows = tokenizer(list(texts), verbose=False).input_ids
    special = set(tokenizer.all_special_ids)
    num_begin = len(tokenizer("").input_ids) - 1
    for i, row in enumerate(rows):
        if special.isdisjoint(row[num_begin:-1]):
            continue
        if tokenizer.is_fast:
            rows[i] = plain_backend(tokenizer).encode(texts[i]).ids
        else:
            rows[i] = _slow_ids(tokenizer, texts[i])
    return rows


def tokenize_text(
    tokenizer,
    text: str | Sequence[str],
    max_length: int = 64,
    padding: bool | str = "longest",
    on_long_text: str = "warn",
):
    """Token ids of texts; what does not fit is named, never cut in silence, and no text is taken for a special token.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): It ends each text with one special token, as T5's, and may begin it
            with one, as BERT's.
        text (`str` or `Sequence[str]`): One text or several.
        max_length (`int`, *optional*, defaults to 64): Tokens at most, the end of sequence included; at least 2.
        padding (`bool` or `str`, *optional*, defaults to `"longest"`): As in any tokenizer.
        on_long_text (`str`, *optional*, defaults to `"warn"`):
            `"warn"` cuts, keeps the end of sequence, and names all lost words in one warning; `"error"` raises.

    Returns:
        `BatchEncoding` of lists: `input_ids` and `attention_mask`, one row per text.

    Raises:
        ValueError: If a text is not a string, there is none, an option is unknown, or one is too long for `"error"`.
    """
    if on_long_text not in LONG_TEXT_POLICIES:
        raise ValueError(f"`on_long_text` must be one of {LONG_TEXT_POLICIES}, got {on_long_text!r}")
    if max_length < 2:
        raise ValueError(f"`max_length` must be at least 2, got {max_length}")
    texts = [clean_text(text)] if isinstance(text, str) else None
    if texts is None:
        if not isinstance(text, Sequence) or not len(text):
            raise ValueError(f"`text` must be a string or a list of at least one, got {text!r:.100}")
        texts = [clean_text(one, f"text[{i}]") for i, one in enumerate(text)]
    whole = text_ids(tokenizer, texts)
    lost = {i: tokenizer.decode(ids[max_length - 1 : -1]) for i, ids in enumerate(whole) if len(ids) > max_length}
    if lost:
        named = "; ".join(f"text[{i}] loses {textwrap.shorten(words, 200)!r}" for i, words in list(lost.items())[:5])
        message = f"{len(lost)} of {len(texts)} texts have more than {max_length} tokens (`max_length`): {named}"
        if on_long_text == "error":
            raise ValueError(message)
        logger.warning(message)
    rows = [ids if len(ids) <= max_length else ids[: max_length - 1] + ids[-1:] for ids in whole]
    return _pad(tokenizer, rows, padding, max_length)


def _pad(tokenizer, rows: list[list[int]], padding: bool | str, max_length: int, side: str | None = None):
    """Rows of ids as `BatchEncoding` of lists; `max_length` is where `padding="max_length"` pads to."""
    return tokenizer.pad(
        {"input_ids": rows},
        padding=padding,
        max_length=max_length if padding == "max_length" else None,
        padding_side=side,
        return_attention_mask=True,
        verbose=False,
    )


class ITITTextKwargs(TextKwargs, total=False):
    """Arguments for texts beyond those every tokenizer has.

    Args:
        on_long_text (`str`): `"warn"` or `"error"`, see [`tokenize_text`].
    """

    on_long_text: str


class ITITProcessorKwargs(ProcessingKwargs, total=False):
    """Arguments of a call of [`ITITProcessor`], with their defaults."""

    text_kwargs: ITITTextKwargs
    images_kwargs: ITITImagesKwargs
    _defaults = {
        "text_kwargs": {"padding": "longest", "max_length": 64, "on_long_text": "warn"},
        "common_kwargs": {"return_tensors": "pt"},
    }


class ITITProcessor(ProcessorMixin):
    """Image processor, text tokenizer and, if there is one, image tokenizer in one.

    Args:
        image_processor ([`ITITImageProcessorPil`]): Images to `pixel_values`.
        tokenizer (`PreTrainedTokenizerBase`): A tokenizer of T5's form, the one of the frozen text encoder.
        image_tokenizer (`VQModel` or [`PatchVQModel`], *optional*):
            `pixel_values` to `image_token_ids`. Saved and loaded with the processor, in a folder of its own.
        image_features (`str`, *optional*, defaults to `"codes"`):
            The model's, see [`ITITConfig`]; with `"latents"` images become `image_latents` too.
        chat_template (`str`, *optional*): What `apply_chat_template` renders; by default `CHAT_TEMPLATE`, the
            beginning of the caption.

    Raises:
        ValueError: If `image_features` is unknown.

    Example:
        `processor(images=["bus.png"])` has `pixel_values` of shape (1, 3, H, W) and `image_token_ids` of shape (1, K);
        `processor(text="a red bus")` has `input_ids` and `attention_mask` of shape (1, L), as the text encoder wants
        them; `model.generate(**processor(images=["bus.png"], text="a red"))` completes a caption.
    """

    valid_processor_kwargs = ITITProcessorKwargs

    def __init__(
        self,
        image_processor,
        tokenizer,
        image_tokenizer=None,
        image_features: str = "codes",
        chat_template: str | None = None,
    ):
        super().__init__(
            image_processor, tokenizer, chat_template=CHAT_TEMPLATE if chat_template is None else chat_template
        )
        if image_features not in IMAGE_FEATURES:
            raise ValueError(f"`image_features` must be one of {IMAGE_FEATURES}, got {image_features!r}")
        self.image_tokenizer = image_tokenizer
        self.image_features = image_features

    @classmethod
    def get_attributes(cls) -> list[str]:
        """The components transformers saves and loads; it would take `image_tokenizer` for a second text tokenizer."""
        return ["image_processor", "tokenizer"]

    @property
    def model_input_names(self) -> list[str]:
        """What a call can return."""
        return ["pixel_values", *self.image_input_names, "input_ids", "attention_mask"]

    @property
    def image_input_names(self) -> list[str]:
        """What the image tokenizer makes of an image."""
        names = [] if self.image_tokenizer is None else ["image_token_ids"]
        return names + ["image_latents"] * (bool(names) and self.image_features == "latents")

    @property
    def image_grid(self) -> tuple[int, int]:
        """Rows and columns of tokens that the image tokenizer makes of an image of the image processor's size.

        Raises:
            ValueError: If there is no image tokenizer.
        """
        from .image_tokenization_itit import downsampling_factor

        factor = downsampling_factor(self._require_image_tokenizer())
        height, width = self.image_processor.output_size
        return height // factor, width // factor

    def check_image_grid(self, config: ITITConfig):
        """See that images become as many rows and columns of tokens as the model has positions for. Where already
        their number differs, the model itself refuses them.

        Args:
            config ([`ITITConfig`]): The model's.

        Raises:
            ValueError: If rows and columns differ and their product does not: tokens would be at wrong positions.
        """
        own = self.image_grid
        if own != tuple(config.image_grid) and own[0] * own[1] == config.num_image_tokens:
            raise ValueError(
                f"`image_processor` must make images of {tuple(config.image_grid)} tokens, height and width, which is "
                f"the model's `image_grid`, got {own}"
            )

    def __call__(
        self, images=None, text=None, videos=None, audio=None, **kwargs: Unpack[ITITProcessorKwargs]
    ) -> BatchFeature:
        """Make a batch of images, of texts, or of images with the beginnings of their captions.

        Both together are what `generate` of [`ITITForCaptioning`] takes, and what transformers' "image-text-to-text"
        pipeline asks for: a beginning has no end of sequence and is padded on the left, "" is of no tokens, and the
        pixels are left out where there are `image_token_ids`.

        Args:
            images (*optional*): What [`load_image`] takes, a list of it, or of lists with one each, as chats give it.
            text (`str` or `Sequence[str]`, *optional*):
                One text or several; with images, one for each or one for all. "" alone is the null text, one token.
            videos (*optional*): Part of transformers' signature; there are none.
            audio (*optional*): Likewise.
            on_long_text (`str`, *optional*, defaults to `"warn"`): `"warn"` or `"error"`, see [`tokenize_text`].
            max_length (`int`, *optional*, defaults to 64): Text tokens at most, the end of sequence included.
            padding (`bool` or `str`, *optional*, defaults to `"longest"`): As in any tokenizer.
            return_tensors (`str`, *optional*, defaults to `"pt"`): `"pt"`, `"np"`, or `None` for lists.
            kwargs: Any other argument of the image processor.

        Returns:
            `BatchFeature` with, for images, `pixel_values` of shape `(batch_size, 3, height, width)` in [-1, 1] and,
            with an image tokenizer, `image_token_ids` of shape `(batch_size, num_image_tokens)`, and `image_latents`
            of shape `(batch_size, num_image_tokens, vq_embed_dim)` if they are the features; for texts,
            `input_ids` and `attention_mask` of shape `(batch_size, length)`.

        Raises:
            ValueError: If neither is given, an image cannot be read, a text is not a string, there are as many texts
                as neither images nor one, or a text is too long and `on_long_text="error"`.
        """
        if images is None and text is None:
            raise ValueError("at least one of `images` and `text` must be given, got neither")
        if videos is not None or audio is not None:
            raise ValueError("`videos` and `audio` must be None: the model knows images and texts")
        merged = self._merge_kwargs(ITITProcessorKwargs, **kwargs)
        return_tensors = merged["text_kwargs"]["return_tensors"]
        unknown = set(merged["text_kwargs"]) - {"max_length", "padding", "on_long_text", "return_tensors"}
        if unknown:
            raise ValueError(f"texts take `max_length`, `padding` and `on_long_text`, got {sorted(unknown)}")
        data = {}
        if images is not None:
            options = merged["images_kwargs"] | {"return_tensors": "pt"}
            self._check_scale(options)
            pixel_values = self.image_processor(_one_image_each(images), **options).pixel_values  # (B, 3, H, W)
            data["pixel_values"] = pixel_values.numpy()
            if self.image_tokenizer is not None:
                encoded = self.encode_images(pixel_values)
                data |= {name: tensor.cpu().numpy() for name, tensor in encoded.items()}
        if text is not None:
            options = {key: merged["text_kwargs"][key] for key in ("max_length", "padding", "on_long_text")}
            if images is None:
                data.update(tokenize_text(self.tokenizer, text, **options))
            else:
                data.update(self._begin_captions(text, len(pixel_values), return_tensors is not None, **options))
                if self.image_tokenizer is not None:
                    del data["pixel_values"]  # `generate` takes no argument that it does not use
        return BatchFeature(data, tensor_type=return_tensors)

    def _check_scale(self, options: Mapping):
        """That the image tokenizer is given images as it knows them; others would become other tokens, in silence."""
        own = {name: getattr(self.image_processor, name) for name in _SCALES}
        changed = [name for name in _SCALES if options.get(name) is not None and not _equal(options[name], own[name])]
        if self.image_tokenizer is not None and changed:
            raise ValueError(
                f"{changed} must be left as the image tokenizer knows them, {[own[name] for name in changed]}, got "
                f"{[options[name] for name in changed]}; for other `pixel_values` call the image processor itself"
            )

    def _begin_captions(self, text, num_images: int, as_arrays: bool, max_length: int, padding, on_long_text) -> dict:
        """Ids and padding mask of texts that a caption model goes on from; arrays are `(num_images, length)`."""
        texts = [text] if isinstance(text, str) else text
        rows = tokenize_text(self.tokenizer, texts, max_length, padding=False, on_long_text=on_long_text).input_ids
        if len(rows) not in (1, num_images):
            raise ValueError(f"`text` has {len(rows)} entries for {num_images} images; give one, or one for each")
        rows = [row[:-1] for row in (rows * num_images if len(rows) == 1 else rows)]  # without the end of sequence
        padded = _pad(self.tokenizer, rows, padding, max_length - 1, side="left")
        if not as_arrays or len({len(row) for row in padded["input_ids"]}) > 1:
            return dict(padded)
        # Lists of no numbers would become floating point numbers.
        return {key: np.array(value, dtype=np.int64).reshape(num_images, -1) for key, value in padded.items()}

    def apply_chat_template(self, conversation, chat_template: str | None = None, **kwargs):
        """What the captioner's `generate` takes, of a conversation about one image.

        The caption is what the assistant says to the image; a last message of the assistant is its beginning. What
        the user writes is not read: the model captions, and follows no instructions.

        Args:
            conversation (`list[dict]` or `list[list[dict]]`): Messages with `role` and `content`; one image in each
                conversation, as a block `{"type": "image", "path": ...}`, or with `image`, or a `url` that is a path
                or a `data:` URL. Nothing is fetched from the network.
            chat_template (`str`, *optional*): In place of the processor's own.
            kwargs: As in transformers, such as `tokenize=True`, `return_dict=True`, `continue_final_message=True`.

        Returns:
            `str`, the beginning of the caption; with `tokenize=True` and `return_dict=True` a `BatchFeature`, see
            [`ITITProcessor.__call__`].

        Raises:
            ValueError: If a conversation has more than one image.
        """
        if _user_texts(conversation):
            logger.warning_once(
                "texts of the user are not read: the model captions the image and follows no instructions; how the "
                "caption begins is the assistant's last message"
            )
        return super().apply_chat_template(conversation, chat_template, **kwargs)

    def encode_images(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the image tokenizer makes of images, on its device and without gradients.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, 3, height, width)`): In [-1, 1].

        Returns:
            `dict` by `image_input_names`, see [`~models.image_tokenization_itit.image_inputs`].

        Raises:
            ValueError: If there is no image tokenizer.
        """
        from .image_tokenization_itit import image_inputs  # diffusers is slow to import, and not all users need it

        image_tokenizer = self._require_image_tokenizer()
        with torch.no_grad():
            return image_inputs(image_tokenizer, pixel_values.to(image_tokenizer.device), self.image_features)

    def decode_images(self, image_token_ids, output_type: str = "pil"):
        """Images from ids, of this processor's image size or, of another number of tokens, square ones.

        Args:
            image_token_ids (`torch.LongTensor` of shape `(batch_size, num_image_tokens)`, or lists): Of the codebook.
            output_type (`str`, *optional*, defaults to `"pil"`): `"pil"`, `"np"` or `"pt"`, see
                [`ITITImageProcessorPil.postprocess`].

        Returns:
            A list of RGB `PIL.Image.Image`, or one array or tensor in [0, 1].

        Raises:
            ValueError: If there is no image tokenizer, or an id is not in its codebook.
        """
        from .image_tokenization_itit import decode_image_token_ids

        image_tokenizer = self._require_image_tokenizer()
        image_token_ids = torch.as_tensor(image_token_ids)
        if image_token_ids.ndim != 2 or image_token_ids.is_floating_point():
            raise ValueError(
                "`image_token_ids` must be integers of shape (batch_size, num_image_tokens), "
                f"got {image_token_ids.dtype} of shape {tuple(image_token_ids.shape)}"
            )
        with torch.no_grad():
            ids = image_token_ids.to(image_tokenizer.device)
            height, width = self.image_grid
            grid = (height, width) if height * width == ids.size(1) else None
            pixel_values = decode_image_token_ids(image_tokenizer, ids, grid)
        return self.image_processor.postprocess(pixel_values, output_type)

    def decode(
        self, token_ids, skip_special_tokens: bool = True, clean_up_tokenization_spaces: bool | None = None
    ) -> str:
        """The caption that ids mean.

        Args:
            token_ids (`torch.Tensor` of shape `(length,)` or a list): Ids the tokenizer does not know, such as the
                captioner's own start and placeholder ids or -100, are dropped.
            skip_special_tokens (`bool`, *optional*, defaults to `True`): Drop padding and the end of sequence too.
            clean_up_tokenization_spaces (`bool`, *optional*): As in any tokenizer; its own setting by default.

        Returns:
            `str`.
        """
        token_ids = token_ids.tolist() if hasattr(token_ids, "tolist") else list(token_ids)
        known = [token_id for token_id in token_ids if 0 <= token_id < len(self.tokenizer)]
        options = {"skip_special_tokens": skip_special_tokens}
        return self.tokenizer.decode(known, **options, clean_up_tokenization_spaces=clean_up_tokenization_spaces)

    def batch_decode(
        self, token_ids, skip_special_tokens: bool = True, clean_up_tokenization_spaces: bool | None = None
    ) -> list[str]:
        """The captions that rows of ids mean, see [`ITITProcessor.decode`].

        Args:
            token_ids (`torch.Tensor` of shape `(batch_size, length)` or a list of lists): What `generate` returns.
            skip_special_tokens (`bool`, *optional*, defaults to `True`): Drop padding and the end of sequence too.
            clean_up_tokenization_spaces (`bool`, *optional*): As in any tokenizer; its own setting by default.

        Returns:
            `list[str]` of length `batch_size`.
        """
        return [self.decode(row, skip_special_tokens, clean_up_tokenization_spaces) for row in token_ids]

    def post_process_image_text_to_text(
        self, generated_outputs, skip_special_tokens: bool = True, clean_up_tokenization_spaces: bool | None = None
    ) -> list[str]:
        """What transformers' "image-text-to-text" pipeline calls: [`ITITProcessor.batch_decode`] of what `generate`
        returns, of shape `(batch_size, length)`."""
        return self.batch_decode(generated_outputs, skip_special_tokens, clean_up_tokenization_spaces)

    def to_dict(self) -> dict:
        """As in transformers, without the image tokenizer's weights."""
        bare = copy.copy(self)
        bare.image_tokenizer = None
        output = super(ITITProcessor, bare).to_dict()
        output.pop("image_tokenizer")
        return output

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs) -> list[str]:
        """Write the processor, and the image tokenizer, if any, into the folder `image_tokenizer`.

        Args:
            save_directory (`str` or `os.PathLike`): Folder, made if it is not there.
            push_to_hub (`bool`, *optional*, defaults to `False`): Upload it afterwards.
            kwargs: What `push_to_hub` takes, such as `repo_id`, by default the folder's name.

        Returns:
            `list[str]`: Path of the processor's own file.
        """
        files = super().save_pretrained(save_directory)
        if self.image_tokenizer is not None:
            self.image_tokenizer.save_pretrained(os.path.join(save_directory, IMAGE_TOKENIZER_FOLDER))
        if push_to_hub:
            repo_id = kwargs.pop("repo_id", Path(save_directory).name)
            self.push_to_hub(repo_id, **kwargs)
        return files

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs):
        """Load what [`ITITProcessor.save_pretrained`] wrote.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): Folder or Hub id.
            image_tokenizer (*optional*): Taken instead of the saved one; `None` leaves it out.
            kwargs: `revision`, `token`, `cache_dir`, `local_files_only` and so on.

        Returns:
            [`ITITProcessor`].

        Raises:
            ValueError: If the saved image tokenizer is of a class this package does not know.
        """
        given = "image_tokenizer" in kwargs
        image_tokenizer = kwargs.pop("image_tokenizer", None)
        processor = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        if not given:
            hub = {key: kwargs[key] for key in _HUB_OPTIONS if kwargs.get(key) is not None}
            image_tokenizer = load_image_tokenizer(pretrained_model_name_or_path, hub)
        processor.image_tokenizer = image_tokenizer
        return processor

    def _require_image_tokenizer(self):
        if self.image_tokenizer is None:
            raise ValueError(
                "this processor has no `image_tokenizer`; give it one: ITITProcessor(..., image_tokenizer)"
            )
        return self.image_tokenizer


def _one_image_each(images):
    """Images as the image processor takes them: lists within the list, one for each conversation, hold one each."""
    if not isinstance(images, (list, tuple)) or not any(isinstance(image, (list, tuple)) for image in images):
        return images
    numbers = [len(image) if isinstance(image, (list, tuple)) else 1 for image in images]
    if set(numbers) != {1}:
        raise ValueError(f"`images` must hold one image for each caption, got lists of {numbers}")
    return [image[0] if isinstance(image, (list, tuple)) else image for image in images]


def _user_texts(conversation) -> bool:
    """Whether someone else than the assistant has written something in a conversation, or in one of several."""
    for message in conversation:
        if not isinstance(message, Mapping):  # a conversation of several
            if _user_texts(message):
                return True
            continue
        content = message.get("content") or []
        texts = [content] if isinstance(content, str) else [block.get("text") for block in content]
        if message.get("role") != "assistant" and any(texts):
            return True
    return False


def _equal(first, second) -> bool:
    """Whether two options are one; lists and tuples of the same numbers are."""
    return np.array_equal(np.asarray(first), np.asarray(second))


_HUB_OPTIONS = ("revision", "token", "cache_dir", "local_files_only", "force_download")


def load_image_tokenizer(pretrained_model_name_or_path: str | os.PathLike, hub_options: Mapping | None = None):
    """The image tokenizer in the folder `image_tokenizer` of a saved processor or pipeline.

    Args:
        pretrained_model_name_or_path (`str` or `os.PathLike`): Folder or Hub id.
        hub_options (`Mapping`, *optional*): `revision`, `token`, `cache_dir`, `local_files_only`, `force_download`.

    Returns:
        `VQModel` or [`PatchVQModel`], or `None` if there is none.

    Raises:
        ValueError: If its `config.json` names any other class; nothing of that name is imported.
    """
    folder = str(pretrained_model_name_or_path)
    hub_options = dict(hub_options or {})
    config_file = cached_file(
        folder,
        "config.json",
        subfolder=IMAGE_TOKENIZER_FOLDER,
        _raise_exceptions_for_missing_entries=False,
        **hub_options,
    )
    if config_file is None:
        return None
    from diffusers import VQModel

    from .image_tokenization_itit import PatchVQModel

    classes = {"VQModel": VQModel, "PatchVQModel": PatchVQModel}
    config = json.loads(Path(config_file).read_text(encoding="utf-8"))
    class_name = config.get("_class_name") if isinstance(config, dict) else None
    if class_name not in list(classes):  # a list, since a hostile name may be unhashable
        raise ValueError(f"`_class_name` of the image tokenizer must be one of {list(classes)}, got {class_name!r}")
    return classes[class_name].from_pretrained(folder, subfolder=IMAGE_TOKENIZER_FOLDER, **hub_options)


AutoProcessor.register(ITITConfig, ITITProcessor, exist_ok=True)
