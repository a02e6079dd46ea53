# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are there as a whole or not at all, and training state without pickles.

A checkpoint is written into a staging folder, flushed to the disk, described by a manifest with the size and SHA-256
of each file, and then renamed: whatever name `checkpoint-<step>` stands for was complete before it had that name.
State (of optimizers, schedules, random numbers) is one safetensors file whose metadata holds, as JSON, all that is no
tensor: reading it runs nobody's code.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers.utils import logging

logger = logging.get_logger(__name__)

FORMAT = 1
MANIFEST_NAME = "manifest.json"
STAGING_NAME = ".staging"
# Room for what is not counted tensor by tensor: configurations, tokenizer, log, manifest.
OVERHEAD_BYTES = 4_000_000
# Words for a checkpoint.
_NEWEST = ("last", "latest", "true")
_NONE = ("none", "false", "")
_CHECKPOINT = re.compile(r"(\.replaced-)?checkpoint-(\d+)")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class CheckpointError(ValueError):
    """A checkpoint that cannot be trusted; the message names the file and what is wrong with it."""


# State: a tree of dicts, lists, tuples and scalars with tensors as leaves.


def save_state(state, path: str):
    """Write a tree of state, such as an optimizer's `state_dict`, as one safetensors file.

    Args:
        state: Dicts with strings or integers as keys, lists, tuples, tensors, strings, numbers, booleans and `None`.
        path (`str`): Where to.

    Raises:
        ValueError: If anything else is in it.
    """
    tensors: dict[str, torch.Tensor] = {}
    tree = _encode(state, "state", tensors)
    save_file(tensors, path, metadata={"state": json.dumps(tree)})


def load_state(path: str, device: torch.device | str = "cpu"):
    """Read what [`save_state`] wrote.

    Args:
        path (`str`): Where from.
        device (`torch.device` or `str`, *optional*, defaults to `"cpu"`): Where the tensors go.

    Raises:
        CheckpointError: If it is no such file.
    """
    if not os.path.isfile(path):
        raise CheckpointError(f"{path}: it is missing")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  it is no dict
            return _decode(json.loads(file.metadata()["state"]), tensors)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: it holds no state that can be read: {error!r}") from error


def _encode(value, place: str, tensors: dict[str, torch.Tensor]):
    """JSON of a tree; its tensors go into `tensors`, under the place they have in the tree."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().contiguous()
        is_view = value.untyped_storage().nbytes() != value.nbytes
        tensors[place] = value.clone() if is_view else value
        return {"tensor": place}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        wrong = [key for key in value if not isinstance(key, (int, str))]
        if wrong:
            raise ValueError(f"`state` must have strings or integers as keys, got {wrong[0]!r} at {place}")
        return {"dict": [[key, _encode(item, f"{place}.{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        items = [_encode(item, f"{place}.{i}", tensors) for i, item in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": items}
    raise ValueError(f"`state` must hold tensors, numbers, strings, lists and dicts, got {type(value)} at {place}")


def _decode(tree, tensors: Mapping[str, torch.Tensor]):
    if not isinstance(tree, dict):
        return tree
    ((kind, value),) = tree.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "dict":
        return {key: _decode(item, tensors) for key, item in value}
    items = [_decode(item, tensors) for item in value]
    return {"list": list, "tuple": tuple}[kind](items)


# Folders.


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint says of itself.

    Args:
        step (`int`): Updates done.
        world_size (`int`): Processes that wrote it.
        facts (`dict`): Versions of libraries, seed and sizes of the data.
        files (`dict`): Size in bytes and SHA-256 of each file, by its path within the folder.
    """

    step: int
    world_size: int
    facts: dict
    files: dict

    def to_bytes(self) -> bytes:
        """The file: the fields, and the SHA-256 of them, so that it vouches for itself too."""
        fields = {"format": FORMAT} | {name: getattr(self, name) for name in self.__dataclass_fields__}
        seal = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
        return json.dumps(fields | {"sha256": seal}, sort_keys=True, indent=1).encode() + b"\n"


def read_manifest(folder: str) -> Manifest:
    """Read a checkpoint's manifest.

    Args:
        folder (`str`): The checkpoint.

    Returns:
        [`Manifest`].

    Raises:
        CheckpointError: If it is missing, damaged, or of another format.
    """
    path = os.path.join(folder, MANIFEST_NAME)
    try:
        with open(path, "rb") as file:
            data = file.read()
        fields = json.loads(data)
        found = fields.pop("format")
        del fields["sha256"]
        manifest = Manifest(**fields)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: it is missing, so the checkpoint was never finished") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: it is damaged: {error!r}") from error
    if found != FORMAT:
        raise CheckpointError(f"{path}: its format is {found!r}, wanted {FORMAT}")
    if manifest.to_bytes() != data:
        raise CheckpointError(f"{path}: it is damaged: it does not have the SHA-256 that it names")
    return manifest


def verify_checkpoint(folder: str, may_lack: Collection[str] = ()) -> Manifest:
    """Check every file of a checkpoint against its manifest.

    Args:
        folder (`str`): The checkpoint.
        may_lack (`Collection[str]`, *optional*): Beginnings of names of files that may be missing or damaged.

    Returns:
        [`Manifest`].

    Raises:
        CheckpointError: If a file is missing, has another size, or another SHA-256; it is named.
    """
    manifest = read_manifest(folder)
    for name, noted in manifest.files.items():
        if name.startswith(tuple(may_lack)):
            continue
        path = os.path.join(folder, name)
        if os.path.isabs(name) or ".." in name.split("/"):
            raise CheckpointError(f"{folder}: its manifest names {name!r}, which is not a file within it")
        if not os.path.isfile(path):
            raise CheckpointError(f"{path}: it is missing")
        if os.path.getsize(path) != noted["bytes"]:
            raise CheckpointError(f"{path}: it has {os.path.getsize(path)} bytes, wanted {noted['bytes']}")
        if _sha256(path) != noted["sha256"]:
            raise CheckpointError(f"{path}: its content is damaged, it has another SHA-256 than when it was written")
    return manifest


def list_checkpoints(output_dir: str) -> list[str]:
    """The checkpoints of a run, verified or not.

    Args:
        output_dir (`str`): Folder of the run.

    Returns:
        `list[str]` of folders, the newest, that of the highest step, first. A folder that was about to be replaced
        when the run was killed stands behind the one of the same step.
    """
    names = os.listdir(output_dir) if os.path.isdir(output_dir) else []
    found = [(int(match[2]), match[1] is None, name) for name in names if (match := _CHECKPOINT.fullmatch(name))]
    return [os.path.join(output_dir, name) for _, _, name in sorted(found, reverse=True)]


def find_checkpoint(output_dir: str, may_lack: Collection[str] = ()) -> tuple[str | None, list[str]]:
    """The newest checkpoint that verifies.

    Args:
        output_dir (`str`): Folder of the run.
        may_lack (`Collection[str]`, *optional*): See [`verify_checkpoint`].

    Returns:
        `(folder, skipped)`: the checkpoint, or `None` if none verifies, and why each newer one does not.
    """
    skipped = []
    for folder in list_checkpoints(output_dir):
        try:
            verify_checkpoint(folder, may_lack)
        except CheckpointError as error:
            skipped.append(str(error))
        else:
            return folder, skipped
    return None, skipped


def requested_checkpoint(value: str | bool | None) -> str | None:
    """What somebody means who names a checkpoint to go on from.

    Args:
        value (`str` or `bool`, *optional*): A folder; or `"last"`, `"latest"` or `True`, also as a word, for the
            newest checkpoint; or `False` or nothing.

    Returns:
        `str`: `"last"` for the newest, or the folder; `None` to start from step 0.
    """
    word = str(value).lower()
    if word in _NEWEST:
        return "last"
    return None if word in _NONE else str(value)


def stage_checkpoint(output_dir: str, needed: int) -> str:
    """An empty staging folder, once there is room for what will go there.

    Args:
        output_dir (`str`): Folder of the run; made if it is not there.
        needed (`int`): Bytes of the tensors that will be written.

    Returns:
        `str`: The staging folder.

    Raises:
        OSError: If fewer bytes are free; the message has both numbers.
    """
    os.makedirs(output_dir, exist_ok=True)
    staging = os.path.join(output_dir, STAGING_NAME)
    discard_staging(output_dir)  # of a run that was killed
    needed = needed + OVERHEAD_BYTES
    free = shutil.disk_usage(output_dir).free
    if needed > free:
        raise OSError(errno.ENOSPC, _no_room(needed, free), output_dir)
    os.mkdir(staging)
    return staging


def discard_staging(output_dir: str):
    """Remove what was staged and will not be committed.

    Args:
        output_dir (`str`): Folder of the run.
    """
    shutil.rmtree(os.path.join(output_dir, STAGING_NAME), ignore_errors=True)


def _no_room(needed: int, free: int) -> str:
    return (
        f"the disk is full: a checkpoint needs {needed} bytes and {free} are free. Earlier checkpoints are untouched; "
        "make room, or set `save_total_limit`, and resume"
    )


def name_full_disk(error: Exception, output_dir: str, needed: int) -> Exception:
    """What to raise for an error of writing: it says so if the disk, a quota or a limit of file sizes is what failed.

    Args:
        error (`Exception`): What a library raised.
        output_dir (`str`): Folder of the run.
        needed (`int`): Bytes that were to be written.

    Returns:
        `Exception`: An `OSError` with both numbers, or `error` itself.
    """
    free = shutil.disk_usage(output_dir).free
    code = getattr(error, "errno", None)
    message = str(error)
    # safetensors gives the system's words only.
    by_words = next((known for known in _NO_ROOM if os.strerror(known) in message), None)
    code = code if code in _NO_ROOM else by_words
    if code is None:
        return error
    return OSError(code, f"{_no_room(needed + OVERHEAD_BYTES, free)} ({message})", output_dir)


def commit_checkpoint(staging: str, folder: str, step: int, world_size: int, facts: Mapping):
    """Flush, describe, rename and verify what was staged.

    Args:
        staging (`str`): What [`stage_checkpoint`] gave, filled.
        folder (`str`): Its name from now on, beside it. What has that name already goes away after the renaming.
        step (`int`): Updates done.
        world_size (`int`): Processes that wrote it.
        facts (`Mapping`): See [`Manifest`].

    Raises:
        CheckpointError: If what lies on the disk is not what was written.
    """
    paths = sorted(os.path.join(root, name) for root, _, names in os.walk(staging) for name in names)
    files = {}
    for path in paths:
        _flush(path)
        name = os.path.relpath(path, staging).replace(os.sep, "/")
        files[name] = {"bytes": os.path.getsize(path), "sha256": _sha256(path)}
    manifest_path = os.path.join(staging, MANIFEST_NAME)
    with open(manifest_path, "wb") as file:
        file.write(Manifest(step, world_size, dict(facts), files).to_bytes())
    _flush(manifest_path)
    for root, _, _ in os.walk(staging, topdown=False):
        _flush(root)
    parent, name = os.path.split(folder)
    replaced = os.path.join(parent, f".replaced-{name}")
    shutil.rmtree(replaced, ignore_errors=True)
    if os.path.isdir(folder):
        os.rename(folder, replaced)
    os.rename(staging, folder)
    _flush(parent)
    verify_checkpoint(folder)
    shutil.rmtree(replaced, ignore_errors=True)


def rotate_checkpoints(output_dir: str, limit: int | None, keep: Collection[str]):
    """Delete the oldest checkpoints, and remains of killed runs.

    Args:
        output_dir (`str`): Folder of the run.
        limit (`int`, *optional*): How many may stay; all by default.
        keep (`Collection[str]`): Folders that are never deleted: the one just verified, and the best one.
    """
    if limit is None or limit <= 0:
        return
    checkpoints = list_checkpoints(output_dir)
    kept = {os.path.abspath(folder) for folder in keep}
    others = [folder for folder in checkpoints if os.path.abspath(folder) not in kept]
    for folder in others[max(limit - len(checkpoints) + len(others), 0) :]:
        logger.info(f"deleting {folder}: `save_total_limit` is {limit}")
        # A folder that is half deleted must not look like a checkpoint: what vouches for it goes first.
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(folder, MANIFEST_NAME))
        shutil.rmtree(folder, ignore_errors=True)


def _flush(path: str):
    """Have the system write a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
