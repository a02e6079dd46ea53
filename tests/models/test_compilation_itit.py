# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Compiled passes, decodings and trainings: the same results, few graphs, none of them cut."""

import numpy as np
import pytest
import torch
import torch._dynamo
from PIL import Image
from torch._dynamo.testing import CompileCounter, CompileCounterWithBackend
from torch._dynamo.utils import counters

from itit_hf.models.compilation_itit import MAX_GRAPHS, check_values, make_room_for_graphs
from itit_hf.models.cpu_kernels_itit import ITITDropout
from itit_hf.models.modeling_itit import ITITForCaptioning

from ..testing_utils import ONE_LAYER, tiny_config, tiny_pipeline
from ..training_utils import FULL_CYCLE, losses_of, make_trainer, weights_of

DROPOUT = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    counters.clear()
    with torch._dynamo.config.patch(recompile_limit=8):
        yield
    torch._dynamo.reset()


def below_three(ids: torch.Tensor) -> torch.Tensor:
    check_values((ids < 3).all(), lambda: f"ids must be below 3, got {ids.max()}")
    return ids + 1


def test_values_out_of_range_are_named():
    with pytest.raises(ValueError, match="ids must be below 3, got 3"):
        below_three(torch.tensor([1, 3]))
    assert below_three(torch.tensor([1, 2])).tolist() == [2, 3]


def test_a_graph_checks_values_itself_and_is_not_cut():
    compiled = torch.compile(below_three, backend="eager", fullgraph=True)
    assert compiled(torch.tensor([1, 2])).tolist() == [2, 3]
    with pytest.raises(RuntimeError, match="out of range"):
        compiled(torch.tensor([1, 3]))


def test_room_is_made_for_graphs_and_never_taken():
    make_room_for_graphs()
    assert torch._dynamo.config.recompile_limit == MAX_GRAPHS
    torch._dynamo.config.recompile_limit = 1000
    make_room_for_graphs()
    assert torch._dynamo.config.recompile_limit == 1000


def test_compiling_a_model_makes_room_for_its_graphs():
    model = ITITForCaptioning(tiny_config(**ONE_LAYER))
    model.compile(backend="eager", fullgraph=True)
    assert torch._dynamo.config.recompile_limit == MAX_GRAPHS and model._compiled_call_impl is not None


def test_dropout_of_any_size_is_one_graph_and_drops_as_much():
    dropout = ITITDropout(0.25)
    counter = CompileCounter()
    compiled = torch.compile(dropout, backend=counter, dynamic=True, fullgraph=True)
    for size in (4001, 4002, 4003, 4004):
        dropped = compiled(torch.ones(size))
        assert dropped[dropped != 0].tolist() == pytest.approx(int((dropped != 0).sum()) * [4 / 3])
        assert 0.2 < (dropped == 0).float().mean() < 0.3
    assert counter.frame_count == 1


def test_a_caption_is_scored_in_one_graph():
    model = ITITForCaptioning(tiny_config(**ONE_LAYER)).eval()
    config = model.config
    prefix = [config.image_token_id] * config.num_prefix_tokens + [config.bos_token_id]
    inputs = {
        "image_token_ids": torch.arange(32).view(2, 16) % config.codebook_size,
        "input_ids": torch.tensor([prefix + [4, 5, 6], prefix + [7, 8, 9]]),
        "use_cache": False,
    }
    plain = model(**inputs).logits
    counter = CompileCounter()
    model.compile(backend=counter, fullgraph=True)
    assert torch.equal(model(**inputs).logits, plain)
    assert counter.frame_count == 1


# Whole trainings and pipelines


def train(folder, **options):
    """Pairs and both cycles, with masks of any ratio."""
    changes = {name: options.pop(name) for name in list(options) if name in DROPOUT}
    trainer = make_trainer(folder, tiny_pipeline(**ONE_LAYER, **changes), **FULL_CYCLE | {"max_steps": 4} | options)
    trainer.train()
    return trainer


# Of six kinds of passes and of the steps of the synthesis, each of a first size and then of any.
NUM_GRAPHS = 20


@pytest.mark.slow
def test_a_compiled_training_is_the_plain_one_to_the_bit_in_few_graphs(tmp_path):
    """By the backend that changes no arithmetic."""
    plain = train(tmp_path / "plain")
    counters.clear()
    compiled = train(tmp_path / "compiled", torch_compile=True, torch_compile_backend="eager")
    assert losses_of(compiled) == losses_of(plain)
    assert torch.equal(weights_of(compiled), weights_of(plain))
    assert 6 <= counters["stats"]["unique_graphs"] <= NUM_GRAPHS
    assert not counters["graph_break"]


@pytest.mark.slow
def test_dropout_makes_no_more_graphs(tmp_path):
    compiled = train(tmp_path, torch_compile=True, torch_compile_backend="eager", **DROPOUT)
    assert 6 <= counters["stats"]["unique_graphs"] <= NUM_GRAPHS
    assert not counters["graph_break"]
    assert losses_of(compiled)[-1] < losses_of(compiled)[0]


@pytest.mark.slow
def test_training_by_inductor_is_the_plain_one_to_rounding(tmp_path):
    """Without dropout, whose numbers inductor draws itself."""
    options = {"max_steps": 2, "optim": "sgd", "learning_rate": 0.01, "objectives": ["t2i", "i2t", "i2i"]}
    trainers = []
    for compiled in (False, True):
        trainer = make_trainer(tmp_path / str(compiled), torch_compile=compiled, **options)
        trainer.train()
        trainers.append(trainer)
    plain, compiled = trainers
    assert losses_of(compiled) == pytest.approx(losses_of(plain), abs=1e-4)
    torch.testing.assert_close(weights_of(compiled), weights_of(plain), atol=1e-5, rtol=1e-4)


def make_image(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8))


def generations(pipe) -> list:
    """Images of one prompt and of two, a variation, and captions with beams and without."""

    def draw(prompt, seeds, **options):
        generator = [torch.Generator().manual_seed(seed) for seed in seeds]
        return pipe(prompt, generator=generator, output_type="latent", **options).images.tolist()

    images = [make_image(seed) for seed in range(3)]
    return [
        draw(["a red bus", "a fish"], (0, 1)),
        pipe.caption(images, num_beams=4, max_new_tokens=8),
        pipe.caption(images[:1], num_beams=1, max_new_tokens=8),
        draw("a red bus on the grass", (2,), num_inference_steps=5),
        draw("a red bus on the grass", (3,), image=images[0], strength=0.5),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_a_compiled_pipeline_generates_and_captions_the_same_in_bounded_graphs(backend):
    pipe = tiny_pipeline(**ONE_LAYER)
    plain = generations(pipe)
    counters.clear()
    counter = CompileCounterWithBackend(backend)
    pipe.model.compile(backend=counter)
    assert generations(pipe) == plain
    num_graphs = counter.frame_count
    assert num_graphs <= MAX_GRAPHS // 2
    assert not counters["graph_break"]
    assert generations(pipe) == plain and counter.frame_count == num_graphs  # nothing is compiled again
