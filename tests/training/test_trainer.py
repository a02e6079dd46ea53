# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import math
import os
from types import SimpleNamespace

import PIL.Image
import pytest
import torch
from datasets import Dataset, Image
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, TrainingArguments

from itit_hf import ITITPipeline, ITITTrainingArguments
from itit_hf.data.image_tokens import add_image_token_ids
from itit_hf.objectives.losses import code_neighbours
from itit_hf.objectives.objectives import ITITObjectives
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
    for ours, theirs in zip(resumed.ema.shadow_params, whole.ema.shadow_params, strict=True):
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


def test_evaluation_covers_the_cycles_too(tmp_path):
    metrics = make_trainer(tmp_path, **FULL_CYCLE).evaluate()
    assert math.isfinite(metrics["eval_loss_t2i2t"]) and math.isfinite(metrics["eval_loss_i2t2i"])


def logs_of(trainer):
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def test_what_is_synthesised_and_predicted_is_logged_by_name(tmp_path):
    trainer = make_trainer(tmp_path, logging_steps=2, max_steps=2, **FULL_CYCLE)
    trainer.train()
    (entry,) = logs_of(trainer)
    assert 0.0 < entry["synthesis/t2i2t/code_usage"] <= 1.0
    assert 0.0 < entry["synthesis/t2i2t/code_entropy"] <= math.log(23)
    assert entry["synthesis/t2i2t/one_colour_images"] == 0.0
    assert {"identical_captions", "distinct_1", "distinct_2", "endless_captions"} <= {
        name.removeprefix("synthesis/i2t2i/") for name in entry
    }
    buckets = {name.split("/")[1] for name in entry if name.startswith("cross_entropy/")}
    assert buckets == {"t2i", "i2i", "i2t2i"}
    assert not any(name.startswith("gradient_") for name in entry)


def test_the_monitor_looks_closely_on_logged_steps_alone(tmp_path):
    trainer = make_trainer(tmp_path, logging_steps=3, logging_first_step=True, max_steps=6)
    active, objectives = [], trainer.objectives
    trainer.objectives.text_to_image = lambda *args: (
        active.append(objectives.monitor.active) or ITITObjectives.text_to_image(objectives, *args)
    )
    trainer.train()
    assert active == [True, False, True, False, False, True]


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


def test_gradient_norms_of_sharded_weights_are_refused(tmp_path, monkeypatch):
    prepare = ITITTrainer.create_accelerator_and_postprocess

    def shard(self):
        prepare(self)
        self.is_fsdp_enabled = True

    monkeypatch.setattr(ITITTrainer, "create_accelerator_and_postprocess", shard)
    with pytest.raises(ValueError, match="`gradient_norm_steps` must be 0 when FSDP shards, got 5"):
        make_trainer(tmp_path, gradient_norm_steps=5)


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


def test_alarms_name_the_step_once_the_warm_up_is_over(tmp_path, caplog):
    trainer = make_trainer(tmp_path, max_steps=3, warmup_steps=2)
    trainer.objectives.monitor.pop = lambda reduce: {"synthesis/t2i2t/code_entropy": 0.25}
    trainer.train()
    (message,) = [record.getMessage() for record in caplog.records if "synthesis" in record.getMessage()]
    assert message.startswith("step 3: `synthesis/t2i2t/code_entropy` is 0.25, below 1: images have collapsed")


def test_evaluation_does_not_touch_what_the_training_keeps(tmp_path):
    trainer = make_trainer(tmp_path, **FULL_CYCLE, synthesis_replay=2, max_steps=1, logging_steps=2)
    trainer.train()
    before = {name: value.clone() for name, value in trainer.objectives.replay.state_dict().items()}
    metrics = trainer.evaluate()
    after = trainer.objectives.replay.state_dict()
    assert before and before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert metrics["eval_synthesis/t2i2t/code_usage"] > 0.0
    drawn = trainer.objectives.monitor._ratios[trainer.objectives.names.index("t2i2t"), 0, 1]
    assert drawn == 4  # the images of the one training step


def test_a_panel_per_cycle_is_drawn_with_the_samples(tmp_path):
    trainer = make_trainer(tmp_path, sample_steps=2, max_steps=2, **FULL_CYCLE)
    trainer.train()
    assert sorted(os.listdir(tmp_path / "samples")) == [
        "step-0000002-i2t2i.png", "step-0000002-t2i2t.png", "step-0000002.png"
    ]  # fmt: skip
    with PIL.Image.open(tmp_path / "samples" / "step-0000002-i2t2i.png") as panel:
        assert panel.size == (3 * 168 + 8, 4 * 202 + 8)  # image, caption, image; four samples


def test_the_parts_of_a_cycle_are_shown_as_images_and_as_text_without_its_padding(tmp_path):
    trainer = make_trainer(tmp_path)
    ids = trainer.processing_class(text=["a red bus", "fish"], return_tensors="pt")
    ids["input_ids"][1, -1] = ids["input_ids"][0, 0]  # what stands behind the end does not count
    assert trainer._cells(dict(ids)) == ["a red bus", "fish"]
    (image,) = trainer._cells(torch.zeros(1, 16, dtype=torch.long))
    assert image.size == (16, 16)


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


def test_a_checkpoint_without_the_average_is_refused(tmp_path):
    trainer = make_trainer(tmp_path, save_strategy="steps", save_steps=2, max_steps=2)
    trainer.train()
    averaging = make_trainer(tmp_path, ema_decay=0.9)
    with pytest.raises(ValueError, match="ema.safetensors: it is missing; `allow_partial_resume` ema"):
        averaging.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_the_average_is_used_for_evaluation_and_then_put_away(tmp_path):
    trainer = make_trainer(tmp_path, ema_decay=0.9)
    trainer.train()
    before = weights_of(trainer)
    with trainer.averaged_weights():
        averaged = weights_of(trainer)
    assert torch.equal(weights_of(trainer), before) and not torch.equal(averaged, before)
    torch.testing.assert_close(averaged, torch.cat([p.flatten() for p in trainer.ema.shadow_params]))


def test_evaluation_gives_the_same_numbers_for_any_batch_size(tmp_path):
    pipe = tiny_pipeline(**ONE_LAYER)
    one, four = (make_trainer(tmp_path, pipe, per_device_eval_batch_size=size).evaluate() for size in (1, 4))
    assert set(one) >= {"eval_loss", "eval_loss_i2t", "eval_loss_t2i", "eval_loss_i2i"}
    assert one["eval_loss"] == pytest.approx(four["eval_loss"], abs=1e-5)


def test_the_null_text_is_the_text_encoders_feature_of_the_empty_text(tmp_path):
    pipe = tiny_pipeline(**ONE_LAYER)
    make_trainer(tmp_path, pipe)
    embeds, _ = pipe.encode_prompt("")
    assert embeds.shape == (1, 1, 10)
    torch.testing.assert_close(pipe.model.model.null_text_embeds, embeds)


def test_only_the_model_is_trained(tmp_path):
    trainer = make_trainer(tmp_path)
    frozen = [*trainer.text_encoder.parameters(), *trainer.image_tokenizer.parameters()]
    before = [p.clone() for p in frozen]
    trainer.train()
    assert all(torch.equal(a, b) for a, b in zip(before, frozen, strict=True))


def test_samples_are_drawn_and_the_pipeline_is_saved(tmp_path):
    trainer = make_trainer(tmp_path, sample_steps=2, sample_prompts=["a red bus"], sample_inference_steps=2)
    trainer.train()
    assert sorted(os.listdir(tmp_path / "samples")) == ["step-0000002.png", "step-0000004.png"]
    trainer.save_pipeline(str(tmp_path / "pipeline"), {"licence": "cc0-1.0"})
    card = (tmp_path / "pipeline" / "README.md").read_text()
    assert "cc0-1.0" in card and "24" in card
    assert len(ITITPipeline.from_pretrained(tmp_path / "pipeline")("a red bus", num_inference_steps=2).images) == 1


def test_samples_are_drawn_of_held_out_captions_unless_others_are_given(tmp_path):
    trainer = make_trainer(tmp_path)
    assert trainer.sample_prompts() == ["a red bus", "a blue bus", "a green bus"]  # each once
    trainer.eval_dataset = None
    trainer.streams[0].rows = [{"text": "a tree"}, {"text": ["", "fish"]}]
    assert trainer.sample_prompts() == ["a tree", "fish"]
    assert make_trainer(tmp_path, sample_prompts=["a bus"]).sample_prompts() == ["a bus"]
    assert make_trainer(tmp_path, sample_prompts=[]).sample_prompts() == []


def test_held_out_images_that_cannot_be_read_are_left_out_if_bad_images_are(tmp_path):
    rows = tiny_pairs(6).cast_column("image", Image(decode=False)).to_list()
    rows[0]["image"] = {"bytes": b"<html>", "path": None}
    held_out = Dataset.from_list(rows)
    trainer = make_trainer(tmp_path, on_bad_image="skip")
    trainer.eval_dataset = held_out
    assert len(trainer._first_eval_images()) == 5 and trainer.evaluate()["eval_loss"] > 0
    trainer.args.on_bad_image = "raise"
    with pytest.raises(ValueError, match="row 0 of the evaluation: it cannot be read"):
        trainer._first_eval_images()
    with pytest.raises(ValueError, match="it cannot be read"):
        trainer.evaluate()


def test_images_of_a_batch_have_the_models_size_as_soon_as_they_are_read(tmp_path):
    rows = [{"image": PIL.Image.new("RGB", (60, 40)), "text": "a bus"} for _ in range(4)]
    trainer = make_trainer(tmp_path)
    (stream,) = trainer.streams
    stream.rows = rows
    assert stream.sample(0)["image"].size == (16, 16)


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
