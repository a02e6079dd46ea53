# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The second judge: what it reads, what it learns from, and the door to both."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

import train_scene_transformer
from itit_hf.emoji_scenes.classifier import SceneClassifier
from itit_hf.emoji_scenes.judges import open_judge
from itit_hf.emoji_scenes.scene_transformer import ObjectReading, SceneTransformer
from itit_hf.emoji_scenes.scenes import Scene, SceneObject

from ..testing_utils import draw_cut_outs

NAMES = {"categories": ("bus", "cat"), "colours": ("red", "blue"), "backgrounds": ("sky", "night")}


@pytest.fixture
def judge():
    torch.manual_seed(0)
    return SceneTransformer(**NAMES, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)


def reading_of(*objects, background: int = 0) -> ObjectReading:
    """What a network reads that is sure of (category, colour, box) of each token; category 2 is none."""
    categories, colours, boxes = zip(*objects, strict=True)
    return ObjectReading(
        category_logits=20 * torch.eye(3)[list(categories)][None],
        colour_logits=20 * torch.eye(2)[list(colours)][None],
        boxes=torch.tensor(boxes)[None],
        background_logits=20 * torch.eye(2)[[background]],
        patch_logits=torch.zeros(1, 64, 3),
    )


BUS = (0, 0, (0.25, 0.5, 0.25, 0.5))
CAT = (1, 1, (0.75, 0.5, 0.25, 0.25))
NONE = (2, 0, (0.5, 0.5, 1.0, 1.0))


def test_a_token_without_an_object_is_no_object(judge):
    judge.forward = lambda pixel_values: reading_of(NONE, CAT, background=1)
    [scene] = judge.read([Image.new("RGB", (128, 128))])
    assert (scene.resolution, scene.background) == (128, "night")
    [item] = scene.objects
    assert (item.category, item.colour, item.box) == ("cat", "blue", (80.0, 48.0, 32.0, 32.0))


def test_objects_stand_in_the_order_of_their_relation_whichever_token_reads_them(judge):
    for objects in ((BUS, CAT), (CAT, BUS)):
        judge.forward = lambda pixel_values, objects=objects: reading_of(*objects)
        [scene] = judge.read([Image.new("RGB", (64, 64))])
        assert scene.relation == "left of" and [item.category for item in scene.objects] == ["bus", "cat"]


def test_images_are_read_alike_alone_and_in_a_batch(judge):
    images = list(np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8))
    together = judge.read(images, batch_size=2)
    for image, scene in zip(images, together, strict=True):
        [alone] = judge.read([image])
        assert [item.category for item in alone.objects] == [item.category for item in scene.objects]


def scene_of(*objects) -> Scene:
    items = tuple(SceneObject(category, colour, "noto", box) for category, colour, box in objects)
    return Scene(64, "night", items, "left of" if len(items) == 2 else None, 0, 0)


def test_targets_say_what_is_in_the_scene_and_where_nothing_is(judge):
    targets = train_scene_transformer.targets_of([scene_of(("cat", "red", (16, 8, 32, 16)))], judge)
    assert targets.categories.tolist() == [[1, 2]] and targets.colours.tolist() == [[0, -100]]
    assert targets.boxes.tolist() == [[[0.5, 0.25, 0.5, 0.25], [0.0, 0.0, 0.0, 0.0]]]
    assert targets.backgrounds.tolist() == [1]


def test_the_loss_is_that_of_the_better_assignment(judge):
    scene = scene_of(("bus", "red", (8, 16, 16, 32)), ("cat", "blue", (40, 24, 16, 16)))
    targets = train_scene_transformer.targets_of([scene], judge)
    for objects in ((BUS, CAT), (CAT, BUS)):
        losses = train_scene_transformer.losses_of(reading_of(*objects, background=1), targets)
        assert float(losses.pop("patch")) == pytest.approx(math.log(3))  # knows nothing of the patches
        assert all(float(loss) < 1e-6 for loss in losses.values())
    wrong = train_scene_transformer.losses_of(reading_of(CAT, CAT, background=1), targets)
    assert float(wrong["category"]) == pytest.approx(20.0, abs=1e-3)  # one of two objects, by 20 logits
    # By a quarter of its side each: across, and height; a mean over four numbers, weighed 5.
    assert float(wrong["box"]) == pytest.approx(5 * (0.5 + 0.25) / 4)


def test_what_no_object_looks_like_costs_nothing_in_colour_and_box(judge):
    targets = train_scene_transformer.targets_of([scene_of()], judge)
    losses = train_scene_transformer.losses_of(reading_of(NONE, NONE, background=1), targets)
    assert float(losses["colour"]) == float(losses["box"]) == 0.0
    uncertain = train_scene_transformer.losses_of(reading_of(BUS, NONE), targets)
    assert float(uncertain["category"]) == pytest.approx(20.0, abs=1e-3)
    assert float(uncertain["background"]) == pytest.approx(0.2 * (20 + math.log1p(math.exp(-20))), rel=1e-4)


def test_a_patch_belongs_to_the_object_in_whose_box_its_middle_lies(judge):
    scene = scene_of(("bus", "red", (0, 0, 16, 8)), ("cat", "blue", (40, 54, 16, 10)))
    targets = train_scene_transformer.targets_of([scene, scene_of()], judge)
    found = train_scene_transformer.patch_categories(targets, none=2).view(2, 8, 8)
    assert found[0, 0].tolist() == [0, 0] + [2] * 6 and found[0, 7].tolist() == [2] * 5 + [1, 1, 2]
    assert found[0, 1:7].unique().tolist() == found[1].unique().tolist() == [2]


def test_a_zoomed_image_has_its_object_where_its_box_says():
    pixel_values = torch.full((16, 3, 64, 64), -1.0)
    pixel_values[:, :, 24:40, 16:40] = 1.0
    boxes = torch.tensor([[28 / 64, 0.5, 24 / 64, 0.25]]).repeat(16, 1, 1)
    moved, found = train_scene_transformer.zoomed(pixel_values, boxes, torch.Generator().manual_seed(0))
    for image, (across, down, width, height) in zip(moved, 64 * found[:, 0], strict=True):
        lit = image[0] > 0.0
        columns = lit.any(dim=0).nonzero().flatten()
        rows = lit.any(dim=1).nonzero().flatten()
        seen = (columns[0], columns[-1] + 1, rows[0], rows[-1] + 1)
        told = (across - width / 2, across + width / 2, down - height / 2, down + height / 2)
        assert torch.tensor(seen) == pytest.approx(torch.tensor(told), abs=1.0)
    assert found[:, 0, 2].min() < 0.36 < 0.39 < found[:, 0, 2].max()  # some smaller, some larger


def test_a_folder_says_which_judge_it_holds(judge, tmp_path):
    judge.save_pretrained(tmp_path / "transformer")
    SceneClassifier(block_out_channels=(4, 4, 4)).save_pretrained(tmp_path / "classifier")
    assert type(open_judge(str(tmp_path / "transformer"))) is SceneTransformer
    assert type(open_judge(str(tmp_path / "classifier"))) is SceneClassifier
    config = json.loads((tmp_path / "classifier" / "config.json").read_text())
    (tmp_path / "classifier" / "config.json").write_text(json.dumps(config | {"_class_name": "VQModel"}))
    with pytest.raises(ValueError, match="one of SceneClassifier, SceneTransformer, got VQModel"):
        open_judge(str(tmp_path / "classifier"))


def test_training_writes_weights_and_figures(tmp_path):
    art = draw_cut_outs(tmp_path / "art", ("bus", "tree", "fish"))
    arguments = ["--styles", art, "--max_steps", "2", "--batch_size", "4", "--num_scenes", "2"]
    figures = train_scene_transformer.main([*arguments, "--output_dir", str(tmp_path / "out")])
    assert 0.0 <= next(iter(figures.values()))["both"] <= 1.0
    assert json.loads((tmp_path / "out" / "accuracy.json").read_text())["settings"]["max_steps"] == 2
    assert isinstance(open_judge(str(tmp_path / "out")), SceneTransformer)
