# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The wiring of the objectives: every loss, and its gradient, against one written by hand from the same settings.

The reference takes a sample at a time, without padding or batches, and shares with the package the network's blocks
alone: masks, noise, synthesis, both legs of the cycles and the cross entropies are written out here.
"""

import hashlib
import math
from dataclasses import fields, replace
from statistics import NormalDist

import pytest
import torch

from itit_hf.decoding.scheduling_itit import ITITScheduler
from itit_hf.masking import MaskRatio
from itit_hf.models.cpu_kernels_itit import ITITDropout
from itit_hf.models.modeling_itit import ITITForPreTraining
from itit_hf.models.types_itit import ImageMask, TextCondition
from itit_hf.objectives.objectives import OBJECTIVES, ITITObjectives, ObjectiveSettings

from ..testing_utils import tiny_config, tiny_image_tokenizer, tiny_text_encoder

NUM_TOKENS, NUM_CODES, NUM_WORDS, END = 16, 23, 40, 1

OTHER_THAN_DEFAULT = ObjectiveSettings(
    t2i_mask_ratio=MaskRatio(0.55, 0.3, 0.2, 0.8),
    i2t_mask_ratio=MaskRatio(0.3, 0.2, 0.1, 0.6),
    i2i_mask_ratio=MaskRatio(0.8, 0.1, 0.7, 0.95),
    t2i_batch_fraction=0.75,
    i2t_batch_fraction=0.5,
    i2i_batch_fraction=0.25,
    text_gradient_scale=0.4,
    label_smoothing=0.25,
    smoothing_neighbours=3,
    gumbel_strength=0.6,
    synthesis_steps=3,
    synthesis_guidance_scale=1.8,
    synthesis_temperature=0.7,
    synthesis_max_new_tokens=4,
    synthesis_replay=2,
    text_cache_size=3,
    t2i2t_second_mask_ratio=MaskRatio(0.4, 0.2, 0.05, 0.7),
    i2t2i_second_mask_ratio=MaskRatio(0.65, 0.2, 0.4, 0.9),
    reconstruction="all",
    train_code_embeddings=False,
    seed=5,
)
# Where a setting says "as another one", that other one is not at its default either.
FALLING_BACK = replace(
    OTHER_THAN_DEFAULT,
    smoothing_neighbours=0,
    i2i_mask_ratio=None,
    synthesis_temperature=None,
    synthesis_replay=1,
    t2i2t_second_mask_ratio=None,
    i2t2i_second_mask_ratio=None,
    reconstruction="masked",
)
CASES = {
    "other than default": (OTHER_THAN_DEFAULT, list(OBJECTIVES)),
    "falling back": (FALLING_BACK, list(OBJECTIVES)),
    "trained codes": (replace(FALLING_BACK, train_code_embeddings=True), ["t2i2t", "t2i2t_half"]),
}


def test_no_setting_of_the_reference_is_at_its_default():
    default = ObjectiveSettings()
    equal = [f.name for f in fields(default) if getattr(OTHER_THAN_DEFAULT, f.name) == getattr(default, f.name)]
    assert equal == []


class Damping(torch.nn.Module):
    """Dropout that can be computed by hand: in training, half of everything."""

    p = 0.5

    def forward(self, hidden):
        return 0.5 * hidden if self.training else hidden


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    depths = ("num_hidden_layers", "image_decoder_num_hidden_layers", "text_decoder_num_hidden_layers")
    model = ITITForPreTraining(tiny_config(**dict.fromkeys(depths, 1))).train()
    model.model.null_text_embeds.normal_()
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, ITITDropout):
                setattr(module, name, Damping())
    return model


@pytest.fixture(scope="module")
def text_encoder():
    torch.manual_seed(2)
    return tiny_text_encoder().requires_grad_(False)


@pytest.fixture(scope="module")
def image_tokenizer():
    torch.manual_seed(3)
    tokenizer = tiny_image_tokenizer().requires_grad_(False)
    tokenizer.quantize.embedding.weight.normal_()
    return tokenizer


def sentences(generator, lengths):
    ids, mask = torch.zeros(len(lengths), max(lengths), dtype=torch.long), torch.zeros(4, max(lengths)).long()
    for row, length in enumerate(lengths):
        ids[row, : length - 1] = torch.randint(2, NUM_WORDS, (length - 1,), generator=generator)
        ids[row, length - 1], mask[row, :length] = END, 1
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(1)
    images = [torch.randint(NUM_CODES, (4, NUM_TOKENS), generator=generator) for _ in range(2)]
    paired = sentences(generator, [6, 4, 3, 5]) | {"image_token_ids": images[0], "sample_index": torch.arange(10, 14)}
    paired["sample_weight"] = torch.tensor([1.0, 0.5, 2.0, 0.25])
    text = sentences(generator, [3, 7, 4, 5]) | {"sample_index": torch.arange(4)}
    return {
        "paired": paired,
        "image": {"image_token_ids": images[1], "sample_index": torch.arange(7, 11)},
        "text": text,
    }


class Reference:
    """The losses of one sample, by name."""

    def __init__(self, model, text_encoder, codebook, settings, temperature):
        self.model, self.text_encoder, self.settings = model, text_encoder, settings
        self.temperature = temperature
        self.codebook = codebook.tolist()
        self.synthesised = {}
        self.table = model.model.embed_image_tokens.weight

    # Noise: a function of the seed, what it is for, the sample and its use.

    def generator(self, purpose, position, use):
        key = (
            f"{self.settings.seed}/{purpose}/{use}/{position}" if use else f"{self.settings.seed}/{purpose}/{position}"
        )
        digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "little") // 2)

    def kept(self, hidden, generator):
        """Half of the positions is dropped, hidden ones, if there are as many."""
        noise = torch.rand(NUM_TOKENS, generator=generator)
        order = sorted(hidden, key=lambda k: float(noise[k]))
        dropped = order[: NUM_TOKENS // 2] if len(hidden) >= NUM_TOKENS // 2 else []
        return [k for k in range(NUM_TOKENS) if k not in dropped]

    def mask(self, ratio, name, position, use):
        """Positions that are hidden, and those that the encoder is given."""
        generator = self.generator(f"mask/{name}", position, use)
        uniform = float(torch.rand((), generator=generator))
        if ratio is None:
            share = 1.0
        else:
            normal = NormalDist(ratio.mean, ratio.std)
            low, high = normal.cdf(ratio.low), normal.cdf(ratio.high)
            share = normal.inv_cdf(low + uniform * (high - low))
        noise = torch.rand(NUM_TOKENS, generator=generator)
        hidden = noise.argsort()[: math.ceil(share * NUM_TOKENS)].tolist()
        return hidden, self.kept(hidden, generator)

    # The network, one sample at a time.

    def image_mask(self, hidden, kept):
        flags = torch.zeros(1, NUM_TOKENS, dtype=torch.bool)
        flags[0, hidden] = True
        return ImageMask(flags, torch.tensor([kept]))

    def encode(self, image, hidden, kept, text=None):
        """Image embeddings (16, H), and text features (L, E) or none -> features (Kept + L, H)."""
        text = None if text is None else TextCondition(text[None])
        return self.model.model(None, self.image_mask(hidden, kept), text, image[None]).last_hidden_state[0]

    def image_logits(self, features, hidden, kept):
        codes = self.table[:NUM_CODES]
        return self.model.image_decoder(features[None], codes, self.image_mask(hidden, kept))[0]  # (16, codes)

    def text_logits(self, features, words):
        """Of each word, given those before it."""
        config = self.model.config
        ids = [config.image_token_id] * len(features) + [config.bos_token_id] + words[:-1]
        states = self.model.text_decoder(torch.tensor([ids]), features[None])[0, len(features) :]
        return states @ self.model.text_decoder.embed_tokens.weight[:NUM_WORDS].T  # (L, words)

    def read(self, words):
        return self.text_encoder(input_ids=torch.tensor([words])).last_hidden_state[0]  # (L, E)

    # Cross entropies.

    def cost(self, logits, labels):
        return self.smoothed(logits, labels, [range(logits.size(-1))] * len(labels))

    def smoothed(self, logits, labels, others):
        """What label smoothing takes from each label goes to its `others`."""
        smoothing = self.settings.label_smoothing
        rows = logits.log_softmax(dim=-1)
        costs = [
            -(1 - smoothing) * row[label] - smoothing * sum(row[other] for other in near) / len(near)
            for row, label, near in zip(rows, labels, others, strict=True)
        ]
        return sum(costs) / len(costs)

    def image_cost(self, logits, labels):
        count = self.settings.smoothing_neighbours
        if count == 0:
            return self.cost(logits, labels)
        others = []
        for label in labels.tolist():
            distances = [math.dist(self.codebook[label], code) for code in self.codebook]
            ranked = sorted(range(NUM_CODES), key=distances.__getitem__)
            others.append([code for code in ranked if code != label][:count])
        return self.smoothed(logits, labels, others)

    def drawing_cost(self, ids, mask, text=None):
        hidden, kept = mask
        logits = self.image_logits(self.encode(self.table[ids], hidden, kept, text), hidden, kept)
        return self.image_cost(logits[hidden], ids[hidden])

    def describing_cost(self, image, mask, words, text=None):
        features = self.encode(image, *mask, text)
        scale = self.settings.text_gradient_scale
        return self.cost(self.text_logits(scale * features + (1 - scale) * features.detach(), words), words)

    # Objectives of pairs, of images and of sentences.

    def t2i(self, sample, use):
        mask = self.mask(self.settings.t2i_mask_ratio, "t2i", sample["sample_index"], use)
        return sample["weight"] * self.drawing_cost(sample["ids"], mask, self.read(sample["words"]))

    def i2t(self, sample, use):
        mask = self.mask(self.settings.i2t_mask_ratio, "i2t", sample["sample_index"], use)
        return sample["weight"] * self.describing_cost(self.table[sample["ids"]], mask, sample["words"])

    def i2i(self, sample, use):
        ratio, name = self.settings.i2i_mask_ratio, "i2i"
        if ratio is None:
            ratio, name = self.settings.i2t_mask_ratio, "i2t"  # in its pass
        return self.drawing_cost(sample["ids"], self.mask(ratio, name, sample["sample_index"], use))

    def i2i_unpaired(self, sample, use):
        ratio = self.settings.i2i_mask_ratio or self.settings.i2t_mask_ratio
        return self.drawing_cost(sample["ids"], self.mask(ratio, "i2i_unpaired", sample["sample_index"], use))

    def t2t(self, sample, use):
        mask = self.mask(None, "t2t", sample["sample_index"], use)
        return self.describing_cost(self.table[:NUM_TOKENS], mask, sample["words"])

    def t2t_copy(self, sample, use):
        mask, words = self.mask(None, "t2t", sample["sample_index"], use), sample["words"]
        return self.describing_cost(self.table[:NUM_TOKENS], mask, words, self.read(words))

    def synthesis(self, name, position, make):
        """Made once, without dropout, and kept for the uses that follow."""
        if (name, position) not in self.synthesised:
            self.model.eval()
            self.synthesised[name, position] = make()
            self.model.train()
        return self.synthesised[name, position]

    @torch.no_grad()
    def drawn(self, words, name, position):
        """Equation (3)'s I': parallel decoding, guided, by the cosine schedule."""
        settings, config = self.settings, self.model.config
        text, generator = self.read(words), self.generator(f"synthesis/{name}", position, 0)
        ids = torch.full((NUM_TOKENS,), config.mask_token_id)
        steps, temperature = settings.synthesis_steps, settings.synthesis_temperature
        temperature = self.temperature if temperature is None else temperature
        for step in range(1, steps + 1):
            hidden = (ids == config.mask_token_id).nonzero().flatten().tolist()
            kept = self.kept(hidden, generator)
            guided = 0.0
            for condition, weight in (
                (text, settings.synthesis_guidance_scale),
                (None, 1 - settings.synthesis_guidance_scale),
            ):
                features = self.encode(self.table[ids], hidden, kept, condition)
                guided = guided + weight * self.image_logits(features, hidden, kept)
            choice, order = torch.rand(2, NUM_TOKENS, generator=generator)
            certainty = {}
            for k in hidden:
                probs = guided[k].softmax(dim=-1)
                ids[k] = int((probs.cumsum(dim=-1) <= choice[k]).sum().clamp(max=NUM_CODES - 1))
                gumbel = -math.log(-math.log(order[k]))
                certainty[k] = math.log(probs[ids[k]]) + temperature * (1 - step / steps) * gumbel
            left = math.floor(NUM_TOKENS * math.cos(math.pi / 2 * step / steps) + 1e-9)
            left = min(left, len(hidden) - 1)
            for k in sorted(hidden, key=certainty.get)[:left]:
                ids[k] = config.mask_token_id
        return ids

    def t2i2t(self, sample, use, half=False):
        settings, words, position = self.settings, sample["words"], sample["sample_index"]
        name = "t2i2t_half" if half else "t2i2t"
        ids = self.synthesis(name, position, lambda: self.drawn(words, name, position))
        first = self.mask(settings.t2i_mask_ratio, f"{name}/first", position, use)
        ratio = settings.t2i2t_second_mask_ratio or settings.i2t_mask_ratio
        second = self.mask(ratio, f"{name}/second", position, use)
        features = self.encode(self.table[ids], *first, self.read(words)).detach()
        logits = self.image_logits(features, *first)
        uniform = torch.rand(NUM_TOKENS, NUM_CODES, generator=self.generator(f"gumbel/{name}", position, use))
        noisy = logits - settings.gumbel_strength * (-uniform.log()).log()
        one_hot = torch.nn.functional.one_hot(noisy.argmax(dim=-1), NUM_CODES).float()
        if not half:
            probs = noisy.softmax(dim=-1)
            one_hot = one_hot + probs - probs.detach()
        codes = self.table[:NUM_CODES] if settings.train_code_embeddings else self.table[:NUM_CODES].detach()
        said = first[0] if settings.reconstruction == "masked" else range(NUM_TOKENS)
        said = torch.tensor([k in said for k in range(NUM_TOKENS)])
        image = torch.where(said[:, None], one_hot @ codes, self.table[ids])
        return self.describing_cost(image, second, words)

    def t2i2t_half(self, sample, use):
        return self.t2i2t(sample, use, half=True)

    @torch.no_grad()
    def described(self, ids):
        """Equation (4)'s T': greedy, of the whole image."""
        features = self.encode(self.table[ids], [], list(range(NUM_TOKENS)))
        words = []
        while len(words) < self.settings.synthesis_max_new_tokens and END not in words:
            words.append(int(self.text_logits(features, [*words, 0])[-1].argmax()))
        return words

    def i2t2i(self, sample, use, half=False):
        settings, ids, position = self.settings, sample["ids"], sample["sample_index"]
        name = "i2t2i_half" if half else "i2t2i"
        words = self.synthesis(name, position, lambda: self.described(ids))
        first = self.mask(settings.i2t_mask_ratio, f"{name}/first", position, use)
        ratio = settings.i2t2i_second_mask_ratio or settings.t2i_mask_ratio
        second = self.mask(ratio, f"{name}/second", position, use)
        logits = self.text_logits(self.encode(self.table[ids], *first).detach(), words)
        one_hot = torch.nn.functional.one_hot(logits.argmax(dim=-1), NUM_WORDS).float()
        if not half:
            probs = logits.softmax(dim=-1)
            one_hot = one_hot + probs - probs.detach()
        embeds = one_hot @ self.text_encoder.shared.weight[:NUM_WORDS]
        text = self.text_encoder(inputs_embeds=embeds[None]).last_hidden_state[0]
        return self.drawing_cost(ids, second, text)

    def i2t2i_half(self, sample, use):
        return self.i2t2i(sample, use, half=True)

    def rows(self, name):
        """Of a batch of four, those that an objective takes."""
        settings = self.settings
        shares_pass = name == "i2i" and settings.i2i_mask_ratio is None
        from_back = settings.i2t_batch_fraction if name == "i2t" or shares_pass else settings.i2i_batch_fraction
        if name == "t2i":
            return range(round(4 * settings.t2i_batch_fraction))
        return range(4 - round(4 * from_back), 4) if name in ("i2t", "i2i") else range(4)

    def loss(self, name, batch, use):
        part, losses = batch[OBJECTIVES[name].stream], []
        for row in self.rows(name):
            sample = {"sample_index": int(part["sample_index"][row]), "weight": 1.0}
            if "sample_weight" in part:
                sample["weight"] = part["sample_weight"][row]
            if "image_token_ids" in part:
                sample["ids"] = part["image_token_ids"][row]
            if "input_ids" in part:
                sample["words"] = part["input_ids"][row, : int(part["attention_mask"][row].sum())].tolist()
            losses.append(getattr(self, name)(sample, use))
        return torch.stack(losses).mean()


def gradients(model, losses):
    """Of a sum in which each loss has a weight of its own."""
    parameters = dict(model.named_parameters())
    total = sum((1 + number) * loss for number, loss in enumerate(losses.values()))
    found = torch.autograd.grad(total, parameters.values(), allow_unused=True, materialize_grads=True)
    return dict(zip(parameters, found, strict=True))


@pytest.mark.parametrize(("settings", "names"), CASES.values(), ids=CASES.keys())
def test_each_loss_and_its_gradient_equal_the_reference(model, text_encoder, image_tokenizer, batch, settings, names):
    scheduler = ITITScheduler(mask_token_id=NUM_CODES, temperature=0.4)
    codebook = image_tokenizer.quantize.embedding.weight
    reference = Reference(model, text_encoder, codebook, settings, temperature=0.4)
    loss_of = ITITObjectives(names, model.config, text_encoder, image_tokenizer, settings, scheduler)
    for use in range(settings.synthesis_replay):  # after the first time with the synthesis of the first
        losses = loss_of(model, {stream: part | {"replay_index": torch.tensor(use)} for stream, part in batch.items()})
        assert model.training
        by_hand = {name: reference.loss(name, batch, use) for name in names}
        for name, loss in losses.items():
            torch.testing.assert_close(loss, by_hand[name], atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
        want = gradients(model, by_hand)
        for name, got in gradients(model, losses).items():
            torch.testing.assert_close(got, want[name], atol=1e-5, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")
