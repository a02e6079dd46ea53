# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Generate, edit, caption and cycle in the browser."""

import inspect
import os
import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import wraps

import PIL.Image
import torch

from ..models.processing_itit import tokenize_text
from ..pipelines.call_defaults import with_given
from ..pipelines.pipeline_itit import ITITPipeline
from .checkpoints import MODEL, load_pipeline
from .console import command_parser

CANVAS = 512  # pixels of the brush's canvas: one of the model's pixels is too small to hit
CSS = """
.image img, .rounds img { image-rendering: pixelated; }
.image img { width: 100% !important; height: 100% !important; object-fit: contain; }
.rounds .caption-label { white-space: normal; max-width: 100%; right: 0; }
@media (max-width: 600px) { .rounds .grid-container { grid-template-columns: 1fr 1fr !important; } }
footer { display: none !important; }
"""
# Prompts to click, as far as the checkpoint knows their words.
PROMPTS = (
    "a red bus",
    "a blue fish",
    "a green tree",
    "a purple mushroom in the snow",
    "a red bus left of a blue fish",
    "snail",
    "crimson kitty",
    "A BLUE HOUND.",
    "one golden trumpet",
)
TABLE = ["image", "caption", "same words (F1)", "same tokens", "log p of the start"]


class Studio:
    """The four tasks on one pipeline, as plain functions of what a user types.

    Args:
        pipe ([`ITITPipeline`]): What generates and captions.
    """

    def __init__(self, pipe: ITITPipeline):
        pipe.set_progress_bar_config(disable=True)
        self.pipe = pipe
        self.height, self.width = pipe.image_processor.output_size

    def prompts(self) -> list[str]:
        """Those of `PROMPTS` that the checkpoint has learned the words of; all, if it does not say what it learned."""
        return [prompt for prompt in PROMPTS if not self.pipe.unknown_words(prompt)]

    def generate(
        self, prompt: str, negative_prompt: str, num_steps: int, guidance_scale: float, seed: int
    ) -> Iterator[tuple[PIL.Image.Image, str]]:
        """Images as they fill in, masked patches under a veil, each with a line about it."""
        self._check_text(prompt, "Write what to draw.")
        yield from self._stream(prompt, negative_prompt, num_steps, guidance_scale, seed)

    def edit(
        self, editor: dict | None, prompt: str, strength: float, num_steps: int, guidance_scale: float, seed: int
    ) -> Iterator[tuple[PIL.Image.Image, str]]:
        """As `generate`, of an image and what was painted on it; the last image has the other pixels as they were."""
        original, mask = self._painted(editor)
        self._check_text(prompt, "Write what the painted part, or the variation, should show.")
        if mask is None and strength == 1.0:
            raise ValueError("Paint over what should change, or lower the strength for a variation of the whole.")
        arguments = {"image": original, "mask_image": mask, "strength": strength}
        for image, line in self._stream(prompt, "", num_steps, guidance_scale, seed, arguments):
            yield image, line
        if mask is not None:
            yield self.pipe.image_processor.apply_overlay(mask, original, image), line

    def caption(self, image: str | None, num_beams: int, beginning: str) -> tuple[str, str]:
        """A caption, and how sure the model is of it. The image is a file, which comes in as all files do: the page
        would have decoded it otherwise, without white behind it, and 16 bits cut off."""
        if image is None:
            raise ValueError("Choose an image to describe.")
        (caption,) = self.pipe.caption(image, prompt=beginning or None, num_beams=int(num_beams))
        likelihood = self.pipe.score(image, caption).log_likelihoods_per_token.exp().item()
        return caption, f"On average each word piece was given a probability of {likelihood:.0%}."

    def cycle(
        self, prompt: str, rounds: int, num_steps: int, guidance_scale: float, seed: int
    ) -> tuple[list[tuple[PIL.Image.Image, str]], list[list[str]]]:
        """Images, each with its caption, and a table of the drift."""
        self._check_text(prompt, "Write what to start from.")
        output = self.pipe.cycle(
            prompt,
            rounds=int(rounds),
            sampling=with_given(
                self.pipe.sampling, {"num_inference_steps": int(num_steps), "guidance_scale": guidance_scale}
            ),
            generator=_generator(seed),
        )
        drift = output.drift()
        texts = output.texts[0]
        images = [(image, f"{i + 1}. {texts[i + 1]}") for i, image in enumerate(output.images[0])]
        table = [
            [str(i + 1), texts[i + 1], f"{overlap:.2f}", f"{same:.0%}", f"{score:.2f}"]
            for i, (overlap, same, score) in enumerate(
                zip(drift.word_f1[0, 1:], drift.same_image_tokens[0], output.scores[0], strict=True)
            )
        ]
        return images, table

    def to_canvas(self, image: PIL.Image.Image | None) -> PIL.Image.Image:
        """A generated image, large enough to paint on."""
        if image is None:
            raise ValueError("Draw an image first.")
        times = max(1, CANVAS // max(image.size))
        return image.resize((times * image.width, times * image.height), PIL.Image.Resampling.NEAREST)

    def _check_text(self, text: str, request: str):
        if not text or not text.strip():
            raise ValueError(request)
        tokenize_text(self.pipe.tokenizer, text, self.pipe.model.config.max_text_length, on_long_text="error")

    def _painted(self, editor: dict | None) -> tuple[PIL.Image.Image, PIL.Image.Image | None]:
        """The image and the mask of an image editor; no mask where nothing was painted."""
        image = (editor or {}).get("background")
        if image is None:
            raise ValueError("Choose an image to edit, or draw one and press 'Edit this image'.")
        mask = PIL.Image.new("L", image.size)
        for layer in editor["layers"]:
            mask.paste(255, mask=layer.getchannel("A").point(lambda alpha: 255 * (alpha > 0)))
        times = image.width // self.width
        if image.size == (times * self.width, times * self.height):  # undoes `to_canvas` exactly
            image = image.resize((self.width, self.height), PIL.Image.Resampling.BOX)
        return image, mask if mask.getbbox() else None

    def _stream(self, prompt: str, negative_prompt: str, num_steps, guidance_scale, seed, edit=None):
        """An image after each step, the last of which is the finished one; it stops when it is no longer listened to.

        No image comes twice in a row: Gradio would write its file again while a browser reads it.
        """
        steps: queue.SimpleQueue = queue.SimpleQueue()
        listening = True

        def on_step_end(pipe, step, timestep, tensors):
            steps.put((step + 1, tensors))
            pipe._interrupt = not listening
            return {}

        with ThreadPoolExecutor(max_workers=1) as pool:
            call = pool.submit(
                self.pipe,
                prompt,
                negative_prompt=negative_prompt or None,
                num_inference_steps=int(num_steps),
                guidance_scale=guidance_scale,
                generator=_generator(seed),
                callback_on_step_end=on_step_end,
                callback_on_step_end_tensor_inputs=["image_token_ids", "filled_image_token_ids"],
                **(edit or {}),
            )
            call.add_done_callback(lambda _: steps.put(None))
            try:
                while (step := steps.get()) is not None:
                    if step[0] < self.pipe.num_timesteps:
                        yield self._veiled(**step[1]), f"Step {step[0]} of {self.pipe.num_timesteps}"
            finally:
                listening = False
            line = f"Done: {self.pipe.num_timesteps} steps, seed {int(seed)}"
            if words := self.pipe.unknown_words(prompt):
                line += f". The model was not trained on these words, and guesses them: {', '.join(words)}"
            yield call.result().images[0], line

    def _veiled(self, image_token_ids, filled_image_token_ids) -> PIL.Image.Image:
        """A preview in which the patches that are still masked are pale."""
        (preview,) = self.pipe.processor.decode_images(filled_image_token_ids)
        masked = (image_token_ids[0] == self.pipe.model.config.mask_token_id).cpu()
        height, width = self.pipe.model.config.image_grid
        veil = PIL.Image.new("L", (width, height))
        veil.putdata([180 * flag for flag in masked.tolist()])
        preview.paste((235, 235, 240), mask=veil.resize(preview.size, PIL.Image.Resampling.NEAREST))
        return preview


def _generator(seed) -> torch.Generator:
    if seed is None or int(seed) != seed or not 0 <= seed < 2**63:
        raise ValueError("The seed must be a whole number from 0 on.")
    return torch.Generator().manual_seed(int(seed))


def import_gradio():
    """The package `gradio`, or how to get it."""
    try:
        import gradio
    except ImportError as error:
        raise ImportError("the page in the browser needs Gradio; pip install 'itit-hf[app]'") from error
    return gradio


def with_messages(gradio, function):
    """`function`, with the message of its `ValueError` shown to the user."""
    if not inspect.isgeneratorfunction(function):

        @wraps(function)
        def once(*arguments):
            try:
                return function(*arguments)
            except ValueError as error:
                raise gradio.Error(str(error), print_exception=False) from error

        return once

    @wraps(function)
    def stream(*arguments):
        try:
            yield from function(*arguments)
        except ValueError as error:
            raise gradio.Error(str(error), print_exception=False) from error

    return stream


class Interface:
    """The page: one tab for each task of a [`Studio`].

    Args:
        studio ([`Studio`]): The tasks.
    """

    def __init__(self, studio: Studio):
        self.gr = import_gradio()
        self.studio = studio
        with self.gr.Blocks(title="ITIT", analytics_enabled=False) as self.blocks:
            self.gr.Markdown("# ITIT\nOne model that draws images from text and describes images in text.")
            with self.gr.Tabs() as self.tabs:
                with self.gr.Tab("Draw", id="draw"):
                    image, to_editor = self._generate_tab()
                with self.gr.Tab("Edit", id="edit"):
                    editor = self._edit_tab()
                with self.gr.Tab("Describe", id="describe"):
                    self._caption_tab()
                with self.gr.Tab("Cycle", id="cycle"):
                    self._cycle_tab()
            moved = self._on(to_editor.click, studio.to_canvas, [image], [editor])
            moved.success(lambda: self.gr.Tabs(selected="edit"), None, [self.tabs])

    def _on(self, event, function, inputs: list, outputs: list):
        """Run `function` on `event`, one at a time: there is one pipeline."""
        options = {"concurrency_id": "pipeline", "concurrency_limit": 1, "api_name": function.__name__}
        return event(with_messages(self.gr, function), inputs, outputs, **options)

    def _settings(self) -> tuple:
        """Steps and guidance, which begin as the checkpoint's, and a seed; folded away."""
        with self.gr.Accordion("Settings", open=False):
            sampling = self.studio.pipe.sampling
            most = max(48, sampling.num_inference_steps)
            steps = self.gr.Slider(1, most, value=sampling.num_inference_steps, step=1, label="Steps")
            scale = sampling.guidance_scale
            guidance = self.gr.Slider(
                1.0, max(8.0, scale), value=max(1.0, scale), step=0.5, label="Guidance (1 is none)"
            )
            seed = self.gr.Number(value=0, precision=0, minimum=0, label="Seed")
        return steps, guidance, seed

    def _image(self, label: str):
        return self.gr.Image(
            label=label, type="pil", format="png", interactive=False, height=360, elem_classes="image"
        )

    def _generate_tab(self):
        gr = self.gr
        with gr.Row():
            with gr.Column(min_width=280):
                prompt = gr.Textbox(label="What to draw", placeholder="a red bus", elem_id="draw-prompt")
                button = gr.Button("Draw", variant="primary", elem_id="draw-button")
                negative = gr.Textbox(label="What to move away from", placeholder="nothing")
                settings = self._settings()
                if prompts := self.studio.prompts():
                    gr.Examples([[each] for each in prompts], inputs=[prompt], label="Prompts to click")
            with gr.Column(min_width=280):
                image = self._image("Image")
                line = gr.Markdown(elem_id="draw-line")
                to_editor = gr.Button("Edit this image", elem_id="to-editor")
        for event in (button.click, prompt.submit):
            self._on(event, self.studio.generate, [prompt, negative, *settings], [image, line])
        return image, to_editor

    def _edit_tab(self):
        gr = self.gr
        with gr.Row():
            with gr.Column(min_width=280):
                editor = gr.ImageEditor(
                    label="Paint over what should change",
                    type="pil",
                    image_mode="RGBA",
                    sources=["upload", "clipboard"],
                    transforms=(),
                    layers=False,
                    brush=gr.Brush(default_size=64, colors=["#ff2d55"], color_mode="fixed"),
                    canvas_size=(CANVAS, CANVAS),
                    elem_id="editor",
                )
                prompt = gr.Textbox(label="What the image should show", elem_id="edit-prompt")
                strength = gr.Slider(0.1, 1.0, value=1.0, step=0.05, label="Strength")
                button = gr.Button("Edit", variant="primary", elem_id="edit-button")
                settings = self._settings()
            with gr.Column(min_width=280):
                image = self._image("Edited image")
                line = gr.Markdown(elem_id="edit-line")
        self._on(button.click, self.studio.edit, [editor, prompt, strength, *settings], [image, line])
        return editor

    def _caption_tab(self):
        gr = self.gr
        with gr.Row():
            with gr.Column(min_width=280):
                sources = ["upload", "webcam", "clipboard"]
                image = gr.Image(
                    label="Image",
                    type="filepath",
                    image_mode=None,  # or the file would be converted after all
                    sources=sources,
                    height=360,
                    elem_id="describe-image",
                    elem_classes="image",
                )
            with gr.Column(min_width=280):
                num_beams = self.studio.pipe.captioning.num_beams
                beams = gr.Slider(1, max(8, num_beams), value=num_beams, step=1, label="Beams (1 is greedy)")
                beginning = gr.Textbox(label="How the caption begins", placeholder="a picture of")
                button = gr.Button("Describe", variant="primary", elem_id="describe-button")
                caption = gr.Textbox(label="Caption", interactive=False, elem_id="caption")
                line = gr.Markdown()
        self._on(button.click, self.studio.caption, [image, beams, beginning], [caption, line])

    def _cycle_tab(self):
        gr = self.gr
        prompt = gr.Textbox(label="What to start from", placeholder="a red bus", elem_id="cycle-prompt")
        rounds = gr.Slider(1, 8, value=4, step=1, label="Rounds")
        button = gr.Button("Draw and describe by turns", variant="primary", elem_id="cycle-button")
        settings = self._settings()
        gallery = gr.Gallery(
            label="Rounds", columns=4, height="auto", object_fit="contain", format="png", elem_classes="rounds"
        )
        table = gr.Dataframe(headers=TABLE, interactive=False, wrap=True, label="Drift from the start")
        self._on(button.click, self.studio.cycle, [prompt, rounds, *settings], [gallery, table])


def parse_args(arguments: list[str] | None = None):
    """Command line."""
    parser = command_parser("app")
    model = os.environ.get("ITIT_MODEL", MODEL)
    parser.add_argument("--model", default=model, help="Pipeline folder or Hub id.")
    parser.add_argument("--server_name", default="127.0.0.1", help="Address; 0.0.0.0 lets other machines in.")
    parser.add_argument("--server_port", type=int, default=7860, help="Port.")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None):
    """Load, and serve until it is stopped."""
    args = parse_args(arguments)
    gradio = import_gradio()
    pipe = load_pipeline(args.model)
    theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    Interface(Studio(pipe)).blocks.launch(
        server_name=os.environ.get("GRADIO_SERVER_NAME", args.server_name),
        server_port=args.server_port,
        theme=theme,
        css=CSS,
    )


if __name__ == "__main__":
    main()
