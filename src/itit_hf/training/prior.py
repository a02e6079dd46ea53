# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What a start knows, as pairs of its own making, so that training on something new does not overwrite it.

The start generates images of texts and captions them, before it is trained; these pairs are mixed into the batches.
DreamBooth calls it prior preservation (https://huggingface.co/papers/2208.12242, section 3.3), there for one class and
images alone; here it is for all that the texts speak of, and in both directions.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import datasets
import pyarrow as pa
from tqdm.auto import tqdm
from transformers.utils import logging

from ..data.captions import LIST_OF_TEXTS, captions_of, replace_column
from ..data.loading import load_rows
from ..data.row_store import stored_rows
from ..data.streams import IMAGE_TENSORS, TOKENIZER_COLUMN, Stream, image_tokenizer_fingerprint
from ..objectives.objectives import eval_mode
from ..rng import keyed_generators
from .training_args import ITITTrainingArguments

logger = logging.get_logger(__name__)

CHUNK_SIZE = 32  # pairs that are made together, and kept once they are there
_VERSION = 1  # of how pairs are made; a part of the key of those that are kept


@dataclass
class PriorArguments:
    """Pairs of the start's own making that training is mixed with.

    Args:
        prior_images (`int`): How many images the start generates, and captions, before it is trained; 0 for none.
        prior_prompts (`str`, *optional*): Texts that it generates them of, best those that it was trained on: a text
            file of one a line, or a folder or Hub id with a column `text`.
        prior_split (`str`, *optional*): Their split; may be left out if there is one only.
        prior_fraction (`float`): Share of the training's pairs that are the start's own, between 0 and 1. With 0.5 a
            batch has as many of them as of the new ones, on average.
    """

    prior_images: int = field(default=0, metadata={"help": "Images that the start generates before it is trained."})
    prior_prompts: str | None = field(default=None, metadata={"help": "Texts that it generates them of."})
    prior_split: str | None = field(default=None, metadata={"help": "Split of these texts."})
    prior_fraction: float = field(default=0.5, metadata={"help": "Share of the pairs that are the start's own."})

    def __post_init__(self):
        if self.prior_images < 0:
            raise ValueError(f"`prior_images` must be at least 0, got {self.prior_images}")
        if not 0.0 < self.prior_fraction < 1.0:
            raise ValueError(f"`prior_fraction` must be between 0 and 1, got {self.prior_fraction}")
        if self.prior_prompts is not None and not self.prior_images:
            raise ValueError("`prior_prompts` are what `prior_images` are generated of, got 0 images")

    def texts(self) -> datasets.Dataset:
        """The rows of `prior_prompts`.

        Raises:
            ValueError: If there are none.
        """
        if self.prior_prompts is None:
            raise ValueError("`prior_images` needs `prior_prompts`: texts such as the start was trained on")
        return load_rows(self.prior_prompts, self.prior_split, needed=["text"])


def prior_pairs(pipe, texts: Sequence[Mapping], num_images: int, seed: int = 0) -> datasets.Dataset:
    """Images that a pipeline generates of texts, with the text of each and the caption that the pipeline gives it.

    Pair i is a function of the pipeline, the texts, the seed and i alone. Pairs are kept on disk, by
    chunks, under a key of all that: what was made before an interruption, or for a smaller number, is not made again,
    and other weights never find them.

    Args:
        pipe ([`ITITPipeline`]): The start. It generates images by its own settings, `pipe.sampling`, and captions them
            by the most likely words, one after the other. It is not changed.
        texts (`Sequence[Mapping]`): Rows with `text`, a caption or several.
        num_images (`int`): Pairs.
        seed (`int`, *optional*, defaults to 0): Of the choice of texts and of the images.

    Returns:
        `datasets.Dataset`: With `image_token_ids`, `text` (the prompt, and the caption if it is another one),
        `image_tokenizer`, and `image_latents` if the model captions these.

    Raises:
        ValueError: If `num_images` is below 1, or there are no texts.
    """
    if num_images < 1:
        raise ValueError(f"`num_images` must be at least 1, got {num_images}")
    stream = Stream("text", texts, seed)
    made_by = image_tokenizer_fingerprint(pipe.processor)
    made_from = [_VERSION, _fingerprint(pipe), made_by, asdict(pipe.sampling), seed]
    starts = range(0, num_images, CHUNK_SIZE)
    chunks = []
    with eval_mode(pipe.model):
        for start in tqdm(starts, desc="the start's own pairs", unit=f" x {CHUNK_SIZE}", delay=2.0):
            indices = list(range(start, min(start + CHUNK_SIZE, num_images)))
            prompts = [stream.sample(i)["text"] for i in indices]
            key = hashlib.sha256(json.dumps([*made_from, start, prompts]).encode()).hexdigest()[:16]
            maker = _ChunkMaker(pipe, prompts, keyed_generators(seed, "prior", indices), made_by)
            chunks.append(stored_rows(key, maker.tables, "the start's own pairs"))
    return datasets.concatenate_datasets(chunks)


def add_prior(
    pairs: datasets.Dataset,
    pipe,
    prior: PriorArguments,
    args: ITITTrainingArguments,
    texts: Sequence[Mapping] | None = None,
) -> datasets.Dataset:
    """New pairs, mixed with the start's own as the arguments of a training say.

    Args:
        pairs (`datasets.Dataset`): With `image_token_ids` and `text`.
        pipe ([`ITITPipeline`]): The start, before it is trained. It is brought to the device of the training.
        prior ([`PriorArguments`]): How many pairs, of which texts, and their share.
        args ([`ITITTrainingArguments`]): Its seed of the data is that of these pairs too.
        texts (`Sequence[Mapping]`, *optional*): Rows with `text`, where no `prior_prompts` are given.

    Returns:
        `datasets.Dataset`: `pairs` as they are if there are to be no images of the start's own.

    Raises:
        ValueError: If there are no texts, or `pairs` have no image tokens.
    """
    if not prior.prior_images:
        return pairs
    _check_tokens(pairs)
    if prior.prior_prompts is not None or texts is None:
        texts = prior.texts()
    own = prior_pairs(pipe.to(args.device), texts, prior.prior_images, args.data_seed_or_seed)
    return mix_prior(pairs, own, prior.prior_fraction)


@dataclass
class _ChunkMaker:
    """Makes the pairs of some prompts."""

    pipe: Any
    prompts: list[str]
    generators: list
    made_by: str

    def tables(self) -> Iterator[pa.Table]:
        """One table."""
        cycle = self.pipe.cycle(
            self.prompts,
            rounds=1,
            num_beams=1,
            generator=self.generators,
            output_type="latent",
        )
        ids = cycle.image_token_ids[:, 0]  # (B, K)
        inputs = {name: rows.float() for name, rows in self.pipe.model.inputs_from_ids(ids).items()}
        inputs["image_token_ids"] = ids
        columns = {name: inputs[name].tolist() for name in IMAGE_TENSORS if name in inputs}
        # Each text once; of an image that the start has no caption for, the prompt alone.
        columns["text"] = [list(dict.fromkeys(captions_of(texts))) for texts in cycle.texts]
        columns[TOKENIZER_COLUMN] = [self.made_by] * len(ids)
        types = {"image_token_ids": datasets.List(datasets.Value("int64")), "text": LIST_OF_TEXTS}
        types |= {"image_latents": datasets.List(datasets.List(datasets.Value("float32")))}
        types |= {TOKENIZER_COLUMN: datasets.Value("string")}
        features = datasets.Features({name: types[name] for name in columns})
        yield pa.table(columns, schema=features.arrow_schema)


def _fingerprint(pipe) -> str:
    """A digest of what a pipeline generates and captions by, the image tokenizer apart."""
    digest = hashlib.sha256()
    for part in (pipe.model, pipe.text_encoder):
        for name, tensor in sorted(part.state_dict().items()):
            digest.update(name.encode() + tensor.detach().float().cpu().contiguous().numpy().tobytes())
    vocabulary = sorted(pipe.tokenizer.get_vocab().items())
    settings = {name: value for name, value in pipe.scheduler.config.items() if not name.startswith("_")}
    digest.update(json.dumps([vocabulary, settings], sort_keys=True, default=str).encode())
    return digest.hexdigest()[:16]


def mix_prior(pairs: datasets.Dataset, prior: datasets.Dataset, fraction: float) -> datasets.Dataset:
    """New pairs and a start's own as one dataset of given shares. Rows are repeated, never left out: at least one of
    the two is there once, the other as often as its share asks for.

    Args:
        pairs (`datasets.Dataset`): With `image_token_ids` and `text`.
        prior (`datasets.Dataset`): What [`prior_pairs`] makes.
        fraction (`float`): Share of rows that are of `prior`, between 0 and 1.

    Returns:
        `datasets.Dataset` with the columns that both have, and `sample_weight` if the new pairs have it, which is 1.0
        for the others.

    Raises:
        ValueError: If `pairs` are no dataset with image tokens.
    """
    _check_tokens(pairs)
    names = [name for name in prior.column_names if name in pairs.column_names]
    if "sample_weight" in pairs.column_names:
        names.append("sample_weight")
        prior = prior.add_column("sample_weight", [1.0] * len(prior))
    own = pairs.select_columns(names)
    if own.features["text"] == datasets.Value("string"):
        own = replace_column(own, "text", _in_lists, LIST_OF_TEXTS, "in lists")
    both = datasets.concatenate_datasets([own, prior.select_columns(names).cast(own.features)])
    scale = max(len(own) / (1 - fraction), len(prior) / fraction)  # rows in all
    num_prior = round(scale * fraction)
    num_own = round(scale) - num_prior
    logger.info(f"{num_own} rows of {len(own)} new pairs, and {num_prior} of {len(prior)} of the start's own")
    indices = [i % len(own) for i in range(num_own)] + [len(own) + i % len(prior) for i in range(num_prior)]
    return both.select(indices)


def _check_tokens(pairs):
    if not isinstance(pairs, datasets.Dataset) or "image_token_ids" not in pairs.column_names:
        raise ValueError(
            "`pairs` must be a dataset with `image_token_ids` to be mixed with `prior_images`: leave `tokenize` and "
            "`data_access` as they are by default, or make the tokens with examples/prepare_tokens.py"
        )


def _in_lists(texts: pa.Array) -> pa.Array:
    """Each text as a list of one."""
    return pa.ListArray.from_arrays(pa.array(range(len(texts) + 1), pa.int32()), texts.cast(pa.string()))
