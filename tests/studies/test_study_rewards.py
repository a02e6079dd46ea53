# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import json

import study_rewards

from ..testing_utils import tiny_pairs, tiny_pipeline


def test_each_seed_compares_both_ways_from_the_same_weights(tmp_path):
    tiny_pipeline().save_pretrained(tmp_path / "start")
    tiny_pairs(8).to_parquet(tmp_path / "pairs.parquet")
    output = tmp_path / "runs.jsonl"
    arguments = ["--starts", str(tmp_path / "start"), "--dataset", str(tmp_path / "pairs.parquet"), "--use_cpu"]
    arguments += ["--pairs", "train", "--unseen", "train[:4]", "--first_caption", "1", "--seeds", "5", "--steps", "1"]
    runs = study_rewards.main([*arguments, "--max_new_tokens", "4", "--output", str(output)])
    assert [(run["kind"], run["seed"]) for run in runs] == [("cider_d", 5), ("cross_entropy", 5)]
    assert runs[0]["before"] == runs[1]["before"] and runs[0]["settings"]["first_caption"] == 1
    assert [json.loads(line) for line in output.read_text().splitlines()] == runs
    assert {"cider_d", "bad_endings", "distinct_2"} <= runs[0]["figures"].keys()
