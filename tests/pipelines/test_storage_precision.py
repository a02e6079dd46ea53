# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from safetensors.torch import load_file

from itit_hf import ITITPipeline
from itit_hf.pipelines.storage_precision import lossless_half, stored_in_half

from ..testing_utils import tiny_pipeline


def linear(*rows):
    layer = torch.nn.Linear(len(rows[0]), len(rows), bias=False)
    layer.weight.data = torch.tensor(rows)
    return layer


@pytest.mark.parametrize(
    ("rows", "dtype"),
    [
        ([[1.0, 0.5, -2.0]], torch.float16),
        ([[1.0, 65504.0]], torch.float16),
        ([[1.0, 2.0**40]], torch.bfloat16),  # too large for float16
        ([[1.0, 0.1]], None),
        ([[1.0 + 2.0**-10, 2.0**40]], None),  # one number for each of the two, and none for both
    ],
)
def test_a_half_precision_is_lossless_if_it_holds_every_weight(rows, dtype):
    assert lossless_half(linear(*rows)) is dtype


def test_weights_that_are_not_float32_are_left_as_they_are():
    assert lossless_half(linear([1.0]).double()) is None
    assert lossless_half(linear([1.0]).half()) is None


def test_a_module_has_its_weights_again_also_after_an_error():
    layer = linear([1.0, 0.5])
    weight = layer.weight
    with pytest.raises(OSError, match="full"), stored_in_half(layer):
        assert layer.weight.dtype is torch.float16
        raise OSError("the disk is full")
    assert layer.weight is weight
    assert layer.weight.tolist() == [[1.0, 0.5]]
    assert layer.weight.dtype is torch.float32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pipeline whose text encoder is stored in half precision."""
    folder = tmp_path_factory.mktemp("pipeline")
    pipe = tiny_pipeline()
    pipe.text_encoder.half().float()
    pipe.save_pretrained(folder)
    return folder


def test_a_text_encoder_is_stored_in_half_precision_if_it_loses_nothing(folder):
    stored = load_file(folder / "text_encoder" / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.float16}
    pipe = ITITPipeline.from_pretrained(folder)
    for name, weight in pipe.text_encoder.state_dict().items():
        assert name not in stored or torch.equal(stored[name].float(), weight), name


def test_a_text_encoder_in_half_precision_computes_as_the_model_does(folder):
    pipe = ITITPipeline.from_pretrained(folder)
    assert pipe.text_encoder.dtype is torch.float32
    assert ITITPipeline.from_pretrained(folder, model=None).text_encoder.dtype is torch.float32


def test_a_dtype_that_is_asked_for_is_the_text_encoders_too(folder):
    pipe = ITITPipeline.from_pretrained(folder, dtype=torch.float16)
    assert pipe.text_encoder.dtype is torch.float16


def test_a_text_encoder_that_would_lose_something_is_stored_whole(tmp_path):
    tiny_pipeline().save_pretrained(tmp_path)
    stored = load_file(tmp_path / "text_encoder" / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.float32}
