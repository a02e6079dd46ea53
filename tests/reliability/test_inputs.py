# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""R16, R17: neighbours in a batch change nothing, and no text breaks anything."""

import copy
import logging
import random
import string

import pytest
import torch

from itit_hf.models.types_itit import ImageMask, TextCondition
from itit_hf.rng import keyed_generators

from ..testing_utils import tiny_pipeline

NUM_PROMPTS = 64
WORDS = ("red", "blue", "green", "bus", "fish", "tree", "on", "the", "grass", "a")
STEPS = 3


def prompts() -> list[str]:
    """Sixty-four of one to twelve words, one of them empty."""
    generator = random.Random(0)
    return [""] + [" ".join(generator.choices(WORDS, k=generator.randrange(1, 13))) for _ in range(NUM_PROMPTS - 1)]


def draw_and_say(pipe, texts, order, size) -> dict[int, tuple]:
    """Image token ids and the caption's ids of each prompt, in batches of `size` of the given order."""
    found = {}
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        ids = pipe(
            [texts[i] for i in batch],
            num_inference_steps=STEPS,
            generator=keyed_generators(0, "test", batch),
            output_type="latent",
        ).images
        said = pipe.model.generate(image_token_ids=ids, num_beams=2, do_sample=False, max_new_tokens=4)
        said = pipe.processor.batch_decode(said[:, pipe.model.config.num_prefix_tokens + 1 :])
        found |= {i: (row.tolist(), text) for i, row, text in zip(batch, ids, said, strict=True)}
    return found


def largest_difference(pipe, texts, dtype) -> float:
    """Of the logits of a prompt alone and in a batch of all, as a share of the largest logit."""
    model = copy.deepcopy(pipe.model).to(dtype)
    embeds, mask = pipe.encode_prompt(texts)
    ids = torch.arange(16).expand(len(texts), -1) % 23
    hidden = torch.ones(len(texts), 16, dtype=torch.bool)
    places = torch.arange(16).expand(len(texts), -1)

    def logits(rows):
        text = TextCondition(embeds[rows].to(dtype), mask[rows])
        image = {"image_token_ids": ids[rows], "image_mask": ImageMask(hidden[rows]), "logit_positions": places[rows]}
        return model(**image, text_condition=text).image_logits.float()

    with torch.no_grad():
        together = logits(slice(None))
        alone = torch.cat([logits(slice(i, i + 1)) for i in range(len(texts))])
    return ((together - alone).abs().max() / together.abs().max()).item()


@pytest.mark.figure(name="R16")
def test_neighbours_in_a_batch_change_no_id(figure):
    pipe, texts = tiny_pipeline(), prompts()
    pipe.set_progress_bar_config(disable=True)
    order = list(range(NUM_PROMPTS))
    alone = draw_and_say(pipe, texts, order, 1)
    assert len({str(value) for value in alone.values()}) > NUM_PROMPTS // 2
    same = dict.fromkeys(order, True)
    shuffled = random.Random(1).sample(order, NUM_PROMPTS)
    for size, arranged in ((2, order), (3, order), (7, order), (64, order), (7, shuffled)):
        found = draw_and_say(pipe, texts, arranged, size)
        same = {i: same[i] and found[i] == alone[i] for i in order}
    differences = {name: largest_difference(pipe, texts, getattr(torch, name)) for name in ("float32", "bfloat16")}
    assert differences["float32"] <= 1e-5 and differences["bfloat16"] <= 2e-2
    said = ", ".join(f"{value:.1e} in {name}" for name, value in differences.items())
    figure(sum(same.values()), NUM_PROMPTS, f"logits differ by this share of the largest: {said}")


def odd_texts() -> list[str]:
    """Three hundred, by a fixed seed."""
    generator = random.Random(0)
    found = [
        "", " ", "\0", "a\0b", "\ud800", "\udfff\ud83d", "\ud83d\ude00", "e" + "\u0301" * 1000, "\u200d" * 70,
        "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u202eabc\u202c", "\u05e9\u05dc\u05d5\u05dd", "\ufeff",
        "\uffff", "<extra_id_0>", "<extra_id_0> a red bus <extra_id_1>", "</s>", "<pad><pad>", "a\nb\r\nc\td",
        "\x1b[31mred", "%s%n", "{}{0}", "' OR 1=1", "<script>", "../../etc/passwd", "a" * 10_000,
        " ".join(["bus"] * 10_000), "1" * 400,
    ]  # fmt: skip
    for count in (30, 31, 32, 33, 63, 64, 65, 66):
        found += [" ".join(["bus"] * count), "r" * count]
    alphabets = [string.printable, "\u0600\u0627\u0628\u062a", "\u4e00\u4e8c\u4e09", "\U0001f600\u2764\ufe0f\u200d"]
    while len(found) < 300:
        characters = generator.choices([*generator.choice(alphabets), chr(generator.randrange(0x110000))], k=40)
        found.append("".join(characters[: generator.randrange(1, 41)]))
    return found


@pytest.mark.figure(name="R17")
def test_no_text_breaks_anything_and_none_is_cut_in_silence(caplog, figure):
    pipe, held = tiny_pipeline(), 0
    logging.getLogger("itit_hf").propagate = True
    for text in odd_texts():
        caplog.clear()
        inputs = pipe.processor(text=[text, "a red bus"], max_length=32, return_tensors="pt")
        whole = len(pipe.processor(text=[text], max_length=100_000, return_tensors="pt")["input_ids"][0])
        warnings = [record for record in caplog.records if "texts have more than 32 tokens" in record.getMessage()]
        good = inputs["input_ids"].shape[1] <= 32 and len(warnings) == (whole > 32)
        if whole > 32:
            with pytest.raises(ValueError, match="more than 32 tokens"):
                pipe.processor(text=[text], max_length=32, on_long_text="error", return_tensors="pt")
        # What a caption is decoded to is a text that can be read again, and then stays what it is, spaces aside.
        said = pipe.processor.batch_decode(inputs["input_ids"])[0]
        again = pipe.processor(text=[said], max_length=32, return_tensors="pt")["input_ids"]
        good &= pipe.processor.batch_decode(again)[0].split() == said.split()
        embeds, _ = pipe.encode_prompt(text)
        held += good and bool(embeds.isfinite().all())
    figure(held, 300)
