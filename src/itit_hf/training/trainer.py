# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""[`ITITTrainer`]: the Trainer of transformers over three streams and a list of named losses."""

import itertools
import os
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import partial

import PIL.Image
import torch
from diffusers.training_utils import EMAModel
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import IntervalStrategy
from transformers.utils import logging

from ..data.streams import (
    BAD_IMAGE_REASONS,
    MAX_BAD_IMAGES,
    STREAM_COLUMNS,
    ITITCollator,
    MixedBatchSampler,
    MixedDataset,
    Stream,
    captions_of_rows,
    check_image_tokenizer,
)
from ..decoding.scheduling_itit import ITITScheduler
from ..hub.model_card import ModelFacts, model_card, training_facts
from ..hub.push import TrainerHubMixin
from ..models.modeling_itit import ITITForPreTraining
from ..objectives.caching import SynthesisReplay
from ..objectives.objectives import OBJECTIVES, ITITObjectives
from ..pipelines.pipeline_itit import ITITPipeline
from .monitoring import Monitor, check_thresholds, gradient_figures
from .optimization import CappedAdafactor, create_muon
from .resilient_trainer import Part, ResilientTrainer, rounded
from .sample_logging import image_grid, show
from .setup import check_kinds
from .training_args import ITITTrainingArguments

logger = logging.get_logger(__name__)

MIN_IMAGES_TO_JUDGE = 100
NUM_SHOWN = 6  # samples in a grid of captions, or of a cycle
NUM_SEARCHED = 100  # rows that are looked through for as many different captions
CYCLE_LABELS = {  # by the stream that goes in
    "text": ["prompt", "drawn", "said again (teacher-forced)"],
    "image": ["image", "said", "hidden part drawn again"],
}


class SampleCallback(TrainerCallback):
    """Draws and captions every `sample_steps` steps, and shows what the cycles did.

    Args:
        trainer ([`ITITTrainer`]): Whose model to draw with.
    """

    def __init__(self, trainer: "ITITTrainer"):
        self.trainer = trainer

    def on_step_end(self, args, state, control, **kwargs):
        """Called by the Trainer."""
        if args.sample_steps and state.global_step % args.sample_steps == 0:
            self.trainer.log_samples()
            if state.is_world_process_zero:
                self.trainer.log_cycles()


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


class ITITTrainer(TrainerHubMixin, ResilientTrainer):
    """Trains [`ITITForPreTraining`] on named objectives over streams of pairs, images and sentences.

    Args:
        model ([`ITITForPreTraining`]): What is trained.
        args ([`ITITTrainingArguments`]): Settings.
        processing_class ([`ITITProcessor`]): Processor with the image tokenizer; saved with the weights.
        text_encoder (`torch.nn.Module`): Frozen text encoder. Gradients may pass through it, never into it.
        train_streams (`Mapping[str, Dataset]`):
            Datasets with random access by stream name; `"paired"` has the columns `image` (or `image_token_ids`) and
            `text` (a caption or a list of them).
        eval_dataset (`Dataset`, *optional*): Held-out pairs, with the same columns.
        scheduler ([`ITITScheduler`], *optional*): Of the exported pipeline and of the sample images.
        callbacks (`list[TrainerCallback]`, *optional*): As in transformers.
        optimizers (`tuple`, *optional*): As in transformers.

    Raises:
        TypeError: If the model, the arguments or the held-out pairs are of another kind; it says what to use.
        ValueError: If arguments, streams and frozen parts do not go together.
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
        check_kinds(model, args, eval_dataset)
        seed, bad = args.data_seed_or_seed, args.on_bad_image
        read = processing_class.image_processor.read_image
        self.streams = [Stream(name, rows, seed, bad, read) for name, rows in train_streams.items()]
        if eval_dataset is not None:
            eval_dataset = Stream("paired", eval_dataset, seed, bad).rows  # what is wrong with it is said here
            check_image_tokenizer(eval_dataset, processing_class, "eval_dataset")
        for stream in self.streams:
            check_image_tokenizer(stream.rows, processing_class, f"stream {stream.name}")
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
        self._set_codebook()
        self.objectives = self.create_objectives()
        self._check_streams()
        if args.gradient_norm_steps and self.is_fsdp_enabled:
            raise ValueError(f"`gradient_norm_steps` must be 0 when FSDP shards, got {args.gradient_norm_steps}")
        if self.is_fsdp_enabled:
            self._check_sharding()
        for name in self.objectives.untrained_modules:
            self.model.get_submodule(name).requires_grad_(False)
        self.skipped_images = torch.zeros(len(BAD_IMAGE_REASONS), dtype=torch.long)
        self._num_images = 0
        self._cards: dict[str, str] = {}  # written by this trainer, by their paths
        if args.monitoring:
            self.objectives.monitor = self._create_monitor(NUM_SHOWN if args.sample_steps else 0)
        self.ema = None
        if args.ema_decay > 0.0:
            self.ema = EMAModel(self.model.parameters(), decay=args.ema_decay, use_ema_warmup=True, power=0.75)
            self.ema.to(device=args.device)
            self.add_callback(EMACallback(self))
        if args.sample_steps:
            self.add_callback(SampleCallback(self))

    def _check_sharding(self):
        """What sharded weights cannot do is refused here, before it fails or waits forever in the middle of a run."""
        args, plugin = self.args, self.accelerator.state.fsdp_plugin
        wanted = {
            "fsdp_version": (plugin.fsdp_version, 2),
            # The text head reads the weight of the text embedding, which is gathered where that embedding is called;
            # and captions of different lengths need no agreement between the processes while nothing is freed.
            "fsdp_reshard_after_forward": (plugin.reshard_after_forward, False),
            "ema_decay": (args.ema_decay, 0.0),
        }
        for name, (got, want) in wanted.items():
            if got != want:
                raise ValueError(f"`{name}` must be {want} when FSDP shards the weights, got {got}")
        if args.optim == "adafactor":
            raise ValueError("`optim` must not be adafactor when FSDP shards the weights: try adamw_torch")

    def create_objectives(self) -> ITITObjectives:
        """The losses that the arguments name, before they have a monitor."""
        args, parts = self.args, (self.text_encoder, self.image_tokenizer)
        config, settings = self.model.config, args.objective_settings()
        return ITITObjectives(args.objectives, config, *parts, settings, self.scheduler)

    def read_streams(self) -> set[str]:
        """Names of the streams that the training reads."""
        return set(self.objectives.streams)

    def _check_streams(self):
        given, read = {stream.name for stream in self.streams}, self.read_streams()
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

    def _set_codebook(self):
        """The image tokenizer's code vectors become part of the weights, if its latents are what is described."""
        features, made = self.model.config.image_features, self.processing_class.image_features
        if features != made:
            raise ValueError(f"`image_features` must be {features!r}, the model's, got a processor with {made!r}")
        if features == "latents":
            codebook = self.image_tokenizer.quantize.embedding.weight
            self.model.model.embed_image_latents.set_codebook(codebook)

    @property
    def _counts_per_stream(self) -> dict[str, int]:
        args = self.args
        per_stream = {"image": args.per_device_image_batch_size, "text": args.per_device_text_batch_size}
        return {s.name: per_stream.get(s.name) or args.per_device_train_batch_size for s in self.streams}

    def get_train_dataloader(self) -> DataLoader:
        """Micro-batches of this rank; see [`MixedBatchSampler`]. Not sharded again by accelerate."""
        args = self.args
        place = args.process_index, args.world_size
        repeats = args.gradient_accumulation_steps, args.synthesis_replay
        return DataLoader(
            self.train_dataset,
            batch_sampler=MixedBatchSampler(
                self._counts_per_stream, args.max_steps, *place, *repeats, self.first_update
            ),
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory and args.device.type != "cpu",
            persistent_workers=args.dataloader_persistent_workers,
            # Its own generator: drawing a seed for the workers must not touch the one that dropout uses.
            generator=torch.Generator().manual_seed(args.seed),
        )

    def data_metadata(self) -> dict:
        """Seed, rows, samples of each stream per update, and how often they serve."""
        args = self.args
        times = args.gradient_accumulation_steps * args.world_size
        return {
            "seed": args.data_seed_or_seed,
            "rows": {stream.name: len(stream) for stream in self.streams},
            "samples": {name: count * times for name, count in self._counts_per_stream.items()},
            "synthesis_replay": args.synthesis_replay,
        }

    def update_debug_info(self) -> dict:
        """Losses of the micro-batches of this update, and the rows of their samples by stream."""
        streams = {stream.name: stream for stream in self.streams}
        rows: dict[str, list[int]] = {}
        for batch in self.micro_batches:
            for name, positions in batch["positions"].items():
                rows.setdefault(name, []).extend(streams[name].row_index(p) for p in positions.tolist())
        losses = [{name: str(value.item()) for name, value in batch["losses"].items()} for batch in self.micro_batches]
        return {"rows": rows, "losses": losses}

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Weighted sum of the named losses, a scalar of shape `()`; with `return_outputs` also the losses by name, as
        they are."""
        step = self.state.global_step + 1
        if model.training and self.objectives.monitor is not None:
            self.objectives.monitor.active = self._is_logged(step)
        losses = self.named_losses(model, inputs)
        if model.training:
            self.add_figures({f"loss_{name}": value.detach() for name, value in losses.items()})
            if self.args.gradient_norm_steps and step % self.args.gradient_norm_steps == 0:
                weights = {name: self._weight(name) for name in losses if OBJECTIVES.get(name) == "paired"}
                self.add_figures(gradient_figures(losses, self.model.parameters(), weights))
        loss = sum(self._weight(name) * value for name, value in losses.items())  # 1.0 each in section 3.2
        if model.training:
            self._note_micro_batch(inputs, loss, losses)
        return (loss, losses) if return_outputs else loss

    def named_losses(self, model, inputs) -> dict[str, torch.Tensor]:
        """The losses of a micro-batch by name, scalars of shape `()`."""
        return self.objectives(model, inputs)

    def _note_micro_batch(self, inputs, loss: torch.Tensor, losses: Mapping[str, torch.Tensor]):
        """What a bad update will be described by; and images that could not be read."""
        positions = {name: part["sample_index"] for name, part in inputs.items()}
        losses = {name: value.detach() for name, value in losses.items()}
        self.micro_batches.append({"loss": loss.detach(), "losses": losses, "positions": positions})
        for part in inputs.values():
            if "skipped" in part:
                self.skipped_images += part["skipped"].sum(dim=0).cpu()
                self._num_images += len(part["skipped"])

    def _is_logged(self, step: int) -> bool:
        args = self.args
        by_steps = args.logging_strategy == IntervalStrategy.STEPS and step % self.state.logging_steps == 0
        return by_steps or (step == 1 and args.logging_first_step)

    def _weight(self, name: str) -> float:
        return self.args.loss_weights.get(name, 1.0)

    def _create_monitor(self, num_shown: int = 0) -> Monitor:
        config = self.objectives.config
        names, device = self.objectives.names, self.args.device
        return Monitor(names, config.codebook_size, config.eos_token_id, num_shown, device)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of each named loss since the last log and the figures of [`~monitoring`], and raise its alarms
        once the warm-up is over."""
        if "loss" in logs and (figures := self.pop_figures()):
            logs |= figures
            logs |= self._monitor_figures()
            logs |= self._skipped_figures()
        super().log(logs, start_time)

    def _skipped_figures(self) -> dict[str, float]:
        """Updates and images left out since the start, if there are any; too many images end the training."""
        figures: dict[str, float] = {"skipped/updates": self.num_skipped} if self.num_skipped else {}
        counts = torch.cat([self.skipped_images, torch.tensor([self._num_images])]).to(self.args.device)
        *skipped, images = self.accelerator.reduce(counts, reduction="sum").tolist()
        figures |= {
            f"skipped/{reason}_images": count
            for reason, count in zip(BAD_IMAGE_REASONS, skipped, strict=True)
            if count
        }
        if images >= MIN_IMAGES_TO_JUDGE and sum(skipped) > MAX_BAD_IMAGES * images:
            raise ValueError(
                f"{sum(skipped)} images could not be used of {images + sum(skipped)}, more than "
                f"{MAX_BAD_IMAGES:.0%}: something is wrong with the data; {figures}"
            )
        return figures

    def _monitor_figures(self) -> dict[str, float]:
        monitor, state = self.objectives.monitor, self.state
        if monitor is None:
            return {}
        figures = monitor.pop(partial(self.accelerator.reduce, reduction="sum"))
        if state.is_world_process_zero and state.global_step > self.args.get_warmup_steps(state.max_steps):
            for message in check_thresholds(figures):
                logger.warning(f"step {state.global_step}: {message}")
        return {name: rounded(value) for name, value in figures.items()}

    @torch.no_grad()
    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Mean of each named loss over held-out pairs, each pair with its own fixed mask, with the averaged weights.

        Args:
            eval_dataset (`Dataset`, *optional*): In place of the trainer's.
            ignore_keys (`list[str]`, *optional*): Not used; part of the Trainer's signature.
            metric_key_prefix (`str`, *optional*, defaults to `"eval"`): Front of the metrics' names.

        Returns:
            `dict[str, float]`: `eval_loss`, weighted as in training, one `eval_loss_<name>` per objective, unweighted
            and in nats, and the figures of [`~monitoring`].
        """
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        read = self.processing_class.image_processor.read_image
        stream = Stream("paired", rows, on_bad_image=self.args.on_bad_image, read=read)
        every_pair = replace(
            self.objectives.settings, t2i_batch_fraction=1.0, i2t_batch_fraction=1.0, i2i_batch_fraction=1.0
        )
        objectives = copy(self.objectives)
        objectives.settings = every_pair
        objectives.replay = SynthesisReplay()  # what training keeps is not touched
        objectives.monitor = self._create_monitor() if self.args.monitoring else None
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
        means = dict(zip(objectives.names, means, strict=True))
        metrics = {f"{metric_key_prefix}_loss": sum(self._weight(name) * mean for name, mean in means.items())}
        metrics |= {f"{metric_key_prefix}_loss_{name}": mean for name, mean in means.items()}
        if objectives.monitor is not None:
            figures = objectives.monitor.pop(partial(self.accelerator.reduce, reduction="sum"))
            metrics |= {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def predict(self, test_dataset, ignore_keys=None, metric_key_prefix: str = "test"):
        """Refused, whatever is given.

        Args:
            test_dataset: Part of the Trainer's signature, as are the others.
            ignore_keys (`list[str]`, *optional*): Likewise.
            metric_key_prefix (`str`, *optional*, defaults to `"test"`): Likewise.

        Raises:
            TypeError: Always; it says what to call instead.
        """
        raise TypeError(
            "`predict` has no one output for images and captions: call `evaluate(dataset)` for losses, and "
            "`create_pipeline()` to generate images and captions"
        )

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
        """The pipeline of the model as it is, its components shared, not copied; but of sharded weights a copy is
        gathered in the first process, and all processes must call this."""
        model = self.accelerator.unwrap_model(self.model)
        if self.is_fsdp_enabled:
            weights = self.accelerator.get_state_dict(self.model)
            model = ITITForPreTraining(self.objectives.config).to(self.args.device).eval()
            if self.args.should_save:
                model.load_state_dict(weights)
        return ITITPipeline(
            model=model,
            text_encoder=self.text_encoder,
            tokenizer=self.processing_class.tokenizer,
            image_tokenizer=self.image_tokenizer,
            image_processor=self.processing_class.image_processor,
            scheduler=self.scheduler,
        )

    def save_pipeline(self, output_dir: str, facts: Mapping | None = None):
        """Write all components, with the averaged weights if there are any, and a card: one `from_pretrained` opens
        them. A card that is there already stays.

        Args:
            output_dir (`str`): Folder.
            facts (`Mapping`, *optional*): What only the user knows, by the names of [`~hub.model_card.ModelFacts`].
        """
        self._together(self._check_weights)
        with self.averaged_weights():
            pipe = self.create_pipeline()
            if self.args.should_save:
                pipe.save_pretrained(output_dir)
        if self.args.should_save:
            self.save_card(output_dir, facts)

    def save_card(self, output_dir: str, facts: Mapping | None = None):
        """Write the card of a saved pipeline by what is known now, such as the losses of an evaluation that came
        after. A card that this trainer did not write stays.

        Args:
            output_dir (`str`): Folder of the pipeline.
            facts (`Mapping`, *optional*): As for `save_pipeline`.
        """
        path = os.path.join(output_dir, "README.md")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                if file.read() != self._cards.get(path):  # may have been written by hand
                    return
        rows = {stream.name: len(stream) for stream in self.streams}
        parts = {"model": self.model, "text encoder": self.text_encoder, "image tokenizer": self.image_tokenizer}
        parameters = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
        known = training_facts(self.args, self.state.global_step, self.state.log_history, rows, parameters)
        known["name"] = os.path.basename(os.path.abspath(output_dir))
        self._cards[path] = model_card(ModelFacts(**(known | dict(facts or {}))))
        with open(path, "w", encoding="utf-8") as file:
            file.write(self._cards[path])

    @torch.no_grad()
    def log_samples(self):
        """Draw the sample prompts and caption the first held-out images, into `output_dir/samples`."""
        args, training = self.args, self.model.training
        pipe = self.create_pipeline()
        if not args.should_save:
            return
        pipe.set_progress_bar_config(disable=True)
        self.model.eval()
        images, labels = [], self.sample_prompts()
        with self.averaged_weights():
            if labels:
                images = pipe(
                    list(labels),
                    num_inference_steps=args.sample_inference_steps,
                    guidance_scale=args.sample_guidance_scale,
                    temperature=args.sample_temperature,
                    generator=[torch.Generator().manual_seed(args.seed + i) for i in range(len(labels))],
                ).images
            if self.eval_dataset is not None and "image" in self.eval_dataset.column_names:
                held_out = self._first_eval_images()
                images += held_out
                labels += [f"caption: {caption}" for caption in pipe.caption(held_out)]
        self.model.train(training)
        if images:
            self._save_sample(image_grid(images, labels), labels)

    def sample_prompts(self) -> list[str]:
        """What the samples are drawn of: the prompts of the arguments, or the first different captions of the held-out
        pairs, or, if none are held out, of a stream that has captions."""
        if self.args.sample_prompts is not None:
            return list(self.args.sample_prompts)
        rows = self.eval_dataset
        if rows is None:
            rows = next((stream.rows for stream in self.streams if "text" in STREAM_COLUMNS[stream.name]), [])
        found: dict[str, None] = {}
        for captions in itertools.islice(captions_of_rows(rows), NUM_SEARCHED):
            found.update(dict.fromkeys(captions[:1]))
        return list(found)[:NUM_SHOWN]

    def _first_eval_images(self) -> list[PIL.Image.Image]:
        """As many as are shown; those that cannot be read are left out if `on_bad_image` says so."""
        read, images = self.processing_class.image_processor.read_image, []
        for index in range(len(self.eval_dataset)):
            try:
                images.append(read(self.eval_dataset[index]["image"], f"row {index} of the evaluation"))
            except ValueError:
                if self.args.on_bad_image == "raise":
                    raise
            if len(images) == NUM_SHOWN:
                break
        return images

    @torch.no_grad()
    def log_cycles(self):
        """For each cycle the first samples of the last batch, into `output_dir/samples`: what went in, what was made
        of it and what came back, by the weights as they are trained, not their average."""
        cycles = {} if self.objectives.monitor is None else self.objectives.monitor.cycles
        for name, parts in cycles.items():
            columns = [self._cells(part) for part in parts]
            cells = [cell for row in zip(*columns, strict=True) for cell in row]
            labels = CYCLE_LABELS[OBJECTIVES[name]] * len(columns[0])
            texts = [cell for cell in cells if isinstance(cell, str)]
            self._save_sample(image_grid(cells, labels, columns=len(columns)), texts, name)

    def _cells(self, part) -> list:
        """Texts or images of a part of a cycle."""
        if isinstance(part, torch.Tensor):
            return self.processing_class.decode_images(part)
        ids = part["input_ids"].masked_fill(part["attention_mask"] == 0, -100)
        return self.processing_class.batch_decode(ids)

    def _save_sample(self, image: PIL.Image.Image, texts: list[str], cycle: str = ""):
        folder = os.path.join(self.args.output_dir, "samples")
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, f"step-{self.state.global_step:07d}{cycle and '-' + cycle}.png")
        image.save(path)
        places = self.callback_handler.callbacks
        show(places, f"samples{cycle and '/' + cycle}", image, self.state.global_step, texts)
        logger.info(f"samples of step {self.state.global_step}: {path}")

    @staticmethod
    def get_optimizer_cls_and_kwargs(args, model=None):
        """Adafactor by Table 3, every other optimizer as in transformers; Muon beside it if it has a rate."""
        if args.optim == "adafactor":
            others = CappedAdafactor, {"lr": args.learning_rate, "beta1": args.adam_beta1, "beta2": args.adam_beta2}
        else:
            others = Trainer.get_optimizer_cls_and_kwargs(args, model)
        if args.muon_learning_rate is None:
            return others
        rates = {"muon_learning_rate": args.muon_learning_rate, "weight_decay": args.weight_decay}
        return (lambda: create_muon), rates | {"others": others}  # a factory, in transformers' words

    def replicated_state(self) -> dict[str, Part]:
        """Also the averaged weights, by the names of the parameters, of the shapes that they have."""
        parts = super().replicated_state()
        if self.ema is not None:
            parts["ema"] = self._averages, self._set_averages
        return parts

    def per_rank_state(self) -> dict[str, Part]:
        """Also the samples that are kept for replay, of shape `(batch_size, ...)` each."""
        replay = self.objectives.replay
        parts = super().per_rank_state()
        if replay.num_updates > 1:
            parts["replay"] = replay.state_dict, self._set_replay
        return parts

    def tensors_to_save(self) -> Iterable[torch.Tensor]:
        """Also the averaged weights and the kept samples, of any shape."""
        yield from super().tensors_to_save()
        yield from [] if self.ema is None else self.ema.shadow_params
        for tensor in self.objectives.replay.state_dict().values():
            yield from [tensor] * self.args.world_size

    def _averages(self) -> dict[str, torch.Tensor]:
        names = (name for name, _ in self.model.named_parameters())
        return dict(zip(names, self.ema.shadow_params, strict=True))

    def _set_averages(self, averages: dict[str, torch.Tensor]):
        self.ema.shadow_params = [averages[name].to(self.args.device) for name, _ in self.model.named_parameters()]
        self.ema.optimization_step = self.state.global_step

    def _set_replay(self, kept: dict[str, torch.Tensor]):
        self.objectives.replay.load_state_dict({name: value.to(self.args.device) for name, value in kept.items()})
