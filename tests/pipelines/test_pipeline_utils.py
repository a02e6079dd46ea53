# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import pytest
import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

from itit_hf.decoding.sampling import DecodingState, SamplingSettings
from itit_hf.models.types_itit import TextCondition
from itit_hf.pipelines.pipeline_utils import (
    RankingSettings,
    broadcast_batch_size,
    callback_tensor_inputs,
    check_embeds,
    check_generators,
    check_output_type,
    check_texts,
    repeat_rows,
    repeat_text,
    run_callback,
)

from ..testing_utils import generators


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

    after = run_callback("pipe", state, callback, ["prompt_embeds"])
    assert after.condition.embeds.eq(1).all() and after.condition.attention_mask is text.attention_mask
    assert after.image_token_ids is ids and after.negative_condition is None
    assert run_callback("pipe", after, lambda *arguments: None, ["prompt_embeds"]).condition.embeds.eq(1).all()


class Pipe:
    """What [`run_callback`] asks of a pipeline: the masked token's id, a null text, and whether steps are guided."""

    do_classifier_free_guidance = False

    def __init__(self):
        network = SimpleNamespace(null_text_embeds=torch.full((1, 1, 3), 5.0))
        self.model = SimpleNamespace(config=SimpleNamespace(mask_token_id=9), model=network)


def state_of(num_rows=2, negative=None):
    ids = torch.arange(num_rows * 4).view(num_rows, 4)
    return DecodingState(0, 1, ids, ids, TextCondition(torch.rand(num_rows, 2, 3), torch.ones(num_rows, 2)), negative)


def test_a_callback_may_change_ids_in_place_and_the_step_shows_that_it_did():
    state = state_of()
    before = state.image_token_ids

    def callback(pipe, step, timestep, tensors):
        tensors["image_token_ids"][0, 0] = 9

    after = run_callback(Pipe(), state, callback, ["image_token_ids"])
    assert after.image_token_ids is not before and after.image_token_ids[0].tolist() == [9, 1, 2, 3]
    assert before[0, 0] == 0
    untouched = state_of()
    assert run_callback(Pipe(), untouched, callback=lambda *_: {}, names=["prompt_embeds"]) is untouched


@pytest.mark.parametrize("rows", [1, 2])
def test_a_callback_that_ends_guidance_may_keep_the_last_rows_of_the_text_and_all_stay(rows):
    state = state_of(3)
    text = state.condition
    after = run_callback(Pipe(), state, lambda *a: {"prompt_embeds": a[3]["prompt_embeds"][-rows:]}, ["prompt_embeds"])
    assert after.condition is text


def test_rows_that_are_left_out_of_a_guided_text_are_named():
    pipe = Pipe()
    pipe.do_classifier_free_guidance = True
    with pytest.raises(ValueError, match=r"return `prompt_embeds` of the shape .* \(3, 2, 3\), got \(1, 2, 3\)"):
        run_callback(pipe, state_of(3), lambda *a: {"prompt_embeds": a[3]["prompt_embeds"][-1:]}, ["prompt_embeds"])


def test_without_a_negative_text_a_callback_sees_the_null_text_of_each_sample():
    names, seen = ["negative_prompt_embeds"], []
    state = run_callback(Pipe(), state_of(), lambda *a: seen.append(a[3]["negative_prompt_embeds"]), names)
    assert seen[0].tolist() == [[[5.0] * 3]] * 2 and state.negative_condition is None
    state = run_callback(
        Pipe(), state, lambda *a: {"negative_prompt_embeds": a[3]["negative_prompt_embeds"] - 1}, names
    )
    assert state.negative_condition.embeds.eq(4.0).all() and state.negative_condition.attention_mask is None

    def zero(pipe, step, timestep, tensors):
        tensors["negative_prompt_embeds"].zero_()

    state = run_callback(Pipe(), state, zero, names)
    assert state.negative_condition.embeds.eq(0.0).all()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({"image_token_ids": torch.zeros(2, 5, dtype=torch.long)}, r"`image_token_ids` .*\(2, 4\), got .*\(2, 5\)"),
        ({"image_token_ids": torch.zeros(2, 4)}, "`image_token_ids` as it was given them, torch.int64"),
        ({"image_token_ids": torch.full((2, 4), 10)}, "`image_token_ids` from 0 to 9, which is a masked one, got 10"),
        ({"image_token_ids": torch.full((2, 4), -1)}, "`image_token_ids` from 0 to 9"),
        ({"prompt_embeds": torch.zeros(2, 3, 3)}, r"`prompt_embeds` .*\(2, 2, 3\), got \(2, 3, 3\)"),
        ({"prompt_embeds": torch.zeros(1, 2, 3)}, r"`prompt_embeds` .*got \(1, 2, 3\)"),
        ({"negative_prompt_embeds": torch.zeros(2, 1, 4)}, r"`negative_prompt_embeds` .*\(2, 1, 3\), got \(2, 1, 4\)"),
    ],
)
def test_tensors_of_a_callback_that_do_not_fit_are_named(returned, message):
    with pytest.raises(ValueError, match=message):
        run_callback(Pipe(), state_of(), lambda *_: returned, ["image_token_ids"])


@pytest.mark.parametrize(
    ("check", "arguments", "message"),
    [
        (RankingSettings, (0,), "`num_images_per_prompt` must be an integer"),
        (SamplingSettings, (1, float("inf")), "`guidance_scale` must be finite"),
        (check_output_type, ("jpg",), "`output_type` must be one of"),
        (check_texts, ("prompt", [3]), "`prompt` must be a string"),
        (check_embeds, ("prompt_embeds", torch.zeros(1, 9), 9), r"must be \(batch_size, text_length, 9\)"),
        (check_generators, (generators(0), 2), "one for each of 2"),
        (RankingSettings, (1, 2), "`return_best` must be an integer from 1"),
        (RankingSettings, (2, None, "judge"), "`rerank` chooses the images of `return_best`"),
    ],
)
def test_bad_arguments_are_named(check, arguments, message):
    with pytest.raises(ValueError, match=message):
        check(*arguments)


def test_arguments_are_one_for_all_or_one_for_each():
    assert broadcast_batch_size({"prompt": 1, "image": 3, "mask_image": 3}) == 3
    with pytest.raises(ValueError, match="as many of each: `prompt` 2, `image` 3"):
        broadcast_batch_size({"prompt": 2, "image": 3})
