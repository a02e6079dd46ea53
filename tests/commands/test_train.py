# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What a training starts the text decoder with, and its way from a folder of images to a pipeline."""

import PIL.Image
import PIL.ImageDraw
import pytest
import torch
from transformers import BertConfig, BertModel

from itit_hf import ITITPipeline, SamplingSettings
from itit_hf.commands import checkpoints, train

from ..models.test_adaptation import SPEAKS, byte_tokenizer, gpt2, speaker
from ..testing_utils import ROOT, script, tiny_bert_tokenizer, tiny_pipeline


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A checkpoint to start from, and a GPT-2 beside it."""
    folder = tmp_path_factory.mktemp("start")
    speaker().save_pretrained(folder / "model")
    gpt2().save_pretrained(folder / "gpt2")
    byte_tokenizer().save_pretrained(folder / "gpt2")
    return folder


def created(start, **arguments):
    args = train.ScriptArguments(model_name_or_path=str(start / "model"), **arguments)
    pipe = tiny_pipeline()
    return train.create_model(args, pipe.text_encoder, pipe.processor), pipe


def test_without_a_word_the_text_decoder_is_the_checkpoints(start):
    model, _ = created(start)
    assert torch.equal(model.get_parameter(SPEAKS), speaker().get_parameter(SPEAKS))


def test_the_text_embedding_can_start_from_the_text_encoders_table(start):
    model, pipe = created(start, text_embeddings="text_encoder")
    expected = speaker()
    table = pipe.text_encoder.get_input_embeddings().weight
    expected.initialize_text_embeddings(table, torch.Generator().manual_seed(0))
    assert torch.equal(model.get_parameter(SPEAKS), expected.get_parameter(SPEAKS))
    assert not torch.equal(model.get_parameter(SPEAKS), speaker().get_parameter(SPEAKS))


def test_the_text_decoder_can_start_as_a_gpt2(start):
    model, _ = created(start, text_decoder=str(start / "gpt2"))
    assert model.config.text_decoder_num_hidden_layers == 3
    source = gpt2().transformer.h[2].mlp.c_fc.weight
    assert torch.equal(model.text_decoder.layers[2].fc1.weight, source.T)


@pytest.mark.parametrize(("arguments", "named"), [
    ({"text_embeddings": "t5"}, "`text_embeddings` must be one of .*, got 't5'"),
    ({"text_embeddings": "text_encoder", "text_decoder": "distilgpt2"}, "give `text_embeddings` or `text_decoder`"),
])  # fmt: skip
def test_starts_that_cannot_be_are_refused_before_anything_is_loaded(arguments, named):
    with pytest.raises(ValueError, match=named):
        train.ScriptArguments(**arguments)


@pytest.fixture
def own_images(tmp_path):
    """Wide drawings of one thing each, and a caption beside each."""
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(8):
        colour = ("red", "blue", "green")[index % 3]
        image = PIL.Image.new("RGB", (40, 20), "white")
        PIL.ImageDraw.Draw(image).ellipse((index, 4, index + 12, 16), fill=colour)
        image.save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"a {colour} bus on the grass")
    return folder


@pytest.fixture
def general_parts(tmp_path, monkeypatch):
    """Tiny ones in place of those that are committed."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 12, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(**sizes, vocab_size=48, max_position_embeddings=40)).save_pretrained(tmp_path / "bert")
    tiny_bert_tokenizer().save_pretrained(tmp_path / "bert")
    pipe = tiny_pipeline()
    pipe.save_pretrained(tmp_path / "parts")
    pipe.image_tokenizer.save_pretrained(tmp_path / "art")
    pipe.image_processor.save_pretrained(tmp_path / "art")
    monkeypatch.setattr(train, "FROZEN_PARTS", str(tmp_path / "parts"))
    monkeypatch.setattr(train, "OWN_TEXT_ENCODER", str(tmp_path / "bert"))
    monkeypatch.setattr(train, "OWN_IMAGE_TOKENIZER", str(tmp_path / "art"))
    return tmp_path


@pytest.mark.parametrize(
    ("beside", "more", "read"),
    [(True, {}, False), (False, {"resolution": [16]}, False), (False, {}, True), (True, {"text_encoder": None}, True)],
)
def test_frozen_parts_are_asked_for_only_where_something_is_read_of_them(tmp_path, monkeypatch, beside, more, read):
    pipe = tiny_pipeline()
    pipe.image_tokenizer.save_pretrained(tmp_path / "art")
    if beside:
        pipe.image_processor.save_pretrained(tmp_path / "art")
    asked = []
    monkeypatch.setattr(train, "locate", lambda source, argument: asked.append(argument) or source)
    parts = {"frozen_parts": "them", "text_encoder": "mine", "image_tokenizer": str(tmp_path / "art")}
    train.locate_parts(train.ScriptArguments(**(parts | more)))
    assert ("--frozen_parts" in asked) == read


def test_one_command_leads_from_a_folder_of_images_to_a_pipeline(own_images, general_parts, tmp_path, capfd):
    out = tmp_path / "out"
    command = ["--paired_dataset", str(own_images), "--output_dir", str(out)]
    train.main([*command, "--max_steps", "2", "--per_device_train_batch_size", "8", "--use_cpu"])
    assert "2/2" in capfd.readouterr().err, "no progress is shown"
    assert [path.name for path in (out / "samples").iterdir()] == ["step-0000002.png"]
    pipe = ITITPipeline.from_pretrained(out / "pipeline")
    assert type(pipe.text_encoder) is BertModel and pipe.image_processor.aspect_ratio == "squeeze"
    assert pipe.sampling == SamplingSettings(12, temperature=0.5)  # of the recipe
    assert pipe.unknown_words("a red lorry on the grass") == ["lorry"]
    assert len(pipe("a red bus").images) == 1 and (out / "pipeline" / "README.md").is_file()
    wide = PIL.Image.open(own_images / "0.png")
    squeezed = pipe.preprocess(wide.resize((16, 16), PIL.Image.Resampling.BICUBIC))["image_token_ids"]
    assert torch.equal(pipe.preprocess(wide)["image_token_ids"], squeezed)


@pytest.mark.parametrize(("named", "parts"), [
    ({}, ("emoji", None, None)),
    ({"paired_dataset": "mine"}, ("emoji", "minilm", "art")),
    ({"paired_dataset": "mine", "text_encoder": "t5"}, ("emoji", "t5", "art")),
    ({"paired_dataset": "mine", "image_tokenizer": "vq"}, ("emoji", "minilm", "vq")),
    ({"image_dataset": "mine"}, ("emoji", "minilm", "art")),
    ({"paired_dataset": "mine", "frozen_parts": "other"}, ("other", None, None)),
    ({"paired_dataset": "mine", "model_name_or_path": "start"}, ("emoji", None, None)),
])  # fmt: skip
def test_general_parts_are_taken_for_new_weights_on_ones_own_data_where_none_are_named(monkeypatch, named, parts):
    monkeypatch.setattr(train, "FROZEN_PARTS", "emoji")
    monkeypatch.setattr(train, "OWN_TEXT_ENCODER", "minilm")
    monkeypatch.setattr(train, "OWN_IMAGE_TOKENIZER", "art")
    args = train.ScriptArguments(**named)
    assert (args.frozen_parts, args.text_encoder, args.image_tokenizer) == parts


def test_tokens_are_prepared_by_the_image_tokenizer_that_training_takes(monkeypatch):
    monkeypatch.setattr(checkpoints, "OWN_IMAGE_TOKENIZER", "art")
    parse = script("prepare_tokens").parse_arguments
    where = ["images", "--output_dir", "tokens"]
    assert parse(where).image_tokenizer == "art" and parse(where).model == train.FROZEN_PARTS
    assert parse([*where, "--model", "mine"]).image_tokenizer is None
    assert parse([*where, "--image_tokenizer", "vq"]).image_tokenizer == "vq"


def test_the_default_parts_are_committed():
    parts = (train.FROZEN_PARTS, train.OWN_TEXT_ENCODER, train.OWN_IMAGE_TOKENIZER)
    assert all((ROOT / part).is_dir() for part in parts if part is not None)


def test_recipes_of_the_emoji_scenes_name_their_parts():
    for path in sorted((ROOT / "examples" / "recipes").glob("emoji_scenes*/*.yaml")):
        text = path.read_text()
        if "paired_dataset:" in text:
            assert "frozen_parts:" in text, path.name
