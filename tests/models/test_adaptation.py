# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer, T5Config, T5EncoderModel, T5Tokenizer

from itit_hf.models.adaptation import replace_text_decoder, replace_text_encoder, resize_image_grid
from itit_hf.models.layers_itit import sine_cosine_positions
from itit_hf.models.modeling_itit import ITITForCaptioning, ITITForImageGeneration, ITITForPreTraining, ITITModel
from itit_hf.models.types_itit import ImageMask

from ..testing_utils import generators, tiny_config, tiny_tokenizer

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
    grown = resize_image_grid(model_of(initializer="xavier"), (6, 6))
    waves = sine_cosine_positions((6, 6), 16)
    torch.testing.assert_close(grown.image_decoder.embed_positions.weight, waves)
    torch.testing.assert_close(
        grown.model.embed_image_positions.weight, 2**0.5 * 0.3 * sine_cosine_positions((6, 6), 24)
    )
    assert torch.equal(waves.view(6, 6, -1)[:4, :4].flatten(0, 1), sine_cosine_positions((4, 4), 16))


def test_what_was_learned_of_positions_is_stretched():
    model = model_of(initializer="xavier")
    learned = torch.arange(16.0)[:, None].expand(16, 16)  # 0, 1, 2, 3 in the first row of the grid
    model.image_decoder.embed_positions.weight.data += learned
    grown = resize_image_grid(model, (8, 8)).image_decoder.embed_positions.weight - sine_cosine_positions((8, 8), 16)
    row = grown[:8, 0].detach()
    assert row.diff().gt(0).all() and row[2:6].diff().mean() == pytest.approx(0.5, abs=0.1)  # half of a step each


def test_without_waves_the_whole_table_is_stretched():
    model = model_of()
    model.image_decoder.embed_positions.weight.data.fill_(2.5)
    shrunk = resize_image_grid(model, (3, 3)).image_decoder.embed_positions.weight
    torch.testing.assert_close(shrunk, torch.full((9, 16), 2.5))


def test_a_grid_of_the_same_size_is_the_same_model():
    model = model_of(initializer="xavier")
    for name, weight in resize_image_grid(model, (4, 4)).state_dict().items():
        torch.testing.assert_close(weight, model.state_dict()[name])


@pytest.mark.parametrize("kind", [ITITModel, ITITForCaptioning, ITITForImageGeneration, ITITForPreTraining])
def test_all_but_the_positions_is_kept_and_the_model_given_is_left_alone(kind):
    torch.manual_seed(0)
    model = kind(tiny_config(initializer="xavier"))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    grown = resize_image_grid(model, (5, 5))
    assert type(grown) is kind and grown.config.num_image_tokens == 25 and model.config.num_image_tokens == 16
    for name, weight in before.items():
        assert torch.equal(weight, model.state_dict()[name])
        assert torch.equal(weight, grown.state_dict()[name]) or name.endswith("positions.weight")


def test_a_grown_model_draws_images_of_the_new_size():
    torch.manual_seed(0)
    grown = resize_image_grid(ITITForImageGeneration(tiny_config()), (6, 6))
    hidden = torch.ones(2, 36, dtype=torch.bool)
    ids = torch.zeros(2, 36, dtype=torch.long)
    assert grown(image_token_ids=ids, image_mask=ImageMask(hidden)).image_logits.shape == (2, 36, 23)


def test_rows_and_columns_are_stretched_by_themselves():
    model = model_of(image_grid=(2, 3))
    learned = torch.tensor([[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]])
    model.image_decoder.embed_positions.weight.data.copy_(learned.flatten()[:, None].expand(6, 16))
    wide = resize_image_grid(model, (2, 6)).image_decoder.embed_positions.weight[:, 0].detach().view(2, 6)
    torch.testing.assert_close(wide[1] - wide[0], torch.full((6,), 10.0))
    assert wide.diff(dim=1).gt(0).all()


def test_waves_go_on_beyond_the_border_that_moved():
    grown = resize_image_grid(model_of(initializer="xavier"), (4, 6)).image_decoder.embed_positions.weight
    torch.testing.assert_close(grown.view(4, 6, 16)[:, :4], sine_cosine_positions((4, 4), 16).view(4, 4, 16))
    torch.testing.assert_close(grown, sine_cosine_positions((4, 6), 16))


@pytest.mark.parametrize("grid", [(12,), (0, 4)])
def test_what_is_no_grid_is_refused(grid):
    with pytest.raises(StrictDataclassError, match="`image_grid` must be two numbers of at least 1"):
        resize_image_grid(model_of(), grid)


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


def test_a_placeholder_of_its_own_row_follows_the_new_sizes():
    replaced = replace_text_encoder(
        speaker(image_token_id=33), tiny_tokenizer(), reordered_tokenizer(), text_encoder()
    )
    assert replaced.config.image_token_id == replaced.config.vocab_size - 1
    assert replaced.config.bos_token_id == replaced.config.num_text_tokens == len(reordered_tokenizer())


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


@torch.no_grad()
def test_nothing_of_the_projection_before_stays():
    model = speaker()
    model.model.project_text.bias.fill_(3.0)
    replaced = replace_text_encoder(model, tiny_tokenizer(), reordered_tokenizer(), text_encoder())
    assert replaced.model.project_text.bias.tolist() == [0.0] * 24


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

        def __call__(self, text, return_tensors=None):
            return tiny_tokenizer()(text, return_tensors=return_tensors)

        def get_vocab(self):
            return {"@": 0, "#": 1, "&": 2}

    with pytest.raises(ValueError, match="in common"):
        replace_text_encoder(speaker(), tiny_tokenizer(), Other(), text_encoder())


END = 2  # of a text, in the vocabulary of bytes


def byte_tokenizer() -> GPT2Tokenizer:
    """Bytes, " red", " fish" and " fox", of which the tiny T5 has no "fox", and both bytes of an accented letter."""
    pieces = ["a", "\u0120", "<|endoftext|>", "r", "e", "d", "f", "i", "s", "h", "o", "x", "\u00c3", "\u00a9"]
    pieces += [
        "\u0120r",
        "\u0120re",
        "\u0120red",
        "\u0120f",
        "\u0120fi",
        "\u0120fis",
        "\u0120fish",
        "\u0120fo",
        "\u0120fox",
    ]
    merges = [
        "\u0120 r",
        "\u0120r e",
        "\u0120re d",
        "\u0120 f",
        "\u0120f i",
        "\u0120fi s",
        "\u0120fis h",
        "\u0120f o",
        "\u0120fo x",
    ]
    return GPT2Tokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[tuple(m.split()) for m in merges])


def gpt2(**changes) -> GPT2LMHeadModel:
    """Three blocks as wide as the tiny decoders, none of its numbers those of a new one."""
    torch.manual_seed(1)
    sizes = {"vocab_size": 24, "n_positions": 40, "n_embd": 16, "n_layer": 3, "n_head": 4, "n_inner": 24}
    model = GPT2LMHeadModel(GPT2Config(**sizes | {"bos_token_id": END, "eos_token_id": END} | changes)).eval()
    for weight in model.parameters():
        weight.data.add_(0.2 * torch.randn_like(weight))
    return model


def taught(model=None, language_model=None):
    arguments = speaker() if model is None else model, tiny_tokenizer(), language_model or gpt2(), byte_tokenizer()
    return replace_text_decoder(*arguments)


@torch.no_grad()
def test_blocks_and_head_of_the_text_decoder_compute_what_gpt2_computes():
    model, theirs, new, old = taught(), gpt2(), tiny_tokenizer(), byte_tokenizer()
    ids = torch.tensor(
        [[model.config.bos_token_id, *new.convert_tokens_to_ids(["\u2581red", "\u2581fish", "i", "o"])]]
    )
    seen = []
    model.text_decoder.layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    hidden = model.text_decoder(ids)
    embeds = seen[0] - theirs.transformer.wpe.weight[:5]  # GPT-2 adds its positions itself
    output = theirs(inputs_embeds=embeds, output_hidden_states=True)
    torch.testing.assert_close(hidden, output.hidden_states[-1], atol=1e-5, rtol=1e-5)
    shared = {"\u2581red": "\u0120red", "\u2581fish": "\u0120fish", "r": "r", "\u2581": "\u0120"}
    said = model.text_decoder.logits(hidden)[..., new.convert_tokens_to_ids(list(shared))]
    wanted = output.logits[..., old.convert_tokens_to_ids(list(shared.values()))]
    torch.testing.assert_close(said, wanted, atol=1e-4, rtol=1e-5)
    ends = model.text_decoder.logits(hidden)[..., new.eos_token_id], output.logits[..., END]
    torch.testing.assert_close(*ends, atol=1e-4, rtol=1e-5)


def test_a_text_begins_and_ends_with_gpt2s_end_of_text():
    table, theirs = taught().get_parameter(SPEAKS), gpt2().transformer.wte.weight
    for index in (len(tiny_tokenizer()), tiny_tokenizer().eos_token_id):  # [BOS] is the first spare row
        assert torch.equal(table[index], theirs[END])


def test_pieces_that_gpt2_lacks_start_at_the_mean_of_those_that_it_has():
    new, old, theirs = tiny_tokenizer(), byte_tokenizer(), gpt2().transformer.wte.weight
    shared = ["a", "r", "e", "d", "f", "i", "s", "h", "o", "\u0120", "\u0120red", "\u0120fish", *["<|endoftext|>"] * 2]
    mean = theirs[old.convert_tokens_to_ids(shared)].mean(dim=0)
    table = taught().get_parameter(SPEAKS)
    for piece in ("\u2581bus", "u", "<unk>"):
        torch.testing.assert_close(table[new.convert_tokens_to_ids(piece)], mean)


@torch.no_grad()
def test_embeddings_are_as_large_behind_the_norm_as_those_of_gpt2():
    decoder = taught().text_decoder
    theirs = gpt2().transformer
    words = theirs.wte.weight[byte_tokenizer().convert_tokens_to_ids(["\u0120red", "\u0120fish", "i", "o", "d"])]
    wanted = (words + theirs.wpe.weight[:5]).std(dim=1).mean()
    ids = torch.tensor(tiny_tokenizer().convert_tokens_to_ids(["\u2581red", "\u2581fish", "i", "o", "d"]))
    got = decoder.norm_embeddings(decoder.embed_tokens(ids) + decoder.embed_positions.weight[:5])
    torch.testing.assert_close(got.std(dim=1).mean(), wanted, atol=0.1, rtol=0)
    assert torch.equal(decoder.embed_positions.weight, theirs.wpe.weight[:33])


@torch.no_grad()
def test_an_offset_of_each_word_which_the_norm_takes_away_does_not_make_the_embeddings_larger():
    moved = gpt2()
    moved.transformer.wte.weight.add_(torch.arange(24.0)[:, None])
    sizes = [taught(language_model=each).text_decoder.norm_embeddings.weight for each in (gpt2(), moved)]
    torch.testing.assert_close(*sizes)


@torch.no_grad()
def test_the_image_decoder_and_the_encoder_stay_what_they_are_whatever_gpt2_has():
    model = speaker()
    masked = torch.arange(16)[None] > 3
    inputs = {"image_token_ids": torch.arange(16)[None], "image_mask": ImageMask(masked)}
    inputs["logit_positions"] = torch.arange(16)[None]
    for language_model in (gpt2(), gpt2(n_layer=1, n_head=8)):
        replaced = taught(model, language_model)
        assert torch.equal(replaced(**inputs).image_logits, model(**inputs).image_logits)
        config = replaced.config
        assert config.text_decoder_num_hidden_layers == language_model.config.n_layer
        assert (config.decoder_num_attention_heads, config.image_decoder_heads) == (language_model.config.n_head, 2)
        assert (config.text_decoder_hidden_act, config.text_decoder_layer_norm_eps) == ("gelu_new", 1e-5)
    assert model.config.text_decoder_num_hidden_layers == 2


@pytest.mark.parametrize(("changes", "named"), [
    ({"n_embd": 32}, "`n_embd` 16, as the text decoder, got 32"),
    ({"n_inner": None}, "`n_inner` 24, as the text decoder, got 64"),
    ({"n_positions": 32}, "more than `max_text_length` 32 positions, got 32"),
    ({"scale_attn_by_inverse_layer_idx": True}, "`scale_attn_by_inverse_layer_idx` False"),
    ({"tie_word_embeddings": False}, "`tie_word_embeddings` True"),
])  # fmt: skip
def test_a_gpt2_that_the_blocks_cannot_be_is_refused(changes, named):
    with pytest.raises(ValueError, match=named):
        taught(language_model=gpt2(**changes))


def test_what_is_no_gpt2_and_a_model_that_says_nothing_are_refused():
    with pytest.raises(ValueError, match="`language_model` must be a GPT2LMHeadModel, got T5EncoderModel"):
        taught(language_model=text_encoder())
    with pytest.raises(ValueError, match="`model` must have a text decoder, got ITITForImageGeneration"):
        taught(ITITForImageGeneration(tiny_config()))


def test_vocabularies_without_a_common_piece_are_refused():
    tokenizer = GPT2Tokenizer(vocab={"@": 0, "<|endoftext|>": 1}, merges=[])
    with pytest.raises(ValueError, match="in common"):
        replace_text_decoder(speaker(), tiny_tokenizer(), gpt2(), tokenizer)


def test_half_a_letter_is_no_text_that_two_vocabularies_share():
    """GPT-2's bytes of an accented letter print as the mark of what cannot be read, which may be a piece, too."""
    pieces = [(piece, -2.0) for piece in ("<pad>", "</s>", "<unk>", "\ufffd", "r", "u")]
    tokenizer = T5Tokenizer(vocab=pieces, extra_ids=0)
    ids = tokenizer.convert_tokens_to_ids(["\ufffd", "u"])
    model = model_of(num_text_tokens=len(tokenizer))
    table = replace_text_decoder(model, tokenizer, gpt2(), byte_tokenizer()).get_parameter(SPEAKS)
    assert torch.equal(table[ids[0]], table[ids[1]])  # both are unknown to GPT-2
