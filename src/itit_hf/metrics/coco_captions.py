# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Scores of captions by pycocoevalcap itself, with its Penn Treebank tokenizer: the figures that papers print."""

import contextlib
import importlib.util
import io
import shutil
from collections.abc import Sequence
from pathlib import Path

_LAST_LINE = "the last line"
_SPICE_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


def missing_for_coco() -> str | None:
    """What the COCO evaluation lacks here, and the remedy; `None` if it can run."""
    if importlib.util.find_spec("pycocoevalcap") is None:
        return "pycocoevalcap is not installed; pip install 'itit-hf[eval]'"
    return None if shutil.which("java") else "there is no `java` on the path; install Java 8 or newer"


def missing_for_spice() -> str | None:
    """What SPICE lacks here besides what [`missing_for_coco`] says, and the remedy; `None` if it can run."""
    spec = importlib.util.find_spec("pycocoevalcap")
    folder = Path(spec.submodule_search_locations[0]) / "spice" / "lib"
    missing = [name for name in _SPICE_MODELS if not (folder / name).is_file()]
    if not missing:
        return None
    return (
        f"SPICE needs {' and '.join(missing)} of Stanford CoreNLP 3.6.0 in the folder spice/lib of pycocoevalcap; "
        "run `python -c 'from pycocoevalcap.spice.get_stanford_models import *; get_stanford_models()'` online"
    )


def _tokenized(tokenizer, captions: Sequence[Sequence[str]]) -> dict[int, list[str]]:
    """The captions of each picture as tokens. The tokenizer reads lines and knows which is whose by counting alone, so
    no caption may break a line, and a last one must come back in its place."""
    lines = {i: [{"caption": _one_line(text)} for text in own] for i, own in enumerate(captions)}
    tokens = tokenizer.tokenize(lines | {len(lines): [{"caption": _LAST_LINE}]})
    if tokens.pop(len(lines), None) != [_LAST_LINE]:
        number = sum(len(own) for own in captions)
        raise ValueError(
            f"the PTB tokenizer gave back another number of lines than the {number} captions it was given"
        )
    return tokens


def _one_line(text: str) -> str:
    """A caption without line breaks of any kind, in characters that can be written as UTF-8."""
    return " ".join(text.split()).encode("utf-8", "replace").decode("utf-8")


def coco_caption_scores(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Score captions by pycocoevalcap: PTB tokens, CIDEr-D (which it calls CIDEr), BLEU, ROUGE-L, METEOR, and SPICE
    where its models are.

    Args:
        candidates (`Sequence[str]`): Captions.
        references (`Sequence[Sequence[str]]`): For each, the captions of its image.

    Returns:
        `dict[str, float]`: `coco_cider`, `coco_bleu_1` to `coco_bleu_4`, `coco_rouge_l`, `coco_meteor`, and
        `coco_spice` where it can run; all times 100.

    Raises:
        ImportError: If pycocoevalcap or Java is missing; the message says what to do.
        ValueError: If the tokenizer did not give back a line for each caption.
    """
    if missing_for_coco():
        raise ImportError(missing_for_coco())
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.spice.spice import Spice
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    tokenizer = PTBTokenizer()
    predicted = _tokenized(tokenizer, [[text] for text in candidates])
    true = _tokenized(tokenizer, references)
    scorers = [("cider", Cider()), ("rouge_l", Rouge()), ("meteor", Meteor())]
    if missing_for_spice() is None:
        scorers.append(("spice", Spice()))
    scores = {}
    with contextlib.redirect_stdout(io.StringIO()):  # the scorers print
        for n, score in enumerate(Bleu(4).compute_score(true, predicted)[0], 1):
            scores[f"coco_bleu_{n}"] = 100.0 * float(score)
        for name, scorer in scorers:
            scores[f"coco_{name}"] = 100.0 * float(scorer.compute_score(true, predicted)[0])
    return scores
