# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""MAGE (https://arxiv.org/abs/2211.09117) in its own layout and by its own names, as small as wanted, and its training
on image tokens: what utils/convert_mage.py is tested and measured with."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm
from transformers import get_cosine_schedule_with_warmup

from itit_hf.masking import MaskRatio, draw_mask
from itit_hf.models.layers_itit import sine_cosine_positions
from itit_hf.models.types_itit import ImageMask
from itit_hf.rng import keyed_generators
from itit_hf.training.optimization import CombinedOptimizer, Muon

NUM_CLASSES = 1000  # rows of the word embedding between the codes and the mask; one of them is read
CLASS_TOKEN = 76
MASK_RATIO = MaskRatio(0.55, 0.25, 0.5, 1.0)  # of MAGE's training


@dataclass(frozen=True)
class MageSize:
    """Sizes of a network.

    Args:
        codes (`int`): Of the image tokenizer.
        side (`int`): Image tokens in a row and in a column.
        width (`int`), depth (`int`), heads (`int`): Of the encoder.
        decoder_width (`int`), decoder_depth (`int`), decoder_heads (`int`): Of the decoder.
        mlp_ratio (`int`): Width of the MLPs over that of their blocks.
        dropout (`float`): On embeddings and residual branches.
    """

    codes: int
    side: int
    width: int
    depth: int
    heads: int
    decoder_width: int
    decoder_depth: int
    decoder_heads: int
    mlp_ratio: int = 4
    dropout: float = 0.0


class Attention(nn.Module):
    """Self-attention with queries, keys and values in one matrix."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch_size, length, width = x.shape
        q, k, v = self.qkv(x).view(batch_size, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5).softmax(dim=-1)  # (B, H, L, L)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch_size, length, width))


class Block(nn.Module):
    """One layer, norms first."""

    def __init__(self, width: int, heads: int, mlp_ratio: int, dropout: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, 1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, 1e-6)
        self.mlp = nn.Module()
        self.mlp.fc1 = nn.Linear(width, mlp_ratio * width)
        self.mlp.fc2 = nn.Linear(mlp_ratio * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.dropout(self.attn(self.norm1(x)))
        return x + self.dropout(self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x)))))


class Mage(nn.Module):
    """The class token in front of the image tokens, an encoder of those that are not dropped, and a decoder of all,
    which finds what the encoder has of the class token at every masked place."""

    def __init__(self, size: MageSize):
        super().__init__()
        self.size = size
        places = size.side**2 + 1
        self.token_emb = nn.Module()
        self.token_emb.word_embeddings = nn.Embedding(size.codes + NUM_CLASSES + 1, size.width)
        self.token_emb.position_embeddings = nn.Embedding(places, size.width)
        self.token_emb.LayerNorm = nn.LayerNorm(size.width, eps=1e-6)
        self.token_emb.register_buffer("position_ids", torch.arange(places)[None])
        self.dropout = nn.Dropout(size.dropout)
        encoder = size.width, size.heads, size.mlp_ratio, size.dropout
        self.blocks = nn.ModuleList(Block(*encoder) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width, eps=1e-6)
        self.decoder_embed = nn.Linear(size.width, size.decoder_width)
        self.decoder_pos_embed_learned = nn.Parameter(torch.zeros(1, places, size.decoder_width))
        decoder = size.decoder_width, size.decoder_heads, size.mlp_ratio, size.dropout
        self.decoder_blocks = nn.ModuleList(Block(*decoder) for _ in range(size.decoder_depth))
        self.decoder_norm = nn.LayerNorm(size.decoder_width, eps=1e-6)
        self.mlm_layer = nn.Module()
        self.mlm_layer.fc = nn.Linear(size.decoder_width, size.width)
        self.mlm_layer.ln = nn.LayerNorm(size.width)
        self.mlm_layer.bias = nn.Parameter(torch.zeros(1, 1, size.codes + NUM_CLASSES + 1))
        # What MAGE has from MAE and never reads.
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size.width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, size.decoder_width))
        self.pos_embed = nn.Parameter(torch.zeros(1, places, size.width))
        self.decoder_pos_embed = nn.Parameter(torch.zeros(1, places, size.decoder_width))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, size.width, 16, 16)
        self.decoder_pred = nn.Linear(size.decoder_width, 48)

    def forward(self, ids: torch.Tensor, masked: torch.Tensor, dropped: torch.Tensor) -> torch.Tensor:
        """Logits of every image token.

        Args:
            ids (`torch.LongTensor` of shape `(batch_size, side**2)`): Image tokens.
            masked (`torch.BoolTensor` of the same shape): Which of them are masked.
            dropped (`torch.BoolTensor` of the same shape): Which the encoder is not given, as many in each row.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, side**2, codes)`.
        """
        codes = self.size.codes
        ids = F.pad(ids.masked_fill(masked, codes + NUM_CLASSES), (1, 0), value=codes + CLASS_TOKEN)
        masked = F.pad(masked, (1, 0), value=False)
        dropped = F.pad(dropped, (1, 0), value=False)
        x = self.token_emb.word_embeddings(ids) + self.token_emb.position_embeddings.weight  # (B, 1 + K, W)
        x = self.dropout(self.token_emb.LayerNorm(x))[~dropped].view(len(ids), -1, self.size.width)
        for block in self.blocks:
            x = block(x)
        x = self.decoder_embed(self.norm(x))
        filled = x[:, :1].repeat(1, ids.size(1), 1)  # (B, 1 + K, D)
        whole = filled.clone()
        whole[~dropped] = x.flatten(0, 1)
        x = torch.where(masked[..., None], filled, whole) + self.decoder_pos_embed_learned
        for block in self.decoder_blocks:
            x = block(x)
        x = self.mlm_layer.ln(F.gelu(self.mlm_layer.fc(self.decoder_norm(x))))
        logits = x @ self.token_emb.word_embeddings.weight.T + self.mlm_layer.bias
        return logits[:, 1:, :codes]


def dropped_by(mask: ImageMask) -> torch.Tensor:
    """What the encoder is not given.

    Args:
        mask ([`~models.types_itit.ImageMask`]): What is masked, and what the encoder is given.

    Returns:
        `torch.BoolTensor` of shape `(batch_size, num_image_tokens)`.
    """
    positions = mask.encoder_positions
    is_given = mask.encoder_attention_mask
    if positions is None:
        return torch.zeros_like(mask.bool_masked_pos)
    is_given = torch.ones_like(positions, dtype=torch.bool) if is_given is None else is_given
    return torch.ones(mask.bool_masked_pos.shape).scatter(1, positions, (~is_given).float()).bool()


@torch.no_grad()
def initialize(mage: Mage):
    """Xavier's matrices, embeddings of 0.02, and sines and cosines for the positions of the image, each as large as
    what it is added to: without these a small network learns slowly (docs/experiments/training.md)."""
    for module in mage.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
    grid = (mage.size.side, mage.size.side)
    mage.token_emb.position_embeddings.weight[1:] = 0.02 * 2**0.5 * sine_cosine_positions(grid, mage.size.width)
    mage.decoder_pos_embed_learned[0, 1:] = sine_cosine_positions(grid, mage.size.decoder_width)


def create_optimizer(mage: Mage, learning_rate: float, muon_learning_rate: float, weight_decay: float):
    """Muon for the matrices of the blocks, AdamW for all other parameters, as in the recipes of the tiny preset."""
    named = list(mage.named_parameters())
    matrices = [p for name, p in named if "blocks." in name and p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in named if id(p) not in chosen]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    muon = Muon(matrices, lr=muon_learning_rate, weight_decay=weight_decay)
    return CombinedOptimizer([muon, torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))])


def train_small_mage(
    image_token_ids: torch.Tensor, size: MageSize, num_steps: int, seed: int, batch_size: int = 16
) -> tuple[Mage, list[float]]:
    """Train a network on image tokens alone: masked ones are to be told from the others.

    Rates, decay and clipping are those of examples/recipes/emoji_scenes_few_pairs.yaml; the warm-up is a fifth.

    Args:
        image_token_ids (`torch.LongTensor` of shape `(num_images, side**2)`): Of the images.
        size ([`MageSize`]): Of the network.
        num_steps (`int`): Updates.
        seed (`int`): Draws weights, dropout, order of the images, and masks.
        batch_size (`int`, *optional*, defaults to 16): Images an update.

    Returns:
        `(mage, losses)`: the network in evaluation mode, and the loss of each update, in nats a masked token.
    """
    torch.manual_seed(seed)
    mage = Mage(size).train()
    initialize(mage)
    optimizer = create_optimizer(mage, learning_rate=3e-3, muon_learning_rate=1e-2, weight_decay=0.03)
    schedule = get_cosine_schedule_with_warmup(optimizer, num_steps // 5, num_steps)
    losses: list[float] = []
    for step in tqdm(range(num_steps), desc="MAGE"):
        chosen = torch.randint(len(image_token_ids), (batch_size,))
        ids = image_token_ids[chosen]
        generators = keyed_generators(seed, "small_mage", range(step * batch_size, (step + 1) * batch_size))
        mask = draw_mask(size.side**2, MASK_RATIO, "half", generators)
        masked = mask.bool_masked_pos
        logits = mage(ids, masked, dropped_by(mask))
        loss = F.cross_entropy(logits[masked], ids[masked])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(mage.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return mage.eval(), losses
