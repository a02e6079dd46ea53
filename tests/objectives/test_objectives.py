# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import os
import traceback
from pathlib import Path

import pytest
import torch

from itit_hf.decoding.scheduling_itit import ITITScheduler
from itit_hf.masking import MaskRatio, drop_masked, random_mask
from itit_hf.models.modeling_itit import ITITForPreTraining
from itit_hf.models.types_itit import ImageMask, TextCondition
from itit_hf.objectives.forward import image_of
from itit_hf.objectives.objectives import OBJECTIVES, ITITObjectives, Objective, ObjectiveSettings, synthetic_text
from itit_hf.rng import keyed_generators
from itit_hf.training.training_args import ITITTrainingArguments

from ..testing_utils import tiny_config, tiny_text_encoder


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(2, 40, (4, 6), generator=generator)
    mask = torch.ones(4, 6, dtype=torch.long)
    for row, length in enumerate([6, 4, 3, 5]):
        ids[row, length - 1], ids[row, length:], mask[row, length:] = 1, 0, 0
    paired = {
        "image_token_ids": torch.randint(23, (4, 16), generator=generator),
        "input_ids": ids,
        "attention_mask": mask,
        "sample_index": torch.arange(10, 14),
    }
    return {"paired": paired}


def objectives(model, *names, **settings):
    torch.manual_seed(2)
    return ITITObjectives(names, model.config, tiny_text_encoder(), settings=ObjectiveSettings(**settings))


def drawn_mask(name, ratio, positions):
    generators = keyed_generators(0, f"mask/{name}", positions)
    mask = random_mask(ratio.sample(len(positions), generators), 16, generators)
    return drop_masked(mask, "half", generators)


def of_row(mask, row):
    return ImageMask(mask.bool_masked_pos[row : row + 1], mask.encoder_positions[row : row + 1])


def smoothed(log_probs, label):
    return -0.9 * log_probs[label] - 0.1 * log_probs.mean()


def test_a_pair_without_weight_counts_in_image_to_image_alone(model, batch):
    loss_of = objectives(model, "t2i", "i2t", "i2i")
    plain = loss_of(model, batch)
    ones = loss_of(model, {"paired": batch["paired"] | {"sample_weight": torch.ones(4)}})
    none = loss_of(model, {"paired": batch["paired"] | {"sample_weight": torch.zeros(4)}})
    assert ones == plain
    assert none == {"t2i": 0.0, "i2t": 0.0, "i2i": plain["i2i"]}


@pytest.mark.parametrize("name", ["t2i", "i2t"])
def test_the_weight_of_a_pair_scales_its_own_loss(model, batch, name):
    loss_of = objectives(model, name)
    weights = torch.tensor([1.0, 0.5, 0.0, 2.0])
    alone = [loss_of(model, {"paired": {k: v[b : b + 1] for k, v in batch["paired"].items()}})[name] for b in range(4)]
    weighted = loss_of(model, {"paired": batch["paired"] | {"sample_weight": weights}})[name]
    torch.testing.assert_close(weighted, (torch.stack(alone) * weights).mean(), atol=1e-5, rtol=1e-5)


def test_text_to_image_equals_the_hand_written_reference(model, batch):
    loss_of = objectives(model, "t2i")
    paired, settings = batch["paired"], loss_of.settings
    mask = drawn_mask("t2i", settings.t2i_mask_ratio, [10, 11, 12, 13])
    total = 0.0
    for b in range(4):  # sample by sample, text trimmed, every position's logits, then only the hidden ones count
        length = int(paired["attention_mask"][b].sum())
        text = loss_of.text_encoder(input_ids=paired["input_ids"][b : b + 1, :length]).last_hidden_state
        logits = model(
            image_token_ids=paired["image_token_ids"][b : b + 1],
            image_mask=of_row(mask, b),
            text_condition=TextCondition(text),
            logit_positions=torch.arange(16)[None],
        ).image_logits[0]
        terms = [
            smoothed(logits[k].log_softmax(-1), paired["image_token_ids"][b, k])
            for k in range(16)
            if mask.bool_masked_pos[b, k]
        ]
        total = total + sum(terms) / len(terms) / 4
    torch.testing.assert_close(loss_of(model, batch)["t2i"], total, atol=1e-5, rtol=1e-5)


def test_image_to_text_and_image_to_image_equal_the_hand_written_reference(model, batch):
    loss_of = objectives(model, "i2t", "i2i")
    paired, config = batch["paired"], model.config
    mask = drawn_mask("i2t", loss_of.settings.i2t_mask_ratio, [10, 11, 12, 13])
    captions, images = 0.0, 0.0
    for b in range(4):
        text = paired["input_ids"][b, : int(paired["attention_mask"][b].sum())].tolist()
        prefix = [config.image_token_id] * 9 + [config.bos_token_id]  # 8 kept positions and the null text
        output = model(
            image_token_ids=paired["image_token_ids"][b : b + 1],
            image_mask=of_row(mask, b),
            input_ids=torch.tensor([prefix + text]),
            logit_positions=torch.arange(16)[None],
        )
        said = output.logits[0, 9:, :40].log_softmax(-1)  # from [BOS] on
        captions = captions + sum(smoothed(said[i], t) for i, t in enumerate(text)) / len(text) / 4
        drawn = output.image_logits[0].log_softmax(-1)
        terms = [smoothed(drawn[k], paired["image_token_ids"][b, k]) for k in range(16) if mask.bool_masked_pos[b, k]]
        images = images + sum(terms) / len(terms) / 4
    losses = loss_of(model, batch)
    torch.testing.assert_close(losses["i2t"], captions, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(losses["i2i"], images, atol=1e-5, rtol=1e-5)


def test_one_encoder_pass_serves_both_losses_without_text(model, batch):
    calls = []
    model.model.register_forward_hook(lambda *args: calls.append(1))
    objectives(model, "i2t", "i2i")(model, batch)
    assert len(calls) == 1


def test_a_mask_ratio_of_its_own_costs_image_to_image_a_pass(model, batch):
    calls = []
    model.model.register_forward_hook(lambda *args: calls.append(1))
    whole = MaskRatio(0.0, 0.0, 0.0, 0.0)
    losses = objectives(model, "i2t", "i2i", i2t_mask_ratio=whole, i2i_mask_ratio=MaskRatio())(model, batch)
    assert len(calls) == 2 and list(losses) == ["i2t", "i2i"]


def gradients(model, batch, *names, **settings):
    model.zero_grad()
    sum(objectives(model, *names, **settings)(model, batch).values()).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def test_text_to_image_trains_encoder_and_image_decoder_only(model, batch):
    reached = gradients(model, batch, "t2i")
    assert not any(name.startswith("text_decoder") for name in reached)
    untouched = {name for name, _ in model.named_parameters() if not name.startswith("text_decoder")} - set(reached)
    assert untouched == set()


def test_image_to_text_trains_encoder_and_text_decoder_only(model, batch):
    reached = gradients(model, batch, "i2t")
    assert not any(name.startswith("image_decoder") for name in reached)
    untouched = {name for name, _ in model.named_parameters() if not name.startswith("image_decoder")} - set(reached)
    assert untouched == set()


def test_the_text_decoders_gradient_into_the_encoder_is_a_tenth(model, batch):
    tenth, whole = gradients(model, batch, "i2t"), gradients(model, batch, "i2t", text_gradient_scale=1.0)
    name = "model.layers.0.fc1.weight"
    torch.testing.assert_close(tenth[name], 0.1 * whole[name], atol=1e-6, rtol=1e-3)
    name = "text_decoder.layers.0.fc1.weight"
    torch.testing.assert_close(tenth[name], whole[name], atol=1e-6, rtol=1e-3)


def test_the_text_encoder_stays_frozen(model, batch):
    loss_of = objectives(model, "t2i", "i2t", "i2i")
    sum(loss_of(model, batch).values()).backward()
    assert all(p.grad is None for p in loss_of.text_encoder.parameters())


def test_dropping_all_masked_positions_gives_finite_losses_that_ignore_neighbours(batch):
    model = ITITForPreTraining(tiny_config(encoder_drop="all"))
    loss_of = objectives(model, "t2i", "i2t", "i2i")
    together = loss_of(model, batch)
    rows = [{"paired": {name: value[b : b + 1] for name, value in batch["paired"].items()}} for b in range(4)]
    for name, value in together.items():
        alone = sum(loss_of(model, row)[name] for row in rows) / 4
        torch.testing.assert_close(value, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("names", [(), ("t2i", "t2i"), ("text2image",)])
def test_names_that_are_none_are_refused(model, names):
    with pytest.raises(ValueError, match="`names` must be one or more of"):
        objectives(model, *names)


@pytest.mark.parametrize(
    "settings", [{"smoothing_neighbours": -1}, {"smoothing_neighbours": 2, "label_smoothing": 0.0}]
)
def test_neighbours_that_would_do_nothing_are_refused(settings):
    with pytest.raises(ValueError, match="`smoothing_neighbours` must be 0 or more, and 0 without `label_smoothing`"):
        ObjectiveSettings(**settings)


def test_neighbours_need_the_codebook(model):
    with pytest.raises(ValueError, match="`image_tokenizer` must be given with `smoothing_neighbours` 2"):
        objectives(model, "t2i", smoothing_neighbours=2)


def test_a_missing_stream_is_named(model):
    with pytest.raises(ValueError, match="need the streams"):
        objectives(model, "t2i")(model, {"image": {}})


def test_pixels_without_a_tokenizer_are_refused(model, batch):
    batch["paired"]["pixel_values"] = batch["paired"].pop("image_token_ids")
    with pytest.raises(ValueError, match="`image_tokenizer` must be given"):
        objectives(model, "t2i")(model, batch)


def test_the_papers_halves_are_disjoint_pairs(model, batch):
    loss_of = objectives(model, "t2i", "i2t", "i2i", t2i_batch_fraction=0.5, i2t_batch_fraction=0.5)
    halves = [{"paired": {name: value[rows] for name, value in batch["paired"].items()}} for rows in ([0, 1], [2, 3])]
    whole, everything = loss_of(model, batch), objectives(model, "t2i", "i2t", "i2i")
    torch.testing.assert_close(whole["t2i"], everything(model, halves[0])["t2i"])
    torch.testing.assert_close(whole["i2t"], everything(model, halves[1])["i2t"])
    torch.testing.assert_close(whole["i2i"], everything(model, halves[1])["i2i"])


def test_a_share_that_cuts_a_pair_is_named(model, batch):
    with pytest.raises(ValueError, match="`i2t_batch_fraction` must give a whole number of 1 to 4 rows"):
        objectives(model, "i2t", i2t_batch_fraction=0.3)(model, batch)


STREAM_NAMES = ["t2t", "t2t_copy", "t2i2t", "t2i2t_half", "i2i_unpaired", "i2t2i", "i2t2i_half"]


def all_objectives(model, *names, **settings):
    torch.manual_seed(2)
    scheduler = ITITScheduler(mask_token_id=23, temperature=2.0)
    options = {"synthesis_steps": 3, "synthesis_max_new_tokens": 6} | settings
    encoder = tiny_text_encoder().requires_grad_(False)
    return ITITObjectives(names, model.config, encoder, settings=ObjectiveSettings(**options), scheduler=scheduler)


@pytest.fixture
def mixed(batch):
    pairs = batch["paired"]
    image = {"image_token_ids": pairs["image_token_ids"].flip(0), "sample_index": torch.arange(4)}
    text = {name: pairs[name].flip(0) for name in ("input_ids", "attention_mask")} | {"sample_index": torch.arange(4)}
    return batch | {"image": image, "text": text}


def losses_and_gradients(loss_of, model, batch):
    """Losses by name, and the gradients of a sum in which each loss has a weight of its own."""
    losses, parameters = loss_of(model, batch), dict(model.named_parameters())
    total = sum((1 + number) * loss for number, loss in enumerate(losses.values()))
    found = torch.autograd.grad(total, parameters.values(), allow_unused=True, materialize_grads=True)
    return losses, dict(zip(parameters, found, strict=True))


@pytest.mark.parametrize(
    ("names", "settings"),
    [
        (("t2i", "i2t", "i2i"), {}),
        (("t2t", "t2t_copy"), {}),
        (("i2i_unpaired", "i2t2i", "i2t2i_half"), {}),
        (("t2i2t", "t2i2t_half"), {}),
        (("t2i2t", "t2i2t_half"), {"train_code_embeddings": False}),
        (("t2i2t", "t2i2t_half"), {"train_code_embeddings": False, "reconstruction": "all"}),
    ],
)
def test_a_samples_losses_and_gradients_do_not_depend_on_its_neighbours(model, mixed, names, settings):
    loss_of = all_objectives(model, *names, **settings)
    (stream,) = loss_of.streams
    rows = [{stream: {key: value[b : b + 1] for key, value in mixed[stream].items()}} for b in range(4)]
    together = losses_and_gradients(loss_of, model, mixed)
    alone = [losses_and_gradients(loss_of, model, row) for row in rows]
    for name, loss in together[0].items():
        torch.testing.assert_close(loss, sum(losses[name] for losses, _ in alone) / 4, atol=1e-5, rtol=1e-5)
    for parameter, gradient in together[1].items():
        mean = sum(gradients[parameter] for _, gradients in alone) / 4
        torch.testing.assert_close(gradient, mean, atol=1e-6, rtol=1e-3, msg=lambda m, n=parameter: f"{n}: {m}")


@pytest.mark.parametrize("name", STREAM_NAMES)
def test_unpaired_losses_read_their_stream_alone(model, mixed, name):
    loss_of = all_objectives(model, name)
    assert loss_of(model, {loss_of.streams[0]: mixed[loss_of.streams[0]]}).keys() == {name}


@pytest.mark.parametrize(("name", "decoders"), [
    ("t2t", {"text"}), ("t2t_copy", {"text"}), ("t2i2t", {"text", "image"}), ("t2i2t_half", {"text"}),
    ("i2i_unpaired", {"image"}), ("i2t2i", {"text", "image"}), ("i2t2i_half", {"image"}),
])  # fmt: skip
def test_each_objective_trains_the_decoders_it_should(model, mixed, name, decoders):
    model.zero_grad()
    all_objectives(model, name)(model, mixed)[name].backward()
    reached = {n.split("_")[0] for n, p in model.named_parameters() if "decoder" in n and p.grad is not None}
    assert reached == decoders
    assert model.model.layers[0].fc1.weight.grad.any()


@pytest.mark.parametrize("names", [("t2i",), ("i2t",), ("i2t", "t2i"), ("t2t", "i2i_unpaired"), ("i2t2i_half",)])
def test_idle_decoders_are_those_without_a_gradient(model, mixed, names):
    loss_of = all_objectives(model, *names)
    model.zero_grad()
    sum(loss_of(model, mixed).values()).backward()
    without = {n.split(".")[0] for n, p in model.named_parameters() if "decoder" in n and p.grad is None}
    assert set(loss_of.untrained_modules) == without


def test_synthesis_leaves_the_model_in_training(model, mixed):
    all_objectives(model, "t2i2t", "i2t2i")(model.train(), mixed)
    assert model.training


def test_the_text_ends_at_its_first_end_of_sequence():
    words = torch.tensor([[5, 1, 0, 0], [5, 6, 7, 8], [1, 1, 3, 0]])
    said = synthetic_text(tiny_config(), torch.cat([torch.full((3, 18), 40), words], dim=1))
    assert said["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]


def test_objectives_that_generate_images_need_a_scheduler(model):
    with pytest.raises(ValueError, match="`scheduler` must be given"):
        objectives(model, "t2i2t")


@pytest.mark.parametrize("name", ["t2i2t", "i2t2i"])
def test_a_replayed_synthesis_is_not_made_again(model, mixed, monkeypatch, name):
    loss_of, made = all_objectives(model, name, synthesis_replay=3), []
    synthesise = "generate_images" if name == "t2i2t" else "caption_images"
    original = getattr(loss_of, synthesise)
    monkeypatch.setattr(loss_of, synthesise, lambda *args: made.append(1) or original(*args))
    (stream,) = loss_of.streams
    losses = [
        loss_of(model, {stream: mixed[stream] | {"replay_index": torch.tensor(use)}})[name].item() for use in range(3)
    ]
    assert len(made) == 1
    assert len(set(losses)) == 3  # new masks and noise each time


@pytest.mark.parametrize(("name", "setting"), [("t2i2t", "t2i2t_second"), ("i2t2i", "i2t2i_second")])
def test_second_passes_may_have_a_mask_ratio_of_their_own(model, mixed, monkeypatch, name, setting):
    loss_of = all_objectives(model, name, **{f"{setting}_mask_ratio": MaskRatio(1.0, 0.0, 1.0, 1.0)})
    drawn, original = {}, loss_of.draw_mask
    monkeypatch.setattr(
        loss_of, "draw_mask", lambda part, of, ratio: drawn.setdefault(of.split("/")[1], original(part, of, ratio))
    )
    loss_of(model, mixed)
    assert bool(drawn["second"].bool_masked_pos.all()) and not bool(drawn["first"].bool_masked_pos.all())


def test_captioning_stops_when_all_captions_have_ended(model, mixed):
    end = torch.zeros(4, 1, 48)
    end[..., 1] = 1.0
    calls = []
    model.text_decoder.logits = lambda hidden: calls.append(1) or end
    said = all_objectives(model, "i2t2i", synthesis_max_new_tokens=20).caption_images(model, image_of(mixed["image"]))
    assert said["input_ids"].tolist() == [[1]] * 4 and len(calls) == 1


def test_unknown_choices_are_named():
    with pytest.raises(ValueError, match="`reconstruction` must be one of"):
        ObjectiveSettings(reconstruction="some")
    with pytest.raises(ValueError, match="`synthesis_replay` must be at least 1"):
        ObjectiveSettings(synthesis_replay=0)


def test_text_to_text_is_image_to_text_of_an_image_that_is_all_masked(mixed):
    model = ITITForPreTraining(tiny_config(encoder_drop="none"))
    all_of_it = MaskRatio(1.0, 0.0, 1.0, 1.0)
    pairs = mixed["text"] | {"image_token_ids": mixed["image"]["image_token_ids"]}
    described = all_objectives(model, "i2t", i2t_mask_ratio=all_of_it)(model, {"paired": pairs})["i2t"]
    torch.testing.assert_close(all_objectives(model, "t2t")(model, mixed)["t2t"], described)


def test_text_to_text_reads_no_text_but_the_words_before(model, mixed):
    loss_of = all_objectives(model, "t2t")
    loss_of.text_features = None  # the text encoder is not asked
    seen = []
    model.model.register_forward_hook(lambda module, args, output: seen.append(output.last_hidden_state))
    loss_of(model, mixed)
    loss_of(model, {"text": mixed["text"] | {"input_ids": mixed["text"]["input_ids"].flip(0)}})
    assert torch.equal(*seen)


class Witness:
    """Keeps what a monitor is shown."""

    def __init__(self):
        self.seen = {}

    def __getattr__(self, method):
        return lambda name, *shown: self.seen.setdefault((method, name), shown)


def test_a_monitor_is_shown_what_is_synthesised_and_predicted(model, mixed):
    loss_of = all_objectives(model, "t2i", "i2t", "i2i", "t2i2t", "i2t2i")
    loss_of.monitor = witness = Witness()
    loss_of(model, mixed)
    assert set(witness.seen) == {
        ("predicted", "t2i"), ("predicted", "i2i"), ("predicted", "i2t2i"),
        ("generated", "t2i2t"), ("captioned", "i2t2i"), ("cycled", "t2i2t"), ("cycled", "i2t2i"),
    }  # fmt: skip


def test_the_image_generated_again_differs_at_masked_tokens_only(model, mixed):
    loss_of = all_objectives(model, "i2t2i")
    loss_of.monitor = witness = Witness()
    loss_of(model, mixed)
    original, _, again = witness.seen["cycled", "i2t2i"]
    hidden = witness.seen["predicted", "i2t2i"][1]
    assert torch.equal(again[~hidden], original[~hidden]) and not torch.equal(again[hidden], original[hidden])


@pytest.mark.parametrize("begins", [False, True])
def test_the_text_that_comes_back_has_a_mask_for_each_of_its_tokens(mixed, begins):
    """Where texts begin with a token, as BERT's do, that one is given and does not come back."""
    model = ITITForPreTraining(tiny_config(text_begins_with_bos=begins))
    loss_of = all_objectives(model, "t2i2t")
    loss_of.monitor = witness = Witness()
    loss_of(model, mixed)
    _, _, again = witness.seen["cycled", "t2i2t"]
    lengths = mixed["text"]["attention_mask"].sum(dim=1) - int(begins)
    assert again["input_ids"].shape == again["attention_mask"].shape
    assert torch.equal(again["attention_mask"].sum(dim=1), lengths)


def test_kept_text_features_change_no_loss_and_spare_the_text_encoder(model, batch):
    model.eval()
    want = objectives(model, "t2i")(model, batch)["t2i"]
    loss_of, read = objectives(model, "t2i", text_cache_size=9), []
    loss_of.text_encoder.register_forward_hook(lambda *args: read.append(1))
    for _ in range(2):
        torch.testing.assert_close(loss_of(model, batch)["t2i"], want, atol=1e-5, rtol=1e-5)
    assert len(read) == 4  # each text once


# The table


def count_of_words(objectives, model, batch, name):
    """As a loss: how many tokens the texts have."""
    return {name: batch["attention_mask"].sum().float()}


@pytest.fixture
def another_objective(monkeypatch):
    row = Objective("text", ("text_decoder",), count_of_words, "number of words")
    monkeypatch.setitem(OBJECTIVES, "words", row)


def test_another_objective_is_one_row_and_one_function(model, mixed, another_objective):
    loss_of = all_objectives(model, "words", "t2i")
    assert loss_of.streams == ("text", "paired") and loss_of.untrained_modules == ()
    losses = loss_of(model, mixed)
    assert list(losses) == ["words", "t2i"] and losses["words"] == 18  # 6 + 4 + 3 + 5


def test_the_trainers_arguments_take_another_objective(tmp_path, another_objective):
    args = ITITTrainingArguments(tmp_path, objectives=["words"], loss_weights={"words": 0.5}, use_cpu=True)
    assert args.objectives == ["words"]


@pytest.mark.parametrize(("stream", "word"), [("paired", "pairs"), ("text", "sentences"), ("image", "images")])
def test_the_page_of_names_lists_the_table(stream, word):
    page = (Path(__file__).parents[2] / "docs" / "names.md").read_text(encoding="utf-8")
    names = [f"`{name}`" for name, objective in OBJECTIVES.items() if objective.stream == stream]
    assert f"{' '.join(names)} on {word}" in page


def calls_of_ours() -> list[str]:
    """Names of the package's functions on the stack, the outermost first."""
    frames = traceback.extract_stack()
    return [frame.name for frame in frames if f"{os.sep}itit_hf{os.sep}" in frame.filename]


@pytest.mark.parametrize(
    ("name", "to_the_network", "to_the_cross_entropy"),
    [
        ("t2i", ["text_to_image", "image_forward"], ["text_to_image", "masked_image_loss"]),
        ("i2t", ["image_to_text", "caption_forward"], ["image_to_text", "caption_loss"]),
    ],
)
def test_from_a_batch_to_its_loss_it_is_few_calls(
    model, batch, monkeypatch, name, to_the_network, to_the_cross_entropy
):
    stacks, cross_entropy = [], torch.nn.functional.cross_entropy
    model.register_forward_pre_hook(lambda *args: stacks.append(calls_of_ours()))
    monkeypatch.setattr(
        torch.nn.functional, "cross_entropy", lambda *a, **k: stacks.append(calls_of_ours()) or cross_entropy(*a, **k)
    )
    objectives(model, name)(model, batch)
    assert stacks == [["__call__", *to_the_network], ["__call__", *to_the_cross_entropy]]
