# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""A pipeline as a folder of ONNX graphs, in float32 or with weights of 8 bits, that runs without torch."""

import importlib.util
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from ..decoding.scheduling_itit import halton_order
from ..models.processing_itit import plain_backend
from .graphs import Graph, pipeline_graphs
from .onnx_runtime import DECODING_ORDERS, NULL_TEXT_NAME, SETTINGS_NAME, TOKENIZER_NAME

CHECK_SWITCH = "TRANSFORMERS_DISABLE_TORCH_CHECK"
PRECISIONS = ("float32", "int8")
SCHEDULER_SETTINGS = ("masking_schedule", "score", "decoding_order", "entropy_bound")
# What a generation config may say: what the runtime reads, and what captions do not depend on.
CAPTION_SETTINGS = {
    *("num_beams", "max_new_tokens", "bos_token_id", "eos_token_id", "pad_token_id", "use_cache", "do_sample"),
    *("_from_model_config", "transformers_version", "output_attentions", "output_hidden_states", "output_scores"),
}
# Of 8 bits by `precision="int8"`: the transformers. The image tokenizer is made of convolutions, which are slower so.
QUANTIZED = ("text_encoder", "encoder", "latent_encoder", "image_decoder", "caption_prefill", "caption_step")
# Products with a weight. Tables that are only looked up in, norms, biases and products of activations stay float32.
QUANTIZED_OPERATORS = ["MatMul", "Gemm"]


def export_onnx(pipe, folder: str | os.PathLike, precision: str = "float32") -> Path:
    """Write a pipeline as ONNX graphs, with what [`ONNXPipeline`] needs besides them, and with that class itself.

    Batch and text length stay open. Needs the extra `onnx`.

    Args:
        pipe ([`ITITPipeline`]): With all its components, on the CPU, in float32.
        folder (`str` or `os.PathLike`): Made if it is not there; files of an earlier export are replaced.
        precision (`str`, *optional*, defaults to `"float32"`): Or `"int8"`: weights of the transformers in 8 bits,
            their inputs quantized as they come (`onnxruntime.quantization.quantize_dynamic`).

    Returns:
        `Path`: The folder.

    Raises:
        ValueError: If the pipeline lacks a component, or is of a kind that the runtime does not know.
        ImportError: If the extra is not installed.
    """
    check_exportable(pipe, precision)
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"{missing[0]} is not installed: pip install 'itit-hf[onnx]'")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    graphs = pipeline_graphs(pipe)
    with plain_attention(pipe.text_encoder):
        for graph in graphs:
            write_graph(graph, folder, precision)
    np.save(folder / NULL_TEXT_NAME, pipe.model.null_text_embeds.detach().float().numpy())
    plain_backend(pipe.tokenizer).save(str(folder / TOKENIZER_NAME))
    settings = runtime_settings(pipe) | {"graphs": [graph.name for graph in graphs], "precision": precision}
    (folder / SETTINGS_NAME).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    shutil.copyfile(Path(__file__).with_name("onnx_runtime.py"), folder / "onnx_runtime.py")
    return folder


def write_graph(graph: Graph, folder: str | os.PathLike, precision: str = "float32") -> Path:
    """Write one graph, its weights in the same file.

    Args:
        graph ([`Graph`]): Of [`pipeline_graphs`] or [`image_graphs`].
        folder (`str` or `os.PathLike`): A folder that is there.
        precision (`str`, *optional*, defaults to `"float32"`): As in [`export_onnx`].

    Returns:
        `Path`: Of the file, which has the graph's name.
    """
    path = Path(folder) / f"{graph.name}.onnx"
    with without_checks():
        _export_graph(graph, path)
    if precision == "int8" and graph.name in QUANTIZED:
        _quantize(path)
    return path


def check_exportable(pipe, precision: str) -> None:
    """Refuse a pipeline that the runtime could not run as it is.

    Args:
        pipe ([`ITITPipeline`]): To export.
        precision (`str`): As in [`export_onnx`].

    Raises:
        ValueError: It names what is missing or unknown.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"`precision` must be one of {PRECISIONS}, got {precision!r}")
    missing = [name for name in ("model", "text_encoder", "image_tokenizer") if getattr(pipe, name) is None]
    if missing:
        raise ValueError(f"`pipe` was made without `{missing[0]}`, which is exported too")
    for name in ("model", "text_encoder", "image_tokenizer"):
        kinds = {(parameter.dtype, parameter.device.type) for parameter in getattr(pipe, name).parameters()}
        if kinds != {(torch.float32, "cpu")}:
            raise ValueError(f"`pipe.{name}` must be float32 on the CPU; call `pipe.to('cpu', torch.float32)`")
    if not pipe.tokenizer.is_fast:
        raise ValueError(f"`pipe.tokenizer` must be a fast one, got {type(pipe.tokenizer).__name__}")
    order = pipe.scheduler.config.decoding_order
    if order not in DECODING_ORDERS:
        raise ValueError(f"`pipe.scheduler.config.decoding_order` must be one of {DECODING_ORDERS}, got {order!r}")
    for name, settings in (("scheduler.config", pipe.scheduler.config), ("sampling", pipe.sampling)):
        if isinstance(settings.temperature, (list, tuple)):
            raise ValueError(f"`pipe.{name}.temperature` must be a number, got {settings.temperature}")
    others = sorted(pipe.model.generation_config.to_diff_dict().keys() - CAPTION_SETTINGS)
    if others:
        raise ValueError(
            f"`pipe.model.generation_config` must not set {others[0]!r}: the runtime has plain beam search"
        )


@contextmanager
def plain_attention(network: PreTrainedModel) -> Iterator[None]:
    """Within it, attention is made of products and a softmax: the fused one of T5 has strides that torch's exporter
    gets wrong.

    Args:
        network (`PreTrainedModel`): Has its own attention again afterwards.
    """
    before = network.config._attn_implementation
    network.set_attn_implementation("eager")
    try:
        yield
    finally:
        network.set_attn_implementation(before)


@contextmanager
def without_checks() -> Iterator[None]:
    """Within it, transformers' checks of numbers are left out, by its own switch: ONNX has no operator for them."""
    before = os.environ.get(CHECK_SWITCH)
    os.environ[CHECK_SWITCH] = "1"
    try:
        yield
    finally:
        del os.environ[CHECK_SWITCH]
        if before is not None:
            os.environ[CHECK_SWITCH] = before


def runtime_settings(pipe) -> dict:
    """What [`ONNXPipeline`] has to know of a pipeline, as JSON can hold it.

    Args:
        pipe ([`ITITPipeline`]): To export.

    Returns:
        `dict`.
    """
    config = pipe.model.config
    names = ("mask_token_id", "num_image_tokens", "encoder_drop", "image_features", "max_text_length", "eos_token_id")
    scheduler = {name: pipe.scheduler.config[name] for name in SCHEDULER_SETTINGS}
    if scheduler["decoding_order"] == "halton":
        num_rows, num_columns = config.image_grid
        scheduler["halton_order"] = list(halton_order(num_rows, num_columns))
    processor = pipe.image_processor
    image = {
        "height": processor.crop_size["height"],
        "width": processor.crop_size["width"],
        "mean": list(processor.image_mean),
        "std": list(processor.image_std),
    }
    sampling = asdict(pipe.sampling)
    if sampling["temperature"] is None:
        sampling["temperature"] = pipe.scheduler.config.temperature
    return {name: getattr(config, name) for name in names} | {
        "pad_token_id": pipe.tokenizer.pad_token_id,
        "scheduler": scheduler,
        "sampling": sampling | {"guidance_interval": list(sampling["guidance_interval"])},
        "captioning": asdict(pipe.captioning),
        "image": image,
    }


def _export_graph(graph: Graph, path: Path) -> None:
    torch.onnx.export(
        graph.network.eval(),
        kwargs=graph.inputs,
        f=path,
        input_names=list(graph.inputs),
        output_names=list(graph.outputs),
        dynamic_shapes=graph.dynamic,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _quantize(path: Path) -> None:
    """Weights of 8 bits in place of a graph's own, a scale for each column.

    Of the 8 bits 7 are used: without VNNI a CPU adds two products in 16 bits, which the eighth would overflow.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        path,
        path,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
        op_types_to_quantize=QUANTIZED_OPERATORS,
    )
