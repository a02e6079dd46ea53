# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""ITIT (https://huggingface.co/papers/2310.03734): draw from text and describe images with one model.

Public names are imported when they are first used: a captioner does not pay for the trainer.
"""

import importlib

__version__ = "0.1.0"

_import_structure = {
    "models.configuration_itit": ["ITITConfig"],
    "models.types_itit": ["ImageMask", "SoftTokens", "TextCondition"],
    "masking": ["MaskRatio", "drop_masked", "masked_positions", "random_mask"],
    "rng": ["keyed_generators"],
    "objectives.losses": ["caption_loss", "masked_image_loss"],
    "decoding.scheduling_itit": ["ITITScheduler"],
    "decoding.sampling": ["SamplingSettings", "classifier_free_guidance", "decode_image_tokens"],
    "models.image_processing_itit": ["ITITImageProcessorPil"],
    "models.image_loading_itit": ["ImageLimits", "load_image"],
    "models.image_tokenization_itit": ["PatchVQModel", "decode_image_token_ids", "encode_images"],
    "models.modeling_itit": ["ITITForCaptioning", "ITITForImageGeneration", "ITITForPreTraining", "ITITModel"],
    "models.processing_itit": ["ITITProcessor"],
    "rewards.dual_encoder": ["DualEncoderScorer"],
    "pipelines.pipeline_output": [
        "ITITCycleDrift",
        "ITITCycleOutput",
        "ITITPipelineOutput",
        "ITITScoreOutput",
        "cycle_drift",
        "word_f1",
    ],
    "pipelines.scoring": ["caption_log_likelihoods"],
    "pipelines.pipeline_itit": ["ITITPipeline"],
    "models.straight_through_itit": ["straight_through_embedding"],
    "objectives.cycle": ["TextCycleSettings", "i2t2i_loss", "t2i2t_loss"],
    "objectives.objectives": ["ITITObjectives", "ObjectiveSettings"],
    "training.training_args": ["ITITTrainingArguments"],
    "training.trainer": ["ITITTrainer"],
    "rewards.captions": ["CiderD", "ClipAgg", "ClipCos", "DiscriminatorReward"],
    "rewards.images": ["ClipImageReward"],
    "training.reward_trainer": ["ITITRewardConfig", "ITITRewardTrainer"],
}

_module_of = {name: module for module, names in _import_structure.items() for name in names}
__all__ = ["__version__", *_module_of]


def __getattr__(name: str):
    if name not in _module_of:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_module_of[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
