# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What the models of ITIT return."""

from dataclasses import dataclass

import torch
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import ModelOutput


@dataclass
class ITITModelOutput(ModelOutput):
    """Output of [`ITITModel`].

    Args:
        last_hidden_state (`torch.FloatTensor` of shape `(batch_size, num_encoded + text_length, hidden_size)`):
            Image features of the positions that the encoder was given, then text features.
        attention_mask (`torch.BoolTensor` of shape `(batch_size, num_encoded + text_length)`, *optional*):
            `False` at padding; `None` when there is none.
        hidden_states (`tuple(torch.FloatTensor)`, *optional*): Output of each block, on `output_hidden_states=True`.
        attentions (`tuple(torch.FloatTensor)`, *optional*): Attention weights, on `output_attentions=True`.
    """

    last_hidden_state: torch.FloatTensor | None = None
    attention_mask: torch.BoolTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


@dataclass
class ITITImageGenerationOutput(ModelOutput):
    """Output of [`ITITForImageGeneration`].

    Args:
        loss (`torch.FloatTensor` of shape `()`, *optional*):
            Equation (2) when `labels` are given: a mean over all labels that are not ignored.
        image_logits (`torch.FloatTensor` of shape `(batch_size, num_positions, codebook_size)`):
            Logits at `logit_positions`, or at all image positions.
        hidden_states (`tuple(torch.FloatTensor)`, *optional*): On `output_hidden_states=True`, what goes into the
            image decoder and the output of each of its blocks, `(batch_size, num_image_tokens + text_length, width)`.
        attentions (`tuple(torch.FloatTensor)`, *optional*): On `output_attentions=True`, the weights of its blocks,
            `(batch_size, num_heads, num_image_tokens + text_length, num_image_tokens + text_length)`.
    """

    loss: torch.FloatTensor | None = None
    image_logits: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


@dataclass
class ITITForPreTrainingOutput(CausalLMOutputWithPast):
    """Output of [`ITITForPreTraining`]: a caption model's, and the image logits beside it.

    Args:
        loss (`torch.FloatTensor` of shape `()`, *optional*):
            Equation (1) when `labels` are given: a mean over all labels that are not ignored.
        logits (`torch.FloatTensor` of shape `(batch_size, text_length, vocab_size)`, *optional*):
            Text logits, when `input_ids` are given; spare rows of the vocabulary are at the lowest number.
        image_logits (`torch.FloatTensor` of shape `(batch_size, num_positions, codebook_size)`, *optional*):
            Image logits, when `logit_positions` are given.
        predicted_embeds (`torch.FloatTensor` of shape `(batch_size, text_length, embedding_size)`, *optional*):
            In place of the text logits, when a `text_embedding_table` is given: the most likely words in it.
        predicted_ids (`torch.LongTensor` of shape `(batch_size, text_length)`, *optional*): These words.
        image_hidden_states (`tuple(torch.FloatTensor)`, *optional*): On `output_image_hidden_states=True`, the output
            of each block of the image decoder, `(batch_size, num_image_tokens + text_length, width)`.
        image_attentions (`tuple(torch.FloatTensor)`, *optional*): On `output_image_attentions=True`, its weights.
    """

    image_logits: torch.FloatTensor | None = None
    predicted_embeds: torch.FloatTensor | None = None
    predicted_ids: torch.LongTensor | None = None
    image_hidden_states: tuple[torch.FloatTensor, ...] | None = None
    image_attentions: tuple[torch.FloatTensor, ...] | None = None

    @property
    def text_logits(self) -> torch.FloatTensor | None:
        """`logits` by the project's name, of shape `(batch_size, text_length, vocab_size)`."""
        return self.logits
