# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What the workflows and hooks name is there."""

import configparser
import re

import pytest
import yaml

from ..testing_utils import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def steps(workflow):
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_commands_and_files_of_a_workflow_exist(workflow):
    lines = "\n".join(step.get("run", "") for step in steps(workflow))
    assert set(re.findall(r"make ([a-z-]+)", lines)) <= TARGETS
    for path in re.findall(r"(?:utils|tests)/[\w/]+\.py", lines):
        assert (ROOT / path).is_file()


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_read_and_no_more_unless_a_job_says_so_and_uses_actions_of_github_alone(workflow):
    assert yaml.safe_load(workflow.read_text(encoding="utf-8"))["permissions"] == {"contents": "read"}
    assert all(step["uses"].startswith("actions/") for step in steps(workflow) if "uses" in step)


def test_the_default_tests_are_run_with_each_python_that_setup_cfg_names():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    named = re.findall(r"Python :: (3\.\d+)", setup["metadata"]["classifiers"])
    (ci,) = [path for path in WORKFLOWS if path.stem == "ci"]
    jobs = yaml.safe_load(ci.read_text(encoding="utf-8"))["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python-version"] == named


def test_the_hooks_run_the_ruff_that_the_checks_run():
    (pinned,) = re.findall(r"^ruff==(.*)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    (revision,) = [each["rev"] for each in hooks if each["repo"].endswith("/ruff-pre-commit")]
    assert revision == f"v{pinned}"
