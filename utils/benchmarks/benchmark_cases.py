# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What `utils/benchmarks/benchmark.py` times: ITIT and its anchors, built from configurations with random weights.

Equal terms on both sides: as many steps, guidance, batch and captions of the same length; text encoders are left out,
and images are token ids (the image tokenizers have rows of their own).
"""

import math
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from unittest.mock import patch

import torch
from diffusers import AmusedPipeline, AmusedScheduler, UVit2DModel, VQModel
from diffusers.training_utils import EMAModel
from torch.nn import functional as F
from transformers import BlipConfig, BlipForConditionalGeneration, GitConfig, GitForCausalLM
from transformers.generation import LogitsProcessor, LogitsProcessorList

import flops
from counting import TableTextEncoder, counted
from flops import Workload
from itit_hf.decoding import sampling
from itit_hf.decoding.sampling import SamplingSettings, classifier_free_guidance, decode_image_tokens
from itit_hf.decoding.scheduling_itit import ITITScheduler
from itit_hf.masking import MaskRatio
from itit_hf.models import cpu_kernels_itit
from itit_hf.models.configuration_itit import ITITConfig
from itit_hf.models.image_tokenization_itit import PatchVQModel, decode_image_token_ids, encode_images
from itit_hf.models.modeling_itit import ITITForPreTraining
from itit_hf.models.types_itit import ImageMask, TextCondition
from itit_hf.objectives.objectives import ITITObjectives, ObjectiveSettings
from itit_hf.rng import gumbel
from itit_hf.training.optimization import create_muon

STEPS = 24  # appendix B
GUIDANCE_SCALE = 3.0
TEXT_LENGTHS = {"64/64": (64, 64), "trimmed": (16, 1)}  # of the text, and of the one guidance moves away from
DROPS = {"": "half", ", all dropped": "all"}
TRAINED_TEXTS = {"": 64, ", trimmed": 16}
PAIRED = ("t2i", "i2t", "i2i")  # losses of a pair
ENDED_AFTER = 8  # of the words of a caption
CAPTION = {"num_beams": 4, "min_new_tokens": 20, "max_new_tokens": 20, "do_sample": False}
AMUSED = {
    "aMUSEd-256": {},
    "aMUSEd, active parameters": {"num_hidden_layers": 8, "intermediate_size": 2432},
    "aMUSEd, all parameters": {"num_hidden_layers": 14, "intermediate_size": 2112},
}
MATCHED = {"hidden_size": 768, "num_attention_heads": 12, "num_res_blocks": 1}
AMUSED_VQ = {
    "act_fn": "silu",
    "block_out_channels": (128, 256, 256, 512, 768),
    "down_block_types": ("DownEncoderBlock2D",) * 5,
    "up_block_types": ("UpDecoderBlock2D",) * 5,
    "latent_channels": 64,
    "layers_per_block": 2,
    "num_vq_embeddings": 8192,
    "mid_block_add_attention": False,
    "lookup_from_codebook": True,
}
# Steps and guidance of the synthesis inside the cycle.
SYNTHESES = {"24 steps, guided": (24, 3.0), "12 steps": (12, 1.0), "8 steps": (8, 1.0)}

# An update of examples/recipes/emoji_scenes_tiny.yaml: rows, text tokens, masks; and the optimizers of small runs.
OPTIMIZERS = ("AdamW", "Muon")
UPDATE = {"batch_size": 16, "text_length": 8, "i2t_mask_ratio": 0.0}

GRID_SIDES = (8, 16, 32)  # of images that grow
IMAGE_COUNTS = (1, 4, 16)  # of batches that grow


@dataclass(frozen=True)
class Case:
    """Something to time.

    Args:
        name (`str`): What the goals call it.
        run (`Callable`): One call is one sample of time.
        flops (`float`, *optional*): Of the whole, by arithmetic or counted.
        times (`float`): The whole is so many times what `run` does: the steps of aMUSEd cost the same each.
    """

    name: str
    run: Callable[[], object]
    flops: float | None = None
    times: float = 1.0


def build_config(options: Namespace, dropout: float | None = None) -> ITITConfig:
    """The network's configuration: T5-base's width of text, an end of text that is never predicted; `dropout` replaces
    its own."""
    config = ITITConfig.preset(options.preset)
    if dropout is not None:
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
    if options.preset != "tiny":
        config.text_hidden_size = 768
    config.eos_token_id = config.vocab_size - 2
    return config


def build_model(options: Namespace, compiled: str | None = None, dropout: float | None = None) -> ITITForPreTraining:
    """ITIT with random weights, on the device and in the type asked for; `compiled` is a mode of compilation."""
    torch.manual_seed(options.seed)
    model = ITITForPreTraining(build_config(options, dropout)).to(options.device, options.dtype).eval()
    if compiled is not None:
        model.compile(mode=compiled)
    return model


# Drawing


def generate_cases(options: Namespace, batch_size: int) -> list[Case]:
    """Images of `STEPS` guided steps, as token ids."""
    model = build_model(options, options.compile)
    cases = []
    for drop_name, drop in DROPS.items():
        config = build_config(options)
        config.encoder_drop = drop
        for text_name, (text_length, null_length) in TEXT_LENGTHS.items():
            work = Workload(config, batch_size, text_length, null_length, STEPS, GUIDANCE_SCALE)
            name = f"generate {text_name}{drop_name}"
            run = generation(model, work, random_texts(model, batch_size, text_length, null_length), drop)
            cases.append(Case(name, run, flops.generate(work)))
    texts = random_texts(model, batch_size, 64, 64)
    steps = options.anchor_steps
    cases.append(Case("generate naively", lambda: generate_naively(model, texts, steps), times=STEPS / steps))
    cases += [_amused_case(name, options, batch_size) for name in AMUSED if name in options.anchors]
    cases += _tiny_cases(options, batch_size)
    like = {"device": options.device, "dtype": options.dtype}
    decoder = VQModel(**AMUSED_VQ).to(**like).eval()
    ids = torch.randint(8192, (batch_size, 256), device=model.device)
    cases.append(Case("aMUSEd's decoder", torch.no_grad()(lambda: decode_image_token_ids(decoder, ids))))
    return cases


def _tiny_cases(options: Namespace, batch_size: int) -> list[Case]:
    """Images of the tiny preset, by prompts of four tokens: operations so small that their calls weigh much."""
    model = build_model(Namespace(**vars(options) | {"preset": "tiny"}), options.compile)
    work = Workload(model.config, batch_size, 4, 1, STEPS, GUIDANCE_SCALE)
    run = generation(model, work, random_texts(model, batch_size, 4, 1), "half")
    in_two_calls = patch.object(sampling, "MAX_POSITIONS_OF_ONE_CALL", 0)(run)
    return [Case("generate tiny", run, flops.generate(work)), Case("generate tiny, in two calls", in_two_calls)]


def random_texts(model, batch_size: int, text_length: int, null_length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of a text, and of the one to move away from; of shape `(batch_size, length, text_hidden_size)`."""
    width = model.config.text_hidden_size
    sizes = [(batch_size, length, width) for length in (text_length, null_length)]
    return tuple(torch.randn(size, device=model.device, dtype=model.dtype) for size in sizes)


def generation(model, work: Workload, texts, drop: str) -> Callable[[], torch.Tensor]:
    """Images by the loop of the pipeline, as token ids.

    Args:
        model ([`ITITForPreTraining`]): What generates.
        work ([`Workload`]): Its lengths and its configuration.
        texts (`tuple[torch.Tensor, torch.Tensor]`): See [`random_texts`].
        drop (`str`): Which masked positions the encoder is not given.

    Returns:
        `Callable`: One call generates once.
    """
    scheduler = ITITScheduler(mask_token_id=work.config.mask_token_id)
    condition, negative = (TextCondition(text) for text in texts)

    def run():
        model.config.encoder_drop = drop
        away = negative if work.null_length > 1 else None  # one token: the model's own null text
        return decode_image_tokens(
            model, condition, scheduler, SamplingSettings(STEPS, GUIDANCE_SCALE), negative_condition=away
        )

    return run


@torch.no_grad()
def generate_naively(model, texts: tuple[torch.Tensor, torch.Tensor], num_steps: int) -> torch.Tensor:
    """The first steps of decoding without any saving: nothing dropped, all logits, multinomial draws.

    Args:
        model ([`ITITForPreTraining`]): What generates.
        texts (`tuple[torch.Tensor, torch.Tensor]`): See [`random_texts`].
        num_steps (`int`): Steps of `STEPS`; each costs the same.

    Returns:
        `torch.LongTensor` of shape `(batch_size, num_image_tokens)`, `mask_token_id` where still masked.
    """
    config = model.config
    batch_size = len(texts[0])
    every = torch.arange(config.num_image_tokens, device=model.device).expand(batch_size, -1)
    ids = torch.full_like(every, config.mask_token_id)
    for step in range(num_steps):
        masked = ids == config.mask_token_id
        inputs = {"image_token_ids": ids, "image_mask": ImageMask(masked), "logit_positions": every}
        logits = [model(**inputs, text_condition=TextCondition(text)).image_logits for text in texts]
        probs = classifier_free_guidance(*logits, GUIDANCE_SCALE).float().softmax(dim=-1)  # (B, K, V)
        sampled = torch.multinomial(probs.flatten(0, 1), 1).view_as(ids)
        confidence = probs.gather(-1, sampled[..., None])[..., 0].log() + gumbel(torch.rand_like(probs[..., 0]))
        rank = confidence.masked_fill(~masked, torch.inf).argsort(dim=-1).argsort(dim=-1)
        num_masked = int(config.num_image_tokens * math.cos(math.pi / 2 * (step + 1) / STEPS))
        ids = torch.where(masked, sampled, ids).masked_fill(rank < num_masked, config.mask_token_id)
    return ids


def build_amused(name: str, options: Namespace) -> UVit2DModel:
    """One of `AMUSED`, for a grid of 16 x 16 tokens; the matched ones are as wide as ITIT-B."""
    changes = AMUSED[name]
    torch.manual_seed(options.seed)
    return UVit2DModel(sample_size=16, **(MATCHED | changes if changes else {})).to(options.device, options.dtype)


def amused_inputs(model: UVit2DModel, batch_size: int) -> dict[str, torch.Tensor]:
    """What one pass of aMUSEd takes, by its names."""
    like = {"device": model.device, "dtype": model.dtype}
    return {
        "input_ids": torch.randint(8192, (batch_size, 16, 16), device=model.device),
        "encoder_hidden_states": torch.randn(batch_size, 64, 768, **like),
        "pooled_text_emb": torch.randn(batch_size, 768, **like),
        "micro_conds": torch.tensor([[256, 256, 0, 0, 6]], **like).expand(batch_size, -1),
    }


def amused_generation(model: UVit2DModel, options: Namespace, batch_size: int) -> Callable[[], object]:
    """The first `anchor_steps` guided steps of aMUSEd's pipeline, each of which costs the same, as token ids.

    Args:
        model (`UVit2DModel`): What generates.
        options (`Namespace`): Of the command line.
        batch_size (`int`): Images.

    Returns:
        `Callable`: One call takes the steps once.
    """
    pipe = AmusedPipeline(None, None, None, model, AmusedScheduler(mask_token_id=8255))
    pipe.set_progress_bar_config(disable=True)
    given = amused_inputs(model, batch_size)
    texts = {"prompt_embeds": given["pooled_text_emb"], "encoder_hidden_states": given["encoder_hidden_states"]}
    texts |= {f"negative_{key}": torch.zeros_like(value) for key, value in texts.items()}
    steps = options.anchor_steps
    return lambda: pipe(**texts, num_inference_steps=steps, guidance_scale=GUIDANCE_SCALE, output_type="latent")


def _amused_case(name: str, options: Namespace, batch_size: int) -> Case:
    model = build_amused(name, options).eval()
    given = amused_inputs(model, batch_size)
    run = amused_generation(model, options, batch_size)
    with torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        of_pass = counted(lambda: model(**given)) if options.device == "cpu" else None
    times = STEPS / options.anchor_steps
    return Case(name, run, None if of_pass is None else 2 * STEPS * of_pass, times)


# Describing


class EndAfter(LogitsProcessor):
    """Ends a caption after so many words, whatever the network predicts.

    Args:
        num_words (`int`): New tokens before the end.
        eos_token_id (`int`): The end.
    """

    def __init__(self, num_words: int, eos_token_id: int):
        self.num_words = num_words
        self.eos_token_id = eos_token_id

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Scores of shape `(num_beams, vocab_size)`; the first token of `input_ids` is the beginning."""
        if input_ids.size(1) <= self.num_words:
            return scores
        ended = torch.full_like(scores, -torch.inf)
        ended[:, self.eos_token_id] = 0.0
        return ended


def caption_cases(options: Namespace, batch_size: int) -> list[Case]:
    """Captions of `CAPTION`; what reads pixels is given 224 x 224 of them, ITIT's image tokenizers 256 x 256."""
    model = build_model(options)
    config = build_config(options)
    ids = torch.randint(config.codebook_size, (batch_size, config.num_image_tokens), device=options.device)
    work = Workload(config, batch_size, num_beams=CAPTION["num_beams"], num_new_tokens=CAPTION["max_new_tokens"])
    plain = {"cache_implementation": "static", "disable_compile": True}
    ended = {"logits_processor": LogitsProcessorList([EndAfter(ENDED_AFTER, config.eos_token_id)])}
    ended = CAPTION | {"min_new_tokens": 0, "early_stopping": True} | ended
    cases = [
        Case("caption", lambda: model.generate(image_token_ids=ids, **CAPTION), flops.caption(work)),
        Case("caption, ended after 8 words", lambda: model.generate(image_token_ids=ids, **ended)),
        Case("caption, a prefix for each beam", lambda: model.generate(image_token_ids=ids, **CAPTION, **plain)),
    ]
    decoder = model.text_decoder
    words = torch.randn(4, config.decoder_hidden_size).to(ids.device, options.dtype)
    for side, on_amd in {"left": True, "right": False}.items():
        head = patch.object(cpu_kernels_itit, "ON_AMD", on_amd)(torch.no_grad()(lambda: decoder.logits(words)))
        cases.append(Case(f"head, 4 words, weight on the {side}", head, times=20))
    like = {"device": options.device, "dtype": options.dtype}
    pixels = torch.rand(batch_size, 3, 256, 256, **like) * 2 - 1
    tokenizers = {
        "aMUSEd's tokenizer": VQModel(**AMUSED_VQ),
        "patch tokenizer": PatchVQModel(patch_size=16, num_vq_embeddings=8192),
    }
    for name, tokenizer in tokenizers.items():
        cases.append(Case(name, _tokenizing(tokenizer.to(**like).eval(), pixels)))
    return cases + _peers(options, batch_size)


def _tokenizing(tokenizer, pixels: torch.Tensor) -> Callable[[], torch.Tensor]:
    return torch.no_grad()(lambda: encode_images(tokenizer, pixels))


def _peers(options: Namespace, batch_size: int) -> list[Case]:
    like = {"device": options.device, "dtype": options.dtype}
    pixels = torch.randn(batch_size, 3, 224, 224, **like)
    cases = []
    if "GIT" in options.anchors:
        git = GitForCausalLM(GitConfig()).to(**like).eval()
        cases.append(Case("GIT", lambda: git.generate(pixel_values=pixels, **CAPTION)))
        of_beams = pixels.repeat_interleave(CAPTION["num_beams"], dim=0)  # its `generate` encodes each beam's image
        cases.append(Case("GIT, vision of all beams", torch.no_grad()(lambda: git.git.image_encoder(of_beams))))
    if "BLIP" in options.anchors:
        blip = BlipForConditionalGeneration(BlipConfig(vision_config={"image_size": 224})).to(**like).eval()
        cases.append(Case("BLIP", lambda: blip.generate(pixel_values=pixels, **CAPTION)))
    return cases


# Training, forward and backward


def train_cases(options: Namespace, batch_size: int) -> list[Case]:
    """Losses with their gradients, without an optimizer."""
    model = build_model(options, options.compile).to(torch.float32).train()
    work = Workload(build_config(options), batch_size, num_new_tokens=20)
    trimmed_config = build_config(options)
    trimmed_config.encoder_drop = "all"
    trimmed = replace(work, config=trimmed_config, text_length=TRAINED_TEXTS[", trimmed"])
    cases = [
        Case("train t2i", training(model, work, ("t2i",), options)),
        Case("train i2t", training(model, work, ("i2t",), options)),
        Case("train pairs", training(model, work, PAIRED, options), flops.paired_step(work)),
        Case("train pairs, trimmed", training(model, trimmed, PAIRED, options), flops.paired_step(trimmed)),
        Case("train i2t2i", training(model, work, ("i2t2i",), options), flops.image_cycle(work)),
    ]
    for name, (steps, guidance_scale) in SYNTHESES.items():
        synthesis = replace(work, num_inference_steps=steps, guidance_scale=guidance_scale)
        run = training(model, synthesis, ("t2i2t",), options)
        cases.append(Case(f"train t2i2t, {name}", run, flops.text_cycle(synthesis)))
    return cases + _train_variants(options, work) + _trained_peers(options, batch_size)


def _train_variants(options: Namespace, work: Workload) -> list[Case]:
    """What dropout costs; aMUSEd has none."""
    without = build_model(options, options.compile, dropout=0.0).to(torch.float32).train()
    run = training(build_model(options, options.compile).to(torch.float32).train(), work, PAIRED, options)
    of_torch = patch.object(cpu_kernels_itit.ITITDropout, "forward", torch.nn.Dropout.forward)(run)
    return [
        Case("train pairs, no dropout", training(without, work, PAIRED, options), flops.paired_step(work)),
        Case("train pairs, torch's dropout", of_torch, flops.paired_step(work)),
    ]


def batch_of(work: Workload, device: str = "cpu") -> dict[str, torch.Tensor]:
    """The batch of a stream, see [`ITITObjectives`], with texts of full length."""
    config = work.config
    ids = torch.randint(config.codebook_size, (work.batch_size, config.num_image_tokens), device=device)
    text = torch.randint(2, config.num_text_tokens, (work.batch_size, work.text_length), device=device)
    stream_batch = {"image_token_ids": ids, "input_ids": text, "attention_mask": torch.ones_like(text)}
    return stream_batch | {"sample_index": torch.arange(work.batch_size, device=device)}


def build_objectives(
    work: Workload,
    names: tuple[str, ...],
    device: str = "cpu",
    i2t_batch_fraction: float = 1.0,
    i2i_batch_fraction: float = 1.0,
) -> ITITObjectives:
    """Some objectives, with masks of a known size and a table in the place of the text encoder; shares as in
    [`ObjectiveSettings`]."""
    settings = ObjectiveSettings(
        t2i_mask_ratio=MaskRatio(work.t2i_mask_ratio, 0.0),
        i2t_mask_ratio=MaskRatio(work.i2t_mask_ratio, 0.0, high=0.75),
        synthesis_steps=work.num_inference_steps,
        synthesis_guidance_scale=work.guidance_scale,
        synthesis_max_new_tokens=work.num_new_tokens,
        i2t_batch_fraction=i2t_batch_fraction,
        i2i_batch_fraction=i2i_batch_fraction,
    )
    scheduler = ITITScheduler(mask_token_id=work.config.mask_token_id)
    encoder = TableTextEncoder(work.config).to(device)
    return ITITObjectives(names, work.config, encoder, settings=settings, scheduler=scheduler)


def loss_function(
    model, objectives: ITITObjectives, work: Workload, device: str = "cpu"
) -> Callable[[], torch.Tensor]:
    """The sum of the objectives over one batch."""
    batch = dict.fromkeys(objectives.streams, batch_of(work, device))

    def loss() -> torch.Tensor:
        model.config.encoder_drop = work.config.encoder_drop
        return sum(objectives(model, batch).values())

    return loss


def training(model, work: Workload, names: tuple[str, ...], options: Namespace) -> Callable[[], None]:
    """One forward and backward pass; gradients are thrown away."""
    objectives = build_objectives(work, names, options.device)
    return _backward(model, loss_function(model, objectives, work, options.device), options)


def _backward(model: torch.nn.Module, loss: Callable[[], torch.Tensor], options: Namespace) -> Callable[[], None]:
    def run():
        with torch.autocast(options.device, options.dtype, enabled=options.dtype != torch.float32):
            value = loss()
        value.backward()
        model.zero_grad(set_to_none=True)

    return run


def _trained_peers(options: Namespace, batch_size: int) -> list[Case]:
    names = [name for name in AMUSED if name in options.anchors and name != "aMUSEd-256"]
    losses = {name: _amused_loss(name, options, batch_size) for name in names}
    if "GIT" in options.anchors:
        losses |= {"GIT": _git_loss(GitConfig(), options, batch_size)}
        without = GitConfig(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        losses |= {"GIT, no dropout": _git_loss(without, options, batch_size)}
    cases = []
    for name, (model, loss) in losses.items():
        for text_name, length in TRAINED_TEXTS.items():
            run = _backward(model, lambda loss=loss, length=length: loss(length), options)
            cases.append(Case(f"train {name}{text_name}", run))
    return cases


def _git_loss(
    config: GitConfig, options: Namespace, batch_size: int
) -> tuple[torch.nn.Module, Callable[[int], torch.Tensor]]:
    """The model, and its loss by the length of a text."""
    git = GitForCausalLM(config).to(options.device).train()
    ids = torch.randint(1000, 30000, (batch_size, max(TRAINED_TEXTS.values())), device=options.device)
    pixels = torch.randn(batch_size, 3, 224, 224, device=options.device)
    return git, lambda length: git(input_ids=ids[:, :length], pixel_values=pixels, labels=ids[:, :length]).loss


def _amused_loss(
    name: str, options: Namespace, batch_size: int
) -> tuple[torch.nn.Module, Callable[[int], torch.Tensor]]:
    """The model, and its loss by the length of a text."""
    model = build_amused(name, options).to(torch.float32).train()
    given = amused_inputs(model, batch_size)
    labels = torch.randint(8192, (batch_size, 16, 16), device=options.device)

    def loss(length: int) -> torch.Tensor:
        texts = given["encoder_hidden_states"][:, :length]
        return F.cross_entropy(model(**given | {"encoder_hidden_states": texts}), labels)

    return model, loss


# Updates


def update_cases(options: Namespace, batch_size: int) -> list[Case]:
    """Losses and gradients of the tiny preset on pairs, alone and in whole updates: clipping, a step of the optimizer
    and of the average.

    Args:
        options (`Namespace`): Of the command line; in float32, whatever type it names.
        batch_size (`int`): Times the rows of `UPDATE`.

    Returns:
        `list[Case]`: `"tiny losses"`, and one case for each of `OPTIMIZERS`.
    """
    tiny = Namespace(**vars(options) | {"preset": "tiny", "dtype": torch.float32})
    update = UPDATE | {"batch_size": UPDATE["batch_size"] * batch_size}
    cases = []
    for optimizer_name in (None, *OPTIMIZERS):
        model = build_model(tiny, options.compile, dropout=0.0).train()
        work = Workload(model.config, **update)
        # The shares of the recipe: losses on fewer rows are the cheaper side of the ratio.
        losses = build_objectives(work, PAIRED, options.device, i2t_batch_fraction=0.5, i2i_batch_fraction=0.125)
        loss = loss_function(model, losses, work, options.device)
        if optimizer_name is None:
            cases.append(Case("tiny losses", _backward(model, loss, tiny)))
        else:
            cases.append(Case(f"tiny update, {optimizer_name}", _updating(model, loss, optimizer_name)))
    return cases


def _updating(model: torch.nn.Module, loss: Callable[[], torch.Tensor], optimizer_name: str) -> Callable[[], None]:
    adamw = torch.optim.AdamW, {"lr": 1e-3}
    muon = optimizer_name == "Muon"
    optimizer = create_muon(model, 1e-2, 0.03, adamw) if muon else torch.optim.AdamW(model.parameters(), lr=1e-3)
    average = EMAModel(model.parameters(), decay=0.995, use_ema_warmup=True, power=0.75)

    def run():
        loss().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.step(model.parameters())
        model.zero_grad(set_to_none=True)

    return run


# Growth


def growth_cases(options: Namespace, batch_size: int) -> list[Case]:
    """One pass over images of more and more tokens, and over more and more images, none of them dropped, all of them
    predicted; FLOPs are counted."""
    cases = [_growth_case(options, side, batch_size, f"pass of {side} x {side} tokens") for side in GRID_SIDES]
    side = GRID_SIDES[1]
    counts = {count: f"pass of {count} image{'s' * (count > 1)}" for count in IMAGE_COUNTS}
    return cases + [_growth_case(options, side, count, name) for count, name in counts.items()]


def _growth_case(options: Namespace, side: int, batch_size: int, name: str) -> Case:
    config = build_config(options)
    config.image_grid = (side, side)
    torch.manual_seed(options.seed)
    model = ITITForPreTraining(config).to(options.device, options.dtype).eval()
    every = torch.arange(side * side, device=options.device).expand(batch_size, -1)
    texts = random_texts(model, batch_size, 64, 64)
    inputs = {"image_token_ids": every % config.codebook_size, "image_mask": ImageMask(every % 2 == 0)}
    inputs |= {"text_condition": TextCondition(texts[0]), "logit_positions": every}
    run = torch.no_grad()(lambda: model(**inputs))
    work = flops.encoder(config, side * side, 64) + flops.text_projection(config, 64)
    work += flops.feature_projection(config, side * side + 64) + flops.image_decoder(config, 64, side * side)
    return Case(name, run, batch_size * work)


GROUPS = {
    "generate": generate_cases,
    "caption": caption_cases,
    "train": train_cases,
    "update": update_cases,
    "growth": growth_cases,
}
