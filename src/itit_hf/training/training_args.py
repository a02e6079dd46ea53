# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Settings of a training run; defaults are Table 3 of the paper, with the losses of row 3 of Table 2."""

import json
import math
import os
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import ClassVar

from transformers import HfArgumentParser, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging

from ..data.order import DATA_ORDERS
from ..data.streams import BAD_IMAGE_POLICIES
from ..masking import MaskRatio
from ..models.cpu_kernels_itit import cpu_multiplies_bfloat16
from ..objectives.objectives import OBJECTIVES, ObjectiveSettings
from .checkpointing import requested_checkpoint
from .recipes import argument_types, read_recipe

logger = logging.get_logger(__name__)

CHECKPOINT_PARTS = ("optimizer", "scheduler", "rng_state", "ema", "replay", "scaler", "rewards")
_MASK_RATIOS = [f"{name}_mask_ratio" for name in ("t2i", "i2t", "i2i", "t2i2t_second", "i2t2i_second")]


def check_numbers(arguments, least: Mapping[str, float], below: float = math.inf):
    """Refuse numbers that are out of range, or not finite.

    Args:
        arguments: Object with the numbers as attributes; those that are `None` are not checked.
        least (`Mapping[str, float]`): Least value of each, by its name.
        below (`float`, *optional*): What all are below; infinity by default.

    Raises:
        ValueError: If one is out of range; the message names it.
    """
    for name, number in least.items():
        value = getattr(arguments, name)
        if value is not None and not number <= value < below:
            range_of = "be 0 or more" if number == 0 else f"be at least {number:g}"
            range_of = range_of if below == math.inf else f"be in [{number:g}, {below:g})"
            raise ValueError(f"`{name}` must {range_of}, got {value}")


def warn_of_bfloat16(args: TrainingArguments):
    """Say that `--bf16` makes a run slower, where it does: on a CPU that does not multiply bfloat16.

    Args:
        args (`TrainingArguments`): Of the run.
    """
    if args.bf16 and args.device.type == "cpu" and not cpu_multiplies_bfloat16():
        logger.warning(
            "`bf16`: this CPU does not multiply bfloat16 in hardware, and torch emulates it many times slower than "
            "float32; leave `bf16` out"
        )


@dataclass
class ResilientTrainingArguments(TrainingArguments):
    """[`~transformers.TrainingArguments`] of a [`ResilientTrainer`].

    Args:
        max_skipped_steps (`int`): An update whose loss or gradient is not finite is left out; more than so many in a
            row end the training.
        allow_partial_resume (`list[str]`): Parts of a checkpoint that may be missing or damaged when resuming, and
            then start anew: `optimizer`, `scheduler`, `rng_state`, `ema`, `replay`, `scaler`, `rewards`.
    """

    checkpoint_parts: ClassVar[tuple[str, ...]] = CHECKPOINT_PARTS
    # What a run that goes on must not change: what is saved belongs to it.
    fixed_on_resume: ClassVar[tuple[str, ...]] = ("optim",)
    # What it may change: from then on the new value holds.
    changeable_on_resume: ClassVar[tuple[str, ...]] = (
        *("learning_rate", "muon_learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon"),
        *("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "max_steps"),
    )

    max_skipped_steps: int = field(default=10, metadata={"help": "Updates in a row that may not be finite."})
    allow_partial_resume: list[str] = field(
        default_factory=list, metadata={"help": "Parts that a checkpoint may lack: optimizer, rng_state, ..."}
    )
    # With several forward passes per step, DDP's search for unused parameters marks some of them ready twice.
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "Must stay off."})
    ignore_data_skip: bool = field(default=True, metadata={"help": "Must stay on: the sampler starts where it was."})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "A loss that is not finite must be seen."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "The collator reads the columns it needs."})

    def __post_init__(self):
        super().__post_init__()
        least = {
            "per_device_train_batch_size": 1,
            "per_device_eval_batch_size": 1,
            "gradient_accumulation_steps": 1,
            "learning_rate": 0.0,
            "weight_decay": 0.0,
            "max_skipped_steps": 0,
        }
        check_numbers(self, least)
        check_numbers(self, {"adam_beta1": 0.0, "adam_beta2": 0.0}, below=1.0)
        if self.max_steps <= 0:
            raise ValueError(f"`max_steps` must be at least 1: the data are endless, got {self.max_steps}")
        if not self.ignore_data_skip:
            raise ValueError("`ignore_data_skip` must be on: the sampler itself starts where the run was")
        if self.enable_jit_checkpoint:
            raise ValueError("`enable_jit_checkpoint` must be off: SIGTERM and Ctrl-C end with a checkpoint anyway")
        parts = self.checkpoint_parts
        unknown = sorted(set(self.allow_partial_resume) - set(parts))
        if unknown:
            raise ValueError(f"`allow_partial_resume` must name some of {parts}, got {unknown}")
        warn_of_bfloat16(self)

    def changed_since(self, saved: Mapping) -> dict[str, tuple]:
        """What of the optimizer and its schedule is not as it was when a checkpoint was written.

        Args:
            saved (`Mapping`): The settings that lie in the checkpoint.

        Returns:
            `dict[str, tuple]`: By name, the value then and the value now, which holds from there on.

        Raises:
            ValueError: If one differs that must stay as it was, such as `optim`.
        """
        now = json.loads(self.to_json_string())
        for name in self.fixed_on_resume:
            then = saved.get(name, now[name])
            same = sorted(then) == sorted(now[name]) if isinstance(then, list) else then == now[name]
            if not same:
                self._refuse_to_resume(name, then)
        then = saved.get("muon_learning_rate")
        if "muon_learning_rate" in now and (then is None) != (now["muon_learning_rate"] is None):
            self._refuse_to_resume("muon_learning_rate", then)
        names = [name for name in self.changeable_on_resume if name in saved and name in now]
        return {name: (saved[name], now[name]) for name in names if saved[name] != now[name]}

    def _refuse_to_resume(self, name: str, then):
        raise ValueError(
            f"`{name}` must be what the checkpoint was trained with, {then}, got {getattr(self, name)}: resume with "
            "that, or start a new run from its weights, by `--model_name_or_path`"
        )


@dataclass
class ITITTrainingArguments(ResilientTrainingArguments):
    r"""[`ResilientTrainingArguments`] and what ITIT needs besides. Defaults of optimizer, schedule and losses are
    the paper's (Table 3), made for 10^8 samples, and without cycles (row 3 of Table 2): its own run has a recipe,
    `examples/recipes/paper/base.yaml`, and so have small runs.

    `per_device_train_batch_size` counts pairs; training ends on `max_steps`. `adam_beta1` and `adam_beta2` hold for
    Adafactor too.

    Args:
        objectives (`list[str]`): Names of the losses, see [`ITITObjectives`].
        t2i_mask_ratio (`list[float]`): Mean, standard deviation, lowest and highest share of masked tokens in text to
            image, see [`MaskRatio`].
        i2t_mask_ratio (`list[float]`): The same in image to text; `0 0 0 0` captions whole images.
        i2i_mask_ratio (`list[float]`, *optional*): The same in image to image. By default that loss shares the encoder
            pass and the mask of image to text.
        t2i_batch_fraction (`float`): Share of a batch's pairs that text to image takes, from the front.
        i2t_batch_fraction (`float`): Share that image to text takes, from the back; the paper splits its pairs
            0.5 and 0.5.
        i2i_batch_fraction (`float`): Share that image to image takes, from the back, when it has a pass of its own.
        text_gradient_scale (`float`): Scale of the text decoder's gradient into the encoder.
        label_smoothing (`float`): Of every cross entropy.
        smoothing_neighbours (`int`): Of image tokens, spread it over so many codes that are nearest to the true one;
            0 spreads it over all.
        gumbel_strength (`float`): Scale of the Gumbel noise in T2I2T's straight-through softmax.
        synthesis_steps (`int`): Decoding steps of the images generated for T2I2T, apart from the pipeline's.
        synthesis_guidance_scale (`float`): Their guidance.
        synthesis_temperature (`float`, *optional*): Their temperature; the scheduler's by default.
        synthesis_max_new_tokens (`int`): Tokens of the captions generated for I2T2I, at most.
        synthesis_replay (`int`): Updates that each synthesis serves, each with new masks and noise; the unpaired
            streams advance once in so many updates.
        text_cache_size (`int`): Texts whose features are kept for their next epoch; worth it with a large text
            encoder.
        t2i2t_second_mask_ratio (`list[float]`, *optional*): The mask of T2I2T's second pass; that of image to text by
            default.
        i2t2i_second_mask_ratio (`list[float]`, *optional*): The mask of I2T2I's second pass; that of text to image by
            default.
        reconstruction (`str`): Which tokens of T2I2T's reconstruction come from the logits: `"masked"` or `"all"`.
        train_code_embeddings (`bool`): Whether T2I2T's second pass trains the embeddings of the codes that the first
            pass predicted.
        loss_weights (`dict` or `str`, *optional*): Weights of the losses by name, as a mapping or JSON such as
            `'{"t2i2t": 0.5}'`; 1.0 where there is none. One of an objective that is not trained weighs nothing.
        per_device_image_batch_size (`int`, *optional*): Unpaired images per step and device; as many as pairs by
            default.
        per_device_text_batch_size (`int`, *optional*): Unpaired sentences per step and device; as many as pairs by
            default.
        muon_learning_rate (`float`, *optional*): Train the matrices of the Transformer blocks by Muon, at this peak
            rate, and all else by `optim` at `learning_rate`; the same schedule scales both. The paper does not.
        on_bad_image (`str`): What to do about an image that cannot be read or exceeds the limits: `"raise"`, or
            `"skip"`, which trains on the next row instead and counts why; above 5% the training ends.
        data_order (`str`, *optional*): In which order the rows are read: `"keyed"`, which takes no memory for any
            number of rows; or `"randperm"`, that of older runs. A run that goes on keeps the order of its checkpoint,
            and a new one is keyed, unless one is named.
        shuffle_blocks (`int`): Blocks, such as row groups of parquet, whose rows are shuffled together, so that few
            are read at a time; 0 shuffles all rows at once.
        ema_decay (`float`): Decay of a moving average of the weights, which is what is sampled, evaluated and
            exported; 0.0 keeps none. The paper has none.
        monitoring (`bool`): Log what is synthesised and predicted, and warn when it collapses, see [`~monitoring`].
        gradient_norm_steps (`int`): Every so many steps, log the norm of each loss's own gradient, and the cosine of
            each unpaired one's to that of the pairs; costs one more backward pass per loss. 0 never.
        sample_steps (`int`): Every so many steps, generate and caption samples into `output_dir/samples`, and, with
            `monitoring`, show the cycles of the last batch; 0 never.
        sample_prompts (`list[str]`, *optional*): Prompts of the samples; by default the first captions of the held-out
            pairs, or of the training's if none are held out. With an empty list none are generated.
        sample_guidance_scale (`float`): Guidance of these images; images without guidance look worse than the
            model is. This and the next two are saved with the pipeline, as what a call does that names none.
        sample_inference_steps (`int`): Decoding steps of these images.
        sample_temperature (`float`, *optional*): Their temperature; the scheduler's by default.
    """

    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "loss_weights"]
    fixed_on_resume: ClassVar[tuple[str, ...]] = ("optim", "objectives")

    objectives: list[str] = field(
        default_factory=lambda: ["i2t", "t2i", "i2i"],
        metadata={"help": "Losses by name: " + ", ".join(f"{name} ({row.about})" for name, row in OBJECTIVES.items())},
    )
    t2i_mask_ratio: list[float] = field(
        default_factory=lambda: [0.75, 0.25, 0.5, 1.0], metadata={"help": "Mean, std, low, high."}
    )
    i2t_mask_ratio: list[float] = field(
        default_factory=lambda: [0.75, 0.25, 0.5, 0.75], metadata={"help": "Mean, std, low, high."}
    )
    i2i_mask_ratio: list[float] | None = field(
        default=None, metadata={"help": "Mean, std, low, high; shares the pass of i2t by default."}
    )
    t2i_batch_fraction: float = field(
        default=1.0, metadata={"help": "Share of the pairs that t2i takes, from the front."}
    )
    i2t_batch_fraction: float = field(default=1.0, metadata={"help": "Share that i2t takes, from the back."})
    i2i_batch_fraction: float = field(default=1.0, metadata={"help": "Share that i2i takes, if it has its own pass."})
    text_gradient_scale: float = field(default=0.1, metadata={"help": "Text decoder's gradient into the encoder."})
    label_smoothing: float = field(default=0.1, metadata={"help": "Of every cross entropy."})
    smoothing_neighbours: int = field(default=0, metadata={"help": "Codes that image tokens' smoothing goes to."})
    gumbel_strength: float = field(default=1.0, metadata={"help": "Gumbel noise in T2I2T."})
    synthesis_steps: int = field(default=24, metadata={"help": "Decoding steps of T2I2T's images."})
    synthesis_guidance_scale: float = field(default=3.0, metadata={"help": "Guidance of T2I2T's images."})
    synthesis_temperature: float | None = field(default=None, metadata={"help": "The scheduler's by default."})
    synthesis_max_new_tokens: int = field(default=64, metadata={"help": "Tokens of I2T2I's captions, at most."})
    synthesis_replay: int = field(default=1, metadata={"help": "Updates that each synthesis serves."})
    text_cache_size: int = field(default=0, metadata={"help": "Texts whose features are kept."})
    t2i2t_second_mask_ratio: list[float] | None = field(
        default=None, metadata={"help": "Mean, std, low, high; that of i2t by default."}
    )
    i2t2i_second_mask_ratio: list[float] | None = field(
        default=None, metadata={"help": "Mean, std, low, high; that of t2i by default."}
    )
    reconstruction: str = field(default="masked", metadata={"help": "Tokens that T2I2T reconstructs: masked or all."})
    train_code_embeddings: bool = field(default=True, metadata={"help": "By T2I2T's second pass."})
    loss_weights: dict | str | None = field(default=None, metadata={"help": 'Weights by name, {"t2i2t": 0.5}.'})
    per_device_image_batch_size: int | None = field(default=None, metadata={"help": "As many as pairs by default."})
    per_device_text_batch_size: int | None = field(default=None, metadata={"help": "As many as pairs by default."})
    muon_learning_rate: float | None = field(default=None, metadata={"help": "Muon for the blocks' matrices."})
    on_bad_image: str = field(default="raise", metadata={"help": "Images that cannot be read: raise or skip."})
    data_order: str | None = field(default=None, metadata={"help": "Of the rows: keyed or randperm."})
    shuffle_blocks: int = field(default=0, metadata={"help": "Blocks whose rows are shuffled together; 0: all."})
    ema_decay: float = field(default=0.0, metadata={"help": "Moving average of the weights; 0 keeps none."})
    monitoring: bool = field(default=True, metadata={"help": "Log what is synthesised and predicted, and warn."})
    gradient_norm_steps: int = field(default=0, metadata={"help": "Log each loss's gradient every so many steps."})
    sample_steps: int = field(default=0, metadata={"help": "Generate and caption samples every so many steps."})
    sample_prompts: list[str] | None = field(default=None, metadata={"help": "Held-out captions by default."})
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

    def __post_init__(self):
        super().__post_init__()
        self._check_objectives()
        if self.on_bad_image not in BAD_IMAGE_POLICIES:
            raise ValueError(f"`on_bad_image` must be one of {BAD_IMAGE_POLICIES}, got {self.on_bad_image!r}")
        if self.data_order is not None and self.data_order not in DATA_ORDERS:
            raise ValueError(f"`data_order` must be one of {DATA_ORDERS}, got {self.data_order!r}")
        least = {
            "per_device_image_batch_size": 1,
            "per_device_text_batch_size": 1,
            "synthesis_steps": 1,
            "synthesis_max_new_tokens": 1,
            "sample_inference_steps": 1,
            "sample_steps": 0,
            "shuffle_blocks": 0,
            "gradient_norm_steps": 0,
            "muon_learning_rate": 0.0,
            "text_gradient_scale": 0.0,
            "gumbel_strength": 0.0,
        }
        check_numbers(self, least)
        check_numbers(self, {"ema_decay": 0.0, "label_smoothing": 0.0}, below=1.0)
        for name in ("t2i_batch_fraction", "i2t_batch_fraction", "i2i_batch_fraction"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ValueError(f"`{name}` must be above 0 and at most 1, got {getattr(self, name)}")
        self.objective_settings()

    def _check_objectives(self):
        names = self.objectives
        if not names or len(set(names)) < len(names) or not set(names) <= set(OBJECTIVES):
            hint = "; put spaces between them" if any("," in name for name in names) else ""
            raise ValueError(
                f"`objectives` must be one or more of {list(OBJECTIVES)}, each once, got {list(names)}{hint}"
            )
        self.loss_weights = self.loss_weights or {}
        if not isinstance(self.loss_weights, Mapping):
            raise ValueError(f"`loss_weights` must be a mapping such as {{'t2i2t': 0.5}}, got {self.loss_weights!r}")
        unknown = sorted(set(self.loss_weights) - set(OBJECTIVES))
        if unknown:
            raise ValueError(f"`loss_weights` must name some of {list(OBJECTIVES)}, got {unknown}")
        for name, weight in self.loss_weights.items():
            if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not math.isfinite(weight):
                raise ValueError(f"`loss_weights` must be numbers, got {weight!r} for {name}")

    @property
    def data_seed_or_seed(self) -> int:
        """Of the order of the samples and the choice of their captions: `data_seed`, or `seed` if none was given."""
        return self.seed if self.data_seed is None else self.data_seed

    def objective_settings(self) -> ObjectiveSettings:
        """The losses' share of these arguments."""
        names = [field.name for field in fields(ObjectiveSettings)]
        values = {name: getattr(self, name) for name in names}
        for name in _MASK_RATIOS:
            values[name] = self._mask_ratio(name)
        return ObjectiveSettings(**values)

    def _mask_ratio(self, name: str) -> MaskRatio | None:
        value = getattr(self, name)
        if value is None:
            return None
        if len(value) != 4:
            raise ValueError(f"`{name}` must be four numbers: mean, std, low and high, got {value}")
        try:
            return MaskRatio(*value)
        except ValueError as error:
            raise ValueError(f"`{name}` is mean, std, low and high, got {value}: {error}") from error


def newest_checkpoint(args: TrainingArguments) -> str | None:
    """The checkpoint that a plain `Trainer` of transformers goes on from, by `resume_from_checkpoint`.

    Args:
        args (`TrainingArguments`): `resume_from_checkpoint` is a folder, or `"last"`, the newest one in `output_dir`.

    Returns:
        `str`, a folder; `None` to start from step 0, also where there is no checkpoint yet.
    """
    requested = requested_checkpoint(args.resume_from_checkpoint)
    if requested != "last":
        return requested
    found = get_last_checkpoint(args.output_dir) if os.path.isdir(args.output_dir) else None
    logger.warning(f"resuming from {found}" if found else "no checkpoint yet: starting from step 0")
    return found


class _HelpFormatter(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """With the defaults, and with the lines of the examples as they are."""


def parse_arguments(
    dataclass_types: Sequence[type],
    arguments: Sequence[str] | None = None,
    default_config: str | None = None,
    prog: str | None = None,
    epilog: str | None = None,
) -> tuple:
    """Command line -> dataclasses. `--config recipe.yaml` gives defaults that other flags override, checked by the
    types of their arguments; see [`~training.recipes.read_recipe`].

    `--resume_from_checkpoint` without a value, or with `last`, `latest` or `True`, means the newest checkpoint of
    `output_dir`; a folder of such a name is `./last`.

    A recipe may build upon another one, `base: other.yaml`, named as seen from its own folder: it gives what differs.

    Args:
        dataclass_types (`Sequence[type]`): Such as `[ScriptArguments, ITITTrainingArguments]`.
        arguments (`Sequence[str]`, *optional*): `sys.argv[1:]` by default.
        default_config (`str`, *optional*): Recipe when `--config` is not given.
        prog (`str`, *optional*): What `--help` calls the program; its file by default.
        epilog (`str`, *optional*): What `--help` ends with.

    Returns:
        One object per type.

    Raises:
        ValueError: If a recipe names an argument that does not exist, gives one a value of another type, holds no
            names and values, or builds upon itself; or a value is out of range.
    """
    recipe_parser = ArgumentParser(add_help=False, allow_abbrev=False)
    recipe_parser.add_argument("--config", default=default_config, help="YAML recipe; flags override its values.")
    chosen, arguments = recipe_parser.parse_known_args(arguments)
    parser = HfArgumentParser(
        dataclass_types, parents=[recipe_parser], prog=prog, epilog=epilog, formatter_class=_HelpFormatter
    )
    types = argument_types(dataclass_types)
    if "resume_from_checkpoint" in types:
        types["resume_from_checkpoint"] |= bool
    recipe = read_recipe(chosen.config, types) if chosen.config else {}
    parser.set_defaults(**recipe)
    for action in parser._actions:
        action.required = action.required and action.dest not in recipe
        if action.dest == "resume_from_checkpoint":
            action.nargs = "?"
            action.const = "last"
    parsed = parser.parse_args_into_dataclasses(arguments)[: len(dataclass_types)]
    for each in parsed:
        if hasattr(each, "resume_from_checkpoint"):
            each.resume_from_checkpoint = requested_checkpoint(each.resume_from_checkpoint)
    return parsed
