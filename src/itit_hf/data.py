# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Three streams (paired, image-only, text-only), each a pure function from position to sample.

Row p of stream s depends on (seed, s, p) alone. A global batch takes the next positions of each stream, and rank r of
W takes fixed slots of it, so any number of processes, workers or accumulation steps gives the same global batches,
streams of uneven sizes wrap on their own and nothing but the number of steps done has to be saved.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

import datasets
import numpy as np
import PIL.Image
import pyarrow.compute as pc
import torch
from torch.utils.data import Dataset, Sampler
from transformers.utils import logging

from .captions import captions_of, clean_captions
from .image_processing_itit import load_image
from .masking import keyed_integer
from .sources import open_source, source_name, with_columns, with_image_files

logger = logging.get_logger(__name__)

STREAMS = ("paired", "image", "text")
# What may be wrong with a picture, in the order of the counts in a batch's `skipped`.
BAD_IMAGE_REASONS = ("unreadable", "oversized")
BAD_IMAGE_POLICIES = ("raise", "skip")
MAX_BAD_IMAGES = 0.05  # share of pictures that `"skip"` may leave out
MAX_BAD_OF_FEW = 5  # of few pictures, a bad one is a large share
MAX_SKIPPED_IN_A_ROW = 100
_NUM_NAMED = 3  # bad images that a message names
IMAGE_TENSORS = {"image_token_ids": torch.long, "image_latents": torch.float32}  # what a tokenized picture is
TOKENIZER_COLUMN = "image_tokenizer"  # fingerprint of what made the tokens of a row
STREAM_COLUMNS = {"paired": ("image", "text"), "image": ("image",), "text": ("text",)}


class Stream:
    """An endless, shuffled view of a dataset with random access.

    Args:
        name (`str`): `"paired"`, `"image"` or `"text"`.
        rows: A `datasets.Dataset`, or any sequence of dictionaries, with the columns `image` (or `image_token_ids`)
            and `text` as the stream needs. Captions of a `datasets.Dataset` are looked at here, by
            [`~captions.clean_captions`]; those of other sequences when their row comes.
        seed (`int`): Seed of its shuffles; each epoch has its own.
        bad_images (`str`, *optional*, defaults to `"raise"`):
            What to do about a picture that [`load_image`] refuses: `"raise"`, or `"skip"`, which takes the next row
            whose picture can be read, always the same one, and counts why.
        read (`Callable`, *optional*, defaults to [`load_image`]): What reads a picture, called with it and `name=`.
            `read_image` of an image processor resizes each as it is read.

    Raises:
        ValueError: If the name or `bad_images` is unknown, there are no rows, a column is missing, or captions are
            none.
    """

    def __init__(
        self,
        name: str,
        rows: Sequence[Mapping],
        seed: int = 0,
        bad_images: str = "raise",
        read: Callable[..., PIL.Image.Image] = load_image,
    ):
        if name not in STREAMS:
            raise ValueError(f"`name` must be one of {STREAMS}, got {name!r}")
        if len(rows) == 0:
            raise ValueError(f"the stream `{name}` has no rows")
        if bad_images not in BAD_IMAGE_POLICIES:
            raise ValueError(f"`bad_images` must be one of {BAD_IMAGE_POLICIES}, got {bad_images!r}")
        self._check_columns(name, getattr(rows, "column_names", None) or list(rows[0]))
        rows = undecoded(rows)
        if "text" in STREAM_COLUMNS[name] and isinstance(rows, datasets.Dataset):
            rows = clean_captions(rows, name=f"stream {name}")
        self.name, self.rows, self.seed, self.bad_images, self.read = name, rows, seed, bad_images, read
        self._epoch, self._order = -1, torch.arange(0)

    def _check_columns(self, name: str, columns: Sequence[str]):
        for column in STREAM_COLUMNS[name]:
            if column not in columns and not (column == "image" and "image_token_ids" in columns):
                raise ValueError(f"the stream `{name}` needs a column `{column}`, its dataset has {list(columns)}")

    def __len__(self) -> int:
        return len(self.rows)

    def row_index(self, position: int) -> int:
        """Which row stands at `position`, counted on over all epochs."""
        epoch, offset = divmod(position, len(self.rows))
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(keyed_integer(self.seed, f"shuffle/{self.name}", epoch))
            self._epoch, self._order = epoch, torch.randperm(len(self.rows), generator=generator)
        return int(self._order[offset])

    def sample(self, position: int) -> dict:
        """The sample at `position`: its columns, one of its captions, and the position itself; of a pair also its
        `pair_weight`, if it has one.

        Raises:
            ValueError: If the row has no caption, its weight is no number of at least 0, or a picture is refused and
                `bad_images` does not skip it.
        """
        index, picture = self.row_index(position), {}
        if "image" in STREAM_COLUMNS[self.name]:
            index, row, picture = self._picture(index)
        else:
            row = self.rows[index]
        sample = {"position": position} | picture
        if "text" in STREAM_COLUMNS[self.name]:
            captions = captions_of(row["text"])
            if not captions:
                raise ValueError(f"row {index} of the stream `{self.name}` has no caption")
            sample["text"] = captions[keyed_integer(self.seed, f"caption/{self.name}", position) % len(captions)]
        if self.name == "paired" and "pair_weight" in row:
            weight = row["pair_weight"]
            if weight is None or not 0.0 <= weight < float("inf"):
                raise ValueError(f"`pair_weight` of row {index} must be a number of at least 0, got {weight}")
            sample["pair_weight"] = weight
        return sample

    def _picture(self, index: int) -> tuple[int, Mapping, dict]:
        """The first row from `index` on whose picture can be used, that picture, and why others could not."""
        skipped = [0] * len(BAD_IMAGE_REASONS)
        while True:
            row, name = self.rows[index], f"row {index} of the stream `{self.name}`"
            if row.get("image_token_ids") is not None:
                return index, row, {key: row[key] for key in IMAGE_TENSORS if row.get(key) is not None}
            try:
                picture = {"image": self.read(row["image"], name=name)}
            except ValueError as error:
                if self.bad_images == "raise":
                    raise
                skipped[BAD_IMAGE_REASONS.index(getattr(error, "reason", "unreadable"))] += 1
                if sum(skipped) == MAX_SKIPPED_IN_A_ROW:
                    raise ValueError(f"{sum(skipped)} pictures in a row cannot be used, up to {error}") from error
                index = (index + 1) % len(self.rows)
            else:
                return index, row, picture | ({"skipped": skipped} if self.bad_images == "skip" else {})


def captions_of_rows(rows: Sequence[Mapping]) -> Iterator[list[str]]:
    """The captions of each row, one after the other; of a dataset no image is read.

    Args:
        rows (`datasets.Dataset` or `Sequence[Mapping]`): With `text`, a caption or several.
    """
    for row in rows.select_columns("text") if isinstance(rows, datasets.Dataset) else rows:
        yield captions_of(row["text"])


def undecoded(rows):
    """The rows with their pictures as files, which [`load_image`] opens: what a library would decode on the way has
    passed no limit of size.

    Args:
        rows: A `datasets.Dataset`; anything else is returned as it is.
    """
    features = getattr(rows, "features", None) or {}
    for column, feature in features.items():
        if isinstance(feature, datasets.Image) and feature.decode:
            rows = rows.cast_column(column, datasets.Image(decode=False))
    return rows


class MixedDataset(Dataset):
    """Samples of several streams, addressed as `(stream name, position, use)`: `use` counts how often it came before.

    Args:
        streams (`Sequence[Stream]`): At most one of each name.
    """

    def __init__(self, streams: Sequence[Stream]):
        self.streams = {stream.name: stream for stream in streams}

    def __len__(self) -> int:
        return sum(len(stream) for stream in self.streams.values())

    def __getitem__(self, address: tuple[str, int, int]) -> tuple[str, dict]:
        name, position, use = address
        return name, self.streams[name].sample(position) | {"use": use}


class MixedBatchSampler(Sampler):
    """Addresses `(stream name, position, use)` of each micro-batch of one rank: fixed counts of each stream.

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
        self.num_updates, self.rank, self.world_size = num_updates, rank, world_size
        self.accumulation, self.replay, self.first_update = accumulation, replay, first_update

    def __len__(self) -> int:
        """Micro-batches in all, those before the first update included."""
        return self.num_updates * self.accumulation

    def __iter__(self) -> Iterator[list[tuple[str, int, int]]]:
        for batch in range(self.first_update * self.accumulation, len(self)):
            yield [address for name, count in self.counts.items() for address in self._addresses(batch, name, count)]

    def _addresses(self, batch: int, name: str, count: int) -> list[tuple[str, int, int]]:
        update, micro_batch = divmod(batch, self.accumulation)
        update, use = (update, 0) if name == "paired" else divmod(update, self.replay)
        slot = (update * self.accumulation + micro_batch) * self.world_size + self.rank
        return [(name, position, use) for position in range(slot * count, (slot + 1) * count)]


class ITITCollator:
    """Samples -> nested batch of tensors, `{"paired": {...}, "image": {...}, "text": {...}}`; see [`ITITObjectives`].

    Args:
        processor ([`ITITProcessor`]): Turns pictures into `pixel_values` and text into ids.
        max_text_length (`int`, *optional*, defaults to 64): Tokens of a text at most; longer ones are cut, and named.
    """

    def __init__(self, processor, max_text_length: int = 64):
        self.processor = processor
        self.max_text_length = max_text_length

    def __call__(self, samples: Sequence[tuple[str, dict]]) -> dict[str, dict[str, torch.Tensor]]:
        """Collate `(stream name, sample)` pairs into tensors whose first dimension is the stream's count; see the
        class for names and shapes."""
        parts: dict[str, list[dict]] = {}
        for name, sample in samples:
            parts.setdefault(name, []).append(sample)
        return {name: self._part(rows) for name, rows in parts.items()}

    def _part(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        part = {
            "position": torch.tensor([row["position"] for row in rows]),
            "use": torch.tensor(rows[0].get("use", 0)),
        }
        if "skipped" in rows[0]:
            part["skipped"] = torch.tensor([row["skipped"] for row in rows])  # (B, len(BAD_IMAGE_REASONS))
        if "image_token_ids" in rows[0]:
            for name in [name for name in IMAGE_TENSORS if name in rows[0]]:
                part[name] = torch.stack([torch.as_tensor(row[name], dtype=IMAGE_TENSORS[name]) for row in rows])
        elif "image" in rows[0]:
            images = [row["image"] for row in rows]
            part["pixel_values"] = self.processor.image_processor(images, return_tensors="pt")["pixel_values"]
        if "pair_weight" in rows[0]:
            part["pair_weight"] = torch.tensor([float(row["pair_weight"]) for row in rows])  # (B,)
        if "text" in rows[0]:
            texts = [row["text"] for row in rows]
            encoded = self.processor(text=texts, max_length=self.max_text_length, return_tensors="pt")
            part["input_ids"], part["attention_mask"] = encoded["input_ids"], encoded["attention_mask"]
        return part


def load_rows(
    source: str | os.PathLike,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    stream_rows: int | None = None,
    needed: Sequence[str] | None = None,
    bad_captions: str = "raise",
) -> datasets.Dataset:
    """Open a dataset: a folder, files of one kind, or a Hub id; see [`~sources.open_source`] and [`~folders`].

    Captions are normalised, and those that are none are named or left out, by [`~captions.clean_captions`].

    Args:
        source (`str` or `os.PathLike`): Folder of images, with `metadata.jsonl`, `.csv` or `.parquet`, with a `.txt`
            beside each, or alone; or of tables. A file or pattern that ends in `.tar` (webdataset), `.parquet`,
            `.arrow`, `.jsonl`, `.json`, `.csv`, `.tsv` or `.txt`, compressed or not. Or a Hub id.
        split (`str`, *optional*): Its split, or a part of it in datasets' words, such as `"train[:500]"`,
            `"train[:2%]"` or `"train[:500]+extra"`; may be left out if there is one only.
        columns (`Mapping[str, str]`, *optional*): Which columns `image` and `text` are, such as
            `{"text": "caption"}`; of class labels the names become the captions.
        stream_rows (`int`, *optional*): Read only so many rows, one by one, of a whole split that is too large to
            fetch, and keep them.
        needed (`Sequence[str]`, *optional*): Which of `image` and `text` are used: it is an error if one is missing,
            and captions are looked at only if they are used. Those that are there, by default.
        bad_captions (`str`, *optional*, defaults to `"raise"`): What to do about captions that are none: `"raise"`,
            or `"skip"`, which leaves them out and counts them.

    Returns:
        `datasets.Dataset`: With `image` (or `image_token_ids`) and `text`, a caption or a list, as far as they are
        there, and all other columns.

    Raises:
        ValueError: If there is no such split, or several and none was named, or the part holds no row; a column is
            missing; captions are none; or a file is broken, by its name and line.
    """
    source = os.fspath(source)
    name = source_name(source)
    found = open_source(source, columns, stream_rows)
    if stream_rows is not None and split is not None and split not in found:
        raise ValueError(f"`{name}`: with `stream_rows`, `split` must be one of {sorted(found)}, got {split!r}")
    rows = _part(found, name, split)
    rows = with_image_files(with_columns(rows, columns or {}, name, needed or ()), source)
    if "text" in (rows.column_names if needed is None else needed):
        rows = clean_captions(rows, bad_captions, name)
    return rows


def _part(found: Mapping[str, datasets.Dataset], name: str, split: str | None) -> datasets.Dataset:
    """A split of these, or a part of it; the others are not read."""
    if split is None and len(found) == 1:
        return next(iter(found.values()))
    if split is None:
        raise ValueError(f"`{name}`: name one of its splits, of {sorted(found)}")
    if split in found:
        return found[split]
    sizes = {each: len(found[each]) for each in found if each in split}
    try:
        parts = datasets.ReadInstruction.from_spec(split).to_absolute(sizes)
    except ValueError as error:
        wanted = "wanted one of these, or a part such as `train[:500]` or `train[:2%]`"
        raise ValueError(f"`{name}`: it has no split {split!r}, of {sorted(found)}; {wanted}: {error}") from error
    if any(part.from_ >= part.to for part in parts):
        raise ValueError(f"`{name}`: {split!r} holds no row; rows of each split: {sizes}")
    return datasets.concatenate_datasets([found[p.splitname].select(range(p.from_, p.to)) for p in parts])


def image_tokenizer_fingerprint(processor) -> str:
    """What image tokens mean: a digest of the weights that make them. Those of the decoder alone may change.

    Args:
        processor ([`ITITProcessor`]): With its image tokenizer.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(processor.image_tokenizer.state_dict().items()):
        if not name.startswith(("decoder.", "post_quant_conv.")):
            digest.update(name.encode() + tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def check_image_tokenizer(rows, processor, name: str = "dataset"):
    """See that the image tokens of rows, if they have any, were made by the image tokenizer that is used with them.

    Args:
        rows: A `datasets.Dataset`, with `image_token_ids`, and `image_tokenizer`, the fingerprint of what made them;
            of anything else nothing is known.
        processor ([`ITITProcessor`]): With its image tokenizer.
        name (`str`, *optional*): What messages call the rows.

    Raises:
        ValueError: If another one made them: their numbers would mean other things.
    """
    if not isinstance(rows, datasets.Dataset) or "image_token_ids" not in rows.column_names:
        return
    if TOKENIZER_COLUMN not in rows.column_names:
        logger.warning_once(
            f"`{name}` has no column `{TOKENIZER_COLUMN}`: nothing says which image tokenizer made its tokens"
        )
        return
    makers = set()
    for table in rows.select_columns(TOKENIZER_COLUMN).with_format("arrow").iter(batch_size=100_000):
        makers.update(pc.unique(table[TOKENIZER_COLUMN]).to_pylist())
    given = image_tokenizer_fingerprint(processor)
    if makers - {None, given}:
        raise ValueError(
            f"`{name}`: its image tokens were made by another image tokenizer than the one that is used, "
            f"{sorted(makers - {None, given})} and not {given}: use that one, or make the tokens again"
        )


def image_tokens_fingerprint(rows: datasets.Dataset, processor) -> str:
    """What the image tokens of these rows depend on: the rows, the image tokenizer's weights and the preparation.

    Args:
        rows (`datasets.Dataset`): With a column `image`.
        processor ([`ITITProcessor`]): With its image tokenizer.
    """
    facts = [rows._fingerprint, processor.image_processor.to_json_string(), image_tokenizer_fingerprint(processor)]
    facts += processor.image_input_names[1:]  # nothing of codes alone
    return hashlib.sha256("/".join(facts).encode()).hexdigest()[:16]


def add_image_token_ids(
    rows: datasets.Dataset, processor, batch_size: int = 64, bad_images: str = "raise", name: str = "dataset"
) -> datasets.Dataset:
    """Tokenize every picture once, into a cached column `image_token_ids` of shape `(num_image_tokens,)`, and into
    `image_latents` of shape `(num_image_tokens, vq_embed_dim)` if the processor makes them. A column `image_tokenizer`
    tells which image tokenizer it was, by [`image_tokenizer_fingerprint`].

    The cache is keyed by the dataset and the tokenizer's weights: another tokenizer never finds old ids.

    Args:
        rows (`datasets.Dataset`): With a column `image`; returned as it is if it has these columns already.
        processor ([`ITITProcessor`]): With its image tokenizer.
        batch_size (`int`, *optional*, defaults to 64): Pictures per pass.
        bad_images (`str`, *optional*, defaults to `"raise"`): With `"skip"`, rows whose picture [`load_image`] refuses
            are left out, up to 5% of them.
        name (`str`, *optional*, defaults to `"dataset"`): What messages call the rows.

    Raises:
        ValueError: If there are no pictures, one cannot be used, which is named by its row, or, when they are skipped,
            too many; or another image tokenizer made the tokens that are there.
    """
    wanted = processor.image_input_names
    if set(wanted) <= set(rows.column_names):
        check_image_tokenizer(rows, processor, name)
        return rows
    if "image" not in rows.column_names:
        raise ValueError(f"the pictures are needed for the columns {wanted}, the dataset has {rows.column_names}")
    files = undecoded(rows)
    if bad_images == "skip":
        files = readable_images(files, name)
    read = processor.image_processor.read_image

    def tokenize(batch: dict, indices: list[int]) -> dict:
        images = [read(image, _row(i, name)) for image, i in zip(batch["image"], indices, strict=True)]
        pixel_values = processor.image_processor(images, return_tensors="pt")["pixel_values"]
        tokens = {name: tensor.cpu().numpy() for name, tensor in processor.encode_images(pixel_values).items()}
        return tokens | {TOKENIZER_COLUMN: [made_by] * len(images)}

    made_by = image_tokenizer_fingerprint(processor)
    tokens = files.select_columns("image").map(
        tokenize,
        with_indices=True,
        batched=True,
        batch_size=batch_size,
        remove_columns="image",
        new_fingerprint=image_tokens_fingerprint(files, processor),
        desc="image tokens",
    )
    others = files.remove_columns([name for name in tokens.column_names if name in files.column_names])
    tokenized = datasets.concatenate_datasets([others, tokens], axis=1)  # images are not written once more
    for column, feature in rows.features.items():
        if isinstance(feature, datasets.Image):
            tokenized = tokenized.cast_column(column, feature)  # decoded where they were
    return tokenized


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
    files, bad = undecoded(rows), []

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
