# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from itit_hf import ITITTrainingArguments
from itit_hf.training.setup import check_kinds
from itit_hf.training.trainer import ITITTrainer

from ..testing_utils import ONE_LAYER, tiny_pipeline
from ..training_utils import make_trainer


def test_a_model_inside_peft_is_the_one_that_is_asked_for(tmp_path):
    args = ITITTrainingArguments(str(tmp_path), use_cpu=True)
    wrapper = torch.nn.Module()
    wrapper.get_base_model = tiny_pipeline().model.train
    check_kinds(wrapper, args, None)
    wrapper.get_base_model = torch.nn.Linear(1, 1).train
    with pytest.raises(TypeError, match="got Linear"):
        check_kinds(wrapper, args, None)


def test_gradient_norms_of_sharded_weights_are_refused(tmp_path, monkeypatch):
    prepare = ITITTrainer.create_accelerator_and_postprocess

    def shard(self):
        prepare(self)
        self.is_fsdp_enabled = True

    monkeypatch.setattr(ITITTrainer, "create_accelerator_and_postprocess", shard)
    with pytest.raises(ValueError, match="`gradient_norm_steps` must be 0 when FSDP shards, got 5"):
        make_trainer(tmp_path, gradient_norm_steps=5)


def test_streams_that_no_objective_reads_are_named(tmp_path):
    trainer = make_trainer(tmp_path)
    with pytest.raises(ValueError, match=r"read the streams \['paired', 'text'\], `train_streams` has \['paired'\]"):
        ITITTrainer(
            trainer.model,
            ITITTrainingArguments(str(tmp_path), use_cpu=True, objectives=["t2i", "t2i2t"]),
            trainer.processing_class,
            trainer.text_encoder,
            {"paired": trainer.streams[0].rows},
        )


def test_the_null_text_is_the_text_encoders_feature_of_the_empty_text(tmp_path):
    pipe = tiny_pipeline(**ONE_LAYER)
    make_trainer(tmp_path, pipe)
    embeds, _ = pipe.encode_prompt("")
    assert embeds.shape == (1, 1, 10)
    torch.testing.assert_close(pipe.model.model.null_text_embeds, embeds)
