# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import PIL.Image
import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module

from itit_hf import ITITPipeline
from itit_hf.decoding.sampling import SamplingSettings
from itit_hf.decoding.scheduling_itit import ITITScheduler
from itit_hf.models import processing_itit
from itit_hf.pipelines.pipeline_output import ITITPipelineOutput
from itit_hf.pipelines.scoring import caption_log_likelihoods

from ..testing_utils import generators, tiny_dual_encoder, tiny_pairs, tiny_pipeline


@pytest.fixture
def pipe():
    pipe = tiny_pipeline()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def ids(pipe, *args, **kwargs):
    return pipe(*args, output_type="latent", num_inference_steps=4, **kwargs).images


def test_a_prompt_gives_a_image(pipe):
    output = pipe("a red bus")
    assert isinstance(output, ITITPipelineOutput)
    assert [image.size for image in output.images] == [(16, 16)]


def test_each_output_type(pipe):
    assert pipe("a red bus", output_type="np").images.shape == (1, 16, 16, 3)
    pixels = pipe("a red bus", output_type="pt").images
    assert pixels.shape == (1, 3, 16, 16) and 0 <= pixels.min() <= pixels.max() <= 1
    assert pipe("a red bus", output_type="latent").images.shape == (1, 16)
    assert isinstance(pipe("a red bus", return_dict=False), tuple)


def test_guidance_may_rise_or_hold_in_an_interval(pipe, monkeypatch):
    passes, forward = [], pipe.model.forward
    monkeypatch.setattr(pipe.model, "forward", lambda *args, **inputs: passes.append(1) or forward(*args, **inputs))
    for options in ({}, {"guidance_interval": (0.5, 1.0)}, {"guidance_schedule": "linear"}):
        passes.append(0)
        ids(pipe, "a red bus", **options)
    counts = "".join(map(str, passes)).split("0")[1:]
    assert [len(count) for count in counts] == [8, 6, 7]  # 4 steps; the null pass is left out at scale 1


def test_a_batch_equals_the_prompts_alone(pipe):
    prompts = ["a red bus", "the blue fish on the grass", ""]
    together = ids(pipe, prompts, generator=generators(1, 2, 3))
    for row, prompt in enumerate(prompts):
        assert torch.equal(ids(pipe, prompt, generator=generators(1 + row)), together[row : row + 1])


def test_images_of_one_prompt_stand_together(pipe):
    grouped = ids(pipe, ["a red bus", "a tree"], num_images_per_prompt=2, generator=generators(1, 2, 3, 4))
    assert torch.equal(grouped[2:], ids(pipe, "a tree", num_images_per_prompt=2, generator=generators(3, 4)))


def test_the_same_generator_gives_the_same_image(pipe):
    first, again = (ids(pipe, "a red bus", generator=torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(first, again)


def test_prompt_embeds_stand_in_for_the_prompt(pipe):
    embeds, mask = pipe.encode_prompt(["a red bus", "a blue fish on the grass"])
    given = ids(pipe, prompt_embeds=embeds, prompt_attention_mask=mask, generator=generators(0, 1))
    assert torch.equal(given, ids(pipe, ["a red bus", "a blue fish on the grass"], generator=generators(0, 1)))


def test_one_negative_prompt_serves_all(pipe):
    one = ids(pipe, ["a red bus", "a tree"], negative_prompt="blue", generator=generators(0, 1))
    each = ids(pipe, ["a red bus", "a tree"], negative_prompt=["blue", "blue"], generator=generators(0, 1))
    assert torch.equal(one, each)


def test_the_callback_sees_tensors_and_may_replace_them(pipe):
    seen = []

    def callback(pipe, step, timestep, tensors):
        seen.append((step, timestep, sorted(tensors)))
        return {"image_token_ids": torch.full_like(tensors["image_token_ids"], 7)} if step == 3 else {}

    names = ["image_token_ids", "prompt_embeds"]
    result = ids(pipe, "a bus", callback_on_step_end=callback, callback_on_step_end_tensor_inputs=names)
    assert seen == [(i, 3 - i, names) for i in range(4)] and result.tolist() == [[7] * 16]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one of `prompt` and `prompt_embeds`"),
        ({"prompt": []}, "`prompt` must be a string or a list"),
        ({"prompt": 3}, "`prompt` must be a string or a list"),
        ({"prompt": "a", "prompt_embeds": torch.zeros(1, 2, 10)}, "not both"),
        ({"prompt_embeds": torch.zeros(1, 2, 9)}, r"`prompt_embeds` must be \(batch_size, text_length, 10\)"),
        ({"prompt": "a", "num_inference_steps": 0}, "`num_inference_steps` must be an integer of at least 1, got 0"),
        ({"prompt": "a", "num_images_per_prompt": 0}, "`num_images_per_prompt` must be an integer of at least 1"),
        ({"prompt": "a", "guidance_scale": float("nan")}, "`guidance_scale` must be finite"),
        ({"prompt": "a", "output_type": "jpg"}, "`output_type` must be one of"),
        ({"prompt": ["a", "the"], "generator": generators(0)}, "`generator` is a list of 1; wanted one for each of 2"),
        ({"prompt": ["a"], "negative_prompt": ["a", "the"]}, "`negative_prompt` has 2 entries for 1 prompts"),
        ({"prompt": "a", "callback_on_step_end_tensor_inputs": ["latents"]}, "callback_on_step_end_tensor_inputs"),
    ],
)
def test_bad_arguments_are_named(pipe, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipe(**arguments)


def test_broken_weights_are_named(pipe):
    pipe.model.image_decoder.head_bias.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        pipe("a red bus")


def test_a_prompt_of_10000_words_is_cut_and_drawn(pipe):
    assert len(pipe("red bus " * 5000, num_inference_steps=2).images) == 1


def test_captions_of_a_batch_equal_the_captions_alone(pipe):
    images = tiny_pairs(3)["image"][:]
    together = pipe.caption(images)
    assert len(together) == 3 and together == [pipe.caption(image)[0] for image in images]


def test_drawn_images_can_be_captioned(pipe):
    (caption,) = pipe.caption(pipe("a red bus").images, num_beams=1, max_new_tokens=5)
    assert isinstance(caption, str)


def test_the_pipeline_round_trips(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = ITITPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    ours, theirs = (p("a red bus", output_type="np", generator=generators(0)).images for p in (pipe, loaded))
    assert np.array_equal(ours, theirs)
    image = tiny_pairs(1)["image"][0]
    assert loaded.caption(image) == pipe.caption(image)


PROMPTS = ["a red bus", "the blue fish on the grass", ""]


def close(given, wanted):
    torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-4)


def test_scores_of_a_batch_equal_the_scores_alone(pipe):
    images = tiny_pairs(3)["image"][:]
    together = pipe.score(images, PROMPTS)
    assert not together.log_likelihoods.requires_grad and len(together.log_likelihoods.unique()) == 3
    for row in range(3):
        alone = pipe.score(images[row], PROMPTS[row])
        close(alone.log_likelihoods, together.log_likelihoods[row : row + 1])
        close(alone.log_likelihoods_per_token, together.log_likelihoods_per_token[row : row + 1])


def test_one_prompt_serves_all_images_and_one_image_all_prompts(pipe):
    images = tiny_pairs(3)["image"][:]
    close(pipe.score(images, "a bus").log_likelihoods, pipe.score(images, ["a bus"] * 3).log_likelihoods)
    close(pipe.score(images[0], PROMPTS).log_likelihoods, pipe.score(images[:1] * 3, PROMPTS).log_likelihoods)


def test_a_prompt_is_scored_as_far_as_the_text_encoder_reads_it(pipe):
    image = tiny_pairs(1)["image"][0]
    cut, fits, short = (pipe.score(image, "bus " * count).log_likelihoods for count in (40, 31, 30))  # 31 and an end
    close(cut, fits)
    assert (fits - short).abs() > 0.1


@pytest.mark.parametrize(
    ("num_images", "prompts", "message"),
    [
        (3, ["a", "the"], "`prompts` has 2 entries for 3 images"),
        (1, [], "`prompts` must be a string or a list"),
        (1, [3], "`prompts` must be a string or a list"),
    ],
)
def test_prompts_that_do_not_fit_the_images_are_named(pipe, num_images, prompts, message):
    with pytest.raises(ValueError, match=message):
        pipe.score(tiny_pairs(num_images)["image"][:], prompts)


def scores_of_ids(pipe, image_token_ids, prompts):
    """Scores per token of drawn ids, one prompt for each."""
    text = pipe.processor(text=prompts, return_tensors="pt")
    return caption_log_likelihoods(pipe.model, image_token_ids, dict(text)).log_likelihoods_per_token


def test_return_best_keeps_each_prompts_likeliest_images_best_first(pipe):
    arguments = {"prompt": PROMPTS[:2], "num_images_per_prompt": 4, "generator": generators(*range(8))}
    everything = ids(pipe, **arguments)
    best = pipe(
        **(arguments | {"generator": generators(*range(8))}),
        return_best=3,
        output_type="latent",
        num_inference_steps=4,
    )
    scores = scores_of_ids(pipe, everything, [prompt for prompt in PROMPTS[:2] for _ in range(4)]).tolist()
    order = [i for rows in (range(4), range(4, 8)) for i in sorted(rows, key=lambda i: -scores[i])[:3]]
    assert order != sorted(order)  # else the test could not tell best first from drawn first
    assert torch.equal(best.images, everything[order])
    close(best.scores, torch.tensor(scores)[order])


def test_return_best_gives_images_and_their_scores(pipe):
    images, scores = pipe("a bus", num_inference_steps=2, num_images_per_prompt=3, return_best=1, return_dict=False)
    assert [image.size for image in images] == [(16, 16)] and scores.shape == (1,)
    assert pipe("a bus", num_inference_steps=2).scores is None


class Redness:
    """A judge that likes red, whatever is said; notes what it was shown."""

    def score(self, images, texts):
        self.texts = texts
        return torch.tensor([float(np.asarray(image)[..., 0].mean()) for image in images])


def test_rerank_keeps_the_images_that_another_judge_likes_best(pipe):
    judge, options = Redness(), {"num_images_per_prompt": 4, "num_inference_steps": 2}
    prompts = ["a red bus", "a blue fish"]
    every = pipe(prompts, **options, generator=generators(*range(8))).images
    best = pipe(prompts, **options, generator=generators(*range(8)), rerank=judge, return_best=2)
    assert judge.texts == ["a red bus"] * 4 + ["a blue fish"] * 4
    liked = judge.score(every, []).view(2, 4)
    assert torch.equal(best.scores.view(2, 2), liked.sort(dim=1, descending=True).values[:, :2])
    assert torch.equal(judge.score(best.images, []), best.scores)


def test_the_best_of_eight_by_a_dual_encoder_is_at_least_the_first(pipe):
    torch.manual_seed(0)
    scorer = tiny_dual_encoder()
    options = {"num_images_per_prompt": 8, "num_inference_steps": 2, "rerank": scorer}
    ranked = pipe(["a red bus", "a blue fish"], **options, generator=generators(*range(16)), return_best=8)
    assert ranked.scores.view(2, 8)[:, 0].mean() >= ranked.scores.mean()
    torch.testing.assert_close(scorer.score(ranked.images[:8], ["a red bus"] * 8), ranked.scores[:8])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": "a", "return_best": 3}, r"from 1 to `num_images_per_prompt` \(2\), got 3"),
        ({"prompt": "a", "return_best": 0}, "`return_best` must be an integer from 1"),
        ({"prompt_embeds": torch.zeros(1, 2, 10), "return_best": 1}, "`prompt_embeds` have none"),
        ({"prompt": "a", "rerank": Redness()}, "`rerank` chooses the images of `return_best`"),
    ],
)
def test_a_wrong_return_best_is_named(pipe, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipe(num_images_per_prompt=2, **arguments)


SHORT = {"sampling": SamplingSettings(2), "num_beams": 2, "max_new_tokens": 8}


def test_a_cycle_draws_and_describes_by_turns_and_draws_its_noise_on(pipe):
    output = pipe.cycle("a red bus", rounds=3, generator=torch.Generator().manual_seed(0), **SHORT)
    assert len(output.texts[0]) == 4 and output.image_token_ids.shape == (1, 3, 16)
    generator, text = torch.Generator().manual_seed(0), "a red bus"
    for round_number in range(3):
        assert output.texts[0][round_number] == text
        drawn = pipe(text, num_inference_steps=2, generator=generator, output_type="latent").images
        assert torch.equal(drawn, output.image_token_ids[:, round_number])
        said = pipe.model.generate(image_token_ids=drawn, num_beams=2, max_new_tokens=8)
        (text,) = pipe.processor.batch_decode(said)
    assert output.texts[0][3] == text


def test_a_cycle_from_images_describes_them_first(pipe):
    images = tiny_pairs(2)["image"][:]
    output = pipe.cycle(image=images, rounds=1, generator=generators(1, 2), **SHORT)
    given = pipe.processor(images=images, return_tensors="pt")["image_token_ids"]
    said = pipe.caption(images, num_beams=2, max_new_tokens=8)
    drawn = pipe(said, num_inference_steps=2, generator=generators(1, 2), output_type="latent").images
    assert output.texts == [[text] for text in said]
    assert torch.equal(output.image_token_ids, torch.stack([given, drawn], dim=1))


@pytest.mark.parametrize("name", ["prompt", "image"])
def test_cycles_of_a_batch_equal_the_cycles_alone(pipe, name):
    values = {"prompt": PROMPTS, "image": tiny_pairs(3)["image"][:]}[name]
    together = pipe.cycle(**{name: values}, rounds=2, generator=generators(1, 2, 3), **SHORT)
    for row in range(3):
        alone = pipe.cycle(**{name: values[row]}, rounds=2, generator=generators(1 + row), **SHORT)
        assert alone.texts[0] == together.texts[row]
        assert torch.equal(alone.image_token_ids[0], together.image_token_ids[row])
        close(alone.scores[0], together.scores[row])


def test_a_cycles_scores_are_of_the_first_text_given_each_image(pipe):
    output = pipe.cycle(PROMPTS[:2], rounds=2, generator=generators(1, 2), **SHORT)
    for number in range(2):
        close(output.scores[:, number], scores_of_ids(pipe, output.image_token_ids[:, number], PROMPTS[:2]))


@pytest.mark.parametrize(
    ("output_type", "shape"), [("np", (2, 3, 16, 16, 3)), ("pt", (2, 3, 3, 16, 16)), ("latent", (2, 3, 16))]
)
def test_each_output_type_of_a_cycle(pipe, output_type, shape):
    assert tuple(pipe.cycle(PROMPTS[:2], rounds=3, output_type=output_type, **SHORT).images.shape) == shape


def test_a_cycles_images_stand_by_prompt_and_round(pipe):
    output = pipe.cycle(PROMPTS[:2], rounds=2, **SHORT)
    wanted = [pipe.processor.decode_images(chain) for chain in output.image_token_ids]
    assert [[image.tobytes() for image in chain] for chain in output.images] == [
        [image.tobytes() for image in chain] for chain in wanted
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one of `prompt` and `image`; both are None"),
        ({"prompt": "a", "image": "a.png"}, "exactly one of `prompt` and `image`; both are given"),
        ({"prompt": []}, "`prompt` must be a string or a list"),
        ({"prompt": "a", "rounds": 0}, "`rounds` must be an integer of at least 1, got 0"),
        ({"prompt": "a", "rounds": 1.5}, "`rounds` must be an integer of at least 1, got 1.5"),
        ({"prompt": "a", "output_type": "jpg"}, "`output_type` must be one of"),
        ({"prompt": "a", "sampling": SamplingSettings(4, temperature=[1.0] * 3)}, "`temperature` must be a number, a"),
        ({"prompt": ["a", "the"], "generator": generators(0)}, "`generator` is a list of 1; wanted one for each of 2"),
    ],
)
def test_bad_arguments_of_a_cycle_are_named(pipe, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipe.cycle(**arguments)


# Editing


def half_mask():
    """The right half of the image: tokens 2 and 3 of each row."""
    mask = PIL.Image.new("L", (16, 16))
    mask.paste(255, (8, 0, 16, 16))
    return mask


RIGHT = torch.tensor([False, False, True, True] * 4)


def test_given_tokens_are_bit_equal_and_the_others_drawn(pipe):
    images = tiny_pairs(3)["image"][:]
    masks = [half_mask(), PIL.Image.new("L", (16, 16)), PIL.Image.new("L", (16, 16), 255)]
    before = pipe.processor(images=images).image_token_ids
    after = ids(pipe, PROMPTS, image=images, mask_image=masks, generator=generators(1, 2, 3))
    assert torch.equal(after[0][~RIGHT], before[0][~RIGHT]) and not torch.equal(after[0][RIGHT], before[0][RIGHT])
    assert torch.equal(after[1], before[1])
    assert torch.equal(after[2:], ids(pipe, PROMPTS[2], generator=generators(3)))  # nothing is kept: a plain drawing


def test_edits_of_a_batch_equal_the_edits_alone(pipe):
    images, masks = tiny_pairs(2)["image"][:], [half_mask(), PIL.Image.new("L", (16, 16), 255)]
    options = {"strength": 0.75, "num_images_per_prompt": 2}
    together = ids(pipe, PROMPTS[:2], image=images, mask_image=masks, generator=generators(*range(4)), **options)
    for row in range(2):
        own = {"image": images[row], "mask_image": masks[row], "generator": generators(2 * row, 2 * row + 1)}
        assert torch.equal(ids(pipe, PROMPTS[row], **own, **options), together[2 * row : 2 * row + 2])


def test_one_prompt_and_one_image_serve_several_masks(pipe):
    image, masks = tiny_pairs(1)["image"][0], [half_mask(), PIL.Image.new("L", (16, 16), 255)]
    together = ids(pipe, "a tree", image=image, mask_image=masks, generator=generators(1, 2))
    alone = ids(pipe, "a tree", image=image, mask_image=masks[1], generator=generators(2))
    assert torch.equal(together[1:], alone)


def test_a_variation_keeps_the_more_the_weaker_it_is(pipe, monkeypatch):
    image = tiny_pairs(1)["image"][0]
    (before,) = pipe.processor(images=image).image_token_ids
    drawn, forward = [], ITITScheduler.step

    def step(scheduler, *args, **kwargs):
        drawn.append((args[2] == 23).sum().item())
        return forward(scheduler, *args, **kwargs)

    monkeypatch.setattr(ITITScheduler, "step", step)  # each call steps through a scheduler of its own
    for strength in (0.25, 0.5, 0.75):
        (after,) = ids(pipe, "a tree", image=image, strength=strength, generator=generators(1))
        assert (after == before).sum() >= 16 - drawn[-round(4 * strength)]
    # floor(16 cos(pi / 2 s / 4)) tokens are hidden after s = 3, 2, 1 steps left out.
    assert drawn == [6, 11, 6, 14, 11, 6]


def test_tokens_are_edited_without_their_pixels(pipe):
    drawn = ids(pipe, "a tree", generator=generators(0))
    edited = ids(pipe, "a bus", image=drawn, mask_image=half_mask(), generator=generators(1))
    assert torch.equal(edited[0][~RIGHT], drawn[0][~RIGHT])


def test_a_image_is_painted_beyond_its_edge(pipe):
    small = tiny_pairs(1)["image"][0].resize((8, 16))
    canvas = PIL.Image.new("RGB", (16, 16))
    canvas.paste(small)
    image = pipe("a tree", image=canvas, mask_image=half_mask(), num_inference_steps=2).images[0]
    kept = pipe.image_processor.apply_overlay(half_mask(), canvas, image)
    assert np.array_equal(np.asarray(kept)[:, :8], np.asarray(small))
    assert np.array_equal(np.asarray(kept)[:, 8:], np.asarray(image)[:, 8:])


def test_return_best_ranks_edits_of_several_images_with_one_prompt(pipe):
    images = tiny_pairs(2)["image"][:]
    options = {"image": images, "mask_image": half_mask(), "num_images_per_prompt": 2}
    output = pipe("a bus", return_best=1, num_inference_steps=2, **options)
    assert len(output.images) == 2 and output.scores.shape == (2,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strength": 0.5}, "`strength` says how to edit `image`"),
        ({"image": "no.png"}, r"image\[0\] \('no.png'\): there is no such file"),
        (
            {"image": PIL.Image.new("L", (16, 16)), "strength": 1.5},
            "`strength` must be above 0 and at most 1, got 1.5",
        ),
        ({"image": PIL.Image.new("L", (16, 16)), "strength": 0.1, "num_inference_steps": 4}, "leaves no step"),
        ({"image": [PIL.Image.new("L", (16, 16))] * 3, "prompt": ["a", "b"]}, "`prompt` 2, `image` 3"),
        ({"image": PIL.Image.new("L", (16, 16)), "mask_image": PIL.Image.new("L", (8, 16))}, "have the same shape"),
        ({"image": [PIL.Image.new("L", (16, 16))] * 3, "generator": generators(1)}, "one for each of 3 images"),
    ],
)
def test_bad_arguments_of_an_edit_are_named(pipe, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipe(**({"prompt": "a"} | arguments))


def test_the_way_between_two_prompts_starts_and_ends_at_them(pipe):
    embeds, mask = pipe.interpolate_prompts("a red bus", "the blue fish on the grass", [0.0, 0.5, 1.0])
    drawn = ids(pipe, prompt_embeds=embeds, prompt_attention_mask=mask, generator=generators(0, 0, 0))
    ends = [ids(pipe, text, generator=generators(0)) for text in ("a red bus", "the blue fish on the grass")]
    assert torch.equal(drawn[[0, 2]], torch.cat(ends))


def test_captions_begin_as_asked(pipe):
    images = tiny_pairs(2)["image"][:]
    together = pipe.caption(images, prompt=["a red", "the"], max_new_tokens=6)
    assert together[0].startswith("a red") and together[1].startswith("the")
    assert pipe.caption(images[1], prompt="the", max_new_tokens=6) == together[1:]
    with pytest.raises(ValueError, match="`prompt` has 3 entries for 2 images"):
        pipe.caption(images, prompt=["a"] * 3)


def test_captions_with_and_without_a_beginning_are_as_alone(pipe):
    images, prompts = tiny_pairs(3)["image"][:], ["", "the blue fish on the", "a"]
    together = pipe.caption(images, prompt=prompts, max_new_tokens=6)
    alone = [
        pipe.caption(image, prompt=prompt, max_new_tokens=6)[0] for image, prompt in zip(images, prompts, strict=True)
    ]
    assert together == alone and together[0] == pipe.caption(images[0], max_new_tokens=6)[0]


def test_tokens_that_the_model_does_not_know_are_named_and_after_a_resize_it_says_as_before(pipe):
    (image,) = tiny_pairs(1)["image"][:]
    before = pipe.caption(image, max_new_tokens=6), pipe.score(image, "a red bus").log_likelihoods
    pipe.tokenizer.add_tokens(["okapi", "quagga", "tapir"])
    for call in (lambda: pipe.caption(image), lambda: pipe.score(image, "okapi")):
        with pytest.raises(ValueError, match="`tokenizer` has 33 tokens, and the model says 30"):
            call()
    assert pipe("a red bus", num_inference_steps=1).images  # which says nothing
    pipe.model.resize_token_embeddings(len(pipe.tokenizer))
    assert pipe.caption(image, max_new_tokens=6) == before[0]
    assert pipe.caption(image, prompt="quagga", max_new_tokens=2)[0].startswith("quagga")


# What callers of diffusers' pipelines rely on


def test_a_long_prompt_is_named_once(pipe, monkeypatch):
    warnings = []
    monkeypatch.setattr(processing_itit.logger, "warning", warnings.append)
    pipe("red bus " * 40, num_inference_steps=1, return_best=1)
    assert len(warnings) == 1
    pipe.cycle("red bus " * 40, rounds=1, **SHORT)
    assert len(warnings) == 2


def test_a_callback_may_interrupt_and_gets_the_preview(pipe):
    steps = []

    def callback(pipe, step, timestep, tensors):
        steps.append(step)
        pipe._interrupt = step == 1
        return {}

    drawn = ids(pipe, "a bus", callback_on_step_end=callback)
    assert steps == [0, 1] and drawn.max() < 23 and not ids(pipe, "a bus").eq(23).any()
    assert pipe.num_timesteps == 4 and not pipe.interrupt


def test_cycles_take_the_guidance_of_a_call(pipe):
    options = {"guidance_schedule": "linear", "guidance_interval": (0.0, 0.5), "guidance_scale": 8.0}
    settings = SHORT | {"sampling": SamplingSettings(2, **options)}
    cycled = pipe.cycle("a red bus", rounds=1, generator=generators(0), **settings).image_token_ids[:, 0]
    drawn = pipe("a red bus", output_type="latent", num_inference_steps=2, generator=generators(0), **options).images
    assert torch.equal(cycled, drawn)


class Onload(ModelHook):
    """What `enable_model_cpu_offload` attaches, on a machine without an accelerator."""

    def __init__(self):
        self.ready = False

    def pre_forward(self, module, *args, **kwargs):
        self.ready = True
        return args, kwargs


@pytest.mark.parametrize("task", ["call", "caption", "score", "cycle", "edit"])
def test_offloaded_components_are_loaded_before_any_part_of_them_runs(pipe, task, monkeypatch):
    early = []
    for component in (pipe.model, pipe.text_encoder, pipe.image_tokenizer):
        hook = Onload()
        add_hook_to_module(component, hook)
        for name, part in component.named_modules():
            part.register_forward_pre_hook(
                lambda *_, hook=hook, name=name: early.extend([name] if name and not hook.ready else [])
            )
    freed = []
    monkeypatch.setattr(pipe, "maybe_free_model_hooks", lambda: freed.append(1))
    image = tiny_pairs(1)["image"][0]
    {
        "call": lambda: pipe("a bus", num_inference_steps=1),
        "caption": lambda: pipe.caption(image, max_new_tokens=2),
        "score": lambda: pipe.score(image, "a bus"),
        "cycle": lambda: pipe.cycle(image=image, rounds=1, **SHORT),
        "edit": lambda: pipe("a bus", image=image, mask_image=half_mask(), num_inference_steps=1),
    }[task]()
    assert not early and freed == [1]
