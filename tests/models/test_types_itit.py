# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
from dataclasses import FrozenInstanceError, fields

import pytest
import torch
from accelerate.utils import send_to_device
from torch.utils import _pytree as pytree

from itit_hf.models.modeling_itit import ITITForImageGeneration
from itit_hf.models.types_itit import ImageMask, SoftTokens, TextCondition

from ..testing_utils import tiny_config

FLAGS = torch.tensor([[True, True, False, True], [False, True, True, False]])
GROUPS = (
    ImageMask(FLAGS),
    ImageMask(FLAGS, torch.tensor([[2, 3], [0, 3]]), torch.tensor([[True, True], [True, False]])),
    TextCondition(torch.zeros(2, 3, 10), torch.ones(2, 3)),
    SoftTokens(torch.zeros(2, 1, 23), torch.zeros(2, 1, dtype=torch.long)),
)
each_group = pytest.mark.parametrize("group", GROUPS, ids=lambda group: type(group).__name__)


def tensors_of(group):
    return [getattr(group, field.name) for field in fields(group) if getattr(group, field.name) is not None]


@each_group
def test_libraries_find_the_tensors(group):
    leaves, spec = pytree.tree_flatten({"input": group})
    assert all(found is given for found, given in zip(leaves, tensors_of(group), strict=True))
    again = pytree.tree_unflatten(leaves, spec)["input"]
    assert type(again) is type(group) and tensors_of(again) == tensors_of(group)


@each_group
def test_accelerate_moves_the_tensors_and_leaves_out_those_that_are_none(group):
    moved = send_to_device({"input": group}, torch.device("meta"))["input"]
    assert type(moved) is type(group) and len(tensors_of(moved)) == len(tensors_of(group))
    assert {tensor.device.type for tensor in tensors_of(moved)} == {"meta"}
    assert {tensor.device.type for tensor in tensors_of(group)} == {"cpu"}


@each_group
def test_nothing_is_changed_in_place(group):
    with pytest.raises(FrozenInstanceError):
        setattr(group, fields(group)[0].name, None)


def test_a_mask_counts_the_positions_that_the_encoder_is_given():
    assert [mask.num_encoded for mask in GROUPS[:2]] == [4, 2]


def test_a_repeated_mask_is_that_of_copies_one_below_the_other():
    twice = GROUPS[1].repeat(2)
    assert twice.bool_masked_pos.tolist() == [*FLAGS.tolist(), *FLAGS.tolist()]
    assert twice.encoder_positions.tolist() == [[2, 3], [0, 3], [2, 3], [0, 3]]
    assert twice.encoder_attention_mask.tolist() == [[True, True], [True, False]] * 2
    assert GROUPS[0].repeat(3).encoder_positions is None


def test_a_compiled_model_takes_them_without_a_break_in_its_graph():
    torch.manual_seed(0)
    shallow = tiny_config(num_hidden_layers=1, image_decoder_num_hidden_layers=1)
    model = ITITForImageGeneration(shallow).eval()
    ids = torch.arange(32).view(2, 16) % 23
    inputs = {"image_mask": ImageMask(ids > 7), "text_condition": TextCondition(torch.randn(2, 3, 10))}
    want = model(image_token_ids=ids, **inputs).image_logits
    torch._dynamo.reset()
    model.compile(backend="eager", fullgraph=True)
    assert torch.equal(model(image_token_ids=ids, **inputs).image_logits, want)
