# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from itit_hf.masking import MaskRatio, drop_masked, masked_positions, random_mask
from itit_hf.rng import rand

from .testing_utils import generators


@pytest.mark.parametrize(("ratio", "hidden"), [(0.0, 0), (0.5, 128), (0.501, 129), (1.0, 256)])
def test_random_mask_masks_exactly_the_ceiling(ratio, hidden):
    mask = random_mask(torch.full((8,), ratio, dtype=torch.float64), 256)
    assert mask.sum(-1).tolist() == [hidden] * 8


def test_random_mask_hides_each_position_equally_often():
    mask = random_mask(torch.full((4000,), 0.5), 8, torch.Generator().manual_seed(0))
    assert mask.float().mean(0).sub(0.5).abs().max() < 0.05


def test_mask_ratio_follows_the_truncated_normal():
    ratio = MaskRatio(mean=0.75, std=0.25, low=0.5, high=1.0).sample(20000, torch.Generator().manual_seed(0))
    assert ratio.min() >= 0.5 and ratio.max() <= 1.0
    assert ratio.mean().item() == pytest.approx(0.75, abs=0.005)  # symmetric around 0.75
    inside = ((ratio > 0.625) & (ratio < 0.875)).double().mean().item()
    assert inside == pytest.approx(0.38292 / 0.68269, abs=0.015)  # P(|z| < 0.5) / P(|z| < 1)


def test_mask_ratio_of_image_to_text_stays_in_its_range():
    ratio = MaskRatio(high=0.75).sample(20000, torch.Generator().manual_seed(0))
    assert ratio.min() >= 0.5 and ratio.max() <= 0.75
    assert ratio.mean().item() == pytest.approx(0.635, abs=0.005)


def test_mask_ratio_without_spread_is_constant():
    assert MaskRatio(0.0, 0.0, 0.0, 0.0).sample(3).tolist() == [0.0] * 3


@pytest.mark.parametrize(
    ("law", "quantiles"),  # at 1e-6, 0.1, 0.5, 0.9 and 1 - 6e-8, by bisection with 400 digits
    [
        (
            MaskRatio(0.75, 0.25, 0.5, 1.0),
            [0.50000070534207231, 0.56274635025760748, 0.75, 0.93725364974239253, 0.99999995767941957],
        ),
        (
            MaskRatio(0.49, 0.25, 0.5, 1.0),
            [0.50000029060736307, 0.52919480630322297, 0.65676972932231734, 0.86460457399938231, 0.99999986043062656],
        ),
        (
            MaskRatio(1.0, 0.2, 0.0, 0.999),
            [0.039559868778871094, 0.67064234807315998, 0.86447376783651807, 0.97396035320375273, 0.99899998502005148],
        ),
        (
            MaskRatio(0.0, 0.01, 0.5, 1.0),
            [0.5000000001999202, 0.50002106324107884, 0.50013855486862127, 0.50046012148959353, 0.50331348509767329],
        ),
        (
            MaskRatio(2.0, 0.02, 0.0, 0.5),
            [0.49632102846885737, 0.49938621194394588, 0.49981520497367522, 0.49997190911763767, 0.49999999998400284],
        ),
        (
            MaskRatio(1000.0, 100.0, 0.0, 1.0),
            [
                1.0516911576396632e-6,
                0.10461996022258834,
                0.51248847495879144,
                0.90437901046820502,
                0.99999994290057127,
            ],
        ),
    ],
)
def test_mask_ratio_has_the_quantiles_of_the_truncated_normal_however_far_in_a_tail(law, quantiles):
    probability = torch.tensor([1e-6, 0.1, 0.5, 0.9, 1 - 6e-8], dtype=torch.float64)
    want = torch.tensor(quantiles, dtype=torch.float64)
    torch.testing.assert_close(law.quantile(probability), want, atol=1e-10 * max(law.std, 1.0), rtol=0)


@pytest.mark.parametrize("std", [1e-7, 1e-300])
@pytest.mark.parametrize(("mean", "end"), [(-1e300, 0.2), (0.19, 0.2), (0.41, 0.4), (1e300, 0.4)])
def test_a_mask_ratio_without_room_to_spread_is_the_end_that_is_nearer_to_its_mean(mean, end, std):
    drawn = MaskRatio(mean, std, 0.2, 0.4).sample(1000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn, torch.full_like(drawn, end), atol=1e-9, rtol=0)


@pytest.mark.parametrize("std", [1e6, 1e12, 1e300])
@pytest.mark.parametrize("mean", [-0.1, 0.3, 1.2])
def test_a_mask_ratio_that_spreads_far_beyond_its_range_is_uniform(mean, std):
    probability = torch.linspace(0, 1, 11, dtype=torch.float64)
    got = MaskRatio(mean, std, 0.2, 0.4).quantile(probability)
    torch.testing.assert_close(got, 0.2 + 0.2 * probability, atol=1e-9, rtol=0)


@pytest.mark.parametrize("std", [0.2, 0.002, 1e-300])
@pytest.mark.parametrize("mean", [0.1, 0.5, 0.95])
def test_the_extreme_quantiles_are_the_ends_of_the_range(mean, std):
    ends = MaskRatio(mean, std, 0.3, 0.9).quantile(torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([0.3, 0.9], dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    "bad",
    [
        {"low": 0.8, "high": 0.5},
        {"high": 1.5},
        {"low": -0.1},
        {"std": -1.0},
        {"std": float("inf")},
        {"std": float("nan")},
        {"mean": float("nan")},
        {"mean": float("-inf")},
    ],
)
def test_mask_ratio_rejects_impossible_ranges(bad):
    with pytest.raises(ValueError, match=f"`{next(iter(bad))}`"):
        MaskRatio(**bad)


def test_masked_positions_are_filled_up_and_marked():
    mask = torch.tensor([[True, False, True, False], [False, True, False, False]])
    positions, valid = masked_positions(mask)
    assert positions[0].tolist() == [0, 2] and valid.tolist() == [[True, True], [True, False]]
    assert positions[1, 0] == 1 and not mask[1, positions[1, 1]]


def test_half_drop_keeps_half_and_every_visible_token():
    mask = random_mask(torch.tensor([0.5, 0.75, 1.0]), 16, torch.Generator().manual_seed(0))
    image_mask = drop_masked(mask, "half", torch.Generator().manual_seed(1))
    positions = image_mask.encoder_positions
    assert positions.shape == (3, 8) and image_mask.encoder_attention_mask is None
    for row in range(3):
        visible = set((~mask[row]).nonzero().flatten().tolist())
        assert visible <= set(positions[row].tolist())
        assert positions[row].tolist() == sorted(set(positions[row].tolist()))


def test_half_drop_keeps_everything_where_less_than_half_is_masked():
    mask = torch.zeros(2, 4, dtype=torch.bool)
    mask[0, :3] = True
    image_mask = drop_masked(mask, "half", torch.Generator().manual_seed(0))
    positions = image_mask.encoder_positions
    assert positions[1].tolist() == [0, 1, 2, 3]
    assert image_mask.encoder_attention_mask.tolist() == [[True, True, False, False], [True] * 4]
    assert 3 in positions[0, :2].tolist()  # the visible one


def test_all_drop_keeps_only_visible_tokens():
    mask = torch.tensor([[True, True, True, False], [True, False, True, False]])
    image_mask = drop_masked(mask, "all")
    assert image_mask.encoder_positions[0, 0] == 3 and image_mask.encoder_positions[1].tolist() == [1, 3]
    assert image_mask.encoder_attention_mask.tolist() == [[True, False], [True, True]]


def test_nothing_masked_means_nothing_dropped():
    for mask, rule in ((torch.zeros(2, 4, dtype=torch.bool), "half"), (torch.ones(2, 4, dtype=torch.bool), "none")):
        image_mask = drop_masked(mask, rule)
        assert image_mask.bool_masked_pos is mask
        assert image_mask.encoder_positions is None and image_mask.encoder_attention_mask is None


def test_dropping_does_not_depend_on_the_neighbours_counts():
    few, many = torch.tensor([[True, False, False, False]]), torch.tensor([[True, True, True, False]])
    alone, together = generators(3), generators(3, 4)
    drop_masked(few, "half", alone)
    drop_masked(torch.cat([few, many]), "half", together)
    assert torch.equal(rand(1, (2,), alone)[0], rand(2, (2,), together)[0])


def test_drop_masked_names_an_unknown_rule():
    with pytest.raises(ValueError, match="`encoder_drop` must be one of"):
        drop_masked(torch.ones(1, 4, dtype=torch.bool), "some")
