# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The network, its processors and its cache: what travels to the Hub. Imports nothing of ours outside itself.

Whoever imports a module of this folder, or a public name that needs one, makes transformers' auto classes know them.
A file that travels does so without this one, and names its auto class in the folder's `auto_map`.
"""

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoModelForPreTraining,
    AutoProcessor,
)

from .configuration_itit import ITITConfig
from .image_processing_itit import ITITImageProcessorPil
from .modeling_itit import ITITForCaptioning, ITITForPreTraining, ITITModel
from .processing_itit import ITITProcessor

AutoConfig.register("itit", ITITConfig)
AutoModel.register(ITITConfig, ITITModel)
AutoModelForImageTextToText.register(ITITConfig, ITITForCaptioning)
AutoModelForMultimodalLM.register(ITITConfig, ITITForCaptioning)
AutoModelForPreTraining.register(ITITConfig, ITITForPreTraining)
AutoProcessor.register(ITITConfig, ITITProcessor)
AutoImageProcessor.register(ITITConfig, image_processor_classes={"pil": ITITImageProcessorPil})
