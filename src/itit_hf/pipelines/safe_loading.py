# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Opening a pipeline folder that somebody else wrote: only JSON and safetensors, and only classes from a closed table.

`model_index.json` names modules and classes, and loaders import what it names; configurations can name kernels and
quantizers to download and run, or sizes that fill the memory. All of it is read and refused here, by the field's name,
before any loader sees it.
"""

import inspect
import json
import math
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open

from ..models.weight_files_itit import weights_replaced
from .call_defaults import SAMPLING, caption_settings, saved_sampling
from .quantization import check_quantization_config, quantized_weights
from .storage_precision import stored_in_half

INDEX_NAME = "model_index.json"
MAX_CONFIG_BYTES = 1_000_000
MAX_VOCABULARY_BYTES = 100_000_000
MAX_NESTING = 50
# Sizes in a configuration go no further than this beyond what its weights have, with room for lengths and distances.
SIZE_MARGIN = 4
SMALLEST_LIMIT = 4096
# Not sizes: transformers writes 10^30 for "no limit".
_NO_SIZES = ("model_max_length",)
# What transformers would download code for, or import libraries for.
_REFUSED_FIELDS = ("attn_implementation", "_attn_implementation", "experts_implementation")
# Components of transformers, whose quantizers are known by a table; of others a quantizer is refused altogether.
QUANTIZABLE = ("model", "text_encoder")
_DOWNLOADED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.md"]
# Which file holds which weight, for safetensors and for pickles; the latter is never read.
_SHARD_INDEX = re.compile(r".+\.(safetensors|bin)\.index(\.[\w-]+)?\.json")
_VOCABULARIES = ("tokenizer.json", "vocab.json", "added_tokens.json", "special_tokens_map.json")

Table = Mapping[str, Collection[tuple[str, str]]]

T5_KIND = ("T5EncoderModel", "MT5EncoderModel", "UMT5EncoderModel")
BERT_KIND = ("BertModel", "RobertaModel", "XLMRobertaModel", "MPNetModel", "DistilBertModel", "CLIPTextModel")
TEXT_ENCODERS = (*T5_KIND, *BERT_KIND)
TOKENIZER_KINDS = ("T5", "MT5", "Bert", "Roberta", "XLMRoberta", "MPNet", "DistilBert", "CLIP")
TOKENIZERS = ("TokenizersBackend", *(f"{kind}Tokenizer{fast}" for kind in TOKENIZER_KINDS for fast in ("", "Fast")))

# What a pipeline folder may name, component by component.
COMPONENTS = {
    "model": {("itit_hf.models.modeling_itit", "ITITForPreTraining")},
    "text_encoder": {("transformers", name) for name in TEXT_ENCODERS},
    "tokenizer": {("transformers", name) for name in TOKENIZERS},
    "image_tokenizer": {("itit_hf.models.image_tokenization_itit", "PatchVQModel"), ("diffusers", "VQModel")},
    "image_processor": {("itit_hf.models.image_processing_itit", "ITITImageProcessorPil")},
    "scheduler": {("itit_hf.decoding.scheduling_itit", "ITITScheduler")},
}
# Where version 0.1.0 had what a pipeline folder names.
MODULES_OF_0_1_0 = {
    "itit_hf.image_processing_itit": "itit_hf.models.image_processing_itit",
    "itit_hf.image_tokenization_itit": "itit_hf.models.image_tokenization_itit",
    "itit_hf.modeling_itit": "itit_hf.models.modeling_itit",
    "itit_hf.scheduling_itit": "itit_hf.decoding.scheduling_itit",
}
# Without these a loader takes its defaults, and random weights, and says nothing; one of each group must be there.
_REQUIRED_FILES = {
    "model": (("config.json",),),
    "text_encoder": (("config.json",),),
    "tokenizer": (("tokenizer_config.json",), ("tokenizer.json", "spiece.model")),
    "image_tokenizer": (("config.json",),),
    "image_processor": (("preprocessor_config.json",),),
    "scheduler": (("scheduler_config.json",),),
}
_REFUSED_OPTIONS = ("custom_pipeline", "trust_remote_code", "use_onnx", "use_flashpack")


class SafeLoadingMixin:
    """`from_pretrained` and `save_pretrained` of [`ITITPipeline`].

    Subclasses open the folders of [`ITITPipeline`] and the other way round. One with components or classes of its own
    names them in `component_classes`: component -> pairs of module and class.
    """

    component_classes: Table = COMPONENTS

    # Of `DiffusionPipeline`.
    config: Mapping
    text_encoder: torch.nn.Module | None
    register_to_config: Callable
    push_to_hub: Callable

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        """Open a folder or a repository of the Hub: safetensors, JSON and the classes of `component_classes`, only.

        A text encoder that is stored in half precision computes in the model's precision, unless a `dtype` is given.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): Folder or Hub id.
            kwargs: Options of diffusers' `from_pretrained`, and components in place of those there; `None` does
                without one. Whatever would run code from there, or read a pickle, is refused.

        Returns:
            [`ITITPipeline`].

        Raises:
            ValueError: If the folder names something else, or a file is damaged; it names the file and the field.
            OSError: If a file is missing or cannot be read.
        """
        refused = [name for name in _REFUSED_OPTIONS if kwargs.get(name)]
        refused += [name for name in ("use_safetensors", "weights_only") if kwargs.pop(name, True) is False]
        if refused:
            raise ValueError(f"`{refused[0]}`: only safetensors and known classes are opened")
        source = str(pretrained_model_name_or_path)
        folder = local_folder(source, kwargs)
        given = [name for name in cls.component_classes if name in kwargs]
        check_pipeline_folder(folder, cls.__name__, cls.component_classes, without=given)
        try:
            pipe = super().from_pretrained(folder, use_safetensors=True, **kwargs)
        except (ValueError, OSError):
            raise
        except Exception as error:  # whatever a loader raises at what it does not expect
            raise ValueError(f"{source}: it cannot be opened: {type(error).__name__}: {error}") from error
        for name in cls.component_classes:
            if name not in given and isinstance(getattr(pipe, name), torch.nn.Module):
                _check_complete(getattr(pipe, name), os.path.join(folder, name))
        is_asked = "text_encoder" in given or not {"dtype", "torch_dtype"}.isdisjoint(kwargs)
        if not is_asked and pipe.text_encoder is not None:
            pipe.text_encoder.to(torch.float32 if pipe.model is None else pipe.model.dtype)
        pipe.register_to_config(_name_or_path=source)
        if pipe.model is None:
            pipe.register_to_config(_max_text_length=_max_text_length(folder))
        else:
            caption_settings(pipe.model.generation_config, pipe.model.config.max_text_length)
        saved = read_json(os.path.join(folder, INDEX_NAME)).get(SAMPLING)
        if saved is not None and pipe.config.get(SAMPLING) is None:  # of a subclass whose `__init__` does not take it
            pipe.sampling = saved
        return pipe

    @classmethod
    def extract_init_dict(cls, config_dict, **kwargs):
        """As in diffusers, whose own loader reads `model_index.json` too: by the same table of classes.

        Args:
            config_dict (`dict`): What `model_index.json` holds.
            kwargs: As in diffusers.

        Returns:
            `tuple[dict, dict, dict]`: As in diffusers.

        Raises:
            ValueError: If it names what is not in the table.
        """
        config_dict = with_modules_of_today(config_dict)
        check_index(INDEX_NAME, config_dict, cls.__name__, cls.component_classes)
        if SAMPLING not in inspect.signature(cls.__init__).parameters:
            config_dict.pop(SAMPLING, None)
        return super().extract_init_dict(config_dict, **kwargs)

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        safe_serialization: bool = True,
        variant: str | None = None,
        max_shard_size: int | str | None = None,
        push_to_hub: bool = False,
        use_flashpack: bool = False,
        **kwargs,
    ):
        """Write every component, so that `from_pretrained` opens them, in place of what an earlier save wrote there.

        A text encoder whose weights lose nothing by it is written in half precision.

        Args:
            save_directory (`str` or `os.PathLike`): Folder, made if it is not there.
            safe_serialization (`bool`, *optional*, defaults to `True`): Must be; pickles are never opened.
            variant (`str`, *optional*): Part of the names of the weights, such as `"fp16"`; other variants stay.
            max_shard_size (`int` or `str`, *optional*): Of a file of weights.
            push_to_hub (`bool`, *optional*, defaults to `False`): Upload it afterwards.
            use_flashpack (`bool`, *optional*, defaults to `False`): Must not be, as nothing opens it.
            kwargs: Of [`~PipelineHubMixin.push_to_hub`]; `repo_id` is by default the folder's name.

        Raises:
            ValueError: If it were written in a form that is never opened.
        """
        for name, value, wanted in (
            ("safe_serialization", safe_serialization, True),
            ("use_flashpack", use_flashpack, False),
        ):
            if value is not wanted:
                raise ValueError(f"`{name}` must be {wanted}, got {value!r}: only safetensors are opened again")
        with ExitStack() as stack:
            for name in self.component_classes:
                stack.enter_context(weights_replaced(os.path.join(save_directory, name), variant))
            stack.enter_context(stored_in_half(self.text_encoder))
            super().save_pretrained(  # type: ignore[misc]  # of the pipeline
                str(save_directory), variant=variant, max_shard_size=max_shard_size
            )
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", os.path.basename(os.path.abspath(save_directory))), **kwargs)


def _max_text_length(folder: str) -> int | None:
    """That of the model of a pipeline folder, which is left out; or what was noted of it when it was saved without."""
    path = os.path.join(folder, "model", "config.json")
    length = read_json(path).get("max_text_length") if os.path.isfile(path) else None
    return length or read_json(os.path.join(folder, INDEX_NAME)).get("_max_text_length")


def with_modules_of_today(index: Mapping) -> dict:
    """The contents of a `model_index.json`, with the modules of version 0.1.0 by their names of today.

    Args:
        index (`Mapping`): Component -> library and class; what is of any other form stays as it is.

    Returns:
        `dict`.
    """
    found = dict(index)
    for name, value in index.items():
        if isinstance(value, (list, tuple)) and len(value) == 2 and isinstance(value[0], str):
            found[name] = [MODULES_OF_0_1_0.get(value[0], value[0]), value[1]]
    return found


def local_folder(source: str, options: dict) -> str:
    """The folder of a pipeline, downloaded if need be: all files of one commit, and no pickles among them.

    Args:
        source (`str` or `os.PathLike`): Folder or Hub id.
        options (`dict`): Of `from_pretrained`; what concerns the download is taken out.

    Returns:
        `str`: The folder.
    """
    names = ("revision", "cache_dir", "token", "local_files_only", "force_download")
    chosen = {name: options.pop(name) for name in names if name in options}
    if os.path.isdir(source):
        return str(source)
    return snapshot_download(str(source), allow_patterns=_DOWNLOADED, **chosen)


def check_pipeline_folder(folder: str, class_name: str, table: Table, without: Collection[str] = ()):
    """Refuse a pipeline folder that names what is not in the table, or whose configurations cannot be.

    Args:
        folder (`str`): With `model_index.json` and a folder for each component.
        class_name (`str`): The pipeline's class, for messages.
        table (`Mapping`): Component -> the pairs of library and class that it may have.
        without (`Collection[str]`, *optional*): Components that are not read from the folder.

    Raises:
        ValueError: It names the file and the field.
        OSError: If a file cannot be read.
    """
    path = os.path.join(folder, INDEX_NAME)
    index = with_modules_of_today(read_json(path))
    check_index(path, index, class_name, table)
    for name, value in index.items():
        is_component = not name.startswith("_") and name != SAMPLING and value != [None, None]
        if is_component and name not in without:
            check_component_folder(
                os.path.join(folder, name), _REQUIRED_FILES.get(name, ()), may_be_quantized=name in QUANTIZABLE
            )


def check_index(path: str, index: Mapping, class_name: str, table: Table):
    """Refuse a `model_index.json` that names what is not in the table.

    Args:
        path (`str`): What to call it.
        index (`Mapping`): What it holds.
        class_name (`str`): The pipeline's class, for messages.
        table (`Mapping`): Component -> the pairs of library and class that it may have.

    Raises:
        ValueError: It names the field.
    """
    found = index.get("_class_name")
    if not isinstance(found, str):  # a list names a module of the folder, to be imported
        raise ValueError(f"{path}: `_class_name` must be {class_name!r} or the name of its kin, got {found!r:.200}")
    for name, value in index.items():
        if name.startswith("_"):
            continue
        if name == SAMPLING:
            _check_sampling(path, value)
            continue
        if name not in table:
            raise ValueError(f"{path}: `{name}` is no component of a {class_name}; wanted {sorted(table)}")
        if value == [None, None]:  # a pipeline that does without
            continue
        if not isinstance(value, (list, tuple)) or tuple(map(str, value)) not in table[name]:
            raise ValueError(f"{path}: `{name}` must be one of {sorted(table[name])}, got {value!r:.200}")


def _check_sampling(path: str, value):
    try:
        saved_sampling(value)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def check_component_folder(folder: str, required: Collection[Collection[str]] = (), may_be_quantized: bool = False):
    """Refuse a component whose configuration is missing, cannot be, or does not fit its weights.

    Args:
        folder (`str`): With its configuration and perhaps weights.
        required (`Collection[Collection[str]]`, *optional*): Of each group of files, one must be there.
        may_be_quantized (`bool`, *optional*, defaults to `False`): Whether a `quantization_config` is read, by the
            tables of `quantization.py`, or refused.

    Raises:
        ValueError: It names the file and the field.
        OSError: If a file cannot be read.
    """
    if not os.path.isdir(folder):
        raise OSError(f"{folder}: there is no such folder")
    for names in required:
        if not any(os.path.isfile(os.path.join(folder, name)) for name in names):
            raise OSError(f"{folder}: it has no {' or '.join(names)}")
    limits = _limits_by_weights(folder)
    _quantized_weights(folder)  # refuses what it does not know
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        _check_within(path, folder)
        if name in _VOCABULARIES:
            read_json(path, MAX_VOCABULARY_BYTES, of_type=(dict, list))
        elif match := _SHARD_INDEX.fullmatch(name):
            if match[1] == "safetensors":
                _read_index(path)
        elif name.endswith(".json"):
            for field, value in _fields(read_json(path)):
                _check_quantization(path, field, value, may_be_quantized)
                _check_field(path, field, value, limits)


def _check_quantization(path: str, field: str, value, may_be_quantized: bool):
    if field != "quantization_config" or value is None:
        return
    if not may_be_quantized:
        raise ValueError(f"{path}: `{field}` is refused for this component, got {value!r:.200}")
    check_quantization_config(path, value)


def read_json(path: str, max_bytes: int = MAX_CONFIG_BYTES, of_type: tuple[type, ...] = (dict,)):
    """Read a JSON file that somebody else wrote.

    Args:
        path (`str`): Where from.
        max_bytes (`int`, *optional*): Size that it may have.
        of_type (`tuple[type, ...]`, *optional*): What it may hold.

    Returns:
        What it holds.

    Raises:
        ValueError: If it is too large, nested too deeply, no JSON, or holds something else.
        OSError: If it cannot be read.
    """
    if os.path.getsize(path) > max_bytes:
        raise ValueError(f"{path}: it has more than {max_bytes} bytes")
    with open(path, "rb") as file:
        data = file.read()
    try:
        value = json.loads(data.decode("utf-8"))
    except RecursionError as error:
        raise ValueError(f"{path}: it is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{path}: it is no JSON that can be read: {error}") from error
    if not isinstance(value, of_type):
        raise ValueError(f"{path}: wanted names and values, got a {type(value).__name__}")
    return value


def _fields(value, name: str = "", depth: int = 0) -> Iterator[tuple[str, object]]:
    """Every value of a tree that is no container, and every container's name with `None`."""
    if depth > MAX_NESTING:
        raise ValueError(f"`{name[:100]}`: it is nested more than {MAX_NESTING} deep")
    if isinstance(value, dict):
        for key, item in value.items():
            yield key, item
            yield from _fields(item, key, depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield name, item
            yield from _fields(item, name, depth + 1)


def _check_field(path: str, field: str, value, limits: tuple[int, int] | None):
    if field in _REFUSED_FIELDS and value is not None:
        raise ValueError(f"{path}: `{field}` is refused, as it may run code of others; got {value!r:.200}")
    if field == "_class_name" and not isinstance(value, str):
        raise ValueError(f"{path}: `{field}` must be a name, got {value!r:.200}")
    if field.endswith("_file") and isinstance(value, str) and os.path.basename(value) != value:
        raise ValueError(f"{path}: `{field}` must be the name of a file in this folder, got {value!r:.200}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path}: `{field}` must be finite, got {value}")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or field in _NO_SIZES:
        return
    largest, deepest = limits or (10**9, 10**9)
    limit = deepest if "layers" in field else largest
    if abs(value) > limit:
        raise ValueError(f"{path}: `{field}` must be {limit} at most, to fit its weights, got {value}")


def _limits_by_weights(folder: str) -> tuple[int, int] | None:
    """Largest number, and most layers, that the configuration of these weights may name; `None` without weights."""
    shapes = {}
    for name in (name for name in os.listdir(folder) if name.endswith(".safetensors")):
        shapes |= _shapes(os.path.join(folder, name))
    largest = max((size for shape in shapes.values() for size in shape), default=0)
    return (max(SIZE_MARGIN * largest, SMALLEST_LIMIT), len(shapes)) if shapes else None


def _shapes(path: str) -> dict[str, list[int]]:
    """Shape of each tensor in a safetensors file, by name."""
    with _opened(path) as file:
        return {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118  it is no dict


@contextmanager
def _opened(path: str) -> Iterator[safe_open]:
    """A safetensors file that somebody else wrote."""
    _check_within(path, os.path.dirname(path))
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path}: it is no safetensors file that can be read: {error}") from error


def _quantized_weights(folder: str) -> dict[str, list[str]]:
    """Weight -> names of the tensors that it is made of, of all quantized weights of a folder."""
    found = {}
    for name in sorted(name for name in os.listdir(folder) if name.endswith(".safetensors")):
        path = os.path.join(folder, name)
        with _opened(path) as file:
            found |= quantized_weights(path, file.metadata())
    return found


def _read_index(path: str) -> dict[str, str]:
    """The file of each weight, by an index of shards: they lie beside it, and hold what it says and nothing else."""
    folder = os.path.dirname(path)
    index = read_json(path)
    shards = index.get("weight_map")
    metadata = index.get("metadata")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise ValueError(f"{path}: `weight_map` must name the file of each weight, got {shards!r:.200}")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("total_size", 0), (int, float)):
        raise ValueError(f"{path}: `metadata` must hold the size of the weights, got {metadata!r:.200}")
    found = {}
    for name in sorted(set(shards.values())):
        if os.path.basename(name) != name or not name.endswith(".safetensors"):
            raise ValueError(f"{path}: `weight_map` must name safetensors files of this folder, got {name!r:.200}")
        if not os.path.isfile(os.path.join(folder, name)):
            raise OSError(f"{path}: `weight_map` names {name}, which is not there")
        for key in _shapes(os.path.join(folder, name)):
            if shards.get(key) != name:
                raise ValueError(f"{path}: `weight_map` has {key} in {shards.get(key)!r:.200}, but {name} holds it")
            found[key] = name
    missing = sorted(shards.keys() - found.keys())
    if missing:
        raise ValueError(f"{path}: `weight_map` names {missing[0]!r:.200}, which no file holds")
    return shards


def _check_complete(module: torch.nn.Module, folder: str):
    """Each weight is in each set of files that a loader could take: what is missing is filled up by random numbers."""
    names = sorted(os.listdir(folder))
    indices = [name for name in names if (match := _SHARD_INDEX.fullmatch(name)) and match[1] == "safetensors"]
    sets = {name: _read_index(os.path.join(folder, name)) for name in indices}
    shards = {file for weight_map in sets.values() for file in weight_map.values()}
    whole = [name for name in names if name.endswith(".safetensors") and name not in shards]
    weights = module.state_dict(keep_vars=True)
    quantized = _quantized_weights(folder)
    for name, there in (sets | {name: _shapes(os.path.join(folder, name)) for name in whole}).items():
        whole_ones = {key for key, parts in quantized.items() if all(part in there for part in parts)}
        names_there = whole_ones | there.keys()
        filled = {id(weight) for key, weight in weights.items() if key in names_there}  # a tied one has several names
        missing = sorted(key for key, weight in weights.items() if id(weight) not in filled)
        if missing:
            raise ValueError(
                f"{folder}: {len(missing)} weights of its configuration are not in {name}, such as {missing[0]}"
            )


def _check_within(path: str, folder: str):
    """A link may lead to the files of the same download, as in the Hub's cache, but not anywhere."""
    if not os.path.islink(path):
        return
    target = os.path.realpath(path)
    root = os.path.realpath(os.path.join(folder, "..", "..", ".."))
    if os.path.commonpath([target, root]) != root or not os.path.isfile(target):
        raise ValueError(f"{path}: it is a link to a place outside of the download")
