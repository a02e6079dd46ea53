# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The same work by each engine there is: eager, compiled, int8 and ONNX, for ITIT-B and for its anchors.

An engine whose library is not installed is left out, and so are its cases. On a GPU there are the first two.
"""

import io
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn
from transformers import GitConfig, GitForCausalLM

import flops
from benchmark_cases import (
    CAPTION,
    GUIDANCE_SCALE,
    PAIRED,
    STEPS,
    Case,
    amused_generation,
    build_amused,
    build_config,
    build_model,
    generation,
    random_texts,
    training,
)
from flops import MEBI, Workload
from itit_hf.decoding.scheduling_itit import ITITScheduler
from itit_hf.models.modeling_itit import ITITForPreTraining

TEXT_LENGTH = 16
# Of torch's own, for processors of x86: products with weights of 8 bits, whose factors are quantized as they come.
TORCH_INT8 = "fbgemm"
GENERATING = ("eager", "compiled", "int8", "ONNX", "ONNX int8")
AMUSED_PEER = "aMUSEd, active parameters"
ONNX_PRECISIONS = {"ONNX": "float32", "ONNX int8": "int8"}
# The blocks of the anchors, by the names of their lists.
BLOCKS = ("transformer_layers", "layer", "layers")


def engine_cases(options: Namespace, batch_size: int) -> list[Case]:
    """Images, captions and training passes by each engine. Only models that something is asked of are built.

    Args:
        options (`Namespace`): Of the command line; `cases` are the wanted ones, all if there are none.
        batch_size (`int`): Samples of a case.

    Returns:
        `list[Case]`: `"generate, eager"` and so on, in the terms of `"generate trimmed, all dropped"`.
    """
    builders = {f"generate, {engine}": partial(_generate, engine) for engine in GENERATING if _runs(engine, options)}
    for engine in ("eager", "compiled"):
        builders[f"caption, {engine}"] = partial(_caption, engine)
        builders[f"train pairs, {engine}"] = partial(_train, engine)
        if "GIT" in options.anchors:
            builders[f"GIT, {engine}"] = partial(_git, engine)
        if AMUSED_PEER in options.anchors:
            builders[f"{AMUSED_PEER}, {engine}"] = partial(_amused, engine)
    wanted = {name: build for name, build in builders.items() if not options.cases or name in options.cases}
    return [build(name, options, batch_size) for name, build in wanted.items()]


def _runs(engine: str, options: Namespace) -> bool:
    """Whether there is such an engine here, for this device and type."""
    if engine in ("eager", "compiled"):
        return True
    if options.device != "cpu" or options.dtype != torch.float32:
        return False
    if engine == "int8":
        return TORCH_INT8 in torch.backends.quantized.supported_engines
    return all(find_spec(name) is not None for name in ("onnx", "onnxruntime", "onnxscript"))


def _generate(engine: str, name: str, options: Namespace, batch_size: int) -> Case:
    """Images of `STEPS` guided steps, all masked positions dropped."""
    config = build_config(options)
    config.encoder_drop = "all"
    work = Workload(config, batch_size, TEXT_LENGTH, 1, STEPS, GUIDANCE_SCALE)
    model = build_model(options)
    texts = random_texts(model, batch_size, TEXT_LENGTH, 1)
    if engine in ONNX_PRECISIONS:
        run = _onnx_generation(model, texts[0], ONNX_PRECISIONS[engine])
    else:
        model = {"eager": lambda same: same, "compiled": compiled, "int8": int8_model}[engine](model)
        run = generation(model, work, texts, "all")
    return Case(name, run, flops.generate(work))


def compiled(model: nn.Module) -> nn.Module:
    """A model whose blocks are compiled, in place; ours and the anchors' alike.

    Args:
        model (`nn.Module`): Of this package, of diffusers or of transformers.

    Returns:
        `nn.Module`: The same.
    """
    if isinstance(model, ITITForPreTraining):
        model.compile_blocks()
        return model
    lists = [getattr(module, name, None) for module in model.modules() for name in BLOCKS]
    for block in (block for blocks in lists if isinstance(blocks, nn.ModuleList) for block in blocks):
        block.compile()
    return model


def int8_model(model: nn.Module) -> nn.Module:
    """Linear layers in 8 bits by torch's own engine.

    Args:
        model (`nn.Module`): In float32; is left as it is.

    Returns:
        `nn.Module`.
    """
    torch.backends.quantized.engine = TORCH_INT8
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


def _onnx_generation(model, text: torch.Tensor, precision: str) -> Callable[[], object]:
    """Images by the runtime without torch, by graphs that are written for it, one thread of the processor."""
    import numpy as np
    import onnxruntime

    from itit_hf.export.graphs import image_graphs
    from itit_hf.export.onnx_export import write_graph
    from itit_hf.export.onnx_runtime import ONNXPipeline

    threads = onnxruntime.SessionOptions()
    threads.intra_op_num_threads = threads.inter_op_num_threads = torch.get_num_threads()
    sessions = {}
    with tempfile.TemporaryDirectory() as folder:
        for graph in image_graphs(model):
            path = write_graph(graph, folder, precision)
            sessions[graph.name] = onnxruntime.InferenceSession(path, threads)
    config = model.config
    scheduler = ITITScheduler(mask_token_id=config.mask_token_id).config
    names = ("masking_schedule", "score", "decoding_order", "entropy_bound")
    settings = {
        "mask_token_id": config.mask_token_id,
        "num_image_tokens": config.num_image_tokens,
        "encoder_drop": "all",
        "scheduler": {name: scheduler[name] for name in names},
        "sampling": {
            "num_inference_steps": STEPS,
            "guidance_scale": GUIDANCE_SCALE,
            "guidance_schedule": "constant",
            "guidance_interval": [0.0, 1.0],
            "temperature": scheduler.temperature,
        },
    }
    pipe = ONNXPipeline(sessions, settings, model.null_text_embeds.detach().numpy())
    embeds = text.numpy()
    return lambda: pipe.generate_tokens(embeds, np.ones(embeds.shape[:2], dtype=bool))


def _caption(engine: str, name: str, options: Namespace, batch_size: int) -> Case:
    """Captions of `CAPTION`."""
    config = build_config(options)
    model = build_model(options)
    if engine == "compiled":
        compiled(model)
    ids = torch.randint(config.codebook_size, (batch_size, config.num_image_tokens), device=options.device)
    work = Workload(config, batch_size, num_beams=CAPTION["num_beams"], num_new_tokens=CAPTION["max_new_tokens"])
    return Case(name, lambda: model.generate(image_token_ids=ids, **CAPTION), flops.caption(work))


def _git(engine: str, name: str, options: Namespace, batch_size: int) -> Case:
    like = {"device": options.device, "dtype": options.dtype}
    git = GitForCausalLM(GitConfig()).to(**like).eval()
    if engine == "compiled":
        compiled(git)
    pixels = torch.randn(batch_size, 3, 224, 224, **like)
    return Case(name, lambda: git.generate(pixel_values=pixels, **CAPTION))


def _train(engine: str, name: str, options: Namespace, batch_size: int) -> Case:
    """Losses of pairs with their gradients."""
    work = Workload(build_config(options), batch_size, num_new_tokens=CAPTION["max_new_tokens"])
    model = build_model(options).to(torch.float32).train()
    if engine == "compiled":
        compiled(model)
    return Case(name, training(model, work, PAIRED, options), flops.paired_step(work))


def _amused(engine: str, name: str, options: Namespace, batch_size: int) -> Case:
    """Images by the aMUSEd of as many active parameters."""
    model = build_amused(AMUSED_PEER, options).eval()
    if engine == "compiled":
        compiled(model)
    return Case(name, amused_generation(model, options, batch_size), times=STEPS / options.anchor_steps)


# What the files weigh


def file_mebibytes(options: Namespace) -> dict[str, float]:
    """MiB of the weights of ITIT, whole and in 8 bits.

    Args:
        options (`Namespace`): Of the command line.

    Returns:
        `dict[str, float]`: `"float32"`, and `"int8"` where there is that engine.
    """
    model = build_model(Namespace(**vars(options) | {"device": "cpu", "dtype": torch.float32}))
    sizes = {"float32": _saved_mebibytes(model)}
    if TORCH_INT8 in torch.backends.quantized.supported_engines:
        sizes["int8"] = _saved_mebibytes(int8_model(model))
    return sizes


def _saved_mebibytes(model: nn.Module) -> float:
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.tell() / MEBI


# The committed checkpoint


def checkpoint_cases(options: Namespace, batch_size: int) -> list[Case]:
    """Images of the committed checkpoint: as it is saved to be called, and by `STEPS` guided steps.

    Args:
        options (`Namespace`): Of the command line; `checkpoint` is the folder.
        batch_size (`int`): Prompts of a call.

    Returns:
        `list[Case]`: `"checkpoint, as saved"` and `"checkpoint, 24 guided steps"`.
    """
    from itit_hf import ITITPipeline

    pipe = ITITPipeline.from_pretrained(options.checkpoint).to(options.device)
    pipe.set_progress_bar_config(disable=True)
    prompts = ["a red bus"] * batch_size
    guided = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE_SCALE}

    def call(**settings) -> Callable[[], object]:
        return lambda: pipe(prompts, output_type="latent", **settings)

    return [Case("checkpoint, as saved", call()), Case(f"checkpoint, {STEPS} guided steps", call(**guided))]


def processor_facts() -> dict[str, str]:
    """What the processor is good at: the widest instructions that torch uses, and whether it multiplies bfloat16 and
    int8 by instructions of their own."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    words = set(flags.split())
    return {
        "isa": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": "yes" if words & {"avx512_bf16", "amx_bf16", "bf16"} else "no",
        "int8 (VNNI)": "yes" if words & {"avx512_vnni", "avx_vnni", "amx_int8"} else "no",
        "time": time.strftime("%Y-%m-%d"),
    }
