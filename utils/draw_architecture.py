# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Draw docs/images/architecture.svg: the model, and its two cycles with the paper's symbols. Needs no installation.

    python utils/draw_architecture.py [--output FILE]

The background is part of the figure, so that it can be read on a light page and on a dark one. A browser that asks for
dark colours gets them.
"""

import argparse
from pathlib import Path

OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "images" / "architecture.svg"
WIDTH = 1000
HEIGHT = 640
HALF = 21  # of the height of a box
ABOVE = 46  # how far above a row its condition runs
BELOW = 46  # how far below a row its gradient runs

# Class -> its fill on a light page and on a dark one.
FILLS = {
    "page": ("#ffffff", "#161b22"),
    "encoder": ("#cfe2ff", "#1f4573"),
    "image": ("#d3f0d6", "#215c34"),
    "text": ("#ffe3c2", "#76501c"),
    "frozen": ("#e4e6ea", "#3a414b"),
    "data": ("#ffffff", "#0d1117"),
    "loss": ("#ffd9dc", "#7a2a33"),
}
INK = ("#1f2328", "#e6edf3")
LINE = ("#57606a", "#9aa4af")
GRADIENT = ("#c01c54", "#ff7ba5")
SHAPES = (
    "text{font-family:Helvetica,Arial,'DejaVu Sans',sans-serif;font-size:14px}"
    ".title{font-size:16px;font-weight:bold}.quiet{font-size:13px}.math{font-size:16px}"
    ".math,.symbol,.mask{font-family:Georgia,'DejaVu Serif',serif;font-style:italic}"
    ".symbol{font-size:19px}.mask{font-size:14px}.sub{font-size:12px}"
    ".line,.back,.sign{fill:none;stroke-width:1.6}.back{stroke-dasharray:6 4}"
)

PRIME = "\u2032"
MINUS = "\u2212"
I_TILDE = "\u0128"
T_TILDE = "T\u0303"


def colours(side: int) -> str:
    """The rules of one kind of page.

    Args:
        side (`int`): 0 for a light one, 1 for a dark one.
    """
    fills = "".join(f".{name}{{fill:{pair[side]}}}" for name, pair in FILLS.items())
    return (
        f"{fills}rect,circle{{stroke:{LINE[side]}}}text{{fill:{INK[side]}}}.quiet{{fill:{LINE[side]}}}"
        f".line{{stroke:{LINE[side]}}}.tip{{fill:{LINE[side]}}}.sign{{stroke:{INK[side]}}}"
        f".back{{stroke:{GRADIENT[side]}}}.backtip{{fill:{GRADIENT[side]}}}"
    )


def words(x: float, y: float, text: str, kind: str = "", anchor: str = "middle") -> str:
    """A line of text.

    Args:
        x (`float`): Where it is anchored.
        y (`float`): Its base line.
        text (`str`): What it says; `_x_` stands lower and smaller, as `p(i_k_)`.
        kind (`str`, *optional*): A class of the style.
        anchor (`str`, *optional*, defaults to `"middle"`): `"start"` or `"middle"`.
    """
    pieces = text.split("_")
    for index in range(1, len(pieces), 2):
        pieces[index] = f'<tspan class="sub" dy="4">{pieces[index]}</tspan><tspan dy="-4">\u200b</tspan>'
    return f'<text x="{x}" y="{y}" class="{kind}" text-anchor="{anchor}">{"".join(pieces)}</text>'


def path(points: list[tuple[float, float]], kind: str = "line", has_tip: bool = True) -> str:
    """A line with corners.

    Args:
        points (`list[tuple[float, float]]`): x and y of its ends and corners.
        kind (`str`, *optional*, defaults to `"line"`): `"line"`, or `"back"` for a gradient.
        has_tip (`bool`, *optional*, defaults to `True`): Whether it ends in an arrow's tip.
    """
    corners = " L".join(f"{x} {y}" for x, y in points)
    tip = f' marker-end="url(#{kind})"' if has_tip else ""
    return f'<path class="{kind}" d="M{corners}"{tip}/>'


def chain(y: float, *ends: tuple[float, float]) -> str:
    """The arrows of a row.

    Args:
        y (`float`): Middle of the row.
        ends (`tuple[float, float]`): Where each starts and ends.
    """
    return "".join(path([(start, y), (end - 2, y)]) for start, end in ends)


def box(left: float, right: float, y: float, text: str, kind: str, half: float = HALF) -> str:
    """A module, or a loss.

    Args:
        left (`float`): Its left edge.
        right (`float`): Its right edge.
        y (`float`): Its middle.
        text (`str`): What stands in it, lines separated by `/`.
        kind (`str`): Key of `FILLS`.
        half (`float`, *optional*): Half of its height.
    """
    lines = text.split("/")
    first = y + 5 - 8 * (len(lines) - 1)
    look = "math" if kind == "loss" else ""
    inside = "".join(words((left + right) / 2, first + 16 * i, line, look) for i, line in enumerate(lines))
    edges = f'x="{left}" y="{y - half}" width="{right - left}" height="{2 * half}" rx="5"'
    return f'<rect class="{kind}" {edges}/>{inside}'


def symbol(x: float, y: float, letter: str, has_tilde: bool = False) -> str:
    """A letter of the paper in a circle; a tilde is drawn, as fonts do not agree where it stands.

    Args:
        x (`float`): Middle of the circle.
        y (`float`): The same.
        letter (`str`): What stands in it.
        has_tilde (`bool`, *optional*, defaults to `False`): Whether it is a reconstruction.
    """
    circle = f'<circle class="data" cx="{x}" cy="{y}" r="19"/>'
    if not has_tilde:
        return circle + words(x, y + 7, letter, "symbol")
    tilde = f'<path class="sign" d="M{x - 5} {y - 8} q3 -5 6 -1.5 t6 -1.5"/>'
    return circle + words(x, y + 10, letter, "symbol") + tilde


def mask(x: float, y: float) -> str:
    """The mask M, on an arrow.

    Args:
        x (`float`): Middle of its circle.
        y (`float`): The same.
    """
    return f'<circle class="page" cx="{x}" cy="{y}" r="11"/>{words(x, y + 5, "M", "mask")}'


def gradient(y: float, loss: float, modules: list[float]) -> str:
    """Where the gradient of a cycle goes.

    Args:
        y (`float`): Middle of the row.
        loss (`float`): x of the loss.
        modules (`list[float]`): x of what it reaches, the last one farthest from the loss.
    """
    low = y + BELOW
    trunk = path([(loss, y + HALF), (loss, low), (modules[-1], low)], "back", has_tip=False)
    return trunk + "".join(path([(x, low), (x, y + HALF + 2)], "back") for x in modules)


def model(y: float) -> str:
    """The model between its frozen parts.

    Args:
        y (`float`): Middle of the upper row; the lower one is 90 below.
    """
    low = y + 90
    parts = [words(30, y - 44, "One model, two directions", "title", "start")]
    for row, name, frozen, letter in ((y, "image", "image/tokenizer", "I"), (low, "text", "text/encoder", "T")):
        parts += [
            words(56, row + 5, name),
            box(118, 228, row, frozen, "frozen"),
            symbol(283, row, letter),
            chain(row, (86, 118), (228, 264), (302, 420), (530, 600), (710, 736)),
        ]
    parts += [
        mask(361, y),
        box(420, 530, y + 45, "joint/encoder", "encoder", 45 + HALF),
        box(600, 710, y, "image/decoder", "image"),
        words(742, y + 1, "p(i_k_ | I_M_, T)", "math", "start"),
        words(742, y + 23, "masked image tokens, equation (2)", "quiet", "start"),
        box(600, 710, low, "text/decoder", "text"),
        words(742, low + 1, f"p(t_l_ | I_M_, t_0_ \u2026 t_l{MINUS}1_)", "math", "start"),
        words(742, low + 23, "next word, equation (1)", "quiet", "start"),
    ]
    return "".join(parts)


def text_cycle(y: float) -> str:
    """Text -> image -> text.

    Args:
        y (`float`): Middle of the row.
    """
    parts = [
        words(30, y - 68, "Text \u2192 image \u2192 text, equation (3)", "title", "start"),
        chain(y, (71, 98), (190, 216), (254, 320), (484, 514), (552, 620), (784, 826)),
        path([(52, y - 19), (52, y - ABOVE), (356, y - ABOVE), (356, y - HALF - 2)]),
        symbol(52, y, "T"),
        box(98, 190, y, "generate,/no gradient", "page"),
        symbol(235, y, "I" + PRIME),
        mask(286, y),
        box(320, 392, y, "encoder", "encoder"),
        box(392, 484, y, "image/decoder", "image"),
        symbol(533, y, "I", has_tilde=True),
        mask(584, y),
        box(620, 692, y, "encoder", "encoder"),
        box(692, 784, y, "text/decoder", "text"),
        box(826, 974, y, f"{MINUS}log p(T | {I_TILDE}_M_)", "loss"),
        gradient(y, 900, [738, 656, 438]),
    ]
    return "".join(parts)


def image_cycle(y: float) -> str:
    """Image -> text -> image.

    Args:
        y (`float`): Middle of the row.
    """
    above = y - ABOVE
    parts = [
        words(30, y - 68, "Image \u2192 text \u2192 image, equation (4)", "title", "start"),
        chain(y, (71, 98), (190, 216), (446, 470), (508, 532), (612, 640), (804, 826)),
        path([(52, y - 19), (52, above), (676, above), (676, y - HALF - 2)]),
        path([(318, above), (318, y - HALF - 2)]),
        path([(254, y), (268, y), (268, y + 33), (378, y + 33), (378, y + HALF + 2)]),
        symbol(52, y, "I"),
        box(98, 190, y, "caption,/no gradient", "page"),
        symbol(235, y, "T" + PRIME),
        mask(285, above),
        mask(643, above),
        box(282, 354, y, "encoder", "encoder"),
        box(354, 446, y, "text/decoder", "text"),
        symbol(489, y, "T", has_tilde=True),
        box(532, 612, y, "text/encoder", "frozen"),
        box(640, 712, y, "encoder", "encoder"),
        box(712, 804, y, "image/decoder", "image"),
        box(826, 974, y, f"{MINUS}log p(I | I_M_, {T_TILDE})", "loss"),
        gradient(y, 900, [758, 676, 422]),
    ]
    return "".join(parts)


def legend(y: float) -> str:
    """What grey and dashes mean.

    Args:
        y (`float`): Its base line.
    """
    parts = [
        f'<rect class="frozen" x="30" y="{y - 12}" width="26" height="15" rx="3"/>',
        words(64, y, "frozen", "quiet", "start"),
        path([(140, y - 5), (178, y - 5)], "back"),
        words(188, y, "gradient: none reaches the encoder in the first pass of a cycle", "quiet", "start"),
        f'<circle class="page" cx="620" cy="{y - 5}" r="11"/>',
        words(620, y, "M", "mask"),
        words(640, y, "a random part of the image tokens is masked", "quiet", "start"),
    ]
    return "".join(parts)


def figure() -> str:
    """The figure, as the text of an SVG file."""
    tips = "".join(
        f'<marker id="{kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path class="{tip}" d="M0 0 L8 4 L0 8 z"/></marker>'
        for kind, tip in (("line", "tip"), ("back", "backtip"))
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "<title>The model, and its cycles text, image, text and image, text, image</title>",
        f"<style>{SHAPES}{colours(0)}@media (prefers-color-scheme:dark){{{colours(1)}}}</style>",
        f"<defs>{tips}</defs>",
        f'<rect class="page" x="1" y="1" width="{WIDTH - 2}" height="{HEIGHT - 2}" rx="8"/>',
        model(82),
        text_cycle(320),
        image_cycle(500),
        legend(608),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main():
    """Write the figure."""
    parser = argparse.ArgumentParser(description="Draw the model and its two cycles.")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the SVG file is written")
    parser.parse_args().output.write_text(figure(), encoding="utf-8")


if __name__ == "__main__":
    main()
