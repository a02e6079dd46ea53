# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Our text decoder against that of GIT, transformers' `GitForCausalLM`, weight for weight on small random networks.

What must agree, and is GIT's own code here: the sum of word and position embeddings and its norm, positions that start
at 0 behind the image, features of the image in front without positions of their own, who attends to whom, attention,
MLP, and the head tied to the embedding.

What differs by design, and how GIT is changed for the comparison:

- Our blocks are those of ViT, whose norms stand before attention and MLP, with one more behind the last block; GIT's
  are those of BERT, whose norms stand behind. `PreNormLayer` is GIT's block with its norms moved.
- GIT has a norm behind the projection of the image features. Here it is the identity.
- GIT's head has a bias. Here it is zero.
- The image is the features of ITIT's encoder. Here they take the place of GIT's CLIP.
"""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import GitConfig, GitForCausalLM
from transformers.models.git.modeling_git import GitLayer

from itit_hf.models.layers_itit import ITITTextDecoder

from ..testing_utils import tiny_config

NUM_FEATURES, WORDS = 3, 40
TEXTS = [[40, 3, 4, 5, 6], [40, 7, 8, 0, 0]]  # [BOS] and words; the second is padded at its end


class PreNormLayer(GitLayer):
    """GIT's block with its norms before attention and MLP."""

    def forward(self, hidden_states, attention_mask=None, past_key_values=None, **kwargs):
        attention = self.attention
        normed = attention.output.LayerNorm(hidden_states)
        attended, _ = attention.self(normed, attention_mask, past_key_values)
        hidden_states = hidden_states + attention.output.dense(attended)
        normed = self.output.LayerNorm(hidden_states)
        return hidden_states + self.output.dense(self.intermediate(normed))


class Features(nn.Module):
    """In the place of CLIP: features that are given."""

    features = torch.empty(0)

    def forward(self, pixel_values, **kwargs):
        return SimpleNamespace(last_hidden_state=self.features)


def copy_weights(ours: ITITTextDecoder, git: GitForCausalLM):
    """Ours into GIT's; each of ours has its place."""
    model = git.git
    pairs = [
        (ours.project_features, model.visual_projection.visual_projection[0]),
        (ours.embed_tokens, model.embeddings.word_embeddings),
        (ours.embed_positions, model.embeddings.position_embeddings),
        (ours.norm_embeddings, model.embeddings.LayerNorm),
        (ours.norm, git.output[0]),
    ]
    for layer, theirs in zip(ours.layers, model.encoder.layer, strict=True):
        pairs += [
            (layer.norm1, theirs.attention.output.LayerNorm),
            (layer.self_attn.q_proj, theirs.attention.self.query),
            (layer.self_attn.k_proj, theirs.attention.self.key),
            (layer.self_attn.v_proj, theirs.attention.self.value),
            (layer.self_attn.out_proj, theirs.attention.output.dense),
            (layer.norm2, theirs.output.LayerNorm),
            (layer.fc1, theirs.intermediate.dense),
            (layer.fc2, theirs.output.dense),
        ]
    for our_module, their_module in pairs:
        their_module.load_state_dict(our_module.state_dict())
    git.output[1].weight = model.embeddings.word_embeddings.weight
    nn.init.zeros_(git.output[1].bias)
    assert sum(p.numel() for module, _ in pairs for p in module.parameters()) == sum(
        p.numel() for p in ours.parameters()
    )


@pytest.fixture(scope="module", params=["eager", "sdpa"])
def decoders(request):
    """Ours and GIT's, with the same weights, and features of two images."""
    torch.manual_seed(0)
    config = tiny_config(attn_implementation=request.param, layer_norm_eps=1e-5)
    config._attn_implementation = request.param
    ours = ITITTextDecoder(config).eval()
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.3)
    vision = {"hidden_size": config.hidden_size, "num_hidden_layers": 1, "num_attention_heads": 2}
    git_config = GitConfig(
        vision_config=vision | {"intermediate_size": 8, "image_size": 16, "patch_size": 8},
        vocab_size=config.vocab_size,
        hidden_size=config.decoder_hidden_size,
        num_hidden_layers=config.text_decoder_num_hidden_layers,
        num_attention_heads=config.decoder_num_attention_heads,
        intermediate_size=config.decoder_intermediate_size,
        max_position_embeddings=config.max_text_length + 1,
        layer_norm_eps=config.layer_norm_eps,
        pad_token_id=None,
    )
    git = GitForCausalLM(git_config)
    git.git.encoder.layer = nn.ModuleList(
        PreNormLayer(git.config, index) for index in range(git_config.num_hidden_layers)
    )
    git.git.visual_projection.visual_projection[1] = nn.Identity()
    git.git.image_encoder = Features()
    git.output = nn.Sequential(nn.LayerNorm(config.decoder_hidden_size, eps=config.layer_norm_eps), git.output)
    copy_weights(ours, git)
    Features.features = torch.randn(2, NUM_FEATURES, config.hidden_size)
    return ours, git.eval()


def our_logits(ours, ids, mask):
    """Of each place, those of the image in front; `(2, 3 + length, words)`."""
    prefix = torch.full((2, NUM_FEATURES), ours.config.image_token_id)
    mask = torch.cat([torch.ones_like(prefix), mask], dim=1)
    states = ours(torch.cat([prefix, ids], dim=1), Features.features, mask)
    return ours.logits(states)[..., :WORDS]


def their_logits(git, ids, mask):
    output = git(input_ids=ids, attention_mask=mask, pixel_values=torch.zeros(2, 3, 16, 16), use_cache=False)
    return output.logits[..., :WORDS]


def test_logits_equal_those_of_git_at_each_place_of_image_and_text(decoders):
    ours, git = decoders
    ids = torch.tensor(TEXTS)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    got, want = our_logits(ours, ids, mask), their_logits(git, ids, mask)
    is_real = torch.cat([torch.ones(2, NUM_FEATURES), mask], dim=1).bool()
    assert want[is_real].std() > 0.1
    torch.testing.assert_close(got[is_real], want[is_real], atol=1e-5, rtol=1e-4)


def test_gradients_of_the_weights_equal_those_of_git(decoders):
    ours, git = decoders
    ids = torch.tensor(TEXTS[:1] * 2)
    mask = torch.ones_like(ids)
    for network in decoders:
        network.zero_grad()
    our_logits(ours, ids, mask).log_softmax(dim=-1)[..., 5].sum().backward()
    their_logits(git, ids, mask).log_softmax(dim=-1)[..., 5].sum().backward()
    layer, theirs = ours.layers[0], git.git.encoder.layer[0]
    pairs = {
        "embedding and head": (ours.embed_tokens, git.git.embeddings.word_embeddings),
        "projection": (ours.project_features, git.git.visual_projection.visual_projection[0]),
        "keys": (layer.self_attn.k_proj, theirs.attention.self.key),
        "mlp": (layer.fc1, theirs.intermediate.dense),
    }
    for name, (our_module, their_module) in pairs.items():
        got, want = our_module.weight.grad, their_module.weight.grad
        assert want.abs().max() > 1e-3, name
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")
