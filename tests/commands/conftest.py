# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from ..testing_utils import tiny_pairs


@pytest.fixture(scope="package")
def image_folder(tmp_path_factory):
    """Two images, without captions."""
    folder = tmp_path_factory.mktemp("images")
    for i, row in enumerate(tiny_pairs(2)):
        row["image"].save(folder / f"{i}.png")
    return str(folder)
