# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from itit_hf.scheduling_itit import MASKING_SCHEDULES, ITITScheduler, sample_categorical

from .testing_utils import generators


def test_the_temperature_list_is_pinned():
    scheduler = ITITScheduler(temperature=32.0)
    scheduler.set_timesteps(4)
    assert scheduler.temperatures == [24.0, 16.0, 8.0, 0.0]


def test_the_temperature_never_compounds():
    scheduler = ITITScheduler(mask_token_id=5, temperature=32.0)
    scheduler.set_timesteps(4)
    ids = torch.full((1, 4), 5)
    for timestep in scheduler.timesteps:
        ids = scheduler.step(torch.zeros(1, 4, 5), timestep, ids, torch.tensor([4])).prev_sample
    assert scheduler.temperatures == [24.0, 16.0, 8.0, 0.0]
    scheduler.set_timesteps(4)
    assert scheduler.temperatures == [24.0, 16.0, 8.0, 0.0]


@pytest.mark.parametrize(("given", "want"), [([8.0, 2.0], [8.0, 5.0, 2.0]), ([1.0, 0.0, 4.0], [1.0, 0.0, 4.0])])
def test_a_pair_gives_both_ends_and_a_list_each_step(given, want):
    scheduler = ITITScheduler()
    scheduler.set_timesteps(3, temperature=given)
    assert scheduler.temperatures == want


@pytest.mark.parametrize("bad", [[1.0, 2.0, 3.0, 4.0, 5.0], -1.0, float("nan"), [float("inf"), 0.0]])
def test_a_temperature_that_does_not_fit_is_named(bad):
    with pytest.raises(ValueError, match="`temperature`"):
        ITITScheduler().set_timesteps(3, temperature=bad)


@pytest.mark.parametrize("bad", [0, -1, 2.5, "4"])
def test_a_number_of_steps_that_is_none_is_named(bad):
    with pytest.raises(ValueError, match="`num_inference_steps`"):
        ITITScheduler().set_timesteps(bad)


def test_the_cosine_schedule_of_the_paper():
    scheduler = ITITScheduler()
    scheduler.set_timesteps(4)
    assert [scheduler.num_masked_after(step, 256) for step in range(4)] == [
        236,
        181,
        97,
        0,
    ]  # floor(256 cos(pi s / 8))


@pytest.mark.parametrize("name", sorted(MASKING_SCHEDULES))
def test_every_schedule_falls_from_one_to_zero(name):
    values = [MASKING_SCHEDULES[name](i / 20) for i in range(21)]
    assert values[0] == pytest.approx(1) and values[-1] == pytest.approx(0)
    assert all(a > b for a, b in zip(values, values[1:], strict=False))


def test_each_step_fixes_at_least_one_token():
    scheduler = ITITScheduler()
    scheduler.set_timesteps(24)
    counts = [64] + [scheduler.num_masked_after(step, 64) for step in range(24)]
    assert all(a > b for a, b in zip(counts, counts[1:], strict=False)) and counts[-1] == 0


def test_counts_are_per_sample():
    scheduler = ITITScheduler()
    scheduler.set_timesteps(2)
    assert scheduler.num_masked_after(0, torch.tensor([100, 10, 1, 0])).tolist() == [70, 7, 0, 0]


def test_a_step_keeps_known_tokens_and_hides_the_least_confident():
    scheduler = ITITScheduler(mask_token_id=9, temperature=0.0)
    scheduler.set_timesteps(2)
    logits = torch.full((1, 4, 5), -30.0)
    logits[0, :, 1] = torch.tensor([30.0, 30.0, 30.0, -29.0])  # code 1: sure at 1 and 2, unsure at 3
    output = scheduler.step(logits, 1, torch.tensor([[3, 9, 9, 9]]), torch.tensor([2]))
    assert output.prev_sample.tolist() == [[3, 1, 1, 9]]  # floor(2 cos(pi / 4)) = 1 stays hidden
    assert output.pred_original_sample[0, :3].tolist() == [3, 1, 1] and output.pred_original_sample.max() < 5


def test_logits_at_hidden_positions_alone_give_the_same_step():
    scheduler = ITITScheduler(mask_token_id=9, temperature=1.0)
    scheduler.set_timesteps(3)
    logits, ids, count = torch.randn(1, 4, 5), torch.tensor([[3, 9, 2, 9]]), torch.tensor([4])
    everywhere = scheduler.step(logits, 2, ids, count, generator=generators(0))
    positions = torch.tensor([[1, 3]])
    hidden_only = scheduler.step(logits[:, [1, 3]], 2, ids, count, positions, generators(0))
    assert torch.equal(everywhere.prev_sample, hidden_only.prev_sample)


def test_a_timestep_that_was_not_set_is_named():
    with pytest.raises(ValueError, match="`timestep` must be one of"):
        ITITScheduler().step(torch.zeros(1, 4, 5), 0, torch.full((1, 4), 5), torch.tensor([4]))


@pytest.mark.parametrize("bad", [{"masking_schedule": "cubic"}, {"score": "logit"}])
def test_unknown_names_are_refused(bad):
    with pytest.raises(ValueError, match="must be one of"):
        ITITScheduler(**bad)


def test_categorical_samples_follow_the_softmax():
    want = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05])
    uniform = torch.rand(200_000, generator=torch.Generator().manual_seed(0))
    drawn = sample_categorical(want.log().expand(200_000, -1), uniform)
    torch.testing.assert_close(drawn.bincount(minlength=5) / 200_000, want, atol=0.004, rtol=0)


def test_an_impossible_class_is_never_drawn():
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]])
    for uniform in (0.0, 0.4999, 0.5, 0.99999994):
        assert sample_categorical(logits, torch.tensor([uniform])).item() in (1, 3)


def test_the_scheduler_round_trips(tmp_path):
    ITITScheduler(mask_token_id=7, temperature=[4.0, 1.0], masking_schedule="arccos").save_pretrained(tmp_path)
    loaded = ITITScheduler.from_pretrained(tmp_path)
    assert (loaded.config.mask_token_id, loaded.config.masking_schedule) == (7, "arccos")
    assert list(loaded.config.temperature) == [4.0, 1.0]
