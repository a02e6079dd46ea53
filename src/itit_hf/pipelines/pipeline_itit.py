# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Draw from text and describe images with one set of weights."""

import math
from collections.abc import Callable, Sequence
from copy import copy

import diffusers
import torch
from diffusers import DiffusionPipeline, VQModel
from transformers import BatchFeature

from ..decoding.sampling import DecodingState, TextCondition, check_mask_token, decode_image_tokens
from ..decoding.scheduling_itit import ITITScheduler
from ..hub.push import PipelineHubMixin
from ..models.configuration_itit import ITITConfig
from ..models.image_loading_itit import list_images
from ..models.image_processing_itit import ITITImageProcessorPil
from ..models.image_tokenization_itit import PatchVQModel, decode_image_token_ids
from ..models.modeling_itit import ITITForPreTraining
from ..models.processing_itit import ITITProcessor, tokenize_text

# diffusers looks component classes up in `sys.modules` by the path in model_index.json: these imports must be eager.
from .call_state import CallState, CallStateMixin
from .cycle_generation import run_cycle
from .inpainting import (
    InpaintInputs,
    broadcast_batch_size,
    edit_strength,
    interpolate_prompt_embeds,
    is_token_ids,
    load_images,
    token_mask,
)
from .lora import LoraMixin, without_wrapper
from .pipeline_output import ITITCycleOutput, ITITPipelineOutput, ITITScoreOutput
from .pipeline_utils import (
    TENSOR_INPUTS,
    WholeComponentsMixin,
    callback_tensor_inputs,
    check_call,
    check_embeds,
    check_generators,
    check_return_best,
    check_texts,
    repeat_rows,
    repeat_text,
    run_callback,
)
from .safe_loading import SafeLoadingMixin
from .scoring import caption_log_likelihoods


class ITITPipeline(
    PipelineHubMixin, LoraMixin, SafeLoadingMixin, WholeComponentsMixin, CallStateMixin, DiffusionPipeline
):
    r"""Text to image, and image to text, with one [`ITITForPreTraining`].

    ```python
    >>> from itit_hf import ITITPipeline

    >>> pipe = ITITPipeline.from_pretrained("checkpoints/emoji-scenes-64")
    >>> image = pipe("a red bus").images[0]
    >>> pipe.caption(image)
    ['a red bus']
    >>> best = pipe("a red bus", num_images_per_prompt=16, return_best=4).images
    >>> repainted = pipe("a red bus", image=image, mask_image="mask.png").images[0]
    >>> texts = pipe.cycle("a red bus", rounds=4).texts[0]
    ```

    Args:
        model ([`ITITForPreTraining`]): The trained network.
        text_encoder (`T5EncoderModel`, *optional*):
            Frozen text encoder it was trained with. `from_pretrained(..., text_encoder=None)` does without: to
            describe images, and to draw from `prompt_embeds`. Likewise `model=None` and `image_tokenizer=None` are
            enough for [`~ITITPipeline.encode_prompt`].
        tokenizer (`T5Tokenizer`): Its tokenizer.
        image_tokenizer (`VQModel` or [`PatchVQModel`]): Frozen image tokenizer it was trained with.
        image_processor ([`ITITImageProcessorPil`]): Images to `pixel_values`.
        scheduler ([`ITITScheduler`]): Order and temperature of parallel decoding.
    """

    model_cpu_offload_seq = "text_encoder->model->image_tokenizer"
    _optional_components = ["model", "text_encoder", "image_tokenizer"]
    _callback_tensor_inputs = list(TENSOR_INPUTS)

    def __init__(
        self,
        model: ITITForPreTraining,
        text_encoder,
        tokenizer,
        image_tokenizer: VQModel | PatchVQModel,
        image_processor: ITITImageProcessorPil,
        scheduler: ITITScheduler,
    ):
        super().__init__()
        if model is not None and scheduler is not None:
            check_mask_token(model.config, scheduler)
        self.register_modules(
            model=without_wrapper(model),
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            image_tokenizer=image_tokenizer,
            image_processor=image_processor,
            scheduler=scheduler,
        )

    @property
    def processor(self) -> ITITProcessor:
        """The components that turn images and text into ids and back."""
        features = "codes" if self.model is None else self.model.config.image_features
        return ITITProcessor(self.image_processor, self.tokenizer, self.image_tokenizer, features)

    @property
    def max_text_length(self) -> int:
        """Tokens of a text at most: the model's; without it that of the model in the folder that was opened, or 64."""
        if self.model is not None:
            return self.model.config.max_text_length
        return self.config.get("_max_text_length") or ITITConfig.max_text_length

    def _require(self, *names: str):
        for name in names:
            if getattr(self, name) is None:
                raise ValueError(f"this pipeline was made without `{name}`, which this needs")

    @torch.no_grad()
    def encode_prompt(self, prompt: str | list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Text features of prompts; what is longer than `max_text_length` is cut, with a warning that quotes the rest.

        Needs the text encoder and its tokenizer only, see [`ITITPipeline`].

        Args:
            prompt (`str` or `list[str]`): What to draw. An empty prompt is the null text.

        Returns:
            `(prompt_embeds, attention_mask)` of shapes `(batch_size, text_length, text_hidden_size)` and
            `(batch_size, text_length)`.

        Raises:
            ValueError: If the pipeline was loaded without its text encoder.
        """
        check_texts("prompt", prompt)
        encoded = self._encode_text(self._tokenize(prompt))
        return encoded.embeds, encoded.attention_mask

    @torch.no_grad()
    def interpolate_prompts(
        self, first: str, second: str, weights: Sequence[float]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Text features on the way from one prompt to another, for `prompt_embeds` and `prompt_attention_mask`.

        Args:
            first (`str`): What is drawn at the weight 0.
            second (`str`): What is drawn at the weight 1.
            weights (`Sequence[float]`): Shares of the second one, in [0, 1]; n of them.

        Returns:
            `(prompt_embeds, attention_mask)` of shapes `(n, text_length, text_hidden_size)` and `(n, text_length)`,
            see [`~pipelines.inpainting.interpolate_prompt_embeds`].

        Raises:
            ValueError: If there is no weight, or one is out of range.
        """
        return interpolate_prompt_embeds(self.encode_prompt(first), self.encode_prompt(second), weights)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        image=None,
        mask_image=None,
        strength: float | None = None,
        negative_prompt: str | list[str] | None = None,
        num_inference_steps: int = 24,
        guidance_scale: float = 3.0,
        guidance_schedule: str = "constant",
        guidance_interval: Sequence[float] = (0.0, 1.0),
        temperature: float | list[float] | None = None,
        num_images_per_prompt: int = 1,
        return_best: int | None = None,
        rerank=None,
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
        r"""Draw; or edit `image`: inpainting and outpainting with a mask, variation without one.

        Args:
            prompt (`str` or `list[str]`, *optional*): What to draw; or give `prompt_embeds`.
            image (`PIL.Image.Image`, path, array or tensor, or a list of them, *optional*):
                What to start from, one for each prompt or one for all. A `torch.LongTensor` of shape
                `(batch_size, num_image_tokens)` is taken as tokens, as `output_type="latent"` gives them.
            mask_image (`PIL.Image.Image`, path, array or tensor, or a list of them, *optional*):
                White where the image is drawn anew, of the shape of `image`, one for each prompt or one for all. A
                token is drawn anew if any of its pixels is white; all others stay, bit for bit. To get the pixels
                back that the image tokenizer cannot keep, see [`ITITImageProcessorPil.apply_overlay`].
            strength (`float`, *optional*):
                How much of what may be drawn anew is, in (0, 1]: the share of the steps that are taken, as if the
                others had been. By default 1.0 with a mask, and 0.5 without.
            negative_prompt (`str` or `list[str]`, *optional*):
                What to move away from, in place of the empty text; one for all prompts or one for each.
            num_inference_steps (`int`, *optional*, defaults to 24): Decoding steps at strength 1.0.
            guidance_scale (`float`, *optional*, defaults to 3.0):
                `1 + tau` of the paper; at 1.0 and below there is no guidance, which takes half the time.
            guidance_schedule (`str`, *optional*, defaults to `"constant"`): Or `"linear"`, see
                [`~decoding.sampling.guidance_scales`].
            guidance_interval (`Sequence[float]` of length 2, *optional*, defaults to `(0.0, 1.0)`):
                From which share of the steps to which there is guidance; the other steps take half the time.
            temperature (`float` or `list[float]`, *optional*): Randomness of the order; the scheduler's by default.
            num_images_per_prompt (`int`, *optional*, defaults to 1): Images of one prompt stand together.
            return_best (`int`, *optional*):
                Return only so many of a prompt's images, the best first: those given which the same weights find
                the prompt most likely, see [`~ITITPipeline.score`].
            rerank ([`DualEncoderScorer`], *optional*):
                Who finds them best instead: anything with `score(images, texts)` of shape `(n,)`.
            generator (`torch.Generator` or a list with one per image, *optional*):
                With a list, an image depends on its own generator alone, whatever else is in the batch.
            prompt_embeds (`torch.FloatTensor` of shape `(batch_size, text_length, text_hidden_size)`, *optional*):
                In place of `prompt`, from [`~ITITPipeline.encode_prompt`].
            prompt_attention_mask (`torch.Tensor` of shape `(batch_size, text_length)`, *optional*): Their padding.
            negative_prompt_embeds (`torch.FloatTensor` of shape `(batch_size, text_length, text_hidden_size)`,
                *optional*): In place of `negative_prompt`.
            negative_prompt_attention_mask (`torch.Tensor` of shape `(batch_size, text_length)`, *optional*):
                Their padding.
            output_type (`str`, *optional*, defaults to `"pil"`): `"pil"`, `"np"`, `"pt"` or `"latent"` (token ids).
            return_dict (`bool`, *optional*, defaults to `True`): An [`ITITPipelineOutput`] instead of a tuple.
            callback_on_step_end (`Callable`, `PipelineCallback` or `MultiPipelineCallbacks`, *optional*):
                `(pipe, step, timestep, tensors) -> tensors`; what it returns replaces the tensors.
            callback_on_step_end_tensor_inputs (`list[str]`, *optional*):
                Which tensors it is given: `image_token_ids` (default), `filled_image_token_ids` (a preview, which it
                cannot replace), `prompt_embeds`, `negative_prompt_embeds`.

        Returns:
            [`ITITPipelineOutput`], or a tuple of the images and, with `return_best`, their scores.

        Raises:
            ValueError: If arguments contradict each other or are out of range; the message names them.
        """
        names = callback_tensor_inputs(callback_on_step_end, callback_on_step_end_tensor_inputs)
        check_call(num_images_per_prompt, guidance_scale, output_type)
        check_return_best(return_best, num_images_per_prompt, prompt, rerank)
        strength = edit_strength(strength, image, mask_image)
        self._require("model", "scheduler", *([] if output_type == "latent" else ["image_tokenizer"]))
        num_timesteps = self._num_steps(num_inference_steps, temperature, strength)
        words, condition = self._prompt("prompt", prompt, prompt_embeds, prompt_attention_mask)
        negative = (negative_prompt, negative_prompt_embeds, negative_prompt_attention_mask)
        num_samples, negative, edit = self._start(condition, negative, image, mask_image)
        repeats = (num_samples, num_images_per_prompt)
        check_generators(generator, num_samples * num_images_per_prompt)

        with (
            self._call(num_timesteps, float(guidance_scale)) as call,
            self.progress_bar(total=num_timesteps) as progress_bar,
        ):
            image_token_ids = decode_image_tokens(
                self.model,
                repeat_text(condition, *repeats),
                self.scheduler,
                num_inference_steps=num_inference_steps,
                guidance_scale=float(guidance_scale),
                guidance_schedule=guidance_schedule,
                guidance_interval=guidance_interval,
                temperature=temperature,
                negative_condition=repeat_text(negative, *repeats),
                generator=generator,
                image_token_ids=None if edit is None else repeat_rows(edit.image_token_ids, *repeats),
                bool_masked_pos=None if edit is None else repeat_rows(edit.bool_masked_pos, *repeats),
                strength=strength,
                on_step_end=self._step_end(call, progress_bar, callback_on_step_end, names),
            )
        scores = None
        if return_best is not None:
            image_token_ids, scores = self._best(image_token_ids, prompt, words, rerank, repeats, return_best)
        output = ITITPipelineOutput(images=self._to_images(image_token_ids, output_type), scores=scores)
        self.maybe_free_model_hooks()
        return output if return_dict else output.to_tuple()

    @torch.no_grad()
    def caption(
        self, images, prompt: str | list[str] | None = None, num_beams: int = 4, max_new_tokens: int | None = None
    ) -> list[str]:
        """Describe images by beam search (appendix B).

        Args:
            images (`PIL.Image.Image`, path, array or tensor, or a list of them): What to describe.
            prompt (`str` or `list[str]`, *optional*):
                How the captions begin, such as `"a picture of"`; one for all images or one for each.
            num_beams (`int`, *optional*, defaults to 4): 1 is greedy.
            max_new_tokens (`int`, *optional*): Length limit; the model's `max_text_length` by default.

        Returns:
            `list[str]`: One caption per image, its beginning included.

        Raises:
            ValueError: If an image cannot be read, or there are as many prompts as neither images nor one.
        """
        if prompt is not None:
            check_texts("prompt", prompt)
            num_images, num_prompts = len(list_images(images)), 1 if isinstance(prompt, str) else len(prompt)
            if num_prompts not in (1, num_images):
                raise ValueError(
                    f"`prompt` has {num_prompts} entries for {num_images} images; give one, or one for each"
                )
        captions = self._describe(self._read(images, prompt), num_beams, max_new_tokens)
        self.maybe_free_model_hooks()
        return captions

    @torch.no_grad()
    def score(self, images, prompts: str | list[str]) -> ITITScoreOutput:
        """How likely the captioner finds prompts, given images: a measure of how well they belong together.

        Args:
            images (`PIL.Image.Image`, path, array or tensor, or a list of them): What is seen, nothing of it hidden.
            prompts (`str` or `list[str]`):
                What may be said of it: one for each image, one for all images, or several for one image. Cut
                like what [`~ITITPipeline.encode_prompt`] is given.

        Returns:
            [`ITITScoreOutput`] with `log_likelihoods` and `log_likelihoods_per_token`, both of shape `(n,)`, in nats;
            the end of a prompt counts as a token.

        Raises:
            ValueError: If the numbers of images and prompts do not go together.
        """
        check_texts("prompts", prompts)
        image = self._read(images)
        num_images, num_prompts = len(image["image_token_ids"]), 1 if isinstance(prompts, str) else len(prompts)
        if num_images != num_prompts and 1 not in (num_images, num_prompts):
            raise ValueError(
                f"`prompts` has {num_prompts} entries for {num_images} images; give one, as many, or one image"
            )
        scores = self._score(image, self._tokenize(prompts))
        self.maybe_free_model_hooks()
        return scores

    @torch.no_grad()
    def cycle(
        self,
        prompt: str | list[str] | None = None,
        image=None,
        rounds: int = 4,
        num_inference_steps: int = 24,
        guidance_scale: float = 3.0,
        guidance_schedule: str = "constant",
        guidance_interval: Sequence[float] = (0.0, 1.0),
        temperature: float | list[float] | None = None,
        num_beams: int = 4,
        max_new_tokens: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "pil",
    ) -> ITITCycleOutput:
        """Draw a prompt, describe the image, draw the description ... (Figures 6 and 10); or start from an image.

        The captioner is given the drawn tokens themselves, as in training, not an image decoded from them.

        Args:
            prompt (`str` or `list[str]`, *optional*): Where to start; or give `image`.
            image (`PIL.Image.Image`, path, array or tensor, or a list of them, *optional*): Where to start.
            rounds (`int`, *optional*, defaults to 4): Images drawn, and captions said, for each start.
            num_inference_steps (`int`, *optional*, defaults to 24): Decoding steps of each image.
            guidance_scale (`float`, *optional*, defaults to 3.0): `1 + tau`; no guidance at 1.0 and below.
            guidance_schedule (`str`, *optional*, defaults to `"constant"`): As in a call, and so is the next.
            guidance_interval (`Sequence[float]` of length 2, *optional*, defaults to `(0.0, 1.0)`): As there.
            temperature (`float` or `list[float]`, *optional*): Randomness of the order; the scheduler's by default.
            num_beams (`int`, *optional*, defaults to 4): Of each caption; 1 is greedy.
            max_new_tokens (`int`, *optional*): Length limit of captions; the model's `max_text_length` by default.
            generator (`torch.Generator` or a list with one per start, *optional*):
                Each round draws on from it. With a list, a chain depends on its own generator alone.
            output_type (`str`, *optional*, defaults to `"pil"`): `"pil"`, `"np"`, `"pt"` or `"latent"` (token ids).

        Returns:
            [`ITITCycleOutput`]: every text and image, and with [`~ITITCycleOutput.drift`] how far they went.

        Raises:
            ValueError: If not exactly one of `prompt` and `image` is given, or an argument is out of range.
        """
        if not isinstance(rounds, int) or rounds < 1:
            raise ValueError(f"`rounds` must be an integer of at least 1, got {rounds!r}")
        check_call(1, guidance_scale, output_type)
        self._require("model", "scheduler", *([] if output_type == "latent" else ["image_tokenizer"]))
        total = rounds * self._num_steps(num_inference_steps, temperature)
        texts, image_token_ids = self._cycle_start(prompt, image)
        check_generators(generator, len(image_token_ids if texts is None else texts))
        tokenized = []

        with self._call(total, float(guidance_scale)) as call, self.progress_bar(total=total) as progress_bar:

            def draw(said: list[str]) -> torch.Tensor:
                tokenized.append(self._tokenize(said))
                return decode_image_tokens(
                    self.model,
                    self._encode_text(tokenized[-1]),
                    self.scheduler,
                    num_inference_steps=num_inference_steps,
                    guidance_scale=float(guidance_scale),
                    guidance_schedule=guidance_schedule,
                    guidance_interval=guidance_interval,
                    temperature=temperature,
                    generator=generator,
                    on_step_end=self._step_end(call, progress_bar),
                )

            def describe(drawn: torch.Tensor) -> list[str]:
                return self._describe(self.model.inputs_from_ids(drawn), num_beams, max_new_tokens)

            texts, image_token_ids = run_cycle(draw, describe, rounds, texts, image_token_ids)
        num_images = image_token_ids.size(1)
        flat = image_token_ids.flatten(0, 1)  # (B * R, K)
        drawn = self.model.inputs_from_ids(flat)
        scores = self._score(drawn, tokenized[0]).log_likelihoods_per_token  # what is drawn first is each first text
        images = self._to_images(flat, output_type)
        self.maybe_free_model_hooks()
        if isinstance(images, list):
            images = [images[start : start + num_images] for start in range(0, len(images), num_images)]
        else:
            images = images.reshape(-1, num_images, *images.shape[1:])
        return ITITCycleOutput(texts, images, image_token_ids, scores.view(-1, num_images))

    def _num_steps(self, num_inference_steps: int, temperature, strength: float = 1.0) -> int:
        """Refuse what the scheduler refuses before any work is done, and tell how many steps there will be."""
        check_mask_token(self.model.config, self.scheduler)
        scheduler = copy(self.scheduler)
        scheduler.set_timesteps(num_inference_steps, temperature, strength)
        return len(scheduler.timesteps)

    def _step_end(self, call: CallState, progress_bar, callback: Callable | None = None, names: Sequence[str] = ()):
        """What is done after each step of a drawing."""

        def on_step_end(state: DecodingState) -> DecodingState:
            progress_bar.update()
            if callback is not None:
                state = run_callback(self, state, callback, names)
            state.interrupt, state.guidance_scale = call.interrupt, call.guidance_scale
            return state

        return on_step_end

    def _start(self, condition, negative, image, mask_image) -> tuple[int, TextCondition | None, InpaintInputs | None]:
        """How many samples there are, what they move away from, and what they are edited from: a row each, or one."""
        if condition is None:
            raise ValueError("give exactly one of `prompt` and `prompt_embeds`; both are None")
        num_samples, edit = self._edit_start(image, mask_image, len(condition.embeds))
        _, negative = self._prompt("negative_prompt", *negative)
        if negative is not None and len(negative.embeds) not in (1, num_samples):
            raise ValueError(
                f"`negative_prompt` has {len(negative.embeds)} entries for {num_samples} prompts; give one or as many"
            )
        return num_samples, negative, edit

    def _cycle_start(self, prompt, image) -> tuple[list[str] | None, torch.Tensor | None]:
        """Texts or image token ids, whichever a cycle is to start from."""
        if (prompt is None) == (image is None):
            given = "both are None" if image is None else "both are given"
            raise ValueError(f"give exactly one of `prompt` and `image`; {given}")
        if prompt is None:
            return None, self._read(image)["image_token_ids"]
        check_texts("prompt", prompt)
        return [prompt] if isinstance(prompt, str) else list(prompt), None

    def _edit_start(self, image, mask_image, num_prompts: int) -> tuple[int, InpaintInputs | None]:
        """How many samples there are, and what they start from, a row for each or one for all."""
        if image is None:
            return num_prompts, None
        config, lengths = self.model.config, {"prompt": num_prompts}
        if is_token_ids(image, config.num_image_tokens):
            ids, side = image.to(self._execution_device), math.isqrt(config.num_image_tokens)
            sizes = [(side, side)]
        else:
            images = load_images(self.image_processor, image)
            ids = self._read(images)["image_token_ids"]
            sizes = [each.size for each in images]
        lengths["image"] = len(ids)
        mask = torch.ones(1, config.num_image_tokens, dtype=torch.bool)
        if mask_image is not None:
            mask = token_mask(self.image_processor, mask_image, sizes, config.num_image_tokens)
            lengths["mask_image"] = len(mask)
        return broadcast_batch_size(lengths), InpaintInputs(ids, mask.to(ids.device))

    def _tokenize(self, texts: str | list[str]):
        """Ids and padding mask of texts on the device, cut with a warning."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        rows = tokenize_text(self.tokenizer, texts, self.max_text_length)
        return BatchFeature(dict(rows), tensor_type="pt").to(self._execution_device)

    def _encode_text(self, text) -> TextCondition:
        if self.text_encoder is None:
            raise ValueError("this pipeline has no `text_encoder` to read `prompt` with; give `prompt_embeds`")
        embeds = self.text_encoder(input_ids=text["input_ids"], attention_mask=text["attention_mask"])
        return TextCondition(embeds.last_hidden_state, text["attention_mask"])

    def _prompt(self, name: str, text, embeds, attention_mask) -> tuple[dict | None, TextCondition | None]:
        """Token ids of words, and features of these or given ones; `None` where there is nothing."""
        if text is not None and embeds is not None:
            raise ValueError(f"give `{name}` or `{name}_embeds`, not both")
        if text is not None:
            check_texts(name, text)
            words = self._tokenize(text)
            return words, self._encode_text(words)
        if embeds is None:
            return None, None
        check_embeds(f"{name}_embeds", embeds, self.model.config.text_hidden_size)
        device = self._execution_device
        mask = None if attention_mask is None else attention_mask.to(device)
        return None, TextCondition(embeds.to(device), mask)

    def _onload(self, module):
        """Bring a component to the device that an offloading hook of its `forward` would bring it to."""
        hook = getattr(module, "_hf_hook", None)
        if hook is not None:
            hook.pre_forward(module)

    def _read(self, images, beginnings=None) -> dict[str, torch.Tensor]:
        """Token ids of images, and of beginnings of their captions, on the device."""
        self._require("model", "image_tokenizer")
        self._onload(self.image_tokenizer)
        max_length = self.max_text_length
        inputs = self.processor(images=images, text=beginnings, max_length=max_length, return_tensors="pt")
        inputs.pop("pixel_values", None)
        return {name: rows.to(self._execution_device) for name, rows in inputs.items()}

    def _describe(self, inputs: dict[str, torch.Tensor], num_beams: int, max_new_tokens: int | None) -> list[str]:
        self._check_vocabulary()
        self._onload(self.model)
        ids = self.model.generate(
            **inputs,
            num_beams=num_beams,
            max_new_tokens=max_new_tokens or self.max_text_length,
            do_sample=False,
        )
        return self.processor.batch_decode(ids)

    def _check_vocabulary(self):
        """That the model has a row of its own for each token: ids beyond are those of its start and placeholder."""
        num_tokens, num_known = len(self.tokenizer), self.model.config.num_text_tokens
        if num_tokens > num_known:
            raise ValueError(
                f"`tokenizer` has {num_tokens} tokens, and the model says {num_known}: after adding tokens call "
                "`pipe.model.resize_token_embeddings(len(pipe.tokenizer))`"
            )

    def _score(self, image: dict[str, torch.Tensor], text) -> ITITScoreOutput:
        """Images of one prompt stand together, as many of each; or there is one image."""
        self._check_vocabulary()
        times = max(1, len(image["image_token_ids"]) // len(text["input_ids"]))
        text = {name: rows.repeat_interleave(times, dim=0) for name, rows in text.items()}
        image = {name: rows.to(self._execution_device) for name, rows in image.items()}
        return caption_log_likelihoods(self.model, text=text, **image)

    def _judge(self, image_token_ids: torch.Tensor, prompt: str | list[str], words: dict, rerank) -> torch.Tensor:
        """Scores of drawn images, those of one prompt standing together: another judge's, if there is one."""
        if rerank is None:
            return self._score(self.model.inputs_from_ids(image_token_ids), words).log_likelihoods_per_token
        prompts, images = [prompt] if isinstance(prompt, str) else prompt, self._to_images(image_token_ids, "pil")
        times = len(images) // len(prompts)
        scores = rerank.score(images, [text for text in prompts for _ in range(times)])
        return scores.to(image_token_ids.device)

    def _best(self, image_token_ids, prompt, words, rerank, repeats: tuple[int, int], return_best: int):
        """The ids of each prompt's best images, best first, and their scores."""
        scores = self._judge(image_token_ids, prompt, words, rerank).view(repeats)  # (num_samples, num_images_each)
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        ids = image_token_ids.view(*order.shape, -1)
        best = order[:, :return_best, None].expand(-1, -1, ids.size(-1))
        return ids.gather(1, best).flatten(0, 1), scores[:, :return_best].flatten()

    def _to_images(self, image_token_ids: torch.Tensor, output_type: str):
        if output_type == "latent":
            return image_token_ids
        self._onload(self.image_tokenizer)
        pixel_values = decode_image_token_ids(self.image_tokenizer, image_token_ids)  # (B, 3, H, W)
        return self.image_processor.postprocess(pixel_values, output_type=output_type)


# `DiffusionPipeline.from_pretrained` looks the class that a folder names up in diffusers itself.
setattr(diffusers, ITITPipeline.__name__, ITITPipeline)
