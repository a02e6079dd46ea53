# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Tokenizers in the forms in which T5 and mT5 are on the Hub: a SentencePiece model alone, or tokenizer.json."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForTextEncoding, AutoTokenizer, MT5Config, T5Config
from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

from itit_hf import ITITProcessor
from itit_hf.commands import train
from itit_hf.models.image_processing_itit import ITITImageProcessorPil
from itit_hf.models.processing_itit import text_ids
from itit_hf.pretraining.text_pretraining import train_unigram_tokenizer

from ..testing_utils import tiny_pipeline

sentencepiece = pytest.importorskip("sentencepiece", reason="pip install 'itit-hf[sentencepiece]'")

SENTENCES = [
    "a red bus",
    "the blue fish on the grass",
    "an orange cat",
    "ein roter Bus",
    "une étoile jaune",
    "赤いバス",
]
# What the two checkpoints say of themselves, and whether their SentencePiece models hold bytes.
KINDS = {
    "t5": (T5Config, {"extra_ids": 100, "tokenizer_class": "T5Tokenizer"}, False),
    "mt5": (MT5Config, {"extra_ids": 0, "tokenizer_class": "T5Tokenizer"}, True),
}


@pytest.fixture(scope="module", params=KINDS)
def checkpoint(request, tmp_path_factory):
    """A folder as the Hub has it: config.json, spiece.model, tokenizer_config.json, tiny random weights."""
    folder = tmp_path_factory.mktemp(request.param)
    config_class, options, byte_fallback = KINDS[request.param]
    (folder / "corpus.txt").write_text("\n".join(SENTENCES * 20), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"),
        model_prefix=str(folder / "spiece"),
        vocab_size=340 if byte_fallback else 70,
        model_type="unigram",
        byte_fallback=byte_fallback,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    settings = options | {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    config = config_class(vocab_size=512, d_model=10, d_kv=5, d_ff=12, num_layers=1, num_heads=2)
    AutoModelForTextEncoding.from_config(config).save_pretrained(folder)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    return request.param, folder, pieces


def test_ids_are_those_of_sentencepiece_and_an_end(checkpoint):
    _, folder, pieces = checkpoint
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text in SENTENCES:
        assert tokenizer(text)["input_ids"] == [*pieces.encode(text), 1]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)


def test_every_language_of_the_vocabulary_comes_back(checkpoint):
    _, folder, _ = checkpoint
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text in SENTENCES:
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_a_saved_copy_needs_no_sentencepiece_and_gives_the_same_ids(checkpoint, tmp_path):
    _, folder, _ = checkpoint
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.model"))
    shutil.copy(folder / "config.json", tmp_path)
    first, second = AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(tmp_path)
    assert first(SENTENCES)["input_ids"] == second(SENTENCES)["input_ids"]


def test_processor_and_encoder_take_them_as_they_are(checkpoint):
    _, folder, _ = checkpoint
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoder = AutoModelForTextEncoding.from_pretrained(folder).eval()
    processor = ITITProcessor(ITITImageProcessorPil(size={"height": 16, "width": 16}), tokenizer)
    inputs = processor(text=["a red bus", ""])
    assert inputs["input_ids"][1].tolist() == [1] + [0] * (inputs["input_ids"].size(1) - 1)  # the null text is its end
    with torch.no_grad():
        embeds = encoder(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
    assert embeds.shape == (*inputs["input_ids"].shape, 10) and embeds.isfinite().all()


def test_a_pipeline_with_an_mt5_is_saved_and_opened(checkpoint, tmp_path):
    name, folder, _ = checkpoint
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pipe = tiny_pipeline()
    pipe.register_modules(tokenizer=tokenizer, text_encoder=AutoModelForTextEncoding.from_pretrained(folder).eval())
    pipe.save_pretrained(tmp_path / "pipe")
    loaded = type(pipe).from_pretrained(tmp_path / "pipe")
    assert type(loaded.text_encoder).__name__ == {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel"}[name]
    for first, second in zip(pipe.encode_prompt("a red bus"), loaded.encode_prompt("a red bus"), strict=True):
        assert torch.equal(first, second)


def test_a_tokenizer_of_ones_own_takes_the_place_of_t5s(tmp_path):
    tokenizer = train_unigram_tokenizer(SENTENCES[:3], vocab_size=120, num_sentinels=4)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    processor = ITITProcessor(ITITImageProcessorPil(size={"height": 16, "width": 16}), loaded)
    ids = processor(text="a red bus")["input_ids"]
    assert ids[0, -1] == 1 and processor.decode(ids[0]) == "a red bus"


def failing(*_, **__):
    raise ValueError("what transformers says of tiktoken")


def test_the_extra_that_a_sentencepiece_model_needs_is_named(checkpoint, monkeypatch):
    _, folder, _ = checkpoint
    assert train.load_tokenizer(str(folder)).tokenize("a red bus")
    monkeypatch.setattr(train, "is_sentencepiece_available", lambda: False)
    monkeypatch.setattr(train.AutoTokenizer, "from_pretrained", failing)
    with pytest.raises(ImportError, match=r"pip install 'itit-hf\[sentencepiece\]'"):
        train.load_tokenizer(str(folder))


class SlowTokenizer(SentencePieceBackend):
    """One in Python that reads the same pieces, of T5's form."""

    def build_inputs_with_special_tokens(self, token_ids_0, token_ids_1=None):
        return [*token_ids_0, self.eos_token_id]


@pytest.mark.parametrize("text", ["ein Bus</s>", "<pad>", "<extra_id_7> red", "<unk>a</s></s>"])
def test_special_tokens_in_a_text_are_what_sentencepiece_reads(checkpoint, text):
    name, folder, pieces = checkpoint
    names = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    specials = ["<extra_id_7>"]
    slow = SlowTokenizer(vocab_file=str(folder / "spiece.model"), **names, extra_special_tokens=specials)
    fast, texts = AutoTokenizer.from_pretrained(folder), [text, "a red bus"]
    wanted = [[*pieces.encode(text), 1] for text in texts]
    assert text_ids(slow, texts) == wanted
    if name == "mt5":  # what is not in the alphabet is unknown to the fast one, where SentencePiece has its bytes
        bytes_of = [index for index in range(len(pieces)) if pieces.is_byte(index)]
        wanted = [[2 if index in bytes_of else index for index in row] for row in wanted]
        assert [without_repeats(row) for row in text_ids(fast, texts)] == [without_repeats(row) for row in wanted]
    else:
        assert text_ids(fast, texts) == wanted


def without_repeats(ids):
    """Unknown characters that stand together as one."""
    return [token for i, token in enumerate(ids) if token != 2 or ids[i - 1 : i] != [2]]


def test_a_slow_tokenizer_finds_added_words_beside_special_ones(checkpoint):
    _, folder, pieces = checkpoint
    names = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    slow = SlowTokenizer(vocab_file=str(folder / "spiece.model"), **names)
    slow.add_tokens(["okapi", "okapis"])
    (ids,) = text_ids(slow, ["okapis</s>"])
    assert ids == [slow.convert_tokens_to_ids("okapis"), *pieces.encode("</s>"), 1]
