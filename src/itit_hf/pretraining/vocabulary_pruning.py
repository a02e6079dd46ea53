# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Cut a text encoder's vocabulary down to the pieces that a corpus needs, so that a small model is not all vocabulary.

Texts of the corpus are read as before, to the bit: they are split into the same pieces, and these have the same
embeddings. Other texts are split into smaller pieces, never into fewer words that are known: single characters stay.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

BATCH = 1024  # texts that a tokenizer is given at once


def count_pieces(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> Counter[int]:
    """How often each piece stands in a corpus.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): Any.
        texts (`Iterable[str]`): The corpus.

    Returns:
        `Counter[int]`: Ids of pieces and their numbers, special tokens included.
    """
    counts: Counter[int] = Counter()
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == BATCH:
            counts.update(_ids(tokenizer, batch))
            batch = []
    counts.update(_ids(tokenizer, batch))
    return counts


def _ids(tokenizer, texts: Sequence[str]) -> list[int]:
    return [piece for ids in tokenizer(list(texts)).input_ids for piece in ids] if texts else []


def prune_vocabulary(
    tokenizer: PreTrainedTokenizerBase, pieces: Iterable[int]
) -> tuple[PreTrainedTokenizerBase, torch.LongTensor]:
    """A tokenizer of some of the pieces.

    Kept besides are special and added tokens, single characters (as a word's beginning and within one) and bytes, and
    of byte pair encoding the halves that a kept piece is merged of.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): With a backend of tokenizers: WordPiece, Unigram or BPE.
        pieces (`Iterable[int]`): Ids to keep, such as those of [`count_pieces`].

    Returns:
        `(tokenizer, kept)`: The smaller one, of the same class and settings; and of each of its ids the id before, a
        tensor of shape `(num_kept,)`, ascending.

    Raises:
        ValueError: If the tokenizer has no such backend, or an id is none of its own.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state = None if backend is None else json.loads(backend.to_str())
    kind = None if state is None else state["model"]["type"]
    if kind not in ("WordPiece", "Unigram", "BPE"):
        raise ValueError(f"`tokenizer` must be of WordPiece, Unigram or BPE, got {kind or type(tokenizer).__name__}")
    names = _piece_names(state["model"])
    for added in state["added_tokens"]:
        names[added["id"]] = added["content"]
    given = set(pieces)
    unknown = sorted(given - set(names))
    if unknown:
        raise ValueError(f"`pieces` must be ids of the tokenizer, got {unknown[:5]}")
    special = {added["id"] for added in state["added_tokens"]}
    kept = given | special | {piece for piece, name in names.items() if _is_single(name, state["model"])}
    if kind == "Unigram":
        kept.add(state["model"]["unk_id"])
    if kind == "BPE":
        kept = _with_halves(kept, names, state["model"]["merges"])
    ordered = sorted(kept)
    new_ids = {piece: number for number, piece in enumerate(ordered)}
    _rewrite(state, names, new_ids)
    return _reloaded(tokenizer, state), torch.tensor(ordered)


def _piece_names(model: dict) -> dict[int, str]:
    """Names of the pieces by id."""
    if model["type"] == "Unigram":
        return {number: name for number, (name, _) in enumerate(model["vocab"])}
    return {number: name for name, number in model["vocab"].items()}


def _is_single(name: str, model: dict) -> bool:
    """Whether a piece is one character, or a byte: what every text can be split into."""
    is_byte = len(name) == 6 and name.startswith("<0x")
    for prefix in (model.get("continuing_subword_prefix"), "▁"):
        name = name.removeprefix(prefix or "") or name
    suffix = model.get("end_of_word_suffix") or ""
    return is_byte or len(name.removesuffix(suffix)) <= 1


def _with_halves(kept: set[int], names: dict[int, str], merges: list) -> set[int]:
    """Pieces, and all that they are merged of."""
    numbers = {name: number for number, name in names.items()}
    halves: dict[int, list[int]] = {}
    for left, right in merges:
        whole = numbers.get(left + right)
        if whole is not None:
            halves.setdefault(whole, []).extend((numbers[left], numbers[right]))
    found = set(kept)
    waiting = list(kept)
    while waiting:
        for half in halves.get(waiting.pop(), ()):
            if half not in found:
                found.add(half)
                waiting.append(half)
    return found


def _rewrite(state: dict, names: dict[int, str], new_ids: dict[int, int]):
    """Renumber a tokenizer's state."""
    model = state["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [entry for number, entry in enumerate(model["vocab"]) if number in new_ids]
        model["unk_id"] = new_ids[model["unk_id"]]
    else:
        model["vocab"] = {name: new_ids[number] for name, number in model["vocab"].items() if number in new_ids}
    if model["type"] == "BPE":
        vocabulary = model["vocab"]
        model["merges"] = [
            [left, right]
            for left, right in model["merges"]
            if left in vocabulary and right in vocabulary and left + right in vocabulary
        ]
    for added in state["added_tokens"]:
        added["id"] = new_ids[added["id"]]
    _renumber_processor(state.get("post_processor"), new_ids)


def _renumber_processor(processor: dict | None, new_ids: dict[int, int]):
    """Renumber what puts begin and end around a text."""
    if processor is None:
        return
    for inner in processor.get("processors", ()):
        _renumber_processor(inner, new_ids)
    for token in processor.get("special_tokens", {}).values():
        token["ids"] = [new_ids[number] for number in token["ids"]]
    for name in ("sep", "cls"):
        if name in processor:
            content, number = processor[name]
            processor[name] = [content, new_ids[number]]


def _reloaded(tokenizer: PreTrainedTokenizerBase, state: dict) -> PreTrainedTokenizerBase:
    """The tokenizer as its class opens it with another state."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        path = Path(folder)
        for name in ("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model"):
            (path / name).unlink(missing_ok=True)  # they would say what was
        config = json.loads((path / "tokenizer_config.json").read_text())
        config.pop("added_tokens_decoder", None)
        (path / "tokenizer_config.json").write_text(json.dumps(config))
        (path / "tokenizer.json").write_text(json.dumps(state, ensure_ascii=False))
        return AutoTokenizer.from_pretrained(folder)


@torch.no_grad()
def prune_embeddings(model: PreTrainedModel, kept: torch.Tensor) -> PreTrainedModel:
    """Keep some rows of a model's word embeddings, and of a head that is as long.

    Args:
        model (`PreTrainedModel`): A text encoder, or a model with a head for pretraining; changed in place.
        kept (`torch.LongTensor` of shape `(num_kept,)`): Rows, from [`prune_vocabulary`].

    Returns:
        `PreTrainedModel`: The same one. Its `padding_idx` and the special ids of its configuration follow the rows.

    Raises:
        ValueError: If the embedding has no such row.
    """
    embedding = model.get_input_embeddings()
    if int(kept.max()) >= embedding.num_embeddings:
        raise ValueError(f"`kept` must be below {embedding.num_embeddings} rows, got {int(kept.max())}")
    new_ids = {piece: number for number, piece in enumerate(kept.tolist())}
    rows = embedding.weight[kept].clone()
    head = model.get_output_embeddings()
    head_rows = None if head is None else head.weight[kept].clone()
    head_bias = None if getattr(head, "bias", None) is None else head.bias[kept].clone()
    model.resize_token_embeddings(len(kept), mean_resizing=False)
    resized = model.get_input_embeddings()
    resized.weight.copy_(rows)
    if embedding.padding_idx is not None:
        resized.padding_idx = new_ids[embedding.padding_idx]
    if head_rows is not None:
        model.get_output_embeddings().weight.copy_(head_rows)
    if head_bias is not None:
        model.get_output_embeddings().bias.copy_(head_bias)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "decoder_start_token_id"):
        number = getattr(model.config, name, None)
        if number in new_ids:  # a default may name a row that this vocabulary never had
            setattr(model.config, name, new_ids[number])
    return model
