# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""[`VQTrainer`] and examples/train_vq.py, on tiny tokenizers."""

import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest
import torch
from diffusers import VQModel
from safetensors.torch import load_file

from itit_hf import PatchVQModel
from itit_hf.pretraining.perceptual_loss import PerceptualLoss
from itit_hf.pretraining.vq_trainer import VQTrainer, VQTrainingArguments
from itit_hf.pretraining.vq_training import ImageDataset
from itit_hf.training.checkpointing import CheckpointError

from ..testing_utils import tiny_image_tokenizer
from .test_vq_training import make_images

ROOT = Path(__file__).parents[2]


@pytest.fixture
def log(caplog):
    logging.getLogger("itit_hf").propagate = True
    return caplog


def make_trainer(folder, number: int = 24, **changes) -> VQTrainer:
    """A tokenizer of 23 codes and 16 tokens an image; codes from the second step on."""
    values = {
        "output_dir": str(folder),
        "max_steps": 6,
        "quantize_from_step": 1,
        "per_device_train_batch_size": 4,
        "warmup_steps": 0,
        "logging_steps": 1,
        "save_steps": 3,
        "sample_steps": 0,
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
    }
    torch.manual_seed(0)
    tokenizer, images = tiny_image_tokenizer(), ImageDataset(make_images(number), 16)
    shown = torch.stack([images[0], images[number - 1]])
    return VQTrainer(tokenizer, VQTrainingArguments(**(values | changes)), images, shown)


# What is said before the first step


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantize_from_step": 6}, "`quantize_from_step` must be less than `max_steps`, 6, .* got 6"),
        ({"max_steps": 1}, "`quantize_from_step` must be less than `max_steps`, 1"),
        ({"number": 1}, "k-means needs at least as many patches as codes: 1 images have 16, the codebook has 23"),
        ({"kmeans_images": 1}, "raise `kmeans_images`"),
        ({"quantize_from_step": -1}, "`quantize_from_step` must be 0 or more"),
        ({"kmeans_images": 0}, "`kmeans_images` must be at least 1"),
        ({"per_device_train_batch_size": 0}, "`per_device_train_batch_size` must be at least 1"),
        ({"gan_weight": -0.5}, "`gan_weight` must be 0 or more"),
        ({"l2_weight": float("inf")}, "`l2_weight` must be 0 or more, got inf"),
        ({"ema_decay": 1.5}, "`ema_decay` must be in .0, 1."),
        ({"perceptual_weight": 1.0}, "`perceptual_weight` needs `perceptual_loss`, a file"),
        ({"l1_weight": 0.0, "l2_weight": 0.0, "edge_weight": 0.0}, "one of `l1_weight`.* must be above 0"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_the_first_step(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_images_must_be_whole_tokens_wide(tmp_path):
    images = ImageDataset(make_images(4), 18)
    with pytest.raises(ValueError, match="`resolution` must be a multiple of 4, a token's side, got 18"):
        VQTrainer(tiny_image_tokenizer(), VQTrainingArguments(str(tmp_path), use_cpu=True), images, images[0][None])


# Numbers that are not finite


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.safetensors"))


def spoil(trainer: VQTrainer, steps):
    """The losses of these updates, counted from 1, are not numbers."""
    compute_loss = trainer.compute_loss

    def spoiled(*arguments, **options):
        loss = compute_loss(*arguments, **options)
        return loss * float("nan") if trainer.state.global_step + 1 in steps else loss

    trainer.compute_loss = spoiled


def test_a_run_whose_losses_stay_no_numbers_ends_and_leaves_nothing_broken(tmp_path):
    trainer = make_trainer(tmp_path, max_skipped_steps=1, max_steps=9, gan_weight=0.1, ema_decay=0.9)
    spoil(trainer, range(5, 10))
    with pytest.raises(FloatingPointError, match="2 in a row, more than `max_skipped_steps`"):
        trainer.train()
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-3"]
    weights = load_file(tmp_path / "checkpoint-3" / "diffusion_pytorch_model.safetensors")
    assert all(weight.isfinite().all() for weight in weights.values())


def test_an_update_that_is_no_number_changes_neither_tokenizer_nor_discriminator(tmp_path):
    trainer = make_trainer(tmp_path, max_steps=3, gan_weight=0.1, ema_decay=0.9, save_steps=0, reseed_steps=1)
    spoil(trainer, [3])
    states, end_update = [], trainer.end_update

    def watched():
        end_update()
        parts = trainer.model.state_dict() | trainer.discriminator.state_dict()
        states.append({name: value.clone() for name, value in parts.items()})

    trainer.end_update = watched
    trainer.train()
    assert all(torch.equal(value, states[1][name]) for name, value in states[2].items())
    assert any(not torch.equal(value, states[0][name]) for name, value in states[1].items())


def test_latents_that_are_no_numbers_start_no_codebook(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.image_tokenizer.encoder.register_forward_hook(lambda module, inputs, output: output * float("inf"))
    with pytest.raises(FloatingPointError, match="latents are not finite"):
        trainer.start_codebook()


def test_a_tokenizer_that_reconstructs_no_numbers_is_not_written(tmp_path):
    trainer = make_trainer(tmp_path)
    for parameter in trainer.image_tokenizer.decoder.parameters():
        parameter.data.fill_(1e38)
    with pytest.raises(FloatingPointError, match="the reconstructions are not finite, so nothing is saved"):
        trainer.finish()
    assert not files_in(tmp_path)


# Resuming


def test_a_checkpoint_is_a_tokenizer_and_holds_no_pickle(tmp_path):
    make_trainer(tmp_path, gan_weight=0.1, ema_decay=0.9).train()
    names = {path.name for path in (tmp_path / "checkpoint-3").iterdir()}
    assert {"codes.safetensors", "discriminator.safetensors", "ema.safetensors", "manifest.json"} <= names
    assert {name.rpartition(".")[2] for name in names} == {"safetensors", "json"}
    assert PatchVQModel.from_pretrained(tmp_path / "checkpoint-3").config.num_vq_embeddings == 23


def test_a_damaged_checkpoint_is_passed_over_and_other_folders_are_left_alone(tmp_path, log):
    (tmp_path / "checkpoint-best").mkdir()
    make_trainer(tmp_path).train()
    with open(tmp_path / "checkpoint-6" / "codes.safetensors", "ab") as file:
        file.write(b"x")
    trainer = make_trainer(tmp_path)
    trainer.train(resume_from_checkpoint="latest")
    assert trainer.first_update == 3 and "codes.safetensors: it has" in log.text
    assert (tmp_path / "checkpoint-best").is_dir()


def test_new_rates_hold_for_the_discriminator_too(tmp_path, log):
    gan = {"gan_weight": 0.1, "lr_scheduler_type": "constant"}
    make_trainer(tmp_path, **gan).train()
    trainer = make_trainer(tmp_path, **gan, max_steps=7, learning_rate=1e-5, discriminator_learning_rate=0.5)
    trainer.train(resume_from_checkpoint="last")
    assert trainer.optimizer.param_groups[0]["lr"] == 1e-5
    assert trainer.discriminator_optimizer.param_groups[0]["initial_lr"] == 0.5
    assert "`discriminator_learning_rate` was 0.0002, is 0.5" in log.text


def test_a_run_goes_on_with_the_same_parameters_only(tmp_path):
    make_trainer(tmp_path).train()
    with pytest.raises(CheckpointError, match="`train_decoder_only` must be what the checkpoint was trained with"):
        make_trainer(tmp_path, train_decoder_only=True).train(resume_from_checkpoint="last")


def test_accumulated_batches_make_the_update_of_a_large_one(tmp_path):
    weights = []
    for name, size, times in (("one", 4, 1), ("two", 2, 2)):
        options = {"per_device_train_batch_size": size, "gradient_accumulation_steps": times, "save_steps": 0}
        trainer = make_trainer(tmp_path / name, **options, max_steps=1, quantize_from_step=0, learning_rate=1e-4)
        trainer.train()
        weights.append(trainer.model.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, atol=1e-5, rtol=1e-4)


# The script

TINY = {
    "patch_size": 4,
    "encoder_channels": 16,
    "num_vq_embeddings": 16,
    "block_out_channels": [8, 8],
    "norm_num_groups": 4,
}


@pytest.fixture(scope="module")
def train_vq():
    spec = importlib.util.spec_from_file_location("train_vq", ROOT / "examples" / "train_vq.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_vq"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def arguments_for(folder: Path, name: str) -> list[str]:
    """Eight steps on the images in `folder`, with every part of the script in use."""
    arguments = f"--dataset {folder}/images --splits train --eval_split train --resolution 16 --max_steps 8"
    arguments += " --quantize_from_step 2 --reseed_steps 2 --warmup_steps 2 --gan_weight 0.1 --gan_start_step 3"
    arguments += " --discriminator_channels 8 --ema_decay 0.9 --per_device_train_batch_size 4 --logging_steps 1"
    arguments += f" --save_steps 5 --sample_steps 8 --use_cpu true --output_dir {folder / name}"
    return [*arguments.split(), "--tokenizer_config", json.dumps(TINY)]


@pytest.fixture
def run(train_vq, tmp_path, monkeypatch):
    """Runs the script on 24 images; gives the folder it wrote."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "images").mkdir()
    make_images().to_parquet(tmp_path / "images" / "train.parquet")

    def run(name: str, *more: str) -> Path:
        train_vq.main([*arguments_for(tmp_path, name), *more])
        return tmp_path / name

    return run


def test_the_perceptual_loss_of_a_file_is_logged(run, tmp_path):
    file = tmp_path / "lpips.safetensors"
    PerceptualLoss("alexnet").save(str(file))
    folder = run("perceptual", "--perceptual_weight", "0.5", "--perceptual_loss", str(file), "--resolution", "64")
    lines = (folder / "log.jsonl").read_text().splitlines()
    assert all(json.loads(line)["perceptual"] > 0.0 for line in lines)


def weights_in(folder: Path) -> bytes:
    return (folder / "diffusion_pytorch_model.safetensors").read_bytes()


def test_an_interrupted_run_ends_in_the_same_weights(run):
    folder = run("a")
    whole = weights_in(folder)
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    assert (folder / "checkpoint-5").is_dir()
    shutil.rmtree(folder / "checkpoint-8")
    run("a", "--resume_from_checkpoint")
    assert weights_in(folder) == whole


def test_a_run_logs_and_draws_and_reports(run):
    folder = run("a")
    last = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 8
    assert {"l1", "l2", "edge", "codebook", "gan", "discriminator", "psnr", "code_usage", "code_entropy"} <= set(last)
    assert PIL.Image.open(folder / "samples" / "step-8.png").size == (12 * 32, 64)
    assert "shift_agreement" in json.loads((folder / "report.json").read_text())["report"]


def test_the_decoder_alone_can_be_trained_on(run):
    folder = run("a")
    more = run("b", "--model_name_or_path", str(folder), "--train_decoder_only", "--max_steps", "2")
    old, new = (tiny_image_tokenizer().from_pretrained(path) for path in (folder, more))
    for part in ("encoder", "quantize"):
        for one, other in zip(getattr(old, part).parameters(), getattr(new, part).parameters(), strict=True):
            assert torch.equal(one, other)
    assert weights_in(folder) != weights_in(more)


def test_a_vqgan_is_trained_alike(run):
    config = {"block_out_channels": [8, 8], "layers_per_block": 1, "norm_num_groups": 4, "num_vq_embeddings": 16}
    config |= {"latent_channels": 8}
    folder = run("a", "--tokenizer", "vqgan", "--tokenizer_config", json.dumps(config))
    assert VQModel.from_pretrained(folder).config.num_vq_embeddings == 16


def test_old_checkpoints_are_removed(run):
    folder = run("a", "--save_steps", "1", "--save_total_limit", "2")
    assert sorted(path.name for path in folder.glob("*checkpoint*")) == ["checkpoint-7", "checkpoint-8"]


def test_images_that_cannot_be_read_are_named_or_left_out(run, tmp_path, log):
    (tmp_path / "mine").mkdir()
    for i, row in enumerate(make_images(40)):
        row["image"].save(tmp_path / "mine" / f"{i:02d}.png")
    (tmp_path / "mine" / "07.png").write_bytes(b"<html>")
    mine = ("--dataset", str(tmp_path / "mine"), "--max_steps", "3")
    with pytest.raises(ValueError, match="row 7 of `train`.*07.png.*it cannot be read"):
        run("a", *mine)
    folder = run("b", *mine, "--on_bad_image", "skip")
    assert "1 of 40 images cannot be used and are left out: row 7 of `train`" in log.text
    assert weights_in(folder)


def test_another_column_is_read_and_the_rule_for_wide_images_is_kept(run, tmp_path):
    (tmp_path / "wide").mkdir()
    rows = make_images().map(lambda row: {"image": row["image"].resize((40, 20))})
    rows.rename_column("image", "photo").to_parquet(tmp_path / "wide" / "train.parquet")
    wide = ("--dataset", str(tmp_path / "wide"), "--max_steps", "3", "--columns", "image=photo")
    folder = run("a", *wide, "--aspect_ratio", "pad")
    assert json.loads((folder / "preprocessor_config.json").read_text())["aspect_ratio"] == "pad"


@pytest.mark.parametrize("text", ["{bad", "[1, 2]"])
def test_a_config_that_is_no_mapping_is_refused(run, tmp_path, text):
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(ValueError, match="`tokenizer_config` must be"):
        run("a", "--tokenizer_config", str(file))


def test_a_new_encoder_cannot_be_kept_as_it_is(run):
    with pytest.raises(ValueError, match="`train_decoder_only` needs `model_name_or_path`"):
        run("a", "--train_decoder_only")


@pytest.mark.slow
def test_two_processes_end_in_the_weights_of_one(run, tmp_path):
    one = load_file(run("one") / "diffusion_pytorch_model.safetensors")
    config = ROOT / "examples" / "accelerate_configs" / "cpu_2_processes.yaml"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    command += ["--main_process_port", "0", str(ROOT / "examples" / "train_vq.py"), *arguments_for(tmp_path, "two")]
    command += ["--per_device_train_batch_size", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    two = load_file(tmp_path / "two" / "diffusion_pytorch_model.safetensors")
    # Adam's steps are 1e-3 long here, whatever the gradient's size: equal ones leave traces of rounding only
    differences = torch.cat([(one[name] - two[name]).abs().flatten() for name in one])
    assert (differences > 1e-4).float().mean() < 1e-3
