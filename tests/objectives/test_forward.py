# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from itit_hf.models.types_itit import ImageMask, TextCondition
from itit_hf.objectives.forward import (
    ForwardOutput,
    GradientScales,
    caption_forward,
    caption_inputs,
    image_forward,
    present,
)

from ..testing_utils import tiny_config


class Recorder:
    """Keeps what it was called with."""

    config = tiny_config()

    def __call__(self, **inputs):
        self.inputs = inputs
        batch_size = len(inputs["image_token_ids"])
        text = torch.zeros(batch_size, inputs.get("logits_to_keep", 0), 48)
        positions = inputs["logit_positions"]
        image = None if positions is None else torch.zeros(*positions.shape, 23)
        return SimpleNamespace(logits=text, image_logits=image, predicted_embeds=None, predicted_ids=None)


MASK = torch.tensor([[True] * 12 + [False] * 4, [False] * 8 + [True] * 8])
EIGHT = ImageMask(MASK, torch.arange(8).expand(2, -1))
IMAGE = torch.arange(32).view(2, 16) % 23
TEXT = {"input_ids": torch.tensor([[5, 6, 1], [7, 1, 0]]), "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]])}


def test_image_forward_asks_for_logits_at_masked_positions_only():
    model = Recorder()
    drawn = image_forward(model, IMAGE, EIGHT, encoder_gradient_scale=0.0)
    assert model.inputs["logit_positions"].shape == (2, 12) and model.inputs["encoder_gradient_scale"] == 0.0
    assert drawn.image_labels[0].tolist() == list(range(12))
    assert drawn.image_labels[1].tolist() == [(24 + k) % 23 for k in range(8)] + [-100] * 4


def test_caption_forward_puts_a_placeholder_for_each_kept_position_and_the_null_text():
    model = Recorder()
    image = {"image_token_ids": IMAGE}
    described = caption_forward(model, image, EIGHT, TEXT, GradientScales(text=0.1, encoder=0.5))
    assert model.inputs["input_ids"].tolist() == [[47] * 9 + [40, 5, 6], [47] * 9 + [40, 7, 1]]
    assert described.text_labels.tolist() == [[5, 6, 1], [7, 1, -100]]
    assert described.text_logits.shape == (2, 3, 40) and described.image_logits is None
    assert model.inputs["text_gradient_scale"] == 0.1 and model.inputs["encoder_gradient_scale"] == 0.5
    assert model.inputs["attention_mask"] is None


def test_caption_forward_masks_the_filling_of_the_prefix():
    model = Recorder()
    valid = torch.tensor([[True] * 4 + [False] * 4, [True] * 8])
    filled_up = replace(EIGHT, encoder_attention_mask=valid)
    caption_forward(model, {"image_token_ids": IMAGE}, filled_up, TEXT)
    assert model.inputs["attention_mask"].tolist() == [[1] * 4 + [0] * 4 + [1] * 4, [1] * 12]


def test_image_logits_come_with_the_caption_when_asked_for():
    image = {"image_token_ids": IMAGE}
    described = caption_forward(Recorder(), image, EIGHT, TEXT, with_image_logits=True)
    assert described.image_logits.shape == (2, 12, 23) and described.image_labels[1, -1] == -100


def test_a_text_for_the_encoder_stands_in_the_prefix_without_its_padding():
    model = Recorder()
    condition = TextCondition(torch.zeros(2, 3, 10), torch.tensor([[1, 1, 1], [1, 1, 0]]))
    caption_forward(model, {"image_token_ids": IMAGE, "text_condition": condition}, EIGHT, TEXT)
    assert model.inputs["input_ids"][0].tolist() == [47] * 11 + [40, 5, 6]
    assert model.inputs["attention_mask"].tolist() == [[1] * 14, [1] * 10 + [0] + [1] * 3]


def test_image_forward_may_ask_for_other_tokens():
    model = Recorder()
    drawn = image_forward(model, IMAGE, EIGHT, predict_mask=torch.ones_like(MASK))
    assert model.inputs["logit_positions"].tolist() == [list(range(16))] * 2 and bool(drawn.valid.all())


def test_caption_inputs_start_with_the_prefix_and_bos_and_leave_the_last_token_out():
    text = {"input_ids": torch.tensor([[5, 6, 1], [7, 1, 0]]), "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]])}
    decoder_input_ids, labels = caption_inputs(tiny_config(), text, prefix_length=2)
    assert decoder_input_ids.tolist() == [[47, 47, 40, 5, 6], [47, 47, 40, 7, 1]]
    assert labels.tolist() == [[5, 6, 1], [7, 1, -100]]


def test_what_a_pass_was_not_asked_for_is_named():
    assert present(3, "image_logits") == 3
    with pytest.raises(ValueError, match="the pass has no `image_logits`"):
        present(ForwardOutput().image_logits, "image_logits")
