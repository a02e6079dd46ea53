# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import importlib.util
import runpy
import sys
from pathlib import Path

import pytest
import torch
from datasets import ClassLabel, Dataset
from transformers import AutoTokenizer, T5EncoderModel

from itit_hf.pretraining.text_pretraining import (
    SpanCorruptionDataset,
    corrupt_spans,
    random_span_mask,
    sentinel_token_ids,
    span_accuracy,
    train_unigram_tokenizer,
)

DOCUMENTS = [
    [f"a {colour} {kind} at night", f"the {kind} is {colour}", f"there is a {colour} {kind}"]
    for colour in ("red", "blue", "green")
    for kind in ("bus", "tree", "cat", "car")
]
EXAMPLE = str(Path(__file__).parents[2] / "examples" / "train_text_encoder.py")
SENTENCES = [sentence for document in DOCUMENTS for sentence in document]


@pytest.fixture(scope="module")
def tokenizer():
    return train_unigram_tokenizer(SENTENCES, vocab_size=200, num_sentinels=8)


# Tokenizer


def test_tokenizer_has_t5_form(tokenizer):
    assert tokenizer.convert_tokens_to_ids(["<pad>", "</s>", "<unk>"]) == [0, 1, 2]
    assert sentinel_token_ids(tokenizer) == [len(tokenizer) - 1 - i for i in range(8)]  # last ids, descending
    assert tokenizer("").input_ids == [1]
    assert set(tokenizer("a red bus")) == {"input_ids", "attention_mask"}


def test_words_of_a_small_world_are_single_pieces(tokenizer):
    assert tokenizer.tokenize("red tree night")[0::1] == ["▁red", "▁tree", "▁night"]


def test_no_training_mark_is_left_in_the_vocabulary(tokenizer):
    assert all("\ue000" not in piece for piece in tokenizer.get_vocab())


@pytest.mark.parametrize("text", ["a red bus", "the cat, the car & 3 trees: ok?", "reddish", "{[~^`|\\<>@#$%*]}"])
def test_any_printable_ascii_survives(tokenizer, text):
    ids = tokenizer(text).input_ids
    assert 2 not in ids and tokenizer.decode(ids, skip_special_tokens=True) == text


def test_save_and_load_keeps_everything(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert sentinel_token_ids(loaded) == sentinel_token_ids(tokenizer)
    assert loaded.model_max_length == 64
    for text in ("A Red BUS", "ﬁre <extra_id_0> night", ""):  # lower case, NFKC, sentinels
        assert loaded(text).input_ids == tokenizer(text).input_ids
    assert loaded("A Red BUS").input_ids == loaded("a red bus").input_ids


def test_case_can_be_kept():
    tokenizer = train_unigram_tokenizer(["A Red bus", "a red Bus"], vocab_size=200, lowercase=False)
    assert tokenizer.decode(tokenizer("A Red Bus").input_ids, skip_special_tokens=True) == "A Red Bus"


@pytest.mark.parametrize(
    "sentences, vocab_size, message",
    [([], 200, "`sentences`"), ([" "], 200, "`sentences`"), (["a"], 30, "vocab_size")],
)
def test_tokenizer_refuses(sentences, vocab_size, message):
    with pytest.raises(ValueError, match=message):
        train_unigram_tokenizer(sentences, vocab_size)


# Spans


def rebuilt(input_ids, labels, sentinels):
    """The text that input and target mean together."""
    spans = {}
    for token_id in labels[:-1]:
        if token_id in sentinels:
            spans[token_id] = []
        else:
            spans[next(reversed(spans))].append(token_id)
    return [t for token_id in input_ids[:-1] for t in spans.get(token_id, [token_id])]


def test_corrupt_spans_by_hand():
    #            a  red bus at night
    token_ids = [5, 6, 7, 8, 9]
    mask = [False, True, False, True, True]
    assert corrupt_spans(token_ids, mask, [99, 98, 97]) == ([5, 99, 7, 98, 1], [99, 6, 98, 8, 9, 97, 1])


def test_corrupt_spans_at_the_start():
    assert corrupt_spans([5, 6], [True, False], [99, 98]) == ([99, 6, 1], [99, 5, 98, 1])


def test_corruption_loses_nothing():
    token_ids, sentinels = list(range(10, 40)), [99, 98, 97, 96, 95, 94]
    mask = random_span_mask(30, 0.3, 2.0, 5, torch.Generator().manual_seed(0))
    assert rebuilt(*corrupt_spans(token_ids, mask, sentinels), sentinels) == token_ids


@pytest.mark.parametrize("mask, sentinels, message", [([True], [9, 8], "span_mask"), ([True, False], [9], "sentinel")])
def test_corrupt_spans_refuses(mask, sentinels, message):
    with pytest.raises(ValueError, match=message):
        corrupt_spans([5, 6], mask, sentinels)


@pytest.mark.parametrize("length", [1, 2, 3, 8, 63])
@pytest.mark.parametrize("density, span", [(0.15, 3.0), (0.5, 1.0), (0.9, 5.0)])
def test_mask_has_the_right_length_and_keeps_and_hides_something(length, density, span):
    for seed in range(20):
        mask = random_span_mask(length, density, span, generator=torch.Generator().manual_seed(seed))
        assert len(mask) == length and any(mask)
        assert length == 1 or not all(mask)


def test_mean_share_of_hidden_tokens_is_the_density_also_for_short_sentences():
    generator = torch.Generator().manual_seed(0)
    num_masked = [sum(random_span_mask(10, 0.25, 1.0, generator=generator)) for _ in range(2000)]
    assert set(num_masked) == {2, 3}
    assert abs(sum(num_masked) / 2000 - 2.5) < 0.05


def test_spans_may_stand_anywhere():
    generator = torch.Generator().manual_seed(0)
    masks = torch.tensor([random_span_mask(6, 0.2, 1.0, generator=generator) for _ in range(3000)])
    assert (masks.float().mean(dim=0) - 0.2).abs().max() < 0.03


def test_number_of_spans_follows_their_mean_length_and_stays_below_its_maximum():
    def count(mask):
        return sum(b and not a for a, b in zip([False, *mask], mask, strict=False))

    generator = torch.Generator().manual_seed(0)
    assert count(random_span_mask(40, 0.3, 3.0, generator=generator)) == 4
    assert count(random_span_mask(40, 0.3, 1.0, generator=generator)) == 12
    assert count(random_span_mask(40, 0.3, 1.0, max_spans=2, generator=generator)) == 2


@pytest.mark.parametrize(
    "arguments, name", [((0,), "length"), ((5, 0.0), "density"), ((5, 1.0), "density"), ((5, 0.5, 0.5), "span")]
)
def test_span_mask_refuses(arguments, name):
    with pytest.raises(ValueError, match=name):
        random_span_mask(*arguments)


# Data set


def test_item_is_a_pure_function_of_seed_and_position(tokenizer):
    first = SpanCorruptionDataset(DOCUMENTS, tokenizer, num_rounds=3)
    again = SpanCorruptionDataset(DOCUMENTS, tokenizer, num_rounds=3)
    other = SpanCorruptionDataset(DOCUMENTS, tokenizer, num_rounds=3, seed=1)
    assert len(first) == 3 * len(DOCUMENTS)
    backwards = {p: again[p] for p in reversed(range(len(again)))}
    assert all(first[p] == backwards[p] for p in range(len(first)))
    assert any(first[p] != other[p] for p in range(len(first)))
    assert any(first[p] != first[p + len(DOCUMENTS)] for p in range(len(DOCUMENTS)))  # another round, other spans


def test_texts_join_some_sentences_of_one_document_only(tokenizer):
    data = SpanCorruptionDataset([["red bus", "blue cat"], ["green tree"]], tokenizer, num_rounds=50)
    items = [data[position] for position in range(len(data))]
    sentinels = sentinel_token_ids(tokenizer)
    texts = [tokenizer.decode(rebuilt(item["input_ids"], item["labels"], sentinels)) for item in items]
    assert set(texts[0::2]) == {"red bus", "blue cat", "red bus blue cat", "blue cat red bus"}
    assert set(texts[1::2]) == {"green tree"}


def test_long_texts_are_cut_at_the_tokenizers_limit(tokenizer):
    data = SpanCorruptionDataset([["red bus " * 100]], tokenizer)
    kept = sum(i not in {1, *sentinel_token_ids(tokenizer)} for key in ("input_ids", "labels") for i in data[0][key])
    assert kept == 63  # 64 with the end of sequence


@pytest.mark.parametrize("documents", [[], [[]], [["", " "]]])
def test_data_set_without_words_is_refused(tokenizer, documents):
    with pytest.raises(ValueError, match="`documents`"):
        SpanCorruptionDataset(documents, tokenizer)


def test_tokenizer_without_sentinels_is_refused():
    with pytest.raises(ValueError, match="sentinels"):
        SpanCorruptionDataset(DOCUMENTS, train_unigram_tokenizer(SENTENCES, 200, num_sentinels=0))


def test_span_accuracy_counts_hidden_tokens_only():
    labels = [[99, 6, 98, 8, 1, -100]]
    assert span_accuracy([[0, 6, 98, 7, 1, 5]], labels, ignored_ids=[99, 98, 1]) == 0.5
    assert span_accuracy([[0]], [[-100]]) == 0.0


# The example


def test_example_trains_saves_and_resumes(tmp_path, monkeypatch):
    text_file, output = tmp_path / "text.txt", tmp_path / "out"
    text_file.write_text("\n\n".join("\n".join(document) for document in DOCUMENTS))
    script = EXAMPLE
    command = [
        script,
        "--text_file",
        str(text_file),
        "--output_dir",
        str(output),
        "--num_held_out",
        "2",
        "--d_model",
        "16",
    ]
    command += ["--d_kv", "8", "--num_heads", "2", "--d_ff", "16", "--num_layers", "1", "--num_decoder_layers", "1"]
    command += ["--per_device_train_batch_size", "4", "--save_steps", "2", "--eval_steps", "2", "--use_cpu"]

    monkeypatch.setattr(sys, "argv", [*command, "--max_steps", "4"])
    runpy.run_path(script, run_name="__main__")
    tokenizer = AutoTokenizer.from_pretrained(output)
    encoder = T5EncoderModel.from_pretrained(output)
    assert len(tokenizer) + 2 <= encoder.config.vocab_size and encoder.config.vocab_size % 64 == 0
    hidden = encoder(**tokenizer(["a red bus", ""], padding=True, return_tensors="pt")).last_hidden_state
    assert hidden.shape[2] == 16 and hidden.isfinite().all()

    whole = {name: weight.clone() for name, weight in encoder.state_dict().items()}
    for part in (output / "checkpoint-4", output / "model.safetensors"):
        part.rename(tmp_path / part.name)
    monkeypatch.setattr(sys, "argv", [*command, "--max_steps", "4", "--resume_from_checkpoint"])
    runpy.run_path(script, run_name="__main__")
    resumed = T5EncoderModel.from_pretrained(output).state_dict()
    assert all(torch.equal(resumed[name], weight) for name, weight in whole.items())


def test_example_wants_one_source(monkeypatch):
    script = EXAMPLE
    monkeypatch.setattr(sys, "argv", [script, "--use_cpu"])
    with pytest.raises(ValueError, match="--dataset"):
        runpy.run_path(script, run_name="__main__")


def test_example_reads_named_columns_and_class_labels_and_says_what_it_cannot_hold_back(tmp_path):
    spec = importlib.util.spec_from_file_location("train_text_encoder", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    (tmp_path / "a.csv").write_text("image,caption\n1,a red bus\n2,the\tblue fish\n3,a red bus\n")
    arguments = example.ScriptArguments(dataset=str(tmp_path / "a.csv"), text_column="caption")
    assert example.read_documents(arguments) == [["a red bus"], ["the blue fish"]]
    labelled = Dataset.from_dict({"kind": [1, 0]}).cast_column("kind", ClassLabel(names=["red_bus", "fish"]))
    labelled.to_parquet(tmp_path / "b.parquet")
    arguments = example.ScriptArguments(dataset=str(tmp_path / "b.parquet"), text_column="kind")
    assert example.read_documents(arguments) == [["fish"], ["red bus"]]
    flags = ["--dataset", str(tmp_path / "a.csv"), "--text_column", "caption", "--num_held_out", "2", "--use_cpu"]
    with pytest.raises(ValueError, match="`num_held_out` must be at least 1 and less than .* distinct documents, 2,"):
        example.main(flags)
