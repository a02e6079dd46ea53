# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import shlex

import pytest

from itit_hf.commands import app, caption, convert, evaluate, generate
from itit_hf.commands.console import COMMANDS, command_parser
from itit_hf.commands.train import ScriptArguments
from itit_hf.training.prior import PriorArguments
from itit_hf.training.training_args import ITITTrainingArguments, parse_arguments

PARSERS = {
    "generate": generate.parse_args,
    "caption": caption.parse_args,
    "evaluate": evaluate.parse_args,
    "app": app.parse_args,
    "convert": convert.parse_args,
    "train": lambda words: parse_arguments([ScriptArguments, PriorArguments, ITITTrainingArguments], words),
}
EXAMPLES = [(name, example) for name, command in COMMANDS.items() for example in command.examples]


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_an_example_has_arguments_that_exist(name, example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("output_dir: out/mine\n")
    words = shlex.split(example)
    start = words.index(f"itit_hf.commands.{name}") if words[0] == "accelerate" else words.index(name)
    PARSERS[name](words[start + 1 :])


def test_the_help_of_a_command_ends_with_its_examples(capsys):
    with pytest.raises(SystemExit):
        command_parser("caption").parse_args(["--help"])
    shown = capsys.readouterr().out
    assert shown.startswith("usage: itit caption") and "\nexamples:\n  itit caption bus.png\n" in shown
