# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import logging

import pytest
import torch
from datasets import Dataset
from datasets import Image as DatasetImage

from itit_hf.data.image_tokens import add_image_token_ids
from itit_hf.models.processing_itit import ITITProcessor

from ..testing_utils import tiny_image_tokenizer, tiny_pairs
from .test_streams import BAD, other_processor


def test_another_tokenizer_never_finds_old_tokens(processor):
    pairs = tiny_pairs()
    first = add_image_token_ids(pairs, processor)
    torch.manual_seed(99)
    other = ITITProcessor(processor.image_processor, processor.tokenizer, tiny_image_tokenizer())
    assert add_image_token_ids(pairs, other)._fingerprint != first._fingerprint
    assert add_image_token_ids(first, processor) is first


def test_an_image_tokenizer_may_draw_its_tokens_otherwise(processor):
    tokens = add_image_token_ids(tiny_pairs(2), processor)
    assert add_image_token_ids(tokens, other_processor(processor, "decoder.")) is tokens


def test_tokens_that_do_not_say_what_made_them_are_taken_with_a_warning(processor, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    tokens = add_image_token_ids(tiny_pairs(2), processor).remove_columns("image_tokenizer")
    assert add_image_token_ids(tokens, processor) is tokens
    assert "nothing says which image tokenizer made its tokens" in caplog.text


def test_rows_with_bad_images_get_no_tokens(processor):
    rows = Dataset.from_list([{"image": image} for image in [row["image"] for row in tiny_pairs(24)] * 2])
    files = rows.cast_column("image", DatasetImage(decode=False)).to_list()
    files[7]["image"] = BAD
    bad = Dataset.from_list(files).cast_column("image", DatasetImage())
    assert len(add_image_token_ids(bad, processor, on_bad_image="skip")) == 47
    with pytest.raises(ValueError, match="row 7 of `train` .*: it cannot be read as an image"):
        add_image_token_ids(bad, processor, name="train")
