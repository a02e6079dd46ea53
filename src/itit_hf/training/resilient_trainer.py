# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""[`ResilientTrainer`]: transformers' Trainer with checkpoints that survive a crash, and a stop before broken weights.

What differs from transformers, whose Trainer writes into the final folder, resumes from the highest number whether it
is whole or not, goes on without a word if the optimizer's or the random numbers' file is missing, and reads pickles:

| event | what happens |
|---|---|
| killed while saving | the checkpoint before it is untouched, and the next start takes it |
| a file is damaged or missing | the checkpoint is refused by the file's name, and an older one taken |
| the disk is full | an `OSError` with the bytes needed and free; earlier checkpoints are untouched |
| SIGTERM, Ctrl-C | the current update ends, a checkpoint is written and verified, the process exits |
| a gradient or loss is not finite | the update is left out; after `max_skipped_steps` in a row the training stops |
| a weight is not finite | nothing is saved |
"""

import contextlib
import json
import os
import random
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
import transformers
from accelerate.utils import broadcast_object_list, gather_object
from safetensors.torch import load_file
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from .checkpointing import (
    CheckpointError,
    commit_checkpoint,
    discard_staging,
    find_checkpoint,
    list_checkpoints,
    load_state,
    name_full_disk,
    read_manifest,
    requested_checkpoint,
    rotate_checkpoints,
    save_state,
    stage_checkpoint,
    verify_checkpoint,
)

logger = logging.get_logger(__name__)

TRAINER_STATE_NAME = "trainer_state.json"
ARGUMENTS_NAME = "training_args.json"
BAD_BATCH_NAME = "bad_batch.json"
# A launcher passes on a Ctrl-C that each of its processes got already: within this time it counts as the same one.
SECONDS_OF_ONE_SIGNAL = 1.0

_RATES = ("initial_lr", "weight_decay", "betas", "beta1", "eps")  # of a group of parameters, from the arguments

StateAccess = tuple[Callable[[], object], Callable[[Any], object]]  # what gives a state, and what takes it over


def optimizer_rates(optimizer: torch.optim.Optimizer) -> list[dict]:
    """What the arguments say about each group of an optimizer's parameters: peak rate, decay and momentum.

    Args:
        optimizer (`torch.optim.Optimizer`): Its schedule must exist already.
    """
    return [{name: group[name] for name in _RATES if name in group} for group in optimizer.param_groups]


def take_rates(optimizer: torch.optim.Optimizer, schedule, rates: list[dict]) -> bool:
    """Let an optimizer and its schedule, whose states have been loaded, go on with other rates.

    Args:
        optimizer (`torch.optim.Optimizer`): Changed in place.
        schedule (`torch.optim.lr_scheduler.LRScheduler`): Changed in place.
        rates (`list[dict]`): What [`optimizer_rates`] gave before the states were loaded.

    Returns:
        `bool`: Whether the schedule has peak rates; if not, the learning rate is as it was.
    """
    groups = optimizer.param_groups
    for group, values in zip(groups, rates, strict=True):
        group.update(values)
    if not isinstance(schedule, LambdaLR):
        return False
    schedule.base_lrs = [group["initial_lr"] for group in groups]
    for group, peak, share in zip(groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
        group["lr"] = peak * share(schedule.last_epoch)
    schedule._last_lr = [group["lr"] for group in groups]
    return True


class StopSignals:
    """Within it, SIGTERM and Ctrl-C ask for a stop, and a second one, over a second later, ends the process at once.

    Outside the main thread, where Python allows no handlers, it does nothing. A signal that is ignored stays so, as a
    Ctrl-C meant for others does in jobs that a shell runs in the background.
    """

    def __init__(self):
        self.received: int | None = None
        self._since = 0.0
        self._previous = {}

    def __enter__(self):
        self.received = None
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *error):
        for number, previous in self._previous.items():
            signal.signal(number, signal.SIG_DFL if previous is None else previous)
        self._previous = {}

    def _on_signal(self, number: int, frame):
        now = time.monotonic()
        if self.received is None:
            self.received = number
            self._since = now
            logger.warning(f"{signal.Signals(number).name}: stopping after this update; once more to stop at once")
        elif now - self._since > SECONDS_OF_ONE_SIGNAL:
            self.__exit__()
            os.kill(os.getpid(), number)


class _StopCallback(TrainerCallback):
    """Saves and ends once the processes have agreed to stop."""

    def __init__(self, trainer: "ResilientTrainer"):
        self.trainer = trainer

    def on_step_end(self, args, state, control, **kwargs):
        # The sampler starts where the checkpoint says, so the Trainer's own count begins anew after resuming.
        state.epoch = state.global_step / state.max_steps
        self.trainer.micro_batches.clear()
        control.should_save = control.should_save or self.trainer.must_stop

    def on_save(self, args, state, control, **kwargs):
        # Not before: what is saved of `control` must not tell the next run to stop.
        control.should_training_stop = control.should_training_stop or self.trainer.must_stop


class ResilientTrainer(Trainer):
    """See the module. A subclass tells of its own state by `replicated_state` and `per_rank_state`, and of its data by
    `data_metadata` and `update_debug_info`.

    Its arguments are [`ResilientTrainingArguments`]. The first update of a data loader is `first_update`: resuming
    reads no batch twice.
    """

    first_update = 0
    must_stop = False
    num_skipped = 0  # updates left out, in this process's life
    _skipped_in_a_row = 0

    def __init__(
        self,
        model,
        args,
        data_collator,
        train_dataset,
        eval_dataset,
        processing_class,
        callbacks=None,
        optimizers=(None, None),
    ):
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            callbacks=callbacks,
            optimizers=optimizers,
        )
        if self.is_deepspeed_enabled:
            # accelerate has it update the weights within `backward`, before `_get_grad_norm` could leave that out.
            raise ValueError(
                "`deepspeed`: it is not supported, as it updates the weights before anybody can see that they stay "
                "finite, and its checkpoints are pickles; shard by FSDP, as in examples/accelerate_configs/fsdp2.yaml"
            )
        self.signals = StopSignals()
        self.micro_batches: list[dict] = []  # what went into the current update: see `update_debug_info`
        self._sums: dict[str, torch.Tensor] = defaultdict(float)  # of figures, since the last log
        self._counts: Counter[str] = Counter()
        self.add_callback(_StopCallback(self))

    def add_figures(self, figures: Mapping[str, torch.Tensor]):
        """Keep figures of a micro-batch, scalars of shape `()`, for the mean that is logged."""
        for name, value in figures.items():
            self._sums[name] += value
            self._counts[name] += 1

    def pop_figures(self) -> dict[str, float]:
        """Means of the figures since the last call, over all processes, which all call it; five digits of each."""
        if not self._sums:
            return {}
        means = torch.stack([total / self._counts[name] for name, total in self._sums.items()])
        means = self.accelerator.reduce(means, reduction="mean").tolist()
        figures = {name: rounded(mean) for name, mean in zip(self._sums, means, strict=True)}
        self._sums.clear()
        self._counts.clear()
        return figures

    @property
    def update_is_skipped(self) -> bool:
        """Whether the update that is being done was left out, as it was not finite."""
        return self._skipped_in_a_row > 0

    # What a subclass adds.

    def replicated_state(self) -> dict[str, StateAccess]:
        """State that is the same in all processes, by the name of its file: how to get it and how to set it."""
        parts = {
            "optimizer": (lambda: _gathered(self.optimizer.state_dict()), self._set_optimizer),
            "scheduler": (self.lr_scheduler.state_dict, self.lr_scheduler.load_state_dict),
        }
        if getattr(self.accelerator, "scaler", None) is not None:
            parts["scaler"] = self.accelerator.scaler.state_dict, self.accelerator.scaler.load_state_dict
        return parts

    def per_rank_state(self) -> dict[str, StateAccess]:
        """State that each process has of its own."""
        return {"rng_state": (_random_state, _set_random_state)}

    def tensors_to_save(self) -> Iterable[torch.Tensor]:
        """What a checkpoint holds, of any shape: how much room it needs."""
        yield from self.model.state_dict().values()
        for state in self.optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, torch.Tensor))

    def data_metadata(self) -> dict:
        """What decides which samples an update has; a resumed run is told if it differs."""
        return {}

    def adopt_data_metadata(self, saved: dict) -> dict:
        """Take over from a checkpoint what the arguments leave open.

        Args:
            saved (`dict`): What `data_metadata` gave when it was written, maybe by an older version.

        Returns:
            `dict`: The same, with what that version did not write.
        """
        return saved

    def loader_options(self) -> dict[str, Any]:
        """What the arguments say of a data loader of training samples, by the names of torch's `DataLoader`."""
        args = self.args
        return {
            "collate_fn": self.data_collator,
            "num_workers": args.dataloader_num_workers,
            "pin_memory": args.dataloader_pin_memory and args.device.type != "cpu",
            "persistent_workers": args.dataloader_persistent_workers,
            # Its own generator: drawing a seed for the workers must not touch the one that dropout uses.
            "generator": torch.Generator().manual_seed(args.seed),
        }

    def update_debug_info(self) -> dict:
        """Losses and samples of the micro-batches of the current update in this process, for `bad_batch.json`."""
        return {}

    # Resuming.

    def train(self, resume_from_checkpoint: str | bool | None = None, trial=None, ignore_keys_for_eval=None):
        """Train, and stop with a checkpoint when asked to by SIGTERM or Ctrl-C.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*):
                A folder; or `True` for the newest checkpoint of `output_dir` that verifies; or `"last"` (or
                `"latest"`) for the same, but from the start if there is none. Arguments of the optimizer and its
                schedule, such as `learning_rate`, may have changed: the new ones hold from there on, and a warning
                says so.
            trial (*optional*): As in transformers.
            ignore_keys_for_eval (`list[str]`, *optional*): As in transformers.

        Returns:
            `TrainOutput`: As in transformers.

        Raises:
            ValueError: If the checkpoint does not verify, lacks a part that is not named by `allow_partial_resume`, or
                was trained with another `optim` or, by [`ITITTrainer`], other `objectives`.
            FloatingPointError: If more than `max_skipped_steps` updates in a row were not finite.
            KeyboardInterrupt: After the checkpoint that Ctrl-C asked for; SIGTERM raises `SystemExit`.
        """
        checkpoint = self._agree_on_checkpoint(resume_from_checkpoint)
        self.first_update = 0
        self.must_stop = False
        self._skipped_in_a_row = 0
        self.micro_batches.clear()
        if checkpoint is not None:
            self.first_update = read_manifest(checkpoint).step
            self._compare_data(checkpoint)
        with self.signals:
            output = super().train(checkpoint, trial, ignore_keys_for_eval)
        if self.must_stop:
            received = self.signals.received or signal.SIGTERM  # another process may have got it
            logger.warning(f"stopped after step {self.state.global_step}; resume from {self.args.output_dir}")
            raise KeyboardInterrupt if received == signal.SIGINT else SystemExit(128 + received)
        return output

    def _agree_on_checkpoint(self, wanted: str | bool | None) -> str | None:
        """Chosen and verified by the first process; all others do as it says."""
        chosen: list = [None, None]
        if self.args.process_index == 0:
            try:
                chosen[0] = self._choose_checkpoint(wanted)
            except ValueError as error:
                chosen[1] = str(error)
        broadcast_object_list(chosen)
        if chosen[1] is not None:
            raise CheckpointError(chosen[1])
        return chosen[0]

    def _choose_checkpoint(self, wanted: str | bool | None) -> str | None:
        output_dir = self.args.output_dir
        may_lack = tuple(self.args.allow_partial_resume)
        wanted = wanted if wanted is True else requested_checkpoint(wanted)
        if wanted is None:
            if list_checkpoints(output_dir):
                logger.warning(f"{output_dir} holds checkpoints of an earlier run, which a later resume may take")
            return None
        if wanted is not True and wanted != "last":
            if not os.path.isdir(wanted):
                raise CheckpointError(f"`resume_from_checkpoint`: there is no folder {wanted}")
            verify_checkpoint(wanted, may_lack)
            self._changed_arguments(wanted)
            return wanted
        folder, skipped = find_checkpoint(output_dir, may_lack)
        for reason in skipped:
            logger.warning(f"skipped a checkpoint: {reason}")
        if folder is None and (skipped or wanted is True):
            reasons = "; ".join(skipped) or "there is none"
            raise CheckpointError(f"`resume_from_checkpoint`: no checkpoint of {output_dir} verifies: {reasons}")
        logger.warning(f"resuming from {folder}" if folder else "no checkpoint yet: starting from step 0")
        if folder is not None:
            self._changed_arguments(folder)
        return folder

    def _changed_arguments(self, checkpoint: str) -> dict[str, tuple]:
        """See [`ResilientTrainingArguments.changed_since`]."""
        with open(os.path.join(checkpoint, ARGUMENTS_NAME), encoding="utf-8") as file:
            return self.args.changed_since(json.load(file))

    def _compare_data(self, checkpoint: str):
        theirs = self.adopt_data_metadata(read_manifest(checkpoint).facts.get("data", {}))
        ours = self.data_metadata()
        changed = {name: (theirs.get(name), value) for name, value in ours.items() if theirs.get(name) != value}
        if changed:
            logger.warning(f"{checkpoint} was trained on other data, some rows may come twice or never: {changed}")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        model = self.model if model is None else model
        if hasattr(model, "get_base_model"):  # of peft: adapters alone are saved
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        names = [name for name in read_manifest(resume_from_checkpoint).files if name.startswith("model")]
        tensors = {}
        for name in (name for name in names if name.endswith(".safetensors")):
            tensors |= load_file(os.path.join(resume_from_checkpoint, name))
        try:
            if self.is_fsdp_enabled:
                set_model_state_dict(model, tensors, options=StateDictOptions(full_state_dict=True))
            else:
                model.load_state_dict(tensors)
        except RuntimeError as error:
            raise CheckpointError(f"{resume_from_checkpoint}: its weights are of another model: {error}") from error

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        own = optimizer_rates(self.optimizer)
        for name, (_, take) in self.replicated_state().items():
            self._load_part(checkpoint, name, f"{name}.safetensors", take)
        changed = self._changed_arguments(checkpoint)
        if changed:
            self._take_new_rates(checkpoint, own, changed)

    def _take_new_rates(self, checkpoint: str, own: list[dict], changed: dict[str, tuple]):
        """What the arguments say, in place of what the checkpoint's optimizer and schedule say."""
        has_rates = take_rates(self.optimizer, self.lr_scheduler, own)
        if not has_rates and {"learning_rate", "muon_learning_rate"} & set(changed):
            raise CheckpointError(
                f"`learning_rate` must be that of the checkpoint with `lr_scheduler_type` "
                f"{self.args.lr_scheduler_type}, which lowered it by what it measured; it was {changed}"
            )
        words = ", ".join(f"`{name}` was {then}, is {now}" for name, (then, now) in changed.items())
        logger.warning(f"{checkpoint} was trained with other arguments; the new ones hold from here on: {words}")

    def _load_scaler(self, checkpoint: str | None) -> None:
        """It is one of the shared parts."""

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        world_size = read_manifest(checkpoint).world_size
        args = self.args
        if world_size != args.world_size:
            logger.warning(
                f"{checkpoint} was written by {world_size} processes, this run has {args.world_size}: batches are the "
                "same, dropout is not"
            )
            return
        for name, (_, take) in self.per_rank_state().items():
            self._load_part(checkpoint, name, f"{name}-{args.process_index}.safetensors", take)

    def _load_part(self, checkpoint: str, name: str, file_name: str, take: Callable):
        path = os.path.join(checkpoint, file_name)
        may_lack = name in self.args.allow_partial_resume
        try:
            state = load_state(path)
        except CheckpointError as error:
            if not may_lack:
                raise CheckpointError(f"{error}; `allow_partial_resume` {name} resumes without it") from error
            logger.warning(f"resuming without `{name}`, which starts anew: {error}")
        else:
            take(state)

    def _set_optimizer(self, state: dict):
        self.optimizer.load_state_dict(state)
        for parameter, values in self.optimizer.state.items():
            if isinstance(parameter, DTensor):
                for name, value in values.items():
                    if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                        value = value.to(parameter.device)
                        values[name] = distribute_tensor(value, parameter.device_mesh, parameter.placements)

    # Saving.

    def _save_checkpoint(self, model, trial) -> None:
        """The one way a checkpoint is written; all processes call it."""
        args = self.args
        step = self.state.global_step
        self.store_flos()
        folder = os.path.join(args.output_dir, f"{PREFIX_CHECKPOINT_DIR}-{step}")
        staging: list[str] = [""]
        needed = sum(tensor.nbytes for tensor in self.tensors_to_save())

        def stage():
            if args.should_save:
                staging[0] = stage_checkpoint(args.output_dir, needed)

        def commit():
            if args.should_save:
                commit_checkpoint(staging[0], folder, step, args.world_size, self._facts())
                rotate_checkpoints(args.output_dir, args.save_total_limit, [folder, self._best_folder(folder)])

        try:
            self._run_on_all_ranks(self._check_weights)
            self._run_on_all_ranks(stage)
            broadcast_object_list(staging)
            self._run_on_all_ranks(lambda: self._write_checkpoint(staging[0], folder))
            self._run_on_all_ranks(commit)
        except Exception as error:
            if args.should_save:
                discard_staging(args.output_dir)
            named = name_full_disk(error, args.output_dir, needed)
            if named is error:
                raise
            raise named from error
        if args.push_to_hub:
            self._push_from_checkpoint(folder)

    def _run_on_all_ranks(self, work: Callable[[], object]):
        """Do it in every process; if it fails in one it fails in all, so that none waits for another."""
        failure = None
        try:
            work()
        except Exception as error:
            failure = error
        failures = gather_object([None if failure is None else f"{type(failure).__name__}: {failure}"])
        if failure is not None:
            raise failure
        for rank, other in enumerate(failures):
            if other is not None:
                raise RuntimeError(f"process {rank} could not save: {other}")

    def _check_weights(self):
        for name, value in self.model.state_dict().items():
            local = value.to_local() if isinstance(value, DTensor) else value
            if local.is_floating_point() and not local.isfinite().all():
                raise FloatingPointError(
                    f"step {self.state.global_step}: `{name}` is not finite, so nothing is saved; earlier checkpoints "
                    f"of {self.args.output_dir} are as they were"
                )

    def _write_checkpoint(self, staging: str, folder: str):
        args = self.args
        self._write_model(staging)
        if not args.save_only_model:
            for name, (get, _) in self.replicated_state().items():
                state = get()  # in all processes: what is sharded is gathered
                if args.should_save:
                    save_state(state, os.path.join(staging, f"{name}.safetensors"))
            for name, (get, _) in self.per_rank_state().items():
                save_state(get(), os.path.join(staging, f"{name}-{args.process_index}.safetensors"))
        if args.should_save:
            self.state.best_model_checkpoint = self._best_folder(folder) or self.state.best_model_checkpoint
            for holder in (*self.callback_handler.callbacks, self.control):
                if isinstance(holder, ExportableState):
                    self.state.stateful_callbacks[type(holder).__name__] = holder.state()
            self.state.save_to_json(os.path.join(staging, TRAINER_STATE_NAME))

    def _best_folder(self, folder: str) -> str:
        """The best checkpoint by `metric_for_best_model`, if it is kept; `folder` is the one that is being saved."""
        if not self.state.best_global_step:
            return ""
        best = os.path.join(self.args.output_dir, f"{PREFIX_CHECKPOINT_DIR}-{self.state.best_global_step}")
        is_kept = best == folder or os.path.isdir(best)
        return best if is_kept else ""

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write weights, processor and settings; refused if a weight is not finite. All processes call it.

        Args:
            output_dir (`str`, *optional*): Where to; the run's folder by default.
            _internal_call (`bool`): Part of the Trainer's signature.
        """
        self._run_on_all_ranks(self._check_weights)
        self._write_model(self.args.output_dir if output_dir is None else output_dir)

    def _write_model(self, output_dir: str):
        weights = self.accelerator.get_state_dict(self.model) if self.is_fsdp_enabled else None
        if not self.args.should_save:
            return
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        model.save_pretrained(output_dir, state_dict=weights)
        self.processing_class.save_pretrained(output_dir)
        self.write_arguments(output_dir)

    def write_arguments(self, output_dir: str):
        """Write the settings of the run beside what was trained with them; tokens are left out.

        Args:
            output_dir (`str`): A folder that is there.
        """
        with open(os.path.join(output_dir, ARGUMENTS_NAME), "w", encoding="utf-8") as file:
            file.write(self.args.to_json_string())

    def _facts(self) -> dict:
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        return {"versions": versions, "data": self.data_metadata()}

    # Stopping.

    def _get_grad_norm(self, model, grad_norm=None):
        """The norm; and the one place before an update at which all processes agree whether it may be done."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        whole = norm.full_tensor() if isinstance(norm, DTensor) else torch.as_tensor(norm)
        parts = [whole.detach().float(), *(batch["loss"].float() for batch in self.micro_batches)]
        finite = torch.stack([part.to(self.args.device) for part in parts]).isfinite().all()
        asked = torch.tensor(self.signals.received is not None, device=self.args.device)
        flags = self.accelerator.reduce(torch.stack([~finite, asked]).float(), reduction="sum").tolist()
        self.must_stop = flags[1] > 0
        if flags[0] > 0:
            self._skip_update(model, float(whole))
        else:
            self._skipped_in_a_row = 0
        return norm

    def _skip_update(self, model, norm: float):
        """Without gradients an optimizer does nothing; after too many in a row, the training stops."""
        step = self.state.global_step + 1
        found = gather_object([self.update_debug_info()])
        self.num_skipped += 1
        self._skipped_in_a_row += 1
        path = os.path.join(self.args.output_dir, BAD_BATCH_NAME)
        if self.args.should_save:
            self._note_bad_batch(path, {"step": step, "gradient_norm": str(norm), "processes": found})
        message = f"step {step}: the loss or its gradient is not finite, the update is left out; samples: {found}"
        if self._skipped_in_a_row > self.args.max_skipped_steps:
            raise FloatingPointError(
                f"{message}. That makes {self._skipped_in_a_row} in a row, more than `max_skipped_steps`: the "
                f"training stops, its weights as they were. {path} names the samples"
            )
        logger.warning(message)
        for parameter in model.parameters():
            parameter.grad = None

    @staticmethod
    def _note_bad_batch(path: str, entry: dict):
        entries = []
        if os.path.isfile(path):
            with contextlib.suppress(ValueError), open(path, encoding="utf-8") as file:
                entries = json.load(file)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(f"{path}.part", "w", encoding="utf-8") as file:
            json.dump([*entries, entry], file, indent=1)
        os.replace(f"{path}.part", path)


def rounded(value: float) -> float:
    """Five digits, wherever the point is: a gradient's norm may be small."""
    return float(f"{value:.5g}")


def _gathered(state):
    """The same tree with whole tensors of shape `(...)` in place of sharded ones; all processes must call it."""
    if isinstance(state, DTensor):
        return state.full_tensor()
    if isinstance(state, dict):
        return {key: _gathered(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(_gathered(value) for value in state)
    return state


def _random_state() -> dict:
    """The global generators of Python, NumPy and torch, those of the GPUs included."""
    version, numbers, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state()
    state = {
        "python": (version, numbers, gauss),
        "numpy": (kind, keys.tolist(), *(value if isinstance(value, float) else int(value) for value in rest)),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def _set_random_state(state: dict):
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
