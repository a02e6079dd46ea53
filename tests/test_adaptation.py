# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from itit_hf.adaptation import replace_text_encoder, resize_image_grid
from itit_hf.layers_itit import sine_cosine_positions
from itit_hf.modeling_itit import ITITForCaptioning, ITITForImageGeneration, ITITForPreTraining, ITITModel

from .testing_utils import generators, tiny_config, tiny_tokenizer

TABLES = ("model.embed_image_positions.weight", "image_decoder.embed_positions.weight")
SPEAKS = "text_decoder.embed_tokens.weight"


def model_of(**changes) -> ITITForPreTraining:
    torch.manual_seed(0)
    return ITITForPreTraining(tiny_config(**changes)).eval()


def speaker(**changes) -> ITITForPreTraining:
    return model_of(num_text_tokens=len(tiny_tokenizer()), **changes)


def reordered_tokenizer() -> T5Tokenizer:
    """The words of the tiny tokenizer in another order, without "fish" and with "boat"."""
    words = [
        ("\u2581" + word, -2.0) for word in ("boat", "tree", "a", "grass", "the", "on", "bus", "green", "blue", "red")
    ]
    letters = [(letter, -6.0) for letter in "\u2581abcdefghilnorstu"]
    return T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *words, *letters], extra_ids=0)


def text_encoder(width: int = 14) -> T5EncoderModel:
    sizes = {"d_kv": 5, "d_ff": 12, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0}
    return T5EncoderModel(T5Config(vocab_size=48, d_model=width, **sizes)).eval()


def test_positions_that_were_never_trained_go_on_beyond_the_border():
    grown = resize_image_grid(model_of(initializer="xavier"), 36)
    waves = sine_cosine_positions(6, 16)
    torch.testing.assert_close(grown.image_decoder.embed_positions.weight, waves)
    torch.testing.assert_close(grown.model.embed_image_positions.weight, 2**0.5 * 0.3 * sine_cosine_positions(6, 24))
    assert torch.equal(waves.view(6, 6, -1)[:4, :4].flatten(0, 1), sine_cosine_positions(4, 16))


def test_what_was_learned_of_positions_is_stretched():
    model = model_of(initializer="xavier")
    learned = torch.arange(16.0)[:, None].expand(16, 16)  # 0, 1, 2, 3 in the first row of the grid
    model.image_decoder.embed_positions.weight.data += learned
    grown = resize_image_grid(model, 64).image_decoder.embed_positions.weight - sine_cosine_positions(8, 16)
    row = grown[:8, 0].detach()
    assert row.diff().gt(0).all() and row[2:6].diff().mean() == pytest.approx(0.5, abs=0.1)  # half of a step each


def test_without_waves_the_whole_table_is_stretched():
    model = model_of()
    model.image_decoder.embed_positions.weight.data.fill_(2.5)
    shrunk = resize_image_grid(model, 9).image_decoder.embed_positions.weight
    torch.testing.assert_close(shrunk, torch.full((9, 16), 2.5))


def test_a_grid_of_the_same_size_is_the_same_model():
    model = model_of(initializer="xavier")
    for name, weight in resize_image_grid(model, 16).state_dict().items():
        torch.testing.assert_close(weight, model.state_dict()[name])


@pytest.mark.parametrize("kind", [ITITModel, ITITForCaptioning, ITITForImageGeneration, ITITForPreTraining])
def test_all_but_the_positions_is_kept_and_the_model_given_is_left_alone(kind):
    torch.manual_seed(0)
    model = kind(tiny_config(initializer="xavier"))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    grown = resize_image_grid(model, 25)
    assert type(grown) is kind and grown.config.num_image_tokens == 25 and model.config.num_image_tokens == 16
    for name, weight in before.items():
        assert torch.equal(weight, model.state_dict()[name])
        assert torch.equal(weight, grown.state_dict()[name]) or name.endswith("positions.weight")


def test_a_grown_model_draws_pictures_of_the_new_size():
    torch.manual_seed(0)
    grown = resize_image_grid(ITITForImageGeneration(tiny_config()), 36)
    hidden = torch.ones(2, 36, dtype=torch.bool)
    ids = torch.zeros(2, 36, dtype=torch.long)
    assert grown(image_token_ids=ids, bool_masked_pos=hidden).image_logits.shape == (2, 36, 23)


def test_a_number_that_is_no_square_is_refused():
    with pytest.raises(StrictDataclassError, match="square"):
        resize_image_grid(model_of(), 12)


def test_a_word_of_both_tokenizers_keeps_what_the_model_says_of_it():
    old, new, model = tiny_tokenizer(), reordered_tokenizer(), speaker()
    replaced = replace_text_encoder(model, old, new, text_encoder())
    for piece in ("\u2581red", "\u2581tree", "</s>", "u"):
        ids = (tokenizer.convert_tokens_to_ids(piece) for tokenizer in (old, new))
        before, after = (m.get_parameter(SPEAKS)[i] for m, i in zip((model, replaced), ids, strict=True))
        assert torch.equal(before, after)
    for name in ("bos_token_id", "image_token_id"):  # rows without a piece
        ids = (getattr(m.config, name) for m in (model, replaced))
        before, after = (m.get_parameter(SPEAKS)[i] for m, i in zip((model, replaced), ids, strict=True))
        assert torch.equal(before, after)


def test_a_new_word_starts_at_the_mean_of_the_kept_ones():
    new = reordered_tokenizer()
    replaced = replace_text_encoder(speaker(), tiny_tokenizer(), new, text_encoder())
    old_ids = [i for piece, i in tiny_tokenizer().get_vocab().items() if piece in new.get_vocab()]
    kept = speaker().get_parameter(SPEAKS)[[*old_ids, len(tiny_tokenizer()), 47]]
    boat = replaced.get_parameter(SPEAKS)[new.convert_tokens_to_ids("\u2581boat")]
    torch.testing.assert_close(boat, kept.mean(dim=0))


@pytest.mark.parametrize("initializer", ["normal", "xavier"])
def test_the_projection_fits_the_new_encoder_and_follows_the_generator(initializer):
    model = speaker(initializer=initializer)

    def projection(seed):
        (generator,) = generators(seed)
        replaced = replace_text_encoder(model, tiny_tokenizer(), reordered_tokenizer(), text_encoder(), generator)
        return replaced.model.project_text.weight

    assert projection(0).shape == (24, 14)
    assert torch.equal(projection(0), projection(0)) and not torch.equal(projection(0), projection(1))


def test_the_empty_text_is_the_new_encoders():
    encoder, new = text_encoder(), reordered_tokenizer()
    replaced = replace_text_encoder(speaker(), tiny_tokenizer(), new, encoder)
    read = encoder(input_ids=torch.tensor([[new.eos_token_id]])).last_hidden_state
    assert torch.equal(replaced.model.null_text_embeds, read)


def test_tokenizers_without_a_common_piece_are_refused():
    class Other:
        pad_token_id, eos_token_id = 0, 1

        def __len__(self):
            return 3

        def __call__(self, text, return_tensors):
            return tiny_tokenizer()(text, return_tensors=return_tensors)

        def get_vocab(self):
            return {"@": 0, "#": 1, "&": 2}

    with pytest.raises(ValueError, match="in common"):
        replace_text_encoder(speaker(), tiny_tokenizer(), Other(), text_encoder())
