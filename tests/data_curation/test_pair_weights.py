# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from data_curation.pair_weights import (
    bag_of_words,
    clean_probabilities,
    common_words,
    pair_losses,
    word_balanced_indices,
)

from ..testing_utils import tiny_pairs, tiny_pipeline


def two_groups(num_clean: int = 700, num_wrong: int = 300) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(num_clean, generator=generator) * 0.3 + 1.0
    return torch.cat([clean, torch.randn(num_wrong, generator=generator) * 0.8 + 4.0])


def test_the_loss_of_a_pair_is_what_the_captioner_gives_its_captions():
    pipe, rows = tiny_pipeline(), tiny_pairs(3)
    losses = pair_losses(pipe, rows, batch_size=2)
    for loss, row in zip(losses, rows, strict=True):
        expected = -pipe.score(row["image"], row["text"]).log_likelihoods_per_token.mean()
        torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)


def test_two_groups_of_losses_are_told_apart():
    probabilities = clean_probabilities(two_groups())
    assert (probabilities[:700] > 0.5).double().mean() > 0.99
    assert (probabilities[700:] < 0.5).double().mean() > 0.99
    assert probabilities.mean() == pytest.approx(0.7, abs=0.02)


def test_a_larger_loss_is_never_trusted_more():
    losses = torch.cat([two_groups(), torch.tensor([-50.0, 50.0])])
    ordered = clean_probabilities(losses)[losses.argsort()]
    assert (ordered.diff() <= 1e-12).all()


def test_the_scale_of_the_losses_does_not_matter():
    losses = two_groups().double()
    torch.testing.assert_close(clean_probabilities(losses), clean_probabilities(1000.0 * losses + 7.0))


@pytest.mark.parametrize("losses", [[1.0, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 3.0, float("nan")]])
def test_losses_that_say_nothing_are_refused(losses):
    with pytest.raises(ValueError, match="`losses`"):
        clean_probabilities(torch.tensor(losses))


def test_a_text_of_rare_words_is_drawn_more_often():
    texts = ["a bus"] * 98 + ["a crab"] * 2
    drawn = word_balanced_indices(texts, 4000, torch.Generator().manual_seed(0), power=1.0)
    # frequencies: a 100, bus 98, crab 2; weights: bus (1/100 + 1/98) / 2 each, crab (1/100 + 1/2) / 2 each
    expected = 2 * 0.51 / (2 * 0.51 + 98 * (1 / 100 + 1 / 98))
    assert (drawn >= 98).double().mean() == pytest.approx(expected, abs=0.03)


def test_without_power_each_text_is_drawn_alike():
    drawn = word_balanced_indices(["a bus"] * 3 + ["a crab"], 4000, torch.Generator().manual_seed(0), power=0.0)
    assert drawn.bincount(minlength=4).double().div(4000).tolist() == pytest.approx([0.25] * 4, abs=0.03)


def test_a_text_without_words_is_named():
    with pytest.raises(ValueError, match=r"those at \[1\]"):
        word_balanced_indices(["a", "?"], 1, torch.Generator())


def test_a_bag_of_words_has_each_word_once_and_no_common_one():
    texts = ["a red bus on a red road", "a fish", "a tree"]
    assert common_words(texts, share=0.9) == {"a"}
    assert bag_of_words(texts[0], common_words(texts, share=0.9)) == "bus on red road"
