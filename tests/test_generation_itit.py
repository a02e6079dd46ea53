# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Captions whose beams share a prefix equal those of transformers' plain path, which a static cache still takes."""

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from transformers.cache_utils import DynamicCache, StaticCache

from itit_hf.modeling_itit import ITITForPreTraining
from itit_hf.shared_prefix import SharedPrefixCache

from .testing_utils import tiny_config

BEAMS = {"num_beams": 4, "do_sample": False}
WAYS = {
    "beams": BEAMS,
    "several captions of the beams": BEAMS | {"num_return_sequences": 3},
    "samples": {"num_beams": 1, "do_sample": True, "num_return_sequences": 3},
    "sampled beams": {"num_beams": 4, "do_sample": True},
    "greedy": {"num_beams": 1, "do_sample": False},
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = ITITForPreTraining(tiny_config(num_hidden_layers=3)).eval()  # more than the text decoder has
    model.model.null_text_embeds.normal_()
    return model


def pictures(batch_size=3):
    return torch.randint(23, (batch_size, 16), generator=torch.Generator().manual_seed(1))


def say(model, **options):
    torch.manual_seed(0)
    options = {"image_token_ids": pictures(), "max_new_tokens": 8, "output_scores": True} | options
    said = model.generate(**options, return_dict_in_generate=True)
    return said.sequences, torch.stack(said.scores), said.past_key_values


def assert_equal_to_the_plain_path(model, **options):
    sequences, scores, cache = say(model, **options)
    plain, plain_scores, _ = say(model, **options, cache_implementation="static")
    assert torch.equal(sequences, plain)
    torch.testing.assert_close(scores, plain_scores, atol=1e-4, rtol=1e-4)
    return cache


@pytest.mark.parametrize("way", WAYS)
def test_captions_equal_those_of_the_plain_path(model, way):
    cache = assert_equal_to_the_plain_path(model, **WAYS[way])
    assert type(cache) is (DynamicCache if way == "greedy" else SharedPrefixCache)


def test_captions_that_go_on_from_padded_texts_equal_those_of_the_plain_path(model):
    ids = torch.tensor([[0, 0, 3], [3, 4, 5], [0, 6, 7]])
    assert_equal_to_the_plain_path(model, input_ids=ids, attention_mask=(ids > 0).long(), **BEAMS)


def test_captions_with_plain_attention_equal_those_of_the_plain_path(model):
    model.set_attn_implementation("eager")
    try:
        assert_equal_to_the_plain_path(model, **BEAMS)
    finally:
        model.set_attn_implementation("sdpa")


@pytest.mark.parametrize("way", ["beams", "samples"])
def test_the_prefix_is_read_once_for_each_image(model, way):
    shapes = []
    hook = model.text_decoder.layers[0].register_forward_hook(lambda module, args, out: shapes.append(out.shape[:2]))
    say(model, max_new_tokens=3, **WAYS[way])
    hook.remove()
    copies = 4 if way == "beams" else 3
    assert shapes == [(3, 18), (3 * copies, 1), (3 * copies, 1)]


def test_an_image_is_kept_once_however_many_beams(model):
    cache = say(model, **BEAMS)[2]
    assert all(layer.prefix_keys.size(0) == 3 and layer.keys.size(0) == 12 for layer in cache.layers)


def test_a_given_cache_is_continued(model):
    said = model.generate(image_token_ids=pictures(1), max_new_tokens=2, num_beams=1, do_sample=False)
    cache = model(input_ids=said[:, :-1], image_token_ids=pictures(1), use_cache=True).past_key_values
    ids = model.generate(input_ids=said, past_key_values=cache, max_new_tokens=3, num_beams=1, do_sample=False)
    whole = model.generate(image_token_ids=pictures(1), max_new_tokens=5, num_beams=1, do_sample=False)
    assert torch.equal(ids, whole)


def test_words_behind_a_static_cache_are_one_graph_without_breaks(model):
    config, options = model.config, {"max_new_tokens": 6, "num_beams": 1, "do_sample": False}
    want = model.generate(image_token_ids=pictures(), **options)
    cache = StaticCache(config=config, max_cache_len=32)
    said = want[:, : config.num_prefix_tokens + 1]
    torch._dynamo.reset()
    counter = CompileCounter()
    step = torch.compile(model.forward, backend=counter, fullgraph=True)
    with torch.no_grad():
        output = model(input_ids=said, image_token_ids=pictures(), past_key_values=cache, use_cache=True)
        for number in range(6):
            said = torch.cat([said, output.logits[:, -1:].argmax(dim=-1)], dim=1)
            position_ids = torch.full((3, 1), config.num_prefix_tokens + 1 + number)
            inputs = {"input_ids": said[:, -1:].contiguous(), "position_ids": position_ids}
            output = step(**inputs, past_key_values=cache, use_cache=True)
    assert torch.equal(said, want) and counter.frame_count == 1
