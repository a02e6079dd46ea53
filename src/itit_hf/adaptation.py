# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Trained weights for pictures of another size, or for another text encoder, so that training need not start anew."""

import torch
from torch import nn

from .configuration_itit import text_fields
from .layers_itit import ITITImageDecoder
from .modeling_itit import ITITModel, ITITPreTrainedModel


@torch.no_grad()
def resize_image_grid(model: ITITPreTrainedModel, num_image_tokens: int) -> ITITPreTrainedModel:
    """The same network for pictures of another number of tokens; only its image positions change.

    The grid grows or shrinks at its borders while a token stays as large: with `initializer="xavier"` the sines and
    cosines that positions started from are continued, so that neighbours still differ by the same rotation, and what
    was learned on top of them is stretched over the new grid (bicubic). With `"normal"` all of it is stretched, as is
    usual for a ViT (https://huggingface.co/papers/2010.11929, section 3.2).

    Args:
        model ([`ITITPreTrainedModel`]): Any of the four classes. It is left as it is.
        num_image_tokens (`int`): Tokens of the new pictures, a square.

    Returns:
        The model's class, with its weights and with `num_image_tokens` in its configuration. It needs training: no
        picture of this size has been seen.

    Raises:
        StrictDataclassError: If the number is no square.
    """
    resized = _rebuilt(model, {"num_image_tokens": num_image_tokens})
    for old, new in zip(model.modules(), resized.modules(), strict=True):
        if isinstance(old, (ITITModel, ITITImageDecoder)):
            learned, start = _image_positions(old).weight, torch.zeros_like(_image_positions(new).weight)
            if model.config.initializer == "xavier":
                learned = learned - model.initial_positions(old).to(learned)
                start = resized.initial_positions(new).to(learned)
            _image_positions(new).weight.copy_(start + _stretched(learned, num_image_tokens))
    return resized


@torch.no_grad()
def replace_text_encoder(
    model: ITITPreTrainedModel, tokenizer, new_tokenizer, new_text_encoder: nn.Module, generator=None
) -> ITITPreTrainedModel:
    """The same network for another text encoder and its tokenizer.

    Pieces that both tokenizers have keep their embedding, and with it what the text decoder says of them; others start
    at the mean of the kept ones. The projection of text features is drawn anew, as those of two encoders have nothing
    in common.

    Args:
        model ([`ITITPreTrainedModel`]): Any of the four classes. It is left as it is.
        tokenizer (`PreTrainedTokenizerBase`): The one that it was trained with.
        new_tokenizer (`PreTrainedTokenizerBase`): The one that it is to speak.
        new_text_encoder (`torch.nn.Module`): The encoder that reads the new tokens, such as a `T5EncoderModel`.
        generator (`torch.Generator`, *optional*): Draws the projection.

    Returns:
        The model's class, with its weights otherwise. It needs training: until then no text says anything to it.

    Raises:
        ValueError: If the tokenizers have no piece in common.
    """
    replaced = _rebuilt(model, text_fields(new_tokenizer, new_text_encoder.config))
    encoder = next(module for module in replaced.modules() if isinstance(module, ITITModel))
    _draw(encoder.project_text, replaced.config, generator)
    ids = new_tokenizer("", return_tensors="pt").input_ids.to(new_text_encoder.device)
    encoder.null_text_embeds.copy_(new_text_encoder(input_ids=ids).last_hidden_state[:, -1:])
    old_ids, new_ids = _shared_ids(tokenizer, new_tokenizer, model.config, replaced.config)
    for name, weight in replaced.named_parameters():
        if name.endswith("text_decoder.embed_tokens.weight"):
            kept = model.get_parameter(name)[old_ids]
            weight.copy_(kept.mean(dim=0).expand_as(weight))
            weight[new_ids] = kept
    return replaced


def _rebuilt(model: ITITPreTrainedModel, changes: dict) -> ITITPreTrainedModel:
    """New weights for a changed configuration, with each tensor that has kept its shape."""
    config = type(model.config)(**model.config.to_dict() | changes)
    config._attn_implementation = model.config._attn_implementation
    new = type(model)(config).to(device=model.device, dtype=model.dtype).train(model.training)
    state = new.state_dict()
    new.load_state_dict(
        {
            name: weight if weight.shape == state[name].shape else state[name]
            for name, weight in model.state_dict().items()
        }
    )
    return new


def _image_positions(module: ITITModel | ITITImageDecoder) -> nn.Embedding:
    return module.embed_image_positions if isinstance(module, ITITModel) else module.embed_positions


def _stretched(table: torch.Tensor, num_positions: int) -> torch.Tensor:
    """A table of a square grid, stretched over another: shape `(num_positions, width)`."""
    side, new_side = round(len(table) ** 0.5), round(num_positions**0.5)
    grid = table.float().view(1, side, side, -1).movedim(-1, 1)  # (1, C, side, side)
    grid = nn.functional.interpolate(grid, size=(new_side, new_side), mode="bicubic")  # (1, C, new_side, new_side)
    return grid.flatten(2)[0].T.to(table)  # (num_positions, C)


def _draw(linear: nn.Linear, config, generator) -> None:
    """As the model's own initialisation, but from a generator."""
    if config.initializer == "xavier":
        nn.init.xavier_uniform_(linear.weight, generator=generator)
    else:
        nn.init.normal_(linear.weight, std=config.initializer_range, generator=generator)
    nn.init.zeros_(linear.bias)


def _shared_ids(tokenizer, new_tokenizer, config, new_config) -> tuple[list[int], list[int]]:
    """Ids of what both vocabularies have: the same pieces, the start of a caption and the placeholder of an image."""
    old, new = tokenizer.get_vocab(), new_tokenizer.get_vocab()
    shared = sorted(set(old) & set(new))
    if not shared:
        raise ValueError("`new_tokenizer` must have a piece in common with `tokenizer`, got none")
    spare = [(config.bos_token_id, new_config.bos_token_id), (config.image_token_id, new_config.image_token_id)]
    pairs = [(old[piece], new[piece]) for piece in shared] + spare
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]
