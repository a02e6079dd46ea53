# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import weakref
from pathlib import Path

import PIL.Image
import pytest
import torch
from torch.nn import functional as F
from transformers import (
    AlignConfig,
    AlignModel,
    AlignProcessor,
    ChineseCLIPConfig,
    ChineseCLIPModel,
    ChineseCLIPProcessor,
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    SiglipConfig,
    SiglipModel,
    SiglipProcessor,
)
from transformers.models.align.modeling_align import align_loss
from transformers.models.chinese_clip.image_processing_pil_chinese_clip import ChineseCLIPImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.efficientnet.image_processing_pil_efficientnet import EfficientNetImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from itit_hf.rewards.captions import ClipCos
from itit_hf.rewards.dual_encoder import (
    DualEncoderScorer,
    combine_query,
    contrastive_loss,
    prepare_pixels,
    reader_of,
    search,
    tokenize_texts,
    transport_targets,
)

from ..testing_utils import tiny_bert_tokenizer, tiny_dual_encoder, tiny_tokenizer


def random_logits(size: int = 5) -> torch.Tensor:
    return torch.randn(size, size, generator=torch.Generator().manual_seed(0))


def directions(*angles: float) -> torch.Tensor:
    angles = torch.tensor(angles)
    return torch.stack([angles.cos(), angles.sin()], dim=-1)


def test_the_loss_is_the_sum_of_which_transformers_takes_the_mean():
    torch.testing.assert_close(contrastive_loss(random_logits()), 2.0 * align_loss(random_logits()))


def test_both_directions_count():
    logits = torch.tensor([[0.0, -9.0], [0.0, 0.0]])  # the first text is as near to the second image
    log_half = torch.tensor(0.5).log()
    of_images = -(F.logsigmoid(torch.tensor(9.0)) + log_half) / 2
    of_texts = -(log_half + F.logsigmoid(torch.tensor(9.0))) / 2
    torch.testing.assert_close(contrastive_loss(logits, label_smoothing=0.0), of_images + of_texts)


def test_targets_that_name_the_pairs_change_nothing():
    logits = random_logits()
    torch.testing.assert_close(contrastive_loss(logits, torch.eye(5)), contrastive_loss(logits))


def test_targets_say_which_text_is_a_images_own():
    logits, own = random_logits(3), [1, 2, 0]  # the first image's text stands second
    torch.testing.assert_close(contrastive_loss(logits, torch.eye(3)[own]), contrastive_loss(logits[:, own]))


def test_half_of_a_soft_target_is_the_pair_and_all_images_and_texts_get_as_much():
    embeds = directions(0.0, 0.1, 1.5, 1.6, 3.0)
    targets = transport_targets(embeds, embeds)
    torch.testing.assert_close(targets.diagonal(), torch.full((5,), 0.5))
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(5))
    torch.testing.assert_close(targets.sum(dim=0), torch.ones(5), atol=1e-2, rtol=0.0)


def test_the_other_half_goes_to_what_looks_alike():
    embeds = directions(0.0, 0.1, 1.5, 1.6)
    targets = transport_targets(embeds, embeds)
    assert targets[0, 1] > 0.49 and targets[2, 3] > 0.49


def test_a_batch_of_one_pair_is_its_own_target():
    assert transport_targets(directions(0.3), directions(0.1)).tolist() == [[1.0]]


ROOT = Path(__file__).parents[2]
TEXTS = ["a red bus", "the green tree on the grass", "a blue fish"]
TRANSFORMER = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
BERT = TRANSFORMER | {"vocab_size": 48, "max_position_embeddings": 20}
VISION = TRANSFORMER | {"image_size": 16, "patch_size": 8}


def clip() -> DualEncoderScorer:
    text = TRANSFORMER | {"vocab_size": 48, "max_position_embeddings": 20, "eos_token_id": 1}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=12))
    image_processor = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    return DualEncoderScorer(model, CLIPProcessor(image_processor, tiny_tokenizer()), batch_size=2)


def siglip() -> DualEncoderScorer:
    text = TRANSFORMER | {"vocab_size": 48, "max_position_embeddings": 20, "projection_size": 16}
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=VISION))
    model.logit_bias.data.fill_(-3.0)
    image_processor = SiglipImageProcessorPil(size={"height": 16, "width": 16})
    return DualEncoderScorer(model, SiglipProcessor(image_processor, tiny_tokenizer()), batch_size=2)


def align() -> DualEncoderScorer:
    vision = {"image_size": 16, "kernel_sizes": [3], "in_channels": [32], "out_channels": [16], "strides": [2]}
    vision |= {"num_block_repeats": [1], "expand_ratios": [2], "hidden_dim": 16, "width_coefficient": 1.0}
    vision |= {"depth_coefficient": 1.0, "depthwise_padding": [], "hidden_act": "swish"}
    model = AlignModel(AlignConfig(text_config=BERT, vision_config=vision, projection_dim=16))
    model.temperature.data.fill_(0.5)
    image_processor = EfficientNetImageProcessorPil(
        size={"height": 20, "width": 20},
        crop_size={"height": 16, "width": 16},
        do_center_crop=True,
        rescale_factor=1 / 127.5,
        rescale_offset=True,
    )
    return DualEncoderScorer(model, AlignProcessor(image_processor, tiny_bert_tokenizer()), batch_size=2)


def chinese_clip() -> DualEncoderScorer:
    model = ChineseCLIPModel(ChineseCLIPConfig(text_config=BERT, vision_config=VISION, projection_dim=12))
    image_processor = ChineseCLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    return DualEncoderScorer(model, ChineseCLIPProcessor(image_processor, tiny_bert_tokenizer()), batch_size=2)


FAMILIES = {
    "clip": clip,
    "siglip": siglip,
    "align": align,
    "chinese_clip": chinese_clip,
    "vision_text_dual_encoder": tiny_dual_encoder,
}


@pytest.fixture(scope="module", params=FAMILIES)
def scorer(request) -> DualEncoderScorer:
    torch.manual_seed(0)
    return FAMILIES[request.param]()


@pytest.fixture(scope="module")
def dual_encoder() -> DualEncoderScorer:
    torch.manual_seed(0)
    return tiny_dual_encoder()


def make_images(side: int = 16, seed: int = 0) -> list[PIL.Image.Image]:
    noise = torch.rand(3, side, side, 3, generator=torch.Generator().manual_seed(seed))
    return [PIL.Image.fromarray((image * 255).byte().numpy()) for image in noise]


def pixels(images: list[PIL.Image.Image]) -> torch.Tensor:
    rows = [torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8) for image in images]
    return torch.stack(rows).view(len(images), *images[0].size, 3).permute(0, 3, 1, 2) / 255.0  # (B, 3, H, W)


def tokenized(scorer: DualEncoderScorer, texts: list[str]):
    return tokenize_texts(scorer.processor.tokenizer, scorer.model.config.text_config, texts)[0]


def test_scores_are_the_logits_of_the_model(scorer):
    inputs = scorer.processor.image_processor(make_images(), return_tensors="pt")
    with torch.no_grad():
        logits = scorer.model(**inputs, **tokenized(scorer, TEXTS)).logits_per_image  # (3, 3)
    torch.testing.assert_close(scorer.score(make_images(), TEXTS), logits.diagonal(), atol=1e-6, rtol=1e-6)
    embeds = scorer.embed_images(make_images()), scorer.embed_texts(TEXTS)
    torch.testing.assert_close(scorer.similarity(*embeds), logits, atol=1e-5, rtol=1e-6)
    cosines = (logits.diagonal() - scorer.logit_bias) / scorer.logit_scale
    torch.testing.assert_close(scorer.cosine(make_images(), TEXTS), cosines, atol=1e-6, rtol=1e-5)


def test_clip_cos_is_the_scale_times_the_cosine(scorer):
    want = scorer.logit_scale * scorer.cosine(make_images(), TEXTS) + scorer.logit_bias
    given = ClipCos(scorer)([""] * len(TEXTS), TEXTS, None, image=make_images())
    assert given == pytest.approx(want.tolist(), abs=1e-5)


def test_directions_have_length_one(scorer):
    for embeds in (scorer.embed_images(make_images()), scorer.embed_texts(TEXTS)):
        torch.testing.assert_close(embeds.norm(dim=-1), torch.ones(3))


def test_pixels_give_the_embedding_of_the_image(scorer):
    side = 20 if scorer.model.config.model_type == "align" else 16  # nothing to resize, so PIL rounds nothing
    images = make_images(side)
    torch.testing.assert_close(scorer.embed_pixels(pixels(images)), scorer.embed_images(images), atol=1e-5, rtol=1e-5)


def test_pixels_are_resized_like_images(scorer):
    image_processor, images = scorer.processor.image_processor, make_images(side=48)
    inputs = image_processor(images, return_tensors="pt")["pixel_values"]
    resized = prepare_pixels(image_processor, pixels(images))
    steps = 2.5 / 255 * abs(image_processor.rescale_factor * 255) / min(image_processor.image_std) ** 2
    torch.testing.assert_close(resized, inputs, atol=steps, rtol=0.0)  # PIL rounds after each direction


def test_gradients_reach_the_pixels_and_no_weight(scorer):
    pixel_values = pixels(make_images()).requires_grad_()
    scorer.embed_pixels(pixel_values).sum().backward()
    assert pixel_values.grad.isfinite().all() and pixel_values.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in scorer.model.parameters())


def test_a_text_that_is_cut_is_counted(scorer):
    before = scorer.truncated
    assert tokenized(scorer, ["a " * 40])["input_ids"].size(1) == 20
    just_fits = "a " * (20 - scorer.processor.tokenizer.num_special_tokens_to_add())
    scorer.embed_texts(["a red bus", just_fits])
    assert scorer.truncated == before
    scorer.embed_texts([just_fits + "a", "blue " * 30])
    assert scorer.truncated == before + 2


def test_the_size_of_a_batch_does_not_matter(scorer):
    alone = torch.cat([scorer.embed_texts(text) for text in TEXTS])
    torch.testing.assert_close(scorer.embed_texts(TEXTS), alone, atol=1e-6, rtol=1e-5)


def test_a_bar_is_shown_for_what_takes_long_only(dual_encoder, monkeypatch, capsys):
    in_pairs = DualEncoderScorer(dual_encoder.model, dual_encoder.processor, batch_size=2)
    in_pairs.embed_texts(["a red bus"] * 6)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("itit_hf.rewards.dual_encoder._SECONDS_WITHOUT_A_BAR", 0.0)
    in_pairs.embed_texts(["a red bus"] * 6)
    assert "embed texts" in capsys.readouterr().err


def test_a_folder_opens_as_it_was_saved(scorer, tmp_path):
    scorer.model.save_pretrained(tmp_path)
    scorer.processor.save_pretrained(tmp_path)
    opened = DualEncoderScorer.from_pretrained(tmp_path)
    torch.testing.assert_close(opened.score(make_images(), TEXTS), scorer.score(make_images(), TEXTS))
    assert type(opened.model) is type(scorer.model)


def test_the_model_is_frozen_and_does_not_drop_out(dual_encoder):
    assert not dual_encoder.model.training
    assert not any(parameter.requires_grad for parameter in dual_encoder.model.parameters())


def test_the_committed_dual_encoder_knows_what_says_the_same():
    scorer = DualEncoderScorer.from_pretrained(ROOT / "checkpoints" / "emoji-scenes-dual-encoder")
    said = scorer.embed_texts(["a red bus", "the bus is red", "a blue bus", "a red fish"])
    same, other_colour, other_kind = (said[0] @ said[1:].T).tolist()
    assert same > 0.9 > max(other_colour, other_kind)


def test_crops_and_borders_are_those_of_the_image_processor():
    image_processor = CLIPImageProcessorPil(do_resize=False, crop_size={"height": 11, "width": 20})
    images = make_images(side=16)
    inputs = image_processor(images, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(prepare_pixels(image_processor, pixels(images)), inputs, atol=1e-5, rtol=1e-5)


def test_zero_shot_labels_average_their_templates(dual_encoder):
    labels, templates = ["red bus", "blue fish"], ["a {}", "the {}"]
    said = torch.stack(
        [dual_encoder.embed_texts([t.format(label) for t in templates]).mean(dim=0) for label in labels]
    )
    expected = dual_encoder.embed_images(make_images()) @ (said / said.norm(dim=-1, keepdim=True)).T
    logits = dual_encoder.classify(make_images(), labels, templates)
    torch.testing.assert_close(logits, dual_encoder.logit_scale * expected)


def test_a_mixed_query_lies_between_its_parts():
    image, text = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    torch.testing.assert_close(combine_query(image, text, 0.5), torch.tensor([[0.5**0.5, 0.5**0.5]]))
    torch.testing.assert_close(combine_query(image, text, 0.0), image)


def test_search_equals_a_full_sort_and_keeps_equal_entries_in_order():
    gallery = torch.nn.functional.normalize(torch.randn(40, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    gallery = torch.cat([gallery, gallery[:10], gallery[:10]])  # ten entries stand there three times
    queries = gallery[:7]
    cosines, indices = search(queries, gallery, top_k=5)
    everything = torch.stack([gallery @ query for query in queries])
    order = everything.sort(dim=-1, descending=True, stable=True).indices[:, :5]
    assert torch.equal(indices, order)
    assert torch.equal(cosines, everything.gather(1, order))
    assert indices[0, :3].tolist() == [0, 40, 50]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda s: s.embed_images([PIL.Image.new("RGB", (9, 9)), b"<html>"]), "image 1: it cannot be read"),
        (lambda scorer: DualEncoderScorer(torch.nn.Linear(2, 2), None), "`model`"),
        (lambda scorer: DualEncoderScorer(scorer.model, scorer.processor, batch_size=0), "`batch_size`"),
        (lambda scorer: scorer.score(make_images(), TEXTS[:2]), "`texts`"),
        (lambda scorer: scorer.embed_texts([]), "`texts`"),
        (lambda scorer: scorer.embed_texts(["a", 3]), "`texts`"),
        (lambda scorer: scorer.embed_pixels(torch.zeros(1, 3, 16, 16, dtype=torch.uint8)), "`pixel_values`"),
        (lambda scorer: scorer.embed_pixels(torch.zeros(3, 16, 16)), "`pixel_values`"),
        (lambda scorer: scorer.classify(make_images(), ["bus"], ["a"]), "`templates`"),
        (lambda scorer: combine_query(torch.ones(1, 2), torch.ones(1, 2), 1.5), "`text_weight`"),
        (lambda scorer: search(torch.ones(1, 2), torch.ones(3, 2), 4), "`top_k`"),
        (lambda scorer: prepare_pixels(CLIPImageProcessorPil(resample=1), torch.zeros(1, 3, 8, 8)), "`resample`"),
    ],
)
def test_what_cannot_be_used_is_named(dual_encoder, call, named):
    with pytest.raises(ValueError, match=named):
        call(dual_encoder)


def test_a_photo_is_read_small_but_never_smaller_than_twice_what_is_made_of_it():
    read = reader_of(CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}))
    assert read(PIL.Image.new("RGB", (330, 200)), name="row 1").size == (55, 34)  # a sixth, rounded up
    assert read(PIL.Image.new("RGB", (63, 40))).size == (63, 40)
    with pytest.raises(ValueError, match="row 1"):
        read(b"<html>", name="row 1")


def test_of_photos_that_are_embedded_one_at_a_time_is_whole(monkeypatch):
    torch.manual_seed(0)
    scorer = clip()
    scorer.batch_size, alive, most = 6, [], []

    def watched(image):
        alive.append(weakref.ref(image))
        most.append(sum(each() is not None for each in alive))
        return image

    sizes = [(40, 20), (20, 40), (30, 30)] * 2
    images = [PIL.Image.new("RGB", size, (10 * i, 0, 0)) for i, size in enumerate(sizes)]
    alone = torch.cat([scorer.embed_images(image) for image in images])
    monkeypatch.setattr(
        "itit_hf.rewards.dual_encoder.load_image", lambda image, name: watched(image.convert("RGB").copy())
    )
    torch.testing.assert_close(scorer.embed_images(images), alone)
    assert len(most) == 6 and max(most) <= 2
