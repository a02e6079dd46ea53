# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Small trainings to interrupt, and processes to kill."""

import functools
import gc
import hashlib
import multiprocessing
import os
import signal
import traceback
from multiprocessing.connection import Connection

import torch
from transformers import TrainerCallback

from itit_hf import ITITTrainingArguments
from itit_hf.objectives.objectives import OBJECTIVES
from itit_hf.training.checkpointing import read_manifest
from itit_hf.training.trainer import ITITTrainer

from .. import training_utils  # noqa: F401  it says what its children preload; ours, below, need that too
from ..testing_utils import ONE_LAYER, tiny_pipeline

# None of the sizes divides a batch of four or another size: epochs end at other steps in each stream.
SIZES = {"paired": 7, "image": 5, "text": 11}
DROPOUT = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
CYCLE = {"synthesis_steps": 2, "synthesis_max_new_tokens": 4}
KINDS = {
    "pairs": {"objectives": ["t2i", "i2t", "i2i"]},
    "streams": {"objectives": ["t2i", "i2t", "t2t", "i2i_unpaired"]},
    "half cycle": {"objectives": ["t2i", "i2t", "t2i2t_half", "i2t2i_half"], "synthesis_replay": 2} | CYCLE,
    "full cycle": {"objectives": ["t2i", "i2t", "i2i", "t2i2t", "i2t2i"]} | CYCLE,
}
# What tells where a run is, and how its process called the tokenizer last; neither is read to resume.
_NOT_COMPARED = ("training_args.json", "tokenizer.json")


@functools.cache
def rows(stream: str, size: int) -> list[dict]:
    """Random images of 16 tokens, and captions of the tiny tokenizer's words."""
    generator = torch.Generator().manual_seed(len(stream))
    words = ("a red bus", "the blue fish on the grass", "green", "a tree on a bus")
    found = []
    for index in range(size):
        row = {"image_token_ids": torch.randint(23, (16,), generator=generator).tolist(), "text": words[index % 4]}
        wanted = {"paired": row, "image": {"image_token_ids": row["image_token_ids"]}, "text": {"text": row["text"]}}
        found.append(wanted[stream])
    return found


class StopAfter(TrainerCallback):
    """Ends a run early, which its schedule knows nothing of."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if args.save_strategy == "no":
            self.on_save(args, state, control)

    def on_save(self, args, state, control, **kwargs):
        control.should_training_stop = control.should_training_stop or state.global_step >= self.step


class WatchedTrainer(ITITTrainer):
    """Keeps the rows of each update, and does as told before each micro-batch."""

    before_micro_batch = staticmethod(lambda trainer: None)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        self.before_micro_batch(self)
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


def make_trainer(
    folder, kind: str = "pairs", stop_after: int | None = None, sizes=None, pipeline=None, **changes
) -> WatchedTrainer:
    """A trainer with everything that has a state: dropout, momentum, averages, streams, and replay in one kind."""
    pipe = pipeline or tiny_pipeline(**ONE_LAYER, **DROPOUT)
    values = {
        "output_dir": str(folder),
        "max_steps": 30,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-2,
        "optim": "adamw_torch_fused",
        "warmup_steps": 4,
        "ema_decay": 0.9,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": 1,
        "monitoring": False,
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
    }
    args = ITITTrainingArguments(**(values | KINDS[kind] | changes))
    streams = dict.fromkeys(OBJECTIVES[objective].stream for objective in args.objectives)
    return WatchedTrainer(
        model=pipe.model,
        args=args,
        processing_class=pipe.processor,
        text_encoder=pipe.text_encoder,
        train_streams={name: rows(name, (sizes or SIZES)[name]) for name in streams},
        scheduler=pipe.scheduler,
        callbacks=[StopAfter(stop_after)] if stop_after else None,
    )


def contents(checkpoint) -> dict[str, str]:
    """SHA-256 of each file of a checkpoint: weights, averages, optimizer, schedule, random numbers, losses."""
    files = read_manifest(str(checkpoint)).files
    return {name: entry["sha256"] for name, entry in files.items() if name not in _NOT_COMPARED}


def weights_hash(model) -> str:
    """One hash of all weights."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


# Children are forked from a process that has imported everything and never computed a gradient: a copy of autograd's
# threads would not run.
_CONTEXT = multiprocessing.get_context("forkserver")
multiprocessing.set_forkserver_preload(["tests.reliability.harness", "torch.distributed.fsdp"])


def pipe():
    """Where a child says something: `(reader, writer)`; [`fork`] closes the writer here."""
    return _CONTEXT.Pipe(duplex=False)


def fork(function, *arguments):
    """Run a function of a module in a child: status 0, or 1 and a traceback, or as `SystemExit` says."""
    child = _CONTEXT.Process(target=_run, args=(function, arguments), daemon=False)
    child.start()
    for argument in arguments:
        if isinstance(argument, Connection):
            argument.close()
    return child


def _run(function, arguments):
    status = 1
    try:
        # Else the workers of its data loader were children of a server that outlives a kill, and so would they.
        multiprocessing.set_start_method("fork", force=True)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if the tests run in the background
        torch.set_num_threads(1)
        gc.freeze()
        function(*arguments)
        status = 0
    except SystemExit as error:
        status = error.code
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def wait(child, seconds: float = 300.0) -> int:
    """Exit status of a child; minus the signal that ended it. One that hangs is killed, and that is an error."""
    child.join(seconds)
    if child.exitcode is None:
        child.kill()
        child.join()
        raise TimeoutError(f"the child did not end within {seconds} seconds")
    return child.exitcode


def run_in_child(function, *arguments, seconds: float = 900.0) -> int:
    """Exit status of a function in a child."""
    return wait(fork(function, *arguments), seconds)
