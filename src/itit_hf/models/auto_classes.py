# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What makes `AutoModel` and its kin open this package's folders once the package is imported.

Their `register` wants the classes themselves, so the package would import torch for everybody. Instead the names go
into transformers' own tables of names, whose classes are imported when one is asked for; and as transformers is slow
to import too, a table is filled in when somebody else imports it. So is diffusers' own, of the classes that it imports
on demand, in which `DiffusionPipeline.from_pretrained` looks up the pipeline that a folder names.
"""

import importlib.abc
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

MODEL_TYPE = "itit"
ROOT = __package__.partition(".")[0]  # whose `__init__` imports each class on demand
AUTO_PACKAGE = "transformers.models.auto"
PIPELINE_PACKAGE = "diffusers"
PIPELINE_NAME = "ITITPipeline"

# Module of AUTO_PACKAGE -> its tables -> what they say of MODEL_TYPE.
AUTO_NAMES: dict[str, dict] = {
    "configuration_auto": {"CONFIG_MAPPING_NAMES": "ITITConfig"},
    "modeling_auto": {
        "MODEL_MAPPING_NAMES": "ITITModel",
        "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES": "ITITForCaptioning",
        "MODEL_FOR_PRETRAINING_MAPPING_NAMES": "ITITForPreTraining",
    },
    "processing_auto": {"PROCESSOR_MAPPING_NAMES": "ITITProcessor"},
    "image_processing_auto": {"IMAGE_PROCESSOR_MAPPING_NAMES": {"pil": "ITITImageProcessorPil"}},
}


def add_pipeline():
    """Make diffusers, which is imported, know [`ITITPipeline`] by its name."""
    module = sys.modules[PIPELINE_PACKAGE]  # it puts another object in its own place
    sys.modules.setdefault(f"{PIPELINE_PACKAGE}.pipelines.{MODEL_TYPE}", sys.modules[ROOT])
    if hasattr(module, "_class_to_module"):
        module._class_to_module[PIPELINE_NAME] = f"pipelines.{MODEL_TYPE}"
    else:  # a plain module, by `DIFFUSERS_SLOW_IMPORT`
        module.__getattr__ = _pipeline_of_diffusers


def _pipeline_of_diffusers(name: str):
    if name != PIPELINE_NAME:
        raise AttributeError(f"module {PIPELINE_PACKAGE!r} has no attribute {name!r}")
    return getattr(sys.modules[ROOT], name)


def add_names(module: ModuleType):
    """Fill in the tables of one of transformers' auto modules, or diffusers' own; a second time changes nothing.

    Args:
        module (`ModuleType`): One of `AUTO_NAMES` or diffusers, imported.
    """
    if module.__name__ == PIPELINE_PACKAGE:
        add_pipeline()
        return
    # A table's classes are looked up in `transformers.models.<model type>`, and `__init__` imports them on demand.
    sys.modules.setdefault(f"transformers.models.{MODEL_TYPE}", sys.modules[ROOT])
    for table, names in AUTO_NAMES[module.__name__.rpartition(".")[2]].items():
        getattr(module, table)[MODEL_TYPE] = names
        mapping = getattr(module, table.removesuffix("_NAMES"))
        if hasattr(mapping, "_reverse_config_mapping"):  # made before this package was imported
            mapping._reverse_config_mapping["ITITConfig"] = MODEL_TYPE


class _AddNamesAfterImport(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Lets the other finders find an auto module and its own loader load it, then fills in its tables."""

    def __init__(self):
        self.loaders = {}

    def find_spec(self, fullname: str, path, target=None) -> ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        is_wanted = fullname == PIPELINE_PACKAGE or (package == AUTO_PACKAGE and name in AUTO_NAMES)
        if not is_wanted or fullname in self.loaders:
            return None
        self.loaders[fullname] = None  # the search below comes back here
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            del self.loaders[fullname]
        if spec is not None and spec.loader is not None:
            self.loaders[fullname], spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loaders[spec.name].create_module(spec)

    def exec_module(self, module: ModuleType):
        module.__spec__.loader = module.__loader__ = loader = self.loaders.pop(module.__name__)
        loader.exec_module(module)
        add_names(module)


def register_auto_classes():
    """Make `AutoConfig`, `AutoModel`, `AutoModelForImageTextToText`, `AutoModelForPreTraining`, `AutoProcessor` and
    `AutoImageProcessor` know this package, and `DiffusionPipeline` its pipeline, now or when transformers or diffusers
    are imported. Imports nothing."""
    for name in (PIPELINE_PACKAGE, *(f"{AUTO_PACKAGE}.{name}" for name in AUTO_NAMES)):
        module = sys.modules.get(name)
        if module is not None:
            add_names(module)
    if not any(isinstance(finder, _AddNamesAfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AddNamesAfterImport())
