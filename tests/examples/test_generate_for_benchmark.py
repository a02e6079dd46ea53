# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The layout that GenEval 2 reads: one JSON object, prompt to path."""

import json

import PIL.Image
import pytest

from ..testing_utils import script, tiny_pipeline

ROWS = [
    {"prompt": "a red bus", "atom_count": 2, "vqa_list": [["Is the bus red?", "Yes"]], "skills": ["attribute"]},
    {"prompt": "two fish", "atom_count": 2},
    {"prompt": "a red bus"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmark")
    tiny_pipeline().save_pretrained(path / "pipeline")
    (path / "prompts.jsonl").write_text("\n".join(map(json.dumps, ROWS)) + "\n")
    return path


def test_each_prompt_has_an_image_and_the_caption_that_the_model_gives_it(folder):
    pipeline = str(folder / "pipeline")
    script("generate_for_benchmark").main(
        [str(folder / "prompts.jsonl"), "--model", pipeline, "--output_dir", str(folder / "out"), "--batch_size", "1"]
    )
    paths = json.loads((folder / "out" / "image_paths.json").read_text())
    assert list(paths) == ["a red bus", "two fish"]
    assert all(PIL.Image.open(path).size == (16, 16) for path in paths.values())
    lines = [json.loads(line) for line in (folder / "out" / "captions.jsonl").read_text().splitlines()]
    assert [(line["prompt"], line["image"]) for line in lines] == list(paths.items())
    assert all(isinstance(line["caption"], str) for line in lines)


def test_a_line_without_a_prompt_is_named(tmp_path):
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a bus"}\n{"text": "a fish"}\n')
    with pytest.raises(ValueError, match="line 2: wanted a JSON object with a text `prompt`, got"):
        script("generate_for_benchmark").read_prompts(tmp_path / "prompts.jsonl")
