# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Pre-train a small T5 and its tokenizer by span corruption, for worlds where no published T5 fits.

    python examples/train_text_encoder.py --dataset data/emoji-scenes-64 --splits text paired

takes 14 minutes of one CPU core, ends at a held-out span accuracy of 0.90, and writes a folder that
`T5EncoderModel.from_pretrained` and `AutoTokenizer.from_pretrained` open, and that
`examples/train_itit.py --text_encoder` takes. A text file works too, with one sentence per line and an empty line
after each document (sentences that speak of the same thing, such as the captions of one image):

    python examples/train_text_encoder.py --text_file sentences.txt --output_dir out/text_encoder

Stopped half-way, the same command with `--resume_from_checkpoint` goes on.
"""

import logging
import os
import re
from dataclasses import dataclass, field

from datasets import Dataset
from transformers import (
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
    set_seed,
)

from itit_hf.data.captions import captions_of
from itit_hf.data.loading import load_rows
from itit_hf.data.text_files import text_lines
from itit_hf.models.configuration_itit import padded_vocab_size
from itit_hf.pretraining.text_pretraining import (
    SpanCorruptionDataset,
    sentinel_token_ids,
    span_accuracy,
    train_unigram_tokenizer,
)
from itit_hf.training.training_args import newest_checkpoint, parse_arguments, warn_of_bfloat16

logger = logging.getLogger(__name__)


@dataclass
class ScriptArguments:
    """What this script needs besides the training arguments; one of `dataset` and `text_file` must be given."""

    dataset: str | None = field(default=None, metadata={"help": "Folder, pattern of files or Hub id with `text`."})
    splits: list[str] = field(
        default_factory=list, metadata={"help": "Its splits, or parts of them; may be left out if there is one only."}
    )
    text_column: str | None = field(default=None, metadata={"help": "Its column of captions or class labels."})
    bad_captions: str = field(default="raise", metadata={"help": "Captions that are none: raise or skip."})
    text_file: str | None = field(default=None, metadata={"help": "Text file with one sentence per line."})
    num_held_out: int = field(default=1000, metadata={"help": "Distinct documents kept for evaluation."})
    vocab_size: int = field(default=480, metadata={"help": "Pieces of the tokenizer at most, sentinels included."})
    num_sentinels: int = field(default=16, metadata={"help": "Sentinel tokens; one more than spans per text."})
    max_length: int = field(default=64, metadata={"help": "Tokens per text at most, end of sequence included."})
    lowercase: bool = field(default=True, metadata={"help": "Read capital letters as small ones."})
    noise_density: float = field(default=0.15, metadata={"help": "Share of tokens that are masked."})
    mean_span_length: float = field(default=3.0, metadata={"help": "Mean length of a masked span in tokens."})
    d_model: int = field(default=128, metadata={"help": "Width: the text encoder's feature size."})
    d_kv: int = field(default=32, metadata={"help": "Width of one attention head."})
    num_heads: int = field(default=4, metadata={"help": "Attention heads."})
    d_ff: int = field(default=256, metadata={"help": "Width of the feed-forward layers."})
    num_layers: int = field(default=3, metadata={"help": "Encoder blocks, the ones that are kept."})
    num_decoder_layers: int = field(default=2, metadata={"help": "Decoder blocks, which only pre-training needs."})
    feed_forward_proj: str = field(default="gated-gelu", metadata={"help": "T5's activation: relu or gated-gelu."})


@dataclass
class TextEncoderTrainingArguments(TrainingArguments):
    """Training arguments with defaults for a small T5 on a CPU."""

    output_dir: str = field(default="out/text_encoder", metadata={"help": "Where everything is written."})
    max_steps: int = field(default=2000, metadata={"help": "Optimizer steps."})
    per_device_train_batch_size: int = field(default=128, metadata={"help": "Texts per step and device."})
    per_device_eval_batch_size: int = field(default=256, metadata={"help": "Texts per evaluation batch."})
    learning_rate: float = field(default=2e-3, metadata={"help": "Largest learning rate of AdamW."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning rate schedule."})
    warmup_steps: int = field(default=200, metadata={"help": "Steps of linear warm-up."})
    weight_decay: float = field(default=0.01, metadata={"help": "AdamW's weight decay."})
    logging_steps: int = field(default=100, metadata={"help": "Steps between two log lines."})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "Hide NaN losses in the log."})
    dataloader_pin_memory: bool = field(default=False, metadata={"help": "Pin memory, for a GPU."})
    eval_strategy: str = field(default="steps", metadata={"help": "When to evaluate."})
    eval_steps: int = field(default=500, metadata={"help": "Steps between two evaluations."})
    save_steps: int = field(default=500, metadata={"help": "Steps between two checkpoints."})
    save_total_limit: int = field(default=2, metadata={"help": "Checkpoints kept."})
    resume_from_checkpoint: str | None = field(default=None, metadata={"help": "A checkpoint; the last by default."})

    def __post_init__(self):
        super().__post_init__()
        warn_of_bfloat16(self)


def read_documents(script_args: ScriptArguments) -> list[list[str]]:
    """Distinct documents of the file or the data set, each a list of sentences, in a fixed order."""
    if (script_args.dataset is None) == (script_args.text_file is None):
        raise ValueError("give one of `--dataset` and `--text_file`, not both and not neither")
    if script_args.text_file is not None:
        text = "".join(text_lines(script_args.text_file))
        documents = [block.split("\n") for block in re.split(r"\n\s*\n", text)]
    else:
        columns = {} if script_args.text_column is None else {"text": script_args.text_column}
        options = {"columns": columns, "needed": ["text"], "bad_captions": script_args.bad_captions}
        splits = [load_rows(script_args.dataset, split, **options) for split in script_args.splits or [None]]
        documents = [value for rows in splits for value in rows["text"]]
    distinct = {tuple(captions_of(document)) for document in documents}
    return [list(document) for document in sorted(distinct - {()})]


def build_model(script_args: ScriptArguments, tokenizer) -> T5ForConditionalGeneration:
    """A T5 from scratch."""
    config = T5Config(
        vocab_size=padded_vocab_size(len(tokenizer)),
        d_model=script_args.d_model,
        d_kv=script_args.d_kv,
        num_heads=script_args.num_heads,
        d_ff=script_args.d_ff,
        num_layers=script_args.num_layers,
        num_decoder_layers=script_args.num_decoder_layers,
        feed_forward_proj=script_args.feed_forward_proj,
        dropout_rate=0.0,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    return T5ForConditionalGeneration(config)


def main(arguments: list[str] | None = None):
    """Read, build, train, save."""
    script_args, training_args = parse_arguments([ScriptArguments, TextEncoderTrainingArguments], arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    set_seed(training_args.seed)

    documents = Dataset.from_dict({"text": read_documents(script_args)})
    if not 1 <= script_args.num_held_out < len(documents):
        raise ValueError(
            f"`num_held_out` must be at least 1 and less than the number of distinct documents, {len(documents)}, "
            f"got {script_args.num_held_out}"
        )
    split = documents.train_test_split(test_size=script_args.num_held_out, seed=training_args.seed)
    train = split["train"]["text"][:]
    held_out = split["test"]["text"][:]
    checkpoint = newest_checkpoint(training_args)
    if checkpoint is not None:
        tokenizer = AutoTokenizer.from_pretrained(training_args.output_dir)
    else:
        tokenizer = train_unigram_tokenizer(
            [sentence for document in train for sentence in document],
            script_args.vocab_size,
            script_args.num_sentinels,
            script_args.max_length,
            script_args.lowercase,
        )
        tokenizer.save_pretrained(training_args.output_dir)
    model = build_model(script_args, tokenizer)

    seen_per_step = training_args.train_batch_size * training_args.gradient_accumulation_steps
    num_rounds = training_args.max_steps * seen_per_step * training_args.world_size // len(train) + 1
    noise = {"noise_density": script_args.noise_density, "mean_span_length": script_args.mean_span_length}
    uncounted = [*sentinel_token_ids(tokenizer), tokenizer.eos_token_id]
    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=SpanCorruptionDataset(train, tokenizer, **noise, num_rounds=num_rounds, seed=training_args.seed),
        eval_dataset=SpanCorruptionDataset(held_out, tokenizer, **noise, seed=training_args.seed + 1),
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        processing_class=tokenizer,
        preprocess_logits_for_metrics=lambda outputs, labels: outputs[0].argmax(dim=-1),
        compute_metrics=lambda p: {"span_accuracy": span_accuracy(p.predictions, p.label_ids, uncounted)},
    )
    trainer.train(resume_from_checkpoint=checkpoint)

    metrics = trainer.evaluate()
    trainer.log_metrics("eval", metrics)
    trainer.save_metrics("eval", metrics)
    encoder = T5EncoderModel(model.config)
    encoder.encoder.load_state_dict(model.encoder.state_dict())
    encoder.save_pretrained(training_args.output_dir)
    logger.info(f"text encoder and tokenizer ({len(tokenizer)} pieces): {os.path.abspath(training_args.output_dir)}")


if __name__ == "__main__":
    main()
