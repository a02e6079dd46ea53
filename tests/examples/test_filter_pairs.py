# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The filter script, in process, with tiny models."""

import pytest
import torch

from itit_hf.data.loading import load_rows
from itit_hf.data.streams import Stream

from ..testing_utils import script, tiny_dual_encoder, tiny_pairs, tiny_pipeline


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Pairs, test pairs, a dual encoder, a pipeline."""
    folder = tmp_path_factory.mktemp("filter")
    for name, rows in (("pairs", tiny_pairs(12)), ("test", tiny_pairs(12).select([3]))):
        (folder / name).mkdir()
        rows.to_parquet(folder / name / "train.parquet")
    torch.manual_seed(0)
    scorer = tiny_dual_encoder()
    scorer.model.save_pretrained(folder / "scorer")
    scorer.processor.save_pretrained(folder / "scorer")
    tiny_pipeline().save_pretrained(folder / "pipeline")
    return folder


def run(folders, output, *more):
    arguments = ["--dataset", str(folders / "pairs"), "--output_dir", str(output), "--min_side", "8"]
    return script("filter_pairs").main([*arguments, *more])


def test_the_output_is_a_dataset_with_a_card_that_says_what_was_dropped(folders, tmp_path):
    report = run(folders, tmp_path, "--max_images_per_text", "20", "--max_words", "3")
    assert (report.pairs, report.kept, report.dropped["many_words"]) == (24, 12, 12)
    kept = load_rows(str(tmp_path))
    assert kept["text"][:] == [[row["text"][0]] for row in tiny_pairs(12)]
    assert kept[0]["image"].size == (16, 16)
    card = (tmp_path / "README.md").read_text()
    assert "| many_words | 12 |" in card and "- max_words: 3" in card


def test_near_duplicates_of_the_test_set_and_what_a_scorer_dislikes_are_dropped(folders, tmp_path):
    test = ("--test_dataset", str(folders / "test"), "--max_test_distance", "0")
    report = run(folders, tmp_path, *test, "--scorer", str(folders / "scorer"), "--min_cosine", "1.0")
    assert report.dropped["near_test_image"] >= 2  # both captions of the image itself
    assert report.kept == 0 and report.dropped["low_cosine"] > 0


def test_weights_become_a_column_that_training_reads(folders, tmp_path):
    run(folders, tmp_path, "--weigh_with", str(folders / "pipeline"))
    rows = load_rows(str(tmp_path))
    assert all(0.0 <= weight <= 1.0 for weight in rows["sample_weight"])
    assert Stream("paired", rows).sample(0)["sample_weight"] in rows["sample_weight"]
