# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The one door through which pictures come in, for training and for serving, and the image processor behind it."""

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import ExifTags, Image
from transformers import AutoImageProcessor, BatchFeature
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_base import (
    ImageProcessingMixin,  # noqa: F401  diffusers looks for this name here to know how to load the component
)
from transformers.image_utils import PILImageResampling
from transformers.processing_utils import ImagesKwargs, Unpack

from .configuration_itit import ITITConfig

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
    """A picture that is larger than the limits; nothing of it was decoded."""

    reason = "oversized"


@dataclass(frozen=True)
class ImageLimits:
    """What a picture may measure; checked on its header, before anything is decoded.

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

    def check_size(self, width: int, height: int, name: str) -> None:
        """Raise an error about `name` if a picture of these sides is empty, too large or too thin."""
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
    """Read a picture from wherever it is, as 8-bit RGB.

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
            A picture, the path or the bytes of a file, or an undecoded row of a `datasets` image column. Arrays are
            (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels; bool, uint8, uint16, or float in [0, 1]. Where both
            readings fit, arrays are taken as (H, W, C) and tensors as (C, H, W).
        limits (`ImageLimits`, *optional*): What it may measure. The defaults are those of [`ImageLimits`].
        name (`str`, *optional*, defaults to `"image"`): What error messages call it.
        reduce_to (`int`, *optional*): Pixels to which its sides will be resized at most. A JPEG file is then decoded
            at a half, quarter or eighth of its size, as long as each side keeps twice as many: a photo of 12
            megapixels takes 2 MB in place of 36. Anything else, and a picture in memory, is decoded whole.

    Returns:
        `PIL.Image.Image` of mode RGB, the caller's own copy.

    Raises:
        ValueError: If it cannot be read, is damaged, or exceeds the limits; the message names it and says why.
    """
    limits = ImageLimits() if limits is None else limits
    if isinstance(source, Mapping):  # {"bytes": ..., "path": ...}
        data, path = source.get("bytes"), source.get("path")
        name, source = (name if path is None else f"{name} ({path!r})"), (path if data is None else data)
    elif isinstance(source, (str, os.PathLike)):
        name = f"{name} ({os.fspath(source)!r})"
    if isinstance(source, (np.ndarray, torch.Tensor)):
        return _from_array(source, limits, name)
    if isinstance(source, Image.Image):
        limits.check_size(*source.size, name)
        return _attempt(name, _decode, source)
    data = _read(source, limits, name)
    if (size := _webp_size(data[:30])) is not None:
        limits.check_size(*size, name)
    data = _without_texts(data, name)
    image = _attempt(name, _open_header, io.BytesIO(data))
    limits.check_size(*image.size, name)
    if reduce_to is not None:
        image.draft(None, (2 * reduce_to, 2 * reduce_to))  # does nothing to other formats than JPEG
    return _attempt(name, _decode, image)


def _attempt(name: str, function, argument):
    """`function(argument)`, with whatever a damaged file makes a decoder raise turned into one clear error."""
    try:
        return function(argument)
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"{name}: it cannot be read as a picture: {reason}") from error


def _read(source, limits: ImageLimits, name: str) -> bytes:
    """The bytes of a path, of bytes or of a file object, of which no more than the limit are ever read."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        limits.check_bytes(len(source), name)
        return bytes(source)
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
    kept, keywords, start, count = [], set(_ORIENTATION_KEYWORDS), len(_PNG_SIGNATURE), 0
    begin = 0  # of what is to be kept
    while start + 8 <= len(data):
        count += 1
        if count > MAX_PNG_CHUNKS:
            raise ImageLimitError(f"{name}: it has more than {MAX_PNG_CHUNKS} chunks")
        kind, end = data[start + 4 : start + 8], start + 12 + int.from_bytes(data[start : start + 4], "big")
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
    """The EXIF orientation, 1 to 8. A damaged EXIF block is common and no reason to lose the picture: it says 1."""
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
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("it holds NaN or infinite values")
    low, high = (0.0, 1.0) if low >= 0.0 and high <= 1.0 else (low, high)
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
    limits.check_size(array.shape[1], array.shape[0], name)
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
    low, high = float(array.min()), float(array.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ValueError(f"{name}: floats must be in [0, 1], got values from {low:g} to {high:g}")
    return (array * 255).round().clip(0, 255).astype(np.uint8)


def list_images(images) -> list:
    """The pictures of a batch: a sequence, an array or tensor of 4 dimensions, or a single picture.

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
        raise ValueError("`images` must hold at least one picture, got none")
    return images


def list_masks(mask_image) -> list:
    """The masks of a batch; unlike a picture's, three dimensions of an array are masks, not channels.

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


def _is_float(source) -> bool:
    """Whether a picture's values are floating point numbers."""
    if isinstance(source, torch.Tensor):
        return source.is_floating_point()
    if isinstance(source, np.ndarray):
        return np.issubdtype(source.dtype, np.floating)
    return isinstance(source, Image.Image) and source.mode == "F"


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
        left, top = (size[0] - width) // 2, (size[1] - height) // 2
        return resized.crop((left, top, left + width, top + height))
    canvas = Image.new(image.mode, (width, height), (fill,) * len(image.getbands()))
    canvas.paste(resized, ((width - size[0]) // 2, (height - size[1]) // 2))
    return canvas


def _check_aspect_ratio(aspect_ratio: str):
    if aspect_ratio not in ASPECT_RATIOS:
        raise ValueError(f"`aspect_ratio` must be one of {ASPECT_RATIOS}, got {aspect_ratio!r}")


class ITITImagesKwargs(ImagesKwargs, total=False):
    """Arguments of [`ITITImageProcessorPil`] beyond those every image processor has.

    Args:
        limits (`dict`): The fields of [`ImageLimits`].
        aspect_ratio (`str`): Of `ASPECT_RATIOS`.
    """

    limits: dict | None
    aspect_ratio: str | None


class ITITImageProcessorPil(PilBackend):
    """Turns images into `pixel_values` in [-1, 1] and back; PIL and NumPy only.

    An image of another aspect ratio than `size` is brought to it by `aspect_ratio`, see [`resize_image`]; by default
    nothing of it is lost. A square image is the same by every rule. `size={"shortest_edge": ...}` means `"crop"`.
    Everything comes in through [`load_image`], one image at a time, and is resized as it is read.

    Args:
        size (`int` or `dict`, *optional*, defaults to 256): Sides of a square in pixels, or `height` and `width`.
        aspect_ratio (`str`, *optional*, defaults to `"squeeze"`): `"squeeze"`, `"pad"` or `"crop"`. It is saved, so
            that a model is used on images prepared as those that it was trained on.
        crop_size (`dict`, *optional*): Size of the middle piece that is cut out of that; `size` by default.
        limits (`dict`, *optional*): Fields of [`ImageLimits`] that replace its defaults.
        resample (`PIL.Image.Resampling`, *optional*, defaults to bicubic): Filter, antialiased when it shrinks.

    Example:
        `ITITImageProcessorPil(size=64)("bus.png", return_tensors="pt").pixel_values` has the shape (1, 3, 64, 64).
    """

    valid_kwargs = ITITImagesKwargs
    resample = PILImageResampling.BICUBIC
    size = {"height": 256, "width": 256}
    aspect_ratio = "squeeze"
    default_to_square = True
    crop_size = {"height": 256, "width": 256}
    image_mean = [0.5, 0.5, 0.5]
    image_std = [0.5, 0.5, 0.5]
    do_resize = True
    do_center_crop = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True
    limits = None

    def __init__(self, **kwargs: Unpack[ITITImagesKwargs]):
        size = kwargs.get("size")
        if size is not None:
            size = {"height": size, "width": size} if isinstance(size, int) else dict(size)
            edge = size.get("shortest_edge")
            if kwargs.get("crop_size") is None:
                kwargs["crop_size"] = {"height": size.get("height", edge), "width": size.get("width", edge)}
            if edge is not None and kwargs.setdefault("aspect_ratio", "crop") != "crop":
                raise ValueError(
                    "`aspect_ratio` must be 'crop' with the shortest edge as `size`, got "
                    f"{kwargs['aspect_ratio']!r}; give height and width"
                )
        super().__init__(**kwargs)
        ImageLimits(**(self.limits or {}))  # a wrong limit or rule is better known now than at the first image
        _check_aspect_ratio(self.aspect_ratio)

    def preprocess(self, images, *args, **kwargs: Unpack[ITITImagesKwargs]) -> BatchFeature:
        """As a call. `do_rescale=False` says that values are in [0, 1] already, as those of floating point images are,
        which this processor takes as what they are in any case.

        Args:
            images: What [`load_image`] takes, or a list of it.
            args: As in transformers.
            kwargs: As in transformers.

        Returns:
            `BatchFeature` with `pixel_values` of shape `(batch_size, 3, height, width)`.

        Raises:
            ValueError: If an image cannot be read, or its values would not be in [0, 1] before the normalization.
        """
        given = {name: kwargs.get(name) for name in ("do_rescale", "do_normalize")}
        flags = {name: getattr(self, name) if value is None else value for name, value in given.items()}
        if not flags["do_rescale"]:
            in_range = [_is_float(source) for source in list_images(images)]
            if any(in_range) and all(in_range):
                kwargs |= {"do_rescale": True, "rescale_factor": 1 / 255}
            elif any(in_range) or flags["do_normalize"]:
                number = in_range.index(False)
                raise ValueError(
                    f"`do_rescale` must be True for images of values up to 255, such as images[{number}]: without it "
                    "they must be floating point numbers in [0, 1], which are what is normalized"
                )
        return super().preprocess(images, *args, **kwargs)

    def read_image(self, source, name: str = "image") -> Image.Image:
        """Read one image and resize it at once, so that a batch of photos is never whole in memory. What is made of
        the result is what is made of the image.

        Args:
            source: What [`load_image`] takes.
            name (`str`, *optional*, defaults to `"image"`): What error messages call it.

        Returns:
            `PIL.Image.Image` of mode RGB and of `size`.

        Raises:
            ValueError: See [`load_image`].
        """
        kwargs = {key: getattr(self, key) for key in ("limits", "do_resize", "size", "aspect_ratio", "resample")}
        return self._read_image(source, name, **kwargs)

    def with_size(self, height: int, width: int, aspect_ratio: str | None = None) -> "ITITImageProcessorPil":
        """The same processor for images of another size.

        Args:
            height (`int`): Pixels.
            width (`int`): Pixels.
            aspect_ratio (`str`, *optional*): Of `ASPECT_RATIOS`; as it was by default.

        Returns:
            [`ITITImageProcessorPil`], a new one.
        """
        size = {"height": height, "width": width}
        changes = {"size": size, "crop_size": size, "aspect_ratio": aspect_ratio or self.aspect_ratio}
        return type(self).from_dict(self.to_dict() | changes)

    def _read_image(self, source, name: str, limits, do_resize, size, aspect_ratio, resample) -> Image.Image:
        height, width = size.height or size.shortest_edge, size.width or size.shortest_edge
        limits = ImageLimits(**(limits or {}))
        if not do_resize:
            return load_image(source, limits, name)
        image = load_image(source, limits, name, reduce_to=max(height, width))
        return resize_image(image, height, width, aspect_ratio, resample)

    def _standardize_kwargs(self, **kwargs):
        kwargs = super()._standardize_kwargs(**kwargs)
        if kwargs["size"].shortest_edge:
            kwargs["aspect_ratio"] = "crop"  # also where it is the size of one call
        return kwargs

    def _preprocess_image_like_inputs(self, images, *args, **kwargs):
        """Each image is read and resized before the next; the rest of the parent's work is done on small ones."""
        wanted = {key: kwargs[key] for key in ("limits", "do_resize", "size", "aspect_ratio", "resample")}
        pictures = [self._read_image(each, f"images[{i}]", **wanted) for i, each in enumerate(list_images(images))]
        arrays = [np.moveaxis(np.asarray(picture), -1, 0) for picture in pictures]  # (3, H, W) each
        return self._preprocess(arrays, *args, **(kwargs | {"do_resize": False}))

    def _validate_preprocess_kwargs(self, **kwargs):
        """Refuse a crop that reaches beyond the resized picture, as it would be filled up with black, and a factor
        that leaves values beyond [0, 1], as the mean and the deviation are of values within."""
        super()._validate_preprocess_kwargs(**kwargs)
        factor = kwargs.get("rescale_factor")
        if kwargs.get("do_rescale") and kwargs.get("do_normalize") and not 0 < factor <= 1.01 / 255:
            raise ValueError(f"`rescale_factor` must be in (0, 1 / 255] where values are normalized, got {factor}")
        size, crop_size = kwargs.get("size"), kwargs.get("crop_size")
        _check_aspect_ratio(kwargs.get("aspect_ratio"))
        if kwargs.get("do_resize") and kwargs.get("do_center_crop"):
            height, width = size.height or size.shortest_edge, size.width or size.shortest_edge
            if crop_size.height > height or crop_size.width > width:
                raise ValueError(f"`crop_size` must not exceed `size`, got {dict(crop_size)} and {dict(size)}")

    def preprocess_mask(self, masks: Sequence[Image.Image]) -> torch.BoolTensor:
        """Where images are drawn anew, resized and cropped as they are: pixels of which any part is marked. What an
        image is padded with is not.

        Args:
            masks (`Sequence[PIL.Image.Image]`): RGB; marked where the grey is at least 128 of 255.

        Returns:
            `torch.BoolTensor` of shape `(batch_size, height, width)`.
        """
        height, width = self.size.height or self.size.shortest_edge, self.size.width or self.size.shortest_edge
        found = []
        for mask in masks:
            marked = mask.convert("L").point(lambda grey: 255 if grey >= 128 else 0)
            if self.do_resize:
                marked = resize_image(marked, height, width, self.aspect_ratio, PILImageResampling.BOX, fill=0)
            share = np.asarray(marked)[None]  # (1, H, W)
            share = self.center_crop(share, self.crop_size) if self.do_center_crop else share
            found.append(torch.from_numpy(share[0] > 0))  # the least share that 8 bits hold is 1 / 255
        return torch.stack(found)

    def apply_overlay(self, mask, init_image, image: Image.Image) -> Image.Image:
        """Put the pixels that were not to change back over an edited picture, exactly as they were.

        The image tokenizer gives a picture back but for details, and a token stands for a whole patch. As the method
        of this name in diffusers, but the edit has the model's size, so the others are brought to it.

        Args:
            mask (`PIL.Image.Image`, path, array or tensor): White where the picture was drawn anew.
            init_image (`PIL.Image.Image`, path, array or tensor): The picture before.
            image (`PIL.Image.Image`): The picture after, as this processor's `postprocess` makes it.

        Returns:
            `PIL.Image.Image` in RGB, of the size of `image`.

        Raises:
            ValueError: If one cannot be read, or `image` is of another size than this processor's.
        """
        limits = ImageLimits(**(self.limits or {}))
        (before,) = self.postprocess(self(load_image(init_image, limits), return_tensors="pt").pixel_values)
        if image.size != before.size:
            raise ValueError(f"`image` must have the model's size {before.size}, got {image.size}")
        (marked,) = self.preprocess_mask([load_image(mask, limits, "mask")])
        overlaid = before.copy()
        overlaid.paste(image.convert("RGB"), mask=Image.fromarray(marked.numpy().astype(np.uint8) * 255))
        return overlaid

    def postprocess(self, pixel_values: torch.Tensor, output_type: str = "pil"):
        """Pictures from `pixel_values`, the inverse of the normalization.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, 3, height, width)`):
                In [-1, 1] with the default mean and deviation; values beyond the range are cut.
            output_type (`str`, *optional*, defaults to `"pil"`): `"pil"`, `"np"` or `"pt"`.

        Returns:
            A list of RGB `PIL.Image.Image`; or a float32 array of shape `(batch_size, height, width, 3)`; or a tensor
            of shape `(batch_size, 3, height, width)`, on the device it came on; both in [0, 1].

        Raises:
            ValueError: If the shape or `output_type` is none of these, or there are NaN values.
        """
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f"`output_type` must be 'pil', 'np' or 'pt', got {output_type!r}")
        if pixel_values.ndim != 4 or pixel_values.size(1) != 3:
            raise ValueError(f"`pixel_values` must be (batch_size, 3, height, width), got {tuple(pixel_values.shape)}")
        if pixel_values.isnan().any():
            raise ValueError("`pixel_values` must be numbers, got NaN")
        pixel_values = pixel_values.detach().float()
        std, mean = (pixel_values.new_tensor(v)[:, None, None] for v in (self.image_std, self.image_mean))
        images = (pixel_values * std + mean).clamp(0, 1)  # (B, 3, H, W)
        if output_type == "pt":
            return images
        arrays = images.permute(0, 2, 3, 1).cpu().numpy()  # (B, H, W, 3)
        if output_type == "np":
            return arrays
        return [Image.fromarray(array) for array in (arrays * 255).round().astype(np.uint8)]


AutoImageProcessor.register(ITITConfig, image_processor_classes={"pil": ITITImageProcessorPil}, exist_ok=True)
