# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Features by small random models of transformers, against the models themselves."""

import numpy as np
import PIL.Image
import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    Dinov2Config,
    Dinov2Model,
    ResNetConfig,
    ResNetModel,
    ViTConfig,
    ViTModel,
)
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from itit_hf.metrics.features import VisionFeatures

from ..testing_utils import tiny_dual_encoder

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def images(number: int = 3) -> list[PIL.Image.Image]:
    chance = np.random.default_rng(0)
    return [PIL.Image.fromarray(chance.integers(0, 256, (20, 20, 3), dtype=np.uint8)) for _ in range(number)]


def saved(model, folder):
    """A model with an image processor, in a folder."""
    model.eval().save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def pixels() -> torch.Tensor:
    return ViTImageProcessorPil(size={"height": 16, "width": 16})(images(), return_tensors="pt").pixel_values


@torch.no_grad()
def test_features_of_dinov2_are_the_class_token_behind_the_last_norm(tmp_path):
    model = Dinov2Model(Dinov2Config(**SIZES, image_size=16, patch_size=8))
    network = VisionFeatures.from_pretrained(saved(model, tmp_path))
    features = network(images())
    assert torch.allclose(features, model(pixel_values=pixels()).last_hidden_state[:, 0], atol=1e-6)
    assert features.shape == (3, 16) and not network.is_dual_encoder
    assert network.description == "pooled features of Dinov2Model"


@torch.no_grad()
def test_features_of_a_convolutional_network_are_flat(tmp_path):
    model = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic"))
    features = VisionFeatures.from_pretrained(saved(model, tmp_path))(images())
    expected = model.eval()(pixel_values=pixels()).last_hidden_state.mean(dim=(2, 3))
    assert torch.allclose(features, expected, atol=1e-6) and features.shape == (3, 12)


@torch.no_grad()
def test_a_model_without_a_pooler_gives_its_class_token():
    model = ViTModel(ViTConfig(**SIZES, intermediate_size=24, image_size=16, patch_size=8), add_pooling_layer=False)
    network = VisionFeatures(model, ViTImageProcessorPil(size={"height": 16, "width": 16}))
    assert torch.allclose(network(images()), model(pixel_values=pixels()).last_hidden_state[:, 0], atol=1e-6)


def test_a_dual_encoder_gives_its_image_embeddings_of_length_one(tmp_path):
    torch.manual_seed(0)
    scorer = tiny_dual_encoder()
    scorer.model.save_pretrained(tmp_path)
    scorer.processor.save_pretrained(tmp_path)
    network = VisionFeatures.from_pretrained(tmp_path)
    features = network(images())
    assert network.is_dual_encoder and torch.allclose(features, scorer.embed_images(images()), atol=1e-6)
    assert torch.allclose(features.norm(dim=-1), torch.ones(3))


def test_a_model_of_texts_is_refused_by_name(tmp_path):
    BertModel(BertConfig(**SIZES, intermediate_size=24, vocab_size=48)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="must be a vision model or a dual encoder, got a BertModel, which takes"):
        VisionFeatures.from_pretrained(tmp_path)
