# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Train an image tokenizer: the small patch-local one, or diffusers' `VQModel`.

With no argument: the tokenizer of the emoji scenes (docs/experiments/image_tokenizers.md has its cost), after
`utils/build_emoji_scenes.py` has built them:

    accelerate launch examples/train_vq.py

Interrupted? It goes on where it was, and ends in the same weights:

    accelerate launch examples/train_vq.py --resume_from_checkpoint

Sharpen the decoder afterwards; the codes, and with them every model trained on them, stay as they are:

    accelerate launch examples/train_vq.py --model_name_or_path out/image_tokenizer --train_decoder_only \
        --gan_weight 0.2 --l2_weight 0.5 --adam_beta1 0.5 --learning_rate 6e-4 --ema_decay 0.995 --max_steps 1400 \
        --output_dir out/image_tokenizer_sharp

A VQGAN on your own images (whatever examples/train_itit.py reads; utils/convert_lpips.py first):

    accelerate launch examples/train_vq.py --tokenizer vqgan --dataset path/to/images --splits train \
        --eval_split test --resolution 256 --perceptual_weight 1 --perceptual_loss lpips-vgg16.safetensors \
        --gan_weight 0.8 --gan_start_step 10000 --max_steps 100000
"""

import json
import logging
import math
import os
from dataclasses import asdict, dataclass, field

import torch
from diffusers import VQModel
from tqdm.auto import tqdm
from transformers import set_seed

from itit_hf import PatchVQModel
from itit_hf.data.loading import load_rows, parse_columns
from itit_hf.data.streams import BAD_IMAGE_POLICIES, readable_images
from itit_hf.models.image_processing_itit import height_and_width
from itit_hf.pretraining.vq_trainer import VQTrainer, VQTrainingArguments
from itit_hf.pretraining.vq_training import ImageDataset, with_new_decoder
from itit_hf.training.training_args import parse_arguments

logger = logging.getLogger(__name__)

TOKENIZER_CLASSES = {"patch": PatchVQModel, "vqgan": VQModel}
NUM_REPORTED = 512  # images of the report

# f = 16 and 1024 codes, as VQGAN's ImageNet model: `--tokenizer_config` changes any of it.
VQGAN_CONFIG = {
    "block_out_channels": [128, 128, 256, 256, 512],
    "layers_per_block": 2,
    "latent_channels": 256,
    "num_vq_embeddings": 1024,
    "lookup_from_codebook": True,
}


@dataclass
class ScriptArguments:
    """What this script needs besides [`VQTrainingArguments`].

    Args:
        tokenizer (`str`): patch or vqgan.
        tokenizer_config (`dict` or `str`, *optional*): JSON, or a file of it, with config values of the tokenizer.
        model_name_or_path (`str`, *optional*): Tokenizer to start from, in place of new weights. With a
            `tokenizer_config` it gets a new decoder.
        dataset (`str`): Folder, pattern of files or Hub id with a column `image`.
        splits (`list[str]`): Its splits for training, or parts of them.
        eval_split (`str`, *optional*): Its split for images and the report; the first training images by default.
        columns (`list[str]`): What the column is called, such as `image=photo`.
        on_bad_image (`str`): What to do about images that cannot be read or exceed the limits: raise, or skip, which
            leaves them out and counts them.
        resolution (`list[int]`): Side of an image in pixels, or height and width.
        aspect_ratio (`str`): What becomes of images that are not square: squeeze, pad or crop.
        max_cache_gb (`float`): Images are decoded once and kept if they fit into so much memory.
    """

    tokenizer: str = field(default="patch", metadata={"help": "patch or vqgan."})
    tokenizer_config: dict | str | None = field(default=None, metadata={"help": "JSON, or a file of it."})
    model_name_or_path: str | None = field(default=None, metadata={"help": "Tokenizer to start from."})
    dataset: str = field(default="data/emoji-scenes-64", metadata={"help": "Folder, pattern of files or Hub id."})
    splits: list[str] = field(default_factory=lambda: ["paired", "image"], metadata={"help": "For training."})
    eval_split: str | None = field(default="validation", metadata={"help": "For images and the report."})
    columns: list[str] = field(default_factory=list, metadata={"help": "Such as image=photo."})
    on_bad_image: str = field(default="raise", metadata={"help": "Images that cannot be read: raise or skip."})
    resolution: list[int] = field(
        default_factory=lambda: [64], metadata={"help": "Side of an image in pixels, or height and width."}
    )
    aspect_ratio: str = field(default="squeeze", metadata={"help": "squeeze, pad or crop."})
    max_cache_gb: float = field(default=2.0, metadata={"help": "Keep images in memory up to this size."})

    def __post_init__(self):
        if self.tokenizer not in TOKENIZER_CLASSES:
            raise ValueError(f"`tokenizer` must be one of {sorted(TOKENIZER_CLASSES)}, got {self.tokenizer!r}")
        if self.on_bad_image not in BAD_IMAGE_POLICIES:
            raise ValueError(f"`on_bad_image` must be one of {BAD_IMAGE_POLICIES}, got {self.on_bad_image!r}")
        if not self.splits:
            raise ValueError("`splits` must name at least one split, got none")
        if height_and_width(self.resolution) is None:
            raise ValueError("`resolution` must be one number, or height and width, got none")


def read_config(value: dict | str | None) -> dict:
    """Config values: a mapping, JSON of one, or a file of that."""
    if value is None or isinstance(value, dict):
        return value or {}
    text = value
    if not text.lstrip().startswith("{"):
        with open(value, encoding="utf-8-sig") as file:
            text = file.read()
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"`tokenizer_config` must be JSON, or a file of it, got {value}: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"`tokenizer_config` must be a mapping of config values, got {value}")
    return config


def create_image_tokenizer(args: ScriptArguments) -> VQModel | PatchVQModel:
    """The tokenizer to start from, with a new decoder if it is to have another shape, or a new one."""
    config = read_config(args.tokenizer_config)
    if args.model_name_or_path is not None:
        name = PatchVQModel.load_config(args.model_name_or_path)["_class_name"]
        tokenizer_class = PatchVQModel if name == "PatchVQModel" else VQModel
        image_tokenizer = tokenizer_class.from_pretrained(args.model_name_or_path)
        return with_new_decoder(image_tokenizer, config) if config else image_tokenizer
    if args.tokenizer == "vqgan":
        config = VQGAN_CONFIG | config
        levels = len(config["block_out_channels"])
        config.setdefault("down_block_types", ["DownEncoderBlock2D"] * levels)
        config.setdefault("up_block_types", ["UpDecoderBlock2D"] * levels)
    return TOKENIZER_CLASSES[args.tokenizer](**config)


def load_images(args: ScriptArguments, show_progress: bool) -> tuple[ImageDataset, torch.Tensor]:
    """Training images, and up to 512 for the report."""
    images = open_images(args, "+".join(args.splits))
    if images.num_bytes <= args.max_cache_gb * 1e9:
        images.cache(lambda numbers: tqdm(numbers, desc="decoding images", disable=not show_progress))
    shown = images if args.eval_split is None else open_images(args, args.eval_split)
    return images, torch.stack([shown[i] for i in range(min(NUM_REPORTED, len(shown)))])


def open_images(args: ScriptArguments, split: str) -> ImageDataset:
    """The images of a split, or of several, `train+extra`."""
    columns = parse_columns(args.columns, "--columns")
    rows = load_rows(args.dataset, split, columns, needed=["image"]).select_columns("image")
    if args.on_bad_image == "skip":
        rows = readable_images(rows, split)
    return ImageDataset(rows, height_and_width(args.resolution), aspect_ratio=args.aspect_ratio, name=split)


def main(arguments: list[str] | None = None):
    """Load, build, train, save."""
    args, training_args = parse_arguments([ScriptArguments, VQTrainingArguments], arguments)
    if training_args.train_decoder_only and args.model_name_or_path is None:
        raise ValueError("`train_decoder_only` needs `model_name_or_path`: new codes are not worth keeping")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    set_seed(training_args.seed)
    with training_args.main_process_first(desc="images"):
        images, shown = load_images(args, training_args.local_process_index == 0)
    trainer = VQTrainer(
        image_tokenizer=create_image_tokenizer(args),
        args=training_args,
        train_dataset=images,
        shown=shown,
        new_codes=args.model_name_or_path is None,
    )
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    report = trainer.finish()
    if training_args.should_save:
        logger.info("  ".join(f"{name} {value:.4g}" for name, value in report.items()))
        with open(os.path.join(training_args.output_dir, "report.json"), "w", encoding="utf-8") as file:
            report = {name: None if math.isnan(value) else value for name, value in report.items()}  # JSON has no NaN
            settings = asdict(args) | json.loads(training_args.to_json_string())
            json.dump({"report": report, "arguments": settings}, file, indent=2)
        logger.info(f"image tokenizer: {os.path.abspath(training_args.output_dir)}")


if __name__ == "__main__":
    main()
