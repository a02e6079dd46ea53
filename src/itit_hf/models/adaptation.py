# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Trained weights for images of another size, for another text encoder, or with the blocks of a language model, so
that training need not start anew."""

from collections.abc import Sequence

import torch
from torch import nn
from transformers import GPT2LMHeadModel

from .configuration_itit import text_fields
from .layers_itit import ITITImageDecoder
from .modeling_itit import ITITForCaptioning, ITITModel, ITITPreTrainedModel


@torch.no_grad()
def resize_image_grid(model: ITITPreTrainedModel, image_grid: Sequence[int]) -> ITITPreTrainedModel:
    """The same network for images of another number of tokens or another shape; only its image positions change.

    The grid grows or shrinks at its borders while a token stays as large: with `initializer="xavier"` the sines and
    cosines that positions started from are continued, so that neighbours still differ by the same rotation, and what
    was learned on top of them is stretched over the new grid (bicubic). With `"normal"` all of it is stretched, as is
    usual for a ViT (https://huggingface.co/papers/2010.11929, section 3.2).

    Args:
        model ([`ITITPreTrainedModel`]): Any of the four classes. It is left as it is.
        image_grid (`Sequence[int]` of length 2): Rows and columns of tokens of the new images.

    Returns:
        The model's class, with its weights and with `image_grid` in its configuration. It needs training: no
        image of this size has been seen.

    Raises:
        StrictDataclassError: If it is not two numbers of at least 1.
    """
    resized = _rebuilt(model, {"image_grid": tuple(image_grid)})
    for old, new in zip(model.modules(), resized.modules(), strict=True):
        if isinstance(old, (ITITModel, ITITImageDecoder)):
            learned = _image_positions(old).weight
            start = torch.zeros_like(_image_positions(new).weight)
            if model.config.initializer == "xavier":
                learned = learned - model.initial_positions(old).to(learned)
                start = resized.initial_positions(new).to(learned)
            stretched = _stretched(learned, model.config.image_grid, resized.config.image_grid)
            _image_positions(new).weight.copy_(start + stretched)
    return resized


@torch.no_grad()
def replace_text_encoder(
    model: ITITPreTrainedModel, tokenizer, new_tokenizer, new_text_encoder: nn.Module, generator=None
) -> ITITPreTrainedModel:
    """The same network for another text encoder and its tokenizer.

    Pieces that both tokenizers have keep their embedding, and with it what the text decoder does with them; others
    start at their mean. The projection of text features is drawn anew, as those of two encoders have nothing in
    common.

    Args:
        model ([`ITITPreTrainedModel`]): Any of the four classes. It is left as it is.
        tokenizer (`PreTrainedTokenizerBase`): The one that it was trained with.
        new_tokenizer (`PreTrainedTokenizerBase`): The one that it is to speak.
        new_text_encoder (`torch.nn.Module`): The encoder that reads the new tokens, such as a `T5EncoderModel`.
        generator (`torch.Generator`, *optional*): Draws the projection.

    Returns:
        The model's class, with its weights otherwise. It needs training: until then it makes nothing of a text.

    Raises:
        ValueError: If the tokenizers have no piece in common.
    """
    replaced = _rebuilt(model, text_fields(new_tokenizer, new_text_encoder.config))
    encoder = next(module for module in replaced.modules() if isinstance(module, ITITModel))
    _draw(encoder.project_text, replaced.config, generator)
    ids = new_tokenizer("", return_tensors="pt").input_ids.to(new_text_encoder.device)
    encoder.null_text_embeds.copy_(new_text_encoder(input_ids=ids).last_hidden_state)
    old_ids, new_ids = _shared_ids(tokenizer, new_tokenizer, model.config, replaced.config)
    for name, weight in replaced.named_parameters():
        if name.endswith("text_decoder.embed_tokens.weight"):
            _carry_over(weight, new_ids, model.get_parameter(name)[old_ids])
    return replaced


@torch.no_grad()
def replace_text_decoder(
    model: ITITForCaptioning, tokenizer, language_model: GPT2LMHeadModel, language_tokenizer
) -> ITITForCaptioning:
    """The same network with a GPT-2, such as DistilGPT2, as its text decoder.

    Its blocks, its last norm and its positions are GPT-2's, and so are activation, epsilon, depth and heads; the image
    decoder keeps the number of heads that it has. Pieces that both vocabularies have bring their embedding, and with
    it what GPT-2 predicts; a text begins and ends with GPT-2's end of text; other pieces start at the mean of those.
    GPT-2 has no norm of its embeddings: ours is set to give numbers as large as its embeddings are.

    Args:
        model ([`ITITForCaptioning`]): Or [`ITITForPreTraining`]. It is left as it is.
        tokenizer (`PreTrainedTokenizerBase`): The model's.
        language_model (`GPT2LMHeadModel`): As wide as the decoders.
        language_tokenizer (`PreTrainedTokenizerBase`): GPT-2's.

    Returns:
        The model's class, with its weights otherwise. The image prefix is new to the blocks: it needs training.

    Raises:
        ValueError: If the model has no text decoder, the language model is not a GPT-2 of its widths, or the
            vocabularies have no piece in common.
    """
    if not isinstance(model, ITITForCaptioning):
        raise ValueError(f"`model` must have a text decoder, got {type(model).__name__}")
    changes = _fields_of_gpt2(model.config, language_model)
    replaced = _rebuilt(model, changes)
    decoder = replaced.text_decoder
    source = language_model.transformer
    for layer, block in zip(decoder.layers, source.h, strict=True):
        _copy_block(layer, block)
    decoder.norm.load_state_dict(source.ln_f.state_dict())
    decoder.embed_positions.weight.copy_(source.wpe.weight[: len(decoder.embed_positions.weight)])
    old_ids, new_ids = _shared_texts(language_tokenizer, tokenizer, replaced.config)
    words = source.wte.weight[old_ids].to(decoder.embed_tokens.weight)
    _carry_over(decoder.embed_tokens.weight, new_ids, words)
    positions = decoder.embed_positions.weight
    embedded = words + positions[torch.arange(len(words), device=positions.device) % len(positions)]
    nn.init.constant_(decoder.norm_embeddings.weight, float(embedded.std(dim=1).mean()))
    nn.init.zeros_(decoder.norm_embeddings.bias)
    return replaced


def _fields_of_gpt2(config, language_model) -> dict:
    """What a configuration takes over of a GPT-2's, which is refused if our blocks cannot be its."""
    if not isinstance(language_model, GPT2LMHeadModel):
        raise ValueError(f"`language_model` must be a GPT2LMHeadModel, got {type(language_model).__name__}")
    theirs = language_model.config
    mlp = 4 * theirs.n_embd if theirs.n_inner is None else theirs.n_inner
    shapes = [
        ("n_embd", theirs.n_embd, config.decoder_hidden_size),
        ("n_inner", mlp, config.decoder_intermediate_size),
        ("scale_attn_weights", theirs.scale_attn_weights, True),
        ("scale_attn_by_inverse_layer_idx", theirs.scale_attn_by_inverse_layer_idx, False),
        ("add_cross_attention", theirs.add_cross_attention, False),
        ("tie_word_embeddings", theirs.tie_word_embeddings, True),
    ]
    for name, got, want in shapes:
        if got != want:
            raise ValueError(f"`language_model` must have `{name}` {want}, as the text decoder, got {got}")
    if theirs.n_positions <= config.max_text_length:
        raise ValueError(
            f"`language_model` must have more than `max_text_length` {config.max_text_length} positions, "
            f"got {theirs.n_positions}"
        )
    return {
        "text_decoder_num_hidden_layers": theirs.n_layer,
        "text_decoder_hidden_act": theirs.activation_function,
        "text_decoder_layer_norm_eps": theirs.layer_norm_epsilon,
        "decoder_num_attention_heads": theirs.n_head,
        "image_decoder_num_attention_heads": config.image_decoder_heads,
    }


def _copy_block(layer, block):
    """A block of GPT-2, whose matrices are transposed, and of whose attention three are one."""
    layer.norm1.load_state_dict(block.ln_1.state_dict())
    layer.norm2.load_state_dict(block.ln_2.state_dict())
    attention = layer.self_attn
    weights = block.attn.c_attn.weight.chunk(3, dim=1)
    biases = block.attn.c_attn.bias.chunk(3)
    targets = [(attention.out_proj, block.attn.c_proj.weight, block.attn.c_proj.bias)]
    targets += zip((attention.q_proj, attention.k_proj, attention.v_proj), weights, biases, strict=True)
    targets += [(layer.fc1, block.mlp.c_fc.weight, block.mlp.c_fc.bias)]
    targets += [(layer.fc2, block.mlp.c_proj.weight, block.mlp.c_proj.bias)]
    for linear, weight, bias in targets:
        linear.weight.copy_(weight.T)
        linear.bias.copy_(bias)


def _rebuilt(model: ITITPreTrainedModel, changes: dict) -> ITITPreTrainedModel:
    """New weights for a changed configuration, with each tensor that has kept its shape."""
    config = type(model.config)(**model.config.to_dict() | changes)
    config._attn_implementation = model.config._attn_implementation
    new = type(model)(config).to(device=model.device, dtype=model.dtype).train(model.training)
    old = model.state_dict()
    state = new.state_dict()
    same = {name: old[name] for name, weight in state.items() if name in old and old[name].shape == weight.shape}
    new.load_state_dict(state | same)
    return new


def _image_positions(module: ITITModel | ITITImageDecoder) -> nn.Embedding:
    return module.embed_image_positions if isinstance(module, ITITModel) else module.embed_positions


def _stretched(table: torch.Tensor, grid: Sequence[int], new_grid: Sequence[int]) -> torch.Tensor:
    """A table of a grid, stretched over another: shape `(num_positions, width)`."""
    cells = table.float().view(1, *grid, -1).movedim(-1, 1)  # (1, C, h, w)
    cells = nn.functional.interpolate(cells, size=tuple(new_grid), mode="bicubic")  # (1, C, new_h, new_w)
    return cells.flatten(2)[0].T.to(table)  # (num_positions, C)


def _draw(linear: nn.Linear, config, generator) -> None:
    """As the model's own initialisation, but from a generator."""
    if config.initializer == "xavier":
        nn.init.xavier_uniform_(linear.weight, generator=generator)
    else:
        nn.init.normal_(linear.weight, std=config.initializer_range, generator=generator)
    nn.init.zeros_(linear.bias)


def _shared_ids(tokenizer, new_tokenizer, config, new_config) -> tuple[list[int], list[int]]:
    """Ids of what both vocabularies have: the same pieces, the start of a caption and the placeholder of an image."""
    old = tokenizer.get_vocab()
    new = new_tokenizer.get_vocab()
    shared = sorted(set(old) & set(new))
    if not shared:
        raise ValueError("`new_tokenizer` must have a piece in common with `tokenizer`, got none")
    spare = [(config.bos_token_id, new_config.bos_token_id), (config.image_token_id, new_config.image_token_id)]
    pairs = [(old[piece], new[piece]) for piece in shared] + spare
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _shared_texts(language_tokenizer, tokenizer, config) -> tuple[list[int], list[int]]:
    """Ids in a language model of bytes and in a vocabulary of SentencePiece of what stands for the same text, and of
    the beginning and the end of a text."""
    specials = {*language_tokenizer.all_special_tokens, *tokenizer.all_special_tokens}
    old = {}
    for piece, index in language_tokenizer.get_vocab().items():
        # A space is part of a piece in both, as a mark that each writes in its own way; half a letter has no text.
        text = language_tokenizer.convert_tokens_to_string([piece]).replace(" ", "\u2581")
        if piece not in specials and "\ufffd" not in text:
            old[text] = index
    new = {piece: index for piece, index in tokenizer.get_vocab().items() if piece not in specials}
    shared = sorted(set(old) & set(new))
    if not shared:
        raise ValueError("`language_tokenizer` must have a piece in common with `tokenizer`, got none")
    end = language_tokenizer.eos_token_id
    pairs = [(old[text], new[text]) for text in shared] + [(end, config.bos_token_id), (end, tokenizer.eos_token_id)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _carry_over(weight: torch.Tensor, ids: list[int], rows: torch.Tensor):
    """Rows of a vocabulary into another one's embedding; what it has besides starts at their mean."""
    weight.copy_(rows.mean(dim=0).expand_as(weight))
    weight[ids] = rows
