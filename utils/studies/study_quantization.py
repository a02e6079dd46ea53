# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""What quantizing the model's linear layers costs, and whether it survives saving:

    python utils/studies/study_quantization.py --methods torchao_int8 torchao_int4 --output out/quantization.json

For each method: size of the saved model, share of image tokens that are those of float32 from the same noise, whether
a saved and reopened pipeline gives the first batch's tokens of before, and what the judges find right. torchao is the
extra `[quantization]`; the bitsandbytes methods need bitsandbytes.
"""

import json
import logging
import tempfile
from argparse import ArgumentParser, Namespace
from importlib.metadata import version
from pathlib import Path

import torch
from tqdm.auto import tqdm
from transformers import BitsAndBytesConfig, TorchAoConfig

from itit_hf import ITITForPreTraining, ITITPipeline
from itit_hf.emoji_scenes.evaluation import prompt_accuracy
from itit_hf.emoji_scenes.grammar import captions
from itit_hf.emoji_scenes.judges import COMMITTED, open_judge
from itit_hf.emoji_scenes.scenes import SceneConfig, world_of

logger = logging.getLogger(__name__)

METHODS = ("float32", "torchao_int8", "torchao_int4", "bitsandbytes_int8", "bitsandbytes_int4")
MEBI = 2**20


def quantization_config(method: str) -> TorchAoConfig | BitsAndBytesConfig | None:
    """How the linear layers are quantized; not at all for `float32`."""
    if method == "torchao_int8":
        from torchao.quantization import Int8WeightOnlyConfig

        return TorchAoConfig(Int8WeightOnlyConfig())
    if method == "torchao_int4":
        from torchao.quantization import IntxWeightOnlyConfig
        from torchao.quantization.granularity import PerAxis

        return TorchAoConfig(IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerAxis(0)))
    if method == "bitsandbytes_int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    if method == "bitsandbytes_int4":
        return BitsAndBytesConfig(load_in_4bit=True)
    return None


def tokens(pipe: ITITPipeline, prompts: list[str], batch_size: int) -> torch.Tensor:
    """Image tokens of prompts, that of prompt i from seed i, of shape `(num_prompts, num_image_tokens)`."""
    found = []
    for start in tqdm(range(0, len(prompts), batch_size), desc="images"):
        batch = prompts[start : start + batch_size]
        generators = [torch.Generator().manual_seed(start + i) for i in range(len(batch))]
        found.append(pipe(batch, generator=generators, output_type="latent").images)
    return torch.cat(found)


def opened(folder: str | Path, model: ITITForPreTraining | None = None) -> ITITPipeline:
    """A pipeline without bars."""
    pipe = ITITPipeline.from_pretrained(folder, **({} if model is None else {"model": model}))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def measure(method: str, prompts: list[str], reference: torch.Tensor | None, options: Namespace) -> tuple:
    """Figures of one method, and its image tokens."""
    model = ITITForPreTraining.from_pretrained(
        Path(options.model, "model"), quantization_config=quantization_config(method)
    )
    pipe = opened(options.model, model)
    found = tokens(pipe, prompts, options.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        pipe.save_pretrained(folder)
        size = sum(file.stat().st_size for file in Path(folder, "model").glob("*.safetensors"))
        again = tokens(opened(folder), prompts[: options.batch_size], options.batch_size)
    images = pipe.postprocess(found, "pil")
    return {
        "mebibytes": size / MEBI,
        "tokens_as_float32": 1.0 if reference is None else (found == reference).double().mean().item(),
        "reopened_as_saved": torch.equal(again, found[: options.batch_size]),
        "right": {folder: prompt_accuracy(images, prompts, open_judge(folder))["true"] for folder in options.judges},
    }, found


def main(arguments: list[str] | None = None) -> dict:
    """Measure float32 first, then each method, and write JSON."""
    parser = ArgumentParser(description="What quantized linear layers cost.")
    parser.add_argument("--model", default="checkpoints/emoji-scenes-64", help="Pipeline folder.")
    parser.add_argument("--methods", nargs="+", choices=METHODS[1:], default=list(METHODS[1:]))
    parser.add_argument("--num_prompts", type=int, default=300, help="Plain captions of scenes of the model's world.")
    parser.add_argument("--judges", nargs="+", default=list(COMMITTED), help="What reads the images.")
    parser.add_argument("--batch_size", type=int, default=50, help="Images at a time.")
    parser.add_argument("--output", default="out/quantization.json", help="JSON file.")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    world = world_of(SceneConfig())
    prompts = [captions(world.sample(2**33, index))[0] for index in range(options.num_prompts)]
    results = {}
    reference = None
    for method in ("float32", *options.methods):
        results[method], found = measure(method, prompts, reference, options)
        reference = found if reference is None else reference
        logger.info(f"{method}: {results[method]}")
    libraries = ["torch", "transformers"]
    libraries += sorted({"torchao" if method.startswith("torchao") else "bitsandbytes" for method in options.methods})
    written = {
        "settings": vars(options),
        "versions": {name: version(name) for name in libraries},
        "results": results,
    }
    Path(options.output).parent.mkdir(parents=True, exist_ok=True)
    Path(options.output).write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    return written


if __name__ == "__main__":
    main()
