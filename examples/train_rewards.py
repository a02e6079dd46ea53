# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Fine-tune a trained ITIT on rewards: captions by policy gradient, images by the gradient of the reward.

CIDEr-D against the captions of the training pairs (self-critical sequence training), from a checkpoint of
examples/train_itit.py:

    accelerate launch examples/train_rewards.py --model_name_or_path out/mine/pipeline/model \
        --paired_dataset path/to/images --output_dir out/mine-cider

Images that a dual encoder, such as any CLIP of the Hub, finds closer to their texts:

    accelerate launch examples/train_rewards.py --config examples/recipes/rewards/clip_image.yaml \
        --dual_encoder openai/clip-vit-base-patch32 --model_name_or_path out/mine/pipeline/model \
        --paired_dataset path/to/images --output_dir out/mine-clip

The recipes of examples/recipes/rewards/ have settings for the emoji scenes. A reward of your own needs a few lines of
Python: see docs/rewards.md.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from transformers import set_seed

from itit_hf import (
    CiderD,
    ClipAgg,
    ClipCos,
    ClipImageReward,
    DiscriminatorReward,
    DualEncoderScorer,
    ITITRewardConfig,
    ITITRewardTrainer,
    ITITScheduler,
)
from itit_hf.commands.train import (
    ScriptArguments,
    choose_sample_prompts,
    create_model,
    load_frozen_parts,
    load_streams,
)
from itit_hf.objectives.objectives import OBJECTIVES
from itit_hf.rewards.captions import add_image_embeds
from itit_hf.training.training_args import parse_arguments

logger = logging.getLogger(__name__)

CAPTION_REWARDS = ("cider_d", "clip_cos", "clip_agg", "naturalness")
IMAGE_REWARDS = ("clip_image",)


@dataclass
class RewardArguments(ScriptArguments):
    """What this script needs besides [`ScriptArguments`].

    Args:
        rewards (`list[str]`): Of `CAPTION_REWARDS`, or of `IMAGE_REWARDS` with `--direction t2i`.
        dual_encoder (`str`): Folder or Hub id of the judge of the rewards that begin with clip.
        agg_temperature (`float`): Temperature of `clip_agg`.
        naturalness_learning_rate (`float`): Of the discriminator of `naturalness`.
        image_template (`str`): Sentence around a text for `clip_image`.
    """

    rewards: list[str] = field(default_factory=lambda: ["cider_d"])
    dual_encoder: str = "checkpoints/emoji-scenes-dual-encoder"
    agg_temperature: float = 100.0
    naturalness_learning_rate: float = 1e-3
    image_template: str = "{}"


def texts_of(streams: dict) -> list[str]:
    """The corpus: all sentences of the stream of texts, or else of the pairs."""
    rows = streams["text"] if "text" in streams else streams["paired"]
    return [text for texts in rows["text"] for text in ([texts] if isinstance(texts, str) else texts)]


def streams_of_training(args: RewardArguments, training_args: ITITRewardConfig) -> list[str]:
    """Names of the streams that the trainer reads."""
    names = [training_args.reward_stream]
    if training_args.ce_interval:
        names += [OBJECTIVES[objective].stream for objective in training_args.objectives]
    if "naturalness" in args.rewards and training_args.reward_stream != "paired":
        names.append("text")
    return list(dict.fromkeys(names))


def create_rewards(args: RewardArguments, streams: dict, processor, known: tuple[str, ...]) -> list[Callable]:
    """The rewards by name."""
    unknown = [name for name in args.rewards if name not in known]
    if unknown or not args.rewards:
        raise ValueError(f"`rewards` must name some of {known} for this direction, got {args.rewards}")
    scorer = None
    if any(name.startswith("clip") for name in args.rewards):
        scorer = DualEncoderScorer.from_pretrained(args.dual_encoder)
    create = {
        "cider_d": lambda: CiderD(streams["paired"]["text"], processor.tokenizer.eos_token_id),
        "clip_cos": lambda: ClipCos(scorer),
        "clip_agg": lambda: ClipAgg.from_texts(scorer, texts_of(streams), args.agg_temperature),
        "naturalness": lambda: DiscriminatorReward.small(processor.tokenizer, args.naturalness_learning_rate),
        "clip_image": lambda: ClipImageReward(scorer, args.image_template),
    }
    rewards = [create[name]() for name in args.rewards]
    if scorer is not None and "clip_image" not in args.rewards:  # images are embedded once
        for name in set(streams) - {"text"}:
            streams[name] = add_image_embeds(streams[name], scorer)
    return rewards


def main(arguments: list[str] | None = None):
    """Load, build, train, save."""
    default_config = os.path.join(os.path.dirname(__file__), "recipes", "rewards", "cider_d.yaml")
    args, training_args = parse_arguments([RewardArguments, ITITRewardConfig], arguments, default_config)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    set_seed(training_args.seed)
    choose_sample_prompts(args, training_args)
    text_encoder, processor = load_frozen_parts(args)
    names = streams_of_training(args, training_args)
    corpus = [] if "paired" in names else ["text"]
    with training_args.main_process_first(desc="data"):
        streams, eval_pairs = load_streams(
            args, [*names, *corpus], processor, data_seed=training_args.data_seed_or_seed
        )
        known = CAPTION_REWARDS if training_args.direction == "i2t" else IMAGE_REWARDS
        rewards = create_rewards(args, streams, processor, known)
    model = create_model(args, text_encoder, processor)
    temperature = 32.0 if training_args.sample_temperature is None else training_args.sample_temperature
    trainer = ITITRewardTrainer(
        model=model,
        reward_funcs=rewards,
        args=training_args,
        processing_class=processor,
        text_encoder=text_encoder,
        train_streams={name: streams[name] for name in names},
        eval_dataset=eval_pairs,
        scheduler=ITITScheduler(mask_token_id=model.config.mask_token_id, temperature=temperature),
    )
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    folder = os.path.join(training_args.output_dir, "pipeline")
    trainer.save_pipeline(folder)
    trainer.samples.log_samples()
    if training_args.push_to_hub:
        trainer.push_to_hub()
    if training_args.should_save:
        logger.info(f"pipeline: {folder}")


if __name__ == "__main__":
    main()
