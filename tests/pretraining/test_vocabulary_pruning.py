# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""A pruned vocabulary reads the texts of its corpus as the whole one does."""

import pytest
import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertForMaskedLM, T5Tokenizer

from itit_hf.pretraining.vocabulary_pruning import count_pieces, prune_embeddings, prune_vocabulary

from ..text_encoders import CASES, CORPUS, OTHERS, SIZES, encoder_for, of_its_file_alone, word_piece


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


def test_bytes_that_stand_for_what_has_no_piece_stay():
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"<0x{byte:02X}>", -9.0) for byte in range(256))]
    pieces += [("\u2581", -2.0), *((letter, -3.0) for letter in "abcd"), ("\u2581abcd", -1.0)]
    tokenizer = T5Tokenizer(vocab=pieces)
    pruned, _ = prune_vocabulary(tokenizer, [])
    assert set(tokenizer.get_vocab()) - set(pruned.get_vocab()) == {"\u2581abcd"}


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
