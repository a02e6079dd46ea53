# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Turn MAGE (ViT-B or ViT-L, https://github.com/LTH14/mage, MIT) into a start of ITIT whose encoder and image decoder
compute what MAGE computes, with its VQGAN beside it:

    python utils/convert_mage.py --checkpoint mage-vitb-1600.pth --text_encoder google/t5-v1_1-base \
        --output_dir out/mage
    accelerate launch examples/train_itit.py --config "" --frozen_parts out/mage --text_encoder google/t5-v1_1-base \
        --model_name_or_path out/mage/model --paired_dataset path/to/pairs --output_dir out/mine

MAGE fills in masked images and knows no text; its encoder reads a constant class token in front of the image. Here the
text stands in that place: until it is trained, each of its tokens is the class token. The text decoder's weights are
new ones. Checkpoints are read with `weights_only=True`: nothing in them is run.
"""

import argparse
import logging
import math
import os
from collections.abc import Mapping

import torch
from transformers import AutoConfig, AutoTokenizer

from convert_vqgan import convert_maskgit, read_weights
from itit_hf import ITITConfig, ITITForPreTraining, ITITImageProcessorPil
from itit_hf.models.configuration_itit import text_fields
from itit_hf.models.image_tokenization_itit import downsampling_factor

logger = logging.getLogger(__name__)

# Rows of MAGE's word embedding: codes, classes that were never used, and the mask.
NUM_CLASSES = 1000
CLASS_TOKEN = 76  # the constant class token, counted from the first class
# Parts of MAE that MAGE carries along and does not use, and the position ids of its embedding.
UNUSED = ("cls_token", "pos_embed", "patch_embed.", "mask_token", "decoder_pos_embed", "decoder_pred.")
UNUSED_BUFFER = "token_emb.position_ids"


class _MageWeights:
    """MAGE's weights on their way into an [`ITITForPreTraining`]."""

    def __init__(self, state: Mapping[str, torch.Tensor]):
        self.state = state
        self.taken = set()
        self.weights: dict[str, torch.Tensor] = {}

    def take(self, name: str) -> torch.Tensor:
        if name not in self.state:
            raise ValueError(f"the weights are not those of a pre-trained MAGE: there is no `{name}`")
        self.taken.add(name)
        return self.state[name].float()

    def copy(self, source: str, target: str):
        for kind in ("weight", "bias"):
            self.weights[f"{target}.{kind}"] = self.take(f"{source}.{kind}")

    def block(self, source: str, target: str):
        for kind in ("weight", "bias"):
            parts = self.take(f"{source}.attn.qkv.{kind}").chunk(3)
            for name, part in zip(("q_proj", "k_proj", "v_proj"), parts, strict=True):
                self.weights[f"{target}.self_attn.{name}.{kind}"] = part
        self.copy(f"{source}.attn.proj", f"{target}.self_attn.out_proj")
        for name in ("norm1", "norm2"):
            self.copy(f"{source}.{name}", f"{target}.{name}")
        for name in ("fc1", "fc2"):
            self.copy(f"{source}.mlp.{name}", f"{target}.{name}")

    def encoder(self, config: ITITConfig):
        codes = config.codebook_size
        words, positions = (self.take(f"token_emb.{name}_embeddings.weight") for name in ("word", "position"))
        self.weights["model.embed_image_tokens.weight"] = torch.cat([words[:codes], words[-1:]])
        self.weights["model.embed_image_positions.weight"] = positions[1:]
        class_token = words[codes + CLASS_TOKEN] + positions[0]
        self.weights["model.embed_text_positions.weight"] = class_token.repeat(config.max_text_length, 1)
        self.weights["model.project_text.weight"] = torch.zeros(config.hidden_size, config.text_hidden_size)
        self.weights["model.project_text.bias"] = torch.zeros(config.hidden_size)
        self.copy("token_emb.LayerNorm", "model.norm_embeddings")
        for i in range(config.num_hidden_layers):
            self.block(f"blocks.{i}", f"model.layers.{i}")
        self.copy("norm", "model.norm")

    def image_decoder(self, config: ITITConfig):
        # MAGE's decoder has a position for the class token too, ours for the image alone.
        positions = self.take("decoder_pos_embed_learned")[0]
        self.weights["image_decoder.project_features.weight"] = self.take("decoder_embed.weight")
        self.weights["image_decoder.project_features.bias"] = self.take("decoder_embed.bias") + positions[0]
        self.weights["image_decoder.embed_positions.weight"] = positions[1:] - positions[0]
        for i in range(config.image_decoder_num_hidden_layers):
            self.block(f"decoder_blocks.{i}", f"image_decoder.layers.{i}")
        self.copy("decoder_norm", "image_decoder.norm")
        self.copy("mlm_layer.fc", "image_decoder.head_dense")
        self.copy("mlm_layer.ln", "image_decoder.head_norm")
        self.weights["image_decoder.head_bias"] = self.take("mlm_layer.bias")[0, 0, : config.codebook_size]


def mage_config(state: Mapping[str, torch.Tensor], fields: Mapping | None = None) -> ITITConfig:
    """The configuration of an ITIT that holds MAGE's weights, read from their shapes.

    Args:
        state (`Mapping[str, torch.Tensor]`): The weights.
        fields (`Mapping`, *optional*): What the shapes do not tell, such as [`~models.configuration_itit.text_fields`]
        and
            numbers of heads; by default MAGE's: 64 numbers a head, and 16 heads in the image decoder.

    Raises:
        ValueError: If a weight is missing.
    """
    try:
        num_words, width = state["token_emb.word_embeddings.weight"].shape
        decoder_width = len(state["decoder_embed.weight"])
        side = math.isqrt(len(state["token_emb.position_embeddings.weight"]) - 1)
        sizes = {
            "codebook_size": num_words - NUM_CLASSES - 1,
            "image_grid": (side, side),
            "hidden_size": width,
            "num_hidden_layers": _depth(state, "blocks."),
            "num_attention_heads": max(1, width // 64),
            "intermediate_size": len(state["blocks.0.mlp.fc1.weight"]),
            "decoder_hidden_size": decoder_width,
            "decoder_num_attention_heads": max(1, decoder_width // 64),
            "decoder_intermediate_size": len(state["decoder_blocks.0.mlp.fc1.weight"]),
            "image_decoder_num_hidden_layers": _depth(state, "decoder_blocks."),
        }
    except KeyError as error:
        raise ValueError(f"the weights are not those of a pre-trained MAGE: there is no `{error.args[0]}`") from error
    options = {
        "image_decoder_num_attention_heads": 16,
        "image_decoder_fill": "text",
        "image_head_layer_norm_eps": 1e-5,
        "known_words": "",  # it has read no text
    }
    return ITITConfig(**(sizes | options | dict(fields or {})))


def _depth(state: Mapping[str, torch.Tensor], prefix: str) -> int:
    return len({name.split(".")[1] for name in state if name.startswith(prefix)})


def convert_mage(state: Mapping[str, torch.Tensor], fields: Mapping | None = None) -> ITITForPreTraining:
    """An ITIT whose encoder and image decoder are the same function as MAGE's; its text decoder is a new one.

    Args:
        state (`Mapping[str, torch.Tensor]`): The weights; those of the VQGAN (`vqgan.*`) are left out.
        fields (`Mapping`, *optional*): See [`mage_config`].

    Raises:
        ValueError: If a weight is missing, has no place or has another shape.
    """
    config = mage_config(state, fields)
    moved = _MageWeights(state)
    moved.encoder(config)
    moved.image_decoder(config)
    unknown = sorted(name for name in set(state) - moved.taken if not _is_left_out(name))
    if unknown:
        raise ValueError(f"{len(unknown)} weights have no place in an ITIT, such as {unknown[:3]}")
    model = ITITForPreTraining(config).eval()
    wanted = model.state_dict()
    wrong = [name for name, value in moved.weights.items() if value.shape != wanted[name].shape]
    if wrong:
        raise ValueError(f"{len(wrong)} weights do not fit the architecture, such as {wrong[:3]}")
    model.load_state_dict(wanted | moved.weights)
    return model


def _is_left_out(name: str) -> bool:
    unused = any(name.startswith(part) if part.endswith(".") else name == part for part in UNUSED)
    return unused or name == UNUSED_BUFFER or name.startswith("vqgan.")


def vqgan_weights(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The VQGAN in a checkpoint of MAGE, by its own names.

    Args:
        state (`Mapping[str, torch.Tensor]`): All the weights.

    Raises:
        ValueError: If there is none.
    """
    weights = {name.removeprefix("vqgan."): value for name, value in state.items() if name.startswith("vqgan.")}
    if not weights:
        raise ValueError("`--checkpoint` holds no VQGAN: give its own file as `--vqgan`")
    return weights


def main(arguments: list[str] | None = None):
    """Read, convert, write."""
    parser = argparse.ArgumentParser(description="Convert MAGE to a start of ITIT.")
    parser.add_argument("--checkpoint", required=True, help="MAGE's weights: .pth, .pt or .safetensors.")
    parser.add_argument("--vqgan", help="Its VQGAN, if the checkpoint does not hold it.")
    parser.add_argument("--text_encoder", required=True, help="Folder or Hub id of a T5 or mT5 with its tokenizer.")
    parser.add_argument("--num_attention_heads", type=int, help="Of the encoder; 64 numbers each by default.")
    parser.add_argument("--image_decoder_num_attention_heads", type=int, default=16, help="Of the image decoder.")
    parser.add_argument("--seed", type=int, default=0, help="Draws the text decoder.")
    parser.add_argument("--output_dir", required=True, help="Folder for model, image tokenizer and image processor.")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(options.seed)
    state = read_weights(options.checkpoint)
    vqgan = vqgan_weights(state) if options.vqgan is None else read_weights(options.vqgan)
    tokenizer = AutoTokenizer.from_pretrained(options.text_encoder)
    fields = text_fields(tokenizer, AutoConfig.from_pretrained(options.text_encoder))
    fields |= {"image_decoder_num_attention_heads": options.image_decoder_num_attention_heads}
    fields |= {"text_encoder_name_or_path": options.text_encoder, "image_tokenizer_name_or_path": options.output_dir}
    if options.num_attention_heads is not None:
        fields["num_attention_heads"] = options.num_attention_heads
    model = convert_mage(state, fields)
    image_tokenizer = convert_maskgit(vqgan)
    if image_tokenizer.config.num_vq_embeddings != model.config.codebook_size:
        raise ValueError(
            f"the VQGAN must have {model.config.codebook_size} codes, as the model has, "
            f"got {image_tokenizer.config.num_vq_embeddings}"
        )
    resolution = model.config.image_grid[0] * downsampling_factor(image_tokenizer)
    image_tokenizer.register_to_config(sample_size=resolution)
    # This VQGAN takes and gives pixels in [0, 1].
    size = {"height": resolution, "width": resolution}
    image_processor = ITITImageProcessorPil(size=size, image_mean=[0.0] * 3, image_std=[1.0] * 3)
    parts = {"model": model, "image_tokenizer": image_tokenizer, "image_processor": image_processor}
    for name, part in parts.items():
        part.save_pretrained(os.path.join(options.output_dir, name))
    logger.info(
        f"{options.output_dir}: {model.num_parameters() / 1e6:.1f}M parameters, "
        f"{model.config.num_image_tokens} tokens of {model.config.codebook_size} codes an image"
    )


if __name__ == "__main__":
    main()
