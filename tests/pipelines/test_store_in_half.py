# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

import store_in_half
from itit_hf import ITITPipeline

from ..testing_utils import tiny_pipeline


def test_a_model_stored_in_half_is_opened_in_float32_with_rounded_weights(tmp_path):
    pipe = tiny_pipeline()
    pipe.save_pretrained(tmp_path / "whole")
    store_in_half.main(["--model", str(tmp_path / "whole"), "--output_dir", str(tmp_path / "half")])
    whole, half = (
        next((tmp_path / name / "model").glob("*.safetensors")).stat().st_size for name in ("whole", "half")
    )
    assert half < 0.6 * whole
    opened = ITITPipeline.from_pretrained(tmp_path / "half")
    for name, weight in pipe.model.state_dict().items():
        found = opened.model.state_dict()[name]
        assert found.dtype == torch.float32 and torch.equal(found, weight.half().float())
    with pytest.raises(ValueError, match="must be a new folder"):
        store_in_half.main(["--model", str(tmp_path / "whole"), "--output_dir", str(tmp_path / "half")])


def test_a_weight_that_half_precision_cannot_hold_is_named():
    layer = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(layer.bias, 1e6)
    with pytest.raises(ValueError, match="bias has others"):
        store_in_half.rounded(layer)
