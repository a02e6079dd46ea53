# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Pre-training of a small T5: its unigram tokenizer and span corruption (Raffel et al. 2020, section 3.1.4).

The text encoder of ITIT is frozen and pre-trained. Where no published T5 fits, such as in a small closed world, this
is how one is made; any T5 or mT5 of the Hub needs nothing of it.
"""

import json
import string
from collections.abc import Iterable, Sequence

import torch
from tokenizers import normalizers
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast, T5Tokenizer

from ..rng import keyed_generators

# A private-use character: no text contains it, and the finished vocabulary does not either.
_WORD_MARK = "\ue000"


def _twice(sentences: Iterable[str]) -> Iterable[list[str]]:
    """Each sentence as it is, and with every word marked.

    The trainer takes as candidates the substrings that occur in at least two *different* words. In a small closed
    vocabulary most words occur in no other word, and would fall to pieces; marked, each is part of a second one.
    """
    for sentence in sentences:
        yield [sentence, " ".join(word + _WORD_MARK for word in sentence.split())]


def train_unigram_tokenizer(
    sentences: Sequence[str],
    vocab_size: int = 480,
    num_sentinels: int = 16,
    model_max_length: int = 64,
    lowercase: bool = True,
) -> PreTrainedTokenizerFast:
    """Train a unigram tokenizer of T5's form: pad 0, end of sequence 1, unknown 2, pieces, sentinels at the end.

    Printable ASCII is always part of the alphabet, so any English text survives encoding and decoding. The class is
    not `T5Tokenizer`, which rebuilds itself on loading and drops the normalization (NFKC and, if asked, lower case).

    Args:
        sentences (`Sequence[str]`): The corpus, one string per sentence.
        vocab_size (`int`, *optional*, defaults to 480): Pieces at most, sentinels included; a small corpus
            gives fewer.
        num_sentinels (`int`, *optional*, defaults to 16): Tokens `<extra_id_0>`, `<extra_id_1>`, ...: they take the
            *last* ids in descending order, as T5's do.
        model_max_length (`int`, *optional*, defaults to 64): Where `truncation=True` cuts.
        lowercase (`bool`, *optional*, defaults to `True`): Read "A Red Bus" as "a red bus".

    Returns:
        `PreTrainedTokenizerFast`, which `AutoTokenizer` loads back.

    Raises:
        ValueError: If `sentences` has no words, or `vocab_size` has no room for the alphabet.
    """
    if not any(sentence.split() for sentence in sentences):
        raise ValueError("`sentences` must hold at least one word, got none")
    alphabet = [c for c in string.printable if not c.isspace() and not (lowercase and c.isupper())]
    normalizer = [normalizers.NFKC(), normalizers.Lowercase()] if lowercase else [normalizers.NFKC()]
    normalizer = normalizers.Sequence(normalizer)
    normalized = [normalizer.normalize_str(sentence) for sentence in sentences]
    sentinels = [f"<extra_id_{i}>" for i in range(num_sentinels)]
    smallest = len(set(alphabet).union(*normalized)) + num_sentinels + 3
    if vocab_size < smallest:
        raise ValueError(f"`vocab_size` must be at least {smallest} for this alphabet, got {vocab_size}")

    trained = T5Tokenizer(extra_ids=num_sentinels).train_new_from_iterator(
        _twice(normalized), vocab_size, initial_alphabet=alphabet
    )
    special = {"<pad>", "</s>", "<unk>", *sentinels}
    vocab = json.loads(trained.backend_tokenizer.to_str())["model"]["vocab"]
    pieces = [(piece, score) for piece, score in vocab if piece not in special and _WORD_MARK not in piece]
    head = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    tail = [(sentinel, 0.0) for sentinel in reversed(sentinels)]
    backend = T5Tokenizer(vocab=head + pieces + tail, extra_ids=num_sentinels).backend_tokenizer
    backend.normalizer = normalizer
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=sentinels,
        model_max_length=model_max_length,
        model_input_names=["input_ids", "attention_mask"],
    )


def sentinel_token_ids(tokenizer) -> list[int]:
    """Ids of `<extra_id_0>`, `<extra_id_1>`, ... in this order, as far as the tokenizer has them.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): A tokenizer of T5's form.

    Returns:
        `list[int]`, empty if there are none.
    """
    vocab = tokenizer.get_vocab()
    ids = []
    while f"<extra_id_{len(ids)}>" in vocab:
        ids.append(vocab[f"<extra_id_{len(ids)}>"])
    return ids


def _random_parts(total: int, num_parts: int, generator: torch.Generator) -> list[int]:
    """Split `total` into `num_parts` parts of at least 1; every split is equally likely."""
    cuts = torch.randperm(total - 1, generator=generator)[: num_parts - 1].add(1).sort().values.tolist()
    return [end - start for start, end in zip([0, *cuts], [*cuts, total], strict=True)]


def random_span_mask(
    length: int,
    noise_density: float = 0.15,
    mean_span_length: float = 3.0,
    max_spans: int | None = None,
    generator: torch.Generator | None = None,
) -> list[bool]:
    """Choose spans to mask: about `noise_density * length` tokens in spans of about `mean_span_length` tokens.

    Differs from T5's own recipe where sentences are short: the count is rounded up or down at random, so that its
    mean is right, and a span may also stand at the very start.

    Args:
        length (`int`): Tokens of the sentence, end of sequence not counted; at least 1.
        noise_density (`float`, *optional*, defaults to 0.15): Share of tokens to mask, in (0, 1).
        mean_span_length (`float`, *optional*, defaults to 3.0): Mean length of a span in tokens, at least 1.
        max_spans (`int`, *optional*): Spans at most, such as the number of sentinels minus one.
        generator (`torch.Generator`, *optional*): Source of randomness.

    Returns:
        `list[bool]` of length `length`: `True` where masked. At least one token is masked; at least one is visible,
        unless there is only one.

    Raises:
        ValueError: If an argument is outside its range.
    """
    if length < 1:
        raise ValueError(f"`length` must be at least 1, got {length}")
    if not 0.0 < noise_density < 1.0:
        raise ValueError(f"`noise_density` must be in (0, 1), got {noise_density}")
    if mean_span_length < 1.0:
        raise ValueError(f"`mean_span_length` must be at least 1, got {mean_span_length}")
    if length == 1:
        return [True]
    uniform = torch.rand((), generator=generator).item()
    num_masked = min(max(int(length * noise_density + uniform), 1), length - 1)
    num_visible = length - num_masked
    num_spans = max(round(num_masked / mean_span_length), 1)
    num_spans = min(num_spans, num_masked, num_visible + 1, num_spans if max_spans is None else max_spans)
    spans = _random_parts(num_masked, num_spans, generator)
    # The two outer gaps may be empty, the ones between spans may not: parts of at least 1, minus 1 on the outside.
    gaps = _random_parts(num_visible + 2, num_spans + 1, generator)
    gaps[0] -= 1
    gaps[-1] -= 1
    mask = [False] * gaps[0]
    for span, gap in zip(spans, gaps[1:], strict=True):
        mask += [True] * span + [False] * gap
    return mask


def corrupt_spans(
    token_ids: Sequence[int], span_mask: Sequence[bool], sentinel_ids: Sequence[int], eos_token_id: int = 1
) -> tuple[list[int], list[int]]:
    """Replace each masked span by a sentinel; the target is the sentinels, each followed by what it stands for.

    "a red bus at night" with "red" and "at night" masked gives the input `a <0> bus <1> </s>` and the target
    `<0> red <1> at night <2> </s>`.

    Args:
        token_ids (`Sequence[int]`): The sentence without its end of sequence.
        span_mask (`Sequence[bool]`): `True` where masked, of the same length.
        sentinel_ids (`Sequence[int]`): Sentinels in the order of use; one more than there are spans.
        eos_token_id (`int`, *optional*, defaults to 1): Ends both sequences.

    Returns:
        `(input_ids, labels)`, two lists of ids.

    Raises:
        ValueError: If the lengths differ, or there are too few sentinels.
    """
    if len(token_ids) != len(span_mask):
        raise ValueError(f"`span_mask` must be as long as `token_ids` ({len(token_ids)}), got {len(span_mask)}")
    starts = sum(masked and not before for before, masked in zip([False, *span_mask], span_mask, strict=False))
    if len(sentinel_ids) < starts + 1:
        raise ValueError(f"`sentinel_ids` must hold {starts + 1} ids for {starts} spans, got {len(sentinel_ids)}")
    sentinels = iter(sentinel_ids)
    input_ids: list[int] = []
    labels: list[int] = []
    before = False  # the token before is masked
    for token_id, masked in zip(token_ids, span_mask, strict=True):
        if masked and not before:
            sentinel = next(sentinels)
            input_ids.append(sentinel)
            labels.append(sentinel)
        (labels if masked else input_ids).append(token_id)
        before = masked
    return [*input_ids, eos_token_id], [*labels, next(sentinels), eos_token_id]


class SpanCorruptionDataset(Dataset):
    """Texts with masked spans, `num_rounds` times over; item `i` is a pure function of `(seed, i)`.

    A text is made of some of a document's sentences, in random order. Where the sentences of a document describe the
    same thing, as the captions of one image do, a masked "red" can be read from another sentence that says what is
    red: this is what teaches the encoder which word belongs to which. Single sentences about random scenes cannot.

    Args:
        documents (`Sequence[Sequence[str]]`): Each a list of sentences. Sentences without a token are left out.
        tokenizer (`PreTrainedTokenizerBase`): With at least two sentinels; cuts at its `model_max_length`.
        noise_density (`float`, *optional*, defaults to 0.15): See [`random_span_mask`].
        mean_span_length (`float`, *optional*, defaults to 3.0): See [`random_span_mask`].
        num_rounds (`int`, *optional*, defaults to 1): How often each document occurs, each time with other spans.
        seed (`int`, *optional*, defaults to 0): Of the choice of sentences and of the spans.

    Raises:
        ValueError: If nothing is left of `documents`, or the tokenizer has no sentinels.
    """

    def __init__(self, documents, tokenizer, noise_density=0.15, mean_span_length=3.0, num_rounds=1, seed=0):
        self.sentinel_ids = sentinel_token_ids(tokenizer)
        if len(self.sentinel_ids) < 2:
            raise ValueError(f"`tokenizer` must have two sentinels at least, got {len(self.sentinel_ids)}")
        sentences = [sentence for document in documents for sentence in document]
        rows = iter(tokenizer(sentences, add_special_tokens=False, verbose=False).input_ids if sentences else [])
        encoded = [[ids for ids in (next(rows) for _ in document) if ids] for document in documents]
        self.documents = [document for document in encoded if document]
        if not self.documents:
            raise ValueError("`documents` must hold at least one word, got none")
        self.eos_token_id = tokenizer.eos_token_id
        self.max_length = tokenizer.model_max_length
        self.noise_density = noise_density
        self.mean_span_length = mean_span_length
        self.num_rounds = num_rounds
        self.seed = seed

    def __len__(self) -> int:
        return len(self.documents) * self.num_rounds

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside 0 ... {len(self) - 1}")
        document = self.documents[index % len(self.documents)]
        (generator,) = keyed_generators(self.seed, "span_corruption", [index])
        num_sentences = int(torch.randint(1, len(document) + 1, (), generator=generator))
        chosen = torch.randperm(len(document), generator=generator)[:num_sentences].tolist()
        text = [token_id for index in chosen for token_id in document[index]][: self.max_length - 1]
        mask = random_span_mask(
            len(text), self.noise_density, self.mean_span_length, len(self.sentinel_ids) - 1, generator
        )
        input_ids, labels = corrupt_spans(text, mask, self.sentinel_ids, self.eos_token_id)
        return {"input_ids": input_ids, "labels": labels}


def span_accuracy(predictions, labels, ignored_ids: Sequence[int] = ()) -> float:
    """Share of masked tokens that are predicted right, given the true ones before them.

    Args:
        predictions (array of shape `(batch_size, target_length)`): Most likely ids.
        labels (array of the same shape): True ids; negative ones do not count.
        ignored_ids (`Sequence[int]`, *optional*): Ids that do not count, such as sentinels and end of sequence.

    Returns:
        `float` in [0, 1]; 0.0 if nothing counts.
    """
    predictions = torch.as_tensor(predictions)
    labels = torch.as_tensor(labels)
    counted = (labels >= 0) & ~torch.isin(labels, torch.tensor(list(ignored_ids), dtype=labels.dtype))
    return ((predictions == labels) & counted).sum().item() / max(counted.sum().item(), 1)
