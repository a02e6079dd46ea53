# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import io
import weakref

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor

from itit_hf.models import image_loading_itit
from itit_hf.models.image_loading_itit import (
    ASPECT_RATIOS,
)
from itit_hf.models.image_processing_itit import ITITImageProcessorPil

RED, BLUE = (255, 0, 0), (0, 0, 255)


def encoded(image, image_format="PNG", **options):
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def test_truncated_file_is_refused_by_its_position_in_the_batch():
    good = Image.new("RGB", (64, 64), RED)
    cut = encoded(Image.effect_noise((64, 64), 50))[:500]
    with pytest.raises(ValueError, match=r"images\[1\]: it cannot be read"):
        ITITImageProcessorPil(size=64)([good, cut])


# Image processor


def test_pixel_values_are_in_minus_one_to_one():
    image = Image.new("RGB", (64, 64), (0, 128, 255))
    pixel_values = ITITImageProcessorPil(size=64)(image, return_tensors="pt").pixel_values
    assert pixel_values.shape == (1, 3, 64, 64) and pixel_values.dtype == torch.float32
    torch.testing.assert_close(pixel_values[0, :, 0, 0], torch.tensor([-1.0, 128 / 127.5 - 1, 1.0]))


def test_shorter_side_is_resized_and_the_middle_cut_out():
    image = Image.new("RGB", (60, 20), BLUE)
    image.paste(RED, (20, 0, 40, 20))
    for size in ({"aspect_ratio": "crop", "size": 10}, {"size": {"shortest_edge": 10}}):
        pixel_values = ITITImageProcessorPil(**size, resample=0)(image, return_tensors="pt").pixel_values
        assert (pixel_values == torch.tensor([1.0, -1.0, -1.0])[:, None, None]).all()  # red only


def test_exact_size_squeezes_the_whole_image():
    image = Image.new("RGB", (40, 20), BLUE)
    image.paste(RED, (20, 0, 40, 20))
    processor = ITITImageProcessorPil(size={"height": 8, "width": 8}, resample=0)
    pixel_values = processor(image, return_tensors="pt").pixel_values
    assert pixel_values[0, 0, 0].tolist() == [-1.0] * 4 + [1.0] * 4


def colours(image, *pixels):
    return [image.getpixel(pixel) for pixel in pixels]


WHITE = (255, 255, 255)


def test_padding_keeps_shapes_in_the_middle_and_fills_up_with_white():
    tall = Image.new("RGB", (20, 80), BLUE)
    image = ITITImageProcessorPil(size=16, aspect_ratio="pad").read_image(tall)
    assert image.size == (16, 16)
    assert colours(image, (5, 8), (6, 0), (9, 15), (10, 8)) == [WHITE, BLUE, BLUE, WHITE]
    image = ITITImageProcessorPil(size={"height": 4, "width": 8}, aspect_ratio="pad").read_image(tall)
    assert image.size == (8, 4) and colours(image, (2, 0), (3, 0), (4, 0)) == [WHITE, BLUE, WHITE]


def test_cropping_covers_a_size_that_is_no_square():
    image = Image.new("RGB", (30, 30), BLUE)
    image.paste(RED, (0, 10, 30, 20))
    processor = ITITImageProcessorPil(size={"height": 4, "width": 12}, aspect_ratio="crop", resample=0)
    assert (processor(image, return_tensors="pt").pixel_values[0, 0] == 1.0).all()


@pytest.mark.parametrize("aspect_ratio", ASPECT_RATIOS)
def test_a_square_image_is_the_same_by_every_rule(aspect_ratio):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 37, 3), dtype=np.uint8))
    expected = np.asarray(image.resize((12, 12), Image.Resampling.BICUBIC))
    processor = ITITImageProcessorPil(size=12, aspect_ratio=aspect_ratio)
    (made,) = processor.postprocess(processor(image, return_tensors="pt").pixel_values)
    assert np.array_equal(np.asarray(made), expected)


@pytest.mark.parametrize("aspect_ratio", ASPECT_RATIOS)
def test_what_was_read_before_becomes_what_the_file_becomes(aspect_ratio):
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (41, 23, 3), dtype=np.uint8))
    crop_size = {"height": 8, "width": 7}
    processor = ITITImageProcessorPil(size={"height": 9, "width": 8}, crop_size=crop_size, aspect_ratio=aspect_ratio)
    whole, read = processor([image, processor.read_image(image)], return_tensors="pt").pixel_values
    assert torch.equal(whole, read)


def test_by_default_nothing_of_an_image_is_lost():
    image = Image.new("RGB", (90, 30), BLUE)
    image.paste(RED, (0, 0, 10, 30))
    image.paste(RED, (80, 0, 90, 30))
    pixel_values = ITITImageProcessorPil()(image, return_tensors="pt").pixel_values
    assert pixel_values[0, 0, 128, [5, 128, 250]].tolist() == [1.0, -1.0, 1.0]


def test_the_rule_travels_with_the_processor_and_old_ones_keep_theirs(tmp_path):
    ITITImageProcessorPil(size=8, aspect_ratio="pad").save_pretrained(tmp_path)
    assert AutoImageProcessor.from_pretrained(tmp_path).aspect_ratio == "pad"
    old = {"size": {"shortest_edge": 8}, "crop_size": {"height": 8, "width": 8}}
    assert ITITImageProcessorPil.from_dict(old).aspect_ratio == "crop"
    assert ITITImageProcessorPil.from_dict({"size": {"height": 8, "width": 8}}).aspect_ratio == "squeeze"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aspect_ratio": "stretch"}, "`aspect_ratio` must be one of .*, got 'stretch'"),
        ({"aspect_ratio": "pad", "size": {"shortest_edge": 8}}, "`aspect_ratio` must be 'crop' with the shortest"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ITITImageProcessorPil(**options)
    with pytest.raises(ValueError, match="`aspect_ratio` must be one of"):
        ITITImageProcessorPil(size=8)(Image.new("RGB", (9, 9)), aspect_ratio="none")


def test_a_processor_of_another_size_is_else_the_same():
    processor = ITITImageProcessorPil(size=8, aspect_ratio="pad", image_mean=[0, 0, 0], limits={"max_aspect": 3})
    other = processor.with_size(4, 6)
    assert other(Image.new("RGB", (9, 9)), return_tensors="pt").pixel_values.shape == (1, 3, 4, 6)
    wanted = processor.to_dict() | {"size": {"height": 4, "width": 6}, "crop_size": {"height": 4, "width": 6}}
    assert other.to_dict() == wanted
    assert processor.with_size(4, 4, "crop").aspect_ratio == "crop"


def test_a_mask_is_padded_with_what_stays():
    mask = Image.new("RGB", (8, 16), "white")
    marked = ITITImageProcessorPil(size=16, aspect_ratio="pad").preprocess_mask([mask])
    assert marked[0].any(dim=0).tolist() == [False] * 4 + [True] * 8 + [False] * 4


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_of_a_batch_of_photos_one_at_a_time_is_whole(image_format, monkeypatch):
    decode, made, most = image_loading_itit._decode, [], []

    def watched(image):
        decoded = decode(image)
        made.append(weakref.ref(decoded))
        alive = [each() for each in made if each() is not None]
        most.append(sum(each.width * each.height for each in alive))
        return decoded

    monkeypatch.setattr(image_loading_itit, "_decode", watched)
    photos = [encoded(Image.new("RGB", (400, 300), RED), image_format) for _ in range(6)]
    ITITImageProcessorPil(size=16)(photos)
    assert len(most) == 6 and max(most) <= 2 * 400 * 300  # the last one is let go while the next is read


@pytest.mark.parametrize("crop_size", [{"height": 5, "width": 8}, {"height": 4, "width": 9}])
def test_crop_larger_than_the_resized_image_is_refused(crop_size):
    processor = ITITImageProcessorPil(size={"height": 4, "width": 8}, crop_size=crop_size)
    with pytest.raises(ValueError, match="`crop_size`"):
        processor(Image.new("RGB", (9, 9)))


def test_another_size_at_the_call_needs_another_crop():
    processor = ITITImageProcessorPil(size=64)
    with pytest.raises(ValueError, match="`crop_size`"):
        processor(Image.new("RGB", (9, 9)), size={"shortest_edge": 32})
    assert processor(Image.new("RGB", (9, 9)), size=32, crop_size=32, return_tensors="pt").pixel_values.shape[2:] == (
        32,
        32,
    )


def grey_levels():
    """All of them, as 16 x 16 pixels of three channels."""
    return np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)


@pytest.mark.parametrize(
    "in_range",
    [
        lambda array: array / 255.0,
        lambda array: (array / 255).astype(np.float32),
        lambda array: torch.tensor(array).permute(2, 0, 1) / 255,
        lambda array: Image.fromarray((array[..., 0] / 255).astype(np.float32)),
    ],
    ids=["float64", "float32", "tensor", "PIL"],
)
def test_values_in_0_to_1_need_no_rescaling(in_range):
    processor = ITITImageProcessorPil(size=8)
    image = in_range(grey_levels())
    want = processor([grey_levels()] * 2, return_tensors="pt").pixel_values
    assert torch.equal(processor([image] * 2, do_rescale=False, return_tensors="pt").pixel_values, want)
    assert torch.equal(processor([image] * 2, return_tensors="pt").pixel_values, want)
    unscaled = ITITImageProcessorPil(size=8, do_rescale=False)
    assert torch.equal(unscaled([image] * 2, return_tensors="pt").pixel_values, want)


@pytest.mark.parametrize(
    "images",
    [[grey_levels()], [grey_levels() / 255.0, Image.fromarray(grey_levels())], [encoded(Image.new("L", (8, 8)))]],
    ids=["uint8", "mixed", "file"],
)
def test_values_up_to_255_are_not_normalized_without_rescaling(images):
    with pytest.raises(ValueError, match=rf"`do_rescale` must be True .* such as images\[{len(images) - 1}\]"):
        ITITImageProcessorPil(size=8)(images, do_rescale=False)


def test_values_that_are_neither_rescaled_nor_normalized_are_those_of_the_image():
    options = {"do_rescale": False, "do_normalize": False, "return_tensors": "pt"}
    values = ITITImageProcessorPil(size=16)(grey_levels(), **options).pixel_values
    assert values[0, 1].flatten().tolist() == list(range(256))


@pytest.mark.parametrize("factor", [1.0, 1 / 127.5, 0.0, -1 / 255])
def test_a_factor_that_leaves_the_range_is_refused(factor):
    with pytest.raises(ValueError, match="`rescale_factor` must be in .0, 1 / 255. where values are normalized"):
        ITITImageProcessorPil(size=8)(grey_levels(), rescale_factor=factor)


def test_postprocess_is_the_inverse():
    images = [Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)) for i in (0, 1)]
    processor = ITITImageProcessorPil(size=8)
    pixel_values = processor(images, return_tensors="pt").pixel_values
    back = processor.postprocess(pixel_values)
    assert [np.asarray(b).tolist() for b in back] == [np.asarray(p).tolist() for p in images]
    arrays = processor.postprocess(pixel_values, "np")
    assert arrays.shape == (2, 8, 8, 3) and np.allclose(arrays[0] * 255, np.asarray(images[0]), atol=1e-3)
    tensors = processor.postprocess(pixel_values.bfloat16() * 9, "pt")
    assert tensors.shape == (2, 3, 8, 8) and tensors.min() == 0 and tensors.max() == 1


@pytest.mark.parametrize(
    "pixel_values, output_type, message",
    [
        (torch.zeros(1, 3, 4, 4), "jpg", "output_type"),
        (torch.zeros(3, 4, 4), "pil", "pixel_values"),
        (torch.full((1, 3, 4, 4), float("nan")), "pil", "NaN"),
    ],
)
def test_postprocess_refuses(pixel_values, output_type, message):
    with pytest.raises(ValueError, match=message):
        ITITImageProcessorPil().postprocess(pixel_values, output_type)


def test_save_and_load_through_auto_class(tmp_path):
    processor = ITITImageProcessorPil(size={"height": 8, "width": 12}, limits={"max_aspect": 3})
    processor.save_pretrained(tmp_path)
    loaded = AutoImageProcessor.from_pretrained(tmp_path)
    assert type(loaded) is ITITImageProcessorPil
    assert processor.to_dict()["image_processor_type"] == "ITITImageProcessor"
    assert loaded.to_dict() == processor.to_dict()
    assert loaded(Image.new("RGB", (9, 9)), return_tensors="pt").pixel_values.shape == (1, 3, 8, 12)
    with pytest.raises(ValueError, match="max_aspect"):
        loaded(Image.new("RGB", (40, 10)))


def test_limits_can_be_given_at_the_call_and_are_checked_at_the_start():
    with pytest.raises(ValueError, match="max_pixels"):
        ITITImageProcessorPil(size=4)(Image.new("RGB", (8, 8)), limits={"max_pixels": 63})
    with pytest.raises(ValueError, match="max_pixels"):
        ITITImageProcessorPil(limits={"max_pixels": 0})


def test_an_overlay_puts_the_unmarked_pixels_back_exactly():
    before = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    mask = Image.new("L", (32, 32))
    mask.paste(255, (3, 4, 10, 32))
    processor = ITITImageProcessorPil(size=32)
    overlaid = np.asarray(processor.apply_overlay(mask, before, Image.new("RGB", (32, 32), "red")))
    marked = np.asarray(mask) > 0
    assert np.array_equal(overlaid[~marked], np.asarray(before)[~marked]) and (overlaid[marked] == (255, 0, 0)).all()


def test_an_overlay_goes_the_way_of_the_image():
    before, mask = Image.new("RGB", (64, 32), "blue"), Image.new("L", (64, 32))
    before.paste("white", (16, 0, 24, 32))
    mask.paste(255, (40, 0, 64, 32))  # the right quarter of the middle piece
    processor = ITITImageProcessorPil(size=16, aspect_ratio="crop")
    overlaid = processor.apply_overlay(mask, before, Image.new("RGB", (16, 16), "red"))
    assert [overlaid.getpixel((x, 8)) for x in (1, 8, 14)] == [(255, 255, 255), (0, 0, 255), (255, 0, 0)]


def test_an_overlay_of_another_size_is_named():
    with pytest.raises(ValueError, match=r"`image` must have the model's size \(16, 16\), got \(8, 8\)"):
        ITITImageProcessorPil(size=16).apply_overlay("1", Image.new("L", (16, 16)), Image.new("L", (8, 8)))
