# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from itit_hf import ITITForPreTraining

from ..testing_utils import tiny_config


@pytest.fixture
def model():
    """Random weights and a random null text, without dropout."""
    torch.manual_seed(0)
    model = ITITForPreTraining(tiny_config()).eval()
    model.model.null_text_embeds.normal_()
    return model
