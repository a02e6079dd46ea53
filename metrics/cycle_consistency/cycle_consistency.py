# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""How far a cycle of image and caption comes back, for evaluate: `evaluate.load("metrics/cycle_consistency")`."""

import datasets
import evaluate

from itit_hf.pipelines.pipeline_output import word_f1

_DESCRIPTION = "How much of a text comes back from the caption of its image (T2I2T), by its words."
_INPUTS = """
Args:
    predictions (`list[str]`): The last captions.
    references (`list[list[str]]`): For each, the texts that the cycle may have started from; the nearest counts.

Returns:
    `dict[str, float]`: `cycle_same_words`, the share that came back word for word, and `cycle_word_f1`, the mean
    overlap in words; both in [0, 1].
"""
_CITATION = """@inproceedings{li2024leveraging,
  title={Leveraging Unpaired Data for Vision-Language Generative Models via Cycle Consistency},
  author={Li, Tianhong and others},
  booktitle={ICLR},
  year={2024}
}"""


class CycleConsistencyMetric(evaluate.Metric):
    """Over all that was added."""

    def _info(self):
        strings = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": strings, "references": datasets.List(strings)}),
        )

    def _compute(self, predictions, references):
        best = [
            max(word_f1(start, predicted) for start in starts)
            for predicted, starts in zip(predictions, references, strict=True)
        ]
        same = [
            any(start.lower().split() == predicted.lower().split() for start in starts)
            for predicted, starts in zip(predictions, references, strict=True)
        ]
        return {"cycle_same_words": sum(same) / len(same), "cycle_word_f1": sum(best) / len(best)}
