# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Rewards for captions: whatever scores them, with the signature that trl gives to it.

Such a reward is a callable `reward(prompts, completions, completion_ids=None, **columns) -> list[float]`; all that the
data says of an image comes as a column, one entry per completion.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import datasets
import torch
from torch.nn import functional as F
from tqdm.auto import tqdm
from transformers import AutoModelForSequenceClassification, BertConfig

from ..data.loading import without_decoding
from ..metrics import captions
from .dual_encoder import DualEncoderScorer

# A word that no tokenizer of captions gives back.
_END = "</s>"


def reward_name(reward: Callable) -> str:
    """What a reward is called in logs and messages, as in trl: a function's name, or that of an object's class.

    Args:
        reward (`Callable`): See the module.
    """
    return getattr(reward, "__name__", type(reward).__name__)


def score_completions(
    rewards: Sequence[Callable],
    prompts: Sequence[str],
    completions: Sequence[str],
    completion_ids: Sequence[Sequence[int]],
    columns: Mapping[str, Sequence],
) -> torch.Tensor:
    """Ask every reward about every completion.

    Args:
        rewards (`Sequence[Callable]`): Called with keywords, as trl calls them.
        prompts (`Sequence[str]`): What was asked; "" for a caption.
        completions (`Sequence[str]`): Captions.
        completion_ids (`Sequence[Sequence[int]]`): The same as ids, the end of sequence included where there is one.
        columns (`Mapping[str, Sequence]`): What the data says of each, and whatever else rewards are given.

    Returns:
        `torch.FloatTensor` of shape `(num_completions, num_rewards)`, in float32.

    Raises:
        ValueError: If a reward gives back anything but one finite number for each; it is named.
    """
    scores = []
    for reward in rewards:
        given = reward(prompts=prompts, completions=completions, completion_ids=completion_ids, **columns)
        scores.append(_checked(given, reward_name(reward), len(completions)))
    return torch.stack(scores, dim=1)


def _checked(given, name: str, count: int) -> torch.Tensor:
    values = given.tolist() if isinstance(given, torch.Tensor) else given
    if not isinstance(values, Sequence) or len(values) != count:
        got = f"{len(values)} values" if isinstance(values, Sequence) else f"a {type(values).__name__}"
        raise ValueError(
            f"the reward `{name}` must give a list of one number for each of {count} completions, got {got}"
        )
    wrong = [i for i, value in enumerate(values) if not _is_finite(value)]
    if wrong:
        raise ValueError(
            f"the reward `{name}` must give finite numbers, got {values[wrong[0]]!r} for completion {wrong[0]}"
        )
    return torch.tensor([float(value) for value in values], dtype=torch.float32)


def _is_finite(value) -> bool:
    try:
        return math.isfinite(value)
    except TypeError:
        return False


def rloo_advantages(rewards: torch.Tensor, num_generations: int) -> torch.Tensor:
    """Each completion's reward, less the mean of the others' of the same image (leave one out; Kool et al., 2019).

    Args:
        rewards (`torch.FloatTensor` of shape `(batch_size * num_generations,)`): Those of an image stand together.
        num_generations (`int`): Completions of each image, at least 2.

    Returns:
        `torch.FloatTensor` of shape `(batch_size * num_generations,)`.

    Raises:
        ValueError: If there is no other completion.
    """
    if num_generations < 2:
        raise ValueError(f"`num_generations` must be at least 2 to leave one out, got {num_generations}")
    grouped = rewards.view(-1, num_generations)  # (B, G)
    others = (grouped.sum(dim=1, keepdim=True) - grouped) / (num_generations - 1)
    return (grouped - others).flatten()


def greedy_advantages(rewards: torch.Tensor, greedy_rewards: torch.Tensor) -> torch.Tensor:
    """Each completion's reward, less that of the greedy caption of its image (self-critical; Rennie et al., 2017).

    Args:
        rewards (`torch.FloatTensor` of shape `(batch_size * num_generations,)`): Those of an image stand together.
        greedy_rewards (`torch.FloatTensor` of shape `(batch_size,)`): Of the greedy captions.

    Returns:
        `torch.FloatTensor` of shape `(batch_size * num_generations,)`.
    """
    return (rewards.view(len(greedy_rewards), -1) - greedy_rewards[:, None]).flatten()


class CiderD:
    """CIDEr-D against the reference captions of the image, as pycocoevalcap counts it: 10 at most.

    How rare an n-gram is is counted once, over a whole corpus, and never over a batch: a caption's reward does not
    depend on the other captions of the batch. The end of a caption is a word like any other, so that a caption that
    was cut, or that ends on a preposition, misses what its references have.

    Args:
        reference_sets (`Sequence[Sequence[str]]`): For each image of the corpus, its captions.
        eos_token_id (`int`, *optional*, defaults to 1): Id by which a completion ends; T5's by default. `None` leaves
            the end out of the count.
        column (`str`, *optional*, defaults to `"text"`): Column that holds an image's captions, one or a list.

    Raises:
        ValueError: If there are no references.
    """

    def __init__(self, reference_sets: Sequence[Sequence[str]], eos_token_id: int | None = 1, column: str = "text"):
        self.eos_token_id = eos_token_id
        self.column = column
        self._scorer = captions.CiderD([[self._words(text) for text in _listed(texts)] for texts in reference_sets])

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns,
    ) -> list[float]:
        """Score captions, each alone.

        Args:
            prompts (`Sequence[str]`): Not used.
            completions (`Sequence[str]`): Captions.
            completion_ids (`Sequence[Sequence[int]]`, *optional*): The same as ids; without them all count as ended.
            columns: Among them the one of the references.

        Returns:
            `list[float]`: From 0 to 10.

        Raises:
            ValueError: If the column of the references is not there.
        """
        if self.column not in columns:
            raise ValueError(f"`CiderD` needs the references in the column `{self.column}`, got {sorted(columns)}")
        ended = [True] * len(completions)
        if completion_ids is not None:
            ended = [self.eos_token_id in ids[-1:] for ids in completion_ids]
        generated = [self._words(text, end) for text, end in zip(completions, ended, strict=True)]
        true = [[self._words(text) for text in _listed(texts)] for texts in columns[self.column]]
        return [score / 100.0 for score in self._scorer.scores(generated, true)]

    def _words(self, text: str, ended: bool = True) -> list[str]:
        words = captions.tokenize_caption(text)
        if ended and self.eos_token_id is not None:
            return [*words, _END]
        return words

    def state_dict(self) -> dict:
        """The document frequency: n-grams as UTF-8 in a tensor of shape `(num_bytes,)`, and counts of shape
        `(num_ngrams,)`."""
        frequency = self._scorer.document_frequency
        text = "\n".join(" ".join(ngram) for ngram in frequency)
        return {
            "ngrams": torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8),
            "counts": torch.tensor(list(frequency.values())),
            "log_num_images": self._scorer.log_num_images,
        }

    def load_state_dict(self, state: Mapping):
        """Take over what `state_dict` gave; tensors of shape `(num_bytes,)` and `(num_ngrams,)`."""
        ngrams = bytes(state["ngrams"].tolist()).decode().split("\n")
        counts = zip(ngrams, state["counts"].tolist(), strict=True)
        self._scorer.document_frequency = Counter({tuple(ngram.split(" ")): count for ngram, count in counts})
        self._scorer.log_num_images = state["log_num_images"]


def _listed(texts: str | Sequence[str]) -> Sequence[str]:
    return [texts] if isinstance(texts, str) else texts


class ClipCos:
    """How well a caption fits the image itself, by a dual encoder: its logit (CgT-GAN's CLIP-cos).

    Images are those of the column `image`; of a column `image_embeds`, see [`add_image_embeds`], none is opened.

    Args:
        scorer ([`DualEncoderScorer`]): Never report a figure by the same one.
    """

    def __init__(self, scorer: DualEncoderScorer):
        self.scorer = scorer

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns,
    ) -> list[float]:
        """Score captions; see [`CiderD`] for the arguments.

        Returns:
            `list[float]`: `logit_scale * cosine + logit_bias`.

        Raises:
            ValueError: If there is neither a column `image` nor `image_embeds`.
        """
        cosines = _image_embeds(self.scorer, columns) * self.scorer.embed_texts(completions)  # (B, D)
        return self.scorer.scaled(cosines.sum(dim=-1)).tolist()


class ClipAgg:
    r"""How well a caption fits what a corpus would say of the image (CgT-GAN's CLIP-agg).

    The target of an image v is the mean of the corpus, weighted by how near each text is:
    $t(v) = \sum_j \mathrm{softmax}_j(T \cos(v, c_j)) c_j$, over the whole corpus. The reward of a caption g is
    $\frac{s}{2} \cos(t, g) + \frac{s}{2} (1 - \mathrm{mean} |t - g|)$ with s the logit scale.

    Args:
        scorer ([`DualEncoderScorer`]): Never report a figure by the same one.
        corpus_embeds (`torch.FloatTensor` of shape `(num_texts, embed_dim)`): Any precision; a million texts of 512
            numbers are 1 GB in float16. They need not be of length 1.
        temperature (`float`, *optional*, defaults to 100.0): T; 100 for COCO's captions and 175 for GCC's there.
        chunk_size (`int`, *optional*, defaults to 8192): Texts that are in float32 at a time.
        counts (`torch.LongTensor` of shape `(num_texts,)`, *optional*): How often each text is in the corpus; once by
            default.

    Raises:
        ValueError: If the corpus is empty, a number is not positive, or there is not one count for each text.
    """

    def __init__(
        self,
        scorer: DualEncoderScorer,
        corpus_embeds: torch.Tensor,
        temperature: float = 100.0,
        chunk_size: int = 8192,
        counts: torch.Tensor | None = None,
    ):
        if corpus_embeds.dim() != 2 or not len(corpus_embeds):
            raise ValueError(
                f"`corpus_embeds` must be (num_texts, embed_dim), at least one text, got {tuple(corpus_embeds.shape)}"
            )
        for name, value in (("temperature", temperature), ("chunk_size", chunk_size)):
            if not value > 0:
                raise ValueError(f"`{name}` must be positive, got {value}")
        counts = torch.ones(len(corpus_embeds), dtype=torch.long) if counts is None else counts
        if counts.shape != corpus_embeds.shape[:1] or not (counts > 0).all():
            raise ValueError(
                f"`counts` must be one positive number for each of {len(corpus_embeds)} texts, got "
                f"{tuple(counts.shape)}, {counts.min() if counts.numel() else 'none'} at least"
            )
        self.scorer = scorer
        self.corpus_embeds = corpus_embeds
        self.counts = counts
        self.temperature = temperature
        self.chunk_size = chunk_size

    @classmethod
    def from_texts(
        cls, scorer: DualEncoderScorer, texts: Sequence[str], temperature: float = 100.0, chunk_size: int = 8192
    ) -> "ClipAgg":
        """Embed a corpus, a chunk at a time, and keep it in float16; see the class for the arguments.

        A text that comes again is embedded once, and counted.

        Args:
            scorer ([`DualEncoderScorer`]): As there.
            texts (`Sequence[str]`): The corpus.
            temperature (`float`, *optional*, defaults to 100.0): As there.
            chunk_size (`int`, *optional*, defaults to 8192): As there.

        Returns:
            [`ClipAgg`].
        """
        counted = Counter(texts)
        different = list(counted)
        starts = tqdm(range(0, len(different), chunk_size), desc="corpus")
        chunks = [scorer.embed_texts(different[start : start + chunk_size]).half() for start in starts]
        return cls(scorer, torch.cat(chunks), temperature, chunk_size, torch.tensor(list(counted.values())))

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns,
    ) -> list[float]:
        """Score captions; see [`CiderD`] for the arguments and [`ClipCos`] for the columns.

        Returns:
            `list[float]`: `logit_scale` at most.

        Raises:
            ValueError: If there is neither a column `image` nor `image_embeds`.
        """
        images, which = _image_embeds(self.scorer, columns).unique(dim=0, return_inverse=True)
        target = self.targets(images)[which]  # (B, D)
        embeds = self.scorer.embed_texts(completions)  # (B, D)
        near = 1.0 - (target - embeds).abs().mean(dim=-1)
        return (0.5 * self.scorer.logit_scale * (F.cosine_similarity(target, embeds) + near)).tolist()

    def targets(self, image_embeds: torch.Tensor) -> torch.Tensor:
        """What the corpus says of each image, in one pass over it: the softmax is summed with a running maximum.

        Args:
            image_embeds (`torch.FloatTensor` of shape `(batch_size, embed_dim)`): Of length 1.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, embed_dim)`, in float32.
        """
        image_embeds = image_embeds.float()
        largest = image_embeds.new_full((len(image_embeds), 1), -torch.inf)
        total = torch.zeros_like(largest)
        summed = torch.zeros_like(image_embeds)
        chunks = zip(self.corpus_embeds.split(self.chunk_size), self.counts.split(self.chunk_size), strict=True)
        for chunk, counts in chunks:
            texts = chunk.to(image_embeds)  # (C, D)
            logits = self.temperature * image_embeds @ F.normalize(texts, dim=-1).T  # (B, C)
            peak = torch.maximum(largest, logits.amax(dim=1, keepdim=True))
            weights = (logits - peak).exp() * counts.to(image_embeds)
            shrunk = (largest - peak).exp()
            total = total * shrunk + weights.sum(dim=1, keepdim=True)
            summed = summed * shrunk + weights @ texts
            largest = peak
        return summed / total


class DiscriminatorReward:
    """Whether a text could be of the corpus, by a discriminator that learns beside the captioner (CgT-GAN).

    The guard of every reward that knows no reference: without it captions drift to what only the judge likes. The
    reward is the discriminator's logit. The trainer calls `update` with the corpus and what was sampled before it
    asks for scores, and keeps the state in its checkpoints.

    Args:
        model (`PreTrainedModel`): A sequence classifier of transformers with one label, such as RoBERTa's.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        learning_rate (`float`, *optional*, defaults to 1e-5): Of AdamW.
        weight_decay (`float`, *optional*, defaults to 0.05): Likewise.
        max_length (`int`, *optional*, defaults to 64): Tokens of a text at most; longer ones are cut.

    Raises:
        ValueError: If the model has more than one label.
    """

    def __init__(
        self, model, tokenizer, learning_rate: float = 1e-5, weight_decay: float = 0.05, max_length: int = 64
    ):
        if model.config.num_labels != 1:
            raise ValueError(f"`model` must be a classifier of one label, got {model.config.num_labels}")
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay)

    @classmethod
    def small(
        cls, tokenizer, learning_rate: float = 3e-4, hidden_size: int = 64, max_length: int = 64
    ) -> "DiscriminatorReward":
        """A new discriminator of two blocks, for small worlds.

        Args:
            tokenizer (`PreTrainedTokenizerBase`): Any with padding, such as that of the model's text encoder.
            learning_rate (`float`, *optional*, defaults to 3e-4): Of AdamW.
            hidden_size (`int`, *optional*, defaults to 64): Its width.
            max_length (`int`, *optional*, defaults to 64): As in the class.

        Returns:
            [`DiscriminatorReward`].
        """
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden_size,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=2 * hidden_size,
            max_position_embeddings=max_length,
            pad_token_id=tokenizer.pad_token_id,
            num_labels=1,
        )
        return cls(AutoModelForSequenceClassification.from_config(config), tokenizer, learning_rate, 0.05, max_length)

    @torch.no_grad()
    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns,
    ) -> list[float]:
        """Score captions; see [`CiderD`] for the arguments.

        Returns:
            `list[float]`: Logits; above 0 a text seems to be of the corpus.
        """
        return self._logits(completions).tolist()

    def update(self, real: Sequence[str], fake: Sequence[str]) -> dict[str, torch.Tensor]:
        """One step of the discriminator; with several processes, of the mean of their gradients.

        Args:
            real (`Sequence[str]`): Texts of the corpus.
            fake (`Sequence[str]`): What was sampled; both sides weigh the same, however many there are.

        Returns:
            `dict` of scalars of shape `()`: `loss` in nats, and `accuracy`.
        """
        self.model.train()
        with torch.enable_grad():
            logits = self._logits(real), self._logits(fake)
            loss = 0.5 * (F.softplus(-logits[0]).mean() + F.softplus(logits[1]).mean())
            self.optimizer.zero_grad()
            loss.backward()
        if torch.distributed.is_initialized():
            for parameter in self.model.parameters():
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= torch.distributed.get_world_size()
        self.optimizer.step()
        self.model.eval()
        accuracy = 0.5 * ((logits[0] > 0).float().mean() + (logits[1] < 0).float().mean())
        return {"loss": loss.detach(), "accuracy": accuracy}

    def _logits(self, texts: Sequence[str]) -> torch.Tensor:
        options = {"padding": True, "truncation": True, "max_length": self.max_length, "return_tensors": "pt"}
        inputs = self.tokenizer(list(texts), **options).to(self.model.device)
        return self.model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[:, 0].float()

    def state_dict(self) -> dict:
        """Weights and optimizer, tensors of any shape."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping):
        """Take over what `state_dict` gave; tensors of any shape."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


def add_image_embeds(rows: datasets.Dataset, scorer: DualEncoderScorer) -> datasets.Dataset:
    """Embed every image once, into a cached column `image_embeds` of shape `(embed_dim,)`.

    Args:
        rows (`datasets.Dataset`): With a column `image`.
        scorer ([`DualEncoderScorer`]): Whose weights are part of the cache's key.
    """
    digest = hashlib.sha256(f"{rows._fingerprint}/{scorer.processor.image_processor.to_json_string()}".encode())
    for tensor in scorer.model.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    embeds = without_decoding(rows).map(
        lambda batch: {"image_embeds": scorer.embed_images(batch["image"]).cpu().numpy()},
        batched=True,
        batch_size=scorer.batch_size,
        new_fingerprint=digest.hexdigest()[:16],
        desc="image embeddings",
    )
    return embeds.cast_column("image", rows.features["image"])


def _image_embeds(scorer: DualEncoderScorer, columns: Mapping[str, Sequence]) -> torch.Tensor:
    """Of the images that the columns hold, `(num_completions, embed_dim)`; one that comes again is embedded once."""
    if "image_embeds" in columns:
        return torch.tensor(columns["image_embeds"], device=scorer.device)
    if "image" not in columns:
        raise ValueError(f"the reward needs images in the column `image` or `image_embeds`, got {sorted(columns)}")
    places: dict[int, int] = {}
    which = [places.setdefault(id(image), len(places)) for image in columns["image"]]
    images = list({id(image): image for image in columns["image"]}.values())
    return scorer.embed_images(images)[which]
