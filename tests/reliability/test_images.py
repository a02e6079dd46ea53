# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""R14, R15: broken images and images that are bombs."""

import io
import random
import resource
import struct
import time
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from itit_hf.data.streams import BAD_IMAGE_REASONS, Stream
from itit_hf.models.image_loading_itit import ImageLimitError, load_image

from .harness import fork, make_trainer, wait

CUTS = 10
SECONDS_OF_A_HANG = 2.0


def make_image(mode="RGB", size=(48, 32)) -> Image.Image:
    """Smooth colours, the same each time."""
    grid = np.mgrid[0 : size[1], 0 : size[0]]
    red, green = grid[0] * 255 // size[1], grid[1] * 255 // size[0]
    whole = np.stack([red, green, 255 - red], axis=-1).astype(np.uint8)
    image = Image.fromarray(whole)
    if mode == "I;16":
        return Image.fromarray((green * 257).astype(np.uint16))
    if mode == "F":
        return Image.fromarray((green / 255).astype(np.float32))
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(green.astype(np.uint8)))
    return image.convert(mode)


def encode(format, mode="RGB", **options) -> bytes:
    file = io.BytesIO()
    make_image(mode).save(file, format, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 0, data: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(data, 9))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + body + chunk(b"IEND", b"")


def interlaced() -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 1))
    body = chunk(b"IDAT", zlib.compress(b"\0\x10\x20\x30"))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("image.png", encode("PNG"))
    return file.getvalue()


def oriented(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return encode("JPEG", exif=exif)


def kinds() -> dict[str, bytes]:
    """Forty kinds of files, good ones and others, before they are cut or flipped."""
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 1000, zip=True)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    frames = {"save_all": True, "append_images": [make_image("P"), make_image("P")]}
    more = {"save_all": True, "append_images": [make_image()]}
    found = {f"png {mode}": encode("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")}
    found |= {f"jpeg {mode}": encode("JPEG", mode) for mode in ("L", "RGB", "CMYK")}
    found |= {f"jpeg turned {orientation}": oriented(orientation) for orientation in (2, 3, 6, 8, 99)}
    found |= {f"tiff {mode}": encode("TIFF", mode) for mode in ("RGB", "F", "I;16", "CMYK", "1")}
    found |= {f"webp {mode}": encode("WEBP", mode) for mode in ("RGB", "RGBA")}
    return found | {
        "jpeg progressive": encode("JPEG", progressive=True),
        "jpeg with a profile": encode("JPEG", icc_profile=profile),
        "png with text": encode("PNG", pnginfo=text),
        "png interlaced": interlaced(),
        "apng": encode("PNG", **more),
        "gif": encode("GIF", "P", **frames),
        "webp lossless": encode("WEBP", lossless=True),
        "tiff of two pages": encode("TIFF", **more),
        "tiff in lzw": encode("TIFF", compression="tiff_lzw"),
        "bmp": encode("BMP"),
        "ppm": encode("PPM"),
        "ico": encode("ICO"),
        "jpeg 2000": encode("JPEG2000"),
        "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200),
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>',
        "html": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "zip": zipped(),
        "nothing": b"",
    }


GOOD = {"png RGB", "jpeg RGB", "bmp", "ppm", "tiff RGB", "webp lossless", "tiff in lzw", "jpeg progressive"}


def damaged(content: bytes, generator: random.Random) -> bytes:
    """Cut at a random place, or with a few bits flipped."""
    if not content or generator.random() < 0.4:
        return content[: generator.randrange(len(content) + 1)]
    content = bytearray(content)
    for _ in range(generator.randrange(1, 8)):
        content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    return bytes(content)


def open_all(generator_seed: int):
    """In a child: 400 files, none of which may take long, crash or be anything but an image or a `ValueError`."""
    generator, refused = random.Random(generator_seed), 0
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name, content in kinds().items():
        if name in GOOD:
            reference = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
            assert np.array_equal(np.asarray(load_image(content)), reference), name
        for _ in range(CUTS):
            start = time.process_time()
            try:
                image = load_image(damaged(content, generator))
                assert image.mode == "RGB" and image.size[0] >= 1
            except ValueError:
                refused += 1
            assert time.process_time() - start < SECONDS_OF_A_HANG, name
    assert 100 < refused < 400
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1_000_000  # kB


@pytest.mark.figure(name="R14")
@pytest.mark.slow
def test_broken_images_are_refused_and_good_ones_are_read(figure):
    assert len(kinds()) == 40
    figure(40 * CUTS if wait(fork(open_all, 0)) == 0 else 0, 40 * CUTS)


@pytest.mark.figure(name="R14")
@pytest.mark.slow
def test_a_training_skips_them_and_counts_exactly(tmp_path, figure):
    good, bad, large = encode("PNG"), encode("PNG")[:60], png(20_000, 1)
    content = [bad if i % 30 == 7 else large if i % 30 == 11 else good for i in range(60)]
    rows = [{"image": {"bytes": each, "path": None}, "text": "a red bus"} for each in content]
    trainer = make_trainer(tmp_path, max_steps=30, gradient_accumulation_steps=1, on_bad_image="skip")
    trainer.streams[:] = [Stream("paired", rows, on_bad_image="skip")]
    trainer.train_dataset.streams["paired"] = trainer.streams[0]
    trainer.args.logging_steps = 40
    trainer.train()
    assert trainer.state.global_step == 30
    counts = dict(zip(BAD_IMAGE_REASONS, trainer.skips.skipped_images.tolist(), strict=True))
    figure(int(counts == {"unreadable": 2, "oversized": 2}), 1)  # 60 samples: each row once


def gif(width, height) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0)
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02L\x01\0"
    return head + frame * 50 + b";"


def bmp(width, height) -> bytes:
    return (
        b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)
    )


def jpeg(width, height) -> bytes:
    content = bytearray(encode("JPEG"))
    start = content.index(b"\xff\xc0") + 5
    content[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def tiff(width, height) -> bytes:
    content = bytearray(encode("TIFF"))
    for tag, value in ((256, width), (257, height)):
        place = next(i for i in range(8, len(content) - 12, 2) if content[i : i + 2] == struct.pack("<H", tag))
        content[place : place + 12] = struct.pack("<HHII", tag, 4, 1, value)
    return bytes(content)


def webp(width, height) -> bytes:
    canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + canvas + bytes(20)


PACKED = zlib.compress(bytes(10**6), 9)
BOMBS = {
    "20000 x 1": png(20_000, 1, data=bytes(20_001)),
    "1 x 1000000": png(1, 10**6, data=bytes(10)),
    "1000000 x 1000000": png(10**6, 10**6, data=bytes(10)),
    "12000 x 12000, 1 bit": png(12_000, 12_000, depth=1, data=bytes(1501 * 12_000)),
    "30000 x 30000, 16 bits": png(30_000, 30_000, depth=16, colour=6, data=bytes(1000)),
    "compressed text": png(9000, 9000, chunk(b"zTXt", b"a\0\0" + PACKED)),
    "empty chunks": png(9, 9, chunk(b"prIv", b"") * 2_000_000, data=bytes(90)),
    "gif frames": gif(60_000, 60_000),
    "bmp": bmp(40_000, 40_000),
    "jpeg": jpeg(65_000, 65_000),
    "tiff": tiff(10**6, 10**6),
    "webp": webp(16_000, 16_000),
    "50 MB of nothing": b"\x89PNG\r\n\x1a\n" + bytes(50_000_001),
}


TEXTS = {
    kind: png(9, 9, chunk(kind, head + PACKED) * 60, data=bytes(90))
    for kind, head in ((b"zTXt", b"a\0\0"), (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0"), (b"iCCP", b"a\0\0"))
}


def open_within_bounds(content: bytes):
    """In a child: read an image; status 0 if it is one, 5 if it is refused as a bomb, 3 if that took too much."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    status = 0
    try:
        load_image(content)
    except ImageLimitError:
        status = 5
    took = time.process_time() - start
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    raise SystemExit(status if took < 0.05 and used < 50_000 else 3)


@pytest.mark.figure(name="R15")
@pytest.mark.slow
def test_bombs_are_refused_by_their_header(figure):
    load_image(encode("PNG"))  # the plugins are imported
    statuses = {name: wait(fork(open_within_bounds, content)) for name, content in BOMBS.items()}
    assert set(statuses.values()) == {5}, statuses
    figure(len(statuses), len(BOMBS), "refused within 50 ms and 50 MB")


@pytest.mark.figure(name="R15")
@pytest.mark.slow
def test_60_mb_of_packed_text_are_not_unpacked(figure):
    statuses = {kind: wait(fork(open_within_bounds, content)) for kind, content in TEXTS.items()}
    figure(list(statuses.values()).count(0), len(TEXTS), "with 60 MB of packed texts, read within the same bounds")
