# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""How much of what was asked for survives rounds of generating and captioning (Figures 6 and 10), by exact judges:

    python utils/studies/study_drift.py --dataset data/emoji-scenes-64-noto --output out/drift.json \
        --models out/table2/row03-seed0/pipeline out/table2/row14-seed0/pipeline

Each model goes four rounds from the plain captions of scenes that no stream holds, and four from their images. After
each round its captions are read by the grammar and its images by each judge, and held against the category and the
colour of the scene it started from. Chain i draws from seed i. The figures of a model are written as soon as it is
done: started again, the script goes on with the next.
"""

import json
import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm.auto import tqdm

from itit_hf import ITITPipeline
from itit_hf.data.loading import load_rows
from itit_hf.emoji_scenes.evaluation import caption_accuracy, prompt_accuracy
from itit_hf.emoji_scenes.judges import COMMITTED, SceneJudge, open_judge
from itit_hf.emoji_scenes.scenes import Scene

logger = logging.getLogger(__name__)

STARTS = ("texts", "images")
# What the figures depend on; a file of other values is never added to.
CONDITIONS = ("dataset", "split", "num_scenes", "rounds", "num_beams", "judges", "seed")


def chains(pipe: ITITPipeline, start: str, texts: list[str], images: list, options: Namespace) -> list[tuple]:
    """Captions and images of each round: `(list of texts, list of images)`, the start left out."""
    captions: list[list[str]] = []
    generated: list[list] = []
    for begin in tqdm(range(0, len(texts), options.batch_size), desc=f"from {start}"):
        end = min(begin + options.batch_size, len(texts))
        generators = [torch.Generator().manual_seed(options.seed + i) for i in range(begin, end)]
        given = {"prompt": texts[begin:end]} if start == "texts" else {"image": images[begin:end]}
        found = pipe.cycle(**given, rounds=options.rounds, num_beams=options.num_beams, generator=generators)
        captions += [chain[-options.rounds :] for chain in found.texts]
        generated += [chain[-options.rounds :] for chain in found.images]
    return list(zip(zip(*captions, strict=True), zip(*generated, strict=True), strict=True))


def survival(rounds: Sequence[tuple], prompts: list[str], scenes: list[Scene], judges: Sequence[SceneJudge]) -> dict:
    """Shares of chains that still have category and colour of their start, after each round.

    Args:
        rounds (`Sequence[tuple]`): Captions and images of each round, one for each scene.
        prompts (`list[str]`): Plain captions of the scenes.
        scenes (`list[Scene]`): Where the chains started.
        judges (`Sequence[SceneJudge]`): Read the images.

    Returns:
        `dict`: `captions`, a share a round, and `images`, a list of such lists, one for each judge.
    """
    return {
        "captions": [caption_accuracy(captions, scenes)["both"] for captions, _ in rounds],
        "images": [[prompt_accuracy(images, prompts, judge)["both"] for _, images in rounds] for judge in judges],
    }


def study(pipe: ITITPipeline, rows, judges: Sequence[SceneJudge], options: Namespace) -> dict:
    """Figures of one model, from texts and from images."""
    prompts = [texts[0] for texts in rows["text"]]
    scenes = [Scene.from_json(text) for text in rows["scene"]]
    images = list(rows["image"])
    return {
        start: survival(chains(pipe, start, prompts, images, options), prompts, scenes, judges) for start in STARTS
    }


def table(found: dict) -> str:
    """Markdown: a row for each model, start and judge; the last column is what the rounds after the first lose."""
    rounds = found["conditions"]["rounds"]
    head = ["model", "start", "what", *(f"round {n + 1}" for n in range(rounds)), "lost"]
    lines = [head, ["---"] * len(head)]
    for model, starts in found["results"].items():
        for start, figures in starts.items():
            kinds = {"captions": figures["captions"]}
            kinds |= {
                f"images, by {Path(judge).name}": shares
                for judge, shares in zip(found["conditions"]["judges"], figures["images"], strict=True)
            }
            for what, shares in kinds.items():
                cells = [f"{share:.3f}" for share in shares]
                lines.append([model, start, what, *cells, f"{shares[0] - shares[-1]:.3f}"])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def open_study(path: Path, options: Namespace) -> dict:
    """What the file holds, or a new study.

    Raises:
        ValueError: If the file was written under other conditions.
    """
    conditions = {name: getattr(options, name) for name in CONDITIONS}
    if not path.is_file():
        return {"conditions": conditions, "results": {}}
    found = json.loads(path.read_text(encoding="utf-8"))
    if found["conditions"] != conditions:
        raise ValueError(f"`--output` {path} holds a study with {found['conditions']}; name another file")
    return found


def main(arguments: list[str] | None = None) -> dict:
    """Study each model that the file lacks, and write it down at once."""
    parser = ArgumentParser(description="What survives rounds of generating and captioning.")
    parser.add_argument("--models", nargs="+", default=["checkpoints/emoji-scenes-64"], help="Pipeline folders.")
    parser.add_argument("--dataset", default="data/emoji-scenes-64", help="Dataset folder of scenes of one thing.")
    parser.add_argument("--split", default="validation", help="Split never trained on.")
    parser.add_argument("--num_scenes", type=int, default=300, help="The first so many.")
    parser.add_argument("--rounds", type=int, default=4, help="Images, and captions, of a chain.")
    parser.add_argument("--num_beams", type=int, default=1, help="Of each caption; 1 is greedy.")
    parser.add_argument(
        "--judges", nargs="+", default=list(COMMITTED), help="What reads generated images: folders or Hub ids."
    )
    parser.add_argument("--seed", type=int, default=0, help="Chain i draws from this seed plus i.")
    parser.add_argument("--batch_size", type=int, default=50, help="Chains at a time.")
    parser.add_argument("--output", default="out/drift.json", help="JSON file; the table stands beside it.")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    rows = load_rows(options.dataset, options.split)
    options.num_scenes = min(options.num_scenes, len(rows))
    rows = rows.select(range(options.num_scenes))
    path = Path(options.output)
    found = open_study(path, options)
    judges = [open_judge(folder) for folder in options.judges]
    for model in options.models:
        if model in found["results"]:
            continue
        pipe = ITITPipeline.from_pretrained(model)
        pipe.set_progress_bar_config(disable=True)
        found["results"][model] = study(pipe, rows, judges, options)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        path.with_suffix(".md").write_text(table(found), encoding="utf-8")
    logger.info(table(found))
    return found


if __name__ == "__main__":
    main()
