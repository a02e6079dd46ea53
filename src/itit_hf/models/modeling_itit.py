# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The trainable network of ITIT: one joint image-text encoder, one text decoder, one image decoder (Figure 2)."""

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache
from transformers.loss.loss_utils import fixed_cross_entropy
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils.generic import can_return_tuple
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .compilation_itit import CompilationMixin, check_values
from .configuration_itit import ITITConfig
from .cpu_kernels_itit import ITITDropout
from .forward_inputs_itit import ITITForwardKwargs, TextInputs, check_kwargs, check_outputs, kept_rows
from .generation_itit import ITITGenerationMixin
from .layers_itit import (
    ITITAttention,
    ITITImageDecoder,
    ITITLatentEmbedding,
    ITITLayer,
    ITITTextDecoder,
    bidirectional_mask,
    gather_tokens,
    joint_attention_mask,
    scale_gradient,
    sine_cosine_positions,
)
from .modeling_outputs_itit import ITITForPreTrainingOutput, ITITImageGenerationOutput, ITITModelOutput
from .placement_itit import SingleDeviceMixin
from .straight_through_itit import straight_through_embedding, straight_through_projection
from .types_itit import ImageMask, SoftTokens, TextCondition
from .vocabulary_itit import TextVocabularyMixin, WithoutTextMixin


def _recorder(module: type[nn.Module], decoder: str) -> OutputRecorder:
    """What records the blocks of a decoder, or their attention."""
    recorder = OutputRecorder(module, index=int(module is ITITAttention), layer_name=decoder)
    recorder.num_hidden_layers_key = f"{decoder}_num_hidden_layers"  # read by versions that take negative indices
    return recorder


class ITITPreTrainedModel(SingleDeviceMixin, CompilationMixin, PreTrainedModel):
    """Weight initialisation and the contract with transformers."""

    config: ITITConfig
    base_model_prefix = "model"
    main_input_name = "image_token_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["ITITLayer"]
    _supports_sdpa = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": ITITLayer, "attentions": ITITAttention}
    _keys_to_ignore_on_load_unexpected = [r"^text_decoder\.", r"^image_decoder\."]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        std = self.config.initializer_range
        if isinstance(module, nn.Linear):
            self._init_linear(module)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=std)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, ITITImageDecoder):
            if module.mask_embedding is not None:
                init.normal_(module.mask_embedding, std=std)
            init.zeros_(module.head_bias)
            if self.config.initializer == "xavier":
                init.copy_(module.embed_positions.weight, self.initial_positions(module))
        elif isinstance(module, ITITLatentEmbedding):
            init.zeros_(module.codebook)
        elif isinstance(module, ITITModel):
            init.zeros_(module.null_text_embeds)
            if self.config.initializer == "xavier":
                init.copy_(module.embed_image_positions.weight, self.initial_positions(module))

    def _init_linear(self, module: nn.Linear):
        if self.config.initializer == "xavier":
            init.xavier_uniform_(module.weight)
        else:
            init.normal_(module.weight, std=self.config.initializer_range)
        if module.bias is not None:
            init.zeros_(module.bias)

    def initial_positions(self, module: nn.Module) -> torch.Tensor:
        """What `module`, the encoder or the image decoder, starts its image positions with if `initializer="xavier"`:
        sines and cosines of shape `(num_image_tokens, width)`, as large as the code embeddings or the projected
        features that they are added to."""
        encoder = isinstance(module, ITITModel)
        table = module.embed_image_positions if encoder else module.embed_positions
        scale = 2**0.5 * self.config.initializer_range if encoder else 1.0
        return scale * sine_cosine_positions(self.config.image_grid, table.embedding_dim)

    def _check_recorded(self, *flags: bool | None):
        """Refuse to return attention weights that the implementation does not compute."""
        implementation = self.config._attn_implementation
        if any(flags) and implementation != "eager":
            raise ValueError(
                f"attention weights are returned with eager attention only, got {implementation!r}: call "
                '`model.set_attn_implementation("eager")` first'
            )

    def _records(self, output_hidden_states, output_attentions) -> bool:
        """Whether something is recorded, as `capture_outputs` finds it."""
        flags = output_hidden_states, output_attentions
        defaults = self.config.output_hidden_states, self.config.output_attentions
        return any(given or (given is None and default) for given, default in zip(flags, defaults, strict=True))

    @staticmethod
    def _loss(logits: torch.Tensor, labels: torch.Tensor, kwargs: Mapping) -> torch.Tensor:
        """Cross entropy of logits `(B, S, C)` and labels `(B, S)`, -100 ignored: as in transformers, a mean over all
        labels that count, or their sum over `num_items_in_batch`."""
        num_items = kwargs.get("num_items_in_batch")
        check_values(
            (labels < logits.size(-1)).all(),
            lambda: f"`labels` must be below {logits.size(-1)}, or -100 where they do not count, got {labels.max()}",
        )
        return fixed_cross_entropy(logits.float().flatten(0, 1), labels.flatten(), num_items)


class ITITModel(WithoutTextMixin, ITITPreTrainedModel):
    """Joint image-text encoder: ViT blocks over [image token embeddings ; projected text features] (section 3.1).

    `null_text_embeds`, a saved buffer of shape `(1, num_null_text_tokens, text_hidden_size)`, holds the text encoder's
    features of the empty text; it is what an image is encoded with when no text is given, so captioning needs no text
    encoder.
    """

    def __init__(self, config: ITITConfig):
        super().__init__(config)
        width = config.hidden_size
        self.embed_image_tokens = nn.Embedding(config.codebook_size + 1, width)  # the last row masks a token
        self.embed_image_latents = ITITLatentEmbedding(config) if config.image_features == "latents" else None
        self.embed_image_positions = nn.Embedding(config.num_image_tokens, width)
        self.project_text = nn.Linear(config.text_hidden_size, width)
        self.embed_text_positions = nn.Embedding(config.max_text_length, width)
        self.norm_embeddings = nn.LayerNorm(width, eps=config.layer_norm_eps)  # as MAGE; docs/experiments/training.md
        self.dropout = ITITDropout(config.hidden_dropout_prob)
        heads = config.num_attention_heads
        mlp = config.intermediate_size
        self.layers = nn.ModuleList([ITITLayer(config, width, heads, mlp, i) for i in range(config.num_hidden_layers)])
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.register_buffer("null_text_embeds", torch.zeros(1, config.num_null_text_tokens, config.text_hidden_size))
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        """The image token embedding, of shape `(codebook_size + 1, hidden_size)`."""
        return self.embed_image_tokens

    def set_input_embeddings(self, value: nn.Embedding):
        """Replace the image token embedding; shape `(codebook_size + 1, hidden_size)`."""
        self.embed_image_tokens = value

    @property
    def code_embeddings(self) -> torch.Tensor:
        """Embedding of the codes alone, of shape `(codebook_size, hidden_size)`: what the image head is tied to."""
        return self.embed_image_tokens.weight[: self.config.codebook_size]

    @property
    def conditioning_code_embeddings(self) -> torch.Tensor:
        """The same of an image that is to be captioned, of shape `(codebook_size, hidden_size)`: of the code vectors,
        if latents are what is seen."""
        return self.code_embeddings if self.embed_image_latents is None else self.embed_image_latents.code_embeddings

    def embed_conditioning_image(
        self, image_token_ids: torch.LongTensor | None = None, image_latents: torch.FloatTensor | None = None
    ) -> torch.Tensor:
        """An image that is to be captioned, as `config.image_features` wants it seen; what is generated is ids always.

        Args:
            image_token_ids (`torch.LongTensor` of shape `(batch_size, num_image_tokens)`, *optional*): Its codes.
            image_latents (`torch.FloatTensor` of shape `(batch_size, num_image_tokens, image_latent_size)`,
                *optional*): Its latents.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, num_image_tokens, hidden_size)`, for `image_token_embeds`.

        Raises:
            ValueError: If there are no latents and they are what is seen, or the other way round.
        """
        if self.embed_image_latents is not None:
            return self.embed_image_latents(image_latents)
        if image_latents is not None:
            raise ValueError('`image_latents` must be None: the configuration has `image_features="codes"`')
        return self.embed_image_tokens(image_token_ids)

    @can_return_tuple
    @capture_outputs
    def forward(
        self,
        image_token_ids: torch.LongTensor | None = None,
        image_mask: ImageMask | None = None,
        text_condition: TextCondition | None = None,
        image_token_embeds: torch.FloatTensor | None = None,
        **kwargs: Unpack[ITITForwardKwargs],
    ) -> ITITModelOutput:
        r"""Encode an image, in part masked, together with a text.

        Args:
            image_token_ids (`torch.LongTensor` of shape `(batch_size, num_image_tokens)`): Codes; at masked
                positions the id does not matter.
            image_mask ([`ImageMask`], *optional*): What is masked, and which positions the encoder is given;
                `ImageMask(bool_masked_pos)` gives it all, with mask embeddings. Nothing is masked by default.
            text_condition ([`TextCondition`], *optional*): Text features; the null text by default.
            image_token_embeds (`torch.FloatTensor` of shape `(batch_size, num_image_tokens, hidden_size)`,
                *optional*): In place of `image_token_ids`, such as embeddings of straight-through samples.
            kwargs: See [`ITITForwardKwargs`].

        Returns:
            [`ITITModelOutput`].

        Raises:
            ValueError: If neither or both of `image_token_ids` and `image_token_embeds` are given, or shapes differ
                from the configuration's.
        """
        check_kwargs(type(self).__name__, kwargs, has_image=image_token_ids is not None)
        self._check_recorded(kwargs.get("output_attentions"))
        image = self._embed_image(image_token_ids, image_token_embeds, image_mask)  # (B, N, H)
        text = self._embed_text(text_condition, image)  # (B, L, H)
        hidden = self.dropout(self.norm_embeddings(torch.cat([image, text], dim=1)))  # (B, N + L, H)
        attention_mask = joint_attention_mask(image, text, image_mask, text_condition)
        mask = bidirectional_mask(self.config, hidden, attention_mask, self.training)
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return ITITModelOutput(last_hidden_state=self.norm(hidden), attention_mask=attention_mask)

    def _embed_image(self, image_token_ids, image_token_embeds, image_mask: ImageMask | None) -> torch.Tensor:
        """Embeddings of the positions that the encoder is given, `(B, N, H)`."""
        if (image_token_ids is None) == (image_token_embeds is None):
            raise ValueError("give exactly one of `image_token_ids` and `image_token_embeds`")
        given = image_token_embeds if image_token_ids is None else image_token_ids
        if given.size(1) != self.config.num_image_tokens:
            raise ValueError(f"wanted {self.config.num_image_tokens} image tokens per sample, got {given.size(1)}")
        if image_token_ids is not None:  # one lookup: the gradient of each slice of a table is as large as the table
            if image_mask is not None:
                image_token_ids = image_token_ids.masked_fill(image_mask.bool_masked_pos, self.config.mask_token_id)
            embeds = self.embed_image_tokens(image_token_ids)
        else:
            embeds = image_token_embeds
            if image_mask is not None:
                embeds = torch.where(image_mask.bool_masked_pos[..., None], self.embed_image_tokens.weight[-1], embeds)
        embeds = embeds + self.embed_image_positions.weight  # (B, K, H)
        if image_mask is None or image_mask.encoder_positions is None:
            return embeds
        return gather_tokens(embeds, image_mask.encoder_positions)

    def _embed_text(self, text_condition: TextCondition | None, image: torch.Tensor) -> torch.Tensor:
        """Projected features of the text, or of the null text, `(B, L, H)`."""
        if text_condition is None:
            embeds = self.null_text_embeds.expand(image.size(0), -1, -1)  # (B, N, E)
        else:
            embeds = text_condition.embeds  # (B, L, E)
        length = embeds.size(1)
        if length > self.config.max_text_length:
            raise ValueError(
                f"`text_condition` has {length} positions, more than `max_text_length` {self.config.max_text_length}"
            )
        return self.project_text(embeds.to(image.dtype)) + self.embed_text_positions.weight[:length]


class ITITHeadModel(ITITPreTrainedModel):
    """What the models with heads have in common: the three verbs of their forward passes, `encode`, `decode_text` and
    `decode_image`, of which each calls those that it has a decoder for.

    They answer for what their encoder holds, so that code which knows a model by `model.model` may also be given one
    that peft wraps, whose `model` is the whole model.
    """

    model: ITITModel
    text_decoder: ITITTextDecoder
    image_decoder: ITITImageDecoder

    @property
    def null_text_embeds(self) -> torch.Tensor:
        """Features of the empty text, of shape `(1, num_null_text_tokens, text_hidden_size)`; part of the encoder."""
        return self.base_model.null_text_embeds

    @property
    def embed_image_latents(self) -> ITITLatentEmbedding | None:
        """The encoder's projection of latents, if these are what is seen of an image that is to be captioned."""
        return self.base_model.embed_image_latents

    def inputs_from_ids(self, image_token_ids: torch.LongTensor) -> dict[str, torch.Tensor]:
        """An image that is known by its codes alone, such as a generated one, by the names of `forward`.

        Args:
            image_token_ids (`torch.LongTensor` of shape `(batch_size, num_image_tokens)`): Its codes.

        Returns:
            `dict`: `image_token_ids`, and with `image_features="latents"` their code vectors as `image_latents`, of
            shape `(batch_size, num_image_tokens, image_latent_size)`.
        """
        embedding = self.model.embed_image_latents
        if embedding is None:
            return {"image_token_ids": image_token_ids}
        codebook = embedding.codebook.to(image_token_ids.device)  # the model may be offloaded
        return {"image_token_ids": image_token_ids, "image_latents": codebook[image_token_ids]}

    def encode(
        self,
        image_token_ids: torch.LongTensor | None,
        image_latents: torch.FloatTensor | None = None,
        image_mask: ImageMask | None = None,
        text_condition: TextCondition | None = None,
        soft_tokens: SoftTokens | None = None,
        is_captioned: bool = True,
    ) -> ITITModelOutput:
        """Features of an image and of the text that the encoder is given with it.

        Args:
            image_token_ids (`torch.LongTensor` of shape `(batch_size, num_image_tokens)`, *optional*):
                See [`ITITModel`].
            image_latents (`torch.FloatTensor` of shape `(batch_size, num_image_tokens, image_latent_size)`,
                *optional*): See [`ITITForCaptioning`].
            image_mask ([`ImageMask`], *optional*): See [`ITITModel`].
            text_condition ([`TextCondition`], *optional*): As there.
            soft_tokens ([`SoftTokens`], *optional*): In place of the ids at their positions.
            is_captioned (`bool`): Whether the text decoder is to see the image, which is then given to the encoder as
                `config.image_features` says; an image that is only to be completed is given as ids.

        Returns:
            [`ITITModelOutput`]: Features of shape `(batch_size, num_encoded + text_length, hidden_size)`.
        """
        if soft_tokens is not None:
            embeds = self._soft_embeds(image_token_ids, soft_tokens)
        elif is_captioned and (self.model.embed_image_latents is not None or image_latents is not None):
            embeds = self.model.embed_conditioning_image(image_token_ids, image_latents)
        else:
            return self.model(image_token_ids=image_token_ids, image_mask=image_mask, text_condition=text_condition)
        return self.model(image_token_embeds=embeds, image_mask=image_mask, text_condition=text_condition)

    def _soft_embeds(self, image_token_ids: torch.LongTensor, soft_tokens: SoftTokens) -> torch.Tensor:
        """Embeddings of the ids, with those of the soft tokens at their positions, `(B, K, H)`."""
        table = self.model.conditioning_code_embeddings  # (V, H)
        soft = straight_through_embedding(soft_tokens.logits, table, trained=soft_tokens.train_embeddings)  # (B, S, H)
        embeds = self.model.embed_conditioning_image(**self.inputs_from_ids(image_token_ids))  # (B, K, H)
        return embeds.scatter(1, soft_tokens.positions[..., None].expand_as(soft), soft)

    def decode_text(self, text: TextInputs, features: torch.Tensor | None) -> tuple[torch.Tensor, Cache | None]:
        """States of the text decoder, from which the next token is predicted.

        Args:
            text ([`TextInputs`]): Text so far.
            features (`torch.FloatTensor` of shape `(batch_size, num_features, hidden_size)`, *optional*): The encoded
                image; none when it is in the cache, or when there is none.

        Returns:
            `tuple`: The states, a `torch.FloatTensor` of shape `(batch_size, num_places, decoder_hidden_size)`, where
            logits are wanted; and the cache, if one is used.
        """
        cache = text.past_key_values
        num_past = 0 if cache is None else cache.get_seq_length()
        text.check(self.config, num_past, None if features is None else features.size(1))
        use_cache = text.use_cache
        if use_cache is None:
            use_cache = self.config.use_cache and not self.training
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)
        states = self.text_decoder(
            text.input_ids,
            features,
            attention_mask=text.attention_mask,
            position_ids=text.positions(self.config, num_past),
            past_key_values=cache,
            num_queries=0 if text.every_row else text.logits_to_keep,
            inputs_embeds=text.inputs_embeds,
        )
        return kept_rows(states, text.logits_to_keep) if text.every_row else states, cache

    def decode_image(
        self,
        encoded: ITITModelOutput,
        image_mask: ImageMask | None,
        logit_positions: torch.LongTensor | None,
        every_row: bool,
    ) -> torch.Tensor:
        """Logits of image tokens (equation 2).

        Args:
            encoded ([`ITITModelOutput`]): What `encode` gave.
            image_mask ([`ImageMask`], *optional*): What it was given.
            logit_positions (`torch.LongTensor` of shape `(batch_size, num_positions)`, *optional*): Where logits are
                wanted; all image positions by default.
            every_row (`bool`): Whether all rows of the last block are computed, to be recorded.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, num_positions, codebook_size)`.
        """
        codes = self.model.code_embeddings  # (V, H)
        return self.image_decoder(
            encoded.last_hidden_state,
            codes,
            image_mask,
            attention_mask=encoded.attention_mask,
            logit_positions=logit_positions,
            every_row=every_row,
        )


class ITITForImageGeneration(WithoutTextMixin, ITITHeadModel):
    """Encoder + image decoder: predicts masked image tokens in parallel, given a text (equation 2)."""

    output_modalities = ("image",)
    _keys_to_ignore_on_load_unexpected = [r"^text_decoder\."]
    _can_record_outputs = {
        "hidden_states": _recorder(ITITLayer, "image_decoder"),
        "attentions": _recorder(ITITAttention, "image_decoder"),
    }

    def __init__(self, config: ITITConfig):
        super().__init__(config)
        self.model = ITITModel(config)
        self.image_decoder = ITITImageDecoder(config)
        self.post_init()

    @can_return_tuple
    @capture_outputs
    def forward(
        self,
        image_token_ids: torch.LongTensor | None = None,
        image_mask: ImageMask | None = None,
        text_condition: TextCondition | None = None,
        logit_positions: torch.LongTensor | None = None,
        labels: torch.LongTensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **kwargs: Unpack[ITITForwardKwargs],
    ) -> ITITImageGenerationOutput:
        r"""Predict image tokens.

        Args:
            image_token_ids (`torch.LongTensor` of shape `(batch_size, num_image_tokens)`): See [`ITITModel`].
            image_mask ([`ImageMask`], *optional*): As there.
            text_condition ([`TextCondition`], *optional*): As there.
            logit_positions (`torch.LongTensor` of shape `(batch_size, num_positions)`, *optional*):
                Where logits are wanted; all image positions by default.
            labels (`torch.LongTensor` of shape `(batch_size, num_positions)`, *optional*):
                Ids at `logit_positions`, -100 ignored: gives the mean cross entropy over all that are not.
            output_hidden_states (`bool`, *optional*): Return those of the image decoder.
            output_attentions (`bool`, *optional*): Likewise; with eager attention.
            kwargs: See [`ITITForwardKwargs`].

        Returns:
            [`ITITImageGenerationOutput`].

        Raises:
            ValueError: As [`ITITModel`].
        """
        check_kwargs(type(self).__name__, kwargs, has_image=image_token_ids is not None)
        self._check_recorded(output_attentions)
        every_row = self._records(output_hidden_states, output_attentions)
        encoded = self.encode(
            image_token_ids, image_mask=image_mask, text_condition=text_condition, is_captioned=False
        )  # (B, N + L, H)
        logits = self.decode_image(encoded, image_mask, logit_positions, every_row)  # (B, M, codebook_size)
        loss = None if labels is None else self._loss(logits, labels, kwargs)
        return ITITImageGenerationOutput(loss=loss, image_logits=logits)


class ITITForCaptioning(TextVocabularyMixin, ITITHeadModel, ITITGenerationMixin):
    """Encoder + text decoder: captions an image (equation 1). `generate` takes `image_token_ids` alone.

    In `input_ids` the image is a prefix of `image_token_id` placeholders, one for each encoder feature, then comes
    `bos_token_id`, then text. `generate` writes prefix and [BOS] itself when they are missing, and reads the image
    once, however many beams there are.
    """

    main_input_name = "input_ids"
    output_modalities = ("text",)
    _keys_to_ignore_on_load_unexpected = [r"^image_decoder\."]
    _can_record_outputs = {
        "hidden_states": _recorder(ITITLayer, "text_decoder"),
        "attentions": _recorder(ITITAttention, "text_decoder"),
    }

    def __init__(self, config: ITITConfig):
        super().__init__(config)
        self.model = ITITModel(config)
        self.text_decoder = ITITTextDecoder(config)
        self.post_init()
        self.generation_config.update(num_beams=4, max_new_tokens=config.max_text_length)  # appendix B

    def get_input_embeddings(self) -> nn.Embedding:
        """The text embedding, of shape `(vocab_size, decoder_hidden_size)`: `generate` works on text ids."""
        return self.text_decoder.embed_tokens

    def set_input_embeddings(self, value: nn.Embedding):
        """Replace the text embedding; shape `(vocab_size, decoder_hidden_size)`."""
        self.text_decoder.embed_tokens = value

    @torch.no_grad()
    def initialize_text_embeddings(self, table: torch.Tensor, generator: torch.Generator | None = None):
        """Start the text decoder's embedding (and the head tied to it) from the frozen text encoder's.

        Words that the text encoder reads alike start out alike. Rows are taken about their mean and scaled to
        `initializer_range`. Of the decoder's width they are taken as they are; of another one by a random projection,
        which keeps their geometry. The rows of [BOS] and of the placeholder stay as they were.

        Args:
            table (`torch.FloatTensor` of shape `(num_rows, text_hidden_size)`): The text encoder's embedding, at least
                `num_text_tokens` rows of it.
            generator (`torch.Generator`, *optional*): Draws the projection.

        Raises:
            ValueError: If the table has fewer rows.
        """
        num_words = self.config.num_text_tokens
        width = self.config.decoder_hidden_size
        if len(table) < num_words:
            raise ValueError(f"`table` must have a row for each of {num_words} words, got {len(table)}")
        same = table.size(1) == width
        projection = torch.eye(width) if same else torch.randn(table.size(1), width, generator=generator)
        weight = self.text_decoder.embed_tokens.weight
        weight[:num_words] = _projected(table[:num_words], projection, self.config.initializer_range)[0].to(weight)

    @can_return_tuple
    @capture_outputs
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        image_token_ids: torch.LongTensor | None = None,
        image_latents: torch.FloatTensor | None = None,
        image_mask: ImageMask | None = None,
        encoder_hidden_states: torch.FloatTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        inputs_embeds: torch.FloatTensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **kwargs: Unpack[ITITForwardKwargs],
    ) -> CausalLMOutputWithPast:
        r"""Predict the next text token at each place.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, length)`, *optional*):
                Placeholders, [BOS], text; with `past_key_values` only what is new.
            attention_mask (`torch.Tensor` of shape `(batch_size, length)`, *optional*): 0 at padding.
            image_token_ids (`torch.LongTensor` of shape `(batch_size, num_image_tokens)`, *optional*):
                The image, encoded with the null text.
            image_latents (`torch.FloatTensor` of shape `(batch_size, num_image_tokens, image_latent_size)`,
                *optional*): What is seen of it with `image_features="latents"`.
            image_mask ([`ImageMask`], *optional*): What of it is masked; see [`ITITModel`].
            encoder_hidden_states (`torch.FloatTensor` of shape `(batch_size, prefix_length, hidden_size)`,
                *optional*): The encoded image, in place of `image_token_ids`.
            position_ids (`torch.LongTensor` of shape `(batch_size, length)`, *optional*):
                Positions in the whole sequence, placeholders counted, as `generate` counts them: [BOS] is at
                `num_prefix_tokens`. By default counted from the placeholders, without padding.
            past_key_values (`Cache`, *optional*): Keys and values of what came before.
            labels (`torch.LongTensor` of shape `(batch_size, length)`, *optional*):
                Like `input_ids`, -100 ignored; shifted here, as in every causal language model of transformers. Gives
                the mean cross entropy over all labels of the batch that are not ignored.
            use_cache (`bool`, *optional*): Return keys and values.
            logits_to_keep (`int` or `torch.LongTensor` of shape `(num_places,)`, *optional*, defaults to 0):
                Logits of the last n places only, 0 is all; or of these places.
            inputs_embeds (`torch.FloatTensor` of shape `(batch_size, length, decoder_hidden_size)`, *optional*):
                In place of `input_ids`; a feature of the image stands where the placeholder's embedding does.
            output_hidden_states (`bool`, *optional*): Return those of the text decoder.
            output_attentions (`bool`, *optional*): Likewise; with eager attention.
            kwargs: See [`ITITForwardKwargs`].

        Returns:
            `CausalLMOutputWithPast` with `logits` of shape `(batch_size, length, vocab_size)`.

        Raises:
            ValueError: If neither or both of `input_ids` and `inputs_embeds` are given, placeholders and features of
                the image differ in number, or the text is too long.
        """
        has_image = not (image_token_ids is None and image_latents is None)
        check_kwargs(type(self).__name__, kwargs, has_image or encoder_hidden_states is not None)
        self._check_recorded(output_attentions)
        text = TextInputs(
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            every_row=self._records(output_hidden_states, output_attentions),
        )
        features = encoder_hidden_states  # (B, N, H)
        if features is None and has_image:
            features = self.encode(image_token_ids, image_latents, image_mask).last_hidden_state  # (B, N + 1, H)
        states, cache = self.decode_text(text, features)  # (B, S, D)
        logits = self.text_decoder.logits(states)  # (B, S, vocab_size)
        loss = self._text_loss(logits, labels, text, kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=cache)

    def _text_loss(self, logits, labels, text: TextInputs, kwargs: Mapping) -> torch.Tensor | None:
        """Equation (1) of logits `(B, S, vocab_size)`, if there are `labels`, or `shift_labels` among `kwargs`."""
        next_tokens = kwargs.get("shift_labels")
        if next_tokens is None and labels is not None:
            next_tokens = F.pad(labels, (0, 1), value=-100)[:, 1:]  # nothing follows the last one
        if next_tokens is None:
            return None
        words = logits[..., : self.config.num_text_tokens]
        return self._loss(words, kept_rows(next_tokens, text.logits_to_keep), kwargs)


def _projected(table: torch.Tensor, projection: torch.Tensor, std: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows about their mean, projected to a deviation of `std`; and the projection that gives it."""
    embeds = (table - table.mean(dim=0)).float().cpu() @ projection
    return embeds / embeds.std() * std, projection / embeds.std() * std


class ITITForPreTraining(ITITForCaptioning):
    """Encoder and both decoders: what the trainer trains and the pipeline generates and captions with.

    Its checkpoint opens in each of the other three classes.
    """

    _keys_to_ignore_on_load_unexpected = []
    _can_record_outputs = ITITForCaptioning._can_record_outputs | {
        "image_hidden_states": _recorder(ITITLayer, "image_decoder"),
        "image_attentions": _recorder(ITITAttention, "image_decoder"),
    }

    def __init__(self, config: ITITConfig):
        super().__init__(config)
        self.image_decoder = ITITImageDecoder(config)
        self.post_init()

    @torch.no_grad()
    def initialize_code_embeddings(self, codebook: torch.Tensor, generator: torch.Generator | None = None):
        """Start image embeddings (and the head tied to them) from the image tokenizer's codebook.

        A random projection keeps the codes' geometry: codes that look alike start out alike. Latents start with the
        same projection, so that a code vector is seen as its code is.

        Args:
            codebook (`torch.FloatTensor` of shape `(codebook_size, code_dim)`): Codes of the image tokenizer.
            generator (`torch.Generator`, *optional*): Draws the projection.

        Raises:
            ValueError: If the codebook has another number of codes.
        """
        if codebook.size(0) != self.config.codebook_size:
            raise ValueError(f"`codebook` has {codebook.size(0)} codes, the model {self.config.codebook_size}")
        projection = torch.randn(codebook.size(1), self.config.hidden_size, generator=generator)
        embeds, scaled = _projected(codebook, projection, self.config.initializer_range)
        table = self.model.embed_image_tokens.weight
        table[:-1] = embeds.to(table)
        if self.model.embed_image_latents is not None:
            self.model.embed_image_latents.projection.weight.copy_(scaled.T)
            self.model.embed_image_latents.projection.bias.copy_(-codebook.mean(dim=0).float().cpu() @ scaled)
            self.model.embed_image_latents.set_codebook(codebook)

    @can_return_tuple
    @capture_outputs
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        image_token_ids: torch.LongTensor | None = None,
        image_latents: torch.FloatTensor | None = None,
        image_mask: ImageMask | None = None,
        encoder_hidden_states: torch.FloatTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        inputs_embeds: torch.FloatTensor | None = None,
        text_condition: TextCondition | None = None,
        logit_positions: torch.LongTensor | None = None,
        soft_tokens: SoftTokens | None = None,
        text_embedding_table: torch.FloatTensor | None = None,
        encoder_gradient_scale: float = 1.0,
        text_gradient_scale: float = 1.0,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        output_image_hidden_states: bool | None = None,
        output_image_attentions: bool | None = None,
        **kwargs: Unpack[ITITForwardKwargs],
    ) -> ITITForPreTrainingOutput:
        r"""One encoder pass, then the text decoder if `input_ids` are given and the image decoder if
        `logit_positions` are: image to text and image to image share a pass (section 3.2).

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, length)`, *optional*): See [`ITITForCaptioning`]; here
                an image, encoded once, may have several texts, `(batch_size * texts, length)`, its own together.
            attention_mask (`torch.Tensor` of shape `(batch_size, length)`, *optional*): As there.
            image_token_ids (`torch.LongTensor` of shape `(batch_size, num_image_tokens)`, *optional*): As there.
            image_latents (`torch.FloatTensor` of shape `(batch_size, num_image_tokens, image_latent_size)`,
                *optional*): As there.
            image_mask ([`ImageMask`], *optional*): As there.
            encoder_hidden_states (`torch.FloatTensor` of shape `(batch_size, prefix_length, hidden_size)`,
                *optional*): As there.
            position_ids (`torch.LongTensor` of shape `(batch_size, length)`, *optional*): As there.
            past_key_values (`Cache`, *optional*): As there.
            labels (`torch.LongTensor` of shape `(batch_size, length)`, *optional*): As there.
            use_cache (`bool`, *optional*): As there.
            logits_to_keep (`int` or `torch.LongTensor` of shape `(num_places,)`, *optional*, defaults to 0): As there.
            inputs_embeds (`torch.FloatTensor` of shape `(batch_size, length, decoder_hidden_size)`, *optional*):
                As there.
            text_condition ([`TextCondition`], *optional*): See [`ITITModel`]; the null text by default.
            logit_positions (`torch.LongTensor` of shape `(batch_size, num_positions)`, *optional*):
                Where image logits are wanted; none by default.
            soft_tokens ([`SoftTokens`], *optional*): In place of the ids at their positions: the reconstruction of a
                cycle, which gradient passes through.
            text_embedding_table (`torch.FloatTensor` of shape `(num_text_tokens, embedding_size)`, *optional*):
                Return the most likely words' embeddings in this table, with straight-through gradient, in place of
                text logits: the reconstruction of a cycle for the text encoder.
            encoder_gradient_scale (`float`, *optional*, defaults to 1.0):
                Scale of all gradient into the encoder; 0.0 stops it, as after the first pass of a cycle (appendix B).
            text_gradient_scale (`float`, *optional*, defaults to 1.0):
                Scale of the text decoder's gradient into the encoder; 0.1 in the paper (appendix B).
            output_hidden_states (`bool`, *optional*): See [`ITITForCaptioning`].
            output_attentions (`bool`, *optional*): As there.
            output_image_hidden_states (`bool`, *optional*): Return those of the image decoder.
            output_image_attentions (`bool`, *optional*): Likewise; with eager attention.
            kwargs: See [`ITITForwardKwargs`].

        Returns:
            [`ITITForPreTrainingOutput`].

        Raises:
            ValueError: If neither text nor `logit_positions` are given, something is to be returned of a decoder that
                has nothing to do, or as [`ITITForCaptioning`].
        """
        has_text = not (input_ids is None and inputs_embeds is None)
        has_image = not (image_token_ids is None and image_latents is None)
        check_kwargs(type(self).__name__, kwargs, has_image or encoder_hidden_states is not None)
        text_records = (output_hidden_states, output_attentions)
        image_records = (output_image_hidden_states, output_image_attentions)
        self._check_recorded(output_attentions, output_image_attentions)
        check_outputs(has_text, logit_positions is not None, any(text_records), any(image_records))

        encoded = ITITModelOutput(last_hidden_state=encoder_hidden_states)  # (B, N, H)
        if encoder_hidden_states is None and has_image:
            encoded = self.encode(
                image_token_ids, image_latents, image_mask, text_condition, soft_tokens, is_captioned=has_text
            )  # (B, N + L, H)
            encoded.last_hidden_state = scale_gradient(encoded.last_hidden_state, encoder_gradient_scale)

        loss = logits = cache = predicted_embeds = predicted_ids = image_logits = None
        if has_text:
            text = TextInputs(
                input_ids=input_ids,
                inputs_embeds=inputs_embeds,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=past_key_values,
                use_cache=use_cache if text_embedding_table is None else False,
                logits_to_keep=logits_to_keep,
                every_row=self._records(*text_records),
            )
            features = encoded.last_hidden_state
            if features is not None:
                features = text.for_each(scale_gradient(features, text_gradient_scale))
            states, cache = self.decode_text(text, features)  # (B, S, D)
            if text_embedding_table is None:
                logits = self.text_decoder.logits(states)  # (B, S, vocab_size)
                loss = self._text_loss(logits, labels, text, kwargs)
            else:
                predicted_embeds, predicted_ids = self._most_likely_words(states, text_embedding_table)  # (B, S, E)
        if logit_positions is not None:
            if encoded.last_hidden_state is None:
                raise ValueError("`logit_positions` need an image: give `image_token_ids` or `encoder_hidden_states`")
            image_logits = self.decode_image(encoded, image_mask, logit_positions, any(image_records))  # (B, M, V)
        return ITITForPreTrainingOutput(
            loss=loss,
            logits=logits,
            past_key_values=cache,
            image_logits=image_logits,
            predicted_embeds=predicted_embeds,
            predicted_ids=predicted_ids,
        )

    def _most_likely_words(self, states, table) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings `(B, S, E)` in `table` of the most likely words, and these words `(B, S)`."""
        head = self.text_decoder.embed_tokens.weight[: self.config.num_text_tokens]
        return straight_through_projection(states, head, table[: head.size(0)])
