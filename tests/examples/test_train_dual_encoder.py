# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The training script of dual encoders, in process, with tiny models."""

import json
import logging
import sys

import datasets
import pytest
import torch
from transformers import AlignConfig

from itit_hf import DualEncoderScorer

from ..testing_utils import script, tiny_dual_encoder, tiny_pairs

training = script("train_dual_encoder")


@pytest.fixture(autouse=True)
def found_by_name(monkeypatch):
    """Checkpoints pickle the arguments, whose class is looked up in the module of that name."""
    monkeypatch.setitem(sys.modules, training.__name__, training)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Pairs, a dual encoder and its towers, and the configuration of a tiny ALIGN."""
    folder = tmp_path_factory.mktemp("dual_encoder")
    (folder / "pairs").mkdir()
    tiny_pairs(12).to_parquet(folder / "pairs" / "train.parquet")
    torch.manual_seed(0)
    scorer = tiny_dual_encoder()
    for part, name in (
        (scorer.model, "whole"),
        (scorer.model.vision_model, "image"),
        (scorer.model.text_model, "text"),
    ):
        part.save_pretrained(folder / name)
    scorer.processor.save_pretrained(folder / "whole")
    scorer.processor.image_processor.save_pretrained(folder / "image")
    scorer.processor.tokenizer.save_pretrained(folder / "text")
    vision = {"image_size": 16, "kernel_sizes": [3], "in_channels": [32], "out_channels": [16], "strides": [2]}
    vision |= {"num_block_repeats": [1], "expand_ratios": [1], "width_coefficient": 1.0, "depth_coefficient": 1.0}
    vision |= {"depthwise_padding": [], "hidden_dim": 16}
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    text |= {"vocab_size": 60, "max_position_embeddings": 16}
    AlignConfig(text_config=text, vision_config=vision, projection_dim=16).save_pretrained(folder / "align")
    return folder


def train(folders, output, *more, max_steps=2):
    arguments = ["--config", "", "--dataset", str(folders / "pairs"), "--output_dir", str(output), "--use_cpu", "true"]
    arguments += ["--max_steps", str(max_steps), "--per_device_train_batch_size", "6", "--disable_tqdm", "true"]
    training.main([*arguments, "--save_strategy", "no", "--report_to", "none", "--learning_rate", "1e-2", *more])
    return DualEncoderScorer.from_pretrained(output)


def test_an_align_from_nothing_learns_its_word_pieces_and_its_temperature(folders, tmp_path):
    options = ("--config_name", str(folders / "align"), "--eval_split", "train")
    scorer = train(folders, tmp_path, *options, "--temperature_learning_rate", "0.1")
    assert 0.1 < abs(1.0 / scorer.logit_scale.item() - 1.0) < 0.2  # two steps of Adam, of 0.1 and 0.05, from 1
    assert scorer.processor.tokenizer.tokenize("a red bus") == ["a", "red", "bus"]
    figures = json.loads((tmp_path / "retrieval.json").read_text())
    assert figures["images"] == 12 and figures["captions"] == 6
    assert 0.0 <= figures["text_to_image"]["recall_at_1"] <= figures["text_to_image"]["recall_at_5"] <= 1.0


def test_a_locked_image_tower_stays_bit_for_bit(folders, tmp_path):
    towers = ("--image_tower", str(folders / "image"), "--text_tower", str(folders / "text"))
    scorer = train(folders, tmp_path, *towers, "--lock_image_tower", "true")
    before = tiny_dual_encoder().model.from_pretrained(folders / "whole")
    for (name, was), now in zip(before.named_parameters(), scorer.model.parameters(), strict=True):
        assert torch.equal(was, now) == name.startswith("vision_model."), name


def test_soft_targets_train_what_was_there(folders, tmp_path):
    scorer = train(folders, tmp_path, "--model_name_or_path", str(folders / "whole"), "--loss", "otter")
    before = DualEncoderScorer.from_pretrained(folders / "whole")
    assert not torch.equal(scorer.embed_texts("a red bus"), before.embed_texts("a red bus"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--loss", "triplet", "--config_name", "x"], "`loss`"),
        (["--image_tower", "x"], "`image_tower` and `text_tower`"),
        ([], "give one of"),
        (["--config_name", "x", "--model_name_or_path", "y"], "give one of"),
    ],
)
def test_what_contradicts_itself_is_named(folders, tmp_path, arguments, named):
    with pytest.raises(ValueError, match=named):
        train(folders, tmp_path, *arguments)


def test_other_columns_are_read_and_bad_rows_are_named_or_left_out(folders, tmp_path, caplog):
    logging.getLogger("itit_hf").propagate = True
    rows = tiny_pairs(12).cast_column("image", datasets.Image(decode=False)).to_list()
    rows = [{"photo": row["image"], "alt": row["text"][0]} for row in rows]
    rows[3]["alt"], rows[5]["photo"] = "N/A", {"bytes": b"GIF8", "path": None}
    (tmp_path / "mine").mkdir()
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "mine" / "train.parquet")
    options = ["--dataset", str(tmp_path / "mine"), "--config_name", str(folders / "align")]
    options += ["--columns", "image=photo", "text=alt", "--eval_split", "train"]
    with pytest.raises(ValueError, match="row 3"):
        train(folders, tmp_path / "out", *options)
    with pytest.raises(ValueError, match="row 4 of the stream `paired`: it cannot be read"):
        train(folders, tmp_path / "out", *options, "--bad_captions", "skip")
    train(folders, tmp_path / "out", *options, "--bad_captions", "skip", "--on_bad_image", "skip")
    assert "1 of 11 images cannot be used and are left out: row 4 of `mine`" in caplog.text
    assert json.loads((tmp_path / "out" / "retrieval.json").read_text())["images"] == 10
    with pytest.raises(ValueError, match="`on_bad_image` must be one of"):
        train(folders, tmp_path / "out", *options, "--on_bad_image", "keep")


def test_it_goes_on_from_its_newest_checkpoint(folders, tmp_path):
    options = ["--config_name", str(folders / "align"), "--save_strategy", "steps", "--save_steps", "2"]
    train(folders, tmp_path, *options, max_steps=2)
    train(folders, tmp_path, *options, "--resume_from_checkpoint", "last", max_steps=3)
    state = json.loads((tmp_path / "checkpoint-3" / "trainer_state.json").read_text())
    assert state["global_step"] == 3 and not (tmp_path / "checkpoint-1").exists()
