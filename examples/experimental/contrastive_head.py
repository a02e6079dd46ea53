# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Experimental, after CoCa: a contrastive loss beside the others, so that one net generates, captions and searches.

    python examples/experimental/contrastive_head.py --dataset path/to/pairs --held_out path/to/others \
        --model out/itit/pipeline --objectives i2t t2i i2i --output_dir out/contrastive

An image is encoded as for its caption, with the null text; a text without an image. The means of what the joint
encoder says of each are projected, and told apart within the batch by ALIGN's loss. It prints how many of the held-out
pairs find each other, before and after, and writes the pipeline and the head. CoCa pools by attention; here it is the
mean. One process only: the head is called beside the wrapped model.
"""

import logging
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from datasets import Dataset
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from transformers import set_seed

from itit_hf import ITITPipeline, ITITTrainer, ITITTrainingArguments
from itit_hf.data.image_tokens import add_image_token_ids
from itit_hf.data.loading import load_rows, parse_columns, source_name
from itit_hf.data.streams import STREAM_COLUMNS
from itit_hf.metrics.retrieval import recall_at_k
from itit_hf.models.types_itit import ImageMask, TextCondition
from itit_hf.objectives.forward import image_of
from itit_hf.rewards.dual_encoder import contrastive_loss
from itit_hf.training.training_args import parse_arguments

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where data_curation is

from data_curation.filters import texts_of

logger = logging.getLogger(__name__)

HEAD_FILE = "contrastive_head.safetensors"
PAIRS_AT_A_TIME = 64


@dataclass
class ScriptArguments:
    """What this script needs besides [`ITITTrainingArguments`].

    Args:
        dataset (`str`): Folder, pattern of files or Hub id with `image` and `text`.
        split (`str`, *optional*): Its split, or a part of it.
        held_out (`str`, *optional*): Pairs that are never trained on; by default the same dataset.
        held_out_split (`str`, *optional*): Its split, or a part of it.
        columns (`list[str]`): What the columns of both are called, such as `image=photo text=alt`.
        bad_captions (`str`): What to do about captions that are none: raise, or skip, which leaves them out.
        model (`str`): Pipeline folder or Hub id to start from.
        embed_dim (`int`): Length of an embedding.
        contrastive_coef (`float`): Weight of the contrastive loss; half that of captioning, as in CoCa.
    """

    dataset: str = field(metadata={"help": "Pairs."})
    split: str | None = None
    held_out: str | None = None
    held_out_split: str | None = None
    columns: list[str] = field(default_factory=list)
    bad_captions: str = "raise"
    model: str = "checkpoints/emoji-scenes-64"
    embed_dim: int = 64
    contrastive_coef: float = 0.5


class ContrastiveHead(nn.Module):
    """Two projections of the joint encoder's features, and sigma.

    Args:
        hidden_size (`int`): Width of the encoder.
        embed_dim (`int`): Length of an embedding.
    """

    def __init__(self, hidden_size: int, embed_dim: int):
        super().__init__()
        self.project_image = nn.Linear(hidden_size, embed_dim, bias=False)
        self.project_text = nn.Linear(hidden_size, embed_dim, bias=False)
        self.temperature = nn.Parameter(torch.tensor(1.0))  # as ALIGN

    def embed_images(self, model, image: dict[str, torch.Tensor]) -> torch.Tensor:
        """Whole images, by the names of the model's arguments -> `(batch_size, embed_dim)`, of length 1."""
        embeds = model.model.embed_conditioning_image(**image)  # (B, K, H)
        hidden = model.model(image_token_embeds=embeds).last_hidden_state[:, : embeds.size(1)]  # (B, K, H)
        return F.normalize(self.project_image(hidden.mean(dim=1)), dim=-1)

    def embed_texts(self, model, text_embeds: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Features of the text encoder `(batch_size, text_length, text_hidden_size)` -> `(batch_size, embed_dim)`, of
        length 1; the encoder is given no image."""
        ids = torch.zeros(len(text_embeds), model.config.num_image_tokens, dtype=torch.long, device=text_embeds.device)
        no_image = ImageMask(torch.ones_like(ids, dtype=torch.bool), encoder_positions=ids[:, :0])
        text = TextCondition(text_embeds, attention_mask)
        hidden = model.model(ids, no_image, text).last_hidden_state  # (B, L, H)
        counted = attention_mask[..., None].to(hidden.dtype)
        return F.normalize(self.project_text((hidden * counted).sum(dim=1) / counted.sum(dim=1)), dim=-1)


class ContrastiveTrainer(ITITTrainer):
    """[`ITITTrainer`] with a loss `contrastive` of the pairs; the head is `model.contrastive_head`.

    Args:
        contrastive_coef (`float`): Weight of that loss.
        options: Arguments of [`ITITTrainer`].
    """

    def __init__(self, contrastive_coef: float, **options):
        self.contrastive_coef = contrastive_coef
        super().__init__(**options)

    def loss_weight(self, name: str) -> float:
        """What a loss counts in the sum."""
        return self.contrastive_coef if name == "contrastive" else super().loss_weight(name)

    def embed(self, model, paired: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and texts of pairs, each `(batch_size, embed_dim)`; see [`ITITObjectives`] for `paired`."""
        text = {name: paired[name] for name in ("input_ids", "attention_mask")}
        features = self.text_encoder(**text).last_hidden_state  # (B, L, E)
        head = model.contrastive_head
        images = head.embed_images(model, image_of(paired))
        return images, head.embed_texts(model, features, text["attention_mask"])

    def named_losses(self, model, inputs) -> dict[str, torch.Tensor]:
        """Also `contrastive`, scalars of shape `()`."""
        images, texts = self.embed(model, inputs["paired"])
        logits = images @ texts.T / model.contrastive_head.temperature
        return super().named_losses(model, inputs) | {"contrastive": contrastive_loss(logits)}

    @torch.no_grad()
    def recall(self, pairs: Dataset) -> dict[str, float]:
        """How many images find a text of their own first, and the other way round; texts that are the same count as
        one."""
        self.model.eval()
        first = [texts_of(row)[0] for row in pairs.select_columns("text")]
        samples = [("paired", row | {"text": text, "sample_index": 0}) for row, text in zip(pairs, first, strict=True)]
        chunks = [samples[start : start + PAIRS_AT_A_TIME] for start in range(0, len(samples), PAIRS_AT_A_TIME)]
        batches = [self._prepare_inputs(self.data_collator(chunk))["paired"] for chunk in chunks]
        images, texts = (torch.cat(side) for side in zip(*(self.embed(self.model, b) for b in batches), strict=True))
        cosines = (images @ texts.T).float().cpu()  # (N, N)
        own = torch.tensor([[a == b for b in first] for a in first])
        figures = {}
        for k in (1, 5):
            figures[f"image_to_text_r{k}"] = recall_at_k(cosines, own, (k,))[f"recall_at_{k}"]
            figures[f"text_to_image_r{k}"] = recall_at_k(cosines.T, own.T, (k,))[f"recall_at_{k}"]
        return figures


def open_pairs(dataset: str, split: str | None, args: ScriptArguments, on_bad_image: str, processor) -> Dataset:
    """Pairs with their images as token ids."""
    columns = parse_columns(args.columns, "--columns")
    rows = load_rows(dataset, split, columns, needed=STREAM_COLUMNS["paired"], bad_captions=args.bad_captions)
    return add_image_token_ids(rows, processor, on_bad_image=on_bad_image, name=split or source_name(dataset))


def main(arguments: list[str] | None = None) -> tuple[dict, dict]:
    """Load, train, search, write; what was found before and after."""
    args, training_args = parse_arguments([ScriptArguments, ITITTrainingArguments], arguments)
    if training_args.world_size > 1:
        raise ValueError(f"the contrastive head trains in one process, got {training_args.world_size}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    set_seed(training_args.seed)
    pipe = ITITPipeline.from_pretrained(args.model)
    on_bad_image = training_args.on_bad_image
    pairs = open_pairs(args.dataset, args.split, args, on_bad_image, pipe.processor)
    held_out_source = args.held_out or args.dataset
    held_out = open_pairs(held_out_source, args.held_out_split, args, on_bad_image, pipe.processor)
    model = pipe.model
    model.contrastive_head = ContrastiveHead(model.config.hidden_size, args.embed_dim)
    trainer = ContrastiveTrainer(
        contrastive_coef=args.contrastive_coef,
        model=model,
        args=training_args,
        processing_class=pipe.processor,
        text_encoder=pipe.text_encoder,
        train_streams={"paired": pairs},
        eval_dataset=held_out,
        scheduler=pipe.scheduler,
    )
    before = trainer.recall(held_out) | trainer.evaluate()
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    after = trainer.recall(held_out) | trainer.evaluate()
    for name in [name for name in before if "_to_" in name or name.startswith("eval_loss_")]:
        logger.info(f"held-out {name}: {before[name]:.3f} -> {after[name]:.3f}")
    folder = os.path.join(training_args.output_dir, "pipeline")
    weights = {name: weight.detach().contiguous() for name, weight in model.contrastive_head.state_dict().items()}
    del model.contrastive_head  # a pipeline holds the modules that it knows
    pipe.save_pretrained(folder)
    save_file(weights, os.path.join(training_args.output_dir, HEAD_FILE))
    logger.info(f"pipeline: {folder}   head: {HEAD_FILE}")
    return before, after


if __name__ == "__main__":
    main()
