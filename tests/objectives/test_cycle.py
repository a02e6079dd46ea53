# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
from functools import partial

import pytest
import torch

from itit_hf.masking import MaskRatio, draw_mask
from itit_hf.models.straight_through_itit import straight_through
from itit_hf.models.types_itit import ImageMask, TextCondition
from itit_hf.objectives.cycle import TextCycleSettings, gumbel_noise, i2t2i_loss, t2i2t_loss

from ..testing_utils import generators, tiny_text_encoder

BATCH = 3


@pytest.fixture
def text_encoder():
    torch.manual_seed(1)
    return tiny_text_encoder().requires_grad_(False)


@pytest.fixture
def text():
    ids, mask = torch.randint(2, 40, (BATCH, 5)), torch.ones(BATCH, 5, dtype=torch.long)
    for row, length in enumerate([5, 3, 4]):
        ids[row, length - 1], ids[row, length:], mask[row, length:] = 1, 0, 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture
def image_token_ids():
    return torch.randint(23, (BATCH, 16), generator=torch.Generator().manual_seed(3))


@pytest.fixture
def masks():
    wide, narrow = MaskRatio(), MaskRatio(high=0.75)
    return (
        draw_mask(16, wide, "half", generators(1, 2, 3)),
        draw_mask(16, narrow, "half", generators(4, 5, 6)),
    )


@pytest.fixture
def noise():
    return gumbel_noise(16, 23, generators(7, 8, 9))


def smoothed(log_probs, label):
    return -0.9 * log_probs[label] - 0.1 * log_probs.mean()


def of_row(mask, row):
    return ImageMask(mask.bool_masked_pos[row : row + 1], mask.encoder_positions[row : row + 1])


def encode(model, image, mask, row, text=None):
    """One encoder pass of one sample on given image embeddings `(1, 16, H)`."""
    condition = None if text is None else TextCondition(text)
    return model.model(None, of_row(mask, row), condition, image).last_hidden_state


def image_logits(model, features, mask, row):
    return model.image_decoder(features, model.model.code_embeddings, of_row(mask, row))[0]  # (16, V)


def text_logits(model, features, words):
    config = model.config
    prefix = [config.image_token_id] * features.size(1) + [config.bos_token_id]
    hidden = model.text_decoder(torch.tensor([prefix + words[:-1]]), features)
    return model.text_decoder.logits(hidden)[0, features.size(1) :, :40]  # (L, words)


def t2i2t_by_hand(model, text, text_embeds, ids, masks, noise, half):
    total = 0.0
    table = model.model.embed_image_tokens.weight
    for b in range(BATCH):
        words = text["input_ids"][b, : int(text["attention_mask"][b].sum())].tolist()
        condition = text_embeds[b : b + 1, : len(words)]
        features = encode(model, table[ids[b : b + 1]], masks[0], b, condition).detach()
        logits = image_logits(model, features, masks[0], b)
        one_hot = straight_through(logits, noise[b])
        one_hot = one_hot.detach() if half else one_hot
        hidden = masks[0].bool_masked_pos[b][:, None]
        image = torch.where(hidden, one_hot @ table[:23], table[ids[b]])[None]
        features = encode(model, image, masks[1], b)
        features = 0.1 * features + 0.9 * features.detach()
        log_probs = text_logits(model, features, words).log_softmax(-1)
        total = total + sum(smoothed(log_probs[i], t) for i, t in enumerate(words)) / len(words) / BATCH
    return total


def i2t2i_by_hand(model, text_encoder, ids, text, masks, half):
    total = 0.0
    table = model.model.embed_image_tokens.weight
    for b in range(BATCH):
        words = text["input_ids"][b, : int(text["attention_mask"][b].sum())].tolist()
        features = encode(model, table[ids[b : b + 1]], masks[0], b).detach()
        one_hot = straight_through(text_logits(model, features, words))
        one_hot = one_hot.detach() if half else one_hot
        embeds = text_encoder(inputs_embeds=(one_hot @ text_encoder.shared.weight[:40])[None]).last_hidden_state
        features = encode(model, table[ids[b : b + 1]], masks[1], b, embeds)
        log_probs = image_logits(model, features, masks[1], b).log_softmax(-1)
        hidden = masks[1].bool_masked_pos[b].nonzero().flatten().tolist()
        total = total + sum(smoothed(log_probs[k], ids[b, k]) for k in hidden) / len(hidden) / BATCH
    return total


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}


def assert_same_loss_and_gradients(model, loss, by_hand):
    torch.testing.assert_close(loss, by_hand, atol=1e-5, rtol=1e-5)
    ours, theirs = gradients(model, loss), gradients(model, by_hand)
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-6, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def condition_of(text, text_embeds=None):
    text_embeds = torch.randn(BATCH, 5, 10) if text_embeds is None else text_embeds
    return TextCondition(text_embeds, text["attention_mask"])


def image_of(image_token_ids):
    return {"image_token_ids": image_token_ids}


@pytest.mark.parametrize("half", [False, True])
def test_t2i2t_equals_the_hand_written_reference(model, text, image_token_ids, masks, noise, half):
    text_embeds = torch.randn(BATCH, 5, 10)
    condition = condition_of(text, text_embeds)
    loss = t2i2t_loss(model, text, condition, image_token_ids, masks, noise, is_half=half).loss
    by_hand = t2i2t_by_hand(model, text, text_embeds, image_token_ids, masks, noise, half)
    assert_same_loss_and_gradients(model, loss, by_hand)


@pytest.mark.parametrize("half", [False, True])
def test_i2t2i_equals_the_hand_written_reference(model, text_encoder, text, image_token_ids, masks, half):
    masks = masks[::-1]
    loss = i2t2i_loss(model, text_encoder, image_of(image_token_ids), text, masks, is_half=half).loss
    by_hand = i2t2i_by_hand(model, text_encoder, image_token_ids, text, masks, half)
    assert_same_loss_and_gradients(model, loss, by_hand)


def slope(loss_of, parameter, direction, step=1e-2):
    """Finite difference of a loss along a direction; a large step, as losses are float32."""
    losses = []
    for shift in (step, -step):
        with torch.no_grad():
            parameter += shift * direction
            losses.append(loss_of().loss.item())
            parameter -= shift * direction
    return (losses[0] - losses[1]) / (2 * step)


def assert_gradient_is_the_slope(loss_of, parameter):
    loss_of().loss.backward()
    length = parameter.grad.norm()
    assert slope(loss_of, parameter, parameter.grad / length) == pytest.approx(length.item(), rel=2e-3)


@pytest.mark.parametrize("half", [False, True])
def test_t2i2ts_gradient_of_the_text_decoder_is_the_finite_difference(model, text, image_token_ids, masks, half):
    model.double()
    condition = condition_of(text, torch.randn(BATCH, 5, 10, dtype=torch.double))
    parameter = model.text_decoder.layers[0].fc1.weight  # in the second pass alone: no argmax behind it
    run = partial(t2i2t_loss, model, text, condition, image_token_ids, masks, is_half=half)
    assert_gradient_is_the_slope(run, parameter)


@pytest.mark.parametrize("half", [False, True])
def test_i2t2is_gradient_of_the_image_decoder_is_the_finite_difference(
    model, text_encoder, text, image_token_ids, masks, half
):
    model.double(), text_encoder.double()
    parameter = model.image_decoder.layers[0].fc1.weight
    run = partial(i2t2i_loss, model, text_encoder, image_of(image_token_ids), text, masks[::-1], is_half=half)
    assert_gradient_is_the_slope(run, parameter)


@pytest.mark.parametrize("reconstruction", ["masked", "all"])
def test_the_first_pass_predicts_what_the_second_is_shown_and_nothing_else(
    model, text, image_token_ids, masks, reconstruction
):
    first = masks[0].bool_masked_pos
    settings = TextCycleSettings(reconstruction=reconstruction)
    cycle = t2i2t_loss(model, text, condition_of(text), image_token_ids, masks, settings=settings)
    said = torch.zeros_like(first).scatter(1, cycle.first_pass.positions, cycle.first_pass.valid)
    from_logits = first if reconstruction == "masked" else torch.ones_like(first)
    assert torch.equal(said, from_logits & ~masks[1].bool_masked_pos)


def test_a_second_pass_that_is_shown_nothing_leaves_the_graph_whole(model, text, image_token_ids, masks):
    everything = draw_mask(16, MaskRatio(1.0, 0.0, 1.0, 1.0), "half", generators(1, 2, 3))
    both = (masks[0], everything)
    t2i2t_loss(model, text, condition_of(text), image_token_ids, both).loss.backward()
    assert all(parameter.grad is not None for parameter in model.image_decoder.parameters())


def test_frozen_codes_learn_from_what_was_copied_and_from_the_first_pass_alone(model, text, image_token_ids, masks):
    half = partial(t2i2t_loss, model, text, condition_of(text), image_token_ids, is_half=True)
    everything = draw_mask(16, MaskRatio(1.0, 0.0, 1.0, 1.0), "half", generators(1, 2, 3))
    nothing = draw_mask(16, MaskRatio(0.0, 0.0, 0.0, 0.0), "half", generators(4, 5, 6))
    table = model.model.embed_image_tokens.weight
    reached = []
    for trained in (True, False):
        model.zero_grad()
        half((everything, nothing), settings=TextCycleSettings(train_code_embeddings=trained)).loss.backward()
        reached.append(table.grad is not None and bool(table.grad.any()))
    assert reached == [True, False]  # all tokens are said by the first leg, which a half cycle does not train


def test_tokens_that_fill_a_row_up_train_their_embeddings_as_other_copied_ones_do(model, text, image_token_ids):
    nothing = draw_mask(16, MaskRatio(0.0, 0.0, 0.0, 0.0), "none", generators(4, 5, 6))
    # Nothing of the first sample is said, all of the others': its places in the batch are filling.
    first = ImageMask(torch.tensor([[False], [True], [True]]).expand(-1, 16))
    settings = TextCycleSettings(train_code_embeddings=False)
    masks = (first, nothing)
    condition = condition_of(text)
    loss = t2i2t_loss(model, text, condition, image_token_ids, masks, settings=settings, is_half=True).loss
    (gradient,) = torch.autograd.grad(loss, model.model.embed_image_tokens.weight)
    assert set(gradient.any(dim=1).nonzero().flatten().tolist()) == set(image_token_ids[0].tolist())


def test_t2i2t_stops_gradients_at_the_first_encoder_pass(model, text, image_token_ids, masks, noise):
    text_embeds = torch.randn(BATCH, 5, 10, requires_grad=True)
    t2i2t_loss(model, text, condition_of(text, text_embeds), image_token_ids, masks, noise).loss.backward()
    assert text_embeds.grad is None  # only the first pass sees T


def test_t2i2t_trains_both_decoders_and_the_encoder(model, text, image_token_ids, masks, noise):
    loss = t2i2t_loss(model, text, condition_of(text), image_token_ids, masks, noise).loss
    reached = gradients(model, loss)
    assert set(reached) == {name for name, _ in model.named_parameters()}


def test_the_half_cycle_leaves_the_image_decoder_alone(model, text, image_token_ids, masks, noise):
    loss = t2i2t_loss(model, text, condition_of(text), image_token_ids, masks, noise, is_half=True).loss
    assert not any(name.startswith("image_decoder") for name in gradients(model, loss))


def test_i2t2i_trains_both_decoders_through_the_frozen_text_encoder(model, text_encoder, text, image_token_ids, masks):
    loss = i2t2i_loss(model, text_encoder, image_of(image_token_ids), text, masks[::-1]).loss
    reached = gradients(model, loss)
    assert any(name.startswith("text_decoder") for name in reached)
    assert any(name.startswith("image_decoder") for name in reached)
    assert all(p.grad is None for p in text_encoder.parameters())
    half = i2t2i_loss(model, text_encoder, image_of(image_token_ids), text, masks[::-1], is_half=True).loss
    assert not any(name.startswith("text_decoder") for name in gradients(model, half))


def test_words_behind_the_end_of_the_synthetic_text_do_not_matter(model, text_encoder, text, image_token_ids, masks):
    other = text | {"input_ids": torch.where(text["attention_mask"] == 0, 9, text["input_ids"])}
    losses = [
        i2t2i_loss(model, text_encoder, image_of(image_token_ids), said, masks[::-1]).loss for said in (text, other)
    ]
    torch.testing.assert_close(*losses)
