# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What is checked before a training begins."""

from collections.abc import Mapping

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
