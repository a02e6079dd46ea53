# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Scores of captions and images: values one can work out by hand, and those of the libraries that papers use."""

import importlib.util
import re
import shutil

import pytest

from itit_hf.metrics import coco_captions


def test_without_java_the_coco_scores_say_what_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ImportError, match="install Java"):
        coco_captions.coco_caption_scores(["a"], [["a"]])


class LineTokenizer:
    """As that of pycocoevalcap: one line per caption, whose it is by counting; lines end as in Java."""

    extra: tuple = ()

    def tokenize(self, captions):
        ids = [i for i, own in captions.items() for _ in own]
        text = "\n".join(each["caption"].replace("\n", " ") for own in captions.values() for each in own)
        lines = [line.lower() for line in re.split("\r\n|[\n\r\v\f\x85\u2028\u2029]", text)]
        made = {}
        for i, line in zip(ids, [*self.extra, *lines], strict=False):
            made.setdefault(i, []).append(line)
        return made


@pytest.mark.parametrize("separator", ["\r", "\r\n", "\v", "\f", "\x85", "\u2028", "\u2029", "\n\n"])
def test_a_caption_never_becomes_two_lines(separator):
    captions = [["a red bus"], [f"a blue{separator}cat", "a CAT"], ["a fish"]]
    made = coco_captions._tokenized(LineTokenizer(), captions)
    assert made == {0: ["a red bus"], 1: ["a blue cat", "a cat"], 2: ["a fish"]}


def test_captions_that_come_back_in_other_places_are_refused():
    tokenizer = LineTokenizer()
    tokenizer.extra = ("one too many",)
    with pytest.raises(ValueError, match="another number of lines than the 2 captions"):
        coco_captions._tokenized(tokenizer, [["a bus"], ["a fish"]])
