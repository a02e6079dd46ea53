# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The files of examples/accelerate_configs are read by accelerate as they are meant."""

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from itit_hf.models.modeling_itit import ITITPreTrainedModel

FOLDER = Path(__file__).parents[2] / "examples" / "accelerate_configs"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_configuration_is_read_and_its_head_names_it(path):
    config = load_config_from_file(str(path))
    assert config.distributed_type in ("MULTI_GPU", "FSDP") and config.num_processes >= 2
    head = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert any(f"accelerate_configs/{path.name}" in line for line in head)


def test_fsdp_wraps_the_layers_that_the_model_has():
    config = load_config_from_file(str(FOLDER / "fsdp2.yaml"))
    assert config.fsdp_config["fsdp_transformer_layer_cls_to_wrap"] in ITITPreTrainedModel._no_split_modules
    assert config.fsdp_config["fsdp_version"] == 2 and config.fsdp_config["fsdp_reshard_after_forward"] is False
