# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Features of images by any vision model or dual encoder of transformers, for distances of sets of images."""

import os
from collections.abc import Sequence

import PIL.Image
import torch
from transformers import AutoConfig, AutoImageProcessor, AutoModel

# What a vision model may call its answer for a whole image, the best first; without any of them, the first token of
# its last hidden states is taken, as it is the class token of those that have no pooler.
POOLED = ("image_embeds", "pooler_output")


class VisionFeatures:
    """Images to features, of shape `(batch_size, num_features)`.

    A dual encoder gives its image embeddings, of length 1, as CMMD takes them. Any other vision model gives its pooled
    output, flattened, which of DINOv2 is the class token behind the last norm, as FD-DINOv2 takes it; or its class
    token.

    Args:
        model (`PreTrainedModel`): A vision model, or a dual encoder with `get_image_features`.
        image_processor: Its image processor.

    Example:
        `VisionFeatures.from_pretrained("facebook/dinov2-large")(images)` has shape `(len(images), 1024)`.
    """

    def __init__(self, model: torch.nn.Module, image_processor):
        self.model = model.eval()
        self.image_processor = image_processor
        self.is_dual_encoder = hasattr(model, "get_image_features")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike) -> "VisionFeatures":
        """Open a folder or a repository of the Hub: safetensors only, and no code from there.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): Folder or Hub id, with its image processor.

        Returns:
            [`VisionFeatures`].

        Raises:
            ValueError: If the model takes no images.
            OSError: If there is no such folder or repository, or a file is missing.
        """
        config = AutoConfig.from_pretrained(pretrained_model_name_or_path, trust_remote_code=False)
        model = AutoModel.from_pretrained(
            pretrained_model_name_or_path, config=config, use_safetensors=True, trust_remote_code=False
        )
        if not hasattr(model, "get_image_features") and model.main_input_name != "pixel_values":
            raise ValueError(
                f"`{pretrained_model_name_or_path}` must be a vision model or a dual encoder, got a "
                f"{type(model).__name__}, which takes `{model.main_input_name}`"
            )
        processor = AutoImageProcessor.from_pretrained(pretrained_model_name_or_path, trust_remote_code=False)
        return cls(model, processor)

    @property
    def description(self) -> str:
        """What the features are, in words."""
        kind = "image embeddings of length 1" if self.is_dual_encoder else "pooled features"
        return f"{kind} of {type(self.model).__name__}"

    @torch.no_grad()
    def __call__(self, images: Sequence[PIL.Image.Image]) -> torch.Tensor:
        """The features of images.

        Args:
            images (`Sequence[PIL.Image.Image]`): RGB, of any size: the model's image processor scales them.

        Returns:
            `torch.FloatTensor` of shape `(len(images), num_features)`, on the CPU.
        """
        inputs = self.image_processor(list(images), return_tensors="pt").to(self.model.device)
        pixel_values = inputs["pixel_values"].to(self.model.dtype)
        if self.is_dual_encoder:
            embeds = self.model.get_image_features(pixel_values=pixel_values).pooler_output
            return torch.nn.functional.normalize(embeds.float(), dim=-1).cpu()
        return self._pooled(self.model(pixel_values=pixel_values)).float().cpu()

    @staticmethod
    def _pooled(output) -> torch.Tensor:
        for name in POOLED:
            if output.get(name) is not None:
                return output[name].flatten(1)  # (B, C), where a convolutional network has (B, C, 1, 1)
        return output.last_hidden_state[:, 0]
