# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from itit_hf import ClipImageReward

from .test_captions import SAID


def test_the_image_reward_scores_as_the_dual_encoder_and_reaches_the_pixels_alone(scorer, images):
    pixel_values = torch.stack([torch.tensor(np.asarray(image)).permute(2, 0, 1) for image in images])
    pixel_values = (pixel_values / 127.5 - 1.0).requires_grad_(True)
    given = ClipImageReward(scorer, "the {}")(pixel_values, SAID)
    texts = [f"the {text}" for text in SAID]
    assert given.tolist() == pytest.approx(scorer.score(images, texts).tolist(), abs=1e-3)
    given.sum().backward()
    assert pixel_values.grad.isfinite().all() and (pixel_values.grad.abs().sum(dim=(1, 2, 3)) > 0).all()
    assert all(parameter.grad is None for parameter in scorer.model.parameters())


def test_a_template_without_a_place_is_refused(scorer):
    with pytest.raises(ValueError, match="`template` must hold {}, where the text goes, got 'a photo'"):
        ClipImageReward(scorer, "a photo")
