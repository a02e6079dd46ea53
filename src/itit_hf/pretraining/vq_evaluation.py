# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""How good an image tokenizer is, for the eye and for the model that has to learn its codes.

For a small model `code_entropy`, `constant_patch_entropy` and `shift_agreement` say more than the reconstruction error
or the share of used codes: codes that change without need are codes that have to be learnt by heart.
"""

import math

import torch
from diffusers import VQModel
from PIL import Image

from ..models.image_tokenization_itit import PatchVQModel, decode_image_token_ids, downsampling_factor, encode_images


class CodeCounter:
    """How often each code was used, in the window that runs and in the one before.

    Args:
        num_codes (`int`): Codes.
    """

    def __init__(self, num_codes: int):
        self.current = torch.zeros(num_codes, dtype=torch.long)
        self.previous = torch.zeros(num_codes, dtype=torch.long)

    def add(self, image_token_ids: torch.Tensor):
        """Count ids of any shape."""
        self.current += torch.bincount(image_token_ids.flatten().cpu(), minlength=len(self.current))

    def next_window(self):
        """Begin a new window."""
        self.previous = self.current
        self.current = torch.zeros_like(self.current)

    @property
    def counts(self) -> torch.Tensor:
        """Of both windows, of shape `(num_codes,)`."""
        return self.current + self.previous

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Both windows, each of shape `(num_codes,)`."""
        return {"current": self.current.clone(), "previous": self.previous.clone()}

    def load_state_dict(self, state: dict[str, torch.Tensor]):
        """Take up what `state_dict` gave, each window of shape `(num_codes,)`."""
        self.current = state["current"].clone()
        self.previous = state["previous"].clone()


def code_usage(counts: torch.Tensor) -> float:
    """Share of codes that are used at all.

    Args:
        counts (`torch.Tensor` of shape `(num_codes,)`): How often each was used.
    """
    return float((counts > 0).double().mean())


def code_entropy(counts: torch.Tensor) -> float:
    """Entropy of the codes' frequencies in nats; at most the logarithm of their number. 0.0 if nothing was counted.

    Args:
        counts (`torch.Tensor` of shape `(num_codes,)`): How often each was used.
    """
    frequency = counts[counts > 0].double() / counts.sum()
    return float((frequency * -frequency.log()).sum())


def constant_patch_entropy(
    image_token_ids: torch.Tensor, pixel_values: torch.Tensor, patch_size: int, min_count: int = 8
) -> tuple[float, float]:
    """What a patch of one constant colour is called across images: entropy and number of the codes it is given.

    0 nats and 1 code if the name depends on nothing but the patch. A convolutional encoder with group norms gives the
    same patch many names, after what else is in the image.

    Args:
        image_token_ids (`torch.LongTensor` of shape `(batch_size, num_image_tokens)`): Ids of the images.
        pixel_values (`torch.FloatTensor` of shape `(batch_size, channels, height, width)`): Pixels in [-1, 1].
        patch_size (`int`): Side of a token in pixels.
        min_count (`int`, *optional*, defaults to 8): Colours with fewer constant patches are not looked at.

    Returns:
        `tuple[float, float]`: Mean entropy in nats and mean number of codes over the colours, each weighted by its
        number of patches. NaN if there are no constant patches, as in photographs.
    """
    side = pixel_values.size(-1) // patch_size
    pixels = (pixel_values * 127.5 + 127.5).round()  # (B, 3, H, W)
    cut = pixels.unflatten(3, (side, patch_size)).unflatten(2, (-1, patch_size))  # (B, 3, h, p, w, p)
    patches = cut.permute(0, 2, 4, 1, 3, 5).flatten(4).flatten(0, 2)  # (B * h * w, 3, p * p)
    constant = (patches == patches[:, :, :1]).all(dim=2).all(dim=1)  # (B * h * w)
    colours, colour_of = torch.unique(patches[constant][:, :, 0], dim=0, return_inverse=True)
    ids = image_token_ids.flatten()[constant]
    total = entropy = names = 0.0
    for colour in range(len(colours)):
        counts = torch.bincount(ids[colour_of == colour])
        count = int(counts.sum())
        if count >= min_count:
            total += count
            entropy += count * code_entropy(counts)
            names += count * int((counts > 0).sum())
    return (entropy / total, names / total) if total else (math.nan, math.nan)


@torch.no_grad()
def shift_agreement(
    image_tokenizer: VQModel | PatchVQModel, pixel_values: torch.Tensor, shift: int | None = None
) -> tuple[float, float]:
    """How many codes stay when the image moves a little to the right, and how many pixels do.

    The column at the left edge is repeated. What moves by half a patch has to be named anew; what is unchanged should
    keep its name, so that the agreement should come near the share of equal pixels.

    Args:
        image_tokenizer (`VQModel` or [`PatchVQModel`]): Image tokenizer.
        pixel_values (`torch.FloatTensor` of shape `(batch_size, channels, height, width)`): Pixels in [-1, 1].
        shift (`int`, *optional*): Pixels; half a token by default.

    Returns:
        `tuple[float, float]`: Share of codes that are the same, share of pixels that are the same.
    """
    shift = downsampling_factor(image_tokenizer) // 2 if shift is None else shift
    edge = pixel_values[..., :1].expand(-1, -1, -1, shift)
    moved = torch.cat([edge, pixel_values[..., : pixel_values.size(-1) - shift]], dim=-1)  # (B, 3, H, W)
    same_ids = encode_images(image_tokenizer, moved) == encode_images(image_tokenizer, pixel_values)
    same_pixels = (moved == pixel_values).all(dim=1)
    return float(same_ids.double().mean()), float(same_pixels.double().mean())


def psnr(sample: torch.Tensor, pixel_values: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB, of the mean squared error over the whole batch.

    Args:
        sample (`torch.Tensor` of shape `(batch_size, channels, height, width)`): Reconstruction; clamped to [-1, 1].
        pixel_values (`torch.Tensor` of the same shape): Pixels in [-1, 1].
    """
    mean_squared = float((sample.detach().clamp(-1.0, 1.0) - pixel_values).double().square().mean())
    return 10.0 * math.log10(4.0 / max(mean_squared, 1e-12))


@torch.no_grad()
def evaluate_image_tokenizer(
    image_tokenizer: VQModel | PatchVQModel, pixel_values: torch.Tensor, batch_size: int = 64
) -> dict[str, float]:
    """Everything one should know of a tokenizer before a model is trained on its codes.

    Args:
        image_tokenizer (`VQModel` or [`PatchVQModel`]): Image tokenizer.
        pixel_values (`torch.FloatTensor` of shape `(num_images, channels, height, width)`): Pixels in [-1, 1].
        batch_size (`int`, *optional*, defaults to 64): Images per pass.

    Returns:
        `dict[str, float]`: `psnr` in dB, `code_usage`, `code_entropy` in nats, `constant_patch_entropy` in nats and
        `constant_patch_codes`, `shift_agreement` and `shift_equal_pixels`.
    """
    factor = downsampling_factor(image_tokenizer)
    grid = (pixel_values.size(2) // factor, pixel_values.size(3) // factor)
    batch_ids = []
    batch_samples = []
    shifts = []
    for batch in pixel_values.split(batch_size):
        ids = encode_images(image_tokenizer, batch)  # (B, num_image_tokens)
        batch_ids.append(ids)
        batch_samples.append(decode_image_token_ids(image_tokenizer, ids, grid))  # (B, 3, H, W)
        same_codes, same_pixels = shift_agreement(image_tokenizer, batch)
        shifts.append((len(batch), same_codes, same_pixels))
    ids = torch.cat(batch_ids)
    counts = torch.bincount(ids.flatten(), minlength=image_tokenizer.config.num_vq_embeddings)
    entropy, names = constant_patch_entropy(ids, pixel_values, factor)
    number, agreement, equal_pixels = torch.tensor(shifts, dtype=torch.float64).unbind(dim=1)
    return {
        "psnr": psnr(torch.cat(batch_samples), pixel_values),
        "code_usage": code_usage(counts),
        "code_entropy": code_entropy(counts),
        "constant_patch_entropy": entropy,
        "constant_patch_codes": names,
        "shift_agreement": float((number * agreement).sum() / number.sum()),
        "shift_equal_pixels": float((number * equal_pixels).sum() / number.sum()),
    }


def reconstruction_grid(pixel_values: torch.Tensor, sample: torch.Tensor, scale: int = 2) -> Image.Image:
    """Images in a row, and below each what became of it.

    Args:
        pixel_values (`torch.Tensor` of shape `(num_images, 3, height, width)`): Pixels in [-1, 1].
        sample (`torch.Tensor` of the same shape): Reconstructions; clamped to [-1, 1].
        scale (`int`, *optional*, defaults to 2): Every pixel is drawn as a square of this side.

    Returns:
        `PIL.Image.Image` in RGB.
    """
    rows = [torch.cat(list(row.detach().cpu().clamp(-1.0, 1.0)), dim=-1) for row in (pixel_values, sample)]
    grid = (torch.cat(rows, dim=-2) * 127.5 + 127.5).round().to(torch.uint8)  # (3, 2 * H, N * W)
    image = Image.fromarray(grid.permute(1, 2, 0).numpy())
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
