# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""utils/convert_mage.py against the small MAGE of utils/studies/small_mage.py, with random weights."""

import argparse
from types import SimpleNamespace

import pytest
import torch

from convert_mage import convert_mage, mage_config, main
from itit_hf import ITITPipeline, encode_images
from itit_hf.commands import train
from itit_hf.masking import drop_masked, random_mask
from itit_hf.models.types_itit import ImageMask
from small_mage import CLASS_TOKEN, Mage, MageSize, dropped_by

from ..testing_utils import generators, script, tiny_pairs, tiny_text_encoder, tiny_tokenizer
from .test_convert_vqgan import Reference as Vqgan

CODES, SIDE = 19, 4
FIELDS = {
    "num_attention_heads": 3,
    "image_decoder_num_attention_heads": 8,
    "decoder_num_attention_heads": 2,
    "text_hidden_size": 10,
    "num_text_tokens": 40,
    "vocab_size": 48,
    "max_text_length": 5,
}


SIZE = MageSize(
    codes=CODES,
    side=SIDE,
    width=24,
    depth=3,
    heads=FIELDS["num_attention_heads"],
    decoder_width=16,
    decoder_depth=2,
    decoder_heads=FIELDS["image_decoder_num_attention_heads"],
    mlp_ratio=2,
)


@pytest.fixture(scope="module")
def mage():
    generator = torch.Generator().manual_seed(0)
    mage = Mage(SIZE).eval()
    with torch.no_grad():
        for weight in mage.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return mage


@pytest.fixture(scope="module")
def converted(mage):
    model = convert_mage(mage.state_dict(), FIELDS)
    model.model.null_text_embeds.normal_()  # of whatever text encoder
    return model


def images(batch_size):
    return torch.randint(CODES, (batch_size, SIDE**2), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def logits_of(model, ids, image_mask):
    every = torch.arange(SIDE**2).expand(len(ids), -1)
    return model(image_token_ids=ids, image_mask=image_mask, logit_positions=every).image_logits


@torch.no_grad()
@pytest.mark.parametrize("drop", ["none", "half"])
@pytest.mark.parametrize("ratios", [(0.0, 0.0), (1.0, 1.0), (0.5, 0.9), (0.75, 0.6)])
def test_logits_equal_mages_whatever_is_masked_and_dropped(mage, converted, drop, ratios):
    masked = random_mask(torch.tensor(ratios), SIDE**2, torch.Generator().manual_seed(2))
    mask = drop_masked(masked, drop, torch.Generator().manual_seed(3))
    assert mask.encoder_attention_mask is None  # as MAGE, which drops as many in each row
    wanted = mage(images(2), masked, dropped_by(mask))
    torch.testing.assert_close(logits_of(converted, images(2), mask), wanted, atol=3e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("drop", ["half", "all"])
def test_rows_that_drop_more_and_less_share_a_batch(mage, converted, drop):
    masked = random_mask(torch.tensor([0.2, 0.9, 0.6]), SIDE**2, torch.Generator().manual_seed(2))
    mask = drop_masked(masked, drop, torch.Generator().manual_seed(3))
    dropped = dropped_by(mask)
    assert len(dropped.sum(dim=1).unique()) > 1
    alone = [mage(images(3)[b : b + 1], masked[b : b + 1], dropped[b : b + 1]) for b in range(3)]
    got = logits_of(converted, images(3), mask)
    torch.testing.assert_close(got, torch.cat(alone), atol=3e-5, rtol=1e-5)


@torch.no_grad()
def test_a_norm_of_small_numbers_has_mages_epsilon(mage):
    """Where the head's numbers are small the difference of 1e-5 and 1e-6 is more than rounding."""
    state = {name: 0.01 * value if "mlm_layer.fc" in name else value for name, value in mage.state_dict().items()}
    small = Mage(SIZE).eval()
    small.load_state_dict(state)
    masked = random_mask(torch.tensor([0.5]), SIDE**2, torch.Generator().manual_seed(2))
    wanted = small(images(1), masked, torch.zeros_like(masked))
    torch.testing.assert_close(
        logits_of(convert_mage(state, FIELDS), images(1), ImageMask(masked)), wanted, atol=3e-5, rtol=1e-5
    )


@torch.no_grad()
def test_until_it_is_trained_each_token_of_a_text_is_the_class_token(mage, converted):
    config = converted.config
    text = converted.model.project_text(torch.randn(1, 5, config.text_hidden_size))
    text = text + converted.model.embed_text_positions.weight
    embedding = mage.token_emb
    class_token = embedding.word_embeddings.weight[CODES + CLASS_TOKEN] + embedding.position_embeddings.weight[0]
    assert torch.equal(text[0], class_token.expand(5, -1))


def test_sizes_are_read_from_the_shapes_and_heads_are_mages():
    state = Mage(SIZE).state_dict()
    wide = state | {
        "token_emb.word_embeddings.weight": torch.zeros(2025, 768),
        "decoder_embed.weight": torch.zeros(768, 768),
    }
    config = mage_config(wide)
    assert (config.codebook_size, config.num_image_tokens) == (1024, 16)
    assert (config.num_attention_heads, config.decoder_num_attention_heads) == (12, 12)
    assert config.image_decoder_num_attention_heads == 16
    assert (config.num_hidden_layers, config.image_decoder_num_hidden_layers) == (3, 2)
    assert (config.intermediate_size, config.decoder_intermediate_size) == (48, 32)


@pytest.mark.parametrize(
    "name", ["token_emb.word_embeddings.weight", "decoder_blocks.1.attn.qkv.bias", "mlm_layer.bias"]
)
def test_a_missing_weight_is_named(name):
    state = Mage(SIZE).state_dict()
    del state[name]
    with pytest.raises(ValueError, match=f"not those of a pre-trained MAGE: there is no `{name}`"):
        convert_mage(state, FIELDS)


def test_a_weight_without_a_place_and_one_of_another_shape_are_named():
    state = Mage(SIZE).state_dict()
    with pytest.raises(ValueError, match="1 weights have no place in an ITIT, such as .'head.weight'"):
        convert_mage(state | {"head.weight": torch.zeros(1)}, FIELDS)
    with pytest.raises(ValueError, match="do not fit the architecture, such as .'model.norm.weight'"):
        convert_mage(state | {"norm.weight": torch.zeros(5)}, FIELDS)


def test_the_weights_that_are_converted_stay_as_they_are(mage):
    before = {name: value.clone() for name, value in mage.state_dict().items()}
    convert_mage(mage.state_dict(), FIELDS)
    assert all(torch.equal(value, before[name]) for name, value in mage.state_dict().items())


@pytest.fixture(scope="module")
def folder(mage, tmp_path_factory):
    """What the command makes of a file as MAGE's training writes it, with a VQGAN by MAGE's names in it."""
    folder = tmp_path_factory.mktemp("mage")
    torch.manual_seed(0)
    vqgan = Vqgan(maskgit=True)
    names = {".mid.0.": ".mid.block_1.", ".mid.1.": ".mid.block_2.", "upsample_conv": "upsample.conv"}
    state = dict(mage.state_dict())
    for name, value in vqgan.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        state[f"vqgan.{name}"] = value
    content = {"model": state, "epoch": 3, "args": argparse.Namespace(model="mage_vit_base_patch16", lr=1e-3)}
    torch.save(content, folder / "checkpoint-last.pth")
    torch.save({"model": mage.state_dict()}, folder / "bare.pth")
    torch.save({"state_dict": vqgan.state_dict()}, folder / "vqgan.ckpt")
    tiny_text_encoder().save_pretrained(folder / "t5")
    tiny_tokenizer().save_pretrained(folder / "t5")
    return SimpleNamespace(path=folder, vqgan=vqgan)


def convert(folder, checkpoint, *more):
    heads = ["--num_attention_heads", "3", "--image_decoder_num_attention_heads", "8"]
    files = ["--checkpoint", str(folder.path / checkpoint), "--text_encoder", str(folder.path / "t5")]
    out = folder.path / f"of-{checkpoint}"
    main([*files, *heads, *more, "--output_dir", str(out)])
    return out


@pytest.fixture(scope="module")
def whole(folder):
    """Of the checkpoint with a VQGAN in it."""
    return convert(folder, "checkpoint-last.pth")


@torch.no_grad()
def test_the_command_writes_what_training_opens(folder, whole, mage):
    out = whole
    args = train.ScriptArguments(frozen_parts=str(out), text_encoder=str(folder.path / "t5"))
    args.model_name_or_path = str(out / "model")
    text_encoder, processor = train.load_frozen_parts(args)
    model = train.create_model(args, text_encoder, processor).eval()
    assert model.config.num_text_tokens == len(tiny_tokenizer()) and model.config.codebook_size == CODES
    masked = random_mask(torch.tensor([0.5, 0.9]), SIDE**2, torch.Generator().manual_seed(2))
    wanted = mage(images(2), masked, torch.zeros_like(masked))
    torch.testing.assert_close(logits_of(model, images(2), ImageMask(masked)), wanted, atol=3e-5, rtol=1e-5)
    (image,) = processor.image_processor.postprocess(torch.rand(1, 3, 8, 8))
    pixels = processor.image_processor(image, return_tensors="pt").pixel_values
    assert pixels.shape == (1, 3, 8, 8) and 0 <= pixels.min() < 0.2 and 0.8 < pixels.max() <= 1  # as MAGE's are


def test_training_goes_on_from_it_to_a_pipeline_that_opens(folder, whole, tmp_path):
    out, rows = whole, tiny_pairs(4)
    with open(tmp_path / "metadata.csv", "w", encoding="utf-8") as file:
        file.write("file_name,text\n")
        for i, row in enumerate(rows):
            row["image"].save(tmp_path / f"{i}.png")
            file.write(f"{i}.png,{row['text'][0]}\n")
    parts = ["--frozen_parts", str(out), "--text_encoder", str(folder.path / "t5")]
    streams = ["--paired_dataset", str(tmp_path), "--per_device_train_batch_size", "2"]
    run = ["--max_steps", "2", "--report_to", "none", "--use_cpu", "True", "--output_dir", str(tmp_path / "run")]
    start = ["--model_name_or_path", str(out / "model"), "--warmup_steps", "0", "--learning_rate", "1e-2"]
    script("train_itit").main(["--config", "", *parts, *start, *streams, *run])
    pipe = ITITPipeline.from_pretrained(tmp_path / "run" / "pipeline")
    assert pipe.model.config.image_decoder_fill == "text" and pipe.unknown_words("a red lorry") == ["lorry"]
    assert pipe.model.model.project_text.weight.abs().min() > 0
    (image,) = pipe("a red bus", num_inference_steps=2, generator=generators(0)).images
    assert image.size == (8, 8)


@torch.no_grad()
def test_the_vqgan_is_mages_from_within_the_checkpoint_or_from_its_own_file(folder, whole):
    from diffusers import VQModel

    pixels = torch.rand(2, 3, 8, 8, generator=generators(4)[0])
    code = folder.vqgan.eval().encode(pixels).permute(0, 2, 3, 1).flatten(0, 2)
    ids = torch.cdist(code, folder.vqgan.quantize.embedding.weight).argmin(dim=-1).view(2, -1)
    for out in (
        whole,
        convert(folder, "bare.pth", "--vqgan", str(folder.path / "vqgan.ckpt")),
    ):
        image_tokenizer = VQModel.from_pretrained(out / "image_tokenizer").eval()
        assert torch.equal(encode_images(image_tokenizer, pixels), ids)
        assert image_tokenizer.config.sample_size == 8


def test_a_checkpoint_without_a_vqgan_says_where_to_give_it(folder):
    with pytest.raises(ValueError, match="holds no VQGAN: give its own file as `--vqgan`"):
        convert(folder, "bare.pth")


def test_a_vqgan_with_another_number_of_codes_is_refused(folder, tmp_path):
    state = Vqgan(maskgit=True).state_dict()
    torch.save(state | {"quantize.embedding.weight": torch.zeros(7, 8)}, tmp_path / "vqgan.pt")
    with pytest.raises(ValueError, match="must have 19 codes, as the model has, got 7"):
        convert(folder, "bare.pth", "--vqgan", str(tmp_path / "vqgan.pt"))
