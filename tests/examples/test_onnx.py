# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The scripts that export to ONNX and run what they wrote; tests/export/ has what is written."""

import logging

from ..testing_utils import script, tiny_pipeline


def test_export_onnx_says_how_large_each_graph_is(tmp_path, monkeypatch, caplog):
    tiny_pipeline().save_pretrained(tmp_path / "pipeline")
    module = script("export_onnx")
    calls = []

    def export(pipe, folder, precision):
        calls.append((type(pipe).__name__, precision))
        (tmp_path / "encoder.onnx").write_bytes(b"0" * 2**20)
        return tmp_path

    monkeypatch.setattr(module, "export_onnx", export)
    with caplog.at_level(logging.INFO):
        module.main(["--model", str(tmp_path / "pipeline"), "--output_dir", str(tmp_path), "--precision", "int8"])
    assert calls == [("ITITPipeline", "int8")]
    assert "encoder.onnx: 1.0 MiB" in caplog.text
