# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import os

import pytest

from itit_hf.models.weight_files_itit import weight_files, weights_replaced

WHOLE = ["model.safetensors"]
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
HALF = [
    "diffusion_pytorch_model.half-00001-of-00001.safetensors",
    "diffusion_pytorch_model.half.safetensors",
    "diffusion_pytorch_model.safetensors.index.half.json",
]
OTHERS = ["config.json", "README.md", "adapter_model.safetensors", "pytorch_model.bin", "model.safetensors.txt"]


def write(folder, names, content="old"):
    for name in names:
        (folder / name).write_text(content)


def test_weights_are_those_of_one_variant(tmp_path):
    write(tmp_path, WHOLE + SHARDS + HALF + OTHERS)
    assert weight_files(tmp_path) == sorted(WHOLE + SHARDS)
    assert weight_files(tmp_path, "half") == HALF and weight_files(tmp_path, "hal.") == []
    assert weight_files(tmp_path / "missing") == []


@pytest.mark.parametrize(("old", "new"), [(WHOLE, SHARDS), (SHARDS, WHOLE), (SHARDS, SHARDS[:1])])
def test_old_weights_go_and_all_else_stays(tmp_path, old, new):
    write(tmp_path, old + HALF + OTHERS)
    with weights_replaced(tmp_path):
        assert weight_files(tmp_path) == []
        write(tmp_path, new, "new")
    assert sorted(os.listdir(tmp_path)) == sorted(new + HALF + OTHERS)
    assert {(tmp_path / name).read_text() for name in new} == {"new"}


def test_old_weights_come_back_if_the_new_ones_fail_half_way(tmp_path):
    write(tmp_path, WHOLE)
    with pytest.raises(OSError, match="full"), weights_replaced(tmp_path):
        write(tmp_path, SHARDS[:1], "new")
        raise OSError("full")
    assert os.listdir(tmp_path) == WHOLE and (tmp_path / WHOLE[0]).read_text() == "old"


def test_old_weights_come_back_if_none_were_written(tmp_path):
    write(tmp_path, SHARDS)
    with weights_replaced(tmp_path):
        pass
    assert sorted(os.listdir(tmp_path)) == SHARDS


def test_a_folder_that_is_not_there_yet_is_no_matter(tmp_path):
    with weights_replaced(tmp_path / "new"):
        (tmp_path / "new").mkdir()
        write(tmp_path / "new", WHOLE)
    assert os.listdir(tmp_path / "new") == WHOLE
