# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Generate images and caption them by graphs of ONNX, with numpy and onnxruntime, and tokenizers for strings.

Nothing else is imported, torch least of all. [`export_onnx`] writes a copy of this file beside the graphs, so that
such a folder is all that a machine needs:

    sys.path.insert(0, "out/onnx")
    from onnx_runtime import ONNXPipeline

    pipe = ONNXPipeline.from_folder("out/onnx")
    images = pipe.generate(["a red bus"], rng=np.random.default_rng(0))
    captions = pipe.caption(images)

The loops are those of `decoding/` and of transformers' beam search, which the tests hold them against.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

SETTINGS_NAME = "itit_onnx.json"
NULL_TEXT_NAME = "null_text_embeds.npy"
TOKENIZER_NAME = "tokenizer.json"
LOWEST = np.float32(-1.0e9)  # of a beam that is none
CONTROLS = frozenset((*range(32), *range(127, 160)))
TINY = np.finfo(np.float32).tiny


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


MASKING_SCHEDULES = {
    "cosine": lambda progress: math.cos(math.pi / 2 * progress),
    "linear": lambda progress: 1 - progress,
    "arccos": lambda progress: math.acos(progress) / (math.pi / 2),
    "pow": lambda progress: 1 - progress**2,
    "sigmoid": lambda progress: (_sigmoid(3 - 6 * progress) - _sigmoid(-3)) / (_sigmoid(3) - _sigmoid(-3)),
}
DECODING_ORDERS = ("confidence", "random", "halton", "entropy")


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis, in float32.

    Args:
        logits (`np.ndarray` of shape `(..., num_classes)`): Logits.

    Returns:
        `np.ndarray` of the same shape.
    """
    exponentials = np.exp(logits.astype(np.float32) - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def sample_categorical(probs: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """One class per row, by the inverse of the distribution function.

    Args:
        probs (`np.ndarray` of shape `(..., num_classes)`): Probabilities.
        uniform (`np.ndarray` of shape `(...)`): Noise in [0, 1).

    Returns:
        `np.ndarray` of shape `(...)`, int64.
    """
    cumulative = probs.cumsum(axis=-1)
    drawn = (cumulative <= (uniform * cumulative[..., -1])[..., None]).sum(axis=-1)
    return np.minimum(drawn, probs.shape[-1] - 1)


def gumbel(uniform: np.ndarray) -> np.ndarray:
    """Standard Gumbel noise of uniform noise in [0, 1), finite at both ends. Any shape."""
    uniform = uniform.clip(TINY, 1 - np.finfo(np.float32).eps / 2)
    return -np.log(-np.log(uniform))


class ONNXPipeline:
    """Text to image, and image to text, by the graphs of a folder.

    Args:
        sessions (`Mapping`): A graph by name; `run(None, inputs)` takes arrays by name and returns a list of them.
        settings (`Mapping`): Numbers of the model, as `itit_onnx.json` has them.
        null_text_embeds (`np.ndarray` of shape `(1, num_null_text_tokens, text_hidden_size)`): The empty text.
        tokenizer (*optional*): A `tokenizers.Tokenizer`; without it texts are ids.
    """

    def __init__(self, sessions: Mapping, settings: Mapping, null_text_embeds: np.ndarray, tokenizer=None):
        self.sessions = sessions
        self.settings = settings
        self.null_text_embeds = null_text_embeds
        self.tokenizer = tokenizer

    @classmethod
    def from_folder(cls, folder, providers: Sequence[str] = ("CPUExecutionProvider",)) -> "ONNXPipeline":
        """Open what [`export_onnx`] wrote.

        Args:
            folder (`str` or `Path`): With a graph for each piece.
            providers (`Sequence[str]`, *optional*): Of onnxruntime, the best first.

        Returns:
            [`ONNXPipeline`].
        """
        import onnxruntime
        from tokenizers import Tokenizer

        folder = Path(folder)
        settings = json.loads((folder / SETTINGS_NAME).read_text(encoding="utf-8"))
        sessions = {
            name: onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=list(providers))
            for name in settings["graphs"]
        }
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_NAME))
        return cls(sessions, settings, np.load(folder / NULL_TEXT_NAME), tokenizer)

    def _run(self, name: str, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return self.sessions[name].run(None, inputs)

    def encode_prompts(self, prompts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Text features of prompts; what is longer than `max_text_length` is refused.

        Args:
            prompts (`Sequence[str]`): What to generate.

        Returns:
            `(text_embeds, text_mask)` of shapes `(batch_size, text_length, text_hidden_size)` and
            `(batch_size, text_length)`.

        Raises:
            ValueError: If a prompt is too long.
        """
        rows = [self.tokenizer.encode(_clean(prompt)).ids for prompt in prompts]
        length = max(len(row) for row in rows)
        longest = self.settings["max_text_length"]
        if length > longest:
            raise ValueError(f"`prompts` must have {longest} tokens at most, got one of {length}")
        ids = np.full((len(rows), length), self.settings["pad_token_id"], dtype=np.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
        mask = np.arange(length) < np.array([len(row) for row in rows])[:, None]
        return self._run("text_encoder", {"input_ids": ids, "attention_mask": mask.astype(np.int64)})[0], mask

    def generate(
        self,
        prompts: Sequence[str],
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        temperature: float | None = None,
        rng=None,
    ) -> np.ndarray:
        """Generate images.

        Args:
            prompts (`Sequence[str]`): What they show.
            num_inference_steps (`int`, *optional*): Decoding steps, at least 1; by default, as for what follows, what
                the pipeline was saved with.
            guidance_scale (`float`, *optional*): `1 + tau` of the paper; 1.0 is none.
            temperature (`float`, *optional*): Randomness of the order.
            rng (*optional*): Source of noise, a `np.random.Generator` or whatever has its `random(shape, dtype)`.

        Returns:
            `np.ndarray` of shape `(batch_size, height, width, 3)`, uint8.

        Raises:
            ValueError: If an argument is out of range.
        """
        embeds, mask = self.encode_prompts(prompts)
        ids = self.generate_tokens(embeds, mask, num_inference_steps, guidance_scale, temperature, rng)
        return self.decode_tokens(ids)

    def decode_tokens(self, image_token_ids: np.ndarray) -> np.ndarray:
        """Images of ids.

        Args:
            image_token_ids (`np.ndarray` of shape `(batch_size, num_image_tokens)`): Codes, int64.

        Returns:
            `np.ndarray` of shape `(batch_size, height, width, 3)`, uint8.
        """
        (pixels,) = self._run("image_tokenizer_decoder", {"image_token_ids": image_token_ids})  # (B, 3, H, W)
        image = self.settings["image"]
        std, mean = (np.float32(image[name])[:, None, None] for name in ("std", "mean"))
        images = (pixels * std + mean).clip(0, 1).transpose(0, 2, 3, 1)
        return (images * 255).round().astype(np.uint8)

    def generate_tokens(
        self,
        text_embeds: np.ndarray,
        text_mask: np.ndarray,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        temperature: float | None = None,
        rng=None,
    ) -> np.ndarray:
        """Generate image tokens: all are masked at first, and each step leaves fewer masked.

        Args:
            text_embeds (`np.ndarray` of shape `(batch_size, text_length, text_hidden_size)`): Text features.
            text_mask (`np.ndarray` of shape `(batch_size, text_length)`): `False` at padding.
            num_inference_steps (`int`, *optional*): As in [`~ONNXPipeline.generate`].
            guidance_scale (`float`, *optional*): As there.
            temperature (`float`, *optional*): As there.
            rng (*optional*): As there.

        Returns:
            `np.ndarray` of shape `(batch_size, num_image_tokens)`, int64.

        Raises:
            ValueError: If an argument is out of range.
        """
        rng = np.random.default_rng() if rng is None else rng
        settings = self.settings
        mask_token_id = settings["mask_token_id"]
        is_adaptive = settings["scheduler"]["decoding_order"] == "entropy"
        num_steps = self._given("sampling", "num_inference_steps", num_inference_steps)
        temperature = self._given("sampling", "temperature", temperature)
        scales = self._guidance_scales(self._given("sampling", "guidance_scale", guidance_scale), num_steps)
        ids = np.full((len(text_embeds), settings["num_image_tokens"]), mask_token_id, dtype=np.int64)
        for step in range(num_steps):
            masked = ids == mask_token_id
            num_masked = int(masked.sum(axis=1).max())
            if num_masked == 0:
                break
            given = self._drop_masked(masked, rng)
            positions = np.argsort(~masked, axis=1, kind="stable")[:, :num_masked]
            logits = self._guided_logits((text_embeds, text_mask), ids, given, positions, scales[step])
            noise = rng.random((len(ids), 2, ids.shape[1]), dtype=np.float32)
            probs = softmax(logits)
            sampled = sample_categorical(probs, np.take_along_axis(noise[:, 0], positions, axis=1))
            scale = temperature * (1 - (step + 1) / num_steps)
            entropies = np.zeros(ids.shape, dtype=np.float32)
            if is_adaptive:
                np.put_along_axis(entropies, positions, _entropy(probs), axis=1)
                score = -np.take_along_axis(entropies, positions, axis=1)
            else:
                score = np.take_along_axis(probs, sampled[..., None], axis=2)[..., 0]
            confidence = self._confidence(score, noise[:, 1], positions, scale)
            confidence[~masked] = np.inf
            filled = ids.copy()
            np.put_along_axis(filled, positions, sampled, axis=1)
            filled = np.where(masked, filled, ids)
            order = confidence.argsort(axis=1, kind="stable")
            num_to_mask = np.full(len(ids), self._num_masked_after(step, num_steps))
            if is_adaptive:
                num_to_mask = np.minimum(num_to_mask, self._num_beyond_bound(np.where(masked, entropies, 0), order))
            masked_again = (order.argsort(axis=1) < num_to_mask[:, None]) & masked
            ids = np.where(masked_again, mask_token_id, filled)
        return ids

    def _given(self, group: str, name: str, value):
        """A number that a call names, or what the pipeline was saved with."""
        value = self.settings[group][name] if value is None else value
        if isinstance(self.settings[group][name], int) and value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}")
        return value

    def _guidance_scales(self, guidance_scale: float, num_steps: int) -> list[float]:
        """The scale of each step, by the schedule and the interval that the pipeline was saved with."""
        sampling = self.settings["sampling"]
        scales = [guidance_scale] * num_steps
        if sampling["guidance_schedule"] == "linear" and num_steps > 1:
            rise = (guidance_scale - 1.0) / (num_steps - 1)
            scales[:-1] = [1.0 + rise * step for step in range(num_steps - 1)]
        start, stop = sampling["guidance_interval"]
        return [scale if start <= step / num_steps < stop else 1.0 for step, scale in enumerate(scales)]

    def _num_masked_after(self, step: int, num_steps: int) -> int:
        """Tokens that stay masked after a step, the first being 0; one more at least is fixed in each."""
        num_tokens = self.settings["num_image_tokens"]
        if step == num_steps - 1:
            return 0
        ratio = MASKING_SCHEDULES[self.settings["scheduler"]["masking_schedule"]]((step + 1) / num_steps)
        return max(0, min(int(num_tokens * ratio), num_tokens - step - 1))

    def _drop_masked(self, masked: np.ndarray, rng) -> tuple[np.ndarray, np.ndarray]:
        """Positions that the encoder is given, `(batch_size, num_encoded)`, and which of them are no filling."""
        batch_size, num_tokens = masked.shape
        is_dropped = np.zeros_like(masked)
        if self.settings["encoder_drop"] == "all":
            is_dropped = masked
        elif self.settings["encoder_drop"] == "half":
            half = num_tokens // 2
            noise = rng.random((batch_size, num_tokens), dtype=np.float32)
            rank = np.where(masked, noise, 2.0).argsort(axis=1, kind="stable").argsort(axis=1)
            is_dropped = (rank < half) & (masked.sum(axis=1) >= half)[:, None]
        lengths = num_tokens - is_dropped.sum(axis=1)
        positions = np.argsort(is_dropped, axis=1, kind="stable")[:, : lengths.max()]
        return positions, np.arange(lengths.max()) < lengths[:, None]

    def _guided_logits(self, text, ids: np.ndarray, given, positions: np.ndarray, guidance_scale: float) -> np.ndarray:
        """Logits at `positions`, `(batch_size, num_positions, codebook_size)`, moved away from the empty text's."""
        cond = self._logits(text, ids, given, positions)
        if guidance_scale <= 1.0:
            return cond
        null_text = self.null_text_embeds.repeat(len(ids), axis=0)
        uncond = self._logits((null_text, np.ones(null_text.shape[:2], dtype=bool)), ids, given, positions)
        return uncond + np.float32(guidance_scale) * (cond - uncond)

    def _logits(self, text, ids: np.ndarray, given, positions: np.ndarray) -> np.ndarray:
        text_embeds, text_mask = text
        encoder_positions, encoder_mask = given
        image = {
            "image_token_ids": ids,
            "text_mask": text_mask,
            "encoder_positions": encoder_positions,
            "encoder_mask": encoder_mask,
        }
        (features,) = self._run("encoder", image | {"text_embeds": text_embeds})
        return self._run("image_decoder", image | {"features": features, "logit_positions": positions})[0]

    def _confidence(self, score, uniform, positions: np.ndarray, scale: float) -> np.ndarray:
        """The lower, the rather a token stays masked; `(batch_size, num_tokens)`."""
        scheduler = self.settings["scheduler"]
        if scheduler["decoding_order"] == "random":
            return uniform.copy()
        if scheduler["decoding_order"] == "halton":
            rank = np.argsort(scheduler["halton_order"])
            return -np.broadcast_to(rank, uniform.shape).astype(np.float32)
        if scheduler["decoding_order"] == "confidence" and scheduler["score"] == "log_prob":
            score = np.log(np.maximum(score, TINY))
        confidence = np.zeros_like(uniform)
        np.put_along_axis(confidence, positions, score, axis=1)
        return confidence + np.float32(scale) * gumbel(uniform)

    def _num_beyond_bound(self, entropies: np.ndarray, order: np.ndarray) -> np.ndarray:
        """How many tokens of each sample would be too many for one step by `entropy_bound`, `(batch_size,)`."""
        entropies = np.take_along_axis(entropies, order[:, ::-1], axis=1)
        excess = entropies.cumsum(axis=1) - np.maximum.accumulate(entropies, axis=1)
        return (excess > self.settings["scheduler"]["entropy_bound"]).sum(axis=1)

    def caption(
        self, images: np.ndarray, num_beams: int | None = None, max_new_tokens: int | None = None
    ) -> list[str]:
        """Caption images by beam search.

        Args:
            images (`np.ndarray` of shape `(batch_size, height, width, 3)`): uint8, of the model's size.
            num_beams (`int`, *optional*): 1 is greedy; what the pipeline was saved with by default.
            max_new_tokens (`int`, *optional*): Length limit; likewise.

        Returns:
            `list[str]`: One caption per image.

        Raises:
            ValueError: If the images are of another form.
        """
        num_known = self.tokenizer.get_vocab_size()
        rows = self.caption_tokens(self.encode_images(images), num_beams, max_new_tokens)
        return [self.tokenizer.decode([token for token in row if token < num_known]) for row in rows]

    def encode_images(self, images: np.ndarray) -> np.ndarray:
        """Features of images that are to be captioned.

        Args:
            images (`np.ndarray` of shape `(batch_size, height, width, 3)`): uint8, of the model's size.

        Returns:
            `np.ndarray` of shape `(batch_size, num_prefix_tokens, hidden_size)`.

        Raises:
            ValueError: If the images are of another form.
        """
        image = self.settings["image"]
        wanted = (image["height"], image["width"], 3)
        if images.dtype != np.uint8 or images.shape[1:] != wanted:
            raise ValueError(
                f"`images` must be uint8 of shape (batch_size, {', '.join(map(str, wanted))}), got {images.dtype} of "
                f"shape {images.shape}"
            )
        std = np.float32(image["std"])
        mean = np.float32(image["mean"])
        pixels = ((images.astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2)
        ids, latents = self._run("image_tokenizer_encoder", {"pixel_values": np.ascontiguousarray(pixels)})
        if self.settings["image_features"] == "latents":
            return self._run("latent_encoder", {"image_latents": latents})[0]
        null_text = self.null_text_embeds.repeat(len(ids), axis=0)
        inputs = {
            "image_token_ids": ids,
            "text_embeds": null_text,
            "text_mask": np.ones(null_text.shape[:2], dtype=bool),
            "encoder_positions": np.arange(ids.shape[1])[None].repeat(len(ids), axis=0),
            "encoder_mask": np.ones(ids.shape, dtype=bool),
        }
        return self._run("encoder", inputs)[0]

    def caption_tokens(
        self, features: np.ndarray, num_beams: int | None = None, max_new_tokens: int | None = None
    ) -> list[list[int]]:
        """Words of captions by transformers' beam search, with its defaults (`length_penalty` 1, no early stop).

        Args:
            features (`np.ndarray` of shape `(batch_size, num_prefix_tokens, hidden_size)`): Encoded images.
            num_beams (`int`, *optional*): 1 is greedy; what the pipeline was saved with by default.
            max_new_tokens (`int`, *optional*): Length limit; likewise.

        Returns:
            `list[list[int]]`: A row per image, without the end of sequence.

        Raises:
            ValueError: If an argument is out of range.
        """
        num_beams = self._given("captioning", "num_beams", num_beams)
        length = self._given("captioning", "max_new_tokens", max_new_tokens)
        length = min(length, self.settings["max_text_length"])
        logits, keys, values = self._run("caption_prefill", {"features": features})
        logits = logits.repeat(num_beams, axis=0)
        return self._search(
            logits, keys.repeat(num_beams, axis=1), values.repeat(num_beams, axis=1), num_beams, length
        )

    def _search(
        self, logits: np.ndarray, keys: np.ndarray, values: np.ndarray, num_beams: int, length: int
    ) -> list[list[int]]:
        """Beams of one image stand together: `(batch_size * num_beams, ...)`."""
        end = self.settings["eos_token_id"]
        batch_size = len(logits) // num_beams
        offset = np.arange(batch_size)[:, None] * num_beams
        beams = np.zeros((batch_size, num_beams, 0), dtype=np.int64)
        scores = np.full((batch_size, num_beams), LOWEST)
        scores[:, 0] = 0  # all beams start alike
        finished = [_Finished(num_beams) for _ in range(batch_size)]
        for step in range(length):
            log_probs = _log_softmax(logits).reshape(batch_size, num_beams, -1) + scores[..., None]
            num_words = log_probs.shape[2]
            flat = log_probs.reshape(batch_size, -1)
            top = np.argsort(-flat, axis=1, kind="stable")[:, : 2 * num_beams]  # as many go on, should others end
            top_scores = np.take_along_axis(flat, top, axis=1)
            parents = top // num_words
            words = np.concatenate(
                [np.take_along_axis(beams, parents[..., None], axis=1), (top % num_words)[..., None]], axis=2
            )
            ended = (words[:, :, -1] == end) | (step == length - 1)
            for row, group in enumerate(finished):
                group.add(words[row, :num_beams], top_scores[row, :num_beams], ended[row, :num_beams])
            running = top_scores + ended * LOWEST
            chosen = np.argsort(-running, axis=1, kind="stable")[:, :num_beams]
            beams = np.take_along_axis(words, chosen[..., None], axis=1)
            scores = np.take_along_axis(running, chosen, axis=1)
            for row, group in enumerate(finished):
                group.close_if_best(scores[row, 0] / (step + 1))
            if ended.all() or not any(group.is_open for group in finished):
                break
            origin = (np.take_along_axis(parents, chosen, axis=1) + offset).reshape(-1)
            last = beams[:, :, -1].reshape(-1, 1)
            inputs = {"input_ids": last, "keys": keys[:, origin], "values": values[:, origin]}
            logits, keys, values = self._run("caption_step", inputs)
        return [[int(word) for word in group.best() if word != end] for group in finished]


class _Finished:
    """The best captions of an image that have come to an end.

    Args:
        num_beams (`int`): How many are kept.
    """

    def __init__(self, num_beams: int):
        self.num_beams = num_beams
        self.found: list[tuple[float, np.ndarray]] = []
        self.is_open = True

    def add(self, words: np.ndarray, scores: np.ndarray, ended: np.ndarray):
        """Keep those of the rows of `words`, `(num_beams, length)`, that `ended`, by their score for each word."""
        if not self.is_open:
            return
        length = words.shape[1]
        self.found += [
            (score / length, row) for row, score, is_end in zip(words, scores, ended, strict=True) if is_end
        ]
        self.found = sorted(self.found, key=lambda pair: -pair[0])[: self.num_beams]

    def close_if_best(self, best_running: float):
        """Take no more once there are enough, and none that runs could be better."""
        is_full = len(self.found) == self.num_beams
        self.is_open &= not (is_full and best_running <= self.found[-1][0])

    def best(self) -> np.ndarray:
        """The words of the best one."""
        return self.found[0][1]


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float32) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _entropy(probs: np.ndarray) -> np.ndarray:
    return -(probs * np.log(np.maximum(probs, TINY))).sum(axis=-1)


def _clean(text: str) -> str:
    """A text that can be encoded as UTF-8, its control characters as spaces."""
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return "".join(" " if ord(c) in CONTROLS else c for c in text)
