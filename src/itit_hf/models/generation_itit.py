# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Captions through transformers' `generate`: the image is encoded once, and its prefix is read once, for all beams."""

import torch
from torch.nn import functional as F
from transformers.cache_utils import DynamicCache
from transformers.generation import GenerationMixin, LogitsProcessor, StoppingCriteria
from transformers.masking_utils import create_masks_for_generate
from transformers.utils import logging

from .cache_itit import PrefixCache
from .forward_inputs_itit import check_kwargs

logger = logging.get_logger(__name__)


class FiniteLogitsProcessor(LogitsProcessor):
    """Refuses logits that are not finite, of which the largest is NaN's place for `argmax` and `topk`.

    Args:
        num_text_tokens (`int`): Rows of the vocabulary that are text; those behind them have the lowest number.
    """

    def __init__(self, num_text_tokens: int):
        self.num_text_tokens = num_text_tokens

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """The scores of shape `(batch_size, vocab_size)` as they are."""
        if not scores[:, : self.num_text_tokens].isfinite().all():
            raise ValueError(
                "the model gave text logits that are not finite (NaN or infinite): its weights are broken"
            )
        return scores


class FullTextCriteria(StoppingCriteria):
    """Ends each row where its text has as many tokens as there are positions, whatever padding stands before it.

    Args:
        full_lengths (`torch.LongTensor` of shape `(batch_size,)`): Length of each row then, padding included.
    """

    def __init__(self, full_lengths: torch.LongTensor):
        self.full_lengths = full_lengths

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.BoolTensor:
        """Which rows of `input_ids`, of shape `(batch_size * num_copies, length)`, are full."""
        num_copies = input_ids.size(0) // self.full_lengths.size(0)
        return input_ids.size(1) >= self.full_lengths.to(input_ids.device).repeat_interleave(num_copies)


class ITITGenerationMixin(GenerationMixin):
    """What [`ITITForCaptioning`] changes in `generate`; `self.model` is the encoder."""

    def _validate_model_kwargs(self, model_kwargs):
        """Pixels may come along with what is seen of them, as the processor returns them; only text is generated."""
        generation_mode = model_kwargs.pop("generation_mode", None)
        if generation_mode not in (None, "text"):
            raise ValueError(
                f'`generation_mode` must be "text", got {generation_mode!r}: images need the text encoder and the '
                "image tokenizer, which are components of `ITITPipeline`: call `pipe(prompt)`"
            )
        names = ("image_token_ids", "image_latents", "encoder_hidden_states")
        has_image = any(model_kwargs.get(name) is not None for name in names)
        check_kwargs(type(self).__name__, {"pixel_values": model_kwargs.pop("pixel_values", None)}, has_image)
        super()._validate_model_kwargs(model_kwargs)

    def _validate_generation_mode(self, generation_mode, generation_config, generation_mode_kwargs):
        super()._validate_generation_mode(generation_mode, generation_config, generation_mode_kwargs)
        if generation_mode_kwargs.get("assistant_model") is not None:
            raise ValueError(
                "`assistant_model` must be None: an assistant would be given the image as this model encodes it; "
                "`prompt_lookup_num_tokens` needs none"
            )
        if generation_config.prefill_chunk_size is not None:
            raise ValueError(
                f"`prefill_chunk_size` must be None, got {generation_config.prefill_chunk_size}: the features of an "
                "image see each other, so the prompt is read at once"
            )

    def _prepare_model_inputs(self, inputs, bos_token_id, model_kwargs):
        """Encode the image once, before `generate` repeats its arguments for the beams, and write the prefix."""
        for name in ("pixel_values", "generation_mode"):  # checked, and of no use
            model_kwargs.pop(name, None)
        image = {name: model_kwargs.pop(name, None) for name in ("image_token_ids", "image_latents")}
        has_image = any(tensor is not None for tensor in image.values())
        features = model_kwargs.get("encoder_hidden_states")
        cache = model_kwargs.get("past_key_values")
        is_continued = cache is not None and cache.get_seq_length() > 0
        prefix_mask = None  # (B, P), where rows of features are filled up
        if features is None and has_image and not is_continued:
            encoded = self.encode(**image, image_mask=model_kwargs.pop("image_mask", None))
            features = model_kwargs["encoder_hidden_states"] = encoded.last_hidden_state
            prefix_mask = encoded.attention_mask
        if features is None and not is_continued:
            raise ValueError(
                "there is no image to caption: give `image_token_ids`, which a processor with an `image_tokenizer` "
                "makes of images, `image_latents` or `encoder_hidden_states`"
            )
        inputs = inputs if inputs is not None else model_kwargs.pop("input_ids", None)
        if features is not None and inputs is None:
            inputs = torch.empty(features.size(0), 0, dtype=torch.long, device=features.device)
        if inputs is not None and (features is not None or has_image):
            if prefix_mask is None:
                prefix_length = self.config.num_prefix_tokens if features is None else features.size(1)
                prefix_mask = inputs.new_ones(inputs.size(0), prefix_length)
            inputs, mask = self._write_prefix(prefix_mask, inputs, model_kwargs.get("attention_mask"))
            model_kwargs["attention_mask"] = mask
        return super()._prepare_model_inputs(inputs, bos_token_id, model_kwargs)

    def _write_prefix(self, prefix_mask, input_ids, attention_mask) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask, `(B, S)`, of placeholders, whose mask is `(B, P)`, of [BOS] and of the beginnings of captions,
        with all padding in front."""
        config = self.config
        if attention_mask is None:
            attention_mask = self._attended(input_ids)
        is_feature = input_ids == config.image_token_id
        if not bool(is_feature.any()):
            attention_mask = self._without_start(input_ids, attention_mask)
            self._check_beginnings(input_ids, attention_mask)
            prefix = input_ids.new_full((input_ids.size(0), prefix_mask.size(1) + 1), config.image_token_id)
            prefix[:, -1] = config.bos_token_id
            attention_mask = torch.cat([F.pad(prefix_mask.to(attention_mask), (0, 1), value=1), attention_mask], dim=1)
            input_ids = torch.cat([prefix, input_ids], dim=1)
            is_feature = input_ids == config.image_token_id
        # A row goes on at its end. A placeholder stays in front of its text also where it is not attended to.
        is_padding = (attention_mask == 0) & ~is_feature
        order = (~is_padding).long().argsort(dim=1, stable=True)[:, int(is_padding.sum(dim=1).min()) :]
        return input_ids.gather(1, order), attention_mask.gather(1, order)

    def _attended(self, input_ids: torch.Tensor) -> torch.Tensor:
        """The mask of ids, `(B, S)`, that came without one: padding is told by its id, as in transformers."""
        padding = self.generation_config.pad_token_id
        ends = self.generation_config.eos_token_id
        if padding is None or padding in (ends if isinstance(ends, list) else [ends]):
            return torch.ones_like(input_ids)
        return (input_ids != padding).long()

    def _without_start(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """The mask of beginnings, `(B, S)`, whose own [BOS], if they come with one, is not to stand there twice."""
        is_first = (attention_mask != 0) & (attention_mask.cumsum(dim=1) == 1)
        return attention_mask.masked_fill(is_first & (input_ids == self.config.bos_token_id), 0)

    def _check_beginnings(self, input_ids: torch.Tensor, attention_mask: torch.Tensor):
        """That beginnings of captions, `(B, S)`, are of words the model has."""
        unknown = input_ids[(input_ids >= self.config.num_text_tokens) & (attention_mask != 0)]
        if len(unknown):
            raise ValueError(
                f"`input_ids` must be text, of ids below `num_text_tokens` {self.config.num_text_tokens}, got "
                f"{unknown.unique().tolist()[:5]}: if tokens were added to the tokenizer, call "
                "`model.resize_token_embeddings(len(tokenizer))`"
            )

    def _get_logits_processor(self, *args, **kwargs):
        processors = super()._get_logits_processor(*args, **kwargs)
        processors.insert(0, FiniteLogitsProcessor(self.config.num_text_tokens))
        return processors

    def _get_stopping_criteria(self, generation_config, stopping_criteria, tokenizer=None):
        criteria = super()._get_stopping_criteria(generation_config, stopping_criteria, tokenizer)
        full_lengths = generation_config._full_lengths
        if full_lengths is not None:
            criteria.append(FullTextCriteria(full_lengths))
        return criteria

    def _prepare_attention_mask_for_generation(self, inputs_tensor, generation_config, model_kwargs):
        """The mask that was written with the prefix, where there is one."""
        mask = model_kwargs.get("attention_mask")
        if mask is not None:
            return mask
        return super()._prepare_attention_mask_for_generation(inputs_tensor, generation_config, model_kwargs)

    def _prepare_position_ids_for_generation(self, inputs_tensor, model_kwargs):
        """[BOS] is at `num_prefix_tokens`, whatever stands before it and however much of that is attended to."""
        mask = model_kwargs.get("attention_mask")
        if mask is None or mask.shape != inputs_tensor.shape:  # what is new behind a cache
            return super()._prepare_position_ids_for_generation(inputs_tensor, model_kwargs)
        is_text = (mask != 0) & (inputs_tensor != self.config.image_token_id)
        return (is_text.long().cumsum(dim=-1) - 1).clamp(min=0) + self.config.num_prefix_tokens

    def _update_model_kwargs_for_generation(
        self, outputs, model_kwargs, is_encoder_decoder: bool = False, num_new_tokens: int = 1
    ):
        """Rows that are full go on, unread, as long as others do: there are no positions for their words."""
        model_kwargs = super()._update_model_kwargs_for_generation(
            outputs, model_kwargs, is_encoder_decoder, num_new_tokens
        )
        if model_kwargs.get("position_ids") is not None:
            last = self.config.num_prefix_tokens + self.config.max_text_length
            model_kwargs["position_ids"] = model_kwargs["position_ids"].clamp(max=last)
        return model_kwargs

    def _prepare_generated_length(self, generation_config, **kwargs):
        """No longer than the positions there are: what is given of a caption leaves room for the rest only."""
        generation_config = super()._prepare_generated_length(generation_config=generation_config, **kwargs)
        input_ids = kwargs["inputs_tensor"]
        longest = self.config.max_text_length
        generation_config._full_lengths = None
        is_feature = input_ids == self.config.image_token_id
        if not bool(is_feature.any()):  # what is new behind a cache
            return generation_config
        places = torch.arange(input_ids.size(1), device=input_ids.device)
        start = torch.where(is_feature, places, -1).amax(dim=1) + 1  # of each row's [BOS]
        full_lengths = start + 1 + longest
        shortest = int(full_lengths.min())
        last = int(full_lengths.max())
        if shortest < last:
            generation_config._full_lengths = full_lengths
        if (generation_config.max_new_tokens or 0) > longest:
            logger.warning_once(
                f"`max_new_tokens` {generation_config.max_new_tokens} is more than the `max_text_length` {longest} of "
                "the model: captions end there"
            )
        generation_config.max_length = min(generation_config.max_length, last)
        return generation_config

    def _prefill(self, input_ids, generation_config, model_kwargs, is_first_iteration=True):
        """Read the prompt once for each image: all its beams, or samples, start alike.

        A cache of another kind, such as a static one, is filled in transformers' own way, once for each beam.
        """
        num_copies = max(generation_config.num_beams, generation_config.num_return_sequences)
        cache = model_kwargs.get("past_key_values")
        if num_copies == 1 or type(cache) is not DynamicCache or cache.offloading or cache.get_seq_length():
            return super()._prefill(input_ids, generation_config, model_kwargs, is_first_iteration)
        once = dict(model_kwargs)
        for name, value in model_kwargs.items():
            if isinstance(value, torch.Tensor) and value.ndim:
                once[name] = value[::num_copies]
        outputs = super()._prefill(input_ids[::num_copies], generation_config, once, is_first_iteration)
        outputs.logits = outputs.logits.repeat_interleave(num_copies, dim=0)  # (B * num_copies, 1, vocab_size)
        for name in ("hidden_states", "attentions"):
            if outputs.get(name) is not None:
                outputs[name] = tuple(
                    rows if rows is None else rows.repeat_interleave(num_copies, dim=0) for rows in outputs[name]
                )
        outputs.past_key_values = PrefixCache(outputs.past_key_values, num_copies)
        return outputs

    @staticmethod
    def create_masks_for_generate(attention_mask, is_first_iteration, **kwargs):
        """Masks of a static cache: the text decoder makes the first one, as it knows which places are the image."""
        if is_first_iteration:
            return attention_mask
        return create_masks_for_generate(attention_mask=attention_mask, **kwargs)

    def prepare_inputs_for_generation(self, input_ids, encoder_hidden_states=None, is_first_iteration=False, **kwargs):
        """Hand the image over once: afterwards its keys and values are in the cache."""
        kwargs.pop("tokenizer", None)  # `generate` passes on what it finds the `stop_strings` by
        inputs = super().prepare_inputs_for_generation(input_ids, is_first_iteration=is_first_iteration, **kwargs)
        if is_first_iteration or not kwargs.get("use_cache", True):
            inputs["encoder_hidden_states"] = encoder_hidden_states
        return inputs
