# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""ITIT (https://huggingface.co/papers/2310.03734): draw from text and describe pictures with one model.

Public names are imported when they are first used: a captioner does not pay for the trainer.
"""

import importlib

from .auto_classes import register_auto_classes

__version__ = "0.1.0.dev0"

_import_structure = {
    "configuration_itit": ["ITITConfig"],
    "masking": ["MaskRatio", "kept_positions", "keyed_generators", "masked_positions", "random_mask"],
    "losses": ["caption_loss", "masked_image_loss"],
    "scheduling_itit": ["ITITScheduler"],
    "sampling": ["TextCondition", "classifier_free_guidance", "decode_image_tokens"],
    "image_processing_itit": ["ITITImageProcessorPil", "ImageLimits", "load_image"],
    "image_tokenization_itit": ["PatchVQModel", "decode_image_token_ids", "encode_images"],
    "modeling_itit": ["ITITForCaptioning", "ITITForImageGeneration", "ITITForPreTraining", "ITITModel"],
    "processing_itit": ["ITITProcessor"],
    "scorers": ["DualEncoderScorer"],
    "likelihood": ["ITITScoreOutput", "caption_log_likelihoods"],
    "cycle_generation": ["ITITCycleDrift", "ITITCycleOutput", "cycle_drift", "word_f1"],
    "pipeline_itit": ["ITITPipeline", "ITITPipelineOutput"],
    "straight_through": ["straight_through_embedding"],
    "cycle": ["TextCycleSettings", "i2t2i_loss", "t2i2t_loss"],
    "objectives": ["ITITObjectives", "ObjectiveSettings"],
    "training_args": ["ITITTrainingArguments"],
    "trainer": ["ITITTrainer"],
    "rewards": ["CiderD", "ClipAgg", "ClipCos", "ClipImageReward", "Naturalness"],
    "reward_trainer": ["ITITRewardConfig", "ITITRewardTrainer"],
}

_module_of = {name: module for module, names in _import_structure.items() for name in names}
__all__ = ["__version__", *_module_of]


def __getattr__(name: str):
    if name not in _module_of:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_module_of[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)


register_auto_classes()
