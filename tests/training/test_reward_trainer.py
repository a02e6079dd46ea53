# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from itit_hf import CiderD, ClipImageReward, DiscriminatorReward, ITITRewardConfig, ITITRewardTrainer
from itit_hf.data.image_tokens import add_image_token_ids
from itit_hf.objectives.objectives import synthetic_text
from itit_hf.training.reward_trainer import KeyedWords, token_entropy

from ..testing_utils import tiny_dual_encoder, tiny_pairs, tiny_pipeline
from ..training_utils import launch


def says_red(completions, **kwargs):
    """A reward as one would write it for trl."""
    return [float("red" in completion.split()) for completion in completions]


def even_words(completion_ids, **kwargs):
    return [sum(token % 2 == 0 for token in ids) / len(ids) for ids in completion_ids]


def has_length(completion_ids, **kwargs):
    return [float(len(ids)) for ids in completion_ids]


def make_trainer(folder, rewards=says_red, pipe=None, streams=("paired",), **changes):
    """A reward trainer of the tiny pipeline on 24 pairs, 4 in an update; dropout is off unless the pipeline has it."""
    pipe = pipe or tiny_pipeline()
    values = {
        "output_dir": str(folder),
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "num_generations": 3,
        "synthesis_max_new_tokens": 5,
        "synthesis_steps": 2,
        "learning_rate": 1e-2,
        "optim": "adamw_torch",
        "warmup_steps": 0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
    }
    pairs = add_image_token_ids(tiny_pairs(), pipe.processor)
    return ITITRewardTrainer(
        model=pipe.model,
        reward_funcs=rewards,
        args=ITITRewardConfig(**(values | changes)),
        processing_class=pipe.processor,
        text_encoder=pipe.text_encoder,
        train_streams=dict.fromkeys(streams, pairs),
        eval_dataset=pairs.select(range(4)),
        scheduler=pipe.scheduler,
    )


def first_part(trainer, size=4):
    """The first batch's pairs."""
    batch = next(iter(trainer.get_train_dataloader()))
    return {name: value[:size] if value.ndim else value for name, value in batch["paired"].items()}


def weights_of(module):
    return [parameter.detach().clone() for parameter in module.parameters()]


def same(before, module):
    return all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def logs_of(trainer):
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def test_figures_have_the_names_that_trl_gives_them(tmp_path):
    trainer = make_trainer(tmp_path, [even_words, has_length], reward_weights=[2.0, 0.5], max_steps=1)
    trainer.train()
    (entry,) = logs_of(trainer)
    means = [entry[f"rewards/{name}/mean"] for name in ("even_words", "has_length")]
    assert entry["reward"] == pytest.approx(2 * means[0] + 0.5 * means[1], rel=1e-3)
    assert means[1] == pytest.approx(entry["completions/mean_length"], rel=1e-3)
    assert 0.0 <= entry["completions/clipped_ratio"] <= 1.0 and entry["reward_std"] > 0.0
    assert 0.0 < entry["entropy"] < math.log(40) and 0.0 <= entry["frac_reward_zero_std"] < 1.0
    assert entry["loss_reward"] == pytest.approx(entry["loss"], abs=2e-3)


def test_what_is_rewarded_becomes_likely(tmp_path):
    trainer = make_trainer(tmp_path, even_words, ce_interval=0, max_steps=20, logging_steps=5)
    trainer.train()
    rewards = [entry["reward"] for entry in logs_of(trainer)]
    assert rewards[-1] > rewards[0] + 0.2


def test_cross_entropy_has_one_update_in_three(tmp_path):
    trainer = make_trainer(tmp_path, max_steps=6)
    trainer.train()
    assert ["loss_i2t" in entry for entry in logs_of(trainer)] == [False, False, True] * 2
    assert all("loss_reward" in entry for entry in logs_of(trainer))


def test_the_idle_decoder_waits_until_the_objectives_have_their_turn(tmp_path):
    moved, trainer = [], make_trainer(tmp_path, max_steps=4, ce_interval=3, weight_decay=0.1)
    named_losses = trainer.named_losses

    def note(model, inputs):
        moved.append(weights_of(trainer.model.image_decoder))
        return named_losses(model, inputs)

    trainer.named_losses = note
    trainer.train()
    changed = [not all(map(torch.equal, a, b)) for a, b in zip(moved, moved[1:], strict=False)]
    assert changed == [False, False, True]  # between the updates 1, 2, 3, 4
    assert same(moved[3], trainer.model.image_decoder)


def test_the_stream_of_pairs_is_not_needed_without_objectives(tmp_path):
    trainer = make_trainer(tmp_path, streams=("image",), reward_stream="image", ce_interval=0, max_steps=1)
    trainer.train()
    assert "reward" in logs_of(trainer)[0]
    with pytest.raises(ValueError, match=r"read the streams \['image', 'paired'\], `train_streams` has \['image'\]"):
        make_trainer(tmp_path, streams=("image",), reward_stream="image")


def test_words_are_drawn_by_their_probability():
    scores = torch.tensor([0.1, 0.0, 0.6, 0.3]).log().repeat(2000, 1)
    uniform = torch.rand(2000, 1, generator=torch.Generator().manual_seed(0))
    left = KeyedWords(uniform)(None, scores)
    assert (left.isfinite().sum(dim=-1) == 1).all()
    shares = left.argmax(dim=-1).bincount(minlength=4) / 2000
    assert shares.tolist() == pytest.approx([0.1, 0.0, 0.6, 0.3], abs=0.03)
    assert shares[1] == 0.0


def test_each_word_of_a_caption_is_drawn_by_its_own_noise():
    draw = KeyedWords(torch.tensor([[0.1, 0.6, 0.9]]))
    scores = torch.zeros(1, 3)
    assert [int(draw(None, scores).argmax()) for _ in range(3)] == [0, 1, 2]


def test_a_image_is_described_the_same_whatever_stands_beside_it(tmp_path):
    trainer = make_trainer(tmp_path)
    whole, alone = first_part(trainer), first_part(trainer, size=1)
    said = trainer.objectives.captions(trainer.model, whole, 3)
    again = trainer.objectives.captions(trainer.model, alone, 3)
    length = again["input_ids"].size(1)
    assert torch.equal(said["input_ids"][:3, :length], again["input_ids"])
    assert len({tuple(row) for row in said["input_ids"].tolist()}) > 6  # of 12: noise differs
    assert torch.equal(said["input_ids"], trainer.objectives.captions(trainer.model, whole, 3)["input_ids"])


@pytest.mark.parametrize("length_normalize", [True, False])
def test_the_loss_is_the_advantage_times_the_log_probability(tmp_path, length_normalize):
    trainer = make_trainer(tmp_path)
    part = first_part(trainer, size=2)
    trainer.model.eval()
    words = torch.tensor([[5, 1, 0, 0], [5, 6, 7, 1], [8, 9, 1, 0], [1, 0, 0, 0]])
    said = synthetic_text(trainer.model.config, torch.cat([torch.full((4, 18), 40), words], dim=1))
    advantages = torch.tensor([1.0, -2.0, 0.5, 3.0])
    loss, _ = trainer.objectives.policy_loss(trainer.model, part, said, advantages, length_normalize)
    expected, model = 0.0, trainer.model
    for i, advantage in enumerate(advantages):
        words = said["input_ids"][i, : said["attention_mask"][i].sum()]
        features = model.model(part["image_token_ids"][i // 2 : i // 2 + 1]).last_hidden_state
        prefix = torch.full((1, features.size(1)), model.config.image_token_id)
        start = torch.tensor([[model.config.bos_token_id]])
        ids = torch.cat([prefix, start, words[None, :-1]], dim=1)
        logits = model(input_ids=ids, encoder_hidden_states=features).logits[0, -len(words) :, :40]
        chosen = logits.log_softmax(dim=-1).gather(1, words[:, None])
        expected -= advantage * (chosen.mean() if length_normalize else chosen.sum()) / 4
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("length_normalize", [True, False])
def test_the_trainer_hands_on_how_lengths_count(tmp_path, monkeypatch, length_normalize):
    trainer, handed = make_trainer(tmp_path, max_steps=1, length_normalize=length_normalize), []
    policy_loss = trainer.objectives.policy_loss
    monkeypatch.setattr(trainer.objectives, "policy_loss", lambda *args: handed.append(args[-1]) or policy_loss(*args))
    trainer.train()
    assert handed == [length_normalize]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_words_and_their_entropy_are_those_of_float32_logits(dtype):
    generator = torch.Generator().manual_seed(0)
    logits, uniform = torch.randn(400, 37, generator=generator).to(dtype), torch.rand(400, 1, generator=generator)
    assert torch.equal(
        KeyedWords(uniform)(None, logits).argmax(-1), KeyedWords(uniform)(None, logits.float()).argmax(-1)
    )
    everywhere = torch.ones(1, 400, dtype=torch.bool)
    assert torch.equal(token_entropy(logits[None], everywhere), token_entropy(logits[None].float(), everywhere))


def test_the_greedy_baseline_scores_the_greedy_caption(tmp_path):
    asked = []

    def count(completions, **kwargs):
        asked.append(len(completions))
        return [0.5] * len(completions)

    trainer = make_trainer(tmp_path, count, baseline="greedy", num_generations=2, max_steps=1)
    trainer.train()
    assert asked == [8, 4]
    assert logs_of(trainer)[0]["loss_reward"] == pytest.approx(0.0, abs=1e-6)  # all are as good as the baseline


def test_rewards_are_given_the_rows_columns_as_often_as_there_are_captions(tmp_path):
    seen = {}

    def look(completions, text, trainer_state, **kwargs):
        seen.update(kwargs, text=text, step=trainer_state.global_step)
        return [0.0] * len(completions)

    trainer = make_trainer(tmp_path, look, max_steps=1)
    positions = first_part(trainer)["sample_index"].tolist()
    trainer.train()
    rows = [trainer.streams[0].rows[trainer.streams[0].row_index(position)] for position in positions]
    assert seen["text"] == [row["text"] for row in rows for _ in range(3)]
    assert set(seen) == {"text", "image", "step", "prompts", "completion_ids"} and seen["step"] == 0


def test_a_weight_rises_over_its_warm_up(tmp_path):
    trainer = make_trainer(tmp_path, [even_words, has_length], reward_weights=[1.0, 3.0], reward_warmup_steps=[0, 4])
    weights = []
    for step in (0, 1, 3, 9):
        trainer.state.global_step = step
        weights.append(trainer._weights_of_rewards().tolist())
    assert weights == [[1.0, 0.75], [1.0, 1.5], [1.0, 3.0], [1.0, 3.0]]


def test_a_broken_reward_ends_the_training_with_its_name(tmp_path):
    def broken(completions, **kwargs):
        return [math.nan] * len(completions)

    with pytest.raises(ValueError, match="the reward `broken` must give finite numbers, got nan for completion 0"):
        make_trainer(tmp_path, [says_red, broken]).train()


def naturalness(pipe):
    torch.manual_seed(3)
    return DiscriminatorReward.small(pipe.tokenizer, learning_rate=1e-2, hidden_size=16)


def test_a_run_with_rewards_that_have_state_resumes_bit_identically(tmp_path):
    def run(folder):
        pipe = tiny_pipeline(hidden_dropout_prob=0.1)
        rewards = [naturalness(pipe), CiderD(tiny_pairs()["text"][:])]
        options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
        return make_trainer(folder, rewards, pipe, **options)

    whole = run(tmp_path / "whole")
    whole.train()
    resumed = run(tmp_path / "resumed")
    resumed.reward_funcs[1].load_state_dict(CiderD([["a"]]).state_dict())  # the checkpoint's count is taken over it
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert same(weights_of(whole.model), resumed.model)
    assert same(weights_of(whole.reward_funcs[0].model), resumed.reward_funcs[0].model)
    assert logs_of(whole)[2:] == logs_of(resumed)[2:]
    assert {"rewards/DiscriminatorReward/loss", "rewards/DiscriminatorReward/accuracy"} <= logs_of(whole)[0].keys()


def test_cycles_and_rewards_in_one_update_are_the_sum_of_both(tmp_path):
    options = {"objectives": ["i2t", "t2i2t"], "ce_interval": 1, "streams": ("paired", "text"), "gumbel_strength": 0.0}

    def gradients(names):
        trainer = make_trainer(tmp_path, even_words, **options)
        batch = next(iter(trainer.get_train_dataloader()))
        losses = trainer.named_losses(trainer.model, batch)
        sum(losses[name] for name in names).backward()
        zeros = (torch.zeros_like(p) if p.grad is None else p.grad for p in trainer.model.parameters())
        return {name: value.item() for name, value in losses.items()}, torch.cat([g.flatten() for g in zeros])

    losses, together = gradients(["reward", "i2t", "t2i2t"])
    reward, cycle = gradients(["reward"])[1], gradients(["i2t", "t2i2t"])[1]
    assert list(losses) == ["reward", "i2t", "t2i2t"]
    torch.testing.assert_close(together, reward + cycle, atol=1e-6, rtol=1e-5)
    assert reward.abs().sum() > 0 and cycle.abs().sum() > 0


# Images.


def redness(pixel_values, texts):
    return pixel_values[:, 0].mean(dim=(1, 2)) - pixel_values[:, 1:].mean(dim=(1, 2, 3))


def test_the_gradient_of_an_image_reward_reaches_the_drawing_path_and_the_text_path_alone(tmp_path):
    torch.manual_seed(0)
    scorer = tiny_dual_encoder()
    trainer = make_trainer(tmp_path, ClipImageReward(scorer), direction="t2i", objectives=["i2t", "t2i"])
    part = first_part(trainer)
    losses = trainer.named_losses(trainer.model, {"paired": part})
    losses["reward"].backward()
    model = trainer.model
    for parameter in (model.image_decoder.mask_embedding, model.model.project_text.weight):
        assert parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0
    for frozen in (trainer.image_tokenizer, scorer.model, trainer.text_encoder):
        assert all(parameter.grad is None for parameter in frozen.parameters())
    assert all(not parameter.grad.any() for parameter in model.text_decoder.parameters())


def test_images_follow_their_reward(tmp_path):
    # 15 steps are few: the margin was measured on the batches of this order.
    options = {"ce_interval": 0, "max_steps": 15, "logging_steps": 5, "data_order": "randperm"}
    trainer = make_trainer(tmp_path, redness, direction="t2i", **options)
    trainer.train()
    rewards = [entry["reward"] for entry in logs_of(trainer)]
    assert rewards[-1] > rewards[0] + 0.01
    assert not {"reward_std", "frac_reward_zero_std", "completions/mean_length"} & logs_of(trainer)[0].keys()
    assert logs_of(trainer)[0]["rewards/redness/mean"] == pytest.approx(rewards[0], rel=1e-3)


def test_an_image_reward_that_is_not_finite_is_named(tmp_path):
    def dark(pixel_values, texts):
        return torch.log(pixel_values.mean(dim=(1, 2, 3)) * 0.0)

    with pytest.raises(ValueError, match="the reward `dark` must give finite numbers, got"):
        make_trainer(tmp_path, dark, direction="t2i").train()


def test_entropy_counts_where_it_is_told_to():
    logits = torch.tensor([[[0.0, 0.0], [50.0, 0.0]]])
    assert token_entropy(logits, torch.tensor([[True, False]])).item() == pytest.approx(math.log(2))
    assert token_entropy(logits, torch.tensor([[True, True]])).item() == pytest.approx(math.log(2) / 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"direction": "both"}, r"`direction` must be one of \('i2t', 't2i'\), got 'both'"),
        ({"baseline": "mean"}, r"`baseline` must be one of \('rloo', 'greedy'\), got 'mean'"),
        ({"reward_stream": "text"}, r"`reward_stream` must be one of \('paired', 'image'\), got 'text'"),
        ({"num_generations": 1}, "`num_generations` must be at least 2, got 1"),
        ({"ce_interval": -1}, "`ce_interval` must be 0 or more, got -1"),
        ({"on_bad_image": "skip"}, "`on_bad_image` must be raise"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        ITITRewardConfig(output_dir=str(tmp_path), use_cpu=True, **changes)


@pytest.mark.parametrize(
    ("rewards", "changes", "message"),
    [
        ([], {}, r"`reward_funcs` must be one or more, each of another name, got \[\]"),
        ([says_red, says_red], {}, "each of another name"),
        ([says_red], {"reward_weights": [1.0, 2.0]}, r"`reward_weights` must be one for each of \['says_red'\]"),
    ],
)
def test_rewards_and_their_weights_must_fit(tmp_path, rewards, changes, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, rewards, **changes)


def four_updates(folder, batch_size):
    """Weights of the model and of the discriminator, which has no dropout, after four updates of plain descent."""
    pipe = tiny_pipeline()
    torch.manual_seed(3)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(vocab_size=48, max_position_embeddings=32, num_labels=1, **sizes, **still)
    reward = DiscriminatorReward(
        BertForSequenceClassification(config), pipe.tokenizer, learning_rate=1e-3, max_length=32
    )
    options = {"optim": "sgd", "learning_rate": 0.01, "max_grad_norm": 0.0, "max_steps": 4}
    trainer = make_trainer(folder, [reward, even_words], pipe, per_device_train_batch_size=batch_size, **options)
    trainer.train()
    weights = [torch.cat([value.flatten() for value in weights_of(module)]) for module in (pipe.model, reward.model)]
    return weights, [entry["reward"] for entry in logs_of(trainer)]


@pytest.mark.slow
def test_two_processes_reward_as_one_does(tmp_path):
    (first, rewards), (second, _) = launch(four_updates, tmp_path, tmp_path, 2)
    alone, expected = four_updates(tmp_path, 4)
    assert rewards == pytest.approx(expected, abs=1e-3)
    for ours, theirs, whole in zip(first, second, alone, strict=True):
        assert torch.equal(ours, theirs)
        torch.testing.assert_close(ours, whole, atol=1e-4, rtol=1e-3)
