# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from itit_hf.pretraining.vq_evaluation import (
    CodeCounter,
    code_entropy,
    code_usage,
    constant_patch_entropy,
    evaluate_image_tokenizer,
    psnr,
    reconstruction_grid,
    shift_agreement,
)

from ..testing_utils import tiny_image_tokenizer


def test_two_codes_of_four_used_alike_are_half_the_codes_and_log_two():
    counts = torch.tensor([5, 0, 5, 0])
    assert code_usage(counts) == 0.5
    assert code_entropy(counts) == pytest.approx(math.log(2))


def test_nothing_counted_has_no_entropy():
    assert code_entropy(torch.zeros(4, dtype=torch.long)) == 0.0


def test_the_counter_holds_two_windows():
    counter = CodeCounter(3)
    counter.add(torch.tensor([[0, 0], [1, 0]]))
    counter.next_window()
    counter.add(torch.tensor([2]))
    assert counter.current.tolist() == [0, 0, 1]
    assert counter.counts.tolist() == [3, 1, 1]
    counter.next_window()
    assert counter.counts.tolist() == [0, 0, 1]


def test_the_counter_is_saved_and_loaded():
    counter, other = CodeCounter(3), CodeCounter(3)
    counter.add(torch.tensor([2, 2]))
    other.load_state_dict(counter.state_dict())
    other.add(torch.tensor([0]))
    assert other.counts.tolist() == [1, 0, 2]
    assert counter.counts.tolist() == [0, 0, 2]


def test_psnr_of_an_error_of_a_tenth_of_the_range_is_20_db():
    assert psnr(torch.full((1, 3, 2, 2), 0.2), torch.zeros(1, 3, 2, 2)) == pytest.approx(20.0, rel=1e-5)


def test_psnr_clamps_the_reconstruction_and_is_never_infinite():
    assert 100 < psnr(torch.full((1, 3, 2, 2), 7.0), torch.ones(1, 3, 2, 2)) < math.inf


def plain_images(num_images: int) -> torch.Tensor:
    """Four patches of 2 x 2 pixels: red, red, white, and noise."""
    pixel_values = torch.rand(num_images, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pixel_values[:, :, :2] = torch.tensor([1.0, -1.0, -1.0])[:, None, None]
    pixel_values[:, :, 2:, :2] = 1.0
    return pixel_values


def test_a_colour_that_always_has_one_name_has_no_entropy():
    ids = torch.tensor([[3, 3, 5, 0], [3, 3, 5, 1]])
    assert constant_patch_entropy(ids, plain_images(2), patch_size=2, min_count=2) == (0.0, 1.0)


def test_a_colour_with_two_names_has_entropy_log_two():
    ids = torch.tensor([[3, 3, 5, 0], [4, 4, 5, 1]])  # four red patches by two names, two white ones by one
    entropy, names = constant_patch_entropy(ids, plain_images(2), patch_size=2, min_count=2)
    assert entropy == pytest.approx(4 / 6 * math.log(2))
    assert names == pytest.approx((4 * 2 + 2 * 1) / 6)


def test_rare_colours_are_left_out():
    ids = torch.tensor([[3, 3, 5, 0], [4, 4, 5, 1]])
    entropy, names = constant_patch_entropy(ids, plain_images(2), patch_size=2, min_count=3)
    assert entropy == pytest.approx(math.log(2)) and names == 2.0


def test_images_without_constant_patches_give_no_number():
    noise = torch.rand(2, 3, 4, 4) * 2 - 1
    assert all(map(math.isnan, constant_patch_entropy(torch.zeros(2, 4).long(), noise, patch_size=2)))


def test_a_plain_image_keeps_all_codes_when_it_moves():
    assert shift_agreement(tiny_image_tokenizer(), torch.zeros(1, 3, 16, 16)) == (1.0, 1.0)


def test_a_patch_local_tokenizer_renames_nothing_but_what_moved():
    torch.manual_seed(0)
    image_tokenizer = tiny_image_tokenizer()
    image_tokenizer.quantize.embedding.weight.data.normal_(std=0.1)
    pixel_values = torch.zeros(1, 3, 16, 16)
    pixel_values[..., 4:6] = 1.0  # a stripe at the left of the second column of patches moves to its right
    agreement, equal_pixels = shift_agreement(image_tokenizer, pixel_values)
    assert equal_pixels == 0.75
    assert agreement == 0.75


def test_the_report_names_everything():
    pixel_values = torch.rand(5, 3, 16, 16) * 2 - 1
    report = evaluate_image_tokenizer(tiny_image_tokenizer(), pixel_values, batch_size=2)
    assert set(report) == {
        "psnr",
        "code_usage",
        "code_entropy",
        "constant_patch_entropy",
        "constant_patch_codes",
        "shift_agreement",
        "shift_equal_pixels",
    }
    whole = evaluate_image_tokenizer(tiny_image_tokenizer(), pixel_values, batch_size=5)
    assert report["shift_equal_pixels"] == whole["shift_equal_pixels"]


def test_the_grid_has_images_above_and_reconstructions_below():
    grid = reconstruction_grid(torch.ones(3, 3, 4, 4), torch.full((3, 3, 4, 4), -9.0), scale=2)
    assert grid.size == (24, 16)
    assert grid.getpixel((0, 0)) == (255, 255, 255)
    assert grid.getpixel((23, 15)) == (0, 0, 0)
