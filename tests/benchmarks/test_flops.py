# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The code does no work and keeps no activations beyond what the arithmetic of `utils/benchmarks/flops.py` says is
needed."""

from dataclasses import replace

import pytest
import torch

import flops
from counting import TableTextEncoder, counted, numbers_kept
from flops import Workload
from itit_hf.decoding.sampling import SamplingSettings, decode_image_tokens
from itit_hf.decoding.scheduling_itit import ITITScheduler
from itit_hf.masking import MaskRatio
from itit_hf.models.configuration_itit import ITITConfig
from itit_hf.models.modeling_itit import ITITForPreTraining
from itit_hf.models.types_itit import TextCondition
from itit_hf.objectives.objectives import ITITObjectives, ObjectiveSettings

from ..testing_utils import tiny_config

# No two sizes are equal, so that a mistaken one shows; few layers, so that a lost saving weighs more than the bound.
CONFIG = {
    "codebook_size": 300,
    "image_grid": (8, 8),
    "vocab_size": 420,
    "num_text_tokens": 400,
    "eos_token_id": 410,  # never predicted, so that each caption is as long as it may be
    "text_hidden_size": 56,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "intermediate_size": 256,
    "decoder_hidden_size": 72,
    "decoder_num_attention_heads": 6,
    "decoder_intermediate_size": 280,
    "image_decoder_num_hidden_layers": 3,
    "text_decoder_num_hidden_layers": 3,
}
# As deep as ITIT-B: what is kept around the blocks weighs more in a shallow network than in any real one.
DEEP = {"num_hidden_layers": 12, "image_decoder_num_hidden_layers": 8, "text_decoder_num_hidden_layers": 6}
LOWEST, HIGHEST = 0.97, 1.03  # a figure below the floor is a mistake in the arithmetic
STREAMS = {"paired step": "paired", "t2i2t": "text", "t2i2t_half": "text", "i2t2i": "image", "i2t2i_half": "image"}
STREAMS |= {"t2i": "paired", "i2t + i2i": "paired"}
NAMES = {"paired step": ("t2i", "i2t", "i2i"), "i2t + i2i": ("i2t", "i2i")}


def build(attention="eager", **changes):
    """The products of fused attention are not counted on a CPU, so plain attention does them."""
    torch.manual_seed(0)
    config = tiny_config(**(CONFIG | changes))
    model = ITITForPreTraining(config)
    model.set_attn_implementation(attention)
    return model, Workload(config, 2, text_length=12, num_inference_steps=6, num_new_tokens=12, i2t_mask_ratio=0.625)


def batch_of(work):
    ids = torch.randint(2, 300, (work.batch_size, work.config.num_image_tokens))
    text = torch.randint(2, 300, (work.batch_size, work.text_length))
    part = {"image_token_ids": ids, "input_ids": text, "attention_mask": torch.ones_like(text)}
    return part | {"sample_index": torch.arange(work.batch_size)}


def loss_of(operation, model, work):
    """The objectives of a step, with masks of a known size."""
    settings = ObjectiveSettings(
        t2i_mask_ratio=MaskRatio(work.t2i_mask_ratio, 0.0),
        i2t_mask_ratio=MaskRatio(work.i2t_mask_ratio, 0.0, high=0.75),
        synthesis_steps=work.num_inference_steps,
        synthesis_max_new_tokens=work.num_new_tokens,
    )
    names, scheduler = NAMES.get(operation, (operation,)), ITITScheduler(work.config.mask_token_id)
    encoder = TableTextEncoder(work.config)
    objectives = ITITObjectives(names, work.config, encoder, settings=settings, scheduler=scheduler)
    return sum(objectives(model, {STREAMS[operation]: batch_of(work)}).values())


def generate(model, work):
    condition, negative = (
        TextCondition(torch.randn(work.batch_size, length, work.config.text_hidden_size))
        for length in (work.text_length, work.null_length)
    )
    scheduler = ITITScheduler(work.config.mask_token_id)
    away = negative if work.null_length > 1 else None  # one token: the model's own null text
    decode_image_tokens(
        model.eval(),
        condition,
        scheduler,
        SamplingSettings(work.num_inference_steps, work.guidance_scale),
        negative_condition=away,
    )


def caption(model, work):
    ids, beams = batch_of(work)["image_token_ids"], work.num_beams
    model.eval().generate(image_token_ids=ids, num_beams=beams, max_new_tokens=work.num_new_tokens, do_sample=False)


def test_a_multiply_add_is_two_flops():
    assert flops.linear(rows=2, num_inputs=3, num_outputs=5) == 2 * (2 * 3 * 5)


def test_a_block_of_the_base_size_over_320_tokens_is_4_84_gflop():
    assert flops.block(320, 768, 3072) == 2 * 320 * 12 * 768**2 + 4 * 320**2 * 768 == 4_844_421_120


def test_a_block_read_at_no_token_makes_keys_and_values_only():
    assert flops.block(10, 8, 32, queries=0) == 2 * (2 * 10 * 8 * 8)


def test_a_text_of_three_tokens_sees_one_two_and_three_of_itself():
    config = tiny_config(text_decoder_num_hidden_layers=1)  # 16 wide, 24 in the MLP
    attention = 4 * 16 * (1 + 2 + 3) + 4 * (2 * 3 * 16 * 16)
    assert flops.text_decoder(config, 0, 3) == attention + 2 * (2 * 3 * 16 * 24)


def test_half_of_the_positions_are_dropped_while_at_least_half_are_hidden():
    work = Workload(tiny_config())  # 16 image tokens
    assert [work.num_visible(count) for count in (16, 8, 7, 0)] == [8, 8, 16, 16]


def test_hidden_tokens_of_four_steps_follow_the_cosine():
    work = Workload(tiny_config(image_grid=(10, 10)), num_inference_steps=4)
    assert work.masked_by_step() == [100, 92, 70, 38]


def test_one_sample_of_each_loss_keeps_less_than_1100_mebibytes_at_the_base_size():
    work = Workload(ITITConfig.preset("base"), num_new_tokens=64)
    numbers = sum(flops.SAVED[name](work) for name in ("t2i", "i2t + i2i", "t2i2t", "i2t2i"))
    assert 900 < numbers * 4 / 2**20 < 1100


def test_the_table_has_a_row_for_each_operation(capsys):
    flops.main(["--presets", "tiny"])
    names = [line.split(",")[0].lstrip("| ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert names == [*flops.FLOPS, *flops.SAVED]


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("encoder_drop", ["half", "all"])
def test_generating_does_no_avoidable_work(encoder_drop, guidance_scale):
    model, work = build(encoder_drop=encoder_drop)
    work = replace(work, guidance_scale=guidance_scale)
    assert LOWEST < counted(lambda: generate(model, work)) / flops.generate(work) < HIGHEST


@pytest.mark.parametrize("encoder_drop", ["half", "all"])
def test_both_passes_of_guidance_in_one_call_do_no_avoidable_work(encoder_drop):
    model, work = build(encoder_drop=encoder_drop)
    work = replace(work, null_length=work.text_length)
    calls = []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    assert LOWEST < counted(lambda: generate(model, work)) / flops.generate(work) < HIGHEST
    assert len(calls) == work.num_inference_steps


def test_greedy_captions_do_no_avoidable_work():
    model, work = build()
    work = replace(work, num_beams=1)
    assert LOWEST < counted(lambda: caption(model, work)) / flops.caption(work) < HIGHEST


def test_beams_share_the_prefix():
    model, work = build()
    assert LOWEST < counted(lambda: caption(model, work)) / flops.caption(work) < HIGHEST


@pytest.mark.parametrize("operation", ["paired step", "t2i2t", "t2i2t_half", "i2t2i", "i2t2i_half"])
def test_training_does_no_avoidable_work(operation):
    model, work = build()
    work = replace(work, num_inference_steps=2)  # or the synthesis would hide what the two passes do
    ratio = counted(lambda: loss_of(operation, model, work).backward()) / flops.FLOPS[operation](work)
    assert LOWEST < ratio < HIGHEST


def test_weights_of_the_modules_that_are_named_are_no_activations():
    first, second = torch.nn.Linear(3, 4), torch.nn.Linear(4, 5)
    read, between, weight = 2 * 3, 2 * 4, 4 * 5

    def loss():
        return second(first(torch.ones(2, 3))).sum()

    assert numbers_kept(loss, first, second) == read + between
    assert numbers_kept(loss, first) == read + between + weight


@pytest.mark.parametrize("operation", flops.SAVED)
def test_training_keeps_no_avoidable_activations(operation):
    model, work = build("sdpa", **DEEP)
    ratio = numbers_kept(lambda: loss_of(operation, model, work), model) / flops.SAVED[operation](work)
    assert LOWEST < ratio < HIGHEST


@pytest.mark.slow
def test_bf16_keeps_two_thirds_of_the_activations_and_a_copy_of_the_weights_of_each_pass():
    """The shares of docs/distributed.md, for all four losses together."""
    model, work = build("sdpa", **DEEP)

    def kept(num_samples, bf16):
        sized, total = replace(work, batch_size=num_samples), 0
        for operation in ("t2i", "i2t + i2i", "t2i2t", "i2t2i"):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                total += numbers_kept(lambda: loss_of(operation, model, sized), model)  # noqa: B023
        return total

    of_two = {bf16: kept(4, bf16) - kept(2, bf16) for bf16 in (False, True)}
    weights = kept(2, True) - of_two[True]  # what does not grow with the samples
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    assert of_two[True] / of_two[False] == pytest.approx(0.64, abs=0.02)
    assert 4 * weights / num_parameters == pytest.approx(7.3, abs=0.2)
