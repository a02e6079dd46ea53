# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import logging
import os

import pytest
from datasets import Dataset, DatasetDict

from itit_hf.data.folders import file_state, find_splits, images_in, kind_of, stem_of


@pytest.fixture
def put(tmp_path):
    """Make files of these names; returns the folder."""

    def make(*names, root="set"):
        for name in names:
            path = tmp_path / root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")
        return str(tmp_path / root)

    return make


@pytest.fixture
def warned(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    return lambda: caplog.text


def found(folder):
    """Kind and files of each split, as seen from the folder."""
    return {
        name: (files.kind, [os.path.relpath(path, folder) for path in files.paths])
        for name, files in find_splits(folder).items()
    }


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a/B.TXT", "txt"),
        ("a.jsonl.gz", "jsonl"),
        ("a.Tar.XZ", "tar"),
        ("a.tgz", "tar"),
        ("a.tsv.bz2", "csv"),
        ("a.ndjson", "jsonl"),
        ("a.parquet.gz", None),
        ("a.gz", None),
        ("txt", None),
    ],
)
def test_the_kind_of_a_file_is_its_ending_in_any_case(name, kind):
    assert kind_of(name) == kind


def test_the_stem_of_a_name_has_no_ending():
    assert stem_of("a/wiki.train.txt.gz") == "wiki.train" and stem_of("b.Parquet") == "b"


def test_a_state_changes_with_a_file(put):
    folder = put("a.txt", "b.txt")
    paths = [f"{folder}/a.txt", f"{folder}/b.txt"]
    before = file_state(paths)
    assert file_state(paths) == before != file_state(paths[:1])
    os.utime(paths[0], ns=(0, 0))
    assert file_state(paths) != before


NAMES = ["test tube.png", "Training day.JPG", "evaluation-3.webp", "dev_null.gif", "validation.bmp"]


def test_no_name_of_an_image_is_a_split(put):
    folder = put(*NAMES)
    assert found(folder) == {"train": ("images", ["."])} and find_splits(folder)["train"].num_images == 5
    put("metadata.csv")
    assert found(folder) == {"train": ("metadata", ["metadata.csv"])}


def test_no_name_of_a_class_is_a_split_while_others_are_none(put):
    folder = put("train/1.png", "bus/2.png", "eval/3.png")
    (files,) = find_splits(folder).values()
    assert files.kind == "images" and files.labels == ("bus", "eval", "train")


def test_folders_are_splits_if_all_files_lie_in_such(put):
    folder = put("Train/1.png", "val/2.png", "test2017/3.png", "test2017/4.png")
    assert found(folder) == {
        "train": ("images", ["Train"]),
        "validation": ("images", ["val"]),
        "test": ("images", ["test2017"]),
    }
    put("cover.png")  # an image that lies in none
    assert list(find_splits(folder)) == ["train"] and find_splits(folder)["train"].num_images == 5


def test_splits_may_lie_within_one_folder_and_have_metadata_of_their_own(put):
    folder = put("data/train/1.png", "data/train/metadata.jsonl", "data/test/2.png", "data/test/metadata.csv")
    assert found(folder) == {
        "train": ("metadata", ["data/train/metadata.jsonl"]),
        "test": ("metadata", ["data/test/metadata.csv"]),
    }


def test_metadata_above_is_the_whole_of_it(put):
    folder = put("metadata.parquet", "train/1.png", "test/2.png", "test/metadata.csv", "other.parquet", "a.tar")
    assert found(folder) == {"train": ("metadata", ["metadata.parquet"])}


def test_metadata_side_by_side_is_read_together(put):
    folder = put("a/metadata.csv", "a/1.png", "b/metadata.jsonl", "b/1.png")
    assert found(folder) == {"train": ("metadata", ["a/metadata.csv", "b/metadata.jsonl"])}


def test_two_files_of_metadata_in_one_folder_are_refused(put):
    with pytest.raises(ValueError, match=r"keep one file of metadata in a folder, got .*metadata.csv"):
        find_splits(put("metadata.csv", "metadata.jsonl", "1.png"))


def test_classes_have_the_same_numbers_in_all_splits(put):
    splits = find_splits(put("train/bus/1.png", "train/fish/1.png", "train/tree/1.png", "test/tree/1.png"))
    assert {files.labels for files in splits.values()} == {("bus", "fish", "tree")}


def test_images_of_uneven_depth_or_of_one_folder_have_no_classes(put):
    for number, names in enumerate(
        [("bus/1.png", "2.png"), ("a/bus/1.png", "fish/2.png"), ("bus/1.png", "bus/2.png")]
    ):
        assert find_splits(put(*names, root=str(number)))["train"].labels == ()


STRAY = [
    "training_args.json",
    "notes.txt",
    "stats.csv",
    "log.jsonl",
    ".hidden.png",
    ".cache/huggingface/1.png",
    "__MACOSX/._1.png",
    "out/checkpoint-3/model.safetensors",
    "out/checkpoint-3/trainer_state.json",
    "out/samples/step-0000003.png",
    "out/pipeline/model_index.json",
    "older/samples/step-0000001.png",
    "tokens/tokens.json",
    "tokens/data/train-00000-of-00001.parquet",
    "lora/adapter_config.json",
    "lora/grid.png",
    "vq/diffusion_pytorch_model.safetensors",
    "vq/reconstructions.png",
    "cycles/samples/step-0000003.png",
    "cycles/samples/t2i2t/step-0000003.png",
]


@pytest.mark.parametrize(
    "names",
    [
        ["1.png", "2.png"],
        ["metadata.csv", "1.png"],
        ["bus/1.png", "fish/1.png"],
        ["train/1.png", "test/1.png"],
        ["1.png", "1.txt"],
        ["a.parquet"],
        ["a.tar", "b.tar"],
    ],
    ids=" ".join,
)
def test_what_else_lies_in_the_folder_changes_nothing(put, names):
    before = find_splits(put(*names))
    folder = put(*STRAY)
    os.symlink("/nowhere/3.png", f"{folder}/3.png")
    os.symlink("/nowhere", f"{folder}/.#1.png")
    assert find_splits(folder) == before


def test_what_is_left_aside_is_said(put, warned):
    folder = put("1.png", "out/checkpoint-1/optimizer.pt")
    os.symlink("/nowhere/2.png", f"{folder}/2.png")
    find_splits(folder)
    assert "1 links lead to nothing and are left aside, such as 2.png" in warned()
    assert "folders that runs wrote are left aside: out" in warned()


def test_what_is_not_read_is_said(put, warned):
    find_splits(put("1.png", "2.HEIC", "sub/captions.jsonl", "README.txt", "1.json"))
    assert "1 images are of kinds that are not read, such as 2.HEIC" in warned()
    assert "1 files of text are left aside, such as sub/captions.jsonl: captions of images stand in" in warned()


def test_an_adapter_may_be_written_into_the_folder_or_below(put):
    names = ("adapter/adapter_config.json", "before-after.png")
    before = find_splits(put("1.png"))
    put(*names)
    assert find_splits(put(*(f"lora/{name}" for name in names))) == before


def test_metadata_may_be_compressed_and_in_capitals(put):
    assert found(put("METADATA.CSV", "1.png")) == {"train": ("metadata", ["METADATA.CSV"])}
    assert found(put("metadata.jsonl.gz", "1.png", root="gz")) == {"train": ("metadata", ["metadata.jsonl.gz"])}


def test_a_run_may_write_into_the_folder_itself(put):
    names = ["all_results.json", "checkpoint-1/model.safetensors", "samples/step-1.png", "pipeline/model_index.json"]
    assert found(put("1.png", *names)) == {"train": ("images", ["."])}
    assert found(put("sentences.txt", *names, root="texts")) == {"train": ("txt", ["sentences.txt"])}


def test_links_to_folders_are_followed_but_not_in_circles(put, tmp_path):
    folder = put("bus/1.png")
    put("1.png", "2.png", root="elsewhere")
    os.symlink(tmp_path / "elsewhere", f"{folder}/fish")
    os.symlink(tmp_path / "elsewhere", f"{folder}/tree")
    os.symlink(folder, f"{folder}/bus/again")
    (files,) = find_splits(folder).values()
    assert files.num_images == 5 and files.labels == ("bus", "fish", "tree")


def test_captions_lie_beside_images_under_their_name(put):
    folder = put("1.png", "1.txt", "2.JPG", "2.JPG.caption", "3.webp", "classes.txt", "sub/4.png")
    files = find_splits(folder)["train"]
    assert files.has_captions and files.num_images == 4
    names = [(os.path.basename(image), text and os.path.basename(text)) for image, text in images_in(folder)]
    assert names == [("1.png", "1.txt"), ("2.JPG", "2.JPG.caption"), ("3.webp", None)]


def test_folders_with_captions_are_no_classes(put):
    files = find_splits(put("10_dog/1.png", "10_dog/1.txt", "5_cat/1.png", "5_cat/1.txt"))["train"]
    assert files.labels == () and files.has_captions


def test_files_are_splits_by_their_names_if_each_is_named_after_one(put):
    assert found(put("captions_train.csv", "captions-val.csv")) == {
        "train": ("csv", ["captions_train.csv"]),
        "validation": ("csv", ["captions-val.csv"]),
    }
    names = [
        "data/paired-00000-of-00002.parquet",
        "data/paired-00001-of-00002.parquet",
        "data/more-00000-of-00001.parquet",
    ]
    assert found(put(*names, root="shards")) == {
        "more": ("parquet", names[2:]),
        "paired": ("parquet", names[:2]),
    }


@pytest.mark.parametrize(
    "names", [["cat.csv", "train.csv"], ["a train test.csv", "b.csv"], ["trains.csv", "tests.csv"]]
)
def test_files_of_which_one_is_named_after_no_split_are_read_together(put, names):
    assert list(find_splits(put(*names))) == ["train"] and len(find_splits(put(*names))["train"].paths) == 2


def test_files_of_img2dataset_are_read_without_the_tables_beside_them(put):
    webdataset = put("00000.tar", "00000.parquet", "00000_stats.json", "00001.tar", "00001.parquet")
    assert found(webdataset) == {"train": ("tar", ["00000.tar", "00001.tar"])}
    files = find_splits(put("00000/0.jpg", "00000/0.txt", "00000/0.json", "00000.parquet", root="files"))["train"]
    assert files.kind == "images" and files.has_captions


def test_kinds_between_which_nobody_can_tell_are_refused(put):
    with pytest.raises(ValueError, match=r"holds files of several kinds, .*'csv': 'a.csv', 'txt': 'b.txt'"):
        find_splits(put("a.csv", "b.txt"))
    with pytest.raises(ValueError, match=r"holds 1 images and 1 parquet files: name those that are meant"):
        find_splits(put("1.png", "a.parquet", root="mixed"))


@pytest.mark.parametrize("names", [[], ["README.txt"], ["images.zip"], [".hidden.png"], ["out/trainer_state.json"]])
def test_a_folder_without_anything_to_read_is_refused(put, tmp_path, names):
    (tmp_path / "set").mkdir()
    with pytest.raises(ValueError, match="holds nothing that can be read; wanted images"):
        find_splits(put(*names))


def card(put, text, *names):
    folder = put(*names)
    with open(f"{folder}/README.md", "w", encoding="utf-8") as file:
        file.write(f"---\n{text}\n---\n# Data\n")
    return folder


def test_the_card_says_which_files_are_which_split(put):
    few = "  - split: few\n    path: a/*.parquet\n"
    text = f"configs:\n- config_name: default\n  data_files:\n{few}  - split: all\n    path: ['**/*.parquet']"
    folder = card(put, text, "a/train.parquet", "b/c/test.parquet")
    assert found(folder) == {
        "few": ("parquet", ["a/train.parquet"]),
        "all": ("parquet", ["a/train.parquet", "b/c/test.parquet"]),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "configs:\n- config_name: a\n  data_files: a.csv\n- config_name: b\n  data_files: b.csv",
            r"got \['a', 'b'\]",
        ),
        ("configs:\n- data_files:\n    train: gone/*.csv", r"no file for the split 'train', .*gone/\*.csv"),
    ],
)
def test_a_card_that_says_nothing_clear_is_refused(put, text, message):
    with pytest.raises(ValueError, match=message):
        find_splits(card(put, text, "a.csv", "b.csv"))


def test_a_card_of_a_model_or_one_that_cannot_be_read_says_nothing(put, warned):
    assert found(card(put, "license: mit", "1.png")) == {"train": ("images", ["."])}
    assert found(card(put, "a: [", "1.png")) == {"train": ("images", ["."])}
    assert "its front matter cannot be read" in warned()


def test_what_save_to_disk_wrote_is_read_by_its_splits(tmp_path):
    rows = Dataset.from_dict({"text": ["a", "b"]})
    DatasetDict(paired=rows, more=rows).save_to_disk(tmp_path / "both")
    assert list(find_splits(str(tmp_path / "both"))) == ["more", "paired"]
    assert found(str(tmp_path / "both" / "more")) == {"train": ("arrow", ["data-00000-of-00001.arrow"])}
