# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The pieces of a pipeline as networks that take and give tensors alone, as an exported graph does.

Every loop stays outside: of the steps in which an image is generated, and of the words of a caption.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers.cache_utils import DynamicCache

from ..models.image_tokenization_itit import decode_image_token_ids, encode_latents
from ..models.modeling_outputs_itit import ITITModelOutput
from ..models.types_itit import ImageMask, TextCondition

BATCH = "batch"


@dataclass(frozen=True)
class Graph:
    """A network, and what a graph of it is called and takes; shapes are those of its `forward`.

    Args:
        name (`str`): Of its file.
        network (`nn.Module`): Takes the inputs in their order; gives a tensor, or a tuple of them.
        inputs (`dict[str, torch.Tensor]`): Examples by name, of shape `(2, ...)` each, but for keys and values,
            whose batch comes second.
        outputs (`tuple[str, ...]`): Names.
        dynamic (`dict[str, dict[int, str]]`): Name of each dimension of an input that is open.
    """

    name: str
    network: nn.Module
    inputs: dict[str, torch.Tensor]
    outputs: tuple[str, ...]
    dynamic: dict[str, dict[int, str]]


class TextEncoderGraph(nn.Module):
    """A frozen text encoder: ids and mask of shape `(batch_size, text_length)` -> features
    `(batch_size, text_length, text_hidden_size)`."""

    def __init__(self, text_encoder: nn.Module):
        super().__init__()
        self.text_encoder = text_encoder

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """See the class; shapes `(batch_size, text_length)`."""
        return self.text_encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # (B, L, E)


class EncoderGraph(nn.Module):
    """The joint encoder, of an image that is given as ids, with `mask_token_id` where it is masked."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.mask_token_id = model.config.mask_token_id

    def forward(
        self,
        image_token_ids: torch.Tensor,
        text_embeds: torch.Tensor,
        text_mask: torch.Tensor,
        encoder_positions: torch.Tensor,
        encoder_mask: torch.Tensor,
    ) -> torch.Tensor:
        """Ids of shape `(batch_size, num_image_tokens)`, text of shape `(batch_size, text_length, text_hidden_size)`
        with its mask, positions `(batch_size, num_encoded)` with theirs -> features
        `(batch_size, num_encoded + text_length, hidden_size)`."""
        image_mask = ImageMask(image_token_ids == self.mask_token_id, encoder_positions, encoder_mask)
        text = TextCondition(text_embeds, text_mask)
        return self.model.model(image_token_ids, image_mask, text).last_hidden_state  # (B, N + L, H)


class ImageDecoderGraph(nn.Module):
    """The image decoder, behind [`EncoderGraph`]."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.mask_token_id = model.config.mask_token_id

    def forward(
        self,
        features: torch.Tensor,
        image_token_ids: torch.Tensor,
        text_mask: torch.Tensor,
        encoder_positions: torch.Tensor,
        encoder_mask: torch.Tensor,
        logit_positions: torch.Tensor,
    ) -> torch.Tensor:
        """Features of shape `(batch_size, num_encoded + text_length, hidden_size)`, and what they were made of ->
        logits `(batch_size, num_positions, codebook_size)`."""
        image_mask = ImageMask(image_token_ids == self.mask_token_id, encoder_positions, encoder_mask)
        encoded = ITITModelOutput(features, attention_mask=torch.cat([encoder_mask, text_mask], dim=1))
        return self.model.decode_image(encoded, image_mask, logit_positions, every_row=False)  # (B, M, V)


class LatentEncoderGraph(nn.Module):
    """The joint encoder, of an image that is to be captioned by its latents, with the empty text."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, image_latents: torch.Tensor) -> torch.Tensor:
        """Latents of shape `(batch_size, num_image_tokens, image_latent_size)` -> features
        `(batch_size, num_prefix_tokens, hidden_size)`."""
        return self.model.encode(None, image_latents).last_hidden_state


class CaptionPrefillGraph(nn.Module):
    """The text decoder reads an image and [BOS]."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Features of shape `(batch_size, num_prefix_tokens, hidden_size)` -> logits of the first word,
        `(batch_size, vocab_size)`, and keys and values `(num_layers, batch_size, num_heads, length, head_dim)`."""
        config = self.model.config
        prefix = torch.full(features.shape[:2], config.image_token_id, device=features.device)  # (B, P)
        start = torch.full((features.size(0), 1), config.bos_token_id, device=features.device)
        output = self.model(
            input_ids=torch.cat([prefix, start], dim=1),
            encoder_hidden_states=features,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, 0], *_stacked(output.past_key_values)


class CaptionStepGraph(nn.Module):
    """The text decoder reads one more word of each caption."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Words of shape `(batch_size, 1)`, keys and values of shape
        `(num_layers, batch_size, num_heads, length, head_dim)` -> logits `(batch_size, vocab_size)`, and the keys and
        values, one place longer."""
        cache = DynamicCache(config=self.model.config)
        for index in range(keys.size(0)):
            cache.update(keys[index], values[index], index)
        output = self.model(input_ids=input_ids, past_key_values=cache, use_cache=True)
        return output.logits[:, 0], *_stacked(output.past_key_values)


class ImageTokenizerEncoderGraph(nn.Module):
    """The image tokenizer's encoder: pixels -> ids of the nearest codes, and latents."""

    def __init__(self, image_tokenizer: nn.Module):
        super().__init__()
        self.image_tokenizer = image_tokenizer

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels of shape `(batch_size, 3, height, width)` -> ids `(batch_size, num_image_tokens)` and latents
        `(batch_size, num_image_tokens, vq_embed_dim)`."""
        latents = encode_latents(self.image_tokenizer, pixel_values)  # (B, K, C)
        codebook = self.image_tokenizer.quantize.embedding.weight.float()  # (V, C)
        # Nearest by the square of the distance, less what is the same for all codes; `cdist` asks how many rows there
        # are, and would hold the graph to the answer.
        distances = codebook.square().sum(dim=1) - 2 * latents @ codebook.T  # (B, K, V)
        return distances.argmin(dim=-1), latents


class ImageTokenizerDecoderGraph(nn.Module):
    """The image tokenizer's decoder: ids -> pixels, of images of a number of rows and columns of tokens."""

    def __init__(self, image_tokenizer: nn.Module, image_grid: Sequence[int]):
        super().__init__()
        self.image_tokenizer = image_tokenizer
        self.image_grid = tuple(image_grid)

    def forward(self, image_token_ids: torch.Tensor) -> torch.Tensor:
        """Ids of shape `(batch_size, num_image_tokens)` -> pixels in [-1, 1], `(batch_size, 3, height, width)`."""
        return decode_image_token_ids(self.image_tokenizer, image_token_ids, self.image_grid)


def _stacked(cache) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of all blocks, each `(num_layers, batch_size, num_heads, length, head_dim)`."""
    return torch.stack([layer.keys for layer in cache.layers]), torch.stack([layer.values for layer in cache.layers])


def pipeline_graphs(pipe) -> list[Graph]:
    """The graphs that a pipeline is made of.

    Args:
        pipe ([`ITITPipeline`]): With all its components, on the CPU.

    Returns:
        `list[Graph]`.
    """
    graphs = image_graphs(pipe.model) + _caption_graphs(pipe.model) + _image_tokenizer_graphs(pipe)
    text = {"input_ids": torch.ones(2, 5, dtype=torch.long), "attention_mask": torch.ones(2, 5, dtype=torch.long)}
    text_dims = {name: {0: BATCH, 1: "text_length"} for name in text}
    return [Graph("text_encoder", TextEncoderGraph(pipe.text_encoder), text, ("text_embeds",), text_dims), *graphs]


def image_graphs(model) -> list[Graph]:
    """What an image is generated with: encoder and image decoder.

    Args:
        model ([`ITITForPreTraining`]): In float32, on the CPU.

    Returns:
        `list[Graph]`: The examples have an odd number of everything, which stays open.
    """
    config = model.config
    num_tokens = config.num_image_tokens
    num_encoded = num_tokens - num_tokens // 2 - 1
    ids = torch.arange(num_tokens).expand(2, -1) % config.codebook_size
    masked = torch.arange(num_tokens) >= num_encoded
    inputs = {
        "image_token_ids": ids.masked_fill(masked, config.mask_token_id),
        "text_embeds": torch.randn(2, 5, config.text_hidden_size),
        "text_mask": torch.ones(2, 5, dtype=torch.bool),
        "encoder_positions": torch.arange(num_encoded).repeat(2, 1),
        "encoder_mask": torch.ones(2, num_encoded, dtype=torch.bool),
    }
    dims = {
        "image_token_ids": {0: BATCH},
        "text_embeds": {0: BATCH, 1: "text_length"},
        "text_mask": {0: BATCH, 1: "text_length"},
        "encoder_positions": {0: BATCH, 1: "num_encoded"},
        "encoder_mask": {0: BATCH, 1: "num_encoded"},
    }
    encoder = Graph("encoder", EncoderGraph(model), inputs, ("features",), dims)
    decoded = {
        "features": torch.randn(2, num_encoded + 5, config.hidden_size),
        **{name: value for name, value in inputs.items() if name != "text_embeds"},
        "logit_positions": torch.arange(num_encoded, num_tokens).repeat(2, 1),
    }
    dims = {
        **{name: value for name, value in dims.items() if name != "text_embeds"},
        "features": {0: BATCH, 1: "num_features"},
        "logit_positions": {0: BATCH, 1: "num_positions"},
    }
    return [encoder, Graph("image_decoder", ImageDecoderGraph(model), decoded, ("logits",), dims)]


def _caption_graphs(model) -> list[Graph]:
    """What an image is captioned with."""
    config = model.config
    features = torch.randn(2, config.num_prefix_tokens, config.hidden_size)
    prefill = CaptionPrefillGraph(model)
    with torch.no_grad():
        _, keys, values = prefill(features)
    inputs = {"input_ids": torch.ones(2, 1, dtype=torch.long), "keys": keys, "values": values}
    past = {1: BATCH, 3: "num_past"}
    dims = {"input_ids": {0: BATCH}, "keys": past, "values": past}
    graphs = [
        Graph(
            "caption_prefill", prefill, {"features": features}, ("logits", "keys", "values"), {"features": {0: BATCH}}
        ),
        Graph("caption_step", CaptionStepGraph(model), inputs, ("logits", "next_keys", "next_values"), dims),
    ]
    if config.image_features == "latents":
        latents = {"image_latents": torch.randn(2, config.num_image_tokens, config.image_latent_size)}
        graph = LatentEncoderGraph(model)
        graphs.append(Graph("latent_encoder", graph, latents, ("features",), {"image_latents": {0: BATCH}}))
    return graphs


def _image_tokenizer_graphs(pipe) -> list[Graph]:
    """Pixels -> ids and back."""
    size = pipe.image_processor.crop_size
    pixels = {"pixel_values": torch.rand(2, 3, size["height"], size["width"]) * 2 - 1}
    ids = {"image_token_ids": torch.zeros(2, pipe.model.config.num_image_tokens, dtype=torch.long)}
    encoder = ImageTokenizerEncoderGraph(pipe.image_tokenizer)
    decoder = ImageTokenizerDecoderGraph(pipe.image_tokenizer, pipe.model.config.image_grid)
    outputs = ("image_token_ids", "image_latents")
    return [
        Graph("image_tokenizer_encoder", encoder, pixels, outputs, {"pixel_values": {0: BATCH}}),
        Graph("image_tokenizer_decoder", decoder, ids, ("pixel_values",), {"image_token_ids": {0: BATCH}}),
    ]
