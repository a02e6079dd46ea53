# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import csv
import io
import json
import logging
import os
import tracemalloc

import datasets
import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from itit_hf.data import readers
from itit_hf.data.folders import find_splits
from itit_hf.data.loading import load_rows
from itit_hf.data.readers import read_split
from itit_hf.models.image_loading_itit import load_image

from ..testing_utils import archive

COLOURS = ("red", "blue", "green", "gold")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def warned(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    return lambda: caplog.text


@pytest.fixture
def folder(tmp_path):
    """Four images, `red.png` and so on."""
    (tmp_path / "set").mkdir()
    for colour in COLOURS:
        PIL.Image.new("RGB", (8, 8), colour).save(tmp_path / "set" / f"{colour}.png")
    return tmp_path / "set"


def image_bytes(colour, kind="PNG"):
    data = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), colour).save(data, kind)
    return data.getvalue()


def rows_of(source, **arguments):
    """File of each image, with the caption."""
    rows = load_rows(str(source), **arguments)
    files = rows.cast_column("image", datasets.Image(decode=False))["image"]
    return list(zip([os.path.basename(file["path"]) for file in files], rows["text"], strict=True))


def test_rows_are_those_of_the_metadata_in_its_order(folder, warned):
    lines = [{"file_name": f"{colour}.png", "text": colour, "weight": 1} for colour in ("gold", "red", "gold")]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert rows_of(folder) == [("gold.png", "gold"), ("red.png", "red"), ("gold.png", "gold")]
    assert load_rows(str(folder)).column_names == ["image", "text", "weight"]
    assert "holds 4 images, and its metadata names 2: others are not read" in warned()


def test_all_kinds_of_metadata_give_the_same_rows(folder):
    rows = [{"file_name": f"{colour}.png", "text": f"a {colour} bus", "sample_weight": 0.5} for colour in COLOURS]
    want = None
    for ending in ("jsonl", "csv", "parquet"):
        table = pa.Table.from_pylist(rows)
        if ending == "jsonl":
            (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
        elif ending == "csv":
            lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
            (folder / "metadata.csv").write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
        else:
            pq.write_table(table, folder / "metadata.parquet")
        read = load_rows(str(folder))
        got = [read.features, *read.remove_columns("image"), *rows_of(folder)]
        want = want or got
        assert got == want and len(read) == 4
        (folder / f"metadata.{ending}").unlink()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_may_end_as_on_any_machine(folder, end):
    lines = ["file_name,text", 'red.png,"a red', 'bus"', "blue.png,a blue bus", ""]
    (folder / "metadata.csv").write_bytes(end.join(lines).encode())
    assert rows_of(folder) == [("red.png", "a red bus"), ("blue.png", "a blue bus")]
    (folder / "metadata.csv").unlink()
    lines = [json.dumps({"file_name": f"{colour}.png", "text": colour}) for colour in COLOURS]
    (folder / "metadata.jsonl").write_bytes(end.join(lines).encode())
    assert rows_of(folder) == [(f"{colour}.png", colour) for colour in COLOURS]


def test_metadata_in_folders_names_images_from_there(tmp_path):
    for number, name in enumerate(("a", "b")):
        (tmp_path / "set" / name / "images").mkdir(parents=True)
        PIL.Image.new("RGB", (8, 8)).save(tmp_path / "set" / name / "images" / f"{number}.png")
        (tmp_path / "set" / name / "metadata.csv").write_text(f"file_name,text\nimages/{number}.png,the {name}\n")
    assert rows_of(tmp_path / "set") == [("0.png", "the a"), ("1.png", "the b")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "metadata.csv",
            b"file_name,text\nred.png,a\nrot.png,b\n",
            r"metadata.csv`, line 3: there is no image .*rot.png",
        ),
        ("metadata.csv", b"name,text\nred.png,a\n", r"metadata.csv`, line 2: wanted `file_name`"),
        ("metadata.csv", "file_name,text\nred.png,f\xfcr\n".encode("cp1252"), r"metadata.csv`, line 2: is no UTF-8"),
        ("metadata.jsonl", '{"file_name": "red.png"}\n'.encode("utf-16"), r"metadata.jsonl`, line 1: .*UTF-16"),
        ("metadata.jsonl", b"\n \n", r"metadata.jsonl` is empty"),
        ("metadata.csv", b"file_name,text\n", r"metadata.csv` is empty"),
        ("metadata.jsonl", b'{"file_name": 3}\n', r"metadata.jsonl`, line 1: wanted `file_name`"),
    ],
)
def test_metadata_that_cannot_be_read_is_named_with_its_line(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_rows(str(folder))


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv", "metadata.parquet"])
def test_rows_read_are_counted_against_those_that_were_written(folder, name, monkeypatch):
    rows = [{"file_name": f"{colour}.png", "text": f'a "{colour}"\nbus, 5" wide'} for colour in COLOURS]
    if name.endswith("jsonl"):
        (folder / name).write_text("\n\n".join(map(json.dumps, rows)) + "\n \n")
    elif name.endswith("csv"):
        with open(folder / name, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), folder / name)
    assert len(load_rows(str(folder))) == len(COLOURS)
    reader = "_metadata_parquet" if name.endswith("parquet") else "_metadata_lines"
    read = getattr(readers, reader)
    monkeypatch.setattr(readers, reader, lambda *given: (table.slice(1) for table in read(*given)))
    (folder / "another.png").write_bytes((folder / rows[0]["file_name"]).read_bytes())  # another key in the cache
    with pytest.raises(ValueError, match=f"{name}`: {len(COLOURS) - 1} rows were read, and {len(COLOURS)} are in it"):
        load_rows(str(folder))


def test_files_beside_images_are_their_captions(folder):
    for colour in COLOURS:
        (folder / f"{colour}.txt").write_text(f"\ufeffa {colour}\n bus\n", encoding="utf-8")
    assert rows_of(folder) == [(f"{colour}.png", f"a {colour} bus") for colour in sorted(COLOURS)]
    (folder / "red.txt").unlink()
    (folder / "gold.txt").write_text("")
    with pytest.raises(ValueError, match=r"2 of 4 rows .*row 1 \(.*gold.png: ''\), row 3 \(.*red.png: None\)"):
        load_rows(str(folder))
    assert len(load_rows(str(folder), bad_captions="skip")) == 2 and len(load_rows(str(folder), needed=["image"])) == 4


def test_class_folders_are_labels(folder):
    for name in ("bus", "fish"):
        (folder / name).mkdir()
    os.rename(folder / "red.png", folder / "bus" / "1.png")
    os.rename(folder / "blue.png", folder / "fish" / "1.png")
    assert load_rows(str(folder)).column_names == ["image"]  # two lie in no class
    (folder / "gold.png").unlink()
    (folder / "green.png").unlink()
    rows = load_rows(str(folder))
    assert rows.features["label"].names == ["bus", "fish"] and rows["label"][:] == [0, 1]
    assert load_rows(str(folder), columns={"text": "label"})["text"][:] == [["bus"], ["fish"]]


def test_an_image_that_was_replaced_is_another_dataset(folder):
    before = load_rows(str(folder))._fingerprint
    assert load_rows(str(folder))._fingerprint == before
    (folder / "out" / "checkpoint-1").mkdir(parents=True)
    (folder / "out" / "checkpoint-1" / "optimizer.pt").write_text("x")
    assert load_rows(str(folder))._fingerprint == before
    os.utime(folder / "red.png", ns=(0, 0))
    assert load_rows(str(folder))._fingerprint != before


def test_a_name_that_is_no_utf_8_is_named(folder):
    with open(os.fsencode(folder) + b"/caf\xe9.png", "wb") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"caf\\xe9.png': the name of a file must be UTF-8"):
        load_rows(str(folder))


def text_of(tmp_path, name, content):
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return str(tmp_path / name)


def test_cells_of_captions_stay_text_and_others_are_numbers_where_all_are(tmp_path):
    lines = ["text,n,x,id,mixed", "007,1,1e3,007,1", "1.50,,NA,12,b", "1984,-3,.5,1,2"]
    rows = load_rows(text_of(tmp_path, "a.csv", "\n".join(lines)))
    assert rows["text"][:] == ["007", "1.50", "1984"] and rows["n"][:] == [1, None, -3]
    assert rows["x"][:] == [1000.0, None, 0.5] and rows["id"][:] == ["007", "12", "1"]
    assert rows["mixed"][:] == ["1", "b", "2"]
    assert load_rows(str(tmp_path / "a.csv"), columns={"text": "n"}, bad_captions="skip")["text"][:] == ["1", "-3"]


def test_a_column_of_numbers_may_turn_out_to_be_words_after_many_rows(tmp_path):
    lines = ["text,id", *(f"a bus,{number}" for number in range(2500)), "a bus,1.0", "a bus,seven"]
    ids = load_rows(text_of(tmp_path, "a.csv", "\n".join(lines)))["id"][:]
    assert ids[:2] == ["0", "1"] and ids[-2:] == ["1.0", "seven"]


def test_every_line_is_a_row(tmp_path):
    lines = [json.dumps({"text": text}) for text in ("a", ["b", "c"], 7, "d\u2028e", "\ud83d bus")]
    rows = load_rows(text_of(tmp_path, "a.jsonl", "\n".join(lines)))
    assert rows["text"][:] == [["a"], ["b", "c"], ["7"], ["d e"], ["\ufffd bus"]]


def test_several_files_are_one_dataset_in_order_and_an_empty_one_is_named(tmp_path):
    text_of(tmp_path, "2.txt", "c\n")
    text_of(tmp_path, "1.txt", "a\nb")
    assert load_rows(str(tmp_path / "*.txt"))["text"][:] == ["a", "b", "c"]
    text_of(tmp_path, "3.txt", "")
    with pytest.raises(ValueError, match=r"3.txt` is empty: it holds no row"):
        load_rows(str(tmp_path / "*.txt"))


def test_blank_lines_are_captions_that_are_none(tmp_path):
    file = text_of(tmp_path, "a.txt", "a bus\n\na fish\n \t\n")
    with pytest.raises(ValueError, match=r"2 of 4 rows .*row 1 \(''\), row 3"):
        load_rows(file)
    assert load_rows(file, bad_captions="skip")["text"][:] == ["a bus", "a fish"]


SAMPLE = {"txt": b"a bus", "json": b'{"caption": ["one", 2, null], "alt": "a vehicle"}'}


def test_samples_may_differ_in_their_fields(tmp_path):
    members = [
        ("0.cls", b"1"),
        ("1.JPG", image_bytes("red", "JPEG")),
        ("1.txt", b"\xef\xbb\xbfred\r\n"),
        ("2.json", json.dumps({"caption": ["blue", "azure\x0b"]}).encode()),
        ("2.webp", image_bytes("blue", "WEBP")),
        ("3.bmp", image_bytes("gold", "BMP")),
        ("3.caption", b"gold"),
    ]
    rows = load_rows(archive(tmp_path / "0.tar", members))
    assert rows["text"][:] == [["red"], ["blue", "azure"], ["gold"]] and len(rows["image"][:]) == 3
    assert load_image(rows[2]["image"]).getpixel((0, 0)) == (255, 215, 0)


def test_columns_of_an_archive_are_fields_or_keys_of_its_json(tmp_path):
    members = [
        ("1.png", image_bytes("red")),
        ("1.seg.png", image_bytes("blue")),
        *(("1." + k, v) for k, v in SAMPLE.items()),
    ]
    file = archive(tmp_path / "0.tar", members)
    assert load_rows(file)["text"][:] == [["a bus"]]
    assert load_rows(file, columns={"text": "alt"})["text"][:] == [["a vehicle"]]
    with pytest.raises(ValueError, match="no column 'gone' for 'text'"):
        load_rows(file, columns={"text": "gone"})
    rows = load_rows(file, columns={"text": "caption", "image": "seg.png"}, bad_captions="skip")
    assert rows["text"][:] == [["one", "2"]] and rows[0]["image"].getpixel((0, 0)) == (0, 0, 255)


def test_archives_of_images_or_of_text_alone_have_no_other_column(tmp_path):
    archive(tmp_path / "i.tar", [("1.png", image_bytes("red"))])
    archive(tmp_path / "t.tar", [("1.txt", b"a bus")])
    assert load_rows(str(tmp_path / "i.tar")).column_names == ["image"]
    assert load_rows(str(tmp_path / "t.tar")).column_names == ["text"]
    with pytest.raises(ValueError, match=r"has no column 'image', it has \['text'\]"):
        load_rows(str(tmp_path / "t.tar"), needed=["image", "text"])


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("1.json", b"{")], r"0.tar/1.json: is no JSON"),
        ([("1.json", b"[1]")], r"0.tar/1.json: wanted an object with `caption`"),
        ([("1.txt", b"a\nf\xfcr")], r"0.tar/1.txt, line 2: is no UTF-8, at the byte 0xfc"),
        ([("1.cls", b"1")], r"no sample has an image .* as 0.tar/1"),
        ([], r"no archive|there is no sample"),
    ],
)
def test_an_archive_that_cannot_be_read_is_named_with_its_sample(tmp_path, members, message):
    with pytest.raises(ValueError, match=message):
        load_rows(archive(tmp_path / "0.tar", members))


def test_an_archive_stands_on_disk_once_more_and_no_oftener(tmp_path):
    noise = np.random.default_rng(0).bytes(300_000)
    archive(
        tmp_path / "0.tar",
        [(f"{n}.{end}", noise if end == "png" else b"a\nbus") for n in range(8) for end in ("png", "txt")],
    )
    load_rows(str(tmp_path / "0.tar"))
    size = sum(
        os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(tmp_path / "cache") for name in names
    )
    assert size < 1.1 * os.path.getsize(tmp_path / "0.tar")


def test_parquet_keeps_what_the_library_knows_of_its_columns(tmp_path):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    rows = [{"image": PIL.Image.new("RGB", (8, 8), colour), "label": 1} for colour in COLOURS]
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "a.parquet")
    read = load_rows(str(tmp_path / "a.parquet"))
    assert read.features == features and read[3]["image"].getpixel((0, 0)) == (255, 215, 0)


def test_parquet_of_other_libraries_has_images_too_and_may_lack_columns(tmp_path):
    image = {"path": None, "bytes": image_bytes("red")}
    pq.write_table(pa.table({"text": ["a"], "image": [image], "n": pa.array([1], pa.int32())}), tmp_path / "0.parquet")
    pq.write_table(pa.table({"n": [2**40], "text": ["b"], "extra": ["c"]}), tmp_path / "1.parquet")
    rows = load_rows(str(tmp_path / "*.parquet"))
    assert rows["n"][:] == [1, 2**40] and rows["extra"][:] == [None, "c"]
    assert rows[0]["image"].size == (8, 8) and rows[1]["image"] is None


def test_arrow_of_both_formats_is_read(tmp_path):
    table = pa.table({"text": ["a", "b"]})
    for number, create in enumerate((pa.ipc.new_stream, pa.ipc.new_file)):
        with create(str(tmp_path / f"{number}.arrow"), table.schema) as writer:
            writer.write_table(table)
    assert load_rows(str(tmp_path / "*.arrow"))["text"][:] == ["a", "b", "a", "b"]


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_a_cut_file_is_named(tmp_path, ending):
    rows = datasets.Dataset.from_dict({"text": [f"a bus {number}" for number in range(5000)]})
    if ending == "parquet":
        rows.to_parquet(tmp_path / "a.parquet")
    else:
        rows.save_to_disk(tmp_path / "saved")
        os.rename(tmp_path / "saved" / "data-00000-of-00001.arrow", tmp_path / "a.arrow")
    content = (tmp_path / f"a.{ending}").read_bytes()
    (tmp_path / f"a.{ending}").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=rf"a.{ending}` is no {ending} file, or is cut"):
        load_rows(str(tmp_path / f"a.{ending}"))


def test_the_first_rows_alone_are_read(folder):
    (folder / "metadata.jsonl").write_text('{"file_name": "red.png", "text": "a"}\n' * 3000 + "no json\n")
    files = find_splits(str(folder))["train"]
    assert len(read_split(files, {}, 2)) == 2 and len(load_rows(str(folder), stream_rows=5)) == 5
    with pytest.raises(ValueError, match="line 3001"):
        load_rows(str(folder))
    with pytest.raises(ValueError, match=r"with `stream_rows`, `split` must be one of \['train'\], got 'train\[:5\]'"):
        load_rows(str(folder), "train[:5]", stream_rows=5)


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_part_of_a_sorted_source_is_drawn_from_all_of_it(tmp_path, monkeypatch, ending):
    rows = datasets.Dataset.from_dict({"text": [f"{'cat' if i < 1500 else 'dog'} {i}" for i in range(3000)]})
    path = str(tmp_path / f"a.{ending}")
    rows.to_parquet(path) if ending == "parquet" else rows.to_json(path)
    drawn = load_rows(path, stream_rows=100, stream_seed=3)["text"][:]
    assert len(set(drawn)) == 100 and 30 < sum(text.startswith("cat") for text in drawn) < 70
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "elsewhere"))  # it is drawn once more
    assert load_rows(path, stream_rows=100, stream_seed=3)["text"][:] == drawn
    assert load_rows(path, stream_rows=100, stream_seed=4)["text"][:] != drawn
    assert load_rows(path, stream_rows=100)["text"][-1] == "cat 99"


def test_reading_keeps_no_list_as_long_as_the_dataset(tmp_path):
    number = 30_000
    file = text_of(tmp_path, "a.txt", "a red bus on the grass\n" * number)
    load_rows(text_of(tmp_path, "warm.txt", "a\n"))
    tracemalloc.start()
    load_rows(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60 * number  # less than the strings alone would take
