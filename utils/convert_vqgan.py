# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Turn a VQGAN of taming-transformers or of LlamaGen, or the one that MaskGIT and MAGE use, into a folder that
diffusers' `VQModel` opens, and `examples/train_itit.py --image_tokenizer` takes.

    python utils/convert_vqgan.py --layout taming --checkpoint last.ckpt --config model.yaml --output out/vqgan
    python utils/convert_vqgan.py --layout maskgit --checkpoint vqgan.safetensors --output out/vqgan
    python utils/convert_vqgan.py --layout llamagen --checkpoint vq_ds16_c2i.pt --output out/vqgan

Checkpoints are read as safetensors, or as PyTorch files with `weights_only=True`: nothing in them is run. Three
architectures are known:

- taming (CompVis): attention at some resolutions, `quant_conv` and `post_quant_conv`; the architecture stands in
  `ddconfig` of its YAML file. Every part of it has its counterpart in `VQModel`.
- llamagen (VQ-16 and VQ-8 of https://huggingface.co/papers/2406.06525): taming's architecture with attention at the
  last resolution, under other names; it is read from the shapes. LlamaGen divides latents and codes by their length
  before it compares them. Among codes of length 1 the nearest is the same whether or not the latent is divided, so
  the codes are divided here, once.
- maskgit (MaskGIT's JAX weights as PyTorch ones, as open-muse and MAGE name them): no attention and no `quant_conv`,
  convolutions without bias, averages for downsampling, and a shortcut that reads what the block has computed. Each of
  these is a convolution of `VQModel` with certain weights, so that the result is the same function. The architecture
  is read from the shapes. It takes and gives pixels in [0, 1], not in [-1, 1]: give the image processor `image_mean` 0
  and `image_std` 1.
"""

import argparse
import logging
import re
from collections.abc import Mapping
from pathlib import Path

import torch
import yaml
from diffusers import VQModel
from safetensors.torch import load_file
from torch.nn import functional as F

logger = logging.getLogger(__name__)

# Under which name a training script keeps the weights; averaged ones first, as LlamaGen itself has it.
CONTAINERS = ("ema", "state_dict", "model")
# What a file may hold besides: the arguments of the script that wrote it. To make one runs no code of the file.
PLAIN_CLASSES = [argparse.Namespace]

# Parts of a block of taming-transformers, and what diffusers calls them.
_TAMING_PARTS = {
    "nin_shortcut": "conv_shortcut",
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
}
_TAMING_RULES = [
    (
        r"(encoder|decoder)\.mid\.block_(\d)\.(\w+)",
        lambda m, n: f"{m[1]}.mid_block.resnets.{int(m[2]) - 1}.{_part(m[3])}",
    ),
    (r"(encoder|decoder)\.mid\.attn_1\.(\w+)", lambda m, n: f"{m[1]}.mid_block.attentions.0.{_part(m[2])}"),
    (
        r"(encoder|decoder)\.(?:down|up)\.(\d+)\.block\.(\d+)\.(\w+)",
        lambda m, n: f"{_level(m, n)}.resnets.{m[3]}.{_part(m[4])}",
    ),
    (
        r"(encoder|decoder)\.(?:down|up)\.(\d+)\.attn\.(\d+)\.(\w+)",
        lambda m, n: f"{_level(m, n)}.attentions.{m[3]}.{_part(m[4])}",
    ),
    (r"(encoder)\.down\.(\d+)\.downsample\.conv", lambda m, n: f"{_level(m, n)}.downsamplers.0.conv"),
    (r"(decoder)\.up\.(\d+)\.upsample\.conv", lambda m, n: f"{_level(m, n)}.upsamplers.0.conv"),
    (r"(encoder|decoder)\.norm_out", lambda m, n: f"{m[1]}.conv_norm_out"),
    (r"(encoder|decoder)\.(conv_in|conv_out)", lambda m, n: m[0]),
    (r"quant_conv|post_quant_conv|quantize\.embedding", lambda m, n: m[0]),
]
_LLAMAGEN_RULES = [
    (
        r"(encoder|decoder)\.mid\.([012])\.(\w+)",
        lambda m, n: f"{m[1]}.mid_block.{('resnets.0', 'attentions.0', 'resnets.1')[int(m[2])]}.{_part(m[3])}",
    ),
    (
        r"(encoder|decoder)\.conv_blocks\.(\d+)\.(res|attn)\.(\d+)\.(\w+)",
        lambda m, n: f"{_step(m)}.{'resnets' if m[3] == 'res' else 'attentions'}.{m[4]}.{_part(m[5])}",
    ),
    (r"(encoder)\.conv_blocks\.(\d+)\.downsample\.conv", lambda m, n: f"{_step(m)}.downsamplers.0.conv"),
    (r"(decoder)\.conv_blocks\.(\d+)\.upsample\.conv", lambda m, n: f"{_step(m)}.upsamplers.0.conv"),
    *_TAMING_RULES[-3:],  # both ends, and what lies between them
]


def _step(match: re.Match) -> str:
    """LlamaGen counts as diffusers does, from the image in the encoder and from the code in the decoder."""
    return f"{match[1]}.{'down' if match[1] == 'encoder' else 'up'}_blocks.{match[2]}"


def _part(name: str) -> str:
    return _TAMING_PARTS.get(name, name)


def _level(match: re.Match, num_levels: int) -> str:
    """taming counts the decoder's levels from the image, diffusers from the code."""
    level = int(match[2])
    return f"encoder.down_blocks.{level}" if match[1] == "encoder" else f"decoder.up_blocks.{num_levels - 1 - level}"


def taming_config(config: Mapping) -> dict:
    """Arguments of `VQModel` for a YAML file of taming-transformers.

    Args:
        config (`Mapping`): What the file holds: `model`, `params`, `ddconfig`.

    Raises:
        ValueError: If it is no VQGAN with a plain codebook.
    """
    try:
        params = config["model"]["params"]
        network = params["ddconfig"]
        channels = [network["ch"] * mult for mult in network["ch_mult"]]
        resolutions = [network["resolution"] // 2**level for level in range(len(channels))]
        attends = [resolution in network["attn_resolutions"] for resolution in resolutions]
        if network.get("double_z"):
            raise ValueError("`double_z` must be false: this is a VAE, and no VQGAN")
        return {
            "in_channels": network["in_channels"],
            "out_channels": network["out_ch"],
            "down_block_types": ["AttnDownEncoderBlock2D" if each else "DownEncoderBlock2D" for each in attends],
            "up_block_types": ["AttnUpDecoderBlock2D" if each else "UpDecoderBlock2D" for each in attends[::-1]],
            "block_out_channels": channels,
            "layers_per_block": network["num_res_blocks"],
            "latent_channels": network["z_channels"],
            "sample_size": network["resolution"],
            "num_vq_embeddings": params["n_embed"],
            "vq_embed_dim": params["embed_dim"],
            "lookup_from_codebook": True,
        }
    except (KeyError, TypeError) as error:
        raise ValueError(f"`config` must hold model.params with ddconfig, n_embed and embed_dim: {error!r}") from error


def convert_taming(state: Mapping[str, torch.Tensor], config: Mapping) -> VQModel:
    """A `VQModel` that is the same function as a VQGAN of taming-transformers.

    Args:
        state (`Mapping[str, torch.Tensor]`): Its weights; those of losses and discriminators are left out.
        config (`Mapping`): Its YAML file.

    Raises:
        ValueError: If a weight has no place, or one is missing or has another shape.
    """
    arguments = taming_config(config)
    trained = {name: value for name, value in state.items() if not name.startswith("loss.")}
    num_levels = len(arguments["block_out_channels"])
    return _load(arguments, _renamed(trained, _TAMING_RULES, num_levels, "taming-transformers"))


def _renamed(state: Mapping[str, torch.Tensor], rules: list, num_levels: int, layout: str) -> dict[str, torch.Tensor]:
    """Weights by diffusers' names, for the layouts whose every part has its counterpart there."""
    renamed = {}
    for name, value in state.items():
        module, _, kind = name.rpartition(".")
        found = [(rule, match) for pattern, rule in rules if (match := re.fullmatch(pattern, module))]
        if not found:
            raise ValueError(f"`{name}` has no place in a VQModel: is this the layout of {layout}?")
        rule, match = found[0]
        target = rule(match, num_levels)
        # Attention is a 1 x 1 convolution there, and a linear layer here.
        renamed[f"{target}.{kind}"] = value[..., 0, 0] if "attentions" in target and value.dim() == 4 else value
    return renamed


def llamagen_config(state: Mapping[str, torch.Tensor], resolution: int) -> dict:
    """Arguments of `VQModel`, read from the shapes of LlamaGen's weights.

    Args:
        state (`Mapping[str, torch.Tensor]`): Its weights.
        resolution (`int`): Side of the images that it was trained on.

    Raises:
        ValueError: If a weight is missing.
    """
    try:
        levels, blocks = _counts(state, r"encoder\.conv_blocks\.(\d+)\.res\.(\d+)\.")
        channels = [len(state[f"encoder.conv_blocks.{level}.res.0.conv2.weight"]) for level in range(levels)]
        attends = [f"encoder.conv_blocks.{level}.attn.0.norm.weight" in state for level in range(levels)]
        num_codes, code_width = state["quantize.embedding.weight"].shape
        ends = state["encoder.conv_in.weight"], state["decoder.conv_out.weight"]
        width = len(state["encoder.conv_out.weight"])
    except (KeyError, ValueError) as error:
        raise ValueError(f"the weights are not in the layout of LlamaGen: {error}") from error
    return {
        "in_channels": ends[0].shape[1],
        "out_channels": len(ends[1]),
        "down_block_types": ["AttnDownEncoderBlock2D" if each else "DownEncoderBlock2D" for each in attends],
        "up_block_types": ["AttnUpDecoderBlock2D" if each else "UpDecoderBlock2D" for each in attends[::-1]],
        "block_out_channels": channels,
        "layers_per_block": blocks,
        "latent_channels": width,
        "sample_size": resolution,
        "num_vq_embeddings": num_codes,
        "vq_embed_dim": code_width,
        "lookup_from_codebook": True,
    }


def _counts(state: Mapping[str, torch.Tensor], pattern: str) -> tuple[int, int]:
    """How many levels there are, and how many blocks each of them has."""
    found = [match for match in (re.match(pattern, name) for name in state) if match]
    if not found:
        raise ValueError(f"there is no `{pattern}`")
    return 1 + max(int(match[1]) for match in found), 1 + max(int(match[2]) for match in found)


def convert_llamagen(state: Mapping[str, torch.Tensor], resolution: int = 256) -> VQModel:
    """A `VQModel` that is the same function as an image tokenizer of LlamaGen whose codes are of length 1.

    Args:
        state (`Mapping[str, torch.Tensor]`): Its weights; what its training counted is left out.
        resolution (`int`, *optional*, defaults to 256): Side of the images that it was trained on.

    Raises:
        ValueError: If the weights are not of this layout.
    """
    arguments = llamagen_config(state, resolution)
    trained = {name: value for name, value in state.items() if name != "quantize.codebook_used"}
    weights = _renamed(trained, _LLAMAGEN_RULES, len(arguments["block_out_channels"]), "LlamaGen")
    codes = "quantize.embedding.weight"
    return _load(arguments, weights | {codes: F.normalize(weights[codes], dim=1)})


def _load(arguments: dict, weights: Mapping[str, torch.Tensor]) -> VQModel:
    model = VQModel(**arguments).eval()
    wanted = model.state_dict()
    wrong = [name for name in wanted if name not in weights or weights[name].shape != wanted[name].shape]
    wrong += [name for name in weights if name not in wanted]
    if wrong:
        raise ValueError(f"the weights do not fit the architecture, {len(wrong)} of them, such as {wrong[:3]}")
    model.load_state_dict(dict(weights))
    return model


def maskgit_config(state: Mapping[str, torch.Tensor], resolution: int) -> dict:
    """Arguments of `VQModel`, read from the shapes of MaskGIT's weights.

    Args:
        state (`Mapping[str, torch.Tensor]`): Its weights.
        resolution (`int`): Side of the images that it was trained on.

    Raises:
        ValueError: If a weight is missing.
    """
    try:
        levels, blocks = _counts(state, r"encoder\.down\.(\d+)\.block\.(\d+)\.")
        channels = [len(state[f"encoder.down.{level}.block.0.conv2.weight"]) for level in range(levels)]
        num_codes, width = state["quantize.embedding.weight"].shape
        if "encoder.mid.1.conv1.weight" not in state or "encoder.mid.2.conv1.weight" in state:
            raise ValueError("wanted two blocks in the middle, as `VQModel` has")
    except (KeyError, ValueError) as error:
        raise ValueError(f"the weights are not in the layout of MaskGIT: {error}") from error
    return {
        "in_channels": state["encoder.conv_in.weight"].shape[1],
        "out_channels": len(state["decoder.conv_out.weight"]),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": channels,
        "layers_per_block": blocks,
        "latent_channels": width,
        "sample_size": resolution,
        "num_vq_embeddings": num_codes,
        "mid_block_add_attention": False,
        "lookup_from_codebook": True,
    }


class _MaskGitWeights:
    """MaskGIT's weights on their way into a `VQModel`.

    What MaskGIT has no part for stays 0: biases, shortcuts, and the last block of each level of the decoder, of which
    `VQModel` has one more: x + 0.
    """

    def __init__(self, state: Mapping[str, torch.Tensor], arguments: dict):
        self.state = state
        self.taken = set()
        self.num_levels = len(arguments["block_out_channels"])
        self.weights = {name: torch.zeros_like(value) for name, value in VQModel(**arguments).state_dict().items()}

    def take(self, name: str) -> torch.Tensor:
        if name not in self.state:
            raise ValueError(f"the weights are not in the layout of MaskGIT: there is no `{name}`")
        self.taken.add(name)
        return self.state[name]

    def copy(self, source: str, target: str, kinds=("weight", "bias")):
        for kind in kinds:
            self.weights[f"{target}.{kind}"] = self.take(f"{source}.{kind}")

    def block(self, source: str, target: str):
        self.copy(f"{source}.norm1", f"{target}.norm1")
        self.copy(f"{source}.norm2", f"{target}.norm2")
        self.copy(f"{source}.conv1", f"{target}.conv1", ("weight",))
        second = self.take(f"{source}.conv2.weight")
        if f"{source}.nin_shortcut.weight" in self.state:  # h + S h, of what the block has computed
            shortcut = self.take(f"{source}.nin_shortcut.weight")[..., 0, 0]
            if shortcut.shape[1] != len(second):
                raise ValueError(
                    f"the weights are not in the layout of MaskGIT: `{source}.nin_shortcut.weight` reads "
                    f"{shortcut.shape[1]} channels, and not the {len(second)} that the block has computed"
                )
            second = second + torch.einsum("ab,bcij->acij", shortcut, second)
        self.weights[f"{target}.conv2.weight"] = second

    def level(self, level: int, num_blocks: int):
        up = f"decoder.up_blocks.{self.num_levels - 1 - level}"
        for i in range(num_blocks):
            self.block(f"encoder.down.{level}.block.{i}", f"encoder.down_blocks.{level}.resnets.{i}")
            self.block(f"decoder.up.{level}.block.{i}", f"{up}.resnets.{i}")
        if level < self.num_levels - 1:  # the mean of 2 x 2, in the corner of a 3 x 3 that sees a row and column more
            mean = self.weights[f"encoder.down_blocks.{level}.downsamplers.0.conv.weight"]
            mean[range(len(mean)), range(len(mean)), :2, :2] = 0.25
        if level > 0:
            self.copy(f"decoder.up.{level}.upsample_conv", f"{up}.upsamplers.0.conv")

    def ends(self):
        for side in ("encoder", "decoder"):
            for i in range(2):
                self.block(f"{side}.mid.{i}", f"{side}.mid_block.resnets.{i}")
            self.copy(f"{side}.norm_out", f"{side}.conv_norm_out")
        self.copy("encoder.conv_in", "encoder.conv_in", ("weight",))
        self.copy("decoder.conv_in", "decoder.conv_in")
        self.copy("decoder.conv_out", "decoder.conv_out")
        self.copy("quantize.embedding", "quantize.embedding", ("weight",))
        self.copy("encoder.conv_out", "encoder.conv_out", ("bias",))
        self.weights["encoder.conv_out.weight"][..., 1:2, 1:2] = self.take("encoder.conv_out.weight")
        for name in ("quant_conv", "post_quant_conv"):
            matrix = self.weights[f"{name}.weight"]
            matrix[..., 0, 0] = torch.eye(len(matrix))


def _as_open_muse(name: str) -> str:
    """MAGE gives some parts the names of taming-transformers."""
    name = re.sub(r"\.mid\.block_([12])\.", lambda match: f".mid.{int(match[1]) - 1}.", name)
    return name.replace(".upsample.conv.", ".upsample_conv.")


def convert_maskgit(state: Mapping[str, torch.Tensor], resolution: int = 256) -> VQModel:
    """A `VQModel` that is the same function as MaskGIT's VQGAN.

    Args:
        state (`Mapping[str, torch.Tensor]`): Its weights in PyTorch's layout.
        resolution (`int`, *optional*, defaults to 256): Side of the images that it was trained on.

    Raises:
        ValueError: If the weights are not of this layout.
    """
    state = {_as_open_muse(name): value for name, value in state.items()}
    arguments = maskgit_config(state, resolution)
    moved = _MaskGitWeights(state, arguments)
    for level in range(moved.num_levels):
        moved.level(level, arguments["layers_per_block"])
    moved.ends()
    unknown = sorted(set(state) - moved.taken)
    if unknown:
        raise ValueError(f"{len(unknown)} weights have no place in a VQModel, such as {unknown[:3]}")
    return _load(arguments, moved.weights)


def read_weights(path: str) -> dict[str, torch.Tensor]:
    """The weights of a file, without running anything in it.

    Args:
        path (`str`): `.safetensors`, or a PyTorch file with the weights, or with them under `ema`, `state_dict` or
            `model`, the first that is there.

    Raises:
        ValueError: If it holds no weights, or objects whose code would be run; it names their classes.
    """
    if path.endswith(".safetensors"):
        return load_file(path)
    try:
        with torch.serialization.safe_globals(PLAIN_CLASSES):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what torch raises on pickles that want to run something
        raise ValueError(f"`{path}` cannot be read as weights alone: {_foreign_classes(path) or error}") from error
    if isinstance(content, dict):
        content = next((content[name] for name in CONTAINERS if name in content), content)
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ValueError(f"`{path}` must hold tensors by name, alone or under one of {CONTAINERS}")
    return content


def _foreign_classes(path: str) -> str:
    """What a file holds besides weights and plain values, and what to do about it; empty if that is not its fault."""
    try:
        with torch.serialization.safe_globals(PLAIN_CLASSES):
            classes = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # files that are damaged, or of the format before PyTorch 1.6
        return ""
    remedy = "where you trust it, save its weights alone, torch.save({'model': weights}, ...), and convert that file"
    return f"it holds {', '.join(classes)}, which is not read, as it may run code; {remedy}" if classes else ""


def main(arguments: list[str] | None = None):
    """Read, convert, write."""
    parser = argparse.ArgumentParser(description="Convert a VQGAN to diffusers' VQModel.")
    parser.add_argument(
        "--layout", required=True, choices=["taming", "llamagen", "maskgit"], help="Whose names the weights have."
    )
    parser.add_argument("--checkpoint", required=True, help="Its weights: .safetensors, .ckpt, .pt or .bin.")
    parser.add_argument("--config", help="Its YAML file; taming only.")
    parser.add_argument("--resolution", type=int, default=256, help="Side of its images; not for taming.")
    parser.add_argument("--output", required=True, help="Folder for the VQModel.")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    state = read_weights(options.checkpoint)
    if options.layout == "maskgit":
        model = convert_maskgit(state, options.resolution)
    elif options.layout == "llamagen":
        model = convert_llamagen(state, options.resolution)
    elif options.config is None:
        parser.error("--layout taming needs --config")
    else:
        model = convert_taming(state, yaml.safe_load(Path(options.config).read_text(encoding="utf-8")))
    model.save_pretrained(options.output)
    logger.info(
        f"{model.config.num_vq_embeddings} codes, {model.num_parameters() / 1e6:.1f}M parameters: {options.output}"
    )


if __name__ == "__main__":
    main()
