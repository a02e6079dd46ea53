# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Captions through transformers' `generate`: the image is encoded once, and its prefix is read once, for all beams."""

import torch
from transformers.cache_utils import DynamicCache
from transformers.generation import GenerationMixin, LogitsProcessor
from transformers.masking_utils import create_masks_for_generate

from .shared_prefix import SharedPrefixCache


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


class ITITGenerationMixin(GenerationMixin):
    """What [`ITITForCaptioning`] changes in `generate`; `self.model` is the encoder."""

    def _prepare_model_inputs(self, inputs, bos_token_id, model_kwargs):
        """Encode the image once, before `generate` repeats its arguments for the beams, and write the prefix."""
        image = {name: model_kwargs.pop(name, None) for name in ("image_token_ids", "image_latents")}
        if any(tensor is not None for tensor in image.values()):
            embeds = self.model.embed_described(**image)
            encoded = self.model(None, model_kwargs.pop("bool_masked_pos", None), image_token_embeds=embeds)
            model_kwargs["encoder_hidden_states"] = encoded.last_hidden_state
            inputs = inputs if inputs is not None else model_kwargs.pop("input_ids", None)
            inputs, attention_mask = self._write_prefix(
                encoded.last_hidden_state, inputs, model_kwargs.get("attention_mask")
            )
            model_kwargs["attention_mask"] = attention_mask
        return super()._prepare_model_inputs(inputs, bos_token_id, model_kwargs)

    def _get_logits_processor(self, *args, **kwargs):
        processors = super()._get_logits_processor(*args, **kwargs)
        processors.insert(0, FiniteLogitsProcessor(self.config.num_text_tokens))
        return processors

    def _write_prefix(self, features, input_ids, attention_mask) -> tuple[torch.Tensor, torch.Tensor]:
        batch_size, prefix_length = features.shape[:2]
        if input_ids is not None and attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if input_ids is not None and bool((input_ids == self.config.image_token_id).any()):
            return input_ids, attention_mask
        prefix = torch.full((batch_size, prefix_length + 1), self.config.image_token_id, device=features.device)
        prefix[:, -1] = self.config.bos_token_id
        prefix_mask = torch.ones_like(prefix)
        if input_ids is None:
            return prefix, prefix_mask
        order = attention_mask.argsort(dim=1, stable=True)  # padding first: the text goes on at its end
        text, mask = input_ids.gather(1, order), attention_mask.gather(1, order)
        return torch.cat([prefix, text], dim=1), torch.cat([prefix_mask, mask], dim=1)

    def _prepare_generated_length(self, generation_config, **kwargs):
        """No longer than the positions there are: what is given of a caption leaves room for the rest only."""
        generation_config = super()._prepare_generated_length(generation_config=generation_config, **kwargs)
        if (generation_config.max_new_tokens or 0) <= self.config.max_text_length:
            longest = self.config.num_prefix_tokens + 1 + self.config.max_text_length
            generation_config.max_length = min(generation_config.max_length, longest)
        return generation_config

    def _prefill(self, input_ids, generation_config, model_kwargs, is_first_iteration=True):
        """Read the prompt once for each image: all its beams, or samples, start alike.

        A cache of another kind, such as a static one, is filled in transformers' own way, once for each beam.
        """
        num_copies = max(generation_config.num_beams, generation_config.num_return_sequences)
        cache = model_kwargs.get("past_key_values")
        if num_copies == 1 or type(cache) is not DynamicCache or cache.offloading or cache.get_seq_length():
            return super()._prefill(input_ids, generation_config, model_kwargs, is_first_iteration)
        once = {
            name: value[::num_copies] if isinstance(value, torch.Tensor) and value.ndim else value
            for name, value in model_kwargs.items()
        }
        outputs = super()._prefill(input_ids[::num_copies], generation_config, once, is_first_iteration)
        outputs.logits = outputs.logits.repeat_interleave(num_copies, dim=0)  # (B * num_copies, 1, vocab_size)
        outputs.past_key_values = SharedPrefixCache(outputs.past_key_values, num_copies)
        return outputs

    @staticmethod
    def create_masks_for_generate(attention_mask, is_first_iteration, **kwargs):
        """Masks of a static cache: the text decoder makes the first one, as it knows which places are the image."""
        if is_first_iteration:
            return attention_mask
        return create_masks_for_generate(attention_mask=attention_mask, **kwargs)

    def prepare_inputs_for_generation(self, input_ids, encoder_hidden_states=None, is_first_iteration=False, **kwargs):
        """Hand the image over once: afterwards its keys and values are in the cache."""
        inputs = super().prepare_inputs_for_generation(input_ids, is_first_iteration=is_first_iteration, **kwargs)
        if is_first_iteration or not kwargs.get("use_cache", True):
            inputs["encoder_hidden_states"] = encoder_hidden_states
        return inputs
