# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""R12, R13: numbers that are not finite end in a named error, never in saved weights or in ids that do not exist."""

import json
import math
from dataclasses import replace

import pytest
import torch

from itit_hf.decoding.sampling import SamplingSettings, decode_image_tokens
from itit_hf.models.types_itit import TextCondition
from itit_hf.training.checkpointing import find_checkpoint

from ..testing_utils import tiny_pipeline
from .harness import make_trainer

OBJECTIVES = ["t2i", "i2t", "i2i", "t2t", "t2i2t", "i2t2i"]
CYCLE = {"objectives": OBJECTIVES, "synthesis_steps": 2, "synthesis_max_new_tokens": 3}
BAD_STEP, LAST_STEP = 2, 3


class SpoiledObjectives:
    """Objectives with one loss, or all, times something that is not finite."""

    def __init__(self, objectives, spoil):
        self.objectives, self.spoil = objectives, spoil

    def __getattr__(self, name):
        return getattr(self.objectives, name)

    def __call__(self, model, batch):
        return self.spoil(self.objectives(model, batch))


def spoil_loss(trainer, bad, when, objective=None):
    def spoil(losses):
        if not when(trainer):
            return losses
        return {name: loss * bad if objective in (None, name) else loss for name, loss in losses.items()}

    trainer.objectives = SpoiledObjectives(trainer.objectives, spoil)


def spoil_gradient(trainer, bad, when):
    parameter = next(iter(trainer.model.parameters()))
    parameter.register_hook(lambda gradient: gradient + bad if when(trainer) else gradient)


def spoil_weight(trainer, bad, when):
    def spoil(trainer):
        if when(trainer):
            with torch.no_grad():
                next(iter(trainer.model.parameters())).view(-1)[0] = bad

    trainer.before_micro_batch = spoil


def spoil_batch(trainer, bad, when):
    """Features of the text that are not finite, as a broken text encoder would give them."""
    encode = trainer.objectives.encode_text

    def encode_badly(batch):
        text_condition = encode(batch)
        return replace(text_condition, embeds=text_condition.embeds * (bad if when(trainer) else 1.0))

    trainer.objectives.encode_text = encode_badly


PLACES = {"loss": spoil_loss, "gradient": spoil_gradient, "weight": spoil_weight, "batch": spoil_batch} | {
    objective: lambda trainer, bad, when, objective=objective: spoil_loss(trainer, bad, when, objective)
    for objective in OBJECTIVES
}
CASES = [(place, bad, False) for place in PLACES for bad in (math.nan, math.inf)]
CASES += [(place, math.nan, True) for place in ("loss", "gradient", "batch", "i2t")]  # from then on, each update


@pytest.mark.figure(name="R12")
@pytest.mark.parametrize(("place", "bad", "stays"), CASES)
def test_what_is_not_finite_is_left_out_or_ends_the_run(place, bad, stays, tmp_path, figure):
    options = dict(CYCLE) if place in OBJECTIVES[3:] else {}
    options |= {"max_skipped_steps": 1, "gradient_accumulation_steps": 1}
    trainer = make_trainer(tmp_path, stop_after=LAST_STEP, **options)

    def when(trainer):
        step = trainer.state.global_step + 1
        return step == BAD_STEP or (stays and step > BAD_STEP)

    PLACES[place](trainer, bad, when)
    stops = stays or place == "weight"
    if stops:
        with pytest.raises(FloatingPointError, match="not finite"):
            trainer.train()
    else:
        trainer.train()
    found, _ = find_checkpoint(str(tmp_path))
    good = (BAD_STEP - 1 if place == "weight" else BAD_STEP) if stops else LAST_STEP
    noted = json.loads((tmp_path / "bad_batch.json").read_text())
    held = found == str(tmp_path / f"checkpoint-{good}")
    held &= noted[0]["step"] == BAD_STEP and len(noted[0]["processes"][0]["rows"]["paired"]) == 2
    if place != "weight":
        held &= all(bool(p.isfinite().all()) for p in trainer.model.parameters())
        shown = [entry["loss"] for entry in trainer.state.log_history if entry["step"] == BAD_STEP and "loss" in entry]
        norms = [e["grad_norm"] for e in trainer.state.log_history if e["step"] == BAD_STEP and "grad_norm" in e]
        held &= not all(map(math.isfinite, shown + norms))
    figure(int(held), 1)


FILLS = {"nan": math.nan, "+inf": math.inf, "-inf": -math.inf, "equal": 0.0, "1e30": 1e30, "fp16": 65504.0}


def spoil_logits(logits: torch.Tensor, fill: float, everywhere: bool) -> torch.Tensor:
    """Logits as a broken model gives them: all of them, or those of one class."""
    logits = logits.clone()
    logits[..., slice(0, 23) if everywhere else 3] = fill  # 23 codes, and of 40 words the first
    return logits


def spoil_text(pipe, fill, everywhere):
    logits = type(pipe.model.text_decoder).logits
    decoder = pipe.model.text_decoder
    decoder.logits = lambda hidden: spoil_logits(logits(decoder, hidden), fill, everywhere)


def spoil_image(pipe, fill, everywhere):
    pipe.model.image_decoder.register_forward_hook(lambda *call: spoil_logits(call[-1], fill, everywhere))


def draw(pipe, guidance_scale, temperature):
    embeds, mask = pipe.encode_prompt(["a red bus", "fish"])
    ids = decode_image_tokens(
        pipe.model,
        TextCondition(embeds, mask),
        pipe.scheduler,
        SamplingSettings(num_inference_steps=8, guidance_scale=guidance_scale, temperature=temperature),
        generator=torch.Generator().manual_seed(0),
    )
    return ids, pipe.model.config.codebook_size


def say(pipe, num_beams):
    ids = pipe.model.generate(
        image_token_ids=torch.zeros(2, 16, dtype=torch.long), num_beams=num_beams, do_sample=False, max_new_tokens=6
    )
    return ids[:, pipe.model.config.num_prefix_tokens + 1 :], pipe.model.config.num_text_tokens


WAYS = {
    "text": (spoil_text, lambda pipe: say(pipe, 1)),
    "beam": (spoil_text, lambda pipe: say(pipe, 4)),
    "image": (spoil_image, lambda pipe: draw(pipe, 1.0, 2.0)),
    "guided image": (spoil_image, lambda pipe: draw(pipe, 3.0, 32.0)),
}


@pytest.mark.figure(name="R13")
@pytest.mark.parametrize("way", WAYS)
def test_broken_logits_are_a_named_error_or_valid_ids(way, figure):
    spoil, decode = WAYS[way]
    held = 0
    for fill in FILLS.values():
        for everywhere in (True, False):
            pipe = tiny_pipeline()
            spoil(pipe, fill, everywhere)
            try:
                ids, limit = decode(pipe)
                held += bool(((ids >= 0) & (ids < limit)).all()) and math.isfinite(fill)
            except ValueError as error:
                held += "logits that are not finite" in str(error) and not math.isfinite(fill)
    figure(held, 12)
