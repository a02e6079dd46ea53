# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Captions whose beams share a prefix equal those of transformers' plain path, which a static cache still takes."""

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from transformers import GenerationConfig
from transformers.cache_utils import DynamicCache, StaticCache
from transformers.exporters.exporter_dynamo import DynamoConfig, DynamoExporter
from transformers.exporters.utils import decompose_for_generation
from transformers.generation import LogitsProcessor, LogitsProcessorList

from itit_hf.masking import drop_masked
from itit_hf.models.cache_itit import PrefixCache
from itit_hf.models.generation_itit import FullTextCriteria
from itit_hf.models.modeling_itit import ITITForPreTraining
from itit_hf.models.types_itit import ImageMask

from ..testing_utils import tiny_config, tiny_tokenizer

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


def make_images(batch_size=3):
    return torch.randint(23, (batch_size, 16), generator=torch.Generator().manual_seed(1))


def say(model, **options):
    torch.manual_seed(0)
    options = {"image_token_ids": make_images(), "max_new_tokens": 8, "output_scores": True} | options
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
    assert type(cache) is (DynamicCache if way == "greedy" else PrefixCache)


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
    said = model.generate(image_token_ids=make_images(1), max_new_tokens=2, num_beams=1, do_sample=False)
    cache = model(input_ids=said[:, :-1], image_token_ids=make_images(1), use_cache=True).past_key_values
    ids = model.generate(input_ids=said, past_key_values=cache, max_new_tokens=3, num_beams=1, do_sample=False)
    whole = model.generate(image_token_ids=make_images(1), max_new_tokens=5, num_beams=1, do_sample=False)
    assert torch.equal(ids, whole)


def test_words_behind_a_static_cache_are_one_graph_without_breaks(model):
    config, options = model.config, {"max_new_tokens": 6, "num_beams": 1, "do_sample": False}
    want = model.generate(image_token_ids=make_images(), **options)
    cache = StaticCache(config=config, max_cache_len=32)
    said = want[:, : config.num_prefix_tokens + 1]
    torch._dynamo.reset()
    counter = CompileCounter()
    step = torch.compile(model.forward, backend=counter, fullgraph=True)
    with torch.no_grad():
        output = model(input_ids=said, image_token_ids=make_images(), past_key_values=cache, use_cache=True)
        for number in range(6):
            said = torch.cat([said, output.logits[:, -1:].argmax(dim=-1)], dim=1)
            position_ids = torch.full((3, 1), config.num_prefix_tokens + 1 + number)
            inputs = {"input_ids": said[:, -1:].contiguous(), "position_ids": position_ids}
            output = step(**inputs, past_key_values=cache, use_cache=True)
    assert torch.equal(said, want) and counter.frame_count == 1


# Beginnings of captions

BEGINNINGS = ([], [9, 31, 4, 6, 12], [17, 5])


def beginnings(side: str = "left", width: int = 5) -> dict[str, torch.Tensor]:
    """The three above, padded with 0."""
    rows = [[0] * (width - len(row)) + row if side == "left" else row + [0] * (width - len(row)) for row in BEGINNINGS]
    ids = torch.tensor(rows)
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


def words(sequences: torch.Tensor) -> list[list[int]]:
    """Captions without padding, ends and the prefix."""
    return [[token for token in row if 1 < token < 40] for row in sequences.tolist()]


def alone(model, **options) -> list[list[int]]:
    """Each caption of the three, from its own call."""
    said = []
    for row, image in zip(BEGINNINGS, make_images(), strict=True):
        ids = torch.tensor([row], dtype=torch.long)
        said += words(model.generate(image_token_ids=image[None], input_ids=ids, **options))
    return said


@pytest.mark.parametrize("layout", [("left", 5), ("right", 5), ("left", 30)], ids=str)
@pytest.mark.parametrize("way", ["greedy", "beams", "static beams", "greedy without a cache"])
def test_captions_with_beginnings_of_different_length_are_as_alone(model, way, layout):
    options = {
        "greedy": WAYS["greedy"],
        "beams": BEAMS,
        "static beams": BEAMS | {"cache_implementation": "static"},
        "greedy without a cache": WAYS["greedy"] | {"use_cache": False},
    }[way] | {"max_new_tokens": 7}
    together = model.generate(image_token_ids=make_images(), **beginnings(*layout), **options)
    assert words(together) == alone(model, **options)


def test_the_padding_of_beginnings_is_told_by_its_id_where_no_mask_comes_along(model):
    options = BEAMS | {"max_new_tokens": 7}
    together = model.generate(image_token_ids=make_images(), input_ids=beginnings()["input_ids"], **options)
    assert words(together) == alone(model, **options)


def test_a_row_has_all_positions_of_its_text_however_long_its_neighbours_are(model):
    never = WAYS["greedy"] | {"suppress_tokens": [1], "max_new_tokens": 32}  # no caption ends by itself
    together = words(model.generate(image_token_ids=make_images(), **beginnings(), **never))
    assert together == alone(model, **never) and [len(row) for row in together] == [32, 32, 32]


def test_more_new_tokens_than_there_are_positions_end_at_the_last_one(model):
    said = model.generate(image_token_ids=make_images(1), max_new_tokens=500, num_beams=1, suppress_tokens=[1])
    assert len(words(said)[0]) == 32


def test_copies_of_a_row_are_full_together():
    criteria = FullTextCriteria(torch.tensor([4, 6]))
    assert criteria(torch.zeros(4, 5), None).tolist() == [True, True, False, False]


def test_a_beginning_may_bring_its_own_start(model):
    options = BEAMS | {"image_token_ids": make_images(2), "max_new_tokens": 5}
    said = model.generate(input_ids=torch.tensor([[40, 3], [0, 40]]), **options)
    plain = model.generate(input_ids=torch.tensor([[3], [0]]), attention_mask=torch.tensor([[1], [0]]), **options)
    assert words(said) == words(plain)


def test_prompt_lookup_says_what_greedy_search_says(model):
    options = WAYS["greedy"] | {"image_token_ids": make_images(1), "max_new_tokens": 30}
    assert torch.equal(model.generate(prompt_lookup_num_tokens=4, **options), model.generate(**options))


def test_a_caption_ends_at_a_stop_string(model):
    tokenizer = tiny_tokenizer()
    options = WAYS["greedy"] | {"image_token_ids": make_images(1), "suppress_tokens": [1, *range(30, 40)]}
    start = model.config.num_prefix_tokens + 1
    whole = model.generate(max_new_tokens=12, **options)[0, start:]
    second = tokenizer.convert_ids_to_tokens(int(whole[1])).strip("\u2581")
    said = model.generate(max_new_tokens=12, stop_strings=[second], tokenizer=tokenizer, **options)[0, start:]
    assert len(said) == 2 and torch.equal(said, whole[:2])


class Never(LogitsProcessor):
    """Takes one token away."""

    def __call__(self, input_ids, scores):
        scores[:, 39] = -1e9
        return scores


def test_a_processor_of_ones_own_has_its_effect(model):
    options = BEAMS | {"image_token_ids": make_images(), "max_new_tokens": 6}
    assert 39 in words(model.generate(**options))[0]
    said = model.generate(logits_processor=LogitsProcessorList([Never()]), **options)
    assert not (said == 39).any()


def test_an_encoded_image_takes_the_place_of_its_tokens(model):
    features = model.model(make_images()).last_hidden_state
    said = model.generate(encoder_hidden_states=features, **BEAMS, max_new_tokens=6)
    assert torch.equal(said, model.generate(image_token_ids=make_images(), **BEAMS, max_new_tokens=6))


def test_an_encoded_image_of_another_length_has_its_text_at_the_same_positions(model):
    features = model.model(make_images(1)).last_hidden_state[:, 3:]
    said = model.generate(encoder_hidden_states=features, **WAYS["greedy"], max_new_tokens=5)
    logits = model(input_ids=said, encoder_hidden_states=features).logits
    assert said[0, 15:].tolist() == logits[0, 14:-1].argmax(dim=-1).tolist()


def test_a_cache_is_continued_also_with_the_image_at_hand(model):
    options = WAYS["greedy"] | {"image_token_ids": make_images(1)}
    first = model.generate(
        input_ids=torch.tensor([[9, 31]]), max_new_tokens=2, return_dict_in_generate=True, **options
    )
    text = first.sequences[:, model.config.num_prefix_tokens + 1 :]
    more = model.generate(input_ids=text, past_key_values=first.past_key_values, max_new_tokens=3, **options)
    assert torch.equal(more, model.generate(input_ids=torch.tensor([[9, 31]]), max_new_tokens=5, **options))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"input_ids": torch.tensor([[3, 4]])}, "no image to caption: give `image_token_ids`"),
        ({}, "no image to caption"),
        ({"pixel_values": torch.zeros(1, 3, 16, 16)}, "`pixel_values` alone are not seen"),
        (
            {"image_token_ids": make_images(1), "input_ids": torch.tensor([[3, 44]])},
            r"below `num_text_tokens` 40, got \[44\]",
        ),
        (
            {"image_token_ids": make_images(1), "input_ids": torch.tensor([[47, 40, 3]])},
            r"each of the 17 features .* \[1\]",
        ),
        ({"image_token_ids": make_images(1), "prefill_chunk_size": 4}, "`prefill_chunk_size` must be None, got 4"),
        ({"image_token_ids": make_images(1), "image_colour": 3}, "not used by the model: .'image_colour'."),
    ],
)
def test_what_cannot_be_captioned_is_refused_by_name(model, inputs, message):
    with pytest.raises(ValueError, match=message):
        model.generate(**inputs, max_new_tokens=3)


def test_an_assistant_is_refused(model):
    with pytest.raises(ValueError, match="`assistant_model` must be None"):
        model.generate(image_token_ids=make_images(1), assistant_model=model, num_beams=1)


def test_pixels_may_come_along_with_their_tokens(model):
    inputs = {"pixel_values": torch.zeros(3, 3, 16, 16), "image_token_ids": make_images()}
    said = model.generate(**inputs, **BEAMS, max_new_tokens=4)
    assert torch.equal(said, model.generate(image_token_ids=make_images(), **BEAMS, max_new_tokens=4))


# What is recorded on the way


@pytest.mark.parametrize("way", ["beams", "samples", "greedy"])
def test_every_step_records_every_block(model, way):
    model.set_attn_implementation("eager")
    options = {"output_attentions": True, "output_hidden_states": True, "max_new_tokens": 3} | WAYS[way]
    try:
        output = model.generate(image_token_ids=make_images(2), return_dict_in_generate=True, **options)
    finally:
        model.set_attn_implementation("sdpa")
    rows = 2 * {"beams": 4, "samples": 3, "greedy": 1}[way]
    shapes = [[tuple(weights.shape) for weights in step] for step in output.attentions]
    assert shapes == [[(rows, 2, 18, 18)] * 2, [(rows, 2, 1, 19)] * 2, [(rows, 2, 1, 20)] * 2]
    assert all(torch.allclose(step[-1].sum(dim=-1), torch.tensor(1.0)) for step in output.attentions)
    shapes = [[tuple(states.shape) for states in step] for step in output.hidden_states]
    assert shapes == [[(rows, 18, 16)] * 3, [(rows, 1, 16)] * 3, [(rows, 1, 16)] * 3]


def test_attention_that_is_not_computed_is_refused(model):
    with pytest.raises(ValueError, match="eager attention only, got .sdpa.: call `model.set_attn_implementation"):
        model.generate(image_token_ids=make_images(1), output_attentions=True, return_dict_in_generate=True)


# Decoders deeper and shallower than the encoder


@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("cache", [None, "static"])
def test_a_cache_has_the_layers_of_the_text_decoder(depth, cache):
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 2, "text_decoder_num_hidden_layers": depth}
    captioner = ITITForPreTraining(tiny_config(**sizes)).eval()
    options = {"image_token_ids": make_images(1), "max_new_tokens": 4, "return_dict_in_generate": True}
    for num_beams in (1, 3):
        output = captioner.generate(num_beams=num_beams, cache_implementation=cache, **options)
        assert len(output.past_key_values.layers) == depth
        plain = captioner.generate(num_beams=num_beams, use_cache=False, **options)
        assert torch.equal(output.sequences, plain.sequences)


# Graphs of its steps


@pytest.mark.parametrize("num_beams", [1, 3])
def test_the_steps_of_generation_are_taken_apart_for_an_export(model, num_beams):
    settings = GenerationConfig(num_beams=num_beams, pad_token_id=0, eos_token_id=1)
    stages = decompose_for_generation(model, {"image_token_ids": make_images(2)}, settings)
    assert stages["prefill"][1]["encoder_hidden_states"].shape == (2, 17, 24)
    network, inputs = stages["decode"]
    assert inputs["input_ids"].shape == (2 * num_beams, 1) and network(**inputs).logits.shape[1] == 1


@pytest.mark.slow
def test_the_steps_of_generation_are_exported(model):
    settings = GenerationConfig(num_beams=1, pad_token_id=0, eos_token_id=1)
    inputs = {"image_token_ids": make_images(2)}
    graphs = DynamoExporter().export_for_generation(
        model, inputs, DynamoConfig(dynamic=True), generation_config=settings
    )
    stages = decompose_for_generation(model, inputs, settings)
    again = decompose_for_generation(model, inputs, settings)  # as a cache is filled by what reads it
    for name, (network, given) in stages.items():
        graph = graphs.components[name].program.module()
        flags = {key: given.pop(key) for key in ("use_cache", "return_dict")}
        torch.testing.assert_close(graph(**given).logits, network(**again[name][1] | flags).logits)


@pytest.mark.parametrize("way", ["greedy", "beams"])
def test_captions_of_masked_images_do_not_depend_on_what_neighbours_drop(model, way):
    masked = torch.arange(16) < torch.tensor([[12], [3]])
    together = drop_masked(masked, "half", torch.Generator().manual_seed(0))
    given = together.encoder_attention_mask.sum(dim=1).tolist()
    assert given == [8, 16]
    options = {"max_new_tokens": 6} | WAYS[way]
    captions = model.generate(image_token_ids=make_images(2), image_mask=together, **options)[:, -6:]
    for row, length in enumerate(given):
        alone = ImageMask(masked[row : row + 1], together.encoder_positions[row : row + 1, :length])
        caption = model.generate(image_token_ids=make_images(2)[row : row + 1], image_mask=alone, **options)[:, -6:]
        assert torch.equal(caption[0], captions[row])
