# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Tiny real models and small stubs that the tests share."""

import torch

from itit_hf.configuration_itit import ITITConfig


def tiny_config(**changes) -> ITITConfig:
    """A network of a few thousand parameters: 16 image tokens, 23 codes, 40 words."""
    values = {
        "codebook_size": 23,
        "num_image_tokens": 16,
        "vocab_size": 48,
        "num_text_tokens": 40,
        "max_text_length": 12,
        "text_hidden_size": 10,
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 32,
        "decoder_hidden_size": 16,
        "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 24,
        "image_decoder_num_hidden_layers": 2,
        "text_decoder_num_hidden_layers": 2,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.3,  # large enough for logits that differ
    }
    return ITITConfig(**(values | changes))


def generators(*seeds: int) -> list[torch.Generator]:
    """One generator per sample."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]
