# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The loops without torch against those with it, over the same networks."""

import ast
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from itit_hf.decoding import scheduling_itit
from itit_hf.decoding.scheduling_itit import ITITScheduler
from itit_hf.export import onnx_runtime
from itit_hf.export.onnx_runtime import gumbel, sample_categorical, softmax

from ..testing_utils import tiny_pipeline
from .conftest import TorchNoise, torch_runtime

PROMPTS = ["a red bus", "the green fish on the grass", "blue"]


def images_of(count: int = 3) -> np.ndarray:
    """Images that differ, uint8."""
    return np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def test_numpy_and_the_standard_library_are_all_that_the_module_imports_at_once():
    tree = ast.parse(Path(onnx_runtime.__file__).read_text(encoding="utf-8"))
    statements = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {getattr(node, "module", None) or node.names[0].name for node in statements}
    assert names - set(sys.stdlib_module_names) == {"numpy", "collections.abc"} - set(sys.stdlib_module_names)
    lazy = {node.names[0].name for node in ast.walk(tree) if isinstance(node, ast.Import)} - {"json", "math"}
    assert lazy == {"numpy", "onnxruntime"}


@pytest.mark.parametrize("schedule", sorted(scheduling_itit.MASKING_SCHEDULES))
@pytest.mark.parametrize("num_steps", [1, 5, 16, 20])
def test_as_many_tokens_stay_masked_as_by_the_scheduler(pipe, schedule, num_steps):
    scheduler = ITITScheduler(mask_token_id=23, masking_schedule=schedule)
    scheduler.set_timesteps(num_steps)
    runtime = torch_runtime(pipe)
    runtime.settings["scheduler"]["masking_schedule"] = schedule
    counts = [runtime._num_masked_after(step, num_steps) for step in range(num_steps)]
    assert counts == [scheduler.num_masked_after(step, 16) for step in range(num_steps)]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"decoding_order": "random"},
        {"decoding_order": "halton", "masking_schedule": "arccos"},
        {"score": "prob", "temperature": 0.1},
        {"decoding_order": "entropy", "entropy_bound": 0.5, "temperature": 0.1},
    ],
)
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_images_are_those_of_the_pipeline_from_the_same_noise(changes, guidance_scale):
    pipe = tiny_pipeline()
    pipe.scheduler = ITITScheduler(**({"mask_token_id": 23, "temperature": 2.0} | changes))
    pipe.sampling = {"guidance_schedule": "linear", "guidance_interval": (0.0, 0.7)}
    settings = {"num_inference_steps": 6, "guidance_scale": guidance_scale}
    theirs = pipe(PROMPTS, generator=torch.Generator().manual_seed(3), **settings).images
    ours = torch_runtime(pipe).generate(PROMPTS, rng=TorchNoise(3), **settings)
    assert np.array_equal(ours, np.stack([np.asarray(image) for image in theirs]))


def test_a_call_that_names_nothing_takes_what_the_pipeline_was_saved_with():
    pipe = tiny_pipeline()
    pipe.sampling = {"num_inference_steps": 3, "guidance_scale": 2.0, "temperature": 0.5}
    pipe.model.generation_config.update(num_beams=2, max_new_tokens=5)
    theirs = pipe(PROMPTS, generator=torch.Generator().manual_seed(3)).images
    runtime = torch_runtime(pipe)
    ours = runtime.generate(PROMPTS, rng=TorchNoise(3))
    assert np.array_equal(ours, np.stack([np.asarray(image) for image in theirs]))
    assert runtime.caption(ours) == pipe.caption(theirs)


def test_images_need_not_be_square():
    pipe = tiny_pipeline(image_grid=(2, 3))
    pipe.image_processor = pipe.image_processor.with_size(8, 12)
    pipe.scheduler = ITITScheduler(mask_token_id=23, decoding_order="halton")
    theirs = pipe(PROMPTS, generator=torch.Generator().manual_seed(3), num_inference_steps=3).images
    runtime = torch_runtime(pipe)
    ours = runtime.generate(PROMPTS, num_inference_steps=3, rng=TorchNoise(3))
    assert np.array_equal(ours, np.stack([np.asarray(image) for image in theirs]))
    assert runtime.caption(ours, 2, 4) == pipe.caption(theirs, num_beams=2, max_new_tokens=4)


@pytest.mark.parametrize("encoder_drop", ["none", "half", "all"])
def test_the_encoder_is_given_what_the_configuration_says(encoder_drop):
    pipe = tiny_pipeline(encoder_drop=encoder_drop)
    settings = {"num_inference_steps": 5, "temperature": 1.0}
    theirs = pipe(PROMPTS, generator=torch.Generator().manual_seed(1), output_type="latent", **settings).images
    runtime = torch_runtime(pipe)
    ours = runtime.generate_tokens(*runtime.encode_prompts(PROMPTS), rng=TorchNoise(1), **settings)
    assert np.array_equal(ours, theirs.numpy())


@pytest.mark.parametrize("image_features", ["codes", "latents"])
@pytest.mark.parametrize(("num_beams", "max_new_tokens"), [(1, 8), (2, 3), (4, 1), (4, 12), (3, None)])
def test_captions_are_those_of_beam_search_in_transformers(image_features, num_beams, max_new_tokens):
    size = {"image_latent_size": 8} if image_features == "latents" else {}
    pipe = tiny_pipeline(image_features=image_features, **size)
    images = images_of()
    theirs = pipe.caption(list(images), num_beams=num_beams, max_new_tokens=max_new_tokens)
    assert torch_runtime(pipe).caption(images, num_beams, max_new_tokens) == theirs


def test_captions_end_where_their_end_is_likely():
    """Beams of different lengths end at different steps, and the best of them for each word is taken."""
    pipe = tiny_pipeline()
    with torch.no_grad():
        table = pipe.model.text_decoder.embed_tokens.weight
        table[1] = 1.5 * table[3:30].mean(dim=0) + 0.3 * table[1]
    images = images_of(6)
    theirs = pipe.caption(list(images), num_beams=4, max_new_tokens=12)
    assert torch_runtime(pipe).caption(images, 4, 12) == theirs


def test_images_are_encoded_as_the_processor_does(pipe):
    images = images_of()
    inputs = pipe.preprocess(list(images))
    features = pipe.model.encode(inputs["image_token_ids"]).last_hidden_state.detach()
    torch.testing.assert_close(torch.from_numpy(torch_runtime(pipe).encode_images(images)), features)


def test_images_of_another_form_are_refused(pipe):
    runtime = torch_runtime(pipe)
    with pytest.raises(ValueError, match=r"`images` must be uint8 of shape \(batch_size, 16, 16, 3\), got float64"):
        runtime.caption(np.zeros((1, 16, 16, 3)))
    with pytest.raises(ValueError, match=r"got uint8 of shape \(1, 8, 16, 3\)"):
        runtime.caption(np.zeros((1, 8, 16, 3), dtype=np.uint8))


def test_what_cannot_be_is_refused(pipe):
    runtime = torch_runtime(pipe)
    with pytest.raises(ValueError, match="`prompts` must have 32 tokens at most, got one of 41"):
        runtime.generate(["bus " * 40])
    with pytest.raises(ValueError, match="`num_inference_steps` must be at least 1, got 0"):
        runtime.generate(["a bus"], num_inference_steps=0)
    with pytest.raises(ValueError, match="`num_beams` must be at least 1, got 0"):
        runtime.caption(images_of(), num_beams=0)
    with pytest.raises(ValueError, match="`max_new_tokens` must be at least 1, got 0"):
        runtime.caption(images_of(), max_new_tokens=0)


def test_classes_are_drawn_by_the_inverse_of_their_distribution_function():
    probs = np.float32([[0.5, 0.0, 0.25, 0.25]] * 4)
    assert sample_categorical(probs, np.float32([0.0, 0.49, 0.5, 0.76])).tolist() == [0, 0, 2, 3]


def test_probabilities_of_large_logits_are_finite():
    assert softmax(np.float32([[1000.0, 1000.0, 0.0]])).tolist() == [[0.5, 0.5, 0.0]]


def test_gumbel_noise_is_finite_at_both_ends():
    assert np.isfinite(gumbel(np.float32([0.0, 1.0]))).all()
    assert gumbel(np.float32([np.exp(-1)]))[0] == pytest.approx(0.0, abs=1e-6)
