# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import base64
import io
import random
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageFile, PngImagePlugin, WebPImagePlugin

from itit_hf.models.image_loading_itit import (
    FORMATS,
    ImageLimitError,
    ImageLimits,
    list_images,
    list_masks,
    load_image,
    resize_image,
)

from .test_image_processing_itit import BLUE, RED, encoded


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


# Where an image may come from


def test_all_sources_give_the_same_image(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = Image.fromarray(array)
    path = tmp_path / "image.png"
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
        "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode(),
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
def test_array_that_is_no_image_is_refused(array, message):
    with pytest.raises(ValueError, match=message):
        load_image(array)


@pytest.mark.parametrize(
    "source, message",
    [
        ("no_such_file.png", "no such file"),
        ("data:image/png,abc", "a `data:` URL must be of base64, got 'data:image/png'"),
        ("data:image/png;base64,a!b", "the base64 of a `data:` URL is damaged"),
        (b"", "empty"),
        (b"<svg></svg>", "none of PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "none of PNG"),
        (None, "NoneType"),
        ({"bytes": None, "path": None}, "NoneType"),
        (io.StringIO("text"), "binary"),
        (3, "int"),
    ],
)
def test_what_is_no_image_is_refused_by_name(source, message):
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


@pytest.mark.parametrize("zipped", [True, False])
def test_the_orientation_in_a_png_s_texts_is_kept(zipped):
    text = PngImagePlugin.PngInfo()
    text.add_itxt("note", "x" * 1000, zip=zipped)
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


def test_damaged_exif_does_not_cost_the_image():
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


@pytest.mark.parametrize(
    "images, length",
    [
        (Image.new("RGB", (4, 4)), 1),
        ([Image.new("RGB", (4, 4))] * 2, 2),
        ((Image.new("RGB", (4, 4)),) * 3, 3),
        (np.zeros((2, 4, 4, 3), np.uint8), 2),
        (torch.zeros(3, 4, 4), 1),
        ("image.png", 1),
        (b"bytes", 1),
    ],
)
def test_batches(images, length):
    assert len(list_images(images)) == length


def test_empty_batch_is_refused():
    with pytest.raises(ValueError, match="`images`"):
        list_images([])


def test_three_dimensions_of_masks_are_masks():
    assert len(list_masks(np.zeros((3, 8, 8)))) == 3 and len(list_masks(np.zeros((8, 8, 1)))) == 1
    assert len(list_masks(np.zeros((8, 8)))) == 1 and len(list_masks(torch.zeros(2, 1, 8, 8))) == 2
