# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from itit_hf.objectives.losses import caption_loss, code_neighbours, masked_image_loss, masked_labels


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


@pytest.mark.parametrize("smoothing", [0.1, 0.3])
def test_smoothing_over_neighbours_equals_the_hand_written_reference(smoothing):
    torch.manual_seed(0)
    logits, labels = 3 * torch.randn(3, 5, 7), torch.randint(7, (3, 5))
    labels[0, 2:], labels[1] = -100, -100
    neighbours = torch.stack([(torch.arange(7) + 1) % 7, (torch.arange(7) + 3) % 7], dim=1)
    expected = 0.0
    for sample_logits, sample_labels in zip(logits.tolist(), labels.tolist(), strict=True):
        terms = []
        for row, label in zip(sample_logits, sample_labels, strict=True):
            if label != -100:
                log_sum = math.log(sum(math.exp(x) for x in row))
                near = (row[(label + 1) % 7] + row[(label + 3) % 7]) / 2 - log_sum
                terms.append(-(1 - smoothing) * (row[label] - log_sum) - smoothing * near)
        expected += sum(terms) / max(len(terms), 1) / 3
    loss = masked_image_loss(logits, labels, smoothing, neighbours=neighbours)
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_over_all_other_codes_and_the_true_one_smoothing_is_the_usual_one():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 5), torch.randint(5, (2, 3))
    every = torch.arange(5).expand(5, 5)
    torch.testing.assert_close(masked_image_loss(logits, labels, neighbours=every), masked_image_loss(logits, labels))


def test_without_neighbours_the_loss_is_what_it_was_to_the_bit():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 5), torch.tensor([[1, -100, 4], [0, 2, 2]])
    weights = torch.tensor([0.5, 2.0])
    assert torch.equal(masked_image_loss(logits, labels, 0.1, weights), caption_loss(logits, labels, 0.1, weights))


def test_ignored_positions_get_no_gradient_from_neighbours_either():
    logits = torch.randn(1, 3, 5, requires_grad=True)
    masked_image_loss(logits, torch.tensor([[2, -100, 1]]), neighbours=torch.arange(5)[:, None]).backward()
    assert logits.grad[0, 1].abs().sum() == 0 and logits.grad[0, 0].abs().sum() > 0


def test_neighbours_are_the_nearest_codes_first_and_never_the_code_itself():
    codes = torch.tensor([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0], [7.0, 0.0]])
    assert code_neighbours(codes, 2).tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]


def test_neighbours_of_a_large_codebook_are_those_of_each_code_alone():
    codes = torch.randn(2500, 4, generator=torch.Generator().manual_seed(0))
    found = code_neighbours(codes, 3)
    for code in (0, 1023, 1024, 2499):  # at the ends of what is computed at once
        distances = (codes.double() - codes[code].double()).norm(dim=1)
        assert found[code].tolist() == distances.argsort()[1:4].tolist()


@pytest.mark.parametrize("number", [0, 4])
def test_as_many_neighbours_as_there_are_codes_are_refused(number):
    with pytest.raises(ValueError, match=f"`num_neighbours` must be in 1..3, got {number}"):
        code_neighbours(torch.randn(4, 2), number)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_cross_entropy_of_short_numbers_is_that_of_float32(dtype):
    torch.manual_seed(0)
    logits, labels = (5 * torch.randn(3, 5, 37)).to(dtype), torch.randint(37, (3, 5))
    loss = caption_loss(logits, labels)
    assert loss.dtype == torch.float32 and torch.equal(loss, caption_loss(logits.float(), labels))


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
