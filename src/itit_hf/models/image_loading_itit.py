# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The one door through which images come in, for training and for serving."""

import base64
import binascii
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import ExifTags, Image

# Formats whose header states the size of what will be decoded. Containers such as ICO hide a second image of another
# size inside, EPS runs an interpreter, and formats without a magic number accept anything.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")

# Encoders cut pixels into pieces of 8 kB and more; a file of nothing but empty chunks keeps PIL busy for many seconds.
MAX_PNG_CHUNKS = 20_000
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Of a PNG's texts, which PIL unpacks up to 64 MB of, these two may tell the orientation; colour profiles are not read.
_UNREAD_PNG_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_ORIENTATION_KEYWORDS = (b"Raw profile type exif", b"XML:com.adobe.xmp")

# What becomes of an image of another aspect ratio than the model's: see [`resize_image`].
ASPECT_RATIOS = ("squeeze", "pad", "crop")

_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageLimitError(ValueError):
    """An image that is larger than the limits; nothing of it was decoded."""

    reason = "oversized"


@dataclass(frozen=True)
class ImageLimits:
    """What an image may measure; checked on its header, before anything is decoded.

    Args:
        max_bytes (`int`): Size of the file in bytes.
        max_pixels (`int`): Width times height.
        max_aspect (`float`): Longer side divided by the shorter one.
    """

    max_bytes: int = 50_000_000
    max_pixels: int = 64_000_000
    max_aspect: float = 20.0

    def __post_init__(self):
        for name in ("max_bytes", "max_pixels", "max_aspect"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 1:
                raise ValueError(f"`{name}` must be a number of at least 1, got {value!r}")

    def check_bytes(self, num_bytes: int, name: str) -> None:
        """Raise an error about `name` if a file of `num_bytes` bytes is empty or too large."""
        if num_bytes == 0:
            raise ValueError(f"{name}: the file is empty")
        if num_bytes > self.max_bytes:
            raise ImageLimitError(f"{name}: the file has more than {self.max_bytes} bytes (`max_bytes`)")

    def check_size(self, size: tuple[int, int], name: str) -> None:
        """Raise an error about `name` if an image of this width and height is empty, too large or too thin."""
        width, height = size
        if width < 1 or height < 1:
            raise ValueError(f"{name}: it has {width} x {height} pixels; wanted at least 1 x 1")
        if width * height > self.max_pixels:
            raise ImageLimitError(f"{name}: {width} x {height} pixels are more than {self.max_pixels} (`max_pixels`)")
        aspect = max(width, height) / min(width, height)
        if aspect > self.max_aspect:
            raise ImageLimitError(
                f"{name}: {width} x {height} pixels have an aspect ratio of {aspect:g}, more than {self.max_aspect:g} "
                "(`max_aspect`)"
            )


def load_image(
    source, limits: ImageLimits | None = None, name: str = "image", reduce_to: int | None = None
) -> Image.Image:
    """Read an image from wherever it is, as 8-bit RGB.

    The size is read from the header and checked before decoding. The first frame of an animation or of a document
    is taken, turned by its EXIF orientation, put on white where it is transparent, and converted by its mode:

    | mode | rule |
    |---|---|
    | 1, L, P, RGB, RGBX, CMYK, YCbCr, HSV, LAB | PIL's conversion, with `transparency` on white |
    | LA, La, PA, RGBA, RGBa | on white |
    | I;16 and its byte orders, I | 16 bits: divided by 257. An `I` image with values outside 0 ... 65535 is refused |
    | F | values within [0, 1]: times 255; any others: stretched from their least to their largest value to 0 ... 255 |

    Colour profiles are not applied, and texts within a PNG are not unpacked.

    Args:
        source (`PIL.Image.Image`, `str`, `os.PathLike`, `bytes`, file object, `dict`, `np.ndarray` or `torch.Tensor`):
            An image, the path, a `data:` URL or the bytes of a file, or an undecoded row of a `datasets` image
            column. Arrays are
            (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels; bool, uint8, uint16, or float in [0, 1]. Where both
            readings fit, arrays are taken as (H, W, C) and tensors as (C, H, W).
        limits (`ImageLimits`, *optional*): What it may measure. The defaults are those of [`ImageLimits`].
        name (`str`, *optional*, defaults to `"image"`): What error messages call it.
        reduce_to (`int`, *optional*): Pixels to which its sides will be resized at most. A JPEG file is then decoded
            at a half, quarter or eighth of its size, as long as each side keeps twice as many: a photo of 12
            megapixels takes 2 MB in place of 36. Anything else, and an image in memory, is decoded whole.

    Returns:
        `PIL.Image.Image` of mode RGB, the caller's own copy.

    Raises:
        ValueError: If it cannot be read, is damaged, or exceeds the limits; the message names it and says why.
    """
    limits = ImageLimits() if limits is None else limits
    if isinstance(source, Mapping):  # {"bytes": ..., "path": ...}
        data = source.get("bytes")
        path = source.get("path")
        name = name if path is None else f"{name} ({path!r})"
        source = path if data is None else data
    elif isinstance(source, (str, os.PathLike)) and not _is_data_url(source):
        name = f"{name} ({os.fspath(source)!r})"
    if isinstance(source, (np.ndarray, torch.Tensor)):
        return _from_array(source, limits, name)
    if isinstance(source, Image.Image):
        limits.check_size(source.size, name)
        return _attempt(name, _decode, source)
    data = _read(source, limits, name)
    if (size := _webp_size(data[:30])) is not None:
        limits.check_size(size, name)
    data = _without_texts(data, name)
    image = _attempt(name, _open_header, io.BytesIO(data))
    limits.check_size(image.size, name)
    if reduce_to is not None:
        image.draft(None, (2 * reduce_to, 2 * reduce_to))  # does nothing to other formats than JPEG
    return _attempt(name, _decode, image)


def _attempt(name: str, function, argument):
    """`function(argument)`, with whatever a damaged file makes a decoder raise turned into one clear error."""
    try:
        return function(argument)
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"{name}: it cannot be read as an image: {reason}") from error


def _read(source, limits: ImageLimits, name: str) -> bytes:
    """The bytes of a path, of bytes or of a file object, of which no more than the limit are ever read."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        limits.check_bytes(len(source), name)
        return bytes(source)
    if _is_data_url(source):
        return _read_data_url(source, limits, name)
    if isinstance(source, (str, os.PathLike)):
        if not os.path.isfile(source):
            raise ValueError(f"{name}: there is no such file")
        with open(source, "rb") as file:
            return _read(file, limits, name)
    if not hasattr(source, "read"):
        raise ValueError(
            f"{name}: wanted a PIL image, a path, bytes, a file object, an array or a tensor, "
            f"got {type(source).__name__}"
        )
    if hasattr(source, "seekable") and source.seekable():
        source.seek(0)
    data = source.read(int(limits.max_bytes) + 1)
    if not isinstance(data, bytes):
        raise ValueError(f"{name}: the file object must be opened in binary mode")
    limits.check_bytes(len(data), name)
    return data


def _is_data_url(source) -> bool:
    return isinstance(source, str) and source.startswith("data:")


def _read_data_url(url: str, limits: ImageLimits, name: str) -> bytes:
    """The bytes that a `data:` URL, such as `data:image/png;base64,iVBO...`, holds."""
    head, _, text = url.partition(",")
    if not head.endswith(";base64"):
        raise ValueError(f"{name}: a `data:` URL must be of base64, got {head[:60]!r}")
    limits.check_bytes(len(text) * 3 // 4, name)
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{name}: the base64 of a `data:` URL is damaged: {error}") from error


def _webp_size(head: bytes) -> tuple[int, int] | None:
    """Width and height by the first 30 bytes of a WebP file; its decoder allocates the whole canvas to tell them."""
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return None

    def number(start: int, end: int) -> int:
        return int.from_bytes(head[start:end], "little")

    if head[12:16] == b"VP8X":  # extended: the canvas
        return number(24, 27) + 1, number(27, 30) + 1
    if head[12:16] == b"VP8L":  # lossless: two times 14 bits
        return (number(21, 25) & 0x3FFF) + 1, (number(21, 25) >> 14 & 0x3FFF) + 1
    return number(26, 28) & 0x3FFF, number(28, 30) & 0x3FFF  # lossy


def _without_texts(data: bytes, name: str) -> bytes:
    """A PNG without what nobody here reads of it, by the lengths that its chunks state; anything else as it is.

    Of several chunks that may tell the orientation, the first of each keyword stays.
    """
    if not data.startswith(_PNG_SIGNATURE):
        return data
    kept = []
    keywords = set(_ORIENTATION_KEYWORDS)
    start = len(_PNG_SIGNATURE)
    count = 0
    begin = 0  # of what is to be kept
    while start + 8 <= len(data):
        count += 1
        if count > MAX_PNG_CHUNKS:
            raise ImageLimitError(f"{name}: it has more than {MAX_PNG_CHUNKS} chunks")
        kind = data[start + 4 : start + 8]
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        if kind == b"IEND":  # some files have other things behind it
            break
        if kind in _UNREAD_PNG_CHUNKS:
            keyword = data[start + 8 : start + 88].partition(b"\0")[0]
            if keyword in keywords:
                keywords.remove(keyword)
            else:
                kept.append(data[begin:start])
                begin = end
        start = end
    return b"".join((*kept, data[begin:])) if kept else data


def _open_header(file: io.BytesIO) -> Image.Image:
    """What `PIL.Image.open` does, for our formats only and without its own check of the size.

    That check is a process-wide setting that warns or raises at other sizes than ours, and would come first.
    """
    Image.init()
    prefix = file.read(16)
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is None or accept(prefix) is True:
            file.seek(0)
            return factory(file, "")
    raise ValueError(f"it is none of {', '.join(FORMATS)}")


def _decode(image: Image.Image) -> Image.Image:
    """Decode, turn upright, convert to RGB; the result carries no metadata (a second turn would be wrong)."""
    image.load()
    if image.mode not in _TO_RGB:
        raise ValueError(f"its mode is {image.mode!r}, wanted one of {', '.join(_TO_RGB)}")
    rgb = _TO_RGB[image.mode](image)
    orientation = _orientation(image)
    rgb = rgb.transpose(_ORIENTATIONS[orientation]) if orientation in _ORIENTATIONS else rgb
    rgb.info = {}
    return rgb


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8. A damaged EXIF block is common and no reason to lose the image: it is 1."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return 1


def _opaque(image: Image.Image) -> Image.Image:
    """Modes without an alpha channel; `transparency` in the metadata of some still makes pixels see-through."""
    if image.mode in ("1", "L", "P", "RGB") and image.has_transparency_data:
        return _on_white(image)
    return image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """Alpha composited on white."""
    if image.mode == "La":
        image = image.convert("LA")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def _from_16_bit(image: Image.Image) -> Image.Image:
    """16-bit greys, also those that PIL keeps in 32-bit integers, divided by 257; one may be named transparent."""
    values = np.asarray(image)
    if values.dtype.itemsize > 2 and (values.min() < 0 or values.max() > 65535):
        raise ValueError(f"its 32-bit values {values.min()} ... {values.max()} are not within 0 ... 65535")
    grey = ((np.arange(65536) + 128) // 257).astype(np.uint8)[values]
    if isinstance(image.info.get("transparency"), int):
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey).convert("RGB")


def _from_float(image: Image.Image) -> Image.Image:
    """Floats: [0, 1] as it is, any other range stretched to it."""
    values = np.array(image)
    low = float(values.min())
    high = float(values.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("it holds NaN or infinite values")
    if low >= 0.0 and high <= 1.0:
        low = 0.0
        high = 1.0
    values -= low
    values *= 255.0 / max(high - low, 1e-30)
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8)).convert("RGB")


_TO_RGB = {
    **dict.fromkeys(("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"), _opaque),
    **dict.fromkeys(("LA", "La", "PA", "RGBA", "RGBa"), _on_white),
    **dict.fromkeys(("I;16", "I;16L", "I;16B", "I;16N", "I"), _from_16_bit),
    "F": _from_float,
}


def _from_array(array: np.ndarray | torch.Tensor, limits: ImageLimits, name: str) -> Image.Image:
    """An array or tensor of any of the accepted forms as RGB."""
    channels_first = isinstance(array, torch.Tensor)
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).numpy()
    shape = array.shape
    if array.ndim == 2:
        array = array[..., None]
    elif array.ndim == 3 and shape[0] in (1, 3, 4) and (channels_first or shape[-1] not in (1, 3, 4)):
        array = np.moveaxis(array, 0, -1)
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4):
        raise ValueError(f"{name}: wanted an array of 2 dimensions or 1, 3 or 4 channels, got the shape {shape}")
    limits.check_size((array.shape[1], array.shape[0]), name)
    array = _to_uint8(array, name)
    if array.shape[-1] == 1:
        return Image.fromarray(array[..., 0]).convert("RGB")
    image = Image.fromarray(np.ascontiguousarray(array))
    return _on_white(image) if image.mode == "RGBA" else image


def _to_uint8(array: np.ndarray, name: str) -> np.ndarray:
    """Bool, uint8, uint16 or float in [0, 1] as uint8. Floats may miss the range by 0.001: resizing does that."""
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{name}: wanted bool, uint8, uint16 or floats in [0, 1], got {array.dtype}")
    low = float(array.min())
    high = float(array.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ValueError(f"{name}: floats must be in [0, 1], got values from {low:g} to {high:g}")
    return (array * 255).round().clip(0, 255).astype(np.uint8)


def list_images(images) -> list:
    """The images of a batch: a sequence, an array or tensor of 4 dimensions, or a single image.

    Args:
        images: Anything [`load_image`] takes, a sequence of them, or an array of shape `(batch_size, ...)`.

    Returns:
        `list` of what [`load_image`] takes.

    Raises:
        ValueError: If it is empty.
    """
    if isinstance(images, (np.ndarray, torch.Tensor)):
        images = list(images) if images.ndim == 4 else [images]
    elif isinstance(images, Sequence) and not isinstance(images, (str, bytes, bytearray, memoryview)):
        images = list(images)
    else:
        images = [images]
    if not images:
        raise ValueError("`images` must hold at least one image, got none")
    return images


def list_masks(mask_image) -> list:
    """The masks of a batch; unlike an image's, three dimensions of an array are masks, not channels.

    Args:
        mask_image: What [`load_image`] takes, a sequence of it, or an array of shape `(batch_size, height, width)`.

    Returns:
        `list` of what [`load_image`] takes.

    Raises:
        ValueError: If it is empty.
    """
    if isinstance(mask_image, (np.ndarray, torch.Tensor)) and mask_image.ndim == 3 and mask_image.shape[-1] != 1:
        return list(mask_image)
    return list_images(mask_image)


def resize_image(
    image: Image.Image, height: int, width: int, aspect_ratio: str = "squeeze", resample: int = 3, fill: int = 255
) -> Image.Image:
    """Bring an image to a size, by one of the rules for images of another aspect ratio. An image that has it already
    stays as it is, whatever the rule.

    | rule | what becomes of an image of another aspect ratio |
    |---|---|
    | `"squeeze"` | all of it is resized to exactly that size; shapes are distorted |
    | `"pad"` | all of it is resized to fit in, shapes kept, and put in the middle; the rest is filled up |
    | `"crop"` | it is resized to cover that size, shapes kept, and the middle is cut out; the rest is lost |

    Args:
        image (`PIL.Image.Image`): Of any mode.
        height (`int`): Pixels.
        width (`int`): Pixels.
        aspect_ratio (`str`, *optional*, defaults to `"squeeze"`): Of `ASPECT_RATIOS`.
        resample (`int`, *optional*, defaults to 3): PIL's filter; 3 is bicubic.
        fill (`int`, *optional*, defaults to 255): Brightness of what is filled up, 0 to 255; white by default, as
            behind what is transparent.

    Returns:
        `PIL.Image.Image` of that size.

    Raises:
        ValueError: If there is no such rule.
    """
    _check_aspect_ratio(aspect_ratio)
    old_width, old_height = image.size
    is_wider = old_width * height >= width * old_height
    size = (width, height)
    if aspect_ratio == "crop":  # as transformers resizes a shortest edge: rounded down
        size = (width, max(height, width * old_height // old_width))
        if is_wider:
            size = (max(width, height * old_width // old_height), height)
    elif aspect_ratio == "pad":
        size = (min(width, max(1, round(height * old_width / old_height))), height)
        if is_wider:
            size = (width, min(height, max(1, round(width * old_height / old_width))))
    resized = image if image.size == size else image.resize(size, resample)
    if size == (width, height):
        return resized
    if aspect_ratio == "crop":
        left = (size[0] - width) // 2
        top = (size[1] - height) // 2
        return resized.crop((left, top, left + width, top + height))
    canvas = Image.new(image.mode, (width, height), (fill,) * len(image.getbands()))
    canvas.paste(resized, ((width - size[0]) // 2, (height - size[1]) // 2))
    return canvas


def _check_aspect_ratio(aspect_ratio: str):
    if aspect_ratio not in ASPECT_RATIOS:
        raise ValueError(f"`aspect_ratio` must be one of {ASPECT_RATIOS}, got {aspect_ratio!r}")
