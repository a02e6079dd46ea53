# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What a call of [`ITITPipeline`] does where it names nothing: the settings that travel with a checkpoint.

Those of images lie in `model_index.json`, by the names of [`SamplingSettings`]; how tokens are ordered is the
scheduler's. Those of captions lie in the generation config of the model, as for any model of transformers.
"""

from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ..decoding.sampling import SamplingSettings

SAMPLING = "sampling"  # its name in `model_index.json`
MAX_SAVED_STEPS = 1000  # a file of somebody else's is not to ask for a list that fills the memory
DEFAULT_BEAMS = 4  # appendix B


@dataclass(frozen=True)
class CaptionSettings:
    """How captions are generated: by beam search, never sampled.

    Args:
        num_beams (`int`, *optional*, defaults to 4): Beams; 1 is greedy.
        max_new_tokens (`int`, *optional*, defaults to 64): Tokens of a caption at most, behind its beginning.

    Raises:
        ValueError: If one is no integer of at least 1.
    """

    num_beams: int = DEFAULT_BEAMS
    max_new_tokens: int = 64

    def __post_init__(self):
        for item in fields(self):
            value = getattr(self, item.name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"`{item.name}` must be an integer of at least 1, got {value!r}")


def saved_sampling(saved: SamplingSettings | Mapping | None) -> SamplingSettings:
    """The settings of images that a checkpoint was saved with.

    Args:
        saved ([`SamplingSettings`] or `Mapping`, *optional*): Values by name, as `model_index.json` has them. What is
            not there is the library's default.

    Returns:
        [`SamplingSettings`].

    Raises:
        ValueError: If there is no such setting, or one cannot be; it names the setting.
    """
    if isinstance(saved, SamplingSettings):
        return saved
    if saved is None:
        return SamplingSettings()
    if not isinstance(saved, Mapping):
        raise ValueError(f"`{SAMPLING}` must be names and values, got {saved!r:.200}")
    known = [item.name for item in fields(SamplingSettings)]
    unknown = [name for name in saved if name not in known]
    if unknown:
        raise ValueError(f"`{SAMPLING}` has {unknown[0]!r:.100}, which is no setting; wanted some of {known}")
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()
    }
    try:
        settings = SamplingSettings(**values)
    except ValueError as error:
        raise ValueError(f"`{SAMPLING}`: {error}") from error
    steps = settings.num_inference_steps
    if steps > MAX_SAVED_STEPS:
        raise ValueError(f"`{SAMPLING}`: `num_inference_steps` must be {MAX_SAVED_STEPS} at most, got {steps}")
    return settings


def caption_settings(generation_config, max_text_length: int) -> CaptionSettings:
    """The settings of captions that a checkpoint was saved with.

    Args:
        generation_config (`GenerationConfig`): Of the model.
        max_text_length (`int`): Tokens of a text at most, which no saved length goes beyond.

    Returns:
        [`CaptionSettings`].

    Raises:
        ValueError: If one cannot be; it names the setting.
    """
    num_beams = generation_config.num_beams
    length = generation_config.max_new_tokens
    try:
        saved = CaptionSettings(
            DEFAULT_BEAMS if num_beams is None else num_beams, max_text_length if length is None else length
        )
    except ValueError as error:
        raise ValueError(f"the generation config of the model: {error}") from error
    return replace(saved, max_new_tokens=min(saved.max_new_tokens, max_text_length))


def with_given(settings, given: Mapping[str, Any]):
    """Settings, with what a call names in place of its own.

    Args:
        settings ([`SamplingSettings`] or [`CaptionSettings`]): Of the checkpoint.
        given (`Mapping`): Values by name; `None` leaves what is there.

    Returns:
        Settings of the same kind.

    Raises:
        ValueError: If a value cannot be.
    """
    return replace(settings, **{name: value for name, value in given.items() if value is not None})


def settle_options(options: Namespace, pipe) -> None:
    """Give the options of a script that were left open what the checkpoint was saved with, so that they are reported.

    Args:
        options (`Namespace`): Changed in place, where one of the name of a setting is `None`.
        pipe ([`ITITPipeline`]): The checkpoint.
    """
    for name, value in (asdict(pipe.sampling) | asdict(pipe.captioning)).items():
        if getattr(options, name, value) is None:
            setattr(options, name, value)


class CallDefaultsMixin:
    """Settings of [`ITITPipeline`] that travel with a checkpoint."""

    # Of `DiffusionPipeline` and [`ITITPipeline`].
    config: Mapping
    register_to_config: Callable
    model: Any

    @property
    def sampling(self) -> SamplingSettings:
        """How images are generated where a call names nothing else. What is assigned is saved with the pipeline."""
        return saved_sampling(self.config.get(SAMPLING))

    @sampling.setter
    def sampling(self, settings: SamplingSettings | Mapping):
        values = asdict(saved_sampling(settings))
        self.register_to_config(
            **{SAMPLING: {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}}
        )

    @property
    def captioning(self) -> CaptionSettings:
        """How images are captioned where a call names nothing else: by `model.generation_config`, which is saved with
        the pipeline."""
        return caption_settings(self.model.generation_config, self.model.config.max_text_length)
