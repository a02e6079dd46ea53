# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Images become image tokens once, in a cached column, before the training that reads them often."""

import hashlib

import datasets

from .direct_rows import DirectRows
from .loading import without_decoding
from .streams import (
    TOKENIZER_COLUMN,
    Processor,
    _row,
    check_image_tokenizer,
    image_tokenizer_fingerprint,
    readable_images,
)


def image_tokens_fingerprint(rows: datasets.Dataset, processor: Processor) -> str:
    """What the image tokens of these rows depend on: the rows, the image tokenizer's weights and the preparation.

    Args:
        rows (`datasets.Dataset`): With a column `image`.
        processor ([`ITITProcessor`]): With its image tokenizer.
    """
    made_from = [rows._fingerprint, processor.image_processor.to_json_string(), image_tokenizer_fingerprint(processor)]
    made_from += processor.image_input_names[1:]  # nothing of codes alone
    return hashlib.sha256("/".join(made_from).encode()).hexdigest()[:16]


def add_image_token_ids(
    rows: datasets.Dataset,
    processor: Processor,
    batch_size: int = 64,
    on_bad_image: str = "raise",
    name: str = "dataset",
) -> datasets.Dataset:
    """Tokenize every image once, into a cached column `image_token_ids` of shape `(num_image_tokens,)`, and into
    `image_latents` of shape `(num_image_tokens, vq_embed_dim)` if the processor makes them. A column `image_tokenizer`
    tells which image tokenizer it was, by [`image_tokenizer_fingerprint`].

    The cache is keyed by the dataset and the tokenizer's weights: another tokenizer never finds old ids.

    Args:
        rows (`datasets.Dataset`): With a column `image`; returned as it is if it has these columns already.
        processor ([`ITITProcessor`]): With its image tokenizer.
        batch_size (`int`, *optional*, defaults to 64): Images per pass.
        on_bad_image (`str`, *optional*, defaults to `"raise"`): With `"skip"`, rows whose image [`load_image`] refuses
            are left out, up to 5% of them.
        name (`str`, *optional*, defaults to `"dataset"`): What messages call the rows.

    Raises:
        ValueError: If there are no images, one cannot be used, which is named by its row, or, when they are skipped,
            too many; or another image tokenizer made the tokens that are there.
    """
    wanted = processor.image_input_names
    if set(wanted) <= set(rows.column_names):
        check_image_tokenizer(rows, processor, name)
        return rows
    if "image" not in rows.column_names:
        raise ValueError(f"the images are needed for the columns {wanted}, the dataset has {rows.column_names}")
    if isinstance(rows, DirectRows):
        raise ValueError(
            f"`{name}` is read where it is, and cannot be given columns: make its image tokens by "
            "examples/prepare_tokens.py, or in training, with `--tokenize online`"
        )
    files = without_decoding(rows)
    if on_bad_image == "skip":
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
