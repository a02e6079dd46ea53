# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The dataset card of a built world."""

from .art import STYLES
from .languages import LANGUAGES
from .scenes import SceneConfig
from .splits import check_held_out_pairs

_SPLIT_NOTES = {
    "paired": "training: image and captions",
    "image": "training: images alone; `text` is empty",
    "text": "training: captions alone; `image` is null",
    "validation": "unseen scenes of category-colour pairs that are open to training",
    "heldout": "scenes with a category-colour pair that no training stream contains, in image or in text",
    "heldout_relations": "scenes of two categories in a relation that no training stream contains",
    "unseen_style": "category-colour pairs that are open to training, in an art style that it does not",
}


def _front_matter(name: str, config: SceneConfig, counts: dict[str, int], styles: list[str]) -> str:
    licences = sorted({STYLES[style].licence_id for style in styles if style in STYLES})
    if any(style not in STYLES for style in styles):
        licences.append("other")
    lines = ["---", "license:", *(f"- {licence}" for licence in licences)]
    lines += ["task_categories:", "- text-to-image", "- image-to-text", "language:", f"- {config.language}"]
    lines += [f"pretty_name: {name}", "tags:", "- synthetic", "- emoji", "configs:"]
    lines += ["- config_name: default", "  data_files:"]
    for split in counts:
        lines += [f"  - split: {split}", f"    path: data/{split}-*.parquet"]
    return "\n".join([*lines, "---"])


def _art_table(styles: list[str]) -> str:
    rows = ["| style | source | licence | drawings by |", "|---|---|---|---|"]
    for style in styles:
        if style in STYLES:
            art = STYLES[style]
            licence = f"[{art.licence}]({art.licence_url})"
            rows.append(f"| {style} | {art.package} {art.version} | {licence} | {art.credit} |")
        else:
            rows.append("| own cut-outs | the builder's folder | as the builder states | |")
    return "\n".join(rows)


def dataset_card(
    name: str, config: SceneConfig, sizes: dict[str, int], seed: int, unseen_style: str | None = None
) -> str:
    """Write the card.

    Args:
        name (`str`): Name of the dataset.
        config (`SceneConfig`): The world.
        sizes (`dict[str, int]`): Rows of each split; splits of 0 rows are left out.
        seed (`int`): Which sequence of scenes.
        unseen_style (`str`, *optional*): Style of the split "unseen_style".

    Returns:
        `str`: Markdown with the front matter that names the splits' files.
    """
    counts = {split: count for split, count in sizes.items() if count}
    styles = [*config.styles, *([unseen_style] if unseen_style else [])]
    held_out = check_held_out_pairs(config.categories, config.colours)
    splits = "\n".join(f"| {split} | {count} | {_SPLIT_NOTES[split]} |" for split, count in counts.items())
    templates = LANGUAGES[config.language]
    source = f" ({templates.source})" if templates.source else ""
    free = (
        f", then {config.free_captions} in free forms, which the grammar cannot read" if config.free_captions else ""
    )
    objects = "one object" if config.max_objects == 1 else "one or two objects"
    return f"""{_front_matter(name, config, counts, styles)}

# {name}

Scenes of {objects} on a plain ground, {config.width} x {config.height} pixels, with captions whose meaning is
exact: each caption of the grammar can be read back by it, and everything a caption says is true of the image.
The captions are in {templates.name}{source}; categories and colours go by the English names of `scene` below.

Built by `itit_hf.emoji_scenes` from seed {seed}: scene n of a seed is a pure function.

{len(config.categories)} categories: {", ".join(config.categories)}.

{len(config.colours)} colours: {", ".join(config.colours)}. Backgrounds: {", ".join(config.backgrounds)}.

## Art

The drawings were scaled, and recoloured in HSL (the dominant hue moved, 75% of the shading kept).

{_art_table(styles)}

## Columns

| column | content |
|---|---|
| `image` | PNG |
| `text` | list of five different captions, the plain one first{free} |
| `scene` | JSON: background; of each object kind (its category), colour, style and box (left, top, width, height) |
| `scene_hash` | first 128 bits of the SHA-256 of the pixels and their shape |

`scene` and `scene_hash` are for evaluation; a model must not be trained on them.

## Splits

| split | rows | what |
|---|---|---|
{splits}

No two scenes of a world have equal pixels, and the pixels decide: one image in twenty, by its hash, belongs to
validation, the others to one of the training streams each. The streams are disjoint scenes, so that no pair can be put
together from them. Kept out of training by a hash of the names, {len(held_out)} category-colour pairs:
{", ".join(f"{colour} {category}" for category, colour in held_out)}.
"""
