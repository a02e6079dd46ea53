# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What training an image tokenizer needs: images by step, losses, the start and the repair of the codebook.

Losses follow VQGAN (Esser et al. 2021, https://huggingface.co/papers/2012.09841).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from diffusers import VQModel
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset, Sampler

from ..data.loading import without_decoding
from ..models.image_processing_itit import ITITImageProcessorPil
from ..models.image_tokenization_itit import PatchVQModel
from ..rng import keyed_integer

# What the codes of an image depend on; a `PatchVQModel` has no `quant_conv`.
CODE_MODULES = ("encoder", "quant_conv", "quantize")


class ImageDataset(Dataset):
    """Images of one size, as `uint8` tensors of shape (3, height, width).

    Args:
        rows (`Sequence`): Rows with a column `column`, such as a `datasets.Dataset`.
        resolution (`int` or `Sequence[int]` of length 2): Side of square images, or height and width, in pixels.
        column (`str`, *optional*, defaults to `"image"`): Where the images are.
        aspect_ratio (`str`, *optional*, defaults to `"squeeze"`): What becomes of images that are not square, see
            [`~models.image_loading_itit.resize_image`].
        name (`str`, *optional*, defaults to `"dataset"`): What messages call the rows.
    """

    def __init__(
        self,
        rows: Sequence,
        resolution: int | Sequence[int],
        column: str = "image",
        aspect_ratio: str = "squeeze",
        name: str = "dataset",
    ):
        self.rows = without_decoding(rows)
        self.height, self.width = (resolution, resolution) if isinstance(resolution, int) else resolution
        self.column = column
        self.name = name
        self.image_processor = ITITImageProcessorPil(
            size={"height": self.height, "width": self.width}, aspect_ratio=aspect_ratio
        )
        self._cached: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def num_bytes(self) -> int:
        """Memory that all images take."""
        return 3 * self.height * self.width * len(self)

    def cache(self, progress=iter) -> "ImageDataset":
        """Decode every image once and keep them all in memory, `num_bytes` bytes.

        Args:
            progress (*optional*): Wraps the row numbers, such as `tqdm`.

        Returns:
            [`ImageDataset`] itself.
        """
        images = torch.empty((len(self), 3, self.height, self.width), dtype=torch.uint8)
        for index in progress(range(len(self))):
            images[index] = self._decode(index)
        self._cached = images
        return self

    def _decode(self, index: int) -> torch.Tensor:
        image = self.image_processor.read_image(self.rows[index][self.column], f"row {index} of `{self.name}`")
        flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        return flat.view(self.height, self.width, 3).permute(2, 0, 1)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self._decode(index) if self._cached is None else self._cached[index]


class StepBatchSampler(Sampler):
    """Rows of each step of one process: what a step sees is a pure function of (seed, step), so that a run resumes
    exactly. Each pass over the rows has its own order.

    Args:
        num_rows (`int`): Rows of the dataset.
        batch_size (`int`): Rows per step and process.
        first_step (`int`): Where to begin.
        last_step (`int`): Where to end; not taken itself.
        seed (`int`, *optional*, defaults to 0): Seed of the orders.
        rank (`int`, *optional*, defaults to 0): This process.
        world_size (`int`, *optional*, defaults to 1): Processes.
    """

    def __init__(
        self,
        num_rows: int,
        batch_size: int,
        first_step: int,
        last_step: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        if num_rows < 1:
            raise ValueError(f"`num_rows` must be at least 1, got {num_rows}")
        self.num_rows = num_rows
        self.batch_size = batch_size
        self.first_step = first_step
        self.last_step = last_step
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self._epoch = -1  # that of `_order`
        self._order = torch.arange(0)

    def __len__(self) -> int:
        """Steps in all, those before the first one included."""
        return self.last_step

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first_step, self.last_step):
            start = (step * self.world_size + self.rank) * self.batch_size
            yield [self._row(sample_index) for sample_index in range(start, start + self.batch_size)]

    def _row(self, sample_index: int) -> int:
        epoch, offset = divmod(sample_index, self.num_rows)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(keyed_integer(self.seed, "vq/order", epoch))
            self._epoch = epoch
            self._order = torch.randperm(self.num_rows, generator=generator)
        return int(self._order[offset])


def to_pixel_values(images: torch.Tensor) -> torch.Tensor:
    """`uint8` images -> pixels in [-1, 1]. Any shape."""
    return images.float() / 127.5 - 1.0


def with_new_decoder(image_tokenizer: VQModel | PatchVQModel, config: dict) -> VQModel | PatchVQModel:
    """A tokenizer with the same codes and a decoder of another shape, with new weights.

    Args:
        image_tokenizer (`VQModel` or [`PatchVQModel`]): Its encoder and codebook are copied.
        config (`dict`): Config values that differ, such as `block_out_channels`.

    Raises:
        RuntimeError: If encoder or codebook would have another shape.
    """
    new = type(image_tokenizer).from_config({**image_tokenizer.config, **config})
    for name in CODE_MODULES:
        if hasattr(new, name):
            getattr(new, name).load_state_dict(getattr(image_tokenizer, name).state_dict())
    return new


@dataclass
class VQStepOutput:
    """What one pass of [`VQAutoencoder`] gives.

    Args:
        sample (`torch.Tensor` of shape `(batch_size, channels, height, width)`): Reconstruction, not clamped.
        commit_loss (`torch.Tensor`): Codebook and commitment loss, a scalar; zero when nothing was quantized.
        latents (`torch.Tensor` of shape `(batch_size, vq_embed_dim, h, w)`): Before quantization.
        image_token_ids (`torch.LongTensor` of shape `(batch_size * h * w,)`, *optional*): `None` if not quantized.
    """

    sample: torch.Tensor
    commit_loss: torch.Tensor
    latents: torch.Tensor
    image_token_ids: torch.Tensor | None


class VQAutoencoder(nn.Module):
    """One differentiable call for a whole training step, as distributed training wants it.

    Args:
        image_tokenizer (`VQModel` or [`PatchVQModel`]): Image tokenizer to train.
        decoder_only (`bool`, *optional*, defaults to `False`): Leave encoder and codebook, and so the codes, as they
            are.
    """

    def __init__(self, image_tokenizer: VQModel | PatchVQModel, decoder_only: bool = False):
        super().__init__()
        self.image_tokenizer = image_tokenizer
        self.decoder_only = decoder_only
        if decoder_only:
            for name in CODE_MODULES:
                if hasattr(image_tokenizer, name):
                    getattr(image_tokenizer, name).requires_grad_(False)

    @property
    def last_layer(self) -> nn.Parameter:
        """Weight of the decoder's last convolution, where [`adaptive_weight`] compares gradients."""
        return self.image_tokenizer.decoder.conv_out.weight

    @property
    def codebook(self) -> torch.Tensor:
        """Codes, of shape `(num_vq_embeddings, vq_embed_dim)`."""
        return self.image_tokenizer.quantize.embedding.weight

    def forward(self, pixel_values: torch.Tensor, quantize: bool = True) -> VQStepOutput:
        """Encode, quantize and decode.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, channels, height, width)`): Pixels in [-1, 1].
            quantize (`bool`, *optional*, defaults to `True`): `False` hands the decoder the latents as they are.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.decoder_only):
            latents = self.image_tokenizer.encode(pixel_values).latents  # (B, C, h, w)
            if quantize:
                codes, commit_loss, (_, _, ids) = self.image_tokenizer.quantize(latents)  # (B, C, h, w)
            else:
                codes = latents
                # times zero: distributed training wants a gradient for every parameter in every step
                commit_loss = 0.0 * self.codebook.sum()
                ids = None
        return VQStepOutput(self._decode(codes), commit_loss, latents, ids)

    def _decode(self, codes: torch.Tensor) -> torch.Tensor:
        tokenizer = self.image_tokenizer
        if isinstance(tokenizer, VQModel):  # its `decode` takes nothing but ids once `lookup_from_codebook` is set
            spatial = codes if tokenizer.config.norm_type == "spatial" else None
            return tokenizer.decoder(tokenizer.post_quant_conv(codes), spatial)  # (B, 3, H, W)
        return tokenizer.decode(codes, force_not_quantize=True).sample  # (B, 3, H, W)


class PatchDiscriminator(nn.Module):
    """Tells real patches from reconstructed ones: a small PatchGAN (Isola et al. 2017).

    Group norms stand where PatchGAN has batch norms: no sample depends on its batch. (With spectral norms instead it
    lost against the decoder at once; see docs/experiments/image_tokenizers.md.)

    Args:
        in_channels (`int`, *optional*, defaults to 3): Channels of an image.
        channels (`int`, *optional*, defaults to 48): Width of the first layer, a multiple of 4; each further layer
            doubles it.
        num_halvings (`int`, *optional*, defaults to 2):
            Layers of stride 2. A patch is 12 pixels wide with 1, 26 with 2, 54 with 3.
    """

    def __init__(self, in_channels: int = 3, channels: int = 48, num_halvings: int = 2):
        super().__init__()
        if channels % 4:
            raise ValueError(f"`channels` must be a multiple of 4, the groups of a norm are 8, got {channels}")
        layers = [nn.Conv2d(in_channels, channels, 4, 2, padding=1), nn.LeakyReLU(0.2)]
        for index in range(num_halvings):
            width = channels * 2**index
            if index < num_halvings - 1:
                convolution = nn.Conv2d(width, 2 * width, kernel_size=4, stride=2, padding=1)
            else:
                convolution = nn.Conv2d(width, 2 * width, kernel_size=3, stride=1, padding=1)
            layers += [convolution, nn.GroupNorm(8, 2 * width), nn.LeakyReLU(0.2)]
        layers.append(nn.Conv2d(channels * 2**num_halvings, 1, 3, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Logits, high where a patch looks real.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, channels, height, width)`): Pixels in [-1, 1].

        Returns:
            `torch.FloatTensor` of shape `(batch_size, 1, h, w)`.
        """
        return self.layers(pixel_values)


def discriminator_hinge_loss(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Hinge loss of a discriminator: real logits belong above 1, fake ones below -1.

    Args:
        real_logits (`torch.Tensor`): For real images, any shape.
        fake_logits (`torch.Tensor`): For reconstructions, any shape.

    Returns:
        `torch.Tensor` of shape `()`.
    """
    return 0.5 * (F.relu(1.0 - real_logits).mean() + F.relu(1.0 + fake_logits).mean())


def adaptive_weight(
    reconstruction_loss: torch.Tensor, gan_loss: torch.Tensor, last_layer: nn.Parameter, largest: float = 1e4
) -> torch.Tensor:
    """VQGAN's weight of the adversarial loss (eq. 7): both losses then pull equally hard on the decoder's last layer.

    Args:
        reconstruction_loss (`torch.Tensor` of shape `()`): With a graph, which is kept.
        gan_loss (`torch.Tensor` of shape `()`): With a graph, which is kept.
        last_layer (`nn.Parameter`): Weight of the decoder's last layer.
        largest (`float`, *optional*, defaults to 1e4): Upper bound.

    Returns:
        `torch.Tensor` of shape `()`, without a graph.
    """
    pulls = [torch.autograd.grad(loss, last_layer, retain_graph=True)[0] for loss in (reconstruction_loss, gan_loss)]
    return (pulls[0].norm() / (pulls[1].norm() + 1e-6)).clamp(max=largest).detach()


def edge_loss(sample: torch.Tensor, pixel_values: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of the horizontal and of the vertical image gradients, added: blur costs more than in
    a loss over pixels.

    Args:
        sample (`torch.Tensor` of shape `(batch_size, channels, height, width)`): Reconstruction.
        pixel_values (`torch.Tensor` of the same shape): Image.

    Returns:
        `torch.Tensor` of shape `()`.
    """
    error = sample - pixel_values  # differences are linear: one pass is enough
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


@dataclass
class VQLossWeights:
    """Weights of the losses of [`vq_losses`]; 0 leaves one out.

    Args:
        l1 (`float`): Absolute error of the pixels.
        l2 (`float`): Squared error of the pixels.
        edge (`float`): See [`edge_loss`].
        perceptual (`float`): See [`~pretraining.perceptual_loss.PerceptualLoss`].
        codebook (`float`): Codebook and commitment loss.
        gan (`float`): Adversarial loss, on top of [`adaptive_weight`].
    """

    l1: float = 1.0
    l2: float = 1.0
    edge: float = 1.0
    perceptual: float = 0.0
    codebook: float = 1.0
    gan: float = 0.0


def vq_losses(
    output: VQStepOutput,
    pixel_values: torch.Tensor,
    weights: VQLossWeights,
    last_layer: nn.Parameter,
    perceptual: nn.Module | None = None,
    discriminator: nn.Module | None = None,
) -> dict[str, torch.Tensor]:
    """Weighted losses of an autoencoder.

    Args:
        output ([`VQStepOutput`]): What it made of `pixel_values`.
        pixel_values (`torch.FloatTensor` of shape `(batch_size, channels, height, width)`): Pixels in [-1, 1].
        weights ([`VQLossWeights`]): Their weights.
        last_layer (`nn.Parameter`): Weight of the decoder's last layer.
        perceptual (`nn.Module`, *optional*): Needed for its weight.
        discriminator (`nn.Module`, *optional*): Without one there is no adversarial loss.

    Returns:
        `dict[str, torch.Tensor]` of shape `()` by name; their sum is what to minimize.
    """
    error = output.sample - pixel_values  # (B, 3, H, W)
    losses = {"l1": weights.l1 * error.abs().mean(), "l2": weights.l2 * error.square().mean()}
    if weights.edge:
        losses["edge"] = weights.edge * edge_loss(output.sample, pixel_values)
    if weights.perceptual:
        losses["perceptual"] = weights.perceptual * perceptual(output.sample, pixel_values).mean()
    if weights.gan and discriminator is not None:
        gan_loss = -discriminator(output.sample).mean()
        scale = adaptive_weight(sum(losses.values()), gan_loss, last_layer)
        losses["gan"] = weights.gan * scale * gan_loss
    losses["codebook"] = weights.codebook * output.commit_loss
    return losses


def distinct_points(points: torch.Tensor, tolerance: float = 0.05) -> torch.Tensor:
    """One point of each occupied cell of a grid, so that flat patches, which are most of them, do not take most codes.

    Args:
        points (`torch.Tensor` of shape `(num_points, dim)`): Latents.
        tolerance (`float`, *optional*, defaults to 0.05): Side of a cell in standard deviations of all numbers.

    Returns:
        `torch.Tensor` of shape `(num_distinct, dim)`: The first point of each cell, in their order.
    """
    cells = (points / (tolerance * points.std().clamp(min=1e-12))).round()
    _, cell_of = torch.unique(cells, dim=0, return_inverse=True)
    first = torch.full((int(cell_of.max()) + 1,), len(points), device=points.device)
    first.scatter_reduce_(0, cell_of, torch.arange(len(points), device=points.device), "amin")
    return points[first.sort().values]


def kmeans(
    points: torch.Tensor, num_clusters: int, generator: torch.Generator | None = None, num_iterations: int = 10
) -> torch.Tensor:
    """Lloyd's algorithm from a k-means++ start.

    Args:
        points (`torch.Tensor` of shape `(num_points, dim)`): What to cluster.
        num_clusters (`int`): Centres wanted.
        generator (`torch.Generator`, *optional*): Source of randomness, on the CPU.
        num_iterations (`int`, *optional*, defaults to 10): Rounds of Lloyd's algorithm.

    Returns:
        `torch.Tensor` of shape `(num_clusters, dim)`. A centre that loses all its points stays where it is.

    Raises:
        ValueError: If there are fewer points than clusters.
    """
    if len(points) < num_clusters:
        raise ValueError(f"`num_clusters` must be at most the number of points, {len(points)}, got {num_clusters}")
    uniform = torch.rand(num_clusters, generator=generator, dtype=torch.float64)
    chosen = [int(uniform[0] * len(points))]
    squared = (points - points[chosen[0]]).square().sum(dim=1)  # (N), to the nearest centre so far
    for draw in uniform[1:]:
        total = squared.double().cumsum(dim=0)  # far points are drawn in proportion to their squared distance
        chosen.append(min(int(torch.searchsorted(total, draw.to(total) * total[-1], right=True)), len(points) - 1))
        squared = torch.minimum(squared, (points - points[chosen[-1]]).square().sum(dim=1))
    centres = points[chosen].clone()  # (K, C)
    for _ in range(num_iterations):
        nearest = torch.cdist(points, centres).argmin(dim=1)  # (N)
        counts = torch.bincount(nearest, minlength=num_clusters)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        occupied = counts > 0
        centres[occupied] = sums[occupied] / counts[occupied, None]
    return centres


@torch.no_grad()
def reseed_dead_codes(
    codebook: torch.Tensor, counts: torch.Tensor, latents: torch.Tensor, generator: torch.Generator | None = None
) -> int:
    """Move codes that nothing uses to latents that no code is near; in place.

    Args:
        codebook (`torch.Tensor` of shape `(num_codes, dim)`): Codes.
        counts (`torch.Tensor` of shape `(num_codes,)`): How often each was used of late.
        latents (`torch.Tensor` of shape `(num_latents, dim)`): From the encoder; drawn in proportion to the squared
            distance to their code, each at most once.
        generator (`torch.Generator`, *optional*): Source of randomness, on the CPU.

    Returns:
        `int`: How many codes were moved.
    """
    dead = (counts == 0).nonzero().flatten()
    distance = torch.cdist(latents, codebook).amin(dim=1).square().cpu()  # (N)
    num_moved = min(len(dead), int((distance > 0).sum()))
    if num_moved:
        drawn = torch.multinomial(distance, num_moved, generator=generator).to(latents.device)
        codebook[dead[:num_moved]] = latents[drawn].to(codebook)
    return num_moved
