# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import errno
import json
import os
from pathlib import Path

import pytest
import torch

from itit_hf.training import checkpointing
from itit_hf.training.checkpointing import (
    CheckpointError,
    commit_checkpoint,
    find_checkpoint,
    list_checkpoints,
    load_state,
    name_full_disk,
    read_manifest,
    rotate_checkpoints,
    save_state,
    stage_checkpoint,
    verify_checkpoint,
)


def write(output_dir, step, content=b"weights", world_size=1):
    staging = stage_checkpoint(str(output_dir), 0)
    os.mkdir(os.path.join(staging, "folder"))
    for name in ("model.safetensors", "folder/notes.json"):
        with open(os.path.join(staging, name), "wb") as file:
            file.write(content)
    folder = os.path.join(output_dir, f"checkpoint-{step}")
    commit_checkpoint(staging, folder, step, world_size, {"data": {"seed": 3}})
    return folder


def test_state_of_any_nesting_comes_back_as_it_was(tmp_path):
    state = {
        "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.arange(6).view(2, 3)}, 1: {}},
        "groups": [{"lr": 1e-3, "betas": (0.9, 0.95), "fused": None, "on": True, "name": "\u00e9"}],
    }
    save_state(state, str(tmp_path / "state.safetensors"))
    back = load_state(str(tmp_path / "state.safetensors"))
    assert back["groups"] == state["groups"] and list(back["state"]) == [0, 1]
    for name, value in state["state"][0].items():
        assert torch.equal(back["state"][0][name], value) and back["state"][0][name].dtype == value.dtype


def test_a_part_of_a_tensor_is_saved_without_the_rest_of_it(tmp_path):
    save_state({"part": torch.arange(1000.0)[3:5]}, str(tmp_path / "state.safetensors"))
    assert load_state(str(tmp_path / "state.safetensors"))["part"].tolist() == [3.0, 4.0]
    assert os.path.getsize(tmp_path / "state.safetensors") < 1000


@pytest.mark.parametrize("bad", [{"f": print}, {(1, 2): 3}, {"set": {1}}])
def test_what_only_a_pickle_could_hold_is_refused(tmp_path, bad):
    with pytest.raises(ValueError, match="`state` must h"):
        save_state(bad, str(tmp_path / "state.safetensors"))


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"\x02\0\0\0\0\0\0\0{}"])
def test_a_file_that_is_no_state_is_named(tmp_path, content):
    path = tmp_path / "optimizer.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="optimizer.safetensors: it holds no state"):
        load_state(str(path))


def test_a_checkpoint_verifies_and_tells_its_step(tmp_path):
    manifest = verify_checkpoint(write(tmp_path, 7, world_size=2))
    assert (manifest.step, manifest.world_size, manifest.facts) == (7, 2, {"data": {"seed": 3}})
    assert sorted(manifest.files) == ["folder/notes.json", "model.safetensors"]
    assert os.listdir(tmp_path) == ["checkpoint-7"]  # nothing is left beside it


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: os.remove(path), "model.safetensors: it is missing"),
        (lambda path: os.truncate(path, 3), "model.safetensors: it has 3 bytes, wanted 7"),
        (lambda path: Path(path).write_bytes(b"weighty"), "model.safetensors: its content is damaged"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, damage, message):
    folder = write(tmp_path, 1)
    damage(os.path.join(folder, "model.safetensors"))
    with pytest.raises(CheckpointError, match=message):
        verify_checkpoint(folder)
    verify_checkpoint(folder, may_lack=["model"])


def test_a_manifest_that_was_changed_is_refused(tmp_path):
    folder = write(tmp_path, 1)
    path = Path(folder, "manifest.json")
    text = path.read_text()
    for changed in (text.replace('"step": 1', '"step": 2'), text + " ", text.replace("\n", " ", 1), "{}", ""):
        path.write_text(changed)
        with pytest.raises(CheckpointError, match="manifest.json: it is damaged"):
            read_manifest(folder)


def test_a_manifest_names_no_file_outside_of_its_folder(tmp_path):
    folder = write(tmp_path, 1)
    manifest = checkpointing.Manifest(1, 1, {}, {"../../etc/passwd": {"bytes": 1, "sha256": ""}})
    Path(folder, "manifest.json").write_bytes(manifest.to_bytes())
    with pytest.raises(CheckpointError, match="not a file within it"):
        verify_checkpoint(folder)


def test_a_manifest_of_a_later_format_is_named(tmp_path, monkeypatch):
    folder = write(tmp_path, 1)
    monkeypatch.setattr(checkpointing, "FORMAT", 2)
    with pytest.raises(CheckpointError, match="its format is 1, wanted 2"):
        read_manifest(folder)


def test_the_newest_that_verifies_is_found_and_the_others_are_explained(tmp_path):
    folders = [write(tmp_path, step) for step in (9, 10, 11)]
    os.remove(os.path.join(folders[2], "manifest.json"))
    os.truncate(os.path.join(folders[1], "model.safetensors"), 0)
    found, skipped = find_checkpoint(str(tmp_path))
    assert found == folders[0]
    assert [message.split(": ")[1] for message in skipped] == [
        "it is missing, so the checkpoint was never finished", "it has 0 bytes, wanted 7"
    ]  # fmt: skip


def test_a_folder_without_checkpoints_has_none(tmp_path):
    assert find_checkpoint(str(tmp_path / "none")) == (None, [])


def test_a_step_that_is_saved_again_replaces_the_first(tmp_path):
    write(tmp_path, 3, b"first")
    folder = write(tmp_path, 3, b"second")
    assert Path(folder, "model.safetensors").read_bytes() == b"second"
    assert os.listdir(tmp_path) == ["checkpoint-3"]


def test_what_was_about_to_be_replaced_when_the_run_was_killed_still_counts(tmp_path):
    folder = write(tmp_path, 3)
    os.rename(folder, tmp_path / ".replaced-checkpoint-3")
    assert find_checkpoint(str(tmp_path))[0] == str(tmp_path / ".replaced-checkpoint-3")


def test_a_staging_folder_of_a_killed_run_is_emptied(tmp_path):
    open(os.path.join(stage_checkpoint(str(tmp_path), 0), "half"), "w").close()
    assert os.listdir(stage_checkpoint(str(tmp_path), 0)) == []


def test_too_little_room_is_said_in_bytes_before_anything_is_written(tmp_path):
    with pytest.raises(OSError, match=rf"the disk is full: a checkpoint needs {10**18 + 4_000_000} bytes and \d+ are"):
        stage_checkpoint(str(tmp_path), 10**18)
    assert os.listdir(tmp_path) == []


def test_only_a_full_disk_is_called_one(tmp_path):
    named = name_full_disk(OSError(errno.ENOSPC, "No space left on device"), str(tmp_path), 5)
    assert named.errno == errno.ENOSPC and "the disk is full: a checkpoint needs 4000005 bytes" in str(named)
    assert "the disk is full" in str(name_full_disk(RuntimeError("I/O error: File too large"), str(tmp_path), 5))
    other = ValueError("no")
    assert name_full_disk(other, str(tmp_path), 5) is other


def test_rotation_deletes_the_oldest_and_never_what_is_to_be_kept(tmp_path):
    folders = [write(tmp_path, step) for step in (1, 2, 3, 10)]
    rotate_checkpoints(str(tmp_path), 2, [folders[0], folders[3]])
    assert list_checkpoints(str(tmp_path)) == [folders[3], folders[0]]
    rotate_checkpoints(str(tmp_path), None, [])
    assert len(list_checkpoints(str(tmp_path))) == 2


def test_what_was_written_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    events = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda fd: events.append(os.readlink(f"/proc/self/fd/{fd}")) or fsync(fd))
    monkeypatch.setattr(os, "rename", lambda *names: events.append("rename") or rename(*names))
    write(tmp_path, 1)
    staging = str(tmp_path / ".staging")
    assert events == [
        f"{staging}/folder/notes.json", f"{staging}/model.safetensors", f"{staging}/manifest.json",
        f"{staging}/folder", staging, "rename", str(tmp_path),
    ]  # fmt: skip


def test_the_manifest_is_readable_json(tmp_path):
    fields = json.loads(Path(write(tmp_path, 4), "manifest.json").read_text())
    assert fields["step"] == 4 and len(fields["files"]["model.safetensors"]["sha256"]) == 64
