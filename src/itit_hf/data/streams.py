# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Three streams (paired, image-only, text-only), each a pure function from sample index to sample.

Sample i of stream s depends on (seed, s, i) alone. A global batch takes the next indices of each stream, and rank r of
W takes fixed slots of it, so any number of processes, workers or accumulation steps gives the same global batches,
streams of uneven sizes wrap on their own and nothing but the number of steps done has to be saved.
"""

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import datasets
import numpy as np
import PIL.Image
import pyarrow.compute as pc
import torch
from torch.utils.data import Dataset, Sampler
from transformers.utils import logging

from ..models.image_loading_itit import load_image
from ..rng import keyed_integer
from .captions import captions_of, clean_captions
from .direct_rows import DirectRows, LanceRows
from .loading import without_decoding
from .order import create_order

logger = logging.get_logger(__name__)

STREAMS = ("paired", "image", "text")
# What may be wrong with an image, in the order of the counts in a batch's `skipped`.
BAD_IMAGE_REASONS = ("unreadable", "oversized")
BAD_IMAGE_POLICIES = ("raise", "skip")
MAX_BAD_IMAGES = 0.05  # share of images that `"skip"` may leave out
MAX_BAD_OF_FEW = 5  # of few images, a bad one is a large share
MAX_SKIPPED_IN_A_ROW = 100
_NUM_NAMED = 3  # bad images that a message names
IMAGE_TENSORS = {"image_token_ids": torch.long, "image_latents": torch.float32}  # what a tokenized image is
TOKENIZER_COLUMN = "image_tokenizer"  # fingerprint of what made the tokens of a row
STREAM_COLUMNS = {"paired": ("image", "text"), "image": ("image",), "text": ("text",)}


class Processor(Protocol):
    """What is asked of an [`ITITProcessor`].

    Args:
        image_processor ([`ITITImageProcessorPil`]): Reads images, and makes pixels of them.
        image_tokenizer (`torch.nn.Module`, *optional*): Makes tokens of pixels.
    """

    image_processor: Any
    image_tokenizer: Any

    @property
    def image_input_names(self) -> list[str]:
        """What the image tokenizer makes of an image."""

    @property
    def image_grid(self) -> tuple[int, int]:
        """Rows and columns of its tokens."""

    def encode_images(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor]:
        """Tokens of pixels of shape `(batch_size, 3, height, width)` in [-1, 1], by `image_input_names`."""

    def __call__(self, *, text: Any, max_length: int, return_tensors: str) -> Any:
        """`input_ids` and `attention_mask` of texts, of shape `(batch_size, text_length)`."""


class Stream:
    """An endless, shuffled view of a dataset with random access.

    Args:
        name (`str`): `"paired"`, `"image"` or `"text"`.
        rows: A `datasets.Dataset`, or any sequence of dictionaries, with the columns `image` (or `image_token_ids`)
            and `text` as the stream needs. Captions of a `datasets.Dataset` are looked at here, by
            [`~data.captions.clean_captions`]; those of other sequences when their row comes.
        seed (`int`): Seed of its shuffles; each epoch has its own.
        on_bad_image (`str`, *optional*, defaults to `"raise"`):
            What to do about an image that [`load_image`] refuses: `"raise"`, or `"skip"`, which takes the next row
            whose image can be read, always the same one, and counts why.
        read (`Callable`, *optional*, defaults to [`load_image`]): What reads an image, called with it and `name=`.
            `read_image` of an image processor resizes each as it is read.

    Raises:
        ValueError: If the name or `on_bad_image` is unknown, there are no rows, a column is missing, or captions are
            none.
    """

    def __init__(
        self,
        name: str,
        rows: Sequence[Mapping],
        seed: int = 0,
        on_bad_image: str = "raise",
        read: Callable[..., PIL.Image.Image] = load_image,
    ):
        if name not in STREAMS:
            raise ValueError(f"`name` must be one of {STREAMS}, got {name!r}")
        if len(rows) == 0:
            raise ValueError(f"the stream `{name}` has no rows")
        if on_bad_image not in BAD_IMAGE_POLICIES:
            raise ValueError(f"`on_bad_image` must be one of {BAD_IMAGE_POLICIES}, got {on_bad_image!r}")
        self._check_columns(name, getattr(rows, "column_names", None) or list(rows[0]))
        rows = without_decoding(rows)
        if "text" in STREAM_COLUMNS[name] and isinstance(rows, datasets.Dataset):
            rows = clean_captions(rows, name=f"stream {name}")
        self.name = name
        self.rows = rows
        self.seed = seed
        self.on_bad_image = on_bad_image
        self.read = read
        self.set_order()

    def _check_columns(self, name: str, columns: Sequence[str]):
        for column in STREAM_COLUMNS[name]:
            if column not in columns and not (column == "image" and "image_token_ids" in columns):
                raise ValueError(f"the stream `{name}` needs a column `{column}`, its dataset has {list(columns)}")

    def __len__(self) -> int:
        return len(self.rows)

    def set_order(self, order: str = "keyed", shuffle_blocks: int = 0):
        """Go through the rows in another order; see [`~data.order.create_order`].

        Args:
            order (`str`, *optional*, defaults to `"keyed"`): `"keyed"`, or `"randperm"`, that of older runs.
            shuffle_blocks (`int`, *optional*, defaults to 0): Blocks, such as row groups, whose rows are shuffled
                together; 0 shuffles all rows at once.

        Raises:
            ValueError: If there is no such order.
        """
        self._order = create_order(order, shuffle_blocks, self.rows, self.seed, self.name)
        if shuffle_blocks and isinstance(self.rows, DirectRows):
            self.rows.keep_blocks(shuffle_blocks + 1)  # a batch may reach into the next blocks

    def row_index(self, sample_index: int) -> int:
        """Which row sample `sample_index` is of, counted on over all epochs."""
        return self._order(sample_index)

    def sample(self, sample_index: int) -> dict:
        """Sample `sample_index`: its columns, one of its captions, and the index itself; of a pair also its
        `sample_weight`, if it has one.

        Raises:
            ValueError: If the row has no caption, its weight is no number of at least 0, or an image is refused and
                `on_bad_image` does not skip it.
        """
        index = self.row_index(sample_index)
        sample: dict = {"sample_index": sample_index}
        if "image" in STREAM_COLUMNS[self.name]:
            index, row, image = self._image(index)
            sample |= image
        else:
            row = self.rows[index]
        if "text" in STREAM_COLUMNS[self.name]:
            captions = captions_of(row["text"])
            if not captions:
                raise ValueError(f"row {index} of the stream `{self.name}` has no caption")
            choice = keyed_integer(self.seed, f"caption/{self.name}", sample_index) % len(captions)
            sample["text"] = captions[choice]
        if self.name == "paired" and "sample_weight" in row:
            weight = row["sample_weight"]
            if weight is None or not 0.0 <= weight < float("inf"):
                raise ValueError(f"`sample_weight` of row {index} must be a number of at least 0, got {weight}")
            sample["sample_weight"] = weight
        return sample

    def _row_of_tokens_or_image(self, index: int) -> Mapping:
        """A row of Lance that has tokens, without its image, which is then not read; any other row as it is."""
        rows = self.rows
        if isinstance(rows, LanceRows) and {"image", "image_token_ids"} <= set(rows.column_names):
            row = rows.row_without(index, "image")
            if row["image_token_ids"] is not None:
                return row
        return rows[index]

    def _image(self, index: int) -> tuple[int, Mapping, dict]:
        """The first row from `index` on whose image can be used, that image, and why others could not."""
        skipped = [0] * len(BAD_IMAGE_REASONS)
        while True:
            row = self._row_of_tokens_or_image(index)
            if row.get("image_token_ids") is not None:
                return index, row, {key: row[key] for key in IMAGE_TENSORS if row.get(key) is not None}
            try:
                image = {"image": self.read(row["image"], name=f"row {index} of the stream `{self.name}`")}
            except ValueError as error:
                if self.on_bad_image == "raise":
                    raise
                skipped[BAD_IMAGE_REASONS.index(getattr(error, "reason", "unreadable"))] += 1
                if sum(skipped) == MAX_SKIPPED_IN_A_ROW:
                    raise ValueError(f"{sum(skipped)} images in a row cannot be used, up to {error}") from error
                index = (index + 1) % len(self.rows)
            else:
                if self.on_bad_image == "skip":
                    image["skipped"] = skipped
                return index, row, image


def captions_of_rows(rows: Sequence[Mapping]) -> Iterator[list[str]]:
    """The captions of each row, one after the other; of a dataset no image is read.

    Args:
        rows (`datasets.Dataset` or `Sequence[Mapping]`): With `text`, a caption or several.
    """
    for row in rows.select_columns("text") if isinstance(rows, datasets.Dataset) else rows:
        yield captions_of(row["text"])


class MixedDataset(Dataset):
    """Samples of several streams, addressed as `(stream name, sample index, replay index)`.

    The replay index counts how often the sample came before.

    Args:
        streams (`Sequence[Stream]`): At most one of each name.
    """

    def __init__(self, streams: Sequence[Stream]):
        self.streams = {stream.name: stream for stream in streams}

    def __len__(self) -> int:
        return sum(len(stream) for stream in self.streams.values())

    def __getitem__(self, address: tuple[str, int, int]) -> tuple[str, dict]:
        name, sample_index, replay_index = address
        return name, self.streams[name].sample(sample_index) | {"replay_index": replay_index}


class MixedBatchSampler(Sampler):
    """Addresses `(stream name, sample index, replay index)` of each micro-batch of one rank: fixed counts of each
    stream.

    With `replay`, the unpaired streams go on after so many updates only: each of their micro-batches comes back, on
    the same rank, so that what was synthesised for it can serve again. Pairs are new each time.

    Args:
        counts (`Mapping[str, int]`): Samples of each stream per micro-batch and rank.
        num_updates (`int`): Updates in all.
        rank (`int`, *optional*, defaults to 0): This process.
        world_size (`int`, *optional*, defaults to 1): Number of processes.
        accumulation (`int`, *optional*, defaults to 1): Micro-batches per update.
        replay (`int`, *optional*, defaults to 1): Updates that a sample of an unpaired stream serves.
        first_update (`int`, *optional*, defaults to 0): Where to start: updates done before.
    """

    def __init__(
        self,
        counts: Mapping[str, int],
        num_updates: int,
        rank: int = 0,
        world_size: int = 1,
        accumulation: int = 1,
        replay: int = 1,
        first_update: int = 0,
    ):
        self.counts = {name: count for name, count in counts.items() if count}
        self.num_updates = num_updates
        self.rank = rank
        self.world_size = world_size
        self.accumulation = accumulation
        self.replay = replay
        self.first_update = first_update

    def __len__(self) -> int:
        """Micro-batches in all, those before the first update included."""
        return self.num_updates * self.accumulation

    def __iter__(self) -> Iterator[list[tuple[str, int, int]]]:
        for batch in range(self.first_update * self.accumulation, len(self)):
            yield [address for name, count in self.counts.items() for address in self._addresses(batch, name, count)]

    def _addresses(self, batch: int, name: str, count: int) -> list[tuple[str, int, int]]:
        update, micro_batch = divmod(batch, self.accumulation)
        replay_index = 0
        if name != "paired":
            update, replay_index = divmod(update, self.replay)
        slot = (update * self.accumulation + micro_batch) * self.world_size + self.rank
        return [(name, sample_index, replay_index) for sample_index in range(slot * count, (slot + 1) * count)]


class ITITCollator:
    """Samples -> nested batch of tensors, `{"paired": {...}, "image": {...}, "text": {...}}`; see [`ITITObjectives`].

    Args:
        processor ([`ITITProcessor`]): Turns images into `pixel_values` and text into ids.
        max_text_length (`int`, *optional*, defaults to 64): Tokens of a text at most; longer ones are cut, and named.
    """

    def __init__(self, processor: Processor, max_text_length: int = 64):
        self.processor = processor
        self.max_text_length = max_text_length

    def __getstate__(self) -> dict:
        """What a worker that is not forked is sent: no network, which may be on a GPU."""
        processor = copy.copy(self.processor)
        processor.image_tokenizer = None
        return self.__dict__ | {"processor": processor}

    def __call__(self, samples: Sequence[tuple[str, dict]]) -> dict[str, dict[str, torch.Tensor]]:
        """Collate `(stream name, sample)` pairs into tensors whose first dimension is the stream's count; see the
        class for names and shapes."""
        by_stream: dict[str, list[dict]] = {}
        for name, sample in samples:
            by_stream.setdefault(name, []).append(sample)
        return {name: self._stream_batch(rows) for name, rows in by_stream.items()}

    def _stream_batch(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        first = rows[0]  # all samples of a stream have the same fields
        stream_batch = {
            "sample_index": torch.tensor([row["sample_index"] for row in rows]),  # (B,)
            "replay_index": torch.tensor(first.get("replay_index", 0)),  # ()
        }
        if "skipped" in first:
            stream_batch["skipped"] = torch.tensor([row["skipped"] for row in rows])  # (B, len(BAD_IMAGE_REASONS))
        if "image_token_ids" in first:
            for name, dtype in IMAGE_TENSORS.items():
                if name in first:
                    stream_batch[name] = torch.stack([torch.as_tensor(row[name], dtype=dtype) for row in rows])
        elif "image" in first:
            images = [row["image"] for row in rows]
            processed = self.processor.image_processor(images, return_tensors="pt")
            stream_batch["pixel_values"] = processed["pixel_values"]  # (B, 3, height, width)
        if "sample_weight" in first:
            stream_batch["sample_weight"] = torch.tensor([float(row["sample_weight"]) for row in rows])  # (B,)
        if "text" in first:
            texts = [row["text"] for row in rows]
            encoded = self.processor(text=texts, max_length=self.max_text_length, return_tensors="pt")
            stream_batch["input_ids"] = encoded["input_ids"]  # (B, text_length)
            stream_batch["attention_mask"] = encoded["attention_mask"]  # (B, text_length)
        return stream_batch


def image_tokenizer_fingerprint(processor: Processor) -> str:
    """What image tokens mean: a digest of the weights that make them, those of the decoder alone left out, and of
    images that are not square, the rows and columns of their tokens.

    Args:
        processor ([`ITITProcessor`]): With its image tokenizer.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(processor.image_tokenizer.state_dict().items()):
        if not name.startswith(("decoder.", "post_quant_conv.")):
            digest.update(name.encode() + tensor.detach().float().cpu().contiguous().numpy().tobytes())
    made_by = digest.hexdigest()[:16]
    height, width = processor.image_grid
    return made_by if height == width else f"{made_by}-{height}x{width}"


def check_image_tokenizer(rows, processor: Processor, name: str = "dataset"):
    """See that the image tokens of rows, if they have any, were made by the image tokenizer that is used with them.

    Args:
        rows: A `datasets.Dataset` or [`DirectRows`], with `image_token_ids`, and `image_tokenizer`, the fingerprint
            of what made them; of anything else nothing is known.
        processor ([`ITITProcessor`]): With its image tokenizer.
        name (`str`, *optional*): What messages call the rows.

    Raises:
        ValueError: If another one made them, or of images of another shape: they would mean other things.
    """
    if not isinstance(rows, (datasets.Dataset, DirectRows)) or "image_token_ids" not in rows.column_names:
        return
    if TOKENIZER_COLUMN not in rows.column_names:
        logger.warning_once(
            f"`{name}` has no column `{TOKENIZER_COLUMN}`: nothing says which image tokenizer made its tokens"
        )
        return
    makers = _values_of(rows, TOKENIZER_COLUMN)
    given = image_tokenizer_fingerprint(processor)
    if makers - {None, given}:
        raise ValueError(
            f"`{name}`: its image tokens were made by another image tokenizer than the one that is used, or of images "
            f"of another shape, {sorted(makers - {None, given})} and not {given}: use that one, or make the tokens "
            "again"
        )


def _values_of(rows: datasets.Dataset | DirectRows, column: str) -> set:
    if isinstance(rows, DirectRows):
        return rows.unique_values(column)
    values: set = set()
    for table in rows.select_columns(column).with_format("arrow").iter(batch_size=100_000):
        values.update(pc.unique(table[column]).to_pylist())
    return values


def _row(index: int, name: str) -> str:
    return f"row {index} of `{name}`"


def readable_images(rows: datasets.Dataset, name: str = "dataset") -> datasets.Dataset:
    """The rows whose images can be used; which they are is decided once and cached.

    Args:
        rows (`datasets.Dataset`): With a column `image`.
        name (`str`, *optional*, defaults to `"dataset"`): What messages call the rows.

    Returns:
        `datasets.Dataset`: Images as files.

    Raises:
        ValueError: If more than 5% cannot be used (of few rows up to 5 may be bad, and half of them); the first ones
            are named.
    """
    files = without_decoding(rows)

    def why_not(row: dict, index: int) -> dict:
        try:
            load_image(row["image"], name=_row(index, name), reduce_to=1)
        except ValueError as error:
            return {"why_not": str(error)}
        return {"why_not": None}

    images = files.select_columns("image")
    found = images.map(why_not, with_indices=True, remove_columns="image", desc="images that can be read")["why_not"]
    bad = [index for index, reason in enumerate(found) if reason is not None]
    if not bad:
        return files
    named = "; ".join(found[index] for index in bad[:_NUM_NAMED])
    if len(bad) > max(MAX_BAD_IMAGES * len(files), min(MAX_BAD_OF_FEW, len(files) // 2)):
        raise ValueError(
            f"`{name}`: {len(bad)} of {len(files)} images cannot be used, more than {MAX_BAD_IMAGES:.0%}: {named}"
        )
    logger.warning(f"`{name}`: {len(bad)} of {len(files)} images cannot be used and are left out: {named}")
    return files.select(np.delete(np.arange(len(files)), bad))
