# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Does a text encoder say at a noun what colour its thing has? In scenes of two things it must, or a model exchanges
the colours of "a red bus left of a blue tree":

    python utils/studies/probe_text_encoder.py --text_encoder out/text_encoder --dataset data/emoji-scenes-two

A ridge regression from the features at the last token of a noun to the colour of its thing, fitted on captions of
`paired` and judged on those of other splits. Beside it the same of random weights: what the architecture gives.
"""

import json
import logging
from argparse import ArgumentParser

import torch
from transformers import AutoModelForTextEncoding, AutoTokenizer

from itit_hf.data.loading import load_rows
from itit_hf.emoji_scenes.build import load_config
from itit_hf.emoji_scenes.scenes import Scene

logger = logging.getLogger(__name__)


@torch.no_grad()
def noun_features(text_encoder, tokenizer, rows, colours: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Features at the nouns of the first two captions of each scene of two categories, and the colours of the things.

    Args:
        text_encoder (`torch.nn.Module`): Called as transformers' `T5EncoderModel`.
        tokenizer (`PreTrainedTokenizerFast`): Its tokenizer, which must know where a token stands in the text.
        rows (`datasets.Dataset`): Emoji scenes in English, with `text` and `scene`.
        colours (`tuple[str, ...]`): The colours of the world, in the order of the labels.

    Returns:
        `tuple[torch.FloatTensor, torch.LongTensor]` of shapes `(num_nouns, text_hidden_size)` and `(num_nouns,)`.

    Raises:
        ValueError: If no scene has two categories.
    """
    features = []
    labels = []
    for texts, fact in zip(rows["text"], rows["scene"], strict=True):
        things = Scene.from_json(fact).objects
        if len({thing.category for thing in things}) < 2:
            continue
        for text in texts[:2]:
            read = tokenizer(text, return_offsets_mapping=True, return_tensors="pt")
            (hidden,) = text_encoder(input_ids=read.input_ids).last_hidden_state  # (L, C)
            for thing in things:
                end = text.index(thing.category) + len(thing.category)
                ends = read.offset_mapping[0, :, 1].tolist()  # the end of sequence stands at 0
                features.append(hidden[ends.index(end)])
                labels.append(colours.index(thing.colour))
    if not features:
        raise ValueError("`rows` must hold scenes of two different categories, got none")
    return torch.stack(features), torch.tensor(labels)


def ridge_accuracy(fitted: tuple, judged: tuple, num_classes: int, penalty: float = 1.0) -> float:
    """Share of `judged` that a ridge regression fitted on `fitted` names right; each is features and labels."""
    inputs, labels = fitted
    others, truth = judged
    mean = inputs.mean(dim=0)
    deviation = inputs.std(dim=0).clamp(min=1e-5)
    inputs, others = (torch.nn.functional.pad((x - mean) / deviation, (0, 1), value=1.0) for x in (inputs, others))
    targets = torch.nn.functional.one_hot(labels, num_classes).float()
    gram = inputs.T @ inputs + penalty * torch.eye(inputs.size(1))
    weight = torch.linalg.solve(gram, inputs.T @ targets)  # (C + 1, num_classes)
    return ((others @ weight).argmax(dim=-1) == truth).float().mean().item()


def main(arguments: list[str] | None = None) -> dict:
    """Probe trained and random weights, log, and write JSON if asked."""
    parser = ArgumentParser(description="Probe what a text encoder knows of colours at nouns.")
    parser.add_argument("--text_encoder", required=True, help="Folder or Hub id of the encoder with its tokenizer.")
    parser.add_argument("--dataset", required=True, help="Folder of emoji scenes of two things, in English.")
    parser.add_argument("--splits", nargs="+", default=["validation", "heldout"], help="Splits to judge on.")
    parser.add_argument("--num_rows", type=int, default=3000, help="Rows of `paired` to fit on.")
    parser.add_argument("--output", help="JSON file for the shares.")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = load_config(options.dataset)
    if config.language != "en":
        raise ValueError(f"`dataset` must be in English, its nouns are looked for; got {config.language!r}")
    tokenizer = AutoTokenizer.from_pretrained(options.text_encoder)
    trained = AutoModelForTextEncoding.from_pretrained(options.text_encoder, dtype=torch.float32).eval()
    torch.manual_seed(0)
    encoders = {"trained": trained, "random": type(trained)(trained.config).eval()}
    paired = load_rows(options.dataset, "paired")
    paired = paired.select(range(min(options.num_rows, len(paired))))
    splits = {split: load_rows(options.dataset, split) for split in options.splits}
    shares = {}
    for name, text_encoder in encoders.items():
        fitted = noun_features(text_encoder, tokenizer, paired, config.colours)
        for split, rows in splits.items():
            judged = noun_features(text_encoder, tokenizer, rows, config.colours)
            share = shares[f"{name}/{split}"] = ridge_accuracy(fitted, judged, len(config.colours))
            logger.info(f"{name} weights, {split}: {share:.3f} of {len(judged[1])} nouns with their colour")
    if options.output:
        with open(options.output, "w", encoding="utf-8") as file:
            json.dump({"settings": vars(options), "shares": shares}, file)
    return shares


if __name__ == "__main__":
    main()
