# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Tiny text encoders of every kind, with tokenizers that were trained on a few sentences."""

import json

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    RobertaTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

CORPUS = ["a small red bus", "three red buses stand in the rain", "the lighthouse stands in the sea"]
OTHERS = ["a zebra under an umbrella", "two teapots and a teaspoon", "umbrellas, zebras; an otter!"]
SIGNS = ["<| t |>"]  # so that special tokens can be spelled, as they can with the alphabets of real ones
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def trained(model, trainer, pre_tokenizer) -> dict:
    """What tokenizers finds on the texts: the state of the model as its files have it."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator((CORPUS + OTHERS + SIGNS) * 4, trainer)
    return json.loads(tokenizer.to_str())["model"]


def word_piece() -> BertTokenizer:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    state = trained(models.WordPiece(unk_token="[UNK]"), trainer, pre_tokenizers.BertPreTokenizer())
    return BertTokenizer(vocab=state["vocab"])


def of_its_file_alone(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer whose class adds nothing to what its file says."""
    words = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **words)


def word_piece_with_its_marks_last() -> PreTrainedTokenizerFast:
    """The marks of begin and end stand behind other pieces, and the file says where."""
    ids = word_piece().get_vocab()
    last = ["[CLS]", "[SEP]"]
    pieces = [piece for piece in sorted(ids, key=ids.get) if piece not in last] + last
    marked = BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)})
    return of_its_file_alone(Tokenizer.from_str(marked.backend_tokenizer.to_str()))


def unigram() -> T5Tokenizer:
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=special, unk_token="<unk>", show_progress=False)
    state = trained(models.Unigram(), trainer, pre_tokenizers.Metaspace())
    return T5Tokenizer(vocab=[tuple(entry) for entry in state["vocab"]])


def byte_pairs(cls, special: list[str], **suffix):
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        **suffix,
    )
    state = trained(models.BPE(**suffix), trainer, pre_tokenizers.ByteLevel(add_prefix_space=False))
    return cls(vocab=state["vocab"], merges=[tuple(merge) for merge in state["merges"]])


CASES = {
    "WordPiece": word_piece,
    "WordPiece with its marks last": word_piece_with_its_marks_last,
    "Unigram": unigram,
    "BPE of bytes": lambda: byte_pairs(RobertaTokenizer, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]),
    "BPE with ends of words": lambda: byte_pairs(
        CLIPTokenizer, ["<|startoftext|>", "<|endoftext|>"], end_of_word_suffix="</w>"
    ),
}


def encoder_for(tokenizer) -> torch.nn.Module:
    torch.manual_seed(0)
    if isinstance(tokenizer, T5Tokenizer):
        return T5EncoderModel(
            T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)
        ).eval()
    ids = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    if isinstance(tokenizer, CLIPTokenizer):
        ids["bos_token_id"] = tokenizer.bos_token_id
        ids["eos_token_id"] = tokenizer.eos_token_id
        return CLIPTextModel(CLIPTextConfig(**ids, **SIZES)).eval()
    if isinstance(tokenizer, RobertaTokenizer):
        return RobertaModel(RobertaConfig(**ids, **SIZES, max_position_embeddings=64)).eval()
    return BertModel(BertConfig(**ids, **SIZES)).eval()
