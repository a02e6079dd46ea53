# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import itertools
import logging
from collections import Counter

import pytest
import torch
from datasets import Dataset, concatenate_datasets
from datasets import Image as DatasetImage

from itit_hf.data.image_tokens import add_image_token_ids
from itit_hf.data.loading import load_rows
from itit_hf.data.streams import (
    ITITCollator,
    MixedBatchSampler,
    MixedDataset,
    Stream,
    check_image_tokenizer,
    image_tokenizer_fingerprint,
    readable_images,
)
from itit_hf.models.processing_itit import ITITProcessor

from ..testing_utils import tiny_image_tokenizer, tiny_pairs


def test_each_epoch_holds_every_row_once_in_a_new_order():
    stream = Stream("text", [{"text": str(i)} for i in range(7)], seed=3)
    epochs = [[stream.row_index(p) for p in range(7 * e, 7 * e + 7)] for e in range(3)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs) and epochs[0] != epochs[1]


def test_streams_of_the_same_rows_have_orders_of_their_own():
    rows = [{"text": str(i), "image": i} for i in range(50)]
    orders = [[Stream(name, rows, seed=3).row_index(p) for p in range(50)] for name in ("paired", "image", "text")]
    together = [sum(a == b for a, b in zip(*pair, strict=True)) for pair in itertools.combinations(orders, 2)]
    assert max(together) < 10  # of 50; one by chance


def test_a_position_means_the_same_row_whatever_was_read_before():
    rows = [{"text": str(i)} for i in range(5)]
    onward = Stream("text", rows, seed=1)
    read = [onward.sample(p) for p in range(12)]
    assert [Stream("text", rows, seed=1).sample(p) for p in range(12)] == read
    assert onward.sample(2) == read[2]


def test_captions_of_a_row_take_turns():
    stream = Stream("text", [{"text": ["a", "b", "c"]}])
    counts = Counter(stream.sample(p)["text"] for p in range(300))
    assert set(counts) == {"a", "b", "c"} and min(counts.values()) > 60


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_any_number_of_processes_takes_the_same_global_batch(world_size):
    samplers = [MixedBatchSampler({"paired": 4 // world_size}, 3, r, world_size) for r in range(world_size)]
    batches = zip(*samplers, strict=True)
    assert [sorted(p for part in batch for _, p, _ in part) for batch in batches] == [
        list(range(start, start + 4)) for start in (0, 4, 8)
    ]


SIZES_AND_COUNTS = [
    ({"paired": 7, "image": 7, "text": 7}, {"paired": 2, "image": 2, "text": 2}),
    ({"paired": 50, "image": 1, "text": 3}, {"paired": 2, "image": 4, "text": 5}),  # batches of several epochs
    ({"paired": 3, "image": 40, "text": 41}, {"paired": 5, "image": 1, "text": 2}),
    ({"paired": 1}, {"paired": 1}),
]


@pytest.mark.parametrize(("sizes", "counts"), SIZES_AND_COUNTS)
@pytest.mark.parametrize(("world_size", "accumulation", "replay"), [(1, 1, 1), (2, 1, 2), (3, 2, 1), (8, 1, 1)])
def test_no_process_waits_for_another_whatever_the_streams_sizes(sizes, counts, world_size, accumulation, replay):
    samplers = [MixedBatchSampler(counts, 6, rank, world_size, accumulation, replay) for rank in range(world_size)]
    taken = {name: Counter() for name in sizes}
    for batches in zip(*samplers, strict=True):  # as many batches in each process
        for batch in batches:
            assert Counter(name for name, _, _ in batch) == counts  # with as many samples of each stream
            for name, sample_index, replay_index in batch:
                taken[name][sample_index] += 1
                assert replay_index < (1 if name == "paired" else replay)
    for name, times in taken.items():
        uses = 1 if name == "paired" else replay
        total = 6 * accumulation * world_size * counts[name] // uses
        assert times == dict.fromkeys(range(total), uses)  # together they take each sample in turn
        stream = Stream(name, [{"text": str(i), "image_token_ids": [i]} for i in range(sizes[name])])
        rows = Counter(stream.row_index(sample_index) for sample_index in range(total))
        seen = [rows[row] for row in range(sizes[name])]
        assert max(seen) - min(seen) <= 1


def test_accumulated_batches_are_the_large_batch():
    large = list(MixedBatchSampler({"paired": 4}, 2))
    small = list(MixedBatchSampler({"paired": 2}, 2, accumulation=2))
    assert [small[0] + small[1], small[2] + small[3]] == large


def test_streams_keep_their_own_counts():
    (batch,) = MixedBatchSampler({"paired": 2, "image": 0, "text": 1}, 1)
    assert batch == [("paired", 0, 0), ("paired", 1, 0), ("text", 0, 0)]


def test_replayed_streams_go_on_after_so_many_updates():
    batches = list(MixedBatchSampler({"paired": 1, "text": 2}, 4, replay=2))
    assert [[address for address in batch if address[0] == "text"] for batch in batches] == [
        [("text", 0, 0), ("text", 1, 0)],
        [("text", 0, 1), ("text", 1, 1)],
        [("text", 2, 0), ("text", 3, 0)],
        [("text", 2, 1), ("text", 3, 1)],
    ]


def test_pairs_are_never_replayed():
    batches = MixedBatchSampler({"paired": 1, "text": 1}, 3, replay=3)
    assert [batch[0] for batch in batches] == [("paired", 0, 0), ("paired", 1, 0), ("paired", 2, 0)]


def test_a_replayed_sample_stays_on_its_rank_and_in_its_micro_batch():
    sampler = MixedBatchSampler({"image": 1}, 2, rank=1, world_size=2, accumulation=2, replay=2)
    assert list(sampler) == [[("image", 1, 0)], [("image", 3, 0)], [("image", 1, 1)], [("image", 3, 1)]]


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("pairs", [{"text": "a"}], "`name` must be one of"),
        ("text", [], "has no rows"),
        ("paired", [{"text": "a"}], "needs a column `image`"),
        ("text", [{"caption": "a"}], "needs a column `text`"),
    ],
)
def test_streams_that_cannot_be_read_are_named(name, rows, message):
    with pytest.raises(ValueError, match=message):
        Stream(name, rows)


def test_the_weight_of_a_pair_comes_with_it(processor):
    rows = [row | {"sample_weight": i / 8} for i, row in enumerate(tiny_pairs(4))]
    stream = Stream("paired", rows)
    batch = ITITCollator(processor)([("paired", stream.sample(i)) for i in range(4)])
    assert batch["paired"]["sample_weight"].tolist() == [stream.row_index(i) / 8 for i in range(4)]


@pytest.mark.parametrize("weight", [None, -0.1, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_named(weight):
    with pytest.raises(ValueError, match="`sample_weight` of row 0"):
        Stream("paired", [next(iter(tiny_pairs(1))) | {"sample_weight": weight}]).sample(0)


def test_a_row_without_captions_is_named():
    with pytest.raises(ValueError, match="row 0 of the stream `text` has no caption"):
        Stream("text", [{"text": []}]).sample(0)


def test_batches_are_nested_by_stream(processor):
    pairs = tiny_pairs()
    dataset = MixedDataset([Stream("paired", pairs), Stream("image", pairs), Stream("text", pairs)])
    addresses = [("paired", 0, 0), ("paired", 1, 0), ("image", 0, 0), ("text", 5, 0)]
    batch = ITITCollator(processor)([dataset[address] for address in addresses])
    assert {name: sorted(part) for name, part in batch.items()} == {
        "paired": ["attention_mask", "input_ids", "pixel_values", "replay_index", "sample_index"],
        "image": ["pixel_values", "replay_index", "sample_index"],
        "text": ["attention_mask", "input_ids", "replay_index", "sample_index"],
    }
    assert batch["paired"]["pixel_values"].shape == (2, 3, 16, 16)
    assert batch["text"]["sample_index"].tolist() == [5]


def test_tokens_made_beforehand_equal_tokens_made_on_the_way(processor):
    pairs = add_image_token_ids(tiny_pairs(), processor)
    batch = ITITCollator(processor)([("paired", Stream("paired", pairs).sample(p)) for p in range(3)])
    pixels = ITITCollator(processor)([("paired", Stream("paired", tiny_pairs()).sample(p)) for p in range(3)])
    from itit_hf.models.image_tokenization_itit import encode_images

    want = encode_images(processor.image_tokenizer, pixels["paired"]["pixel_values"])
    assert torch.equal(batch["paired"]["image_token_ids"], want)


def other_processor(processor, change):
    """The same, with one change to the weights of its image tokenizer."""
    image_tokenizer = tiny_image_tokenizer()
    image_tokenizer.load_state_dict(processor.image_tokenizer.state_dict())
    with torch.no_grad():
        next(tensor for name, tensor in image_tokenizer.named_parameters() if name.startswith(change)).add_(0.01)
    return ITITProcessor(processor.image_processor, processor.tokenizer, image_tokenizer)


@pytest.mark.parametrize("change", ["encoder.", "quantize."])
def test_tokens_of_another_image_tokenizer_are_refused_wherever_they_are_used(processor, change, tmp_path):
    tokens = add_image_token_ids(tiny_pairs(4), processor).remove_columns("image")
    tokens.to_parquet(tmp_path / "train.parquet")
    rows = load_rows(str(tmp_path)).select([2, 0])  # as another run would read them
    assert add_image_token_ids(rows, processor) is rows
    other = other_processor(processor, change)
    wanted = image_tokenizer_fingerprint(other)
    with pytest.raises(ValueError, match=f"made by another image tokenizer .* and not {wanted}"):
        add_image_token_ids(rows, other)
    mixed = concatenate_datasets([rows, add_image_token_ids(tiny_pairs(1), other).remove_columns("image")])
    with pytest.raises(ValueError, match="made by another image tokenizer"):
        check_image_tokenizer(mixed, processor)


def test_tokens_of_tall_images_are_refused_for_wide_ones(processor):
    sizes = {"tall": (24, 8), "wide": (8, 24)}
    parts = {name: processor.image_processor.with_size(*size) for name, size in sizes.items()}
    tall, wide = (ITITProcessor(parts[name], processor.tokenizer, processor.image_tokenizer) for name in sizes)
    rows = add_image_token_ids(tiny_pairs(2), tall)
    assert len(rows[0]["image_token_ids"]) == 12
    check_image_tokenizer(rows, tall)
    with pytest.raises(ValueError, match="or of images of another shape, .*-6x2.* and not .*-2x6"):
        check_image_tokenizer(rows, wide)


BAD = {"bytes": b"no image", "path": "bad.png"}


def make_images(*bad_rows):
    """Ten rows, of which some have an image that cannot be read."""
    good = tiny_pairs(10)
    return [{"image": BAD if i in bad_rows else good[i]["image"], "text": str(i)} for i in range(10)]


def test_a_row_with_a_bad_image_is_replaced_by_the_next_one_and_counted():
    rows = make_images(3, 4)
    stream = Stream("paired", rows, on_bad_image="skip")
    samples = [stream.sample(sample_index) for sample_index in range(10)]
    order = [stream.row_index(sample_index) for sample_index in range(10)]
    assert [sample["text"] for sample in samples] == [str({3: 5, 4: 5}.get(row, row)) for row in order]
    assert [sum(sample["skipped"]) for sample in samples] == [{3: 2, 4: 1}.get(row, 0) for row in order]


def test_a_bad_image_is_named_by_its_row_unless_it_is_skipped():
    stream = Stream("paired", make_images(*range(10)))
    with pytest.raises(ValueError, match=f"row {stream.row_index(0)} of the stream `paired`"):
        stream.sample(0)


def test_a_stream_of_bad_images_ends():
    with pytest.raises(ValueError, match="100 images in a row cannot be used"):
        Stream("image", make_images(*range(10)), on_bad_image="skip").sample(0)


def test_a_policy_that_is_none_is_named():
    with pytest.raises(ValueError, match="`on_bad_image` must be one of"):
        Stream("image", make_images(), on_bad_image="ignore")


def test_images_of_a_dataset_pass_the_door_undecoded():
    stream = Stream("paired", tiny_pairs())
    assert set(stream.rows[0]["image"]) == {"bytes", "path"}
    row = stream.row_index(0)
    assert stream.sample(0)["image"].tobytes() == tiny_pairs()[row]["image"].convert("RGB").tobytes()


def test_of_few_images_a_bad_one_is_no_large_share_but_half_of_them_is(caplog):
    logging.getLogger("itit_hf").propagate = True
    files = tiny_pairs(6).cast_column("image", DatasetImage(decode=False)).to_list()
    for row in (1, 4):
        files[row]["image"] = BAD
    rows = readable_images(Dataset.from_list(files), "test")
    assert len(rows) == 4 and "2 of 6 images cannot be used and are left out: row 1 of `test`" in caplog.text
    for row in (0, 2):
        files[row]["image"] = BAD
    with pytest.raises(ValueError, match="`test`: 4 of 6 images cannot be used, more than 5%: row 0 of `test`"):
        readable_images(Dataset.from_list(files), "test")


def test_a_sampler_starts_where_a_run_was():
    counts = {"paired": 2, "text": 3}
    whole = list(MixedBatchSampler(counts, 6, accumulation=2, replay=2))
    assert list(MixedBatchSampler(counts, 6, accumulation=2, replay=2, first_update=4)) == whole[8:]
