# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""In which order a stream goes through its rows: a pure function from a sample's index to its row.

Every epoch holds each row once, in an order of its own. Nothing is kept that grows with the number of rows.
"""

from collections.abc import Callable, Sequence, Sized

import numpy as np
import torch

from ..rng import KeyedPermutation, keyed_integer

# `randperm` is the order of runs that were begun before there was another; it lists all rows in each process.
DATA_ORDERS = ("keyed", "randperm")
ROWS_OF_A_BLOCK = 1000  # where the source has no blocks of its own


class KeyedOrder:
    """A keyed permutation of all rows, another one in each epoch: no time and no memory for any number of rows.

    Args:
        num_rows (`int`): Rows.
        seed (`int`): Seed of the run.
        stream (`str`): Name of the stream; two streams of the same rows have orders of their own.
    """

    def __init__(self, num_rows: int, seed: int, stream: str):
        self.num_rows = num_rows
        self.seed = seed
        self.stream = stream
        self._epoch = -1  # that of `_permutation`
        self._permutation: KeyedPermutation | None = None

    def __call__(self, sample_index: int) -> int:
        """The row of a sample, which is counted on over all epochs."""
        epoch, offset = divmod(sample_index, self.num_rows)
        if self._permutation is None or epoch != self._epoch:
            self._permutation = KeyedPermutation(self.num_rows, self.seed, f"order/{self.stream}", epoch)
            self._epoch = epoch
        return self._permutation(offset)


class BlockOrder:
    """Blocks of rows, such as row groups, in a keyed order, and the rows of so many blocks at a time shuffled.

    Whoever reads on touches few blocks at a time. Memory: 8 bytes per block.

    Args:
        block_sizes (`Sequence[int]`): Rows of each block, in the order of the rows.
        num_together (`int`): Blocks whose rows are shuffled together.
        seed (`int`): Seed of the run.
        stream (`str`): Name of the stream.

    Raises:
        ValueError: If there is no block, or `num_together` is below 1.
    """

    def __init__(self, block_sizes: Sequence[int], num_together: int, seed: int, stream: str):
        sizes = np.asarray(block_sizes, dtype=np.int64)
        self._sizes = sizes[sizes > 0]
        if len(self._sizes) == 0 or num_together < 1:
            raise ValueError(
                f"`block_sizes` must have rows and `num_together` be at least 1, got {len(self._sizes)} blocks with "
                f"rows and {num_together}"
            )
        self._starts = np.cumsum(self._sizes) - self._sizes  # first row of each block
        self.num_rows = int(self._sizes.sum())
        self.num_together = num_together
        self.seed = seed
        self.stream = stream
        self._epoch = -1  # that of `_blocks` and `_group_ends`
        self._blocks = np.arange(0)  # blocks in the order of the epoch
        self._group_ends = np.arange(0)  # samples up to the end of each group, within the epoch
        self._group = -1  # that of `_ends` and `_within`, within the epoch
        self._ends = np.arange(0)  # rows up to the end of each block of the group
        self._within: Callable[[int], int] = int  # where a row of the group stands; set with the group

    def __call__(self, sample_index: int) -> int:
        """The row of a sample, which is counted on over all epochs."""
        epoch, offset = divmod(sample_index, self.num_rows)
        if epoch != self._epoch:
            self._start_epoch(epoch)
        group = int(np.searchsorted(self._group_ends, offset, side="right"))
        if group != self._group:
            self._start_group(group)
        start = 0 if group == 0 else int(self._group_ends[group - 1])
        place = self._within(offset - start)  # among the rows of the group
        number = int(np.searchsorted(self._ends, place, side="right"))
        block = self._blocks[group * self.num_together + number]
        return int(self._starts[block]) + place - (0 if number == 0 else int(self._ends[number - 1]))

    def _start_epoch(self, epoch: int):
        self._blocks = KeyedPermutation(len(self._sizes), self.seed, f"blocks/{self.stream}", epoch).table()
        ends = np.cumsum(self._sizes[self._blocks])
        lasts = np.arange(self.num_together - 1, len(ends), self.num_together)  # last block of each whole group
        self._group_ends = ends[np.union1d(lasts, len(ends) - 1)]
        self._epoch = epoch
        self._group = -1

    def _start_group(self, group: int):
        start = group * self.num_together
        self._ends = np.cumsum(self._sizes[self._blocks[start : start + self.num_together]])
        key = keyed_integer(self.seed, f"groups/{self.stream}/{self._epoch}", group)
        self._within = KeyedPermutation(int(self._ends[-1]), self.seed, f"rows/{self.stream}", key)
        self._group = group


class RandpermOrder:
    """`torch.randperm` of all rows in each epoch: what runs did before the keyed order, and go on with.

    Args:
        num_rows (`int`): Rows; 8 bytes of memory each.
        seed (`int`): Seed of the run.
        stream (`str`): Name of the stream.
    """

    def __init__(self, num_rows: int, seed: int, stream: str):
        self.num_rows = num_rows
        self.seed = seed
        self.stream = stream
        self._epoch = -1  # that of `_order`
        self._order = torch.arange(0)

    def __call__(self, sample_index: int) -> int:
        """The row of a sample, which is counted on over all epochs."""
        epoch, offset = divmod(sample_index, self.num_rows)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(keyed_integer(self.seed, f"shuffle/{self.stream}", epoch))
            self._order = torch.randperm(self.num_rows, generator=generator)
            self._epoch = epoch
        return int(self._order[offset])


def create_order(order: str, shuffle_blocks: int, rows: Sized, seed: int, stream: str):
    """The order of a stream.

    Args:
        order (`str`): One of `DATA_ORDERS`.
        shuffle_blocks (`int`): Blocks whose rows are shuffled together; 0 shuffles all rows at once. Blocks are what
            the rows say by `block_sizes`, such as row groups, or 1,000 rows each.
        rows (`Sized`): Rows of the stream.
        seed (`int`): Seed of the run.
        stream (`str`): Name of the stream.

    Raises:
        ValueError: If `order` is unknown, `shuffle_blocks` is below 0, or there are blocks in the order `"randperm"`.
    """
    if order not in DATA_ORDERS:
        raise ValueError(f"`data_order` must be one of {DATA_ORDERS}, got {order!r}")
    if shuffle_blocks < 0 or (shuffle_blocks and order == "randperm"):
        wanted = "0, as the order is randperm" if order == "randperm" else "at least 0"
        raise ValueError(f"`shuffle_blocks` must be {wanted}, got {shuffle_blocks}")
    if order == "randperm":
        return RandpermOrder(len(rows), seed, stream)
    if shuffle_blocks == 0:
        return KeyedOrder(len(rows), seed, stream)
    return BlockOrder(_block_sizes(rows), shuffle_blocks, seed, stream)


def _block_sizes(rows: Sized) -> Sequence[int]:
    if hasattr(rows, "block_sizes"):
        return rows.block_sizes
    sizes = np.full(-(-len(rows) // ROWS_OF_A_BLOCK), ROWS_OF_A_BLOCK)
    sizes[-1] -= len(sizes) * ROWS_OF_A_BLOCK - len(rows)
    return sizes
