# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Images <-> image token ids, with diffusers' `VQModel` or with the small patch-local tokenizer of this project.

Both kinds stand behind `VQModel`'s own interface, and two plain functions on top of it are all that the rest of the
project calls.
"""

import math
from collections.abc import Sequence

import torch
from diffusers import VQModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import Decoder, DecoderOutput, VectorQuantizer
from diffusers.models.autoencoders.vq_model import VQEncoderOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from torch.nn import functional as F

from .compilation_itit import check_values
from .straight_through_itit import straight_through_embedding
from .types_itit import SoftTokens


class PatchVQModel(ModelMixin, ConfigMixin):
    """VQ tokenizer whose encoder sees one patch at a time, and whose decoder sees all of them.

    The code of a patch then depends on nothing but the patch. In a convolutional encoder with group norms the codes of
    an unchanged background change with the object in front of it, which makes them hard to predict for a small model
    trained on little (measured in docs/experiments/image_tokenizers.md).

    Args:
        in_channels (`int`, defaults to 3): Channels of an image.
        out_channels (`int`, defaults to 3): Channels of a decoded image.
        patch_size (`int`, defaults to 8): Side of a patch in pixels: one token each.
        encoder_channels (`int`, defaults to 256): Width of the encoder's 1x1 convolutions.
        vq_embed_dim (`int`, defaults to 8): Length of a code vector.
        num_vq_embeddings (`int`, defaults to 512): Codes.
        block_out_channels (`tuple[int, ...]`, defaults to `(32, 64, 128)`):
            Widths of the decoder from the finest grid to the token grid; each one but the last doubles the grid, and
            pixels are shuffled out of the finest.
        layers_per_block (`int`, defaults to 1): Residual layers of a decoder block, less one.
        norm_num_groups (`int`, defaults to 16): Groups of the decoder's group norms.
        lookup_from_codebook (`bool`, defaults to `True`): As in `VQModel`: `decode` may be given ids.

    Raises:
        ValueError: If the decoder would grow the grid beyond the pixels.
    """

    # As in `VQModel`: codes are looked up in the table of their embedding, past the hooks of its forward.
    _skip_layerwise_casting_patterns = ["quantize"]
    _supports_group_offloading = False

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        patch_size: int = 8,
        encoder_channels: int = 256,
        vq_embed_dim: int = 8,
        num_vq_embeddings: int = 512,
        block_out_channels: tuple[int, ...] = (32, 64, 128),
        layers_per_block: int = 1,
        norm_num_groups: int = 16,
        lookup_from_codebook: bool = True,
    ):
        super().__init__()
        grown = 2 ** (len(block_out_channels) - 1)
        if patch_size % grown:
            raise ValueError(
                f"`patch_size` must be a multiple of {grown}, by which `block_out_channels` of length "
                f"{len(block_out_channels)} grow the grid, got {patch_size}"
            )
        self.pixels_per_cell = patch_size // grown
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(patch_size),
            nn.Conv2d(in_channels * patch_size**2, encoder_channels, kernel_size=1),
            nn.GELU(),
            nn.Conv2d(encoder_channels, encoder_channels, kernel_size=1),
            nn.GELU(),
            nn.Conv2d(encoder_channels, vq_embed_dim, kernel_size=1),
        )
        # legacy=False: beta scales the commitment term, as van den Oord et al. (2017, eq. 3) have it.
        self.quantize = VectorQuantizer(num_vq_embeddings, vq_embed_dim, beta=0.25, legacy=False)
        self.decoder = Decoder(
            in_channels=vq_embed_dim,
            out_channels=out_channels * self.pixels_per_cell**2,
            up_block_types=("UpDecoderBlock2D",) * len(block_out_channels),
            block_out_channels=tuple(block_out_channels),
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
        )

    def encode(self, x: torch.Tensor, return_dict: bool = True) -> VQEncoderOutput | tuple[torch.Tensor]:
        """Pixels -> latents, not yet quantized, as `VQModel.encode`.

        Args:
            x (`torch.Tensor` of shape `(batch_size, channels, height, width)`): Pixels in [-1, 1].
            return_dict (`bool`, *optional*, defaults to `True`): A `VQEncoderOutput` instead of a tuple.

        Returns:
            `VQEncoderOutput` with `latents` of shape `(batch_size, vq_embed_dim, h, w)`, or a tuple of it.
        """
        latents = self.encoder(x)  # (B, C, h, w)
        return VQEncoderOutput(latents=latents) if return_dict else (latents,)

    def decode(
        self,
        h: torch.Tensor,
        force_not_quantize: bool = False,
        return_dict: bool = True,
        shape: tuple[int, ...] | None = None,
    ) -> DecoderOutput | tuple[torch.Tensor, torch.Tensor]:
        """Latents or ids -> pixels, as `VQModel.decode`.

        Args:
            h (`torch.Tensor`): Latents of shape `(batch_size, vq_embed_dim, h, w)`; with `force_not_quantize`, ids of
                any shape with `batch_size * h * w` elements are taken too, if the config has `lookup_from_codebook`.
            force_not_quantize (`bool`, *optional*, defaults to `False`): `h` is quantized already, or holds ids.
            return_dict (`bool`, *optional*, defaults to `True`): A `DecoderOutput` instead of a tuple.
            shape (`tuple[int, ...]`, *optional*): `(batch_size, h, w, vq_embed_dim)`, for ids.

        Returns:
            `DecoderOutput` with `sample` of shape `(batch_size, channels, height, width)`, not clamped, and
            `commit_loss`, a scalar, or zeros of shape `(batch_size,)` if nothing was quantized. Or a tuple of both.
        """
        if not force_not_quantize:
            quantized, commit_loss, _ = self.quantize(h)  # (B, C, h, w)
        elif self.config.lookup_from_codebook and not h.is_floating_point():
            quantized = self.quantize.get_codebook_entry(h, shape)  # (B, C, h, w)
            commit_loss = quantized.new_zeros(quantized.size(0))
        else:
            quantized = h
            commit_loss = h.new_zeros(h.size(0))
        sample = F.pixel_shuffle(self.decoder(quantized), self.pixels_per_cell)  # (B, 3, H, W)
        return DecoderOutput(sample=sample, commit_loss=commit_loss) if return_dict else (sample, commit_loss)

    def forward(self, sample: torch.Tensor, return_dict: bool = True) -> DecoderOutput | tuple[torch.Tensor, ...]:
        """Encode, quantize and decode, as `VQModel.forward`.

        Args:
            sample (`torch.Tensor` of shape `(batch_size, channels, height, width)`): Pixels in [-1, 1].
            return_dict (`bool`, *optional*, defaults to `True`): A `DecoderOutput` instead of a tuple.

        Returns:
            `DecoderOutput` with `sample` of the same shape, and `commit_loss`. Or a tuple of both.
        """
        return self.decode(self.encode(sample).latents, return_dict=return_dict)


def downsampling_factor(image_tokenizer: VQModel | PatchVQModel) -> int:
    """Pixels per token along one side: 2 for each level of a `VQModel` but the last, the patch of a [`PatchVQModel`].

    Args:
        image_tokenizer (`VQModel` or [`PatchVQModel`]): Image tokenizer.
    """
    config = image_tokenizer.config
    return config.patch_size if "patch_size" in config else 2 ** (len(config.block_out_channels) - 1)


def encode_latents(image_tokenizer: VQModel | PatchVQModel, pixel_values: torch.Tensor) -> torch.Tensor:
    """Images -> latents, dense and not yet quantized.

    Args:
        image_tokenizer (`VQModel` or [`PatchVQModel`]): Image tokenizer.
        pixel_values (`torch.FloatTensor` of shape `(batch_size, channels, height, width)`): Pixels in [-1, 1].

    Returns:
        `torch.FloatTensor` of shape `(batch_size, num_image_tokens, vq_embed_dim)`, row by row.

    Raises:
        ValueError: If the shape does not suit the tokenizer, or the pixels are integers.
    """
    channels = image_tokenizer.config.in_channels
    factor = downsampling_factor(image_tokenizer)
    if not pixel_values.is_floating_point():
        raise ValueError(f"`pixel_values` must be floating point numbers in [-1, 1], got {pixel_values.dtype}")
    if pixel_values.dim() != 4 or pixel_values.size(1) != channels:
        raise ValueError(
            f"`pixel_values` must be (batch_size, {channels}, height, width), got {tuple(pixel_values.shape)}"
        )
    height, width = pixel_values.shape[2:]
    if not height or not width or height % factor or width % factor:
        raise ValueError(f"`pixel_values` must have sides that {factor} divides, got {height} x {width}")
    latents = image_tokenizer.encode(pixel_values.to(image_tokenizer.dtype)).latents  # (B, C, h, w)
    return latents.permute(0, 2, 3, 1).flatten(1, 2).float()  # (B, h * w, C)


def encode_images(image_tokenizer: VQModel | PatchVQModel, pixel_values: torch.Tensor) -> torch.Tensor:
    """Images -> ids.

    Args:
        image_tokenizer (`VQModel` or [`PatchVQModel`]): Image tokenizer.
        pixel_values (`torch.FloatTensor` of shape `(batch_size, channels, height, width)`): Pixels in [-1, 1].

    Returns:
        `torch.LongTensor` of shape `(batch_size, num_image_tokens)`, row by row.

    Raises:
        ValueError: If the shape does not suit the tokenizer, or the pixels are integers.
    """
    return image_inputs(image_tokenizer, pixel_values)["image_token_ids"]


def image_inputs(
    image_tokenizer: VQModel | PatchVQModel, pixel_values: torch.Tensor, image_features: str = "codes"
) -> dict[str, torch.Tensor]:
    """Images -> what a model takes of them, by the names of its arguments.

    Args:
        image_tokenizer (`VQModel` or [`PatchVQModel`]): Image tokenizer.
        pixel_values (`torch.FloatTensor` of shape `(batch_size, channels, height, width)`): Pixels in [-1, 1].
        image_features (`str`, *optional*, defaults to `"codes"`): The model's, see [`ITITConfig`].

    Returns:
        `dict`: `image_token_ids` of shape `(batch_size, num_image_tokens)`, and with `"latents"` also
        `image_latents` of shape `(batch_size, num_image_tokens, vq_embed_dim)`.
    """
    latents = encode_latents(image_tokenizer, pixel_values)  # (B, K, C)
    codebook = image_tokenizer.quantize.embedding.weight.float()  # whose own search knows no half precision
    ids = torch.cdist(latents.flatten(0, 1), codebook).argmin(dim=1).view(latents.size(0), -1)  # (B, K)
    return {"image_token_ids": ids} | ({"image_latents": latents} if image_features == "latents" else {})


def decode_image_token_ids(
    image_tokenizer: VQModel | PatchVQModel, image_token_ids: torch.Tensor, image_grid: Sequence[int] | None = None
) -> torch.Tensor:
    """Ids -> images. Gradients reach the codebook and the decoder.

    Args:
        image_tokenizer (`VQModel` or [`PatchVQModel`]): Image tokenizer.
        image_token_ids (`torch.LongTensor` of shape `(batch_size, num_image_tokens)`): Ids of images, row by row.
        image_grid (`Sequence[int]` of length 2, *optional*): Their rows and columns, [`ITITConfig`]'s; square images
            by default.

    Returns:
        `torch.FloatTensor` of shape `(batch_size, channels, height, width)`, in [-1, 1].

    Raises:
        ValueError: If an id is not in the codebook, such as a mask id, or there are not as many as the grid has.
    """
    if image_token_ids.dim() != 2 or image_token_ids.is_floating_point():
        raise ValueError(
            "`image_token_ids` must be integers of shape (batch_size, num_image_tokens), "
            f"got {image_token_ids.dtype} of shape {tuple(image_token_ids.shape)}"
        )
    height, width = _grid_of(image_token_ids, image_grid)
    num_codes = image_tokenizer.config.num_vq_embeddings
    check_values(  # in a graph that is exported too, where numbers cannot be asked for
        ((image_token_ids >= 0) & (image_token_ids < num_codes)).all(),
        lambda: (
            f"`image_token_ids` must be in 0..{num_codes - 1}, "
            f"got {int(image_token_ids.min())}..{int(image_token_ids.max())}"
        ),
    )
    h = image_token_ids
    shape = (image_token_ids.size(0), height, width, image_tokenizer.quantize.vq_embed_dim)
    if not image_tokenizer.config.lookup_from_codebook:  # as in weights made before that option
        h = image_tokenizer.quantize.get_codebook_entry(image_token_ids.flatten(), shape)
        shape = None
    sample = image_tokenizer.decode(h, force_not_quantize=True, shape=shape).sample
    return sample.clamp(-1.0, 1.0)  # (B, 3, H, W)


def _grid_of(image_token_ids: torch.Tensor, image_grid: Sequence[int] | None) -> tuple[int, int]:
    """Rows and columns of images with these ids."""
    num_tokens = image_token_ids.size(1)
    if image_grid is None:
        side = math.isqrt(num_tokens)
        if side * side != num_tokens or num_tokens == 0:
            raise ValueError(
                f"`image_token_ids` must hold a square number of tokens, got {num_tokens}; for other images give "
                "`image_grid`, height and width"
            )
        return side, side
    height, width = image_grid
    if height * width != num_tokens or num_tokens == 0:
        raise ValueError(f"`image_grid` must have as many tokens as an image, {num_tokens}, got {height} x {width}")
    return height, width


def decode_soft_image_tokens(
    image_tokenizer: VQModel | PatchVQModel,
    image_token_ids: torch.Tensor,
    soft_tokens: SoftTokens,
    image_grid: Sequence[int] | None = None,
) -> torch.Tensor:
    """Ids -> images, some of the ids the argmax of logits, which get the gradient of the softmax.

    Args:
        image_tokenizer (`VQModel` or [`PatchVQModel`]): Image tokenizer.
        image_token_ids (`torch.LongTensor` of shape `(batch_size, num_image_tokens)`): Ids of images, row by row.
        soft_tokens ([`SoftTokens`]): In place of the ids at their positions.
        image_grid (`Sequence[int]` of length 2, *optional*): Rows and columns; square images by default.

    Returns:
        `torch.FloatTensor` of shape `(batch_size, channels, height, width)`, in [-1, 1].
    """
    codebook = image_tokenizer.quantize.embedding.weight  # (V, C)
    soft = straight_through_embedding(
        soft_tokens.logits.to(codebook.dtype), codebook, trained=soft_tokens.train_embeddings
    )  # (B, S, C)
    positions = soft_tokens.positions[..., None].expand_as(soft)
    codes = codebook[image_token_ids].scatter(1, positions, soft)  # (B, K, C)
    latents = codes.transpose(1, 2).unflatten(2, _grid_of(image_token_ids, image_grid))  # (B, C, h, w)
    if isinstance(image_tokenizer, VQModel):  # with `lookup_from_codebook` its `decode` takes any numbers for ids
        spatial = latents if image_tokenizer.config.norm_type == "spatial" else None
        sample = image_tokenizer.decoder(image_tokenizer.post_quant_conv(latents), spatial)
    else:
        sample = image_tokenizer.decode(latents, force_not_quantize=True).sample
    return sample.clamp(-1.0, 1.0)  # (B, 3, H, W)
