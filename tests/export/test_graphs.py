# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The pieces of a pipeline are exported for any number of samples and any length."""

import pytest
import torch

from itit_hf.export.graphs import pipeline_graphs
from itit_hf.models.types_itit import ImageMask, TextCondition

from ..testing_utils import tiny_pipeline

LENGTHS = {"batch": 5, "text_length": 3, "num_encoded": 6, "num_features": 9, "num_positions": 4, "num_past": 23}


@pytest.fixture(scope="module")
def graphs():
    pipe = tiny_pipeline(image_features="latents", image_latent_size=8)
    return {graph.name: graph for graph in pipeline_graphs(pipe)}


def test_a_pipeline_that_sees_codes_has_seven_graphs(pipe):
    names = [graph.name for graph in pipeline_graphs(pipe)]
    assert names == ["text_encoder", "encoder", "image_decoder", "caption_prefill", "caption_step"] + [
        "image_tokenizer_encoder",
        "image_tokenizer_decoder",
    ]


def test_latents_have_an_encoder_of_their_own(graphs):
    assert set(graphs) >= {"encoder", "latent_encoder"}


def test_encoder_and_image_decoder_are_the_model(pipe):
    graphs = {graph.name: graph for graph in pipeline_graphs(pipe)}
    inputs = graphs["encoder"].inputs
    positions = graphs["image_decoder"].inputs["logit_positions"]
    with torch.no_grad():
        features = graphs["encoder"].network(**inputs)
        rest = {name: inputs[name] for name in ("image_token_ids", "text_mask", "encoder_positions", "encoder_mask")}
        logits = graphs["image_decoder"].network(features, **rest, logit_positions=positions)
        ids = inputs["image_token_ids"]
        expected = pipe.model(
            image_token_ids=ids,
            image_mask=ImageMask(ids == 23, inputs["encoder_positions"]),
            text_condition=TextCondition(inputs["text_embeds"]),
            logit_positions=positions,
        ).image_logits
    torch.testing.assert_close(logits, expected)


def test_a_step_behind_a_cache_is_the_next_place_of_the_whole_text(pipe):
    graphs = {graph.name: graph for graph in pipeline_graphs(pipe)}
    config = pipe.model.config
    features = graphs["caption_prefill"].inputs["features"]
    words = torch.tensor([[3, 9], [4, 7]])
    prefix = torch.full((2, config.num_prefix_tokens), config.image_token_id)
    start = torch.full((2, 1), config.bos_token_id)
    with torch.no_grad():
        first, keys, values = graphs["caption_prefill"].network(features)
        second, keys, values = graphs["caption_step"].network(words[:, :1], keys, values)
        third, _, _ = graphs["caption_step"].network(words[:, 1:], keys, values)
        input_ids = torch.cat([prefix, start, words], dim=1)
        logits = pipe.model(input_ids=input_ids, encoder_hidden_states=features, logits_to_keep=3).logits
    torch.testing.assert_close(torch.stack([first, second, third], dim=1), logits)


def resized(graph) -> dict[str, torch.Tensor]:
    """The example inputs with open dimensions of other lengths, cut or repeated."""
    inputs = {}
    for name, tensor in graph.inputs.items():
        for axis, dimension in graph.dynamic[name].items():
            places = torch.arange(LENGTHS[dimension]) % tensor.size(axis)
            tensor = tensor.index_select(axis, places)
        inputs[name] = tensor
    return inputs


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["text_encoder", "encoder", "image_decoder", "latent_encoder", "caption_prefill", "caption_step"]
    + ["image_tokenizer_encoder", "image_tokenizer_decoder"],
)
def test_a_graph_is_for_any_batch_and_length(graphs, name):
    graph = graphs[name]
    shapes = {name: dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for name, axes in graph.dynamic.items()}
    program = torch.export.export(graph.network.eval(), (), kwargs=graph.inputs, dynamic_shapes=shapes)
    inputs = resized(graph)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(**inputs), graph.network(**inputs))
