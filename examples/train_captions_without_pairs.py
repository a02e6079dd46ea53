# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Learn to caption images without a single pair: from images, sentences that belong to none of them, and a dual
encoder that was trained elsewhere (the setting of CgT-GAN).

    accelerate launch examples/train_captions_without_pairs.py

First the model learns to write, by teacher forcing on the sentences of the corpus: each image is given one of them,
by `--start`, either at random, which tells nothing of what it shows, or the nearest by the dual encoder. Then it is
rewarded: by the dual encoder, and for naturalness, by a discriminator that learns beside it. In the end captions of
unseen scenes are read by the grammar of the emoji scenes; `results.json` has all figures, before and after, beside
those of the corpus.
"""

import copy
import json
import logging
import os
import random
from dataclasses import dataclass, field

import torch
from datasets import Dataset
from transformers import set_seed

from itit_hf import DualEncoderScorer, ITITRewardConfig, ITITRewardTrainer, ITITScheduler, ITITTrainer
from itit_hf.commands.train import choose_sample_prompts, create_model, load_frozen_parts, load_streams
from itit_hf.data.captions import captions_of
from itit_hf.emoji_scenes.build import load_config
from itit_hf.emoji_scenes.evaluation import caption_accuracy
from itit_hf.emoji_scenes.scenes import Scene
from itit_hf.metrics.captions import bad_endings, caption_diversity, caption_scores, tokenize_caption
from itit_hf.rewards.captions import add_image_embeds
from itit_hf.rewards.dual_encoder import search
from itit_hf.training.training_args import parse_arguments
from train_rewards import CAPTION_REWARDS, RewardArguments, create_rewards, streams_of_training, texts_of

logger = logging.getLogger(__name__)

STARTS = ("random", "nearest")
IMAGES_AT_A_TIME = 100


@dataclass
class PairlessArguments(RewardArguments):
    """What this script needs besides [`RewardArguments`].

    Args:
        start (`str`): Which sentence an image is given at the start: `"random"` or `"nearest"`.
        start_steps (`int`): Updates of teacher forcing.
        start_learning_rate (`float`): Their peak rate, of AdamW.
        start_muon_learning_rate (`float`, *optional*): Of the blocks' matrices by Muon.
        num_scenes (`int`): Unseen scenes that captions are judged on.
    """

    rewards: list[str] = field(default_factory=lambda: ["clip_agg", "naturalness"])
    start: str = "nearest"
    start_steps: int = 400
    start_learning_rate: float = 3e-3
    start_muon_learning_rate: float | None = 1e-2
    num_scenes: int = 500


def give_sentences(args: PairlessArguments, images: Dataset, corpus: list[str], seed: int) -> Dataset:
    """Each image with a sentence of the corpus, which was not written for it."""
    if args.start not in STARTS:
        raise ValueError(f"`start` must be one of {STARTS}, got {args.start!r}")
    if args.start == "random":
        texts = random.Random(seed).choices(corpus, k=len(images))
    else:
        scorer = DualEncoderScorer.from_pretrained(args.dual_encoder)
        embeds = torch.tensor(add_image_embeds(images, scorer)["image_embeds"][:])  # (N, D)
        different = list(dict.fromkeys(corpus))
        _, nearest = search(embeds, scorer.embed_texts(different), top_k=1)
        texts = [different[i] for i in nearest[:, 0].tolist()]
    return Dataset.from_dict({"image_token_ids": images["image_token_ids"], "text": texts})


def language_of(args: PairlessArguments, scenes: Dataset) -> str:
    """The language of the captions; emoji scenes that are built if no dataset is given have English ones."""
    if args.paired_dataset is None or "scene" not in scenes.column_names:
        return "en"
    return load_config(args.paired_dataset).language


@torch.no_grad()
def judge(trainer: ITITTrainer, scenes: Dataset, seed: int, language: str) -> dict[str, float]:
    """Figures of greedy captions of unseen scenes, and of sampled ones what tells how varied and whole they are."""
    model = trainer.model.eval()
    processor = trainer.processing_class
    captions: dict[str, list[str]] = {"greedy": [], "sampled": []}
    torch.manual_seed(seed)
    with trainer.averaged_weights():
        for ids in torch.tensor(scenes["image_token_ids"][:]).split(IMAGES_AT_A_TIME):
            for name, texts in captions.items():
                options = {"num_beams": 1, "do_sample": name == "sampled", "top_k": 0, "max_new_tokens": 20}
                out = model.generate(image_token_ids=ids.to(model.device), **options)
                texts += processor.batch_decode(out[:, model.config.num_prefix_tokens + 1 :])
    references = [captions_of(texts) for texts in scenes["text"]]
    figures = {"cider_d": caption_scores(captions["greedy"], references)["cider_d"]}
    for name, texts in captions.items():
        found = variety(texts)
        if "scene" in scenes.column_names:
            found |= caption_accuracy(texts, [Scene.from_json(text) for text in scenes["scene"]], language)
        figures |= {f"{name}/{key}": value for key, value in found.items()}
    return figures


def variety(texts: list[str]) -> dict[str, float]:
    """How varied sentences are, and how many break off; the first depends on how many there are."""
    words = [tokenize_caption(text) for text in texts]
    diversity = caption_diversity(words)
    figures = {name: diversity[name] for name in ("distinct_1", "distinct_2", "mean_length")}
    return figures | {"bad_endings": bad_endings(words)}


def start_arguments(args: PairlessArguments, training_args: ITITRewardConfig) -> ITITRewardConfig:
    """Those of the teacher forcing."""
    changed = copy.copy(training_args)
    changed.objectives = ["i2t"]
    changed.max_steps = args.start_steps
    changed.learning_rate = args.start_learning_rate
    changed.muon_learning_rate = args.start_muon_learning_rate
    changed.lr_scheduler_type = "cosine"
    changed.output_dir = os.path.join(training_args.output_dir, "start")
    return changed


def main(arguments: list[str] | None = None) -> dict:
    """Load, learn to write, reward, judge; the figures."""
    default_config = os.path.join(os.path.dirname(__file__), "recipes", "rewards", "without_pairs.yaml")
    args, training_args = parse_arguments([PairlessArguments, ITITRewardConfig], arguments, default_config)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    set_seed(training_args.seed)
    choose_sample_prompts(args, training_args)
    text_encoder, processor = load_frozen_parts(args)
    streams, unseen = load_streams(args, ["image", "text"], processor, data_seed=training_args.data_seed_or_seed)
    if unseen is None:
        raise ValueError("`eval_split` must name the pairs of `paired_dataset` that captions are judged on, got none")
    unseen = unseen.select(range(min(args.num_scenes, len(unseen))))
    corpus = texts_of(streams)
    language = language_of(args, unseen)
    model = create_model(args, text_encoder, processor)
    temperature = 32.0 if training_args.sample_temperature is None else training_args.sample_temperature
    scheduler = ITITScheduler(mask_token_id=model.config.mask_token_id, temperature=temperature)
    modules = {"model": model, "processing_class": processor, "text_encoder": text_encoder, "scheduler": scheduler}
    given = give_sentences(args, streams["image"], corpus, training_args.seed)
    trainer = ITITTrainer(args=start_arguments(args, training_args), train_streams={"paired": given}, **modules)
    trainer.train()
    sample = random.Random(training_args.seed).sample(corpus, k=min(len(unseen), len(corpus)))
    results = {"corpus": variety(sample), "start": judge(trainer, unseen, training_args.seed, language)}
    if trainer.ema is not None:
        trainer.ema.average.copy_to(model.parameters())
    rewards = create_rewards(args, streams, processor, CAPTION_REWARDS)
    streams["paired"] = given  # the objectives go on with what was given at the start
    read = {name: streams[name] for name in streams_of_training(args, training_args)}
    trainer = ITITRewardTrainer(reward_funcs=rewards, args=training_args, train_streams=read, **modules)
    trainer.train()
    results["rewarded"] = judge(trainer, unseen, training_args.seed, language)
    trainer.save_pipeline(os.path.join(training_args.output_dir, "pipeline"))
    with open(os.path.join(training_args.output_dir, "results.json"), "w", encoding="utf-8") as file:
        json.dump({"settings": vars(args), "results": results}, file, indent=2)
    logger.info(json.dumps(results, indent=2))
    return results


if __name__ == "__main__":
    main()
