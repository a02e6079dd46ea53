# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Which quantized weights of others are opened: those of torchao and bitsandbytes, by closed tables of what they name.

A quantizer reads classes by name from a configuration and from the header of a file of weights. Both are checked here,
field by field, before any loader sees them.
"""

import json
import re
from collections.abc import Mapping

import torch

METHODS = ("torchao", "bitsandbytes")
# What torchao may be asked for.
TORCHAO_TYPES = (
    "Int8WeightOnlyConfig",
    "Int8DynamicActivationInt8WeightConfig",
    "Int8DynamicActivationIntxWeightConfig",
    "Int4WeightOnlyConfig",
    "IntxWeightOnlyConfig",
    "Float8WeightOnlyConfig",
)
# What the fields of these may be besides plain numbers and names, and what a header may name besides them.
TORCHAO_FIELD_TYPES = (
    "IntxChooseQParamsAlgorithm",
    "IntxPackingFormat",
    "Int4ChooseQParamsAlgorithm",
    "Int4PackingFormat",
    "KernelPreference",
    "MappingType",
    "PerAxis",
    "PerGroup",
    "PerRow",
    "PerTensor",
    "QuantizeTensorToInt8Kwargs",
    "torch.dtype",
)
TORCHAO_TENSORS = ("Tensor", "Int8Tensor", "Int4Tensor", "IntxUnpackedToInt8Tensor", "Float8Tensor")
TORCHAO_FIELDS: dict[str, type | tuple[type, ...]] = {
    "quant_method": str,
    "quant_type": dict,
    "modules_to_not_convert": (list, type(None)),
    "include_input_output_embeddings": bool,
    "untie_embedding_weights": bool,
}
BITSANDBYTES_FIELDS: dict[str, type | tuple[type, ...]] = {
    "quant_method": str,
    "load_in_8bit": bool,
    "load_in_4bit": bool,
    "_load_in_8bit": bool,
    "_load_in_4bit": bool,
    "llm_int8_threshold": (int, float),
    "llm_int8_skip_modules": (list, type(None)),
    "llm_int8_enable_fp32_cpu_offload": bool,
    "llm_int8_has_fp16_weight": bool,
    "bnb_4bit_compute_dtype": str,
    "bnb_4bit_quant_type": str,
    "bnb_4bit_quant_storage": str,
    "bnb_4bit_use_double_quant": bool,
}
_DTYPE_FIELDS = ("bnb_4bit_compute_dtype", "bnb_4bit_quant_storage")
# Of modules; a quantizer takes them for patterns.
_MODULE_NAME = re.compile(r"[\w.]{1,200}")
_PLAIN = (bool, int, float, str, type(None))


def check_quantization_config(path: str, config) -> None:
    """Refuse a `quantization_config` that names another method, class or field than the tables.

    Args:
        path (`str`): Of the file that holds it, for messages.
        config: What the file holds there.

    Raises:
        ValueError: It names the file and the field.
    """
    where = f"{path}: `quantization_config`"
    if not isinstance(config, dict) or config.get("quant_method") not in METHODS:
        found = config.get("quant_method") if isinstance(config, dict) else config
        raise ValueError(
            f"{where} is refused, as it may run code of others: `quant_method` must be one of {METHODS}, "
            f"got {found!r:.200}"
        )
    is_torchao = config["quant_method"] == "torchao"
    fields = TORCHAO_FIELDS if is_torchao else BITSANDBYTES_FIELDS
    for name, value in config.items():
        if name not in fields:
            raise ValueError(f"{where} must have no other fields than {sorted(fields)}, got {name!r:.200}")
        if not isinstance(value, fields[name]):
            raise ValueError(f"{where}: `{name}` is of another type, got {value!r:.200}")
        if name in _DTYPE_FIELDS:
            _check_dtype(where, name, value)
        if isinstance(value, list):
            _check_module_names(where, name, value)
    if is_torchao:
        _check_torchao_type(where, config.get("quant_type"))


def _check_torchao_type(where: str, quant_type) -> None:
    """That `quant_type` is one of torchao's configurations that are in the table."""
    if (
        not isinstance(quant_type, dict)
        or list(quant_type) != ["default"]
        or not isinstance(quant_type["default"], dict)
    ):
        raise ValueError(f"{where}: `quant_type` must be one configuration, `default`, got {quant_type!r:.200}")
    inner = quant_type["default"]
    if inner.get("_type") not in TORCHAO_TYPES:
        raise ValueError(f"{where}: `quant_type` must be one of {TORCHAO_TYPES}, got {inner.get('_type')!r:.200}")
    _check_fields(where, inner.get("_data"))


def _check_fields(where: str, value) -> None:
    """That whatever a tree names as a class is in the table."""
    if isinstance(value, dict):
        name = value.get("_type")
        if "_type" in value and name not in TORCHAO_FIELD_TYPES:
            raise ValueError(f"{where}: `_type` must be one of {TORCHAO_FIELD_TYPES}, got {name!r:.200}")
        if name == "torch.dtype":
            _check_dtype(where, "_data", value.get("_data"))
        for item in value.values():
            _check_fields(where, item)
    elif isinstance(value, list):
        for item in value:
            _check_fields(where, item)
    elif not isinstance(value, _PLAIN):
        raise ValueError(f"{where} must hold numbers and names, got {value!r:.200}")


def _check_dtype(where: str, name: str, value) -> None:
    if not isinstance(value, str) or not isinstance(getattr(torch, value, None), torch.dtype):
        raise ValueError(f"{where}: `{name}` must be the name of a dtype of torch, got {value!r:.200}")


def _check_module_names(where: str, name: str, value: list) -> None:
    wrong = [item for item in value if not isinstance(item, str) or not _MODULE_NAME.fullmatch(item)]
    if wrong:
        raise ValueError(f"{where}: `{name}` must be names of modules, got {wrong[0]!r:.200}")


def quantized_weights(path: str, metadata: Mapping[str, str] | None) -> dict[str, list[str]]:
    """The weights that a safetensors file of torchao holds in several tensors each.

    Args:
        path (`str`): Of the file, for messages.
        metadata (`Mapping`, *optional*): Of its header.

    Returns:
        `dict`: Weight -> names of its tensors in the file; empty for a plain file.

    Raises:
        ValueError: If the header names a class that is not in the table.
    """
    if not metadata or "tensor_names" not in metadata:
        return {}
    weights = {}
    for name in _parsed(path, "tensor_names", metadata["tensor_names"], list):
        facts = _parsed(path, name, metadata.get(str(name)), dict)
        kind = facts.get("_type")
        if kind not in TORCHAO_TENSORS:
            raise ValueError(
                f"{path}: `_type` of {name!r:.200} in its header must be one of {TORCHAO_TENSORS}, got {kind!r:.200}"
            )
        if kind == "Tensor":
            continue
        _check_fields(path, facts.get("_data"))
        parts = facts.get("_tensor_data_names")
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
            raise ValueError(f"{path}: `_tensor_data_names` of {name!r:.200} must be names, got {parts!r:.200}")
        module, _, weight = name.rpartition(".")
        weights[name] = [f"{module}._{weight}_{part}" for part in parts]
    return weights


def _parsed(path: str, name, text, of_type: type):
    """What JSON in a header holds."""
    try:
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        value = None
    if not isinstance(name, str) or not isinstance(value, of_type):
        raise ValueError(f"{path}: its header tells nothing of {name!r:.200} that can be read, got {text!r:.200}")
    return value
