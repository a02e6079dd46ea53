# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""[`VQTrainer`]: trains an image tokenizer with the checkpoints and guards of [`ResilientTrainer`]."""

import json
import os
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from diffusers import VQModel
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from transformers import TrainerCallback, get_cosine_schedule_with_warmup
from transformers.utils import logging

from ..models.image_tokenization_itit import PatchVQModel, downsampling_factor
from ..rng import keyed_integer
from ..training.checkpointing import CheckpointError
from ..training.resilient_trainer import ResilientTrainer, StateAccess, optimizer_rates, take_rates
from ..training.training_args import ResilientTrainingArguments, check_numbers
from .perceptual_loss import load_perceptual_loss
from .vq_evaluation import CodeCounter, code_entropy, code_usage, evaluate_image_tokenizer, psnr, reconstruction_grid
from .vq_training import (
    ImageDataset,
    PatchDiscriminator,
    StepBatchSampler,
    VQAutoencoder,
    VQLossWeights,
    discriminator_hinge_loss,
    distinct_points,
    kmeans,
    reseed_dead_codes,
    to_pixel_values,
    vq_losses,
)

logger = logging.get_logger(__name__)

LOG_NAME = "log.jsonl"
WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"
NUM_SHOWN = 12  # images above their reconstructions


@dataclass
class VQTrainingArguments(ResilientTrainingArguments):
    """[`ResilientTrainingArguments`] and what an image tokenizer needs besides.

    Args:
        train_decoder_only (`bool`): Leave encoder and codebook, and so the codes, as they are.
        l1_weight (`float`): Weight of the absolute error of the pixels.
        l2_weight (`float`): Weight of their squared error.
        edge_weight (`float`): Weight of the error of the image gradients.
        codebook_weight (`float`): Weight of codebook and commitment loss.
        perceptual_weight (`float`): Weight of LPIPS.
        perceptual_loss (`str`, *optional*): File with the weights of LPIPS, from utils/convert_lpips.py.
        gan_weight (`float`): Weight of the adversarial loss.
        gan_start_step (`int`): First step with a discriminator.
        gan_ramp_steps (`int`): Steps in which its weight then grows to full.
        discriminator_channels (`int`): Width of its first layer.
        discriminator_halvings (`int`): Its layers of stride 2.
        discriminator_learning_rate (`float`): Its peak rate.
        quantize_from_step (`int`): First step with codes, which k-means sets; not for codes that are trained already.
        kmeans_images (`int`): Images whose patches k-means clusters.
        reseed_steps (`int`): Re-seed unused codes every so many steps; 0 never.
        reseed_until (`float`): Share of the run after which codes stay.
        ema_decay (`float`): Decay of a moving average of the weights, which is what is written; 0.0 keeps none.
        sample_steps (`int`): Steps between two grids of images and their reconstructions; 0 never.
        save_steps (`int`): Steps between two checkpoints; 0 never.
    """

    checkpoint_parts: ClassVar[tuple[str, ...]] = (
        *ResilientTrainingArguments.checkpoint_parts,
        "codes",
        "discriminator",
    )
    fixed_on_resume: ClassVar[tuple[str, ...]] = ("optim", "train_decoder_only")
    changeable_on_resume: ClassVar[tuple[str, ...]] = (
        *ResilientTrainingArguments.changeable_on_resume,
        "discriminator_learning_rate",
    )

    train_decoder_only: bool = field(default=False, metadata={"help": "Leave the codes as they are."})
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
    kmeans_images: int = field(default=1536, metadata={"help": "Images whose patches k-means clusters."})
    reseed_steps: int = field(default=150, metadata={"help": "Re-seed unused codes every so many steps; 0 never."})
    reseed_until: float = field(default=0.7, metadata={"help": "Share of the run after which codes stay."})
    ema_decay: float = field(default=0.0, metadata={"help": "Moving average of the weights; 0 keeps none."})
    sample_steps: int = field(default=500, metadata={"help": "Steps between two image grids; 0 never."})

    output_dir: str = field(default="out/image_tokenizer", metadata={"help": "Where everything is written."})
    optim: str = field(default="adamw_torch", metadata={"help": "AdamW."})
    max_steps: int = field(default=3500, metadata={"help": "Optimizer steps."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Images per step and process."})
    learning_rate: float = field(default=1.5e-3, metadata={"help": "Peak."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "After the warm-up."})
    adam_beta1: float = field(default=0.9, metadata={"help": "0.5 is usual with an adversarial loss."})
    adam_beta2: float = field(default=0.99, metadata={"help": "Of both optimizers."})
    weight_decay: float = field(default=1e-4, metadata={"help": "Of all parameters, not of the discriminator's."})
    warmup_steps: float = field(default=100, metadata={"help": "Steps of linear warm-up."})
    max_grad_norm: float = field(default=1.0, metadata={"help": "Clip the gradient to this norm."})
    seed: int = field(default=0, metadata={"help": "Of weights, order and codebook."})
    logging_steps: float = field(default=100, metadata={"help": "Steps between two log lines."})
    save_steps: float = field(default=500, metadata={"help": "Steps between two checkpoints; 0 never."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints kept."})
    dataloader_pin_memory: bool = field(default=False, metadata={"help": "Pin memory, for a GPU."})

    def __post_init__(self):
        if self.save_steps == 0:
            self.save_strategy = "no"
        super().__post_init__()
        weights = [f"{name}_weight" for name in ("l1", "l2", "edge", "codebook", "perceptual", "gan")]
        counts = ("gan_start_step", "gan_ramp_steps", "quantize_from_step", "reseed_steps", "sample_steps")
        check_numbers(self, dict.fromkeys([*weights, *counts, "discriminator_learning_rate", "reseed_until"], 0))
        check_numbers(self, dict.fromkeys(("discriminator_channels", "kmeans_images"), 1))
        check_numbers(self, {"discriminator_halvings": 0})
        check_numbers(self, {"ema_decay": 0.0}, below=1.0)
        if not any(getattr(self, name) for name in ("l1_weight", "l2_weight", "edge_weight", "perceptual_weight")):
            raise ValueError("one of `l1_weight`, `l2_weight`, `edge_weight` and `perceptual_weight` must be above 0")
        if self.perceptual_weight and self.perceptual_loss is None:
            raise ValueError("`perceptual_weight` needs `perceptual_loss`, a file that utils/convert_lpips.py writes")
        if self.fp16:
            raise ValueError("`fp16` must be off: the weight of the adversarial loss overflows in it; use `bf16`")

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


class _VQCallback(TrainerCallback):
    """What happens before and after an update."""

    def __init__(self, trainer: "VQTrainer"):
        self.trainer = trainer

    def on_step_begin(self, args, state, control, **kwargs):
        if self.trainer.new_codes and state.global_step == args.quantize_from_step:
            self.trainer.start_codebook()

    def on_optimizer_step(self, args, state, control, **kwargs):
        self.trainer.update_discriminator()

    def on_step_end(self, args, state, control, **kwargs):
        self.trainer.end_update()
        last = state.global_step == state.max_steps
        if args.sample_steps and (last or state.global_step % args.sample_steps == 0) and args.should_save:
            self.trainer.log_samples()

    def on_log(self, args, state, control, logs=None, **kwargs):
        if args.should_save and "loss" in (logs or {}):
            os.makedirs(args.output_dir, exist_ok=True)
            with open(os.path.join(args.output_dir, LOG_NAME), "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": state.global_step, **logs}) + "\n")


class VQTrainer(ResilientTrainer):
    """Trains [`VQAutoencoder`] on images, without codes at first, then with a codebook that k-means starts.

    What a step sees is a function of the seed and the step. With several processes each sees its share of the batch.

    Args:
        image_tokenizer (`VQModel` or [`PatchVQModel`]): Image tokenizer to train, in place.
        args ([`VQTrainingArguments`]): Settings.
        train_dataset ([`ImageDataset`]): Images.
        shown (`torch.ByteTensor` of shape `(num_images, 3, height, width)`): Images for the grids and the report.
        new_codes (`bool`, *optional*, defaults to `True`): The codebook is not trained yet: k-means starts it.

    Raises:
        ValueError: If the images do not fit the tokenizer, there are too few of them for k-means, or the codebook
            would never be used.
    """

    loss_is_scaled_for_ga = False  # every loss is a mean over its micro-batch

    def __init__(
        self,
        image_tokenizer: VQModel | PatchVQModel,
        args: VQTrainingArguments,
        train_dataset: ImageDataset,
        shown: torch.Tensor,
        new_codes: bool = True,
    ):
        self.new_codes = new_codes
        self.shown = shown
        _check_codes(image_tokenizer, args, train_dataset, new_codes)
        # Before the Trainer sets the seed again, or it would start from the numbers that the autoencoder had.
        discriminator = None
        if args.gan_weight:
            discriminator = PatchDiscriminator(
                image_tokenizer.config.in_channels, args.discriminator_channels, args.discriminator_halvings
            )
        super().__init__(
            model=VQAutoencoder(image_tokenizer, args.train_decoder_only),
            args=args,
            data_collator=_collate,
            train_dataset=train_dataset,
            eval_dataset=None,
            processing_class=None,
        )
        if self.is_fsdp_enabled:
            raise ValueError("FSDP must be off: k-means and the re-seeding of codes need the whole codebook")
        self.counter = CodeCounter(image_tokenizer.config.num_vq_embeddings)
        self._outputs: list = []  # of the current update
        self.discriminator: PatchDiscriminator | None = None
        self.perceptual: torch.nn.Module | None = None
        self.ema: EMAModel | None = None
        if discriminator is not None:
            self._add_discriminator(discriminator)
        if args.perceptual_weight:
            self.perceptual = load_perceptual_loss(args.perceptual_loss).to(args.device)
        if args.ema_decay:
            self.ema = EMAModel(self.model.parameters(), decay=args.ema_decay)
            self.ema.to(device=args.device)
        self.add_callback(_VQCallback(self))

    def _add_discriminator(self, discriminator: PatchDiscriminator):
        """It, its optimizer and its schedule, which begins with its first step."""
        args = self.args
        betas = (args.adam_beta1, args.adam_beta2)
        optimizer = torch.optim.AdamW(
            discriminator.parameters(), args.discriminator_learning_rate, betas, weight_decay=0.0
        )
        num_steps = max(1, args.max_steps - args.gan_start_step)
        warmup_steps = args.get_warmup_steps(args.max_steps)
        self.discriminator_schedule = get_cosine_schedule_with_warmup(optimizer, warmup_steps, num_steps)
        self.discriminator = self.accelerator.prepare(discriminator)
        # Not prepared, so that it steps by itself: accelerate would tie it to that of the autoencoder.
        self.discriminator_optimizer = optimizer

    @property
    def image_tokenizer(self) -> VQModel | PatchVQModel:
        """What is trained."""
        return self.model.image_tokenizer

    @property
    def uses_discriminator(self) -> bool:
        """Whether there is a discriminator in this step."""
        return self.discriminator is not None and self.state.global_step >= self.args.gan_start_step

    def generator(self, purpose: str, step: int) -> torch.Generator:
        """Randomness of a step."""
        return torch.Generator().manual_seed(keyed_integer(self.args.seed, f"vq/{purpose}", step))

    def create_optimizer(self, model=None):
        """One group of parameters, all of which decay; transformers would leave out biases and norms."""
        if self.optimizer is None:
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
            self.optimizer = optimizer_class(trained, **{"weight_decay": self.args.weight_decay, **options})
        return self.optimizer

    # Data.

    def get_train_dataloader(self) -> DataLoader:
        """Micro-batches of this rank; see [`StepBatchSampler`]. Not sharded again by accelerate."""
        args = self.args
        times = args.gradient_accumulation_steps
        steps = StepBatchSampler(
            len(self.train_dataset),
            args.per_device_train_batch_size,
            first_step=self.first_update * times,
            last_step=args.max_steps * times,
            seed=args.seed,
            rank=args.process_index,
            world_size=args.world_size,
        )
        return DataLoader(self.train_dataset, batch_sampler=steps, **self.loader_options())

    def data_metadata(self) -> dict:
        """Seed, number of images, and images per update."""
        args = self.args
        samples = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        return {"seed": args.seed, "images": len(self.train_dataset), "samples": samples}

    def update_debug_info(self) -> dict:
        """Losses of the micro-batches of this update."""
        losses = [{name: str(value.item()) for name, value in batch["losses"].items()} for batch in self.micro_batches]
        return {"losses": losses}

    # An update.

    @torch.no_grad()
    def start_codebook(self):
        """k-means over the patches of some images; every process computes the same.

        Raises:
            FloatingPointError: If the encoder gives numbers that are not finite.
        """
        images = self.train_dataset
        step = self.state.global_step
        number = min(self.args.kmeans_images, len(images))
        chosen = torch.randperm(len(images), generator=self.generator("kmeans", step))[:number]
        latents = []
        for indices in chosen.split(64):
            batch = torch.stack([images[int(i)] for i in indices]).to(self.args.device)
            encoded = self.image_tokenizer.encode(to_pixel_values(batch)).latents  # (B, C, h, w)
            latents.append(encoded.permute(0, 2, 3, 1).flatten(0, 2))
        points = torch.cat(latents)  # (num_patches, C)
        codebook = self.model.codebook
        if not points.isfinite().all():
            raise FloatingPointError(
                f"step {step}: the encoder's latents are not finite, so that they cannot start a codebook; nothing is "
                "saved. Try a lower `learning_rate`"
            )
        distinct = distinct_points(points)
        if len(distinct) >= len(codebook):
            points = distinct
        logger.info(f"k-means over {len(points)} patches of {number} images")
        codebook.copy_(kmeans(points, len(codebook), self.generator("centres", step)))

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Weighted sum of the losses, a scalar of shape `()`; with `return_outputs` also the [`VQStepOutput`]."""
        args = self.args
        step = self.state.global_step
        pixel_values = to_pixel_values(inputs["pixel_values"])  # (B, 3, H, W)
        output = model(pixel_values, quantize=not self.new_codes or step >= args.quantize_from_step)
        weights = args.loss_weights
        discriminator = None
        if self.uses_discriminator:
            discriminator = self.accelerator.unwrap_model(self.discriminator).requires_grad_(False)
            weights.gan *= min(1.0, (step - args.gan_start_step) / max(1, args.gan_ramp_steps))
        losses = vq_losses(output, pixel_values, weights, self.model.last_layer, self.perceptual, discriminator)
        loss = sum(losses.values())
        losses = {name: value.detach() for name, value in losses.items()}
        self.micro_batches.append({"loss": loss.detach(), "losses": losses})
        self._outputs.append((pixel_values, output))
        self.add_figures(losses)
        if (step + 1) % self.state.logging_steps == 0:
            self.add_figures({"psnr": torch.tensor(psnr(output.sample, pixel_values), device=args.device)})
        return (loss, output) if return_outputs else loss

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        """One pass of the autoencoder, and of the discriminator if there is one; the autoencoder's loss, a scalar of
        shape `()`."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self.uses_discriminator:
            pixel_values, output = self._outputs[-1]
            self.accelerator.unwrap_model(self.discriminator).requires_grad_(True)
            # one pass over both, as distributed training allows one pass per step
            logits = self.discriminator(torch.cat([pixel_values, output.sample.detach()]))  # (2 B, 1, h, w)
            real_logits, fake_logits = logits.chunk(2)
            discriminator_loss = discriminator_hinge_loss(real_logits, fake_logits)
            (discriminator_loss / self.args.gradient_accumulation_steps).backward()
            self.add_figures({"discriminator": discriminator_loss.detach()})
        return loss

    def _get_grad_norm(self, model, grad_norm=None):
        """Also the discriminator's gradient must be finite, or neither is updated."""
        if self.uses_discriminator:
            norm = torch.nn.utils.clip_grad_norm_(self.discriminator.parameters(), self.args.max_grad_norm)
            self.micro_batches.append({"loss": norm, "losses": {"norm of the discriminator's gradient": norm}})
        return super()._get_grad_norm(model, grad_norm=grad_norm)

    def update_discriminator(self):
        """A step of the discriminator, unless this update is left out."""
        if not self.uses_discriminator:
            return
        if not self.update_is_skipped:
            self.discriminator_optimizer.step()
        self.discriminator_schedule.step()
        self.discriminator_optimizer.zero_grad()

    def end_update(self):
        """Average the weights, and keep count of the codes; now and then move unused ones."""
        outputs = self._outputs
        self._outputs = []
        if self.update_is_skipped:
            return
        if self.ema is not None:
            self.ema.step(self.model.parameters())
        args = self.args
        done = self.state.global_step  # this one has been counted already
        if outputs[0][1].image_token_ids is None:
            return
        for _, output in outputs:
            self.counter.add(self.accelerator.gather(output.image_token_ids))
        if not args.reseed_steps or done % args.reseed_steps:
            return
        if not args.train_decoder_only and done <= args.reseed_until * args.max_steps:
            latents = torch.cat([output.latents.detach().permute(0, 2, 3, 1).flatten(0, 2) for _, output in outputs])
            latents = self.accelerator.gather(latents.contiguous())
            generator = self.generator("reseed", done - 1)
            reseed_dead_codes(self.model.codebook, self.counter.current, latents, generator)
        self.counter.next_window()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of each loss since the last log, and how the codes are used."""
        if "loss" in logs:
            logs |= self.pop_figures()
            if self.counter.counts.any():
                counts = self.counter.counts
                logs |= {"code_usage": code_usage(counts), "code_entropy": code_entropy(counts)}
        super().log(logs, start_time)

    # Saving and resuming.

    def replicated_state(self) -> dict[str, StateAccess]:
        """Also the counts of the codes, the discriminator, and the averaged weights."""
        state = super().replicated_state()
        state["codes"] = (self.counter.state_dict, self.counter.load_state_dict)
        if self.discriminator is not None:
            state["discriminator"] = (self._discriminator_state, self._set_discriminator)
        if self.ema is not None:
            state["ema"] = (self._averages, self._set_averages)
        return state

    def _discriminator_state(self) -> dict:
        return {
            "model": self.accelerator.unwrap_model(self.discriminator).state_dict(),
            "optimizer": self.discriminator_optimizer.state_dict(),
            "schedule": self.discriminator_schedule.state_dict(),
        }

    def _set_discriminator(self, state: dict):
        own = optimizer_rates(self.discriminator_optimizer)
        self.accelerator.unwrap_model(self.discriminator).load_state_dict(state["model"])
        self.discriminator_optimizer.load_state_dict(state["optimizer"])
        self.discriminator_schedule.load_state_dict(state["schedule"])
        take_rates(self.discriminator_optimizer, self.discriminator_schedule, own)

    def _averages(self) -> dict:
        return {"step": self.ema.optimization_step, "weights": self.ema.shadow_params}

    def _set_averages(self, averages: dict):
        self.ema.optimization_step = averages["step"]
        self.ema.shadow_params = [weight.to(self.args.device) for weight in averages["weights"]]

    def tensors_to_save(self):
        """Also the averaged weights and the discriminator, three times for its optimizer; of any shape."""
        yield from super().tensors_to_save()
        if self.ema is not None:
            yield from self.ema.shadow_params
        if self.discriminator is not None:
            for _ in range(3):  # itself and the two moments of its optimizer
                yield from self.discriminator.parameters()

    def _write_model(self, output_dir: str):
        """A folder that opens as an image tokenizer, with the image processor that it was trained with."""
        if self.args.should_save:
            self.image_tokenizer.save_pretrained(output_dir)
            self.train_dataset.image_processor.save_pretrained(output_dir)
            self.write_arguments(output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        try:
            self.image_tokenizer.load_state_dict(load_file(os.path.join(resume_from_checkpoint, WEIGHTS_NAME)))
        except (OSError, RuntimeError) as error:
            message = f"{resume_from_checkpoint}: its weights are of another tokenizer: {error}"
            raise CheckpointError(message) from error

    @torch.no_grad()
    def log_samples(self):
        """The first images above their reconstructions, by the averaged weights if there are any."""
        shown = to_pixel_values(self.shown[:NUM_SHOWN].to(self.args.device))
        quantize = not self.new_codes or bool(self.counter.counts.any())
        if self.ema is not None:
            self.ema.store(self.model.parameters())
            self.ema.copy_to(self.model.parameters())
        training = self.model.training
        sample = self.model.eval()(shown, quantize).sample
        self.model.train(training)
        if self.ema is not None:
            self.ema.restore(self.model.parameters())
        folder = os.path.join(self.args.output_dir, "samples")
        os.makedirs(folder, exist_ok=True)
        reconstruction_grid(shown, sample).save(os.path.join(folder, f"step-{self.state.global_step}.png"))

    def finish(self) -> dict[str, float]:
        """Write the trained tokenizer, with the averaged weights if there are any; the figures of
        [`~pretraining.vq_evaluation.evaluate_image_tokenizer`]. All processes call it.

        Raises:
            FloatingPointError: If weights or reconstructions are not finite; nothing is written then.
        """
        if self.ema is not None:
            self.ema.copy_to(self.model.parameters())
        report = evaluate_image_tokenizer(
            self.image_tokenizer.eval(), to_pixel_values(self.shown).to(self.args.device)
        )
        if not report["psnr"] > float("-inf"):
            raise FloatingPointError(
                f"step {self.state.global_step}: the reconstructions are not finite, so nothing is saved; earlier "
                f"checkpoints of {self.args.output_dir} are as they were. Try a lower `learning_rate`"
            )
        self.save_model()
        return report


def _collate(images: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """`uint8` images of shape (3, H, W) -> (B, 3, H, W)."""
    return {"pixel_values": torch.stack(images)}


def _check_codes(image_tokenizer, args: VQTrainingArguments, images: ImageDataset, new_codes: bool):
    """What would fail in the middle of a run is said before it."""
    factor = downsampling_factor(image_tokenizer)
    num_codes = image_tokenizer.config.num_vq_embeddings
    if images.height % factor or images.width % factor:
        raise ValueError(
            f"`resolution` must be a multiple of {factor}, a token's side, got {images.height} x {images.width}"
        )
    if not new_codes:
        return
    if args.quantize_from_step >= args.max_steps:
        raise ValueError(
            f"`quantize_from_step` must be less than `max_steps`, {args.max_steps}, or the codebook is never trained; "
            f"got {args.quantize_from_step}"
        )
    number = min(args.kmeans_images, len(images))
    num_patches = number * (images.height // factor) * (images.width // factor)
    if num_patches < num_codes:
        raise ValueError(
            f"k-means needs at least as many patches as codes: {number} images have {num_patches}, the codebook has "
            f"{num_codes}; give more images, raise `kmeans_images`, or lower `num_vq_embeddings` of "
            "`tokenizer_config`"
        )
