# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""[`ITITTrainer`]: the Trainer of transformers over three streams and a list of named losses."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from ..data.streams import (
    ITITCollator,
    MixedBatchSampler,
    MixedDataset,
    Stream,
    check_image_tokenizer,
)
from ..decoding.scheduling_itit import ITITScheduler
from ..hub.push import TrainerHubMixin
from ..models.compilation_itit import make_room_for_graphs
from ..objectives.objectives import OBJECTIVES, ITITObjectives
from .callbacks import (
    WAIT_SHARE,
    DataWaitCallback,
    EMACallback,
    FigureCallback,
    MeasuredLoader,
    MonitoringCallback,
    SampleCallback,
    SkipCallback,
)
from .evaluation import evaluation_objectives, mean_losses
from .export import PipelineExportMixin
from .known_words import KnownWordsCallback
from .monitoring import Monitor, gradient_figures
from .optimization import optimizer_factory
from .resilient_trainer import ResilientTrainer, StateAccess
from .setup import check_kinds, check_sharding, check_streams, set_codebook, set_null_text
from .training_args import ITITTrainingArguments


class ITITTrainer(PipelineExportMixin, TrainerHubMixin, ResilientTrainer):
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
    _tag_names = ["itit", "text-to-image", "image-to-text", "any-to-any"]

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
        data_seed = args.data_seed_or_seed
        on_bad_image = args.on_bad_image
        read_image = processing_class.image_processor.read_image
        self.streams = [
            Stream(name, rows, data_seed, on_bad_image, read_image) for name, rows in train_streams.items()
        ]
        if eval_dataset is not None:
            # What is wrong with it is said here.
            eval_dataset = Stream("paired", eval_dataset, data_seed, on_bad_image).rows
            check_image_tokenizer(eval_dataset, processing_class, "eval_dataset")
        for stream in self.streams:
            check_image_tokenizer(stream.rows, processing_class, f"stream {stream.name}")
        processing_class.check_image_grid(model.config)
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
        if args.torch_compile:
            make_room_for_graphs()
        if self.is_fsdp_enabled:
            check_sharding(args, self.accelerator.state)
        self._set_order(args.data_order or "keyed")
        self.image_tokenizer = processing_class.image_tokenizer.requires_grad_(False).eval().to(args.device)
        self.text_encoder = text_encoder.requires_grad_(False).eval().to(args.device)
        self.scheduler = scheduler or ITITScheduler(mask_token_id=model.config.mask_token_id)
        set_null_text(self.model, processing_class, self.text_encoder)
        set_codebook(self.model, processing_class, self.image_tokenizer)
        self.objectives = self.create_objectives()
        check_streams(self.objectives.names, self.read_streams(), train_streams)
        for name in self.objectives.untrained_modules:
            self.model.get_submodule(name).requires_grad_(False)
        self._cards = {}
        self._add_callbacks()

    def _add_callbacks(self):
        args = self.args
        if args.monitoring:
            self.add_callback(MonitoringCallback(self))
        self.add_callback(DataWaitCallback(self))
        self.skips = SkipCallback(self)
        self.add_callback(self.skips)
        self.ema = EMACallback(self) if args.ema_decay > 0.0 else None
        if self.ema is not None:
            self.add_callback(self.ema)
        self.add_callback(KnownWordsCallback(self))
        self.samples = SampleCallback(self)
        self.add_callback(self.samples)

    def create_objectives(self) -> ITITObjectives:
        """The losses that the arguments name, before they have a monitor."""
        return ITITObjectives(
            self.args.objectives,
            self.model.config,
            self.text_encoder,
            self.image_tokenizer,
            self.args.objective_settings(),
            self.scheduler,
        )

    def read_streams(self) -> set[str]:
        """Names of the streams that the training reads."""
        return set(self.objectives.streams)

    @property
    def _counts_per_stream(self) -> dict[str, int]:
        args = self.args
        per_stream = {"image": args.per_device_image_batch_size, "text": args.per_device_text_batch_size}
        return {s.name: per_stream.get(s.name) or args.per_device_train_batch_size for s in self.streams}

    def get_train_dataloader(self) -> DataLoader:
        """Micro-batches of this rank; see [`MixedBatchSampler`]. Not sharded again by accelerate."""
        args = self.args
        batch_sampler = MixedBatchSampler(
            self._counts_per_stream,
            args.max_steps,
            rank=args.process_index,
            world_size=args.world_size,
            accumulation=args.gradient_accumulation_steps,
            replay=args.synthesis_replay,
            first_update=self.first_update,
        )
        return MeasuredLoader(
            self.train_dataset,
            batch_sampler=batch_sampler,
            multiprocessing_context=self._start_method if args.dataloader_num_workers else None,
            **self.loader_options(),
        )

    @property
    def _start_method(self) -> str | None:
        """How workers must be started for all streams to be read in them."""
        methods = [getattr(stream.rows, "start_method", None) for stream in self.streams]
        return next((method for method in methods if method is not None), None)

    def data_metadata(self) -> dict:
        """Seed, rows and their order, samples of each stream per update, and how often they serve."""
        args = self.args
        times = args.gradient_accumulation_steps * args.world_size
        return {
            "seed": args.data_seed_or_seed,
            "rows": {stream.name: len(stream) for stream in self.streams},
            "order": self._order,
            "shuffle_blocks": args.shuffle_blocks,
            "samples": {name: count * times for name, count in self._counts_per_stream.items()},
            "synthesis_replay": args.synthesis_replay,
        }

    def adopt_data_metadata(self, saved: dict) -> dict:
        """The order of the rows is that of the checkpoint, if the arguments name none."""
        saved = {"order": "randperm", "shuffle_blocks": 0} | saved  # what runs did that saved neither
        self._set_order(self.args.data_order or saved["order"])
        return saved

    def _set_order(self, order: str):
        self._order = order
        for stream in self.streams:
            stream.set_order(order, self.args.shuffle_blocks)

    def update_debug_info(self) -> dict:
        """Losses of the micro-batches of this update, and the rows of their samples by stream."""
        streams = {stream.name: stream for stream in self.streams}
        rows: dict[str, list[int]] = {}
        losses = []
        for micro_batch in self.micro_batches:
            for name, indices in micro_batch["sample_indices"].items():
                rows.setdefault(name, []).extend(streams[name].row_index(index) for index in indices.tolist())
            losses.append({name: str(value.item()) for name, value in micro_batch["losses"].items()})
        return {"rows": rows, "losses": losses}

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Weighted sum of the named losses, a scalar of shape `()`; with `return_outputs` also the losses by name, as
        they are."""
        losses = self.named_losses(model, inputs)
        loss = self._weighted_sum(losses)
        if model.training:
            self._note_micro_batch(inputs, loss, losses)
        return (loss, losses) if return_outputs else loss

    def named_losses(self, model, inputs) -> dict[str, torch.Tensor]:
        """The losses of a micro-batch by name, scalars of shape `()`."""
        return self.objectives(model, inputs)

    def loss_weight(self, name: str) -> float:
        """What a loss counts in the sum: 1.0 each in section 3.2."""
        return self.args.loss_weights.get(name, 1.0)

    def _weighted_sum(self, losses: Mapping):
        return sum(self.loss_weight(name) * value for name, value in losses.items())

    def _note_micro_batch(self, inputs, loss: torch.Tensor, losses: Mapping[str, torch.Tensor]):
        """For the log, for the callbacks, and for what a bad update is described by."""
        detached = {name: value.detach() for name, value in losses.items()}
        self.add_figures({f"loss_{name}": value for name, value in detached.items()})
        norm_steps = self.args.gradient_norm_steps
        if norm_steps and (self.state.global_step + 1) % norm_steps == 0:
            of_pairs = [name for name, objective in OBJECTIVES.items() if objective.stream == "paired"]
            paired = {name: self.loss_weight(name) for name in losses if name in of_pairs}
            self.add_figures(gradient_figures(losses, self.model.parameters(), paired))
        self.micro_batches.append(
            {
                "loss": loss.detach(),
                "losses": detached,
                "sample_indices": {name: stream_batch["sample_index"] for name, stream_batch in inputs.items()},
                "skipped": [batch["skipped"] for batch in inputs.values() if "skipped" in batch],
            }
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of each named loss since the last log, and the figures of the callbacks."""
        if "loss" in logs and (figures := self.pop_figures()):
            logs |= figures
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, FigureCallback):
                    logs |= callback.pop_figures()
        super().log(logs, start_time)
        # What a clock says is no state: the checkpoints of equal runs are equal.
        self.state.log_history[-1].pop(WAIT_SHARE, None)

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
        args = self.args
        pairs = self._eval_stream(self.eval_dataset if eval_dataset is None else eval_dataset)
        monitor = Monitor.of_objectives(self.objectives, args.device) if args.monitoring else None
        objectives = evaluation_objectives(self.objectives, monitor)
        sum_over_ranks = partial(self.accelerator.reduce, reduction="sum")
        with self.averaged_weights():
            means = mean_losses(objectives, self.model.eval(), self._eval_batches(pairs), sum_over_ranks)
        figures = {"loss": self._weighted_sum(means)}
        figures |= {f"loss_{name}": mean for name, mean in means.items()}
        if monitor is not None:
            figures |= monitor.pop(sum_over_ranks)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(args, self.state, self.control, metrics)
        return metrics

    def _eval_stream(self, rows) -> Stream:
        """In the order of the run: a pair keeps its mask when an older run goes on."""
        read_image = self.processing_class.image_processor.read_image
        stream = Stream("paired", rows, on_bad_image=self.args.on_bad_image, read=read_image)
        stream.set_order(self._order)
        return stream

    def _eval_batches(self, pairs: Stream) -> Iterator[dict[str, torch.Tensor]]:
        """This rank's share of the pairs, each once."""
        args = self.args
        own = range(args.process_index, len(pairs), args.world_size)
        for start in range(0, len(own), args.per_device_eval_batch_size):
            indices = own[start : start + args.per_device_eval_batch_size]
            samples = [("paired", pairs.sample(index)) for index in indices]
            yield self._prepare_inputs(self.data_collator(samples))["paired"]

    def predict(self, test_dataset, ignore_keys=None, metric_key_prefix: str = "test"):
        """Refused by a `TypeError` that says what to call: images and captions are no one output."""
        raise TypeError(
            "`predict` has no one output for images and captions: call `evaluate(dataset)` for losses, and "
            "`create_pipeline()` to generate images and captions"
        )

    def averaged_weights(self) -> AbstractContextManager:
        """Within it the model holds the averaged weights, if an average is kept."""
        return nullcontext() if self.ema is None else self.ema.averaged_weights()

    @staticmethod
    def get_optimizer_cls_and_kwargs(args, model=None):
        """Adafactor by Table 3, every other optimizer as in transformers; Muon beside it if it has a rate."""
        return optimizer_factory(args, model)

    def replicated_state(self) -> dict[str, StateAccess]:
        """Also the averaged weights, by the names of the parameters, of the shapes that they have."""
        states = super().replicated_state()
        if self.ema is not None:
            states["ema"] = (self.ema.state_dict, self.ema.load_state_dict)
        return states

    def per_rank_state(self) -> dict[str, StateAccess]:
        """Also the samples that are kept for replay, of shape `(batch_size, ...)` each."""
        states = super().per_rank_state()
        if self.objectives.replay.num_updates > 1:
            states["replay"] = (self.objectives.replay.state_dict, self._set_replay)
        return states

    def _set_replay(self, state: dict[str, torch.Tensor]):
        self.objectives.replay.load_state_dict({name: value.to(self.args.device) for name, value in state.items()})

    def tensors_to_save(self) -> Iterable[torch.Tensor]:
        """Also the averaged weights and the samples that are kept for replay, of any shape."""
        yield from super().tensors_to_save()
        if self.ema is not None:
            yield from self.ema.average.shadow_params
        for tensor in self.objectives.replay.state_dict().values():
            yield from [tensor] * self.args.world_size
