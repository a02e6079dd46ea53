# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import json
import os
import shutil

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file

from itit_hf import ITITPipeline
from itit_hf.pipelines.safe_loading import (
    COMPONENTS,
    MODULES_OF_0_1_0,
    check_pipeline_folder,
    local_folder,
    read_json,
    with_modules_of_today,
)

from ..testing_utils import tiny_pairs, tiny_pipeline


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "pipeline")


def change(path, **fields):
    values = json.loads(path.read_text()) | fields
    path.write_text(json.dumps(values))


def check(folder):
    check_pipeline_folder(str(folder), "ITITPipeline", COMPONENTS)


def test_what_save_pretrained_writes_passes_and_opens(folder):
    check(folder)
    pipe = ITITPipeline.from_pretrained(folder)
    assert pipe.config._name_or_path == str(folder)
    ids = [p("a red bus", num_inference_steps=2, generator=torch.Generator().manual_seed(0), output_type="latent")[0]
           for p in (pipe, tiny_pipeline())]  # fmt: skip
    assert torch.equal(*ids)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": ["os", "system"]}, r"`model` must be one of .*got \['os', 'system'\]"),
        ({"model": {"a": 1}}, "`model` must be one of"),
        ({"safety": ["subprocess", "Popen"]}, "`safety` is no component of a ITITPipeline"),
        ({"_class_name": ["my_module", "ITITPipeline"]}, "`_class_name` must be 'ITITPipeline'"),
    ],
)
def test_classes_that_are_not_in_the_table_are_refused(folder, fields, message):
    change(folder / "model_index.json", **fields)
    with pytest.raises(ValueError, match=message):
        ITITPipeline.from_pretrained(folder)


class Quiet(ITITPipeline):
    """A user's own pipeline, with the same components."""


class Judged(ITITPipeline):
    """A user's own pipeline, with one component more."""

    component_classes = COMPONENTS | {"judge": {("my_module", "Judge")}}

    def __init__(self, model, text_encoder, tokenizer, image_tokenizer, image_processor, scheduler, judge=None):
        super().__init__(model, text_encoder, tokenizer, image_tokenizer, image_processor, scheduler)
        self.register_modules(judge=judge)


def test_a_subclass_opens_the_folder_of_its_base_and_the_base_that_of_a_subclass(folder, tmp_path):
    pipe = Quiet.from_pretrained(folder)
    pipe.save_pretrained(tmp_path / "quiet")
    assert json.loads((tmp_path / "quiet" / "model_index.json").read_text())["_class_name"] == "Quiet"
    assert type(pipe) is Quiet and type(ITITPipeline.from_pretrained(tmp_path / "quiet")) is ITITPipeline


def test_a_subclass_may_know_more_components_which_its_base_refuses(folder, tmp_path):
    change(folder / "model_index.json", _class_name="Judged", judge=["my_module", "Judge"])
    with pytest.raises(ValueError, match="`judge` is no component of a ITITPipeline; wanted"):
        ITITPipeline.from_pretrained(folder)
    assert Judged.from_pretrained(folder, judge=None).judge is None
    with pytest.raises(ValueError, match="`safety` is no component of a Judged"):
        change(folder / "model_index.json", safety=["os", "system"])
        Judged.from_pretrained(folder)


def test_diffusers_own_loader_opens_a_folder_by_the_same_table(folder):
    pipe = DiffusionPipeline.from_pretrained(folder)
    assert type(pipe) is ITITPipeline and len(pipe("a bus", num_inference_steps=1).images) == 1
    change(folder / "model_index.json", scheduler=["shutil", "rmtree"])
    with pytest.raises(ValueError, match="`scheduler` must be one of"):
        DiffusionPipeline.from_pretrained(folder)


def test_prompts_are_encoded_without_the_model(folder, tmp_path):
    whole, prompt = ITITPipeline.from_pretrained(folder), ["the blue fish " * 30, "a"]
    bare = ITITPipeline.from_pretrained(folder, model=None, image_tokenizer=None, scheduler=None, image_processor=None)
    assert bare.model is None and bare.max_text_length == whole.max_text_length == 32
    for ours, theirs in zip(bare.encode_prompt(prompt), whole.encode_prompt(prompt), strict=True):
        assert torch.equal(ours, theirs)
    embeds, mask = bare.encode_prompt(prompt)
    options = {"num_inference_steps": 2, "output_type": "latent", "prompt_attention_mask": mask}
    assert whole(prompt_embeds=embeds, **options).images.shape == (2, 16)


def test_a_pipeline_without_its_model_is_saved_and_cuts_prompts_as_before(folder, tmp_path):
    bare = ITITPipeline.from_pretrained(folder, model=None, image_tokenizer=None)
    bare.save_pretrained(tmp_path / "bare")
    again = ITITPipeline.from_pretrained(tmp_path / "bare")
    assert again.model is None and again.max_text_length == 32
    assert sorted(path.name for path in (tmp_path / "bare").iterdir() if path.is_dir()) == [
        "image_processor", "scheduler", "text_encoder", "tokenizer"
    ]  # fmt: skip
    for task in (again, again.cycle):
        with pytest.raises(ValueError, match="this pipeline was made without `model`, which this needs"):
            task("a bus")
    with pytest.raises(ValueError, match="made without `model`"):
        again.caption(tiny_pairs(1)["image"][0])


def test_a_pipeline_without_its_image_tokenizer_draws_tokens(folder):
    pipe = ITITPipeline.from_pretrained(folder, image_tokenizer=None)
    assert pipe("a bus", num_inference_steps=1, output_type="latent").images.shape == (1, 16)
    for task in (lambda: pipe("a bus"), lambda: pipe.caption(tiny_pairs(1)["image"][0])):
        with pytest.raises(ValueError, match="made without `image_tokenizer`"):
            task()


# Saving


def moved(pipe):
    """Other weights, in every component."""
    for component in (pipe.model, pipe.text_encoder, pipe.image_tokenizer):
        for parameter in component.parameters():
            parameter.data += 0.5
    return pipe


def have_the_same_weights(first, second):
    pairs = [(getattr(first, name), getattr(second, name)) for name in ("model", "text_encoder", "image_tokenizer")]
    return all(
        torch.equal(value, other.state_dict()[name])
        for module, other in pairs
        for name, value in module.state_dict().items()
    )


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize(("before", "after"), [(None, "2KB"), ("2KB", None), ("2KB", "4KB")])
def test_a_save_over_an_earlier_one_opens_with_the_new_weights(tmp_path, before, after, variant):
    tiny_pipeline().save_pretrained(tmp_path, max_shard_size=before, variant=variant)
    pipe = moved(tiny_pipeline())
    pipe.save_pretrained(tmp_path, max_shard_size=after, variant=variant)
    assert have_the_same_weights(ITITPipeline.from_pretrained(tmp_path, variant=variant), pipe)


def test_another_variant_stays(tmp_path):
    pipe = moved(tiny_pipeline())
    tiny_pipeline().save_pretrained(tmp_path)
    pipe.save_pretrained(tmp_path, variant="fp16", max_shard_size="4KB")
    assert have_the_same_weights(ITITPipeline.from_pretrained(tmp_path), tiny_pipeline())
    assert have_the_same_weights(ITITPipeline.from_pretrained(tmp_path, variant="fp16"), pipe)


@pytest.mark.parametrize("option", [{"safe_serialization": False}, {"use_flashpack": True}])
def test_a_form_that_would_never_open_is_refused_and_nothing_is_written(saved, tmp_path, option):
    with pytest.raises(ValueError, match=f"`{next(iter(option))}` must be .*: only safetensors are opened again"):
        tiny_pipeline().save_pretrained(tmp_path / "new", **option)
    assert not (tmp_path / "new").exists()


def test_a_save_that_fails_leaves_the_earlier_weights(folder, monkeypatch):
    pipe = moved(tiny_pipeline())

    def fail(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr(pipe.image_tokenizer, "save_pretrained", fail)
    with pytest.raises(OSError, match="no space left"):
        pipe.save_pretrained(folder, max_shard_size="2KB")
    assert have_the_same_weights(ITITPipeline.from_pretrained(folder), tiny_pipeline())


@pytest.mark.parametrize(
    ("component", "fields", "message"),
    [
        ("model/config.json", {"attn_implementation": "someone/kernel"}, "`attn_implementation` is refused"),
        ("text_encoder/config.json", {"quantization_config": {"quant_method": "x"}}, "`quantization_config` is ref"),
        ("model/config.json", {"hidden_size": 10**12}, "`hidden_size` must be 4096 at most, to fit its weights"),
        ("model/config.json", {"num_hidden_layers": 10**6}, "`num_hidden_layers` must be"),
        ("scheduler/scheduler_config.json", {"temperature": float("nan")}, "`temperature` must be finite"),
        ("scheduler/scheduler_config.json", {"_class_name": ["a", "b"]}, "`_class_name` must be a name"),
        ("tokenizer/tokenizer_config.json", {"vocab_file": "../../secret"}, "`vocab_file` must be the name of a file"),
    ],
)
def test_configurations_that_run_code_or_cannot_be_are_refused(folder, component, fields, message):
    change(folder / component, **fields)
    with pytest.raises(ValueError, match=message):
        ITITPipeline.from_pretrained(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b"[1]", "got a list"),
        (b"\xff", "no JSON"),
        (b" " * 1_000_001, "more th"),
    ],
)
def test_what_is_no_configuration_is_named(tmp_path, content, message):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"config.json: .*{message}"):
        read_json(str(path))


def test_weights_that_are_a_pickle_are_not_read(folder):
    os.rename(folder / "model" / "model.safetensors", folder / "model" / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        ITITPipeline.from_pretrained(folder)


def test_weights_that_a_configuration_wants_and_no_file_has_are_named(folder):
    values = json.loads((folder / "text_encoder" / "config.json").read_text())
    values["num_layers"] = 2
    (folder / "text_encoder" / "config.json").write_text(json.dumps(values))
    with pytest.raises(
        ValueError, match="weights of its configuration are not in model.safetensors, such as encoder.block.1"
    ):
        ITITPipeline.from_pretrained(folder)


def shard(folder, component, size, variant=None):
    """Save a component anew, in several files; returns its index."""
    place = folder / component
    for path in place.glob("*.safetensors"):
        path.unlink()
    getattr(tiny_pipeline(), component).save_pretrained(place, max_shard_size=size, variant=variant)
    return next(place.glob("*.safetensors.index*.json"))


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize(
    ("component", "size"), [("model", "40KB"), ("text_encoder", "2KB"), ("image_tokenizer", "8KB")]
)
def test_weights_in_several_files_open(folder, component, size, variant):
    path = shard(folder, component, size, variant)
    assert len(set(json.loads(path.read_text())["weight_map"].values())) > 1
    loaded = ITITPipeline.from_pretrained(folder, variant=variant)
    theirs, ours = (getattr(pipe, component).state_dict() for pipe in (loaded, tiny_pipeline()))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def hide(index):
    index["weight_map"].pop(next(iter(index["weight_map"])))


def swap(index):
    shards = index["weight_map"]
    first, last = min(shards.values()), max(shards.values())
    index["weight_map"] = {key: first if name == last else name for key, name in shards.items()}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda index: index.update(weight_map=[]), "`weight_map` must name the file of each weight"),
        (lambda index: index.update(weight_map={"a": 1}), "`weight_map` must name the file of each weight"),
        (lambda index: index.pop("metadata"), "`metadata` must hold the size of the weights, got None"),
        (lambda index: index["metadata"].update(total_size=[]), "`metadata` must hold the size"),
        (lambda index: index["weight_map"].update(a="../../x.safetensors"), "must name safetensors files of this"),
        (lambda index: index["weight_map"].update(a="pytorch_model.bin"), "must name safetensors files of this"),
        (lambda index: index["weight_map"].update(a="other.safetensors"), "names other.safetensors, which is not the"),
        (lambda index: index["weight_map"].update(a=min(index["weight_map"].values())), "names 'a', which no file"),
        (hide, "in None, but"),
        (swap, "`weight_map` has .* in '.*00001.*', but|which no file holds"),
    ],
)
def test_an_index_of_files_that_lies_is_refused(folder, spoil, message):
    path = shard(folder, "text_encoder", "2KB")
    index = json.loads(path.read_text())
    spoil(index)
    path.write_text(json.dumps(index))
    with pytest.raises((ValueError, OSError), match=f"{path.name}: .*{message}"):
        check(folder)


def test_a_second_set_of_weights_must_be_complete_too(folder):
    """Else which one a loader takes would decide whether some weights are random."""
    path = folder / "text_encoder" / "model.safetensors"
    content = path.read_bytes()
    shard(folder, "text_encoder", "2KB")
    path.write_bytes(content)
    ITITPipeline.from_pretrained(folder)
    save_file({"shared.weight": load_file(path)["shared.weight"]}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="are not in model.safetensors, such as encoder"):
        ITITPipeline.from_pretrained(folder)


@pytest.mark.parametrize("name", ["model/config.json", "tokenizer/tokenizer.json", "scheduler/scheduler_config.json"])
def test_a_component_without_its_configuration_is_named(folder, name):
    os.remove(folder / name)
    with pytest.raises(OSError, match=f"{os.path.dirname(name)}: it has no {os.path.basename(name)}"):
        ITITPipeline.from_pretrained(folder)


def test_a_scheduler_of_another_model_is_named(folder):
    change(folder / "scheduler" / "scheduler_config.json", mask_token_id=0)
    with pytest.raises(ValueError, match="`mask_token_id` must be that of the model, 23, got 0"):
        ITITPipeline.from_pretrained(folder)


def test_weights_of_another_shape_are_one_clear_error(folder):
    change(folder / "model" / "config.json", intermediate_size=40)
    with pytest.raises(ValueError, match="it cannot be opened"):
        ITITPipeline.from_pretrained(folder)


@pytest.mark.parametrize("option", [{"trust_remote_code": True}, {"use_safetensors": False}, {"weights_only": False}])
def test_options_that_would_run_code_are_refused(folder, option):
    with pytest.raises(ValueError, match=f"`{next(iter(option))}`: only safetensors and known classes"):
        ITITPipeline.from_pretrained(folder, **option)


def test_a_link_out_of_the_download_is_refused(folder, tmp_path):
    secret = tmp_path.parent / "secret.json"
    secret.write_text("{}")
    os.remove(folder / "scheduler" / "scheduler_config.json")
    os.symlink(secret, folder / "scheduler" / "scheduler_config.json")
    shutil.move(folder, tmp_path / "a" / "b" / "pipeline")
    with pytest.raises(ValueError, match="a link to a place outside"):
        check(tmp_path / "a" / "b" / "pipeline")


def test_a_download_is_of_one_revision_and_without_pickles(monkeypatch):
    asked = {}
    monkeypatch.setattr(
        "itit_hf.pipelines.safe_loading.snapshot_download", lambda name, **given: asked.update(given) or "here"
    )
    options = {"revision": "abc", "torch_dtype": None}
    assert local_folder("someone/model", options) == "here" and options == {"torch_dtype": None}
    assert asked["revision"] == "abc" and not any("bin" in pattern for pattern in asked["allow_patterns"])


def test_the_modules_of_an_older_version_are_known_by_their_names_of_today():
    index = {"_class_name": "ITITPipeline", "scheduler": ["itit_hf.scheduling_itit", "ITITScheduler"]}
    today = with_modules_of_today(index)
    assert today == {"_class_name": "ITITPipeline", "scheduler": ["itit_hf.decoding.scheduling_itit", "ITITScheduler"]}
    assert with_modules_of_today(today) == today


def test_a_folder_with_the_modules_of_an_older_version_opens(tmp_path):
    tiny_pipeline().save_pretrained(tmp_path)
    path = tmp_path / "model_index.json"
    text = path.read_text()
    for old, new in MODULES_OF_0_1_0.items():
        assert new in text
        text = text.replace(new, old)
    path.write_text(text)
    pipe = ITITPipeline.from_pretrained(tmp_path)
    pipe.save_pretrained(tmp_path / "again")
    assert "itit_hf.models.modeling_itit" in (tmp_path / "again" / "model_index.json").read_text()


@pytest.mark.parametrize("value", [["itit_hf.modeling_itit", "ITITTrainer"], ["itit_hf.trainer", "ITITTrainer"]])
def test_an_older_name_opens_no_other_class(tmp_path, value):
    tiny_pipeline().save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    (tmp_path / "model_index.json").write_text(json.dumps(index | {"model": value}))
    with pytest.raises(ValueError, match="`model` must be one of"):
        ITITPipeline.from_pretrained(tmp_path)
