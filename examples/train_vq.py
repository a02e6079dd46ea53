# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Train an image tokenizer: the small patch-local one, or diffusers' `VQModel`.

With no argument: the tokenizer of the emoji scenes (see docs/experiments.md for what it costs and gives), after
`utils/build_emoji_scenes.py` has built them:

    accelerate launch examples/train_vq.py

Interrupted? It goes on where it was, and ends in the same weights:

    accelerate launch examples/train_vq.py --resume_from_checkpoint

Sharpen the decoder afterwards; the codes, and with them every model trained on them, stay as they are:

    accelerate launch examples/train_vq.py --model_name_or_path out/image_tokenizer --train_decoder_only \
        --gan_weight 0.2 --l2_weight 0.5 --adam_beta1 0.5 --learning_rate 6e-4 --ema_decay 0.995 --max_steps 1400 \
        --output_dir out/image_tokenizer_sharp

A VQGAN on your own pictures (a folder, parquet files or a Hub id with a column `image`; utils/convert_lpips.py first):

    accelerate launch examples/train_vq.py --tokenizer vqgan --dataset path/to/pictures --splits train \
        --eval_split test --resolution 256 --perceptual_weight 1 --perceptual_loss lpips-vgg16.safetensors \
        --gan_weight 0.8 --gan_start_step 10000 --max_steps 100000
"""

import json
import logging
import math
import os
import shutil
from dataclasses import asdict, dataclass, field

import datasets
import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration, set_seed
from diffusers import VQModel
from diffusers.training_utils import EMAModel
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import get_cosine_schedule_with_warmup
from transformers.trainer_utils import get_last_checkpoint

from itit_hf import PatchVQModel
from itit_hf.data import load_rows
from itit_hf.masking import keyed_integer
from itit_hf.perceptual_loss import load_perceptual_loss
from itit_hf.training_args import parse_arguments
from itit_hf.vq_evaluation import (
    CodeCounter,
    code_entropy,
    code_usage,
    examine_image_tokenizer,
    psnr,
    reconstruction_grid,
)
from itit_hf.vq_training import (
    PatchDiscriminator,
    PictureDataset,
    StepBatchSampler,
    VQAutoencoder,
    VQLossWeights,
    discriminator_hinge_loss,
    distinct_points,
    kmeans,
    reseed_dead_codes,
    to_pixel_values,
    vq_losses,
    with_new_decoder,
)

logger = logging.getLogger(__name__)

KINDS = {"patch": PatchVQModel, "vqgan": VQModel}

# f = 16 and 1024 codes, as VQGAN's ImageNet model: `--tokenizer_config` changes any of it.
VQGAN_CONFIG = {
    "block_out_channels": [128, 128, 256, 256, 512],
    "layers_per_block": 2,
    "latent_channels": 256,
    "num_vq_embeddings": 1024,
    "lookup_from_codebook": True,
}


@dataclass
class VQTrainingArguments:
    """What this script can be told.

    Args:
        tokenizer (`str`): patch or vqgan.
        tokenizer_config (`str`, *optional*): JSON, or a file of it, with config values of the tokenizer.
        model_name_or_path (`str`, *optional*): Tokenizer to start from, in place of new weights. With a
            `tokenizer_config` it gets a new decoder.
        train_decoder_only (`bool`): Leave encoder and codebook as they are.
        dataset (`str`): Folder or Hub id with a column `image`.
        splits (`list[str]`): Its splits for training.
        eval_split (`str`, *optional*): Its split for pictures and the report; the first training pictures by default.
        resolution (`int`): Side of a picture in pixels.
        perceptual_loss (`str`, *optional*): File with the weights of LPIPS, from utils/convert_lpips.py.
        max_cache_gb (`float`): Pictures are decoded once and kept if they fit into so much memory.
    """

    tokenizer: str = field(default="patch", metadata={"help": "patch or vqgan."})
    tokenizer_config: str | None = field(default=None, metadata={"help": "JSON, or a file of it."})
    model_name_or_path: str | None = field(default=None, metadata={"help": "Tokenizer to start from."})
    train_decoder_only: bool = field(default=False, metadata={"help": "Leave the codes as they are."})
    dataset: str = field(default="data/emoji-scenes-64", metadata={"help": "Folder or Hub id."})
    splits: list[str] = field(default_factory=lambda: ["paired", "image"], metadata={"help": "For training."})
    eval_split: str | None = field(default="validation", metadata={"help": "For pictures and the report."})
    resolution: int = field(default=64, metadata={"help": "Side of a picture in pixels."})
    max_cache_gb: float = field(default=2.0, metadata={"help": "Keep pictures in memory up to this size."})
    dataloader_num_workers: int = field(default=0, metadata={"help": "Processes that decode pictures."})

    l1_weight: float = field(default=1.0, metadata={"help": "Weight of the absolute error."})
    l2_weight: float = field(default=1.0, metadata={"help": "Weight of the squared error."})
    edge_weight: float = field(default=1.0, metadata={"help": "Weight of the error of image gradients."})
    codebook_weight: float = field(default=1.0, metadata={"help": "Weight of codebook and commitment loss."})
    perceptual_weight: float = field(default=0.0, metadata={"help": "Weight of LPIPS."})
    perceptual_loss: str | None = field(default=None, metadata={"help": "LPIPS, from utils/convert_lpips.py."})
    gan_weight: float = field(default=0.0, metadata={"help": "Weight of the adversarial loss."})
    gan_start_step: int = field(default=0, metadata={"help": "First step with a discriminator."})
    gan_ramp_steps: int = field(default=150, metadata={"help": "Steps in which its weight then grows to full."})
    discriminator_channels: int = field(default=48, metadata={"help": "Width of its first layer."})
    discriminator_halvings: int = field(default=2, metadata={"help": "Its layers of stride 2."})
    discriminator_learning_rate: float = field(default=2e-4, metadata={"help": "Peak."})

    quantize_from_step: int = field(default=150, metadata={"help": "First step with codes, set by k-means."})
    kmeans_pictures: int = field(default=1536, metadata={"help": "Pictures whose patches k-means clusters."})
    reseed_steps: int = field(default=150, metadata={"help": "Re-seed unused codes every so many steps; 0 never."})
    reseed_until: float = field(default=0.7, metadata={"help": "Share of the run after which codes stay."})

    output_dir: str = field(default="out/image_tokenizer", metadata={"help": "Where everything is written."})
    max_steps: int = field(default=3500, metadata={"help": "Optimizer steps."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Pictures per step and process."})
    learning_rate: float = field(default=1.5e-3, metadata={"help": "Peak of AdamW's learning rate."})
    adam_beta1: float = field(default=0.9, metadata={"help": "0.5 is usual with an adversarial loss."})
    adam_beta2: float = field(default=0.99, metadata={"help": "Of both optimizers."})
    weight_decay: float = field(default=1e-4, metadata={"help": "AdamW's weight decay."})
    warmup_steps: int = field(default=100, metadata={"help": "Steps of linear warm-up; a cosine follows."})
    max_grad_norm: float = field(default=1.0, metadata={"help": "Clip the gradient to this norm."})
    ema_decay: float = field(default=0.0, metadata={"help": "Moving average of the weights; 0 keeps none."})
    use_cpu: bool = field(default=False, metadata={"help": "Even if there is a GPU."})
    seed: int = field(default=0, metadata={"help": "Of weights, order and codebook."})
    logging_steps: int = field(default=100, metadata={"help": "Steps between two log lines."})
    sample_steps: int = field(default=500, metadata={"help": "Steps between two picture grids; 0 never."})
    save_steps: int = field(default=500, metadata={"help": "Steps between two checkpoints; 0 never."})
    save_total_limit: int = field(default=2, metadata={"help": "Checkpoints kept."})
    resume_from_checkpoint: str | None = field(default=None, metadata={"help": "A checkpoint; the last by default."})

    def __post_init__(self):
        if self.tokenizer not in KINDS:
            raise ValueError(f"`tokenizer` must be one of {sorted(KINDS)}, got {self.tokenizer!r}")
        if self.train_decoder_only and self.model_name_or_path is None:
            raise ValueError("`train_decoder_only` needs `model_name_or_path`: new codes are not worth keeping")
        if self.perceptual_weight and self.perceptual_loss is None:
            raise ValueError("`perceptual_weight` needs `perceptual_loss`, a file that utils/convert_lpips.py writes")

    @property
    def loss_weights(self) -> VQLossWeights:
        """The losses' share of these arguments."""
        return VQLossWeights(
            l1=self.l1_weight,
            l2=self.l2_weight,
            edge=self.edge_weight,
            perceptual=self.perceptual_weight,
            codebook=self.codebook_weight,
            gan=self.gan_weight,
        )


def create_image_tokenizer(args: VQTrainingArguments) -> VQModel | PatchVQModel:
    """The tokenizer to start from, with a new decoder if it is to have another shape, or a new one."""
    config = {}
    if args.tokenizer_config is not None:
        text = args.tokenizer_config
        if not text.lstrip().startswith("{"):
            with open(text) as file:
                text = file.read()
        config = json.loads(text)
    if args.model_name_or_path is not None:
        name = PatchVQModel.load_config(args.model_name_or_path)["_class_name"]
        kind = PatchVQModel if name == "PatchVQModel" else VQModel
        image_tokenizer = kind.from_pretrained(args.model_name_or_path)
        return with_new_decoder(image_tokenizer, config) if config else image_tokenizer
    if args.tokenizer == "vqgan":
        config = VQGAN_CONFIG | config
        levels = len(config["block_out_channels"])
        config.setdefault("down_block_types", ["DownEncoderBlock2D"] * levels)
        config.setdefault("up_block_types", ["UpDecoderBlock2D"] * levels)
    return KINDS[args.tokenizer](**config)


def load_pictures(args: VQTrainingArguments, show_progress: bool) -> tuple[PictureDataset, torch.Tensor]:
    """Training pictures, and up to 512 for the report."""
    rows = [load_rows(args.dataset, split).select_columns("image") for split in args.splits]
    pictures = PictureDataset(datasets.concatenate_datasets(rows), args.resolution)
    if pictures.num_bytes <= args.max_cache_gb * 1e9:
        pictures.cache(lambda numbers: tqdm(numbers, desc="decoding pictures", disable=not show_progress))
    shown = pictures
    if args.eval_split is not None:
        shown = PictureDataset(load_rows(args.dataset, args.eval_split), args.resolution)
    return pictures, to_pixel_values(torch.stack([shown[i] for i in range(min(512, len(shown)))]))


class VQTrainer:
    """Models, optimizers and counters of a run, and what happens in a step.

    Args:
        args ([`VQTrainingArguments`]): Settings.
        accelerator (`Accelerator`): Of this process.
    """

    def __init__(self, args: VQTrainingArguments, accelerator: Accelerator):
        self.args, self.accelerator, self.step = args, accelerator, 0
        image_tokenizer = create_image_tokenizer(args)
        autoencoder = VQAutoencoder(image_tokenizer, args.train_decoder_only)
        trained = [p for p in autoencoder.parameters() if p.requires_grad]
        betas = (args.adam_beta1, args.adam_beta2)
        optimizer = torch.optim.AdamW(trained, args.learning_rate, betas, weight_decay=args.weight_decay)
        self.autoencoder, self.optimizer = accelerator.prepare(autoencoder, optimizer)
        self.schedule = get_cosine_schedule_with_warmup(optimizer, args.warmup_steps, args.max_steps)
        self.counter = CodeCounter(image_tokenizer.config.num_vq_embeddings)
        accelerator.register_for_checkpointing(self.counter, self.schedule)
        self.discriminator = self.perceptual = self.ema = None
        if args.gan_weight:
            self.add_discriminator(image_tokenizer.config.in_channels, betas)
        if args.perceptual_weight:
            self.perceptual = load_perceptual_loss(args.perceptual_loss).to(accelerator.device)
        if args.ema_decay:
            self.ema = EMAModel(self.bare.parameters(), decay=args.ema_decay)
            accelerator.register_for_checkpointing(self.ema)

    def add_discriminator(self, in_channels: int, betas: tuple[float, float]):
        """It, its optimizer and its schedule, which begins with its first step."""
        args = self.args
        discriminator = PatchDiscriminator(in_channels, args.discriminator_channels, args.discriminator_halvings)
        optimizer = torch.optim.AdamW(
            discriminator.parameters(), args.discriminator_learning_rate, betas, weight_decay=0.0
        )
        num_steps = max(1, args.max_steps - args.gan_start_step)
        self.discriminator_schedule = get_cosine_schedule_with_warmup(optimizer, args.warmup_steps, num_steps)
        self.discriminator, self.discriminator_optimizer = self.accelerator.prepare(discriminator, optimizer)
        self.accelerator.register_for_checkpointing(self.discriminator_schedule)

    @property
    def bare(self) -> VQAutoencoder:
        """The autoencoder without what distributed training wraps around it."""
        return self.accelerator.unwrap_model(self.autoencoder)

    @property
    def image_tokenizer(self) -> VQModel | PatchVQModel:
        """What is trained."""
        return self.bare.image_tokenizer

    def generator(self, purpose: str) -> torch.Generator:
        """Randomness of this step."""
        return torch.Generator().manual_seed(keyed_integer(self.args.seed, f"vq/{purpose}", self.step))

    @torch.no_grad()
    def start_codebook(self, pictures: PictureDataset):
        """k-means over the patches of some pictures; every process computes the same."""
        number = min(self.args.kmeans_pictures, len(pictures))
        chosen = torch.randperm(len(pictures), generator=self.generator("kmeans"))[:number]
        latents = []
        for indices in chosen.split(64):
            batch = torch.stack([pictures[int(i)] for i in indices]).to(self.accelerator.device)
            encoded = self.image_tokenizer.encode(to_pixel_values(batch)).latents  # (B, C, h, w)
            latents.append(encoded.permute(0, 2, 3, 1).flatten(0, 2))
        points = torch.cat(latents)
        distinct = distinct_points(points)
        if len(distinct) >= len(self.bare.codebook):
            points = distinct
        logger.info(f"k-means over {len(points)} patches of {number} pictures")
        self.bare.codebook.copy_(kmeans(points, len(self.bare.codebook), self.generator("centres")))

    def count_codes(self, output):
        """Keep count of the codes; now and then move unused ones."""
        self.counter.add(self.accelerator.gather(output.image_token_ids))
        args, done = self.args, self.step + 1
        if not args.reseed_steps or done % args.reseed_steps:
            return
        if not args.train_decoder_only and done <= args.reseed_until * args.max_steps:
            latents = self.accelerator.gather(output.latents.detach().permute(0, 2, 3, 1).flatten(0, 2).contiguous())
            reseed_dead_codes(self.bare.codebook, self.counter.current, latents, self.generator("reseed"))
        self.counter.next_window()

    def train_step(self, pixel_values: torch.Tensor) -> dict[str, float]:
        """One step of the autoencoder, and of the discriminator if there is one."""
        args, accelerator = self.args, self.accelerator
        quantize = args.model_name_or_path is not None or self.step >= args.quantize_from_step
        output = self.autoencoder(pixel_values, quantize=quantize)
        fights = self.discriminator is not None and self.step >= args.gan_start_step
        judge, weights = None, args.loss_weights
        if fights:
            judge = accelerator.unwrap_model(self.discriminator).requires_grad_(False)
            weights.gan *= min(1.0, (self.step - args.gan_start_step) / max(1, args.gan_ramp_steps))
        losses = vq_losses(output, pixel_values, weights, self.bare.last_layer, self.perceptual, judge)
        self.optimize(sum(losses.values()), self.autoencoder, self.optimizer)
        if fights:
            judge.requires_grad_(True)
            # one pass over both, as distributed training allows one pass per step
            logits = self.discriminator(torch.cat([pixel_values, output.sample.detach()]))
            losses["discriminator"] = discriminator_hinge_loss(*logits.chunk(2))
            self.optimize(losses["discriminator"], self.discriminator, self.discriminator_optimizer)
            self.discriminator_schedule.step()
        self.schedule.step()
        if self.ema is not None:
            self.ema.step(self.bare.parameters())
        if quantize:
            self.count_codes(output)
        if (self.step + 1) % args.logging_steps:
            return {}
        return {name: loss.item() for name, loss in losses.items()} | {"psnr": psnr(output.sample, pixel_values)}

    def optimize(self, loss: torch.Tensor, model: torch.nn.Module, optimizer):
        """Backward pass and step."""
        optimizer.zero_grad()
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(model.parameters(), self.args.max_grad_norm)
        optimizer.step()

    def log(self, logs: dict[str, float]):
        """One line for the eye, and one of JSON in `log.jsonl`."""
        counts = self.counter.counts
        learning_rate = self.schedule.get_last_lr()[0]
        logs = {"step": self.step, **logs, "learning_rate": learning_rate}
        if counts.any():
            logs |= {"code_usage": code_usage(counts), "code_entropy": code_entropy(counts)}
        tqdm.write("  ".join(f"{name} {value:.4g}" for name, value in logs.items()))
        with open(os.path.join(self.args.output_dir, "log.jsonl"), "a") as file:
            file.write(json.dumps(logs) + "\n")

    @torch.no_grad()
    def draw(self, pixel_values: torch.Tensor):
        """The first pictures above their reconstructions, by the averaged weights if there are any."""
        shown = pixel_values[:12].to(self.accelerator.device)
        self.swap_averages(into=True)
        self.image_tokenizer.eval()
        sample = self.bare(shown, self.counter.counts.any() or self.args.model_name_or_path is not None).sample
        self.image_tokenizer.train()
        self.swap_averages(into=False)
        folder = os.path.join(self.args.output_dir, "samples")
        os.makedirs(folder, exist_ok=True)
        reconstruction_grid(shown, sample).save(os.path.join(folder, f"step-{self.step}.png"))

    def swap_averages(self, into: bool):
        """Put the averaged weights in, or the trained ones back."""
        if self.ema is not None and into:
            self.ema.store(self.bare.parameters())
            self.ema.copy_to(self.bare.parameters())
        elif self.ema is not None:
            self.ema.restore(self.bare.parameters())

    def save_checkpoint(self):
        """All that a run needs to go on; a folder gets its name once it is whole."""
        args, accelerator = self.args, self.accelerator
        name = f"checkpoint-{self.step}"
        partial = os.path.join(args.output_dir, f"partial-{name}")
        accelerator.save_state(partial)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            shutil.rmtree(os.path.join(args.output_dir, name), ignore_errors=True)
            os.rename(partial, os.path.join(args.output_dir, name))
            kept = [entry for entry in os.listdir(args.output_dir) if entry.startswith("checkpoint-")]
            for old in sorted(kept, key=lambda entry: int(entry.rpartition("-")[2]))[: -args.save_total_limit]:
                shutil.rmtree(os.path.join(args.output_dir, old))
        accelerator.wait_for_everyone()

    def resume(self):
        """Take up the run where the checkpoint left it."""
        checkpoint = self.args.resume_from_checkpoint
        if checkpoint == "last":
            found = os.path.isdir(self.args.output_dir)
            checkpoint = get_last_checkpoint(self.args.output_dir) if found else None
        if checkpoint is None:
            logger.info("no checkpoint yet: starting from step 0")
            return
        self.accelerator.load_state(checkpoint)
        self.step = int(checkpoint.rstrip("/").rpartition("-")[2])
        logger.info(f"resuming from {checkpoint}")

    def train(self, pictures: PictureDataset, shown: torch.Tensor):
        """All steps from the present one on."""
        args, accelerator = self.args, self.accelerator
        at = {"rank": accelerator.process_index, "world_size": accelerator.num_processes}
        steps = StepBatchSampler(
            len(pictures), args.per_device_train_batch_size, self.step, args.max_steps, args.seed, **at
        )
        loader = DataLoader(pictures, batch_sampler=steps, num_workers=args.dataloader_num_workers)
        bar = tqdm(loader, initial=self.step, total=args.max_steps, disable=not accelerator.is_local_main_process)
        for batch in bar:
            if self.step == args.quantize_from_step and args.model_name_or_path is None:
                self.start_codebook(pictures)
            logs = self.train_step(to_pixel_values(batch.to(accelerator.device)))
            self.step += 1
            last = self.step == args.max_steps
            if logs and accelerator.is_main_process:
                self.log(logs)
            if accelerator.is_main_process and args.sample_steps and (last or self.step % args.sample_steps == 0):
                self.draw(shown)
            if args.save_steps and self.step % args.save_steps == 0:
                self.save_checkpoint()

    def finish(self, shown: torch.Tensor):
        """Write the tokenizer and the report on it."""
        if self.ema is not None:
            self.ema.copy_to(self.bare.parameters())
        if not self.accelerator.is_main_process:
            return
        tokenizer = self.image_tokenizer.eval()
        tokenizer.save_pretrained(self.args.output_dir)
        report = examine_image_tokenizer(tokenizer, shown.to(self.accelerator.device))
        logger.info("  ".join(f"{name} {value:.4g}" for name, value in report.items()))
        with open(os.path.join(self.args.output_dir, "report.json"), "w") as file:
            report = {name: None if math.isnan(value) else value for name, value in report.items()}  # JSON has no NaN
            json.dump({"report": report, "arguments": asdict(self.args)}, file, indent=2)
        logger.info(f"image tokenizer: {os.path.abspath(self.args.output_dir)}")


def main(arguments: list[str] | None = None):
    """Load, build, train, save."""
    (args,) = parse_arguments([VQTrainingArguments], arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    accelerator = Accelerator(cpu=args.use_cpu, project_config=ProjectConfiguration(project_dir=args.output_dir))
    set_seed(args.seed)
    os.makedirs(args.output_dir, exist_ok=True)
    trainer = VQTrainer(args, accelerator)
    if args.resume_from_checkpoint is not None:
        trainer.resume()
    with accelerator.main_process_first():
        pictures, shown = load_pictures(args, accelerator.is_local_main_process)
    trainer.train(pictures, shown)
    trainer.finish(shown)


if __name__ == "__main__":
    main()
