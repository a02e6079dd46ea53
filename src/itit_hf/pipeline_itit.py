# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Draw from text and describe pictures with one set of weights."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import PIL.Image
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput

# diffusers looks component classes up in `sys.modules` by the path in model_index.json: these imports must be eager.
from .image_processing_itit import ITITImageProcessorPil
from .image_tokenization_itit import decode_image_token_ids
from .modeling_itit import ITITForPreTraining
from .processing_itit import ITITProcessor
from .sampling import DecodingState, TextCondition, decode_image_tokens
from .scheduling_itit import ITITScheduler

OUTPUT_TYPES = ("pil", "np", "pt", "latent")


@dataclass
class ITITPipelineOutput(BaseOutput):
    """Output of [`ITITPipeline`].

    Args:
        images (`list[PIL.Image.Image]`, `np.ndarray` or `torch.Tensor`):
            Pictures, grouped by prompt: `np.ndarray` of shape `(n, height, width, 3)` in [0, 1], `torch.FloatTensor`
            of shape `(n, 3, height, width)` in [0, 1], or image token ids of shape `(n, num_image_tokens)`.
    """

    images: list[PIL.Image.Image] | np.ndarray | torch.Tensor


class ITITPipeline(DiffusionPipeline):
    r"""Text to image, and image to text, with one [`ITITForPreTraining`].

    ```python
    >>> from itit_hf import ITITPipeline

    >>> pipe = ITITPipeline.from_pretrained("checkpoints/emoji-scenes-64")
    >>> image = pipe("a red bus").images[0]
    >>> pipe.caption(image)
    ['a red bus']
    ```

    Args:
        model ([`ITITForPreTraining`]): The trained network.
        text_encoder (`T5EncoderModel`): Frozen text encoder it was trained with.
        tokenizer (`T5Tokenizer`): Its tokenizer.
        image_tokenizer (`VQModel` or [`PatchVQModel`]): Frozen image tokenizer it was trained with.
        image_processor ([`ITITImageProcessorPil`]): Pictures to `pixel_values`.
        scheduler ([`ITITScheduler`]): Order and temperature of parallel decoding.
    """

    model_cpu_offload_seq = "text_encoder->model->image_tokenizer"
    _callback_tensor_inputs = ["image_token_ids", "prompt_embeds", "negative_prompt_embeds"]

    def __init__(
        self,
        model: ITITForPreTraining,
        text_encoder,
        tokenizer,
        image_tokenizer,
        image_processor: ITITImageProcessorPil,
        scheduler: ITITScheduler,
    ):
        super().__init__()
        self.register_modules(
            model=model,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            image_tokenizer=image_tokenizer,
            image_processor=image_processor,
            scheduler=scheduler,
        )

    @property
    def processor(self) -> ITITProcessor:
        """The components that turn pictures and text into ids and back."""
        return ITITProcessor(self.image_processor, self.tokenizer, self.image_tokenizer)

    @torch.no_grad()
    def encode_prompt(self, prompt: str | list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Text features of prompts; a prompt of more than 64 tokens is cut, with a warning that quotes the rest.

        Args:
            prompt (`str` or `list[str]`): What to draw. An empty prompt is the null text.

        Returns:
            `(prompt_embeds, attention_mask)` of shapes `(batch_size, text_length, text_hidden_size)` and
            `(batch_size, text_length)`.
        """
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
        max_length = self.model.config.max_text_length
        inputs = self.processor(text=texts, max_length=max_length, return_tensors="pt").to(self._execution_device)
        embeds = self.text_encoder(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        return embeds.last_hidden_state, inputs["attention_mask"]

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        num_inference_steps: int = 24,
        guidance_scale: float = 3.0,
        temperature: float | list[float] | None = None,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        prompt_embeds: torch.Tensor | None = None,
        prompt_attention_mask: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        negative_prompt_attention_mask: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[["ITITPipeline", int, int, dict], dict] | None = None,
        callback_on_step_end_tensor_inputs: list[str] | None = None,
    ) -> ITITPipelineOutput | tuple:
        r"""Draw.

        Args:
            prompt (`str` or `list[str]`, *optional*): What to draw; or give `prompt_embeds`.
            negative_prompt (`str` or `list[str]`, *optional*):
                What to move away from, in place of the empty text; one for all prompts or one for each.
            num_inference_steps (`int`, *optional*, defaults to 24): Decoding steps.
            guidance_scale (`float`, *optional*, defaults to 3.0):
                `1 + tau` of the paper; 1.0 draws without guidance, in half the time.
            temperature (`float` or `list[float]`, *optional*): Randomness of the order; the scheduler's by default.
            num_images_per_prompt (`int`, *optional*, defaults to 1): Pictures of one prompt stand together.
            generator (`torch.Generator` or a list with one per picture, *optional*):
                With a list, a picture depends on its own generator alone, whatever else is in the batch.
            prompt_embeds (`torch.FloatTensor` of shape `(batch_size, text_length, text_hidden_size)`, *optional*):
                In place of `prompt`, from [`~ITITPipeline.encode_prompt`].
            prompt_attention_mask (`torch.Tensor` of shape `(batch_size, text_length)`, *optional*): Their padding.
            negative_prompt_embeds (`torch.FloatTensor` of shape `(batch_size, text_length, text_hidden_size)`,
                *optional*): In place of `negative_prompt`.
            negative_prompt_attention_mask (`torch.Tensor` of shape `(batch_size, text_length)`, *optional*):
                Their padding.
            output_type (`str`, *optional*, defaults to `"pil"`): `"pil"`, `"np"`, `"pt"` or `"latent"` (token ids).
            return_dict (`bool`, *optional*, defaults to `True`): An [`ITITPipelineOutput`] instead of a tuple.
            callback_on_step_end (`Callable`, *optional*):
                `(pipe, step, timestep, tensors) -> tensors`; what it returns replaces the tensors.
            callback_on_step_end_tensor_inputs (`list[str]`, *optional*):
                Which tensors it is given: `image_token_ids` (default), `prompt_embeds`, `negative_prompt_embeds`.

        Returns:
            [`ITITPipelineOutput`], or a tuple whose first element is the images.

        Raises:
            ValueError: If arguments contradict each other or are out of range; the message names them.
        """
        tensor_inputs = callback_on_step_end_tensor_inputs or ["image_token_ids"]
        self._check_call(num_images_per_prompt, guidance_scale, output_type, tensor_inputs)
        condition = self._condition("prompt", prompt, prompt_embeds, prompt_attention_mask)
        if condition is None:
            raise ValueError("give exactly one of `prompt` and `prompt_embeds`; both are None")
        num_prompts = len(condition.embeds)
        negative = self._condition(
            "negative_prompt", negative_prompt, negative_prompt_embeds, negative_prompt_attention_mask, num_prompts
        )
        condition, negative = (_repeat(text, num_images_per_prompt) for text in (condition, negative))
        num_images = num_prompts * num_images_per_prompt
        if isinstance(generator, (list, tuple)) and len(generator) != num_images:
            raise ValueError(
                f"`generator` is a list of {len(generator)}; wanted one for each of {num_images} pictures"
            )

        with self.progress_bar(total=num_inference_steps) as progress_bar:

            def on_step_end(state: DecodingState) -> DecodingState:
                progress_bar.update()
                if callback_on_step_end is None:
                    return state
                return _call_back(self, state, callback_on_step_end, tensor_inputs)

            image_token_ids = decode_image_tokens(
                self.model,
                condition,
                self.scheduler,
                num_inference_steps=num_inference_steps,
                guidance_scale=float(guidance_scale),
                temperature=temperature,
                negative_condition=negative,
                generator=generator,
                on_step_end=on_step_end,
            )
        images = self._to_images(image_token_ids, output_type)
        self.maybe_free_model_hooks()
        return ITITPipelineOutput(images=images) if return_dict else (images,)

    @torch.no_grad()
    def caption(self, images, num_beams: int = 4, max_new_tokens: int | None = None) -> list[str]:
        """Describe pictures by beam search (section 3.3).

        Args:
            images (`PIL.Image.Image`, path, array or tensor, or a list of them): What to describe.
            num_beams (`int`, *optional*, defaults to 4): 1 is greedy.
            max_new_tokens (`int`, *optional*): Length limit; the model's `max_text_length` by default.

        Returns:
            `list[str]`: One caption per picture.
        """
        inputs = self.processor(images=images, return_tensors="pt")
        ids = self.model.generate(
            image_token_ids=inputs["image_token_ids"].to(self._execution_device),
            num_beams=num_beams,
            max_new_tokens=max_new_tokens or self.model.config.max_text_length,
            do_sample=False,
        )
        return self.processor.batch_decode(ids)

    def _check_call(self, num_images_per_prompt, guidance_scale, output_type, tensor_inputs):
        if not isinstance(num_images_per_prompt, int) or num_images_per_prompt < 1:
            raise ValueError(
                f"`num_images_per_prompt` must be an integer of at least 1, got {num_images_per_prompt!r}"
            )
        if not np.isfinite(guidance_scale):
            raise ValueError(f"`guidance_scale` must be finite, got {guidance_scale}")
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"`output_type` must be one of {OUTPUT_TYPES}, got {output_type!r}")
        unknown = [name for name in tensor_inputs if name not in self._callback_tensor_inputs]
        if unknown:
            raise ValueError(
                f"`callback_on_step_end_tensor_inputs` must be of {self._callback_tensor_inputs}, got {unknown}"
            )

    def _condition(self, name, text, embeds, attention_mask, num_prompts: int | None = None) -> TextCondition | None:
        """Text features from words or from given features; `None` when there are neither."""
        if text is not None and embeds is not None:
            raise ValueError(f"give `{name}` or `{name}_embeds`, not both")
        if text is None and embeds is None:
            return None
        if embeds is None:
            if not isinstance(text, str) and not (
                isinstance(text, (list, tuple)) and text and all(isinstance(item, str) for item in text)
            ):
                raise ValueError(f"`{name}` must be a string or a list of at least one string, got {text!r:.200}")
            embeds, attention_mask = self.encode_prompt(text)
            if num_prompts and len(embeds) == 1:
                embeds, attention_mask = embeds.expand(num_prompts, -1, -1), attention_mask.expand(num_prompts, -1)
        width = self.model.config.text_hidden_size
        if embeds.dim() != 3 or embeds.size(-1) != width:
            raise ValueError(f"`{name}_embeds` must be (batch_size, text_length, {width}), got {tuple(embeds.shape)}")
        if num_prompts and len(embeds) != num_prompts:
            raise ValueError(f"`{name}` has {len(embeds)} entries for {num_prompts} prompts; give one or as many")
        return TextCondition(embeds.to(self._execution_device), attention_mask)

    def _to_images(self, image_token_ids: torch.Tensor, output_type: str):
        if output_type == "latent":
            return image_token_ids
        pixel_values = decode_image_token_ids(self.image_tokenizer, image_token_ids)  # (B, 3, H, W)
        return self.image_processor.postprocess(pixel_values, output_type=output_type)


def _repeat(text: TextCondition | None, times: int) -> TextCondition | None:
    if text is None:
        return None
    mask = text.attention_mask
    return TextCondition(
        text.embeds.repeat_interleave(times, dim=0), None if mask is None else mask.repeat_interleave(times, dim=0)
    )


def _call_back(pipe: ITITPipeline, state: DecodingState, callback: Callable, names: list[str]) -> DecodingState:
    """Show the named tensors to a user's callback, and take over what it returns."""
    tensors = {
        "image_token_ids": state.image_token_ids,
        "prompt_embeds": state.condition.embeds,
        "negative_prompt_embeds": None if state.negative_condition is None else state.negative_condition.embeds,
    }
    returned = callback(pipe, state.step, state.timestep, {name: tensors[name] for name in names}) or {}
    state.image_token_ids = returned.get("image_token_ids", state.image_token_ids)
    if returned.get("prompt_embeds") is not None:
        state.condition = TextCondition(returned["prompt_embeds"], state.condition.attention_mask)
    if returned.get("negative_prompt_embeds") is not None:
        mask = None if state.negative_condition is None else state.negative_condition.attention_mask
        state.negative_condition = TextCondition(returned["negative_prompt_embeds"], mask)
    return state
