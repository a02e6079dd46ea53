# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Scene `n` of seed `s` as a pure function: what is in it, and its pixels."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np

from .art import available_categories, check_style
from .categories import CATEGORIES, COLOURS
from .languages import LANGUAGES
from .sprites import SpriteSheet

# Colour above and below the horizon (one colour: no horizon). Flat and pale or dark, so that a small image tokenizer
# codes them in a few tokens and each of the colours stands out.
BACKGROUNDS = {
    "sky": ((198, 228, 250),),
    "grass": ((226, 239, 248), (178, 214, 148)),
    "sand": ((226, 239, 248), (232, 214, 172)),
    "snow": ((196, 206, 222), (246, 248, 252)),
    "night": ((36, 40, 78),),
    "plain": ((208, 208, 208),),
}
_SIZES = {
    1: (0.62, 0.85),
    2: (0.36, 0.48),
}  # longer side of an object, as a share of the image, by number of objects
_JSON_KEYS = {"categories": "kinds"}  # fields of a config that have another name in its file
RESOLUTIONS = (32, 64, 96, 128, 256)
GRIDS = (1, 2, 4, 8)


class Sized:
    """What has a `resolution`: the side of a square in pixels, or height and width."""

    resolution: int | tuple[int, int]

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return self.resolution if isinstance(self.resolution, int) else self.resolution[0]

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return self.resolution if isinstance(self.resolution, int) else self.resolution[1]


def _one_or_two(resolution: int | Sequence[int]) -> int | tuple[int, int]:
    """The side of a square as one number, any other size as height and width."""
    given = (resolution,) * 2 if isinstance(resolution, int) else tuple(resolution)
    if len(given) != 2 or not set(given) <= set(RESOLUTIONS):
        raise ValueError(f"`resolution` must be one of {RESOLUTIONS}, or height and width of them, got {resolution}")
    return given[0] if given[0] == given[1] else given


@dataclass(frozen=True)
class SceneConfig(Sized):
    """What a world of scenes may contain.

    Args:
        resolution (`int` or `tuple[int, int]`, defaults to 64): Side of the images in pixels, or height and width:
            32, 64, 96, 128 or 256. Two equal numbers become one.
        styles (`tuple[str, ...]`): Packaged art styles, or folders of cut-outs; each object has one of them.
        categories (`tuple[str, ...]`): Things; all must exist in all styles.
        colours (`tuple[str, ...]`): Keys of `COLOURS`.
        backgrounds (`tuple[str, ...]`): Keys of `BACKGROUNDS`.
        max_objects (`int`, defaults to 1): 1, or 2 for scenes of one or two objects.
        grid (`int`, defaults to 1): Sizes and top left corners of objects are multiples of so many pixels. On the
            cells of an image tokenizer (8) a drawing has few different codes.
        size_range (`tuple[float, float]`, *optional*): Least and greatest longer side of an object, as a share of the
            image's shorter side. By default 0.62 to 0.85 in scenes of one object and 0.36 to 0.48 in scenes of two.
        language (`str`, defaults to `"en"`): What captions are written in, a key of `LANGUAGES`; scenes, images and
            what is held out are the same in all.
        free_captions (`int`, defaults to 0): Captions of a scene in the forms that people type, beside the five of the
            grammar; 0 to 5, English only.
    """

    resolution: int | tuple[int, int] = 64
    styles: tuple[str, ...] = ("noto",)
    categories: tuple[str, ...] = tuple(CATEGORIES)[:24]
    colours: tuple[str, ...] = tuple(COLOURS)
    backgrounds: tuple[str, ...] = tuple(BACKGROUNDS)
    max_objects: int = 1
    grid: int = 1
    size_range: tuple[float, float] | None = None
    language: str = "en"
    free_captions: int = 0

    def __post_init__(self):
        for field in ("styles", "categories", "colours", "backgrounds"):
            value = getattr(self, field)
            if isinstance(value, str) or not value or len(set(value)) != len(value):
                raise ValueError(f"`{field}` must be several different names, got {value!r}")
            object.__setattr__(self, field, tuple(value))
        object.__setattr__(self, "resolution", _one_or_two(self.resolution))
        choices = {
            "max_objects": tuple(_SIZES),
            "grid": GRIDS,
            "language": tuple(LANGUAGES),
        }
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise ValueError(f"`{field}` must be one of {allowed}, got {getattr(self, field)}")
        self._check_captions()
        self._check_sizes()
        for field, known in (("colours", COLOURS), ("backgrounds", BACKGROUNDS)):
            unknown = [name for name in getattr(self, field) if name not in known]
            if unknown:
                raise ValueError(f"`{field}` takes {', '.join(known)}; got {', '.join(unknown)}")
        for style in self.styles:
            check_style(style)
        missing = [category for category in self.categories if category not in available_categories(list(self.styles))]
        if missing:
            raise ValueError(f"`categories` not drawn in every one of {', '.join(self.styles)}: {', '.join(missing)}")
        if self.max_objects == 2 and len(self.categories) < 2:
            raise ValueError(f"`categories` must be at least two for scenes of two objects, got {self.categories}")

    def _check_captions(self) -> None:
        if not 0 <= self.free_captions <= 5 or (self.free_captions and self.language != "en"):
            raise ValueError(
                f"`free_captions` must be 0 to 5, and 0 in another language than English; got {self.free_captions} "
                f"in {self.language!r}"
            )

    def _check_sizes(self) -> None:
        if self.size_range is not None:
            largest = _SIZES[self.max_objects][1]  # what leaves room to place it
            if len(self.size_range) != 2 or not 0 < self.size_range[0] <= self.size_range[1] <= largest:
                raise ValueError(
                    f"`size_range` must be two shares, 0 < least <= greatest <= {largest}; got {self.size_range}"
                )
            object.__setattr__(self, "size_range", tuple(self.size_range))
        for count in range(1, self.max_objects + 1):
            low, high = self.sizes(count)
            if -(-low // self.grid) > high // self.grid:
                raise ValueError(
                    f"`grid` {self.grid} has no multiple among the sizes of an object, {low} to {high} pixels: give "
                    "another `size_range`"
                )

    def sizes(self, count: int) -> tuple[int, int]:
        """Least and greatest longer side, in pixels, of an object in scenes of `count`."""
        low, high = (share * min(self.height, self.width) for share in self.size_range or _SIZES[count])
        return int(np.ceil(low)), int(high)

    def to_json(self) -> str:
        """The config as a JSON object, in which categories are called `kinds`, as in the worlds built so far."""
        return json.dumps({_JSON_KEYS.get(name, name): value for name, value in asdict(self).items()})

    @classmethod
    def from_json(cls, text: str) -> "SceneConfig":
        """The config that `to_json` wrote; one without a language, from before there were several, is English."""
        names = {key: name for name, key in _JSON_KEYS.items()}
        return cls(**{names.get(key, key): value for key, value in json.loads(text).items()})


def first_categories(styles: Sequence[str], num_categories: int) -> tuple[str, ...]:
    """The first `num_categories` categories that all styles can draw, the most distinct ones first.

    Raises:
        `ValueError`: If there are not that many.
    """
    categories = available_categories(styles)
    if not 1 <= num_categories <= len(categories):
        raise ValueError(
            f"`num_categories` must be from 1 to {len(categories)} for the styles {styles}, got {num_categories}"
        )
    return tuple(categories[:num_categories])


class Boxed:
    """What has a `box`: (left, top, width, height) in pixels."""

    box: tuple

    @property
    def centre(self) -> tuple[float, float]:
        """Horizontal and vertical centre in pixels."""
        left, top, width, height = self.box
        return left + width / 2, top + height / 2


@dataclass(frozen=True)
class SceneObject(Boxed):
    """One object: `box` is (left, top, width, height) in pixels."""

    category: str
    colour: str
    style: str
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Scene(Sized):
    """All that is true of an image. `relation` is that of the first object to the second: "left of" or "above"."""

    resolution: int | tuple[int, int]
    background: str
    objects: tuple[SceneObject, ...]
    relation: str | None
    seed: int
    index: int

    def to_json(self) -> str:
        """The scene as a JSON object with sorted keys, in which a category is called `kind`, as in the worlds built
        so far."""
        fields = asdict(self)
        for item in fields["objects"]:
            item["kind"] = item.pop("category")
        return json.dumps(fields, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Scene":
        """The scene that `to_json` wrote."""
        fields = json.loads(text)
        objects = tuple(
            SceneObject(category=item.pop("kind"), box=tuple(item.pop("box")), **item)
            for item in fields.pop("objects")
        )
        resolution = fields.pop("resolution")
        if isinstance(resolution, list):  # height and width
            resolution = tuple(resolution)
        return cls(objects=objects, resolution=resolution, **fields)


class KeyedDraws:
    """Choices keyed by integers, the same on every machine and in every numpy: raw Philox words, one per choice."""

    def __init__(self, seed: int, index: int, stream: int = 0):
        if not (0 <= seed < 2**64 and 0 <= index < 2**64):
            raise ValueError(f"`seed` and `index` must be from 0 to 2**64 - 1, got {seed} and {index}")
        key = np.array([seed, index], np.uint64)
        counter = np.array([0, 0, 0, stream], np.uint64)
        self._words = iter(np.random.Philox(key=key, counter=counter).random_raw(64).tolist())

    def integer(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included."""
        return low + next(self._words) % (high - low + 1)

    def multiple(self, step: int, low: int, high: int) -> int:
        """A multiple of `step` from `low` to `high`, both included where they are multiples."""
        return step * self.integer(-(-low // step), high // step)

    def choice(self, items):
        """One of a sequence."""
        return items[next(self._words) % len(items)]


class World:
    """Samples and renders the scenes of a config. Every method is a pure function of its arguments and the config."""

    def __init__(self, config: SceneConfig):
        self.config = config
        self._sheet = SpriteSheet(max(config.height, config.width))
        self._canvases = {name: self._canvas(name) for name in config.backgrounds}

    def _canvas(self, background: str) -> np.ndarray:
        height = self.config.height
        zones = BACKGROUNDS[background]
        canvas = np.empty((height, self.config.width, 3), np.uint16)
        canvas[:] = zones[0]
        canvas[_horizon(height) :] = zones[-1]
        return canvas

    def sample(self, seed: int, index: int) -> Scene:
        """Sample what is in scene `index` of `seed`, without rendering it.

        Args:
            seed (`int`): Not negative.
            index (`int`): Not negative.

        Returns:
            `Scene`: Objects in the order of the relation (left before right, upper before lower).
        """
        draws = KeyedDraws(seed, index)
        config = self.config
        count = draws.integer(1, config.max_objects)
        background = draws.choice(config.backgrounds)
        categories = list(config.categories)
        smallest, largest = config.sizes(count)
        things = []  # category, colour and style
        shapes = []  # width and height in pixels
        for _ in range(count):
            category = draws.choice(categories)
            categories.remove(category)  # two objects of one scene are of different categories
            colour = draws.choice(config.colours)
            style = draws.choice(config.styles)
            size = draws.multiple(config.grid, smallest, largest)
            things.append((category, colour, style))
            shapes.append(self._sheet.box(style, category, size))
        relation = draws.choice(("left of", "above")) if count == 2 else None
        corners = self._place(shapes, relation, len(BACKGROUNDS[background]) == 2, draws)
        objects = tuple(
            SceneObject(category, colour, style, (left, top, width, height))
            for (category, colour, style), (width, height), (left, top) in zip(things, shapes, corners, strict=True)
        )
        return Scene(config.resolution, background, objects, relation, seed, index)

    def _place(self, shapes, relation, grounded, draws) -> list[tuple[int, int]]:
        """Top left corners. Where there is ground, the lowest object stands in it."""
        across = self.config.width
        down = self.config.height
        grid = self.config.grid
        floor = _horizon(down) + down // 16 if grounded else 0  # the least bottom edge of what stands
        if relation is None:
            [(width, height)] = shapes
            left = draws.multiple(grid, 0, across - width)
            return [(left, draws.multiple(grid, max(0, floor - height), down - height))]
        (width, height), (next_width, next_height) = shapes
        gap = min(across, down) // 32
        drift = min(across, down) // 8
        if relation == "left of":
            last = (across - next_width) // grid * grid
            left = draws.multiple(grid, 0, last - width - gap)
            next_left = draws.multiple(grid, left + width + gap, last)
            top = draws.multiple(grid, max(0, floor - height), down - height)
            beside = top + (height - next_height) // 2
            next_top = _near(beside, drift, max(0, floor - next_height), down - next_height, grid, draws)
        else:
            next_top = draws.multiple(grid, max(height + gap, floor - next_height), down - next_height)
            top = draws.multiple(grid, 0, next_top - gap - height)
            left = draws.multiple(grid, 0, across - width)
            below = left + (width - next_width) // 2
            next_left = _near(below, drift, 0, across - next_width, grid, draws)
        return [(left, top), (next_left, next_top)]

    def render(self, scene: Scene) -> np.ndarray:
        """Paint a scene.

        Args:
            scene (`Scene`): Of this world: its resolution, and styles, categories and colours that can be drawn.

        Returns:
            `np.ndarray` of shape `(height, width, 3)`: uint8 RGB.
        """
        canvas = self._canvases[scene.background].copy()
        for item in scene.objects:
            left, top, width, height = item.box
            paint, rest = self._sheet.sprite(item.style, item.category, item.colour, max(width, height))
            area = canvas[top : top + height, left : left + width]
            area *= rest
            area += paint
            area += 127  # round to nearest
            area //= 255
        return canvas.astype(np.uint8)


def _horizon(height: int) -> int:
    """Rows of sky: five eighths of an image, or less so that it ends on a border of 8-pixel tokens."""
    return height * 5 // 64 * 8


def _near(wanted: int, drift: int, low: int, high: int, grid: int, draws: KeyedDraws) -> int:
    """A multiple of `grid` within `drift` of `wanted`, kept between `low` and `high`."""
    near = draws.multiple(grid, wanted - drift, wanted + drift)
    return min(max(near, -(-low // grid) * grid), high // grid * grid)


@lru_cache(maxsize=8)
def world_of(config: SceneConfig) -> World:
    """The `World` of a config, with its rendered sprites kept between calls."""
    return World(config)


def render_scene(config: SceneConfig, seed: int, index: int) -> tuple[np.ndarray, Scene]:
    """Sample and render scene `index` of `seed`: a pure function of its arguments.

    Args:
        config (`SceneConfig`): The world.
        seed (`int`): Which endless sequence of scenes.
        index (`int`): Which scene of it.

    Returns:
        `tuple`: Pixels of shape `(height, width, 3)`, uint8 RGB, and the `Scene` they show.
    """
    world = world_of(config)
    scene = world.sample(seed, index)
    return world.render(scene), scene
