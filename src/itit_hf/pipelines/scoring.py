# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""How likely a text is, given an image: by the captioner. Takes the model as an argument."""

import torch

from ..objectives.forward import caption_inputs
from .pipeline_output import ITITScoreOutput


def caption_log_likelihoods(
    model, image_token_ids: torch.Tensor, text: dict[str, torch.Tensor], image_latents: torch.Tensor | None = None
) -> ITITScoreOutput:
    r"""$\sum_l \log p(t_l | I, t_0 ... t_{l-1})$ of whole images: equation (1) with nothing masked, without label
    smoothing, and for each sample on its own.

    An image is encoded once, however many texts it is held against. Padding does not count, and since the text is
    causal it does not matter to what counts.

    Args:
        model: Called like [`ITITForCaptioning`]; `model.config` names its special ids.
        image_token_ids (`torch.LongTensor` of shape `(batch_size, num_image_tokens)` or `(1, num_image_tokens)`):
            One image for each text, or one for all.
        text (`dict`): `input_ids` and `attention_mask` of shape `(batch_size, text_length)`: `t_1 ... t_L`.
        image_latents (`torch.FloatTensor` of shape `(num_images, num_image_tokens, image_latent_size)`, *optional*):
            The images' latents, if the model captions latents.

    Returns:
        [`ITITScoreOutput`], with gradients unless they are switched off.
    """
    config = model.config
    num_images = len(image_token_ids)
    num_texts = len(text["input_ids"])
    start = config.num_prefix_tokens + 1  # image features, [BOS]
    decoder_input_ids, labels = caption_inputs(config, text, config.num_prefix_tokens)  # (B, P + L), (B, L)
    # What comes before the text does not see it, so its keys and values serve each text.
    output = model(
        input_ids=decoder_input_ids[:num_images, :start],
        image_token_ids=image_token_ids,
        image_latents=image_latents,
        use_cache=True,
        logits_to_keep=1,
    )
    logits = output.logits  # (num_images, 1, vocab_size)
    past_key_values = output.past_key_values
    if num_images < num_texts:
        logits = logits.expand(num_texts, -1, -1)
        past_key_values.batch_repeat_interleave(num_texts)
    if labels.size(1) > 1:
        rest = model(input_ids=decoder_input_ids[:, start:], past_key_values=past_key_values, use_cache=True)
        logits = torch.cat([logits, rest.logits], dim=1)  # (B, L, vocab_size)
    logits = logits[..., : config.num_text_tokens].float()
    counted = labels != -100
    log_probs = logits.gather(-1, labels.clamp(min=0)[..., None])[..., 0] - logits.logsumexp(dim=-1)  # (B, L)
    total = log_probs.masked_fill(~counted, 0.0).sum(dim=-1)
    return ITITScoreOutput(total, total / counted.sum(dim=-1))
