# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The command `itit`: the name of a command, and what that command is given."""

import argparse
import importlib
import sys
from importlib.metadata import version
from pathlib import Path
from types import TracebackType

from .console import COMMANDS

PACKAGE = Path(__file__).resolve().parents[1]
INTERRUPTED = 130  # as a shell says it


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    What a user can mend, which the package says by a `ValueError`, an `OSError` or an `ImportError` of its own, is a
    line; any other error comes with its traceback.

    Args:
        arguments (`list[str]`, *optional*): `sys.argv[1:]` by default.

    Returns:
        `int`: The exit status.
    """
    chosen = parse_args(arguments)
    try:
        importlib.import_module(f"{__package__}.{chosen.command}").main(chosen.arguments)
    except KeyboardInterrupt:
        sys.stderr.write(f"itit {chosen.command}: interrupted\n")
        return INTERRUPTED
    except (ValueError, OSError, ImportError) as error:
        if chosen.traceback or not is_raised_here(error.__traceback__):
            raise
        sys.stderr.write(f"itit {chosen.command}: {error}\n")
        return 1
    return 0


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command, its arguments, and whether errors come with their tracebacks."""
    lines = [f"  {name:9} {command.description}\n  {'':9} {command.examples[0]}" for name, command in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="itit",
        usage="itit [--version] [--traceback] COMMAND ...",
        description="One model that generates images from text and captions images.",
        epilog="\n".join(["commands:", *lines, "", "`itit COMMAND --help` says what each is given."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"itit-hf {version('itit-hf')}")
    parser.add_argument("--traceback", action="store_true", help="say of each error where it arose")
    parser.add_argument("command", choices=list(COMMANDS), metavar="COMMAND", help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def is_raised_here(traceback: TracebackType | None) -> bool:
    """Whether an error arose in the package, not in a library that it calls.

    Args:
        traceback (`TracebackType`, *optional*): Of the error.
    """
    place = Path()
    while traceback is not None:
        place = Path(traceback.tb_frame.f_code.co_filename)
        traceback = traceback.tb_next
    return PACKAGE in place.parents


if __name__ == "__main__":
    sys.exit(main())
