# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import PIL.Image
import pytest
import torch

from itit_hf.models.image_processing_itit import ITITImageProcessorPil
from itit_hf.pipelines.inpainting import (
    edit_strength,
    image_sizes,
    interpolate_prompt_embeds,
    is_token_ids,
    load_images,
    token_mask,
)

SQUARE = ITITImageProcessorPil(size=16)
IMAGE = [(16, 16)]
GRID = (4, 4)


def marked(*pixels, size=(16, 16)):
    mask = PIL.Image.new("L", size)
    for pixel in pixels:
        mask.putpixel(pixel, 255)
    return mask


def tokens(mask):
    """Which of the 4 x 4 tokens are drawn anew, by their indices."""
    return [row.nonzero()[:, 0].tolist() for row in mask]


def test_one_marked_pixel_marks_its_token():
    assert tokens(token_mask(SQUARE, marked((0, 0), (7, 3), (15, 12)), IMAGE, GRID)) == [[0, 1, 15]]


def test_a_thin_line_in_a_large_mask_is_not_lost():
    line = marked(*[(x, 100) for x in range(160)], size=(160, 160))
    assert tokens(token_mask(SQUARE, line, [(160, 160)], GRID)) == [[8, 9, 10, 11]]


def test_a_mask_is_cropped_as_its_image_is():
    left, middle = marked((0, 0), size=(32, 16)), marked((8, 0), size=(32, 16))
    cropping = ITITImageProcessorPil(size=16, aspect_ratio="crop")
    assert tokens(token_mask(cropping, [left, middle], [(32, 16)], GRID)) == [[], [0]]
    assert tokens(token_mask(SQUARE, [left, middle], [(32, 16)], GRID)) == [[0], [1]]  # squeezed


@pytest.mark.parametrize("kind", ["bool", "float", "uint8", "batch", "channel", "tensor", "rgb"])
def test_masks_of_every_kind_are_the_same(kind):
    array = np.asarray(marked((5, 5))) > 0
    mask = {
        "bool": array,
        "float": array.astype(np.float32),
        "uint8": array.astype(np.uint8) * 255,
        "batch": array[None],
        "channel": array[None, ..., None],
        "tensor": torch.from_numpy(array)[None, None],
        "rgb": PIL.Image.fromarray(array).convert("RGB"),
    }[kind]
    assert tokens(token_mask(SQUARE, mask, IMAGE, GRID)) == [[5]]


def test_three_masks_in_an_array_are_not_the_channels_of_one():
    masks = torch.stack([torch.from_numpy(np.array(marked((4 * i, 0)))) for i in range(3)])
    assert tokens(token_mask(SQUARE, masks, IMAGE, GRID)) == [[0], [1], [2]]


def test_a_mask_of_another_size_but_the_same_shape_is_resized():
    assert tokens(token_mask(SQUARE, marked((3, 3), size=(4, 4)), [(64, 64)], GRID)) == [[15]]


def test_a_mask_of_another_shape_is_named():
    with pytest.raises(ValueError, match=r"`mask_image\[1\]` is 16 x 8, its image 16 x 16"):
        token_mask(SQUARE, [marked(), marked(size=(16, 8))], IMAGE, GRID)


def test_a_mask_of_a_wide_image_marks_rows_and_columns_of_its_own():
    wide = ITITImageProcessorPil(size={"height": 8, "width": 24})  # 2 x 6 tokens of 4 x 4 pixels
    corner = marked((23, 7), size=(24, 8))
    assert tokens(token_mask(wide, [corner, marked((8, 0), size=(24, 8))], [(24, 8)], (2, 6))) == [[11], [2]]
    assert image_sizes(torch.zeros(1, 12, dtype=torch.long), (2, 6)) == [(6, 2)]  # width and height, as PIL has it


def test_what_is_no_mask_is_named():
    with pytest.raises(ValueError, match=r"mask_image\[0\] \('none.png'\): there is no such file"):
        token_mask(SQUARE, "none.png", IMAGE, GRID)
    with pytest.raises(ValueError, match=r"image\[1\]: wanted a PIL image"):
        load_images(SQUARE, [marked(), 3])


@pytest.mark.parametrize(
    ("strength", "image", "mask", "want"),
    [(None, None, None, 1.0), (None, "i", "m", 1.0), (None, "i", None, 0.5), (0.3, "i", "m", 0.3)],
)
def test_the_strength_is_that_of_diffusers(strength, image, mask, want):
    assert edit_strength(strength, image, mask) == want


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.5, None, None), "`strength` says how to edit `image`, which is not given"),
        ((None, None, "m"), "`mask_image` says how to edit `image`, which is not given"),
        ((1.0, "i", None), "`strength` 1.0 without `mask_image` leaves nothing of `image`"),
    ],
)
def test_an_edit_of_nothing_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        edit_strength(*arguments)


def test_tokens_are_told_from_pixels():
    assert is_token_ids(torch.zeros(2, 16, dtype=torch.long), 16)
    assert not is_token_ids(torch.zeros(16, 16, dtype=torch.uint8), 16)
    assert not is_token_ids(PIL.Image.new("L", (16, 16)), 16)


def text(*values, padding=0):
    embeds = torch.tensor(values + (99.0,) * padding)[None, :, None]
    return embeds, torch.tensor([[1] * len(values) + [0] * padding])


def test_prompts_are_interpolated_place_by_place_and_the_shorter_one_goes_on_with_its_end():
    embeds, mask = interpolate_prompt_embeds(text(0.0, 8.0, padding=3), text(4.0, 4.0, 0.0), [0.0, 0.25, 1.0])
    assert mask.tolist() == [[1, 1, 0], [1, 1, 1], [1, 1, 1]]
    assert embeds[0, :2, 0].tolist() == [0.0, 8.0]
    assert embeds[1, :, 0].tolist() == [1.0, 7.0, 6.0]
    assert embeds[2, :, 0].tolist() == [4.0, 4.0, 0.0]


@pytest.mark.parametrize("weights", [[], [0.5, 1.1], [float("nan")]])
def test_weights_that_are_no_shares_are_named(weights):
    with pytest.raises(ValueError, match="`weights` must be at least one number, each in"):
        interpolate_prompt_embeds(text(0.0), text(1.0), weights)
