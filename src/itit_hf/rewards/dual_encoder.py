# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Dual encoders of transformers behind one interface: judges of how well an image and a text belong together, and
the losses that train them.

A reward, a filter, a search and a metric all ask the same thing of such a model; none of them needs to know which.
"""

from collections.abc import Callable, Sequence
from functools import partial

import PIL.Image
import torch
from torch.nn import functional as F
from tqdm.auto import tqdm
from transformers import AutoModel, AutoProcessor, BatchEncoding
from transformers.utils import logging

from ..models.image_loading_itit import list_images, load_image

logger = logging.get_logger(__name__)

# Text towers that were trained on texts of one length read padding too. ALIGN was trained on 64 tokens, and its BERT
# has places for more.
_PADDED_TOWERS = ("siglip_text_model",)
_TEXT_LENGTHS = {"align_text_model": 64}
_SECONDS_WITHOUT_A_BAR = 2.0  # a reward embeds a few texts at each update: no bar for these
_INTERPOLATIONS = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}  # PIL's numbers


class DualEncoderScorer:
    """Scores images against texts with a dual encoder of transformers: `CLIPModel`, `SiglipModel`, `AlignModel`,
    `ChineseCLIPModel` or `VisionTextDualEncoderModel`.

    The model is frozen and put into evaluation mode; it is used where it is, on its device and in its precision.

    ```python
    >>> from itit_hf import DualEncoderScorer

    >>> scorer = DualEncoderScorer.from_pretrained("checkpoints/emoji-scenes-dual-encoder")
    >>> scorer.classify(image, ["bus", "fish"], ["a {}"]).argmax(dim=-1)
    tensor([0])
    ```

    Args:
        model (`PreTrainedModel`): The dual encoder.
        processor (`ProcessorMixin`): Its `image_processor` and `tokenizer`.
        batch_size (`int`, *optional*, defaults to 64): Images or texts of one pass.

    Attributes:
        truncated (`int`): Texts so far that were longer than the model reads, and were cut.

    Raises:
        ValueError: If the model is no dual encoder, or the batch size not positive.
    """

    def __init__(self, model, processor, batch_size: int = 64):
        methods = [name for name in ("get_image_features", "get_text_features") if not hasattr(model, name)]
        if methods or not (hasattr(model, "logit_scale") or hasattr(model, "temperature")):
            raise ValueError(
                "`model` must have `get_image_features`, `get_text_features` and `logit_scale` or `temperature`, "
                f"got a {type(model).__name__}"
            )
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}")
        self.model = model.eval().requires_grad_(False)
        self.processor = processor
        self.batch_size = batch_size
        self.truncated = 0

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, batch_size: int = 64) -> "DualEncoderScorer":
        """Open a folder or a repository of the Hub: safetensors only, and no code from there.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): Folder or Hub id of a dual encoder.
            batch_size (`int`, *optional*, defaults to 64): Images or texts of one pass.

        Returns:
            [`DualEncoderScorer`].

        Raises:
            OSError: If there is no such folder or repository, or a file is missing.
        """
        model = AutoModel.from_pretrained(pretrained_model_name_or_path, use_safetensors=True, trust_remote_code=False)
        processor = AutoProcessor.from_pretrained(pretrained_model_name_or_path, trust_remote_code=False)
        return cls(model, processor, batch_size)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @property
    def logit_scale(self) -> torch.Tensor:
        """What a cosine is multiplied by, of shape `()`: exp of the model's `logit_scale`, or 1 / ALIGN's sigma."""
        if hasattr(self.model, "temperature"):
            return 1.0 / self.model.temperature.detach().float().squeeze()
        return self.model.logit_scale.detach().float().exp().squeeze()

    @property
    def logit_bias(self) -> torch.Tensor:
        """What is added then, of shape `()`: SigLIP's bias, and 0 elsewhere."""
        bias = getattr(self.model, "logit_bias", None)
        return torch.zeros((), device=self.device) if bias is None else bias.detach().float().squeeze()

    @torch.no_grad()
    def embed_images(self, images) -> torch.Tensor:
        """Images as directions.

        Args:
            images (`PIL.Image.Image`, path, array or tensor, or a list of them): See [`load_image`].

        Returns:
            `torch.FloatTensor` of shape `(batch_size, embed_dim)`, of length 1.

        Raises:
            ValueError: If there is none, or one cannot be read.
        """

        def embed(batch: list[tuple]) -> torch.Tensor:
            prepare = self.processor.image_processor  # one by one: of a batch of photos one is whole at a time
            loaded = (load_image(image, name=f"image {i}") for i, image in batch)
            pixel_values = [prepare(image, return_tensors="pt")["pixel_values"] for image in loaded]
            return self._image_features(torch.cat(pixel_values))

        return self._in_batches(embed, list(enumerate(list_images(images))), "images")

    def embed_pixels(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Images as directions, with gradients to the pixels: prepared in torch as the image processor does in PIL.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, height, width)`): In [0, 1].

        Returns:
            `torch.FloatTensor` of shape `(batch_size, embed_dim)`, of length 1.

        Raises:
            ValueError: If the shape is another, or the image processor does what torch cannot.
        """
        if pixel_values.dim() != 4 or pixel_values.size(1) != 3 or not pixel_values.is_floating_point():
            raise ValueError(
                "`pixel_values` must be floats of shape (batch_size, 3, height, width), "
                f"got {pixel_values.dtype} of {tuple(pixel_values.shape)}"
            )
        return self._image_features(prepare_pixels(self.processor.image_processor, pixel_values.float()))

    @torch.no_grad()
    def embed_texts(self, texts: str | Sequence[str]) -> torch.Tensor:
        """Texts as directions; a text that is too long is cut, and counted in `truncated`.

        Args:
            texts (`str` or `Sequence[str]`): Captions.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, embed_dim)`, of length 1.

        Raises:
            ValueError: If there is none, or one is not a string.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"`texts` must be a string or at least one, got {texts!r:.200}")

        def embed(batch: list[str]) -> torch.Tensor:
            inputs, num_cut = tokenize_texts(self.processor.tokenizer, self.model.config.text_config, batch)
            if num_cut and not self.truncated:
                logger.warning("texts that are longer than the model reads are cut; `truncated` counts them")
            self.truncated += num_cut
            features = self.model.get_text_features(**inputs.to(self.device)).pooler_output
            return F.normalize(features.float(), dim=-1)

        return self._in_batches(embed, texts, "texts")

    def cosine(self, images, texts: str | Sequence[str]) -> torch.Tensor:
        """Cosine of each image and its text.

        Args:
            images (`PIL.Image.Image`, path, array or tensor, or a list of them): n images.
            texts (`str` or `Sequence[str]`): n texts.

        Returns:
            `torch.FloatTensor` of shape `(n,)`, in [-1, 1].

        Raises:
            ValueError: If there are not as many texts as images.
        """
        images = list_images(images)
        texts = [texts] if isinstance(texts, str) else list(texts)
        if len(images) != len(texts):
            raise ValueError(f"`texts` must be as many as the {len(images)} images, got {len(texts)}")
        return (self.embed_images(images) * self.embed_texts(texts)).sum(dim=-1)

    def score(self, images, texts: str | Sequence[str]) -> torch.Tensor:
        """The model's logit of each image and its text; see [`~DualEncoderScorer.cosine`] for arguments.

        Returns:
            `torch.FloatTensor` of shape `(n,)`: `logit_scale * cosine + logit_bias`.
        """
        return self.scaled(self.cosine(images, texts))

    def similarity(self, image_embeds: torch.Tensor, text_embeds: torch.Tensor) -> torch.Tensor:
        """The model's logits of all images and all texts.

        Args:
            image_embeds (`torch.FloatTensor` of shape `(num_images, embed_dim)`): As of `embed_images`.
            text_embeds (`torch.FloatTensor` of shape `(num_texts, embed_dim)`): As of `embed_texts`.

        Returns:
            `torch.FloatTensor` of shape `(num_images, num_texts)`.
        """
        return self.scaled(image_embeds @ text_embeds.T)

    def scaled(self, cosines: torch.Tensor) -> torch.Tensor:
        """Cosines of any shape as the model's logits."""
        return self.logit_scale * cosines + self.logit_bias

    def classify(self, images, labels: Sequence[str], templates: Sequence[str] = ("{}",)) -> torch.Tensor:
        """Zero-shot labels: logits of each image for each label, in each of the templates.

        Args:
            images (`PIL.Image.Image`, path, array or tensor, or a list of them): What is to be named.
            labels (`Sequence[str]`): Names to choose from.
            templates (`Sequence[str]`): Sentences with `{}` where the name goes; their directions are averaged.

        Returns:
            `torch.FloatTensor` of shape `(num_images, num_labels)`.

        Raises:
            ValueError: If there is no label, or a template has no place for it.
        """
        without = [template for template in templates if "{}" not in template]
        if without or not templates:
            raise ValueError(f"`templates` must hold {{}}, where the name goes, got {list(without or templates)}")
        embeds = self.embed_texts([template.format(label) for label in labels for template in templates])
        label_embeds = F.normalize(embeds.view(len(labels), len(templates), -1).mean(dim=1), dim=-1)  # (L, D)
        return self.similarity(self.embed_images(images), label_embeds)

    def _image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        pixel_values = pixel_values.to(self.device, self.model.dtype)
        return F.normalize(self.model.get_image_features(pixel_values=pixel_values).pooler_output.float(), dim=-1)

    def _in_batches(self, embed, rows: list, name: str) -> torch.Tensor:
        starts = range(0, len(rows), self.batch_size)
        bar = tqdm(starts, desc=f"embed {name}", delay=_SECONDS_WITHOUT_A_BAR)
        return torch.cat([embed(rows[start : start + self.batch_size]) for start in bar])


def tokenize_texts(tokenizer, text_config, texts: Sequence[str]) -> tuple[BatchEncoding, int]:
    """Texts as a dual encoder's text tower reads them.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): The tower's.
        text_config (`PreTrainedConfig`): The tower's.
        texts (`Sequence[str]`): Captions.

    Returns:
        `(inputs, num_cut)`: tensors of shape `(batch_size, text_length)`, and how many texts were too long.
    """
    max_length = min(
        tokenizer.model_max_length,
        getattr(text_config, "max_position_embeddings", tokenizer.model_max_length),
        _TEXT_LENGTHS.get(text_config.model_type, tokenizer.model_max_length),
    )
    # One token more than the model reads tells which texts are longer.
    lengths = [len(ids) for ids in tokenizer(texts, truncation=True, max_length=max_length + 1)["input_ids"]]
    padding = "max_length" if text_config.model_type in _PADDED_TOWERS else True
    inputs = tokenizer(texts, padding=padding, truncation=True, max_length=max_length, return_tensors="pt")
    return inputs, sum(length > max_length for length in lengths)


def reader_of(image_processor) -> Callable[..., PIL.Image.Image]:
    """What reads images for an image processor, large ones smaller: so that a batch of photos fits into memory.

    Args:
        image_processor (`BaseImageProcessor`): Of a dual encoder.

    Returns:
        `Callable`: As [`load_image`], called with an image and `name=`. Sides stay at least twice as long as what the
        image processor makes of them.
    """
    sizes = [getattr(image_processor, name, None) or {} for name in ("size", "crop_size")]
    sides = [side for size in sizes for side in dict(size).values() if side]
    return partial(_read_reduced, side=max(sides)) if sides else load_image


def _read_reduced(source, side: int, name: str = "image") -> PIL.Image.Image:
    image = load_image(source, name=name, reduce_to=side)
    factor = min(image.size) // (2 * side)
    return image.reduce(factor) if factor > 1 else image


def prepare_pixels(image_processor, pixel_values: torch.Tensor) -> torch.Tensor:
    """What an image processor of a dual encoder makes of images, in torch: resize, crop, rescale and normalise.

    Resized images differ a little from PIL's, which rounds to whole numbers.

    Args:
        image_processor (`BaseImageProcessor`): Of CLIP, SigLIP, ALIGN (EfficientNet), Chinese-CLIP or ViT.
        pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, height, width)`): In [0, 1].

    Returns:
        `torch.FloatTensor` of shape `(batch_size, 3, new_height, new_width)`.

    Raises:
        ValueError: If its size or its interpolation is none that torch has.
    """
    if image_processor.do_resize:
        pixel_values = _resized(image_processor, pixel_values)
    if getattr(image_processor, "do_center_crop", False):
        height, width = pixel_values.shape[-2:]
        rows = height - image_processor.crop_size.height
        columns = width - image_processor.crop_size.width
        top = rows // 2
        left = columns // 2  # less than 0 where the image is too small, and black is added
        pixel_values = F.pad(pixel_values, (-left, left - columns, -top, top - rows))
    pixel_values = pixel_values * 255.0
    if image_processor.do_rescale:
        pixel_values = pixel_values * image_processor.rescale_factor - float(
            getattr(image_processor, "rescale_offset", False)
        )
    mean, std = (
        torch.as_tensor(values, device=pixel_values.device).float().view(3, 1, 1)
        for values in (image_processor.image_mean, image_processor.image_std)
    )
    if image_processor.do_normalize:
        pixel_values = (pixel_values - mean) / std
    if getattr(image_processor, "include_top", False):  # EfficientNet divides once more
        pixel_values = pixel_values / std
    return pixel_values


def _resized(image_processor, pixel_values: torch.Tensor) -> torch.Tensor:
    size = image_processor.size
    (height, width) = pixel_values.shape[-2:]
    if size.height and size.width:
        new_size = (size.height, size.width)
    elif size.shortest_edge and not size.longest_edge:
        scale = size.shortest_edge / min(height, width)
        new_size = tuple(
            size.shortest_edge if side == min(height, width) else int(scale * side) for side in (height, width)
        )
    else:
        raise ValueError(f"`size` must be height and width, or the shortest edge, got {size}")
    if new_size == (height, width):
        return pixel_values
    mode = _INTERPOLATIONS.get(int(image_processor.resample))
    if mode is None:
        raise ValueError(f"`resample` must be one of PIL's {list(_INTERPOLATIONS)}, got {image_processor.resample}")
    antialias = mode != "nearest-exact"
    resized = F.interpolate(pixel_values, size=new_size, mode=mode, antialias=antialias)
    return resized.clamp(0.0, 1.0)  # bicubic overshoots


def combine_query(image_embeds: torch.Tensor, text_embeds: torch.Tensor, text_weight: float = 0.5) -> torch.Tensor:
    """A query of an image and a text together: "this, but at night" (ALIGN, section 6.3).

    Args:
        image_embeds (`torch.FloatTensor` of shape `(num_queries, embed_dim)`): As of `embed_images`.
        text_embeds (`torch.FloatTensor` of shape `(num_queries, embed_dim)`): As of `embed_texts`.
        text_weight (`float`, *optional*, defaults to 0.5): Share of the text, in [0, 1].

    Returns:
        `torch.FloatTensor` of shape `(num_queries, embed_dim)`, of length 1.

    Raises:
        ValueError: If the share is out of range.
    """
    if not 0.0 <= text_weight <= 1.0:
        raise ValueError(f"`text_weight` must be in [0, 1], got {text_weight}")
    return F.normalize((1.0 - text_weight) * image_embeds + text_weight * text_embeds, dim=-1)


def search(query_embeds: torch.Tensor, gallery_embeds: torch.Tensor, top_k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The nearest entries of a gallery, best first; of equal ones the earlier entry comes first.

    Args:
        query_embeds (`torch.FloatTensor` of shape `(num_queries, embed_dim)`): Of length 1.
        gallery_embeds (`torch.FloatTensor` of shape `(num_entries, embed_dim)`): Of length 1.
        top_k (`int`): How many.

    Returns:
        `(cosines, indices)`, both of shape `(num_queries, top_k)`.

    Raises:
        ValueError: If `top_k` is not from 1 to the size of the gallery.
    """
    if not 1 <= top_k <= len(gallery_embeds):
        raise ValueError(f"`top_k` must be from 1 to the {len(gallery_embeds)} entries, got {top_k}")
    cosines = []
    indices = []
    for query in query_embeds:  # one at a time: a gallery may hold millions
        row = gallery_embeds @ query  # (num_entries,)
        near = (row >= row.topk(top_k).values[-1]).nonzero()[:, 0]  # more than top_k, if the last ones are equal
        order = row[near].sort(descending=True, stable=True).indices[:top_k]
        cosines.append(row[near[order]])
        indices.append(near[order])
    return torch.stack(cosines), torch.stack(indices)


_PAIR_SHARE = 0.5  # of a target that stays on the pair itself
_TRANSPORT_TEMPERATURE = 0.15
_TRANSPORT_ROUNDS = 50


def contrastive_loss(
    logits: torch.Tensor, targets: torch.Tensor | None = None, label_smoothing: float = 0.1
) -> torch.Tensor:
    r"""ALIGN's loss, equations (1) and (2): the sum of two cross entropies, of the texts for each image and of the
    images for each text. What else is in the batch is what they are told apart from.

    Transformers' `AlignModel` gives the mean of the two; half of this.

    Args:
        logits (`torch.FloatTensor` of shape `(batch_size, batch_size)`): Cosines over sigma; a row for each image.
        targets (`torch.FloatTensor` of shape `(batch_size, batch_size)`, *optional*):
            Probabilities of the texts for each image, as from [`transport_targets`]; rows and columns sum to 1. By
            default an image's text is its own.
        label_smoothing (`float`, *optional*, defaults to 0.1): Share of the target spread over the batch.

    Returns:
        `torch.FloatTensor` of shape `()`, in nats.
    """
    own = torch.arange(len(logits), device=logits.device)
    of_images, of_texts = (own, own) if targets is None else (targets, targets.T)
    return F.cross_entropy(logits, of_images, label_smoothing=label_smoothing) + F.cross_entropy(
        logits.T, of_texts, label_smoothing=label_smoothing
    )


@torch.no_grad()
def transport_targets(image_embeds: torch.Tensor, text_embeds: torch.Tensor) -> torch.Tensor:
    """OTTER's soft targets (https://huggingface.co/papers/2112.09445), experimental: half of an image's target is its
    own text, half goes to the others, by the optimal transport between images and texts that look alike.

    OTTER takes the embeddings from a moving average of the weights; these are the model's own of this step.

    Args:
        image_embeds (`torch.FloatTensor` of shape `(batch_size, embed_dim)`): Of length 1.
        text_embeds (`torch.FloatTensor` of shape `(batch_size, embed_dim)`): Of length 1.

    Returns:
        `torch.FloatTensor` of shape `(batch_size, batch_size)`, of which rows and columns sum to 1.
    """
    alike = (image_embeds @ image_embeds.T + text_embeds @ text_embeds.T).float() / _TRANSPORT_TEMPERATURE
    own = torch.eye(len(alike), dtype=torch.bool, device=alike.device)
    plan = alike.masked_fill(own, -1e4)  # its own text has its share already
    for _ in range(_TRANSPORT_ROUNDS):  # Sinkhorn, in logarithms
        plan = plan - plan.logsumexp(dim=0, keepdim=True)
        plan = plan - plan.logsumexp(dim=1, keepdim=True)
    return _PAIR_SHARE * own.float() + (1.0 - _PAIR_SHARE) * plan.exp()
