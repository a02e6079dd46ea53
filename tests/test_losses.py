# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from itit_hf.losses import caption_inputs, caption_loss, masked_image_loss, masked_labels


def by_hand(logits, labels, smoothing):
    """Label-smoothed cross entropy with plain Python numbers, a mean per sample, then over samples."""
    per_sample = []
    for sample_logits, sample_labels in zip(logits.tolist(), labels.tolist(), strict=True):
        terms = []
        for row, label in zip(sample_logits, sample_labels, strict=True):
            if label == -100:
                continue
            log_sum = math.log(sum(math.exp(x) for x in row))
            log_probs = [x - log_sum for x in row]
            terms.append(-(1 - smoothing) * log_probs[label] - smoothing * sum(log_probs) / len(row))
        per_sample.append(sum(terms) / max(len(terms), 1))
    return sum(per_sample) / len(per_sample)


@pytest.mark.parametrize("loss", [caption_loss, masked_image_loss])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_equals_the_hand_written_reference(loss, smoothing):
    torch.manual_seed(0)
    logits = 3 * torch.randn(3, 5, 7)
    labels = torch.randint(7, (3, 5))
    labels[0, 2:], labels[1] = -100, -100
    assert loss(logits, labels, smoothing).item() == pytest.approx(by_hand(logits, labels, smoothing), abs=1e-5)


def test_uniform_logits_cost_the_logarithm_of_the_number_of_classes():
    assert caption_loss(torch.zeros(1, 2, 8), torch.tensor([[1, 5]])).item() == pytest.approx(math.log(8))


@pytest.mark.parametrize("loss", [caption_loss, masked_image_loss])
def test_a_sample_counts_as_much_as_its_weight_whatever_its_neighbours_weigh(loss):
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 5, 7), torch.randint(7, (2, 5))
    first, second = (loss(logits[b : b + 1], labels[b : b + 1]) for b in range(2))
    weighted = loss(logits, labels, sample_weights=torch.tensor([0.25, 2.0]))
    torch.testing.assert_close(weighted, (0.25 * first + 2.0 * second) / 2)


def test_a_sample_does_not_weigh_by_its_length():
    logits = torch.randn(2, 4, 5)
    labels = torch.tensor([[1, 2, 3, 4], [1, -100, -100, -100]])
    singles = [caption_loss(logits[i : i + 1], labels[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(caption_loss(logits, labels), sum(singles) / 2)


def test_ignored_positions_get_no_gradient():
    logits = torch.randn(1, 3, 5, requires_grad=True)
    caption_loss(logits, torch.tensor([[2, -100, 1]])).backward()
    assert logits.grad[0, 1].abs().sum() == 0 and logits.grad[0, 0].abs().sum() > 0


def test_masked_labels_ignore_the_filling():
    ids = torch.tensor([[10, 11, 12, 13]])
    labels = masked_labels(ids, torch.tensor([[1, 3, 0]]), torch.tensor([[True, True, False]]))
    assert labels.tolist() == [[11, 13, -100]]


def test_caption_inputs_start_with_the_prefix_and_bos_and_leave_the_last_token_out():
    ids, mask = torch.tensor([[5, 6, 1], [7, 1, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    decoder_input_ids, labels = caption_inputs(ids, mask, prefix_length=2, bos_token_id=40, image_token_id=47)
    assert decoder_input_ids.tolist() == [[47, 47, 40, 5, 6], [47, 47, 40, 7, 1]]
    assert labels.tolist() == [[5, 6, 1], [7, 1, -100]]
