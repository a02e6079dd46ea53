# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from itit_hf.decoding.scheduling_itit import (
    DECODING_ORDERS,
    MASKING_SCHEDULES,
    ITITScheduler,
    halton_order,
    num_beyond_bound,
)
from itit_hf.rng import sample_categorical

from ..testing_utils import generators


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


def first_step(logits, temperature=1.0):
    """All tokens drawn, and which of them are hidden again, after the first of two steps."""
    scheduler = ITITScheduler(mask_token_id=logits.size(-1), temperature=temperature)
    scheduler.set_timesteps(2)
    batch_size, num_tokens, codes = logits.shape
    ids, count = torch.full((batch_size, num_tokens), codes), torch.full((batch_size,), num_tokens)
    step = scheduler.step(logits, 1, ids, count, generator=torch.Generator().manual_seed(0))
    return step.pred_original_sample, step.prev_sample == codes


def test_which_tokens_stay_hidden_does_not_depend_on_what_was_drawn_where_all_is_alike():
    drawn, hidden = first_step(torch.zeros(4, 1024, 100))
    means = drawn[hidden].double().mean(), drawn[~hidden].double().mean()
    assert abs(means[0] - means[1]) < 4  # of codes from 0 to 99; 100 / 12**0.5 / 1200**0.5 is 0.8


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_numbers_draw_what_float32_draws(dtype):
    logits = torch.randn(2, 256, 100, generator=torch.Generator().manual_seed(1)).to(dtype)
    for short, whole in zip(first_step(logits), first_step(logits.float()), strict=True):
        assert torch.equal(short, whole)


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


@pytest.mark.parametrize("schedule", sorted(MASKING_SCHEDULES))
def test_counts_of_a_batch_are_those_of_each_number(schedule):
    scheduler, numbers = ITITScheduler(masking_schedule=schedule), list(range(300))
    scheduler.set_timesteps(9, strength=0.8)
    for step in range(scheduler.first_step, 9):
        counts = scheduler.num_masked_after(step, torch.tensor(numbers))
        assert counts.dtype == torch.long and counts.tolist() == [scheduler.num_masked_after(step, n) for n in numbers]
    started = scheduler.num_masked_at_start(torch.tensor(numbers))
    assert started.tolist() == [scheduler.num_masked_at_start(n) for n in numbers]
    assert scheduler.num_masked_after(5, torch.tensor([], dtype=torch.long)).shape == (0,)


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


@pytest.mark.parametrize("bad", [{"masking_schedule": "cubic"}, {"score": "logit"}, {"decoding_order": "raster"}])
def test_unknown_names_are_refused(bad):
    with pytest.raises(ValueError, match="must be one of"):
        ITITScheduler(**bad)


def test_categorical_samples_follow_the_probabilities():
    want = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05])
    uniform = torch.rand(200_000, generator=torch.Generator().manual_seed(0))
    drawn = sample_categorical(want.expand(200_000, -1), uniform)
    torch.testing.assert_close(drawn.bincount(minlength=5) / 200_000, want, atol=0.004, rtol=0)


def test_an_impossible_class_is_never_drawn():
    probs = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]])
    for uniform in (0.0, 0.4999, 0.5, 0.99999994):
        assert sample_categorical(probs, torch.tensor([uniform])).item() in (1, 3)


def test_the_scheduler_round_trips(tmp_path):
    scheduler = ITITScheduler(7, masking_schedule="arccos", temperature=[4.0, 1.0], decoding_order="remasking")
    scheduler.save_pretrained(tmp_path)
    loaded = ITITScheduler.from_pretrained(tmp_path)
    assert loaded.config.decoding_order == "remasking"
    assert (loaded.config.mask_token_id, loaded.config.masking_schedule) == (7, "arccos")
    assert list(loaded.config.temperature) == [4.0, 1.0]


# Orders


def decode(scheduler, ids, seeds, steps=6, codes=5):
    """All ids on the way, one tensor per step; the logits are noise that depends on the sample and the step alone."""
    scheduler.set_timesteps(steps)
    num_masked = (ids == scheduler.config.mask_token_id).sum(dim=-1)
    noise, seen = generators(*(1000 + seed for seed in seeds)), [ids]
    draws = generators(*seeds)
    for timestep in scheduler.timesteps:
        logits = torch.stack([3 * torch.randn(ids.size(1), codes, generator=g) for g in noise])
        seen.append(scheduler.step(logits, timestep, seen[-1], num_masked, generator=draws).prev_sample)
    return seen


def in_order(name, **changes):
    return ITITScheduler(mask_token_id=9, decoding_order=name, **({"temperature": 1.0} | changes))


@pytest.fixture
def half_given():
    ids = torch.full((2, 16), 9)
    ids[0, ::2], ids[1, :3] = torch.arange(8) % 5, 4
    return ids


@pytest.mark.parametrize("name", DECODING_ORDERS)
def test_every_order_hides_as_many_as_documented_and_leaves_given_ids(name, half_given):
    scheduler = in_order(name)
    seen = decode(scheduler, half_given, (1, 2))
    counts = torch.tensor([8, 13])
    for step, ids in enumerate(seen[1:]):
        masked, want = (ids == 9).sum(dim=-1), scheduler.num_masked_after(step, counts)
        assert (masked <= want).all() if name == "entropy" else torch.equal(masked, want)
        assert torch.equal(ids[half_given != 9], half_given[half_given != 9])
    assert seen[-1].max() < 5


@pytest.mark.parametrize("name", DECODING_ORDERS)
def test_every_order_treats_a_sample_as_if_it_were_alone(name, half_given):
    together = decode(in_order(name), half_given, (1, 2))[-1]
    for row in range(2):
        assert torch.equal(together[[row]], decode(in_order(name), half_given[[row]], (1 + row,))[-1])


@pytest.mark.parametrize(("name", "again"), [("confidence", False), ("random", False), ("remasking", True)])
def test_remasking_alone_hides_what_was_fixed(name, again):
    seen = decode(in_order(name), torch.full((4, 16), 9), range(4))
    hidden_again = [((before != 9) & (after == 9)).any() for before, after in zip(seen, seen[1:], strict=False)]
    assert any(hidden_again) == again


def choices(*counts):
    """Logits with so many equally likely codes at each token: the score is -log(count), whichever is drawn."""
    return torch.tensor([[0.0] * count + [-1e4] * (5 - count) for count in counts])[None]


def test_remasking_holds_the_score_at_drawing_against_those_of_later_steps():
    scheduler, counts = in_order("remasking", temperature=0.0), torch.tensor([4])
    scheduler.set_timesteps(3)
    first = scheduler.step(choices(3, 2, 4, 5, 5), 2, torch.tensor([[9, 9, 9, 9, 3]]), counts).prev_sample
    assert (first == 9)[0].tolist() == [True, False, True, True, False]  # floor(4 cos(pi / 6)) = 3; the last is given
    second = scheduler.step(choices(1, 1, 1, 3, 5), 1, first, counts).prev_sample
    assert (second == 9)[0].tolist() == [False, True, False, True, False]  # 2 choices then are less sure than 1 now
    last = scheduler.step(choices(1, 1, 1, 1, 5), 0, second, counts).prev_sample
    assert last.tolist() == [[0, 0, 0, 0, 3]]


def test_remasking_leaves_what_a_caller_gave_between_two_steps():
    scheduler, counts = in_order("remasking", temperature=0.0), torch.tensor([4])
    scheduler.set_timesteps(3)
    first = scheduler.step(choices(5, 2, 3, 3), 2, torch.full((1, 4), 9), counts).prev_sample
    first[0, 0] = 4  # the least sure one, hidden
    second = scheduler.step(choices(5, 1, 1, 1), 1, first, counts).prev_sample
    assert second[0, 0] == 4 and (second == 9).sum() == 2


def test_remasking_leaves_what_a_caller_put_in_place_of_a_drawn_token():
    scheduler, counts = in_order("remasking", temperature=0.0), torch.tensor([4])
    scheduler.set_timesteps(3)
    first = scheduler.step(choices(5, 2, 5, 5), 2, torch.full((1, 4), 9), counts).prev_sample
    assert (first == 9)[0].tolist() == [True, False, True, True]
    first[0, 1] = 4
    second = scheduler.step(choices(1, 1, 1, 1), 1, first, counts).prev_sample  # all surer than the second was
    assert second[0, 1] == 4 and (second == 9).sum() == 2


def test_remasking_starts_at_the_first_step():
    scheduler = in_order("remasking")
    scheduler.set_timesteps(3)
    with pytest.raises(ValueError, match="first of `timesteps`"):
        scheduler.step(torch.zeros(1, 4, 5), 1, torch.full((1, 4), 9), torch.tensor([4]))


# As many tokens in a step as their entropies allow


def test_a_step_is_full_when_entropies_less_the_largest_exceed_the_bound():
    # 0, 0, 0.1, 0.3, 0.6 over the bound of 0.3 - 1: the sums 0.1, 0.3, 0.6, 1.2 less the largest so far.
    entropies = torch.tensor([[0.0, 0.1, 0.2, 0.3, 0.6], [0.0, 0.0, 2.0, 2.0, 2.0]])
    for bound, want in ((0.0, [3, 2]), (0.1, [2, 2]), (0.3, [1, 2]), (0.6, [0, 2]), (2.0, [0, 1]), (4.0, [0, 0])):
        assert num_beyond_bound(entropies, bound + 1e-6).tolist() == want


def test_the_surest_tokens_are_fixed_as_long_as_the_bound_allows():
    scheduler = in_order("entropy", temperature=0.0, entropy_bound=0.7)  # log(2) is 0.693
    scheduler.set_timesteps(6)
    ids = torch.full((1, 6), 9)
    first = scheduler.step(choices(2, 5, 1, 2, 4, 1), 5, ids, torch.tensor([6])).prev_sample
    assert (first == 9)[0].tolist() == [False, True, False, False, True, False]  # 0 + 0 + 0.693 and one largest
    second = scheduler.step(choices(5, 2, 5, 5, 1, 5), 4, first, torch.tensor([6])).prev_sample
    assert not (second == 9).any()
    assert torch.equal(second[first != 9], first[first != 9])


def test_the_entropy_of_what_is_fixed_already_does_not_count():
    scheduler = in_order("entropy", temperature=0.0, entropy_bound=0.7)
    scheduler.set_timesteps(6)
    ids = torch.tensor([[3, 9, 3, 3, 9, 9]])
    after = scheduler.step(choices(5, 2, 5, 5, 2, 5), 5, ids, torch.tensor([3])).prev_sample
    assert (after == 9)[0].tolist() == [False, False, False, False, False, True]


def test_at_a_bound_of_zero_the_schedule_says_how_many():
    ids = torch.full((3, 16), 9)
    seen = decode(in_order("entropy", entropy_bound=0.0), ids, (1, 2, 3))
    plain = decode(in_order("confidence"), ids, (1, 2, 3))
    assert [(x == 9).sum(dim=-1).tolist() for x in seen] == [(x == 9).sum(dim=-1).tolist() for x in plain]


def test_above_every_entropy_all_is_done_in_one_step():
    assert not (decode(in_order("entropy", entropy_bound=100.0), torch.full((2, 16), 9), (1, 2))[1] == 9).any()


def masked_by_hand(logits, ids, num_to_mask: int, bound: float):
    """Which tokens of one sample stay masked, without noise: a token at a time, in Python's numbers."""
    entropies = {}
    for i, row in enumerate(logits.tolist()):
        if ids[i] == 9:
            largest = max(row)
            weights = [math.exp(x - largest) for x in row]
            probs = [weight / sum(weights) for weight in weights]
            entropies[i] = -sum(p * math.log(p) for p in probs if p > 0)
    surest_first = sorted(entropies, key=entropies.get)
    taken = []
    for i in surest_first:
        values = [entropies[j] for j in [*taken, i]]
        is_due = len(surest_first) - len(taken) > num_to_mask
        if sum(values) - max(values) <= bound or is_due:
            taken.append(i)
        else:
            break
    return [i for i in range(len(ids)) if i in entropies and i not in taken]


@pytest.mark.parametrize("bound", [0.0, 0.3, 1.0, 3.0])
def test_each_step_is_that_of_a_reference_by_hand(bound):
    scheduler = in_order("entropy", temperature=0.0, entropy_bound=bound)
    scheduler.set_timesteps(5)
    noise = torch.Generator().manual_seed(0)
    ids = torch.full((4, 16), 9)
    counts = torch.full((4,), 16)
    for step, timestep in enumerate(scheduler.timesteps):
        logits = 2 * torch.randn(4, 16, 5, generator=noise)
        after = scheduler.step(logits, timestep, ids, counts).prev_sample
        for row in range(4):
            by_hand = masked_by_hand(logits[row], ids[row].tolist(), scheduler.num_masked_after(step, 16), bound)
            assert (after[row] == 9).nonzero().flatten().tolist() == by_hand
        ids = after
    assert not (ids == 9).any()


@pytest.mark.parametrize("bad", [-0.1, float("nan"), float("inf")])
def test_an_entropy_bound_that_cannot_be_is_named(bad):
    with pytest.raises(ValueError, match="`entropy_bound` must be finite and at least 0"):
        ITITScheduler(entropy_bound=bad)


def test_the_halton_sequence_of_bases_2_and_3_by_hand():
    # Rows 1/2, 1/4, 3/4, 1/8, 5/8 of 4 are 2, 1, 3, 0, 2; columns 1/3, 2/3, 1/9, 4/9, 7/9 of 4 are 1, 2, 0, 1, 3.
    assert halton_order(4, 4)[:5] == (9, 6, 12, 1, 11)


def test_the_halton_sequence_of_a_wide_grid_by_hand():
    # Rows 1/2, 1/4, 3/4, 1/8, 5/8 of 2 are 1, 0, 1, 0, 1; columns 1/3, 2/3, 1/9, 4/9, 7/9 of 6 are 2, 4, 0, 2, 4.
    assert halton_order(2, 6)[:4] == (8, 4, 6, 2)


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (3, 3), (8, 8), (9, 9), (16, 16), (8, 12), (12, 8), (1, 5)])
def test_the_halton_order_visits_each_token_once(grid):
    assert sorted(halton_order(*grid)) == list(range(grid[0] * grid[1]))


def test_the_halton_order_is_spread_at_any_time():
    early = torch.zeros(256).index_fill(0, torch.tensor(halton_order(16, 16)[:64]), 1.0).view(4, 4, 4, 4)
    assert set(early.sum(dim=(1, 3)).flatten().tolist()) <= {3.0, 4.0, 5.0}  # of 64 tokens in 16 blocks


def test_the_halton_order_is_followed_whatever_the_scores():
    seen = decode(in_order("halton", temperature=32.0), torch.full((2, 16), 9), (1, 2))
    for ids in seen[1:]:
        shown = (ids != 9).sum(dim=-1)
        assert shown[0] == shown[1] and (ids[:, halton_order(4, 4)[: shown[0]]] != 9).all()


@pytest.mark.parametrize("grid", [(2, 6), (6, 2), (3, 4)])
def test_the_halton_order_is_that_of_the_grid(grid):
    scheduler = in_order("halton")
    scheduler.set_timesteps(2)
    masked = torch.full((1, 12), 9)
    ids = scheduler.step(torch.zeros(1, 12, 5), 1, masked, torch.tensor([12]), image_grid=grid).prev_sample
    shown = (ids[0] != 9).nonzero().flatten().tolist()
    assert sorted(halton_order(*grid)[: len(shown)]) == shown and 0 < len(shown) < 12


def test_the_halton_order_needs_a_grid_of_as_many_tokens():
    scheduler = in_order("halton")
    scheduler.set_timesteps(2)
    with pytest.raises(ValueError, match="as many tokens as `sample`, 12, got 3 x 5"):
        scheduler.step(torch.zeros(1, 12, 5), 1, torch.full((1, 12), 9), torch.tensor([12]), image_grid=(3, 5))


def test_the_halton_order_needs_a_square():
    scheduler = in_order("halton")
    scheduler.set_timesteps(2)
    with pytest.raises(ValueError, match="square"):
        scheduler.step(torch.zeros(1, 5, 5), 1, torch.full((1, 5), 9), torch.tensor([5]))


def test_the_random_order_does_not_depend_on_the_scores():
    scheduler, ids = in_order("random"), torch.full((64, 16), 9)
    scheduler.set_timesteps(2)
    logits = torch.zeros(64, 16, 5)
    logits[:, :8, 0] = 50.0  # sure of the first half
    hidden = scheduler.step(logits, 1, ids, torch.full((64,), 16), generator=torch.Generator().manual_seed(0))
    assert 0.4 < float((hidden.prev_sample[:, :8] == 9).sum() / (hidden.prev_sample == 9).sum()) < 0.6


def test_the_preset_of_the_paper():
    scheduler = ITITScheduler.preset("paper", mask_token_id=7)
    scheduler.set_timesteps(4)
    assert scheduler.config.mask_token_id == 7 and scheduler.temperatures == [24.0, 16.0, 8.0, 0.0]
    assert scheduler.config.decoding_order == "confidence" and scheduler.num_masked_after(0, 256) == 236
    with pytest.raises(ValueError, match=r"\['paper'\], got 'best'"):
        ITITScheduler.preset("best")


# A start from an image


def started(strength, *num_masked, num_steps=4):
    """What is hidden of 16 tokens with the id 5, of which the first ones are to be drawn."""
    scheduler = ITITScheduler(mask_token_id=9)
    scheduler.set_timesteps(num_steps, strength=strength)
    mask = torch.arange(16) < torch.tensor(num_masked)[:, None]
    ids = torch.full((len(num_masked), 16), 5)
    return scheduler, mask, scheduler.add_noise(ids, mask, generators(*range(len(ids))))


def test_a_start_at_full_strength_hides_all_that_is_to_be_drawn():
    _, mask, sample = started(1.0, 3, 16)
    assert torch.equal(sample == 9, mask)


def test_a_late_start_hides_what_the_steps_left_out_would_have_left_hidden():
    scheduler, mask, sample = started(0.5, 16, 10, 1, 0)
    assert scheduler.timesteps == [1, 0] and scheduler.first_step == 2
    assert (sample == 9).sum(dim=1).tolist() == [11, 7, 1, 0]  # floor(n cos(pi / 4)), but at least one
    assert (sample[~mask] == 5).all()


def test_a_late_start_depends_on_its_own_generator_alone():
    assert torch.equal(started(0.5, 16, 10)[2][:1], started(0.5, 16)[2])


@pytest.mark.parametrize("name", DECODING_ORDERS)
def test_every_order_goes_on_from_a_late_start(name):
    scheduler, mask, sample = started(0.5, 16, 3)
    scheduler = ITITScheduler(mask_token_id=9, decoding_order=name)
    scheduler.set_timesteps(4, strength=0.5)
    hidden = []
    for timestep in scheduler.timesteps:
        sample = scheduler.step(torch.zeros(2, 16, 9), timestep, sample, mask.sum(dim=1)).prev_sample
        hidden.append((sample == 9).sum(dim=1).tolist())
    assert hidden == [[6, 1], [0, 0]] and (sample[~mask] == 5).all()


@pytest.mark.parametrize("strength", [0.0, -0.5, 1.01, float("nan"), 0.2])
def test_a_strength_that_leaves_no_step_is_named(strength):
    with pytest.raises(ValueError, match="`strength`"):
        ITITScheduler().set_timesteps(4, strength=strength)


def test_a_strength_that_floating_point_would_shorten():
    scheduler = ITITScheduler()
    scheduler.set_timesteps(100, strength=0.29)
    assert len(scheduler.timesteps) == 29
