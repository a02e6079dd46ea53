# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import torch

from itit_hf.models.modeling_outputs_itit import ITITForPreTrainingOutput


def test_text_logits_are_the_logits_of_transformers():
    output = ITITForPreTrainingOutput(logits=torch.ones(1, 2, 3))
    assert output.text_logits is output.logits and output.image_logits is None
