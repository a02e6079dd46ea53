# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Images from text, and captions of images, with one set of weights."""

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline, VQModel
from transformers import BatchFeature

from ..decoding.sampling import (
    DecodingState,
    InpaintInputs,
    SamplingSettings,
    check_mask_token,
    decode_image_tokens,
)
from ..decoding.scheduling_itit import ITITScheduler
from ..hub.push import PipelineHubMixin
from ..models.configuration_itit import ITITConfig
from ..models.image_loading_itit import list_images
from ..models.image_processing_itit import ITITImageProcessorPil
from ..models.image_tokenization_itit import PatchVQModel, decode_image_token_ids
from ..models.modeling_itit import ITITForPreTraining
from ..models.processing_itit import ITITProcessor, tokenize_text
from ..models.types_itit import TextCondition

# diffusers looks component classes up in `sys.modules` by the path in model_index.json: these imports must be eager.
from .call_defaults import CallDefaultsMixin, CaptionSettings, with_given
from .call_state import CallState, CallStateMixin
from .cycle_generation import run_cycle
from .inpainting import (
    edit_strength,
    image_sizes,
    interpolate_prompt_embeds,
    is_token_ids,
    load_images,
    token_mask,
)
from .known_words import KnownWordsMixin
from .lora import LoraMixin, without_wrapper
from .pipeline_output import ITITCycleOutput, ITITPipelineOutput, ITITScoreOutput
from .pipeline_utils import (
    TENSOR_INPUTS,
    RankingSettings,
    WholeComponentsMixin,
    broadcast_batch_size,
    callback_tensor_inputs,
    check_embeds,
    check_generators,
    check_output_type,
    check_texts,
    repeat_start,
    repeat_text,
    run_callback,
)
from .safe_loading import SafeLoadingMixin
from .scoring import caption_log_likelihoods


class ITITPipeline(
    PipelineHubMixin,
    LoraMixin,
    SafeLoadingMixin,
    WholeComponentsMixin,
    CallDefaultsMixin,
    CallStateMixin,
    KnownWordsMixin,
    DiffusionPipeline,
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
        text_encoder (`PreTrainedModel`, *optional*):
            Frozen text encoder it was trained with. `from_pretrained(..., text_encoder=None)` does without: to
            caption images, and to generate from `prompt_embeds`. Likewise `model=None` and `image_tokenizer=None` are
            enough for [`~ITITPipeline.encode_prompt`].
        tokenizer (`T5Tokenizer`): Its tokenizer.
        image_tokenizer (`VQModel` or [`PatchVQModel`]): Frozen image tokenizer it was trained with.
        image_processor ([`ITITImageProcessorPil`]): Images to `pixel_values`.
        scheduler ([`ITITScheduler`]): Order and temperature of parallel decoding.
        sampling ([`SamplingSettings`] or `dict`, *optional*):
            Steps and guidance that suit the checkpoint, saved with it, and used where a call names none; those of the
            library by default.

    Raises:
        ValueError: If the scheduler is of another model, or `sampling` has what is no setting or cannot be.
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
        sampling: SamplingSettings | dict | None = None,
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
        if sampling is not None:
            self.sampling = sampling

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
            prompt (`str` or `list[str]`): What to generate. An empty prompt is the null text.

        Returns:
            `(prompt_embeds, attention_mask)` of shapes `(batch_size, text_length, text_hidden_size)` and
            `(batch_size, text_length)`.

        Raises:
            ValueError: If the pipeline was loaded without its text encoder.
        """
        check_texts("prompt", prompt)
        self._warn_of_unknown_words("prompt", prompt)
        encoded = self._encode_text(self._tokenize(prompt))
        return encoded.embeds, encoded.attention_mask

    @torch.no_grad()
    def interpolate_prompts(
        self, first: str, second: str, weights: Sequence[float]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Text features on the way from one prompt to another, for `prompt_embeds` and `prompt_attention_mask`.

        Args:
            first (`str`): What is generated at the weight 0.
            second (`str`): What is generated at the weight 1.
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
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_schedule: str | None = None,
        guidance_interval: Sequence[float] | None = None,
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
        r"""Generate images; or edit `image`: inpainting and outpainting with a mask, variation without one.

        Steps, guidance and temperature are by default those that the checkpoint was saved with, `pipe.sampling`, or
        else the library's. `pipe(prompt, **CALL_PRESETS["paper"])` of [`~decoding.sampling`] has the paper's.

        Args:
            prompt (`str` or `list[str]`, *optional*): What to generate; or give `prompt_embeds`. Words that the
                checkpoint's training texts had not are named in a warning, see [`~ITITPipeline.unknown_words`].
            image (`PIL.Image.Image`, path, array or tensor, or a list of them, *optional*):
                What to start from, one for each prompt or one for all. A `torch.LongTensor` of shape
                `(batch_size, num_image_tokens)` is taken as tokens, as `output_type="latent"` gives them.
            mask_image (`PIL.Image.Image`, path, array or tensor, or a list of them, *optional*):
                White where the image is generated anew, of the shape of `image`, one for each prompt or one for all. A
                token is generated anew if any of its pixels is white; all others stay, bit for bit. To get the
                pixels back that the image tokenizer cannot keep, see [`ITITImageProcessorPil.apply_overlay`].
            strength (`float`, *optional*):
                How much of what may be generated anew is, in (0, 1]: the share of the steps that are taken, as if the
                others had been. By default 1.0 with a mask, and 0.5 without.
            negative_prompt (`str` or `list[str]`, *optional*):
                What to move away from, in place of the empty text; one for all prompts or one for each.
            num_inference_steps (`int`, *optional*): Decoding steps at strength 1.0; the library's default is 24.
            guidance_scale (`float`, *optional*):
                `1 + tau` of the paper; at 1.0 and below there is no guidance, which takes half the time. The library's
                default is 3.0.
            guidance_schedule (`str`, *optional*): `"constant"`, the library's default, or `"linear"`, see
                [`~decoding.sampling.guidance_scales`].
            guidance_interval (`Sequence[float]` of length 2, *optional*):
                From which share of the steps to which there is guidance; the other steps take half the time. The
                library's default is `(0.0, 1.0)`.
            temperature (`float` or `list[float]`, *optional*):
                Randomness of the order; the library's default is the scheduler's.
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
        # 1. Check what can be checked before any work is done.
        tensor_inputs = callback_tensor_inputs(callback_on_step_end, callback_on_step_end_tensor_inputs)
        named: dict[str, Any] = {"num_inference_steps": num_inference_steps, "temperature": temperature}
        named |= {"guidance_scale": guidance_scale, "guidance_schedule": guidance_schedule}
        sampling = with_given(self.sampling, named | {"guidance_interval": guidance_interval})
        ranking = RankingSettings(num_images_per_prompt, return_best, rerank)
        strength = edit_strength(strength, image, mask_image)
        self.check_inputs(prompt, ranking, output_type)
        num_timesteps = self.prepare_timesteps(sampling, strength)

        # 2. Encode the prompts.
        tokens, condition = self._encode("prompt", prompt, prompt_embeds, prompt_attention_mask)
        if condition is None:
            raise ValueError("give exactly one of `prompt` and `prompt_embeds`; both are None")
        _, negative = self._encode(
            "negative_prompt", negative_prompt, negative_prompt_embeds, negative_prompt_attention_mask
        )

        # 3. Prepare the rows of the batch: neighbours are images of one prompt.
        start, num_samples = self.prepare_edit(image, mask_image, strength, len(condition.embeds))
        if negative is not None and len(negative.embeds) not in (1, num_samples):
            raise ValueError(
                f"`negative_prompt` has {len(negative.embeds)} entries for {num_samples} prompts; give one or as many"
            )
        check_generators(generator, num_samples * num_images_per_prompt)
        condition = repeat_text(condition, num_samples, num_images_per_prompt)
        negative = repeat_text(negative, num_samples, num_images_per_prompt)
        start = repeat_start(start, num_samples, num_images_per_prompt)

        # 4. Generate the image tokens.
        with self._call(num_timesteps, sampling.guidance_scale) as call, self.progress_bar(total=num_timesteps) as bar:
            image_token_ids = decode_image_tokens(
                self.model,
                condition,
                self.scheduler,
                sampling,
                negative_condition=negative,
                start=start,
                generator=generator,
                on_step_end=self._on_step_end(call, bar, callback_on_step_end, tensor_inputs),
            )

        # 5. Choose the best, and turn tokens into images.
        scores = None
        if return_best is not None:
            image_token_ids, scores = self._best(image_token_ids, prompt, tokens, ranking)
        images = self.postprocess(image_token_ids, output_type)
        self.maybe_free_model_hooks()
        output = ITITPipelineOutput(images=images, scores=scores)
        return output if return_dict else output.to_tuple()

    @torch.no_grad()
    def caption(
        self,
        images,
        prompt: str | list[str] | None = None,
        num_beams: int | None = None,
        max_new_tokens: int | None = None,
    ) -> list[str]:
        """Caption images by beam search (appendix B), with what else the model's generation config says.

        Args:
            images (`PIL.Image.Image`, path, array or tensor, or a list of them): What to caption.
            prompt (`str` or `list[str]`, *optional*):
                How the captions begin, such as `"a picture of"`; one for all images or one for each.
            num_beams (`int`, *optional*): 1 is greedy; what the checkpoint was saved with by default, or else 4.
            max_new_tokens (`int`, *optional*): Length limit; what the checkpoint was saved with by default, or else
                the model's `max_text_length`.

        Returns:
            `list[str]`: One caption per image, its beginning included.

        Raises:
            ValueError: If an image cannot be read, the number of prompts is neither 1 nor the number of images, or a
                number is out of range.
        """
        self._require("model", "image_tokenizer")
        settings = with_given(self.captioning, {"num_beams": num_beams, "max_new_tokens": max_new_tokens})
        if prompt is not None:
            check_texts("prompt", prompt)
            num_images = len(list_images(images))
            num_prompts = 1 if isinstance(prompt, str) else len(prompt)
            if num_prompts not in (1, num_images):
                raise ValueError(
                    f"`prompt` has {num_prompts} entries for {num_images} images; give one, or one for each"
                )
        captions = self._generate_captions(self.preprocess(images, prompt), settings)
        self.maybe_free_model_hooks()
        return captions

    @torch.no_grad()
    def score(self, images, prompts: str | list[str]) -> ITITScoreOutput:
        """How likely the captioner finds prompts, given images: a measure of how well they belong together.

        Args:
            images (`PIL.Image.Image`, path, array or tensor, or a list of them): What is seen, nothing of it masked.
            prompts (`str` or `list[str]`):
                Possible captions: one for each image, one for all images, or several for one image. Cut
                like what [`~ITITPipeline.encode_prompt`] is given.

        Returns:
            [`ITITScoreOutput`] with `log_likelihoods` and `log_likelihoods_per_token`, both of shape `(n,)`, in nats;
            the end of a prompt counts as a token.

        Raises:
            ValueError: If the numbers of images and prompts do not go together.
        """
        check_texts("prompts", prompts)
        image = self.preprocess(images)
        num_images = len(image["image_token_ids"])
        num_prompts = 1 if isinstance(prompts, str) else len(prompts)
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
        sampling: SamplingSettings | None = None,
        num_beams: int | None = None,
        max_new_tokens: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "pil",
    ) -> ITITCycleOutput:
        """Text to image to text ... (Figures 6 and 10), or image to text to image ...

        The captioner is given the generated tokens themselves, as in training, not an image decoded from them.

        Args:
            prompt (`str` or `list[str]`, *optional*): Where to start; or give `image`.
            image (`PIL.Image.Image`, path, array or tensor, or a list of them, *optional*): Where to start.
            rounds (`int`, *optional*, defaults to 4): Images, and captions, that are generated for each start.
            sampling ([`SamplingSettings`], *optional*): Steps, guidance and temperature; by default those that the
                checkpoint was saved with, `pipe.sampling`.
            num_beams (`int`, *optional*): Of each caption, as in [`~ITITPipeline.caption`].
            max_new_tokens (`int`, *optional*): Length limit of captions, likewise.
            generator (`torch.Generator` or a list with one per start, *optional*):
                Serves all rounds, one after the other. With a list, a chain depends on its own generator alone.
            output_type (`str`, *optional*, defaults to `"pil"`): `"pil"`, `"np"`, `"pt"` or `"latent"` (token ids).

        Returns:
            [`ITITCycleOutput`]: every text and image, and with [`~ITITCycleOutput.drift`] how far they went.

        Raises:
            ValueError: If not exactly one of `prompt` and `image` is given, or an argument is out of range.
        """
        if not isinstance(rounds, int) or rounds < 1:
            raise ValueError(f"`rounds` must be an integer of at least 1, got {rounds!r}")
        sampling = sampling or self.sampling
        self.check_inputs(prompt, RankingSettings(), output_type)
        captioning = with_given(self.captioning, {"num_beams": num_beams, "max_new_tokens": max_new_tokens})
        num_timesteps = rounds * self.prepare_timesteps(sampling)
        texts, image_token_ids = self._cycle_start(prompt, image)
        check_generators(generator, len(image_token_ids if texts is None else texts))
        prompt_tokens = []  # of each round

        with self._call(num_timesteps, sampling.guidance_scale) as call, self.progress_bar(total=num_timesteps) as bar:

            def generate(texts: list[str]) -> torch.Tensor:
                prompt_tokens.append(self._tokenize(texts))
                return decode_image_tokens(
                    self.model,
                    self._encode_text(prompt_tokens[-1]),
                    self.scheduler,
                    sampling,
                    generator=generator,
                    on_step_end=self._on_step_end(call, bar),
                )

            def caption(ids: torch.Tensor) -> list[str]:
                return self._generate_captions(self.model.inputs_from_ids(ids), captioning)

            texts, image_token_ids = run_cycle(generate, caption, rounds, texts, image_token_ids)
        num_images = image_token_ids.size(1)
        flat = image_token_ids.flatten(0, 1)  # (B * R, K)
        # All images of a chain are held against the text of the first one.
        scores = self._score(self.model.inputs_from_ids(flat), prompt_tokens[0]).log_likelihoods_per_token
        images = self.postprocess(flat, output_type)
        self.maybe_free_model_hooks()
        if isinstance(images, list):
            images = [images[start : start + num_images] for start in range(0, len(images), num_images)]
        else:
            images = images.reshape(-1, num_images, *images.shape[1:])
        return ITITCycleOutput(texts, images, image_token_ids, scores.view(-1, num_images))

    def check_inputs(self, prompt, ranking: RankingSettings, output_type: str) -> None:
        """Refuse what contradicts itself or needs a component that is missing.

        Args:
            prompt (`str` or `list[str]`, *optional*): As in a call.
            ranking ([`RankingSettings`]): Ranks images by the words of `prompt`.
            output_type (`str`): As in a call.

        Raises:
            ValueError: It names the argument or the component.
        """
        check_output_type(output_type)
        if ranking.return_best is not None and prompt is None:
            raise ValueError("`return_best` ranks images by the words of `prompt`; `prompt_embeds` have none")
        self._require("model", "scheduler")
        if output_type != "latent":
            self._require("image_tokenizer")

    def prepare_timesteps(self, sampling: SamplingSettings, strength: float = 1.0) -> int:
        """Refuse what the scheduler refuses before any work is done.

        Args:
            sampling ([`SamplingSettings`]): Steps and temperature.
            strength (`float`, *optional*, defaults to 1.0): Share of the steps that are taken.

        Returns:
            `int`: How many steps there will be.

        Raises:
            ValueError: If the scheduler is of another model, or a setting is out of range.
        """
        check_mask_token(self.model.config, self.scheduler)
        scheduler = copy(self.scheduler)
        scheduler.set_timesteps(sampling.num_inference_steps, sampling.temperature, strength)
        return len(scheduler.timesteps)

    def prepare_edit(self, image, mask_image, strength: float, num_prompts: int) -> tuple[InpaintInputs | None, int]:
        """What an edit starts from.

        Args:
            image: As in a call.
            mask_image: As in a call.
            strength (`float`): In (0, 1].
            num_prompts (`int`): One for all images, or one for each.

        Returns:
            `(start, num_samples)`: the start, of 1 or `num_samples` rows, or `None` without an image; and how many
            samples there are.

        Raises:
            ValueError: If prompts, images and masks do not go together, or one cannot be read.
        """
        if image is None:
            return None, num_prompts
        config = self.model.config
        num_tokens = config.num_image_tokens
        if is_token_ids(image, num_tokens):
            ids = image.to(self._execution_device)
        else:
            image = load_images(self.image_processor, image)
            ids = self.preprocess(image)["image_token_ids"]
        lengths = {"prompt": num_prompts, "image": len(ids)}
        if mask_image is None:
            mask = torch.ones(1, num_tokens, dtype=torch.bool)
        else:
            sizes = image_sizes(image, config.image_grid)
            mask = token_mask(self.image_processor, mask_image, sizes, config.image_grid)
            lengths["mask_image"] = len(mask)
        return InpaintInputs(ids, mask.to(ids.device), strength), broadcast_batch_size(lengths)

    def preprocess(self, images, beginnings=None) -> dict[str, torch.Tensor]:
        """Images, and beginnings of their captions, as inputs of the model.

        Args:
            images: As in a call.
            beginnings (`str` or `list[str]`, *optional*): How the captions begin.

        Returns:
            `dict[str, torch.Tensor]`: `image_token_ids` of shape `(batch_size, num_image_tokens)` and what else the
            model takes, on its device.
        """
        self._require("model", "image_tokenizer")
        self.processor.check_image_grid(self.model.config)
        self._onload(self.image_tokenizer)
        max_length = self.max_text_length
        inputs = self.processor(images=images, text=beginnings, max_length=max_length, return_tensors="pt")
        inputs.pop("pixel_values", None)
        return {name: rows.to(self._execution_device) for name, rows in inputs.items()}

    def postprocess(self, image_token_ids: torch.Tensor, output_type: str):
        """Token ids of shape `(batch_size, num_image_tokens)` as images of `output_type`."""
        if output_type == "latent":
            return image_token_ids
        self._onload(self.image_tokenizer)
        grid = self.model.config.image_grid
        pixel_values = decode_image_token_ids(self.image_tokenizer, image_token_ids, grid)  # (B, 3, H, W)
        return self.image_processor.postprocess(pixel_values, output_type=output_type)

    def _on_step_end(
        self, call: CallState, progress_bar, callback: Callable | None = None, tensor_inputs: Sequence[str] = ()
    ) -> Callable[[DecodingState], DecodingState]:
        """What is done after each step of generating image tokens."""

        def on_step_end(state: DecodingState) -> DecodingState:
            progress_bar.update()
            if callback is not None:
                state = run_callback(self, state, callback, tensor_inputs)
            state.interrupt = call.interrupt
            state.guidance_scale = call.guidance_scale
            return state

        return on_step_end

    def _cycle_start(self, prompt, image) -> tuple[list[str] | None, torch.Tensor | None]:
        """Texts or image token ids, whichever a cycle is to start from."""
        if (prompt is None) == (image is None):
            given = "both are None" if image is None else "both are given"
            raise ValueError(f"give exactly one of `prompt` and `image`; {given}")
        if prompt is None:
            return None, self.preprocess(image)["image_token_ids"]
        check_texts("prompt", prompt)
        self._warn_of_unknown_words("prompt", prompt)
        return [prompt] if isinstance(prompt, str) else list(prompt), None

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

    def _encode(self, name: str, text, embeds, attention_mask) -> tuple[dict | None, TextCondition | None]:
        """Token ids of texts, and their features or those that are given; `None` where there is nothing."""
        if text is not None and embeds is not None:
            raise ValueError(f"give `{name}` or `{name}_embeds`, not both")
        if text is not None:
            check_texts(name, text)
            self._warn_of_unknown_words(name, text)
            tokens = self._tokenize(text)
            return tokens, self._encode_text(tokens)
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

    def _generate_captions(self, inputs: dict[str, torch.Tensor], settings: CaptionSettings) -> list[str]:
        self._check_vocabulary()
        self._onload(self.model)
        ids = self.model.generate(
            **inputs,
            num_beams=settings.num_beams,
            max_new_tokens=settings.max_new_tokens,
            do_sample=False,
        )
        return self.processor.batch_decode(ids)

    def _check_vocabulary(self):
        """That the model has a row of its own for each token: ids beyond are those of its start and placeholder."""
        num_tokens = len(self.tokenizer)
        num_known = self.model.config.num_text_tokens
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

    def _best(self, image_token_ids: torch.Tensor, prompt, tokens: dict, ranking: RankingSettings):
        """The ids of each prompt's best images, best first, and their scores."""
        scores = self._ranking_scores(image_token_ids, prompt, tokens, ranking.rerank)
        scores, order = scores.view(-1, ranking.num_images_per_prompt).sort(dim=1, descending=True, stable=True)
        ids = image_token_ids.view(*order.shape, -1)  # (num_prompts, num_images_per_prompt, K)
        best = order[:, : ranking.return_best, None].expand(-1, -1, ids.size(-1))
        return ids.gather(1, best).flatten(0, 1), scores[:, : ranking.return_best].flatten()

    def _ranking_scores(self, image_token_ids: torch.Tensor, prompt, tokens: dict, rerank) -> torch.Tensor:
        """How well images go with their prompts, those of one prompt standing together: the model's own likelihoods,
        or the scores of `rerank`."""
        if rerank is None:
            return self._score(self.model.inputs_from_ids(image_token_ids), tokens).log_likelihoods_per_token
        prompts = [prompt] if isinstance(prompt, str) else prompt
        images = self.postprocess(image_token_ids, "pil")
        times = len(images) // len(prompts)
        scores = rerank.score(images, [text for text in prompts for _ in range(times)])
        return scores.to(image_token_ids.device)


# `DiffusionPipeline.from_pretrained` looks the class that a folder names up in diffusers itself.
setattr(diffusers, ITITPipeline.__name__, ITITPipeline)
