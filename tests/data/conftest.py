# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from ..testing_utils import tiny_pipeline


@pytest.fixture
def processor():
    return tiny_pipeline().processor
