# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""R18, R19: files that somebody made to do harm. Each runs in a child that an audit hook watches."""

import contextlib
import json
import os
import pickle
import random
import resource
import shutil
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from itit_hf import ITITPipeline
from itit_hf.training.checkpointing import (
    CheckpointError,
    commit_checkpoint,
    load_state,
    stage_checkpoint,
    verify_checkpoint,
)

from ..testing_utils import tiny_pipeline
from .harness import fork, make_trainer, wait

FORBIDDEN = ("antigravity", "this", "turtle", "evil_module")
CASES = 200
CONFIGS = (
    "model_index.json", "model/config.json", "model/generation_config.json", "text_encoder/config.json",
    "image_tokenizer/config.json", "image_processor/preprocessor_config.json", "scheduler/scheduler_config.json",
    "tokenizer/tokenizer_config.json", "tokenizer/tokenizer.json",
)  # fmt: skip
VALUES = (
    -1, 0, 10**12, 2**63, 1e308, float("nan"), float("inf"), None, True, "", "x" * 10_000, "../../../../etc/passwd",
    [], [[]], {}, {"a": {"b": []}}, ["os", "system"], ["evil_module", "Thing"], ["antigravity", "fly"],
    "evil_module.Thing",
)  # fmt: skip
EXTRA = {
    "auto_map": {"AutoModel": "evil_module.Thing", "AutoConfig": "evil_module.Thing"},
    "_class_name": ["evil_module", "Thing"],
    "quantization_config": {"quant_method": "evil_module"},
    "attn_implementation": "evil/kernel",
    "custom_pipeline": "evil_module",
    "architectures": ["evil_module.Thing"],
    "trust_remote_code": True,
    "torch_dtype": "evil_module",
    "tokenizer_class": "evil_module.Thing",
    "vocab_file": "../../../../etc/passwd",
    "__reduce__": ["os.system", ["touch pwned"]],
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    tiny_pipeline().save_pretrained(folder)
    return folder


def spoil(folder: Path, generator: random.Random) -> str:
    """Change one configuration; returns what was done."""
    name = generator.choice(CONFIGS)
    path = folder / name
    way = generator.choice(("value", "value", "value", "extra", "missing", "deep", "bytes", "gone", "list"))
    values = json.loads(path.read_text())
    key = generator.choice(sorted(values))
    if way == "value":
        values[key] = generator.choice(VALUES)
    elif way == "extra":
        key = generator.choice(sorted(EXTRA))
        values[key] = EXTRA[key]
    elif way == "missing":
        del values[key]
    elif way == "list":
        values = [values]
    elif way == "gone":
        path.unlink()
        return f"{name} gone"
    if way == "deep":
        path.write_text('{"a":' * 5000 + "1" + "}" * 5000)
    elif way == "bytes":
        content = bytearray(path.read_bytes())
        content[generator.randrange(len(content))] = generator.randrange(256)
        path.write_bytes(content)
    else:
        path.write_text(json.dumps(values))
    return f"{name} {way} {key}"


def watch(allowed: Path, found: list):
    """Note each import of what a file named, each program started, and each file opened that is none of ours."""
    places = (str(allowed), sys.prefix, sys.base_prefix, "/usr", "/proc", "/dev", "/sys", "/etc/localtime")
    places += tuple(path for path in sys.path if path)

    def hook(event, arguments):
        if event == "import" and arguments[0].split(".")[0] in FORBIDDEN:
            found.append(f"imported {arguments[0]}")
        elif event in ("os.system", "subprocess.Popen", "os.exec", "socket.connect"):
            found.append(f"{event} {arguments!r:.200}")
        elif event == "open" and isinstance(arguments[0], str):
            path = os.path.realpath(arguments[0])
            if not path.startswith(places) or path == "/etc/passwd":
                found.append(f"opened {path}")

    sys.addaudithook(hook)


def open_spoiled(folder: Path, count: int, seed: int):
    """In a child: open `count` spoiled folders; whatever is opened must draw, or fail by its own error."""
    found: list[str] = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ITITPipeline.from_pretrained(folder)  # what is imported late is imported now
    watch(folder.parent, found)
    opened = 0
    for case in range(count):
        generator = random.Random(f"{seed}/{case}")
        place = folder.parent / "spoiled"
        shutil.copytree(folder, place)
        done = spoil(place, generator)
        try:
            pipe = ITITPipeline.from_pretrained(place)
            pipe.set_progress_bar_config(disable=True)
            opened += 1
        except (ValueError, OSError) as error:
            assert str(error), done
        shutil.rmtree(place)
        assert not found, f"{done}: {found}"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000
    assert opened < count // 2


@pytest.mark.figure(name="R18")
def test_spoiled_configurations_run_nothing_and_fail_by_name(saved, tmp_path, figure):
    held = 0
    for part in range(4):
        folder = shutil.copytree(saved, tmp_path / str(part) / "pipeline")
        held += (CASES // 4) * (wait(fork(open_spoiled, folder, CASES // 4, part), 900) == 0)
    figure(held, CASES)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    make_trainer(folder, stop_after=1).train()
    return folder / "checkpoint-1"


@pytest.mark.figure(name="R19")
def test_each_flipped_bit_of_the_weights_is_found(checkpoint, tmp_path, figure):
    """And what a mutated file loads as, or fails with, is nothing worse than an error."""
    folder = str(tmp_path / "checkpoint-1")
    staging = stage_checkpoint(str(tmp_path), 0)
    shutil.copy(checkpoint / "model.safetensors", staging)
    commit_checkpoint(staging, folder, 1, 1, {})
    path, generator = Path(folder, "model.safetensors"), random.Random(0)
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    found = 0
    with open(path, "r+b", buffering=0) as file:
        for case in range(4000):
            place = generator.randrange(header, len(content)) if case < 3000 else generator.randrange(header)
            flipped = content[place] ^ (1 << generator.randrange(8))
            file.seek(place)
            file.write(bytes([flipped]))
            with contextlib.suppress(CheckpointError):
                verify_checkpoint(folder)
                found -= 1
            found += 1
            file.seek(place)
            file.write(content[place : place + 1])
    verify_checkpoint(folder)
    figure(found, 4000, "bit flips found by the manifest")


def load_mutated(path: Path, seed: int):
    """In a child: what safetensors and the loaders make of mutated files."""
    content, generator = path.read_bytes(), random.Random(seed)
    header = 8 + int.from_bytes(content[:8], "little")
    place = path.parent / "mutated.safetensors"
    for case in range(400):
        mutated = bytearray(content)
        for _ in range(generator.randrange(1, 4)):
            mutated[generator.randrange(header if case % 2 else len(content))] = generator.randrange(256)
        place.write_bytes(mutated[: generator.randrange(len(mutated))] if case % 5 == 0 else mutated)
        for load in (load_file, load_state):
            with contextlib.suppress(Exception):
                load(str(place))


# A tenth of the files in the default tests.
@pytest.mark.figure(name="R19")
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 11))])
def test_mutated_weights_never_crash_a_loader(seed, checkpoint, tmp_path, figure):
    path = shutil.copy(checkpoint / "optimizer.safetensors", tmp_path)
    figure(400 * (wait(fork(load_mutated, Path(path), seed)) == 0), 400, "mutated files loaded")


class Payload:
    """A pickle that leaves a file behind when it is opened."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


PICKLES = (
    "pytorch_model.bin", "model.pt", "rng_state.pth", "optimizer.pt", "scheduler.pt", "training_args.bin", "scaler.pt",
    "diffusion_pytorch_model.bin", "optimizer.safetensors", "model.safetensors", "rng_state-0.safetensors",
    "ema.safetensors",
)  # fmt: skip


@pytest.mark.figure(name="R19")
def test_no_pickle_is_opened(saved, checkpoint, tmp_path, figure):
    held = 0
    for name in PICKLES:
        pwned = tmp_path / f"pwned-{name}"
        content = pickle.dumps(Payload(pwned))
        run = shutil.copytree(checkpoint.parent, tmp_path / f"run-{name}")
        pipeline = shutil.copytree(saved, tmp_path / f"pipeline-{name}")
        (run / "checkpoint-1" / name).write_bytes(content)
        for folder in ("model", "text_encoder", "image_tokenizer"):
            for weights in (pipeline / folder).glob("*.safetensors"):
                weights.unlink()
            (pipeline / folder / name).write_bytes(content)
        with pytest.raises((ValueError, OSError)):
            ITITPipeline.from_pretrained(pipeline)
        trainer = make_trainer(run, stop_after=1)
        if name.endswith(".safetensors"):
            with pytest.raises(CheckpointError, match=name):
                trainer.train(resume_from_checkpoint="last")
        else:
            trainer.train(resume_from_checkpoint="last")
        held += not pwned.exists()
    figure(held, 12, "pickles left closed")
