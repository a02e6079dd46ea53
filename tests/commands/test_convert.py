# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import logging

import pytest

from itit_hf.commands import convert
from itit_hf.data.direct_rows import LanceRows

from ..testing_utils import tiny_pairs


def test_a_dataset_becomes_lance_and_its_rows_are_counted(tmp_path, caplog):
    pytest.importorskip("lance", reason="pip install 'itit-hf[lance]' (217 MB) to test it")
    (tmp_path / "pairs").mkdir()
    tiny_pairs(5).to_parquet(tmp_path / "pairs" / "train.parquet")
    output = str(tmp_path / "pairs.lance")
    with caplog.at_level(logging.INFO):
        convert.main([str(tmp_path / "pairs"), "--output", output, "--rows_per_commit", "2"])
    assert len(LanceRows(output, {}, "pairs")) == 5 and "5 rows read, 0 left out" in caplog.text


def test_a_column_that_is_named_wrongly_is_refused(tmp_path):
    with pytest.raises(ValueError, match="--columns.*got"):
        convert.main([str(tmp_path), "--output", str(tmp_path / "out.lance"), "--columns", "picture"])
