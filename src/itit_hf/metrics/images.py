# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""How near generated images are to true ones, on features of both, and how much fine detail they have."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

_ROWS = 1000  # features whose distances to all others are held at a time
CMMD_BANDWIDTH = 10.0
CMMD_SCALE = 1000.0


def _check(features: torch.Tensor, reference: torch.Tensor, least: int):
    if features.dim() != 2 or reference.dim() != 2 or features.size(1) != reference.size(1):
        shapes = f"{tuple(features.shape)} and {tuple(reference.shape)}"
        raise ValueError(f"`features` and `reference` must be (num_images, num_features) of one width, got {shapes}")
    if min(len(features), len(reference)) < least:
        raise ValueError(
            f"`features` and `reference` must have at least {least} rows, got {len(features)} and {len(reference)}"
        )


def frechet_distance(features: torch.Tensor, reference: torch.Tensor) -> float:
    r"""Squared Frechet distance of two normal distributions fitted to features (Heusel et al., 2017), in float64.

    $|\mu_1 - \mu_2|^2 + tr(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1^{1/2} \Sigma_2 \Sigma_1^{1/2})^{1/2})$. It is biased
    upwards by few samples, more so with more features: compare figures of one number of samples only.

    Args:
        features (`torch.Tensor` of shape `(num_generated, num_features)`): Of the generated images.
        reference (`torch.Tensor` of shape `(num_true, num_features)`): Of the true ones.

    Returns:
        `float`, 0.0 at least.

    Raises:
        ValueError: If the widths differ, or one side has fewer than two rows.
    """
    _check(features, reference, 2)
    features = features.double()
    reference = reference.double()
    covariance, reference_covariance = (rows.T.cov().reshape(rows.size(1), -1) for rows in (features, reference))
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp(min=0.0).sqrt()) @ vectors.T
    # Symmetric, so that rounding cannot make its eigenvalues complex.
    product = torch.linalg.eigvalsh(root @ reference_covariance @ root).clamp(min=0.0)
    shift = (features.mean(dim=0) - reference.mean(dim=0)).square().sum()
    spread = covariance.trace() + reference_covariance.trace() - 2.0 * product.sqrt().sum()
    return max(0.0, float(shift + spread))


def _radii(features: torch.Tensor, k: int) -> torch.Tensor:
    """Distance of each row to its k-th nearest other row, of shape `(num_rows,)`."""
    radii = [torch.cdist(rows, features).kthvalue(k + 1, dim=1).values for rows in features.split(_ROWS)]
    return torch.cat(radii)  # the nearest of all is the row itself


def precision_recall(features: torch.Tensor, reference: torch.Tensor, k: int = 3) -> dict[str, float]:
    """Improved precision and recall (Kynkaanniemi et al., 2019).

    Args:
        features (`torch.Tensor` of shape `(num_generated, num_features)`): Of the generated images.
        reference (`torch.Tensor` of shape `(num_true, num_features)`): Of the true ones.
        k (`int`, *optional*, defaults to 3): An image reaches as far as its k-th nearest neighbour of its own side.

    Returns:
        `dict[str, float]`: `precision` (generated images within reach of a true one), `recall` (true images within
        reach of a generated one); shares in [0, 1].

    Raises:
        ValueError: If the widths differ, or one side has no more than `k` rows.
    """
    _check(features, reference, k + 1)
    features = features.double()
    reference = reference.double()
    return {
        "precision": _share_within(features, reference, _radii(reference, k)),
        "recall": _share_within(reference, features, _radii(features, k)),
    }


def _share_within(rows: torch.Tensor, centres: torch.Tensor, radii: torch.Tensor) -> float:
    inside = [(torch.cdist(some, centres) <= radii).any(dim=1) for some in rows.split(_ROWS)]
    return float(torch.cat(inside).double().mean())


def density_coverage(features: torch.Tensor, reference: torch.Tensor, k: int = 5) -> dict[str, float]:
    """Density and coverage (Naeem et al., 2020), which single outliers move less than precision and recall.

    Args:
        features (`torch.Tensor` of shape `(num_generated, num_features)`): Of the generated images.
        reference (`torch.Tensor` of shape `(num_true, num_features)`): Of the true ones.
        k (`int`, *optional*, defaults to 5): A true image reaches as far as its k-th nearest true neighbour.

    Returns:
        `dict[str, float]`: `density` (true images within whose reach a generated one lies, over k; about 1 if both are
        alike, and more is possible), `coverage` (true images with a generated one within reach, in [0, 1]).

    Raises:
        ValueError: If the widths differ, or one side has no more than `k` rows.
    """
    _check(features, reference, k + 1)
    features = features.double()
    reference = reference.double()
    radii = _radii(reference, k)
    number = 0
    covered = torch.zeros(len(reference), dtype=torch.bool, device=reference.device)
    for rows in features.split(_ROWS):
        inside = torch.cdist(rows, reference) <= radii  # (b, num_true)
        number += int(inside.sum())
        covered |= inside.any(dim=0)
    return {"density": number / (k * len(features)), "coverage": float(covered.double().mean())}


def kernel_distance(
    features: torch.Tensor,
    reference: torch.Tensor,
    num_subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
) -> float:
    r"""Kernel distance (Binkowski et al., 2018; on Inception's features KID): the unbiased squared maximum mean
    discrepancy of the kernel $(x \cdot y / d + 1)^3$, a mean over random subsets of both sides.

    Args:
        features (`torch.Tensor` of shape `(num_generated, num_features)`): Of the generated images.
        reference (`torch.Tensor` of shape `(num_true, num_features)`): Of the true ones.
        num_subsets (`int`, *optional*, defaults to 100): How many.
        subset_size (`int`, *optional*, defaults to 1000): Rows of each side in a subset; all if there are fewer on one
            side, and then as many of the other.
        seed (`int`, *optional*, defaults to 0): Of the subsets.

    Returns:
        `float`, 0.0 on average for two samples of one distribution, and so below it at times.

    Raises:
        ValueError: If the widths differ, or one side has fewer than two rows.
    """
    _check(features, reference, 2)
    size = min(subset_size, len(features), len(reference))
    if size == len(features) == len(reference):
        num_subsets = 1  # there is but one
    generator = torch.Generator().manual_seed(seed)
    total = 0.0
    for _ in range(num_subsets):
        x, y = (rows[torch.randperm(len(rows), generator=generator)[:size]].double() for rows in (features, reference))
        within = sum(float(kernel.sum() - kernel.trace()) for kernel in (_cubic(x, x), _cubic(y, y)))
        total += within / (size * (size - 1)) - 2.0 * float(_cubic(x, y).mean())
    return total / num_subsets


def _cubic(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x @ y.T / x.size(1) + 1.0) ** 3


def gaussian_distance(features: torch.Tensor, reference: torch.Tensor) -> float:
    r"""CMMD (Jayasumana et al., 2024) on image embeddings of length 1: the squared maximum mean discrepancy of the
    kernel $\exp(-|x - y|^2 / (2 \cdot 10^2))$, times 1000, each row also held against itself, as in its authors' code.

    Args:
        features (`torch.Tensor` of shape `(num_generated, num_features)`): Of the generated images.
        reference (`torch.Tensor` of shape `(num_true, num_features)`): Of the true ones.

    Returns:
        `float`, 0.0 for equal sets.

    Raises:
        ValueError: If the widths differ, or one side has no row.
    """
    _check(features, reference, 1)
    x = features.double()
    y = reference.double()
    return CMMD_SCALE * (_mean_gaussian(x, x) + _mean_gaussian(y, y) - 2.0 * _mean_gaussian(x, y))


def _mean_gaussian(x: torch.Tensor, y: torch.Tensor) -> float:
    """Of all pairs; the distances are taken as differences, not as products, which would lose what is left of 1."""
    blocks = [torch.cdist(rows, y, compute_mode="donot_use_mm_for_euclid_dist") for rows in x.split(_ROWS)]
    total = sum(float((block.square() / (-2.0 * CMMD_BANDWIDTH**2)).exp().sum()) for block in blocks)
    return total / (len(x) * len(y))


def image_scores(features: torch.Tensor, reference: torch.Tensor) -> dict[str, float]:
    """All scores of generated images.

    Args:
        features (`torch.Tensor` of shape `(num_generated, num_features)`): Of the generated images.
        reference (`torch.Tensor` of shape `(num_true, num_features)`): Of the true ones.

    Returns:
        `dict[str, float]`: `fid`; `fid_between_true_halves`, what two samples of true images half as large are
        apart; `kernel_distance`; `precision`, `recall`, `density` and `coverage`.

    Raises:
        ValueError: If the widths differ, or one side has fewer than six rows.
    """
    _check(features, reference, 6)
    return {
        "fid": frechet_distance(features, reference),
        "fid_between_true_halves": frechet_distance(reference[::2], reference[1::2]),
        "kernel_distance": kernel_distance(features, reference),
        **precision_recall(features, reference),
        **density_coverage(features, reference),
    }


def relative_sharpness(
    images: Sequence[Image.Image | np.ndarray], reference: Sequence[Image.Image | np.ndarray]
) -> float | None:
    """Fine detail of images as a multiple of that of others: 1 is as sharp, less is blurred, more is noisy.

    Detail is the mean spectral energy of the grey images above a quarter of a cycle per pixel: waves shorter than 4
    pixels.

    Args:
        images (`Sequence` of `PIL.Image.Image`, or of `np.ndarray` of shape `(height, width, 3)` in uint8):
            Generated ones.
        reference (`Sequence` of the same): True ones, of the same size.

    Returns:
        `float`, or `None` if the true ones have no detail at all.

    Raises:
        ValueError: If one side has no image.
    """
    if not len(images) or not len(reference):
        raise ValueError(f"`images` and `reference` must hold images, got {len(images)} and {len(reference)}")
    detail = _fine_detail(reference)
    return _fine_detail(images) / detail if detail > 0.0 else None


def _fine_detail(images: Sequence[Image.Image | np.ndarray]) -> float:
    energies = []
    for image in images:
        picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
        grey = torch.from_numpy(np.array(picture.convert("L"))).double() / 255  # (H, W)
        height, width = grey.shape
        energy = torch.fft.fft2(grey, norm="ortho").abs().square() / (height * width)  # (H, W)
        frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None])  # (H, W)
        energies.append(float(energy[frequency > 0.25].sum()))
    return sum(energies) / len(energies)
