# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Pictures of pictures: grids with a line of text under each."""

import textwrap
from collections.abc import Sequence

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont


def labelled_grid(
    images: Sequence[PIL.Image.Image], labels: Sequence[str], columns: int = 6, cell_size: int = 160
) -> PIL.Image.Image:
    """Lay pictures out in rows, each over its label.

    Args:
        images (`Sequence[PIL.Image.Image]`): Pictures; each is scaled to `cell_size`, without smoothing if it grows by
            a whole factor, so that a 64 px picture is seen as it is.
        labels (`Sequence[str]`): One per picture; wrapped to two lines at most.
        columns (`int`, *optional*, defaults to 6): Pictures per row.
        cell_size (`int`, *optional*, defaults to 160): Side of a picture in pixels.

    Returns:
        `PIL.Image.Image` in RGB.

    Raises:
        ValueError: If there are no pictures, or another number of labels.
    """
    if not images or len(images) != len(labels):
        raise ValueError(f"wanted as many `labels` as `images`, at least one, got {len(labels)} and {len(images)}")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    margin, text_height = 8, 34
    width, height = cell_size + margin, cell_size + text_height + margin
    grid = PIL.Image.new("RGB", (columns * width + margin, rows * height + margin), "white")
    draw = PIL.ImageDraw.Draw(grid)
    font = PIL.ImageFont.load_default(size=13)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        left, top = margin + index % columns * width, margin + index // columns * height
        whole = cell_size % image.width == 0 and cell_size >= image.width
        resample = PIL.Image.Resampling.NEAREST if whole else PIL.Image.Resampling.LANCZOS
        grid.paste(image.convert("RGB").resize((cell_size, cell_size), resample), (left, top))
        lines = textwrap.wrap(label, width=max(8, cell_size // 7), max_lines=2, placeholder="...")
        draw.multiline_text((left, top + cell_size + 2), "\n".join(lines), fill="black", font=font, spacing=2)
    return grid
