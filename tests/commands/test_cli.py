# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import json
import subprocess
import sys

import PIL.Image
import pytest

from itit_hf.commands import caption
from itit_hf.commands.cli import main
from itit_hf.commands.console import COMMANDS


def test_a_prompt_becomes_an_image_and_the_image_a_caption(pipeline_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "a red bus", "--model", pipeline_folder, "--num_inference_steps", "2"]) == 0
    image = "out/images/00-a-red-bus.png"
    assert PIL.Image.open(image).size == (16, 16)
    assert main(["caption", image, "--model", pipeline_folder, "--num_beams", "1"]) == 0


def test_the_help_has_an_example_of_each_command(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown and command.examples[0] in shown for name, command in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_examples(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: itit {name} ")
    assert shown.rstrip().endswith("\n  ".join(["examples:", *COMMANDS[name].examples]))


def test_a_command_that_there_is_not_is_refused_with_those_that_there_are(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["draw"])
    assert "'draw'" in capsys.readouterr().err


def test_a_mistake_is_said_in_a_line(tmp_path, capsys):
    assert main(["caption", "bus.png", "--model", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("itit caption: `--model` must be a pipeline folder or a Hub id, got ")


def test_where_a_mistake_arose_is_said_if_that_is_asked_for(tmp_path):
    with pytest.raises(ValueError, match="`--model` must be"):
        main(["--traceback", "caption", "bus.png", "--model", str(tmp_path)])


def test_an_error_of_a_library_comes_with_its_traceback(monkeypatch):
    monkeypatch.setattr(caption, "main", lambda arguments: json.loads("{"))
    with pytest.raises(json.JSONDecodeError):
        main(["caption", "bus.png"])


def test_an_interruption_has_the_exit_status_of_one(monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(caption, "main", interrupted)
    assert main(["caption", "bus.png"]) == 130
    assert capsys.readouterr().err == "itit caption: interrupted\n"


def test_the_help_does_not_wait_for_torch():
    code = "import sys; import itit_hf.commands.cli; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
