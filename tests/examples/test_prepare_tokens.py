# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""examples/prepare_tokens.py with the tiny pipeline."""

import os

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
        + ["--rows_per_file", "4", "--batch_size", "3", *options]
    )


def files(output_dir):
    return sorted((output_dir / "data").iterdir())


def test_training_reads_the_tokens_it_would_have_made(folders, tmp_path):
    prepare(folders, tmp_path)
    rows = load_rows(str(tmp_path), "train")
    assert sorted(rows.column_names) == ["image_token_ids", "image_tokenizer", "text"] and len(files(tmp_path)) == 3
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
    whole = [path.read_bytes() for path in files(tmp_path)]
    files(tmp_path)[1].unlink()
    kept = [path.stat().st_mtime_ns for path in files(tmp_path)]
    prepare(folders, tmp_path)
    assert [path.read_bytes() for path in files(tmp_path)] == whole
    assert [files(tmp_path)[i].stat().st_mtime_ns for i in (0, 2)] == kept


def test_a_file_is_written_whole_or_not_at_all(folders, tmp_path, monkeypatch):
    replace = os.replace

    def fail(source, target):
        if str(target).endswith(".parquet"):
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("os.replace", fail)
        prepare(folders, tmp_path)
    assert not [path for path in files(tmp_path) if path.suffix == ".parquet"]
    prepare(folders, tmp_path)
    assert len(load_rows(str(tmp_path), "train")) == 10


def test_other_tokens_are_never_mixed_in(folders, tmp_path):
    prepare(folders, tmp_path)
    with pytest.raises(ValueError, match="was begun otherwise .*'parts': \\(3, 5\\)"):
        prepare(folders, tmp_path, "--rows_per_file", "2")
    other = tiny_pipeline().image_tokenizer
    torch.nn.init.normal_(other.encoder[-1].weight)
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="was begun otherwise .*'fingerprint'"):
        prepare(folders, tmp_path, "--image_tokenizer", str(tmp_path / "other"))


def test_images_may_be_kept(folders, tmp_path):
    prepare(folders, tmp_path, "--keep_images")
    assert "image" in load_rows(str(tmp_path), "train").column_names


def test_several_processes_make_what_one_makes_in_any_order(folders, tmp_path):
    prepare(folders, tmp_path / "one")
    for part in ("2", "0", "1"):
        prepare(folders, tmp_path / "three", "--num_parts", "3", "--part", part)
        assert len(files(tmp_path / "three")) == {"2": 1, "0": 2, "1": 3}[part]
    assert [path.name for path in files(tmp_path / "three")] == [path.name for path in files(tmp_path / "one")]
    assert load_rows(tmp_path / "three")["image_token_ids"] == load_rows(tmp_path / "one")["image_token_ids"]


def test_a_folder_that_lacks_files_is_named(folders, tmp_path, caplog):
    prepare(folders, tmp_path, "--num_parts", "3", "--part", "1")
    assert len(load_rows(tmp_path)) == 4 and "1 of the 3 files of 'train' are there" in caplog.text


def test_images_that_are_read_where_they_are_give_the_same_tokens(folders, tmp_path):
    prepare(folders, tmp_path / "copied")
    prepare(folders, tmp_path / "direct", "--data_access", "direct")
    assert load_rows(tmp_path / "direct")["image_token_ids"] == load_rows(tmp_path / "copied")["image_token_ids"]


@pytest.mark.parametrize("options", [("--num_parts", "0"), ("--num_parts", "2", "--part", "2"), ("--part", "-1")])
def test_parts_that_there_are_not_are_refused(folders, tmp_path, options, capsys):
    with pytest.raises(SystemExit):
        prepare(folders, tmp_path, *options)
    assert "must be" in capsys.readouterr().err
