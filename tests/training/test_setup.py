# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from itit_hf import ITITTrainingArguments
from itit_hf.training.setup import check_kinds

from ..testing_utils import tiny_pipeline


def test_a_model_inside_peft_is_the_one_that_is_asked_for(tmp_path):
    args = ITITTrainingArguments(str(tmp_path), use_cpu=True)
    wrapper = torch.nn.Module()
    wrapper.get_base_model = tiny_pipeline().model.train
    check_kinds(wrapper, args, None)
    wrapper.get_base_model = torch.nn.Linear(1, 1).train
    with pytest.raises(TypeError, match="got Linear"):
        check_kinds(wrapper, args, None)
