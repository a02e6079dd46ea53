# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import torch
from torch.nn import functional as F
from transformers.models.align.modeling_align import align_loss

from itit_hf.contrastive import contrastive_loss, transport_targets


def random_logits(size: int = 5) -> torch.Tensor:
    return torch.randn(size, size, generator=torch.Generator().manual_seed(0))


def directions(*angles: float) -> torch.Tensor:
    angles = torch.tensor(angles)
    return torch.stack([angles.cos(), angles.sin()], dim=-1)


def test_the_loss_is_the_sum_of_which_transformers_takes_the_mean():
    torch.testing.assert_close(contrastive_loss(random_logits()), 2.0 * align_loss(random_logits()))


def test_both_directions_count():
    logits = torch.tensor([[0.0, -9.0], [0.0, 0.0]])  # the first text is as near to the second picture
    log_half = torch.tensor(0.5).log()
    of_images = -(F.logsigmoid(torch.tensor(9.0)) + log_half) / 2
    of_texts = -(log_half + F.logsigmoid(torch.tensor(9.0))) / 2
    torch.testing.assert_close(contrastive_loss(logits, label_smoothing=0.0), of_images + of_texts)


def test_targets_that_name_the_pairs_change_nothing():
    logits = random_logits()
    torch.testing.assert_close(contrastive_loss(logits, torch.eye(5)), contrastive_loss(logits))


def test_targets_say_which_text_is_a_pictures_own():
    logits, own = random_logits(3), [1, 2, 0]  # the first picture's text stands second
    torch.testing.assert_close(contrastive_loss(logits, torch.eye(3)[own]), contrastive_loss(logits[:, own]))


def test_half_of_a_soft_target_is_the_pair_and_all_pictures_and_texts_get_as_much():
    embeds = directions(0.0, 0.1, 1.5, 1.6, 3.0)
    targets = transport_targets(embeds, embeds)
    torch.testing.assert_close(targets.diagonal(), torch.full((5,), 0.5))
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(5))
    torch.testing.assert_close(targets.sum(dim=0), torch.ones(5), atol=1e-2, rtol=0.0)


def test_the_other_half_goes_to_what_looks_alike():
    embeds = directions(0.0, 0.1, 1.5, 1.6)
    targets = transport_targets(embeds, embeds)
    assert targets[0, 1] > 0.49 and targets[2, 3] > 0.49


def test_a_batch_of_one_pair_is_its_own_target():
    assert transport_targets(directions(0.3), directions(0.1)).tolist() == [[1.0]]
