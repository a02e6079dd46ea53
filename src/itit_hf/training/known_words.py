# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Counting the content words of the training texts, so that a checkpoint can say which words it does not know."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import datasets
from transformers import TrainerCallback

from ..data.captions import captions_of
from ..data.direct_rows import DirectRows
from ..data.streams import STREAM_COLUMNS
from ..pipelines.known_words import content_words

MAX_COUNTED_ROWS = 200_000  # of each stream; of more rows, runs that are spread evenly over all
RUN_LENGTH = 2_000  # rows that are read together
FEW_TEXTS = 1_000  # below so many texts a word that occurs once counts too: each is read many times
MAX_KNOWN_WORDS = 20_000
MAX_KNOWN_BYTES = 400_000  # of JSON, in which a letter that is not ASCII may take six


def counted_rows(num_rows: int) -> Iterable[range]:
    """The rows whose texts are counted, as runs of neighbours.

    Args:
        num_rows (`int`): How many there are.

    Returns:
        `Iterable[range]`: All of them, or `MAX_COUNTED_ROWS` in runs of `RUN_LENGTH`.
    """
    if num_rows <= MAX_COUNTED_ROWS:
        return [range(start, min(start + RUN_LENGTH, num_rows)) for start in range(0, num_rows, RUN_LENGTH)]
    num_runs = MAX_COUNTED_ROWS // RUN_LENGTH
    starts = (run * (num_rows - RUN_LENGTH) // (num_runs - 1) for run in range(num_runs))
    return [range(start, start + RUN_LENGTH) for start in starts]


def count_words(rows: Sequence[Mapping]) -> tuple[Counter, int]:
    """How often each content word occurs in the captions of a stream; no image is read.

    Args:
        rows (`datasets.Dataset` or `Sequence[Mapping]`): With `text`, a caption or several.

    Returns:
        `(counts, num_texts)`: Occurrences by word, and captions that were read.
    """
    counts: Counter = Counter()
    num_texts = 0
    if isinstance(rows, datasets.Dataset):
        rows = rows.select_columns("text")
    for run in counted_rows(len(rows)):
        if isinstance(rows, datasets.Dataset):
            texts = rows[run.start : run.stop]["text"]
        elif isinstance(rows, DirectRows):
            texts = rows.texts(run)
        else:
            texts = [rows[index]["text"] for index in run]
        captions = [caption for text in texts for caption in captions_of(text)]
        num_texts += len(captions)
        for caption in captions:
            counts.update(content_words(caption))
    return counts, num_texts


def choose_words(counts: Mapping[str, int], num_texts: int, known: str = "") -> str:
    """The words that a checkpoint keeps: what it knew, then the most frequent ones.

    A word that occurs once in many texts is a slip of the pen as often as not, and is not learned.

    Args:
        counts (`Mapping[str, int]`): Occurrences by word.
        num_texts (`int`): Texts that were counted.
        known (`str`, *optional*, defaults to `""`): Words of an earlier training, with spaces between.

    Returns:
        `str`: At most `MAX_KNOWN_WORDS` of at most `MAX_KNOWN_BYTES` in sorted order, with spaces between.
    """
    least = 1 if num_texts < FEW_TEXTS else 2
    frequent = [word for word, count in counts.items() if count >= least]
    kept: dict[str, None] = {}
    num_bytes = 0
    for word in [*known.split(), *sorted(frequent, key=lambda word: (-counts[word], word))]:
        num_bytes += 0 if word in kept else len(json.dumps(word))
        if len(kept) == MAX_KNOWN_WORDS or num_bytes > MAX_KNOWN_BYTES:
            break
        kept[word] = None
    return " ".join(sorted(kept))


class KnownWordsCallback(TrainerCallback):
    """Writes the words of the training texts into the configuration of the model, before the first update.

    A model of new weights knows those of this training; one that goes on from a checkpoint knows those of both. A
    checkpoint without a list stays without one: what else it knows cannot be told.

    Args:
        trainer ([`ITITTrainer`]): Whose streams are read.
    """

    def __init__(self, trainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        """Called by the Trainer."""
        config = self.trainer.objectives.config
        is_new = not self.trainer.accelerator.unwrap_model(self.trainer.model).name_or_path
        if not args.should_save or (config.known_words is None and not is_new):
            return
        counts: Counter = Counter()
        num_texts = 0
        for stream in self.trainer.streams:
            if "text" in STREAM_COLUMNS[stream.name]:
                of_stream, number = count_words(stream.rows)
                counts.update(of_stream)
                num_texts += number
        config.known_words = choose_words(counts, num_texts, config.known_words or "")
