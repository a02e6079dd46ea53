# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Tiny real models and small stubs that the tests share."""

import importlib.util
import io
import tarfile
from pathlib import Path

import PIL.Image
import PIL.ImageDraw
import torch
from datasets import Dataset
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
    VisionTextDualEncoderModel,
    VisionTextDualEncoderProcessor,
    ViTConfig,
    ViTModel,
)
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from itit_hf.data.image_tokens import add_image_token_ids
from itit_hf.decoding.scheduling_itit import ITITScheduler
from itit_hf.models.configuration_itit import ITITConfig
from itit_hf.models.image_processing_itit import ITITImageProcessorPil
from itit_hf.models.image_tokenization_itit import PatchVQModel
from itit_hf.models.modeling_itit import ITITForPreTraining
from itit_hf.pipelines.pipeline_itit import ITITPipeline
from itit_hf.rewards.dual_encoder import DualEncoderScorer


def tiny_config(**changes) -> ITITConfig:
    """A network of a few thousand parameters: 16 image tokens, 23 codes, 40 words."""
    values = {
        "codebook_size": 23,
        "image_grid": (4, 4),
        "vocab_size": 48,
        "num_text_tokens": 40,
        "max_text_length": 32,
        "text_hidden_size": 10,
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 32,
        "decoder_hidden_size": 16,
        "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 24,
        "image_decoder_num_hidden_layers": 2,
        "text_decoder_num_hidden_layers": 2,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.3,  # large enough for logits that differ
    }
    return ITITConfig(**(values | changes))


# Changes of `tiny_config` where one layer of each part shows as much as two: trainings take two thirds of the time.
ONE_LAYER = {"num_hidden_layers": 1, "image_decoder_num_hidden_layers": 1, "text_decoder_num_hidden_layers": 1}


def generators(*seeds: int) -> list[torch.Generator]:
    """One generator per sample."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


WORDS = ("red", "blue", "green", "bus", "fish", "tree", "on", "the", "grass", "a")


def tiny_tokenizer() -> T5Tokenizer:
    """Ten whole words, and letters for the rest; written down, as training a tokenizer is not reproducible."""
    words = [("\u2581" + word, -2.0) for word in WORDS]
    letters = [(letter, -6.0) for letter in "\u2581abcdefghilnorstu"]
    specials = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    return T5Tokenizer(vocab=specials + words + letters, extra_ids=0, model_max_length=32)


def tiny_image_tokenizer() -> PatchVQModel:
    """16 x 16 pixels -> 4 x 4 tokens of 23 codes."""
    return PatchVQModel(
        patch_size=4, encoder_channels=16, num_vq_embeddings=23, block_out_channels=(8, 8), norm_num_groups=4
    ).eval()


def tiny_text_encoder() -> T5EncoderModel:
    """One block of T5, 10 features wide."""
    config = T5Config(vocab_size=48, d_model=10, d_kv=5, d_ff=12, num_layers=1, num_heads=2, dropout_rate=0.0)
    return T5EncoderModel(config).eval()


def tiny_pipeline(**changes) -> ITITPipeline:
    """Every component real and random; 16 x 16 pixels."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    model = ITITForPreTraining(tiny_config(num_text_tokens=len(tokenizer), **changes)).eval()
    model.model.null_text_embeds.normal_()
    return ITITPipeline(
        model=model,
        text_encoder=tiny_text_encoder(),
        tokenizer=tokenizer,
        image_tokenizer=tiny_image_tokenizer(),
        image_processor=ITITImageProcessorPil(size={"height": 16, "width": 16}),
        scheduler=ITITScheduler(mask_token_id=23, temperature=2.0),
    )


def tiny_bert_tokenizer() -> BertTokenizer:
    """The same ten words, and letters for the rest."""
    letters = "abcdefghilnorstu"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS[:-1], *letters, *("##" + x for x in letters)]
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, model_max_length=20)


def tiny_dual_encoder() -> DualEncoderScorer:
    """A ViT of 16 x 16 pixels and a BERT, of the current seed."""
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    image_tower = ViTModel(ViTConfig(**sizes, image_size=16, patch_size=8))
    text_tower = BertModel(BertConfig(**sizes, vocab_size=48, max_position_embeddings=20))
    model = VisionTextDualEncoderModel(vision_model=image_tower, text_model=text_tower)
    image_processor = ViTImageProcessorPil(size={"height": 16, "width": 16})
    return DualEncoderScorer(model, VisionTextDualEncoderProcessor(image_processor, tiny_bert_tokenizer()))


def tiny_pairs(num_rows: int = 24) -> Dataset:
    """Plain images of one colour, with two captions each."""
    colours = {"red": (220, 30, 30), "blue": (30, 30, 220), "green": (30, 160, 30)}
    rows = []
    for i in range(num_rows):
        name = list(colours)[i % 3]
        image = PIL.Image.new("RGB", (16, 16), colours[name])
        image.paste((10 * i, 0, 0), (i % 8, i // 8, i % 8 + 6, i // 8 + 6))
        rows.append({"image": image, "text": [f"a {name} bus", f"the {name} fish on the grass"]})
    return Dataset.from_list(rows)


def archive(path, members, mode="w") -> str:
    """A tar file of pairs of a name and bytes; its path."""
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return str(path)


_TOKENIZED: dict[tuple, Dataset] = {}


def tokenized_pairs(processor, num_rows: int = 24) -> Dataset:
    """[`tiny_pairs`] with the ids of their images; made once per image tokenizer, as a dataset never changes."""
    weights = b"".join(value.numpy().tobytes() for value in processor.image_tokenizer.state_dict().values())
    key = weights, repr(processor.image_processor), num_rows
    if key not in _TOKENIZED:
        _TOKENIZED[key] = add_image_token_ids(tiny_pairs(num_rows), processor)
    return _TOKENIZED[key]


def draw_cut_outs(folder, categories, first_round: int | None = None) -> str:
    """A style of emoji scenes: a grey shape for each category, each flatter than the one before; all are round, or
    every second one from `first_round` (0 or 1) on, so that the styles of 0 and of 1 differ in each category."""
    folder.mkdir(exist_ok=True)
    for number, category in enumerate(categories):
        image = PIL.Image.new("RGBA", (96, 96))
        pen = PIL.ImageDraw.Draw(image)
        shape = pen.ellipse if first_round is None or number % 2 == first_round else pen.rectangle
        shape((8, 8 + 6 * number, 88, 88 - 6 * number), fill=(128, 128, 128, 255))
        image.save(folder / f"{category.replace(' ', '_')}.png")
    return str(folder)


ROOT = Path(__file__).parents[1]


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
