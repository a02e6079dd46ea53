# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""examples/prepare_tokens.py with the tiny pipeline."""

import pytest
import torch

from itit_hf.data.image_tokens import add_image_token_ids
from itit_hf.data.loading import load_rows
from itit_hf.data.streams import ITITCollator, Stream

from ..testing_utils import script, tiny_pairs, tiny_pipeline


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A pipeline, and ten pairs."""
    folder = tmp_path_factory.mktemp("tokens")
    tiny_pipeline().save_pretrained(folder / "pipeline")
    (folder / "pairs").mkdir()
    tiny_pairs(10).to_parquet(folder / "pairs" / "train.parquet")
    return folder


def prepare(folders, output_dir, *options):
    script("prepare_tokens").main(
        [str(folders / "pairs"), "--model", str(folders / "pipeline"), "--output_dir", str(output_dir)]
        + ["--rows_per_part", "4", "--batch_size", "3", *options]
    )


def parts(output_dir):
    return sorted((output_dir / "data").iterdir())


def test_training_reads_the_tokens_it_would_have_made(folders, tmp_path):
    prepare(folders, tmp_path)
    rows = load_rows(str(tmp_path), "train")
    assert sorted(rows.column_names) == ["image_token_ids", "image_tokenizer", "text"] and len(parts(tmp_path)) == 3
    processor = tiny_pipeline().processor
    made = add_image_token_ids(tiny_pairs(10), processor)
    assert rows["image_token_ids"] == made["image_token_ids"] and rows["text"] == made["text"]
    batch = ITITCollator(processor)([("paired", Stream("paired", rows).sample(p)) for p in range(2)])
    assert batch["paired"]["image_token_ids"].shape == (2, 16)
    assert batch["paired"]["image_token_ids"].dtype == torch.long


def test_latents_are_kept_beside_the_tokens(folders, tmp_path):
    prepare(folders, tmp_path, "--image_features", "latents")
    rows = load_rows(str(tmp_path), "train")
    processor = tiny_pipeline().processor
    processor.image_features = "latents"
    want = processor(images=tiny_pairs(10)["image"][:]).image_latents
    torch.testing.assert_close(torch.tensor(rows["image_latents"][:]), want)
    batch = ITITCollator(processor)([("paired", Stream("paired", rows).sample(p)) for p in range(2)])
    assert batch["paired"]["image_latents"].shape == (2, 16, 8)


def test_an_interrupted_run_goes_on_where_it_stopped(folders, tmp_path, monkeypatch):
    prepare(folders, tmp_path)
    whole = [path.read_bytes() for path in parts(tmp_path)]
    parts(tmp_path)[1].unlink()
    kept = [path.stat().st_mtime_ns for path in parts(tmp_path)]
    prepare(folders, tmp_path)
    assert [path.read_bytes() for path in parts(tmp_path)] == whole
    assert [parts(tmp_path)[i].stat().st_mtime_ns for i in (0, 2)] == kept


def test_a_part_is_written_whole_or_not_at_all(folders, tmp_path, monkeypatch):
    def fail(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("os.replace", fail)
        prepare(folders, tmp_path)
    assert not [path for path in parts(tmp_path) if path.suffix == ".parquet"]
    prepare(folders, tmp_path)
    assert len(load_rows(str(tmp_path), "train")) == 10


def test_other_tokens_are_never_mixed_in(folders, tmp_path):
    prepare(folders, tmp_path)
    with pytest.raises(ValueError, match="was begun otherwise .*'parts': \\(3, 5\\)"):
        prepare(folders, tmp_path, "--rows_per_part", "2")
    other = tiny_pipeline().image_tokenizer
    torch.nn.init.normal_(other.encoder[-1].weight)
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="was begun otherwise .*'fingerprint'"):
        prepare(folders, tmp_path, "--image_tokenizer", str(tmp_path / "other"))


def test_images_may_be_kept(folders, tmp_path):
    prepare(folders, tmp_path, "--keep_images")
    assert "image" in load_rows(str(tmp_path), "train").column_names
