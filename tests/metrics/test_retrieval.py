# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from itit_hf.metrics.retrieval import (
    best_ranks,
    clip_score,
    hard_texts,
    r_precision,
    random_others,
    recall_at_k,
    ref_clip_score,
)

INFINITY = float("inf")


def test_recall_at_k_equals_brute_force():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(30, 12, generator=generator).mul(6).round()  # of many ties
    relevant = torch.rand(30, 12, generator=generator) < 0.2
    relevant[:, 3] = True
    found = recall_at_k(scores, relevant, ks=(1, 3))
    for k in (1, 3):
        hits = 0
        for row, wanted in zip(scores.tolist(), relevant.tolist(), strict=True):
            order = sorted(range(12), key=lambda i: (-row[i], i))[:k]
            hits += any(wanted[i] for i in order)
        assert found[f"recall_at_{k}"] == pytest.approx(hits / 30)


def test_of_equal_scores_the_earlier_entry_stands_first():
    scores = torch.zeros(2, 4)
    relevant = torch.tensor([[False, False, True, True], [True, False, False, True]])
    assert best_ranks(scores, relevant).tolist() == [2, 0]


def test_an_entry_that_is_not_relevant_never_counts():
    scores = torch.tensor([[3.0, 2.0, 1.0]])
    assert best_ranks(scores, torch.tensor([[False, False, True]])).tolist() == [2]


def test_r_precision_counts_a_tie_as_a_miss():
    own = torch.tensor([1.0, 1.0, 1.0])
    others = torch.tensor([[0.9, 0.1], [1.0, 0.2], [0.3, 1.1]])
    assert r_precision(own, others) == pytest.approx(1 / 3)


def test_r_precision_leaves_out_what_is_no_text():
    assert r_precision(torch.tensor([-3.0]), torch.tensor([[-INFINITY, -4.0]])) == 1.0


def test_ref_clip_score_is_a_harmonic_mean_with_the_nearest_true_caption():
    # 2.5 * 0.4 = 1.0 and 0.5: 2 * 1.0 * 0.5 / 1.5. The second caption has nothing to do with its image.
    cosines, of_references = torch.tensor([0.4, -0.1]), [torch.tensor([0.1, 0.5]), torch.tensor([0.9])]
    assert ref_clip_score(cosines, of_references) == pytest.approx((2 / 3 + 0.0) / 2)
    assert ref_clip_score(torch.tensor([-0.1]), [torch.tensor([-0.2])]) == 0.0


@pytest.mark.parametrize("of_references", [[], [torch.tensor([])]])
def test_ref_clip_score_needs_true_captions(of_references):
    with pytest.raises(ValueError, match="`reference_cosines` must be 1 sets of one at least"):
        ref_clip_score(torch.tensor([0.4]), of_references)


def test_clip_score_knows_both_scales_and_counts_no_negative_cosine():
    assert clip_score(torch.tensor([0.5, -0.5])) == {"clip_score": 25.0, "clip_score_w": 0.625}


def test_random_others_are_as_many_and_never_say_the_same():
    texts = ["a", "b", "a", "c", "d"]
    others = random_others(texts, 3, seed=0)
    for text, row in zip(texts, others.tolist(), strict=True):
        assert len({texts[place] for place in row} - {text}) == 3
    assert random_others(texts, 99, seed=0).shape == (5, 3)
    assert torch.equal(random_others(texts, 2, seed=1), random_others(texts, 2, seed=1))


def test_hard_texts_change_one_word_and_put_the_article_right():
    groups = [("red", "orange"), ("bus", "fish", "umbrella")]
    assert hard_texts("a red bus and an orange fish", groups) == [
        "an orange bus and an orange fish",
        "a red bus and a red fish",
        "a red fish and an orange fish",
        "a red umbrella and an orange fish",
        "a red bus and an orange bus",
        "a red bus and an orange umbrella",
    ]
    assert hard_texts("An orange cat", groups) == ["A red cat"]
    assert hard_texts("the busy road", groups) == []


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: best_ranks(torch.zeros(1, 2), torch.zeros(1, 3, dtype=torch.bool)), "of one shape"),
        (lambda: best_ranks(torch.tensor([[float("nan"), 1.0]]), torch.tensor([[True, True]])), "finite"),
        (lambda: best_ranks(torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.bool)), r"queries \[0\] have none"),
        (lambda: r_precision(torch.zeros(2), torch.zeros(3, 1)), "`other_scores`"),
        (lambda: r_precision(torch.zeros(2), torch.zeros(2, 0)), "`other_scores`"),
        (lambda: random_others(["a", "a"], 1, 0), "`texts`"),
        (lambda: r_precision(torch.tensor([float("nan")]), torch.zeros(1, 1)), "NaN"),
    ],
)
def test_what_cannot_be_counted_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
