# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
from dataclasses import fields, replace
from types import SimpleNamespace

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.utils._python_dispatch import TorchDispatchMode

from itit_hf.decoding.sampling import (
    CALL_PRESETS,
    InpaintInputs,
    SamplingSettings,
    classifier_free_guidance,
    decode_image_tokens,
    guidance_scales,
    should_batch_guidance,
)
from itit_hf.decoding.scheduling_itit import DECODING_ORDERS, PRESETS, ITITScheduler
from itit_hf.models.modeling_itit import ITITForImageGeneration
from itit_hf.models.types_itit import TextCondition

from ..testing_utils import generators, tiny_config


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = ITITForImageGeneration(tiny_config()).eval()
    model.model.null_text_embeds.normal_()
    return model


@pytest.fixture
def scheduler():
    return ITITScheduler(mask_token_id=23, temperature=2.0)


def test_generating_on_a_cpu_does_not_wait_for_the_compiler(model, scheduler, monkeypatch):
    """Its import takes seconds, and is what the mark of a step of CUDA graphs begins with."""

    def mark():
        raise AssertionError("there are no CUDA graphs here")

    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", mark)
    assert decode_image_tokens(model, texts(0), scheduler, SamplingSettings(num_inference_steps=2)).shape == (1, 16)


def texts(*seeds):
    return TextCondition(torch.stack([torch.randn(4, 10, generator=g) for g in generators(*seeds)]))


class KnownImage:
    """Always wants code 3 given a text, and code 1 without. The null text is so much shorter than its texts of four
    tokens that the passes of guidance are two calls."""

    config = SimpleNamespace(image_grid=(4, 4), num_image_tokens=16, mask_token_id=5, encoder_drop="half")

    def __init__(self):
        self.calls = []
        self.with_text = []

    def __call__(self, image_token_ids, logit_positions, image_mask, text_condition=None):
        positions = image_mask.encoder_positions
        self.calls.append((None if positions is None else positions.size(1), logit_positions.size(1)))
        self.with_text.append(text_condition is not None)
        logits = torch.zeros(*logit_positions.shape, 5)
        logits[..., 1 if text_condition is None else 3] = 50.0
        return SimpleNamespace(image_logits=logits)


def test_guidance_scale_is_one_plus_tau():
    cond, uncond, tau = torch.randn(2, 5), torch.randn(2, 5), 2.0
    torch.testing.assert_close(classifier_free_guidance(cond, uncond, 1.0), cond)
    torch.testing.assert_close(classifier_free_guidance(cond, uncond, 1 + tau), (1 + tau) * cond - tau * uncond)


@pytest.mark.parametrize(
    ("schedule", "interval", "want"),
    [
        ("constant", (0.0, 1.0), [3.0, 3.0, 3.0, 3.0, 3.0]),
        ("linear", (0.0, 1.0), [1.0, 1.5, 2.0, 2.5, 3.0]),
        ("constant", (0.2, 0.8), [1.0, 3.0, 3.0, 3.0, 1.0]),
        ("linear", (0.5, 1.0), [1.0, 1.0, 1.0, 2.5, 3.0]),
        ("constant", (0.5, 0.5), [1.0] * 5),
    ],
)
def test_the_guidance_of_each_step_is_pinned(schedule, interval, want):
    assert guidance_scales(3.0, 5, schedule, interval) == want


def test_a_single_step_has_the_whole_guidance():
    assert guidance_scales(2.7, 1, "linear") == guidance_scales(2.7, 1) == [2.7]


@pytest.mark.parametrize(
    ("name", "bad"),
    [("guidance_schedule", "cosine")]
    + [("guidance_interval", bad) for bad in ((0.5, 0.2), (-0.1, 1.0), (0.0, 1.5), (0.5,), (float("nan"), 1.0))],
)
def test_guidance_out_of_range_is_named(model, scheduler, name, bad):
    with pytest.raises(ValueError, match=f"`{name}`"):
        decode_image_tokens(model, texts(0), scheduler, SamplingSettings(2, **{name: bad}))


@pytest.mark.parametrize(
    ("settings", "guided"),
    [({"guidance_interval": (0.25, 0.75)}, [1, 2]), ({"guidance_schedule": "linear"}, [1, 2, 3])],
)
def test_no_null_pass_where_there_is_no_guidance(settings, guided):
    stub = KnownImage()
    decode_image_tokens(stub, texts(0), ITITScheduler(mask_token_id=5), SamplingSettings(4, **settings))
    assert stub.with_text == [text for step in range(4) for text in ([True, False] if step in guided else [True])]


def test_guidance_in_the_whole_interval_is_the_default(model, scheduler):
    default = decode_image_tokens(model, texts(0), scheduler, SamplingSettings(4), generator=generators(0))
    whole = {"guidance_schedule": "constant", "guidance_interval": (0.0, 1.0)}
    late = {"guidance_interval": (0.5, 1.0)}
    assert torch.equal(
        default, decode_image_tokens(model, texts(0), scheduler, SamplingSettings(4, **whole), generator=generators(0))
    )
    assert not torch.equal(
        default, decode_image_tokens(model, texts(0), scheduler, SamplingSettings(4, **late), generator=generators(0))
    )


def test_the_paper_is_the_preset_and_the_default():
    assert set(CALL_PRESETS) == set(PRESETS)
    preset = CALL_PRESETS["paper"]
    assert (preset["num_inference_steps"], preset["guidance_scale"]) == (24, 3.0)
    assert set(preset) == {item.name for item in fields(SamplingSettings)}, "a checkpoint's own would show through"
    assert preset["temperature"] == PRESETS["paper"]["temperature"]
    assert SamplingSettings(**preset) == replace(SamplingSettings(), temperature=32.0)


@pytest.mark.parametrize("steps", [1, 2, 8, 24])
def test_decoding_leaves_no_mask_id(model, scheduler, steps):
    ids = decode_image_tokens(model, texts(0, 1), scheduler, SamplingSettings(steps))
    assert ids.shape == (2, 16) and ids.min() >= 0 and ids.max() < 23


def test_decoding_draws_what_the_model_wants():
    ids = decode_image_tokens(KnownImage(), texts(0), ITITScheduler(mask_token_id=5), SamplingSettings(4))
    assert ids.tolist() == [[3] * 16]


def test_the_encoder_gets_half_of_the_positions_while_half_are_hidden():
    stub = KnownImage()
    decode_image_tokens(stub, texts(0), ITITScheduler(mask_token_id=5), SamplingSettings(4, guidance_scale=1.0))
    assert stub.calls == [(8, 16), (8, 14), (8, 11), (None, 6)]  # floor(16 cos(pi s / 8)) are hidden


def test_no_guidance_spares_the_second_pass():
    stub = KnownImage()
    decode_image_tokens(stub, texts(0), ITITScheduler(mask_token_id=5), SamplingSettings(4, guidance_scale=1.0))
    assert len(stub.calls) == 4


@pytest.mark.parametrize("scale", [0.9, 0.0, -4.0])
def test_there_is_no_guidance_at_one_and_below(scale):
    stub, scheduler = KnownImage(), ITITScheduler(mask_token_id=5)
    for schedule in ("constant", "linear"):
        decode_image_tokens(
            stub, texts(0), scheduler, SamplingSettings(3, guidance_scale=scale, guidance_schedule=schedule)
        )
    assert stub.with_text == [True] * 6


def test_guidance_that_a_callback_changes_holds_from_the_next_step_on():
    def end(state):
        state.guidance_scale = 0.0 if state.step == 1 else state.guidance_scale
        return state

    stub = KnownImage()
    decode_image_tokens(
        stub, texts(0), ITITScheduler(mask_token_id=5), SamplingSettings(5, guidance_scale=2.0), on_step_end=end
    )
    assert stub.with_text == [True, False, True, False, True, True, True]


def test_a_changed_guidance_keeps_its_schedule(model, scheduler):
    def change(state):
        state.guidance_scale = 4.0
        return state

    def drawn(scale, on_step_end=None):
        settings = SamplingSettings(5, guidance_scale=scale, guidance_schedule="linear")
        return decode_image_tokens(
            model, texts(0), scheduler, settings, generator=generators(3), on_step_end=on_step_end
        )

    assert torch.equal(drawn(2.0, change), drawn(4.0))  # the first step is not guided in either
    assert not torch.equal(drawn(2.0), drawn(4.0))


@pytest.mark.parametrize("order", DECODING_ORDERS)
def test_a_call_within_a_call_changes_nothing(model, order):
    scheduler = ITITScheduler(mask_token_id=23, temperature=2.0, decoding_order=order)

    def drawn(on_step_end=None):
        return decode_image_tokens(
            model, texts(0), scheduler, SamplingSettings(6), generator=generators(4), on_step_end=on_step_end
        )

    def another(state):
        decode_image_tokens(model, texts(1, 2), scheduler, SamplingSettings(9, temperature=[0.5, 3.0]))
        return state

    assert torch.equal(drawn(another), drawn())
    assert scheduler.timesteps == [] and scheduler.temperatures == []


def test_a_scheduler_of_another_codebook_is_named(model):
    with pytest.raises(ValueError, match="`scheduler`: `mask_token_id` must be that of the model, 23, got 8192"):
        decode_image_tokens(model, texts(0), ITITScheduler(), SamplingSettings(4))


@pytest.mark.parametrize("order", DECODING_ORDERS)
def test_images_of_a_batch_equal_the_images_alone(model, order):
    scheduler = ITITScheduler(mask_token_id=23, temperature=2.0, decoding_order=order)
    together = decode_image_tokens(
        model, texts(0, 1, 2), scheduler, SamplingSettings(8), generator=generators(5, 6, 7)
    )
    for row in range(3):
        alone = decode_image_tokens(model, texts(row), scheduler, SamplingSettings(8), generator=generators(5 + row))
        assert torch.equal(together[row : row + 1], alone)


@pytest.mark.parametrize("order", DECODING_ORDERS)
def test_given_tokens_stay_and_only_the_rest_is_drawn(model, order):
    scheduler = ITITScheduler(mask_token_id=23, temperature=2.0, decoding_order=order)
    start = torch.full((2, 16), 23)
    start[0, :5], start[1, 3] = 7, 11
    ids = decode_image_tokens(model, texts(0, 1), scheduler, SamplingSettings(6), start=InpaintInputs(start))
    assert ids[0, :5].tolist() == [7] * 5 and ids[1, 3] == 11 and ids.max() < 23


@pytest.mark.parametrize("order", DECODING_ORDERS)
def test_mixed_masks_equal_the_masks_alone(model, order):
    scheduler = ITITScheduler(mask_token_id=23, temperature=2.0, decoding_order=order)
    start = torch.full((2, 16), 23)
    start[0, :12] = 7
    together = decode_image_tokens(
        model, texts(0, 1), scheduler, SamplingSettings(6), start=InpaintInputs(start), generator=generators(1, 2)
    )
    for row in range(2):
        alone = decode_image_tokens(
            model,
            texts(row),
            scheduler,
            SamplingSettings(6),
            start=InpaintInputs(start[row : row + 1]),
            generator=generators(1 + row),
        )
        assert torch.equal(together[row : row + 1], alone)


def test_a_whole_image_is_left_as_it_is(model, scheduler):
    start = torch.arange(16)[None]
    assert torch.equal(
        decode_image_tokens(model, texts(0), scheduler, SamplingSettings(3), start=InpaintInputs(start)), start
    )


def test_broken_weights_are_named(model, scheduler):
    model.image_decoder.head_bias.data[0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        decode_image_tokens(model, texts(0), scheduler, SamplingSettings(4))


def test_a_callback_sees_each_step_and_may_change_the_tokens(model, scheduler):
    seen = []

    def watch(state):
        seen.append((state.step, state.timestep, int((state.image_token_ids == 23).sum())))
        state.image_token_ids = state.image_token_ids.clone()
        state.image_token_ids[0, 0] = 2
        return state

    ids = decode_image_tokens(model, texts(0), scheduler, SamplingSettings(4), on_step_end=watch)
    assert [step[:2] for step in seen] == [(0, 3), (1, 2), (2, 1), (3, 0)]
    assert ids[0, 0] == 2 and seen[-1][2] == 0


class Watched:
    """A model whose inputs are noted."""

    def __init__(self, model):
        self.model, self.config, self.inputs = model.model, model.config, []
        self.forward = model

    def __call__(self, **inputs):
        self.inputs.append(inputs)
        return self.forward(**inputs)


def given_in_full(inputs) -> bool:
    """Whether the encoder was given each visible token, and the logits are of each masked one."""
    image_mask = inputs["image_mask"]
    masked = image_mask.bool_masked_pos
    assert torch.equal(masked, inputs["image_token_ids"] == 23)
    kept, positions, mask = torch.ones_like(masked), image_mask.encoder_positions, image_mask.encoder_attention_mask
    if positions is not None:
        kept = torch.zeros_like(masked).scatter_(
            1, positions, torch.ones_like(positions).bool() if mask is None else mask
        )
    asked = torch.zeros_like(masked).scatter_(1, inputs["logit_positions"], True)
    return bool(kept[~masked].all() and asked[masked].all())


@pytest.mark.parametrize("drop", ["half", "all"])
@pytest.mark.parametrize("order", DECODING_ORDERS)
@pytest.mark.parametrize("when", [0, 2, 5])
@pytest.mark.parametrize("put", [11, 23])
def test_tokens_that_a_callback_replaces_are_counted_again(put, when, order, drop):
    torch.manual_seed(0)
    model = Watched(ITITForImageGeneration(tiny_config(encoder_drop=drop)).eval())
    scheduler = ITITScheduler(mask_token_id=23, temperature=2.0, decoding_order=order)

    def replace(state):
        if state.step == when:
            state.image_token_ids = state.image_token_ids.clone()
            state.image_token_ids[0, 1:15] = put
            state.image_token_ids[1, ::5] = put
        return state

    ids = decode_image_tokens(
        model, texts(0, 1), scheduler, SamplingSettings(6), generator=generators(1, 2), on_step_end=replace
    )
    assert all(given_in_full(inputs) for inputs in model.inputs) and ids.max() < 23
    if put == 11:
        assert ids[0, 1:15].eq(11).all() and ids[1, ::5].eq(11).all()


def test_what_a_callback_masks_is_spread_over_the_steps_that_are_left(model, scheduler):
    start, counts = torch.full((1, 16), 7), []
    start[0, :2] = 23

    def mask_all(state):
        state.image_token_ids = (
            torch.full_like(state.image_token_ids, 23) if state.step == 0 else state.image_token_ids
        )
        counts.append(int((state.image_token_ids == 23).sum()))
        return state

    decode_image_tokens(
        model, texts(0), scheduler, SamplingSettings(4), start=InpaintInputs(start), on_step_end=mask_all
    )
    assert counts == [16, 11, 6, 0]  # floor(16 cos(pi s / 8))


def test_what_a_callback_masks_after_the_last_step_stays_as_it_was_filled(model, scheduler):
    def mask(state):
        if state.timestep == 0:
            state.image_token_ids = torch.full_like(state.image_token_ids, 23)
        return state

    plain, masked = (
        decode_image_tokens(
            model, texts(0), scheduler, SamplingSettings(4), generator=generators(0), on_step_end=on_step_end
        )
        for on_step_end in (None, mask)
    )
    assert torch.equal(plain, masked)


def test_what_a_callback_put_there_is_in_an_interrupted_result(model, scheduler):
    def put_and_stop(state):
        state.image_token_ids, state.interrupt = state.image_token_ids.clone(), True
        state.image_token_ids[0, 3] = 19
        return state

    ids = decode_image_tokens(model, texts(0), scheduler, SamplingSettings(4), on_step_end=put_and_stop)
    assert ids[0, 3] == 19 and ids.max() < 23


def test_a_negative_text_takes_the_place_of_the_null_text(model, scheduler):
    null = TextCondition(model.model.null_text_embeds)
    default = decode_image_tokens(model, texts(0), scheduler, SamplingSettings(4), generator=generators(0))
    same = decode_image_tokens(
        model, texts(0), scheduler, SamplingSettings(4), negative_condition=null, generator=generators(0)
    )
    other = decode_image_tokens(
        model, texts(0), scheduler, SamplingSettings(4), negative_condition=texts(9), generator=generators(0)
    )
    assert torch.equal(default, same) and not torch.equal(default, other)


@pytest.mark.parametrize(
    ("sizes", "is_one"),
    [
        ((1, 256, 64, 64), True),
        ((1, 256, 16, 1), True),  # 15 of 544 positions are padding
        ((2, 256, 16, 1), False),  # more than 768 image positions
        ((1, 256, 64, 1), False),  # 63 of 640 positions would be padding
        ((6, 64, 8, 1), True),
        ((6, 64, 1, 9), False),
    ],
)
def test_when_both_passes_of_guidance_are_one_call(sizes, is_one):
    assert should_batch_guidance(*sizes) == is_one


@pytest.mark.parametrize("encoder_drop", ["half", "all"])
@pytest.mark.parametrize("negative", ["null text", "masked text", "longer text"])
def test_one_call_of_both_passes_draws_what_two_calls_draw(monkeypatch, scheduler, negative, encoder_drop):
    torch.manual_seed(0)
    model = ITITForImageGeneration(tiny_config(encoder_drop=encoder_drop)).eval()
    model.model.null_text_embeds.normal_()
    text = TextCondition(texts(0, 1).embeds[:, :3], torch.tensor([[1, 1, 1], [1, 1, 0]]))
    away = {
        "null text": None,
        "masked text": TextCondition(texts(2, 3).embeds[:, :3], torch.tensor([[1, 0, 0], [1, 1, 0]])),
        "longer text": texts(2, 3),
    }[negative]
    drawn, batches = [], []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: batches.append(len(kwargs["image_token_ids"])), with_kwargs=True
    )
    for padding in (1.0, -1.0):  # always, and never
        monkeypatch.setattr("itit_hf.decoding.sampling.MAX_PADDING_OF_ONE_CALL", padding)
        drawn.append(
            decode_image_tokens(
                model, text, scheduler, SamplingSettings(5), negative_condition=away, generator=generators(4, 5)
            )
        )
    assert torch.equal(*drawn) and batches == [4] * 5 + [2] * 10


def test_a_late_start_takes_the_last_steps_with_their_guidance_and_draws_the_marked_alone(scheduler):
    model, given = KnownImage(), torch.full((1, 16), 2)
    scheduler.register_to_config(mask_token_id=5)
    mask = torch.arange(16)[None] < 8
    drawn = decode_image_tokens(
        model,
        TextCondition(torch.zeros(1, 4, 10)),
        scheduler,
        SamplingSettings(num_inference_steps=4, guidance_interval=(0.75, 1.0)),
        start=InpaintInputs(given, bool_masked_pos=mask, strength=0.5),
    )
    # 5 of 8 are hidden after two of four steps, 3 after three; only the last step is guided.
    assert [count for _, count in model.calls] == [5, 3, 3] and model.with_text == [True, True, False]
    assert (drawn[mask] == 3).sum() == 5 and (drawn[~mask] == 2).all()


def test_a_late_start_from_nothing_is_named():
    with pytest.raises(ValueError, match="a `strength` below 1 needs `bool_masked_pos`"):
        InpaintInputs(torch.full((1, 16), 2), strength=0.5)


def test_an_interrupted_drawing_is_its_preview(scheduler):
    scheduler.register_to_config(mask_token_id=5)

    def stop(state):
        state.interrupt = True
        return state

    text = TextCondition(torch.zeros(1, 4, 10))
    assert (decode_image_tokens(KnownImage(), text, scheduler, on_step_end=stop) == 3).all()


class ReadCounter(TorchDispatchMode):
    """Counts how often a number is read from the device, for which the host would wait."""

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.total += func.overloadpacket in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero)
        return func(*args, **(kwargs or {}))


class NoDoubles(TorchDispatchMode):
    """A device without float64, such as Apple's GPUs."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in torch.utils._pytree.tree_leaves(result):
            assert not isinstance(value, torch.Tensor) or value.dtype != torch.float64, func
        return result


@pytest.mark.parametrize("order", DECODING_ORDERS)
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_nothing_is_computed_in_float64(model, order, strength):
    scheduler, ids = ITITScheduler(mask_token_id=23, decoding_order=order), torch.arange(32).view(2, 16) % 23
    start = InpaintInputs(ids, ids % 3 < 2, strength)
    with NoDoubles():
        decode_image_tokens(model, texts(0, 1), scheduler, SamplingSettings(5), start=start)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("order", DECODING_ORDERS)
def test_torchs_default_type_changes_nothing(model, order, dtype):
    scheduler = ITITScheduler(mask_token_id=23, temperature=2.0, decoding_order=order)
    text, start = texts(0, 1), torch.full((2, 16), 23)
    start[0, :9] = 4

    def drawn():
        edit = InpaintInputs(start, start == 23, strength=0.8)
        return decode_image_tokens(model, text, scheduler, SamplingSettings(5), start=edit, generator=generators(1, 2))

    plain = drawn()
    torch.set_default_dtype(dtype)
    try:
        assert torch.equal(drawn(), plain)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("order", [name for name in DECODING_ORDERS if name != "entropy"])
def test_no_step_waits_for_the_device(model, order):
    scheduler, start = ITITScheduler(mask_token_id=23, decoding_order=order), torch.full((2, 16), 23)
    start[1, :6] = 5
    padded = TextCondition(texts(0, 1).embeds, torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]))
    reads = []
    for steps in (2, 8):
        with ReadCounter() as counter:
            decode_image_tokens(model, padded, scheduler, SamplingSettings(steps), start=InpaintInputs(start))
        reads.append(counter.total)
    assert reads[0] == reads[1]  # what was given is counted once, and broken weights are looked for once


def test_an_entropy_bound_spares_steps_and_no_sample_depends_on_its_neighbours():
    torch.manual_seed(0)
    model = Watched(ITITForImageGeneration(tiny_config()).eval())
    scheduler = ITITScheduler(mask_token_id=23, temperature=1.0, decoding_order="entropy", entropy_bound=8.0)
    settings, start = SamplingSettings(12, guidance_scale=1.0), torch.full((3, 16), 23)
    start[1, :13] = 5
    together = decode_image_tokens(
        model, texts(0, 1, 2), scheduler, settings, start=InpaintInputs(start), generator=generators(4, 5, 6)
    )
    assert together.max() < 23
    passes = [len(model.inputs)]
    for row in range(3):
        model.inputs.clear()
        own = InpaintInputs(start[[row]])
        alone = decode_image_tokens(model, texts(row), scheduler, settings, start=own, generator=generators(4 + row))
        assert torch.equal(alone, together[[row]])
        passes.append(len(model.inputs))
    assert passes[0] == max(passes[1:]) < 12 and min(passes[1:]) < max(passes[1:])


def test_a_mask_that_hides_nothing_is_not_handed_on():
    stub = KnownImage()
    with_mask = TextCondition(texts(0).embeds, torch.ones(1, 4))
    masks = []

    def on_step_end(state):
        masks.append(state.condition.attention_mask)
        return state

    decode_image_tokens(stub, with_mask, ITITScheduler(mask_token_id=5), SamplingSettings(2), on_step_end=on_step_end)
    assert masks == [None, None]


@pytest.mark.parametrize("drop", ["half", "all"])
def test_a_compiled_model_draws_the_same_in_few_graphs_without_breaks(scheduler, drop):
    depth = {"num_hidden_layers": 1, "image_decoder_num_hidden_layers": 1}
    model = ITITForImageGeneration(tiny_config(encoder_drop=drop, **depth)).eval()
    settings = SamplingSettings(5)
    plain = decode_image_tokens(model, texts(0, 1), scheduler, settings, generator=generators(2, 3))
    torch._dynamo.reset()
    counter = CompileCounter()
    model.compile(backend=counter, fullgraph=True)
    drawn = decode_image_tokens(model, texts(0, 1), scheduler, settings, generator=generators(2, 3))
    assert torch.equal(drawn, plain)
    assert counter.frame_count <= 6  # with and without text, positions dropped or not, one size and then any
