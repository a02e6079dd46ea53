# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import io

import datasets
import numpy as np
import PIL.Image
import pytest
import torch

from data_curation import filters
from data_curation.filters import (
    ALIGN_RULES,
    FilterRules,
    PairCounts,
    PairJudge,
    filter_pairs,
    perceptual_hash,
    perceptual_hashes,
)

SMALL = FilterRules(min_side=4)
EIGHT_PIXELS = (8, 8)


def make_image(colour=0, size=EIGHT_PIXELS) -> dict:
    file = io.BytesIO()
    PIL.Image.new("RGB", size, (colour % 256, colour // 256, 0)).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def pair(text="a red bus", colour=0, size=EIGHT_PIXELS) -> dict:
    return {"image": make_image(colour, size), "text": text}


def reasons(rows: list[dict], rules: FilterRules = SMALL) -> list:
    judge = PairJudge(rules, PairCounts().add(rows))
    return [judge.reasons(row)[0] for row in rows]


def words(number: int) -> str:
    return " ".join(f"w{i}" for i in range(number))


def corpus() -> datasets.Dataset:
    """Pairs for each reason, and good ones; in the order of `data_curation.filters.REASONS`."""
    rows = [{"image": {"bytes": b"no image", "path": None}, "text": "a red bus"}]
    rows += [pair("a small red bus", 1, (4, 8)), pair("a wide red bus", 2, (24, 8))]
    rows += [pair(f"the red bus {i}", 3) for i in range(5)]
    rows += [pair("the same old words", 10 + i) for i in range(3)]
    rows += [pair("two words", 20), pair(words(21), 21)]
    rows += [pair(f"a good caption {i}", 30 + i) for i in range(4)]
    features = datasets.Features({"image": datasets.Image(decode=False), "text": datasets.Value("string")})
    return datasets.Dataset.from_list(rows, features=features)


CORPUS_RULES = FilterRules(min_side=4, max_texts_per_image=4, max_images_per_text=2)
CORPUS_DROPPED = {"unreadable_image": 1, "small_image": 1, "narrow_image": 1, "image_of_many_texts": 5}
CORPUS_DROPPED |= {"text_of_many_images": 3, "few_words": 1, "many_words": 1}


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ((200, 300), "small_image"),  # exactly 200 is not larger
        ((201, 300), None),
        ((300, 200), "small_image"),
        ((201, 603), "narrow_image"),  # exactly 3 is not less
        ((201, 602), None),
        ((603, 201), "narrow_image"),
    ],
)
def test_edges_of_the_image_rules(size, reason):
    assert reasons([pair(size=size)], ALIGN_RULES) == [reason]


@pytest.mark.parametrize(("number", "reason"), [(2, "few_words"), (3, None), (20, None), (21, "many_words")])
def test_edges_of_the_length_of_a_text(number, reason):
    assert reasons([pair(words(number))]) == [reason]


@pytest.mark.parametrize(("number", "reason"), [(10, None), (11, "text_of_many_images")])
def test_edges_of_the_number_of_images_of_a_text(number, reason):
    assert reasons([pair(colour=i) for i in range(number)]) == [reason] * number


@pytest.mark.parametrize(("number", "reason"), [(1000, None), (1001, "image_of_many_texts")])
def test_edges_of_the_number_of_texts_of_a_image(number, reason):
    image = make_image()
    rows = [{"image": image, "text": f"a red bus {i}"} for i in range(number)]
    judge = PairJudge(SMALL, PairCounts().add(rows))
    assert judge.reasons(rows[0]) == judge.reasons(rows[-1]) == [reason]


def test_a_pair_that_is_there_often_counts_once():
    assert reasons([pair()] * 11) == [None] * 11


def test_a_text_needs_all_its_words_and_neighbours_among_the_frequent_ones():
    rows = [pair("a red bus", i) for i in range(3)] + [pair("red bus a", 9)]
    # a 4, red 4, bus 4, red bus 4, a red 3, bus a 1
    assert reasons(rows, FilterRules(min_side=4, frequent_ngrams=5)) == [None] * 3 + ["rare_words"]
    assert reasons(rows, FilterRules(min_side=4, frequent_ngrams=6)) == [None] * 4


def test_of_equally_frequent_words_the_same_stay_in_any_order():
    rows = [pair(words(12), 1), pair(" ".join(reversed(words(12).split())), 2)]
    there, back = (PairCounts().add(order).frequent_ngrams(7) for order in (rows, rows[::-1]))
    assert there == back and len(there) == 7


def test_rules_can_be_left_out():
    nothing = FilterRules(None, None, None, None, None, None, None)
    assert reasons([pair("x", size=(2, 90))], nothing) == [None]


def test_counts_of_reasons_add_up():
    kept, report = filter_pairs(corpus(), CORPUS_RULES)
    assert {reason: count for reason, count in report.dropped.items() if count} == CORPUS_DROPPED
    assert report.kept == len(kept) == 4 and report.pairs == len(corpus()) == report.kept + sum(
        report.dropped.values()
    )
    assert kept["text"][:] == [f"a good caption {i}" for i in range(4)]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_neither_order_nor_parts_nor_workers_change_what_is_kept(monkeypatch, num_workers):
    monkeypatch.setattr(filters, "_ROWS_PER_PART", 5)
    again = [pair("a good caption 0", 50), pair("a good caption 1", 51)]
    rows = datasets.concatenate_datasets([corpus(), datasets.Dataset.from_list(again, features=corpus().features)])
    shuffled = rows.select(torch.randperm(len(rows), generator=torch.Generator().manual_seed(1)).tolist())
    rules = FilterRules(4, 3.0, 4, 2, frequent_ngrams=22)  # those that are there twice
    kept, report = filter_pairs(shuffled, rules, num_workers=num_workers)
    assert report == filter_pairs(rows, rules)[1] and report.dropped["rare_words"] == 2
    assert sorted(kept["text"]) == ["a good caption 0"] * 2 + ["a good caption 1"] * 2


def test_a_row_loses_the_captions_that_do_not_pass():
    rows = datasets.Dataset.from_list([pair(["a red bus", "bus"]), pair(["fish"], 1), pair(["a blue fish"], 2)])
    kept, report = filter_pairs(rows.cast_column("image", datasets.Image()), SMALL)
    assert kept["text"][:] == [["a red bus"], ["a blue fish"]]
    assert (report.pairs, report.kept, report.dropped["few_words"]) == (4, 2, 2)


def test_the_report_is_a_table():
    _, report = filter_pairs(corpus(), CORPUS_RULES)
    assert "| image_of_many_texts | 5 |\n" in report.markdown() and "| kept | 4 |\n" in report.markdown()


def photo(seed: int, side: int = 64) -> PIL.Image.Image:
    coarse = np.random.RandomState(seed).randint(0, 256, (6, 6, 3)).astype(np.uint8)
    return PIL.Image.fromarray(coarse).resize((side, side), PIL.Image.Resampling.BICUBIC)


def bits(first: PIL.Image.Image, second: PIL.Image.Image) -> int:
    return bin(int(perceptual_hash(first) ^ perceptual_hash(second))).count("1")


def test_a_perceptual_hash_outlives_scaling_compression_and_brightness():
    file = io.BytesIO()
    photo(0).save(file, "JPEG", quality=60)
    assert bits(photo(0), photo(0).resize((96, 96))) <= 3
    assert bits(photo(0), PIL.Image.open(file)) <= 3
    assert bits(photo(0), photo(0).point(lambda value: int(0.8 * value))) <= 3
    assert all(bits(photo(0), photo(seed)) > 12 for seed in range(1, 20))


@pytest.mark.parametrize(("flipped", "reason"), [(3, "near_test_image"), (4, None)])
def test_edges_of_the_distance_to_a_test_image(flipped, reason):
    image = photo(0)
    file = io.BytesIO()
    image.save(file, "PNG")
    row = {"image": {"bytes": file.getvalue(), "path": None}, "text": "a red bus"}
    near = perceptual_hashes([photo(5), image]) ^ np.uint64(2**flipped - 1)
    assert PairJudge(SMALL, PairCounts().add([row]), near).reasons(row) == [reason]


class Likes:
    """Gives a cosine by the words of the text."""

    batch_size = 2

    def cosine(self, images, texts):
        assert len(images) == len(texts) <= self.batch_size
        return torch.tensor([0.3 if "red" in text else 0.2 for text in texts])


def test_a_scorer_judges_what_passed_and_its_edge_is_kept():
    rows = datasets.Dataset.from_list([pair(["a red bus", "a blue bus", "red"], i) for i in range(3)])
    kept, report = filter_pairs(rows.cast_column("image", datasets.Image()), SMALL, scorer=Likes(), min_cosine=0.25)
    assert kept["text"][:] == [["a red bus"]] * 3
    assert (report.dropped["low_cosine"], report.dropped["few_words"]) == (3, 3)


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="`min_cosine`"):
        filter_pairs(corpus(), scorer=Likes())
    with pytest.raises(ValueError, match=r"\['image'\] is missing"):
        filter_pairs(datasets.Dataset.from_dict({"text": ["a"]}))
