# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import os

from itit_hf import ITITPipeline

from ..training_utils import make_trainer


def test_samples_are_drawn_and_the_pipeline_is_saved(tmp_path):
    trainer = make_trainer(tmp_path, sample_steps=2, sample_prompts=["a red bus"], sample_inference_steps=2)
    trainer.train()
    assert sorted(os.listdir(tmp_path / "samples")) == ["step-0000002.png", "step-0000004.png"]
    trainer.save_pipeline(str(tmp_path / "pipeline"), {"licence": "cc0-1.0"})
    card = (tmp_path / "pipeline" / "README.md").read_text()
    assert "cc0-1.0" in card and "24" in card
    assert len(ITITPipeline.from_pretrained(tmp_path / "pipeline")("a red bus", num_inference_steps=2).images) == 1


def test_the_card_of_a_saved_pipeline_is_written_again_but_never_one_written_by_hand(tmp_path):
    trainer = make_trainer(tmp_path, objectives=["t2i"])
    trainer.save_pipeline(str(tmp_path / "pipeline"))
    card = tmp_path / "pipeline" / "README.md"
    before = card.read_text()
    trainer.evaluate()
    trainer.save_card(str(tmp_path / "pipeline"))
    assert "eval_loss_t2i" not in before and "held-out" not in before and card.read_text() != before
    card.write_text("by hand")
    trainer.save_card(str(tmp_path / "pipeline"))
    assert card.read_text() == "by hand"
