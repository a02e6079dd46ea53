# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What goes on beside the losses of [`ITITTrainer`]: averaged weights, figures for the log, and samples."""

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import PIL.Image
import torch
from diffusers.training_utils import EMAModel
from torch.utils.data import DataLoader
from transformers import TrainerCallback
from transformers.trainer_utils import IntervalStrategy
from transformers.utils import logging

from ..data.streams import BAD_IMAGE_REASONS, MAX_BAD_IMAGES, STREAM_COLUMNS, captions_of_rows
from ..objectives.objectives import OBJECTIVES
from .monitoring import Monitor, check_thresholds
from .resilient_trainer import rounded
from .sample_logging import image_grid, log_image

logger = logging.get_logger(__name__)

WAIT_SHARE = "data/wait_share"
MAX_WAIT_SHARE = 0.1  # above it a warning says what to do
MIN_IMAGES_TO_JUDGE = 100
NUM_SHOWN = 6  # samples in a grid of captions, or of a cycle
NUM_SEARCHED = 100  # rows that are looked through for as many different captions


class EMACallback(TrainerCallback):
    """Keeps a moving average of the weights, updated after each optimizer step.

    Args:
        trainer ([`ITITTrainer`]): Whose weights to average.

    Attributes:
        average (`EMAModel`): Of diffusers.
    """

    def __init__(self, trainer):
        self.trainer = trainer
        decay = trainer.args.ema_decay
        self.average = EMAModel(trainer.model.parameters(), decay=decay, use_ema_warmup=True, power=0.75)
        self.average.to(device=trainer.args.device)

    def on_step_end(self, args, state, control, **kwargs):
        """Called by the Trainer."""
        self.average.step(self.trainer.model.parameters())

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Within it the model holds the averaged weights."""
        self.average.store(self.trainer.model.parameters())
        self.average.copy_to(self.trainer.model.parameters())
        try:
            yield
        finally:
            self.average.restore(self.trainer.model.parameters())

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The averages, by the names of the parameters and of their shapes."""
        names = (name for name, _ in self.trainer.model.named_parameters())
        return dict(zip(names, self.average.shadow_params, strict=True))

    def load_state_dict(self, state: dict[str, torch.Tensor]):
        """Take over what `state_dict` gave, tensors of the shapes of the parameters."""
        device = self.trainer.args.device
        names = [name for name, _ in self.trainer.model.named_parameters()]
        self.average.shadow_params = [state[name].to(device) for name in names]
        self.average.optimization_step = self.trainer.state.global_step


class FigureCallback(TrainerCallback):
    """A callback that has figures for the log."""

    def pop_figures(self) -> dict[str, float]:
        """Figures since the last call, by the names of the log; all processes call it."""
        raise NotImplementedError


class MonitoringCallback(FigureCallback):
    """Has a [`Monitor`] look at the objectives, closely in the updates that are logged, and warns of its alarms.

    Args:
        trainer ([`ITITTrainer`]): Whose objectives are looked at.
    """

    def __init__(self, trainer):
        self.trainer = trainer
        num_shown = NUM_SHOWN if trainer.args.sample_steps else 0
        self.monitor = Monitor.of_objectives(trainer.objectives, trainer.args.device, num_shown)
        trainer.objectives.monitor = self.monitor

    def on_step_begin(self, args, state, control, **kwargs):
        """Called by the Trainer."""
        step = state.global_step + 1
        is_first = step == 1 and args.logging_first_step
        is_regular = args.logging_strategy == IntervalStrategy.STEPS and step % state.logging_steps == 0
        self.monitor.active = is_first or is_regular

    def pop_figures(self) -> dict[str, float]:
        """See [`~training.monitoring`]; alarms are raised once the warm-up is over."""
        state = self.trainer.state
        figures = self.monitor.pop(partial(self.trainer.accelerator.reduce, reduction="sum"))
        is_warm = state.global_step > self.trainer.args.get_warmup_steps(state.max_steps)
        if state.is_world_process_zero and is_warm:
            for message in check_thresholds(figures):
                logger.warning(f"step {state.global_step}: {message}")
        return {name: rounded(value) for name, value in figures.items()}


class MeasuredLoader(DataLoader):
    """A data loader that measures how long it is waited for.

    Attributes:
        seconds_waited (`float`): Since it was made.
    """

    seconds_waited = 0.0

    def __iter__(self) -> Iterator:
        batches = super().__iter__()
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.seconds_waited += time.perf_counter() - start
            if batch is None:
                return
            yield batch


class DataWaitCallback(FigureCallback):
    """Logs `data/wait_share`, the share of the time that is spent waiting for samples, and warns once if it is large.

    The first update is not counted: in it the workers start.

    Args:
        trainer ([`ITITTrainer`]): Whose data loader is a [`MeasuredLoader`].
    """

    def __init__(self, trainer):
        self.trainer = trainer
        self._loader: MeasuredLoader | None = None
        self._since = 0.0  # a time of the clock, in seconds
        self._waited = 0.0  # up to that time, in seconds
        self._num_updates = 0  # since that time
        self._has_warned = False

    def on_step_end(self, args, state, control, train_dataloader=None, **kwargs):
        """Called by the Trainer."""
        if self._loader is train_dataloader:
            self._num_updates += 1
        else:  # the first update of a training
            self._loader = train_dataloader
            self._restart()

    def _restart(self):
        self._num_updates = 0
        self._since = time.perf_counter()
        self._waited = self._loader.seconds_waited

    def pop_figures(self) -> dict[str, float]:
        """The mean of all processes."""
        if self._num_updates == 0:
            return {}
        share = (self._loader.seconds_waited - self._waited) / (time.perf_counter() - self._since)
        self._restart()
        shares = torch.tensor(share, device=self.trainer.args.device)
        share = self.trainer.accelerator.reduce(shares, reduction="mean").item()
        state = self.trainer.state
        if share > MAX_WAIT_SHARE and not self._has_warned and state.is_world_process_zero:
            self._has_warned = True
            workers = self.trainer.args.dataloader_num_workers
            logger.warning(
                f"step {state.global_step}: {share:.0%} of the time is spent waiting for samples: raise "
                f"`dataloader_num_workers`, now {workers}, make image tokens beforehand (examples/prepare_tokens.py), "
                "or choose another source (docs/data.md)"
            )
        return {WAIT_SHARE: rounded(share)}


class SkipCallback(FigureCallback):
    """Counts the updates that were left out and the images that could not be used.

    Args:
        trainer ([`ITITTrainer`]): Whose updates are counted.

    Attributes:
        skipped_images (`torch.LongTensor` of shape `(len(BAD_IMAGE_REASONS),)`): Of this process, since the start.
        num_images (`int`): Those that were used.
    """

    def __init__(self, trainer):
        self.trainer = trainer
        self.skipped_images = torch.zeros(len(BAD_IMAGE_REASONS), dtype=torch.long)
        self.num_images = 0

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        """Called by the Trainer."""
        for micro_batch in self.trainer.micro_batches:
            for skipped in micro_batch["skipped"]:  # (B, len(BAD_IMAGE_REASONS)): before each sample of a stream
                self.skipped_images += skipped.sum(dim=0).cpu()
                self.num_images += len(skipped)

    def pop_figures(self) -> dict[str, float]:
        """Counts since the start, those above 0.

        Raises:
            ValueError: If the share of images that could not be used is above `MAX_BAD_IMAGES`.
        """
        trainer = self.trainer
        figures: dict[str, float] = {}
        if trainer.num_skipped:
            figures["skipped/updates"] = trainer.num_skipped
        counts = torch.cat([self.skipped_images, torch.tensor([self.num_images])]).to(trainer.args.device)
        *skipped, num_images = trainer.accelerator.reduce(counts, reduction="sum").tolist()
        for reason, count in zip(BAD_IMAGE_REASONS, skipped, strict=True):
            if count:
                figures[f"skipped/{reason}_images"] = count
        if num_images >= MIN_IMAGES_TO_JUDGE and sum(skipped) > MAX_BAD_IMAGES * num_images:
            raise ValueError(
                f"{sum(skipped)} images could not be used of {num_images + sum(skipped)}, more than "
                f"{MAX_BAD_IMAGES:.0%}: something is wrong with the data; {figures}"
            )
        return figures


class SampleCallback(TrainerCallback):
    """Generates and captions images every `sample_steps` steps, and shows what the cycles did.

    Args:
        trainer ([`ITITTrainer`]): Whose model to sample.
    """

    def __init__(self, trainer):
        self.trainer = trainer

    def on_step_end(self, args, state, control, **kwargs):
        """Called by the Trainer."""
        if args.sample_steps and state.global_step % args.sample_steps == 0:
            self.log_samples()
            if state.is_world_process_zero:
                self.log_cycles()

    @torch.no_grad()
    def log_samples(self):
        """Generate images of the prompts and caption the first held-out images, into `output_dir/samples`."""
        trainer = self.trainer
        pipe = trainer.create_pipeline()  # in all processes: sharded weights are gathered
        if not trainer.args.should_save:
            return
        pipe.set_progress_bar_config(disable=True)
        was_training = trainer.model.training
        trainer.model.eval()
        labels = self.prompts()
        images = []
        with trainer.averaged_weights():
            if labels:
                images = self._generate(pipe, labels)
            if trainer.eval_dataset is not None and "image" in trainer.eval_dataset.column_names:
                held_out = self._first_eval_images()
                images += held_out
                labels += [f"caption: {caption}" for caption in pipe.caption(held_out)]
        trainer.model.train(was_training)
        if images:
            self._save("samples", image_grid(images, labels), labels)

    def _generate(self, pipe, prompts: list[str]) -> list[PIL.Image.Image]:
        args = self.trainer.args
        return pipe(
            list(prompts),
            generator=[torch.Generator().manual_seed(args.seed + i) for i in range(len(prompts))],
        ).images

    def prompts(self) -> list[str]:
        """What the images are generated from: the prompts of the arguments, or the first different captions of the
        held-out pairs, or, if none are held out, of a stream that has captions."""
        if self.trainer.args.sample_prompts is not None:
            return list(self.trainer.args.sample_prompts)
        rows = self.trainer.eval_dataset
        if rows is None:
            with_text = [stream.rows for stream in self.trainer.streams if "text" in STREAM_COLUMNS[stream.name]]
            rows = next(iter(with_text), [])
        found: dict[str, None] = {}
        for captions in itertools.islice(captions_of_rows(rows), NUM_SEARCHED):
            found.update(dict.fromkeys(captions[:1]))
        return list(found)[:NUM_SHOWN]

    def _first_eval_images(self) -> list[PIL.Image.Image]:
        """As many as are shown; those that cannot be read are left out if `on_bad_image` says so."""
        trainer = self.trainer
        read_image = trainer.processing_class.image_processor.read_image
        images: list[PIL.Image.Image] = []
        for index in range(len(trainer.eval_dataset)):
            try:
                images.append(read_image(trainer.eval_dataset[index]["image"], f"row {index} of the evaluation"))
            except ValueError:
                if trainer.args.on_bad_image == "raise":
                    raise
            if len(images) == NUM_SHOWN:
                break
        return images

    @torch.no_grad()
    def log_cycles(self):
        """For each cycle the first samples of the last batch, into `output_dir/samples`: what went in, what was made
        of it and what came back, by the weights as they are trained, not their average."""
        monitor = self.trainer.objectives.monitor
        if monitor is None:
            return
        for name, stages in monitor.cycles.items():
            columns = [self.cells(stage) for stage in stages]
            cells = [cell for row in zip(*columns, strict=True) for cell in row]
            labels = list(OBJECTIVES[name].cycle) * len(columns[0])
            texts = [cell for cell in cells if isinstance(cell, str)]
            self._save(f"samples/{name}", image_grid(cells, labels, columns=len(columns)), texts)

    def cells(self, stage) -> list:
        """Texts or images of one stage of a cycle.

        Args:
            stage (`torch.LongTensor` or `dict`): Image token ids of shape `(num_shown, num_image_tokens)`, or
                `input_ids` and `attention_mask` of shape `(num_shown, text_length)`.
        """
        processor = self.trainer.processing_class
        if isinstance(stage, torch.Tensor):
            return processor.decode_images(stage)
        return processor.batch_decode(stage["input_ids"].masked_fill(stage["attention_mask"] == 0, -100))

    def _save(self, name: str, image: PIL.Image.Image, texts: list[str]):
        """Into the folder of samples, and wherever the training reports to, under `name`."""
        step = self.trainer.state.global_step
        folder = os.path.join(self.trainer.args.output_dir, "samples")
        os.makedirs(folder, exist_ok=True)
        _, _, cycle = name.partition("/")
        file_name = f"step-{step:07d}-{cycle}.png" if cycle else f"step-{step:07d}.png"
        path = os.path.join(folder, file_name)
        image.save(path)
        log_image(self.trainer.callback_handler.callbacks, name, image, step, texts)
        logger.info(f"samples of step {step}: {path}")
