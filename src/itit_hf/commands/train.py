# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Train on pairs, and on images and sentences that do not belong together."""

import logging
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import torch
from datasets import Dataset
from diffusers import VQModel
from transformers import AutoModelForCausalLM, AutoModelForTextEncoding, AutoTokenizer, set_seed
from transformers.utils import is_protobuf_available, is_sentencepiece_available

from ..data.direct_loading import DATA_ACCESS, open_rows
from ..data.image_tokens import add_image_token_ids
from ..data.loading import load_rows, parse_columns, source_name
from ..data.streams import STREAM_COLUMNS
from ..decoding.sampling import SamplingSettings
from ..decoding.scheduling_itit import ITITScheduler
from ..emoji_scenes.build import ensure_emoji_scenes
from ..models.adaptation import replace_text_decoder
from ..models.configuration_itit import ITITConfig, text_fields
from ..models.image_loading_itit import ASPECT_RATIOS
from ..models.image_processing_itit import has_image_processor, load_image_processor
from ..models.image_tokenization_itit import PatchVQModel
from ..models.modeling_itit import ITITForPreTraining
from ..models.processing_itit import ITITProcessor
from ..objectives.objectives import OBJECTIVES
from ..pipelines.pipeline_itit import ITITPipeline
from ..training.prior import PriorArguments, add_prior
from ..training.trainer import ITITTrainer
from ..training.training_args import ITITTrainingArguments, parse_arguments
from .checkpoints import FROZEN_PARTS, OWN_IMAGE_TOKENIZER, OWN_TEXT_ENCODER, locate
from .console import COMMANDS, show_messages

logger = logging.getLogger(__name__)

# Settings of a small run; of which the examples' recipe of that name is made too.
DEFAULT_RECIPE = str(Path(__file__).with_name("emoji_scenes_tiny.yaml"))
EMOJI_PROMPTS = (
    *("a red bus", "a blue fish", "a green tree"),
    *("a yellow umbrella", "a purple flower", "an orange cat"),
)
TOKENIZE = ("ahead", "online")
TEXT_EMBEDDINGS = ("model", "text_encoder")


@dataclass
class ScriptArguments:
    """What a training needs besides [`ITITTrainingArguments`].

    Args:
        paired_dataset (`str`, *optional*): Folder or Hub id with `image` and `text`; the emoji scenes by default,
            unless each stream that the objectives read has a dataset of its own.
        paired_split (`str`, *optional*): Its split for training, or a part of it such as `train[:500]`; may be left
            out if there is one only. The emoji scenes have a split of its name for each stream.
        eval_split (`str`, *optional*): Its split for evaluation, never trained on.
        image_dataset (`str`, *optional*): Folder or Hub id with `image`, for the objectives that read images alone.
        image_split (`str`, *optional*): Its split.
        text_dataset (`str`, *optional*): Folder or Hub id with `text`, for the objectives that read sentences alone.
        text_split (`str`, *optional*): Its split.
        paired_columns (`list[str]`): What its columns are called, such as `image=photo text=alt`; class labels become
            captions.
        image_columns (`list[str]`): The same of the images.
        text_columns (`list[str]`): The same of the sentences.
        data_access (`str`): copy, which reads rows into the cache once; or direct, which reads parquet, webdataset
            archives and Lance where they are, see docs/data.md.
        tokenize (`str`): ahead, which turns all images into tokens before the first step and keeps them; or online,
            which does it in every step, on the device that trains. Rows that have tokens are used as they are.
        stream_rows (`int`, *optional*): Keep only so many rows of each split, drawn with the seed of the data: for
            what is too large to keep. Of files on this machine all are read, and each set of rows is equally likely;
            of the Hub the rows come from the beginnings of up to 32 files at a time, see docs/data.md.
        bad_captions (`str`): What to do about captions that are none (null, empty, blank, words such as NA): raise, or
            skip, which leaves them out and counts them.
        frozen_parts (`str`, *optional*): Pipeline folder or Hub id whose text encoder, tokenizer, image tokenizer and
            image processor are used. By default new weights for one's own data take the general parts that are
            committed, and everything else those of the emoji scenes; `commands.checkpoints` names them.
        text_encoder (`str`, *optional*): Folder or Hub id of a text encoder with its tokenizer, in place of the one
            there: T5, mT5 and UMT5, BERT, RoBERTa and their like, or CLIP's text tower.
        image_tokenizer (`str`, *optional*): Image tokenizer, in place of the one there.
        resolution (`list[int]`): Side of an image in pixels, or height and width; that of the image processor there
            by default.
        aspect_ratio (`str`, *optional*): What becomes of images of another shape: squeeze, all of it, resized to
            the size; pad, all of it, with white beside it; or crop, the middle. By default what the image processor
            does that is there, or lies beside `image_tokenizer`, and squeeze for a new one.
        model_name_or_path (`str`, *optional*): Checkpoint to start from; new weights by default.
        model_preset (`str`): Size of new weights: tiny, base, large or huge.
        text_embeddings (`str`): What the text decoder's embedding starts as: model, as the model has it; or
            text_encoder, the text encoder's own table.
        text_decoder (`str`, *optional*): GPT-2 whose blocks and embeddings the text decoder starts with, such as
            distilgpt2; it must be as wide as the decoders.
        image_features (`str`): What an image that is captioned is seen by: codes, or latents; the model's if it has
            weights already.
        dropout (`float`): Dropout of new weights, on embeddings, residual branches and attention.
        attn_implementation (`str`): Attention of the model: sdpa, or eager, which `--bf16` is faster with on a CPU.
        scenes_folder (`str`, *optional*): Where the emoji scenes are, or are built; data/emoji-scenes-64 by default.
        scenes_styles (`list[str]`): Their art.
        scenes_num_categories (`int`): How many categories of things they show.
    """

    paired_dataset: str | None = None
    paired_split: str | None = None
    eval_split: str | None = None
    image_dataset: str | None = None
    image_split: str | None = None
    text_dataset: str | None = None
    text_split: str | None = None
    paired_columns: list[str] = field(default_factory=list)
    image_columns: list[str] = field(default_factory=list)
    text_columns: list[str] = field(default_factory=list)
    data_access: str = "copy"
    tokenize: str = "ahead"
    stream_rows: int | None = None
    bad_captions: str = "raise"
    frozen_parts: str | None = None
    text_encoder: str | None = None
    image_tokenizer: str | None = None
    resolution: list[int] = field(default_factory=list)
    aspect_ratio: str | None = None
    model_name_or_path: str | None = None
    model_preset: str = "tiny"
    text_embeddings: str = "model"
    text_decoder: str | None = None
    image_features: str = "codes"
    dropout: float = 0.1
    attn_implementation: str = "sdpa"
    scenes_folder: str | None = None
    scenes_styles: list[str] = field(default_factory=lambda: ["openmoji"])
    scenes_num_categories: int = 24

    def __post_init__(self):
        if self.aspect_ratio is not None and self.aspect_ratio not in ASPECT_RATIOS:
            raise ValueError(f"`aspect_ratio` must be one of {ASPECT_RATIOS}, got {self.aspect_ratio!r}")
        for name, known in (("data_access", DATA_ACCESS), ("tokenize", TOKENIZE)):
            if getattr(self, name) not in known:
                raise ValueError(f"`{name}` must be one of {known}, got {getattr(self, name)!r}")
        if self.data_access == "direct" and self.stream_rows is not None:
            raise ValueError(f"`stream_rows` must be left out with `data_access` direct, got {self.stream_rows}")
        if self.text_embeddings not in TEXT_EMBEDDINGS:
            raise ValueError(f"`text_embeddings` must be one of {TEXT_EMBEDDINGS}, got {self.text_embeddings!r}")
        if self.text_decoder is not None and self.text_embeddings != "model":
            raise ValueError("give `text_embeddings` or `text_decoder`: a GPT-2 brings embeddings of its own")
        if self.frozen_parts is None:
            self.frozen_parts = FROZEN_PARTS
            own = [self.paired_dataset, self.image_dataset, self.text_dataset]
            if own != [None] * 3 and self.model_name_or_path is None:
                self.text_encoder = self.text_encoder or OWN_TEXT_ENCODER
                self.image_tokenizer = self.image_tokenizer or OWN_IMAGE_TOKENIZER


def load_tokenizer(source: str, subfolder: str = ""):
    """A tokenizer; many on the Hub are a SentencePiece model alone, and transformers does not say what reads that."""
    try:
        return AutoTokenizer.from_pretrained(source, subfolder=subfolder)
    except (ImportError, ValueError) as error:
        if is_sentencepiece_available() and is_protobuf_available():
            raise
        wanted = "if it is a SentencePiece model, it needs pip install 'itit-hf[sentencepiece]'"
        raise ImportError(f"the tokenizer of `{source}` cannot be read; {wanted}") from error


def locate_parts(args: ScriptArguments):
    """Name what is on the Hub by its name there, where the folders of a checkout are not; frozen parts that nothing is
    read of are left alone."""
    for name in ("text_encoder", "image_tokenizer", "model_name_or_path"):
        source = getattr(args, name)
        if source is not None:
            setattr(args, name, locate(source, f"--{name}"))
    has_both = args.text_encoder is not None and args.image_tokenizer is not None
    if not has_both or not (args.resolution or has_image_processor(args.image_tokenizer)):
        args.frozen_parts = locate(args.frozen_parts, "--frozen_parts")


def load_frozen_parts(args: ScriptArguments):
    """Text encoder and processor: everything that is used as it is."""
    text_source = args.text_encoder or args.frozen_parts
    tokenizer = load_tokenizer(text_source, "" if args.text_encoder else "tokenizer")
    encoder_at = "" if args.text_encoder else "text_encoder"
    text_encoder = AutoModelForTextEncoding.from_pretrained(text_source, subfolder=encoder_at, dtype=torch.float32)
    image_source = args.image_tokenizer or args.frozen_parts
    image_at = {} if args.image_tokenizer else {"subfolder": "image_tokenizer"}
    is_patch = PatchVQModel.load_config(image_source, **image_at)["_class_name"] == "PatchVQModel"
    image_tokenizer = (PatchVQModel if is_patch else VQModel).from_pretrained(image_source, **image_at)
    image_processor = load_image_processor(args.frozen_parts, args.image_tokenizer, args.resolution, args.aspect_ratio)
    return text_encoder, ITITProcessor(image_processor, tokenizer, image_tokenizer, args.image_features)


def create_model(args: ScriptArguments, text_encoder, processor) -> ITITForPreTraining:
    """Trained weights, or new ones that fit the frozen parts; the text decoder's as the arguments want them."""
    model = load_model(args, text_encoder, processor)
    if args.text_embeddings == "text_encoder":
        table = text_encoder.get_input_embeddings().weight
        model.initialize_text_embeddings(table, torch.Generator().manual_seed(0))
    if args.text_decoder is not None:
        language_model = AutoModelForCausalLM.from_pretrained(args.text_decoder)
        language_tokenizer = AutoTokenizer.from_pretrained(args.text_decoder)
        model = replace_text_decoder(model, processor.tokenizer, language_model, language_tokenizer)
    return model


def load_model(args: ScriptArguments, text_encoder, processor) -> ITITForPreTraining:
    """The checkpoint to start from, or new weights."""
    if args.model_name_or_path is not None:
        return ITITForPreTraining.from_pretrained(
            args.model_name_or_path, attn_implementation=args.attn_implementation
        )
    config = ITITConfig.preset(args.model_preset)
    config.codebook_size = processor.image_tokenizer.config.num_vq_embeddings
    config.image_grid = processor.image_grid
    config.update(text_fields(processor.tokenizer, text_encoder.config))
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = args.dropout
    config.image_features = args.image_features
    if args.image_features == "latents":
        config.image_latent_size = processor.image_tokenizer.config.vq_embed_dim
    config.text_encoder_name_or_path = args.text_encoder or args.frozen_parts
    config.image_tokenizer_name_or_path = args.image_tokenizer or args.frozen_parts
    config = ITITConfig(**config.to_dict(), attn_implementation=args.attn_implementation)
    model = ITITForPreTraining(config)
    codebook = processor.image_tokenizer.quantize.embedding.weight.detach()
    model.initialize_code_embeddings(codebook, torch.Generator().manual_seed(0))
    return model


def load_streams(
    args: ScriptArguments, names: Collection[str], processor, on_bad_image: str = "raise", data_seed: int = 0
) -> tuple[dict, Dataset | None]:
    """The streams of these names, and held-out pairs, with their images as token ids unless these are made online."""
    sources = {
        "paired": (args.paired_dataset, args.paired_split),
        "image": (args.image_dataset, args.image_split),
        "text": (args.text_dataset, args.text_split),
    }
    evaluation = (args.paired_dataset, args.eval_split)
    if args.paired_dataset is None and all(sources[name][0] is not None for name in names):
        if args.eval_split is not None:
            raise ValueError(f"`eval_split` is one of `paired_dataset`, which is not given; got {args.eval_split!r}")
    elif args.paired_dataset is None:
        height, width = processor.image_processor.output_size
        name = str(height) if height == width else f"{height}x{width}"
        folder = args.scenes_folder or f"data/emoji-scenes-{name}"
        world = ensure_emoji_scenes(folder, args.scenes_styles, (height, width), args.scenes_num_categories)
        sources = {name: (at, split) if at else (world, split or name) for name, (at, split) in sources.items()}
        evaluation = (world, args.eval_split or "validation")
    streams = {}
    for name in dict.fromkeys(names):
        if sources[name][0] is None:
            raise ValueError(f"the stream `{name}` needs `--{name}_dataset`")
        source, split = sources[name]
        columns = parse_columns(getattr(args, f"{name}_columns"), f"--{name}_columns")
        needed = STREAM_COLUMNS[name]
        if args.data_access == "direct":
            rows = open_rows(source, split, columns, needed, args.bad_captions)
        else:
            rows = load_rows(source, split, columns, args.stream_rows, needed, args.bad_captions, data_seed)
        if name != "text" and args.tokenize == "ahead":
            rows = add_image_token_ids(rows, processor, on_bad_image=on_bad_image, name=split or source_name(source))
        streams[name] = rows
    if evaluation[1] is None:
        return streams, None
    source, split = evaluation
    columns = parse_columns(args.paired_columns, "--paired_columns")
    pairs = load_rows(source, split, columns, needed=STREAM_COLUMNS["paired"], bad_captions=args.bad_captions)
    if args.tokenize == "ahead":
        pairs = add_image_token_ids(pairs, processor, on_bad_image=on_bad_image, name=split)
    return streams, pairs


def add_prior_pairs(streams: dict, pipe: ITITPipeline, prior: PriorArguments, training_args, is_start: bool):
    """Mix the start's own pairs into the stream of pairs, if that is asked for."""
    if not prior.prior_images:
        return
    if not is_start or "paired" not in streams:
        raise ValueError(
            "`prior_images` are what `model_name_or_path` generates for objectives that read pairs; "
            f"got the streams {sorted(streams)} and {'a' if is_start else 'no'} checkpoint to start from"
        )
    with training_args.main_process_first(desc="prior"):
        streams["paired"] = add_prior(streams["paired"], pipe, prior, training_args)


def choose_sample_prompts(args: ScriptArguments, training_args: ITITTrainingArguments):
    """Of the emoji scenes, prompts that all of them know; of other datasets the trainer takes held-out captions."""
    own = [args.paired_dataset, args.image_dataset, args.text_dataset]
    if training_args.sample_prompts is None and own == [None] * 3:
        training_args.sample_prompts = list(EMOJI_PROMPTS)


def main(arguments: list[str] | None = None):
    """Load, build, train, save."""
    types = [ScriptArguments, PriorArguments, ITITTrainingArguments]
    args, prior, training_args = parse_arguments(
        types, arguments, DEFAULT_RECIPE, prog="itit train", epilog=COMMANDS["train"].epilog
    )
    show_messages()
    locate_parts(args)
    set_seed(training_args.seed)
    choose_sample_prompts(args, training_args)
    text_encoder, processor = load_frozen_parts(args)
    with training_args.main_process_first(desc="data"):
        names = [OBJECTIVES[objective].stream for objective in training_args.objectives]
        streams, eval_pairs = load_streams(
            args, names, processor, training_args.on_bad_image, training_args.data_seed_or_seed
        )
    model = create_model(args, text_encoder, processor)
    temperature = 32.0 if training_args.sample_temperature is None else training_args.sample_temperature
    scheduler = ITITScheduler(mask_token_id=model.config.mask_token_id, temperature=temperature)
    pipe = ITITPipeline(
        model=model,
        text_encoder=text_encoder,
        tokenizer=processor.tokenizer,
        image_tokenizer=processor.image_tokenizer,
        image_processor=processor.image_processor,
        scheduler=scheduler,
        sampling=SamplingSettings(
            training_args.sample_inference_steps,
            training_args.sample_guidance_scale,
            temperature=training_args.sample_temperature,
        ),
    )
    add_prior_pairs(streams, pipe, prior, training_args, args.model_name_or_path is not None)
    sizes = ", ".join(f"{len(rows)} rows {name}" for name, rows in streams.items())
    logger.info(f"{model.num_parameters() / 1e6:.1f}M parameters; {sizes}")
    trainer = ITITTrainer(
        model=model,
        args=training_args,
        processing_class=processor,
        text_encoder=text_encoder,
        train_streams=streams,
        eval_dataset=eval_pairs,
        scheduler=scheduler,
    )
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    folder = os.path.join(training_args.output_dir, "pipeline")
    trainer.save_pipeline(folder)  # before anything else can fail
    if eval_pairs is not None:
        metrics = trainer.evaluate()
        trainer.save_metrics("eval", metrics)
        if training_args.should_save:
            trainer.save_card(folder)
        logger.info(", ".join(f"{name} {value:.3f}" for name, value in metrics.items() if "loss" in name))
    trainer.samples.log_samples()
    if training_args.push_to_hub:
        trainer.push_to_hub()
    if training_args.should_save:
        logger.info(f"pipeline: {folder}   images: {os.path.join(training_args.output_dir, 'samples')}")


if __name__ == "__main__":
    main()
