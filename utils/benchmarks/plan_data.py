# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""What the data of a training needs, by arithmetic: disk, hours for image tokens, throughput, cores, memory.

    python utils/benchmarks/plan_training.py --data                       # the table of docs/data.md
    python utils/benchmarks/plan_training.py --data --data_rows 5_000_000 --gpus 4 --presets base

Nothing here is measured but `SECONDS_OF_A_ROW`, on one core of this project's machine; sizes are assumptions:

- An image is a JPEG file of 50 KB, a caption 60 bytes. An image is 256 tokens of 13 bits in parquet.
- One update reads 512 + 512 pairs, 512 images and 512 texts (the paper's), and lasts as long as the GPUs compute.
- Making image tokens costs 216 GFLOP an image (aMUSEd's VQ model at 256 pixels), at half of the GPU's rate.
"""

from collections.abc import Sequence

IMAGE_BYTES = 50_000
CAPTION_BYTES = 60
TOKEN_BYTES = 256 * 13 // 8  # of an image
INDEX_BYTES = 150  # of a sample of an archive: caption, name and place
PAIRS_OF_AN_UPDATE = 2  # times the samples of a loss: text to image and image to text read pairs of their own
TOKENIZER_FLOPS = 216e9
TOKENIZER_EFFICIENCY = 0.5
SECONDS_OF_A_ROW = {"image files, decoded": 8.1e-3, "image tokens": 0.12e-3}
WORKERS = 8  # processes that read, beside each GPU
ROWS_OF_A_BLOCK = 1000
GIGA = 1e9


def disk(num_images: int, num_texts: int) -> dict[str, float]:
    """Bytes of images and texts in each form, by its name.

    Args:
        num_images (`int`): Images.
        num_texts (`int`): Texts.
    """
    texts = num_texts * CAPTION_BYTES
    source = num_images * IMAGE_BYTES + texts
    return {
        "the source: archives, parquet or files": source,
        "beside it, rows copied (`data_access` copy)": source,
        "beside it, the index of archives (`direct`)": num_images * INDEX_BYTES,
        "as Lance": 1.003 * source,
        "image tokens and texts, in parquet": num_images * TOKEN_BYTES + texts,
    }


def rows_per_second(update_flops: float, samples: int, flops_per_second: float) -> tuple[float, float]:
    """Images and rows that an update reads in a second.

    Args:
        update_flops (`float`): Of an update.
        samples (`int`): Of each loss.
        flops_per_second (`float`): Of all GPUs.
    """
    seconds = update_flops / flops_per_second
    images = (PAIRS_OF_AN_UPDATE + 1) * samples / seconds
    return images, images + samples / seconds


def order_bytes(num_rows: int, order: str) -> float:
    """Memory of the order of one stream in one process.

    Args:
        num_rows (`int`): Rows of the stream.
        order (`str`): `"keyed"`, `"blocks"` or `"randperm"`.
    """
    return {"keyed": 1000.0, "blocks": 4 * 8.0 * num_rows / ROWS_OF_A_BLOCK, "randperm": 8.0 * num_rows}[order]


def data_column(num_rows: int, flops_of_a_sample: float, options: dict) -> dict[str, str]:
    """The column of so many images and as many texts, by name of the row.

    Args:
        num_rows (`int`): Images, and texts.
        flops_of_a_sample (`float`): Of one sample of each loss.
        options (`dict`): `gpus`, `tflops` and `samples`, as of `plan_training.py`.
    """
    gpus: Sequence[int] = options["gpus"]
    names = " / ".join(map(str, gpus))
    rows = {f"disk, GB: {name}": f"{value / GIGA:,.0f}" for name, value in disk(num_rows, num_rows).items()}
    tokenizing = num_rows * TOKENIZER_FLOPS / (TOKENIZER_EFFICIENCY * options["tflops"] * 1e12) / 3600
    rows[f"hours to make image tokens, on {names} GPUs"] = _joined([tokenizing / number for number in gpus])
    rates = [
        rows_per_second(flops_of_a_sample * options["samples"], options["samples"], number * options["tflops"] * 1e12)
        for number in gpus
    ]
    rows[f"rows a second, on {names} GPUs"] = _joined([total for _, total in rates])
    rows[f"MB a second of image files, on {names} GPUs"] = _joined([each * IMAGE_BYTES / 1e6 for each, _ in rates])
    rows[f"MB a second of image tokens, on {names} GPUs"] = _joined([each * TOKEN_BYTES / 1e6 for each, _ in rates])
    for name, seconds in SECONDS_OF_A_ROW.items():
        rows[f"cores that read {name}, on {names} GPUs"] = _joined([each * seconds for each, _ in rates])
    for order in ("randperm", "blocks", "keyed"):
        held = 2 * (WORKERS + 1) * order_bytes(num_rows, order)
        rows[f"order `{order}`, of two streams beside each GPU, MB"] = f"{held / 1e6:,.2f}"
    return rows


def data_columns(preset: str, flops_of_a_sample: float, data_rows: Sequence[int], options: dict) -> dict[str, dict]:
    """Columns of the table by name: one for each number of rows.

    Args:
        preset (`str`): Of the model.
        flops_of_a_sample (`float`): Of one sample of each loss.
        data_rows (`Sequence[int]`): Numbers of images, and of as many texts.
        options (`dict`): `gpus`, `tflops` and `samples`.
    """
    return {
        f"{number:,} images and texts, {preset}": data_column(number, flops_of_a_sample, options)
        for number in data_rows
    }


def _joined(values: Sequence[float]) -> str:
    return " / ".join(f"{value:,.1f}" if value < 100 else f"{value:,.0f}" for value in values)
