# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What images of emoji scenes show of what was asked for: `evaluate.load("metrics/prompt_accuracy")`."""

import datasets
import evaluate

from itit_hf.emoji_scenes.evaluation import prompt_accuracy
from itit_hf.emoji_scenes.judges import open_judge

_DESCRIPTION = "Shares of images of emoji scenes that show what was asked for, as a trained classifier reads them."
_INPUTS = """
Args:
    images (`list[PIL.Image.Image]`): What was generated.
    prompts (`list[str]`): What was asked for, in sentences of the grammar.
    classifier (`str`, *optional*): Folder of the classifier.

Returns:
    `dict[str, float]`: `prompt_category`, `prompt_colour`, `prompt_both`, `prompt_true` and `prompt_number`, in
    [0, 1].
"""


class PromptAccuracyMetric(evaluate.Metric):
    """Over all that was added."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"images": datasets.Image(), "prompts": datasets.Value("string")}),
        )

    def _compute(self, images, prompts, classifier="checkpoints/emoji-scenes-classifier"):
        shares = prompt_accuracy(images, prompts, open_judge(classifier))
        return {f"prompt_{name}": share for name, share in shares.items()}
