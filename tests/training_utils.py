# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Small trainings that several tests make, in this process or in several."""

import gc
import multiprocessing
import os
import time
from datetime import timedelta

import pytest
import torch
import torch.distributed
from torch.multiprocessing import start_processes

from itit_hf import ITITTrainingArguments
from itit_hf.objectives.objectives import OBJECTIVES
from itit_hf.training.trainer import ITITTrainer

from .testing_utils import ONE_LAYER, tiny_pipeline, tokenized_pairs

# Imported once, in the process that all others are forked from; forking this one would copy autograd's threads.
multiprocessing.set_forkserver_preload(["pytest", "itit_hf.training.trainer", "torch.distributed.fsdp"])


def launch(function, folder, *arguments, processes=2, timeout=400):
    """What `function(*arguments)` returns in each process of one gloo group, in order of rank. Their standard error is
    left in `folder`."""
    work = processes, function, folder, arguments
    context = start_processes(_run, work, nprocs=processes, join=False, daemon=True, start_method="forkserver")
    deadline = time.monotonic() + timeout
    while not context.join(max(deadline - time.monotonic(), 0.0)):
        if time.monotonic() >= deadline:
            for process in context.processes:
                process.kill()
            pytest.fail(f"the processes did not end within {timeout} seconds: do they wait for each other?")
    return [torch.load(folder / f"result-{rank}.pt", weights_only=False) for rank in range(processes)]


def _run(rank, processes, function, folder, arguments):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    os.environ["OMP_NUM_THREADS"] = "1"
    os.dup2(os.open(folder / f"stderr-{rank}.txt", os.O_WRONLY | os.O_CREAT), 2)
    torch.set_num_threads(1)
    gc.freeze()  # each training collects garbage, and would walk all that was imported
    store, patience = f"file://{folder / 'store'}", timedelta(seconds=120)
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=processes, timeout=patience)
    torch.save(function(*arguments), folder / f"result-{rank}.pt")
    torch.distributed.destroy_process_group()


def make_trainer(folder, pipe=None, **changes):
    """A trainer of the tiny pipeline on 24 pairs; dropout is off unless the pipeline has it."""
    pipe = pipe or tiny_pipeline(**ONE_LAYER)
    values = {
        "output_dir": str(folder),
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "optim": "adamw_torch_fused",
        "warmup_steps": 0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
    }
    pairs = tokenized_pairs(pipe.processor)
    args = ITITTrainingArguments(**(values | changes))
    streams = dict.fromkeys(dict.fromkeys(OBJECTIVES[objective].stream for objective in args.objectives), pairs)
    return ITITTrainer(
        model=pipe.model,
        args=args,
        processing_class=pipe.processor,
        text_encoder=pipe.text_encoder,
        train_streams=streams,
        eval_dataset=pairs.select(range(6)),
        scheduler=pipe.scheduler,
    )


def losses_of(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def weights_of(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


FULL_CYCLE = {
    "objectives": ["t2i", "i2t", "i2i", "t2i2t", "i2t2i"],
    "synthesis_steps": 2,
    "synthesis_max_new_tokens": 4,
}
