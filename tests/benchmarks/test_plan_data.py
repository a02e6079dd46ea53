# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of `utils/benchmarks/plan_data.py`, by round numbers, and the table of docs/data.md."""

from pathlib import Path

import pytest

import plan_data
import plan_training
from itit_hf.data.order import BlockOrder, RandpermOrder

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def test_a_million_images_of_50_kb_are_50_gb_and_their_tokens_less_than_one_in_a_hundred():
    sizes = plan_data.disk(1_000_000, 0)
    assert sizes["the source: archives, parquet or files"] == 50e9
    assert sizes["image tokens and texts, in parquet"] == 1e6 * 256 * 13 / 8


def test_an_update_reads_three_images_and_a_text_for_each_sample_of_a_loss():
    images, rows = plan_data.rows_per_second(update_flops=1e15, samples=512, flops_per_second=1e15)
    assert images == 3 * 512 and rows == 4 * 512


def test_orders_hold_what_is_planned():
    randperm = RandpermOrder(10_000, 0, "paired")
    randperm(0)
    assert randperm._order.nbytes == plan_data.order_bytes(10_000, "randperm")
    blocks = BlockOrder([1000] * 500, 4, 0, "paired")
    blocks(0)
    held = sum(value.nbytes for value in (blocks._sizes, blocks._starts, blocks._blocks, blocks._group_ends))
    assert held <= plan_data.order_bytes(500_000, "blocks")


def test_the_table_of_the_page_is_what_is_planned():
    assert plan_training.main(["--data", "--presets", "base"]) in PAGE.read_text(encoding="utf-8")


def test_rows_of_another_number_are_planned_too():
    planned = plan_training.main(["--data", "--data_rows", "1000", "--gpus", "2", "--presets", "base"])
    assert "1,000 images and texts, base" in planned and "on 2 GPUs" in planned


@pytest.mark.parametrize("order", ["keyed", "blocks", "randperm"])
def test_no_order_needs_more_than_randperm(order):
    assert plan_data.order_bytes(10**9, order) <= plan_data.order_bytes(10**9, "randperm")
