# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""CIDEr-D as a module of evaluate: `evaluate.load("metrics/cider_d")`."""

import datasets
import evaluate

from itit_hf.metrics.captions import CiderD, tokenize_caption

_DESCRIPTION = "Consensus of captions with those of people, weighed by how rare their words are in the references."
_INPUTS = """
Args:
    predictions (`list[str]`): Captions.
    references (`list[list[str]]`): For each, the captions of its image; all of them tell how rare words are.

Returns:
    `dict[str, float]`: `cider_d`, times 100.
"""
_CITATION = """@inproceedings{vedantam2015cider,
  title={{CIDEr}: Consensus-based image description evaluation},
  author={Vedantam, Ramakrishna and Zitnick, C. Lawrence and Parikh, Devi},
  booktitle={CVPR},
  year={2015}
}"""


class CiderDMetric(evaluate.Metric):
    """CIDEr-D over all that was added."""

    def _info(self):
        strings = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": strings, "references": datasets.List(strings)}),
        )

    def _compute(self, predictions, references):
        predicted = [tokenize_caption(text) for text in predictions]
        true = [[tokenize_caption(text) for text in texts] for texts in references]
        scores = CiderD(true).scores(predicted, true)
        return {"cider_d": sum(scores) / len(scores)}
