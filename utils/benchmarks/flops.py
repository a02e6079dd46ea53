# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""What ITIT has to compute and to keep, by arithmetic: FLOPs of each operation, and activations saved for backward:

    python utils/benchmarks/flops.py

The figures are a floor for this architecture, not a description of the code: `tests/benchmarks/test_flops.py` counts
what the code does and holds it against them, so that a lost saving is seen without a stopwatch. Rules:

- A multiply-add is two FLOPs. Matrix products are counted, and nothing else: norms, softmax and sampling are not.
- Training costs each product three times, forward and two backward; twice where its input needs no gradient.
- What need not be computed does not count: masked positions the encoder is not given, logits and queries of the last
  block where nothing is read, tokens of a reconstruction that are masked again, keys of the future in a causal
  decoder, a second encoder pass for image to image, the encoder and the prefix once for each beam.
- The frozen text encoder and image tokenizer are not part of the network, and are left out.

Activations are float32 without dropout, with attention that keeps no weights (a fused kernel) and one copy of the log
probabilities of each cross entropy.
"""

import math
from argparse import ArgumentParser
from dataclasses import dataclass, replace

from itit_hf.decoding.scheduling_itit import ITITScheduler
from itit_hf.models.configuration_itit import PRESETS, ITITConfig

BYTES_PER_NUMBER = 4
GIGA = 1e9
MEBI = 2**20


@dataclass(frozen=True)
class Workload:
    """One batch of work.

    Args:
        config ([`ITITConfig`]): The network.
        batch_size (`int`): Samples.
        text_length (`int`): Text tokens of a sample, none of them padding.
        null_length (`int`): Tokens of the text that guidance moves away from; the empty text is one.
        num_inference_steps (`int`): Decoding steps S of an image (appendix B).
        guidance_scale (`float`): 1.0 spares the pass with the empty text.
        num_beams (`int`): Of a caption; a cycle captions greedily, whatever this is.
        num_new_tokens (`int`): Tokens generated in a caption, and in that of a cycle.
        t2i_mask_ratio (`float`): Share of tokens masked in text to image; the mean of Table 3's law.
        i2t_mask_ratio (`float`): The same in image to text.
    """

    config: ITITConfig
    batch_size: int = 1
    text_length: int = 64
    null_length: int = 1
    num_inference_steps: int = 24
    guidance_scale: float = 3.0
    num_beams: int = 4
    num_new_tokens: int = 20
    t2i_mask_ratio: float = 0.75
    i2t_mask_ratio: float = 0.635

    def num_masked(self, mask_ratio: float) -> int:
        """Image tokens of a sample masked at a ratio in [0, 1]."""
        return math.ceil(mask_ratio * self.config.num_image_tokens)

    def num_visible(self, num_masked: int) -> int:
        """Image positions that the encoder is given when so many tokens are masked (appendix B)."""
        num_tokens = self.config.num_image_tokens
        drop = self.config.encoder_drop
        if drop == "all":
            return num_tokens - num_masked
        half = num_tokens // 2
        return num_tokens - half if drop == "half" and num_masked >= half else num_tokens

    @property
    def num_predicted_and_shown(self) -> int:
        """Image tokens that the first pass of text -> image -> text predicts: masked from it, and shown to the second
        (on average; the two masks are independent)."""
        shown = 1 - self.num_masked(self.i2t_mask_ratio) / self.config.num_image_tokens
        return round(self.num_masked(self.t2i_mask_ratio) * shown)

    def masked_by_step(self) -> list[int]:
        """Image tokens of a sample that are masked before each decoding step, while there are any."""
        scheduler = ITITScheduler(mask_token_id=self.config.mask_token_id)
        scheduler.set_timesteps(self.num_inference_steps)
        num_tokens = self.config.num_image_tokens
        later = [scheduler.num_masked_after(step, num_tokens) for step in range(self.num_inference_steps - 1)]
        return [count for count in [num_tokens, *later] if count > 0]


# FLOPs of one sample's forward pass, piece by piece.


def linear(rows: int, num_inputs: int, num_outputs: int) -> int:
    """FLOPs of a linear layer: `(rows, num_inputs) -> (rows, num_outputs)`."""
    return 2 * rows * num_inputs * num_outputs


def block(rows: int, width: int, mlp: int, queries: int | None = None, scores: int | None = None) -> int:
    """FLOPs of a Transformer block over `rows` tokens of which `queries` are read afterwards (all by default); there
    are `scores` pairs of a query and a key that it sees (every key by default)."""
    queries = rows if queries is None else queries
    scores = queries * rows if scores is None else scores
    attention = 2 * linear(rows, width, width) + 2 * linear(queries, width, width) + 4 * scores * width
    return attention + 2 * linear(queries, width, mlp)


def encoder(config: ITITConfig, num_visible: int, text_length: int) -> int:
    """FLOPs of the joint encoder over visible image positions and text, without [`text_projection`] (section 3.1)."""
    return config.num_hidden_layers * block(num_visible + text_length, config.hidden_size, config.intermediate_size)


def text_projection(config: ITITConfig, text_length: int) -> int:
    """FLOPs from the text encoder's features to the joint encoder's width."""
    return linear(text_length, config.text_hidden_size, config.hidden_size)


def feature_projection(config: ITITConfig, num_features: int) -> int:
    """FLOPs from encoder features to a decoder's width."""
    return linear(num_features, config.hidden_size, config.decoder_hidden_size)


def image_decoder(config: ITITConfig, text_length: int, num_logits: int) -> int:
    """FLOPs of the image decoder and its head, with logits at `num_logits` positions (Figure 2)."""
    width = config.decoder_hidden_size
    mlp = config.decoder_intermediate_size
    rows = config.num_image_tokens + text_length
    blocks = (config.image_decoder_num_hidden_layers - 1) * block(rows, width, mlp) + block(
        rows, width, mlp, num_logits
    )
    head = linear(num_logits, width, config.hidden_size) + linear(num_logits, config.hidden_size, config.codebook_size)
    return blocks + head


def text_decoder(config: ITITConfig, prefix_length: int, text_length: int) -> int:
    """FLOPs of the text decoder, teacher-forced, without [`text_head`]: features see each other, text sees them and
    the text in front of it (Figure 2)."""
    width = config.decoder_hidden_size
    mlp = config.decoder_intermediate_size
    rows = prefix_length + text_length
    of_text = text_length * prefix_length + text_length * (text_length + 1) // 2
    full = block(rows, width, mlp, scores=prefix_length**2 + of_text)
    last = block(rows, width, mlp, queries=text_length, scores=of_text)
    return (config.text_decoder_num_hidden_layers - 1) * full + last


def text_head(config: ITITConfig, num_logits: int) -> int:
    """FLOPs of the head over the vocabulary, its spare rows too."""
    return linear(num_logits, config.decoder_hidden_size, config.vocab_size)


# FLOPs of whole operations.


def generate(work: Workload) -> int:
    """FLOPs of generating a batch of images: `num_inference_steps` steps, twice each with guidance (appendix B). A
    text is projected once, not once a step."""
    config = work.config
    texts = [work.text_length] if work.guidance_scale == 1.0 else [work.text_length, work.null_length]
    total = sum(text_projection(config, length) for length in texts)
    for num_masked in work.masked_by_step():
        num_visible = work.num_visible(num_masked)
        for length in texts:
            total += encoder(config, num_visible, length) + feature_projection(config, num_visible + length)
            total += image_decoder(config, length, num_masked)
    return work.batch_size * total


def caption(work: Workload) -> int:
    """FLOPs of describing a batch of whole images by beam search (appendix B): encoder and prefix once for each
    image, [BOS] too as all beams start with it, then one row for each beam and token."""
    config = work.config
    prefix = work.config.num_prefix_tokens
    width = config.decoder_hidden_size
    mlp = config.decoder_intermediate_size
    depth = config.text_decoder_num_hidden_layers
    encoded = text_projection(config, 1) + encoder(config, config.num_image_tokens, 1)
    # Of the last block only keys and values of the prefix are ever read.
    prefill = feature_projection(config, prefix) + (depth - 1) * block(prefix, width, mlp)
    prefill += block(prefix, width, mlp, queries=0)
    generated = 0
    for num_said in range(work.num_new_tokens):
        rows = work.num_beams if num_said else 1
        keys = prefix + 1 + num_said
        generated += rows * (depth * block(1, width, mlp, scores=keys) + text_head(config, 1))
    return work.batch_size * (encoded + prefill + generated)


def paired_step(work: Workload) -> int:
    """FLOPs of a training step without a cycle, forward and backward: text to image, equation (2), and image to text
    with image to image in one encoder pass, equation (1) and section 3.2; each pair serves both."""
    config = work.config
    masked = work.num_masked(work.i2t_mask_ratio)
    captioned = _encode_image(work) + _caption(work, work.text_length)
    filled = 3 * (feature_projection(config, _image_features(work)) + image_decoder(config, 1, masked))
    return work.batch_size * (_generate_image(work, work.text_length) + captioned + filled)


def text_cycle(work: Workload) -> int:
    """FLOPs of a training step of text -> image -> text, equation (3), its synthesis included. The decoder of the
    first pass is trained, its encoder is run forward only (appendix B)."""
    to_logits = linear(
        work.num_predicted_and_shown, work.config.hidden_size, work.config.codebook_size
    )  # from embeddings, backward
    return _text_cycle(work, first_pass=3) + work.batch_size * to_logits


def text_half_cycle(work: Workload) -> int:
    """FLOPs of [`text_cycle`] whose gradient stops at the reconstruction: a first pass without backward (Table 2)."""
    return _text_cycle(work, first_pass=1)


def image_cycle(work: Workload) -> int:
    """FLOPs of a training step of image -> text -> image, equation (4), its greedy synthesis of `num_new_tokens`
    words included. What the frozen text encoder does with them, forward and backward, comes on top."""
    config = work.config
    length = work.num_new_tokens
    to_logits = linear(length, config.text_hidden_size, config.num_text_tokens)  # from embeddings, backward
    to_embeddings = text_projection(config, length)  # the gradient of the second pass's text
    return _image_cycle(work, first_pass=3) + work.batch_size * (to_logits + to_embeddings)


def image_half_cycle(work: Workload) -> int:
    """FLOPs of [`image_cycle`] whose gradient stops at the reconstruction: a first pass without backward (Table 2)."""
    return _image_cycle(work, first_pass=1)


def _text_cycle(work: Workload, first_pass: int) -> int:
    """`first_pass` is how often each product of its decoder is done: 3, or forward only, 1."""
    config = work.config
    length = work.text_length
    masked = work.num_masked(work.t2i_mask_ratio)
    visible = work.num_visible(masked)
    first = text_projection(config, length) + encoder(config, visible, length)
    first += min(first_pass, 2) * feature_projection(config, visible + length)
    first += first_pass * image_decoder(config, length, work.num_predicted_and_shown)
    second = _encode_image(work) + _caption(work, length)
    return generate(work) + work.batch_size * (first + second)


def _image_cycle(work: Workload, first_pass: int) -> int:
    """As [`_text_cycle`]."""
    config = work.config
    length = work.num_new_tokens
    visible = work.num_visible(work.num_masked(work.i2t_mask_ratio))
    first = text_projection(config, 1) + encoder(config, visible, 1)
    first += min(first_pass, 2) * feature_projection(config, visible + 1)
    first += first_pass * (text_decoder(config, visible + 1, length) + text_head(config, length))
    synthesis = caption(replace(work, num_beams=1))
    return synthesis + work.batch_size * (first + _generate_image(work, length))


def _generate_image(work: Workload, text_length: int) -> int:
    """Text to image of one sample, forward and backward; the text gets no gradient."""
    config = work.config
    masked = work.num_masked(work.t2i_mask_ratio)
    visible = work.num_visible(masked)
    projections = 2 * text_projection(config, text_length) + 3 * feature_projection(config, visible + text_length)
    return projections + 3 * (encoder(config, visible, text_length) + image_decoder(config, text_length, masked))


def _encode_image(work: Workload) -> int:
    """Encoder pass of image to text of one sample, forward and backward."""
    visible = work.num_visible(work.num_masked(work.i2t_mask_ratio))
    return 2 * text_projection(work.config, 1) + 3 * encoder(work.config, visible, 1)


def _caption(work: Workload, text_length: int) -> int:
    """Text decoder and head behind [`_encode_image`], forward and backward."""
    config = work.config
    seen = work.num_visible(work.num_masked(work.i2t_mask_ratio)) + 1
    decoded = feature_projection(config, seen) + text_decoder(config, seen, text_length)
    return 3 * (decoded + text_head(config, text_length))


# Numbers that one sample's forward pass must keep until the backward pass, piece by piece.


def saved_by_norm(rows: int, width: int) -> int:
    """Numbers kept by a layer norm: its input, and mean and deviation of each row; its result counts with what
    follows."""
    return rows * (width + 2)


def saved_by_block(rows: int, width: int, mlp: int, heads: int, queries: int | None = None) -> int:
    """Numbers kept by a Transformer block: inputs of its norms and products, what attention is made of, its result
    with the denominators of the softmax, and the MLP before and after its activation."""
    queries = rows if queries is None else queries
    attention = saved_by_norm(rows, width) + 3 * rows * width + 2 * queries * width + queries * heads
    return attention + saved_by_norm(queries, width) + queries * width + 2 * queries * mlp


def saved_by_encoder(config: ITITConfig, num_visible: int, text_length: int) -> int:
    """Numbers kept by the joint encoder, its result included."""
    rows = num_visible + text_length
    width = config.hidden_size
    blocks = saved_by_block(rows, width, config.intermediate_size, config.num_attention_heads)
    norms = 2 * saved_by_norm(rows, width) + rows * width
    return config.num_hidden_layers * blocks + norms + text_length * config.text_hidden_size


def saved_by_image_decoder(config: ITITConfig, text_length: int, num_logits: int) -> int:
    """Numbers kept by the image decoder, its head and one copy of log probabilities at `num_logits` positions."""
    width = config.decoder_hidden_size
    mlp = config.decoder_intermediate_size
    heads = config.image_decoder_heads
    rows = config.num_image_tokens + text_length
    blocks = (config.image_decoder_num_hidden_layers - 1) * saved_by_block(rows, width, mlp, heads)
    blocks += saved_by_block(rows, width, mlp, heads, num_logits)
    norms = saved_by_norm(num_logits, width) + num_logits * width + saved_by_norm(num_logits, config.hidden_size)
    return blocks + norms + num_logits * (2 * config.hidden_size + config.codebook_size)


def saved_by_text_decoder(config: ITITConfig, prefix_length: int, text_length: int) -> int:
    """Numbers kept by the text decoder, the input of its head included."""
    width = config.decoder_hidden_size
    mlp = config.decoder_intermediate_size
    heads = config.decoder_num_attention_heads
    rows = prefix_length + text_length
    blocks = (config.text_decoder_num_hidden_layers - 1) * saved_by_block(rows, width, mlp, heads)
    blocks += saved_by_block(rows, width, mlp, heads, text_length)
    return blocks + 2 * saved_by_norm(text_length, width) + text_length * width


# Numbers that whole operations keep; a synthesis keeps none.


def saved_by_text_to_image(work: Workload) -> int:
    """Numbers kept by a batch of text to image, equation (2)."""
    return work.batch_size * _saved_by_generating(work, work.text_length)


def saved_by_image_to_text(work: Workload) -> int:
    """Numbers kept by a batch of image to text with image to image in its encoder pass, equation (1) and section
    3.2."""
    masked = work.num_masked(work.i2t_mask_ratio)
    filled = saved_by_image_decoder(work.config, 1, masked)
    return work.batch_size * (_saved_by_captioning(work) + filled)


def saved_by_text_cycle(work: Workload) -> int:
    """Numbers kept by a batch of text -> image -> text, equation (3). Nothing of the first pass's encoder but its
    result, as no gradient goes there (appendix B)."""
    config = work.config
    masked = work.num_masked(work.t2i_mask_ratio)
    features = (work.num_visible(masked) + work.text_length) * config.hidden_size
    first = features + saved_by_image_decoder(config, work.text_length, work.num_predicted_and_shown)
    return work.batch_size * (first + _saved_by_captioning(work))


def saved_by_text_half_cycle(work: Workload) -> int:
    """Numbers kept by a batch of the half of [`saved_by_text_cycle`] (Table 2): nothing of the first pass."""
    return work.batch_size * _saved_by_captioning(work)


def saved_by_image_cycle(work: Workload) -> int:
    """Numbers kept by a batch of image -> text -> image, equation (4); the first pass keeps no logits, as they are
    made again in the backward pass. What the frozen text encoder keeps comes on top."""
    config = work.config
    length = work.num_new_tokens
    seen = _image_features(work)
    first = seen * config.hidden_size + saved_by_text_decoder(config, seen, length)
    return work.batch_size * (first + _saved_by_generating(work, length))


def saved_by_image_half_cycle(work: Workload) -> int:
    """Numbers kept by a batch of the half of [`saved_by_image_cycle`] (Table 2): nothing of the first pass."""
    return work.batch_size * _saved_by_generating(work, work.num_new_tokens)


def _image_features(work: Workload) -> int:
    """Encoder features of an image in image to text: what is visible of it, and the empty text."""
    return work.num_visible(work.num_masked(work.i2t_mask_ratio)) + 1


def _saved_by_generating(work: Workload, text_length: int) -> int:
    masked = work.num_masked(work.t2i_mask_ratio)
    encoded = saved_by_encoder(work.config, work.num_visible(masked), text_length)
    return encoded + saved_by_image_decoder(work.config, text_length, masked)


def _saved_by_captioning(work: Workload) -> int:
    config = work.config
    length = work.text_length
    seen = _image_features(work)
    encoded = saved_by_encoder(config, seen - 1, 1)
    return encoded + saved_by_text_decoder(config, seen, length) + length * config.num_text_tokens


FLOPS = {
    "generate": generate,
    "caption": caption,
    "paired step": paired_step,
    "t2i2t": text_cycle,
    "t2i2t_half": text_half_cycle,
    "i2t2i": image_cycle,
    "i2t2i_half": image_half_cycle,
}
SAVED = {
    "t2i": saved_by_text_to_image,
    "i2t + i2i": saved_by_image_to_text,
    "t2i2t": saved_by_text_cycle,
    "t2i2t_half": saved_by_text_half_cycle,
    "i2t2i": saved_by_image_cycle,
    "i2t2i_half": saved_by_image_half_cycle,
}


def table(workloads: dict[str, Workload]) -> str:
    """GFLOP and MiB per sample of every operation.

    Args:
        workloads (`dict[str, Workload]`): By name of a column.

    Returns:
        `str`: Lines of Markdown.
    """
    lines = ["| per sample | " + " | ".join(workloads) + " |", "|---" * (len(workloads) + 1) + "|"]
    for operation, flops in FLOPS.items():
        values = (flops(work) / work.batch_size / GIGA for work in workloads.values())
        lines.append(f"| {operation}, GFLOP | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    for operation, saved in SAVED.items():
        values = (saved(work) / work.batch_size * BYTES_PER_NUMBER / MEBI for work in workloads.values())
        lines.append(f"| {operation}, saved MiB | " + " | ".join(f"{value:.2f}" for value in values) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> str:
    """Print the table of some presets."""
    parser = ArgumentParser(description="FLOPs and saved activations of ITIT by arithmetic.")
    parser.add_argument("--presets", nargs="+", choices=sorted(PRESETS), default=["tiny", "base"])
    parser.add_argument("--text_length", type=int, default=64, help="Text tokens of a sample.")
    parser.add_argument("--num_inference_steps", type=int, default=24, help="Decoding steps of an image.")
    parser.add_argument("--guidance_scale", type=float, default=3.0, help="1.0 is no guidance.")
    parser.add_argument("--num_beams", type=int, default=4, help="Of a caption.")
    parser.add_argument("--num_new_tokens", type=int, default=20, help="Of a caption.")
    options = vars(parser.parse_args(arguments))
    presets = options.pop("presets")
    text = table({name: Workload(ITITConfig.preset(name), **options) for name in presets})
    print(text)
    return text


if __name__ == "__main__":
    main()
