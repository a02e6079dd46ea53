# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The network of the Frechet inception distance, with weights by a formula."""

import pytest
import torch

from itit_hf.metrics.inception import InceptionV3, resize_bilinear


def waves(state):
    """Weights by a formula, so that another implementation can be given the same."""
    for k, (name, value) in enumerate(sorted(state.items())):
        if value.dtype == torch.long:
            continue
        wave = torch.sin(torch.arange(value.numel(), dtype=torch.float64) * 0.7 + k).view(value.shape)
        if name.endswith("running_var"):
            wave = 1 + 0.5 * wave
        elif name.endswith("bn.weight"):
            wave = 1 + 0.2 * wave
        else:
            wave = wave * (2.0 / value[0].numel()) ** 0.5 if value.dim() == 4 else 0.1 * wave
        value.copy_(wave)
    return state


def test_features_are_those_of_torch_fidelity_for_the_same_weights(tmp_path):
    weights = waves(InceptionV3().state_dict())
    assert weights["fc.weight"].shape == (1008, 2048)  # which stands in the file, and is not used
    torch.save(weights, tmp_path / "weights.pth")
    images = ((torch.arange(2 * 3 * 40 * 52).view(2, 3, 40, 52) * 37) % 256).to(torch.uint8)
    features = InceptionV3.from_file(tmp_path / "weights.pth")(images)
    # What torch-fidelity 0.4.0 gives.
    expected = torch.tensor([0.0, 47.34138488769531, 491.733154296875, 421.5282287597656, 10.337919235229492, 0.0])
    torch.testing.assert_close(features[0, :6], expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(features.sum(dim=1), torch.tensor([117108.4375, 69691.8125]), rtol=1e-4, atol=0.0)


def test_images_are_resized_from_their_corner_without_half_pixels():
    image = torch.tensor([[0.0, 4.0], [8.0, 16.0]])[None, None]
    assert resize_bilinear(image, 4)[0, 0].tolist() == [
        [0.0, 2.0, 4.0, 4.0],
        [4.0, 7.0, 10.0, 10.0],
        [8.0, 12.0, 16.0, 16.0],
        [8.0, 12.0, 16.0, 16.0],
    ]


@pytest.mark.parametrize("content", ["weights of something else", "no weights at all"])
def test_another_file_than_that_of_inception_is_named(tmp_path, content):
    file = tmp_path / "weights.pth"
    file.write_text(content)
    if content.startswith("weights"):
        torch.save({"fc.weight": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match="weights.pth` holds no weights of this Inception v3"):
        InceptionV3.from_file(file)
