# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What pictures of emoji scenes show of what was asked for: `evaluate.load("metrics/prompt_accuracy")`."""

import datasets
import evaluate

from itit_hf.emoji_scenes.evaluation import prompt_accuracy
from itit_hf.emoji_scenes.recogniser import SceneRecogniser

_DESCRIPTION = "Shares of pictures of emoji scenes that show what was asked for, as a trained recogniser reads them."
_INPUTS = """
Args:
    pictures (`list[PIL.Image.Image]`): What was drawn.
    prompts (`list[str]`): What was asked for, in sentences of the grammar.
    recogniser (`str`, *optional*): Folder of the recogniser.

Returns:
    `dict[str, float]`: `prompt_kind`, `prompt_colour`, `prompt_both`, `prompt_true` and `prompt_number`, in [0, 1].
"""


class PromptAccuracyMetric(evaluate.Metric):
    """Over all that was added."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"pictures": datasets.Image(), "prompts": datasets.Value("string")}),
        )

    def _compute(self, pictures, prompts, recogniser="checkpoints/emoji-scenes-recogniser"):
        shares = prompt_accuracy(pictures, prompts, SceneRecogniser.from_pretrained(recogniser).eval())
        return {f"prompt_{name}": share for name, share in shares.items()}
