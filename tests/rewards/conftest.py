# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from ..testing_utils import tiny_dual_encoder, tiny_pairs

# Dual encoders.


@pytest.fixture(scope="module")
def scorer():
    torch.manual_seed(0)
    return tiny_dual_encoder()


@pytest.fixture(scope="module")
def images():
    return tiny_pairs(4)["image"][:]
