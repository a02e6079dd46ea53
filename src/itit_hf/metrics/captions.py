# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""CIDEr-D, BLEU, ROUGE-L and diversity of captions, in the forms of the COCO caption evaluation, without Java.

Scores of overlap are given times 100, as papers print them.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

MAX_N = 4
_LENGTH_SIGMA = 6.0  # of CIDEr-D, in words
_ROUGE_BETA = 1.2  # recall counts more than precision, as in the COCO evaluation

# What the COCO evaluation drops after tokenization.
_PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
# Brackets stay in the COCO evaluation: its tokenizer writes them in lower case, its list of punctuation in upper.
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_TWO_WORDS = {"cannot": ("can", "not"), "gonna": ("gon", "na"), "wanna": ("wan", "na"), "gotta": ("got", "ta")}
_TOKEN = re.compile(
    r"(?:[a-z]\.){2,}"  # u.s.
    r"|(?:mr|mrs|ms|dr|st|jr|sr|vs|etc)\."
    r"|\d+(?:[.,:/]\d+)+"  # 3.5, 1,000, 5:30
    r"|[^\W_]+(?:[-'/&.][^\W_]+)*"  # t-shirt, don't, red/blue
    r"|[^\w\s]|_"
)
# English words after which something must follow.
_UNFINISHED = frozenset(
    ["a", "an", "and", "are", "as", "at", "by", "for", "from", "her", "his", "in", "into", "is", "its", "of", "on"]
    + ["or", "over", "that", "the", "their", "there", "this", "to", "under", "with"]
)
_CONTRACTION = re.compile(r"(.+?)(n't|'s|'m|'d|'re|'ve|'ll)$")


def tokenize_caption(text: str) -> list[str]:
    """Split a caption much as the Penn Treebank tokenizer of the COCO evaluation does, without punctuation.

    Plain sentences come out the same; rare forms may not, so that figures made with it are not called PTB. However a
    letter with an accent is written, as one character or as two, it is the same (Unicode's form NFC), and a combining
    mark belongs to the word of its letter.

    Args:
        text (`str`): A caption.

    Returns:
        `list[str]`: Its words in lower case.
    """
    text = unicodedata.normalize("NFC", text.lower().replace("\u2019", "'"))
    # Marks without a letter that has them in it, as in Hindi, are no letters to `re`: it is shown a letter there.
    shown = "".join("x" if unicodedata.category(character).startswith("M") else character for character in text)
    words = []
    for start, end in (match.span() for match in _TOKEN.finditer(shown)):
        token = text[start:end]
        contraction = _CONTRACTION.match(token)
        if token in _TWO_WORDS:
            words += _TWO_WORDS[token]
        elif contraction:
            words += contraction.groups()
        elif token not in _PUNCTUATION and token not in '"\u201c\u201d\u2018\u2013\u2014\u2026':
            words.append(_BRACKETS.get(token, token))
    return words


def _ngrams(words: Sequence[str]) -> Counter:
    """Counts of all runs of one to four words."""
    return Counter(tuple(words[i : i + n]) for n in range(1, MAX_N + 1) for i in range(len(words) - n + 1))


def _check(candidates: Sequence, references: Sequence):
    if not len(candidates) or len(candidates) != len(references):
        raise ValueError(
            f"wanted one entry of `references` per candidate, at least one, got {len(candidates)} `candidates` and "
            f"{len(references)} `references`"
        )
    for i, texts in enumerate(references):
        if isinstance(texts, str) or not len(texts):
            raise ValueError(f"`references[{i}]` must be a list of at least one caption, got {texts!r}")


class CiderD:
    r"""CIDEr-D (Vedantam et al., 2015), with the document frequency of one whole set of references.

    The weight of an n-gram depends on that set alone, so that a caption's score does not depend on its batch.

    Args:
        reference_sets (`Sequence[Sequence[Sequence[str]]]`): For each image of the set, its captions as words.

    Raises:
        ValueError: If there are none.
    """

    def __init__(self, reference_sets: Sequence[Sequence[Sequence[str]]]):
        if not len(reference_sets):
            raise ValueError("`reference_sets` must have at least one image, got none")
        self.log_num_images = math.log(len(reference_sets))
        self.document_frequency = Counter()
        for captions in reference_sets:
            self.document_frequency.update({ngram for words in captions for ngram in _ngrams(words)})

    def scores(self, candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]):
        """Score captions against their own references, each alone.

        Args:
            candidates (`Sequence[Sequence[str]]`): Captions as words.
            references (`Sequence[Sequence[Sequence[str]]]`): For each, the captions of its image as words.

        Returns:
            `list[float]`: One score per caption, 1000 at most.

        Raises:
            ValueError: If there are not as many of both, or none.
        """
        _check(candidates, references)
        scores = []
        for words, captions in zip(candidates, references, strict=True):
            vectors = self._weigh(words)
            similarity = 0.0
            for caption in captions:
                difference = max(len(words) - 1, 0) - max(len(caption) - 1, 0)  # counted in pairs of words there
                penalty = math.exp(-(difference**2) / (2 * _LENGTH_SIGMA**2))
                similarity += penalty * _clipped_cosines(vectors, self._weigh(caption))
            scores.append(1000.0 * similarity / (MAX_N * len(captions)))
        return scores

    def _weigh(self, words: Sequence[str]) -> list[dict]:
        """For each n, the weight of each n-gram."""
        vectors = [{} for _ in range(MAX_N)]
        for ngram, count in _ngrams(words).items():
            rarity = self.log_num_images - math.log(max(1.0, self.document_frequency[ngram]))
            vectors[len(ngram) - 1][ngram] = count * rarity
        return vectors


def _norm(vector: dict) -> float:
    return math.sqrt(sum(weight**2 for weight in vector.values()))


def _clipped_cosines(vectors: list[dict], reference_vectors: list[dict]) -> float:
    """Sum over n of the cosine, n-grams that a caption repeats counted no more than the reference does."""
    total = 0.0
    for vector, reference in zip(vectors, reference_vectors, strict=True):
        norm = _norm(vector)
        reference_norm = _norm(reference)
        if norm and reference_norm:
            shared = vector.keys() & reference.keys()
            product = sum(min(vector[ngram], reference[ngram]) * reference[ngram] for ngram in shared)
            total += product / (norm * reference_norm)
    return total


def bleu(candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> list[float]:
    """BLEU-1 to BLEU-4 of a whole set (Papineni et al., 2002), the closest reference's length counted.

    Args:
        candidates (`Sequence[Sequence[str]]`): Captions as words.
        references (`Sequence[Sequence[Sequence[str]]]`): For each, the captions of its image as words.

    Returns:
        `list[float]`: Four scores from 0 to 100.

    Raises:
        ValueError: If there are not as many of both, or none.
    """
    _check(candidates, references)
    correct = [0] * MAX_N  # n-grams that a reference has, for each n
    predicted = [0] * MAX_N  # all n-grams
    length = reference_length = 0
    for words, captions in zip(candidates, references, strict=True):
        length += len(words)
        reference_length += min((abs(len(caption) - len(words)), len(caption)) for caption in captions)[1]
        most = Counter()
        for caption in captions:
            most |= _ngrams(caption)
        for ngram, count in _ngrams(words).items():
            predicted[len(ngram) - 1] += count
            correct[len(ngram) - 1] += min(count, most[ngram])
    brevity = 0.0 if not length else math.exp(min(0.0, 1.0 - reference_length / length))
    scores = []
    logarithms = 0.0
    for n in range(MAX_N):
        logarithms += math.log(correct[n] / predicted[n]) if correct[n] else -math.inf
        scores.append(100.0 * brevity * math.exp(logarithms / (n + 1)))
    return scores


def _common_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    lengths = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0  # of the previous word, up to the word before `other`
        for i, other in enumerate(second, 1):
            above = lengths[i]
            lengths[i] = diagonal + 1 if word == other else max(above, lengths[i - 1])
            diagonal = above
    return lengths[-1]


def rouge_l(candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> float:
    """Mean ROUGE-L (Lin, 2004) as in the COCO evaluation: best precision and best recall over the references.

    Args:
        candidates (`Sequence[Sequence[str]]`): Captions as words.
        references (`Sequence[Sequence[Sequence[str]]]`): For each, the captions of its image as words.

    Returns:
        `float` from 0 to 100.

    Raises:
        ValueError: If there are not as many of both, or none.
    """
    _check(candidates, references)
    total = 0.0
    for words, captions in zip(candidates, references, strict=True):
        common = [_common_length(words, caption) for caption in captions]
        precision = max(common) / max(len(words), 1)
        recall = max(length / max(len(caption), 1) for length, caption in zip(common, captions, strict=True))
        if precision and recall:
            squared = _ROUGE_BETA**2
            total += (1 + squared) * precision * recall / (recall + squared * precision)
    return 100.0 * total / len(candidates)


def caption_diversity(candidates: Sequence[Sequence[str]]) -> dict[str, float]:
    """How much captions differ from each other: a captioner that gives all images one caption shows here.

    Args:
        candidates (`Sequence[Sequence[str]]`): Captions as words.

    Returns:
        `dict[str, float]`: `distinct_captions` (different captions over all), `distinct_1` and `distinct_2` (different
        words, and pairs of words, over all), `vocabulary` (different words), `mean_length` in words.

    Raises:
        ValueError: If there are none.
    """
    if not len(candidates):
        raise ValueError("`candidates` must have at least one caption, got none")
    ngrams = [[tuple(words[i : i + n]) for words in candidates for i in range(len(words) - n + 1)] for n in (1, 2)]
    distinct = [len(set(found)) / max(len(found), 1) for found in ngrams]
    return {
        "distinct_captions": len({tuple(words) for words in candidates}) / len(candidates),
        "distinct_1": distinct[0],
        "distinct_2": distinct[1],
        "vocabulary": float(len(set(ngrams[0]))),
        "mean_length": len(ngrams[0]) / len(candidates),
    }


def bad_endings(candidates: Sequence[Sequence[str]]) -> float:
    """Share of English captions that break off: the last word asks for another one, or there is none. Sequence-level
    training with a reward that knows no end brings them about.

    Args:
        candidates (`Sequence[Sequence[str]]`): Captions as words.

    Returns:
        `float` in [0, 1].

    Raises:
        ValueError: If there are none.
    """
    if not len(candidates):
        raise ValueError("`candidates` must have at least one caption, got none")
    return sum(not words or words[-1] in _UNFINISHED for words in candidates) / len(candidates)


def caption_scores(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """All scores of captions against references, the document frequency of CIDEr-D over all of these references.

    Args:
        candidates (`Sequence[str]`): Captions.
        references (`Sequence[Sequence[str]]`): For each, the captions of its image.

    Returns:
        `dict[str, float]`: `cider_d`, `bleu_1` to `bleu_4`, `rouge_l`, and those of [`caption_diversity`].

    Raises:
        ValueError: If there are not as many of both, or none.
    """
    _check(candidates, references)
    predicted = [tokenize_caption(text) for text in candidates]
    true = [[tokenize_caption(text) for text in texts] for texts in references]
    cider = CiderD(true).scores(predicted, true)
    scores = {"cider_d": sum(cider) / len(cider)}
    scores |= {f"bleu_{n}": score for n, score in enumerate(bleu(predicted, true), 1)}
    return scores | {"rouge_l": rouge_l(predicted, true)} | caption_diversity(predicted)
