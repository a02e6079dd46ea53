# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Every table of docs/results.md, and others that pages mark, from the committed JSON of the runs:

    python utils/write_results.py            # prints them
    python utils/write_results.py --write    # and puts them into the pages

Between the lines `<!-- table: NAME -->` and `<!-- end of the table -->` of a page stands what this script says; the
words around are written by hand. A test fails if the two differ.
"""

import json
import logging
import re
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md", ROOT / "docs" / "hugging_face.md")
FIGURES = ROOT / "model_cards"
TABLE = re.compile(r"(<!-- table: ([a-z_]+) -->\n)(.*?)(<!-- end of the table -->)", re.DOTALL)
CYCLE_ROWS = {3: "pairs alone", 7: "and autoencoding", 10: "and half cycles", 14: "and full cycles"}
CYCLE_COLUMNS = {
    "captions, unseen scenes": "captions",
    "captions, unseen pairs": "captions, held out",
    "generated, unseen scenes": "generated",
    "generated, unseen pairs": "generated, held out",
}
SPLITS = {
    "validation": "unseen scenes",
    "heldout": "category-colour pairs never seen",
    "heldout_relations": "two categories in a relation never seen",
}


def figures(name: str) -> dict:
    """The committed JSON of that name."""
    return json.loads((FIGURES / f"{name}.json").read_text(encoding="utf-8"))


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean, least and greatest."""
    mean = sum(values) / len(values)
    return f"{mean:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def checkpoint_table() -> str:
    """What the committed checkpoints caption and generate right, and what bounds it, by both judges."""
    rows = []
    for name, figure in (("emoji-scenes-64", "both"), ("emoji-scenes-96-two", "true")):
        for split, found in figures(name)["results"].items():
            cells = [f"{found['shares'][f'caption_{figure}']:.3f}"]
            for prefix in ("", "second_"):
                generated = found["shares"][f"{prefix}generated_{figure}"]
                low, high = found["intervals"][f"{prefix}generated_{figure}"]
                cells.append(f"{generated:.3f} ({low:.3f} to {high:.3f})")
                cells.append(f"{found['shares'][f'{prefix}reconstructed_{figure}']:.3f}")
            rows.append([name, SPLITS[split], str(found["num_scenes"]), *cells, f"{found['sharpness']:.2f}"])
    head = ["checkpoint", "asked for", "scenes", "captions right", "generated right, first judge", "its ceiling"]
    return markdown([*head, "generated right, second judge", "its ceiling", "sharpness"], rows)


def cycle_table() -> str:
    """Rows of the paper's Table 2 from 1,000 pairs, over seeds."""
    runs = figures("table2")["runs"]
    rows = []
    for row in sorted({run["row"] for run in runs}):
        mine = [run["figures"] for run in runs if run["row"] == row]
        cells = [spread([each[column] for each in mine]) for column in CYCLE_COLUMNS.values()]
        rows.append([str(row), CYCLE_ROWS[row], str(len(mine)), *cells])
    return markdown(["row", "trained on", "seeds", *CYCLE_COLUMNS], rows)


def two_percent_table() -> str:
    """1,600 of 80,000 captions with cycles, against all of them without."""
    study = figures("two_percent")
    rows = []
    for updates, runs in (("4,200", study["runs"]), ("7,200", study["longer"]["runs"])):
        for run in runs:
            name = "all 80,000 captions, no cycle" if run["pairs"] == 80_000 else "1,600 captions, full cycles"
            rows.append([name, updates, *(f"{run['figures'][column]:.3f}" for column in CYCLE_COLUMNS.values())])
    return markdown(["trained on", "updates", *CYCLE_COLUMNS], rows)


def sampler_table() -> str:
    """`emoji-scenes-64` by numbers of steps, by both judges."""
    study = figures("sampler")
    rows = []
    for result in sorted(study["results"].values(), key=lambda each: each["model_calls"]):
        cells = []
        for shares, intervals in zip(result["shares"], result["intervals"], strict=True):
            low, high = intervals["true"]
            cells.append(f"{shares['true']:.3f} ({low:.3f} to {high:.3f})")
        rows.append([str(result["setting"]["num_inference_steps"]), str(result["model_calls"]), *cells])
    return markdown(["steps", "calls of the model", "right, first judge", "right, second judge"], rows)


def image_tokenizer_table() -> str:
    """The general image tokenizer on images of sources that it never saw."""
    names = {
        "art": "`image-tokenizer-art`",
        "scenes": "that of `emoji-scenes-64`",
        "own_64": "300 steps on such images, at 64 pixels",
        "own_128": "300 steps on such images, at 128 pixels",
    }
    results = figures("image-tokenizer-art")["results"]
    places = sorted({(each["pixels"], each["split"]) for each in results})
    rows = []
    for key, name in names.items():
        mine = {(each["pixels"], each["split"]): each for each in results if each["image_tokenizer"] == key}
        rows.append([name, *(f"{mine[place]['psnr']:.1f} / {mine[place]['lpips']:.2f}" for place in places)])
    head = [f"{split.removeprefix('unseen_')}, {pixels} pixels" for pixels, split in places]
    return markdown(["PSNR in dB / LPIPS", *head], rows)


def front_table() -> str:
    """What the README says: category and colour right, where no training had the pair of them."""
    caption = "captions, held out"
    generated = "generated, held out"
    costs = figures("costs")
    seconds = costs["update_cpu_seconds"]
    cost_of_pairs = "1 an update"
    cost_of_cycles = f"{seconds['both cycles'] / seconds['pairs']:.1f} an update"
    hours = sum(minutes for stage, minutes in costs["emoji-scenes-64_minutes"].items() if stage != "what") / 60
    rows = []
    for row, name, cost in (
        (3, "1,000 pairs alone", cost_of_pairs),
        (14, "the same, 20,000 images and 20,000 sentences, both cycles", cost_of_cycles),
    ):
        mine = [run["figures"] for run in figures("table2")["runs"] if run["row"] == row]
        cells = [spread([each[column] for each in mine], digits=2) for column in (caption, generated)]
        rows.append([f"{name}; {len(mine)} seeds", *cells, cost])
    for run in sorted(figures("two_percent")["longer"]["runs"], key=lambda run: -run["pairs"]):
        is_all = run["pairs"] == 80_000
        name = "80,000 pairs, no cycle" if is_all else f"{run['pairs']:,} of these pairs, the rest apart, both cycles"
        cells = [f"{run['figures'][column]:.2f}" for column in (caption, generated)]
        rows.append([f"{name}; 1 seed", *cells, cost_of_pairs if is_all else cost_of_cycles])
    shares = figures("emoji-scenes-64")["results"]["heldout"]["shares"]
    judged = f"{shares['generated_both']:.2f}; by a second judge {shares['second_generated_both']:.2f}"
    cells = [f"{shares['caption_both']:.2f}", judged]
    name = "`emoji-scenes-64`: 4,000 pairs, 20,000 images and 20,000 sentences, both cycles; 1 seed"
    rows.append([name, *cells, f"{hours:.0f} hours of one core"])
    return markdown(["trained on", "captions right", "images right", "cost"], rows)


def quantization_table() -> str:
    """`emoji-scenes-64` with quantized linear layers."""
    names = {
        "float32": "in float32",
        "torchao_int8": "torchao, `Int8WeightOnlyConfig()`",
        "torchao_int4": "torchao, `IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerAxis(0))`",
        "bitsandbytes_int8": "bitsandbytes, `load_in_8bit=True`",
        "bitsandbytes_int4": "bitsandbytes, `load_in_4bit=True`",
    }
    rows = []
    for method, found in figures("quantization")["results"].items():
        right = [f"{share:.3f}" for share in found["right"].values()]
        reopened = "yes" if found["reopened_as_saved"] else "**no**"
        cells = [f"{found['mebibytes']:.1f}", f"{found['tokens_as_float32']:.2f}", *right, reopened]
        rows.append([names[method], *cells])
    head = ["the model's linear layers", "MiB", "tokens as in float32", "right, first judge", "right, second judge"]
    return markdown([*head, "reopened, tokens as before it was saved"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "front": front_table,
    "checkpoints": checkpoint_table,
    "cycles": cycle_table,
    "two_percent": two_percent_table,
    "samplers": sampler_table,
    "image_tokenizers": image_tokenizer_table,
    "quantization": quantization_table,
}


def with_tables(page: str) -> str:
    """The page with each of its tables anew.

    Args:
        page (`str`): Markdown with the marks of tables.

    Returns:
        `str`: The same with the tables of today.

    Raises:
        ValueError: If the page asks for a table that this script has not.
    """

    def table(found: re.Match) -> str:
        if found[2] not in TABLES:
            raise ValueError(f"`page` must ask for one of the tables {', '.join(TABLES)}; got {found[2]}")
        return f"{found[1]}\n{TABLES[found[2]]()}\n{found[4]}"

    return TABLE.sub(table, page)


def main(arguments: list[str] | None = None) -> None:
    """Print or write the tables."""
    parser = ArgumentParser(description="The tables of the pages, from the committed JSON.")
    parser.add_argument("--write", action="store_true", help="Put them into the pages.")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for path in PAGES:
        page = with_tables(path.read_text(encoding="utf-8"))
        if options.write:
            path.write_text(page, encoding="utf-8")
        for found in TABLE.finditer(page):
            logger.info(f"{found[2]}\n{found[3]}")


if __name__ == "__main__":
    main()
