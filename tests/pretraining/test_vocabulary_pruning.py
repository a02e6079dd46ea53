# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""A pruned vocabulary reads the texts of its corpus as the whole one does."""

import pytest
import torch
<<<<<<< HEAD
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
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

from itit_hf.pretraining.vocabulary_pruning import count_pieces, prune_embeddings, prune_vocabulary

CORPUS = ["a small red bus", "three red buses stand in the rain", "the lighthouse stands in the sea"]
OTHERS = ["a zebra under an umbrella", "two teapots and a teaspoon", "umbrellas, zebras; an otter!"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def trained(model, trainer, pre_tokenizer) -> dict:
    """What tokenizers finds on the texts: the state of the model as its files have it."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator((CORPUS + OTHERS) * 4, trainer)
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
=======
from transformers import BertConfig, BertForMaskedLM

from itit_hf.pretraining.vocabulary_pruning import count_pieces, prune_embeddings, prune_vocabulary

from ..text_encoders import CASES, CORPUS, OTHERS, SIZES, encoder_for, word_piece
>>>>>>> d4b6b6b (Text encoders of any kind: T5, BERT, RoBERTa and CLIP's text tower, each with its begin, end and empty text)


@pytest.fixture(params=CASES)
def tokenizer(request):
    return CASES[request.param]()


def test_texts_of_the_corpus_are_split_as_before(tokenizer):
    pruned, kept = prune_vocabulary(tokenizer, count_pieces(tokenizer, CORPUS))
    assert len(pruned) == len(kept) < len(tokenizer)
    before, after = tokenizer(CORPUS).input_ids, pruned(CORPUS).input_ids
    assert [[kept[i] for i in ids] for ids in after] == before
    assert [pruned.decode(ids) for ids in after] == [tokenizer.decode(ids) for ids in before]


def test_other_texts_lose_no_letter(tokenizer):
    pruned, _ = prune_vocabulary(tokenizer, count_pieces(tokenizer, CORPUS))
    for text in OTHERS:
        shorter = pruned(text, add_special_tokens=False).input_ids
        assert pruned.unk_token_id not in shorter or tokenizer.unk_token_id in tokenizer(text).input_ids
        spelled = pruned.decode(shorter).replace(" ", "")
        assert spelled == tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids).replace(" ", "")


def test_features_of_the_corpus_stay_to_the_bit(tokenizer):
    model = encoder_for(tokenizer)
    before = model(**tokenizer(CORPUS, padding=True, return_tensors="pt")).last_hidden_state
    pruned, kept = prune_vocabulary(tokenizer, count_pieces(tokenizer, CORPUS))
    after = prune_embeddings(model, kept)(**pruned(CORPUS, padding=True, return_tensors="pt")).last_hidden_state
    assert torch.equal(before, after)


def test_begin_and_end_stay_around_a_text(tokenizer):
    pruned, kept = prune_vocabulary(tokenizer, [])
    assert [int(kept[i]) for i in pruned("").input_ids] == tokenizer("").input_ids
    assert int(kept[pruned.pad_token_id]) == tokenizer.pad_token_id


def test_a_tokenizer_that_puts_nothing_around_a_text_is_cut_too():
    plain = Tokenizer.from_str(word_piece().backend_tokenizer.to_str())
    plain.post_processor = None
    tokenizer = of_its_file_alone(plain)
    pruned, kept = prune_vocabulary(tokenizer, count_pieces(tokenizer, CORPUS))
    assert len(pruned) < len(tokenizer)
    assert [[int(kept[i]) for i in ids] for ids in pruned(CORPUS).input_ids] == tokenizer(CORPUS).input_ids


def test_a_pruned_tokenizer_opens_again(tokenizer, tmp_path):
    pruned, _ = prune_vocabulary(tokenizer, count_pieces(tokenizer, CORPUS))
    pruned.save_pretrained(tmp_path)
    assert type(tokenizer).from_pretrained(tmp_path)(CORPUS).input_ids == pruned(CORPUS).input_ids


def test_a_head_that_is_tied_is_cut_with_its_embedding():
    torch.manual_seed(0)
    tokenizer = word_piece()
    model = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **SIZES)).eval()
    torch.nn.init.normal_(model.get_output_embeddings().bias)
    logits = model(**tokenizer(CORPUS[0], return_tensors="pt")).logits
    pruned, kept = prune_vocabulary(tokenizer, count_pieces(tokenizer, CORPUS))
    after = prune_embeddings(model, kept)(**pruned(CORPUS[0], return_tensors="pt")).logits
    torch.testing.assert_close(after, logits[..., kept])


def test_pieces_that_a_tokenizer_lacks_are_named(tokenizer):
    with pytest.raises(ValueError, match=rf"`pieces` must be ids of the tokenizer, got \[{len(tokenizer)}\]"):
        prune_vocabulary(tokenizer, [0, len(tokenizer)])


def test_pieces_are_counted_over_all_batches(monkeypatch):
    monkeypatch.setattr("itit_hf.pretraining.vocabulary_pruning.BATCH", 2)
    tokenizer = word_piece()
    counts = count_pieces(tokenizer, CORPUS)
    assert counts[tokenizer.convert_tokens_to_ids("red")] == 2
    assert counts[tokenizer.cls_token_id] == 3
