# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Do pair weights find wrong pairs, and does training with them help? A share of the captions of clean pairs is
shuffled, each pair is weighed by its loss, and the model goes on with these pairs, without and with the weights:

    python utils/studies/study_pair_weights.py --models out/start-0/pipeline out/start-1/pipeline --seeds 0 1 2

The models should not have seen these pairs: here they have learned from `paired[:1000]`. The figures go into a JSON
file, written after each seed: the area under the curve of the weights, and, on clean pairs, nats per token of image to
text, of text to image at one mask of each image, and how true greedy captions are.
"""

import itertools
import json
import logging
import sys
from argparse import ArgumentParser
from importlib.metadata import version
from pathlib import Path

import torch
from datasets import Dataset

from itit_hf import ITITPipeline, ITITTrainer, ITITTrainingArguments
from itit_hf.data.image_tokens import add_image_token_ids
from itit_hf.data.loading import load_rows
from itit_hf.emoji_scenes.build import load_config
from itit_hf.emoji_scenes.evaluation import caption_accuracy
from itit_hf.emoji_scenes.scenes import Scene

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))  # where data_curation is

from data_curation.pair_weights import clean_probabilities, pair_losses

logger = logging.getLogger(__name__)


def area_under_curve(scores: torch.Tensor, is_clean: torch.Tensor) -> float:
    """Probability that a clean pair scores above a wrong one; a tie counts half."""
    difference = scores[is_clean][:, None] - scores[~is_clean][None]
    return ((difference > 0).double() + 0.5 * (difference == 0).double()).mean().item()


def shuffled_pairs(rows: Dataset, wrong_share: float, seed: int) -> tuple[Dataset, torch.Tensor]:
    """One caption an image, a share of them passed on to the next image of that share; and which are clean."""
    generator = torch.Generator().manual_seed(seed)
    texts = [own[i % len(own)] for i, own in enumerate(rows["text"])]
    wrong = torch.randperm(len(rows), generator=generator)[: round(wrong_share * len(rows))].tolist()
    for place, text in zip(wrong, [texts[i] for i in wrong[1:] + wrong[:1]], strict=True):
        texts[place] = text
    is_clean = torch.ones(len(rows), dtype=torch.bool)
    is_clean[wrong] = False
    return rows.remove_columns("text").add_column("text", texts), is_clean


def training_arguments(options, seed: int) -> ITITTrainingArguments:
    """A short training of both directions."""
    return ITITTrainingArguments(
        output_dir=options.output_dir,
        objectives=["i2t", "t2i"],
        i2t_mask_ratio=[0.0, 0.0, 0.0, 0.0],
        text_gradient_scale=1.0,
        label_smoothing=0.0,
        max_steps=options.max_steps,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=options.batch_size,
        optim="adamw_torch",
        learning_rate=options.learning_rate,
        warmup_steps=min(10, options.max_steps),
        lr_scheduler_type="constant_with_warmup",
        logging_steps=20,
        save_strategy="no",
        report_to=[],
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        seed=seed,
        disable_tqdm=True,
    )


def trained(options, model: str, rows: Dataset, clean: Dataset, seed: int) -> dict[str, float]:
    """Go on from the model with these pairs; figures on clean ones."""
    pipe = open_pipeline(model)
    trainer = ITITTrainer(
        model=pipe.model,
        args=training_arguments(options, seed),
        processing_class=pipe.processor,
        text_encoder=pipe.text_encoder,
        train_streams={"paired": rows},
        eval_dataset=clean,
        scheduler=pipe.scheduler,
    )
    trainer.train()
    return figures(pipe, clean, trainer, options)


def figures(pipe: ITITPipeline, clean: Dataset, trainer: ITITTrainer, options) -> dict[str, float]:
    """On clean pairs: losses of both directions, and how true greedy captions are."""
    pipe.model.eval()
    predicted: list[str] = []
    batch_size = options.batch_size
    for start in range(0, len(clean), batch_size):
        predicted += pipe.caption(list(clean[start : start + batch_size]["image"]), num_beams=1, max_new_tokens=24)
    scenes = [Scene.from_json(scene) for scene in clean["scene"]]
    true = caption_accuracy(predicted, scenes, load_config(options.dataset).language)
    losses = trainer.evaluate()
    return {
        "i2t": pair_losses(pipe, clean, batch_size).mean().item(),
        "t2i": losses["eval_loss_t2i"],
        "category": true["category"],
        "colour": true["colour"],
        "true": true["true"],
    }


def open_pipeline(folder: str) -> ITITPipeline:
    """The pipeline, without bars."""
    pipe = ITITPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def study(options, model: str, seed: int) -> dict:
    """One seed: which captions are shuffled, and the noise of the trainings."""
    pipe = open_pipeline(model)
    rows, is_clean = shuffled_pairs(load_rows(options.dataset, options.split), options.wrong_share, seed)
    clean = load_rows(options.dataset, options.eval_split)
    clean, _ = shuffled_pairs(clean.select(range(min(options.num_eval, len(clean)))), 0.0, seed)
    weights = clean_probabilities(pair_losses(pipe, rows, options.batch_size))
    rows, clean = (add_image_token_ids(part, pipe.processor) for part in (rows, clean))
    found = {
        "model": model,
        "auc": area_under_curve(weights, is_clean),
        "mean_weight_clean": weights[is_clean].mean().item(),
        "mean_weight_wrong": weights[~is_clean].mean().item(),
    }
    logger.info(f"seed {seed}: {found}")
    for name, part in (("without", rows), ("with", rows.add_column("sample_weight", weights.tolist()))):
        found[name] = trained(options, model, part, clean, seed)
        logger.info(f"seed {seed}, {name} weights: {found[name]}")
    return found


def main(arguments: list[str] | None = None) -> dict:
    """Study every seed, and write JSON."""
    parser = ArgumentParser(description="Do pair weights find wrong pairs, and does training with them help?")
    parser.add_argument("--models", nargs="+", required=True, help="Pipeline folders to start from, in turn.")
    parser.add_argument("--dataset", default="data/emoji-scenes-64", help="Dataset folder of emoji scenes.")
    parser.add_argument("--split", default="paired[1000:2000]", help="Clean pairs that the models have not seen.")
    parser.add_argument("--eval_split", default="validation", help="Clean pairs to measure on.")
    parser.add_argument("--num_eval", type=int, default=200, help="The first so many of them.")
    parser.add_argument("--wrong_share", type=float, default=0.3, help="Share of the captions that are shuffled.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="Of shuffling and training.")
    parser.add_argument("--max_steps", type=int, default=100, help="Updates of each training.")
    parser.add_argument("--batch_size", type=int, default=32, help="Pairs of an update.")
    parser.add_argument("--learning_rate", type=float, default=3e-4, help="Of AdamW.")
    parser.add_argument("--output_dir", default="out/study-pair-weights", help="Folder for the figures.")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    results = {}
    for seed, model in zip(options.seeds, itertools.cycle(options.models), strict=False):
        results[str(seed)] = study(options, model, seed)
        versions = {name: version(name) for name in ("itit_hf", "torch", "transformers")}
        written = {"settings": vars(options), "versions": versions, "results": results}
        file = Path(options.output_dir, "pair_weights.json")
        file.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    return results


if __name__ == "__main__":
    main()
