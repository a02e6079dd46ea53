# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import math
from types import SimpleNamespace

import PIL.Image
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, TrainingArguments

from itit_hf import ITITTrainingArguments
from itit_hf.data.image_tokens import add_image_token_ids
from itit_hf.objectives.losses import code_neighbours
from itit_hf.training.optimization import CappedAdafactor
from itit_hf.training.trainer import ITITTrainer

from ..testing_utils import ONE_LAYER, tiny_pairs, tiny_pipeline
from ..training_utils import FULL_CYCLE, losses_of, make_trainer, weights_of

DROPOUT = ONE_LAYER | {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}


def test_each_loss_is_logged_by_name_and_they_add_up(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logs) == 4
    for entry in logs:
        parts = entry["loss_i2t"] + entry["loss_t2i"] + entry["loss_i2i"]
        assert entry["loss"] == pytest.approx(parts, abs=2e-3)


def test_smoothing_goes_to_the_neighbours_in_the_codebook_of_the_image_tokenizer(tmp_path):
    pipe = tiny_pipeline()
    trainer = make_trainer(tmp_path, pipe, smoothing_neighbours=2)
    codebook = pipe.image_tokenizer.quantize.embedding.weight
    assert torch.equal(trainer.objectives.neighbours, code_neighbours(codebook, 2))
    assert make_trainer(tmp_path).objectives.neighbours is None


def test_training_lowers_the_loss(tmp_path):
    trainer = make_trainer(tmp_path, max_steps=20, logging_steps=5)
    trainer.train()
    assert losses_of(trainer)[-1] < 0.8 * losses_of(trainer)[0]


@pytest.mark.parametrize(("batch", "accumulation"), [(1, 8), (2, 4)])
def test_accumulation_changes_nothing(tmp_path, batch, accumulation):
    options = {
        "optim": "sgd",
        "learning_rate": 0.05,
        "max_steps": 2,
    }  # Adam would blow up rounding in gradients near zero
    whole = make_trainer(tmp_path / "whole", per_device_train_batch_size=8, **options)
    parts = make_trainer(
        tmp_path / "parts",
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        **options,
    )
    whole.train(), parts.train()
    assert losses_of(parts) == pytest.approx(losses_of(whole), abs=1e-5)
    torch.testing.assert_close(weights_of(parts), weights_of(whole), atol=1e-5, rtol=1e-4)


def test_a_resumed_run_is_bit_identical(tmp_path):
    def run(folder, **changes):
        pipe = tiny_pipeline(**DROPOUT)  # so that RNG state matters
        options = {"save_strategy": "steps", "save_steps": 2, "ema_decay": 0.9, "max_steps": 4} | changes
        return make_trainer(folder, pipe, **options)

    whole = run(tmp_path / "whole")
    whole.train()
    resumed = run(tmp_path / "resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert torch.equal(weights_of(resumed), weights_of(whole))
    for ours, theirs in zip(resumed.ema.average.shadow_params, whole.ema.average.shadow_params, strict=True):
        assert torch.equal(ours, theirs)
    assert losses_of(resumed) == losses_of(whole)


def test_the_full_cycle_resumes_bit_identically_with_all_streams(tmp_path):
    options = FULL_CYCLE | {"save_strategy": "steps", "save_steps": 2, "per_device_text_batch_size": 2}

    def run(folder):
        return make_trainer(folder, tiny_pipeline(**DROPOUT), **options)

    whole = run(tmp_path / "whole")
    whole.train()
    resumed = run(tmp_path / "resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert torch.equal(weights_of(resumed), weights_of(whole))
    assert {"loss_t2i2t", "loss_i2t2i"} <= set(whole.state.log_history[0])


def logs_of(trainer):
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def test_neither_monitoring_nor_gradient_norms_change_the_training(tmp_path):
    def run(folder, **changes):
        pipe = tiny_pipeline(**DROPOUT)
        trainer = make_trainer(folder, pipe, **FULL_CYCLE, **changes)
        trainer.train()
        return trainer

    plain = run(tmp_path / "plain", monitoring=False)
    watched = run(tmp_path / "watched", gradient_norm_steps=1, sample_steps=2)
    assert torch.equal(weights_of(watched), weights_of(plain))
    assert losses_of(watched) == losses_of(plain)
    assert not any("/" in name for entry in logs_of(plain) for name in entry)
    assert all("gradient_cosine/t2i2t" in entry for entry in logs_of(watched))


def test_the_gradient_norm_of_the_only_loss_is_that_of_the_training(tmp_path):
    trainer = make_trainer(tmp_path, objectives=["t2i"], gradient_norm_steps=2)
    trainer.train()
    assert ["gradient_norm/t2i" in entry for entry in logs_of(trainer)] == [False, True, False, True]
    for entry in logs_of(trainer)[1::2]:
        assert entry["gradient_norm/t2i"] == pytest.approx(entry["grad_norm"], rel=1e-4)


def test_weights_scale_the_losses_in_the_sum_and_leave_the_parts_as_they_are(tmp_path):
    trainer = make_trainer(tmp_path, loss_weights={"i2t": 0.5, "i2i": 0.0})
    parts = {"i2t": torch.tensor(4.0), "t2i": torch.tensor(3.0), "i2i": torch.tensor(7.0)}
    trainer.objectives = lambda model, inputs: parts
    loss, losses = trainer.compute_loss(trainer.model, {}, return_outputs=True)
    assert loss.item() == 5.0 and losses is parts  # 4 / 2 + 3 + 0


def test_logged_and_evaluated_losses_are_unweighted_and_their_sum_is_weighted(tmp_path):
    trainer = make_trainer(tmp_path, loss_weights={"i2t": 0.5, "i2i": 0.0}, max_steps=2, logging_steps=2)
    trainer.train()
    (entry,) = logs_of(trainer)
    assert entry["loss"] == pytest.approx(0.5 * entry["loss_i2t"] + entry["loss_t2i"], abs=2e-3)
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] == pytest.approx(0.5 * metrics["eval_loss_i2t"] + metrics["eval_loss_t2i"])
    trainer.args.loss_weights = {}
    unweighted = trainer.evaluate()
    assert unweighted["eval_loss_i2t"] == metrics["eval_loss_i2t"]
    assert unweighted["eval_loss"] > metrics["eval_loss"]


def test_a_decoder_that_no_objective_trains_is_frozen(tmp_path):
    trainer = make_trainer(tmp_path, objectives=["t2i"])
    assert not any(p.requires_grad for p in trainer.model.text_decoder.parameters())
    assert all(p.requires_grad for p in trainer.model.image_decoder.parameters())


class TrainerOfAnotherKind(ITITTrainer):
    """A subclass, as a user writes one."""


@pytest.mark.parametrize("kind", [ITITTrainer, TrainerOfAnotherKind])
def test_a_model_of_another_kind_is_refused_with_the_trainer_to_use(tmp_path, kind):
    trainer = make_trainer(tmp_path)
    config = GPT2Config(vocab_size=8, n_positions=4, n_embd=8, n_layer=1, n_head=1)
    parts = {"processing_class": trainer.processing_class, "text_encoder": trainer.text_encoder, "train_streams": {}}
    for model in (GPT2LMHeadModel(config), None):
        with pytest.raises(TypeError, match=f"got {type(model).__name__}, .*`Trainer` trains other"):
            kind(model, trainer.args, **parts)


def test_plain_training_arguments_are_refused(tmp_path):
    trainer = make_trainer(tmp_path)
    with pytest.raises(TypeError, match="`args` must be ITITTrainingArguments, .*, got TrainingArguments"):
        ITITTrainer(
            trainer.model, TrainingArguments(str(tmp_path)), trainer.processing_class, trainer.text_encoder, {}
        )


def test_held_out_pairs_by_name_and_predictions_are_refused_with_what_to_call(tmp_path):
    trainer = make_trainer(tmp_path)
    parts = {"processing_class": trainer.processing_class, "text_encoder": trainer.text_encoder, "train_streams": {}}
    with pytest.raises(TypeError, match=r"got datasets by name \['a', 'b'\]; call `evaluate\(dataset, metric_key"):
        ITITTrainer(trainer.model, trainer.args, eval_dataset={"b": None, "a": None}, **parts)
    with pytest.raises(TypeError, match=r"call `evaluate\(dataset\)` for losses, and `create_pipeline\(\)`"):
        trainer.predict(trainer.eval_dataset)


def test_a_checkpoint_without_the_average_is_refused(tmp_path):
    trainer = make_trainer(tmp_path, save_strategy="steps", save_steps=2, max_steps=2)
    trainer.train()
    averaging = make_trainer(tmp_path, ema_decay=0.9)
    with pytest.raises(ValueError, match="ema.safetensors: it is missing; `allow_partial_resume` ema"):
        averaging.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_only_the_model_is_trained(tmp_path):
    trainer = make_trainer(tmp_path)
    frozen = [*trainer.text_encoder.parameters(), *trainer.image_tokenizer.parameters()]
    before = [p.clone() for p in frozen]
    trainer.train()
    assert all(torch.equal(a, b) for a, b in zip(before, frozen, strict=True))


def test_images_of_a_batch_have_the_models_size_as_soon_as_they_are_read(tmp_path):
    rows = [{"image": PIL.Image.new("RGB", (60, 40)), "text": "a bus"} for _ in range(4)]
    trainer = make_trainer(tmp_path)
    (stream,) = trainer.streams
    stream.rows = rows
    assert stream.sample(0)["image"].size == (16, 16)


def test_a_trainer_refuses_tokens_of_another_image_tokenizer(tmp_path):
    pipe = tiny_pipeline()
    pairs = add_image_token_ids(tiny_pairs(3), pipe.processor)
    torch.nn.init.normal_(pipe.image_tokenizer.quantize.embedding.weight)
    with pytest.raises(ValueError, match="`stream paired`: its image tokens were made by another image tokenizer"):
        ITITTrainer(
            model=pipe.model,
            args=ITITTrainingArguments(output_dir=str(tmp_path), objectives=["t2i"], report_to=[], use_cpu=True),
            processing_class=pipe.processor,
            text_encoder=pipe.text_encoder,
            train_streams={"paired": pairs},
        )


def test_captions_of_held_out_pairs_are_looked_at_before_the_first_step(tmp_path):
    pipe = tiny_pipeline(**ONE_LAYER)
    pairs = add_image_token_ids(tiny_pairs(3), pipe.processor)
    held_out = pairs.remove_columns("text").add_column("text", ["a bus", None, "a fish"])
    with pytest.raises(ValueError, match="1 of 3 rows have a caption that is none: row 1"):
        ITITTrainer(
            model=pipe.model,
            args=ITITTrainingArguments(output_dir=str(tmp_path), objectives=["t2i"], report_to=[], use_cpu=True),
            processing_class=pipe.processor,
            text_encoder=pipe.text_encoder,
            train_streams={"paired": pairs},
            eval_dataset=held_out,
        )


def test_adafactor_takes_both_betas_and_the_weight_decay_from_the_arguments(tmp_path):
    trainer = make_trainer(tmp_path, optim="adafactor", adam_beta1=0.8, adam_beta2=0.9, weight_decay=0.045)
    trainer.create_optimizer()
    groups = trainer.optimizer.param_groups
    assert isinstance(trainer.optimizer, CappedAdafactor) and trainer.optimizer.beta2 == 0.9
    assert [group["weight_decay"] for group in groups] == [0.045, 0.0] and groups[0]["beta1"] == 0.8


def test_a_mean_loss_is_divided_by_the_accumulation_steps_even_if_the_model_seems_to_normalise_its_own(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.model_accepts_loss_kwargs = True  # what the Trainer concludes from a forward with `**kwargs`
    trainer.current_gradient_accumulation_steps = 4
    batch = next(iter(trainer.get_train_dataloader()))
    whole = trainer.compute_loss(trainer.model, batch).item()
    part = trainer.training_step(trainer.model, batch, num_items_in_batch=torch.tensor(7)).item()
    assert part == pytest.approx(whole / 4, rel=1e-5)


# A model that peft has wrapped


def make_peft_trainer(folder, **changes):
    pipe = tiny_pipeline()
    torch.manual_seed(5)
    config = LoraConfig(r=2, target_modules=["q_proj", "fc2"])
    wrapped = get_peft_model(pipe.model, config)
    parts = SimpleNamespace(
        model=wrapped, processor=pipe.processor, text_encoder=pipe.text_encoder, scheduler=pipe.scheduler
    )
    return make_trainer(folder, parts, **changes)


def test_adapters_alone_are_trained_in_a_model_that_peft_has_wrapped(tmp_path):
    trainer = make_peft_trainer(tmp_path, max_steps=2, **FULL_CYCLE)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    changed = [name for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])]
    assert changed and all("lora_" in name for name in changed)
    assert trainer.evaluate()["eval_loss"] > 0
    assert trainer.create_pipeline().get_list_adapters() == ["default"]


def test_a_run_of_a_wrapped_model_is_resumed_bit_by_bit(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 2, "objectives": ["i2t"]}
    whole = make_peft_trainer(tmp_path / "whole", **options)
    whole.train()
    resumed = make_peft_trainer(tmp_path / "resumed", **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert torch.equal(weights_of(resumed), weights_of(whole))


def test_muon_alone_trains_the_adapters_of_blocks(tmp_path):
    trainer = make_peft_trainer(tmp_path, muon_learning_rate=1e-2, max_steps=1)
    trainer.train()
    assert math.isfinite(losses_of(trainer)[0])
