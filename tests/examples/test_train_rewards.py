# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""`examples/train_rewards.py` and `examples/train_captions_without_pairs.py`, with tiny parts."""

import json

import pytest
import torch

from itit_hf import ITITPipeline, ITITRewardConfig
from itit_hf.training.training_args import parse_arguments

from ..testing_utils import ROOT, script, tiny_dual_encoder, tiny_pairs, tiny_pipeline


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A pipeline, a dual encoder and captioned images."""
    at = tmp_path_factory.mktemp("parts")
    tiny_pipeline().save_pretrained(at / "pipeline")
    torch.manual_seed(0)
    scorer = tiny_dual_encoder()
    scorer.model.save_pretrained(at / "judge")
    scorer.processor.save_pretrained(at / "judge")
    (at / "images").mkdir()
    with open(at / "images" / "metadata.jsonl", "w") as file:
        for i, row in enumerate(tiny_pairs(8)):
            row["image"].save(at / "images" / f"{i}.png")
            file.write(json.dumps({"file_name": f"{i}.png", "text": row["text"][0]}) + "\n")
    return at


def run(name, folders, output_dir, monkeypatch, *more):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    images = str(folders / "images")
    arguments = ["--frozen_parts", str(folders / "pipeline"), "--dual_encoder", str(folders / "judge")]
    arguments += ["--model_name_or_path", str(folders / "pipeline" / "model"), "--paired_dataset", images]
    arguments += ["--paired_split", "train", "--image_dataset", images, "--text_dataset", images]
    arguments += ["--output_dir", str(output_dir), "--max_steps", "2", "--per_device_train_batch_size", "4"]
    arguments += [
        "--i2i_batch_fraction",
        "1.0",
        "--synthesis_max_new_tokens",
        "4",
        "--synthesis_steps",
        "2",
        "--warmup_steps",
        "0",
    ]
    return script(name).main([*arguments, "--use_cpu", "--disable_tqdm", "true", "--logging_steps", "1", *more])


def test_train_rewards_saves_a_pipeline_of_other_weights(folders, tmp_path, monkeypatch, capsys):
    run("train_rewards", folders, tmp_path, monkeypatch, "--save_strategy", "no")
    assert "rewards/CiderD/mean" in capsys.readouterr().out
    before, after = (ITITPipeline.from_pretrained(at).model for at in (folders / "pipeline", tmp_path / "pipeline"))
    weights = [model.text_decoder.embed_tokens.weight for model in (before, after)]
    assert not torch.equal(*weights)


def test_train_rewards_takes_rewards_by_name(folders, tmp_path, monkeypatch, capsys):
    names = ["--rewards", "clip_cos", "clip_agg", "naturalness", "--ce_interval", "0", "--reward_stream", "image"]
    run("train_rewards", folders, tmp_path, monkeypatch, "--save_strategy", "no", *names)
    output = capsys.readouterr().out
    assert all(f"rewards/{name}/mean" in output for name in ("ClipCos", "ClipAgg", "DiscriminatorReward"))
    with pytest.raises(ValueError, match=r"`rewards` must name some of \('clip_image',\) for this direction"):
        run("train_rewards", folders, tmp_path, monkeypatch, "--direction", "t2i")


def test_images_are_rewarded_by_the_dual_encoder(folders, tmp_path, monkeypatch, capsys):
    recipe = str(ROOT / "examples" / "recipes" / "rewards" / "clip_image.yaml")
    run("train_rewards", folders, tmp_path, monkeypatch, "--config", recipe, "--save_strategy", "no")
    assert "rewards/ClipImageReward/mean" in capsys.readouterr().out


@pytest.mark.parametrize(("start", "ce_interval"), [("nearest", 0), ("random", 1)])
def test_captions_are_learned_without_pairs(folders, tmp_path, monkeypatch, capsys, start, ce_interval):
    more = ["--eval_split", "train", "--start", start, "--start_steps", "1", "--num_scenes", "3"]
    more += ["--ce_interval", str(ce_interval)]
    results = run("train_captions_without_pairs", folders, tmp_path, monkeypatch, *more)
    assert list(results) == ["corpus", "start", "rewarded"]
    assert {"cider_d", "greedy/distinct_2", "sampled/bad_endings"} <= results["rewarded"].keys()
    assert json.loads((tmp_path / "results.json").read_text())["results"] == results
    output = capsys.readouterr().out
    assert output.count("rewards/ClipAgg/mean") == 2
    assert output.count("loss_i2t") == 1 + 2 * ce_interval  # teacher forcing goes on with the rewards
    assert (tmp_path / "pipeline" / "model_index.json").is_file()


@pytest.mark.parametrize("name", ["cider_d", "clip_image", "without_pairs"])
def test_a_recipe_has_arguments_that_exist(monkeypatch, name):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    arguments = script("train_captions_without_pairs").PairlessArguments
    recipe = str(ROOT / "examples" / "recipes" / "rewards" / f"{name}.yaml")
    args, training_args = parse_arguments([arguments, ITITRewardConfig], ["--config", recipe, "--use_cpu"])
    assert args.rewards == {"cider_d": ["cider_d"], "clip_image": ["clip_image"]}.get(
        name, ["clip_agg", "naturalness"]
    )
    assert training_args.muon_learning_rate is None and training_args.direction in ("i2t", "t2i")
