# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What the generic suites of transformers and diffusers ask of a model and of a pipeline."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback, SDCFGCutoffCallback
from diffusers.hooks import apply_layerwise_casting

from itit_hf import ITITPipeline
from itit_hf.decoding.sampling import SamplingSettings
from itit_hf.decoding.scheduling_itit import DECODING_ORDERS, ITITScheduler
from itit_hf.models.modeling_itit import ITITForCaptioning, ITITForImageGeneration, ITITForPreTraining, ITITModel
from itit_hf.models.types_itit import TextCondition

from ..testing_utils import generators, tiny_config, tiny_pairs, tiny_pipeline

IMAGES = torch.randint(23, (2, 16), generator=torch.Generator().manual_seed(1))
EVERYWHERE = torch.arange(16).expand(2, -1)


def said(model, **options):
    """Short captions of two images."""
    options = {"num_beams": 1, "max_new_tokens": 4, "do_sample": False} | options
    return model.generate(image_token_ids=IMAGES, **options)


def same_weights(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# Models


def test_sharded_saves_and_variants_load_again(model, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size="20KB", variant="half")
    assert sum(name.startswith("model.half-") for name in os.listdir(tmp_path)) > 1
    assert same_weights(ITITForPreTraining.from_pretrained(tmp_path, variant="half"), model)


def test_a_model_saved_over_an_earlier_one_comes_back_with_its_own_weights(model, tmp_path):
    for size in ("1GB", "20KB", "1GB"):
        for parameter in model.parameters():
            parameter.data += 0.5
        model.save_pretrained(tmp_path, max_shard_size=size)
        assert same_weights(ITITForPreTraining.from_pretrained(tmp_path), model)


def test_a_checkpoint_keeps_its_precision_unless_another_is_asked_for(model, tmp_path):
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    assert ITITForCaptioning.from_pretrained(tmp_path).dtype == torch.bfloat16
    assert ITITForCaptioning.from_pretrained(tmp_path, dtype=torch.float32).dtype == torch.float32


def test_half_precision_generates_and_captions(model):
    model.to(torch.bfloat16)
    text_condition = TextCondition(torch.randn(2, 3, 10))
    logits = model(image_token_ids=IMAGES, logit_positions=EVERYWHERE, text_condition=text_condition).image_logits
    assert logits.isfinite().all() and said(model).shape[0] == 2


def test_a_device_map_changes_nothing(model, tmp_path):
    model.save_pretrained(tmp_path)
    assert torch.equal(said(ITITForPreTraining.from_pretrained(tmp_path, device_map="auto")), said(model))


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_the_attention_implementation_can_be_chosen_at_loading(model, implementation, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = ITITForPreTraining.from_pretrained(tmp_path, attn_implementation=implementation)
    assert loaded.config._attn_implementation == implementation
    assert torch.equal(said(loaded, num_beams=3), said(model, num_beams=3))


@pytest.mark.parametrize("implementation", ["flex_attention", "flash_attention_2"])
def test_an_attention_that_is_not_there_is_refused(model, implementation, tmp_path):
    model.save_pretrained(tmp_path)
    with pytest.raises((ImportError, ValueError), match="does not support"):
        ITITForPreTraining.from_pretrained(tmp_path, attn_implementation=implementation)


def test_the_encoder_records_each_layer():
    encoder = ITITModel(tiny_config()).eval()
    encoder.set_attn_implementation("eager")
    output = encoder(IMAGES, output_hidden_states=True, output_attentions=True)
    assert [tuple(weights.shape) for weights in output.attentions] == [(2, 4, 17, 17)] * 2
    assert len(output.hidden_states) == 3 and torch.equal(output.hidden_states[-1], output.last_hidden_state)


def test_generation_records_the_text_decoder_alone(model):
    model.set_attn_implementation("eager")
    options = {"output_hidden_states": True, "output_attentions": True, "output_scores": True}
    output = said(model, return_dict_in_generate=True, **options)
    assert len(output.scores) == len(output.hidden_states) == len(output.attentions) == 4
    assert [tuple(states.shape) for states in output.hidden_states[0]][0] == (2, 18, 16)  # the decoder's width
    assert len(output.hidden_states[0]) == 3 and output.attentions[1][0].shape == (2, 2, 1, 19)
    plain = said(model, return_dict_in_generate=True)
    assert plain.hidden_states is None and plain.attentions is None


@pytest.mark.parametrize("kind", [ITITModel, ITITForImageGeneration])
def test_outputs_may_be_tuples(kind):
    model = kind(tiny_config()).eval()
    as_tuple, as_output = model(IMAGES, return_dict=False), model(IMAGES)
    assert isinstance(as_tuple, tuple) and torch.equal(as_tuple[0], as_output[0])


@pytest.mark.parametrize("num_beams", [1, 4])
def test_a_static_cache_says_the_same(model, num_beams):
    assert torch.equal(
        said(model, num_beams=num_beams, cache_implementation="static"), said(model, num_beams=num_beams)
    )


def test_several_captions_of_a_image(model):
    beams = said(model, num_beams=4, num_return_sequences=3)
    assert beams.shape[0] == 6 and torch.equal(
        beams[::3, : said(model, num_beams=4).size(1)], said(model, num_beams=4)
    )


# The pipeline


@pytest.fixture
def pipe():
    return quiet(tiny_pipeline())


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe


def drawn(pipe, **options):
    return pipe("a bus", num_inference_steps=2, output_type="latent", generator=generators(0), **options).images


def tasks(pipe):
    """Every component at work."""
    image = pipe("a bus", num_inference_steps=2).images[0]
    return pipe.caption(image, num_beams=2, max_new_tokens=3), pipe.score(image, "a bus").log_likelihoods


def test_a_pipeline_variant_loads_again(pipe, tmp_path):
    pipe.save_pretrained(tmp_path, variant="half")
    assert (tmp_path / "model" / "model.half.safetensors").exists()
    assert torch.equal(drawn(quiet(ITITPipeline.from_pretrained(tmp_path, variant="half"))), drawn(pipe))


def test_a_pipeline_in_half_precision_does_everything(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = quiet(ITITPipeline.from_pretrained(tmp_path, torch_dtype=torch.bfloat16))
    modules = (loaded.model, loaded.text_encoder, loaded.image_tokenizer)
    assert {module.dtype for module in modules} == {torch.bfloat16}
    assert tasks(loaded)[1].isfinite().all()
    assert quiet(pipe).to(torch.bfloat16).dtype == torch.bfloat16 and tasks(pipe)[1].isfinite().all()


def test_a_pipeline_without_its_text_encoder_captions_and_draws_from_embeddings(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "whole")
    bare = ITITPipeline.from_pretrained(tmp_path / "whole", text_encoder=None)
    bare.save_pretrained(tmp_path / "bare")
    bare = quiet(ITITPipeline.from_pretrained(tmp_path / "bare"))
    assert bare.text_encoder is None and not (tmp_path / "bare" / "text_encoder").exists()
    embeds, mask = pipe.encode_prompt("a bus")
    options = {"num_inference_steps": 2, "output_type": "latent", "generator": generators(0)}
    assert torch.equal(bare(prompt_embeds=embeds, prompt_attention_mask=mask, **options).images, drawn(pipe))
    image = tiny_pairs(1)["image"][0]
    assert bare.caption(image) == pipe.caption(image)
    with pytest.raises(ValueError, match="no `text_encoder` to read `prompt` with; give `prompt_embeds`"):
        bare("a bus")


def test_a_pipeline_is_made_of_another_ones_components(pipe):
    assert ITITPipeline.from_pipe(pipe).model is pipe.model
    again = quiet(ITITPipeline(**pipe.components))
    again.scheduler = ITITScheduler.from_config(pipe.scheduler.config, decoding_order="halton")
    assert again.scheduler.config.temperature == 2.0 and drawn(again).shape == (1, 16)


def test_layerwise_casting_stores_less_and_computes_as_before(pipe):
    storage = {"storage_dtype": torch.float8_e4m3fn, "compute_dtype": torch.float32}
    apply_layerwise_casting(pipe.model, **storage, skip_modules_pattern=("embed", "norm"))
    pipe.image_tokenizer.enable_layerwise_casting(**storage)
    assert pipe.model.model.layers[0].fc1.weight.dtype == torch.float8_e4m3fn
    assert tasks(pipe)[1].isfinite().all()


def test_offloading_whole_components_changes_nothing(pipe):
    expected = drawn(pipe)
    pipe.enable_model_cpu_offload(device="cpu")  # the hooks of a GPU, on a machine that has none
    assert torch.equal(drawn(pipe), expected) and len(tasks(pipe)[0]) == 1


def test_an_image_tokenizer_is_offloaded_whole(pipe):
    with pytest.raises(ValueError, match="PatchVQModel does not support group offloading"):
        pipe.enable_group_offload(onload_device=torch.device("cpu"), offload_type="leaf_level")


class Cutoff(PipelineCallback):
    """One of diffusers' own kind."""

    tensor_inputs = ["prompt_embeds"]

    def callback_fn(self, pipeline, step_index, timestep, callback_kwargs):
        assert pipeline.num_timesteps == 2
        if step_index == 0:
            callback_kwargs["prompt_embeds"] = torch.full_like(callback_kwargs["prompt_embeds"], 9.0)
        return callback_kwargs


def test_diffusers_callbacks_work(pipe):
    assert not torch.equal(drawn(pipe, callback_on_step_end=Cutoff()), drawn(pipe))


def passes(pipe, monkeypatch):
    """Samples of each call of the model, noted as they come."""
    batches, forward = [], pipe.model.forward
    monkeypatch.setattr(
        pipe.model, "forward", lambda **inputs: batches.append(len(inputs["image_token_ids"])) or forward(**inputs)
    )
    return batches


@pytest.mark.parametrize(("prompts", "images"), [("a bus", 1), (["a bus", "the fish on the grass"], 1), ("a bus", 2)])
def test_diffusers_callback_that_ends_guidance_ends_it_and_leaves_the_prompts(pipe, prompts, images, monkeypatch):
    count = images * (1 if isinstance(prompts, str) else len(prompts))
    callback = SDCFGCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=1)
    options = {"num_inference_steps": 4, "output_type": "latent", "num_images_per_prompt": images}
    options["generator"] = generators(*range(count))
    batches = passes(pipe, monkeypatch)
    cut = pipe(prompts, callback_on_step_end=MultiPipelineCallbacks([callback]), **options).images
    assert sum(batches) == (2 + 2 + 1 + 1) * count and pipe.guidance_scale == 0.0
    options["generator"] = generators(*range(count))
    assert torch.equal(pipe(prompts, guidance_interval=(0.0, 0.5), **options).images, cut)


def test_a_callback_may_raise_the_guidance_from_step_to_step(pipe):
    def callback(pipe, step, timestep, tensors):
        pipe._guidance_scale += 1.0
        return tensors

    drawn(pipe, guidance_scale=2.0, callback_on_step_end=callback)
    assert pipe.guidance_scale == 4.0 and pipe.do_classifier_free_guidance and pipe.num_timesteps == 2


def test_a_callback_is_given_every_tensor_and_may_zero_what_is_drawn(pipe):
    names = pipe._callback_tensor_inputs

    def callback(pipe, step, timestep, tensors):
        assert list(tensors) == names and all(isinstance(value, torch.Tensor) for value in tensors.values())
        if step == pipe.num_timesteps - 1:
            tensors["image_token_ids"] = torch.zeros_like(tensors["image_token_ids"])
        return tensors

    options = {"callback_on_step_end_tensor_inputs": names}
    assert drawn(pipe, callback_on_step_end=callback, **options).eq(0).all()
    assert torch.equal(drawn(pipe, callback_on_step_end=lambda *a: a[3], **options), drawn(pipe))


def test_threads_draw_what_each_draws_alone(pipe):
    jobs = [
        {"prompt": "a red bus", "num_inference_steps": 3, "temperature": 0.5},
        {"prompt": ["the blue fish on the grass", "a"], "num_inference_steps": 7, "guidance_scale": 1.5},
        {"prompt": "a tree", "num_inference_steps": 5, "temperature": [4.0, 1.0], "negative_prompt": "a bus"},
    ]
    meet = threading.Barrier(len(jobs))

    def work(job, together=False):
        if together:
            meet.wait()
        images = [
            pipe(**job, output_type="latent", generator=torch.Generator().manual_seed(seed)).images
            for seed in range(4)
        ]
        return torch.cat(images)

    for order in DECODING_ORDERS:
        pipe.scheduler = ITITScheduler.from_config(pipe.scheduler.config, decoding_order=order)
        alone = [work(job) for job in jobs]
        with ThreadPoolExecutor(len(jobs)) as threads:
            given = list(threads.map(partial(work, together=True), jobs))
        assert all(torch.equal(*pair) for pair in zip(given, alone, strict=True)), order


def test_a_call_that_is_stopped_leaves_one_in_another_thread_alone(pipe):
    def stop(pipe, step, timestep, tensors):
        pipe._interrupt = True

    def stop_another(outer, step, timestep, tensors):
        with ThreadPoolExecutor(1) as threads:
            threads.submit(drawn, pipe, callback_on_step_end=stop).result()
        steps.append(step)

    steps = []
    whole = drawn(pipe, callback_on_step_end=stop_another)
    assert steps == [0, 1] and torch.equal(whole, drawn(pipe))


def test_a_scheduler_that_does_not_fit_the_model_is_named_before_any_work(pipe, monkeypatch):
    batches = passes(pipe, monkeypatch)
    for scheduler in (ITITScheduler(), ITITScheduler.preset("paper", mask_token_id=22)):
        pipe.scheduler = scheduler
        for task in (drawn, lambda pipe: pipe.cycle("a bus", rounds=1)):
            with pytest.raises(ValueError, match="`mask_token_id` must be that of the model, 23, got"):
                task(pipe)
    assert not batches
    pipe.scheduler = EulerDiscreteScheduler()
    with pytest.raises(ValueError, match="`scheduler` must be an ITITScheduler, got EulerDiscreteScheduler"):
        drawn(pipe)


def test_the_progress_bar_counts_the_steps_that_are_taken(pipe, monkeypatch):
    totals, progress_bar = [], pipe.progress_bar
    monkeypatch.setattr(pipe, "progress_bar", lambda total: totals.append(total) or progress_bar(total=total))
    pipe("a bus", num_inference_steps=3)
    pipe("a bus", image=tiny_pairs(1)["image"][0], strength=0.5, num_inference_steps=4)
    pipe.cycle("a bus", rounds=2, sampling=SamplingSettings(3), num_beams=1, max_new_tokens=2)
    assert totals == [3, 2, 6]


def test_output_types_are_the_same_images(pipe):
    pil, array, tensor = (
        pipe("a bus", num_inference_steps=2, generator=generators(0), output_type=kind).images
        for kind in ("pil", "np", "pt")
    )
    assert np.allclose(array, tensor.permute(0, 2, 3, 1)) and np.allclose(
        np.asarray(pil[0]) / 255, array[0], atol=2e-3
    )


EXTRAS = "torchvision gradio selenium wandb tensorboard trackio peft evaluate torchmetrics pycocoevalcap matplotlib"
BARE = """
import sys
for name in sys.argv[1].split():
    sys.modules[name] = None  # importing it raises
from itit_hf import ITITPipeline
pipe = ITITPipeline.from_pretrained(sys.argv[2])
image = pipe("a bus", num_inference_steps=2).images[0]
print(image.size, len(pipe.caption(image, max_new_tokens=4)))
"""


def test_no_extra_is_needed_to_draw_and_to_caption(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    command = [sys.executable, "-c", BARE, EXTRAS, str(tmp_path)]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0 and finished.stdout.split("\n")[-2] == "(16, 16) 1", finished.stderr
