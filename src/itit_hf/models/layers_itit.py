# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Blocks of ITIT's network: attention, the Transformer block, the text decoder and the image decoder (Figure 2)."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .cache_itit import PrefixCache, prefix_attention
from .compilation_itit import check_values
from .configuration_itit import ITITConfig
from .cpu_kernels_itit import ITITDropout, tall_linear
from .types_itit import ImageMask, TextCondition


def scale_gradient(hidden_states: torch.Tensor, scale: float) -> torch.Tensor:
    """Identity whose gradient is multiplied by `scale`: `scale * z + stopgrad((1 - scale) * z)` (appendix B).

    Args:
        hidden_states (`torch.FloatTensor`): z, of any shape.
        scale (`float`): 1.0 leaves the gradient as it is, 0.0 stops it.

    Returns:
        `torch.FloatTensor` of the same shape, equal to z.
    """
    if scale == 1.0:
        return hidden_states
    if scale == 0.0:
        return hidden_states.detach()
    return scale * hidden_states + (1.0 - scale) * hidden_states.detach()


def gather_tokens(hidden_states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Rows of each sample by index.

    Args:
        hidden_states (`torch.FloatTensor` of shape `(batch_size, length, hidden_size)`)
        positions (`torch.LongTensor` of shape `(batch_size, num_positions)`)

    Returns:
        `torch.FloatTensor` of shape `(batch_size, num_positions, hidden_size)`.
    """
    return hidden_states.gather(1, positions[..., None].expand(-1, -1, hidden_states.size(-1)))


def joint_attention_mask(
    image: torch.Tensor, text: torch.Tensor, image_mask: ImageMask | None, text_condition: TextCondition | None
) -> torch.Tensor | None:
    """Which of the encoder's positions are no padding.

    Args:
        image (`torch.FloatTensor` of shape `(batch_size, num_encoded, hidden_size)`)
        text (`torch.FloatTensor` of shape `(batch_size, text_length, hidden_size)`)
        image_mask ([`ImageMask`], *optional*): Tells which image positions are filling; none by default.
        text_condition ([`TextCondition`], *optional*): Tells which text positions are padding; none by default.

    Returns:
        `torch.BoolTensor` of shape `(batch_size, num_encoded + text_length)`, or `None` if nothing is padded.
    """
    is_image = None if image_mask is None else image_mask.encoder_attention_mask
    is_text = None if text_condition is None else text_condition.attention_mask
    if is_image is None and is_text is None:
        return None
    if is_image is None:
        is_image = torch.ones(image.shape[:2], dtype=torch.bool, device=image.device)
    if is_text is None:
        is_text = torch.ones(text.shape[:2], dtype=torch.bool, device=text.device)
    return torch.cat([is_image, is_text.bool()], dim=1)  # (B, N + L)


def bidirectional_mask(
    config: ITITConfig, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, training: bool
) -> torch.Tensor | None:
    """The mask in the form that the attention implementation wants.

    transformers first asks the device whether anything is padded at all. That is worth a wait in a training step, and
    not in each step of decoding.

    Args:
        config ([`ITITConfig`]): Names the implementation.
        hidden_states (`torch.FloatTensor` of shape `(batch_size, length, hidden_size)`)
        attention_mask (`torch.BoolTensor` of shape `(batch_size, length)`, *optional*): `False` at padding.
        training (`bool`): Whether to ask.

    Returns:
        `torch.Tensor` of shape `(batch_size, 1, length, length)`, or `None` where all may look at all.
    """
    return create_bidirectional_mask(
        config=config,
        inputs_embeds=hidden_states,
        attention_mask=attention_mask,
        allow_is_bidirectional_skip=training or attention_mask is None,
    )


def sine_cosine_positions(grid: Sequence[int], width: int) -> torch.Tensor:
    """Sines and cosines of a cell's row and column, a quarter of the width each, with wavelengths from one turn in
    6 cells to one in 600: equal steps on the grid are equal rotations, so attention to a neighbour is one matrix.

    Args:
        grid (`Sequence[int]` of length 2): Rows and columns.
        width (`int`): A multiple of 4.

    Returns:
        `torch.FloatTensor` of shape `(num_rows * num_columns, width)`, row by row, of variance 1/2.

    Raises:
        ValueError: If the width is no multiple of 4.
    """
    if width % 4:
        raise ValueError(f"`width` must be a multiple of 4, got {width}")
    frequencies = 100.0 ** -(torch.arange(width // 4) * 4 / width)
    num_rows, num_columns = grid
    angles = torch.arange(max(grid))[:, None] * frequencies  # (longer side, width / 4)
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)  # (longer side, width / 2)
    rows = waves[:num_rows, None].expand(num_rows, num_columns, -1)
    columns = waves[None, :num_columns].expand(num_rows, num_columns, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)  # (num_rows * num_columns, width)


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Plain attention in the form of transformers' attention functions; shapes `(batch_size, heads, length, dim)`.

    The mask is added, or `True` where a query may look. Dropout is the module's.
    """
    weights = query @ key.transpose(2, 3) * scaling  # (B, heads, Q, S)
    if attention_mask is not None:
        is_bool = attention_mask.dtype == torch.bool
        lowest = torch.finfo(weights.dtype).min
        weights = weights.masked_fill(~attention_mask, lowest) if is_bool else weights + attention_mask
    weights = weights.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    weights = module.dropout(weights)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class ITITAttention(nn.Module):
    """Multi-head self-attention; causal in the text decoder only."""

    def __init__(self, config: ITITConfig, hidden_size: int, num_heads: int, layer_idx: int, is_causal: bool):
        super().__init__()
        self.config = config
        self.head_dim = hidden_size // num_heads
        self.scaling = self.head_dim**-0.5
        self.layer_idx = layer_idx
        self.is_causal = is_causal
        self.q_proj = nn.Linear(hidden_size, hidden_size)
        self.k_proj = nn.Linear(hidden_size, hidden_size)
        self.v_proj = nn.Linear(hidden_size, hidden_size)
        self.out_proj = nn.Linear(hidden_size, hidden_size)
        self.dropout = ITITDropout(config.attention_probs_dropout_prob)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        query_positions: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`hidden_states` of shape `(batch_size, length, hidden_size)` attend to each other; with `query_positions` of
        shape `(batch_size, num_queries)` only those rows ask. Returns the rows that asked, and the weights."""
        queries = hidden_states if query_positions is None else gather_tokens(hidden_states, query_positions)
        query, key, value = (
            proj(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for proj, x in ((self.q_proj, queries), (self.k_proj, hidden_states), (self.v_proj, hidden_states))
        )  # (B, heads, Q or S, head_dim)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        if isinstance(past_key_values, PrefixCache):
            layer = past_key_values.layers[self.layer_idx]
            out, weights = prefix_attention(query, key, value, attention_mask, layer, self.scaling)
            # Weights are recorded with plain attention only, in every step alike.
            weights = weights if self.config._attn_implementation == "eager" else None
            return self.out_proj(out.flatten(2)), weights  # (B, Q, D)
        dropout = self.dropout.p if self.training else 0.0
        # torch's fast attention for a CPU has no dropout; what it takes instead is slower than the plain form.
        plainly = dropout > 0 and query.device.type == "cpu" and self.config._attn_implementation == "sdpa"
        implementation = "eager" if plainly else self.config._attn_implementation
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
        out, weights = attend(self, query, key, value, attention_mask, scaling=self.scaling, dropout=dropout)
        return self.out_proj(out.flatten(2)), weights  # (B, Q, D)


class ITITLayer(GradientCheckpointingLayer):
    """Pre-norm Transformer block of ViT: attention, then MLP."""

    def __init__(
        self,
        config: ITITConfig,
        hidden_size: int,
        num_heads: int,
        intermediate_size: int,
        layer_idx: int,
        is_causal: bool = False,
        hidden_act: str | None = None,
        layer_norm_eps: float | None = None,
    ):
        super().__init__()
        eps = config.layer_norm_eps if layer_norm_eps is None else layer_norm_eps
        self.norm1 = nn.LayerNorm(hidden_size, eps=eps)
        self.self_attn = ITITAttention(config, hidden_size, num_heads, layer_idx, is_causal)
        self.norm2 = nn.LayerNorm(hidden_size, eps=eps)
        self.fc1 = nn.Linear(hidden_size, intermediate_size)
        self.activation = ACT2FN[hidden_act or config.hidden_act]
        self.fc2 = nn.Linear(intermediate_size, hidden_size)
        self.dropout = ITITDropout(config.hidden_dropout_prob)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        query_positions: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Hidden states of shape `(batch_size, length, hidden_size)` -> the same; with `query_positions` of shape
        `(batch_size, num_queries)` only those rows, `(batch_size, num_queries, hidden_size)`."""
        attended, _ = self.self_attn(self.norm1(hidden_states), attention_mask, past_key_values, query_positions)
        if query_positions is not None:  # last block: only these rows are read afterwards
            hidden_states = gather_tokens(hidden_states, query_positions)
        hidden_states = hidden_states + self.dropout(attended)  # (B, Q, D)
        return hidden_states + self.dropout(self.fc2(self.activation(self.fc1(self.norm2(hidden_states)))))


def _check_placeholders(is_feature: torch.Tensor, features: torch.Tensor):
    """That each row, `(B, S)`, has a place for each of its features `(B, P, D)`: one more or less would put the
    features of other rows there."""
    if is_feature.size(0) != features.size(0):
        raise ValueError(f"`input_ids` have {is_feature.size(0)} rows, the encoded images {features.size(0)}")
    counts = is_feature.sum(dim=-1)
    check_values(
        (counts == features.size(1)).all(),
        lambda: (
            f"each row of `input_ids` must hold `image_token_id` once for each of the {features.size(1)} features of "
            f"its encoded image, got {counts.tolist()}"
        ),
    )


def _asked_places(num_queries: int | torch.Tensor, hidden: torch.Tensor) -> torch.Tensor | None:
    """The places `(num_places,)` of `hidden`, `(B, S, D)`, that are read afterwards; `None` is all."""
    if isinstance(num_queries, torch.Tensor):
        return torch.arange(hidden.size(1), device=hidden.device)[num_queries.to(hidden.device)]
    if not 0 < num_queries < hidden.size(1):
        return None
    return torch.arange(hidden.size(1), device=hidden.device)[-num_queries:]


class ITITTextDecoder(nn.Module):
    """GIT-form text decoder: text is causal, sees all image features, and image features see each other (Figure 2).

    The features stand in front of the text as a prefix, at the places that `input_ids` mark with `image_token_id`.
    """

    def __init__(self, config: ITITConfig):
        super().__init__()
        self.config = config
        width = config.decoder_hidden_size
        self.project_features = nn.Linear(config.hidden_size, width)
        self.embed_tokens = nn.Embedding(config.vocab_size, width)
        self.embed_positions = nn.Embedding(config.max_text_length + 1, width)
        own_eps = config.text_decoder_layer_norm_eps
        eps = config.layer_norm_eps if own_eps is None else own_eps
        self.norm_embeddings = nn.LayerNorm(width, eps=eps)
        self.dropout = ITITDropout(config.hidden_dropout_prob)
        heads = config.decoder_num_attention_heads
        mlp = config.decoder_intermediate_size
        activation = config.text_decoder_hidden_act
        depth = config.text_decoder_num_hidden_layers
        self.layers = nn.ModuleList(
            [
                ITITLayer(config, width, heads, mlp, i, is_causal=True, hidden_act=activation, layer_norm_eps=eps)
                for i in range(depth)
            ]
        )
        self.norm = nn.LayerNorm(width, eps=eps)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        image_features: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        num_queries: int | torch.Tensor = 0,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Ids of shape `(batch_size, length)`, or their embeddings `(batch_size, length, decoder_hidden_size)` ->
        hidden states `(batch_size, length, decoder_hidden_size)`, or only those of the last `num_queries` places, or
        of the places that it lists, `(num_places,)`; as many `image_features`, of shape
        `(batch_size, num_features, hidden_size)`, as each row holds placeholders."""
        is_feature = self._find_placeholders(input_ids, inputs_embeds)  # (B, S)
        hidden = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds  # (B, S, D)
        positions = self._text_positions(is_feature, attention_mask, position_ids)
        hidden = self.norm_embeddings(hidden + self.embed_positions(positions))
        if image_features is not None:
            features = self.project_features(image_features).to(hidden.dtype)  # (B, P, D)
            _check_placeholders(is_feature, features)
            hidden = hidden.masked_scatter(is_feature[..., None], features)
        hidden = self.dropout(hidden)
        # Block 0 attends in both directions, -1 is causal; a single token sees all that came before it anyway.
        block_ids = torch.where(is_feature, 0, -1) if hidden.size(1) > 1 else None
        mask = create_causal_mask(
            config=self.config,
            inputs_embeds=hidden,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            block_sequence_ids=block_ids,
        )
        for layer in self.layers[:-1]:
            hidden = layer(hidden, mask, past_key_values)
        places = _asked_places(num_queries, hidden)
        queries = None if places is None else places.expand(hidden.size(0), -1)
        if places is not None and mask is not None:  # the last block asks at the places that are read afterwards
            mask = mask[:, :, places]
        return self.norm(self.layers[-1](hidden, mask, past_key_values, queries))

    def _find_placeholders(self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None) -> torch.Tensor:
        """Where a feature of the image stands, `(B, S)`; embeddings are compared with the placeholder's."""
        if inputs_embeds is None:
            return input_ids == self.config.image_token_id
        placeholder = self.embed_tokens.weight[self.config.image_token_id].to(inputs_embeds.dtype)
        return (inputs_embeds == placeholder).all(dim=-1)

    def _text_positions(
        self, is_feature: torch.Tensor, attention_mask: torch.Tensor | None, position_ids: torch.Tensor | None
    ) -> torch.Tensor:
        """Position of each token in the text, 0 for [BOS] and for whatever stands in front of it; padding, where a
        mask of two dimensions tells it, does not count."""
        if position_ids is not None:
            return position_ids.clamp(min=0)
        is_text = ~is_feature
        if attention_mask is not None and attention_mask.ndim == 2:
            is_text = is_text & attention_mask[:, -is_text.size(1) :].bool()
        return (is_text.long().cumsum(dim=-1) - 1).clamp(min=0)

    def logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Head tied to the embedding: states of shape `(..., decoder_hidden_size)` -> logits `(..., vocab_size)`, with
        spare rows so low that they are never generated.

        Cutting the spare rows from the weight would cost its gradient a copy of the whole table.
        """
        spare = torch.arange(self.config.vocab_size, device=hidden_states.device) >= self.config.num_text_tokens
        lowest = torch.finfo(hidden_states.dtype).min / 2  # finite also after a logit is added
        bias = hidden_states.new_zeros(self.config.vocab_size).masked_fill(spare, lowest)
        return tall_linear(hidden_states, self.embed_tokens.weight, bias)


class ITITImageDecoder(nn.Module):
    """MAGE-form image decoder: mask embeddings, or with `image_decoder_fill="text"` the feature of the text's last
    token, stand in for masked positions; all positions attend to each other.

    Logits are computed where they are asked for, and so are the queries of the last block.
    """

    def __init__(self, config: ITITConfig):
        super().__init__()
        self.config = config
        width = config.decoder_hidden_size
        self.project_features = nn.Linear(config.hidden_size, width)
        # Without a use it would be a parameter without a gradient, which distributed training waits for.
        self.mask_embedding = nn.Parameter(torch.zeros(width)) if config.image_decoder_fill == "mask" else None
        self.embed_positions = nn.Embedding(config.num_image_tokens, width)
        heads = config.image_decoder_heads
        mlp = config.decoder_intermediate_size
        depth = config.image_decoder_num_hidden_layers
        self.layers = nn.ModuleList([ITITLayer(config, width, heads, mlp, i) for i in range(depth)])
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.head_dense = nn.Linear(width, config.hidden_size)
        own_eps = config.image_head_layer_norm_eps
        self.head_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps if own_eps is None else own_eps)
        self.head_bias = nn.Parameter(torch.zeros(config.codebook_size))

    def forward(
        self,
        features: torch.Tensor,
        code_embeddings: torch.Tensor,
        image_mask: ImageMask | None = None,
        attention_mask: torch.Tensor | None = None,
        logit_positions: torch.Tensor | None = None,
        every_row: bool = False,
    ) -> torch.Tensor:
        """Encoder features of shape `(batch_size, num_encoded + text_length, hidden_size)` -> image logits
        `(batch_size, num_positions, codebook_size)`; the head is tied to `code_embeddings`
        `(codebook_size, hidden_size)`. With `every_row` the last block computes all rows, to be recorded."""
        num_tokens = self.config.num_image_tokens
        num_encoded = num_tokens if image_mask is None else image_mask.num_encoded
        features = self.project_features(features)  # (B, N + L, D)
        text = features[:, num_encoded:]  # (B, L, D)
        fill = self._fill(text, attention_mask)
        image = self._restore(features[:, :num_encoded], fill, image_mask)  # (B, K, D)
        hidden = torch.cat([image + self.embed_positions.weight, text], dim=1)  # (B, K + L, D)
        if attention_mask is not None:  # every image position is there again; the text keeps its padding
            attention_mask = F.pad(attention_mask[:, num_encoded:], (num_tokens, 0), value=True)
        mask = bidirectional_mask(self.config, hidden, attention_mask, self.training)
        for layer in self.layers[:-1]:
            hidden = layer(hidden, mask)
        positions = logit_positions
        if positions is None:
            positions = torch.arange(num_tokens, device=hidden.device).expand(hidden.size(0), -1)
        if every_row:
            hidden = gather_tokens(self.layers[-1](hidden, mask), positions)
        else:  # a mask is needed only where text is padded, and then it is the same for each query
            mask = mask if mask is None else mask[:, :, : positions.size(1)]
            hidden = self.layers[-1](hidden, mask, None, positions)
        hidden = self.norm(hidden)  # (B, M, D)
        hidden = self.head_norm(ACT2FN[self.config.hidden_act](self.head_dense(hidden)))  # (B, M, hidden_size)
        return F.linear(hidden, code_embeddings, self.head_bias)  # (B, M, V)

    def _fill(self, text: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """What stands at masked positions: the mask embedding `(D,)`, or the feature of the text's last token, which
        is no padding, `(B, 1, D)`."""
        if self.mask_embedding is not None:
            return self.mask_embedding.to(text.dtype)
        if attention_mask is None:
            return text[:, -1:]
        is_text = attention_mask[:, -text.size(1) :].long()  # (B, L)
        last = (is_text * torch.arange(text.size(1), device=text.device)).argmax(dim=1)
        return gather_tokens(text, last[:, None])

    def _restore(self, image: torch.Tensor, fill: torch.Tensor, image_mask: ImageMask | None) -> torch.Tensor:
        """Visible features back at their places, `fill` at every masked one; `(B, N, D) -> (B, K, D)`."""
        if image_mask is None:
            return image
        if image_mask.encoder_positions is not None:
            everywhere = fill.expand(image.size(0), self.config.num_image_tokens, -1)
            places = image_mask.encoder_positions[..., None].expand_as(image)
            is_image = image_mask.encoder_attention_mask
            if is_image is not None:  # filling must not overwrite: its positions are masked ones anyway
                image = torch.where(is_image[..., None], image, fill)
            image = everywhere.scatter(1, places, image)
        return torch.where(image_mask.bool_masked_pos[..., None], fill, image)


class ITITLatentEmbedding(nn.Module):
    r"""Projects an image tokenizer's latents to the width of the encoder (UMT, two-level features).

    What the image tokenizer has before it quantizes tells more than the code that is nearest to it, so
    `image_features: latents` projects these latents in place of embedding the codes. Image generation needs classes,
    and stays on codes.

    An image that the model generated has no latents, only codes. Their code vectors stand in for them, everywhere:
    they lie in the latents' own space, are what the tokenizer's commitment loss pulls latents to, and differ from the
    latents of a real image by the quantization error alone. So text -> image -> text stays differentiable: the
    straight-through sample is $\sum_k p_k e_k$, its forward pass one code vector $e_k$ and its backward pass the
    gradient of the expectation under the softmax $p$. The projection is linear and $\sum_k p_k = 1$, hence $W \sum_k
    p_k e_k + b = \sum_k p_k (W e_k + b)$: the cycle's estimator is the one that it has on codes, with the projected
    codebook as its table.

    `codebook`, a saved buffer of shape `(codebook_size, image_latent_size)`, holds the image tokenizer's code vectors;
    with it a generated image is captioned without the image tokenizer.

    Args:
        config ([`ITITConfig`]): With `image_features="latents"`.
    """

    def __init__(self, config: ITITConfig):
        super().__init__()
        self.projection = nn.Linear(config.image_latent_size, config.hidden_size)
        self.register_buffer("codebook", torch.zeros(config.codebook_size, config.image_latent_size))

    @property
    def code_embeddings(self) -> torch.Tensor:
        """Projected code vectors, of shape `(codebook_size, hidden_size)`."""
        return self.projection(self.codebook)

    def forward(self, image_latents: torch.Tensor | None) -> torch.Tensor:
        """Latents of shape `(batch_size, num_image_tokens, image_latent_size)` -> `(..., hidden_size)`.

        Raises:
            ValueError: If there are none, or they have another number of channels.
        """
        if image_latents is None:
            raise ValueError(
                '`image_latents` must be given: an image is captioned by them with `image_features="latents"`; the '
                "processor makes them, and `model.inputs_from_ids` those of an image that is known by its codes alone"
            )
        if image_latents.size(-1) != self.codebook.size(1):
            raise ValueError(
                f"`image_latents` must have {self.codebook.size(1)} channels, got shape {tuple(image_latents.shape)}"
            )
        return self.projection(image_latents.to(self.projection.weight.dtype))

    @torch.no_grad()
    def set_codebook(self, codebook: torch.Tensor):
        """Keep the image tokenizer's code vectors.

        Args:
            codebook (`torch.FloatTensor` of shape `(codebook_size, image_latent_size)`): The image tokenizer's.

        Raises:
            ValueError: If the shape is another.
        """
        if codebook.shape != self.codebook.shape:
            raise ValueError(f"`codebook` must be {tuple(self.codebook.shape)}, got {tuple(codebook.shape)}")
        self.codebook.copy_(codebook)
