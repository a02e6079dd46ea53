# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.nn import functional as F

from itit_hf.masking import drop_masked, masked_positions, random_mask
from itit_hf.models.layers_itit import scale_gradient
from itit_hf.models.modeling_itit import ITITForCaptioning, ITITForImageGeneration, ITITForPreTraining, ITITModel
from itit_hf.models.types_itit import ImageMask, TextCondition

from ..testing_utils import tiny_config


def make_images(batch_size=3):
    return torch.randint(23, (batch_size, 16), generator=torch.Generator().manual_seed(1))


def caption_ids(config, *texts):
    prefix = [config.image_token_id] * config.num_prefix_tokens + [config.bos_token_id]
    return torch.tensor([prefix + text for text in texts])


def test_text_sees_the_past_and_the_whole_image_and_nothing_later(model):
    ids = caption_ids(model.config, [3, 4, 5, 6])
    image, start = make_images(1), model.config.num_prefix_tokens
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


def test_spare_rows_of_the_vocabulary_are_never_generated(model):
    logits = model(input_ids=caption_ids(model.config, [3]), image_token_ids=make_images(1)).logits
    assert logits.shape[-1] == 48 and logits.argmax(-1).max() < 40
    assert logits.softmax(-1)[..., 40:].sum() == 0


def test_the_null_text_is_used_when_there_is_none(model):
    null = model.model.null_text_embeds.expand(3, -1, -1)
    without = model.model(make_images()).last_hidden_state
    torch.testing.assert_close(
        model.model(make_images(), text_condition=TextCondition(null)).last_hidden_state, without
    )


@pytest.mark.parametrize("fill", ["mask", "text"])
def test_padded_text_equals_trimmed_text(fill):
    torch.manual_seed(0)
    model = ITITForPreTraining(tiny_config(image_decoder_fill=fill)).eval()
    text = torch.randn(2, 5, 10)
    mask = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]])
    positions = torch.arange(16).expand(2, -1)
    hidden = random_mask(torch.tensor([0.5, 0.8]), 16, torch.Generator().manual_seed(0))
    inputs = {"image_token_ids": make_images(2), "image_mask": ImageMask(hidden), "logit_positions": positions}
    padded = model(**inputs, text_condition=TextCondition(text, mask)).image_logits[0]
    inputs = {"image_token_ids": make_images(2)[:1], "image_mask": ImageMask(hidden[:1])}
    text = TextCondition(text[:1, :2])
    trimmed = model(**inputs, logit_positions=positions[:1], text_condition=text).image_logits[0]
    torch.testing.assert_close(padded, trimmed, atol=1e-5, rtol=1e-5)


def test_logits_at_some_positions_equal_those_of_all(model):
    hidden = random_mask(torch.tensor([0.5, 0.8, 1.0]), 16, torch.Generator().manual_seed(0))
    inputs = {"image_token_ids": make_images(), "image_mask": ImageMask(hidden)}
    inputs["text_condition"] = TextCondition(torch.randn(3, 4, 10))
    positions, _ = masked_positions(hidden)
    every = model(**inputs, logit_positions=torch.arange(16).expand(3, -1)).image_logits
    some = model(**inputs, logit_positions=positions).image_logits
    torch.testing.assert_close(some, every.gather(1, positions[..., None].expand(-1, -1, 23)), atol=1e-5, rtol=1e-5)


def test_masked_ids_do_not_leak_into_the_prediction(model):
    hidden = random_mask(torch.full((3,), 0.75), 16, torch.Generator().manual_seed(0))
    positions, _ = masked_positions(hidden)
    ids, other = make_images(), torch.where(hidden, (make_images() + 5) % 23, make_images())
    logits = [
        model(image_token_ids=i, image_mask=ImageMask(hidden), logit_positions=positions).image_logits
        for i in (ids, other)
    ]
    assert torch.equal(*logits)


@pytest.mark.parametrize("drop", ["half", "all"])
def test_rows_with_different_counts_equal_the_rows_alone(model, drop):
    hidden = torch.zeros(2, 16, dtype=torch.bool)
    hidden[0, :12], hidden[1, :3] = True, True
    mask = drop_masked(hidden, drop, torch.Generator().manual_seed(0))
    text, every = torch.randn(2, 3, 10), torch.arange(16).expand(2, -1)

    def logits(rows, image_mask):
        text_condition = TextCondition(text[rows])
        return model(
            image_token_ids=make_images(2)[rows],
            image_mask=image_mask,
            text_condition=text_condition,
            logit_positions=every[rows],
        ).image_logits

    together = logits(slice(None), mask)
    for row in range(2):
        length = int(mask.encoder_attention_mask[row].sum())
        own = ImageMask(hidden[row : row + 1], mask.encoder_positions[row : row + 1, :length])
        alone = logits(slice(row, row + 1), own)
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-5)


def test_beams_with_a_cache_equal_beams_without(model):
    with_cache = model.generate(image_token_ids=make_images(), num_beams=4, max_new_tokens=8, do_sample=False)
    without = model.generate(
        image_token_ids=make_images(), num_beams=4, max_new_tokens=8, do_sample=False, use_cache=False
    )
    assert torch.equal(with_cache, without)


@pytest.mark.parametrize("num_beams", [1, 4])
def test_captions_of_a_batch_equal_the_captions_alone(model, num_beams):
    options = {"num_beams": num_beams, "max_new_tokens": 8, "do_sample": False}
    together = model.generate(image_token_ids=make_images(), **options)
    for row in range(3):
        alone = model.generate(image_token_ids=make_images()[row : row + 1], **options)[0]
        assert together[row, : len(alone)].tolist() == alone.tolist()


def test_greedy_generation_follows_the_argmax_of_forward(model):
    ids = model.generate(image_token_ids=make_images(1), num_beams=1, max_new_tokens=5, do_sample=False)
    logits = model(input_ids=ids, image_token_ids=make_images(1)).logits
    start = model.config.num_prefix_tokens
    assert ids[0, start + 1 :].tolist() == logits[0, start:-1].argmax(-1).tolist()


def test_the_encoder_runs_once_per_image_however_many_beams(model):
    sizes = []
    model.model.register_forward_hook(lambda module, args, output: sizes.append(len(output.last_hidden_state)))
    model.generate(image_token_ids=make_images(2), num_beams=4, max_new_tokens=4, do_sample=False)
    assert sizes == [2]


def test_generation_continues_a_given_text(model):
    prefix = torch.tensor([[3, 4]])
    ids = model.generate(
        input_ids=prefix, image_token_ids=make_images(1), num_beams=1, max_new_tokens=2, do_sample=False
    )
    start = model.config.num_prefix_tokens
    assert ids[0, start : start + 3].tolist() == [40, 3, 4]


def test_captions_come_from_four_beams_by_default(model, tmp_path):
    alone = model.generate(image_token_ids=make_images())
    beams = model.generate(image_token_ids=make_images(), num_beams=4, max_new_tokens=32, do_sample=False)
    assert torch.equal(alone, beams) and alone.size(1) > 20
    model.save_pretrained(tmp_path)
    loaded = ITITForCaptioning.from_pretrained(tmp_path).generation_config
    assert (loaded.num_beams, loaded.max_new_tokens, loaded.eos_token_id, loaded.pad_token_id) == (4, 32, 1, 0)


def test_sampling_gives_valid_words(model):
    torch.manual_seed(0)
    ids = model.generate(image_token_ids=make_images(), do_sample=True, num_beams=1, max_new_tokens=6)
    assert ids[:, 18:].max() < 40


def test_a_text_longer_than_the_table_is_named(model):
    with pytest.raises(ValueError, match="more than `max_text_length` 32"):
        model(input_ids=caption_ids(model.config, [3] * 33), image_token_ids=make_images(1))


def test_nothing_to_predict_is_named(model):
    with pytest.raises(ValueError, match="nothing to predict"):
        model(image_token_ids=make_images())


def test_a_wrong_number_of_image_tokens_is_named(model):
    with pytest.raises(ValueError, match="wanted 16 image tokens per sample, got 9"):
        model.model(make_images()[:, :9])


def test_both_or_no_image_is_named(model):
    with pytest.raises(ValueError, match="exactly one of"):
        model.model()


def test_labels_are_shifted_once(model):
    ids = caption_ids(model.config, [3, 4, 1])
    labels = ids.masked_fill(ids >= 40, -100)
    output = model(input_ids=ids, image_token_ids=make_images(1), labels=labels)
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
    model(input_ids=ids, image_token_ids=make_images(1), **options).logits[..., :40].pow(2).sum().backward()
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
            image_token_ids=make_images(1),
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
    inputs = {"input_ids": ids, "image_token_ids": make_images(1), "logit_positions": torch.arange(16)[None]}
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
    output = model.model(make_images(1), output_hidden_states=True)
    assert len(output.hidden_states) == model.config.num_hidden_layers + 1


def test_several_texts_of_one_image_are_read_as_if_it_came_again(model):
    image, ids = make_images(2), caption_ids(model.config, [3, 4], [5, 6], [7, 8], [9, 3])
    together = model(input_ids=ids, image_token_ids=image).logits
    torch.testing.assert_close(
        together, model(input_ids=ids, image_token_ids=image.repeat_interleave(2, dim=0)).logits
    )


def test_a_masked_token_is_the_row_of_the_mask_whether_ids_or_embeddings_are_given():
    model = ITITModel(tiny_config()).eval()
    ids, hidden = torch.arange(16)[None] % 7, (torch.arange(16) % 3 == 0)[None]
    embeds = model.embed_image_tokens(torch.where(hidden, model.config.mask_token_id, ids))
    wanted = model(image_token_embeds=embeds).last_hidden_state
    by_ids = model(image_token_ids=ids, image_mask=ImageMask(hidden)).last_hidden_state
    by_embeds = model(image_token_embeds=model.embed_image_tokens(ids), image_mask=ImageMask(hidden)).last_hidden_state
    torch.testing.assert_close([by_ids, by_embeds], [wanted, wanted])


# Placeholders and padding


@pytest.mark.parametrize("counts", [(16, 17), (17, 18), (0, 0)])
def test_placeholders_and_features_of_each_row_are_as_many(model, counts):
    rows = [[47] * count + [40] + [3] * (20 - count) for count in counts]
    with pytest.raises(ValueError, match=rf"each of the 17 features of its encoded image, got \[{counts[0]}, "):
        model(input_ids=torch.tensor(rows), image_token_ids=make_images(2))


def test_images_and_texts_that_do_not_go_together_are_refused(model):
    with pytest.raises(ValueError, match="`input_ids` have 2 rows, the encoded images 3"):
        model(input_ids=caption_ids(model.config, [3], [4]), image_token_ids=make_images(3))
    with pytest.raises(ValueError, match="`input_ids` have 3 rows, the encoded images 2"):
        model(input_ids=caption_ids(model.config, [3], [4], [5]), image_token_ids=make_images(2))


def test_placeholders_without_an_image_are_refused(model):
    with pytest.raises(ValueError, match="placeholders of an image, and no image is given"):
        model(input_ids=caption_ids(model.config, [3, 4]))


def test_a_text_without_placeholders_needs_no_image(model):
    ids = torch.tensor([[40, 3, 4, 5]])
    other = torch.tensor([[40, 3, 4, 9]])
    torch.testing.assert_close(model(input_ids=ids).logits[:, :3], model(input_ids=other).logits[:, :3])


@pytest.mark.parametrize("use_cache", [True, False])
def test_padding_in_front_changes_nothing_behind_it(model, use_cache):
    ids = caption_ids(model.config, [6, 21, 8])
    padded = F.pad(ids, (4, 0))
    mask = (torch.arange(padded.size(1)) >= 4).long()[None]
    image = {"image_token_ids": make_images(1), "use_cache": use_cache}
    want = model(input_ids=ids, **image).logits
    whole = model(input_ids=padded, attention_mask=mask, **image)
    torch.testing.assert_close(whole.logits[:, 4:], want, atol=1e-5, rtol=1e-5)
    if use_cache:  # the last words, behind a cache of the others
        part = model(input_ids=padded[:, :-2], attention_mask=mask[:, :-2], **image)
        rest = model(input_ids=padded[:, -2:], attention_mask=mask, past_key_values=part.past_key_values)
        torch.testing.assert_close(rest.logits, want[:, -2:], atol=1e-5, rtol=1e-5)


def test_padding_does_not_count_as_text(model):
    ids = F.pad(caption_ids(model.config, [3] * 30), (20, 0))
    mask = (torch.arange(ids.size(1)) >= 20).long()[None]
    assert model(input_ids=ids, attention_mask=mask, image_token_ids=make_images(1)).logits.isfinite().all()
    with pytest.raises(ValueError, match="the text has 50 tokens"):
        model(input_ids=ids, image_token_ids=make_images(1))


# What libraries pass


def test_embeddings_take_the_place_of_ids(model):
    ids = caption_ids(model.config, [3, 14, 15], [9, 2, 6])
    embeds = model.get_input_embeddings()(ids)
    image = {"image_token_ids": make_images(2)}
    torch.testing.assert_close(model(inputs_embeds=embeds, **image).logits, model(input_ids=ids, **image).logits)
    with pytest.raises(ValueError, match="exactly one of `input_ids` and `inputs_embeds`"):
        model(input_ids=ids, inputs_embeds=embeds, **image)
    with pytest.raises(ValueError, match="exactly one of `input_ids` and `inputs_embeds`"):
        ITITForCaptioning.forward(model, **image)


@pytest.mark.parametrize("keep", [2, torch.tensor([17, 19]), torch.tensor([-1])], ids=str)
def test_logits_may_be_kept_at_some_places(model, keep):
    ids = caption_ids(model.config, [3, 14, 15], [9, 2, 6])
    inputs = {"input_ids": ids, "image_token_ids": make_images(2)}
    whole = model(**inputs).logits
    wanted = whole[:, -keep:] if isinstance(keep, int) else whole[:, keep]
    torch.testing.assert_close(model(**inputs, logits_to_keep=keep).logits, wanted)


def by_hand(logits, following, num_items):
    """Sum of the cross entropies of what follows, over a number of tokens."""
    log_probs = logits[..., :40].log_softmax(dim=-1)
    return -sum(log_probs[row, place, token] for row, place, token in following) / num_items


def test_the_loss_is_a_sum_over_a_given_number_of_tokens(model):
    ids = caption_ids(model.config, [3, 14, 1], [9, 1, 0])
    labels = ids.masked_fill((ids >= 40) | (ids == 0), -100)
    output = model(input_ids=ids, image_token_ids=make_images(2), labels=labels, num_items_in_batch=torch.tensor(11))
    following = [(0, 17, 3), (0, 18, 14), (0, 19, 1), (1, 17, 9), (1, 18, 1)]
    torch.testing.assert_close(output.loss, by_hand(output.logits, following, 11))


def test_labels_may_come_shifted(model):
    ids = caption_ids(model.config, [3, 14, 1])
    labels = ids.masked_fill(ids >= 40, -100)
    inputs = {"input_ids": ids, "image_token_ids": make_images(1)}
    shifted = F.pad(labels, (0, 1), value=-100)[:, 1:]
    torch.testing.assert_close(model(**inputs, shift_labels=shifted).loss, model(**inputs, labels=labels).loss)


@pytest.mark.parametrize("keep", [3, torch.tensor([18, 19])], ids=str)
def test_the_loss_is_taken_where_logits_are_kept(model, keep):
    ids = caption_ids(model.config, [3, 14, 1, 7])
    labels = ids.masked_fill(ids >= 40, -100)
    inputs = {"input_ids": ids, "image_token_ids": make_images(1)}
    output = model(**inputs, labels=labels, logits_to_keep=keep)
    following = [(0, 0, 1), (0, 1, 7)] if isinstance(keep, int) else [(0, 0, 14), (0, 1, 1)]
    torch.testing.assert_close(output.loss, by_hand(output.logits, following, 2))


def test_labels_that_are_no_words_are_named(model):
    ids = caption_ids(model.config, [3])
    with pytest.raises(ValueError, match="`labels` must be below 40, or -100 .* got 47"):
        model(input_ids=ids, image_token_ids=make_images(1), labels=ids)
    with pytest.raises(ValueError, match="`labels` must be below 23"):
        ITITForImageGeneration(tiny_config())(make_images(1), labels=torch.full((1, 16), 23))


@pytest.mark.parametrize("kind", [ITITModel, ITITForImageGeneration, ITITForCaptioning, ITITForPreTraining])
def test_an_argument_that_is_none_is_refused(kind):
    captioner = kind(tiny_config())
    inputs = {"image_token_ids": make_images(1), "task_ids": None}
    if isinstance(captioner, ITITForCaptioning):
        inputs["input_ids"] = caption_ids(captioner.config, [3])
    captioner(**inputs, pixel_values=torch.zeros(1, 3, 16, 16))  # the processor gives both
    with pytest.raises(TypeError, match=r"forward\(\) got unexpected keyword arguments \['image_tokens_ids'\]"):
        captioner(**inputs, image_tokens_ids=make_images(1))
    inputs.pop("image_token_ids")
    with pytest.raises(ValueError, match="`pixel_values` alone are not seen"):
        captioner(**inputs, pixel_values=torch.zeros(1, 3, 16, 16))


def test_image_logits_need_an_image(model):
    with pytest.raises(ValueError, match="`logit_positions` need an image"):
        model(logit_positions=torch.arange(16)[None])


# What is recorded


def test_the_image_decoder_records_all_rows_and_predicts_the_same():
    torch.manual_seed(0)
    drawer = ITITForImageGeneration(tiny_config(image_decoder_num_hidden_layers=3)).eval()
    drawer.set_attn_implementation("eager")
    inputs = {"image_token_ids": make_images(2), "text_condition": TextCondition(torch.randn(2, 4, 10))}
    inputs["logit_positions"] = torch.tensor([[3, 5], [0, 15]])
    output = drawer(**inputs, output_hidden_states=True, output_attentions=True)
    assert [tuple(states.shape) for states in output.hidden_states] == [(2, 20, 16)] * 4
    assert [tuple(weights.shape) for weights in output.attentions] == [(2, 2, 20, 20)] * 3
    torch.testing.assert_close(output.image_logits, drawer(**inputs).image_logits)
    assert drawer(**inputs).attentions is None


@pytest.mark.parametrize(
    ("kind", "depth"), [(ITITModel, 2), (ITITForImageGeneration, 4), (ITITForCaptioning, 3), (ITITForPreTraining, 3)]
)
def test_the_last_hidden_state_is_asked_for_by_its_index(kind, depth):
    sizes = {"image_decoder_num_hidden_layers": 4, "text_decoder_num_hidden_layers": 3}
    network = kind(tiny_config(**sizes)).eval()
    inputs = {"image_token_ids": make_images(1)}
    if isinstance(network, ITITForCaptioning):
        inputs["input_ids"] = caption_ids(network.config, [3, 4])
    every = network(**inputs, output_hidden_states=True).hidden_states
    last = network(**inputs, output_hidden_states=[-1]).hidden_states
    assert len(every) == len(last) == depth + 1 and last[:-1] == (None,) * depth
    assert torch.equal(last[-1], every[-1])


def test_a_captioner_that_records_keeps_the_logits_it_was_asked_for(model):
    model.set_attn_implementation("eager")
    inputs = {"input_ids": caption_ids(model.config, [3, 4], [5, 6]), "image_token_ids": make_images(2)}
    output = model(**inputs, logits_to_keep=1, output_attentions=True)
    assert output.logits.shape == (2, 1, 48) and output.attentions[-1].shape == (2, 2, 20, 20)
    torch.testing.assert_close(output.logits, model(**inputs).logits[:, -1:])


def test_both_decoders_of_a_pass_are_recorded_apart(model):
    model.set_attn_implementation("eager")
    inputs = {"image_token_ids": make_images(2), "logit_positions": torch.tensor([[3], [5]])}
    output = model(**inputs, output_image_attentions=True, output_image_hidden_states=True)
    assert [tuple(weights.shape) for weights in output.image_attentions] == [(2, 2, 17, 17)] * 2
    assert len(output.image_hidden_states) == 2 and output.attentions is None
    both = model(**inputs, input_ids=caption_ids(model.config, [3], [4]), output_attentions=True)
    assert len(both.attentions) == 2 and both.image_attentions is None
    with pytest.raises(ValueError, match="are the text decoder's, and there is no text"):
        model(**inputs, output_attentions=True)
    with pytest.raises(ValueError, match="need `logit_positions`"):
        model(input_ids=caption_ids(model.config, [3]), image_token_ids=make_images(1), output_image_attentions=True)


# Graphs for any number of samples


def exported(network, inputs, **dynamic):
    """The graph of a model, with the named dimensions of some inputs left open."""
    shapes = {name: dynamic.get(name) for name in inputs}
    return torch.export.export(network.eval(), (), kwargs=inputs, dynamic_shapes=shapes).module()


BATCH, LENGTH = torch.export.Dim("batch", max=64), torch.export.Dim("length", min=19, max=50)


@pytest.mark.slow
def test_the_image_decoder_is_exported_for_any_number_of_images():
    drawer = ITITForImageGeneration(tiny_config(num_hidden_layers=1, image_decoder_num_hidden_layers=1))
    hidden = torch.arange(16).expand(3, -1) % 2 == 0
    inputs = {"image_token_ids": make_images(3), "image_mask": ImageMask(hidden)}
    graph = exported(drawer, inputs, image_token_ids={0: BATCH}, image_mask=[{0: BATCH}])
    inputs = {"image_token_ids": make_images(4), "image_mask": ImageMask(hidden[:1].expand(4, -1))}
    torch.testing.assert_close(graph(**inputs).image_logits, drawer(**inputs).image_logits)


@pytest.mark.slow
def test_the_captioner_is_exported_for_any_number_of_images_and_tokens():
    captioner = ITITForCaptioning(tiny_config(num_hidden_layers=1, text_decoder_num_hidden_layers=1))
    config = captioner.config
    inputs = {"input_ids": caption_ids(config, [3, 4, 5], [6, 7, 8]), "image_token_ids": make_images(2)}
    dynamic = {"input_ids": {0: BATCH, 1: LENGTH}, "image_token_ids": {0: BATCH}}
    graph = exported(captioner, inputs | {"use_cache": False}, **dynamic)
    inputs = {"input_ids": caption_ids(config, *[[9, 3]] * 5), "image_token_ids": make_images(5)}
    torch.testing.assert_close(graph(**inputs, use_cache=False).logits, captioner(**inputs).logits)


def test_the_loss_of_captions_is_a_mean_over_all_words_of_the_batch():
    """As in transformers: a long caption counts more than a short one, and padding does not count."""
    torch.manual_seed(0)
    model = ITITForCaptioning(tiny_config()).eval()
    config = model.config
    prefix = torch.full((2, config.num_prefix_tokens + 1), config.image_token_id)
    prefix[:, -1] = config.bos_token_id
    ids = torch.cat([prefix, torch.tensor([[5, 6, 7, 1], [8, 1, 0, 0]])], dim=1)
    labels = ids.clone()
    labels[:, : prefix.size(1)] = -100  # the first of them is what [BOS] predicts nothing of
    labels[1, -2:] = -100
    image_token_ids = torch.randint(23, (2, 16), generator=torch.Generator().manual_seed(0))
    output = model(input_ids=ids, image_token_ids=image_token_ids, labels=labels)
    log_probs = output.logits.log_softmax(dim=-1)
    start = prefix.size(1)
    words = [(0, 0, 5), (0, 1, 6), (0, 2, 7), (0, 3, 1), (1, 0, 8), (1, 1, 1)]  # sample, place, id
    by_hand = -sum(log_probs[sample, start - 1 + place, word] for sample, place, word in words) / len(words)
    torch.testing.assert_close(output.loss, by_hand)


def test_the_loss_of_images_is_a_mean_over_all_labels_of_the_batch():
    torch.manual_seed(0)
    model = ITITForImageGeneration(tiny_config()).eval()
    ids = torch.randint(23, (2, 16), generator=torch.Generator().manual_seed(0))
    labels = torch.full((2, 16), -100)
    labels[0, :3], labels[1, 5] = ids[0, :3], ids[1, 5]
    output = model(image_token_ids=ids, image_mask=ImageMask(labels != -100), labels=labels)
    log_probs = output.image_logits.log_softmax(dim=-1)
    places = [(0, 0), (0, 1), (0, 2), (1, 5)]
    by_hand = -sum(log_probs[row, place, ids[row, place]] for row, place in places) / len(places)
    torch.testing.assert_close(output.loss, by_hand)
