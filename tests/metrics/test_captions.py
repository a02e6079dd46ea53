# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Scores of captions and images: values one can work out by hand, and those of the libraries that papers use."""

import importlib.util
import random
import subprocess
import unicodedata

import pytest

from itit_hf.metrics.captions import (
    CiderD,
    bad_endings,
    bleu,
    caption_diversity,
    caption_scores,
    rouge_l,
    tokenize_caption,
)
from itit_hf.metrics.coco_captions import coco_caption_scores, missing_for_coco
from itit_hf.rewards import captions

needs_coco = pytest.mark.skipif(not importlib.util.find_spec("pycocoevalcap"), reason="needs the extra eval")
needs_java = pytest.mark.skipif(bool(missing_for_coco()), reason="needs the extra eval and Java")


WORDS = ("a", "red", "bus", "on", "grass")


def words(*texts):
    return [text.split() for text in texts]


def random_sets(number: int):
    """Candidates and one to five references each, from a few words, so that much overlaps; one is empty."""
    chance = random.Random(0)

    def sentence(least=1):
        return [chance.choice(WORDS) for _ in range(chance.randint(least, 9))]

    candidates = [sentence() for _ in range(number - 1)] + [[]]
    return candidates, [[sentence() for _ in range(chance.randint(1, 5))] for _ in range(number)]


# What the Java tokenizer of pycocoevalcap 1.2 gives.
PTB = {
    "A man's dog don't run; it can't (really) jump!": "a man 's dog do n't run it ca n't -lrb- really -rrb- jump",
    'A T-shirt, 3.5 feet & 1,000 people... "quoted" text -- yes': "a t-shirt 3.5 feet & 1,000 people quoted text yes",
    "cannot wanna U.S. flag at 5:30 p.m. on Mr. Li's boat.": "can not wan na u.s. flag at 5:30 p.m. on mr. li 's boat",
    "two-story house w/ red/blue doors": "two-story house w / red/blue doors",
    "they're we've he'd she'll I'm": "they 're we 've he 'd she 'll i 'm",
    ".": "",
}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A cafe\u0301's roof", ["a", "caf\u00e9", "'s", "roof"]),  # the same as with one character
        ("A caf\u00e9's roof", ["a", "caf\u00e9", "'s", "roof"]),
        ("re\u0301sume\u0301-like, A\u030angstro\u0308m.", ["r\u00e9sum\u00e9-like", "\u00e5ngstr\u00f6m"]),
        ("\u0130stanbul", ["i\u0307stanbul"]),  # lower case has a mark that the capital has not
        ("an m\u0302 n\u0308 chart", ["an", "m\u0302", "n\u0308", "chart"]),  # no one character for these
        ("\u0932\u093e\u0932 \u092c\u0938\u0947\u0902", ["\u0932\u093e\u0932", "\u092c\u0938\u0947\u0902"]),
    ],
)
def test_a_combining_mark_belongs_to_the_word_of_its_letter(text, words):
    assert tokenize_caption(text) == words


def test_how_an_accent_is_written_does_not_matter_to_a_score():
    composed = ["ein gr\u00fcner apfel", "zwei b\u00e4ume am fluss"]
    apart = [unicodedata.normalize("NFD", text) for text in composed]
    assert apart != composed
    assert caption_scores(apart, [[text] for text in composed]) == caption_scores(composed, [[text] for text in apart])
    assert caption_scores(apart, [[text] for text in composed])["bleu_1"] == pytest.approx(100)


@pytest.mark.parametrize("text", PTB)
def test_plain_sentences_are_tokenized_as_by_the_penn_treebank_tokenizer(text):
    assert " ".join(tokenize_caption(text)) == PTB[text]


def test_cider_d_of_the_only_reference_is_the_highest_and_of_other_words_zero():
    references = [words("a red bus on grass"), words("the blue fish in water")]
    scores = CiderD(references).scores(words("a red bus on grass", "some yellow tree near sand"), references)
    assert scores == pytest.approx([1000.0, 0.0])


def test_cider_d_counts_a_repeated_word_no_more_than_the_reference_does():
    references = [words("red bus"), words("blue fish")]
    once, thrice = CiderD(references).scores(words("red", "red red red"), [references[0]] * 2)
    # One word: cosine 1 / sqrt(2) of four. Three: clipped to 1 of 3, and two pairs of words against one.
    assert once == pytest.approx(250 / 2**0.5 * 2.718281828 ** (-1 / 72))
    assert thrice == pytest.approx(250 / (3 * 2**0.5) * 2.718281828 ** (-1 / 72))


def test_cider_d_of_a_caption_does_not_depend_on_its_batch():
    candidates, references = random_sets(20)
    scorer = CiderD(references)
    together = scorer.scores(candidates, references)
    assert together == [scorer.scores([one], [own])[0] for one, own in zip(candidates, references, strict=True)]


@needs_coco
def test_cider_d_is_that_of_pycocoevalcap():
    from pycocoevalcap.cider.cider import Cider

    candidates, references = random_sets(200)
    ours = CiderD(references).scores(candidates, references)
    predicted = {i: [" ".join(sentence)] for i, sentence in enumerate(candidates)}
    true = {i: [" ".join(sentence) for sentence in own] for i, own in enumerate(references)}
    assert ours == pytest.approx(list(100 * Cider().compute_score(true, predicted)[1]), abs=1e-9)


def test_bleu_is_the_product_of_precision_and_brevity():
    scores = bleu(words("a red bus"), [words("a red bus on grass", "a red fish in the deep sea")])
    assert scores == pytest.approx([100 * 2.718281828 ** (1 - 5 / 3)] * 3 + [0.0])


def test_rouge_l_takes_the_best_precision_and_the_best_recall():
    # Common: "a bus" of 3 and 4 words; precision 2/3, recall 2/4.
    precision, recall = 2 / 3, 2 / 4
    wanted = (1 + 1.44) * precision * recall / (recall + 1.44 * precision)
    assert rouge_l(words("a big bus"), [words("a bus on grass", "blue fish swim by")]) == pytest.approx(100 * wanted)


@needs_coco
def test_bleu_and_rouge_l_are_those_of_pycocoevalcap():
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.rouge.rouge import Rouge

    candidates, references = (part[:-1] for part in random_sets(200))
    predicted = {i: [" ".join(sentence)] for i, sentence in enumerate(candidates)}
    true = {i: [" ".join(sentence) for sentence in own] for i, own in enumerate(references)}
    assert bleu(candidates, references) == pytest.approx(
        [100 * s for s in Bleu(4).compute_score(true, predicted, 0)[0]]
    )
    assert rouge_l(candidates, references) == pytest.approx(100 * Rouge().compute_score(true, predicted)[0])


@needs_java
@pytest.mark.slow
def test_scores_without_java_are_those_of_pycocoevalcap_on_plain_sentences():
    predicted = ["A red bus on the grass.", "the dog's bowl", "a two-story house, in blue"]
    true = [["A red bus.", "One bus on grass"], ["A dog's bowl isn't here"], ["a blue house", "a house; two stories"]]
    ours, theirs = caption_scores(predicted, true), coco_caption_scores(predicted, true)
    for name, other in {"cider_d": "coco_cider", "bleu_2": "coco_bleu_2", "rouge_l": "coco_rouge_l"}.items():
        assert ours[name] == pytest.approx(theirs[other], rel=1e-6)
    assert 0 < theirs["coco_meteor"] < 100


# What captions of photographs have besides plain words.
BITS = [
    "a man's dog",
    "two people",
    "don't walk",
    "at 5:30 p.m.",
    "a T-shirt",
    "in the U.S.",
    "(really)",
    "red/blue doors",
    "it's",
    "1,000 birds",
    'a "stop" sign',
    "the boys' bikes",
    "on Mr. Li's boat",
    "a black-and-white cat",
    "3.5 feet",
    "w/ an umbrella",
    "a cafe & bar",
    "they're",
    "sitting; standing",
    "the 1980's",
    "by the sea...",
    "a bus -- parked",
]


@needs_java
@pytest.mark.slow
def test_cider_d_of_200_captions_is_within_half_a_point_of_the_java_tokenizers():
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    chance = random.Random(0)

    def sentence():
        return " ".join(chance.sample(BITS, chance.randint(2, 5))).capitalize() + chance.choice((".", "", "!"))

    true = [[sentence() for _ in range(5)] for _ in range(200)]
    predicted = [chance.choice((own[0], f"{own[1]} {sentence()}", sentence())) for own in true]
    java = PTBTokenizer()
    tokenized = java.tokenize({i: [{"caption": text} for text in own] for i, own in enumerate(true)})
    theirs = Cider().compute_score(tokenized, java.tokenize({i: [{"caption": t}] for i, t in enumerate(predicted)}))[0]
    ours = caption_scores(predicted, true)["cider_d"]
    assert ours == pytest.approx(100 * theirs, abs=0.5) and ours > 10


def test_cider_d_starts_no_other_program(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setenv("PATH", "")
    predicted, true = ["a red bus", "two fish"], [["a red bus on grass"], ["two fish in the sea"]]
    assert caption_scores(predicted, true)["cider_d"] > 0
    assert min(captions.CiderD(true)([""] * 2, predicted, [[5, 1], [6, 1]], text=true)) > 0


def test_diversity_of_one_caption_said_of_all_images_is_low():
    figures = caption_diversity(words("a bus", "a bus", "a bus", "a fish"))
    assert figures == {
        "distinct_captions": 0.5,
        "distinct_1": 3 / 8,
        "distinct_2": 2 / 4,
        "vocabulary": 3.0,
        "mean_length": 2.0,
    }


@pytest.mark.parametrize("references", [[], [["a"], ["b"]], ["a bus"], [[]]])
def test_references_that_do_not_fit_are_refused(references):
    with pytest.raises(ValueError, match="`references"):
        caption_scores(["a bus"], references)


def test_a_caption_that_breaks_off_is_a_bad_ending():
    predicted = [["a", "red", "bus", "on", "the"], ["a", "bus"], [], ["the", "bus", "on", "the", "left"]]
    assert bad_endings(predicted) == 0.5
    with pytest.raises(ValueError, match="`candidates` must have at least one caption, got none"):
        bad_endings([])
