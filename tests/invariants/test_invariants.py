# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What must not change a run: how a batch is cut into micro-batches, and interruptions."""

import pytest
import torch

from ..testing_utils import tiny_pipeline
from ..training.test_trainer import DROPOUT
from ..training_utils import FULL_CYCLE, losses_of, make_trainer, weights_of


def train_and_watch(folder, batch_size, accumulation):
    """A trainer after two updates of eight samples of each stream; the losses of each update by name; the masks."""
    # Adam would blow up rounding in gradients near zero. With a share of the pairs, the front and the back of each
    # micro-batch would be other samples than those of the whole batch.
    options = FULL_CYCLE | {"optim": "sgd", "learning_rate": 0.02, "max_steps": 2}
    options |= {"per_device_train_batch_size": batch_size, "gradient_accumulation_steps": accumulation}
    trainer = make_trainer(folder, **options)
    losses, masks, compute, draw = [], {}, trainer.compute_loss, trainer.objectives.draw_mask

    def compute_and_keep(model, inputs, num_items_in_batch=None):
        loss, named = compute(model, inputs, return_outputs=True)
        losses.append(torch.stack([value.detach() for value in named.values()]))
        return loss

    def draw_and_keep(part, name, ratio):
        masked = draw(part, name, ratio)
        for position, mask in zip(part["sample_index"].tolist(), masked.bool_masked_pos, strict=True):
            masks[name, position] = mask.tolist()
        return masked

    trainer.compute_loss, trainer.objectives.draw_mask = compute_and_keep, draw_and_keep
    trainer.train()
    return trainer, torch.stack(losses).unflatten(0, (2, accumulation)).mean(dim=1), masks


@pytest.fixture(scope="module")
def in_one_piece(tmp_path_factory):
    return train_and_watch(tmp_path_factory.mktemp("whole"), 8, 1)


@pytest.mark.parametrize(("batch_size", "accumulation"), [(1, 8), (2, 4)])
def test_accumulation_changes_nothing_in_the_full_cycle(tmp_path, in_one_piece, batch_size, accumulation):
    whole, whole_losses, whole_masks = in_one_piece
    parts, losses, masks = train_and_watch(tmp_path, batch_size, accumulation)
    assert len(masks) == 16 * 6  # those of t2i and i2t, which i2i shares, and two of each cycle
    assert masks == whole_masks
    torch.testing.assert_close(losses, whole_losses, atol=1e-5, rtol=0.0)
    torch.testing.assert_close(weights_of(parts), weights_of(whole), atol=1e-5, rtol=1e-4)


def interruptible(folder):
    """Everything that has a state: dropout, momentum, averaged weights, three streams, samples kept for replay."""
    options = FULL_CYCLE | {"save_strategy": "steps", "save_steps": 1, "ema_decay": 0.9, "synthesis_replay": 2}
    options |= {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "per_device_text_batch_size": 1}
    return make_trainer(folder, tiny_pipeline(**DROPOUT), **options)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    trainer = interruptible(tmp_path_factory.mktemp("uninterrupted"))
    trainer.train()
    return trainer


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_run_that_stopped_after_any_step_goes_on_bit_identically(tmp_path, uninterrupted, step):
    resumed = interruptible(tmp_path)
    resumed.train(resume_from_checkpoint=f"{uninterrupted.args.output_dir}/checkpoint-{step}")
    assert torch.equal(weights_of(resumed), weights_of(uninterrupted))
    assert losses_of(resumed) == losses_of(uninterrupted)
    for ours, theirs in zip(resumed.ema.average.shadow_params, uninterrupted.ema.average.shadow_params, strict=True):
        assert torch.equal(ours, theirs)
    ours, theirs = (trainer.optimizer.state_dict()["state"] for trainer in (resumed, uninterrupted))
    assert ours.keys() == theirs.keys()
    for key, state in theirs.items():
        assert all(torch.equal(ours[key][name], value) for name, value in state.items())
