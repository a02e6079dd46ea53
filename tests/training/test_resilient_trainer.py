# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import json
import logging
import os
import shutil
import signal
import threading

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from itit_hf.training.checkpointing import CheckpointError, list_checkpoints
from itit_hf.training.resilient_trainer import StopSignals
from itit_hf.training.trainer import ITITTrainer

from ..reliability.harness import contents, make_trainer
from ..reliability.test_numbers import spoil_loss


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    make_trainer(folder, stop_after=2, hub_token="hf_secretsecret").train()
    return folder


@pytest.fixture
def log(caplog):
    logging.getLogger("itit_hf").propagate = True
    return caplog


def test_a_checkpoint_holds_safetensors_json_and_the_chat_template_alone(run):
    names = [path.name for path in (run / "checkpoint-2").rglob("*") if path.is_file()]
    assert {name.rpartition(".")[2] for name in names} <= {"safetensors", "json", "jinja"}
    assert {"optimizer.safetensors", "scheduler.safetensors", "ema.safetensors", "rng_state-0.safetensors"} <= set(
        names
    )


def test_the_settings_are_saved_without_the_token(run):
    text = (run / "checkpoint-2" / "training_args.json").read_text()
    assert "secretsecret" not in text and json.loads(text)["learning_rate"] == 1e-2


def test_no_checkpoint_is_a_start_for_last_and_an_error_for_true(tmp_path):
    trainer = make_trainer(tmp_path, stop_after=1)
    with pytest.raises(CheckpointError, match="no checkpoint of .* verifies: there is none"):
        trainer.train(resume_from_checkpoint=True)
    trainer.train(resume_from_checkpoint="last")
    assert trainer.state.global_step == 1


def test_a_part_that_is_gone_needs_its_name_in_allow_partial_resume(run, tmp_path, log):
    folder = shutil.copytree(run, tmp_path / "run")
    os.remove(folder / "checkpoint-2" / "optimizer.safetensors")
    checkpoint = str(folder / "checkpoint-2")
    with pytest.raises(CheckpointError, match="optimizer.safetensors: it is missing"):
        make_trainer(folder, stop_after=3).train(resume_from_checkpoint=checkpoint)
    trainer = make_trainer(folder, stop_after=3, allow_partial_resume=["optimizer"])
    trainer.train(resume_from_checkpoint=checkpoint)
    assert trainer.state.global_step == 3 and "resuming without `optimizer`" in log.text
    assert contents(folder / "checkpoint-3")["optimizer.safetensors"]


def test_weights_without_state_name_what_they_lack(tmp_path):
    make_trainer(tmp_path, stop_after=1, save_only_model=True, ema_decay=0.0).train()
    with pytest.raises(
        CheckpointError, match="optimizer.safetensors: it is missing; `allow_partial_resume` optimizer"
    ):
        make_trainer(tmp_path, ema_decay=0.0).train(resume_from_checkpoint=True)


def test_weights_of_another_model_are_one_clear_error(run, tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.model.image_decoder.head_bias = torch.nn.Parameter(torch.zeros(7))
    with pytest.raises(CheckpointError, match="its weights are of another model"):
        trainer._load_from_checkpoint(str(run / "checkpoint-2"))


def test_other_data_are_said(run, tmp_path, log):
    folder = shutil.copytree(run, tmp_path / "run")
    trainer = make_trainer(folder, stop_after=3, per_device_train_batch_size=3)
    trainer.train(resume_from_checkpoint="last")
    assert "was trained on other data" in log.text and "{'paired': 4}, {'paired': 6}" in log.text


def test_a_new_run_in_an_old_folder_is_warned(run, tmp_path, log):
    trainer = make_trainer(run)
    trainer._choose_checkpoint(None)
    assert "holds checkpoints of an earlier run" in log.text


@pytest.mark.parametrize(
    "changes",
    [{"objectives": ["i2t", "t2i"]}, {"optim": "sgd"}, {"muon_learning_rate": 0.1}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_run_goes_on_with_its_own_objectives_and_optimizer_only(run, tmp_path, changes):
    (name,) = changes
    with pytest.raises(CheckpointError, match=f"`{name}` must be what the checkpoint was trained with"):
        make_trainer(tmp_path, **changes).train(resume_from_checkpoint=str(run / "checkpoint-2"))


def test_the_order_of_the_objectives_may_change(run, tmp_path):
    trainer = make_trainer(tmp_path, stop_after=3, objectives=["i2i", "i2t", "t2i"], save_strategy="no")
    trainer.train(resume_from_checkpoint=str(run / "checkpoint-2"))
    assert trainer.state.global_step == 3


@pytest.mark.parametrize("word", ["latest", "True", "LAST"])
def test_words_for_the_newest_checkpoint_mean_it(run, word):
    assert make_trainer(run)._choose_checkpoint(word) == str(run / "checkpoint-2")


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="`resume_from_checkpoint`: there is no folder newest"):
        make_trainer(tmp_path)._choose_checkpoint("newest")


def test_a_new_rate_holds_from_the_first_update_of_a_resumed_run_on(run, tmp_path, log):
    changes = {"learning_rate": 0.04, "weight_decay": 0.5, "max_steps": 16, "save_strategy": "no"}
    trainer = make_trainer(tmp_path, stop_after=4, **changes)
    trainer.train(resume_from_checkpoint=str(run / "checkpoint-2"))
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry]
    assert rates[2:] == pytest.approx([0.02, 0.03])  # after 2 and after 3 of 4 steps of warm-up
    assert {group["weight_decay"] for group in trainer.optimizer.param_groups} == {0.5, 0.0}
    assert "the new ones hold from here on: `learning_rate` was 0.01, is 0.04, `weight_decay` was" in log.text
    assert "`max_steps` was 30, is 16" in log.text


def test_a_run_that_goes_on_as_it_was_is_not_warned(run, tmp_path, log):
    trainer = make_trainer(tmp_path, stop_after=3, save_strategy="no")
    trainer.train(resume_from_checkpoint=str(run / "checkpoint-2"))
    assert "the new ones hold" not in log.text


def test_a_schedule_that_follows_the_losses_keeps_the_rate_it_came_to(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.create_optimizer_and_scheduler(num_training_steps=3)
    trainer.lr_scheduler = ReduceLROnPlateau(trainer.optimizer)
    own = [{"weight_decay": 0.5} for _ in trainer.optimizer.param_groups]
    with pytest.raises(CheckpointError, match="`learning_rate` must be that of the checkpoint with"):
        trainer._take_new_rates("checkpoint-2", own, {"learning_rate": (0.1, 0.2)})


def test_deepspeed_is_refused(tmp_path, monkeypatch):
    prepare = ITITTrainer.create_accelerator_and_postprocess

    def enable(self):
        prepare(self)
        self.is_deepspeed_enabled = True

    monkeypatch.setattr(ITITTrainer, "create_accelerator_and_postprocess", enable)
    with pytest.raises(ValueError, match="`deepspeed`: it is not supported, .*fsdp2.yaml"):
        make_trainer(tmp_path)


def test_the_number_of_checkpoints_is_kept(tmp_path):
    make_trainer(tmp_path, stop_after=4, save_total_limit=2).train()
    assert [os.path.basename(folder) for folder in list_checkpoints(str(tmp_path))] == ["checkpoint-4", "checkpoint-3"]


def test_only_skips_in_a_row_end_the_training(tmp_path):
    trainer = make_trainer(tmp_path, stop_after=5, max_skipped_steps=1, save_strategy="no")
    spoil_loss(trainer, float("nan"), lambda trainer: trainer.state.global_step + 1 in (2, 4))
    trainer.train()
    assert trainer.num_skipped == 2 and trainer.state.log_history[-2]["skipped/updates"] == 2
    assert [entry["step"] for entry in json.loads((tmp_path / "bad_batch.json").read_text())] == [2, 4]


def test_an_update_that_is_left_out_changes_no_weight(tmp_path):
    trainer = make_trainer(tmp_path, stop_after=1, save_strategy="no")
    before = [p.clone() for p in trainer.model.parameters()]
    spoil_loss(trainer, float("inf"), lambda trainer: True)
    trainer.train()
    assert all(torch.equal(p, old) for p, old in zip(trainer.model.parameters(), before, strict=True))


def test_broken_weights_are_neither_saved_nor_exported(tmp_path):
    trainer = make_trainer(tmp_path)
    with torch.no_grad():
        next(iter(trainer.model.parameters())).view(-1)[0] = float("nan")
    for save in (trainer.save_model, lambda: trainer.save_pipeline(str(tmp_path / "pipeline"))):
        with pytest.raises(FloatingPointError, match="is not finite, so nothing is saved"):
            save()
    assert not (tmp_path / "pipeline").exists()


def test_a_failure_in_another_process_is_a_failure_here(tmp_path, monkeypatch):
    monkeypatch.setattr("itit_hf.training.resilient_trainer.gather_object", lambda own: [*own, "OSError: no"])
    with pytest.raises(RuntimeError, match="process 1 could not save: OSError: no"):
        make_trainer(tmp_path)._run_on_all_ranks(lambda: None)


def test_a_signal_asks_once_and_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    signals = StopSignals()
    with signals:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # passed on by a launcher: the same one
        assert signals.received == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGINT)
            assert signals.received is None and signal.getsignal(signal.SIGTERM) == signals._on_signal
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_the_main_thread_there_are_no_handlers():
    found = []

    def enter():
        with StopSignals() as signals:
            found.append(signals._previous)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [{}]


def test_a_stop_is_left_out_of_what_is_saved(tmp_path):
    trainer = make_trainer(tmp_path / "stopped", save_strategy="no")
    trainer.before_micro_batch = lambda trainer: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        trainer.train()
    assert stopped.value.code == 128 + signal.SIGTERM
    state = json.loads((tmp_path / "stopped" / "checkpoint-1" / "trainer_state.json").read_text())
    assert state["stateful_callbacks"]["TrainerControl"]["args"]["should_training_stop"] is False
