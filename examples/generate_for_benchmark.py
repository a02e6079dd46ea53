# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Generate an image of each prompt of a benchmark, in the layout that its own script reads:

    python examples/generate_for_benchmark.py geneval2_data.jsonl --model my-model --output_dir out/geneval2
    python evaluation.py --benchmark_data geneval2_data.jsonl --image_filepath_data out/geneval2/image_paths.json \
        --method soft_tifa_gm --output_file score_lists.json

The second command is that of GenEval 2 (https://github.com/facebookresearch/GenEval2), whose file has a `prompt` in
each line of JSON, and which is told the image of each prompt by one JSON object, prompt to path: `image_paths.json`.
Beside it lies `captions.jsonl`, with the prompt, the image and the caption that the same model gives that image in
each line: what benchmarks of text -> image -> text ask for, such as UniCycle, whose code and format are not published
(https://huggingface.co/papers/2601.03193). Image i is generated from the seed plus i.
"""

import json
import logging
from argparse import ArgumentParser
from pathlib import Path

import torch
from tqdm.auto import tqdm

from itit_hf import ITITPipeline

logger = logging.getLogger(__name__)


def read_prompts(path: str) -> list[str]:
    """The different prompts of a file with a JSON object in each line, in their order."""
    prompts = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        row = json.loads(line) if line.strip() else {}
        if line.strip() and not isinstance(row.get("prompt"), str):
            raise ValueError(f"{path}, line {number}: wanted a JSON object with a text `prompt`, got {line:.100}")
        prompts += [row["prompt"]] if row else []
    return list(dict.fromkeys(prompts))


def main(arguments: list[str] | None = None):
    """Load, generate, caption, write."""
    parser = ArgumentParser(description="Images of a benchmark's prompts.")
    parser.add_argument("prompts", help="File with a JSON object in each line, with a `prompt`.")
    parser.add_argument("--model", default="checkpoints/emoji-scenes-64", help="Pipeline folder or Hub id.")
    parser.add_argument("--output_dir", default="out/benchmark", help="Folder of images and lists.")
    parser.add_argument("--batch_size", type=int, default=16, help="Prompts at a time.")
    parser.add_argument("--seed", type=int, default=0, help="Image i is generated from this seed plus i.")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    pipe = ITITPipeline.from_pretrained(args.model)
    pipe.to("cuda" if torch.cuda.is_available() else "cpu")
    pipe.set_progress_bar_config(disable=True)
    prompts = read_prompts(args.prompts)
    folder = Path(args.output_dir).resolve()
    (folder / "images").mkdir(parents=True, exist_ok=True)
    paths: dict[str, str] = {}
    lines = []
    for start in tqdm(range(0, len(prompts), args.batch_size), desc="images"):
        batch = prompts[start : start + args.batch_size]
        seeds = range(args.seed + start, args.seed + start + len(batch))
        images = pipe(batch, generator=[torch.Generator().manual_seed(seed) for seed in seeds]).images
        captions = pipe.caption(images)
        for number, (prompt, image, caption) in enumerate(zip(batch, images, captions, strict=True), start):
            path = folder / "images" / f"{number:05d}.png"
            image.save(path)
            paths[prompt] = str(path)
            lines.append(json.dumps({"prompt": prompt, "image": str(path), "caption": caption}, ensure_ascii=False))
    (folder / "image_paths.json").write_text(json.dumps(paths, indent=1, ensure_ascii=False), encoding="utf-8")
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    logger.info(f"{len(paths)} images: {folder / 'image_paths.json'}")


if __name__ == "__main__":
    main()
