# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""LoRA adapters of ITIT's network, by peft: trained on few images, saved alone, and put into a pipeline.

The heads of ITIT are their embeddings: the text head reads the word embeddings, the image head those of the codes. An
adapter of an embedding would change what goes in and not what is predicted, so such adapters are refused.
"""

import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers.utils.peft_utils import (
    delete_adapter_layers,
    recurse_remove_peft_layers,
    set_adapter_layers,
    set_weights_and_activate_adapters,
)
from huggingface_hub import CommitInfo, ModelCardData, snapshot_download
from safetensors.torch import load_file, save_file
from torch import nn

from ..hub.push import CARD, make_repository, upload

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
# The attention and the MLP of every block, encoder and decoders.
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
_PREFIX = "base_model.model."  # of peft's files
_NAME = re.compile(r"[A-Za-z0-9_-]+")


def _peft():
    try:
        import peft
    except ImportError as error:
        raise ImportError("LoRA adapters need peft: pip install 'itit-hf[peft]'") from error
    return peft


def lora_layers(model: nn.Module) -> list[nn.Module]:
    """The layers of a model that hold adapters.

    Args:
        model (`nn.Module`): Any.

    Returns:
        `list[nn.Module]`: peft's layers, in the model's order; empty without adapters.
    """
    # Every layer of peft has these two; asking so needs no peft.
    return [each for each in model.modules() if hasattr(each, "base_layer") and hasattr(each, "active_adapters")]


def without_wrapper(model: nn.Module) -> nn.Module:
    """The network that peft's `get_peft_model` has wrapped, its adapters still within it; any other as it is.

    Args:
        model (`nn.Module`): A `PeftModel` or another one.

    Returns:
        `nn.Module`, of which the adapters are managed as those of [`LoraMixin`] are.

    Raises:
        ValueError: If what peft has learned is not within the network but in front of its inputs.
    """
    if not hasattr(model, "get_base_model"):
        return model
    kinds = {config.peft_type.value for config in model.peft_config.values() if config.is_prompt_learning}
    if kinds:
        raise ValueError(
            f"`model` must be a network with its adapters within it, got prompts of the kind {sorted(kinds)}"
        )
    return model.get_base_model()


def add_lora(
    model: nn.Module,
    rank: int = 16,
    alpha: float | None = None,
    dropout: float = 0.0,
    target_modules: Sequence[str] | str = LORA_TARGETS,
    adapter_name: str = "default",
):
    """Put a new adapter into a model, train it and nothing else. It changes nothing until it is trained.

    Args:
        model ([`ITITForPreTraining`]): Changed in place.
        rank (`int`, *optional*, defaults to 16): Rank of the update of each matrix.
        alpha (`float`, *optional*): The update is scaled by `alpha / rank`; `rank` by default.
        dropout (`float`, *optional*, defaults to 0.0): Of what goes into the adapter.
        target_modules (`Sequence[str]` or `str`): Ends of the names of linear layers, or a regular expression.
        adapter_name (`str`, *optional*, defaults to `"default"`): Its name.

    Raises:
        ImportError: If peft is missing.
        ValueError: If a name or number is out of range, adapters are fused, or an embedding is among the targets.
    """
    if rank < 1:
        raise ValueError(f"`rank` must be at least 1, got {rank}")
    _check_name(model, adapter_name)
    _check_not_fused(model, "add_lora")
    targets = target_modules if isinstance(target_modules, str) else list(target_modules)
    config = _peft().LoraConfig(
        r=rank, lora_alpha=rank if alpha is None else alpha, lora_dropout=dropout, target_modules=targets
    )
    _inject(model, config, adapter_name)


def _check_name(model: nn.Module, adapter_name: str):
    if not _NAME.fullmatch(adapter_name):
        raise ValueError(f"`adapter_name` must be of letters, digits, `_` and `-`, got {adapter_name!r}")
    if adapter_name in getattr(model, "peft_config", {}):
        raise ValueError(f"`adapter_name` {adapter_name!r} is taken, by one of {sorted(model.peft_config)}")


def _check_not_fused(model: nn.Module, method: str):
    if any(layer.merged for layer in lora_layers(model)):
        raise ValueError(f"adapters are fused: call `unfuse_lora()` before `{method}`")


def _inject(model: nn.Module, config, adapter_name: str):
    _check_heads_stay_tied(model, config)
    training = model.training
    _peft().inject_adapter_in_model(config, model, adapter_name)
    model.train(training)


@contextmanager
def _training_as_it_was(model: nn.Module):
    """peft freezes all but adapters, and trains those in use: what is only used is left as it is."""
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    yield
    for parameter, trained in before.items():
        parameter.requires_grad_(trained)


def _check_heads_stay_tied(model: nn.Module, config):
    from peft.tuners.tuners_utils import check_target_module_exists

    if config.modules_to_save:
        raise ValueError(f"adapters must not hold whole modules, `modules_to_save` is {list(config.modules_to_save)}")
    tables = [name for name, each in model.named_modules() if isinstance(each, nn.Embedding)]
    targeted = [name for name in tables if check_target_module_exists(config, name)]
    if targeted:
        raise ValueError(f"adapters must leave the embeddings alone, which are the heads too; targets are {targeted}")


def _adapter_folder(source: str, revision: str | None, token: str | None, subfolder: str | None) -> Path:
    """Local folder with the two files of an adapter; of the Hub nothing else is fetched, and no pickle is read."""
    folder = Path(source)
    if not folder.is_dir():
        file_names = [f"{subfolder}/{name}" if subfolder else name for name in (CONFIG_FILE, WEIGHTS_FILE)]
        folder = Path(snapshot_download(str(source), revision=revision, token=token, allow_patterns=file_names))
    folder = folder / (subfolder or "")
    missing = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"`{source}` is no adapter in peft's form: it has no {' and no '.join(missing)}")
    return folder


class LoraMixin:
    """LoRA adapters of [`ITITPipeline`], by the names that diffusers' pipelines have for them."""

    # Of the pipeline.
    model: nn.Module
    _draw_for_card: Callable[[Sequence[str], str], dict[str, str]]

    def load_lora_weights(
        self,
        pretrained_model_name_or_path: str | os.PathLike,
        adapter_name: str = "default",
        revision: str | None = None,
        token: str | None = None,
        subfolder: str | None = None,
    ):
        """Load an adapter beside those that are there, and use it alone; [`~LoraMixin.set_adapters`] uses several.

        An adapter that cannot be loaded changes nothing: it is tried on a copy of the model without weights.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): Folder or Hub id, in peft's form.
            adapter_name (`str`, *optional*, defaults to `"default"`): What to call it here.
            revision (`str`, *optional*): Branch, tag or commit.
            token (`str`, *optional*): The one of this machine by default.
            subfolder (`str`, *optional*): Where in the repository or folder it is.

        Raises:
            ImportError: If peft is missing.
            ValueError: If there is no adapter, its name is taken, adapters are fused, or it does not fit this model.
        """
        peft = _peft()
        _check_name(self.model, adapter_name)
        _check_not_fused(self.model, "load_lora_weights")
        source = str(pretrained_model_name_or_path)
        folder = _adapter_folder(source, revision, token, subfolder)
        config = peft.PeftConfig.from_pretrained(str(folder))
        if config.peft_type != peft.PeftType.LORA:
            raise ValueError(f"`{source}` holds an adapter of the type {config.peft_type}, wanted LORA")
        state = {name.removeprefix(_PREFIX): value for name, value in load_file(folder / WEIGHTS_FILE).items()}
        with torch.device("meta"):
            bare = type(self.model)(self.model.config)
            _inject(bare, config, adapter_name)
        _check_fit(source, state, peft.get_peft_model_state_dict(bare, adapter_name=adapter_name))
        with _training_as_it_was(self.model):
            _inject(self.model, config, adapter_name)
        peft.set_peft_model_state_dict(self.model, state, adapter_name=adapter_name)
        for name, parameter in self.model.named_parameters():
            if f".{adapter_name}." in name:
                parameter.requires_grad_(False)
        self.set_adapters(adapter_name)

    def set_adapters(self, adapter_names: str | Sequence[str], adapter_weights: float | Sequence[float] = 1.0):
        """Use these adapters together, each as strong as its weight.

        Args:
            adapter_names (`str` or `Sequence[str]`): Of [`~LoraMixin.get_list_adapters`].
            adapter_weights (`float` or `Sequence[float]`, *optional*, defaults to 1.0): One for all or one for each;
                0.0 is none, 1.0 as it was trained.

        Raises:
            ValueError: If a name is unknown, or there are not as many weights as names.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        unknown = [name for name in names if name not in self.get_list_adapters()]
        if unknown or not names:
            raise ValueError(f"`adapter_names` must be of {self.get_list_adapters()}, got {unknown or names}")
        weights = [adapter_weights] * len(names) if isinstance(adapter_weights, int | float) else adapter_weights
        if len(weights) != len(names):
            raise ValueError(f"`adapter_weights` has {len(weights)} entries for {len(names)} adapters")
        _check_not_fused(self.model, "set_adapters")
        with _training_as_it_was(self.model):
            set_weights_and_activate_adapters(self.model, names, list(weights))
            set_adapter_layers(self.model, enabled=True)

    def get_list_adapters(self) -> list[str]:
        """Names of the loaded adapters."""
        return list(getattr(self.model, "peft_config", {}))

    def get_active_adapters(self) -> list[str]:
        """Names of the adapters in use."""
        layers = lora_layers(self.model)
        if not layers or layers[0].disable_adapters:
            return []
        return list(layers[0].active_adapters)

    def disable_lora(self):
        """Generate and caption without adapters, which stay loaded."""
        _check_not_fused(self.model, "disable_lora")
        with _training_as_it_was(self.model):
            set_adapter_layers(self.model, enabled=False)

    def enable_lora(self):
        """Use the adapters again that [`~LoraMixin.disable_lora`] put aside."""
        with _training_as_it_was(self.model):
            set_adapter_layers(self.model, enabled=True)

    def fuse_lora(self, adapter_names: Sequence[str] | None = None):
        """Add adapters to the weights, by the strength that [`~LoraMixin.set_adapters`] gave them: nothing is slower
        than without.

        Args:
            adapter_names (`Sequence[str]`, *optional*): Those in use by default.

        Raises:
            ValueError: If there is none, or some are fused already.
        """
        names = list(adapter_names or self.get_active_adapters())
        if not names or any(name not in self.get_list_adapters() for name in names):
            raise ValueError(f"`adapter_names` must be of {self.get_list_adapters()}, got {names}")
        _check_not_fused(self.model, "fuse_lora")
        for layer in lora_layers(self.model):
            layer.merge(safe_merge=True, adapter_names=names)

    def unfuse_lora(self):
        """Take fused adapters out of the weights again; they are as before, up to rounding."""
        for layer in lora_layers(self.model):
            layer.unmerge()

    def delete_adapters(self, adapter_names: str | Sequence[str]):
        """Unload some adapters.

        Args:
            adapter_names (`str` or `Sequence[str]`): Of [`~LoraMixin.get_list_adapters`].

        Raises:
            ValueError: If a name is unknown, or adapters are fused.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        unknown = [name for name in names if name not in self.get_list_adapters()]
        if unknown:
            raise ValueError(f"`adapter_names` must be of {self.get_list_adapters()}, got {unknown}")
        _check_not_fused(self.model, "delete_adapters")
        for name in names:
            delete_adapter_layers(self.model, name)
            self.model.peft_config.pop(name, None)
        if not self.get_list_adapters():
            self.unload_lora_weights()

    def unload_lora_weights(self):
        """Unload all adapters. What is fused stays in the weights."""
        recurse_remove_peft_layers(self.model)
        if hasattr(self.model, "peft_config"):
            del self.model.peft_config

    def save_lora_weights(self, save_directory: str | os.PathLike, adapter_name: str = "default"):
        """Write one adapter in peft's form: its configuration and its weights as safetensors.

        Args:
            save_directory (`str` or `os.PathLike`): Folder, made if it is not there.
            adapter_name (`str`, *optional*, defaults to `"default"`): Which.

        Raises:
            ValueError: If there is no such adapter.
        """
        if adapter_name not in self.get_list_adapters():
            raise ValueError(f"`adapter_name` must be of {self.get_list_adapters()}, got {adapter_name!r}")
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        state = _peft().get_peft_model_state_dict(self.model, adapter_name=adapter_name)
        tensors = {_PREFIX + name: value.detach().cpu().contiguous() for name, value in state.items()}
        save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
        self.model.peft_config[adapter_name].save_pretrained(str(folder))

    def push_lora_to_hub(
        self,
        repo_id: str,
        adapter_name: str = "default",
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        base_model: str | None = None,
        prompts: Sequence[str] = (),
    ) -> CommitInfo:
        """Upload one adapter, with a card and, if asked, images generated by what is in use now.

        Args:
            repo_id (`str`): Repository, made if it is not there.
            adapter_name (`str`, *optional*, defaults to `"default"`): Which.
            commit_message (`str`, *optional*): Of the commit.
            private (`bool`, *optional*): Of a new repository.
            token (`str`, *optional*): The one of this machine by default.
            base_model (`str`, *optional*): Hub id of the pipeline that it is for, for the card.
            prompts (`Sequence[str]`): What to generate for the card, prompt i from the seed i.

        Returns:
            `CommitInfo`.

        Raises:
            UploadError: If the upload was refused, or failed each time.
            ValueError: If there is no such adapter.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_lora_weights(folder, adapter_name)
            repo_id, _ = make_repository(repo_id, private, token)
            images = self._draw_for_card(prompts, folder)
            Path(folder, CARD).write_text(_lora_card(repo_id, base_model, images), encoding="utf-8")
            return upload(folder, repo_id, commit_message or "Upload LoRA adapter", token)

    def save_pretrained(self, save_directory: str | os.PathLike, *args, **kwargs):
        """As in diffusers: every component into a folder.

        Args:
            save_directory (`str` or `os.PathLike`): Folder, made if it is not there.
            args: Options of diffusers, such as `max_shard_size`.
            kwargs: Likewise, by name.

        Raises:
            ValueError: If adapters are loaded: they are no part of a pipeline's folder.
        """
        if self.model is not None and lora_layers(self.model):
            raise ValueError(
                f"the adapters {self.get_list_adapters()} are loaded: save them with `save_lora_weights`, or make "
                "them part of the weights with `fuse_lora()` and then `unload_lora_weights()`"
            )
        super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]  # of the pipeline


def _check_fit(source: str, state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]):
    """That an adapter's weights are those that the model has places for, name by name and shape by shape."""
    missing = sorted(expected.keys() - state.keys())
    unknown = sorted(state.keys() - expected.keys())
    if missing or unknown:
        raise ValueError(f"`{source}` does not fit this model: {missing[:3]} are missing, {unknown[:3]} are unknown")
    for name, value in state.items():
        if value.shape != expected[name].shape:
            shapes = f"{tuple(value.shape)}, wanted {tuple(expected[name].shape)}"
            raise ValueError(f"`{source}` does not fit this model: {name} has the shape {shapes}")


def _lora_card(repo_id: str, base_model: str | None, images: Mapping[str, str]) -> str:
    data = ModelCardData(
        library_name="itit_hf",
        pipeline_tag="text-to-image",
        base_model=base_model,
        base_model_relation="adapter" if base_model else None,
        tags=["itit", "lora", "peft", "text-to-image", "image-to-text", "any-to-any"],
        widget=[{"text": text, "output": {"url": path}} for text, path in images.items()] or None,
    )
    lines = ["from itit_hf import ITITPipeline", "", f'pipe = ITITPipeline.from_pretrained("{base_model or "..."}")']
    lines += [f'pipe.load_lora_weights("{repo_id}")']
    shown = "".join(f"\n![{text}]({path})\n" for text, path in images.items())
    code = "\n".join(["```python", *lines, "```"])
    return f"---\n{data.to_yaml()}\n---\n\n# {repo_id.split('/')[-1]}\n\nA LoRA adapter of ITIT.\n{shown}\n{code}\n"
