# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""examples/prepare_tokens.py with the tiny pipeline."""

import os

import pytest
import torch

from itit_hf.commands import train
from itit_hf.data.direct_loading import open_rows
from itit_hf.data.image_tokens import add_image_token_ids
from itit_hf.data.loading import load_rows
from itit_hf.data.streams import ITITCollator, Stream

from ..data.sources import pairs, write_source
from ..testing_utils import script, tiny_pairs, tiny_pipeline


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A pipeline, and ten pairs."""
    folder = tmp_path_factory.mktemp("tokens")
    tiny_pipeline().save_pretrained(folder / "pipeline")
    (folder / "pairs").mkdir()
    tiny_pairs(10).to_parquet(folder / "pairs" / "train.parquet")
    return folder


def prepare(folders, output_dir, *options, dataset=None):
    """Into a folder; of `None`, in place."""
    at = [] if output_dir is None else ["--output_dir", str(output_dir)]
    script("prepare_tokens").main(
        [str(dataset or folders / "pairs"), "--model", str(folders / "pipeline"), *at]
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


# A Lance dataset gets its tokens where it is.


@pytest.fixture
def dataset(tmp_path):
    """Ten pairs in two fragments, which each test has for itself."""
    return write_source("lance", tmp_path / "lance", 10)


def data_files(dataset):
    folder = os.path.join(dataset, "data")
    return {name: open(os.path.join(folder, name), "rb").read() for name in os.listdir(folder)}


def tokens_of(rows):
    return [row["image_token_ids"] for row in rows]


def test_a_lance_dataset_gets_the_usual_tokens_and_its_image_files_stay(folders, dataset, tmp_path):
    prepare(folders, tmp_path / "usual", "--data_access", "direct", dataset=dataset)
    before = data_files(dataset)
    prepare(folders, None, dataset=dataset)
    after = data_files(dataset)
    assert {name: after.get(name) for name in before} == before and len(after) == len(before) + 2
    rows = open_rows(dataset)
    assert tokens_of(rows) == load_rows(tmp_path / "usual")["image_token_ids"]
    assert [row["image"]["bytes"] for row in rows] == [image for _, image, _ in pairs(10)]
    assert not os.path.exists(f"{dataset}.tokens")
    prepare(folders, None, dataset=dataset)  # once more: they are there
    assert data_files(dataset) == after and open_rows(dataset).version == rows.version


def test_a_lance_dataset_that_was_interrupted_goes_on_where_it_stopped(folders, dataset, monkeypatch):
    replace = os.replace

    def fail(source, target):
        if "00002-of" in str(target):
            raise KeyboardInterrupt
        replace(source, target)

    before = data_files(dataset)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("os.replace", fail)
        prepare(folders, None, dataset=dataset)
    assert data_files(dataset) == before and "image_token_ids" not in open_rows(dataset).column_names
    written = []
    monkeypatch.setattr("os.replace", lambda source, target: written.append(target) or replace(source, target))
    prepare(folders, None, dataset=dataset)
    assert [path.name for path in written if path.suffix == ".parquet"] == ["train-00002-of-00003.parquet"]
    assert all(len(each) == 16 for each in tokens_of(open_rows(dataset)))


def test_the_last_of_several_parts_adds_the_columns(folders, dataset):
    for part in ("2", "0", "1"):
        assert "image_token_ids" not in open_rows(dataset).column_names
        prepare(folders, None, "--num_parts", "3", "--part", part, dataset=dataset)
    assert len(tokens_of(open_rows(dataset))) == 10


def test_tokens_of_another_tokenizer_beside_the_images_are_refused(folders, dataset, tmp_path):
    other = tiny_pipeline().image_tokenizer
    torch.nn.init.normal_(other.encoder[-1].weight)
    other.save_pretrained(tmp_path / "other")
    options = ("--image_tokenizer", str(tmp_path / "other"))
    prepare(folders, None, "--num_parts", "2", "--part", "1", dataset=dataset)
    with pytest.raises(ValueError, match=r"pairs.lance.tokens was begun otherwise .*delete it"):
        prepare(folders, None, *options, dataset=dataset)
    prepare(folders, None, dataset=dataset)
    with pytest.raises(ValueError, match="were made by another image tokenizer than the one that is used"):
        prepare(folders, None, *options, dataset=dataset)
    with pytest.raises(
        ValueError, match=r"has the columns \['image_token_ids', 'image_tokenizer'\], of .*drop_columns"
    ):
        prepare(folders, None, "--image_features", "latents", dataset=dataset)


def test_training_reads_the_columns_and_no_image(folders, dataset, monkeypatch):
    from itit_hf.data.direct_rows import LanceRows

    prepare(folders, None, dataset=dataset)
    args = train.ScriptArguments(paired_dataset=dataset, data_access="direct", frozen_parts=str(folders / "pipeline"))
    processor = tiny_pipeline().processor
    streams, _ = train.load_streams(args, ["paired"], processor)
    read = []
    take = LanceRows._take
    monkeypatch.setattr(LanceRows, "_take", lambda self, at, names: read.append(names) or take(self, at, names))
    batch = ITITCollator(processor)([("paired", Stream("paired", streams["paired"]).sample(p)) for p in range(2)])
    assert batch["paired"]["image_token_ids"].shape == (2, 16)
    assert read == [["text", "source_row", "image_token_ids", "image_tokenizer"]] * 2


@pytest.mark.parametrize("option", [(), ("--keep_images",), ("--on_bad_image", "skip")])
def test_what_needs_a_folder_of_its_own_is_refused_without_one(folders, dataset, option, capsys):
    with pytest.raises(SystemExit):
        prepare(folders, None, *option, dataset=dataset if option else None)
    assert "--output_dir" in capsys.readouterr().err
