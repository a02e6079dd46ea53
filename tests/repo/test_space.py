# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What a Space needs is in space/, and fits the package."""

import configparser
import importlib.util
import re

import yaml
from packaging.requirements import Requirement

import itit_hf
from itit_hf.commands import app
from itit_hf.commands.checkpoints import HUB_OWNER, PUBLISHED

from ..testing_utils import ROOT

SPACE = ROOT / "space"
FRONT_MATTER = yaml.safe_load((SPACE / "README.md").read_text(encoding="utf-8").split("---\n")[1])


def test_the_front_matter_has_what_a_gradio_space_needs():
    pins = dict(re.findall(r"^(\w+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
    assert (FRONT_MATTER["sdk"], FRONT_MATTER["sdk_version"]) == ("gradio", pins["gradio"])
    assert (SPACE / FRONT_MATTER["app_file"]).is_file() and len(FRONT_MATTER["short_description"]) <= 60
    assert set(FRONT_MATTER["models"]) <= {f"{HUB_OWNER}/{name}" for name in PUBLISHED}


def test_the_requirement_allows_this_version_with_an_extra_that_there_is():
    requirement = Requirement((SPACE / "requirements.txt").read_text(encoding="utf-8").strip())
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert requirement.name == setup["metadata"]["name"] and requirement.specifier.contains(itit_hf.__version__)
    assert requirement.extras <= set(setup["options.extras_require"])


def test_the_page_is_that_of_the_command():
    spec = importlib.util.spec_from_file_location("space_app", SPACE / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main is app.main
