# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Settings of a training run; defaults are Table 3 of the paper."""

import os
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import yaml
from transformers import HfArgumentParser, TrainingArguments

from .masking import MaskRatio
from .objectives import OBJECTIVES, ObjectiveSettings

CHECKPOINT_PARTS = ("optimizer", "scheduler", "rng_state", "ema", "replay", "scaler", "rewards")
_MASK_RATIOS = [f"{name}_mask_ratio" for name in ("t2i", "i2t", "i2i", "t2i2t_second", "i2t2i_second")]


@dataclass
class ITITTrainingArguments(TrainingArguments):
    r"""[`~transformers.TrainingArguments`] and what ITIT needs besides. Defaults of optimizer, schedule and losses are
    the paper's (Table 3), made for 10^8 samples; `examples/recipes/` holds settings for small runs.

    `per_device_train_batch_size` counts pairs; training ends on `max_steps`. `adam_beta1` and `adam_beta2` hold for
    Adafactor too.

    Args:
        objectives (`list[str]`): Names of the losses, see [`ITITObjectives`].
        t2i_mask_ratio (`list[float]`): Mean, standard deviation, lowest and highest share of hidden tokens in text to
            image, see [`MaskRatio`].
        i2t_mask_ratio (`list[float]`): The same in image to text; `0 0 0 0` describes whole pictures.
        i2i_mask_ratio (`list[float]`, *optional*): The same in image to image. By default that loss shares the encoder
            pass and the mask of image to text.
        t2i_share (`float`): Share of a batch's pairs that text to image takes, from the front.
        i2t_share (`float`): Share that image to text takes, from the back; the paper splits its pairs 0.5 and 0.5.
        i2i_share (`float`): Share that image to image takes, from the back, when it has a pass of its own.
        text_gradient_scale (`float`): Scale of the text decoder's gradient into the encoder.
        label_smoothing (`float`): Of every cross entropy.
        gumbel_strength (`float`): Scale of the Gumbel noise in T2I2T's straight-through softmax.
        synthesis_steps (`int`): Decoding steps of the pictures drawn for T2I2T, apart from the pipeline's.
        synthesis_guidance_scale (`float`): Their guidance.
        synthesis_temperature (`float`, *optional*): Their temperature; the scheduler's by default.
        synthesis_max_new_tokens (`int`): Tokens of the captions said for I2T2I, at most.
        synthesis_replay (`int`): Updates that each synthesis serves, each with new masks and noise; the unpaired
            streams advance once in so many updates.
        cached_texts (`int`): Texts whose features are kept for their next epoch; worth it with a large text encoder.
        t2i2t_second_mask_ratio (`list[float]`, *optional*): The mask of T2I2T's second leg; that of image to text by
            default.
        i2t2i_second_mask_ratio (`list[float]`, *optional*): The mask of I2T2I's second leg; that of text to image by
            default.
        reconstruction (`str`): Which tokens of T2I2T's reconstruction come from the logits: `"hidden"` or `"all"`.
        code_gradient (`str`): Whether T2I2T's second leg trains the embeddings of the codes that the first leg said:
            `"trained"` or `"frozen"`.
        loss_weights (`dict` or `str`, *optional*): Weights of the losses by name, as a mapping or JSON such as
            `'{"t2i2t": 0.5}'`; 1.0 where there is none. One of an objective that is not trained weighs nothing.
        per_device_image_batch_size (`int`, *optional*): Unpaired pictures per step and device; as many as pairs by
            default.
        per_device_text_batch_size (`int`, *optional*): Unpaired sentences per step and device; as many as pairs by
            default.
        muon_learning_rate (`float`, *optional*): Train the matrices of the Transformer blocks by Muon, at this peak
            rate, and all else by `optim` at `learning_rate`; the same schedule scales both. The paper does not.
        bad_images (`str`): What to do about a picture that cannot be read or exceeds the limits: `"raise"`, or
            `"skip"`, which trains on the next row instead and counts why; above 5% the training ends.
        max_skipped_steps (`int`): An update whose loss or gradient is not finite is left out; more than so many in a
            row end the training.
        allow_partial_resume (`list[str]`): Parts of a checkpoint that may be missing or damaged when resuming, and
            then start anew: `optimizer`, `scheduler`, `rng_state`, `ema`, `replay`, `scaler`, `rewards`.
        ema_decay (`float`): Decay of a moving average of the weights, which is what is drawn with, evaluated and
            exported; 0.0 keeps none. The paper has none.
        monitoring (`bool`): Log what is synthesised and predicted, and warn when it collapses, see [`~monitoring`].
        gradient_norm_steps (`int`): Every so many steps, log the norm of each loss's own gradient, and the cosine of
            each unpaired one's to that of the pairs; costs one more backward pass per loss. 0 never.
        sample_steps (`int`): Every so many steps, draw and caption samples into `output_dir/samples`, and, with
            `monitoring`, show the cycles of the last batch; 0 never.
        sample_prompts (`list[str]`): Prompts to draw.
        sample_guidance_scale (`float`): Guidance of these pictures; pictures without guidance look worse than the
            model is.
        sample_inference_steps (`int`): Decoding steps of these pictures.
        sample_temperature (`float`, *optional*): Their temperature; the scheduler's by default.
    """

    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "loss_weights"]

    objectives: list[str] = field(default_factory=lambda: ["i2t", "t2i", "i2i"], metadata={"help": "Losses by name."})
    t2i_mask_ratio: list[float] = field(
        default_factory=lambda: [0.75, 0.25, 0.5, 1.0], metadata={"help": "Mean, std, low, high."}
    )
    i2t_mask_ratio: list[float] = field(
        default_factory=lambda: [0.75, 0.25, 0.5, 0.75], metadata={"help": "Mean, std, low, high."}
    )
    i2i_mask_ratio: list[float] | None = field(
        default=None, metadata={"help": "Mean, std, low, high; shares the pass of i2t by default."}
    )
    t2i_share: float = field(default=1.0, metadata={"help": "Share of the pairs that t2i takes, from the front."})
    i2t_share: float = field(default=1.0, metadata={"help": "Share that i2t takes, from the back."})
    i2i_share: float = field(default=1.0, metadata={"help": "Share that i2i takes, if it has its own pass."})
    text_gradient_scale: float = field(default=0.1, metadata={"help": "Text decoder's gradient into the encoder."})
    label_smoothing: float = field(default=0.1, metadata={"help": "Of every cross entropy."})
    gumbel_strength: float = field(default=1.0, metadata={"help": "Gumbel noise in T2I2T."})
    synthesis_steps: int = field(default=24, metadata={"help": "Decoding steps of T2I2T's pictures."})
    synthesis_guidance_scale: float = field(default=3.0, metadata={"help": "Guidance of T2I2T's pictures."})
    synthesis_temperature: float | None = field(default=None, metadata={"help": "The scheduler's by default."})
    synthesis_max_new_tokens: int = field(default=64, metadata={"help": "Tokens of I2T2I's captions, at most."})
    synthesis_replay: int = field(default=1, metadata={"help": "Updates that each synthesis serves."})
    cached_texts: int = field(default=0, metadata={"help": "Texts whose features are kept."})
    t2i2t_second_mask_ratio: list[float] | None = field(
        default=None, metadata={"help": "Mean, std, low, high; that of i2t by default."}
    )
    i2t2i_second_mask_ratio: list[float] | None = field(
        default=None, metadata={"help": "Mean, std, low, high; that of t2i by default."}
    )
    reconstruction: str = field(default="hidden", metadata={"help": "Tokens that T2I2T reconstructs: hidden or all."})
    code_gradient: str = field(default="trained", metadata={"help": "Codes of T2I2T's second leg: trained or frozen."})
    loss_weights: dict | str | None = field(default=None, metadata={"help": 'Weights by name, {"t2i2t": 0.5}.'})
    per_device_image_batch_size: int | None = field(default=None, metadata={"help": "As many as pairs by default."})
    per_device_text_batch_size: int | None = field(default=None, metadata={"help": "As many as pairs by default."})
    muon_learning_rate: float | None = field(default=None, metadata={"help": "Muon for the blocks' matrices."})
    bad_images: str = field(default="raise", metadata={"help": "Pictures that cannot be read: raise or skip."})
    max_skipped_steps: int = field(default=10, metadata={"help": "Updates in a row that may not be finite."})
    allow_partial_resume: list[str] = field(
        default_factory=list, metadata={"help": "Parts that a checkpoint may lack: optimizer, rng_state, ..."}
    )
    ema_decay: float = field(default=0.0, metadata={"help": "Moving average of the weights; 0 keeps none."})
    monitoring: bool = field(default=True, metadata={"help": "Log what is synthesised and predicted, and warn."})
    gradient_norm_steps: int = field(default=0, metadata={"help": "Log each loss's gradient every so many steps."})
    sample_steps: int = field(default=0, metadata={"help": "Draw and caption samples every so many steps."})
    sample_prompts: list[str] = field(default_factory=list, metadata={"help": "Prompts to draw."})
    sample_guidance_scale: float = field(default=3.0, metadata={"help": "1 + tau."})
    sample_inference_steps: int = field(default=24, metadata={"help": "Decoding steps."})
    sample_temperature: float | None = field(default=None, metadata={"help": "The scheduler's by default."})

    optim: str = field(default="adafactor", metadata={"help": "Table 3: Adafactor with momentum."})
    learning_rate: float = field(default=1e-4, metadata={"help": "Peak."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Table 3."})
    warmup_steps: float = field(default=5000, metadata={"help": "Table 3."})
    weight_decay: float = field(default=0.045, metadata={"help": "Table 3."})
    adam_beta1: float = field(default=0.9, metadata={"help": "Table 3; Adafactor's momentum too."})
    adam_beta2: float = field(default=0.96, metadata={"help": "Table 3; cap of Adafactor's second moment decay too."})
    max_grad_norm: float = field(default=3.0, metadata={"help": "Table 3."})
    max_steps: int = field(default=1_500_000, metadata={"help": "Table 3."})
    use_cache: bool = field(default=True, metadata={"help": "Of the saved model; training keeps no keys and values."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "The collator reads the columns it needs."})
    # With several forward passes per step, DDP's search for unused parameters marks some of them ready twice.
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "Must stay off."})
    ignore_data_skip: bool = field(default=True, metadata={"help": "Must stay on: the sampler starts where it was."})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "A loss that is not finite must be seen."})

    def __post_init__(self):
        super().__post_init__()
        if self.max_steps <= 0:
            raise ValueError(f"`max_steps` must be at least 1: streams are endless, got {self.max_steps}")
        if self.gradient_norm_steps < 0:
            raise ValueError(f"`gradient_norm_steps` must be 0 or more, got {self.gradient_norm_steps}")
        if not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f"`ema_decay` must be in [0, 1), got {self.ema_decay}")
        for name in _MASK_RATIOS:
            value = getattr(self, name)
            if value is not None and len(value) != 4:
                raise ValueError(f"`{name}` must be four numbers: mean, std, low and high, got {value}")
        self.loss_weights = self.loss_weights or {}
        unknown = sorted(set(self.loss_weights) - set(OBJECTIVES))
        if unknown:
            raise ValueError(f"`loss_weights` must name some of {list(OBJECTIVES)}, got {unknown}")

        self._check_safety()

    def _check_safety(self):
        if not self.ignore_data_skip:
            raise ValueError("`ignore_data_skip` must be on: the sampler itself starts where the run was")
        if self.enable_jit_checkpoint:
            raise ValueError("`enable_jit_checkpoint` must be off: SIGTERM and Ctrl-C end with a checkpoint anyway")
        if self.max_skipped_steps < 0:
            raise ValueError(f"`max_skipped_steps` must be 0 or more, got {self.max_skipped_steps}")
        unknown = sorted(set(self.allow_partial_resume) - set(CHECKPOINT_PARTS))
        if unknown:
            raise ValueError(f"`allow_partial_resume` must name some of {CHECKPOINT_PARTS}, got {unknown}")

    @property
    def seed_of_data(self) -> int:
        """Of the order of the samples and the choice of their captions: `data_seed`, or `seed` if none was given."""
        return self.seed if self.data_seed is None else self.data_seed

    def objective_settings(self) -> ObjectiveSettings:
        """The losses' share of these arguments."""
        names = [field.name for field in fields(ObjectiveSettings)]
        values = {name: getattr(self, name) for name in names}
        for name in _MASK_RATIOS:
            values[name] = values[name] and MaskRatio(*values[name])
        return ObjectiveSettings(**values)


def _read_recipe(path: str, known: set[str], above: tuple[str, ...] = ()) -> dict:
    """The values of a recipe over those of its base; `above` are the recipes that build upon it."""
    path = os.path.realpath(path)
    if path in above:
        raise ValueError(f"a recipe must not build upon itself, got {' -> '.join([*above, path])}")
    with open(path, encoding="utf-8") as file:
        recipe = yaml.safe_load(file) or {}
    if not isinstance(recipe, dict):
        raise ValueError(f"`{path}` must hold lines `name: value`, got a {type(recipe).__name__}")
    base = recipe.pop("base", None)
    unknown = sorted(set(recipe) - known)
    if unknown:
        raise ValueError(f"`{path}` names arguments that do not exist: {unknown}")
    if base is None:
        return recipe
    return _read_recipe(os.path.join(os.path.dirname(path), str(base)), known, (*above, path)) | recipe


def parse_arguments(
    dataclass_types: Sequence[type], arguments: Sequence[str] | None = None, default_config: str | None = None
) -> tuple:
    """Command line -> dataclasses. `--config recipe.yaml` gives defaults that other flags override, and
    `--resume_from_checkpoint` without a value means the last checkpoint of `output_dir`.

    A recipe may build upon another one, `base: other.yaml`, named as seen from its own folder: it gives what differs.

    Args:
        dataclass_types (`Sequence[type]`): Such as `[ScriptArguments, ITITTrainingArguments]`.
        arguments (`Sequence[str]`, *optional*): `sys.argv[1:]` by default.
        default_config (`str`, *optional*): Recipe when `--config` is not given.

    Returns:
        One object per type.

    Raises:
        ValueError: If a recipe names an argument that does not exist, holds no names and values, or builds upon
            itself.
    """
    recipe_parser = ArgumentParser(add_help=False, allow_abbrev=False)
    recipe_parser.add_argument("--config", default=default_config, help="YAML recipe; flags override its values.")
    chosen, arguments = recipe_parser.parse_known_args(arguments)
    parser = HfArgumentParser(dataclass_types, parents=[recipe_parser])
    recipe = _read_recipe(chosen.config, {action.dest for action in parser._actions}) if chosen.config else {}
    parser.set_defaults(**recipe)
    for action in parser._actions:
        action.required = action.required and action.dest not in recipe
        if action.dest == "resume_from_checkpoint":
            action.nargs, action.const = "?", "last"
    return parser.parse_args_into_dataclasses(arguments)[: len(dataclass_types)]
