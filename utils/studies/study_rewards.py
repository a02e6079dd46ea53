# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""What CIDEr-D fine-tuning is worth beside equal extra steps of cross entropy, from the same weights:

    python utils/studies/study_rewards.py --starts out/rewards/start/pipeline --dataset data/emoji-scenes-64 \
        --pairs "paired[:1000]" --seeds 0 1 2 --output out/study-rewards.jsonl

Each seed takes the next of `--starts`, trains a copy of it on rewards (one in `--ce_interval` updates with cross
entropy beside them) and another on cross entropy alone, with the same optimizer and the same pairs in the same order,
and judges the greedy captions of both on unseen images; those of emoji scenes also by the grammar. With
`--first_caption 1` the first caption of each image, the plain one of the emoji scenes ("a red bus"), is left out of
training and judging alike. Each line of the output is one run.
"""

import copy
import itertools
import json
import logging
from argparse import ArgumentParser, Namespace

import torch
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import set_seed

from itit_hf import CiderD, ITITPipeline, ITITRewardConfig, ITITRewardTrainer, ITITTrainer
from itit_hf.data.image_tokens import add_image_token_ids
from itit_hf.data.loading import load_rows
from itit_hf.emoji_scenes.build import load_config
from itit_hf.emoji_scenes.evaluation import caption_accuracy
from itit_hf.emoji_scenes.scenes import Scene
from itit_hf.metrics.captions import bad_endings, caption_scores, tokenize_caption

logger = logging.getLogger(__name__)

KINDS = ("cider_d", "cross_entropy")


@torch.no_grad()
def judge(pipe: ITITPipeline, rows: Dataset, options: Namespace) -> dict:
    """Figures of greedy captions, and the first of them."""
    predicted: list[str] = []
    model = pipe.model.eval()
    for ids in torch.tensor(rows["image_token_ids"][:]).split(options.batch_size):
        out = model.generate(image_token_ids=ids, num_beams=1, do_sample=False, max_new_tokens=options.max_new_tokens)
        predicted += pipe.processor.batch_decode(out[:, model.config.num_prefix_tokens + 1 :])
    figures = caption_scores(predicted, rows["text"][:])
    figures["bad_endings"] = bad_endings([tokenize_caption(text) for text in predicted])
    if "scene" in rows.column_names:
        scenes = [Scene.from_json(text) for text in rows["scene"]]
        figures |= caption_accuracy(predicted, scenes, load_config(options.dataset).language)
    return {"figures": figures, "captions": predicted[:5]}


def train(kind: str, pipe: ITITPipeline, pairs: Dataset, seed: int, options: Namespace):
    """Fine-tune the pipeline's model; its weights are the averaged ones in the end."""
    args = ITITRewardConfig(
        output_dir=f"{options.output}.run",
        objectives=["i2t"],
        i2t_mask_ratio=[0.0, 0.0, 0.0, 0.0],
        text_gradient_scale=1.0,
        label_smoothing=0.0,
        synthesis_max_new_tokens=options.max_new_tokens,
        optim="adamw_torch",
        adam_beta2=0.98,
        weight_decay=0.03,
        max_grad_norm=1.0,
        learning_rate=options.learning_rate,
        warmup_steps=options.steps // 5,
        max_steps=options.steps,
        per_device_train_batch_size=16,
        ema_decay=0.98,
        ce_interval=options.ce_interval,
        monitoring=False,
        save_strategy="no",
        logging_steps=max(options.steps // 5, 1),
        report_to=[],
        seed=seed,
        use_cpu=options.use_cpu,
        bf16=options.bf16,
    )
    parts = {"model": pipe.model, "processing_class": pipe.processor, "text_encoder": pipe.text_encoder}
    parts |= {"args": args, "train_streams": {"paired": pairs}, "scheduler": pipe.scheduler}
    if kind == "cider_d":
        reward = CiderD(pairs["text"][:], pipe.processor.tokenizer.eos_token_id)
        trainer = ITITRewardTrainer(reward_funcs=reward, **parts)
    else:
        trainer = ITITTrainer(**parts)
    trainer.train()
    trainer.ema.average.copy_to(pipe.model.parameters())


def load(options: Namespace, split: str, processor) -> Dataset:
    """Rows with token ids, and the captions that count."""
    rows = add_image_token_ids(load_rows(options.dataset, split), processor)
    return rows.map(lambda row: {"text": row["text"][options.first_caption :]})


def main(arguments: list[str] | None = None) -> list[dict]:
    """Train, judge, write; the runs."""
    parser = ArgumentParser(description="CIDEr-D fine-tuning beside equal extra steps of cross entropy.")
    parser.add_argument("--starts", nargs="+", required=True, help="Pipeline folders; each seed takes the next.")
    parser.add_argument("--dataset", required=True, help="Captioned images, several captions each.")
    parser.add_argument("--pairs", default="paired[:1000]", help="Split that is trained on.")
    parser.add_argument("--unseen", default="validation[:500]", help="Split that captions are judged on.")
    parser.add_argument("--first_caption", type=int, default=0, help="Captions before this one are left out.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--learning_rate", type=float, default=3e-4)
    parser.add_argument("--ce_interval", type=int, default=3, help="As in `ITITRewardConfig`.")
    parser.add_argument("--max_new_tokens", type=int, default=20)
    parser.add_argument("--batch_size", type=int, default=100, help="Of judging.")
    parser.add_argument("--use_cpu", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--output", default="out/study-rewards.jsonl")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    runs = []
    before = {}
    starts = zip(options.seeds, itertools.cycle(options.starts), strict=False)
    for (seed, start), kind in tqdm(list(itertools.product(starts, KINDS)), desc="runs"):
        pipe = ITITPipeline.from_pretrained(start)
        pairs, unseen = (load(options, split, pipe.processor) for split in (options.pairs, options.unseen))
        if start not in before:
            before[start] = judge(pipe, unseen, options)["figures"]["cider_d"]
        set_seed(seed)
        train(kind, pipe, pairs, seed, options)
        run = {"kind": kind, "seed": seed, "start": start, "before": before[start]} | judge(pipe, unseen, options)
        runs.append(run | {"settings": copy.copy(vars(options))})
        logger.info(f"{kind}, seed {seed}: CIDEr-D {before[start]:.1f} -> {run['figures']['cider_d']:.1f}")
        with open(options.output, "a", encoding="utf-8") as file:
            file.write(json.dumps(runs[-1]) + "\n")
    return runs


if __name__ == "__main__":
    main()
