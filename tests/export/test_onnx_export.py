# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""A folder of graphs that generates and captions without torch."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from itit_hf.decoding.scheduling_itit import ITITScheduler
from itit_hf.export.onnx_export import QUANTIZED, check_exportable, export_onnx, runtime_settings
from itit_hf.export.onnx_runtime import ONNXPipeline

from ..testing_utils import ROOT, tiny_pipeline
from .conftest import TorchNoise

PROMPTS = ["a red bus", "the green fish on the grass", "blue"]
# Stands before all other places to import from: whoever asks for torch fails.
WITHOUT_TORCH = "raise ImportError('there is no torch here')\n"


def test_the_settings_are_what_json_can_hold(pipe):
    settings = runtime_settings(pipe)
    assert json.loads(json.dumps(settings)) == settings
    assert settings["mask_token_id"] == 23 and settings["num_image_tokens"] == 16
    assert settings["image"] == {"height": 16, "width": 16, "mean": [0.5] * 3, "std": [0.5] * 3}


def test_the_halton_order_travels_with_the_settings():
    pipe = tiny_pipeline()
    pipe.scheduler = ITITScheduler(mask_token_id=23, decoding_order="halton")
    assert sorted(runtime_settings(pipe)["scheduler"]["halton_order"]) == list(range(16))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pipe: pipe.model.half(), "`pipe.model` must be float32 on the CPU"),
        (lambda pipe: pipe.register_modules(text_encoder=None), "made without `text_encoder`"),
        (
            lambda pipe: pipe.register_modules(scheduler=ITITScheduler(mask_token_id=23, decoding_order="remasking")),
            "`pipe.scheduler.config.decoding_order` must be one of .* got 'remasking'",
        ),
        (
            lambda pipe: pipe.register_modules(scheduler=ITITScheduler(mask_token_id=23, temperature=[2.0, 1.0])),
            r"`pipe.scheduler.config.temperature` must be a number, got \[2.0, 1.0\]",
        ),
        (
            lambda pipe: pipe.model.generation_config.update(length_penalty=0.5),
            "`pipe.model.generation_config` must not set 'length_penalty'",
        ),
    ],
)
def test_a_pipeline_that_the_runtime_could_not_run_is_refused(change, message):
    pipe = tiny_pipeline()
    change(pipe)
    with pytest.raises(ValueError, match=message):
        check_exportable(pipe, "float32")


def test_an_unknown_precision_is_refused(pipe, tmp_path):
    with pytest.raises(ValueError, match=r"`precision` must be one of \('float32', 'int8'\), got 'int3'"):
        export_onnx(pipe, tmp_path / "out", "int3")
    assert not (tmp_path / "out").exists()


def test_without_the_extra_its_line_is_said(pipe, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"onnx is not installed: pip install 'itit-hf\[onnx\]'"):
        export_onnx(pipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def folders(pipe, tmp_path_factory):
    """The tiny pipeline by precision."""
    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name)
    return {name: export_onnx(pipe, tmp_path_factory.mktemp(name), name) for name in ("float32", "int8")}


@pytest.mark.slow
def test_exported_graphs_generate_the_tokens_of_the_pipeline(pipe, folders):
    runtime = ONNXPipeline.from_folder(folders["float32"])
    theirs = pipe(PROMPTS, generator=torch.Generator().manual_seed(3), num_inference_steps=6).images
    ours = runtime.generate(PROMPTS, num_inference_steps=6, rng=TorchNoise(3))
    assert np.abs(ours - np.stack([np.asarray(image) for image in theirs]).astype(int)).max() <= 1


@pytest.mark.slow
def test_exported_graphs_take_one_sample_and_more_than_they_were_traced_with(folders):
    runtime = ONNXPipeline.from_folder(folders["float32"])
    for count in (1, 7):
        images = runtime.generate(["a bus"] * count, num_inference_steps=2, rng=np.random.default_rng(0))
        assert images.shape == (count, 16, 16, 3) and len(runtime.caption(images, 2, 3)) == count


@pytest.mark.slow
@pytest.mark.parametrize("num_beams", [1, 4])
def test_exported_graphs_caption_as_the_pipeline_does(pipe, folders, num_beams):
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    captions = ONNXPipeline.from_folder(folders["float32"]).caption(images, num_beams, 8)
    assert captions == pipe.caption(list(images), num_beams=num_beams, max_new_tokens=8)


@pytest.mark.slow
def test_eight_bits_hold_the_weights_of_products_and_little_is_changed(folders):
    import onnx

    plain, small = (ONNXPipeline.from_folder(folders[name]) for name in ("float32", "int8"))
    for name in QUANTIZED:
        if name in small.sessions:
            kinds = {node.op_type for node in onnx.load(folders["int8"] / f"{name}.onnx").graph.node}
            assert "MatMulInteger" in kinds and "Gemm" not in kinds
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    features = plain.encode_images(images)
    error = np.abs(small.encode_images(images) - features).mean() / np.abs(features).mean()
    assert 0 < error < 0.05


@pytest.mark.slow
def test_the_example_runs_where_there_is_no_torch(folders, tmp_path):
    for name in ("torch", "itit_hf", "transformers", "diffusers"):
        (tmp_path / f"{name}.py").write_text(WITHOUT_TORCH)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    script = [sys.executable, str(ROOT / "examples" / "run_onnx.py"), "--model", str(folders["int8"])]
    run = subprocess.run(
        [*script, "--prompts", "a red bus", "blue", "--num_inference_steps", "3", "--output_dir", str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    images = sorted(str(path) for path in tmp_path.glob("*.png"))
    assert len(images) == 2
    run = subprocess.run([*script, "--images", *images], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert all(f"{image}: " in run.stderr for image in images)
