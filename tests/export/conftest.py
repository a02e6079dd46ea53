# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""A tiny pipeline, its graphs run by torch in the place of sessions of onnxruntime, and noise that torch draws."""

import numpy as np
import pytest
import torch

from itit_hf.export.graphs import pipeline_graphs
from itit_hf.export.onnx_export import runtime_settings
from itit_hf.export.onnx_runtime import ONNXPipeline
from itit_hf.models.processing_itit import plain_backend

from ..testing_utils import tiny_pipeline


class TorchSession:
    """A network with the interface of a session."""

    def __init__(self, network):
        self.network = network.eval()

    @torch.no_grad()
    def run(self, output_names, inputs):
        outputs = self.network(**{name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in inputs.items()})
        return [x.numpy() for x in ([outputs] if isinstance(outputs, torch.Tensor) else outputs)]


class TorchNoise:
    """The numbers that a generator of torch draws, by the interface of one of numpy."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def random(self, shape, dtype):
        assert dtype is np.float32
        return torch.rand(shape, generator=self.generator).numpy()


def torch_runtime(pipe) -> ONNXPipeline:
    """The runtime over a pipeline's own networks."""
    sessions = {graph.name: TorchSession(graph.network) for graph in pipeline_graphs(pipe)}
    null_text = pipe.model.null_text_embeds.detach().numpy()
    return ONNXPipeline(sessions, runtime_settings(pipe), null_text, plain_backend(pipe.tokenizer))


@pytest.fixture(scope="package")
def pipe():
    pipe = tiny_pipeline()
    pipe.set_progress_bar_config(disable=True)
    return pipe
