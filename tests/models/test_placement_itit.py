# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import math

import accelerate
import pytest
import torch
from accelerate.hooks import ModelHook
from transformers import AutoModelForImageTextToText

import itit_hf  # noqa: F401  makes transformers know the folders
from itit_hf.decoding.sampling import SamplingSettings
from itit_hf.models.modeling_itit import ITITForPreTraining
from itit_hf.models.placement_itit import single_device_map

from ..testing_utils import generators, tiny_config, tiny_pairs, tiny_pipeline

CUT = {"model": "cpu", "text_decoder": "disk", "image_decoder": "cpu"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    ITITForPreTraining(tiny_config()).save_pretrained(path)
    return path


@pytest.mark.parametrize("strategy", ["auto", "balanced", "balanced_low_0", "sequential"])
def test_a_strategy_means_the_cpu_where_there_is_nothing_else(strategy, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    assert single_device_map(strategy) == {"": torch.device("cpu")}


def test_a_strategy_means_the_accelerator_of_this_process(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 3)
    assert single_device_map("auto") == {"": torch.device("cuda", 3)}


@pytest.mark.parametrize("one", ["cpu", 0, torch.device("cpu"), {"": "cpu"}, {"model": 1, "image_decoder": 1}])
def test_one_device_is_left_as_it_is(one):
    assert single_device_map(one) is one


@pytest.mark.parametrize("several", [CUT, {"": "disk"}, "disk", {"model": 0, "image_decoder": 1}])
def test_a_model_that_would_be_cut_apart_or_put_on_disk_is_refused(several):
    with pytest.raises(ValueError, match="`device_map` must name one device, .* `ITITPipeline.enable_model_cpu"):
        single_device_map(several)


@pytest.mark.parametrize("opened_by", [ITITForPreTraining, AutoModelForImageTextToText])
def test_loading_asks_for_one_device(folder, opened_by, tmp_path):
    with pytest.raises(ValueError, match="`device_map` must name one device"):
        opened_by.from_pretrained(folder, device_map=CUT, offload_folder=str(tmp_path))
    with pytest.raises(ValueError, match="`max_memory` must be None, got {'cpu': '20KB'}"):
        opened_by.from_pretrained(folder, device_map="auto", max_memory={"cpu": "20KB"})
    assert opened_by.from_pretrained(folder, device_map="sequential").device == torch.device("cpu")


@pytest.mark.parametrize("options", [{}, {"device": "cpu"}, {"gpu_id": 0}])
def test_offloading_by_layers_is_refused_and_named_what_works(options):
    with pytest.raises(ValueError, match=r"call `enable_model_cpu_offload\(\)`"):
        tiny_pipeline().enable_sequential_cpu_offload(**options)


def seeded(count):
    return {"generator": generators(*range(count))}


class Away(ModelHook):
    """In the place of accelerate's `CpuOffload`, without a GPU: what is offloaded has weights of NaN."""

    def __init__(self, execution_device, prev_module_hook=None):
        self.execution_device, self.before, self.kept = execution_device, prev_module_hook, None

    def init_hook(self, module):
        if self.kept is None:
            self.kept = {name: each.clone() for name, each in module.state_dict().items() if each.is_floating_point()}
            for name in self.kept:
                module.state_dict()[name].fill_(math.nan)
        return module

    def pre_forward(self, module, *args, **kwargs):
        if self.before is not None:
            self.before.offload()
        self.detach_hook(module)
        return args, kwargs

    def detach_hook(self, module):
        for name, each in (self.kept or {}).items():
            module.state_dict()[name].copy_(each)
        self.kept = None
        return module


def is_away(component):
    return all(each.isnan().all() for each in component.parameters())


@pytest.fixture(scope="module")
def pipes():
    """The same pipeline twice, the second one with its components offloaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accelerate.big_modeling, "CpuOffload", Away)
        pipes = tiny_pipeline(), tiny_pipeline()
        for pipe in pipes:
            pipe.set_progress_bar_config(disable=True)
        pipes[1].enable_model_cpu_offload(device="cpu")
        yield pipes


IMAGE = tiny_pairs(1)["image"][0]
SHORT = {"sampling": SamplingSettings(2), "num_beams": 1, "max_new_tokens": 3, "rounds": 2}
TASKS = {
    "draw": lambda p: p("a bus", num_inference_steps=2, output_type="pt", **seeded(1)).images,
    "best": lambda p: p("a bus", num_inference_steps=2, num_images_per_prompt=2, return_best=1, **seeded(2)).scores,
    "edit": lambda p: p("a bus", image=IMAGE, num_inference_steps=4, output_type="pt", **seeded(1)).images,
    "caption": lambda p: p.caption(IMAGE, prompt="a", max_new_tokens=4),
    "greedy caption": lambda p: p.caption(IMAGE, num_beams=1, max_new_tokens=4),
    "score": lambda p: p.score(IMAGE, "a bus").log_likelihoods,
    "cycle": lambda p: p.cycle("a bus", **SHORT, **seeded(1)).image_token_ids,
    "cycle of an image": lambda p: p.cycle(image=IMAGE, **SHORT, **seeded(1)).texts,
}


@pytest.mark.parametrize("task", TASKS)
def test_offloaded_components_come_and_go_and_change_nothing(task, pipes):
    plain, offloaded = pipes
    components = offloaded.text_encoder, offloaded.model, offloaded.image_tokenizer
    assert all(map(is_away, components))
    expected, got = TASKS[task](plain), TASKS[task](offloaded)
    assert torch.equal(got, expected) if isinstance(got, torch.Tensor) else got == expected
    assert all(map(is_away, components))
