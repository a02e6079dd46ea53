# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""R25: what a version wrote, every later one opens, and it gives the same ids.

`python -m tests.reliability.test_formats VERSION` writes the folder of a version into tests/fixtures; a release
commits it and never changes it again.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from examples import prepare_tokens

from itit_hf import ITITPipeline, ITITTrainer, ITITTrainingArguments
from itit_hf.data.loading import load_rows
from itit_hf.training.checkpointing import read_manifest

from ..testing_utils import tiny_pairs, tiny_pipeline
from .harness import DROPOUT, make_trainer

FIXTURES = Path(__file__).parents[1] / "fixtures"
MAX_BYTES = 1_000_000
OPTIONS = {"kind": "half cycle", "max_steps": 4, "optim": "adamw_torch"}


def token_losses(folder: Path, output_dir: Path) -> list[float]:
    """Losses of an epoch of the pipeline of a version on its token dataset."""
    pipe = ITITPipeline.from_pretrained(folder / "pipeline")
    args = ITITTrainingArguments(
        output_dir=str(output_dir),
        objectives=["t2i", "i2t", "i2i"],
        max_steps=4,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        optim="adamw_torch",
        data_order="randperm",  # of 0.1.0
        logging_steps=1,
        save_strategy="no",
        monitoring=False,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = ITITTrainer(
        model=pipe.model,
        args=args,
        processing_class=pipe.processor,
        text_encoder=pipe.text_encoder,
        train_streams={"paired": load_rows(str(folder / "tokens"), "train")},
        scheduler=pipe.scheduler,
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def write_tokens(folder: Path):
    """The token dataset of a version: ten images with captions, in two files."""
    with tempfile.TemporaryDirectory() as images:
        rows = [{"file_name": f"{index}.png", "text": row["text"]} for index, row in enumerate(tiny_pairs(10))]
        for row, pair in zip(rows, tiny_pairs(10), strict=True):
            pair["image"].save(Path(images) / row["file_name"])
        (Path(images) / "metadata.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        options = ["--output_dir", str(folder / "tokens"), "--model", str(folder / "pipeline"), "--rows_per_file", "6"]
        prepare_tokens.main([images, *options])


def drawn_and_said(pipe) -> dict:
    """Ids of an image and of its caption."""
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    ids = pipe("a red bus", num_inference_steps=4, generator=generator, output_type="latent").images
    said = pipe.model.generate(image_token_ids=ids, num_beams=2, do_sample=False, max_new_tokens=6)
    return {"image_token_ids": ids.tolist(), "caption_ids": said.tolist()}


def write(version: str):
    """The folder of a version: a pipeline, a checkpoint, a token dataset, and what they give."""
    folder = Path(os.path.relpath(FIXTURES / version))  # so that no file names this machine's folders
    tiny_pipeline().save_pretrained(folder / "pipeline")
    trainer = make_trainer(folder, stop_after=2, pipeline=tiny_pipeline(**DROPOUT), **OPTIONS)
    trainer.train()
    shutil.rmtree(folder / "checkpoint-1")
    made = drawn_and_said(ITITPipeline.from_pretrained(folder / "pipeline"))
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    write_tokens(folder)
    made |= {"losses": losses, "token_losses": token_losses(folder, folder / "run")}
    shutil.rmtree(folder / "run", ignore_errors=True)
    (folder / "expected.json").write_text(json.dumps(made, indent=1) + "\n")


VERSIONS = sorted(path.name for path in FIXTURES.iterdir() if path.is_dir()) if FIXTURES.is_dir() else []


@pytest.mark.figure(name="R25")
@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_version_wrote_opens_and_gives_the_same(version, tmp_path, figure):
    folder = FIXTURES / version
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert size < MAX_BYTES
    expected = json.loads((folder / "expected.json").read_text())
    losses = expected.pop("losses")
    losses_of_tokens = expected.pop("token_losses")
    held = drawn_and_said(ITITPipeline.from_pretrained(folder / "pipeline")) == expected
    run = tmp_path / "run"
    shutil.copytree(folder / "checkpoint-2", run / "checkpoint-2")
    assert read_manifest(str(run / "checkpoint-2")).step == 2
    trainer = make_trainer(run, stop_after=3, pipeline=tiny_pipeline(**DROPOUT), **OPTIONS)
    trainer.train(resume_from_checkpoint=True)
    history = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    held += history[:2] == losses and len(history) == 3
    # Rows in another order change the first digits; another processor changes the seventh.
    held += token_losses(folder, tmp_path / "tokens") == pytest.approx(losses_of_tokens, rel=1e-6)
    figure(held, 3, f"{version}: a pipeline, a checkpoint and a token dataset")


def test_there_is_a_version_to_open():
    assert VERSIONS


if __name__ == "__main__":
    write(sys.argv[1])
