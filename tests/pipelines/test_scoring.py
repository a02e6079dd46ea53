# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from itit_hf.models.modeling_itit import ITITForPreTraining
from itit_hf.models.types_itit import ImageMask
from itit_hf.objectives.forward import caption_forward
from itit_hf.pipelines.pipeline_output import ITITScoreOutput
from itit_hf.pipelines.scoring import caption_log_likelihoods

from ..testing_utils import tiny_config

TEXTS = [[5, 6, 7, 1], [8, 1], [1]]  # 1 ends a text


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = ITITForPreTraining(tiny_config()).eval()
    model.model.null_text_embeds.normal_()
    return model.requires_grad_(False)


def make_images(count):
    return torch.randint(23, (count, 16), generator=torch.Generator().manual_seed(1))


def padded(texts, length=None):
    length = length or max(len(text) for text in texts)
    ids = torch.tensor([text + [0] * (length - len(text)) for text in texts])
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


def test_it_is_the_sum_over_the_tokens_written_by_hand(model):
    scores = caption_log_likelihoods(model, make_images(3), padded(TEXTS))
    assert isinstance(scores, ITITScoreOutput)
    for row, text in enumerate(TEXTS):
        image = make_images(3)[row : row + 1]
        total, said = 0.0, [model.config.image_token_id] * 17 + [model.config.bos_token_id]
        for word in text:
            logits = model(input_ids=torch.tensor([said]), image_token_ids=image).logits[0, -1, :40]
            total += logits.log_softmax(dim=-1)[word].item()
            said.append(word)
        assert scores.log_likelihoods[row].item() == pytest.approx(total, rel=1e-4)
        assert scores.log_likelihoods_per_token[row].item() == pytest.approx(total / len(text), rel=1e-4)


def test_it_is_the_training_pass_with_nothing_hidden(model):
    text, nothing = padded(TEXTS), ImageMask(torch.zeros(3, 16, dtype=torch.bool))
    described = caption_forward(model, {"image_token_ids": make_images(3)}, nothing, text)
    loss = torch.nn.functional.cross_entropy(
        described.text_logits.transpose(1, 2), described.text_labels, reduction="none"
    )
    scores = caption_log_likelihoods(model, make_images(3), text)
    torch.testing.assert_close(scores.log_likelihoods, -loss.sum(dim=-1), rtol=1e-4, atol=1e-4)


def test_neither_neighbours_nor_padding_matter(model):
    together = caption_log_likelihoods(model, make_images(3), padded(TEXTS, length=9)).log_likelihoods
    for row, text in enumerate(TEXTS):
        alone = caption_log_likelihoods(model, make_images(3)[row : row + 1], padded([text])).log_likelihoods
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-4)


def test_one_image_serves_all_texts_and_is_encoded_once(model):
    encoded = []
    hook = model.model.register_forward_hook(lambda module, args, output: encoded.append(len(output[0])))
    one = caption_log_likelihoods(model, make_images(1), padded(TEXTS)).log_likelihoods
    hook.remove()
    assert encoded == [1]
    each = caption_log_likelihoods(model, make_images(1).expand(3, -1), padded(TEXTS)).log_likelihoods
    torch.testing.assert_close(one, each, rtol=1e-4, atol=1e-4)


def test_the_next_tokens_probabilities_sum_to_one(model):
    words = {"input_ids": torch.arange(40)[:, None], "attention_mask": torch.ones(40, 1).long()}
    total = caption_log_likelihoods(model, make_images(1), words).log_likelihoods.exp().sum()
    assert total.item() == pytest.approx(1.0, abs=1e-5)


def test_what_the_model_says_greedily_is_likelier_than_random_words(model):
    said = model.generate(
        image_token_ids=make_images(8), num_beams=1, do_sample=False, min_new_tokens=6, max_new_tokens=6
    )[:, -6:]
    random = torch.randint(3, 40, (8, 6), generator=torch.Generator().manual_seed(2))
    scores = [
        caption_log_likelihoods(model, make_images(8), padded(ids.tolist())).log_likelihoods_per_token
        for ids in (said, random)
    ]
    assert (scores[0] > scores[1]).all()


def test_gradients_reach_the_encoder(model):
    model = ITITForPreTraining(model.config)
    caption_log_likelihoods(model, make_images(1), padded(TEXTS)).log_likelihoods.sum().backward()
    assert model.model.layers[0].fc1.weight.grad.abs().sum() > 0
