# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

from itit_hf.pipeline_inputs import (
    call_back,
    callback_tensor_inputs,
    check_call,
    check_embeds,
    check_generators,
    check_return_best,
    check_texts,
    repeat_rows,
    repeat_text,
)
from itit_hf.sampling import DecodingState, TextCondition

from .testing_utils import generators


class Callback(PipelineCallback):
    tensor_inputs = ["prompt_embeds"]

    def callback_fn(self, pipeline, step_index, timesteps, callback_kwargs):
        return callback_kwargs


def test_rows_are_one_for_all_or_one_for_each_and_repeats_stand_together():
    assert repeat_rows(torch.tensor([[7]]), 2, 2).tolist() == [[7]] * 4
    assert repeat_rows(torch.tensor([[7], [8]]), 2, 2).tolist() == [[7], [7], [8], [8]]
    assert repeat_rows(None, 2) is None and repeat_text(None, 2) is None


def test_a_text_without_padding_stays_so():
    text = repeat_text(TextCondition(torch.zeros(1, 3, 4)), 5)
    assert text.embeds.shape == (5, 3, 4) and text.attention_mask is None


def test_diffusers_callbacks_name_their_tensors():
    assert callback_tensor_inputs(Callback(), None) == ["prompt_embeds"]
    assert callback_tensor_inputs(MultiPipelineCallbacks([Callback()]), None) == ["prompt_embeds"]
    assert callback_tensor_inputs(print, None) == ["image_token_ids"]
    with pytest.raises(ValueError, match="got \\['latents'\\]"):
        callback_tensor_inputs(print, ["latents"])


def test_a_callback_replaces_what_it_returns_and_nothing_else():
    ids, text = torch.zeros(1, 4, dtype=torch.long), TextCondition(torch.zeros(1, 2, 3), torch.ones(1, 2))
    state = DecodingState(2, 5, ids, ids, text)

    def callback(pipe, step, timestep, tensors):
        assert (pipe, step, timestep, list(tensors)) == ("pipe", 2, 5, ["prompt_embeds"])
        return {"prompt_embeds": tensors["prompt_embeds"] + 1}

    after = call_back("pipe", state, callback, ["prompt_embeds"])
    assert after.condition.embeds.eq(1).all() and after.condition.attention_mask is text.attention_mask
    assert after.image_token_ids is ids and after.negative_condition is None
    assert call_back("pipe", after, lambda *arguments: None, ["prompt_embeds"]).condition.embeds.eq(1).all()


@pytest.mark.parametrize(
    ("check", "arguments", "message"),
    [
        (check_call, (0, 1.0, "pil"), "`num_images_per_prompt` must be an integer"),
        (check_call, (1, float("inf"), "pil"), "`guidance_scale` must be finite"),
        (check_call, (1, 1.0, "jpg"), "`output_type` must be one of"),
        (check_texts, ("prompt", [3]), "`prompt` must be a string"),
        (check_embeds, ("prompt_embeds", torch.zeros(1, 9), 9), r"must be \(batch_size, text_length, 9\)"),
        (check_generators, (generators(0), 2), "one for each of 2"),
        (check_return_best, (2, 1, "a"), "`return_best` must be an integer from 1"),
        (check_return_best, (1, 1, None), "have none"),
    ],
)
def test_bad_arguments_are_named(check, arguments, message):
    with pytest.raises(ValueError, match=message):
        check(*arguments)
