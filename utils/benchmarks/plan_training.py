# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""What a training by the paper's recipe needs of GPUs, by arithmetic: memory of each, and hours.

    python utils/benchmarks/plan_training.py                                # the table of README.md
    python utils/benchmarks/plan_training.py --data                         # of the data: the table of docs/data.md
    python utils/benchmarks/plan_training.py --presets base --gpus 4 --tflops 150 --samples 128 --updates 500000

Nothing here is measured. Rules:

- Numbers of four bytes throughout. AdamW keeps two for each parameter; Muon one for each matrix of the blocks, beside
  AdamW for the rest; Adafactor one, and its second moment by rows and columns.
- DDP holds everything on each GPU, and gradients twice, as it sends them from buckets. FSDP2 with
  `examples/accelerate_configs/fsdp2.yaml` shards weights, gradients and states, and keeps the gathered weights until
  the backward pass.
- Activations and FLOPs are those of `utils/benchmarks/flops.py`. An update is so many samples of each loss: of text to
  image, of image to text with image to image, and of both cycles, with texts of 64 tokens and captions of 20.
- The frozen T5-XXL reads each text, and is passed through backward in image -> text -> image. Images are tokens
  beforehand (`examples/prepare_tokens.py`).
- Each GPU computes at an assumed rate all the time: communication, data and idle time come on top.
"""

from argparse import ArgumentParser
from collections.abc import Sequence

import torch
from transformers import T5Config, T5EncoderModel

from flops import BYTES_PER_NUMBER, SAVED, Workload, image_cycle, paired_step, text_cycle
from itit_hf.models.configuration_itit import PRESETS, ITITConfig
from itit_hf.models.modeling_itit import ITITForPreTraining
from plan_data import data_columns

GIGA = 1e9
HALF_PRECISION = 2  # bytes of a number of the frozen text encoder
ONE_OF_EACH = ("t2i", "i2t + i2i", "t2i2t", "i2t2i")
T5_XXL = {"d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "feed_forward_proj": "gated-gelu"}


def optimizer_numbers(model: torch.nn.Module) -> dict[str, int]:
    """Numbers that each optimizer keeps beside the weights; a step's count is left out.

    Args:
        model (`torch.nn.Module`): All parameters count.

    Returns:
        `dict[str, int]`: By name: AdamW, Muon with AdamW for the rest, Adafactor with momentum.
    """
    named = list(model.named_parameters())
    total = sum(p.numel() for _, p in named)
    blocks = sum(p.numel() for name, p in named if p.ndim == 2 and ".layers." in name)
    return {
        "AdamW": 2 * total,
        "Muon": blocks + 2 * (total - blocks),
        "Adafactor": total + sum(_factored_numbers(p) for _, p in named),
    }


def _factored_numbers(parameter: torch.Tensor) -> int:
    """Numbers of Adafactor's second moment: means over columns and over rows, of a vector all."""
    if parameter.ndim < 2:
        return parameter.numel()
    return parameter.numel() // parameter.size(-1) + parameter.numel() // parameter.size(-2)


def text_encoder_numbers() -> tuple[int, int]:
    """Parameters of T5-XXL's encoder, and those of them that are multiplied with each token: all but the words'."""
    with torch.device("meta"):
        encoder = T5EncoderModel(T5Config(**T5_XXL))
    total = sum(p.numel() for p in encoder.parameters())
    return total, total - encoder.get_input_embeddings().weight.numel()


def flops_of_each_loss(work: Workload) -> dict[str, int]:
    """FLOPs of one sample of each loss, forward and backward, and of the text encoder on the way.

    Args:
        work ([`~flops.Workload`]): Of one sample.

    Returns:
        `dict[str, int]`: `"pairs"`, a sample of text to image and one of image to text, and `"cycles"`, one of each.
    """
    per_token = 2 * text_encoder_numbers()[1]
    read = per_token * work.text_length
    passed = 2 * per_token * work.num_new_tokens  # forward and backward
    return {"pairs": paired_step(work) + read, "cycles": text_cycle(work) + image_cycle(work) + read + passed}


def memory_of_a_gpu(num_parameters: int, num_gpus: int, sharded: bool) -> int:
    """Bytes of weights, gradients and AdamW's state on each GPU.

    Args:
        num_parameters (`int`): Of the model.
        num_gpus (`int`): That train it together.
        sharded (`bool`): By FSDP2; DDP otherwise.

    Returns:
        `int`: Bytes, without activations.
    """
    kept = num_parameters * 4  # weight, gradient, and AdamW's two
    if sharded:
        kept = -(-kept // num_gpus) + num_parameters
    elif num_gpus > 1:
        kept += num_parameters
    return BYTES_PER_NUMBER * kept


def column(config: ITITConfig, gpus: Sequence[int], tflops: float, samples: int, updates: int) -> dict[str, str]:
    """The table's column of one preset, by name of the row."""
    with torch.device("meta"):
        model = ITITForPreTraining(config)
    total = sum(p.numel() for p in model.parameters())
    work = Workload(config)
    rows = {"parameters, M": f"{total / 1e6:.1f}"}
    rows["weights, GB; gradients as much"] = _gigabytes(BYTES_PER_NUMBER * total)
    for name, numbers in optimizer_numbers(model).items():
        rows[f"{name}'s state, GB"] = _gigabytes(BYTES_PER_NUMBER * numbers)
    rows["T5-XXL, frozen, in bf16, GB"] = _gigabytes(HALF_PRECISION * text_encoder_numbers()[0])
    kept = sum(SAVED[name](work) for name in ONE_OF_EACH)
    rows["activations of one sample of each loss, GB"] = _gigabytes(BYTES_PER_NUMBER * kept)
    for num_gpus in gpus:
        if num_gpus == 1:
            rows["one GPU, with AdamW, GB"] = _gigabytes(memory_of_a_gpu(total, 1, sharded=False))
            continue
        for name, sharded in (("DDP", False), ("FSDP2", True)):
            memory = memory_of_a_gpu(total, num_gpus, sharded)
            rows[f"{name}, each of {num_gpus} GPUs, with AdamW, GB"] = _gigabytes(memory)
    flops = flops_of_each_loss(work)
    for name, each in (("pairs alone", flops["pairs"]), ("with both cycles", sum(flops.values()))):
        hours = [each * samples * updates / (tflops * 1e12) / 3600 / num_gpus for num_gpus in gpus]
        rows[f"hours, {name}, on {' / '.join(map(str, gpus))}"] = " / ".join(f"{value:,.0f}" for value in hours)
    return rows


def data_table(preset: str, data_rows: Sequence[int], options: dict) -> dict[str, dict[str, str]]:
    """Columns of what the data needs, for a training with both cycles; see [`plan_data`]."""
    flops = flops_of_each_loss(Workload(ITITConfig.preset(preset)))
    return data_columns(preset, sum(flops.values()), data_rows, options)


def _gigabytes(value: float) -> str:
    return f"{value / GIGA:.2f}"


def table(columns: dict[str, dict[str, str]]) -> str:
    """Markdown of columns with the same rows.

    Args:
        columns (`dict[str, dict[str, str]]`): By name of a column, its values by name of a row.

    Returns:
        `str`: Lines of Markdown.
    """
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row in next(iter(columns.values())):
        lines.append(f"| {row} | " + " | ".join(values[row] for values in columns.values()) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> str:
    """Print the table of some presets."""
    parser = ArgumentParser(description="Memory and hours of a training by the paper's recipe, by arithmetic.")
    parser.add_argument("--presets", nargs="+", choices=sorted(PRESETS), default=["base", "large", "huge"])
    parser.add_argument("--gpus", nargs="+", type=int, default=[1, 8, 64], help="Numbers of GPUs.")
    parser.add_argument("--tflops", type=float, default=400.0, help="That each GPU is assumed to compute a second.")
    parser.add_argument("--samples", type=int, default=512, help="Of each loss in an update; the paper's by default.")
    parser.add_argument("--updates", type=int, default=1_500_000, help="The paper's by default.")
    parser.add_argument("--data", action="store_true", help="Plan the data, see plan_data.py, with the first preset.")
    parser.add_argument(
        "--data_rows", nargs="+", type=int, default=[55_000_000, 1_000_000_000], help="Images, and as many texts."
    )
    options = vars(parser.parse_args(arguments))
    for name in ("tflops", "samples", "updates"):
        if options[name] <= 0:
            parser.error(f"`--{name}` must be above 0, got {options[name]}")
    if min(options["gpus"]) < 1:
        parser.error(f"`--gpus` must be at least 1, got {options['gpus']}")
    presets = options.pop("presets")
    data_rows = options.pop("data_rows")
    if options.pop("data"):
        text = table(data_table(presets[0], data_rows, options))
        print(text)
        return text
    text = table({name: column(ITITConfig.preset(name), **options) for name in presets})
    print(text)
    return text


if __name__ == "__main__":
    main()
