# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import tracemalloc

import numpy as np
import pytest
import torch

from itit_hf.data.order import BlockOrder, KeyedOrder, create_order
from itit_hf.data.streams import Stream
from itit_hf.rng import KeyedPermutation, keyed_integer


def epoch_of(order, epoch=0):
    return [order(index) for index in range(epoch * order.num_rows, (epoch + 1) * order.num_rows)]


def tables(order, size, number):
    """So many shuffles, of shape `(number, size)`, by the keyed permutation or by torch."""
    if order == "keyed":
        return np.stack([KeyedPermutation(size, seed, "test", 0).table() for seed in range(number)])
    generators = [torch.Generator().manual_seed(seed) for seed in range(number)]
    return np.stack([torch.randperm(size, generator=generator).numpy() for generator in generators])


def chi_square(counts):
    """Of counts that should be alike, per degree of freedom: about 1."""
    counts = np.asarray(counts)
    return float(((counts - counts.mean()) ** 2 / counts.mean()).sum() / (counts.size - 1))


def sizes():
    some = [*range(1, 41), *range(41, 2000, 97), 2000]
    every = [pytest.param(range(start, start + 100), marks=pytest.mark.slow) for start in range(1, 2001, 100)]
    large = torch.randint(2001, 100_000, (100,), generator=torch.Generator().manual_seed(0)).tolist()
    return [some, large[:10], *every, pytest.param(large[10:], marks=pytest.mark.slow)]


@pytest.mark.parametrize("sizes", sizes(), ids=lambda sizes: f"{min(sizes)}-{max(sizes)}")
def test_a_keyed_permutation_holds_each_index_once_and_each_epoch_is_another(sizes):
    for size in sizes:
        first, second = (KeyedPermutation(size, 3, "test", epoch).table() for epoch in (0, 1))
        assert (np.bincount(first, minlength=size) == 1).all() and (np.bincount(second, minlength=size) == 1).all()
        # Of 5 rows and more two epochs of this seed differ; fewer have so few orders that they may meet.
        assert size < 5 or not np.array_equal(first, second)


def test_one_index_goes_where_the_whole_table_says():
    for size in (1, 2, 7, 100, 1009):
        permutation = KeyedPermutation(size, 0, "test", 2)
        assert [permutation(index) for index in range(size)] == permutation.table().tolist()


def test_indices_out_of_range_and_empty_sizes_are_refused():
    with pytest.raises(IndexError, match="from 0 to 6, got 7"):
        KeyedPermutation(7, 0, "test", 0)(7)
    with pytest.raises(ValueError, match="`size` must be from 1 to 2\\^63, got 0"):
        KeyedPermutation(0, 0, "test", 0)


def test_a_trillion_rows_take_no_memory_and_few_steps(monkeypatch):
    calls = []
    monkeypatch.setattr("itit_hf.rng.keyed_integer", lambda *key: calls.append(key) or keyed_integer(*key))
    order = KeyedOrder(10**12, 0, "paired")
    order(0)
    tracemalloc.start()
    rows = [order(offset * 10**8 + 5) for offset in range(1000)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(set(rows)) == 1000 and max(rows) > 10**11 and max(rows) < 10**12
    assert peak < 100_000  # bytes; most are the list of the results
    assert len(calls) == KeyedPermutation.NUM_ROUNDS  # hashes of an epoch, however many rows are asked for


@pytest.mark.parametrize("size", [7, 10, 100])
def test_positions_and_neighbours_are_as_even_as_those_of_randperm(size):
    number = 800
    for order in ("keyed", "randperm"):
        shuffles = tables(order, size, number)  # (number, size)
        cells = shuffles + size * np.arange(size)  # a cell for each position and value
        assert chi_square(np.bincount(cells.ravel(), minlength=size * size)) < 1.5
        steps = np.diff(shuffles, axis=1) % size  # of neighbours; never 0
        assert chi_square(np.bincount(steps.ravel(), minlength=size)[1:]) < 3.5
        assert abs((np.diff(shuffles, axis=1) > 0).mean() - 0.5) < 0.02


def test_a_long_shuffle_correlates_with_nothing():
    for order in ("keyed", "randperm"):
        shuffles = tables(order, 10_000, 4)
        index = np.arange(10_000)
        for shuffle in shuffles:
            assert abs(np.corrcoef(shuffle, index)[0, 1]) < 0.05  # five standard deviations
            assert abs(np.corrcoef(shuffle[1:], shuffle[:-1])[0, 1]) < 0.05
            assert abs(np.abs(np.diff(shuffle)).mean() / (10_000 / 3) - 1) < 0.05
        assert abs(np.corrcoef(shuffles[0], shuffles[1])[0, 1]) < 0.05


@pytest.mark.parametrize("num_together", [1, 2, 3, 9])
def test_blocks_give_each_row_once_and_finish_a_group_before_the_next(num_together):
    sizes = [4, 1, 0, 6, 5, 2]
    owner = np.repeat(range(len(sizes)), sizes)
    order = BlockOrder(sizes, num_together, 3, "paired")
    epochs = [epoch_of(order, epoch) for epoch in range(2)]
    assert all(sorted(epoch) == list(range(18)) for epoch in epochs) and epochs[0] != epochs[1]
    for epoch in epochs:
        blocks = list(dict.fromkeys(owner[epoch].tolist()))
        for number, row in enumerate(epoch):
            done = sum(sizes[block] for block in blocks[: blocks.index(owner[row]) // num_together * num_together])
            assert number >= done


def test_rows_of_blocks_that_belong_together_are_mixed():
    rows = epoch_of(BlockOrder([100] * 4, 2, 0, "paired"))[:200]
    blocks = np.asarray(rows) // 100
    assert len(set(blocks)) == 2 and abs(np.mean(blocks[1:] != blocks[:-1]) - 0.5) < 0.15


def test_a_block_order_is_a_pure_function_of_the_index():
    onward = BlockOrder([7, 3, 5], 2, 1, "text")
    read = [onward(index) for index in range(45)]
    jumping = BlockOrder([7, 3, 5], 2, 1, "text")
    assert [jumping(index) for index in reversed(range(45))] == read[::-1]


def test_an_order_of_before_is_that_of_torch_randperm():
    stream = Stream("paired", [{"text": str(i), "image": i} for i in range(30)], seed=5)
    stream.set_order("randperm")
    for epoch in (0, 3):
        generator = torch.Generator().manual_seed(keyed_integer(5, "shuffle/paired", epoch))
        want = torch.randperm(30, generator=generator).tolist()
        assert [stream.row_index(30 * epoch + offset) for offset in range(30)] == want


def test_rows_without_blocks_of_their_own_come_a_thousand_at_a_time():
    order = create_order("keyed", 1, range(2500), 0, "text")
    blocks = np.asarray(epoch_of(order)) // 1000
    assert set(blocks) == {0, 1, 2} and np.count_nonzero(np.diff(blocks)) == 2


@pytest.mark.parametrize(
    ("order", "blocks", "message"),
    [
        ("sorted", 0, "`data_order` must be one of .*, got 'sorted'"),
        ("keyed", -1, "`shuffle_blocks` must be at least 0, got -1"),
        ("randperm", 2, "`shuffle_blocks` must be 0, as the order is randperm, got 2"),
    ],
)
def test_orders_that_there_are_not_are_refused(order, blocks, message):
    with pytest.raises(ValueError, match=message):
        create_order(order, blocks, range(5), 0, "text")
