# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""utils/convert_vqgan.py against small references of all layouts, written here from their descriptions."""

import argparse

import pytest
import torch
import yaml
from diffusers import VQModel
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from convert_vqgan import convert_llamagen, convert_maskgit, convert_taming, main, read_weights
from itit_hf import decode_image_token_ids, encode_images

CHANNELS = (32, 64)  # groups of 32 in both layouts
CODE_WIDTH, NUM_CODES, SIDE = 8, 19, 16
LATENT_WIDTH = 12  # of LlamaGen, before its codes


def norm(width):
    return nn.GroupNorm(32, width, eps=1e-6)


class Block(nn.Module):
    """A residual block of either layout: MaskGIT's has no biases, and its shortcut reads what the block computed."""

    def __init__(self, width_in, width, maskgit):
        super().__init__()
        self.maskgit = maskgit
        self.norm1, self.conv1 = norm(width_in), nn.Conv2d(width_in, width, 3, padding=1, bias=not maskgit)
        self.norm2, self.conv2 = norm(width), nn.Conv2d(width, width, 3, padding=1, bias=not maskgit)
        if width_in != width:
            self.nin_shortcut = nn.Conv2d(width if maskgit else width_in, width, 1, bias=not maskgit)

    def forward(self, x):
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        if hasattr(self, "nin_shortcut"):
            x = self.nin_shortcut(h if self.maskgit else x)
        return x + h


class Attention(nn.Module):
    """taming's: one head over all places, its matrices 1 x 1 convolutions."""

    def __init__(self, width):
        super().__init__()
        self.norm = norm(width)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x):
        h = self.norm(x)
        q, k, v = (conv(h).flatten(2) for conv in (self.q, self.k, self.v))  # (B, C, N)
        weights = (q.transpose(1, 2) @ k * x.size(1) ** -0.5).softmax(dim=-1)  # (B, N, N)
        return x + self.proj_out((v @ weights.transpose(1, 2)).view_as(x))


class Level(nn.Module):
    """Blocks of one resolution, with attention after each or without."""

    def __init__(self, widths, maskgit, attends):
        super().__init__()
        self.block = nn.ModuleList(Block(a, b, maskgit) for a, b in zip(widths, widths[1:], strict=False))
        self.attn = nn.ModuleList(Attention(width) for width in widths[1:] if attends)

    def forward(self, x):
        for i, block in enumerate(self.block):
            x = block(x)
            x = self.attn[i](x) if self.attn else x
        return x


class Coder(nn.Module):
    """Encoder or decoder of either layout, two levels with two blocks each."""

    def __init__(self, maskgit, decodes):
        super().__init__()
        self.maskgit, self.decodes = maskgit, decodes
        (low, high), first = CHANNELS, CHANNELS[1] if decodes else CHANNELS[0]
        self.conv_in = nn.Conv2d(CODE_WIDTH if decodes else 3, first, 3, padding=1, bias=decodes or not maskgit)
        more = [] if maskgit or not decodes else [0]
        levels = [[high, low, low], [high, high, high]] if decodes else [[low, low, low], [low, high, high]]
        levels = [widths + [widths[-1]] * len(more) for widths in levels]
        levels = nn.ModuleList(Level(widths, maskgit, not maskgit and i == 1) for i, widths in enumerate(levels))
        setattr(self, "up" if decodes else "down", levels)
        if decodes and maskgit:
            levels[1].upsample_conv = nn.Conv2d(high, high, 3, padding=1)
        elif decodes:
            levels[1].upsample = nn.Module()
            levels[1].upsample.conv = nn.Conv2d(high, high, 3, padding=1)
        elif not maskgit:
            levels[0].downsample = nn.Module()
            levels[0].downsample.conv = nn.Conv2d(low, low, 3, stride=2)
        if maskgit:
            self.mid = nn.ModuleList(Block(high, high, True) for _ in range(2))
        else:
            self.mid = nn.Module()
            self.mid.block_1, self.mid.attn_1, self.mid.block_2 = (
                Block(high, high, False),
                Attention(high),
                Block(high, high, False),
            )
        last, width = (low, 3) if decodes else (high, CODE_WIDTH)
        size = 1 if maskgit and not decodes else 3
        self.norm_out, self.conv_out = norm(last), nn.Conv2d(last, width, size, padding=size // 2)

    def middle(self, x):
        parts = self.mid if self.maskgit else (self.mid.block_1, self.mid.attn_1, self.mid.block_2)
        for part in parts:
            x = part(x)
        return x

    def forward(self, x):
        x = self.conv_in(x)
        if self.decodes:
            x = F.interpolate(self.up[1](self.middle(x)), scale_factor=2.0)
            x = self.up[0](self.up[1].upsample_conv(x) if self.maskgit else self.up[1].upsample.conv(x))
        else:
            x = self.down[0](x)
            x = F.avg_pool2d(x, 2) if self.maskgit else self.down[0].downsample.conv(F.pad(x, (0, 1, 0, 1)))
            x = self.middle(self.down[1](x))
        return self.conv_out(F.silu(self.norm_out(x)))


class Reference(nn.Module):
    """A VQGAN of either layout."""

    def __init__(self, maskgit):
        super().__init__()
        self.encoder, self.decoder = Coder(maskgit, False), Coder(maskgit, True)
        self.quantize = nn.Module()
        self.quantize.embedding = nn.Embedding(NUM_CODES, CODE_WIDTH)
        if not maskgit:
            self.quant_conv = nn.Conv2d(CODE_WIDTH, CODE_WIDTH, 1)
            self.post_quant_conv = nn.Conv2d(CODE_WIDTH, CODE_WIDTH, 1)

    def encode(self, pixels):
        h = self.encoder(pixels)
        return self.quant_conv(h) if hasattr(self, "quant_conv") else h

    def decode(self, code):
        return self.decoder(self.post_quant_conv(code) if hasattr(self, "post_quant_conv") else code)


class LlamaGenCoder(nn.Module):
    """Encoder or decoder of LlamaGen: levels in the order in which they are computed, attention in the last one."""

    def __init__(self, decodes):
        super().__init__()
        (low, high), self.decodes = CHANNELS, decodes
        self.conv_in = nn.Conv2d(LATENT_WIDTH if decodes else 3, high if decodes else low, 3, padding=1)
        self.mid = nn.ModuleList([Block(high, high, False), Attention(high), Block(high, high, False)])
        widths = [[high, high, high, high], [high, low, low, low]] if decodes else [[low, low, low], [low, high, high]]
        self.conv_blocks = nn.ModuleList(nn.Module() for _ in widths)
        for level, sizes in zip(self.conv_blocks, widths, strict=True):
            level.res = nn.ModuleList(Block(a, b, False) for a, b in zip(sizes, sizes[1:], strict=False))
            level.attn = nn.ModuleList(Attention(b) for b in sizes[1:] if sizes == widths[0 if decodes else 1])
        change = nn.Module()
        change.conv = nn.Conv2d(high, high, 3, padding=1) if decodes else nn.Conv2d(low, low, 3, stride=2)
        setattr(self.conv_blocks[0], "upsample" if decodes else "downsample", change)
        self.norm_out = norm(low if decodes else high)
        self.conv_out = nn.Conv2d(low if decodes else high, 3 if decodes else LATENT_WIDTH, 3, padding=1)

    def level(self, x, i):
        level = self.conv_blocks[i]
        for j, block in enumerate(level.res):
            x = block(x)
            x = level.attn[j](x) if level.attn else x
        return x

    def middle(self, x):
        for part in self.mid:
            x = part(x)
        return x

    def forward(self, x):
        x = self.conv_in(x)
        if self.decodes:
            x = F.interpolate(self.level(self.middle(x), 0), scale_factor=2.0)
            x = self.level(self.conv_blocks[0].upsample.conv(x), 1)
        else:
            x = self.conv_blocks[0].downsample.conv(F.pad(self.level(x, 0), (0, 1, 0, 1)))
            x = self.middle(self.level(x, 1))
        return self.conv_out(F.silu(self.norm_out(x)))


class LlamaGen(nn.Module):
    """Its image tokenizer: latents and codes are compared by their directions, and decoded as directions."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = LlamaGenCoder(False), LlamaGenCoder(True)
        self.quantize = nn.Module()
        self.quantize.embedding = nn.Embedding(NUM_CODES, CODE_WIDTH)
        self.quantize.register_buffer("codebook_used", torch.zeros(7))
        self.quant_conv = nn.Conv2d(LATENT_WIDTH, CODE_WIDTH, 1)
        self.post_quant_conv = nn.Conv2d(CODE_WIDTH, LATENT_WIDTH, 1)

    def ids(self, pixels):
        directions = F.normalize(self.quant_conv(self.encoder(pixels)), dim=1).permute(0, 2, 3, 1).flatten(1, 2)
        return (directions @ F.normalize(self.quantize.embedding.weight, dim=1).T).argmax(dim=-1)

    def pixels(self, ids):
        side = round(ids.size(1) ** 0.5)
        codes = F.normalize(self.quantize.embedding.weight, dim=1)[ids]
        return self.decoder(self.post_quant_conv(codes.view(-1, side, side, CODE_WIDTH).permute(0, 3, 1, 2)))


CONFIG = {
    "model": {
        "params": {
            "embed_dim": CODE_WIDTH,
            "n_embed": NUM_CODES,
            "ddconfig": {
                "double_z": False,
                "z_channels": CODE_WIDTH,
                "resolution": SIDE,
                "in_channels": 3,
                "out_ch": 3,
                "ch": 32,
                "ch_mult": [1, 2],
                "num_res_blocks": 2,
                "attn_resolutions": [SIDE // 2],
            },
        }
    }
}
CONVERT = {
    "taming": lambda state: convert_taming(state, CONFIG),
    "maskgit": lambda state: convert_maskgit(state, SIDE),
}


@pytest.fixture(params=CONVERT)
def pair(request):
    """A random VQGAN of a layout, with norms and biases that are not those of a new one, and what becomes of it."""
    generator = torch.Generator().manual_seed(0)
    reference = Reference(request.param == "maskgit").eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return reference, CONVERT[request.param](reference.state_dict())


@torch.no_grad()
def test_the_same_images_have_the_same_codes_and_back(pair):
    reference, model = pair
    pixels = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    code = reference.encode(pixels)
    torch.testing.assert_close(model.encode(pixels).latents, code, atol=1e-4, rtol=1e-4)
    table = reference.quantize.embedding.weight
    ids = torch.cdist(code.permute(0, 2, 3, 1).flatten(0, 2), table).argmin(dim=-1).view(2, -1)
    assert torch.equal(encode_images(model, pixels), ids) and len(ids.unique()) > 3
    shape = (2, SIDE // 2, SIDE // 2, CODE_WIDTH)
    decoded = reference.decode(table[ids].view(shape).permute(0, 3, 1, 2))
    whole = model.decode(ids, force_not_quantize=True, shape=shape).sample
    torch.testing.assert_close(whole, decoded, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(decode_image_token_ids(model, ids), decoded.clamp(-1, 1), atol=1e-4, rtol=1e-4)


def llamagen():
    """A random one, whose codes are of all lengths."""
    generator = torch.Generator().manual_seed(0)
    reference = LlamaGen().eval()
    for parameter in reference.parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    reference.quantize.embedding.weight.data *= torch.linspace(0.2, 5.0, NUM_CODES)[:, None]
    return reference


@torch.no_grad()
def test_llamagen_has_the_same_ids_and_the_same_images():
    reference = llamagen()
    model = convert_llamagen(reference.state_dict(), SIDE)
    pixels = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    ids = reference.ids(pixels)
    assert torch.equal(encode_images(model, pixels), ids) and len(ids.unique()) > 3
    every = torch.arange(2 * 64).view(2, 64) % NUM_CODES
    decoded = reference.pixels(every)
    torch.testing.assert_close(decode_image_token_ids(model, every), decoded.clamp(-1, 1), atol=1e-4, rtol=1e-4)
    shape = (2, SIDE // 2, SIDE // 2, CODE_WIDTH)
    whole = model.decode(every, force_not_quantize=True, shape=shape).sample
    torch.testing.assert_close(whole, decoded, atol=1e-4, rtol=1e-4)


def test_the_codes_of_llamagen_have_length_1():
    codes = convert_llamagen(llamagen().state_dict()).quantize.embedding.weight
    torch.testing.assert_close(codes.norm(dim=1), torch.ones(NUM_CODES))


def test_the_architecture_of_llamagen_is_read_from_the_shapes():
    config = convert_llamagen(llamagen().state_dict(), 48).config
    assert config.down_block_types == ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]
    assert config.up_block_types == ["AttnUpDecoderBlock2D", "UpDecoderBlock2D"]
    assert (config.num_vq_embeddings, config.vq_embed_dim, config.latent_channels) == (NUM_CODES, 8, 12)
    assert (config.block_out_channels, config.layers_per_block, config.sample_size) == ([32, 64], 2, 48)


@pytest.mark.parametrize("name", ["decoder.conv_blocks.0.attn.2.proj_out.weight", "quant_conv.bias"])
def test_a_weight_that_llamagen_lacks_or_has_besides_is_named(name):
    state = LlamaGen().state_dict()
    with pytest.raises(ValueError, match=f"`{name}.more` has no place in a VQModel: is this the layout of LlamaGen"):
        convert_llamagen(state | {f"{name}.more": torch.zeros(1)})
    del state[name]
    with pytest.raises(ValueError, match="do not fit the architecture, 1 of them"):
        convert_llamagen(state)


def test_the_names_that_mage_gives_maskgits_parts_are_known():
    state = {name: torch.randn(value.shape) for name, value in Reference(True).state_dict().items()}
    mages = {
        name.replace(".mid.0.", ".mid.block_1.").replace(".mid.1.", ".mid.block_2.")
        .replace("upsample_conv", "upsample.conv"): value
        for name, value in state.items()
    }  # fmt: skip
    assert len(mages.keys() - state.keys()) == 2 * 2 * 6 + 2
    weights = convert_maskgit(mages).state_dict()
    for name, value in convert_maskgit(state).state_dict().items():
        assert torch.equal(weights[name], value)


@pytest.mark.parametrize("layout", CONVERT)
def test_a_weight_without_a_place_is_named(layout):
    state = Reference(layout == "maskgit").state_dict()
    with pytest.raises(ValueError, match="encoder.extra.weight"):
        CONVERT[layout](state | {"encoder.extra.weight": torch.zeros(1)})


@pytest.mark.parametrize("layout", CONVERT)
def test_a_missing_weight_is_named(layout):
    state = Reference(layout == "maskgit").state_dict()
    del state["decoder.conv_out.bias"]
    with pytest.raises(ValueError, match="decoder.conv_out.bias"):
        CONVERT[layout](state)


def test_what_was_trained_with_a_loss_leaves_it_behind():
    state = Reference(False).state_dict() | {"loss.discriminator.main.0.weight": torch.zeros(1)}
    assert isinstance(convert_taming(state, CONFIG), VQModel)


def test_one_layout_is_not_taken_for_the_other():
    with pytest.raises(ValueError, match="has no place in a VQModel: is this the layout of taming"):
        convert_taming(Reference(True).state_dict(), CONFIG)
    with pytest.raises(ValueError, match="not in the layout of MaskGIT"):
        convert_maskgit(Reference(False).state_dict())
    with pytest.raises(ValueError, match="not in the layout of LlamaGen: there is no"):
        convert_llamagen(Reference(False).state_dict())
    with pytest.raises(ValueError, match="has no place in a VQModel: is this the layout of taming"):
        convert_taming(LlamaGen().state_dict(), CONFIG)


def test_a_variational_autoencoder_and_another_file_are_refused():
    network = CONFIG["model"]["params"]["ddconfig"] | {"double_z": True}
    with pytest.raises(ValueError, match="double_z"):
        convert_taming({}, {"model": {"params": CONFIG["model"]["params"] | {"ddconfig": network}}})
    with pytest.raises(ValueError, match="must hold model.params"):
        convert_taming({}, {"model": {}})


def test_the_command_writes_a_folder_that_opens(tmp_path):
    torch.save({"state_dict": Reference(False).state_dict()}, tmp_path / "last.ckpt")
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    files = ["--checkpoint", str(tmp_path / "last.ckpt"), "--config", str(tmp_path / "model.yaml")]
    main(["--layout", "taming", *files, "--output", str(tmp_path / "vq")])
    assert VQModel.from_pretrained(tmp_path / "vq").config.num_vq_embeddings == NUM_CODES
    save_file(Reference(True).state_dict(), tmp_path / "vqgan.safetensors")
    main(
        ["--layout", "maskgit", "--checkpoint", str(tmp_path / "vqgan.safetensors"), "--output", str(tmp_path / "mg")]
    )
    assert VQModel.from_pretrained(tmp_path / "mg").config.mid_block_add_attention is False
    torch.save({"model": LlamaGen().state_dict(), "steps": 7}, tmp_path / "vq.pt")
    main(["--layout", "llamagen", "--checkpoint", str(tmp_path / "vq.pt"), "--output", str(tmp_path / "lg")])
    assert VQModel.from_pretrained(tmp_path / "lg").config.vq_embed_dim == CODE_WIDTH


class Shout:
    def __reduce__(self):
        return print, ("run",)


def test_a_file_that_wants_to_run_something_is_refused(tmp_path, capsys):
    torch.save({"state_dict": Shout()}, tmp_path / "bad.ckpt")
    with pytest.raises(ValueError, match="cannot be read as weights alone"):
        read_weights(str(tmp_path / "bad.ckpt"))
    assert capsys.readouterr().out == ""


def test_a_class_of_others_is_named_with_what_to_do(tmp_path):
    torch.save({"model": {"a": torch.ones(1)}, "callbacks": {torch.nn.Linear: 1}}, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="holds torch.nn.modules.linear.Linear.* save its weights alone"):
        read_weights(str(tmp_path / "last.ckpt"))


def test_weights_are_found_beside_the_optimizer_and_the_arguments_of_the_script(tmp_path):
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    training = {"optimizer": optimizer.state_dict(), "epoch": 3, "args": argparse.Namespace(lr=0.1, name="x")}
    torch.save({"model": {"a": torch.ones(2)}, **training}, tmp_path / "plain.pth")
    assert read_weights(str(tmp_path / "plain.pth"))["a"].tolist() == [1, 1]
    torch.save({"model": {"a": torch.ones(2)}, "ema": {"a": torch.zeros(2)}, **training}, tmp_path / "ema.pth")
    assert read_weights(str(tmp_path / "ema.pth"))["a"].tolist() == [0, 0]


def test_arguments_of_a_script_may_not_hold_more_than_values(tmp_path):
    torch.save({"model": {"a": torch.ones(1)}, "args": argparse.Namespace(run=Shout())}, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match="it holds builtins.print"):
        read_weights(str(tmp_path / "bad.pth"))


def test_a_file_that_is_cut_is_named(tmp_path):
    torch.save({"model": {"a": torch.ones(100)}}, tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:300])
    with pytest.raises(ValueError, match="cut.pth` cannot be read as weights alone"):
        read_weights(str(tmp_path / "cut.pth"))


def test_the_vq_of_amused_opens_as_it_is(tmp_path):
    """Its configuration, of fewer channels: no attention in the middle, codes looked up."""
    torch.manual_seed(0)
    model = VQModel(
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        block_out_channels=[32, 64],
        layers_per_block=2,
        latent_channels=CODE_WIDTH,
        num_vq_embeddings=NUM_CODES,
        mid_block_add_attention=False,
        lookup_from_codebook=True,
        force_upcast=True,
    )
    model.save_pretrained(tmp_path / "vqvae")
    loaded = VQModel.from_pretrained(tmp_path / "vqvae").eval()
    ids = encode_images(loaded, torch.rand(1, 3, SIDE, SIDE) * 2 - 1)
    assert ids.shape == (1, 64) and decode_image_token_ids(loaded, ids).shape == (1, 3, SIDE, SIDE)
