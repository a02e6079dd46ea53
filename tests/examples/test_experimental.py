# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The scripts of examples/experimental/ over others' models, in process, with tiny random ones."""

import logging

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from itit_hf.data.loading import load_rows
from itit_hf.pipelines.pipeline_itit import ITITPipeline

from ..rewards.test_dual_encoder import chinese_clip
from ..testing_utils import script, tiny_dual_encoder, tiny_pairs, tiny_pipeline


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    tiny_pairs(6).to_parquet(folder / "train.parquet")
    return str(folder)


def saved(scorer, folder) -> str:
    scorer.model.save_pretrained(folder)
    scorer.processor.save_pretrained(folder)
    return str(folder)


def save_florence2(folder):
    """Nine words, 16 x 16 pixels, 2 x 2 patches and their mean."""
    words = ["<s>", "<pad>", "</s>", "<unk>", "<image>", "What", "image", "a", "bus"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **names, extra_special_tokens={"image_token": "<image>"}
    )
    image_processor = CLIPImageProcessorPil(size={"height": 16, "width": 16}, do_center_crop=False)
    image_processor.image_seq_length = 5
    vision = {"depths": [1, 1], "patch_size": [3, 3], "patch_stride": [4, 2], "patch_padding": [1, 1]}
    vision |= {"patch_prenorm": [False, True], "embed_dim": [8, 16], "num_heads": [2, 2], "num_groups": [2, 2]}
    text = {"model_type": "bart", "vocab_size": 9, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1}
    text |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    vision |= {"window_size": 2, "projection_dim": 16}
    torch.manual_seed(0)
    config = Florence2Config(text_config=text, vision_config=vision, image_token_id=4)
    Florence2ForConditionalGeneration(config).save_pretrained(folder)
    Florence2Processor(image_processor, tokenizer).save_pretrained(folder)


def test_florence2_gives_every_image_a_caption(pairs, tmp_path):
    save_florence2(tmp_path / "florence2")
    options = [
        "--dataset",
        pairs,
        "--model",
        str(tmp_path / "florence2"),
        "--batch_size",
        "4",
        "--max_new_tokens",
        "5",
    ]
    script("experimental/florence2_captions").main([*options, "--output_dir", str(tmp_path / "out")])
    rows = load_rows(str(tmp_path / "out"))
    assert rows.column_names == ["image", "text"] and len(rows) == 6
    assert all(isinstance(text, str) for text in rows["text"])


def test_concepts_stand_in_front_of_captions(pairs, tmp_path):
    torch.manual_seed(0)
    scorer = saved(tiny_dual_encoder(), tmp_path / "scorer")
    options = ["--dataset", pairs, "--scorer", scorer, "--num_words", "5", "--top_k", "2"]
    script("experimental/concepts").main([*options, "--output_dir", str(tmp_path / "out")])
    for row, before in zip(load_rows(str(tmp_path / "out")), tiny_pairs(6), strict=True):
        for text, caption in zip(row["text"], before["text"], strict=True):
            beginning, rest = text.split(": ")
            assert rest == caption and len(set(beginning.split(", ")) & {"bus", "fish", "grass", "the", "blue"}) == 2


def test_chinese_clip_cuts_where_it_is_told(pairs, tmp_path, caplog):
    torch.manual_seed(0)
    model = saved(chinese_clip(), tmp_path / "model")
    options = ["--dataset", pairs, "--model", model, "--min_cosine", "-1", "--output_dir", str(tmp_path / "out")]
    with caplog.at_level(logging.INFO):
        script("experimental/chinese_clip").main(options)
    assert "50% of the first captions" in caplog.text
    assert "| small_image | 12 |" in caplog.text  # of 16 pixels


def test_the_contrastive_head_learns_which_text_is_whose(pairs, tmp_path):
    # Latents: the codes of a random image tokenizer are the same for all images.
    tiny_pipeline(image_features="latents", image_latent_size=8).save_pretrained(tmp_path / "start")
    module = script("experimental/contrastive_head")
    options = ["--dataset", pairs, "--model", str(tmp_path / "start"), "--objectives", "i2t", "t2i"]
    options += ["--max_steps", "40", "--per_device_train_batch_size", "6", "--learning_rate", "1e-2"]
    options += ["--optim", "adamw_torch", "--warmup_steps", "2", "--use_cpu", "--report_to", "none"]
    options += ["--contrastive_coef", "2"]
    before, after = module.main([*options, "--disable_tqdm", "true", "--output_dir", str(tmp_path / "out")])
    for side in ("image_to_text_r1", "text_to_image_r1"):  # three colours, of two images each
        assert after[side] >= 2 / 3 > before[side]
    assert ITITPipeline.from_pretrained(tmp_path / "out" / "pipeline").model.config.hidden_size == 24
    head = load_file(tmp_path / "out" / module.HEAD_FILE)
    assert {name: tuple(tensor.shape) for name, tensor in head.items()} == {
        "project_image.weight": (64, 24),
        "project_text.weight": (64, 24),
        "temperature": (),
    }


def test_a_text_is_embedded_without_a_image_and_without_its_padding():
    pipe, module = tiny_pipeline(), script("experimental/contrastive_head")
    head = module.ContrastiveHead(24, 8)
    features = torch.randn(1, 3, 10)
    want = head.embed_texts(pipe.model, features[:, :2], torch.ones(1, 2))
    got = head.embed_texts(pipe.model, features, torch.tensor([[1, 1, 0]]))
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(got.norm(), torch.tensor(1.0))
