# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from itit_hf.layers_itit import scale_gradient
from itit_hf.masking import kept_positions, masked_positions, random_mask
from itit_hf.modeling_itit import (
    ITITForCaptioning,
    ITITForImageGeneration,
    ITITForPreTraining,
    ITITModel,
)

from .testing_utils import tiny_config


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = ITITForPreTraining(tiny_config()).eval()
    model.model.null_text_embeds.normal_()
    return model


def pictures(batch_size=3):
    return torch.randint(23, (batch_size, 16), generator=torch.Generator().manual_seed(1))


def caption_ids(config, *texts):
    prefix = [config.image_token_id] * config.num_prefix_tokens + [config.bos_token_id]
    return torch.tensor([prefix + text for text in texts])


def test_text_sees_the_past_and_the_whole_image_and_nothing_later(model):
    ids = caption_ids(model.config, [3, 4, 5, 6])
    image, start = pictures(1), model.config.num_prefix_tokens
    logits = model(input_ids=ids, image_token_ids=image).logits
    later = ids.clone()
    later[0, -1] = 7
    torch.testing.assert_close(model(input_ids=later, image_token_ids=image).logits[:, :-1], logits[:, :-1])
    changed = image.clone()
    changed[0, -1] = (changed[0, -1] + 1) % 23
    moved = (model(input_ids=ids, image_token_ids=changed).logits - logits).abs().amax(-1)[0]
    assert (moved[start:] > 1e-6).all()


def test_image_features_see_each_other_in_both_directions_but_never_the_text(model):
    features = torch.randn(1, 17, 24)
    hidden = model.text_decoder(caption_ids(model.config, [3, 4]), features)
    other_text = model.text_decoder(caption_ids(model.config, [9, 9]), features)
    torch.testing.assert_close(other_text[:, :17], hidden[:, :17])
    features[0, -1] += 1.0  # the last feature reaches the first place
    assert (model.text_decoder(caption_ids(model.config, [3, 4]), features) - hidden)[0, 0].abs().max() > 1e-6


def test_spare_rows_of_the_vocabulary_are_never_said(model):
    logits = model(input_ids=caption_ids(model.config, [3]), image_token_ids=pictures(1)).logits
    assert logits.shape[-1] == 48 and logits.argmax(-1).max() < 40
    assert logits.softmax(-1)[..., 40:].sum() == 0


def test_the_null_text_is_used_when_there_is_none(model):
    null = model.model.null_text_embeds.expand(3, -1, -1)
    without = model.model(pictures()).last_hidden_state
    torch.testing.assert_close(model.model(pictures(), text_embeds=null).last_hidden_state, without)


@pytest.mark.parametrize("fill", ["mask", "text"])
def test_padded_text_equals_trimmed_text(fill):
    torch.manual_seed(0)
    model = ITITForPreTraining(tiny_config(image_decoder_fill=fill)).eval()
    text = torch.randn(2, 5, 10)
    mask = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]])
    positions = torch.arange(16).expand(2, -1)
    hidden = random_mask(torch.tensor([0.5, 0.8]), 16, torch.Generator().manual_seed(0))
    inputs = {"image_token_ids": pictures(2), "bool_masked_pos": hidden, "logit_positions": positions}
    padded = model(**inputs, text_embeds=text, text_attention_mask=mask).image_logits[0]
    inputs = {name: value[:1] for name, value in inputs.items()}
    trimmed = model(**inputs, text_embeds=text[:1, :2]).image_logits[0]
    torch.testing.assert_close(padded, trimmed, atol=1e-5, rtol=1e-5)


def test_logits_at_some_positions_equal_those_of_all(model):
    hidden = random_mask(torch.tensor([0.5, 0.8, 1.0]), 16, torch.Generator().manual_seed(0))
    inputs = {"image_token_ids": pictures(), "bool_masked_pos": hidden, "text_embeds": torch.randn(3, 4, 10)}
    positions, _ = masked_positions(hidden)
    every = model(**inputs, logit_positions=torch.arange(16).expand(3, -1)).image_logits
    some = model(**inputs, logit_positions=positions).image_logits
    torch.testing.assert_close(some, every.gather(1, positions[..., None].expand(-1, -1, 23)), atol=1e-5, rtol=1e-5)


def test_hidden_ids_do_not_leak_into_the_prediction(model):
    hidden = random_mask(torch.full((3,), 0.75), 16, torch.Generator().manual_seed(0))
    positions, _ = masked_positions(hidden)
    ids, other = pictures(), torch.where(hidden, (pictures() + 5) % 23, pictures())
    logits = [
        model(image_token_ids=i, bool_masked_pos=hidden, logit_positions=positions).image_logits for i in (ids, other)
    ]
    assert torch.equal(*logits)


@pytest.mark.parametrize("drop", ["half", "all"])
def test_rows_with_different_counts_equal_the_rows_alone(model, drop):
    hidden = torch.zeros(2, 16, dtype=torch.bool)
    hidden[0, :12], hidden[1, :3] = True, True
    kept, kept_mask = kept_positions(hidden, drop, torch.Generator().manual_seed(0))
    inputs = {"image_token_ids": pictures(2), "bool_masked_pos": hidden, "text_embeds": torch.randn(2, 3, 10)}
    inputs["logit_positions"] = torch.arange(16).expand(2, -1)
    together = model(**inputs, kept_positions=kept, kept_attention_mask=kept_mask).image_logits
    for row in range(2):
        own = {name: value[row : row + 1] for name, value in inputs.items()}
        alone = model(**own, kept_positions=kept[row : row + 1, : int(kept_mask[row].sum())]).image_logits
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-5)


def test_beams_with_a_cache_equal_beams_without(model):
    with_cache = model.generate(image_token_ids=pictures(), num_beams=4, max_new_tokens=8, do_sample=False)
    without = model.generate(
        image_token_ids=pictures(), num_beams=4, max_new_tokens=8, do_sample=False, use_cache=False
    )
    assert torch.equal(with_cache, without)


@pytest.mark.parametrize("num_beams", [1, 4])
def test_captions_of_a_batch_equal_the_captions_alone(model, num_beams):
    options = {"num_beams": num_beams, "max_new_tokens": 8, "do_sample": False}
    together = model.generate(image_token_ids=pictures(), **options)
    for row in range(3):
        alone = model.generate(image_token_ids=pictures()[row : row + 1], **options)[0]
        assert together[row, : len(alone)].tolist() == alone.tolist()


def test_greedy_generation_follows_the_argmax_of_forward(model):
    ids = model.generate(image_token_ids=pictures(1), num_beams=1, max_new_tokens=5, do_sample=False)
    logits = model(input_ids=ids, image_token_ids=pictures(1)).logits
    start = model.config.num_prefix_tokens
    assert ids[0, start + 1 :].tolist() == logits[0, start:-1].argmax(-1).tolist()


def test_the_encoder_runs_once_per_image_however_many_beams(model):
    sizes = []
    model.model.register_forward_hook(lambda module, args, output: sizes.append(len(output.last_hidden_state)))
    model.generate(image_token_ids=pictures(2), num_beams=4, max_new_tokens=4, do_sample=False)
    assert sizes == [2]


def test_generation_continues_a_given_text(model):
    prefix = torch.tensor([[3, 4]])
    ids = model.generate(input_ids=prefix, image_token_ids=pictures(1), num_beams=1, max_new_tokens=2, do_sample=False)
    start = model.config.num_prefix_tokens
    assert ids[0, start : start + 3].tolist() == [40, 3, 4]


def test_captions_come_from_four_beams_by_default(model, tmp_path):
    alone = model.generate(image_token_ids=pictures())
    beams = model.generate(image_token_ids=pictures(), num_beams=4, max_new_tokens=32, do_sample=False)
    assert torch.equal(alone, beams) and alone.size(1) > 20
    model.save_pretrained(tmp_path)
    loaded = ITITForCaptioning.from_pretrained(tmp_path).generation_config
    assert (loaded.num_beams, loaded.max_new_tokens, loaded.eos_token_id, loaded.pad_token_id) == (4, 32, 1, 0)


def test_sampling_gives_valid_words(model):
    torch.manual_seed(0)
    ids = model.generate(image_token_ids=pictures(), do_sample=True, num_beams=1, max_new_tokens=6)
    assert ids[:, 18:].max() < 40


def test_a_text_longer_than_the_table_is_named(model):
    with pytest.raises(ValueError, match="more than `max_text_length` 32"):
        model(input_ids=caption_ids(model.config, [3] * 33), image_token_ids=pictures(1))


def test_nothing_to_predict_is_named(model):
    with pytest.raises(ValueError, match="nothing to predict"):
        model(image_token_ids=pictures())


def test_a_wrong_number_of_image_tokens_is_named(model):
    with pytest.raises(ValueError, match="wanted 16 image tokens per sample, got 9"):
        model.model(pictures()[:, :9])


def test_both_or_no_image_is_named(model):
    with pytest.raises(ValueError, match="exactly one of"):
        model.model()


def test_labels_are_shifted_once(model):
    ids = caption_ids(model.config, [3, 4, 1])
    labels = ids.masked_fill(ids >= 40, -100)
    output = model(input_ids=ids, image_token_ids=pictures(1), labels=labels)
    log_probs = output.logits[0, 17:20].log_softmax(-1)  # at [BOS], 3 and 4
    want = -(log_probs[0, 3] + log_probs[1, 4] + log_probs[2, 1]) / 3
    torch.testing.assert_close(output.loss, want, atol=1e-5, rtol=1e-5)


def test_scale_gradient_is_the_identity_forward():
    x = torch.tensor([2.0, -3.0], requires_grad=True)
    y = scale_gradient(x, 0.1)
    y.sum().backward()
    torch.testing.assert_close(y, x)
    torch.testing.assert_close(x.grad, torch.tensor([0.1, 0.1]))


def encoder_gradient(model, **options):
    model.zero_grad()
    ids = caption_ids(model.config, [3, 4])
    model(input_ids=ids, image_token_ids=pictures(1), **options).logits[..., :40].pow(2).sum().backward()
    return model.model.layers[0].fc1.weight.grad


def test_the_text_decoders_gradient_into_the_encoder_is_scaled(model):
    whole, tenth = encoder_gradient(model), encoder_gradient(model, text_gradient_scale=0.1)
    torch.testing.assert_close(tenth, 0.1 * whole, atol=1e-5, rtol=1e-4)


def test_a_stopped_encoder_gets_no_gradient(model):
    assert encoder_gradient(model, encoder_gradient_scale=0.0) is None


def test_the_text_scale_leaves_the_image_decoders_gradient_alone(model):
    def gradient(scale):
        model.zero_grad()
        positions = torch.arange(16)[None]
        output = model(
            image_token_ids=pictures(1),
            input_ids=caption_ids(model.config, [3]),
            logit_positions=positions,
            text_gradient_scale=scale,
        )
        output.image_logits.pow(2).sum().backward()
        return model.model.layers[0].fc1.weight.grad

    torch.testing.assert_close(gradient(0.1), gradient(1.0))


@pytest.mark.parametrize("kind", [ITITModel, ITITForCaptioning, ITITForImageGeneration, ITITForPreTraining])
def test_one_checkpoint_opens_in_each_class(model, kind, tmp_path):
    model.save_pretrained(tmp_path)
    loaded, info = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    theirs = dict(model.named_parameters())
    for name, parameter in loaded.named_parameters():
        name = name if kind is not ITITModel else f"model.{name}"
        assert torch.equal(parameter, theirs[name]), name


@pytest.mark.parametrize("kind", [ITITModel, ITITForCaptioning, ITITForImageGeneration])
def test_each_class_round_trips(kind, tmp_path):
    saved = kind(tiny_config())
    saved.save_pretrained(tmp_path)
    loaded = kind.from_pretrained(tmp_path)
    for (name, ours), (_, theirs) in zip(saved.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert torch.equal(ours, theirs), name


def test_the_null_text_is_saved(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = ITITForCaptioning.from_pretrained(tmp_path)
    assert torch.equal(loaded.model.null_text_embeds, model.model.null_text_embeds)


def test_gradient_checkpointing_changes_no_gradient(model):
    plain = encoder_gradient(model.train()).clone()
    model.gradient_checkpointing_enable()
    torch.testing.assert_close(encoder_gradient(model), plain)


def test_eager_and_sdpa_attention_agree(model):
    ids = caption_ids(model.config, [3, 4])
    inputs = {"input_ids": ids, "image_token_ids": pictures(1), "logit_positions": torch.arange(16)[None]}
    sdpa = model(**inputs)
    model.set_attn_implementation("eager")
    eager = model(**inputs)
    torch.testing.assert_close(eager.logits[..., :40], sdpa.logits[..., :40], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(eager.image_logits, sdpa.image_logits, atol=1e-4, rtol=1e-4)


def test_code_embeddings_keep_the_codebooks_neighbourhoods(model):
    codebook = torch.randn(23, 4)
    codebook[1] = codebook[0] + 0.01
    model.initialize_code_embeddings(codebook, torch.Generator().manual_seed(0))
    table = model.model.code_embeddings
    distances = (table - table[0]).norm(dim=-1)
    assert distances[1] < distances[2:].min() / 5
    with pytest.raises(ValueError, match="`codebook` has 5 codes"):
        model.initialize_code_embeddings(codebook[:5])


def cosines(table):
    centred = torch.nn.functional.normalize(table - table.mean(dim=0), dim=1)
    return centred @ centred.T


@torch.no_grad()
@pytest.mark.parametrize(("width", "tolerance"), [(16, 1e-5), (400, 0.8)])
def test_words_that_the_text_encoder_reads_alike_start_alike(width, tolerance):
    """As they are of the decoder's width; of another, their geometry as far as a projection to 16 numbers keeps it."""
    torch.manual_seed(0)
    model, table = ITITForPreTraining(tiny_config()), 5 * torch.randn(48, width) + 3
    table[7] = table[6] + 0.01 * torch.randn(width)
    before = model.text_decoder.embed_tokens.weight.clone()
    model.initialize_text_embeddings(table, torch.Generator().manual_seed(0))
    started = model.text_decoder.embed_tokens.weight
    assert (cosines(started[:40]) - cosines(table[:40])).abs().max() < tolerance
    assert cosines(started[:40])[6, 7] > 0.999
    assert started[:40].std().item() == pytest.approx(0.3)  # `initializer_range`
    assert torch.equal(started[40:], before[40:])


def test_a_table_with_too_few_words_is_refused(model):
    with pytest.raises(ValueError, match="`table` must have a row for each of 40 words, got 39"):
        model.initialize_text_embeddings(torch.zeros(39, 10))


def test_hidden_states_can_be_recorded(model):
    output = model.model(pictures(1), output_hidden_states=True)
    assert len(output.hidden_states) == model.config.num_hidden_layers + 1


def test_several_texts_of_one_image_are_read_as_if_it_came_again(model):
    image, ids = pictures(2), caption_ids(model.config, [3, 4], [5, 6], [7, 8], [9, 3])
    together = model(input_ids=ids, image_token_ids=image).logits
    torch.testing.assert_close(
        together, model(input_ids=ids, image_token_ids=image.repeat_interleave(2, dim=0)).logits
    )


def test_a_hidden_token_is_the_row_of_the_mask_whether_ids_or_embeddings_are_given():
    model = ITITModel(tiny_config()).eval()
    ids, hidden = torch.arange(16)[None] % 7, (torch.arange(16) % 3 == 0)[None]
    embeds = model.embed_image_tokens(torch.where(hidden, model.config.mask_token_id, ids))
    wanted = model(image_token_embeds=embeds).last_hidden_state
    by_ids = model(image_token_ids=ids, bool_masked_pos=hidden).last_hidden_state
    by_embeds = model(image_token_embeds=model.embed_image_tokens(ids), bool_masked_pos=hidden).last_hidden_state
    torch.testing.assert_close([by_ids, by_embeds], [wanted, wanted])
