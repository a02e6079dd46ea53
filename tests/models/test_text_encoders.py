# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Text encoders of every kind: begin, end and empty text as they have them, and words that are predicted."""

import pytest
import torch

from itit_hf import ITITForPreTraining, ITITPipeline, ITITProcessor, ITITScheduler
from itit_hf.models.configuration_itit import text_fields
from itit_hf.objectives.forward import caption_inputs
from itit_hf.objectives.objectives import ITITObjectives, ObjectiveSettings, synthetic_text
from itit_hf.training.setup import set_null_text

from ..testing_utils import generators, tiny_config, tiny_pairs, tiny_pipeline
from ..text_encoders import CASES, CORPUS, BertTokenizer, encoder_for


@pytest.fixture(params=CASES)
def tokenizer(request):
    return CASES[request.param]()


@pytest.fixture
def text_encoder(tokenizer):
    return encoder_for(tokenizer).requires_grad_(False)


def config_for(tokenizer, text_encoder):
    fields = text_fields(tokenizer, text_encoder.config)
    return tiny_config(**(fields | {"text_hidden_size": 16}))


@pytest.fixture
def pipe(tokenizer, text_encoder):
    tiny = tiny_pipeline()
    torch.manual_seed(0)
    model = ITITForPreTraining(config_for(tokenizer, text_encoder)).eval()
    set_null_text(model, ITITProcessor(tiny.image_processor, tokenizer, None), text_encoder)
    modules = tiny.components | {"model": model, "tokenizer": tokenizer, "text_encoder": text_encoder}
    pipe = ITITPipeline(**modules)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def rows(tokenizer, texts=CORPUS) -> dict[str, torch.Tensor]:
    encoded = tokenizer(list(texts), padding=True, return_tensors="pt")
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


def test_the_configuration_has_begin_and_end_of_the_tokenizer(tokenizer, text_encoder):
    config = config_for(tokenizer, text_encoder)
    around = tokenizer("").input_ids
    assert config.text_begins_with_bos == (len(around) == 2)
    assert config.eos_token_id == around[-1]
    assert config.bos_token_id == (around[0] if len(around) == 2 else len(tokenizer))
    assert config.num_prefix_tokens == 16 + len(around)


def test_a_tokenizer_with_more_around_a_text_is_refused():
    class Wordy(BertTokenizer):
        def __call__(self, text):
            return {"input_ids": [2, 4, 3]} and type("Row", (), {"input_ids": [2, 4, 3]})

    tokenizer = Wordy(vocab={"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4})
    with pytest.raises(ValueError, match=r"begin it with one.*'\[CLS\]', '\[MASK\]', '\[SEP\]'"):
        text_fields(tokenizer, None)


def test_the_null_text_is_the_empty_text_as_the_encoder_reads_it(pipe):
    empty = pipe.text_encoder(**rows(pipe.tokenizer, [""])).last_hidden_state
    assert torch.equal(pipe.model.null_text_embeds, empty)


def test_features_that_a_user_computes_are_those_of_the_prompt(pipe):
    condition = pipe.text_encoder(**rows(pipe.tokenizer, CORPUS[:1])).last_hidden_state
    options = {"num_inference_steps": 3, "output_type": "latent"}
    from_words = pipe(CORPUS[0], generator=generators(0), **options).images
    from_features = pipe(prompt_embeds=condition, generator=generators(0), **options).images
    assert torch.equal(from_words, from_features)


def test_captions_are_trained_on_words_and_end_alone(tokenizer, text_encoder):
    config = config_for(tokenizer, text_encoder)
    ids, labels = caption_inputs(config, rows(tokenizer, CORPUS[:1]), prefix_length=2)
    around = tokenizer("").input_ids
    words = tokenizer(CORPUS[0], add_special_tokens=False).input_ids
    assert labels[0].tolist() == [*words, around[-1]]
    assert ids[0].tolist() == [config.image_token_id] * 2 + [config.bos_token_id, *words]


def test_a_generated_text_has_the_form_of_a_given_one(tokenizer, text_encoder):
    config = config_for(tokenizer, text_encoder)
    ids, labels = caption_inputs(config, rows(tokenizer, CORPUS[:1]), config.num_prefix_tokens)
    generated = torch.cat([ids, labels[:, -1:]], dim=1)
    text = synthetic_text(config, generated)
    assert text["input_ids"].tolist() == rows(tokenizer, CORPUS[:1])["input_ids"].tolist()
    assert text["attention_mask"].all()


def test_every_objective_has_a_loss_and_a_gradient(pipe):
    names = ("t2i", "i2t", "i2i", "t2t", "t2i2t", "i2t2i")
    settings = ObjectiveSettings(synthesis_steps=2, synthesis_max_new_tokens=4)
    objectives = ITITObjectives(
        names, pipe.model.config, pipe.text_encoder, settings=settings, scheduler=ITITScheduler(mask_token_id=23)
    )
    image_token_ids = torch.randint(23, (3, 16), generator=torch.Generator().manual_seed(1))
    batch = rows(pipe.tokenizer) | {"image_token_ids": image_token_ids, "sample_index": torch.arange(3)}
    losses = objectives(pipe.model, {"paired": batch, "image": batch, "text": batch})
    assert set(losses) == set(names)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert pipe.model.text_decoder.embed_tokens.weight.grad.isfinite().all()


def test_a_special_token_in_a_text_is_words(pipe):
    end = pipe.tokenizer.convert_ids_to_tokens(pipe.model.config.eos_token_id)
    ids = pipe.processor(text=[f"a red {end} bus"]).input_ids[0]
    assert ids.tolist().count(pipe.model.config.eos_token_id) == 1


def test_a_saved_pipeline_opens_and_gives_the_same(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    opened = ITITPipeline.from_pretrained(tmp_path)
    opened.set_progress_bar_config(disable=True)
    image = tiny_pairs(1)[0]["image"]
    assert opened.caption(image, max_new_tokens=4) == pipe.caption(image, max_new_tokens=4)
    options = {"num_inference_steps": 2, "output_type": "latent"}
    images = pipe(CORPUS[0], generator=generators(0), **options).images
    assert torch.equal(opened(CORPUS[0], generator=generators(0), **options).images, images)


def test_a_caption_goes_on_from_given_words(pipe):
    (caption,) = pipe.caption(tiny_pairs(1)[0]["image"], prompt="a small red", max_new_tokens=3)
    assert caption.replace(" ", "").startswith("asmallred")
