# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import json
import os
import shutil

import pytest
import torch

from itit_hf import ITITPipeline
from itit_hf.safe_loading import COMPONENTS, check_pipeline_folder, local_folder, read_json

from .testing_utils import tiny_pipeline


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
    with pytest.raises(ValueError, match="weights of its configuration are in no file, such as encoder.block.1"):
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
    monkeypatch.setattr("itit_hf.safe_loading.snapshot_download", lambda name, **given: asked.update(given) or "here")
    options = {"revision": "abc", "torch_dtype": None}
    assert local_folder("someone/model", options) == "here" and options == {"torch_dtype": None}
    assert asked["revision"] == "abc" and not any("bin" in pattern for pattern in asked["allow_patterns"])
