# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The same pairs as a source of each kind."""

import io
import json

import pytest
from datasets import Image
from PIL import Image as PILImage

from itit_hf.data.direct_loading import open_rows
from itit_hf.data.loading import load_rows

from ..testing_utils import archive

KINDS = ("folder", "parquet", "archive", "lance")
COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220), "green": (30, 160, 30)}
ROWS_OF_A_GROUP = 5


def png(colour, size):
    file = io.BytesIO()
    PILImage.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def pairs(num_rows):
    """`(name, bytes of the image, captions)` of each pair; no two are alike."""
    for i in range(num_rows):
        name, colour = list(COLOURS.items())[i % 3]
        yield f"{i:04d}", png(colour, (16, 16 + i % 5)), [f"a {name} bus {i}"]


def write_source(kind, folder, num_rows=24):
    """Write the pairs; returns what opens them."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "archive":
        for start in range(0, num_rows, 10):
            members: list[tuple[str, bytes]] = []
            for name, image, captions in list(pairs(num_rows))[start : start + 10]:
                members += [(f"{name}.png", image), (f"{name}.txt", captions[0].encode())]
            archive(folder / f"{start:05d}.tar", members)
        return str(folder)
    images = folder / "images"
    images.mkdir()
    lines = []
    for name, image, captions in pairs(num_rows):
        (images / f"{name}.png").write_bytes(image)
        lines.append(json.dumps({"file_name": f"{name}.png", "text": captions}))
    (images / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    if kind == "folder":
        return str(images)
    rows = load_rows(str(images))
    if kind == "parquet":
        embedded = rows.cast_column("image", Image(decode=False)).map(with_bytes, load_from_cache_file=False)
        embedded = embedded.cast_column("image", Image())
        (folder / "tables").mkdir()
        embedded.to_parquet(folder / "tables" / "train.parquet", batch_size=ROWS_OF_A_GROUP)
        return str(folder / "tables")
    pytest.importorskip("lance", reason="pip install 'itit-hf[lance]' (217 MB) to test it")
    from itit_hf.data.convert import convert_to_lance

    convert_to_lance(rows, str(folder / "pairs.lance"), rows_per_commit=7)
    return str(folder / "pairs.lance")


def with_bytes(row):
    with open(row["image"]["path"], "rb") as file:
        return {"image": {"bytes": file.read(), "path": None}}


def open_source(kind, folder, num_rows=24):
    return open_rows(write_source(kind, folder, num_rows))
