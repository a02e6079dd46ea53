# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""[`ITITTrainer`]: the Trainer of transformers over three streams and a list of named losses."""

import math
import os
from collections import defaultdict
from collections.abc import Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import replace

import torch
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback
from transformers.optimization import Adafactor
from transformers.utils import logging

from .data import ITITCollator, MixedBatchSampler, MixedDataset, Stream
from .image_processing_itit import load_image
from .objectives import ITITObjectives
from .pipeline_itit import ITITPipeline
from .scheduling_itit import ITITScheduler
from .training_args import ITITTrainingArguments
from .visualization import labelled_grid

logger = logging.get_logger(__name__)

EMA_NAME = "ema.safetensors"


class CappedAdafactor(Adafactor):
    """Adafactor with momentum and a cap on the decay of the second moment: `min(beta2, 1 - step**-0.8)`.

    The paper gives beta1 0.9 and beta2 0.96 (Table 3); transformers' Adafactor knows the growing decay only.

    Args:
        params: Parameters or groups of them.
        lr (`float`): Learning rate, as it is: neither relative nor scaled by the parameter.
        beta1 (`float`, *optional*, defaults to 0.9): Momentum.
        beta2 (`float`, *optional*, defaults to 0.96): Largest decay of the second moment.
        weight_decay (`float`, *optional*, defaults to 0.0): Decoupled weight decay.
    """

    def __init__(self, params, lr: float, beta1: float = 0.9, beta2: float = 0.96, weight_decay: float = 0.0):
        super().__init__(
            params, lr=lr, beta1=beta1, weight_decay=weight_decay, scale_parameter=False, relative_step=False
        )
        self.beta2 = beta2

    def step(self, closure=None):
        """One update."""
        for group in self.param_groups:
            step = max((self.state[p].get("step", 0) for p in group["params"] if p in self.state), default=0) + 1
            capped = math.log(1 - self.beta2) / math.log(step) if step > 1 else -0.8  # 1 - step**capped == beta2
            group["decay_rate"] = max(-0.8, capped)
        return super().step(closure)


class SampleCallback(TrainerCallback):
    """Draws and captions every `sample_steps` steps.

    Args:
        trainer ([`ITITTrainer`]): Whose model to draw with.
    """

    def __init__(self, trainer: "ITITTrainer"):
        self.trainer = trainer

    def on_step_end(self, args, state, control, **kwargs):
        """Called by the Trainer."""
        if args.sample_steps and state.global_step % args.sample_steps == 0 and state.is_world_process_zero:
            self.trainer.log_samples()


class EMACallback(TrainerCallback):
    """Updates the moving average after each optimizer step.

    Args:
        trainer ([`ITITTrainer`]): Whose `ema` to update.
    """

    def __init__(self, trainer: "ITITTrainer"):
        self.trainer = trainer

    def on_step_end(self, args, state, control, **kwargs):
        """Called by the Trainer."""
        self.trainer.ema.step(self.trainer.model.parameters())


class ITITTrainer(Trainer):
    """Trains [`ITITForPreTraining`] on named objectives over streams of pairs, pictures and sentences.

    Args:
        model ([`ITITForPreTraining`]): What is trained.
        args ([`ITITTrainingArguments`]): Settings.
        processing_class ([`ITITProcessor`]): Processor with the image tokenizer; saved with the weights.
        text_encoder (`torch.nn.Module`): Frozen text encoder. Gradients may pass through it, never into it.
        train_streams (`Mapping[str, Dataset]`):
            Datasets with random access by stream name; `"paired"` has the columns `image` (or `image_token_ids`) and
            `text` (a caption or a list of them).
        eval_dataset (`Dataset`, *optional*): Held-out pairs, with the same columns.
        scheduler ([`ITITScheduler`], *optional*): Of the exported pipeline and of the sample pictures.
        callbacks (`list[TrainerCallback]`, *optional*): As in transformers.
        optimizers (`tuple`, *optional*): As in transformers.
    """

    loss_is_scaled_for_ga = False  # every objective is a mean over its micro-batch
    _tag_names = ["itit", "text-to-image", "image-to-text"]

    def __init__(
        self,
        model,
        args: ITITTrainingArguments,
        processing_class,
        text_encoder: torch.nn.Module,
        train_streams: Mapping,
        eval_dataset=None,
        scheduler: ITITScheduler | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple = (None, None),
    ):
        self.streams = [Stream(name, rows, seed=args.data_seed or args.seed) for name, rows in train_streams.items()]
        super().__init__(
            model=model,
            args=args,
            data_collator=ITITCollator(processing_class, model.config.max_text_length),
            train_dataset=MixedDataset(self.streams),
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            callbacks=callbacks,
            optimizers=optimizers,
        )
        self.image_tokenizer = processing_class.image_tokenizer.requires_grad_(False).eval().to(args.device)
        self.text_encoder = text_encoder.requires_grad_(False).eval().to(args.device)
        self.scheduler = scheduler or ITITScheduler(mask_token_id=model.config.mask_token_id)
        self._set_null_text()
        self.objectives = ITITObjectives(
            args.objectives,
            model.config,
            self.text_encoder,
            self.image_tokenizer,
            args.objective_settings(),
            self.scheduler,
        )
        self._check_streams()
        for name in self.objectives.idle_decoders:
            getattr(self.model, name).requires_grad_(False)
        self._loss_sums: dict[str, torch.Tensor] = defaultdict(float)
        self._num_micro_batches = 0
        self.ema = None
        if args.ema_decay > 0.0:
            self.ema = EMAModel(self.model.parameters(), decay=args.ema_decay, use_ema_warmup=True, power=0.75)
            self.ema.to(device=args.device)
            self.add_callback(EMACallback(self))
        if args.sample_steps:
            self.add_callback(SampleCallback(self))

    def _check_streams(self):
        given, read = {stream.name for stream in self.streams}, set(self.objectives.streams)
        if given != read:
            raise ValueError(
                f"`objectives` {list(self.objectives.names)} read the streams {sorted(read)}, "
                f"`train_streams` has {sorted(given)}"
            )

    @torch.no_grad()
    def _set_null_text(self):
        """The text encoder's features of the empty text become part of the weights."""
        inputs = self.processing_class(text=[""], return_tensors="pt").to(self.args.device)
        embeds = self.text_encoder(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        self.model.model.null_text_embeds.copy_(embeds.last_hidden_state[:, -1:])

    def get_train_dataloader(self) -> DataLoader:
        """Micro-batches of this rank; see [`MixedBatchSampler`]. Not sharded again by accelerate."""
        args = self.args
        per_stream = {"image": args.per_device_image_batch_size, "text": args.per_device_text_batch_size}
        counts = {s.name: per_stream.get(s.name) or args.per_device_train_batch_size for s in self.streams}
        num_batches = args.max_steps * args.gradient_accumulation_steps
        return DataLoader(
            self.train_dataset,
            batch_sampler=MixedBatchSampler(counts, num_batches, args.process_index, args.world_size),
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory and args.device.type != "cpu",
            persistent_workers=args.dataloader_persistent_workers,
            # Its own generator: drawing a seed for the workers must not touch the one that dropout uses.
            generator=torch.Generator().manual_seed(args.seed),
        )

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Sum of the named losses, a scalar of shape `()`; with `return_outputs` also the losses by name."""
        losses = self.objectives(model, inputs)
        loss = sum(losses.values())  # equal weights (section 3.2)
        if model.training:
            self._num_micro_batches += 1
            for name, value in losses.items():
                self._loss_sums[name] += value.detach()
        return (loss, losses) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of each named loss since the last log."""
        if "loss" in logs and self._num_micro_batches:
            for name, total in self._loss_sums.items():
                mean = self.accelerator.reduce(total / self._num_micro_batches, reduction="mean")
                logs[f"loss_{name}"] = round(mean.item(), 4)
            self._loss_sums.clear()
            self._num_micro_batches = 0
        super().log(logs, start_time)

    @torch.no_grad()
    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Mean of each named loss over held-out pairs, each pair with its own fixed mask, with the averaged weights.

        Args:
            eval_dataset (`Dataset`, *optional*): In place of the trainer's.
            ignore_keys (`list[str]`, *optional*): Not used; part of the Trainer's signature.
            metric_key_prefix (`str`, *optional*, defaults to `"eval"`): Front of the metrics' names.

        Returns:
            `dict[str, float]`: `eval_loss` and one `eval_loss_<name>` per objective, in nats.
        """
        stream = Stream("paired", self.eval_dataset if eval_dataset is None else eval_dataset)
        every_pair = replace(self.objectives.settings, t2i_share=1.0, i2t_share=1.0, i2i_share=1.0)
        objectives = copy(self.objectives)
        objectives.settings = every_pair
        args, size = self.args, self.args.per_device_eval_batch_size
        rows = list(range(args.process_index, len(stream), args.world_size))
        totals = torch.zeros(len(objectives.names) + 1, device=args.device)
        model = self.model.eval()
        with self.averaged_weights():
            for start in range(0, len(rows), size):
                samples = [("paired", stream.sample(position)) for position in rows[start : start + size]]
                pairs = self._prepare_inputs(self.data_collator(samples))["paired"]
                losses = objectives(model, dict.fromkeys(objectives.streams, pairs))
                totals += torch.stack([*losses.values(), torch.ones_like(totals[0])]) * len(samples)
        totals = self.accelerator.reduce(totals, reduction="sum")
        means = (totals[:-1] / totals[-1]).tolist()
        metrics = {f"{metric_key_prefix}_loss": sum(means)}
        metrics |= {
            f"{metric_key_prefix}_loss_{name}": mean for name, mean in zip(objectives.names, means, strict=True)
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    @contextmanager
    def averaged_weights(self):
        """Within it the model holds the averaged weights, if an average is kept."""
        if self.ema is None:
            yield
            return
        self.ema.store(self.model.parameters())
        self.ema.copy_to(self.model.parameters())
        try:
            yield
        finally:
            self.ema.restore(self.model.parameters())

    def create_pipeline(self) -> ITITPipeline:
        """The pipeline of the model as it is, its components shared, not copied."""
        return ITITPipeline(
            model=self.accelerator.unwrap_model(self.model),
            text_encoder=self.text_encoder,
            tokenizer=self.processing_class.tokenizer,
            image_tokenizer=self.image_tokenizer,
            image_processor=self.processing_class.image_processor,
            scheduler=self.scheduler,
        )

    def save_pipeline(self, output_dir: str):
        """Write all components, with the averaged weights if there are any: one `from_pretrained` opens them.

        Args:
            output_dir (`str`): Folder.
        """
        if self.args.should_save:
            with self.averaged_weights():
                self.create_pipeline().save_pretrained(output_dir)

    @torch.no_grad()
    def log_samples(self):
        """Draw the sample prompts and caption the first held-out pictures, into `output_dir/samples`."""
        args, training = self.args, self.model.training
        pipe = self.create_pipeline()
        pipe.set_progress_bar_config(disable=True)
        self.model.eval()
        images, labels = [], []
        with self.averaged_weights():
            if args.sample_prompts:
                images = pipe(
                    list(args.sample_prompts),
                    num_inference_steps=args.sample_inference_steps,
                    guidance_scale=args.sample_guidance_scale,
                    temperature=args.sample_temperature,
                    generator=[torch.Generator().manual_seed(args.seed + i) for i in range(len(args.sample_prompts))],
                ).images
                labels = list(args.sample_prompts)
            if self.eval_dataset is not None and "image" in self.eval_dataset.column_names:
                pictures = [load_image(self.eval_dataset[i]["image"]) for i in range(min(6, len(self.eval_dataset)))]
                images += pictures
                labels += [f"caption: {caption}" for caption in pipe.caption(pictures)]
        self.model.train(training)
        if images:
            folder = os.path.join(args.output_dir, "samples")
            os.makedirs(folder, exist_ok=True)
            path = os.path.join(folder, f"step-{self.state.global_step:07d}.png")
            labelled_grid(images, labels).save(path)
            logger.info(f"samples of step {self.state.global_step}: {path}")

    @staticmethod
    def get_optimizer_cls_and_kwargs(args, model=None):
        """Adafactor by Table 3; every other optimizer as in transformers."""
        if args.optim == "adafactor":
            return CappedAdafactor, {"lr": args.learning_rate, "beta1": args.adam_beta1, "beta2": args.adam_beta2}
        return Trainer.get_optimizer_cls_and_kwargs(args, model)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.ema is not None and self.args.should_save:
            names = [name for name, _ in self.model.named_parameters()]
            tensors = {name: p.contiguous() for name, p in zip(names, self.ema.shadow_params, strict=True)}
            steps = {"optimization_step": str(self.ema.optimization_step)}
            save_file(tensors, os.path.join(output_dir, EMA_NAME), metadata=steps)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if self.ema is None or checkpoint is None:
            return
        path = os.path.join(checkpoint, EMA_NAME)
        if not os.path.isfile(path):
            raise ValueError(
                f"`ema_decay` is {self.args.ema_decay}, but the checkpoint has no averaged weights: {path}"
            )
        tensors = load_file(path, device=str(self.args.device))
        self.ema.shadow_params = [tensors[name] for name, _ in self.model.named_parameters()]
        self.ema.optimization_step = self.state.global_step
