# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import logging

import PIL.Image

from itit_hf import ITITPipeline
from itit_hf.commands import generate


def test_each_image_is_written_and_a_grid(pipeline_folder, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        generate.main(
            ["a red bus", "A blue/fish?", "--model", pipeline_folder, "--output_dir", str(tmp_path)]
            + ["--num_inference_steps", "2", "--num_images_per_prompt", "2"]
        )
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["00-a-red-bus.png", "01-a-red-bus.png", "02-a-blue-fish.png", "03-a-blue-fish.png", "grid.png"]
    assert PIL.Image.open(tmp_path / "00-a-red-bus.png").size == (16, 16)
    assert str(tmp_path / "grid.png") in caplog.text


def test_an_image_is_edited(pipeline_folder, image_folder, tmp_path):
    mask = PIL.Image.new("L", (16, 16))
    mask.save(tmp_path / "mask.png")
    arguments = ["--model", pipeline_folder, "--num_inference_steps", "2", "--output_dir", str(tmp_path)]
    image = f"{image_folder}/0.png"
    generate.main(["a tree", "--image", image, "--mask_image", str(tmp_path / "mask.png"), *arguments])
    processor = ITITPipeline.from_pretrained(pipeline_folder).processor
    (kept,) = processor.decode_images(processor(images=image).image_token_ids)  # nothing is marked
    assert PIL.Image.open(tmp_path / "00-a-tree.png").tobytes() == kept.tobytes()
