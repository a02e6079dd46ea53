# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import io
import json
import logging
import os
import re
from collections import Counter
from itertools import islice

import datasets
import PIL.Image
import PIL.ImageColor
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value

from itit_hf.data.image_tokens import add_image_token_ids
from itit_hf.data.loading import _mixed_rows, label_captions, load_rows, parse_columns, with_columns
from itit_hf.data.streams import ITITCollator, MixedDataset, Stream
from itit_hf.models.image_loading_itit import load_image

from ..hub_server import HubServer
from ..testing_utils import archive, tiny_pairs, tiny_pipeline

COLOURS = ("red", "blue", "green")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


def make_image(colour) -> PIL.Image.Image:
    return PIL.Image.new("RGB", (16, 16), colour)


def png(colour) -> bytes:
    file = io.BytesIO()
    make_image(colour).save(file, format="PNG")
    return file.getvalue()


def folder_of_images(folder, metadata):
    """Three images with metadata; a name for its text by the ending of the file."""
    folder.mkdir()
    for colour in COLOURS:
        make_image(colour).save(folder / f"{colour}.png")
    if metadata == "jsonl":
        lines = [json.dumps({"file_name": f"{c}.png", "text": [f"a {c} bus", f"{c}!"]}) for c in COLOURS]
    else:
        lines = ["file_name,text", *(f"{c}.png,a {c} bus" for c in COLOURS)]
    (folder / f"metadata.{metadata}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(folder)


def table_of_images(**names) -> Dataset:
    features = Features({names.get("image", "image"): Image(), names.get("text", "text"): Value("string")})
    rows = [{names.get("image", "image"): make_image(c), names.get("text", "text"): f"a {c} bus"} for c in COLOURS]
    return Dataset.from_list(rows, features=features)


def samples(*endings, colours=COLOURS):
    """Members of an archive: an image, and a caption by its ending."""
    captions = {
        "txt": lambda c: f"a {c} bus\n".encode(),
        "json": lambda c: json.dumps({"caption": f"a {c} bus"}).encode(),
    }
    return [(f"{c}.{end}", captions[end](c) if end in captions else png(c)) for c in colours for end in endings]


def captions_in(rows):
    return [text if isinstance(text, str) else text[0] for text in rows["text"]]


def colours_of(rows):
    names = {PIL.ImageColor.getrgb(colour): colour for colour in COLOURS}
    return [names[load_image(row["image"]).getpixel((0, 0))] for row in rows]


KINDS = {
    "a folder with metadata.jsonl": lambda at: folder_of_images(at / "images", "jsonl"),
    "a folder with metadata.csv": lambda at: folder_of_images(at / "images", "csv"),
    "a parquet file": lambda at: [table_of_images().to_parquet(at / "a.parquet"), str(at / "a.parquet")][1],
    "archives with txt": lambda at: [archive(at / "0.tar", samples("png", "txt")), str(at / "*.tar")][1],
    "an archive with json": lambda at: archive(at / "0.tar", samples("png", "json")),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_each_kind_of_source_gives_images_and_captions(make, tmp_path):
    rows = load_rows(make(tmp_path))
    assert captions_in(rows) and sorted(zip(colours_of(rows), captions_in(rows), strict=True)) == sorted(
        (colour, f"a {colour} bus") for colour in COLOURS
    )


@pytest.mark.parametrize("ending", ["txt", "jsonl", "csv"])
def test_sentences_stand_in_files_of_text(tmp_path, ending):
    sentences = [f"a {colour} bus" for colour in COLOURS]
    lines = {
        "txt": sentences,
        "jsonl": [json.dumps({"text": sentence}) for sentence in sentences],
        "csv": ["text", *sentences],
    }[ending]
    (tmp_path / f"s.{ending}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert captions_in(load_rows(str(tmp_path / f"s.{ending}"))) == sentences


def test_three_streams_of_three_kinds_make_one_batch(tmp_path):
    archive(tmp_path / "0.tar", samples("png"))
    (tmp_path / "sentences.txt").write_text("a red bus\nthe tree\n", encoding="utf-8")
    streams = [
        Stream("paired", load_rows(folder_of_images(tmp_path / "pairs", "jsonl"))),
        Stream("image", load_rows(str(tmp_path / "*.tar"))),
        Stream("text", load_rows(str(tmp_path / "sentences.txt"))),
    ]
    mixed = MixedDataset(streams)
    batch = ITITCollator(tiny_pipeline().processor)([mixed[name, i, 0] for name in mixed.streams for i in range(2)])
    assert {name: sorted(part) for name, part in batch.items()} == {
        "paired": ["attention_mask", "input_ids", "pixel_values", "replay_index", "sample_index"],
        "image": ["pixel_values", "replay_index", "sample_index"],
        "text": ["attention_mask", "input_ids", "replay_index", "sample_index"],
    }


def test_a_caption_of_a_list_is_drawn_anew_each_time_and_the_same_for_one_seed(tmp_path):
    rows = load_rows(folder_of_images(tmp_path / "images", "jsonl"))
    stream = [Stream("paired", rows, seed=seed) for seed in (0, 0, 1)]
    texts = [[each.sample(sample_index)["text"] for sample_index in range(30)] for each in stream]
    assert texts[0] == texts[1] != texts[2] and len(set(texts[0])) == 6


def test_columns_are_found_by_the_names_they_have(tmp_path):
    table_of_images(image="photo", text="alt").to_parquet(tmp_path / "a.parquet")
    rows = load_rows(str(tmp_path / "a.parquet"), columns={"image": "photo", "text": "alt"})
    assert captions_in(rows) == [f"a {colour} bus" for colour in COLOURS] and colours_of(rows) == list(COLOURS)


@pytest.mark.parametrize(
    "columns, message",
    [
        ({"text": "caption"}, r"no column 'caption' for 'text', it has \['image', 'text'\]"),
        ({"label": "text"}, "'label'"),
    ],
)
def test_a_column_that_is_not_there_is_named(tmp_path, columns, message):
    table_of_images().to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=message):
        load_rows(str(tmp_path / "a.parquet"), columns=columns)


def test_columns_may_change_places_and_take_one(tmp_path):
    rows = Dataset.from_dict({"image": ["a bus"], "text": ["a fish"], "alt": ["a tree"]})
    swapped = with_columns(rows, {"image": "text", "text": "image"}, "set")
    assert swapped[0] == {"text": "a bus", "image": "a fish", "alt": "a tree"}
    assert with_columns(rows, {"text": "alt"}, "set")[0] == {"image": "a bus", "text": "a tree"}
    with pytest.raises(ValueError, match="to two columns"):
        with_columns(rows, {"image": "alt", "text": "alt"}, "set")


def test_a_column_that_is_needed_and_not_there_is_named_with_those_that_are(tmp_path):
    table_of_images(image="photo").to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"has no column 'image', it has \['photo', 'text'\]: .* image=photo"):
        load_rows(str(tmp_path / "a.parquet"), needed=("image", "text"))
    assert len(load_rows(str(tmp_path / "a.parquet"), needed=("text",))) == 3


def test_captions_are_looked_at_only_where_they_are_needed(tmp_path):
    table_of_images().map(lambda row: {"text": None}).to_parquet(tmp_path / "a.parquet")
    assert len(load_rows(str(tmp_path / "a.parquet"), needed=("image",))) == 3
    with pytest.raises(ValueError, match="`a.parquet`: none of its 3 rows has a caption"):
        load_rows(str(tmp_path / "a.parquet"))


def test_words_of_a_command_line_name_columns():
    assert parse_columns(["image=photo", "text=a=b"]) == {"image": "photo", "text": "a=b"}
    for wrong in ("photo", "image=", "=photo", "label=text"):
        with pytest.raises(ValueError, match=f"`--columns` must be of the form .*'{wrong}'"):
            parse_columns(["text=alt", wrong], "--columns")


def labelled():
    features = Features({"image": Image(), "label": ClassLabel(names=["red_bus", "fish"])})
    rows = [{"image": make_image("red"), "label": 0}, {"image": make_image("blue"), "label": 1}]
    return Dataset.from_list(rows, features=features)


def test_class_labels_become_captions_by_one_map():
    rows = labelled()
    rows = rows.map(label_captions(rows.features["label"], ["a {}", "a picture of a {}"]))
    assert rows["text"][:] == [["a red bus", "a picture of a red bus"], ["a fish", "a picture of a fish"]]


def test_a_folder_for_each_class_is_a_dataset_with_the_class_as_caption(tmp_path):
    for name in ("red_bus", "fish"):
        (tmp_path / "classes" / name).mkdir(parents=True)
        make_image("red").save(tmp_path / "classes" / name / "0.png")
    rows = load_rows(str(tmp_path / "classes"), columns={"text": "label"})
    assert sorted(rows["text"][:]) == [["fish"], ["red bus"]]


def test_several_labels_are_several_captions():
    features = Features({"text": datasets.List(ClassLabel(names=["red_bus", "fish"]))})
    rows = with_columns(Dataset.from_dict({"text": [[0, 1], [], None, [1, -1]]}, features=features), {}, "set")
    assert rows["text"][:] == [["red bus", "fish"], [], [], ["fish", None]]


def test_a_template_without_a_place_for_the_name_is_refused():
    with pytest.raises(ValueError, match="an image"):
        label_captions(labelled().features["label"], ["an image"])


@pytest.mark.parametrize("name", ["photos [v1]", "a*b", "what?", "50% {off}", "-o", "~", "tr\u00e4in test"])
def test_a_path_that_exists_is_that_path_whatever_its_name(tmp_path, name, monkeypatch):
    folder = folder_of_images(tmp_path / name, "csv")
    archive(tmp_path / name / "0.tar", samples("png", "txt"))
    (tmp_path / name / "[a].txt").write_text("a red bus\n", encoding="utf-8")
    assert len(load_rows(folder)) == len(load_rows(folder + "/")) == len(load_rows(tmp_path / name)) == 3
    assert len(load_rows(f"{folder}/*.tar")) == 3 and captions_in(load_rows(f"{folder}/[a].txt")) == ["a red bus"]
    monkeypatch.chdir(tmp_path)
    assert len(load_rows(f"./{name}")) == 3


@pytest.mark.parametrize(
    "name", ["gone", "./gone", "/gone", "a/b/c", "gone.tar", "gone/*.csv", "~/gone", "b ä", "owner/gone"]
)
def test_what_does_not_exist_is_named(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of_images(tmp_path / "gone-elsewhere", "csv")
    (tmp_path / "there").mkdir()
    (tmp_path / "gone-elsewhere").rename(tmp_path / "there" / "gone")
    cached = datasets.load_dataset(str(tmp_path / "there" / "gone"))  # which the library knows by its last name
    assert len(cached["train"]) == 3
    with pytest.raises(ValueError, match=f"`{re.escape(name)}`"):
        load_rows(name)


def test_a_file_that_holds_no_rows_is_refused(tmp_path):
    (tmp_path / "a.docx").write_text("x")
    with pytest.raises(ValueError, match="`.*a.docx`: a file must hold rows"):
        load_rows(str(tmp_path / "a.docx"))
    (tmp_path / "a.csv").write_text("text\nb\n")
    with pytest.raises(ValueError, match="means files of several kinds"):
        load_rows(str(tmp_path / "a.*"))


def test_images_that_a_table_names_are_seen_from_there(tmp_path, monkeypatch):
    folder = folder_of_images(tmp_path / "set", "csv")
    (tmp_path / "set" / "metadata.csv").rename(tmp_path / "set" / "captions.csv")
    columns = {"image": "file_name"}
    monkeypatch.chdir("/")
    rows = load_rows(f"{folder}/captions.csv", columns=columns, needed=["image", "text"])
    assert colours_of(rows) == list(COLOURS) and captions_in(rows) == [f"a {colour} bus" for colour in COLOURS]


def test_only_the_first_rows_of_a_stream_are_read(tmp_path):
    archive(tmp_path / "0.tar", samples("png", "txt", colours=COLOURS[:2]))
    archive(tmp_path / "1.tar", samples("png", "txt", colours=COLOURS[2:]))
    rows = load_rows(str(tmp_path / "*.tar"), stream_rows=2)
    assert captions_in(rows) == ["a red bus", "a blue bus"] and colours_of(rows) == ["red", "blue"]
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        load_rows(str(tmp_path / "*.tar"), stream_rows=0)


def sorted_stream(num_files, rows_of_a_file):
    """A stream whose file is the tens of each text, as `12 3`."""

    def rows(files):
        for file in files:
            yield from ({"text": f"{file} {i}"} for i in range(rows_of_a_file))

    return datasets.IterableDataset.from_generator(rows, gen_kwargs={"files": list(range(num_files))})


def test_rows_of_a_stream_are_drawn_from_many_of_its_files(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    texts = [row["text"] for row in islice(_mixed_rows(sorted_stream(8, 5000), 80, seed=1), 80)]
    assert {text.split()[0]: 10 for text in texts} == Counter(text.split()[0] for text in texts)
    assert len(set(texts)) == 80 and max(int(text.split()[1]) for text in texts) > 60  # not the first ten of each
    assert [row["text"] for row in islice(_mixed_rows(sorted_stream(8, 5000), 80, seed=1), 80)] == texts
    other = {row["text"] for row in islice(_mixed_rows(sorted_stream(8, 5000), 80, seed=2), 80)}
    assert other != set(texts) and "one file" not in caplog.text
    next(_mixed_rows(sorted_stream(1, 10), 5, seed=1))
    assert "the stream has one file: 5 rows are drawn from its first rows alone" in caplog.text


def test_a_stream_of_more_files_than_are_open_is_read_to_its_end(monkeypatch):
    monkeypatch.setattr("itit_hf.data.loading.MAX_OPEN_FILES", 3)
    texts = [row["text"] for row in _mixed_rows(sorted_stream(7, 4), 100, seed=0)]
    assert sorted(texts) == [f"{file} {i}" for file in range(7) for i in range(4)]


def test_samples_without_a_caption_are_rows_whose_caption_is_none(tmp_path):
    whole = [(f"{i}.{end}", content) for i in range(3) for end, content in (("png", png("red")), ("txt", b"a bus"))]
    file = archive(tmp_path / "0.tar", [("8.png", png("blue")), *whole, ("9.png", png("blue")), ("9.txt", b"  ")])
    with pytest.raises(ValueError, match=r"2 of 5 rows .*row 0 \(0.tar/8.png: \[\]\), row 4 \(0.tar/9.png"):
        load_rows(file)
    assert len(load_rows(file, bad_captions="skip")) == 3 and len(load_rows(file, needed=["image"])) == 5


def broken_metadata(folder, line):
    at = folder_of_images(folder / "images", "jsonl")
    with open(f"{at}/metadata.jsonl", "a", encoding="utf-8") as file:
        file.write(line)
    return at


def cut_parquet(folder):
    table_of_images().to_parquet(folder / "a.parquet")
    content = (folder / "a.parquet").read_bytes()
    (folder / "a.parquet").write_bytes(content[: len(content) // 2])
    return str(folder / "*.parquet")


def broken_archive(folder):
    (folder / "0.tar").write_bytes(b"no archive" * 100)
    return str(folder / "0.tar")


def broken_csv(folder):
    at = folder_of_images(folder / "images", "csv")
    with open(f"{at}/metadata.csv", "a", encoding="utf-8") as file:
        file.write("red.png\n")
    return at


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda at: broken_metadata(at, "{no json\n"), r"metadata.jsonl`, line 4: is no JSON"),
        (lambda at: broken_metadata(at, '["red.png"]\n'), r"metadata.jsonl`, line 4: wanted an object"),
        (lambda at: broken_metadata(at, '{"text": "a"}\n'), r"metadata.jsonl`, line 4: wanted `file_name`"),
        (lambda at: broken_metadata(at, '{"file_name": "gone.png"}\n'), r"line 4: there is no image .*gone.png"),
        (broken_csv, r"metadata.csv`, line 5: has another number of cells"),
        (cut_parquet, r"a.parquet` is no parquet file, or is cut"),
        (broken_archive, r"0.tar` is no archive"),
        (lambda at: str(at / "*.tar"), r"there is no file or folder at `.*\*.tar`"),
        (lambda at: archive(at / "0.tar", [("0.cls", b"1")]), "no sample has an image"),
    ],
)
def test_a_broken_file_is_named_with_its_line(make, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_rows(make(tmp_path))


def test_a_row_that_cannot_be_used_is_named(tmp_path):
    rows = load_rows(folder_of_images(tmp_path / "images", "jsonl"))
    (tmp_path / "images" / "red.png").write_bytes(b"cut")
    with pytest.raises(ValueError, match="row 2 of the stream `paired`"):
        stream = Stream("paired", rows.select([1, 2, 0]))
        [stream.sample(sample_index) for sample_index in range(3)]


def test_a_dataset_of_the_hub_is_opened_whole_and_in_part(tmp_path, monkeypatch):
    with HubServer(tmp_path / "hub") as server:
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", server.url)
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        table_of_images().push_to_hub("user/buses")
        assert sorted(captions_in(load_rows("user/buses"))) == sorted(f"a {colour} bus" for colour in COLOURS)
        assert captions_in(load_rows("user/buses", "train", stream_rows=2)) == ["a red bus", "a blue bus"]
        drawn = load_rows("user/buses", "train", stream_rows=2, stream_seed=0)
        assert len(drawn) == 2 and drawn[0]["image"].size == table_of_images()[0]["image"].size
        for unknown in ("user/none", "none"):
            with pytest.raises(ValueError, match=f"`{unknown}`.* no (such )?dataset of the Hub"):
                load_rows(unknown)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    assert len(load_rows("user/buses")) == 3  # as it was read before


def test_images_are_not_written_once_more_beside_their_tokens(processor, tmp_path):
    rows = tiny_pairs(4).save_to_disk(tmp_path / "rows") or load_rows(str(tmp_path / "rows"))
    folder = os.path.dirname(rows.cache_files[0]["filename"])
    before = os.listdir(folder)
    add_image_token_ids(rows, processor)
    (added,) = set(os.listdir(folder)) - set(before)
    assert Dataset.from_file(os.path.join(folder, added)).column_names == ["image_token_ids", "image_tokenizer"]


def test_a_folder_of_images_is_opened_and_a_wrong_split_is_named(tmp_path):
    lines = []
    for i, row in enumerate(tiny_pairs(3)):
        row["image"].save(tmp_path / f"{i}.png")
        lines.append(f'{{"file_name": "{i}.png", "text": "{row["text"][0]}"}}')
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    rows = load_rows(str(tmp_path))
    assert rows.column_names == ["image", "text"] and rows[1]["text"] == "a blue bus"
    with pytest.raises(ValueError, match=r"it has no split 'paired', of \['train'\]"):
        load_rows(str(tmp_path), "paired")


@pytest.fixture
def world(tmp_path):
    """Ten numbered sentences in the split `paired`, four in `more`."""
    files = "".join(f"  - split: {name}\n    path: {name}.parquet\n" for name in ("paired", "more"))
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")
    Dataset.from_dict({"text": [str(i) for i in range(10)]}).to_parquet(tmp_path / "paired.parquet")
    Dataset.from_dict({"text": [f"more {i}" for i in range(4)]}).to_parquet(tmp_path / "more.parquet")
    return str(tmp_path)


@pytest.mark.parametrize(
    ("split", "rows"),
    [
        ("paired[:3]", ["0", "1", "2"]),
        ("paired[8:]", ["8", "9"]),
        ("paired[:20%]", ["0", "1"]),
        ("more[-1:]+paired[:1]", ["more 3", "0"]),
        ("more[:500]", ["more 0", "more 1", "more 2", "more 3"]),
    ],
)
def test_a_part_of_a_split_is_named_in_brackets(world, split, rows):
    assert load_rows(world, split)["text"] == rows


@pytest.mark.parametrize("split", ["paired[:3", "paired[3]", "paired[:x]", "paired[:200%]", "rest[:3]"])
def test_a_part_that_cannot_be_read_is_named(world, split):
    with pytest.raises(ValueError, match=rf"it has no split '{re.escape(split)}', of \['more', 'paired'\]; wanted"):
        load_rows(world, split)


def test_a_part_without_rows_is_named(world):
    with pytest.raises(ValueError, match=r"'paired\[10:\]' holds no row; rows of each split: {'paired': 10}"):
        load_rows(world, "paired[10:]")


def test_the_same_part_finds_its_image_tokens_again(tmp_path, processor):
    tiny_pairs(6).to_parquet(tmp_path / "train.parquet")
    first, second = (load_rows(str(tmp_path), "train[:4]") for _ in range(2))
    assert first._fingerprint == second._fingerprint != load_rows(str(tmp_path), "train[:5]")._fingerprint
    assert len(add_image_token_ids(first, processor)) == 4


def test_two_folders_of_one_name_never_share_their_cache(tmp_path):
    files = "  data_files:\n  - split: paired\n    path: data/paired-*.parquet\n"
    card = f"---\nconfigs:\n- config_name: default\n{files}---\n"
    for number, place in enumerate(("here", "there"), start=1):
        folder = tmp_path / place / "world"
        (folder / "data").mkdir(parents=True)
        (folder / "README.md").write_text(card)
        tiny_pairs(number).to_parquet(folder / "data" / "paired-00000-of-00001.parquet")
        assert len(load_rows(str(folder), "paired")) == number


def test_a_folder_that_changed_is_read_again(tmp_path):
    for number in (1, 2):
        tiny_pairs(number).to_parquet(tmp_path / "train.parquet")
        assert len(load_rows(str(tmp_path))) == number
