# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Scores of captions and images: values one can work out by hand, and those of the libraries that papers use."""

import numpy as np
import pytest
import torch
from PIL import Image

from itit_hf.metrics.images import (
    density_coverage,
    frechet_distance,
    gaussian_distance,
    image_scores,
    kernel_distance,
    precision_recall,
    relative_sharpness,
)


def line(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_frechet_distance_is_that_of_means_and_deviations_in_one_dimension():
    # Means 0 and 3; deviations 1 and 2, times sqrt(2) as the variance is over n - 1.
    distance = frechet_distance(line(-1.0, 1.0), line(1.0, 5.0))
    assert distance == pytest.approx(3**2 + (2**0.5 * 1) ** 2)


def test_frechet_distance_of_a_set_from_itself_is_zero_also_with_fewer_samples_than_features():
    features = torch.randn(10, 40, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(features, features) < 1e-6


def test_frechet_distance_is_the_formula_of_the_paper():
    chance = np.random.default_rng(0)
    first, second = chance.normal(size=(50, 6)), 1.0 + chance.normal(size=(40, 6)) @ chance.normal(size=(6, 6))
    covariances = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    root_trace = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1])).real.sum()
    expected = np.square(first.mean(axis=0) - second.mean(axis=0)).sum()
    expected += np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * root_trace
    assert frechet_distance(torch.from_numpy(first), torch.from_numpy(second)) == pytest.approx(expected, rel=1e-9)


def cubic_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Kernel distance of two sets by the definition, pair by pair."""

    def kernel(a, b):
        return (float(a @ b) / len(a) + 1.0) ** 3

    def within(rows):
        pairs = [kernel(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]
        return sum(pairs) / len(pairs)

    between = [kernel(a, b) for a in x for b in y]
    return within(x) + within(y) - 2.0 * sum(between) / len(between)


def two_sets(number: int = 6) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(0)
    return chance.normal(size=(number, 3)), 0.5 + chance.normal(size=(number, 3))


def test_kernel_distance_is_the_definition():
    x, y = two_sets()
    assert kernel_distance(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(cubic_distance(x, y))


def test_kernel_distance_is_a_mean_over_subsets_that_the_seed_chooses():
    x, y = (torch.from_numpy(rows) for rows in two_sets(30))
    whole = kernel_distance(x, y)
    subsets = [kernel_distance(x, y, num_subsets=300, subset_size=10, seed=seed) for seed in (0, 0, 1)]
    assert subsets[0] == subsets[1] != subsets[2]
    assert subsets == pytest.approx([whole] * 3, abs=0.2)


def test_gaussian_distance_is_that_of_its_authors():
    x, y = two_sets()
    x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, y))

    def mean(first, second):
        return np.mean([[np.exp(-np.square(a - b).sum() / (2 * 10.0**2)) for b in second] for a in first])

    expected = 1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y))
    assert gaussian_distance(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(expected)
    assert gaussian_distance(torch.from_numpy(x), torch.from_numpy(x)) == pytest.approx(0.0, abs=1e-9)


def test_precision_and_recall_count_who_is_within_reach():
    true, generated = line(0.0, 1.0, 2.0, 10.0), line(0.5, 0.6, 50.0, 51.0)
    # Reach of the true ones, to the nearest other: 1, 1, 1, 8. Of the generated ones: 0.1, 0.1, 1, 1.
    assert precision_recall(generated, true, k=1) == {"precision": 0.5, "recall": 0.0}
    assert precision_recall(true, generated, k=1) == {"precision": 0.0, "recall": 0.5}


def test_density_counts_how_often_and_coverage_how_many_true_images_are_met():
    true, generated = line(0.0, 1.0, 2.0, 10.0), line(0.5, 0.6, 50.0, 51.0)
    # 0.5 and 0.6 are within reach of 0 and of 1 each: 4 meetings of 4 generated ones; 2 of 4 true ones are met.
    assert density_coverage(generated, true, k=1) == {"density": 1.0, "coverage": 0.5}


def test_scores_of_alike_images_are_near_those_of_true_halves():
    features = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
    scores = image_scores(features[:200], features[200:])
    assert scores["fid"] < scores["fid_between_true_halves"] < 0.3
    assert all(scores[name] > 0.85 for name in ("precision", "recall", "density", "coverage"))


@pytest.mark.parametrize("shape", [(10, 3), (5, 2), (10,)])
def test_features_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match="`features` and `reference`"):
        image_scores(torch.zeros(shape), torch.zeros(10, 2))


def stripes(pixels: int, contrast: int = 255) -> Image.Image:
    """Vertical stripes, so many pixels wide."""
    row = (np.arange(64) // pixels % 2 * contrast).astype(np.uint8)
    return Image.fromarray(np.broadcast_to(row[None, :, None], (64, 64, 3)).copy())


def test_sharpness_is_one_for_the_true_images_and_a_quarter_at_half_the_contrast():
    assert relative_sharpness([stripes(1)], [stripes(1)]) == 1.0
    assert relative_sharpness([stripes(1, 100)], [stripes(1, 200)]) == pytest.approx(0.25)


def test_waves_of_four_pixels_and_more_are_no_fine_detail():
    assert relative_sharpness([stripes(8).resize((64, 64), Image.Resampling.BOX)], [stripes(1)]) < 0.1
    blurred = stripes(1).resize((32, 32), Image.Resampling.BOX).resize((64, 64), Image.Resampling.BILINEAR)
    assert relative_sharpness([blurred], [stripes(1)]) < 1e-9


def test_plain_true_images_have_no_detail_to_compare_with():
    assert relative_sharpness([stripes(1)], [Image.new("RGB", (64, 64))]) is None
    with pytest.raises(ValueError, match="must hold images, got 0 and 1"):
        relative_sharpness([], [stripes(1)])
