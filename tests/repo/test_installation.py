# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The package in environments of its own, which pip fills: needs a package index and minutes, and for the lowest
versions gigabytes, as the index has torch with all that it needs on a GPU."""

import configparser
import os
import re
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

from itit_hf.commands.checkpoints import HUB_OWNER
from push_checkpoints import push

from ..hub_server import HubServer
from ..testing_utils import tiny_pairs

ROOT = Path(__file__).parents[2]
MODEL = str(ROOT / "checkpoints" / "emoji-scenes-64")

DRAW = """
import sys
from itit_hf import ITITPipeline
pipe = ITITPipeline.from_pretrained(sys.argv[1])
image = pipe("a red bus", num_inference_steps=4).images[0]
print(image.size, pipe.caption(image)[0])
"""
WITHOUT = """
import importlib.util
extras = "torchvision gradio selenium wandb tensorboard trackio peft evaluate torchmetrics pycocoevalcap matplotlib"
assert not [name for name in extras.split() if importlib.util.find_spec(name)]
"""
# What needs an extra, and the line that must be said.
LORA = (
    "from itit_hf import ITITPipeline; ITITPipeline.from_pretrained(__import__('sys').argv[1]).load_lora_weights('x')"
)
NAMED = {
    "peft": ["-c", LORA, MODEL],
    "app": [str(ROOT / "examples" / "app.py")],
    "eval": ["-c", "from itit_hf.metrics.coco_captions import coco_caption_scores as f; f(['a'], [['a']])"],
    "demo": [str(ROOT / "examples" / "train_lora.py"), "--model", MODEL, "--use_cpu"],
}
TRAIN = """
import sys
sys.path.insert(0, sys.argv[2])
from tests.training_utils import make_trainer
trainer = make_trainer(sys.argv[1], max_steps=2)
trainer.train()
print(trainer.state.global_step)
"""


def install(folder: Path, *packages: str) -> Path:
    """A new environment with the package, from a copy of its source, and these; gives its Python."""
    venv.create(folder / "env", with_pip=True)
    shutil.copytree(ROOT / "src", folder / "source" / "src")  # pip would build inside the repository
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    python = folder / "env" / "bin" / "python"
    options = ["--quiet", "--disable-pip-version-check", "--no-compile"]
    command = [python, "-m", "pip", "install", *options, folder / "source", *packages]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return python


def run(
    python: Path, *arguments: str, cwd: Path, variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess:
    """Run something there, without what this environment has and without a network, unless variables say where to."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | (variables or {})
    return subprocess.run([python, *arguments], capture_output=True, text=True, cwd=cwd, env=environment)


def last_line(finished: subprocess.CompletedProcess) -> str:
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The Python of an installation without extras."""
    return install(tmp_path_factory.mktemp("bare"), "-c", str(ROOT / "constraints.txt"))


@pytest.mark.slow
def test_a_bare_installation_draws_captions_and_names_the_extra_that_is_missing(bare, tmp_path):
    (tmp_path / "x").touch()
    assert re.match(r"\(64, 64\) \w+", last_line(run(bare, "-c", WITHOUT + DRAW, MODEL, cwd=tmp_path)))
    for extra, arguments in NAMED.items():
        finished = run(bare, *arguments, cwd=tmp_path)
        assert finished.returncode != 0 and re.search(rf"pip install '?itit-hf\[{extra}\]", finished.stderr), extra


@pytest.mark.slow
def test_with_nothing_but_the_installation_one_generates_captions_and_trains_on_ten_images(bare, tmp_path):
    itit = bare.parent / "itit"
    (tmp_path / "images").mkdir()
    for i, row in enumerate(tiny_pairs(10)):
        row["image"].save(tmp_path / "images" / f"{i}.png")
        (tmp_path / "images" / f"{i}.txt").write_text(row["text"][0])
    with HubServer(tmp_path / "hub") as hub:
        for name in ("emoji-scenes-64", "text-encoder-minilm", "image-tokenizer-art"):
            push(name, HUB_OWNER)
        for command in (
            ["generate", "a red bus"],
            ["caption", "out/images/00-a-red-bus.png"],
            ["train", "--paired_dataset", "images", "--output_dir", "out/mine", "--max_steps", "2", "--use_cpu"],
            ["generate", "a red bus", "--model", "out/mine/pipeline", "--num_inference_steps", "2"],
        ):
            finished = run(itit, *command, cwd=tmp_path, variables=hub.environment)
            assert finished.returncode == 0, finished.stderr[-3000:]


def lowest_versions() -> list[str]:
    """What is installed without fail, and pytest for the models of tests/, each in the lowest version allowed."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    wanted = config["options"]["install_requires"].split("\n") + ["pytest>=8.3"]
    return [each.replace(">=", "==") for each in wanted if each and not each.startswith("#")]


@pytest.mark.slow
def test_the_lowest_versions_that_are_allowed_draw_caption_and_train(tmp_path):
    python = install(tmp_path, *lowest_versions())
    assert re.match(r"\(64, 64\) \w+", last_line(run(python, "-c", DRAW, MODEL, cwd=tmp_path)))
    assert last_line(run(python, "-c", TRAIN, str(tmp_path / "out"), str(ROOT), cwd=tmp_path)) == "2"
