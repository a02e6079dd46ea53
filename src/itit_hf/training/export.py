# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""From a training to a pipeline: the components that are shared, the folder, and its card."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from ..decoding.sampling import SamplingSettings
from ..hub.model_card import ModelFacts, model_card, training_facts
from ..models.modeling_itit import ITITForPreTraining
from ..pipelines.pipeline_itit import ITITPipeline


class PipelineExportMixin:
    """`create_pipeline`, `save_pipeline` and `save_card` of [`ITITTrainer`]."""

    # Of `Trainer`, [`ResilientTrainer`] and [`ITITTrainer`].
    args: Any
    state: Any
    model: Any
    accelerator: Any
    is_fsdp_enabled: bool
    processing_class: Any
    text_encoder: Any
    image_tokenizer: Any
    objectives: Any
    scheduler: Any
    streams: list
    averaged_weights: Callable
    _check_weights: Callable[[], None]
    _run_on_all_ranks: Callable[[Callable[[], object]], None]
    _cards: dict[str, str]  # written by this trainer, by their paths

    def create_pipeline(self) -> ITITPipeline:
        """The pipeline of the model as it is, its components shared, not copied; but of sharded weights a copy is
        gathered in the first process, and all processes must call this. Its settings are those of the samples of the
        run: what was looked at is what a call gives that names none."""
        model = self.accelerator.unwrap_model(self.model)
        if self.is_fsdp_enabled:
            weights = self.accelerator.get_state_dict(self.model)
            model = ITITForPreTraining(self.objectives.config).to(self.args.device).eval()
            if self.args.should_save:
                model.load_state_dict(weights)
        sampling = SamplingSettings(
            num_inference_steps=self.args.sample_inference_steps,
            guidance_scale=self.args.sample_guidance_scale,
            temperature=self.args.sample_temperature,
        )
        return ITITPipeline(
            model=model,
            text_encoder=self.text_encoder,
            tokenizer=self.processing_class.tokenizer,
            image_tokenizer=self.image_tokenizer,
            image_processor=self.processing_class.image_processor,
            scheduler=self.scheduler,
            sampling=sampling,
        )

    def save_pipeline(self, output_dir: str, facts: Mapping | None = None):
        """Write all components, with the averaged weights if there are any, and a card: one `from_pretrained` opens
        them. A card that is there already stays.

        Args:
            output_dir (`str`): Folder.
            facts (`Mapping`, *optional*): What only the user knows, by the names of [`~hub.model_card.ModelFacts`].

        Raises:
            FloatingPointError: If a weight is not finite.
        """
        self._run_on_all_ranks(self._check_weights)
        with self.averaged_weights():
            pipe = self.create_pipeline()
            if self.args.should_save:
                pipe.save_pretrained(output_dir)
        if self.args.should_save:
            self.save_card(output_dir, facts)

    def save_card(self, output_dir: str, facts: Mapping | None = None):
        """Write the card of a saved pipeline by what is known now, such as the losses of an evaluation that came
        after. A card that this trainer did not write stays.

        Args:
            output_dir (`str`): Folder of the pipeline.
            facts (`Mapping`, *optional*): As for `save_pipeline`.
        """
        path = os.path.join(output_dir, "README.md")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                if file.read() != self._cards.get(path):  # may have been written by hand
                    return
        rows = {stream.name: len(stream) for stream in self.streams}
        modules = {"model": self.model, "text encoder": self.text_encoder, "image tokenizer": self.image_tokenizer}
        parameters = {name: sum(p.numel() for p in module.parameters()) for name, module in modules.items()}
        known = training_facts(self.args, self.state.global_step, self.state.log_history, rows, parameters)
        known["name"] = os.path.basename(os.path.abspath(output_dir))
        self._cards[path] = model_card(ModelFacts(**(known | dict(facts or {}))))
        with open(path, "w", encoding="utf-8") as file:
            file.write(self._cards[path])
