# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The image processor: images to `pixel_values` and back."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, BatchFeature
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_base import (
    ImageProcessingMixin,  # noqa: F401  diffusers looks for this name here to know how to load the component
)
from transformers.image_utils import PILImageResampling
from transformers.processing_utils import ImagesKwargs, Unpack
from transformers.utils import IMAGE_PROCESSOR_NAME, cached_file

from .configuration_itit import ITITConfig
from .image_loading_itit import ImageLimits, _check_aspect_ratio, list_images, load_image, resize_image


def _is_float(source) -> bool:
    """Whether an image's values are floating point numbers."""
    if isinstance(source, torch.Tensor):
        return source.is_floating_point()
    if isinstance(source, np.ndarray):
        return np.issubdtype(source.dtype, np.floating)
    return isinstance(source, Image.Image) and source.mode == "F"


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
        """As a call. `do_rescale=False` means that values are in [0, 1] already, as those of floating point images
        are, which this processor takes as what they are in any case.

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

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of `pixel_values`, of images that are resized or cropped."""
        size = self.crop_size if self.do_center_crop else self.size
        return size.height or size.shortest_edge, size.width or size.shortest_edge

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
        height = size.height or size.shortest_edge
        width = size.width or size.shortest_edge
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
        options = {key: kwargs[key] for key in ("limits", "do_resize", "size", "aspect_ratio", "resample")}
        read = [self._read_image(each, f"images[{i}]", **options) for i, each in enumerate(list_images(images))]
        arrays = [np.moveaxis(np.asarray(image), -1, 0) for image in read]  # (3, H, W) each
        return self._preprocess(arrays, *args, **(kwargs | {"do_resize": False}))

    def _validate_preprocess_kwargs(self, **kwargs):
        """Refuse a crop that reaches beyond the resized image, as it would be filled up with black, and a factor
        that leaves values beyond [0, 1], as the mean and the deviation are of values within."""
        super()._validate_preprocess_kwargs(**kwargs)
        factor = kwargs.get("rescale_factor")
        if kwargs.get("do_rescale") and kwargs.get("do_normalize") and not 0 < factor <= 1.01 / 255:
            raise ValueError(f"`rescale_factor` must be in (0, 1 / 255] where values are normalized, got {factor}")
        size = kwargs.get("size")
        crop_size = kwargs.get("crop_size")
        _check_aspect_ratio(kwargs.get("aspect_ratio"))
        if kwargs.get("do_resize") and kwargs.get("do_center_crop"):
            height = size.height or size.shortest_edge
            width = size.width or size.shortest_edge
            if crop_size.height > height or crop_size.width > width:
                raise ValueError(f"`crop_size` must not exceed `size`, got {dict(crop_size)} and {dict(size)}")

    def preprocess_mask(self, masks: Sequence[Image.Image]) -> torch.BoolTensor:
        """Where images are generated anew, resized and cropped as they are: pixels that are marked in any place.
        What an image is padded with is not.

        Args:
            masks (`Sequence[PIL.Image.Image]`): RGB; marked where the grey is at least 128 of 255.

        Returns:
            `torch.BoolTensor` of shape `(batch_size, height, width)`.
        """
        height = self.size.height or self.size.shortest_edge
        width = self.size.width or self.size.shortest_edge
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
        """Put the pixels that were not to change back over an edited image, exactly as they were.

        The image tokenizer gives an image back but for details, and a token stands for a whole patch. As the method
        of this name in diffusers, but the edit has the model's size, so the others are brought to it.

        Args:
            mask (`PIL.Image.Image`, path, array or tensor): White where the image was generated anew.
            init_image (`PIL.Image.Image`, path, array or tensor): The image before.
            image (`PIL.Image.Image`): The image after, as this processor's `postprocess` makes it.

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
        """Images from `pixel_values`, the inverse of the normalization.

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


def height_and_width(resolution: Sequence[int], name: str = "resolution") -> tuple[int, int] | None:
    """The size of images by one or two numbers, as a command line gives them.

    Args:
        resolution (`Sequence[int]`): None, the side of square images, or height and width, in pixels.
        name (`str`, *optional*, defaults to `"resolution"`): What the error message calls it.

    Returns:
        `tuple` of height and width, or `None` of no number.

    Raises:
        ValueError: If there are more numbers, or one is below 1.
    """
    if len(resolution) > 2 or any(length < 1 for length in resolution):
        raise ValueError(f"`{name}` must be one number, or height and width, of at least 1; got {list(resolution)}")
    return (resolution[0], resolution[-1]) if resolution else None


def has_image_processor(image_tokenizer: str) -> bool:
    """Whether an image processor lies beside an image tokenizer.

    Args:
        image_tokenizer (`str`): Folder or Hub id.

    Returns:
        `bool`: False too where there is no such image tokenizer, or the Hub cannot be asked: opening it says so.
    """
    try:
        cached_file(image_tokenizer, IMAGE_PROCESSOR_NAME)
    except OSError:
        return False
    return True


def load_image_processor(
    frozen_parts: str,
    image_tokenizer: str | None = None,
    resolution: Sequence[int] = (),
    aspect_ratio: str | None = None,
) -> ITITImageProcessorPil:
    """The image processor that goes with an image tokenizer: the one that lies beside it, or that of a pipeline.

    Args:
        frozen_parts (`str`): Pipeline folder or Hub id, which has one.
        image_tokenizer (`str`, *optional*): Folder or Hub id of another image tokenizer than the one there. If no
            image processor lies beside it, and a `resolution` is given, it gets a new one.
        resolution (`Sequence[int]`, *optional*): Side of an image, or height and width, in pixels; as it was by
            default.
        aspect_ratio (`str`, *optional*): Of `ASPECT_RATIOS`; as it was by default.

    Returns:
        [`ITITImageProcessorPil`].

    Raises:
        ValueError: If `resolution` is more than two numbers, or one is below 1.
    """
    size = height_and_width(resolution)
    if image_tokenizer and has_image_processor(image_tokenizer):
        found = ITITImageProcessorPil.from_pretrained(image_tokenizer)
    elif image_tokenizer and size is not None:
        found = ITITImageProcessorPil(size={"height": size[0], "width": size[1]})
    else:
        found = ITITImageProcessorPil.from_pretrained(frozen_parts, subfolder="image_processor")
    if size is None and aspect_ratio is None:
        return found
    height, width = size or (found.crop_size["height"], found.crop_size["width"])
    return found.with_size(height, width, aspect_ratio)


AutoImageProcessor.register(ITITConfig, image_processor_classes={"pil": ITITImageProcessorPil}, exist_ok=True)
