# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What training an image tokenizer needs: losses, the start and the repair of the codebook, and its examination.

Losses follow VQGAN (Esser et al. 2021, https://huggingface.co/papers/2012.09841). What a good tokenizer for a small
model is, `code_entropy`, `constant_patch_entropy` and `shift_agreement` say better than the reconstruction error:
codes that change without need are codes that a model has to learn by heart.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from diffusers import VQModel
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset, Sampler

from .image_processing_itit import load_image
from .image_tokenization_itit import PatchVQModel, downsampling_factor, encode_images
from .masking import keyed_integer


class PictureDataset(Dataset):
    """Pictures of one size, as `uint8` tensors of shape (3, resolution, resolution).

    Args:
        rows (`Sequence`): Rows with a column `column`, such as a `datasets.Dataset`.
        resolution (`int`): Side in pixels; pictures are scaled to it, whatever their aspect.
        column (`str`, *optional*, defaults to `"image"`): Where the pictures are.
    """

    def __init__(self, rows: Sequence, resolution: int, column: str = "image"):
        self.rows, self.resolution, self.column = rows, resolution, column
        self._cached: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def num_bytes(self) -> int:
        """Memory that all pictures take."""
        return 3 * self.resolution**2 * len(self)

    def cache(self, progress=iter) -> "PictureDataset":
        """Decode every picture once and keep them all in memory, `num_bytes` bytes.

        Args:
            progress (*optional*): Wraps the row numbers, such as `tqdm`.

        Returns:
            [`PictureDataset`] itself.
        """
        pictures = torch.empty((len(self), 3, self.resolution, self.resolution), dtype=torch.uint8)
        for index in progress(range(len(self))):
            pictures[index] = self._decode(index)
        self._cached = pictures
        return self

    def _decode(self, index: int) -> torch.Tensor:
        image = load_image(self.rows[index][self.column], name=f"row {index}")
        if image.size != (self.resolution, self.resolution):
            image = image.resize((self.resolution, self.resolution), Image.Resampling.BICUBIC)
        flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        return flat.view(self.resolution, self.resolution, 3).permute(2, 0, 1)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self._decode(index) if self._cached is None else self._cached[index]

    def __getitems__(self, indices: list[int]) -> Sequence[torch.Tensor]:
        """Several pictures at once; a data loader asks for a batch by this name.

        Returns:
            One tensor of shape (len(indices), 3, resolution, resolution) if they are cached, a list of tensors if not.
        """
        return [self._decode(index) for index in indices] if self._cached is None else self._cached[indices]


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
        self.num_rows, self.batch_size, self.seed = num_rows, batch_size, seed
        self.first_step, self.last_step = first_step, last_step
        self.rank, self.world_size = rank, world_size
        self._epoch, self._order = -1, None

    def __len__(self) -> int:
        return max(0, self.last_step - self.first_step)

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first_step, self.last_step):
            start = (step * self.world_size + self.rank) * self.batch_size
            yield [self._row(position) for position in range(start, start + self.batch_size)]

    def _row(self, position: int) -> int:
        epoch, offset = divmod(position, self.num_rows)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(keyed_integer(self.seed, "vq/order", epoch))
            self._epoch, self._order = epoch, torch.randperm(self.num_rows, generator=generator)
        return int(self._order[offset])


def to_pixel_values(pictures: torch.Tensor) -> torch.Tensor:
    """`uint8` pictures -> pixels in [-1, 1]. Any shape."""
    return pictures.float() / 127.5 - 1.0


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
        self.image_tokenizer, self.decoder_only = image_tokenizer, decoder_only
        if decoder_only:
            for name in ("encoder", "quant_conv", "quantize"):
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
            hidden, commit_loss, ids = latents, latents.new_zeros(()), None
            if quantize:
                hidden, commit_loss, (_, _, ids) = self.image_tokenizer.quantize(latents)
        return VQStepOutput(self._decode(hidden), commit_loss, latents, ids)

    def _decode(self, hidden: torch.Tensor) -> torch.Tensor:
        tokenizer = self.image_tokenizer
        if isinstance(tokenizer, VQModel):  # its `decode` takes nothing but ids once `lookup_from_codebook` is set
            spatial = hidden if tokenizer.config.norm_type == "spatial" else None
            return tokenizer.decoder(tokenizer.post_quant_conv(hidden), spatial)  # (B, 3, H, W)
        return tokenizer.decode(hidden, force_not_quantize=True).sample  # (B, 3, H, W)


class PatchDiscriminator(nn.Module):
    """Tells real patches from reconstructed ones: a small PatchGAN (Isola et al. 2017) with spectral norms.

    It keeps no batch statistics, so that a step does not depend on how many processes share the batch.

    Args:
        in_channels (`int`, *optional*, defaults to 3): Channels of a picture.
        channels (`int`, *optional*, defaults to 48): Width of the first layer; each further one doubles it.
        num_halvings (`int`, *optional*, defaults to 2):
            Layers of stride 2. A patch is 22 pixels wide with 1, 34 with 2, 58 with 3.
    """

    def __init__(self, in_channels: int = 3, channels: int = 48, num_halvings: int = 2):
        super().__init__()
        widths = [in_channels, *(channels * 2**i for i in range(num_halvings + 1))]
        layers = []
        for index in range(num_halvings + 1):
            halves = index < num_halvings
            layer = nn.Conv2d(widths[index], widths[index + 1], 4 if halves else 3, 2 if halves else 1, padding=1)
            layers += [nn.utils.parametrizations.spectral_norm(layer), nn.LeakyReLU(0.2)]
        layers.append(nn.utils.parametrizations.spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1)))
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
        real_logits (`torch.Tensor`): For real pictures, any shape.
        fake_logits (`torch.Tensor`): For reconstructions, any shape.

    Returns:
        `torch.Tensor`, a scalar.
    """
    return 0.5 * (F.relu(1.0 - real_logits).mean() + F.relu(1.0 + fake_logits).mean())


def adaptive_weight(
    reconstruction_loss: torch.Tensor, gan_loss: torch.Tensor, last_layer: nn.Parameter, largest: float = 1e4
) -> torch.Tensor:
    """VQGAN's weight of the adversarial loss (eq. 7): both losses then pull equally hard on the decoder's last layer.

    Args:
        reconstruction_loss (`torch.Tensor`): Scalar with a graph, which is kept.
        gan_loss (`torch.Tensor`): Scalar with a graph, which is kept.
        last_layer (`nn.Parameter`): Weight of the decoder's last layer.
        largest (`float`, *optional*, defaults to 1e4): Upper bound.

    Returns:
        `torch.Tensor`, a scalar without a graph.
    """
    pulls = [torch.autograd.grad(loss, last_layer, retain_graph=True)[0] for loss in (reconstruction_loss, gan_loss)]
    return (pulls[0].norm() / (pulls[1].norm() + 1e-6)).clamp(max=largest).detach()


def edge_loss(sample: torch.Tensor, pixel_values: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of the horizontal and of the vertical image gradients, added: blur costs more than in
    a loss over pixels.

    Args:
        sample (`torch.Tensor` of shape `(batch_size, channels, height, width)`): Reconstruction.
        pixel_values (`torch.Tensor` of the same shape): Picture.

    Returns:
        `torch.Tensor`, a scalar.
    """
    error = sample - pixel_values  # differences are linear: one pass is enough
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def load_perceptual_loss(net: str = "vgg") -> nn.Module:
    """LPIPS (Zhang et al. 2018) of the package `lpips`, frozen. Its weights are downloaded when first used.

    Args:
        net (`str`, *optional*, defaults to `"vgg"`): Its features: vgg, alex or squeeze.

    Raises:
        ImportError: If the package is not installed.
    """
    try:
        import lpips
    except ImportError as error:
        raise ImportError(
            "the perceptual loss needs the package `lpips`: `pip install lpips`, or set `perceptual_weight` to 0 and "
            "use `edge_weight`, which needs no weights"
        ) from error
    return lpips.LPIPS(net=net, verbose=False).eval().requires_grad_(False)


@dataclass
class VQLossWeights:
    """Weights of the losses of [`vq_losses`]; 0 leaves one out.

    Args:
        l1 (`float`): Absolute error of the pixels.
        l2 (`float`): Squared error of the pixels.
        edge (`float`): See [`edge_loss`].
        perceptual (`float`): See [`load_perceptual_loss`].
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
        `dict[str, torch.Tensor]`: Scalars by name; their sum is what to minimize.
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
        self.previous, self.current = self.current, torch.zeros_like(self.current)

    @property
    def counts(self) -> torch.Tensor:
        """Of both windows, of shape `(num_codes,)`."""
        return self.current + self.previous

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Both windows, each of shape `(num_codes,)`."""
        return {"current": self.current, "previous": self.previous}

    def load_state_dict(self, state: dict[str, torch.Tensor]):
        """Take up what `state_dict` gave."""
        self.current, self.previous = state["current"], state["previous"]


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
    return float(-(frequency * frequency.log()).sum())


def constant_patch_entropy(
    image_token_ids: torch.Tensor, pixel_values: torch.Tensor, patch_size: int, min_count: int = 8
) -> tuple[float, float]:
    """What a patch of one constant colour is called across pictures: entropy and number of the codes it is given.

    0 nats and 1 code if the name depends on nothing but the patch. A convolutional encoder with group norms gives the
    same patch many names, after what else is in the picture.

    Args:
        image_token_ids (`torch.LongTensor` of shape `(batch_size, num_image_tokens)`): Ids of the pictures.
        pixel_values (`torch.FloatTensor` of shape `(batch_size, channels, height, width)`): Pixels in [-1, 1].
        patch_size (`int`): Side of a token in pixels.
        min_count (`int`, *optional*, defaults to 8): Colours with fewer constant patches are not looked at.

    Returns:
        `tuple[float, float]`: Mean entropy in nats and mean number of codes over the colours, each weighted by its
        number of patches. NaN if there are no constant patches, as in photographs.
    """
    pixels = (pixel_values * 127.5 + 127.5).round().long()  # (B, 3, H, W)
    patches = F.pixel_unshuffle(pixels.double(), patch_size).long()  # (B, 3 * p * p, h, w)
    patches = patches.unflatten(1, (pixels.size(1), -1)).movedim(1, 3).flatten(2, 3)  # unflattened: (B, 3, p * p, ...)
    raise NotImplementedError(patches.shape, image_token_ids, min_count)
