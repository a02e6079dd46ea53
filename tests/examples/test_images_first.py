# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Images alone first, then pairs: the two recipes, on a tiny pipeline."""

import json

import pytest
import torch
from datasets import config as datasets_config

from itit_hf import ITITForPreTraining, ITITPipeline
from itit_hf.commands import train as training

from ..testing_utils import ROOT, script, tiny_pairs, tiny_pipeline

RECIPES = ROOT / "examples" / "recipes" / "images_first"
# Too small to change a weight by more than rounding does.
NO_STEP = ["--learning_rate", "1e-12", "--muon_learning_rate", "1e-12"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Bare images, sentences, a few captioned images, and frozen parts."""
    at = tmp_path_factory.mktemp("images_first")
    tiny_pipeline().save_pretrained(at / "frozen")
    for name in ("images", "pairs"):
        (at / name).mkdir()
    lines = []
    for i, row in enumerate(tiny_pairs(16)):
        row["image"].save(at / "images" / f"{i}.png")
        if i < 4:
            row["image"].save(at / "pairs" / f"{i}.png")
            lines.append(json.dumps({"file_name": f"{i}.png", "text": row["text"][0]}))
    (at / "pairs" / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    sentences = ("a red bus", "the blue fish on the grass", "the green tree", "a fish on a bus")
    (at / "sentences.txt").write_text("\n".join(sentences), encoding="utf-8")
    return at


@pytest.fixture(scope="module", autouse=True)
def cache(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets_config, "HF_DATASETS_CACHE", str(folder / "cache"))
        yield


def run(folder, stage: str, *more: str, output: str | None = None):
    at = folder / (output or stage)
    arguments = ["--config", str(RECIPES / f"{stage}.yaml"), "--frozen_parts", str(folder / "frozen")]
    arguments += ["--image_dataset", str(folder / "images"), "--text_dataset", str(folder / "sentences.txt")]
    arguments += ["--output_dir", str(at), "--max_steps", "2", "--per_device_train_batch_size", "4"]
    arguments += ["--synthesis_steps", "2", "--sample_inference_steps", "2", "--i2i_batch_fraction", "1.0"]
    arguments += ["--use_cpu", "--disable_tqdm", "true", "--warmup_steps", "0", "--sample_steps", "0"]
    script("train_itit").main([*arguments, *more])
    return at / "pipeline" / "model"


@pytest.fixture(scope="module")
def first(folder):
    """The weights of stage 1, which finds no caption of an image anywhere."""
    return run(folder, "stage1")


def test_stage_one_reads_neither_pairs_nor_the_emoji_scenes(folder, first, monkeypatch):
    monkeypatch.setattr(training, "ensure_emoji_scenes", lambda *given: pytest.fail("the emoji scenes were built"))
    args = training.ScriptArguments(image_dataset=str(folder / "images"), text_dataset=str(folder / "sentences.txt"))
    streams, pairs = training.load_streams(args, ["image", "text"], tiny_pipeline().processor)
    assert sorted(streams) == ["image", "text"] and pairs is None
    assert "text" not in streams["image"].column_names


def test_stage_one_trains_encoder_and_both_decoders(folder, first):
    trained = ITITForPreTraining.from_pretrained(first).state_dict()
    start = ITITForPreTraining.from_pretrained(run(folder, "stage1", *NO_STEP, output="none"))
    for name in (
        "model.layers.0.fc1.weight",
        "image_decoder.layers.0.fc1.weight",
        "text_decoder.layers.0.fc1.weight",
    ):
        assert not torch.equal(trained[name], start.state_dict()[name]), name


def test_stage_two_starts_from_the_weights_of_stage_one(folder, first):
    pairs = ["--model_name_or_path", str(first), "--paired_dataset", str(folder / "pairs"), "--paired_split", "train"]
    second = run(folder, "stage2", *pairs, *NO_STEP)
    before = ITITForPreTraining.from_pretrained(first).state_dict()
    for name, weight in ITITForPreTraining.from_pretrained(second).state_dict().items():
        torch.testing.assert_close(weight, before[name], atol=1e-6, rtol=0, msg=name)
    assert len(ITITPipeline.from_pretrained(second.parent)("a red bus", num_inference_steps=2).images) == 1


def test_a_split_of_pairs_needs_pairs(folder):
    args = training.ScriptArguments(image_dataset=str(folder / "images"), eval_split="train")
    with pytest.raises(ValueError, match="`eval_split` is one of `paired_dataset`, which is not given"):
        training.load_streams(args, ["image"], tiny_pipeline().processor)
