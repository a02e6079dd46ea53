# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What the log tells besides the losses: figures of what is synthesised and predicted, and alarms when they go wrong.

| in the log | what it is |
|---|---|
| `synthesis/<objective>/code_usage` | share of the codebook that the generated images use |
| `synthesis/<objective>/code_entropy` | entropy of the codes they use, in nats |
| `synthesis/<objective>/one_colour_images` | share of generated images with 95% of their tokens or more of one code |
| `synthesis/<objective>/identical_captions` | chance that two captions are the same, word for word |
| `synthesis/<objective>/distinct_1` | different tokens, per token of the captions |
| `synthesis/<objective>/distinct_2` | different pairs of neighbouring tokens, per pair |
| `synthesis/<objective>/endless_captions` | share of captions cut at the length limit, before an end of sequence |
| `cross_entropy/<objective>/0.5-0.6` | of the masked tokens, in images with 50% of them or more, and less than 60% |
| `gradient_norm/<objective>` | norm of this loss's own gradient, before its weight |
| `gradient_cosine/<objective>` | its cosine to the weighted sum of the paired losses' gradients |

Images are counted from one log to the next; an image that is replayed counts each time. Captions and cross
entropies are those of the logged step alone, as they cost time. Cross entropies are in nats, without label smoothing,
a mean over an image's masked tokens and then over the images. Everything is summed over the processes before it is
divided; but captions are compared within a process, and gradients are those of each process's own micro-batches. How
many codes, tokens and pairs are different depends on how many there are: compare `code_usage`, `distinct_1` and
`distinct_2` within a run only.

In `evaluate` the figures are those of the held-out pairs, and their names begin with `eval_`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

NUM_BUCKETS = 10  # of mask ratios, each 0.1 wide
ONE_COLOUR = 0.95  # not 1.0: where the tokenizer sees beyond a patch, codes at the edges of a plain image differ
_RATIOS = ("one_colour_images", "identical_captions", "distinct_1", "distinct_2", "endless_captions")


@dataclass(frozen=True)
class Threshold:
    """A figure's limit.

    Args:
        figure (`str`): Last part of its name.
        limit (`float`): Where the alarm begins.
        above (`bool`): Whether values above the limit raise it, or values below.
        meaning (`str`): What it usually means.
    """

    figure: str
    limit: float
    above: bool
    meaning: str


ALARMS = (
    Threshold("identical_captions", 0.5, True, "captions have collapsed, most images get the same caption"),
    Threshold("endless_captions", 0.5, True, "captions never end, as they repeat words up to the length limit"),
    Threshold("one_colour_images", 0.5, True, "images have collapsed to plain areas, whatever the text asks for"),
    Threshold("code_entropy", 1.0, False, "images have collapsed to fewer than three codes' worth of variety"),
)


def check_thresholds(figures: Mapping[str, float], alarms: Iterable[Threshold] = ALARMS) -> list[str]:
    """Which figures are beyond their limits.

    Args:
        figures (`Mapping[str, float]`): By the names of the log.
        alarms (`Iterable[Threshold]`, *optional*): `ALARMS` by default.

    Returns:
        `list[str]`: For each a sentence with the figure, its limit and what it usually means.
    """
    messages = []
    for alarm in alarms:
        for name, value in figures.items():
            beyond = value > alarm.limit if alarm.above else value < alarm.limit
            if name.rpartition("/")[2] == alarm.figure and beyond:
                side = "above" if alarm.above else "below"
                messages.append(f"`{name}` is {value:.3g}, {side} {alarm.limit:g}: {alarm.meaning}")
    return messages


def code_counts(image_token_ids: torch.Tensor, codebook_size: int) -> torch.Tensor:
    """How often each image uses each code.

    Args:
        image_token_ids (`torch.LongTensor` of shape `(batch_size, num_image_tokens)`): Ids.
        codebook_size (`int`): Number of codes.

    Returns:
        `torch.LongTensor` of shape `(batch_size, codebook_size)`.
    """
    batch_size = len(image_token_ids)
    row = torch.arange(batch_size, device=image_token_ids.device)[:, None] * codebook_size
    counts = image_token_ids.new_zeros(batch_size * codebook_size)  # flat: bincount would wait for the device
    places = (image_token_ids + row).flatten()
    return counts.scatter_add_(0, places, torch.ones_like(places)).view(batch_size, codebook_size)


def entropy(counts: torch.Tensor) -> float:
    r"""$-\sum_k p_k \log p_k$ in nats.

    Args:
        counts (`torch.LongTensor` of shape `(num_classes,)`): Not all zero.
    """
    probs = counts.double() / counts.sum()
    return torch.special.entr(probs).sum().item()


def identical_pairs(captions: Sequence[tuple[int, ...]]) -> tuple[int, int]:
    """How many pairs of captions are the same, and how many pairs there are."""
    same = sum(count * (count - 1) // 2 for count in Counter(captions).values())
    return same, len(captions) * (len(captions) - 1) // 2


def distinct_ngrams(captions: Sequence[tuple[int, ...]], n: int) -> tuple[int, int]:
    """How many n-grams of tokens are different, and how many there are, in all captions together."""
    ngrams = [caption[i : i + n] for caption in captions for i in range(len(caption) - n + 1)]
    return len(set(ngrams)), len(ngrams)


def cross_entropy_by_mask_ratio(
    image_logits: torch.Tensor, labels: torch.Tensor, bool_masked_pos: torch.Tensor
) -> torch.Tensor:
    """Sums over the images of a batch, sorted by how much of each is masked.

    Args:
        image_logits (`torch.FloatTensor` of shape `(batch_size, num_positions, codebook_size)`): Logits.
        labels (`torch.LongTensor` of shape `(batch_size, num_positions)`): Image token ids; -100 is ignored.
        bool_masked_pos (`torch.BoolTensor` of shape `(batch_size, num_image_tokens)`): `True` where masked.

    Returns:
        `torch.FloatTensor` of shape `(NUM_BUCKETS, 2)`: Cross entropies in nats, each the mean of an image, and how
        many images. Bucket b holds the mask ratios from `b / 10` up to `(b + 1) / 10`; the last one holds 1.0 too.
    """
    token_loss = F.cross_entropy(image_logits.float().transpose(1, 2), labels, reduction="none")  # (B, M)
    count = (labels != -100).sum(dim=-1)  # (B,)
    mean = token_loss.sum(dim=-1) / count.clamp(min=1)
    bucket = bool_masked_pos.sum(dim=-1) * NUM_BUCKETS // bool_masked_pos.size(1)  # whole numbers: 0.6 stays 0.6
    sums = mean.new_zeros(NUM_BUCKETS, 2)
    return sums.index_add_(0, bucket.clamp(max=NUM_BUCKETS - 1), torch.stack([mean, (count > 0).float()], dim=-1))


def gradient_figures(
    losses: Mapping[str, torch.Tensor],
    parameters: Iterable[torch.nn.Parameter],
    reference: Mapping[str, float],
) -> dict[str, torch.Tensor]:
    """Norm of each loss's own gradient, and how far the losses pull the same way.

    Nothing is accumulated: `.grad`, and with it the hooks that a distributed wrapper has there, stay untouched, and
    the losses can be differentiated again.

    Args:
        losses (`Mapping[str, torch.Tensor]`): Scalars of shape `()` by name, in one graph or several.
        parameters (`Iterable[torch.nn.Parameter]`): Those of the model; frozen ones are left out.
        reference (`Mapping[str, float]`): Weights of the losses whose summed gradient the others are compared with.

    Returns:
        `dict[str, torch.Tensor]`: `gradient_norm/<name>` for each loss and `gradient_cosine/<name>`, in [-1, 1], for
        each that is not in `reference`, if any is; scalars of shape `()`.
    """
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    total = [torch.zeros_like(parameter) for parameter in parameters]
    figures = {}
    for name in sorted(losses, key=lambda name: name not in reference):  # the reference first
        gradient = torch.autograd.grad(
            losses[name], parameters, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        norm = _dot(gradient, gradient).sqrt()
        figures[f"gradient_norm/{name}"] = norm
        if name in reference:
            total = [t + reference[name] * g for t, g in zip(total, gradient, strict=True)]
        elif reference:
            norms = norm * _dot(total, total).sqrt()
            figures[f"gradient_cosine/{name}"] = _dot(total, gradient) / norms.clamp(min=torch.finfo(norms.dtype).tiny)
    return figures


def _dot(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack([(x.float() * y.float()).sum() for x, y in zip(a, b, strict=True)]).sum()


class Monitor:
    """Is shown what the objectives synthesise and predict, and sums it up for the log.

    Args:
        names (`Sequence[str]`): The objectives.
        codebook_size (`int`): Number of image codes.
        eos_token_id (`int`): End of sequence of captions.
        num_shown (`int`, *optional*, defaults to 0): Samples of the last batch of each cycle to keep in `cycles`.
        device (`torch.device` or `str`, *optional*): Where the sums are.

    Attributes:
        active (`bool`): While it is `False` captions and cross entropies, which cost time, are not looked at.
        cycles (`dict[str, tuple]`): By objective what went in, what was made of it and what came back, each as image
            token ids of shape `(num_shown, num_image_tokens)`, or as `input_ids` and `attention_mask` of shape
            `(num_shown, text_length)`.
    """

    def __init__(self, names: Sequence[str], codebook_size: int, eos_token_id: int, num_shown: int = 0, device=None):
        self.names = tuple(names)
        self.codebook_size = codebook_size
        self.eos_token_id = eos_token_id
        self.num_shown = num_shown
        self.device = device
        self.active = True
        self.cycles: dict[str, tuple] = {}
        self._reset()

    @classmethod
    def of_objectives(cls, objectives, device, num_shown: int = 0) -> "Monitor":
        """One that looks at [`ITITObjectives`], whose names and token ids it takes."""
        config = objectives.config
        return cls(objectives.names, config.codebook_size, config.eos_token_id, num_shown, device)

    def _reset(self):
        # A row per objective, whatever was shown: every process sums the same tensors.
        num_rows = len(self.names)
        device = self.device
        self._codes = torch.zeros(num_rows, self.codebook_size, dtype=torch.long, device=device)
        self._ratios = torch.zeros(num_rows, len(_RATIOS), 2, device=device)
        self._cross_entropies = torch.zeros(num_rows, NUM_BUCKETS, 2, device=device)
        self._captions: list[list[tuple[int, ...]]] = [[] for _ in self.names]

    @torch.no_grad()
    def generated(self, name: str, image_token_ids: torch.Tensor):
        """Take in generated images, of shape `(batch_size, num_image_tokens)`. Never waits for the device."""
        counts = code_counts(image_token_ids, self.codebook_size)  # (B, V)
        plain = counts.amax(dim=-1) >= ONE_COLOUR * image_token_ids.size(1)  # (B,)
        row = self.names.index(name)
        self._codes[row] += counts.sum(dim=0)
        self._ratios[row, _RATIOS.index("one_colour_images"), 0] += plain.sum()
        self._ratios[row, _RATIOS.index("one_colour_images"), 1] += len(plain)

    def captioned(self, name: str, text: dict[str, torch.Tensor]):
        """Take in captions, if active: `input_ids` and `attention_mask` of shape `(batch_size, text_length)`; the mask
        ends with the end of sequence."""
        if not self.active:
            return
        rows = text["input_ids"].tolist()
        lengths = text["attention_mask"].sum(dim=-1).tolist()
        captions = [tuple(row[:length]) for row, length in zip(rows, lengths, strict=True)]
        self._captions[self.names.index(name)] += captions

    @torch.no_grad()
    def predicted(self, name: str, output, bool_masked_pos: torch.Tensor):
        """Take in a pass over images, if active: a [`~objectives.forward.ForwardOutput`] with `image_logits` and
        `image_labels`, and the mask of shape `(batch_size, num_image_tokens)`."""
        if self.active:
            sums = cross_entropy_by_mask_ratio(output.image_logits, output.image_labels, bool_masked_pos)
            self._cross_entropies[self.names.index(name)] += sums

    def cycled(self, name: str, original, synthetic, reconstruction):
        """Keep the first samples of a cycle. Each argument is a tensor of image token ids or a dictionary of text."""
        if not self.num_shown:
            return
        self.cycles[name] = tuple(self._first(stage) for stage in (original, synthetic, reconstruction))

    def _first(self, stage):
        if isinstance(stage, dict):
            return {key: stage[key][: self.num_shown].detach().clone() for key in ("input_ids", "attention_mask")}
        return stage[: self.num_shown].detach().clone()

    def pop(self, reduce: Callable[[list[torch.Tensor]], list[torch.Tensor]] | None = None) -> dict[str, float]:
        """The figures since the last call, and start anew.

        Args:
            reduce (`Callable`, *optional*): Sums a list of three tensors, of shape `(num_objectives, ...)`, over
                the processes, all of which must call it.

        Returns:
            `dict[str, float]`: By the names of the log; figures that nothing was counted for are left out.
        """
        self._ratios += torch.stack([self._caption_ratios(captions) for captions in self._captions])
        sums = [self._codes, self._ratios, self._cross_entropies]
        sums = sums if reduce is None else reduce(sums)
        self._reset()
        figures = {}
        for name, codes, ratios, cross_entropies in zip(self.names, *(rows.cpu() for rows in sums), strict=True):
            figures |= _figures_of(name, codes, ratios, cross_entropies)
        return figures

    def _caption_ratios(self, captions: list[tuple[int, ...]]) -> torch.Tensor:
        """Numerators and denominators of `_RATIOS`, of shape `(len(_RATIOS), 2)`."""
        words = [caption[:-1] if caption[-1:] == (self.eos_token_id,) else caption for caption in captions]
        endless = sum(caption[-1:] != (self.eos_token_id,) for caption in captions)
        counted = {
            "identical_captions": identical_pairs(captions),
            "distinct_1": distinct_ngrams(words, 1),
            "distinct_2": distinct_ngrams(words, 2),
            "endless_captions": (endless, len(captions)),
        }
        return torch.tensor([counted.get(ratio, (0, 0)) for ratio in _RATIOS], device=self.device)


def _figures_of(name: str, codes, ratios, cross_entropies) -> dict[str, float]:
    """Figures of an objective from its sums."""
    figures = {}
    if codes.any():
        figures[f"synthesis/{name}/code_usage"] = (codes > 0).double().mean().item()
        figures[f"synthesis/{name}/code_entropy"] = entropy(codes)
    for ratio, (count, whole) in zip(_RATIOS, ratios.tolist(), strict=True):
        if whole:
            figures[f"synthesis/{name}/{ratio}"] = count / whole
    for bucket, (total, count) in enumerate(cross_entropies.tolist()):
        if count:
            low = bucket / NUM_BUCKETS
            high = (bucket + 1) / NUM_BUCKETS
            figures[f"cross_entropy/{name}/{low:.1f}-{high:.1f}"] = total / count
    return figures
