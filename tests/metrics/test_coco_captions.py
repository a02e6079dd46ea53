# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Scores of captions and images: values one can work out by hand, and those of the libraries that papers use."""

import importlib.util
import shutil

import pytest

from itit_hf.metrics import coco_captions


def test_without_java_the_coco_scores_say_what_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ImportError, match="install Java"):
        coco_captions.coco_caption_scores(["a"], [["a"]])
