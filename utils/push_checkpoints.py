# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Push the committed checkpoints to the Hub, each with its card, where `itit` finds them outside a checkout.

    hf auth login
    python utils/push_checkpoints.py
    python utils/push_checkpoints.py --only emoji-scenes-64 --stage out/hub    # writes the folder, pushes nothing

A repository is what `checkpoints/NAME` and `model_cards/NAME.md` are, and nothing else: what is there and not here is
removed. In the card, images come along, other checkpoints are called by their names on the Hub, and links to other
files lead to the source repository. With `--tag 0.1.0` the commit is tagged. Pushing twice changes nothing.
"""

import argparse
import configparser
import logging
import os
import re
import shutil
import tempfile
from pathlib import Path

from huggingface_hub import HfApi

from itit_hf.commands.checkpoints import HUB_OWNER, PUBLISHED
from itit_hf.hub.push import make_repository, upload

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[1]
CARDS = ROOT / "model_cards"
NAMES = "|".join(PUBLISHED)
CHECKPOINT = re.compile(rf"checkpoints/({NAMES})(?![\w/-])")
LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^()\s#]+)(#[^()\s]*)?(?=\))")
IMAGES = (".png", ".svg")


def source_url() -> str:
    """Address of the source repository, of setup.cfg."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["metadata"]["project_urls"].strip().splitlines()
    return dict(line.split(" = ") for line in lines)["Source"]


def card_for_hub(text: str, owner: str, folder: Path) -> str:
    """A card as it can be read on the Hub; the images that it shows are copied into the folder.

    Args:
        text (`str`): The card, as it stands in model_cards/.
        owner (`str`): Of the repositories.
        folder (`Path`): Of the repository.

    Returns:
        `str`.

    Raises:
        ValueError: If a link leads to no file.
    """

    def moved(match: re.Match) -> str:
        file = (CARDS / match[1]).resolve()
        if not file.exists():
            raise ValueError(f"the card links to `{match[1]}`, and there is no such file")
        if file.suffix in IMAGES:
            (folder / "images").mkdir(exist_ok=True)
            shutil.copy(file, folder / "images")
            return f"images/{file.name}"
        if file.parent == CARDS and file.suffix == ".md" and file.stem in PUBLISHED:
            return f"https://huggingface.co/{owner}/{file.stem}{match[2] or ''}"
        return f"{source_url()}/blob/main/{file.relative_to(ROOT).as_posix()}{match[2] or ''}"

    return LINK.sub(moved, CHECKPOINT.sub(rf"{owner}/\1", text))


def stage(name: str, owner: str, folder: Path):
    """Write what a repository is to hold.

    Args:
        name (`str`): One of `PUBLISHED`.
        owner (`str`): Of the repository.
        folder (`Path`): New folder.
    """
    shutil.copytree(ROOT / "checkpoints" / name, folder)
    card = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    (folder / "README.md").write_text(card_for_hub(card, owner, folder), encoding="utf-8")


def push(name: str, owner: str, tag: str | None = None):
    """Push one checkpoint.

    Args:
        name (`str`): One of `PUBLISHED`.
        owner (`str`): Of the repository.
        tag (`str`, *optional*): Name for the commit.

    Raises:
        UploadError: If it was refused, or failed each time.
    """
    repo_id, _ = make_repository(f"{owner}/{name}")
    with tempfile.TemporaryDirectory() as folder:
        stage(name, owner, Path(folder) / name)
        commit = upload(os.path.join(folder, name), repo_id, f"Upload {name}", delete_patterns=["*"])
    if tag is not None:
        HfApi().create_tag(repo_id, tag=tag, revision=commit.oid, exist_ok=True)
    logger.info(f"{repo_id}: {commit.oid}")


def main(arguments: list[str] | None = None):
    """Stage or push what is named."""
    parser = argparse.ArgumentParser(description="Push the committed checkpoints to the Hub, each with its card.")
    parser.add_argument("--owner", default=HUB_OWNER, help="User or organization.")
    parser.add_argument("--only", nargs="+", choices=PUBLISHED, default=PUBLISHED, help="Some of them.")
    parser.add_argument("--tag", help="Name for the commits, such as 0.1.0.")
    parser.add_argument("--stage", type=Path, help="Write the folders here, and push nothing.")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in args.only:
        if args.stage is not None:
            stage(name, args.owner, args.stage / name)
        else:
            push(name, args.owner, args.tag)


if __name__ == "__main__":
    main()
