# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Train a dual encoder on captioned images: the judge that rewards, filters, re-ranks and measures (`scorers.py`).

With no argument: a small ALIGN from nothing on the emoji scenes, on one CPU core. That is how
`checkpoints/emoji-scenes-dual-encoder` was made; its card says how long it took and how good it is:

    python utils/build_emoji_scenes.py --output data/emoji-scenes-64 --styles noto --num_categories 24
    python examples/train_dual_encoder.py

On your own images, go on from any dual encoder of transformers, or join two towers. `--lock_image_tower` trains the
text side alone (LiT), which a few thousand pairs are enough for:

    python examples/train_dual_encoder.py --config "" --dataset path/to/images \
        --model_name_or_path openai/clip-vit-base-patch32 --output_dir out/clip-mine
    python examples/train_dual_encoder.py --config "" --dataset path/to/images --lock_image_tower \
        --image_tower facebook/dinov2-base --text_tower FacebookAI/xlm-roberta-base --output_dir out/lit-mine

`DualEncoderScorer.from_pretrained` opens the output folder. With several processes each tells its own batch apart.
"""

import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from datasets import Dataset
from transformers import (
    AlignConfig,
    AlignModel,
    AlignProcessor,
    AutoImageProcessor,
    AutoModel,
    AutoProcessor,
    AutoTokenizer,
    BertTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
    Trainer,
    TrainingArguments,
    VisionTextDualEncoderModel,
    VisionTextDualEncoderProcessor,
    set_seed,
)
from transformers.models.efficientnet.image_processing_pil_efficientnet import EfficientNetImageProcessorPil

from itit_hf.data.loading import load_rows, parse_columns, source_name, without_decoding
from itit_hf.data.streams import BAD_IMAGE_POLICIES, STREAM_COLUMNS, Stream, captions_of_rows, readable_images
from itit_hf.metrics.retrieval import recall_at_k
from itit_hf.rewards.dual_encoder import (
    DualEncoderScorer,
    contrastive_loss,
    reader_of,
    tokenize_texts,
    transport_targets,
)
from itit_hf.training.training_args import newest_checkpoint, parse_arguments, warn_of_bfloat16

logger = logging.getLogger(__name__)

RECIPE = os.path.join(os.path.dirname(__file__), "recipes", "emoji_scenes", "dual_encoder.yaml")
LOSSES = ("align", "otter")
SCALES = ("temperature", "logit_scale")  # of the cosines, by the names that transformers gives them


@dataclass
class ScriptArguments:
    """What this script needs besides the training arguments.

    Args:
        dataset (`str`): Folder or Hub id with `image` and `text`.
        split (`str`, *optional*): Its split for training, or a part of it such as `train[:500]`.
        eval_split (`str`, *optional*): Its split for the figures of retrieval; none by default.
        columns (`list[str]`): What its columns are called, such as `image=photo text=alt`; class labels become
            captions.
        bad_captions (`str`): What to do about captions that are none: raise, or skip, which leaves them out.
        on_bad_image (`str`): What to do about images that cannot be read: raise, or skip, which leaves them out.
        model_name_or_path (`str`, *optional*): Dual encoder to go on from; or give both towers, or `config_name`.
        image_tower (`str`, *optional*): Pre-trained image model, joined with a text model by two new projections.
        text_tower (`str`, *optional*): Pre-trained text model with a pooler.
        config_name (`str`, *optional*): Folder with the `config.json` of an ALIGN, to start from nothing. Its word
            pieces are learned from the captions, as many as the configuration has at most.
        lock_image_tower (`bool`): Train the text side alone (LiT).
        loss (`str`): `"align"`, or `"otter"` with soft targets (experimental).
        contrastive_label_smoothing (`float`): Share of the target spread over the batch.
        temperature_learning_rate (`float`): Of sigma, or of CLIP's logit scale.
    """

    dataset: str
    split: str | None = None
    eval_split: str | None = None
    columns: list[str] = field(default_factory=list)
    bad_captions: str = "raise"
    on_bad_image: str = "raise"
    model_name_or_path: str | None = None
    image_tower: str | None = None
    text_tower: str | None = None
    config_name: str | None = None
    lock_image_tower: bool = False
    loss: str = "align"
    contrastive_label_smoothing: float = 0.1
    temperature_learning_rate: float = 1e-3


@dataclass
class DualEncoderTrainingArguments(TrainingArguments):
    """Training arguments with defaults of the fine-tuning of ALIGN, made for a batch of 2,048."""

    output_dir: str = field(default="out/dual-encoder", metadata={"help": "Where everything is written."})
    learning_rate: float = field(default=1e-5, metadata={"help": "Largest learning rate of AdamW."})
    weight_decay: float = field(default=1e-5, metadata={"help": "AdamW's weight decay."})
    max_steps: int = field(default=3000, metadata={"help": "Optimizer steps."})
    lr_scheduler_type: str = field(default="linear", metadata={"help": "Learning rate schedule."})
    logging_steps: int = field(default=50, metadata={"help": "Steps between two log lines."})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "Hide NaN losses in the log."})
    dataloader_drop_last: bool = field(default=True, metadata={"help": "Leave out a last, smaller batch."})
    dataloader_pin_memory: bool = field(default=False, metadata={"help": "Pin memory, for a GPU."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "The collator needs every column."})
    resume_from_checkpoint: str | None = field(default=None, metadata={"help": "A checkpoint; the last by default."})

    def __post_init__(self):
        super().__post_init__()
        warn_of_bfloat16(self)


class PairsDataset(torch.utils.data.Dataset):
    """The first positions of the paired stream, which comes round as often as it must."""

    def __init__(self, stream: Stream, num_samples: int):
        self.stream = stream
        self.num_samples = num_samples

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, position: int) -> dict:
        return self.stream.sample(position)


@dataclass
class PairCollator:
    """Samples -> `pixel_values` `(batch_size, 3, height, width)`, and what the text tower reads."""

    processor: ProcessorMixin
    text_config: PreTrainedConfig

    def __call__(self, samples: list[dict]) -> dict[str, torch.Tensor]:
        images = [sample["image"] for sample in samples]
        pixel_values = self.processor.image_processor(images, return_tensors="pt")["pixel_values"]
        texts = [sample["text"] for sample in samples]
        inputs, _ = tokenize_texts(self.processor.tokenizer, self.text_config, texts)
        return {"pixel_values": pixel_values, **inputs}


class DualEncoderTrainer(Trainer):
    """ALIGN's loss, on the outputs that all dual encoders have.

    Args:
        script_args ([`ScriptArguments`]): Which loss, and how the scale of the cosines is trained.
    """

    def __init__(self, script_args: ScriptArguments, **options):
        super().__init__(**options)
        self.script_args = script_args

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The sum of both directions over the batch of one process."""
        if self.script_args.lock_image_tower:
            self.model.vision_model.eval()  # batch statistics stay as well
        output = model(**inputs)
        targets = None
        if self.script_args.loss == "otter":
            targets = transport_targets(output.image_embeds, output.text_embeds)
        loss = contrastive_loss(output.logits_per_image.float(), targets, self.script_args.contrastive_label_smoothing)
        return (loss, output) if return_outputs else loss

    def create_optimizer(self, model=None):
        """The scale of the cosines moves at a rate of its own: it has far to go, and does not decay."""
        scales = []
        others = []
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                (scales if name in SCALES else others).append(parameter)
        groups = [{"params": others}]
        groups.append({"params": scales, "lr": self.script_args.temperature_learning_rate, "weight_decay": 0.0})
        self.optimizer = torch.optim.AdamW(groups, self.args.learning_rate, weight_decay=self.args.weight_decay)
        return self.optimizer


def create_model(args: ScriptArguments, texts: list[str]) -> tuple[PreTrainedModel, ProcessorMixin]:
    """The dual encoder and its processor, by whichever of the three ways to start was named."""
    if args.model_name_or_path is not None:
        model = AutoModel.from_pretrained(args.model_name_or_path, use_safetensors=True)
        return model, AutoProcessor.from_pretrained(args.model_name_or_path)
    if args.image_tower is not None:
        model = VisionTextDualEncoderModel.from_vision_text_pretrained(args.image_tower, args.text_tower)
        image_processor = AutoImageProcessor.from_pretrained(args.image_tower)
        tokenizer = AutoTokenizer.from_pretrained(args.text_tower)
        return model, VisionTextDualEncoderProcessor(image_processor, tokenizer)
    config = AlignConfig.from_pretrained(args.config_name)
    tokenizer = BertTokenizer(model_max_length=config.text_config.max_position_embeddings)
    tokenizer = tokenizer.train_new_from_iterator(texts, config.text_config.vocab_size, show_progress=False)
    side = config.vision_config.image_size
    image_processor = EfficientNetImageProcessorPil(
        size={"height": side, "width": side},
        resample=2,
        rescale_factor=1 / 127.5,
        rescale_offset=True,
        do_normalize=False,
        include_top=False,
    )  # ALIGN's, without its random crop
    return AlignModel(config), AlignProcessor(image_processor, tokenizer)


def check(args: ScriptArguments):
    """Refuse what contradicts itself before anything is loaded."""
    if args.on_bad_image not in BAD_IMAGE_POLICIES:
        raise ValueError(f"`on_bad_image` must be one of {BAD_IMAGE_POLICIES}, got {args.on_bad_image!r}")
    if args.loss not in LOSSES:
        raise ValueError(f"`loss` must be one of {LOSSES}, got {args.loss!r}")
    if (args.image_tower is None) != (args.text_tower is None):
        raise ValueError("give both of `image_tower` and `text_tower`, or neither")
    starts = (args.model_name_or_path, args.image_tower, args.config_name)
    if sum(start is not None for start in starts) != 1:
        raise ValueError("give one of `model_name_or_path`, `image_tower` with `text_tower`, and `config_name`")


def open_pairs(args: ScriptArguments, split: str | None) -> Dataset:
    """A split of the dataset, or a part of it, without what is to be left out."""
    columns = parse_columns(args.columns, "--columns")
    rows = load_rows(args.dataset, split, columns, needed=STREAM_COLUMNS["paired"], bad_captions=args.bad_captions)
    return readable_images(rows, split or source_name(args.dataset)) if args.on_bad_image == "skip" else rows


def retrieval_scores(scorer: DualEncoderScorer, rows: Dataset) -> dict[str, float]:
    """Recall in both directions among all images and all different captions; a caption's images are all that it
    was written for."""
    captions = list(captions_of_rows(rows))
    texts = sorted({text for texts in captions for text in texts})
    column = {text: i for i, text in enumerate(texts)}
    relevant = torch.zeros(len(rows), len(texts), dtype=torch.bool)
    for i, own in enumerate(captions):
        relevant[i, [column[text] for text in own]] = True
    scores = scorer.similarity(scorer.embed_images(without_decoding(rows)["image"]), scorer.embed_texts(texts)).cpu()
    return {
        "image_to_text": recall_at_k(scores, relevant),
        "text_to_image": recall_at_k(scores.T, relevant.T),
        "images": len(rows),
        "captions": len(texts),
    }


def main(arguments: list[str] | None = None):
    args, training_args = parse_arguments([ScriptArguments, DualEncoderTrainingArguments], arguments, RECIPE)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    check(args)
    set_seed(training_args.seed)
    rows = open_pairs(args, args.split)
    texts = [text for own in captions_of_rows(rows) for text in own]
    model, processor = create_model(args, texts)
    if args.lock_image_tower:
        model.vision_model.requires_grad_(False)
    num_samples = training_args.max_steps * training_args.train_batch_size * training_args.world_size
    num_samples *= training_args.gradient_accumulation_steps
    read = reader_of(processor.image_processor)
    trainer = DualEncoderTrainer(
        args,
        model=model,
        args=training_args,
        train_dataset=PairsDataset(Stream("paired", rows, training_args.seed, read=read), num_samples),
        data_collator=PairCollator(processor, model.config.text_config),
        processing_class=processor,
    )
    trainer.train(resume_from_checkpoint=newest_checkpoint(training_args))
    if training_args.should_save:
        model.save_pretrained(training_args.output_dir)
        processor.save_pretrained(training_args.output_dir)
        if args.eval_split is not None:
            scorer = DualEncoderScorer(model, processor, training_args.eval_batch_size)
            figures = retrieval_scores(scorer, open_pairs(args, args.eval_split))
            Path(training_args.output_dir, "retrieval.json").write_text(json.dumps(figures, indent=2) + "\n")
            logger.info(json.dumps(figures))
    logger.info(f"dual encoder: {training_args.output_dir}")


if __name__ == "__main__":
    main()
