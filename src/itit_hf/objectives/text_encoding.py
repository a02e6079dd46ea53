# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The frozen text encoder reads a text that was predicted, so that gradient reaches the prediction."""

from inspect import signature

import torch

from ..models.types_itit import TextCondition


def encode_predicted(
    text_encoder: torch.nn.Module, text: dict[str, torch.Tensor], predicted_embeds: torch.Tensor
) -> TextCondition:
    r"""$\tilde T$ of equation (4): a synthetic text with its words replaced by predicted ones.

    Where padding, begin and end stand is what the synthetic text says of it.

    Args:
        text_encoder (`torch.nn.Module`): Frozen, of transformers: T5, BERT, CLIP's text tower and their like.
        text (`dict`): `input_ids` and `attention_mask` of shape `(batch_size, text_length)`: T'.
        predicted_embeds (`torch.FloatTensor` of shape `(batch_size, num_predicted, embedding_size)`): Rows of the
            encoder's embedding for the last words of each text; what stands before them, [BOS], is read as it is.

    Returns:
        [`~models.types_itit.TextCondition`]: Of `text_length` features.
    """
    input_ids = text["input_ids"]
    attention_mask = text["attention_mask"]
    table = text_encoder.get_input_embeddings()
    embeds = predicted_embeds
    num_given = input_ids.size(1) - predicted_embeds.size(1)
    if num_given:
        embeds = torch.cat([table(input_ids[:, :num_given]), predicted_embeds], dim=1)  # (B, L, E)
    if "inputs_embeds" in signature(text_encoder.forward).parameters:
        output = text_encoder(inputs_embeds=embeds, attention_mask=attention_mask)
        return TextCondition(output.last_hidden_state, attention_mask)
    # CLIP's tower has no such argument: its embedding is made to answer with these rows.
    handle = table.register_forward_hook(lambda module, inputs, output: embeds)
    try:
        output = text_encoder(input_ids=input_ids, attention_mask=attention_mask)
    finally:
        handle.remove()
    return TextCondition(output.last_hidden_state, attention_mask)
