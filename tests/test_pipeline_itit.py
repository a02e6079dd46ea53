# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from itit_hf import ITITPipeline
from itit_hf.pipeline_itit import ITITPipelineOutput

from .testing_utils import generators, tiny_pairs, tiny_pipeline


@pytest.fixture
def pipe():
    pipe = tiny_pipeline()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def ids(pipe, *args, **kwargs):
    return pipe(*args, output_type="latent", num_inference_steps=4, **kwargs).images


def test_a_prompt_gives_a_picture(pipe):
    output = pipe("a red bus")
    assert isinstance(output, ITITPipelineOutput)
    assert [image.size for image in output.images] == [(16, 16)]


def test_each_output_type(pipe):
    assert pipe("a red bus", output_type="np").images.shape == (1, 16, 16, 3)
    pixels = pipe("a red bus", output_type="pt").images
    assert pixels.shape == (1, 3, 16, 16) and 0 <= pixels.min() <= pixels.max() <= 1
    assert pipe("a red bus", output_type="latent").images.shape == (1, 16)
    assert isinstance(pipe("a red bus", return_dict=False), tuple)


def test_a_batch_equals_the_prompts_alone(pipe):
    prompts = ["a red bus", "the blue fish on the grass", ""]
    together = ids(pipe, prompts, generator=generators(1, 2, 3))
    for row, prompt in enumerate(prompts):
        assert torch.equal(ids(pipe, prompt, generator=generators(1 + row)), together[row : row + 1])


def test_pictures_of_one_prompt_stand_together(pipe):
    grouped = ids(pipe, ["a red bus", "a tree"], num_images_per_prompt=2, generator=generators(1, 2, 3, 4))
    assert torch.equal(grouped[2:], ids(pipe, "a tree", num_images_per_prompt=2, generator=generators(3, 4)))


def test_the_same_generator_gives_the_same_picture(pipe):
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
    pictures = tiny_pairs(3)["image"][:]
    together = pipe.caption(pictures)
    assert len(together) == 3 and together == [pipe.caption(picture)[0] for picture in pictures]


def test_drawn_pictures_can_be_captioned(pipe):
    (caption,) = pipe.caption(pipe("a red bus").images, num_beams=1, max_new_tokens=5)
    assert isinstance(caption, str)


def test_the_pipeline_round_trips(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = ITITPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    ours, theirs = (p("a red bus", output_type="np", generator=generators(0)).images for p in (pipe, loaded))
    assert np.array_equal(ours, theirs)
    picture = tiny_pairs(1)["image"][0]
    assert loaded.caption(picture) == pipe.caption(picture)
