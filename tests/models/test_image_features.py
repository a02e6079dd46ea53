# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from itit_hf.data.image_tokens import add_image_token_ids
from itit_hf.decoding.sampling import SamplingSettings
from itit_hf.decoding.scheduling_itit import ITITScheduler
from itit_hf.masking import MaskRatio, draw_mask
from itit_hf.models.configuration_itit import ITITConfig
from itit_hf.models.modeling_itit import ITITForCaptioning, ITITForImageGeneration, ITITForPreTraining
from itit_hf.models.processing_itit import ITITProcessor
from itit_hf.models.types_itit import SoftTokens, TextCondition
from itit_hf.objectives.cycle import TextCycleSettings, gumbel_noise, t2i2t_loss
from itit_hf.objectives.objectives import ITITObjectives, ObjectiveSettings
from itit_hf.pipelines.pipeline_itit import ITITPipeline
from itit_hf.pipelines.scoring import caption_log_likelihoods
from itit_hf.training.trainer import ITITTrainer
from itit_hf.training.training_args import ITITTrainingArguments

from ..testing_utils import generators, tiny_config, tiny_pairs, tiny_pipeline, tiny_text_encoder

LATENTS = {"image_features": "latents", "image_latent_size": 8}
CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "emoji-scenes-64" / "model"


def codebook():
    return torch.randn(23, 8, generator=torch.Generator().manual_seed(5))


def pair_of_models():
    """On codes, and on latents that are projected so that a code vector is seen as its code is."""
    torch.manual_seed(0)
    codes = ITITForPreTraining(tiny_config()).eval()
    codes.initialize_code_embeddings(codebook(), torch.Generator().manual_seed(0))
    latents = ITITForPreTraining(tiny_config(**LATENTS)).eval()
    latents.load_state_dict(codes.state_dict(), strict=False)
    latents.initialize_code_embeddings(codebook(), torch.Generator().manual_seed(0))
    return codes, latents


@pytest.fixture
def model():
    return pair_of_models()[1]


@pytest.fixture
def ids():
    return torch.randint(23, (2, 16), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def pipe():
    pipe = tiny_pipeline(**LATENTS)
    pipe.model.model.embed_image_latents.set_codebook(pipe.image_tokenizer.quantize.embedding.weight.detach())
    return pipe


def caption_inputs(model, texts=((7, 8, 9), (5, 6, 2))):
    prefix = torch.full((len(texts), 17), model.config.image_token_id)
    start = torch.full((len(texts), 1), model.config.bos_token_id)
    return torch.cat([prefix, start, torch.tensor(texts)], dim=1)


def text_batch():
    return {"input_ids": torch.tensor([[5, 6, 1], [7, 1, 0]]), "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]])}


def test_latents_that_are_code_vectors_are_captioned_as_their_codes(ids):
    codes, latents = pair_of_models()
    said = caption_inputs(codes)
    want = codes(input_ids=said, image_token_ids=ids).logits
    got = latents(input_ids=said, image_latents=codebook()[ids]).logits
    assert got.shape == (2, 21, 48)
    torch.testing.assert_close(got[..., :40], want[..., :40], atol=1e-5, rtol=1e-5)


def test_latents_that_are_no_code_vectors_are_captioned_otherwise(model, ids):
    said, exact = caption_inputs(model), codebook()[ids]
    logits = [model(input_ids=said, image_latents=x).logits[..., :40] for x in (exact, exact + 0.3)]
    assert not torch.allclose(*logits, atol=1e-3)


def test_generation_stays_on_ids(ids):
    codes, latents = pair_of_models()
    asked = {"image_token_ids": ids, "logit_positions": torch.tensor([[0, 3], [5, 9]])}
    assert torch.equal(latents(**asked).image_logits, codes(**asked).image_logits)


def test_generate_reads_the_latents_once_for_all_beams(model, ids):
    options = {"num_beams": 3, "max_new_tokens": 5, "do_sample": False}
    together = model.generate(image_latents=codebook()[ids], **options)
    beside_ids = model.generate(**model.inputs_from_ids(ids), **options)
    assert torch.equal(together, beside_ids)


@pytest.mark.parametrize("trained", [True, False])
def test_the_cycle_reaches_the_image_decoder_through_code_vectors(model, ids, trained):
    model.train()
    embeds = torch.randn(2, 3, 10, generator=torch.Generator().manual_seed(2), requires_grad=True)
    wide, narrow = MaskRatio(), MaskRatio(high=0.75)
    masks = draw_mask(16, wide, "half", generators(1, 2)), draw_mask(16, narrow, "half", generators(3, 4))
    noise = gumbel_noise(16, 23, generators(5, 6))
    settings = TextCycleSettings(train_code_embeddings=trained)
    condition = TextCondition(embeds, text_batch()["attention_mask"])
    cycle = t2i2t_loss(model, text_batch(), condition, ids, masks, noise, settings)
    cycle.loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    for name in ("image_decoder.head_dense.weight", "image_decoder.layers.0.fc1.weight"):
        assert gradients[name].isfinite().all() and gradients[name].abs().sum() > 0
    assert gradients["model.embed_image_latents.projection.weight"].abs().sum() > 0
    assert embeds.grad is None or not embeds.grad.any()  # the first encoder pass is not trained


def test_the_cycle_has_the_gradient_that_it_has_on_codes(ids):
    models, found = pair_of_models(), []
    embeds = torch.randn(2, 3, 10, generator=torch.Generator().manual_seed(2))
    whole = MaskRatio(0.6, 0.0, 0.6, 0.6)
    for model in models:
        masks = tuple(draw_mask(16, whole, "half", generators(seed, seed + 1)) for seed in (1, 3))
        condition = TextCondition(embeds, text_batch()["attention_mask"])
        noise = gumbel_noise(16, 23, generators(5, 6))
        cycle = t2i2t_loss(model, text_batch(), condition, ids, masks, noise)
        found.append([cycle.loss, *torch.autograd.grad(cycle.loss, list(model.image_decoder.layers.parameters()))])
    for on_codes, on_latents in zip(*found, strict=True):
        torch.testing.assert_close(on_latents, on_codes, atol=1e-6, rtol=1e-4)


def test_a_straight_through_image_is_seen_as_the_generated_one(model, ids):
    torch.nn.init.normal_(model.model.embed_image_latents.projection.weight)
    said, soft = caption_inputs(model), torch.nn.functional.one_hot(ids, 23).float()
    places = torch.arange(16).expand(2, -1)
    got = model(input_ids=said, image_token_ids=ids * 0, soft_tokens=SoftTokens(soft, places)).logits
    assert torch.equal(got, model(input_ids=said, **model.inputs_from_ids(ids)).logits)


def test_an_unknown_name_is_refused(pipe):
    with pytest.raises(ValueError, match="`image_features` must be one of"):
        ITITProcessor(pipe.image_processor, pipe.tokenizer, pipe.image_tokenizer, "pixels")
    with pytest.raises(StrictDataclassError, match="`image_features` must be one of"):
        tiny_config(image_features="pixels")


@pytest.mark.parametrize("changes", [{"image_features": "latents"}, LATENTS | {"image_latent_size": 0}])
def test_latents_without_a_size_are_refused(changes):
    with pytest.raises(StrictDataclassError, match="`image_latent_size` must be at least 1"):
        tiny_config(**changes)
    with pytest.raises(StrictDataclassError, match="and None without"):
        tiny_config(image_latent_size=8)


def test_a_image_without_latents_is_refused(model, ids):
    said = caption_inputs(model)
    with pytest.raises(ValueError, match="`image_latents` must be given"):
        model(input_ids=said, image_token_ids=ids)
    with pytest.raises(ValueError, match="`image_latents` must be given"):
        model.generate(image_token_ids=ids, max_new_tokens=2)
    with pytest.raises(ValueError, match="must have 8 channels, got shape"):
        model(input_ids=said, image_latents=torch.zeros(2, 16, 7))
    with pytest.raises(ValueError, match="wanted 16 image tokens per sample, got 9"):
        model(input_ids=said, image_latents=torch.zeros(2, 9, 8))


def test_latents_are_refused_by_a_model_of_codes(ids):
    codes, _ = pair_of_models()
    with pytest.raises(ValueError, match="`image_latents` must be None"):
        codes(input_ids=caption_inputs(codes), image_token_ids=ids, image_latents=codebook()[ids])


@pytest.mark.parametrize("kind", [ITITForPreTraining, ITITForCaptioning, ITITForImageGeneration])
def test_a_checkpoint_of_latents_opens_in_each_class(model, ids, tmp_path, kind):
    model.save_pretrained(tmp_path)
    loaded, info = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert loaded.config.image_features == "latents" and not info["missing_keys"]
    assert torch.equal(loaded.model.embed_image_latents.codebook, codebook())
    if kind is not ITITForImageGeneration:
        said, image = caption_inputs(model), model.inputs_from_ids(ids)
        assert torch.equal(loaded.eval()(input_ids=said, **image).logits, model(input_ids=said, **image).logits)


def test_the_committed_checkpoint_is_one_of_codes():
    model, info = ITITForPreTraining.from_pretrained(CHECKPOINT, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.config.image_features == "codes" and model.model.embed_image_latents is None
    assert not any("latents" in name for name in model.state_dict())
    ids = torch.arange(64)[None] * 7 % model.config.codebook_size
    said = torch.tensor([[model.config.image_token_id] * 65 + [model.config.bos_token_id, 5, 9]])
    with torch.no_grad():  # as the encoder embeds the ids itself
        features = model.eval().model(image_token_ids=ids).last_hidden_state
        want = model(input_ids=said, encoder_hidden_states=features).logits
        assert torch.equal(model(input_ids=said, image_token_ids=ids).logits, want)


def test_the_processor_makes_latents_and_keeps_its_name(pipe, tmp_path):
    images = [row["image"] for row in tiny_pairs(3)]
    made = pipe.processor(images=images)
    assert made.image_latents.shape == (3, 16, 8) and made.image_latents.dtype == torch.float32
    distances = torch.cdist(made.image_latents, pipe.image_tokenizer.quantize.embedding.weight.detach())
    assert torch.equal(distances.argmin(dim=-1), made.image_token_ids)  # its codes are the nearest ones
    pipe.processor.save_pretrained(tmp_path)
    again = ITITProcessor.from_pretrained(tmp_path)
    assert again.image_features == "latents"
    assert torch.equal(again(images=images).image_latents, made.image_latents)


def test_pairs_keep_their_latents_in_a_column(pipe):
    pairs = tiny_pairs(3)
    tokenized = add_image_token_ids(pairs, pipe.processor)
    want = pipe.processor(images=[row["image"] for row in pairs]).image_latents
    assert torch.equal(torch.tensor(tokenized["image_latents"][:]), want)
    assert add_image_token_ids(tokenized, pipe.processor) is tokenized
    bare = ITITProcessor(pipe.image_processor, pipe.tokenizer, pipe.image_tokenizer)
    ids_alone = add_image_token_ids(pairs, bare)
    assert "image_latents" not in ids_alone.column_names and ids_alone._fingerprint != tokenized._fingerprint
    with pytest.raises(ValueError, match="the images are needed for the columns"):
        add_image_token_ids(ids_alone.remove_columns("image"), pipe.processor)


def test_the_pipeline_describes_scores_and_cycles(pipe, tmp_path):
    pipe.set_progress_bar_config(disable=True)
    image = tiny_pairs(1)[0]["image"]
    inputs = pipe.processor(images=[image])
    words = pipe.processor(text=["a red bus"])
    want = caption_log_likelihoods(pipe.model, inputs.image_token_ids, words, inputs.image_latents)
    torch.testing.assert_close(pipe.score(image, "a red bus").log_likelihoods, want.log_likelihoods)
    assert len(pipe.cycle("a red bus", rounds=1, generator=generators(0), sampling=SamplingSettings(2)).texts[0]) == 2
    pipe.save_pretrained(tmp_path)
    assert ITITPipeline.from_pretrained(tmp_path).caption(image) == pipe.caption(image)


def test_a_drawn_image_is_seen_by_its_code_vectors(pipe, ids):
    image = pipe.model.inputs_from_ids(ids)
    assert torch.equal(image["image_latents"], pipe.image_tokenizer.quantize.embedding.weight[ids])


NAMES = ("t2i", "i2t", "i2i", "t2t", "t2t_copy", "t2i2t", "t2i2t_half", "i2i_unpaired", "i2t2i", "i2t2i_half")


def losses(model, *names):
    torch.manual_seed(2)
    settings = ObjectiveSettings(synthesis_steps=2, synthesis_max_new_tokens=3)
    scheduler = ITITScheduler(mask_token_id=23)
    loss_of = ITITObjectives(names, model.config, tiny_text_encoder(), settings=settings, scheduler=scheduler)
    ids = torch.randint(23, (2, 16), generator=torch.Generator().manual_seed(1))
    part = text_batch() | {"image_token_ids": ids, "sample_index": torch.arange(2)}
    part["image_latents"] = codebook()[ids] + 0.1
    return loss_of, loss_of(model, {"paired": part, "image": part, "text": part})


@pytest.mark.parametrize("name", NAMES)
def test_each_objective_trains_what_is_not_idle(model, name):
    loss_of, found = losses(model.train(), name)
    found[name].backward()
    watched = ("text_decoder", "image_decoder", "model.embed_image_latents")
    idle = {part for part in watched if all(p.grad is None for p in model.get_submodule(part).parameters())}
    assert set(loss_of.untrained_modules) == idle and found[name].isfinite()


def test_image_to_image_has_a_pass_of_its_own(model):
    _, found = losses(model, "i2t", "i2i")
    found["i2i"].backward()
    assert model.model.embed_image_latents.projection.weight.grad is None


def training(pipe, folder, processor, max_steps=2):
    arguments = {"objectives": ["i2t", "t2i"], "max_steps": max_steps, "per_device_train_batch_size": 4}
    quiet = {"report_to": [], "disable_tqdm": True, "use_cpu": True, "save_steps": 1}
    pairs = add_image_token_ids(tiny_pairs(8), pipe.processor)
    return ITITTrainer(
        model=pipe.model,
        args=ITITTrainingArguments(output_dir=str(folder), **arguments, **quiet),
        processing_class=processor,
        text_encoder=pipe.text_encoder,
        train_streams={"paired": pairs},
        eval_dataset=pairs,
    )


def test_the_trainer_trains_the_projection_and_keeps_the_codebook(pipe, tmp_path):
    embedding = pipe.model.model.embed_image_latents
    embedding.codebook.zero_()
    before = embedding.projection.weight.detach().clone()
    trainer = training(pipe, tmp_path, pipe.processor)
    trainer.train()
    assert torch.equal(embedding.codebook, pipe.image_tokenizer.quantize.embedding.weight)
    assert not torch.equal(embedding.projection.weight, before)
    assert trainer.evaluate()["eval_loss_i2t"] > 0
    loaded = ITITForPreTraining.from_pretrained(tmp_path / "checkpoint-2")
    assert torch.equal(loaded.model.embed_image_latents.projection.weight, embedding.projection.weight)


def test_a_processor_of_other_features_is_refused(pipe, tmp_path):
    bare = ITITProcessor(pipe.image_processor, pipe.tokenizer, pipe.image_tokenizer)
    with pytest.raises(ValueError, match="`image_features` must be 'latents', the model's"):
        training(pipe, tmp_path, bare)


def test_a_codebook_of_another_shape_is_refused(model):
    with pytest.raises(ValueError, match=r"`codebook` must be \(23, 8\), got \(23, 4\)"):
        model.model.embed_image_latents.set_codebook(torch.zeros(23, 4))


def test_configurations_without_the_field_are_of_codes():
    values = tiny_config().to_dict()
    values.pop("image_features")
    assert ITITConfig.from_dict(values).image_features == "codes"
