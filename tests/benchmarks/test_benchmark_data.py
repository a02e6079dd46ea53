# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""utils/benchmarks/benchmark_data.py measures every kind of source."""

import importlib.util

import pytest

import benchmark_data

HAS_LANCE = importlib.util.find_spec("lance") is not None


@pytest.mark.parametrize("kind", benchmark_data.KINDS)
def test_a_kind_is_written_and_measured(kind, tmp_path, capsys):
    if kind == "lance" and not HAS_LANCE:
        pytest.skip("pip install 'itit-hf[lance]' (217 MB) to test it")
    options = ["--rows", "130", "--timed_rows", "20", "--order_rows", "1000", "--folder", str(tmp_path)]
    benchmark_data.main([*options, "--kinds", kind, "--ranks", "2", "--workers", "0"])
    printed = capsys.readouterr().out
    if kind == "order":
        assert "order randperm, 1e+03 rows" in printed and "order keyed, 1e+12 rows" in printed
    else:
        assert f"{kind}, blocks 4: opened in" in printed
        assert f"{kind}: 128 rows by 2 ranks of 0 workers" in printed and "each once: True" in printed
