# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Quantized pipelines open again; what would name other classes is refused before a loader sees it."""

import copy
import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from itit_hf import ITITForPreTraining, ITITPipeline
from itit_hf.pipelines.quantization import check_quantization_config, quantized_weights

from ..testing_utils import tiny_pipeline

INT8 = {  # as transformers writes it
    "include_input_output_embeddings": False,
    "modules_to_not_convert": None,
    "quant_method": "torchao",
    "quant_type": {
        "default": {
            "_data": {
                "granularity": {"_data": {"dim": -1}, "_type": "PerRow", "_version": 1},
                "group_size": None,
                "set_inductor_config": True,
            },
            "_type": "Int8WeightOnlyConfig",
            "_version": 2,
        }
    },
    "untie_embedding_weights": False,
}
BITSANDBYTES = {
    "quant_method": "bitsandbytes",
    "_load_in_8bit": False,
    "_load_in_4bit": True,
    "llm_int8_threshold": 6.0,
    "llm_int8_skip_modules": ["image_decoder.head_dense"],
    "bnb_4bit_compute_dtype": "bfloat16",
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_quant_storage": "uint8",
    "bnb_4bit_use_double_quant": True,
}


def changed(config, *keys, value):
    """A copy with one value changed, or added."""
    config = copy.deepcopy(config)
    inner = config
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return config


@pytest.mark.parametrize("config", [INT8, BITSANDBYTES])
def test_what_transformers_writes_passes(config):
    check_quantization_config("config.json", config)


TYPE = ("quant_type", "default", "_type")
DATA = ("quant_type", "default", "_data")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("evil", "`quant_method` must be one of .*got 'evil'"),
        ({"quant_method": "awq"}, "is refused, as it may run code of others: `quant_method` .* got 'awq'"),
        (changed(INT8, "dequantizer", value="x"), "must have no other fields than .* got 'dequantizer'"),
        (changed(INT8, "quant_type", value="evil"), "`quant_type` is of another type, got 'evil'"),
        (changed(INT8, "quant_type", value={"a.b": {}}), "`quant_type` must be one configuration, `default`, got"),
        (changed(INT8, *TYPE, value="SmoothQuantConfig"), "`quant_type` must be one of .* got 'SmoothQuantConfig'"),
        (changed(INT8, *DATA, "granularity", "_type", value="os.system"), "`_type` must be one of .* got 'os.system'"),
        (
            changed(INT8, *DATA, "group_size", value={"_type": "torch.dtype", "_data": "load"}),
            "`_data` must be the name of a dtype of torch, got 'load'",
        ),
        (changed(INT8, "modules_to_not_convert", value=["(a+)+$"]), r"must be names of modules, got '\(a\+\)\+\$'"),
        (changed(BITSANDBYTES, "bnb_4bit_compute_dtype", value="load"), "must be the name of a dtype of torch"),
        (changed(BITSANDBYTES, "llm_int8_threshold", value="6"), "`llm_int8_threshold` is of another type, got '6'"),
        (changed(BITSANDBYTES, "quant_type", value={}), "must have no other fields than .* got 'quant_type'"),
    ],
)
def test_what_is_not_in_the_tables_is_refused_by_name(config, message):
    with pytest.raises(ValueError, match=f"config.json: `quantization_config`.*{message}"):
        check_quantization_config("config.json", config)


def header(**facts) -> dict[str, str]:
    """The header of a file of one weight."""
    values = {"_type": "Int8Tensor", "_data": {"block_size": [1, 4]}, "_tensor_data_names": ["qdata", "scale"]}
    return {"tensor_names": json.dumps(["a.fc.weight"]), "a.fc.weight": json.dumps(values | facts)}


def test_a_weight_is_in_the_file_if_all_its_tensors_are():
    assert quantized_weights("x", header()) == {"a.fc.weight": ["a.fc._weight_qdata", "a.fc._weight_scale"]}


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, header(_type="Tensor")])
def test_plain_files_hold_no_such_weight(metadata):
    assert quantized_weights("x", metadata) == {}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (header(_type="Popen"), "`_type` of 'a.fc.weight' in its header must be one of .* got 'Popen'"),
        (header(_data={"f": {"_type": "eval", "_data": "1"}}), "`_type` must be one of .* got 'eval'"),
        (header(_tensor_data_names="qdata"), "`_tensor_data_names` of 'a.fc.weight' must be names, got 'qdata'"),
        ({"tensor_names": "[1"}, "tells nothing of 'tensor_names' that can be read"),
        ({"tensor_names": '["a"]'}, "tells nothing of 'a' that can be read"),
        ({"tensor_names": '["a"]', "a": "[" * 100_000}, "tells nothing of 'a' that can be read"),
    ],
)
def test_headers_that_name_other_classes_are_refused(metadata, message):
    with pytest.raises(ValueError, match=message):
        quantized_weights("x", metadata)


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    """A folder whose model has weights of 8 bits, and the tokens that it generated before it was saved."""
    pytest.importorskip("torchao")
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import T5EncoderModel, TorchAoConfig

    folder = tmp_path_factory.mktemp("quantized")
    tiny_pipeline().save_pretrained(folder / "float32")
    config = TorchAoConfig(Int8WeightOnlyConfig())
    model = ITITForPreTraining.from_pretrained(folder / "float32" / "model", quantization_config=config)
    text_encoder = T5EncoderModel.from_pretrained(folder / "float32" / "text_encoder", quantization_config=config)
    pipe = ITITPipeline.from_pretrained(folder / "float32", model=model, text_encoder=text_encoder)
    pipe.save_pretrained(folder / "int8")
    return folder / "int8", tokens(pipe)


def four_bits():
    """Of torchao, for a CPU."""
    pytest.importorskip("torchao")
    from torchao.quantization import IntxWeightOnlyConfig
    from torchao.quantization.granularity import PerAxis
    from transformers import TorchAoConfig

    return TorchAoConfig(IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerAxis(0)))


def eight_bits_of_bitsandbytes():
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_8bit=True)


@pytest.mark.parametrize(
    ("make_config", "kind"),
    [(four_bits, "IntxUnpackedToInt8Tensor"), (eight_bits_of_bitsandbytes, "Int8Params")],
)
def test_other_bits_open_and_generate_as_before_they_were_saved(make_config, kind, tmp_path):
    config = make_config()
    tiny_pipeline().save_pretrained(tmp_path / "float32")
    model = ITITForPreTraining.from_pretrained(tmp_path / "float32" / "model", quantization_config=config)
    pipe = ITITPipeline.from_pretrained(tmp_path / "float32", model=model)
    image, captions = tokens(pipe)
    pipe.save_pretrained(tmp_path / "quantized")
    reopened = ITITPipeline.from_pretrained(tmp_path / "quantized")
    image_reopened, captions_reopened = tokens(reopened)
    assert torch.equal(image_reopened, image) and captions_reopened == captions
    assert kind in {type(weight).__name__ for weight in reopened.model.parameters()}


def tokens(pipe):
    images = pipe("a red bus", num_inference_steps=4, generator=torch.Generator().manual_seed(0), output_type="latent")
    return images.images, pipe.caption([torch.zeros(3, 16, 16)], num_beams=2)


def test_a_pipeline_of_eight_bits_opens_and_generates_as_before_it_was_saved(quantized):
    folder, (image, captions) = quantized
    reopened, captions_reopened = tokens(ITITPipeline.from_pretrained(folder))
    assert torch.equal(reopened, image) and captions_reopened == captions


def test_products_have_eight_bits_and_tables_and_heads_do_not(quantized):
    model = ITITPipeline.from_pretrained(quantized[0]).model
    kinds = {name: type(weight).__name__ for name, weight in model.named_parameters() if weight.ndim == 2}
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert {name for name, kind in kinds.items() if kind == "Int8Tensor"} == linear
    assert {name for name, kind in kinds.items() if kind == "Parameter"} == {
        "model.embed_image_tokens.weight",  # tied to the head of the image decoder
        "model.embed_image_positions.weight",
        "model.embed_text_positions.weight",
        "text_decoder.embed_tokens.weight",  # tied to the head of the text decoder
        "text_decoder.embed_positions.weight",
        "image_decoder.embed_positions.weight",
    }


def test_a_weight_that_is_not_whole_is_missed(quantized, tmp_path):
    folder = shutil.copytree(quantized[0], tmp_path / "pipeline")
    path = folder / "model" / "model.safetensors"
    weights = load_file(path)
    del weights["model.layers.0.fc1._weight_scale"]
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(weights, path, metadata)
    with pytest.raises(ValueError, match="it cannot be opened"):
        ITITPipeline.from_pretrained(folder)


def test_an_image_tokenizer_is_never_quantized(tmp_path):
    tiny_pipeline().save_pretrained(tmp_path)
    path = tmp_path / "image_tokenizer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": INT8}))
    with pytest.raises(ValueError, match="`quantization_config` is refused for this component"):
        ITITPipeline.from_pretrained(tmp_path)
