# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The app: its tasks with the tiny pipeline, and its page in a browser with the committed checkpoint."""

import itertools
import sys
from unittest.mock import MagicMock

import numpy as np
import PIL.Image
import pytest

import screenshot_app
from itit_hf.commands import app

from ..testing_utils import tiny_pairs, tiny_pipeline


@pytest.fixture
def studio():
    return app.Studio(tiny_pipeline())


def painted(*box):
    """What the image editor gives: a picture of 32 pixels, and a layer that is painted in a box."""
    image = tiny_pairs(1)["image"][0].resize((32, 32), PIL.Image.Resampling.NEAREST).convert("RGBA")
    layer = PIL.Image.new("RGBA", (32, 32))
    if box:
        layer.paste((255, 0, 0, 200), box)
    return {"background": image, "layers": [layer], "composite": image}


def test_each_step_is_shown_with_what_is_masked_veiled(studio):
    images, lines = zip(*studio.generate("a red bus", "", 4, 3.0, 0), strict=True)
    assert lines == ("Step 1 of 4", "Step 2 of 4", "Step 3 of 4", "Done: 4 steps, seed 0")
    assert {image.size for image in images} == {(16, 16)}
    assert all(one.tobytes() != other.tobytes() for one, other in itertools.pairwise(images))
    pale = [(np.asarray(image).min(axis=-1) > 120).mean() for image in images]
    assert pale[0] > pale[3]


def test_words_that_the_model_was_not_trained_on_are_said_below_the_image():
    studio = app.Studio(tiny_pipeline(known_words="bus red"))
    *_, (_, line) = studio.generate("a crimson bus", "", 2, 3.0, 0)
    assert line.endswith("guesses them: crimson")
    *_, (_, line) = studio.generate("a red bus", "", 2, 3.0, 0)
    assert line == "Done: 2 steps, seed 0"


def test_the_page_begins_with_the_settings_of_the_checkpoint(studio, monkeypatch):
    studio.pipe.sampling = {"num_inference_steps": 7, "guidance_scale": 1.5}
    studio.pipe.model.generation_config.num_beams = 2
    gradio = MagicMock()
    monkeypatch.setattr(app, "import_gradio", lambda: gradio)
    app.Interface(studio)
    values = {call.kwargs["label"]: call.kwargs["value"] for call in gradio.Slider.call_args_list}
    assert (values["Steps"], values["Guidance (1 is none)"], values["Beams (1 is greedy)"]) == (7, 1.5, 2)


def test_prompts_to_click_are_those_whose_words_the_checkpoint_knows(studio, monkeypatch):
    gradio = MagicMock()
    monkeypatch.setattr(app, "import_gradio", lambda: gradio)
    knows_some = app.Studio(tiny_pipeline(known_words="bus red snail"))
    app.Interface(knows_some)
    assert gradio.Examples.call_args.args[0] == [["a red bus"], ["snail"]]
    assert studio.prompts() == list(app.PROMPTS)  # it does not say what it knows
    gradio.reset_mock()
    app.Interface(app.Studio(tiny_pipeline(known_words="unicorn")))
    assert not gradio.Examples.called


def test_an_image_nobody_waits_for_stops(studio):
    stream = studio.generate("a red bus", "", 4, 3.0, 0)
    next(stream)
    stream.close()
    assert studio.pipe.interrupt


def test_an_edit_leaves_the_unpainted_pixels_as_they_were(studio):
    before = np.asarray(tiny_pairs(1)["image"][0])
    *_, (after, line) = studio.edit(painted(16, 0, 32, 32), "a tree", 1.0, 2, 3.0, 0)
    assert np.array_equal(np.asarray(after)[:, :8], before[:, :8]) and line.startswith("Done: 2 steps")
    assert not np.array_equal(np.asarray(after)[:, 8:], before[:, 8:])


def test_an_edit_without_paint_is_a_variation(studio):
    *_, (_, line) = studio.edit(painted(), "a tree", 0.5, 4, 3.0, 0)
    assert line.startswith("Done: 2 steps")


def test_a_caption_says_how_sure_it_is(studio):
    caption, line = studio.caption(tiny_pairs(1)["image"][0], 2, "a red")
    assert caption.startswith("a red") and "%" in line


def files_that_pages_decode_in_other_ways(folder):
    """A transparent image, a grey one of 16 bits, and one that lies on its side."""
    transparent = PIL.Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    transparent.paste((200, 0, 0, 128), (4, 4, 12, 12))
    transparent.save(folder / "transparent.png")
    PIL.Image.fromarray((np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)).save(folder / "deep.png")
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    tiny_pairs(1)["image"][0].save(folder / "turned.jpg", exif=exif)
    return [str(folder / name) for name in ("transparent.png", "deep.png", "turned.jpg")]


def test_a_file_is_captioned_as_the_pipeline_captions_it(studio, tmp_path, monkeypatch):
    seen, caption = [], studio.pipe.caption
    monkeypatch.setattr(
        studio.pipe, "caption", lambda image, **options: seen.append(image) or caption(image, **options)
    )
    for file in files_that_pages_decode_in_other_ways(tmp_path):
        text, _ = studio.caption(file, 1, "")
        assert seen[-1] == file and text == caption(file, num_beams=1)[0]


def test_the_page_hands_on_the_file_that_was_chosen(studio, monkeypatch):
    gradio = MagicMock()
    monkeypatch.setattr(app, "import_gradio", lambda: gradio)
    app.Interface(studio)
    (chosen,) = (call.kwargs for call in gradio.Image.call_args_list if call.kwargs.get("elem_id") == "describe-image")
    assert (chosen["type"], chosen["image_mode"]) == ("filepath", None)


def test_a_cycle_has_a_image_and_a_row_for_each_round(studio):
    images, table = studio.cycle("a red bus", 2, 2, 3.0, 0)
    assert [label.split(".")[0] for _, label in images] == ["1", "2"] == [row[0] for row in table]
    assert table[0][3] == "100%" and len(table[0]) == 5


@pytest.mark.parametrize(
    ("task", "arguments", "message"),
    [
        ("generate", (" ", "", 2, 3.0, 0), "Write what to draw"),
        ("generate", ("a " * 99, "", 2, 3.0, 0), "more than 32 tokens"),
        ("generate", ("a bus", "", 2, 3.0, None), "The seed must be a whole number"),
        ("edit", (None, "a bus", 1.0, 2, 3.0, 0), "Choose an image to edit"),
        ("edit", ({"background": None, "layers": []}, "a bus", 1.0, 2, 3.0, 0), "Choose an image to edit"),
        ("edit", (painted(), "a bus", 1.0, 2, 3.0, 0), "Paint over what should change"),
        ("edit", (painted(), "a bus", 0.1, 2, 3.0, 0), "leaves no step"),
        ("caption", (None, 4, ""), "Choose an image to describe"),
        ("cycle", ("", 2, 2, 3.0, 0), "Write what to start from"),
        ("to_canvas", (None,), "Draw an image first"),
    ],
)
def test_bad_input_is_said_in_plain_words(studio, task, arguments, message):
    with pytest.raises(ValueError, match=message):
        result = getattr(studio, task)(*arguments)
        list(result)


def test_a_generated_image_comes_back_from_the_canvas_as_it_was(studio):
    image = tiny_pairs(1)["image"][0]
    canvas = studio.to_canvas(image)
    layer = PIL.Image.new("RGBA", canvas.size)
    background, mask = studio._painted({"background": canvas, "layers": [layer]})
    assert background.tobytes() == image.tobytes() and mask is None


def test_missing_gradio_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ImportError, match=r"pip install 'itit-hf\[app\]'"):
        app.Interface(None)


def test_a_users_mistake_becomes_a_message_on_the_page():
    class Gradio:
        class Error(Exception):
            def __init__(self, message, print_exception):
                super().__init__(message)

    def fails(text):
        raise ValueError(text)

    def fails_later(text):
        yield text
        raise ValueError(text)

    with pytest.raises(Gradio.Error, match="no text"):
        app.with_messages(Gradio, fails)("no text")
    with pytest.raises(Gradio.Error, match="no text"):
        list(app.with_messages(Gradio, fails_later)("no text"))


def test_the_page_answers_as_its_tasks_do(studio, tmp_path):
    pytest.importorskip("gradio", reason="pip install 'itit-hf[app]'")
    from gradio_client import Client

    blocks = app.Interface(studio).blocks
    _, address, _ = blocks.launch(prevent_thread_lock=True, quiet=True, server_port=None)
    try:
        client = Client(address, verbose=False, download_files=str(tmp_path))
        image, line = client.predict("a red bus", "", 2, 3.0, 0, api_name="/generate")
        *_, (generated, _) = studio.generate("a red bus", "", 2, 3.0, 0)
        assert PIL.Image.open(image).convert("RGB").tobytes() == generated.tobytes() and line.startswith("Done")
        with pytest.raises(Exception, match="Write what to draw"):
            client.predict("", "", 2, 3.0, 0, api_name="/generate")
    finally:
        blocks.close()


@pytest.fixture(scope="module")
def address():
    if reason := screenshot_app.missing():
        pytest.skip(reason)
    with screenshot_app.serve("checkpoints/emoji-scenes-64") as address:
        yield address


@pytest.mark.slow
@pytest.mark.parametrize("screen", ["desktop", "phone"])
def test_a_visitor_generates_edits_captions_and_cycles(address, screen):
    with screenshot_app.Visitor(address, screen) as visitor:
        shots = screenshot_app.tour(visitor, "a red bus", "a blue fish")
        widths = visitor.driver.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert len(shots) == 4 and widths[0] <= widths[1]  # nothing has to be scrolled sideways


@pytest.mark.slow
def test_a_visitor_sees_the_image_of_the_seed_and_what_is_wrong(address):
    from itit_hf import ITITPipeline

    studio = app.Studio(ITITPipeline.from_pretrained("checkpoints/emoji-scenes-64"))
    *_, (generated, _) = studio.generate("a red bus", "", 12, 3.0, 0)
    with screenshot_app.Visitor(address, "desktop") as visitor:
        visitor.click("#draw-button")
        visitor.wait.until(lambda driver: "Write what to draw" in driver.find_element("tag name", "body").text)
        visitor.write("#draw-prompt", "a red bus")
        visitor.click("#draw-button")
        visitor.wait_for_text("#draw-line", "Done")
        assert visitor.image().tobytes() == generated.tobytes()
