# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""[`ITITRewardTrainer`]: sample, score, take the advantage, one loss.

Captions are trained by policy gradient, from any reward with trl's signature; images by the gradient of the reward
itself, through the step that text -> image -> text has too. The names of the metrics are trl's.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch.nn import functional as F
from transformers import TrainerCallback
from transformers.generation import LogitsProcessor, LogitsProcessorList

from ..data.streams import IMAGE_TENSORS, TOKENIZER_COLUMN
from ..decoding.scheduling_itit import ITITScheduler
from ..models.image_tokenization_itit import decode_soft_image_tokens
from ..models.types_itit import ImageMask
from ..objectives.cycle import resample_image_tokens
from ..objectives.forward import GradientScales, caption_forward, image_of
from ..objectives.objectives import OBJECTIVES, ITITObjectives, eval_mode, synthetic_text
from ..rewards.captions import greedy_advantages, reward_name, rloo_advantages, score_completions
from ..rng import rand, sample_categorical
from .trainer import ITITTrainer
from .training_args import ITITTrainingArguments

DIRECTIONS = ("i2t", "t2i")  # and rewards train the parts that the objective of this name trains
BASELINES = ("rloo", "greedy")


@dataclass
class ITITRewardConfig(ITITTrainingArguments):
    """[`ITITTrainingArguments`] and how rewards are used. The learning rate and its schedule are those of CgT-GAN.

    Each update has the loss of the rewards; one in `ce_interval` also those of `objectives`.

    Args:
        direction (`str`): `"i2t"` rewards captions, `"t2i"` images.
        reward_stream (`str`): Stream of the images that are captioned, `"paired"` or `"image"`, or of the texts that
            images are generated from, `"paired"` or `"text"`.
        num_generations (`int`): Captions sampled of each image.
        baseline (`str`): What a caption's reward is compared with: `"rloo"`, the mean of the other captions of the
            image, or `"greedy"`, the greedy caption.
        reward_weights (`list[float]`, *optional*): One for each reward; 1.0 each by default.
        reward_warmup_steps (`list[int]`, *optional*): Updates in which each weight rises from 0, linearly; 0 by
            default.
        ce_interval (`int`): One in so many updates trains `objectives` too; 1 all of them, 0 none.
        length_normalize (`bool`): Take the mean of the log-probabilities of a caption's tokens, not their sum.
    """

    direction: str = field(default="i2t", metadata={"help": "i2t rewards captions, t2i images."})
    reward_stream: str = field(
        default="paired", metadata={"help": "Stream that captions or images are generated from."}
    )
    num_generations: int = field(default=5, metadata={"help": "Captions sampled of each image."})
    baseline: str = field(default="rloo", metadata={"help": "rloo or greedy."})
    reward_weights: list[float] | None = field(default=None, metadata={"help": "One for each reward; 1.0 by default."})
    reward_warmup_steps: list[int] | None = field(default=None, metadata={"help": "Updates in which weights rise."})
    ce_interval: int = field(default=3, metadata={"help": "One in so many updates trains the objectives; 0 none."})
    length_normalize: bool = field(default=True, metadata={"help": "Mean over a caption's tokens, not their sum."})

    learning_rate: float = field(default=1e-5, metadata={"help": "Peak."})
    lr_scheduler_type: str = field(default="constant_with_warmup", metadata={"help": "As CgT-GAN."})
    warmup_steps: float = field(default=150, metadata={"help": "As CgT-GAN."})

    def __post_init__(self):
        super().__post_init__()
        streams = ("paired", "image") if self.direction == "i2t" else ("paired", "text")
        for name, known in (("direction", DIRECTIONS), ("baseline", BASELINES), ("reward_stream", streams)):
            if getattr(self, name) not in known:
                raise ValueError(f"`{name}` must be one of {known}, got {getattr(self, name)!r}")
        least = 2 if self.baseline == "rloo" else 1
        if self.num_generations < least:
            raise ValueError(f"`num_generations` must be at least {least}, got {self.num_generations}")
        if self.ce_interval < 0:
            raise ValueError(f"`ce_interval` must be 0 or more, got {self.ce_interval}")
        if self.on_bad_image != "raise":
            raise ValueError(
                "`on_bad_image` must be raise: a reward is told of the row; leave bad rows out beforehand"
            )


class KeyedWords(LogitsProcessor):
    """Leaves of each row's words the one that is sampled: transformers' `generate` with noise that is given.

    Args:
        uniform (`torch.FloatTensor` of shape `(batch_size, max_new_tokens)`): Noise in [0, 1).
    """

    def __init__(self, uniform: torch.Tensor):
        self.uniform = uniform
        self.num_generated = 0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Scores of shape `(batch_size, vocab_size)`: 0 at the word that is sampled, and infinitely low elsewhere."""
        words = sample_categorical(scores.float().softmax(dim=-1), self.uniform[:, self.num_generated])  # (B,)
        self.num_generated += 1
        return torch.full_like(scores, -torch.inf).scatter(1, words[:, None], 0.0)


class RewardObjectives(ITITObjectives):
    """The named losses, and the way from a reward to a gradient in either direction.

    Arguments are those of [`ITITObjectives`]; `direction` is set by the trainer, see [`ITITRewardConfig`].
    """

    direction = "i2t"

    @property
    def untrained_modules(self) -> tuple[str, ...]:
        """Names of the model's modules that neither the objectives nor the rewards train."""
        return tuple(
            name for name in super().untrained_modules if name not in OBJECTIVES[self.direction].trained_modules
        )

    def captions(self, model, stream_batch: dict, num_generations: int) -> dict[str, torch.Tensor]:
        """Captions of whole images, sampled by the shipped loop, each by noise of its own.

        Args:
            model: Called like [`ITITForPreTraining`].
            stream_batch (`dict`): `image_token_ids` of shape `(batch_size, num_image_tokens)`; see [`ITITObjectives`].
            num_generations (`int`): Captions of each image; 0 is the greedy one.

        Returns:
            `dict`: See [`~objectives.objectives.synthetic_text`]; of shape `(batch_size * num_generations,
            text_length)`.
        """
        if not num_generations:
            return self.caption_images(model, image_of(stream_batch))
        length = self.settings.synthesis_max_new_tokens
        device = stream_batch["sample_index"].device
        noise = [self.generators(stream_batch, f"reward/{i}") for i in range(num_generations)]
        generators = [generator for sample in zip(*noise, strict=True) for generator in sample]
        words = KeyedWords(rand(len(generators), (length,), generators, device))
        with eval_mode(model) as unwrapped:
            ids = unwrapped.generate(
                **image_of(stream_batch),
                max_new_tokens=length,
                num_beams=1,
                do_sample=True,
                top_k=0,
                top_p=1.0,
                temperature=1.0,
                num_return_sequences=num_generations,
                logits_processor=LogitsProcessorList([words]),
            )
        return synthetic_text(self.config, ids)

    def policy_loss(
        self,
        model,
        stream_batch: dict,
        captions: dict[str, torch.Tensor],
        advantages: torch.Tensor,
        length_normalize: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Policy gradient: what was better than its baseline becomes more likely (Williams, 1992).

        Args:
            model: The wrapped one when it is distributed.
            stream_batch (`dict`): What was captioned; see `captions`.
            captions (`dict`): What `captions` gave.
            advantages (`torch.FloatTensor` of shape `(batch_size * num_generations,)`): Constants.
            length_normalize (`bool`): See [`ITITRewardConfig`].

        Returns:
            `(loss, entropy)`: scalars of shape `()`; the entropy of a word, in nats.
        """
        image = image_of(stream_batch)
        whole = ImageMask(torch.zeros_like(image["image_token_ids"], dtype=torch.bool))
        scales = GradientScales(text=self.settings.text_gradient_scale)
        output = caption_forward(model, image, whole, captions, scales)
        logits = output.text_logits.float()  # (B * G, L, words)
        labels = output.text_labels  # (B * G, L)
        surprise = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").sum(dim=-1)  # -log p(caption)
        if length_normalize:
            surprise = surprise / captions["attention_mask"].sum(dim=-1)
        return (advantages * surprise).mean(), token_entropy(logits, labels != -100)

    def image(self, model, stream_batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """Images of the texts with a gradient: generated by the shipped loop, partly masked again, and generated once
        more in one straight-through step.

        Args:
            model: The wrapped one when it is distributed.
            stream_batch (`dict`): `input_ids` and `attention_mask` of shape `(batch_size, text_length)`; see
                [`ITITObjectives`].

        Returns:
            `(pixel_values, entropy)`: of shape `(batch_size, 3, height, width)` in [-1, 1], and the entropy of an
            image token, of shape `()`, in nats.
        """
        text_condition = self.encode_text(stream_batch)
        image_token_ids = self.generate_images(model, stream_batch, text_condition, "reward")  # I'
        image_mask = self.draw_mask(stream_batch, "reward", self.settings.t2i_mask_ratio)
        noise = self.gumbel_noise(stream_batch, "reward")
        soft_tokens, output = resample_image_tokens(model, image_token_ids, image_mask, text_condition, noise)  # I~
        grid = self.config.image_grid
        pixel_values = decode_soft_image_tokens(self.image_tokenizer, image_token_ids, soft_tokens, grid)
        return pixel_values, token_entropy(output.image_logits, output.valid)


@torch.no_grad()
def token_entropy(logits: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Mean entropy of what is predicted, in nats: near 0 where a policy has collapsed.

    Args:
        logits (`torch.FloatTensor` of shape `(batch_size, length, num_classes)`)
        counted (`torch.BoolTensor` of shape `(batch_size, length)`): Where.

    Returns:
        `torch.FloatTensor` of shape `()`.
    """
    log_probs = logits.float().log_softmax(dim=-1)
    entropy = -(log_probs.exp() * log_probs).sum(dim=-1)  # (B, L)
    return (entropy * counted).sum() / counted.sum().clamp(min=1)


class _WaitingModulesCallback(TrainerCallback):
    """Takes the zeros that stand for gradients away: an optimizer with momentum would move modules that wait."""

    def __init__(self, trainer: "ITITRewardTrainer"):
        self.trainer = trainer

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        for parameter in [] if self.trainer.has_objectives else self.trainer.waiting_parameters:
            parameter.grad = None


class ITITRewardTrainer(ITITTrainer):
    """Trains [`ITITForPreTraining`] on rewards, and on named objectives beside them.

    A reward with `update(real, fake)`, such as [`~rewards.captions.DiscriminatorReward`], is shown each batch's
    sentences and sampled captions before it scores them; one with `state_dict` is part of the checkpoints.

    Args:
        model ([`ITITForPreTraining`]): What is trained.
        reward_funcs (`Callable` or `list[Callable]`): See [`~rewards`]: functions with trl's signature for `"i2t"`,
            modules for `"t2i"`. A function is given every column of the row, but token ids, and `trainer_state`.
        args ([`ITITRewardConfig`]): Settings.
        processing_class ([`ITITProcessor`]): See [`ITITTrainer`], as for all that follow.
        text_encoder (`torch.nn.Module`): Frozen.
        train_streams (`Mapping[str, Dataset]`): Those of the objectives, if `ce_interval` is not 0, and
            `reward_stream`.
        eval_dataset (`Dataset`, *optional*): Held-out pairs.
        scheduler ([`ITITScheduler`], *optional*): Of the images that are generated.
        callbacks (`list[TrainerCallback]`, *optional*): As in transformers.
        optimizers (`tuple`, *optional*): As in transformers.

    Raises:
        ValueError: If two rewards have one name, there is none, or weights are not as many as rewards.
    """

    def __init__(
        self,
        model,
        reward_funcs: Callable | Sequence[Callable],
        args: ITITRewardConfig,
        processing_class,
        text_encoder: torch.nn.Module,
        train_streams: Mapping,
        eval_dataset=None,
        scheduler: ITITScheduler | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple = (None, None),
    ):
        self.reward_funcs = list(reward_funcs) if isinstance(reward_funcs, Sequence) else [reward_funcs]
        self.reward_names = [reward_name(reward) for reward in self.reward_funcs]
        if not self.reward_names or len(set(self.reward_names)) != len(self.reward_names):
            raise ValueError(f"`reward_funcs` must be one or more, each of another name, got {self.reward_names}")
        for name in ("reward_weights", "reward_warmup_steps"):
            given = getattr(args, name)
            if given is not None and len(given) != len(self.reward_names):
                raise ValueError(f"`{name}` must be one for each of {self.reward_names}, got {given}")
        super().__init__(
            model=model,
            args=args,
            processing_class=processing_class,
            text_encoder=text_encoder,
            train_streams=train_streams,
            eval_dataset=eval_dataset,
            scheduler=scheduler,
            callbacks=callbacks,
            optimizers=optimizers,
        )
        for reward in self.reward_funcs:
            if isinstance(reward, torch.nn.Module):
                reward.to(args.device)
        self.add_callback(_WaitingModulesCallback(self))

    def create_objectives(self) -> RewardObjectives:
        """The losses that the arguments name, and those of the rewards."""
        objectives = RewardObjectives(
            self.args.objectives,
            self.model.config,
            self.text_encoder,
            self.image_tokenizer,
            self.args.objective_settings(),
            self.scheduler,
        )
        objectives.direction = self.args.direction
        return objectives

    def read_streams(self) -> set[str]:
        """Names of the streams that the training reads."""
        read = set(self.objectives.streams) if self.args.ce_interval else set()
        learns = any(hasattr(reward, "update") for reward in self.reward_funcs)
        if learns and self.args.reward_stream != "paired":
            read.add("text")  # what is real
        return read | {self.args.reward_stream}

    @property
    def has_objectives(self) -> bool:
        """Whether the current update trains the named objectives too."""
        interval = self.args.ce_interval
        return interval > 0 and (self.state.global_step + 1) % interval == 0

    @property
    def waiting_parameters(self) -> list[torch.nn.Parameter]:
        """Those that the objectives train and the rewards do not."""
        waiting = [
            name for name in self.objectives.modules if name not in OBJECTIVES[self.args.direction].trained_modules
        ]
        parameters = [p for name in waiting for p in self.model.get_submodule(name).parameters()]
        return [parameter for parameter in parameters if parameter.requires_grad]

    def named_losses(self, model, inputs) -> dict[str, torch.Tensor]:
        """The losses of a micro-batch by name, scalars of shape `()`: `reward`, and those of the objectives when it is
        their turn."""
        stream_batch = self.objectives.with_ids(inputs[self.args.reward_stream])
        reward_loss = self._caption_loss if self.args.direction == "i2t" else self._image_loss
        losses = {"reward": reward_loss(model, stream_batch, inputs)}
        if self.has_objectives:
            return losses | self.objectives(model, inputs)
        # Plain DDP waits for every gradient.
        losses["reward"] = losses["reward"] + sum(0.0 * parameter.sum() for parameter in self.waiting_parameters)
        return losses

    def _caption_loss(self, model, stream_batch: dict, inputs: dict) -> torch.Tensor:
        args = self.args
        objectives = self.objectives
        captions = objectives.captions(model, stream_batch, args.num_generations)
        texts = self._texts(captions)
        self._update_rewards(inputs, texts)
        scores = self._scores(captions, texts, stream_batch)  # (B * G, R)
        rewards = scores @ self._weights_of_rewards()
        if args.baseline == "rloo":
            advantages = rloo_advantages(rewards, args.num_generations)
        else:
            greedy = objectives.captions(model, stream_batch, 0)
            greedy_rewards = self._scores(greedy, self._texts(greedy), stream_batch) @ self._weights_of_rewards()
            advantages = greedy_advantages(rewards, greedy_rewards)
        loss, entropy = objectives.policy_loss(model, stream_batch, captions, advantages, args.length_normalize)
        lengths = captions["attention_mask"].sum(dim=-1)
        ids = captions["input_ids"]
        ended = (ids == objectives.config.eos_token_id).any(dim=-1)
        lengths = {"mean_length": lengths.float().mean(), "clipped_ratio": 1.0 - ended.float().mean()}
        self.add_figures({f"completions/{name}": value for name, value in lengths.items()})
        spread = rewards.view(-1, args.num_generations).std(dim=1, unbiased=args.num_generations > 1)  # (B,)
        self.add_figures({"reward_std": spread.mean(), "frac_reward_zero_std": (spread < 1e-6).float().mean()})
        self._add_rewards(scores, rewards, entropy)
        return loss

    def _image_loss(self, model, stream_batch: dict, inputs: dict) -> torch.Tensor:
        pixel_values, entropy = self.objectives.image(model, stream_batch)
        texts = self._texts(stream_batch)
        scores = torch.stack([reward(pixel_values, texts) for reward in self.reward_funcs], dim=1)  # (B, R)
        for name, values in zip(self.reward_names, scores.detach().unbind(dim=1), strict=True):
            if not values.isfinite().all():
                raise ValueError(f"the reward `{name}` must give finite numbers, got {values.tolist()}")
        rewards = scores @ self._weights_of_rewards()
        self._add_rewards(scores.detach(), rewards.detach(), entropy)
        return -rewards.mean()

    def _texts(self, text: dict[str, torch.Tensor]) -> list[str]:
        ids = text["input_ids"].masked_fill(text["attention_mask"] == 0, -100)
        return self.processing_class.batch_decode(ids)

    def _scores(self, captions: dict[str, torch.Tensor], texts: list[str], stream_batch: dict) -> torch.Tensor:
        """Scores of each caption by each reward, `(num_captions, num_rewards)`."""
        lengths = captions["attention_mask"].sum(dim=-1).tolist()
        ids = [row[:length] for row, length in zip(captions["input_ids"].tolist(), lengths, strict=True)]
        columns = self._columns(stream_batch["sample_index"].tolist(), len(texts) // len(stream_batch["sample_index"]))
        columns["trainer_state"] = self.state
        return score_completions(self.reward_funcs, [""] * len(texts), texts, ids, columns).to(self.args.device)

    def _columns(self, positions: list[int], repeats: int) -> dict[str, list]:
        stream = next(stream for stream in self.streams if stream.name == self.args.reward_stream)
        rows = [row for position in positions for row in [stream.rows[stream.row_index(position)]] * repeats]
        left_out = (*IMAGE_TENSORS, TOKENIZER_COLUMN)
        return {name: [row[name] for row in rows] for name in rows[0] if name not in left_out}

    def _update_rewards(self, inputs: dict, fake: list[str]):
        learning = [reward for reward in self.reward_funcs if hasattr(reward, "update")]
        if not learning:
            return
        real = self._texts(next(inputs[name] for name in ("text", "paired") if name in inputs))
        for reward in learning:
            figures = reward.update(real, fake)
            self.add_figures({f"rewards/{reward_name(reward)}/{name}": value for name, value in figures.items()})

    def _weights_of_rewards(self) -> torch.Tensor:
        """Of this update, `(num_rewards,)`."""
        args = self.args
        step = self.state.global_step + 1
        weights = args.reward_weights or [1.0] * len(self.reward_names)
        rising = args.reward_warmup_steps or [0] * len(self.reward_names)
        weights = [w if step >= rise else w * step / rise for w, rise in zip(weights, rising, strict=True)]
        return torch.tensor(weights, device=args.device)

    def _add_rewards(self, scores: torch.Tensor, rewards: torch.Tensor, entropy: torch.Tensor):
        """Figures by trl's names; `scores` are `(num_samples, num_rewards)`, `rewards` their weighted sums."""
        self.add_figures({"reward": rewards.mean(), "entropy": entropy})
        for name, values in zip(self.reward_names, scores.unbind(dim=1), strict=True):
            spread = values.std(unbiased=len(values) > 1)
            self.add_figures({f"rewards/{name}/mean": values.mean(), f"rewards/{name}/std": spread})

    def _states_of_rewards(self) -> dict:
        named = zip(self.reward_names, self.reward_funcs, strict=True)
        return {name: reward.state_dict() for name, reward in named if hasattr(reward, "state_dict")}

    def _set_rewards(self, states: Mapping):
        for name, reward in zip(self.reward_names, self.reward_funcs, strict=True):
            if name in states:
                reward.load_state_dict(states[name])

    def replicated_state(self) -> dict:
        """Also the state of the rewards that have one."""
        parts = super().replicated_state()
        if any(hasattr(reward, "state_dict") for reward in self.reward_funcs):
            parts["rewards"] = self._states_of_rewards, self._set_rewards
        return parts

    def tensors_to_save(self) -> Iterable[torch.Tensor]:
        """Also those of the rewards, of any shape."""
        yield from super().tensors_to_save()
        yield from _tensors_of(self._states_of_rewards())


def _tensors_of(state) -> Iterable[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        yield state
    for value in state.values() if isinstance(state, Mapping) else []:
        yield from _tensors_of(value)
