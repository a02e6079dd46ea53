# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import tarfile
import zipfile

import pytest

from check_distribution import IN_WHEEL, problems_of


def distribution(folder, in_sdist=("src/itit_hf/rng.py",), in_wheel=(*IN_WHEEL, "itit_hf-0.1.0/entry_points.txt")):
    """An sdist and a wheel with empty files."""
    (folder / "empty").touch()
    with tarfile.open(folder / "itit_hf-0.1.0.tar.gz", "w:gz") as sdist:
        for name in in_sdist:
            sdist.add(folder / "empty", f"itit_hf-0.1.0/{name}")
    with zipfile.ZipFile(folder / "itit_hf-0.1.0-py3-none-any.whl", "w") as wheel:
        for name in in_wheel:
            wheel.writestr(name, "")
    return folder


@pytest.mark.parametrize("tag", [None, "v0.1.0"])
def test_a_distribution_that_is_fit_has_no_problem(tmp_path, tag):
    assert problems_of(distribution(tmp_path), tag) == []


def test_weights_in_the_sdist_are_named(tmp_path):
    (problem,) = problems_of(distribution(tmp_path, in_sdist=["checkpoints/a/model.safetensors"]))
    assert problem == "itit_hf-0.1.0.tar.gz holds `checkpoints/`; prune it in MANIFEST.in"


def test_what_the_wheel_lacks_is_named(tmp_path):
    problems = problems_of(distribution(tmp_path, in_wheel=["itit_hf/py.typed"]))
    assert len(problems) == 3 and "emoji_scenes_tiny.yaml" in problems[0] and "no command" in problems[2]


def test_both_must_be_of_the_version_of_the_tag(tmp_path):
    problems = problems_of(distribution(tmp_path), "v0.1.0.post1")
    assert len(problems) == 2 and all("is not of the version of the tag v0.1.0.post1" in each for each in problems)


def test_an_old_build_beside_a_new_one_is_refused(tmp_path):
    distribution(tmp_path)
    (tmp_path / "itit_hf-0.0.9.tar.gz").touch()
    assert "got 2 and 1" in problems_of(tmp_path)[0]
