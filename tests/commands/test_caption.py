# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import logging

from itit_hf.commands import caption


def test_a_caption_goes_on_from_a_prompt(pipeline_folder, image_folder, caplog):
    with caplog.at_level(logging.INFO):
        caption.main([f"{image_folder}/0.png", "--model", pipeline_folder, "--num_beams", "1", "--prompt", "a red"])
    assert "0.png: a red" in caplog.text


def test_there_is_a_line_for_each_image(pipeline_folder, image_folder, caplog):
    images = [f"{image_folder}/0.png", f"{image_folder}/1.png"]
    with caplog.at_level(logging.INFO):
        caption.main([*images, "--model", pipeline_folder, "--num_beams", "1"])
    assert all(f"{image}: " in caplog.text for image in images)
