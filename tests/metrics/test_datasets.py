# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Where evaluations read from: miniature files of the layouts of COCO and CC3M."""

import io
import json

import datasets
import PIL.Image
import pytest

from itit_hf.metrics.datasets import (
    PRESETS,
    EvaluationData,
    EvaluationRows,
    EvaluationSource,
    Preset,
    choose_prompts,
    karpathy_rows,
    open_evaluation,
)
from itit_hf.models.image_loading_itit import load_image

from ..testing_utils import archive

SPLITS = ["train", "test", "val", "restval", "test", "train"]


def write_coco(folder, size=(20, 16)):
    """Six images in four splits, five captions each."""
    entries = []
    for i, split in enumerate(SPLITS):
        filepath = "train2014" if split == "train" else "val2014"
        (folder / filepath).mkdir(exist_ok=True)
        name = f"COCO_{filepath}_{i:012}.jpg"
        PIL.Image.new("RGB", size, (40 * i, 0, 90)).save(folder / filepath / name)
        sentences = [{"raw": f"Caption {n} of image {i}. ", "imgid": i} for n in range(5)]
        entries.append({"filepath": filepath, "filename": name, "split": split, "cocoid": i, "sentences": sentences})
    (folder / "dataset_coco.json").write_text(json.dumps({"images": entries, "dataset": "coco"}))
    return str(folder / "dataset_coco.json")


def jpeg(colour) -> bytes:
    data = io.BytesIO()
    PIL.Image.new("RGB", (16, 16), colour).save(data, "JPEG")
    return data.getvalue()


@pytest.fixture
def coco(tmp_path):
    return write_coco(tmp_path)


def test_karpathy_rows_stand_in_the_order_of_the_named_splits(coco, tmp_path):
    rows = karpathy_rows(coco, str(tmp_path), ("test", "val", "restval"))
    assert [row["text"][0] for row in rows] == [f"Caption 0 of image {i}." for i in (1, 4, 2, 3)]
    assert all(len(row["text"]) == 5 for row in rows) and PIL.Image.open(rows[0]["image"]).size == (20, 16)


def test_karpathy_refuses_an_unknown_split_and_another_file(coco, tmp_path):
    with pytest.raises(ValueError, match="`splits` must be of"):
        karpathy_rows(coco, str(tmp_path), ("dev",))
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(ValueError, match="form of dataset_coco.json"):
        karpathy_rows(str(tmp_path / "other.json"), str(tmp_path), ("test",))


def test_umt_draws_the_first_captions_of_test_val_and_restval_in_order(coco):
    data = open_evaluation(PRESETS["umt"], EvaluationSource(coco))
    assert data.prompts == [f"Caption 0 of image {i}." for i in (1, 4, 2, 3)]
    assert [texts[0] for texts in data.references.captions()] == data.prompts


def test_itit_draws_pairs_of_the_training_set_and_looks_at_their_images(coco):
    data = open_evaluation(PRESETS["itit"], EvaluationSource(coco))
    assert sorted(prompt[-2] for prompt in data.prompts) == ["0", "5"]
    assert all(prompt in row["text"] for prompt, row in zip(data.prompts, data.references, strict=True))


def test_coco30k_draws_random_captions_and_looks_at_all_of_val2014(coco):
    data = open_evaluation(PRESETS["coco30k"], EvaluationSource(coco), num_samples=7)
    assert len(set(data.prompts)) == 7 and len(data.references) == 4


def test_the_test_split_is_described_whatever_is_drawn(coco):
    assert [len(row["text"]) for row in open_evaluation(PRESETS["itit"], EvaluationSource(coco)).to_caption] == [5, 5]


def test_random_choices_are_those_of_their_seed():
    rows = [{"text": [f"{i}.{n}" for n in range(5)]} for i in range(50)]
    for choice in ("pairs", "captions"):
        first, again, other = (choose_prompts(rows, choice, 20, seed)[0] for seed in (0, 0, 1))
        assert first == again != other


def test_a_preset_of_coco_refuses_other_data(tmp_path):
    with pytest.raises(ValueError, match="must be COCO's dataset_coco.json"):
        open_evaluation(PRESETS["umt"], EvaluationSource(str(tmp_path)))
    with pytest.raises(ValueError, match="`num_samples` must be at least 1"):
        open_evaluation(PRESETS["umt"], EvaluationSource(str(tmp_path)), num_samples=0)


def test_archives_are_read_as_training_reads_them_and_no_further_than_they_must(tmp_path):
    for shard in range(2):
        record = json.dumps({"caption": [f"bus {shard}", "a\u2028bus"]}).encode()
        archive(tmp_path / f"{shard:05}.tar", [("0.JPG", jpeg("red")), ("0.json", record)])
    archives = EvaluationSource(str(tmp_path / "*.tar"))
    data = open_evaluation(PRESETS["dataset"], archives)
    assert [row["text"] for row in data.to_caption] == [["bus 0", "a bus"], ["bus 1", "a bus"]]
    assert data.prompts == ["bus 0", "bus 1"] and len(data.references) == 2
    assert load_image(next(iter(data.references))["image"]).size == (16, 16)
    (tmp_path / "00001.tar").write_bytes(b"broken")
    assert open_evaluation(PRESETS["dataset"], archives, num_samples=1).prompts == ["bus 0"]


def table_with(tmp_path, captions, **names):
    image = {"bytes": b"nothing that can be decoded", "path": None}
    features = datasets.Features({names.get("image", "image"): datasets.Image(), "text": datasets.Value("string")})
    rows = [{names.get("image", "image"): image, "text": caption} for caption in captions]
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "rows.parquet")
    return str(tmp_path / "rows.parquet")


def test_captions_are_read_without_decoding_an_image(tmp_path):
    source = EvaluationSource(table_with(tmp_path, ["a bus", "a\x0bfish"]))
    data = open_evaluation(PRESETS["dataset"], source, num_samples=2)
    assert data.prompts == ["a bus", "a fish"] and list(data.to_caption.captions()) == [["a bus"], ["a fish"]]
    assert next(iter(data.to_caption))["image"]["bytes"] == b"nothing that can be decoded"


def test_columns_and_captions_that_are_none_are_as_in_training(tmp_path):
    file = table_with(tmp_path, ["a bus", "NA", "a fish"], image="photo")
    columns = {"image": "photo"}
    with pytest.raises(ValueError, match="has no column 'image'"):
        open_evaluation(PRESETS["dataset"], EvaluationSource(file))
    with pytest.raises(ValueError, match="row 1"):
        open_evaluation(PRESETS["dataset"], EvaluationSource(file, columns=columns))
    skipping = EvaluationSource(file, columns=columns, bad_captions="skip")
    assert open_evaluation(PRESETS["dataset"], skipping).prompts == ["a bus", "a fish"]


def test_prompts_go_with_the_images_that_cannot_be_read(coco, tmp_path):
    files = [row["image"] for row in karpathy_rows(coco, str(tmp_path), ("train",))]
    with open(files[0], "wb") as file:
        file.write(b"<html>")
    data = open_evaluation(PRESETS["itit"], EvaluationSource(coco, on_bad_image="skip"))
    assert [row["image"] for row in data.references] == files[1:] and data.prompts[0] in next(
        data.references.captions()
    )
    assert len(open_evaluation(PRESETS["itit"], EvaluationSource(coco)).prompts) == len(files)
    table = datasets.Dataset.from_list(
        [
            {"image": {"bytes": data, "path": None}, "text": text}
            for data, text in ((jpeg("red"), "a bus"), (b"cut", "a fish"), (jpeg("blue"), "a tree"))
        ]
    )
    table.to_parquet(tmp_path / "cut.parquet")
    cut = EvaluationSource(str(tmp_path / "cut.parquet"), on_bad_image="skip")
    assert open_evaluation(PRESETS["dataset"], cut).prompts == ["a bus", "a tree"]
    assert open_evaluation(PRESETS["dataset"], cut, num_samples=1).prompts == ["a bus"]
    with pytest.raises(ValueError, match="`on_bad_image` must be one of"):
        EvaluationSource(coco, on_bad_image="ignore")


def test_captions_of_coco_that_are_none_are_named_or_left_out(coco, tmp_path):
    content = json.loads((tmp_path / "dataset_coco.json").read_text())
    content["images"][1]["sentences"][0]["raw"] = " \n"
    (tmp_path / "dataset_coco.json").write_text("\ufeff" + json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match="`dataset_coco.json`: 1 of 2 rows .*row 0"):
        open_evaluation(PRESETS["itit"], EvaluationSource(coco))
    data = open_evaluation(PRESETS["dataset"], EvaluationSource(coco, bad_captions="skip"))
    assert data.prompts == ["Caption 1 of image 1.", "Caption 0 of image 4."]


def test_the_first_rows_are_read_as_often_as_asked():
    rows = EvaluationRows([{"image": None, "text": "a bus"}, {"image": None, "text": ["a fish", "the fish"]}], 5)
    assert len(rows) == 2 and list(rows) == list(rows)
    assert list(rows.captions()) == [["a bus"], ["a fish", "the fish"]]
    assert [row["text"] for row in EvaluationRows([{"image": None, "text": "a bus"}] * 3, 1)] == [["a bus"]]


def test_each_preset_says_its_protocol():
    assert all(isinstance(preset, Preset) and preset.protocol for preset in PRESETS.values())
    assert {name for name, preset in PRESETS.items() if preset.num_samples == 30_000} == {"itit", "umt", "coco30k"}
    assert EvaluationData(EvaluationRows([]), [], EvaluationRows([])).prompts == []
