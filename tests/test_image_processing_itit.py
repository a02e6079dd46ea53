# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import io
import random
import struct
import warnings
import weakref
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageFile, PngImagePlugin, WebPImagePlugin
from transformers import AutoImageProcessor

from itit_hf import image_processing_itit
from itit_hf.image_processing_itit import (
    ASPECT_RATIOS,
    FORMATS,
    ImageLimitError,
    ImageLimits,
    ITITImageProcessorPil,
    list_images,
    list_masks,
    load_image,
    resize_image,
)

RED, BLUE = (255, 0, 0), (0, 0, 255)


def encoded(image, image_format="PNG", **options):
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_size(width, height):
    """A PNG file whose header states any size; its pixels are missing."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def first_pixel(source):
    image = load_image(source)
    assert image.mode == "RGB"
    return image.getpixel((0, 0))


# Where a picture may come from


def test_all_sources_give_the_same_picture(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = Image.fromarray(array)
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(image))
    sources = [
        image,
        path,
        str(path),
        path.read_bytes(),
        bytearray(path.read_bytes()),
        io.BytesIO(path.read_bytes()),
        {"bytes": path.read_bytes(), "path": None},
        {"bytes": None, "path": str(path)},
        array,
        np.moveaxis(array, -1, 0),
        torch.tensor(array).permute(2, 0, 1),
        torch.tensor(array).permute(2, 0, 1) / 255,
        array / 255.0,
        array.astype(np.uint16) * 257,
    ]
    for source in sources:
        assert np.array_equal(np.asarray(load_image(source)), array)


def test_result_is_a_copy():
    image = Image.new("RGB", (2, 2), RED)
    load_image(image).putpixel((0, 0), BLUE)
    assert image.getpixel((0, 0)) == RED


def test_file_object_is_read_from_its_start_and_only_up_to_the_limit():
    file = io.BytesIO(encoded(Image.new("RGB", (2, 2), RED)))
    file.seek(7)
    assert first_pixel(file) == RED
    endless = io.BytesIO(b"\0" * 1000)
    with pytest.raises(ValueError, match=r"more than 100 bytes \(`max_bytes`\)"):
        load_image(endless, ImageLimits(max_bytes=100))
    assert endless.tell() == 101


@pytest.mark.parametrize(
    "array, pixel",
    [
        (np.full((2, 2), 7, np.uint8), (7, 7, 7)),
        (np.full((2, 2, 1), 7, np.uint8), (7, 7, 7)),
        (np.full((1, 2, 2), 7, np.uint8), (7, 7, 7)),
        (np.full((2, 2), True), (255, 255, 255)),
        (np.full((2, 2, 4), (255, 0, 0, 0), np.uint8), (255, 255, 255)),  # transparent
        (np.full((2, 2), 65535, np.uint16), (255, 255, 255)),
        (np.full((2, 2), 257 * 100 + 200, np.uint16), (101, 101, 101)),
        (np.full((2, 2), 0.5, np.float16), (128, 128, 128)),
        (torch.full((3, 2, 3), 1.0, dtype=torch.bfloat16), (255, 255, 255)),
    ],
)
def test_arrays(array, pixel):
    assert first_pixel(array) == pixel


def test_ambiguous_shape_is_read_by_the_librarys_custom():
    assert load_image(np.zeros((3, 5, 3), np.uint8)).size == (5, 3)  # (H, W, C)
    assert load_image(torch.zeros(3, 5, 3)).size == (3, 5)  # (C, H, W)


@pytest.mark.parametrize(
    "array, message",
    [
        (np.zeros((2, 2, 2), np.uint8), "shape"),
        (np.zeros((1, 3, 2, 2), np.uint8), "shape"),
        (np.zeros((0, 2, 3), np.uint8), "at least 1 x 1"),
        (np.zeros((2, 2), np.int64), "int64"),
        (np.full((2, 2), -1.0), r"\[0, 1\]"),
        (np.full((2, 2), 255.0), r"\[0, 1\]"),
        (np.full((2, 2), np.nan), r"\[0, 1\]"),
        (np.zeros((1, 50), np.uint8), "aspect"),
    ],
)
def test_array_that_is_no_picture_is_refused(array, message):
    with pytest.raises(ValueError, match=message):
        load_image(array)


@pytest.mark.parametrize(
    "source, message",
    [
        ("no_such_file.png", "no such file"),
        (b"", "empty"),
        (b"<svg></svg>", "none of PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "none of PNG"),
        (None, "NoneType"),
        ({"bytes": None, "path": None}, "NoneType"),
        (io.StringIO("text"), "binary"),
        (3, "int"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(source, message):
    with pytest.raises(ValueError, match=rf"images\[3\].*{message}"):
        load_image(source, name="images[3]")


def test_path_is_named_in_the_error(tmp_path):
    path = tmp_path / "broken.jpg"
    path.write_bytes(encoded(Image.effect_noise((64, 64), 50), "JPEG")[:900])
    with pytest.raises(ValueError, match=r"image \('.*broken\.jpg'\): it cannot be read.*truncated"):
        load_image(path)


# Limits


@pytest.mark.parametrize(
    "width, height, message",
    [
        (20000, 1, r"20000 x 1 pixels have an aspect ratio of 20000, more than 20 \(`max_aspect`\)"),
        (1, 1_000_000, "aspect"),
        (12000, 12000, r"12000 x 12000 pixels are more than 64000000 \(`max_pixels`\)"),  # where PIL warns
        (20000, 20000, "max_pixels"),  # where PIL raises
        (2_000_000_000, 2_000_000_000, "max_pixels"),
    ],
)
def test_bomb_is_refused_by_its_header(width, height, message, monkeypatch):
    def decode(self):
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", decode)
    with warnings.catch_warnings(), pytest.raises(ValueError, match=message):
        warnings.simplefilter("error")
        load_image(png_of_size(width, height))


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 50}, {"exif": b"Exif\0\0MM\0*"}])
def test_webp_bomb_is_refused_before_its_decoder_allocates_the_canvas(options, monkeypatch):
    data = encoded(Image.new("RGB", (33, 21), RED), "WEBP", **options)  # the three kinds of WebP header
    assert load_image(data).size == (33, 21)
    monkeypatch.setattr(WebPImagePlugin, "_webp", None)
    with pytest.raises(ValueError, match=r"33 x 21 pixels are more than 600 \(`max_pixels`\)"):
        load_image(data, ImageLimits(max_pixels=600))


@pytest.mark.parametrize("place", [33, -12], ids=["before the pixels", "behind them"])
@pytest.mark.parametrize("text", [b"zTXt", b"iTXt", b"iCCP"])
def test_texts_and_profiles_of_a_png_are_not_unpacked(text, place, monkeypatch):
    data = encoded(Image.new("RGB", (2, 1), RED))
    packed = zlib.compress(bytes(1000))
    content = b"any\0\1\0\0\0" + packed if text == b"iTXt" else b"any\0\0" + packed
    with_text = data[:place] + chunk(text, content) * 3 + data[place:]

    def unpack(data):
        raise AssertionError("unpacked")

    monkeypatch.setattr(PngImagePlugin, "_safe_zlib_decompress", unpack)
    with pytest.raises(AssertionError):
        Image.open(io.BytesIO(with_text)).load()
    assert first_pixel(with_text) == RED


def test_the_orientation_in_a_png_s_texts_is_kept():
    text = PngImagePlugin.PngInfo()
    text.add_itxt("note", "x" * 1000, zip=True)
    text.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>', zip=True)
    text.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="1"/>', zip=True)
    assert load_image(encoded(Image.new("RGB", (3, 2), RED), pnginfo=text)).size == (2, 3)


def test_a_png_of_many_chunks_is_refused():
    data = encoded(Image.new("RGB", (2, 1), RED))
    assert first_pixel(data[:33] + chunk(b"prIv", b"") * 1000 + data[33:]) == RED
    assert first_pixel(data + bytes(12 * 20_000)) == RED  # no chunks: they come behind its end
    with pytest.raises(ValueError, match="it has more than 20000 chunks"):
        load_image(data[:33] + chunk(b"prIv", b"") * 20_000 + data[33:])


def test_limits_are_inclusive():
    limits = ImageLimits(max_pixels=20, max_aspect=5.0)
    assert load_image(Image.new("RGB", (10, 2)), limits).size == (10, 2)
    for size in [(7, 3), (6, 1)]:
        with pytest.raises(ValueError, match="max_"):
            load_image(Image.new("RGB", size), limits)


@pytest.mark.parametrize("field", ["max_bytes", "max_pixels", "max_aspect"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), "many", None, True])
def test_limits_must_be_numbers(field, value):
    with pytest.raises(ValueError, match=field):
        ImageLimits(**{field: value})


# Modes


def lab_red():
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    return ImageCms.applyTransform(Image.new("RGB", (2, 2), RED), to_lab)


def palette_image(colours, transparency=None):
    image = Image.new("P", (2, 2), 0)
    image.putpalette([value for colour in colours for value in colour])
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


@pytest.mark.parametrize(
    "image, pixel",
    [
        (Image.new("1", (2, 2), 1), (255, 255, 255)),
        (Image.new("L", (2, 2), 100), (100, 100, 100)),
        (Image.new("RGB", (2, 2), RED), RED),
        (Image.new("RGBX", (2, 2), RED), RED),
        (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), RED),
        (Image.new("YCbCr", (2, 2), (76, 85, 255)), (254, 0, 0)),
        (Image.new("HSV", (2, 2), (0, 255, 255)), RED),
        (palette_image([RED, BLUE]), RED),
        (palette_image([RED, BLUE], 0), (255, 255, 255)),
        (palette_image([RED, BLUE], b"\x80\xff"), (255, 127, 127)),
        (palette_image([RED, BLUE], 1), RED),
        (Image.new("LA", (2, 2), (0, 0)), (255, 255, 255)),
        (Image.new("LA", (2, 2), (0, 128)), (127, 127, 127)),
        (Image.new("La", (2, 2), (0, 128)), (127, 127, 127)),
        (Image.new("PA", (2, 2), (0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (2, 2), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (2, 2), (255, 0, 0, 128)), (255, 127, 127)),
        (Image.new("RGBA", (2, 2), (255, 0, 0, 255)), RED),
        (Image.new("RGBa", (2, 2), (128, 0, 0, 128)), (255, 127, 127)),
        (Image.new("I;16", (2, 2), 257 * 100), (100, 100, 100)),
        (Image.new("I;16L", (2, 2), 257 * 100), (100, 100, 100)),
        (Image.new("I;16B", (2, 2), 257 * 100), (100, 100, 100)),
        (Image.new("I", (2, 2), 257 * 100), (100, 100, 100)),
        (Image.new("I", (2, 2), 257 * 100 + 200), (101, 101, 101)),  # rounded, not cut
        (Image.new("F", (2, 2), 0.5), (128, 128, 128)),
    ],
    ids=lambda value: f"{value.mode}-{value.info.get('transparency')}" if isinstance(value, Image.Image) else None,
)
def test_mode_becomes_rgb(image, pixel):
    assert first_pixel(image) == pixel


def test_lab_becomes_rgb():
    assert np.abs(np.subtract(first_pixel(lab_red()), RED)).max() <= 6  # 8 bits of a* and b*


def test_every_mode_pil_can_make_has_a_rule():
    for mode in Image.MODES:
        load_image(Image.new(mode, (3, 2)))


def test_16_bit_png_keeps_its_greys():
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    grey = np.asarray(load_image(encoded(Image.fromarray(ramp))))[..., 0]
    assert np.array_equal(grey.ravel(), np.arange(256))


def test_32_bit_values_beyond_16_bits_are_refused():
    with pytest.raises(ValueError, match=r"70000.*0 \.\.\. 65535"):
        load_image(Image.new("I", (2, 2), 70000))


def test_floats_beyond_0_and_1_are_stretched():
    image = Image.fromarray(np.array([[-50.0, 0.0, 50.0]], np.float32))
    assert np.asarray(load_image(image))[0, :, 0].tolist() == [0, 128, 255]


def test_float_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        load_image(Image.new("F", (2, 2), float("nan")))


@pytest.mark.parametrize("mode, transparency", [("L", 9), ("RGB", (9, 9, 9)), ("I;16", 9)])
def test_transparent_colour_of_a_png_becomes_white(mode, transparency):
    image = Image.new(mode, (2, 2), transparency)
    assert first_pixel(encoded(image, transparency=transparency)) == (255, 255, 255)


def test_cmyk_jpeg_has_its_colours():
    cyan = encoded(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG", quality=100)
    assert np.abs(np.subtract(first_pixel(cyan), (0, 255, 255))).max() <= 3


# Orientation and frames


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(orientation):
    upright = Image.new("RGB", (16, 8), BLUE)
    upright.paste(RED, (0, 0, 8, 4))  # red in the upper left corner
    inverse = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)
    methods = [None, None, 0, 3, 1, 5, 4, 6, 2]  # PIL's transpositions in the order of the EXIF orientations
    stored = upright if methods[inverse] is None else upright.transpose(methods[inverse])
    exif = Image.Exif()
    exif[0x0112] = orientation
    for source in (encoded(stored, exif=exif), encoded(stored, "TIFF", exif=exif)):
        turned = load_image(source)
        assert np.array_equal(np.asarray(turned), np.asarray(upright))
        assert np.array_equal(np.asarray(load_image(turned)), np.asarray(upright))


def test_damaged_exif_does_not_cost_the_picture():
    assert first_pixel(encoded(Image.new("RGB", (4, 4), RED), exif=b"Exif\0\0garbage")) == RED


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame_is_taken(image_format):
    frames = [Image.new("RGB", (4, 4), RED), Image.new("RGB", (4, 4), BLUE)]
    options = {"lossless": True} if image_format == "WEBP" else {}
    assert first_pixel(encoded(frames[0], image_format, save_all=True, append_images=frames[1:], **options)) == RED


# Damaged files


@pytest.mark.filterwarnings("ignore")  # PIL's own, about damaged tags
@pytest.mark.parametrize("image_format", FORMATS)
def test_damaged_file_is_read_or_refused_with_a_value_error(image_format):
    data = encoded(Image.effect_noise((32, 32), 80).convert("RGB"), image_format)
    assert load_image(data).size == (32, 32)
    chance = random.Random(image_format)
    limits = ImageLimits(max_pixels=10_000)
    for _ in range(40):
        damaged = bytearray(data[: chance.randrange(len(data))] if chance.random() < 0.5 else data)
        for _ in range(chance.randrange(1, 9)):
            if damaged:
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            load_image(bytes(damaged), limits, "images[0]")
        except ValueError as error:
            assert str(error).startswith("images[0]")


def test_truncated_file_is_refused_by_its_position_in_the_batch():
    good = Image.new("RGB", (64, 64), RED)
    cut = encoded(Image.effect_noise((64, 64), 50))[:500]
    with pytest.raises(ValueError, match=r"images\[1\]: it cannot be read"):
        ITITImageProcessorPil(size=64)([good, cut])


# Image processor


def test_pixel_values_are_in_minus_one_to_one():
    picture = Image.new("RGB", (64, 64), (0, 128, 255))
    pixel_values = ITITImageProcessorPil(size=64)(picture, return_tensors="pt").pixel_values
    assert pixel_values.shape == (1, 3, 64, 64) and pixel_values.dtype == torch.float32
    torch.testing.assert_close(pixel_values[0, :, 0, 0], torch.tensor([-1.0, 128 / 127.5 - 1, 1.0]))


def test_shorter_side_is_resized_and_the_middle_cut_out():
    picture = Image.new("RGB", (60, 20), BLUE)
    picture.paste(RED, (20, 0, 40, 20))
    for size in ({"aspect_ratio": "crop", "size": 10}, {"size": {"shortest_edge": 10}}):
        pixel_values = ITITImageProcessorPil(**size, resample=0)(picture, return_tensors="pt").pixel_values
        assert (pixel_values == torch.tensor([1.0, -1.0, -1.0])[:, None, None]).all()  # red only


def test_exact_size_squeezes_the_whole_picture():
    picture = Image.new("RGB", (40, 20), BLUE)
    picture.paste(RED, (20, 0, 40, 20))
    processor = ITITImageProcessorPil(size={"height": 8, "width": 8}, resample=0)
    pixel_values = processor(picture, return_tensors="pt").pixel_values
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


# Photos


@pytest.mark.parametrize(
    ("size", "wanted"), [((1600, 1200), (200, 150)), ((1600, 300), (800, 150)), ((500, 250), (500, 250))]
)
def test_a_large_jpeg_is_decoded_small_and_never_too_small(size, wanted):
    photo = encoded(Image.new("RGB", size, RED), "JPEG")
    assert load_image(photo, reduce_to=65).size == wanted
    assert load_image(photo).size == size


def test_a_jpeg_is_judged_by_its_own_size_and_turned_when_it_is_decoded_small():
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = encoded(Image.new("RGB", (800, 400), RED), "JPEG", exif=exif)
    assert load_image(photo, reduce_to=20).size == (50, 100)
    with pytest.raises(ImageLimitError, match="800 x 400 pixels"):
        load_image(photo, ImageLimits(max_pixels=300_000), reduce_to=20)


def test_a_photo_decoded_small_looks_the_same():
    gradient = np.linspace(0, 255, 800 * 600 * 3).reshape(600, 800, 3).astype(np.uint8)
    photo = encoded(Image.fromarray(gradient), "JPEG", quality=95)
    small, whole = (np.asarray(resize_image(load_image(photo, reduce_to=n), 32, 32)).astype(int) for n in (32, None))
    assert abs(small - whole).max() <= 2


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_of_a_batch_of_photos_one_at_a_time_is_whole(image_format, monkeypatch):
    decode, made, most = image_processing_itit._decode, [], []

    def watched(image):
        decoded = decode(image)
        made.append(weakref.ref(decoded))
        alive = [each() for each in made if each() is not None]
        most.append(sum(each.width * each.height for each in alive))
        return decoded

    monkeypatch.setattr(image_processing_itit, "_decode", watched)
    photos = [encoded(Image.new("RGB", (400, 300), RED), image_format) for _ in range(6)]
    ITITImageProcessorPil(size=16)(photos)
    assert len(most) == 6 and max(most) <= 2 * 400 * 300  # the last one is let go while the next is read


@pytest.mark.parametrize("crop_size", [{"height": 5, "width": 8}, {"height": 4, "width": 9}])
def test_crop_larger_than_the_resized_picture_is_refused(crop_size):
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


@pytest.mark.parametrize(
    "images, length",
    [
        (Image.new("RGB", (4, 4)), 1),
        ([Image.new("RGB", (4, 4))] * 2, 2),
        ((Image.new("RGB", (4, 4)),) * 3, 3),
        (np.zeros((2, 4, 4, 3), np.uint8), 2),
        (torch.zeros(3, 4, 4), 1),
        ("picture.png", 1),
        (b"bytes", 1),
    ],
)
def test_batches(images, length):
    assert len(list_images(images)) == length


def test_empty_batch_is_refused():
    with pytest.raises(ValueError, match="`images`"):
        list_images([])


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


def test_values_that_are_neither_rescaled_nor_normalized_are_those_of_the_picture():
    options = {"do_rescale": False, "do_normalize": False, "return_tensors": "pt"}
    values = ITITImageProcessorPil(size=16)(grey_levels(), **options).pixel_values
    assert values[0, 1].flatten().tolist() == list(range(256))


@pytest.mark.parametrize("factor", [1.0, 1 / 127.5, 0.0, -1 / 255])
def test_a_factor_that_leaves_the_range_is_refused(factor):
    with pytest.raises(ValueError, match="`rescale_factor` must be in .0, 1 / 255. where values are normalized"):
        ITITImageProcessorPil(size=8)(grey_levels(), rescale_factor=factor)


def test_postprocess_is_the_inverse():
    pictures = [Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)) for i in (0, 1)]
    processor = ITITImageProcessorPil(size=8)
    pixel_values = processor(pictures, return_tensors="pt").pixel_values
    back = processor.postprocess(pixel_values)
    assert [np.asarray(b).tolist() for b in back] == [np.asarray(p).tolist() for p in pictures]
    arrays = processor.postprocess(pixel_values, "np")
    assert arrays.shape == (2, 8, 8, 3) and np.allclose(arrays[0] * 255, np.asarray(pictures[0]), atol=1e-3)
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


def test_an_overlay_goes_the_way_of_the_picture():
    before, mask = Image.new("RGB", (64, 32), "blue"), Image.new("L", (64, 32))
    before.paste("white", (16, 0, 24, 32))
    mask.paste(255, (40, 0, 64, 32))  # the right quarter of the middle piece
    processor = ITITImageProcessorPil(size=16, aspect_ratio="crop")
    overlaid = processor.apply_overlay(mask, before, Image.new("RGB", (16, 16), "red"))
    assert [overlaid.getpixel((x, 8)) for x in (1, 8, 14)] == [(255, 255, 255), (0, 0, 255), (255, 0, 0)]


def test_an_overlay_of_another_size_is_named():
    with pytest.raises(ValueError, match=r"`image` must have the model's size \(16, 16\), got \(8, 8\)"):
        ITITImageProcessorPil(size=16).apply_overlay("1", Image.new("L", (16, 16)), Image.new("L", (8, 8)))


def test_three_dimensions_of_masks_are_masks():
    assert len(list_masks(np.zeros((3, 8, 8)))) == 3 and len(list_masks(np.zeros((8, 8, 1)))) == 1
    assert len(list_masks(np.zeros((8, 8)))) == 1 and len(list_masks(torch.zeros(2, 1, 8, 8))) == 2
