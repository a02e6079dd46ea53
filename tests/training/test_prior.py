# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Pairs of a start's own making, which hold what it knows."""

import pytest
import torch
from datasets import Dataset
from datasets import config as datasets_config

from itit_hf.decoding.sampling import SamplingSettings
from itit_hf.training import prior as prior_module
from itit_hf.training.prior import PriorArguments, mix_prior, prior_pairs

from ..testing_utils import tiny_pairs, tiny_pipeline, tokenized_pairs

TEXTS = [{"text": f"{colour} {thing}"} for colour in ("red", "blue", "green") for thing in ("bus", "fish", "tree")]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets_config, "HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.setattr(prior_module, "CHUNK_SIZE", 4)
    return tmp_path / "itit_hf"


@pytest.fixture
def pipe():
    pipe = tiny_pipeline()
    pipe.sampling = SamplingSettings(num_inference_steps=2)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def cycles(pipe, monkeypatch):
    """The prompts of each chunk that is made."""
    made, cycle = [], pipe.cycle
    monkeypatch.setattr(pipe, "cycle", lambda prompts, **rest: made.append(prompts) or cycle(prompts, **rest))
    return made


def test_a_pair_is_what_the_start_generates_of_a_text_and_says_of_it(pipe):
    pairs = prior_pairs(pipe, TEXTS, 5)
    assert len(pairs) == 5 and {row["text"][0] for row in pairs} <= {row["text"] for row in TEXTS}
    assert len({row["text"][0] for row in pairs}) == 5  # of nine texts none comes twice before all have come
    for row in pairs:
        ids = torch.tensor([row["image_token_ids"]])
        caption = pipe.processor.batch_decode(pipe.model.generate(image_token_ids=ids, num_beams=1, do_sample=False))
        assert row["text"][1:] == [each for each in caption if each.strip() and each != row["text"][0]]


def test_the_same_start_makes_the_same_pairs_wherever_it_is(pipe, cache):
    first = prior_pairs(pipe, TEXTS, 6).to_list()
    cache.rename(cache.with_name("away"))
    assert prior_pairs(pipe, TEXTS, 6).to_list() == first
    assert prior_pairs(pipe, TEXTS, 6, seed=1).to_list() != first


def test_what_is_there_is_not_made_again(pipe, cycles):
    eight = prior_pairs(pipe, TEXTS, 8).to_list()
    assert len(cycles) == 2
    assert prior_pairs(pipe, TEXTS, 8).to_list() == eight and len(cycles) == 2
    assert prior_pairs(pipe, TEXTS, 10).to_list()[:8] == eight and len(cycles) == 3


def test_an_interrupted_start_goes_on_behind_its_last_chunk(pipe, cycles, monkeypatch):
    whole = pipe.cycle

    def interrupted(prompts, **rest):
        if len(cycles) == 2:
            raise KeyboardInterrupt
        return whole(prompts, **rest)

    monkeypatch.setattr(pipe, "cycle", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prior_pairs(pipe, TEXTS, 12)
    monkeypatch.setattr(pipe, "cycle", whole)
    assert len(prior_pairs(pipe, TEXTS, 12)) == 12 and len(cycles) == 3


@pytest.mark.parametrize("change", ["weights", "text encoder", "texts", "steps", "scheduler", "seed"])
def test_pairs_that_were_made_by_something_else_are_never_found(pipe, cycles, change):
    prior_pairs(pipe, TEXTS, 2)
    texts, seed = TEXTS, 0
    with torch.no_grad():
        if change == "weights":
            pipe.model.image_decoder.head_bias.add_(0.1)
        elif change == "text encoder":
            next(pipe.text_encoder.parameters()).add_(0.1)
    if change == "texts":
        texts = [{"text": "a tree on the grass"}]
    elif change == "steps":
        pipe.sampling = SamplingSettings(num_inference_steps=3)
    elif change == "scheduler":
        pipe.scheduler.register_to_config(masking_schedule="linear")
    elif change == "seed":
        seed = 1
    prior_pairs(pipe, texts, 2, seed)
    assert len(cycles) == 2


def test_the_mode_of_the_model_is_left_as_it_was(pipe):
    pipe.model.train()
    prior_pairs(pipe, TEXTS, 1)
    assert pipe.model.training


@pytest.mark.parametrize(
    ("num_prior", "fraction", "num_new_rows", "num_prior_rows"),
    [(10, 0.5, 10, 10), (4, 0.5, 4, 4), (2, 0.5, 4, 4), (10, 0.2, 40, 10), (3, 0.75, 4, 12)],
)
def test_each_has_its_share_and_every_row_is_there(pipe, num_prior, fraction, num_new_rows, num_prior_rows):
    new = tokenized_pairs(pipe.processor, 4)
    mixed = mix_prior(new, prior_pairs(pipe, TEXTS, num_prior), fraction)
    rows = [(tuple(row["image_token_ids"]), tuple(row["text"])) for row in mixed]
    new_rows = [(tuple(row["image_token_ids"]), tuple(row["text"])) for row in new]
    assert rows[:num_new_rows] == (new_rows * num_new_rows)[:num_new_rows]
    assert len(rows) == num_new_rows + num_prior_rows and len(set(rows[num_new_rows:])) == num_prior


def test_single_captions_and_weights_of_pairs_are_kept(pipe):
    new = tokenized_pairs(pipe.processor, 2).remove_columns(["text", "image"])
    new = new.add_column("text", ["a red bus", "the blue fish"]).add_column("sample_weight", [0.5, 2.0])
    mixed = mix_prior(new, prior_pairs(pipe, TEXTS, 2), 0.5)
    assert mixed["text"][:2] == [["a red bus"], ["the blue fish"]]
    assert mixed["sample_weight"][:] == [0.5, 2.0, 1.0, 1.0]


def test_latents_of_generated_images_are_those_of_their_codes(cache):
    pipe = tiny_pipeline(image_features="latents", image_latent_size=8)
    pipe.set_progress_bar_config(disable=True)
    codebook = pipe.image_tokenizer.quantize.embedding.weight.detach()
    pipe.model.model.embed_image_latents.codebook.copy_(codebook)
    (row,) = prior_pairs(pipe, TEXTS, 1)
    torch.testing.assert_close(torch.tensor(row["image_latents"]), codebook[row["image_token_ids"]])
    new = tokenized_pairs(pipe.processor, 2)
    assert len(mix_prior(new, Dataset.from_list([row], features=None), 0.5)) == 4


def test_images_without_tokens_are_refused(pipe):
    with pytest.raises(ValueError, match="`pairs` must be a dataset with `image_token_ids`"):
        mix_prior(tiny_pairs(2), prior_pairs(pipe, TEXTS, 1), 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prior_images": -1}, "`prior_images` must be at least 0, got -1"),
        ({"prior_fraction": 1.0}, "`prior_fraction` must be between 0 and 1, got 1.0"),
        ({"prior_prompts": "known.txt"}, "`prior_prompts` are what `prior_images` are generated of"),
    ],
)
def test_arguments_that_cannot_be_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        PriorArguments(**arguments)


def test_images_need_texts(pipe):
    with pytest.raises(ValueError, match="`prior_images` needs `prior_prompts`"):
        PriorArguments(prior_images=3).texts()
    with pytest.raises(ValueError, match="`num_images` must be at least 1, got 0"):
        prior_pairs(pipe, TEXTS, 0)
