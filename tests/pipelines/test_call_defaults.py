# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import json
from argparse import Namespace

import pytest
import torch

from itit_hf import ITITPipeline, SamplingSettings
from itit_hf.decoding.sampling import CALL_PRESETS
from itit_hf.pipelines.call_defaults import CaptionSettings, saved_sampling, settle_options, with_given

from ..testing_utils import ROOT, generators, tiny_pairs, tiny_pipeline
from ..training_utils import make_trainer


@pytest.fixture
def pipe():
    pipe = tiny_pipeline()
    pipe.set_progress_bar_config(disable=True)
    pipe.sampling = SamplingSettings(3, 1.5, "linear", (0.0, 0.5), temperature=4.0)
    pipe.model.generation_config.update(num_beams=2, max_new_tokens=5)
    return pipe


@pytest.fixture
def folder(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    return tmp_path


def change(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def ids(pipe, **settings):
    return pipe("a red bus", output_type="latent", generator=generators(0), **settings).images


def asked_of_generate(pipe, monkeypatch):
    """What the captioner is asked for, call by call."""
    asked, generate = [], pipe.model.generate
    monkeypatch.setattr(pipe.model, "generate", lambda **options: asked.append(options) or generate(**options))
    return asked


def test_a_call_that_names_nothing_takes_the_checkpoints_settings(pipe):
    named = ids(pipe, **vars(pipe.sampling))
    assert torch.equal(ids(pipe), named) and pipe.num_timesteps == 3 and pipe.guidance_scale == 1.5
    pipe.sampling = SamplingSettings()
    assert not torch.equal(ids(pipe), named) and pipe.num_timesteps == 24


def test_what_a_call_names_goes_before_the_checkpoints(pipe):
    ids(pipe, num_inference_steps=2)
    assert (pipe.num_timesteps, pipe.guidance_scale) == (2, 1.5)
    ids(pipe, guidance_scale=3)
    assert (pipe.num_timesteps, pipe.guidance_scale) == (3, 3.0)


def test_the_papers_settings_are_one_named_choice_whatever_the_checkpoint_has(pipe):
    of_paper = ids(pipe, **CALL_PRESETS["paper"])
    pipe.sampling = {}
    pipe.scheduler.register_to_config(temperature=32.0)
    assert torch.equal(of_paper, ids(pipe))


def test_settings_are_saved_in_the_index_and_come_back(pipe, folder):
    assert json.loads((folder / "model_index.json").read_text())["sampling"] == {
        "num_inference_steps": 3,
        "guidance_scale": 1.5,
        "guidance_schedule": "linear",
        "guidance_interval": [0.0, 0.5],
        "temperature": 4.0,
    }
    loaded = ITITPipeline.from_pretrained(folder)
    assert loaded.sampling == pipe.sampling and loaded.captioning == CaptionSettings(2, 5)
    assert torch.equal(ids(loaded), ids(pipe))
    assert ITITPipeline.from_pipe(loaded).sampling == pipe.sampling
    assert ITITPipeline.from_pretrained(folder, sampling={"num_inference_steps": 7}).sampling.num_inference_steps == 7


def test_a_pipeline_that_was_given_no_settings_saves_none(tmp_path):
    tiny_pipeline().save_pretrained(tmp_path)
    assert "sampling" not in json.loads((tmp_path / "model_index.json").read_text())
    assert ITITPipeline.from_pretrained(tmp_path).sampling == SamplingSettings()


@pytest.mark.parametrize("name", ["tests/fixtures/0.1.0/pipeline"])
def test_a_folder_of_before_has_the_librarys_defaults(name):
    pipe = ITITPipeline.from_pretrained(ROOT / name)
    assert pipe.sampling == SamplingSettings(24, 3.0, "constant", (0.0, 1.0), None)
    assert pipe.captioning == CaptionSettings(4, 32)


@pytest.mark.parametrize(("name", "guidance_scale"), [("emoji-scenes-64", 3.0), ("emoji-scenes-96-two", 1.5)])
def test_the_committed_checkpoints_have_the_settings_of_their_cards(name, guidance_scale):
    index = json.loads((ROOT / "checkpoints" / name / "model_index.json").read_text())
    sampling = saved_sampling(index["sampling"])
    assert sampling == SamplingSettings(12, guidance_scale)
    card = (ROOT / "model_cards" / f"{name}.md").read_text()
    assert f"saved with the checkpoint: 12 steps, guidance {guidance_scale}, temperature 0.5;\ncaptions by 4" in card


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"steps": 3}, "`sampling` has 'steps', which is no setting; wanted some of"),
        ({"num_inference_steps": 0}, "`num_inference_steps` must be an integer of at least 1, got 0"),
        ({"num_inference_steps": True}, "`num_inference_steps` must be an integer of at least 1, got True"),
        ({"num_inference_steps": 10**9}, "`num_inference_steps` must be 1000 at most"),
        ({"guidance_scale": "high"}, "`guidance_scale` must be finite, a number, got 'high'"),
        ({"guidance_schedule": ["linear"]}, "`guidance_schedule` must be one of"),
        ({"guidance_interval": 3}, "`guidance_interval` must be two shares of the steps"),
        ({"guidance_interval": [0.0, "end"]}, "`guidance_interval` must be two shares of the steps"),
        ({"temperature": -1.0}, "`temperature` must be a number or a list of them, finite and at least 0, got -1.0"),
        ({"temperature": []}, "`temperature` must be a number or a list of them"),
        (["fast"], "`sampling` must be names and values"),
    ],
)
def test_saved_settings_that_cannot_be_are_named_when_the_folder_is_opened(folder, saved, message):
    change(folder / "model_index.json", sampling=saved)
    with pytest.raises(ValueError, match=message) as error:
        ITITPipeline.from_pretrained(folder)
    assert "model_index.json" in str(error.value)


@pytest.mark.parametrize("fields", [{"num_beams": 0}, {"num_beams": "four"}, {"max_new_tokens": 2.5}])
def test_saved_settings_of_captions_that_cannot_be_are_named_when_the_folder_is_opened(folder, fields):
    change(folder / "model" / "generation_config.json", **fields)
    ((name, _),) = fields.items()
    with pytest.raises(ValueError, match=f"`{name}` must be an integer of at least 1"):
        ITITPipeline.from_pretrained(folder)


class Plain(ITITPipeline):
    """A user's own pipeline, whose `__init__` knows the components only."""

    def __init__(self, model, text_encoder, tokenizer, image_tokenizer, image_processor, scheduler):
        super().__init__(model, text_encoder, tokenizer, image_tokenizer, image_processor, scheduler)


class Own(ITITPipeline):
    """A user's own pipeline."""


@pytest.mark.parametrize("kind", [Own, Plain])
def test_a_subclass_takes_the_settings_and_saves_them(folder, tmp_path, kind):
    pipe = kind.from_pretrained(folder)
    pipe.save_pretrained(tmp_path / "again")
    assert ITITPipeline.from_pretrained(tmp_path / "again").sampling == pipe.sampling == SamplingSettings(
        3, 1.5, "linear", (0.0, 0.5), 4.0
    )  # fmt: skip


def test_captions_take_the_beams_and_the_length_of_the_generation_config(pipe, monkeypatch):
    asked = asked_of_generate(pipe, monkeypatch)
    image = tiny_pairs(1)["image"][0]
    pipe.caption(image)
    pipe.caption(image, num_beams=1, max_new_tokens=3)
    pipe.cycle("a red bus", rounds=1)
    assert [(each["num_beams"], each["max_new_tokens"]) for each in asked] == [(2, 5), (1, 3), (2, 5)]
    assert not any(each["do_sample"] for each in asked)


def test_what_else_the_generation_config_says_of_captions_holds(pipe):
    image = tiny_pairs(1)["image"][0]
    pipe.model.generation_config.update(max_new_tokens=6, min_new_tokens=6, suppress_tokens=[3, 4])
    captions = pipe.caption(image)
    asked = pipe.model.generate(**pipe.preprocess(image), do_sample=False)  # names nothing: the same settings
    assert captions == pipe.processor.batch_decode(asked) and asked.size(1) - 18 == 6


def test_a_saved_length_beyond_the_models_texts_is_cut_to_them(pipe):
    pipe.model.generation_config.max_new_tokens = 500
    assert pipe.captioning == CaptionSettings(2, 32) and isinstance(pipe.caption(tiny_pairs(1)["image"][0])[0], str)


@pytest.mark.parametrize("named", [{"num_beams": 0}, {"max_new_tokens": 0}])
def test_numbers_of_a_call_for_captions_that_cannot_be_are_named(pipe, named):
    ((name, _),) = named.items()
    with pytest.raises(ValueError, match=f"`{name}` must be an integer of at least 1, got 0"):
        pipe.caption(tiny_pairs(1)["image"][0], **named)
    with pytest.raises(ValueError, match=f"`{name}` must be an integer of at least 1, got 0"):
        pipe.cycle("a red bus", rounds=1, **named)


def test_a_cycle_takes_the_checkpoints_settings(pipe):
    cycle = pipe.cycle("a red bus", rounds=1, generator=generators(0), output_type="latent")
    assert torch.equal(cycle.image_token_ids[:, 0], ids(pipe))


def test_a_training_saves_the_settings_of_its_samples(tmp_path):
    settings = {"sample_inference_steps": 2, "sample_guidance_scale": 2.5, "sample_temperature": 0.5}
    trainer = make_trainer(tmp_path, objectives=["t2i"], **settings)
    trainer.save_pipeline(str(tmp_path / "pipeline"))
    assert ITITPipeline.from_pretrained(tmp_path / "pipeline").sampling == SamplingSettings(2, 2.5, temperature=0.5)


def test_values_that_are_none_leave_settings_as_they_are():
    settings = SamplingSettings(3, 1.5)
    assert with_given(settings, {"num_inference_steps": None, "guidance_scale": None}) == settings
    assert with_given(settings, {"num_inference_steps": 8, "guidance_scale": None}) == SamplingSettings(8, 1.5)


def test_options_that_are_open_are_settled_by_the_checkpoint(pipe):
    options = Namespace(num_inference_steps=None, guidance_scale=2.0, num_beams=None, seed=None)
    settle_options(options, pipe)
    assert vars(options) == {"num_inference_steps": 3, "guidance_scale": 2.0, "num_beams": 2, "seed": None}
