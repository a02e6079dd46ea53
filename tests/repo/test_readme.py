# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The blocks of code in README.md and the first pages of the docs, run as they stand, in a folder like a fresh clone.
The quick ones are given fewer steps, by arguments that the scripts have; the slow walk from a folder of images to a
checkpoint is given none."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import PIL.Image
import PIL.ImageDraw
import pytest
import torch
from datasets import config as datasets_config

from itit_hf import ITITPipeline
from itit_hf.commands import cli

from ..hub_server import HubServer
from ..testing_utils import script

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = ("README.md", "docs/use.md", "docs/train.md")
BLOCKS = [code for page in PAGES for code in FENCE.findall((ROOT / page).read_text(encoding="utf-8"))]

# What a block is known by, and which test runs it.
RUN_BY = {
    "make demo": "CI",
    "itit generate": "test_the_command_generates_and_captions",
    "pipe.caption(image)": "test_generate_and_caption",
    "import itit_hf.models  #": "test_the_pipeline_of_transformers",
    "train_itit.py --paired_dataset images --output_dir out/mine": "test_own_images_become_a_published_checkpoint",
    "paired_dataset: images": "test_own_images_bare_ones_and_sentences_are_read_by_both_cycles",
    "itit train": "test_the_command_trains",
    "examples/train_vq.py": "test_frozen_parts_of_ones_own",
    '"me/mine"': "test_own_images_become_a_published_checkpoint",
    "--resume_from_checkpoint": "test_shell_blocks",
    "cpu_2_processes.yaml": "test_shell_blocks",
    "train_lora.py": "test_shell_blocks",
    "table2": "tests/examples/test_table2_recipes.py, as it fetches art with npm",
    "@inproceedings": "nothing: it is BibTeX",
}
FEWER = {
    "train_vq": "--max_steps 2 --quantize_from_step 1 --kmeans_images 40 --per_device_train_batch_size 4 "
    "--sample_steps 0",
    "train_text_encoder": "--max_steps 2 --per_device_train_batch_size 4 --save_strategy no",
    "train_itit": "--max_steps 2 --per_device_train_batch_size 8 --sample_inference_steps 2 --sample_steps 0 "
    "--logging_steps 2 --save_steps 2",
    "train_lora": "--max_steps 2 --per_device_train_batch_size 4 --sample_inference_steps 2",
}
COLOURS = {"red": (200, 40, 40), "green": (40, 150, 60), "blue": (40, 70, 200), "white": (240, 240, 240)}


def block(mark: str) -> str:
    """The block that is known by a mark."""
    (found,) = [code for code in BLOCKS if mark in code]
    return found


def commands(code: str) -> list[list[str]]:
    """Words of each command of a shell block, without comments."""
    lines = code.replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def with_fewer_steps(words: list[str]) -> tuple[str, list[str]]:
    """Name and arguments of the script that a command runs."""
    (path,) = [word for word in words if re.fullmatch(r"examples/\w+\.py", word)]
    name = Path(path).stem
    return name, words[words.index(path) + 1 :] + FEWER[name].split()


def flag(index: int) -> tuple[PIL.Image.Image, str]:
    """A flag of two colours, and what it is called."""
    names = list(COLOURS)
    first, second = names[index % 4], names[(index % 4 + 1 + index // 4 % 3) % 4]
    kind, shift = ("cross", "stripe", "disc")[index // 12 % 3], 4 * (index % 5)
    image = PIL.Image.new("RGB", (96, 96), COLOURS[first])
    pen = PIL.ImageDraw.Draw(image)
    if kind == "disc":
        pen.ellipse((18 + shift, 22, 62 + shift, 66), fill=COLOURS[second])
    else:
        pen.rectangle((0, 32 + shift, 96, 48 + shift), fill=COLOURS[second])
    if kind == "cross":
        pen.rectangle((24, 0, 40, 96), fill=COLOURS[second])
    return image, f"a {second} {kind} on {first}"


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """What a clone has, and a hundred captioned images; the working folder."""
    for name in ("checkpoints", "examples"):
        os.symlink(ROOT / name, tmp_path / name)
    (tmp_path / "images").mkdir()
    lines = []
    for index in range(100):
        image, caption = flag(index)
        image.save(tmp_path / "images" / f"{index:03d}.png")
        lines.append(json.dumps({"file_name": f"{index:03d}.png", "text": caption}))
    (tmp_path / "images" / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets_config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with HubServer(tmp_path_factory.mktemp("hub")) as server:
        yield server


def test_every_block_is_known_by_one_mark():
    for code in BLOCKS:
        assert len([mark for mark in RUN_BY if mark in code]) == 1, f"add to RUN_BY what runs this:\n{code}"
    assert len(BLOCKS) == len(RUN_BY)


def test_generate_and_caption(clone, capsys):
    names = {}
    exec(block("pipe.caption(image)"), names)
    assert names["image"].size == (64, 64) and capsys.readouterr().out.strip()


def run_command(line: str, more: str = ""):
    """A line that begins with `itit`, in this process."""
    _, *arguments = shlex.split(line, comments=True)
    assert cli.main([*arguments, *more.split()]) == 0


def test_the_command_generates_and_captions(clone, caplog):
    generate, caption = block("itit generate").splitlines()[1:]  # the first installs what is installed here
    run_command(generate)
    assert {path.name for path in Path("out").glob("*.png")} >= {"00-a-red-bus.png", "01-a-blue-fish.png"}
    with caplog.at_level("INFO"):
        run_command(caption)
    assert "a red bus" in caplog.text


def test_the_command_trains(clone):
    run_command(block("itit train"), FEWER["train_itit"] + " --use_cpu")
    assert (clone / "out" / "mine" / "pipeline" / "model_index.json").is_file()


def test_the_pipeline_of_transformers(clone):
    pipe = ITITPipeline.from_pretrained("checkpoints/emoji-scenes-64")
    pipe.model.save_pretrained("folder")
    pipe.processor.save_pretrained("folder")
    flag(0)[0].save("bus.png")
    names = {"folder": "folder"}
    exec(block("import itit_hf.models  #"), names)
    assert names["captioner"](images="bus.png", text="a red")[0]["generated_text"].startswith("a red")


def run_in_process(mark: str):
    """The commands of a block, with fewer steps."""
    for words in commands(block(mark)):
        name, arguments = with_fewer_steps(words)
        script(name).main(arguments + ["--use_cpu"])


def test_own_images_become_a_published_checkpoint(clone, hub):
    run_in_process("train_itit.py --paired_dataset images --output_dir out/mine")
    names = {}
    exec(block('"me/mine"').replace("me/mine", "user/mine"), names)
    assert PIL.Image.open("boat.png").size == (64, 64)
    assert names["pipe"].unknown_words("a red stripe on a boat") == ["boat"]
    assert names["pipe"].sampling.num_inference_steps == 2  # of the run's samples
    assert "model/model.safetensors" in hub.repository("user/mine").files


def test_own_images_bare_ones_and_sentences_are_read_by_both_cycles(clone):
    (clone / "more_images").mkdir()
    for index in range(100, 112):
        flag(index)[0].save(clone / "more_images" / f"{index}.png")
    sentences = [flag(index)[1] for index in range(112, 124)]
    (clone / "sentences.txt").write_text("\n".join(sentences), encoding="utf-8")
    (clone / "cycles.yaml").write_text(block("paired_dataset: images"), encoding="utf-8")
    fewer = FEWER["train_itit"].replace("--sample_steps 0", "--sample_steps 2").split()
    script("train_itit").main(["--config", "cycles.yaml", "--use_cpu", *fewer])
    shown = {path.name for path in Path("out/cycles/samples").iterdir()}
    assert shown == {f"step-0000002{what}.png" for what in ("", "-t2i2t", "-i2t2i")}
    state = json.loads(Path("out/cycles/checkpoint-2/trainer_state.json").read_text(encoding="utf-8"))
    (last,) = [log for log in state["log_history"] if "train_loss" not in log]
    assert {"loss_t2i", "loss_i2t", "loss_i2i", "loss_t2i2t", "loss_i2t2i"} <= last.keys()
    assert ITITPipeline.from_pretrained("out/cycles/pipeline")("a red stripe").images[0].size == (64, 64)


def test_frozen_parts_of_ones_own(clone):
    run_in_process("examples/train_vq.py")
    pipe = ITITPipeline.from_pretrained("out/mine/pipeline")
    assert pipe.tokenizer.tokenize("stripe") != ["<unk>"]
    assert pipe("a red stripe").images[0].size == (64, 64)


def run(code: str, environment: dict[str, str]):
    """Run a shell block as somebody who has copied it would, with the environment's own programs."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment | {"PATH": programs}
    finished = subprocess.run(["bash", "-euc", code], env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-3000:]


@pytest.mark.slow
def test_own_images_become_a_published_checkpoint_by_copy_and_paste(clone, hub):
    run(block("train_itit.py --paired_dataset images --output_dir out/mine").strip() + " --max_steps 300", {})
    Path("publish.py").write_text(block('"me/mine"').replace("me/mine", "user/mine"), encoding="utf-8")
    run("python publish.py", hub.environment)
    assert PIL.Image.open("boat.png").size == (64, 64)
    mine, published = ITITPipeline.from_pretrained("out/mine/pipeline"), ITITPipeline.from_pretrained("user/mine")
    assert all(torch.equal(a, b) for a, b in zip(mine.model.parameters(), published.model.parameters(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("mark", [mark for mark, test in RUN_BY.items() if test == "test_shell_blocks"])
def test_shell_blocks(clone, hub, mark):
    (clone / "path" / "to" / "twenty").mkdir(parents=True)
    for link in ("path/to/images", "path/to/twenty/images"):
        os.symlink(clone / "images", clone / link)
    for words in commands(block(mark)):
        name, arguments = with_fewer_steps(words)
        before = words[: next(i for i, word in enumerate(words) if word.endswith(".py"))]
        line = shlex.join([*before, f"examples/{name}.py", *arguments]).replace("me/mine", "user/mine")
        run(line, hub.environment | {"HF_HUB_OFFLINE": "0"})
