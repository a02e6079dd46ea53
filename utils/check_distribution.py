# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Check the sdist and the wheel of a release, and use the wheel as somebody would who has nothing but Python.

    python -m build
    python utils/check_distribution.py dist [--tag v0.1.0] [--no-install]

The sdist has no weights and none of the folders that only a checkout needs; the wheel has what the package reads at
run time, and the command; both are of the version of the tag. The wheel is then installed into a new environment, and
in an empty folder `itit` generates an image with the committed checkpoint and captions it.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
NOT_IN_SDIST = ("checkpoints", "docs", "examples", "model_cards", "space", "tests", "utils")
IN_WHEEL = ("itit_hf/py.typed", "itit_hf/commands/emoji_scenes_tiny.yaml", "itit_hf/commands/cli.py")
MAX_BYTES = 2_000_000
IMAGE = "out/images/00-a-red-bus.png"


def problems_of(folder: Path, tag: str | None = None) -> list[str]:
    """Look into the two archives.

    Args:
        folder (`Path`): With one sdist and one wheel.
        tag (`str`, *optional*): `v` and the version that they must have.

    Returns:
        `list[str]`: A message for each problem; empty if there is none.
    """
    sdists = sorted(folder.glob("*.tar.gz"))
    wheels = sorted(folder.glob("*.whl"))
    if len(sdists) != 1 or len(wheels) != 1:
        return [f"{folder} must hold one sdist and one wheel, got {len(sdists)} and {len(wheels)}; empty it and build"]
    with tarfile.open(sdists[0]) as sdist:
        top = {PurePosixPath(name).parts[1] for name in sdist.getnames() if "/" in name}
    with zipfile.ZipFile(wheels[0]) as wheel:
        names = set(wheel.namelist())
    problems = [f"{sdists[0].name} holds `{name}/`; prune it in MANIFEST.in" for name in NOT_IN_SDIST if name in top]
    problems += [f"{wheels[0].name} lacks `{name}`; mend setup.cfg" for name in IN_WHEEL if name not in names]
    if not any(name.endswith("entry_points.txt") for name in names):
        problems.append(f"{wheels[0].name} has no command; mend setup.cfg")
    for file in (sdists[0], wheels[0]):
        size = file.stat().st_size
        if size > MAX_BYTES:
            problems.append(f"{file.name} has {size} bytes, more than {MAX_BYTES}; find what came along")
        named = file.name.removesuffix(".tar.gz").split("-")[1]
        if tag is not None and tag != f"v{named}":
            problems.append(f"{file.name} is not of the version of the tag {tag}; mend `__version__` or the tag")
    return problems


def try_wheel(wheel: Path):
    """Install the wheel into a new environment, and generate and caption in an empty folder.

    Args:
        wheel (`Path`): The wheel.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "env", with_pip=True)
        programs = folder / "env" / "bin"
        clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        clean["HF_HUB_OFFLINE"] = "1"
        (folder / "empty").mkdir()
        model = ["--model", str(ROOT / "checkpoints" / "emoji-scenes-64")]
        for command in (
            [programs / "python", "-m", "pip", "install", "--quiet", wheel.resolve()],
            [programs / "itit", "--version"],
            [programs / "itit", "generate", "a red bus", *model],
            [programs / "itit", "caption", IMAGE, *model],
        ):
            subprocess.run(command, check=True, cwd=folder / "empty", env=clean)


def main() -> int:
    """Print the problems; the exit status is 1 if there is one."""
    parser = argparse.ArgumentParser(description="Check the sdist and the wheel of a release.")
    parser.add_argument("folder", type=Path, help="with both")
    parser.add_argument("--tag", help="v and the version that they must have")
    parser.add_argument("--no-install", action="store_true", help="look into the archives alone")
    args = parser.parse_args()
    problems = problems_of(args.folder, args.tag)
    if not problems and not args.no_install:
        try_wheel(next(args.folder.glob("*.whl")))
    print("\n".join(problems) or "check_distribution: fit for a release", file=sys.stderr if problems else sys.stdout)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
