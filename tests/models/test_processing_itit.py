# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import json
import logging
import unicodedata

import numpy as np
import pytest
import torch
from diffusers import VQModel
from PIL import Image
from transformers import AutoProcessor

from itit_hf.models import processing_itit
from itit_hf.models.configuration_itit import ITITConfig
from itit_hf.models.image_processing_itit import ITITImageProcessorPil
from itit_hf.models.image_tokenization_itit import PatchVQModel, decode_image_token_ids, encode_images
from itit_hf.models.processing_itit import ITITProcessor, clean_text, load_image_tokenizer, text_ids, tokenize_text
from itit_hf.pretraining.text_pretraining import train_unigram_tokenizer

SENTENCES = [f"a {size} {colour} bus at night" for size in ("small", "big") for colour in ("red", "blue", "green")]


def vq_model():
    torch.manual_seed(0)
    return VQModel(
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        block_out_channels=[8, 8],
        norm_num_groups=4,
        num_vq_embeddings=16,
        latent_channels=4,
        lookup_from_codebook=True,
    )


def patch_vq_model():
    torch.manual_seed(0)
    sizes = {"patch_size": 2, "encoder_channels": 8, "block_out_channels": (8, 8), "norm_num_groups": 4}
    return PatchVQModel(**sizes, vq_embed_dim=4, num_vq_embeddings=16)


@pytest.fixture(scope="module")
def tokenizer():
    return train_unigram_tokenizer(SENTENCES, vocab_size=200)


@pytest.fixture(scope="module")
def processor(tokenizer):
    return ITITProcessor(ITITImageProcessorPil(size=8), tokenizer)


@pytest.fixture(scope="module")
def full_processor(tokenizer):
    return ITITProcessor(ITITImageProcessorPil(size=8), tokenizer, vq_model())


def make_image(seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8))


class Warnings(logging.Handler):
    """Collects what the module warns about."""

    def __init__(self):
        super().__init__()
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


@pytest.fixture
def warned():
    handler = Warnings()
    logger = logging.getLogger("itit_hf.models.processing_itit")
    logger.addHandler(handler)
    yield handler.messages
    logger.removeHandler(handler)


# A call


def test_images_give_pixels_and_ids(full_processor):
    batch = full_processor(images=[make_image(0), make_image(1)])
    assert list(batch) == ["pixel_values", "image_token_ids"]
    assert batch.pixel_values.shape == (2, 3, 8, 8) and batch.pixel_values.dtype == torch.float32
    assert batch.image_token_ids.shape == (2, 16) and batch.image_token_ids.dtype == torch.long
    assert torch.equal(batch.image_token_ids, encode_images(full_processor.image_tokenizer, batch.pixel_values))


def test_text_is_padded_on_the_right(full_processor):
    batch = full_processor(text=["a red bus", ""])
    assert batch.input_ids.dtype == torch.long
    assert batch.input_ids[1].tolist() == [1, 0, 0, 0]  # the null text is one token
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]


def test_images_and_text_give_beginnings_of_captions(full_processor):
    batch = full_processor(images=[make_image(0), make_image(1)], text=["a red bus", "a"])
    assert list(batch) == ["image_token_ids", "input_ids", "attention_mask"]
    a, red, bus, end = full_processor(text="a red bus").input_ids[0].tolist()
    assert end == 1
    assert batch.input_ids.tolist() == [[a, red, bus], [0, 0, a]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_an_empty_beginning_has_no_tokens(full_processor):
    batch = full_processor(images=[make_image(0), make_image(1)], text="")
    assert batch.input_ids.shape == (2, 0) and batch.input_ids.dtype == torch.long
    assert batch.attention_mask.shape == (2, 0)


def test_one_beginning_serves_all_images(full_processor):
    batch = full_processor(images=[make_image(0), make_image(1)], text="a red")
    assert batch.input_ids.shape == (2, 2) and batch.input_ids[0].tolist() == batch.input_ids[1].tolist()


def test_other_numbers_of_beginnings_are_refused(full_processor):
    with pytest.raises(ValueError, match="`text` has 3 entries for 2 images"):
        full_processor(images=[make_image(0), make_image(1)], text=["a", "a", "a"])


def test_images_alone_and_text_alone(processor):
    assert list(processor(images=make_image())) == ["pixel_values"]
    assert list(processor(text="a red bus")) == ["input_ids", "attention_mask"]


def test_a_single_text_is_a_batch_of_one_that_ends_with_the_end_of_sequence(processor):
    input_ids = processor(text="a red bus").input_ids
    assert input_ids.shape[0] == 1 and input_ids[0, -1] == 1


def test_return_tensors(processor):
    assert isinstance(processor(images=make_image(), text="a", return_tensors="np").input_ids, np.ndarray)
    assert isinstance(processor(text="a", return_tensors=None).input_ids, list)


def test_arguments_reach_their_part(processor):
    batch = processor(images=make_image(), text="a", padding="max_length", max_length=9, size=4, crop_size=4)
    assert batch.input_ids.shape == (1, 8) and batch.pixel_values.shape == (1, 3, 4, 4)  # one is left for the end
    batch = processor(text="a", text_kwargs={"padding": "max_length", "max_length": 7})
    assert batch.input_ids.shape == (1, 7)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "`images` and `text`"),
        ({"text": []}, "`text`"),
        ({"text": None, "images": []}, "`images`"),
        ({"text": ["a", None]}, r"`text\[1\]` must be a string, got NoneType"),
        ({"text": 3}, "`text`"),
        ({"text": {"a": 1}}, "`text`"),
        ({"text": "a", "truncation": True}, "truncation"),
        ({"text": "a", "max_length": 1}, "max_length"),
        ({"text": "a", "on_long_text": "cut"}, "on_long_text"),
        ({"images": [make_image(), b"x"]}, r"images\[1\]"),
    ],
)
def test_bad_input_is_refused_by_name(processor, arguments, message):
    with pytest.raises(ValueError, match=message):
        processor(**arguments)


def test_floating_point_images_that_are_not_rescaled_become_the_same_tokens(full_processor):
    image = np.asarray(make_image(4))
    tokens = full_processor(images=image / 255.0, do_rescale=False).image_token_ids
    assert torch.equal(tokens, full_processor(images=image).image_token_ids)


@pytest.mark.parametrize(
    "options",
    [{"do_normalize": False}, {"image_mean": [0.4, 0.5, 0.5]}, {"images_kwargs": {"image_std": (1.0, 1.0, 1.0)}}],
)
def test_an_image_tokenizer_is_given_no_other_range(full_processor, processor, options):
    with pytest.raises(ValueError, match="must be left as the image tokenizer knows them"):
        full_processor(images=make_image(), **options)
    assert "pixel_values" in processor(images=make_image(), **options)
    full_processor(images=make_image(), image_mean=(0.5, 0.5, 0.5))  # its own


# Long and odd texts


def test_cut_text_is_quoted_in_one_warning(processor, warned):
    batch = processor(text=["a red bus", "a red bus at night", "a big blue bus"], max_length=4)
    assert batch.input_ids.shape == (3, 4)
    assert warned == [
        "2 of 3 texts have more than 4 tokens (`max_length`): text[1] loses 'at night'; text[2] loses 'bus'"
    ]
    assert batch.input_ids[:, -1].tolist() == [1, 1, 1]  # the end of sequence stays
    assert processor.batch_decode(batch.input_ids) == ["a red bus", "a red bus", "a big blue"]


def test_text_that_fits_exactly_is_not_named(processor, warned):
    assert processor(text="a red bus", max_length=4).input_ids.shape == (1, 4)
    assert warned == []


def test_long_text_raises_when_asked(processor, warned):
    with pytest.raises(ValueError, match=r"text\[0\] loses 'night'"):
        processor(text="a red bus at night", max_length=5, on_long_text="error")
    assert warned == []


def test_ten_thousand_words_are_cut_with_one_short_warning(processor, warned):
    assert processor(text="bus " * 10_000).input_ids.shape == (1, 64)
    assert len(warned) == 1 and len(warned[0]) < 500


@pytest.mark.parametrize(
    "text, clean",
    [
        ("", ""),
        ("a\x00b", "a b"),
        ("a\nb\tc\x85d\x7f", "a b c d "),
        ("\ud800x", "\ufffdx"),
        ("x\udc00", "x\ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ("e\u0301" * 3, "e\u0301" * 3),
    ],
)
def test_clean_text(text, clean):
    assert clean_text(text) == clean


ODD_TEXTS = ["", " ", "\x00", "\ud800", "\udfff\ud800", "e" + "\u0301" * 1000, "\u0645\u0631\u062d\u0628\u0627"]
ODD_TEXTS += [
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "<extra_id_0>",
    "</s></s>",
    "\ufeff",
    "\ufb01",
    "\U0010ffff",
]


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_texts_give_ids_of_the_vocabulary_and_a_stable_caption(processor, text):
    batch = processor(text=[text, "a red bus"])
    assert batch.input_ids.min() >= 0 and batch.input_ids.max() < len(processor.tokenizer)
    assert batch.attention_mask.sum(dim=1).min() >= 1
    caption = processor.decode(batch.input_ids[0])
    assert processor.decode(processor(text=caption).input_ids[0]) == caption


def test_text_does_not_depend_on_its_neighbours(processor):
    texts = ["a red bus", "", "a big blue bus at night", "a"]
    together = processor(text=texts)
    for text, row, mask in zip(texts, together.input_ids, together.attention_mask, strict=True):
        assert row[mask.bool()].tolist() == processor(text=text).input_ids[0].tolist()


def test_tokenize_text_takes_tuples_and_gives_lists(tokenizer):
    assert tokenize_text(tokenizer, ("a", "")).attention_mask == [[1, 1], [1, 0]]


SPECIAL_WORDS = ["stop</s>here", "<pad> <pad>", "<extra_id_3>", "<unk>", "</S>", "\uff1cpad\uff1e", "</s>"]


@pytest.mark.parametrize("text", SPECIAL_WORDS)
def test_special_tokens_are_words_in_a_text(processor, text):
    ids = processor(text=text).input_ids[0].tolist()
    assert not set(ids[:-1]) & set(processor.tokenizer.all_special_ids) and ids[-1] == 1
    assert processor.decode(ids) == unicodedata.normalize("NFKC", text).lower()


@pytest.mark.parametrize("text", SPECIAL_WORDS)
def test_special_tokens_are_words_in_the_beginning_of_a_caption(full_processor, text):
    ids = full_processor(images=make_image(), text=text).input_ids[0]
    assert torch.equal(ids, full_processor(text=text).input_ids[0, :-1])


def test_special_words_are_cut_and_padded_like_others(processor, warned):
    batch = processor(text=["</s>" * 9, "a"], max_length=6, padding="max_length")
    assert batch.input_ids.shape == (2, 6) and batch.attention_mask.sum(dim=1).tolist() == [6, 2]
    assert batch.input_ids[:, -1].tolist() == [1, 0] and len(warned) == 1


def test_words_that_are_added_are_found_beside_special_words():
    tokenizer = train_unigram_tokenizer(SENTENCES, vocab_size=200)
    (before,) = text_ids(tokenizer, ["a</s>"])  # the copy that reads it is made anew when words are added
    tokenizer.add_tokens(["okapi"])
    (ids,) = text_ids(tokenizer, ["okapi a</s>"])
    assert ids[0] == tokenizer.convert_tokens_to_ids("okapi") and ids[-len(before) :] == before


# Back


def messages(*blocks, role="user") -> list[dict]:
    return [{"role": role, "content": list(blocks)}]


IMAGE = {"type": "image", "image": make_image()}


@pytest.mark.parametrize("content", ["a Red", [{"type": "text", "text": "a "}, {"type": "text", "text": "Red"}]])
def test_the_beginning_of_a_caption_is_what_the_assistant_says_last(full_processor, content):
    chat = messages(IMAGE) + [{"role": "assistant", "content": content}]
    assert full_processor.apply_chat_template(chat) == "a Red"
    assert full_processor.apply_chat_template(chat, add_generation_prompt=True) == ""
    begun = full_processor.apply_chat_template(chat, tokenize=True, return_dict=True)
    wanted = full_processor(images=[make_image()], text=["a Red"])
    assert begun.keys() == wanted.keys() and all(torch.equal(begun[name], wanted[name]) for name in wanted)


def test_conversations_in_a_batch_have_an_image_each(full_processor):
    chats = [messages({"type": "image", "image": make_image(seed)}) for seed in range(3)]
    batch = full_processor.apply_chat_template(chats, tokenize=True, return_dict=True)
    wanted = full_processor(images=[make_image(seed) for seed in range(3)], text=[""] * 3)
    assert torch.equal(batch["image_token_ids"], wanted["image_token_ids"])


def test_two_images_in_a_conversation_are_refused(full_processor):
    with pytest.raises(ValueError, match=r"`images` must hold one image for each caption, got lists of \[2\]"):
        full_processor.apply_chat_template(messages(IMAGE, IMAGE), tokenize=True, return_dict=True)


@pytest.mark.parametrize("argument", ["videos", "audio"])
def test_there_are_neither_videos_nor_sounds(processor, argument):
    with pytest.raises(ValueError, match="`videos` and `audio` must be None"):
        processor(text="a", **{argument: [1]})


def test_what_the_user_writes_is_named_as_not_read(full_processor, warned):
    processing_itit.logger.warning_once.cache_clear()
    assert full_processor.apply_chat_template(messages(IMAGE, {"type": "text", "text": "Describe this."})) == ""
    assert len(warned) == 1 and "texts of the user are not read" in warned[0]
    processing_itit.logger.warning_once.cache_clear()


def test_what_the_assistant_says_is_read_without_a_word(full_processor, warned):
    processing_itit.logger.warning_once.cache_clear()
    full_processor.apply_chat_template(messages(IMAGE) + [{"role": "assistant", "content": "a red"}])
    assert not warned


def test_a_template_of_ones_own_is_saved_with_the_processor(tokenizer, tmp_path):
    ITITProcessor(ITITImageProcessorPil(size=8), tokenizer, chat_template="mine").save_pretrained(tmp_path / "own")
    assert ITITProcessor.from_pretrained(tmp_path / "own").chat_template == "mine"
    ITITProcessor(ITITImageProcessorPil(size=8), tokenizer).save_pretrained(tmp_path / "default")
    assert (tmp_path / "default" / "chat_template.jinja").read_text() == processing_itit.CHAT_TEMPLATE


def test_decode_drops_padding_and_ids_the_tokenizer_does_not_know(processor):
    ids = processor(text="a red bus").input_ids[0].tolist()
    size = len(processor.tokenizer)
    assert processor.decode([size, size + 27, *ids, 0, 0, -100]) == "a red bus"
    assert processor.batch_decode(torch.tensor([[size, *ids], [0, *ids]])) == ["a red bus"] * 2
    assert processor.post_process_image_text_to_text(torch.tensor([ids])) == ["a red bus"]
    assert processor.decode([]) == ""


def test_spaces_are_cleaned_up_as_asked(processor):
    ids = processor(text="a bus , a bus .").input_ids
    assert processor.batch_decode(ids, clean_up_tokenization_spaces=True) == ["a bus, a bus."]
    assert processor.decode(ids[0], clean_up_tokenization_spaces=False) == "a bus , a bus ."
    assert processor.post_process_image_text_to_text(ids, clean_up_tokenization_spaces=True) == ["a bus, a bus."]


@pytest.mark.parametrize("model", [vq_model, patch_vq_model])
def test_images_come_back_from_ids(tokenizer, model):
    processor = ITITProcessor(ITITImageProcessorPil(size=8), tokenizer, model())
    ids = processor(images=[make_image(0), make_image(1)]).image_token_ids
    images = processor.decode_images(ids)
    assert [p.size for p in images] == [(8, 8)] * 2 and images[0].mode == "RGB"
    with torch.no_grad():
        pixel_values = decode_image_token_ids(processor.image_tokenizer, ids)
    torch.testing.assert_close(processor.decode_images(ids, "pt"), pixel_values / 2 + 0.5)
    assert processor.decode_images(ids.tolist(), "np").shape == (2, 8, 8, 3)


@pytest.mark.parametrize(
    "ids", [torch.full((1, 16), 16), torch.full((1, 16), -1), torch.zeros(16).long(), torch.zeros(1, 16)]
)
def test_ids_outside_the_codebook_are_refused(full_processor, ids):
    with pytest.raises(ValueError, match="`image_token_ids`"):
        full_processor.decode_images(ids)


def test_a_wide_image_comes_back_as_wide(tokenizer):
    image_processor = ITITImageProcessorPil(size={"height": 8, "width": 16})
    processor = ITITProcessor(image_processor, tokenizer, patch_vq_model())
    ids = processor(images=[make_image(0)]).image_token_ids
    height, width = processor.image_grid
    assert ids.shape == (1, height * width) and width == 2 * height
    assert processor.decode_images(ids)[0].size == (16, 8)  # width and height, as PIL has it


def test_a_model_of_rows_for_columns_is_refused(tokenizer):
    image_processor = ITITImageProcessorPil(size={"height": 8, "width": 16})
    processor = ITITProcessor(image_processor, tokenizer, patch_vq_model())
    height, width = processor.image_grid
    processor.check_image_grid(ITITConfig(image_grid=(height, width)))
    with pytest.raises(ValueError, match="`image_processor` must make images of .* tokens, height and width"):
        processor.check_image_grid(ITITConfig(image_grid=(width, height)))


def test_ids_need_an_image_tokenizer(processor):
    with pytest.raises(ValueError, match="`image_tokenizer`"):
        processor.decode_images([[0] * 16])


# Saving and loading


@pytest.mark.parametrize("loader", [ITITProcessor, AutoProcessor])
@pytest.mark.parametrize("model", [vq_model, patch_vq_model])
def test_save_and_load_with_image_tokenizer(tokenizer, model, loader, tmp_path):
    processor = ITITProcessor(ITITImageProcessorPil(size=8, limits={"max_aspect": 3}), tokenizer, model())
    processor.save_pretrained(tmp_path)
    loaded = loader.from_pretrained(tmp_path)
    assert type(loaded) is ITITProcessor and type(loaded.image_tokenizer) is type(processor.image_tokenizer)
    assert loaded.to_dict() == processor.to_dict()
    before = processor(images=make_image(), text="a Red bus")
    after = loaded(images=make_image(), text="a Red bus")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_save_and_load_without_image_tokenizer(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    assert not (tmp_path / "image_tokenizer").exists()
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert loaded.image_tokenizer is None
    assert torch.equal(loaded(images=make_image()).pixel_values, processor(images=make_image()).pixel_values)


def test_given_image_tokenizer_replaces_the_saved_one(full_processor, tmp_path):
    full_processor.save_pretrained(tmp_path)
    other = patch_vq_model()
    assert ITITProcessor.from_pretrained(tmp_path, image_tokenizer=other).image_tokenizer is other
    assert ITITProcessor.from_pretrained(tmp_path, image_tokenizer=None).image_tokenizer is None


def test_processor_config_holds_no_weights_and_copies_none(full_processor, tmp_path, monkeypatch):
    def deepcopy(self, memo):
        raise AssertionError("copied the weights")

    monkeypatch.setattr(VQModel, "__deepcopy__", deepcopy, raising=False)
    full_processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    assert set(saved) == {"image_processor", "processor_class", "image_features"}
    assert full_processor.image_tokenizer is not None
    assert "image_tokenizer" not in repr(full_processor)


@pytest.mark.parametrize(
    "class_name", ["os", "AutoencoderKL", "itit_hf.training.trainer.ITITTrainer", ["a", "b"], None, 3]
)
def test_unknown_image_tokenizer_class_is_refused(full_processor, class_name, tmp_path):
    full_processor.save_pretrained(tmp_path)
    config_file = tmp_path / "image_tokenizer" / "config.json"
    config_file.write_text(json.dumps(json.loads(config_file.read_text()) | {"_class_name": class_name}))
    with pytest.raises(ValueError, match="_class_name"):
        load_image_tokenizer(tmp_path)


def test_push_to_hub_uploads_after_everything_is_saved(full_processor, tmp_path, monkeypatch):
    uploads = []

    def push_to_hub(self, repo_id, **options):
        assert (tmp_path / "name" / "image_tokenizer" / "config.json").exists()
        uploads.append((repo_id, options))

    monkeypatch.setattr(ITITProcessor, "push_to_hub", push_to_hub)
    full_processor.save_pretrained(tmp_path / "name", push_to_hub=True, private=True)
    full_processor.save_pretrained(tmp_path / "name", push_to_hub=True, repo_id="me/itit")
    assert uploads == [("name", {"private": True}), ("me/itit", {})]
