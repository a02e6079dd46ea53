# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Which pairs of the web are worth training on: ALIGN's rules (https://huggingface.co/papers/2102.05918, section 3), a
dual encoder's threshold, and no near-duplicate of what will be tested on.

Two passes, row by row. The first counts what rules need to know of all pairs, as numbers of 64 bits; counts of parts
add up, so neither the order of the parts nor the number of workers changes what is dropped. The second judges.
"""

import hashlib
import io
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import datasets
import numpy as np
import PIL.Image
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from itit_hf.data.loading import without_decoding
from itit_hf.models.image_loading_itit import load_image

# Why a pair is dropped, in the order in which rules are asked; each dropped pair counts for the first one.
REASONS = (
    "unreadable_image",
    "small_image",
    "narrow_image",
    "image_of_many_texts",
    "near_test_image",
    "text_of_many_images",
    "few_words",
    "many_words",
    "rare_words",
    "low_cosine",
)
_ROWS_PER_PART = 2048
_HASH_SIDE = 8  # of a perceptual hash: 8 x 8 bits


@dataclass(frozen=True)
class FilterRules:
    """ALIGN's numbers; `None` leaves a rule out. Its rule against pornography needs a classifier, which is not here.

    Args:
        min_side (`int`, *optional*, defaults to 200): The shorter side of an image must have more pixels.
        max_aspect (`float`, *optional*, defaults to 3.0): Longer over shorter side must be less.
        max_texts_per_image (`int`, *optional*, defaults to 1000): An image with more different texts is dropped.
        max_images_per_text (`int`, *optional*, defaults to 10): A text of more different images is dropped.
        min_words (`int`, *optional*, defaults to 3): A text must have as many words.
        max_words (`int`, *optional*, defaults to 20): A text must not have more words.
        frequent_ngrams (`int`, *optional*, defaults to 100,000,000):
            Each word and each two neighbours must be among so many most frequent ones.
        max_test_distance (`int`, *optional*, defaults to 3):
            Bits of 64 that the perceptual hash of an image may differ by to be a near-duplicate of a test image.
    """

    min_side: int | None = 200
    max_aspect: float | None = 3.0
    max_texts_per_image: int | None = 1000
    max_images_per_text: int | None = 10
    min_words: int | None = 3
    max_words: int | None = 20
    frequent_ngrams: int | None = 100_000_000
    max_test_distance: int = 3


ALIGN_RULES = FilterRules()


@dataclass
class FilterReport:
    """What was dropped, and why.

    Args:
        pairs (`int`): An image with several captions is as many pairs.
        kept (`int`): Of them.
        dropped (`dict[str, int]`): By reason, of `REASONS`; with `kept` they add up to `pairs`.
    """

    pairs: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    def markdown(self) -> str:
        """A table for a card."""
        lines = [("reason", "pairs"), ("---", "---"), *self.dropped.items(), ("kept", self.kept), ("all", self.pairs)]
        return "\n".join(f"| {name} | {count} |" for name, count in lines) + "\n"


def words_of(text: str) -> list[str]:
    """Words of a text, in small letters; what is neither letter nor digit parts them."""
    return re.findall(r"\w+", text.lower())


def ngrams_of(text: str) -> list[str]:
    """Words, and each two neighbours."""
    words = words_of(text)
    return words + [" ".join(pair) for pair in itertools.pairwise(words)]


def texts_of(row: Mapping) -> list[str]:
    """Captions of a row, whose `text` is one or a list of them."""
    return [row["text"]] if isinstance(row["text"], str) else list(row["text"])


def _key(data: str | bytes) -> int:
    data = data.encode() if isinstance(data, str) else data
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def image_key(image) -> int:
    """64 bits that tell an image: of its file, or of its pixels."""
    if isinstance(image, Mapping):
        return _key(image["bytes"] if image.get("bytes") is not None else str(image["path"]))
    return _key(load_image(image).tobytes())


class PairCounts:
    """What is known of all pairs: how many texts each image has, how many images each text, and how often words
    and their neighbours occur. Different ones are counted, so a pair that is there twice counts once."""

    def __init__(self):
        self._pairs = set()
        self._ngrams = Counter()

    def add(self, rows: Iterable[Mapping]) -> "PairCounts":
        """Count rows with `image` and `text`."""
        for row in rows:
            image = image_key(row["image"])
            for text in texts_of(row):
                self._pairs.add((image, _key(text)))
                self._ngrams.update(_key(ngram) for ngram in ngrams_of(text))
        return self

    def merge(self, other: "PairCounts") -> "PairCounts":
        """Take up the counts of another part."""
        self._pairs |= other._pairs
        self._ngrams.update(other._ngrams)
        return self

    def texts_per_image(self) -> Counter:
        """By the image's key."""
        return Counter(image for image, _ in self._pairs)

    def images_per_text(self) -> Counter:
        """By the text's key."""
        return Counter(text for _, text in self._pairs)

    def frequent_ngrams(self, number: int) -> set[int]:
        """Keys of the most frequent words and neighbours; of equally frequent ones those with the smaller keys."""
        if len(self._ngrams) <= number:
            return set(self._ngrams)
        return set(sorted(self._ngrams, key=lambda ngram: (-self._ngrams[ngram], ngram))[:number])


class PairJudge:
    """The second pass: why a pair is dropped, if it is.

    Args:
        rules ([`FilterRules`]): The numbers.
        counts ([`PairCounts`]): Of all pairs.
        test_hashes (`np.ndarray` of shape `(num_test_images,)`, *optional*): See [`perceptual_hash`].
    """

    def __init__(self, rules: FilterRules, counts: PairCounts, test_hashes: np.ndarray | None = None):
        self.rules = rules
        self.test_hashes = test_hashes
        most = rules.max_texts_per_image, rules.max_images_per_text
        per_key = counts.texts_per_image(), counts.images_per_text()
        self._crowded_images, self._crowded_texts = (
            {key for key, number in numbers.items() if limit is not None and number > limit}
            for limit, numbers in zip(most, per_key, strict=True)
        )
        self._frequent = None if rules.frequent_ngrams is None else counts.frequent_ngrams(rules.frequent_ngrams)

    def reasons(self, row: Mapping) -> list[str | None]:
        """For each caption of a row, of `REASONS`, or `None` if the pair is kept."""
        of_image = self._image_reason(row["image"])
        return [of_image or self._text_reason(text) for text in texts_of(row)]

    def _image_reason(self, image) -> str | None:
        rules = self.rules
        try:
            width, height = _size(image)
            if rules.min_side is not None and min(width, height) <= rules.min_side:
                return "small_image"
            if rules.max_aspect is not None and max(width, height) >= rules.max_aspect * min(width, height):
                return "narrow_image"
            if image_key(image) in self._crowded_images:
                return "image_of_many_texts"
            if self.test_hashes is not None and self._is_near_test(load_image(image)):
                return "near_test_image"
        except (ValueError, OSError):  # what PIL and `load_image` say about a file
            return "unreadable_image"
        return None

    def _is_near_test(self, image: PIL.Image.Image) -> bool:
        distances = np.unpackbits((self.test_hashes ^ perceptual_hash(image)).view(np.uint8)).reshape(-1, 64)
        return bool((distances.sum(axis=1) <= self.rules.max_test_distance).any())

    def _text_reason(self, text: str) -> str | None:
        rules = self.rules
        num_words = len(words_of(text))
        if _key(text) in self._crowded_texts:
            return "text_of_many_images"
        if rules.min_words is not None and num_words < rules.min_words:
            return "few_words"
        if rules.max_words is not None and num_words > rules.max_words:
            return "many_words"
        if self._frequent is not None and not all(_key(ngram) in self._frequent for ngram in ngrams_of(text)):
            return "rare_words"
        return None


def _size(image) -> tuple[int, int]:
    """Width and height, of a file by its header alone."""
    if isinstance(image, Mapping):
        source = image["path"] if image.get("bytes") is None else io.BytesIO(image["bytes"])
        with PIL.Image.open(source) as opened:
            return opened.size
    return load_image(image).size


def perceptual_hash(image: PIL.Image.Image) -> np.uint64:
    """64 bits that change little when an image is scaled, compressed or brightened: where brightness grows from left
    to right, on 9 x 8 grey pixels.

    Args:
        image (`PIL.Image.Image`): Any image.

    Returns:
        `np.uint64`.
    """
    grey = load_image(image).convert("L").resize((_HASH_SIDE + 1, _HASH_SIDE), PIL.Image.Resampling.BOX)
    pixels = np.asarray(grey).astype(np.int16)
    return np.packbits(pixels[:, 1:] > pixels[:, :-1]).view(np.uint64)[0]


def perceptual_hashes(images: Iterable) -> np.ndarray:
    """[`perceptual_hash`] of each image: `np.ndarray` of `np.uint64` of shape `(num_images,)`."""
    return np.array([perceptual_hash(load_image(image)) for image in images], dtype=np.uint64)


def filter_pairs(
    rows: datasets.Dataset,
    rules: FilterRules = ALIGN_RULES,
    test_images: Iterable | None = None,
    scorer=None,
    min_cosine: float | None = None,
    num_workers: int = 0,
) -> tuple[datasets.Dataset, FilterReport]:
    """Keep the pairs that pass all rules. A row loses the captions that do not, and goes when none is left.

    Args:
        rows (`datasets.Dataset`): With `image` and `text`, a caption or a list.
        rules ([`FilterRules`], *optional*, defaults to ALIGN's): The numbers.
        test_images (`Iterable`, *optional*): Images of the test set, which none may be a near-duplicate of.
        scorer ([`DualEncoderScorer`], *optional*): Judges what passed all other rules.
        min_cosine (`float`, *optional*): The least cosine of image and text that is kept; needs the scorer.
        num_workers (`int`, *optional*, defaults to 0): Processes beside this one.

    Returns:
        `(rows, report)`: what is kept, and [`FilterReport`].

    Raises:
        ValueError: If one of `scorer` and `min_cosine` is missing, or a column.
    """
    if (scorer is None) != (min_cosine is None):
        raise ValueError("give both of `scorer` and `min_cosine`, or neither")
    missing = [column for column in ("image", "text") if column not in rows.column_names]
    if missing:
        raise ValueError(f"`rows` must have the columns `image` and `text`, {missing} is missing")
    files = without_decoding(rows)
    counts = PairCounts()
    for part in _in_parts(files, _CountPart(), num_workers, "count"):
        counts.merge(part)
    hashes = None if test_images is None else perceptual_hashes(test_images)
    judge = PairJudge(rules, counts, hashes)
    reasons = [row for part in _in_parts(files, _JudgePart(judge), num_workers, "judge") for row in part]
    if scorer is not None:
        _score(files, reasons, scorer, min_cosine)
    return _kept_rows(rows, reasons), _report(reasons)


class _CountPart:
    def __call__(self, rows: Iterable[Mapping]) -> PairCounts:
        return PairCounts().add(rows)


@dataclass
class _JudgePart:
    judge: PairJudge

    def __call__(self, rows: Iterable[Mapping]) -> list[list[str | None]]:
        return [self.judge.reasons(row) for row in rows]


class _Parts:
    """Parts of the rows, worked on where a loader asks for them."""

    def __init__(self, rows: datasets.Dataset, work: Callable):
        self.rows = rows
        self.work = work

    def __len__(self) -> int:
        return -(-len(self.rows) // _ROWS_PER_PART)

    def __getitem__(self, part: int):
        if part >= len(self):
            raise IndexError(part)
        places = range(part * _ROWS_PER_PART, min((part + 1) * _ROWS_PER_PART, len(self.rows)))
        return self.work(self.rows[place] for place in places)


def _as_it_is(part):
    return part


def _in_parts(rows: datasets.Dataset, work: Callable, num_workers: int, name: str) -> Iterator:
    """Results of all parts, in their order."""
    loader = DataLoader(_Parts(rows, work), batch_size=None, collate_fn=_as_it_is, num_workers=num_workers)
    return tqdm(loader, desc=f"{name} pairs", disable=len(loader) == 1)


def _score(files: datasets.Dataset, reasons: list[list[str | None]], scorer, min_cosine: float):
    """Mark the pairs that the scorer does not like, among those that passed."""
    passed = [(i, j) for i, row in enumerate(reasons) for j, reason in enumerate(row) if reason is None]
    starts = range(0, len(passed), scorer.batch_size)
    for start in tqdm(starts, desc="score pairs", disable=len(starts) < 2):
        places = passed[start : start + scorer.batch_size]
        batch = [files[i] for i, _ in places]
        texts = [texts_of(row)[j] for row, (_, j) in zip(batch, places, strict=True)]
        cosines = scorer.cosine([row["image"] for row in batch], texts).tolist()
        for (i, j), cosine in zip(places, cosines, strict=True):
            if not cosine >= min_cosine:
                reasons[i][j] = "low_cosine"


def _kept_rows(rows: datasets.Dataset, reasons: Sequence[Sequence[str | None]]) -> datasets.Dataset:
    kept = [i for i, row in enumerate(reasons) if None in row]
    chosen = rows.select(kept)
    if isinstance(rows.features["text"], datasets.Value):
        return chosen
    texts = [
        [text for text, reason in zip(texts, reasons[i], strict=True) if reason is None]
        for i, texts in zip(kept, chosen["text"], strict=True)
    ]
    features = rows.features["text"]
    return chosen.remove_columns("text").add_column("text", texts, feature=features)


def _report(reasons: Sequence[Sequence[str | None]]) -> FilterReport:
    found = Counter(reason for row in reasons for reason in row)
    dropped = {reason: found[reason] for reason in REASONS}
    return FilterReport(sum(found.values()), found[None], dropped)
