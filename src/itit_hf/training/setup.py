# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Before a training begins: what is checked, and what of the frozen modules becomes part of the weights."""

from collections.abc import Collection, Mapping

import torch

from ..models.modeling_itit import ITITForPreTraining
from .training_args import ITITTrainingArguments


def check_kinds(model, args, eval_dataset) -> None:
    """Refuse what transformers' `Trainer` takes and [`ITITTrainer`] cannot train.

    Args:
        model ([`ITITForPreTraining`]): Or a model of peft around one.
        args ([`ITITTrainingArguments`]): Settings.
        eval_dataset (`Dataset`, *optional*): Held-out pairs.

    Raises:
        TypeError: If one is of another kind; it says what to use.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # of peft
    if not isinstance(inner, ITITForPreTraining):
        raise TypeError(
            f"`model` must be an ITITForPreTraining, got {type(inner).__name__}, which has no objectives of ITIT; "
            "transformers' `Trainer` trains other models on the loss that they return"
        )
    if not isinstance(args, ITITTrainingArguments):
        raise TypeError(f"`args` must be ITITTrainingArguments, which name the objectives, got {type(args).__name__}")
    if isinstance(eval_dataset, Mapping):
        raise TypeError(
            f"`eval_dataset` must be one dataset of pairs, got datasets by name {sorted(eval_dataset)}; call "
            "`evaluate(dataset, metric_key_prefix=...)` for each"
        )


def check_streams(objectives: Collection[str], read: Collection[str], given: Collection[str]) -> None:
    """See that the streams are those that the objectives read.

    Args:
        objectives (`Collection[str]`): Their names.
        read (`Collection[str]`): Names of the streams that are read.
        given (`Collection[str]`): Names of the streams that there are.

    Raises:
        ValueError: If they differ.
    """
    if set(given) != set(read):
        raise ValueError(
            f"`objectives` {list(objectives)} read the streams {sorted(read)}, `train_streams` has {sorted(given)}"
        )


def check_sharding(args: ITITTrainingArguments, state) -> None:
    """Refuse what sharded weights cannot do, before it fails or waits forever in the middle of a run.

    Args:
        args ([`ITITTrainingArguments`]): Settings.
        state (`AcceleratorState`): With the plugin of FSDP.

    Raises:
        ValueError: It names the setting.
    """
    if args.gradient_norm_steps:
        raise ValueError(f"`gradient_norm_steps` must be 0 when FSDP shards, got {args.gradient_norm_steps}")
    plugin = state.fsdp_plugin
    required = {
        "fsdp_version": (plugin.fsdp_version, 2),
        # The text head reads the weight of the text embedding, which is gathered where that embedding is called;
        # and captions of different lengths need no agreement between the processes while nothing is freed.
        "fsdp_reshard_after_forward": (plugin.reshard_after_forward, False),
        "ema_decay": (args.ema_decay, 0.0),
    }
    for name, (given, wanted) in required.items():
        if given != wanted:
            raise ValueError(f"`{name}` must be {wanted} when FSDP shards the weights, got {given}")
    if args.optim == "adafactor":
        raise ValueError("`optim` must not be adafactor when FSDP shards the weights: try adamw_torch")


@torch.no_grad()
def set_null_text(model: ITITForPreTraining, processor, text_encoder: torch.nn.Module) -> None:
    """Copy the text encoder's features of the empty text into the model.

    Args:
        model ([`ITITForPreTraining`]): Changed in place.
        processor ([`ITITProcessor`]): With the tokenizer of the text encoder.
        text_encoder (`torch.nn.Module`): Frozen.
    """
    inputs = processor(text=[""], return_tensors="pt")
    device = next(text_encoder.parameters()).device
    inputs = {name: inputs[name].to(device) for name in ("input_ids", "attention_mask")}
    model.model.null_text_embeds.copy_(text_encoder(**inputs).last_hidden_state)


def set_codebook(model: ITITForPreTraining, processor, image_tokenizer: torch.nn.Module) -> None:
    """Copy the image tokenizer's code vectors into the model, if its latents are what is captioned.

    Args:
        model ([`ITITForPreTraining`]): Changed in place.
        processor ([`ITITProcessor`]): Whose `image_features` must be those of the model.
        image_tokenizer (`torch.nn.Module`): Frozen.

    Raises:
        ValueError: If processor and model have other image features.
    """
    features = model.config.image_features
    if features != processor.image_features:
        raise ValueError(
            f"`image_features` must be {features!r}, the model's, got a processor with {processor.image_features!r}"
        )
    if features == "latents":
        model.model.embed_image_latents.set_codebook(image_tokenizer.quantize.embedding.weight)
