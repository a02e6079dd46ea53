# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import gc

import diffusers
import pytest
import transformers


@pytest.fixture(scope="session", autouse=True)
def quick_collection():
    """Each training collects garbage, and would walk all that was imported: a third of a second."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def libraries_as_loud_as_before():
    """What a script silences for its own process stays silent in it: tests that read progress share the process."""
    loudness = [(library.logging, library.logging.get_verbosity()) for library in (transformers, diffusers)]
    yield
    for logging, level in loudness:
        logging.set_verbosity(level)


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory):
    """A tiny pipeline, which no test writes into."""
    from .testing_utils import tiny_pipeline

    folder = tmp_path_factory.mktemp("pipeline")
    tiny_pipeline().save_pretrained(folder)
    return str(folder)
