# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from itit_hf.pipelines.pipeline_output import ITITCycleDrift, ITITCycleOutput, cycle_drift, word_f1


@pytest.mark.parametrize(
    ("first", "second", "f1"),
    [
        ("a red bus", "a red bus", 1.0),
        ("a red bus", "A bus, red.", 1.0),  # order, case and punctuation do not matter
        ("a red bus", "a blue bus", 2 * 2 / 6),
        ("a bus and a bus", "a bus by a bus", 2 * 4 / 10),  # a word counts as often as it stands in both
        ("a bus and a bus", "a bus", 2 * 2 / 7),
        ("a red bus", "the blue fish", 0.0),
        ("a red bus", "", 0.0),
        ("", " ... ", 1.0),
        ("\U0001f68c", "\U0001f68c", 1.0),  # an emoji is a word
    ],
)
def test_overlap_of_words(first, second, f1):
    assert word_f1(first, second) == word_f1(second, first) == pytest.approx(f1)


def test_drift_is_measured_from_the_first_text_and_the_first_image_of_each_chain():
    texts = [["a red bus", "A red bus.", "red a bus", "a bus"], ["a", "b", "a", "a"]]
    image_token_ids = torch.tensor([[[1, 2, 3, 4], [1, 2, 3, 9], [4, 3, 2, 1]], [[5, 5, 5, 5], [5, 5, 0, 0], [5] * 4]])
    drift = cycle_drift(texts, image_token_ids)
    assert drift.same_words.tolist() == [[True, True, False, False], [True, False, True, True]]
    torch.testing.assert_close(drift.word_f1, torch.tensor([[1.0, 1.0, 1.0, 0.8], [1.0, 0.0, 1.0, 1.0]]))
    assert drift.same_image_tokens.tolist() == [[1.0, 0.75, 0.0], [1.0, 0.5, 1.0]]


def test_a_cycles_output_measures_its_own_drift():
    output = ITITCycleOutput([["a", "b"]], [[None, None]], torch.tensor([[[1, 2], [1, 3]]]), torch.zeros(1, 2))
    drift = output.drift()
    assert isinstance(drift, ITITCycleDrift)
    assert drift.same_words.tolist() == [[True, False]] and drift.same_image_tokens.tolist() == [[1.0, 0.5]]
