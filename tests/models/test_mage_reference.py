# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Our masking rule and image decoder against MAGE (Li et al. 2023, https://huggingface.co/papers/2211.09117), weight
for weight on small random networks.

The reference is written here, a sample at a time and with torch's own Transformer blocks: MAE's encoder sees what is
not dropped, beside the condition, and its decoder sees a mask embedding wherever a token is masked. MAGE's condition
is a class token, ITIT's the text features. `tests/pretraining/test_convert_mage.py` compares with MAGE's own weights,
whose decoder has the class token at masked places (`image_decoder_fill="text"`).
"""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from itit_hf.masking import drop_masked, random_mask
from itit_hf.models.modeling_itit import ITITForImageGeneration
from itit_hf.models.types_itit import TextCondition

from ..testing_utils import tiny_config

NUM_TOKENS, NUM_CODES, LENGTHS = 16, 23, (3, 5)


# Masking


def mage_masks(noise: torch.Tensor, mask_ratio: float) -> tuple[torch.Tensor, torch.Tensor]:
    """MAGE's: the tokens of the lowest noise are masked, and of these the half of all tokens with the very lowest is
    dropped from the encoder."""
    order = noise.sort(dim=1).values
    num_dropped, num_masked = NUM_TOKENS // 2, math.ceil(NUM_TOKENS * mask_ratio)
    return noise <= order[:, num_masked - 1 : num_masked], noise <= order[:, num_dropped - 1 : num_dropped]


@pytest.mark.parametrize("ratio", [0.5, 0.55, 0.75, 1.0])
def test_masked_and_dropped_tokens_are_those_of_mage_for_the_same_noise(ratio):
    noise = torch.rand(6, NUM_TOKENS, generator=torch.Generator().manual_seed(1))
    masked, dropped = mage_masks(noise, ratio)
    same_noise = [torch.Generator().manual_seed(1) for _ in range(2)]
    bool_masked_pos = random_mask(torch.full((6,), ratio), NUM_TOKENS, same_noise[0])
    image_mask = drop_masked(bool_masked_pos, "half", same_noise[1])
    assert torch.equal(image_mask.bool_masked_pos, masked)
    given = torch.zeros_like(masked).scatter(1, image_mask.encoder_positions, True)
    assert torch.equal(~given, dropped)


# Encoder and image decoder


def block_of(layer, hidden_size: int, num_heads: int) -> nn.TransformerEncoderLayer:
    """torch's block with the weights of ours."""
    block = nn.TransformerEncoderLayer(
        hidden_size,
        num_heads,
        layer.fc1.out_features,
        dropout=0.0,
        activation=F.gelu,
        layer_norm_eps=layer.norm1.eps,
        batch_first=True,
        norm_first=True,
    )
    attention = layer.self_attn
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    weights = {
        "self_attn.in_proj_weight": torch.cat([projection.weight for projection in projections]),
        "self_attn.in_proj_bias": torch.cat([projection.bias for projection in projections]),
    }
    modules = {
        "self_attn.out_proj": attention.out_proj,
        "linear1": layer.fc1,
        "linear2": layer.fc2,
        "norm1": layer.norm1,
        "norm2": layer.norm2,
    }
    for name, module in modules.items():
        weights |= {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
    block.load_state_dict(weights)
    return block.eval()


class Mage(nn.Module):
    """Logits of one sample, with the weights of our model."""

    def __init__(self, model: ITITForImageGeneration):
        super().__init__()
        config, self.ours = model.config, model
        self.encoder = nn.ModuleList(
            block_of(layer, config.hidden_size, config.num_attention_heads) for layer in model.model.layers
        )
        self.decoder = nn.ModuleList(
            block_of(layer, config.decoder_hidden_size, config.image_decoder_heads)
            for layer in model.image_decoder.layers
        )

    def forward(self, ids, masked, dropped, text):
        """Ids (16,), what is masked and what dropped of them (16,), condition (L, E) -> logits (16, codes)."""
        model, decoder = self.ours.model, self.ours.image_decoder
        tokens = torch.where(masked, NUM_CODES, ids)  # the code behind the last one is [MASK]
        image = model.embed_image_tokens(tokens) + model.embed_image_positions.weight
        condition = model.project_text(text) + model.embed_text_positions.weight[: len(text)]
        x = model.norm_embeddings(torch.cat([image[~dropped], condition]))[None]
        for block in self.encoder:
            x = block(x)
        x = decoder.project_features(model.norm(x))[0]
        num_given = int((~dropped).sum())
        image = decoder.mask_embedding.repeat(NUM_TOKENS, 1)
        image[~dropped] = x[:num_given]
        image[masked] = decoder.mask_embedding
        x = torch.cat([image + decoder.embed_positions.weight, x[num_given:]])[None]
        for block in self.decoder:
            x = block(x)
        x = decoder.norm(x)[0, :NUM_TOKENS]
        x = decoder.head_norm(F.gelu(decoder.head_dense(x)))
        return x @ model.embed_image_tokens.weight[:NUM_CODES].T + decoder.head_bias


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = ITITForImageGeneration(tiny_config()).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("drop", ["none", "half", "all"])
@pytest.mark.parametrize("ratios", [(0.5, 0.9), (0.2, 0.6), (0.0, 1.0)])
def test_logits_equal_those_of_mage_whatever_is_masked_and_dropped(model, drop, ratios):
    ids = torch.randint(NUM_CODES, (2, NUM_TOKENS), generator=torch.Generator().manual_seed(2))
    text = torch.randn(2, max(LENGTHS), 10, generator=torch.Generator().manual_seed(3))
    is_text = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    masked = random_mask(torch.tensor(ratios), NUM_TOKENS, torch.Generator().manual_seed(4))
    image_mask = drop_masked(masked, drop, torch.Generator().manual_seed(5))
    got = model(ids, image_mask, TextCondition(text, is_text)).image_logits
    reference = Mage(model)
    for row, length in enumerate(LENGTHS):
        given = torch.ones(NUM_TOKENS, dtype=torch.bool)
        if image_mask.encoder_positions is not None:
            positions = image_mask.encoder_positions[row]
            if image_mask.encoder_attention_mask is not None:
                positions = positions[image_mask.encoder_attention_mask[row]]
            given = torch.zeros_like(given).scatter(0, positions, True)
        assert given[~masked[row]].all()  # nothing visible is ever dropped
        want = reference(ids[row], masked[row], ~given, text[row, :length])
        torch.testing.assert_close(got[row], want, atol=2e-5, rtol=1e-4)
