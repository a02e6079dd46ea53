# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What an image is edited from: its tokens, which of them are generated anew, and texts between two texts."""

from collections.abc import Sequence

import PIL.Image
import torch
from torch.nn import functional as F

from ..models.image_loading_itit import ImageLimits, list_images, list_masks, load_image

DEFAULT_STRENGTHS = {"masked": 1.0, "whole": 0.5}  # those of diffusers' aMUSEd pipelines


def edit_strength(strength: float | None, image, mask_image) -> float:
    """The strength of an edit, or of an image from nothing, which is 1.0.

    Args:
        strength (`float`, *optional*): What was asked for; 1.0 with a mask by default, 0.5 without.
        image: Images, or `None`.
        mask_image: Masks, or `None`.

    Returns:
        `float` in (0, 1].

    Raises:
        ValueError: If there is a mask or a strength but no image, or a whole image is to be ignored.
    """
    if image is None:
        given = [name for name, value in (("mask_image", mask_image), ("strength", strength)) if value is not None]
        if given:
            raise ValueError(f"`{given[0]}` says how to edit `image`, which is not given")
        return 1.0
    if strength is None:
        return DEFAULT_STRENGTHS["whole" if mask_image is None else "masked"]
    if mask_image is None and strength == 1.0:
        raise ValueError("`strength` 1.0 without `mask_image` leaves nothing of `image`; lower it, or give a mask")
    return float(strength)


def is_token_ids(image, num_image_tokens: int) -> bool:
    """Whether `image` is an image's tokens, `torch.LongTensor` of shape `(batch_size, num_image_tokens)`, and not
    pixels, which are never of 64-bit integers."""
    return isinstance(image, torch.Tensor) and image.dtype == torch.long and image.shape[1:] == (num_image_tokens,)


def image_sizes(image, image_grid: Sequence[int]) -> list[tuple[int, int]]:
    """Width and height of the images that masks must fit: those of pixels, or of the grid of tokens, one for all.

    Args:
        image (`list[PIL.Image.Image]` or `torch.LongTensor` of shape `(batch_size, num_image_tokens)`): Images.
        image_grid (`Sequence[int]` of length 2): Rows and columns of tokens.
    """
    if isinstance(image, torch.Tensor):
        height, width = image_grid
        return [(width, height)]
    return [each.size for each in image]


def load_images(image_processor, image) -> list[PIL.Image.Image]:
    """The images to edit, as 8-bit RGB of the size they came in.

    Args:
        image_processor ([`ITITImageProcessorPil`]): Whose limits hold.
        image: What [`load_image`] takes, or a list of it.

    Returns:
        `list[PIL.Image.Image]`.

    Raises:
        ValueError: If one cannot be read; the message names it.
    """
    limits = ImageLimits(**(image_processor.limits or {}))
    return [load_image(source, limits, f"image[{i}]") for i, source in enumerate(list_images(image))]


def token_mask(
    image_processor, mask_image, sizes: Sequence[tuple[int, int]], image_grid: Sequence[int]
) -> torch.BoolTensor:
    """Which tokens are generated anew: those of whose pixels at least one is marked.

    A mask goes the way of its image, through the same resizing and cropping.

    Args:
        image_processor ([`ITITImageProcessorPil`]): The one of the images.
        mask_image (`PIL.Image.Image`, `np.ndarray`, `torch.Tensor`, path, or a list of them):
            White where the image is generated anew, black where it stays. Arrays are (H, W), (B, H, W),
            (B, H, W, 1) or (B, 1, H, W), of booleans or floats in [0, 1] or unsigned integers.
        sizes (`Sequence[tuple[int, int]]`): Width and height of each image; one serves all masks, and one mask all.
        image_grid (`Sequence[int]` of length 2): Rows and columns of tokens.

    Returns:
        `torch.BoolTensor` of shape `(num_masks, num_image_tokens)`.

    Raises:
        ValueError: If a mask cannot be read, has no shades of grey, or is of another shape than its image.
    """
    limits = ImageLimits(**(image_processor.limits or {}))
    masks = [load_image(mask, limits, f"mask_image[{i}]") for i, mask in enumerate(list_masks(mask_image))]
    for i, mask in enumerate(masks):
        is_one_for_each = len(masks) > 1 and len(sizes) > 1
        for size in sizes[i : i + 1] if is_one_for_each else sizes:
            _check_shape(i, mask.size, size)
    marked = image_processor.preprocess_mask(masks)[:, None].float()  # (B, 1, H, W)
    height, width = image_grid
    patch = (marked.size(2) // height, marked.size(3) // width)
    return F.max_pool2d(marked, patch).flatten(1).bool()  # (B, K)


def _check_shape(index: int, mask: tuple[int, int], image: tuple[int, int]):
    """Equal shapes, up to a pixel on the longer side."""
    if abs(mask[0] * image[1] - mask[1] * image[0]) > max(*mask, *image):
        raise ValueError(
            f"`mask_image[{index}]` is {mask[0]} x {mask[1]}, its image {image[0]} x {image[1]}; "
            "they must have the same shape"
        )


def interpolate_prompt_embeds(
    first: tuple[torch.Tensor, torch.Tensor], second: tuple[torch.Tensor, torch.Tensor], weights: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Text features from one text to another, place by place: $(1 - w) x + w y$.

    The shorter text goes on with its last place, its end of sequence, as long as the longer one lasts; at the weights
    0 and 1 the texts are as they are, without anything added.

    Args:
        first (`tuple` of `torch.Tensor`): Features of shape `(1, text_length, width)` and mask `(1, text_length)`.
        second (`tuple` of `torch.Tensor`): Likewise, of any length.
        weights (`Sequence[float]`): Shares of the second one, in [0, 1]; n of them.

    Returns:
        `(prompt_embeds, prompt_attention_mask)` of shapes `(n, text_length, width)` and `(n, text_length)`.

    Raises:
        ValueError: If there is no weight, or one is out of range.
    """
    if not len(weights) or not all(0.0 <= weight <= 1.0 for weight in weights):
        raise ValueError(f"`weights` must be at least one number, each in [0, 1], got {list(weights)}")
    ends = [embeds[:, : int(mask.sum())] for embeds, mask in (first, second)]  # (1, L, D) without padding
    length = max(embeds.size(1) for embeds in ends)
    start, stop = (
        torch.cat([embeds, embeds[:, -1:].expand(-1, length - embeds.size(1), -1)], dim=1) for embeds in ends
    )
    share = torch.tensor(list(weights), dtype=start.dtype, device=start.device)[:, None, None]
    lengths = torch.tensor([ends[int(weight)].size(1) if weight in (0, 1) else length for weight in weights])
    mask = torch.arange(length) < lengths[:, None]  # (n, L)
    return torch.lerp(start, stop, share), mask.long().to(start.device)
