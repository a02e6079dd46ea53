# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoModelForPreTraining,
    AutoProcessor,
    pipeline,
)
from transformers.pipelines import any_to_any

import itit_hf
from itit_hf.models.configuration_itit import ITITConfig
from itit_hf.models.image_processing_itit import ITITImageProcessorPil
from itit_hf.models.modeling_itit import ITITForCaptioning, ITITForImageGeneration, ITITForPreTraining
from itit_hf.models.processing_itit import ITITProcessor

from ..testing_utils import WORDS, tiny_pipeline

CLASSES = {
    AutoConfig: "ITITConfig",
    AutoModel: "ITITModel",
    AutoModelForImageTextToText: "ITITForCaptioning",
    AutoModelForMultimodalLM: "ITITForCaptioning",
    AutoModelForPreTraining: "ITITForPreTraining",
    AutoProcessor: "ITITProcessor",
    AutoImageProcessor: "ITITImageProcessorPil",
}
SETTINGS = {"num_beams": 2, "max_new_tokens": 6, "do_sample": False}


def make_image(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def pipe():
    """Says nothing but the ten whole words, and never ends by itself."""
    pipe = tiny_pipeline()
    embeddings = pipe.model.text_decoder.embed_tokens.weight.data
    embeddings[:3] = embeddings[3 + len(WORDS) : len(pipe.tokenizer)] = 0
    pixel_values = pipe.processor.image_processor([make_image(9)], return_tensors="pt").pixel_values
    latents = pipe.image_tokenizer.encode(pixel_values).latents  # (1, C, 4, 4)
    codes = latents.detach().flatten(2)[0].T  # random codes are all as far away: every image would be the same ids
    pipe.image_tokenizer.quantize.embedding.weight.data[: len(codes)] = codes
    return pipe


@pytest.fixture(scope="module")
def folder(pipe, tmp_path_factory):
    """A checkpoint with its processor."""
    path = tmp_path_factory.mktemp("checkpoint")
    pipe.model.save_pretrained(path)
    pipe.processor.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def captioner(folder):
    processor = AutoProcessor.from_pretrained(folder)
    return pipeline("image-text-to-text", model=str(folder), processor=processor, device="cpu")


def run(code: str, *arguments, **environment) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **environment}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.splitlines()[-1]


# Opening


@pytest.mark.parametrize("auto_class, name", CLASSES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_auto_class_opens_a_saved_folder(folder, auto_class, name):
    assert type(auto_class.from_pretrained(folder)).__name__ == name


def test_auto_model_has_the_weights(folder, pipe):
    loaded = AutoModelForImageTextToText.from_pretrained(folder).state_dict()
    saved = pipe.model.state_dict()
    assert loaded and all(torch.equal(value, saved[key]) for key, value in loaded.items())


AFTER_A_NAME = """
import sys
import itit_hf
assert not {"torch", "transformers"} & set(sys.modules), "the import is not lazy"
getattr(itit_hf, sys.argv[2])
from transformers import AutoModelForImageTextToText, AutoProcessor
loaded = [auto_class.from_pretrained(sys.argv[1]) for auto_class in (AutoModelForImageTextToText, AutoProcessor)]
print(*(type(one).__name__ for one in loaded), loaded[1].image_tokenizer is not None)
"""


@pytest.mark.parametrize("name", ["ITITConfig", "load_image"])
def test_the_package_imports_lazily_and_a_name_of_its_models_registers_all_of_them(folder, name):
    assert run(AFTER_A_NAME, folder, name) == "ITITForCaptioning ITITProcessor True"


# The pipeline of transformers


def test_pipeline_says_what_our_pipeline_says(captioner, pipe):
    images = [make_image(seed) for seed in range(4)]
    said = [one["generated_text"] for one in captioner(images=images, text=[""] * 4, generate_kwargs=SETTINGS)]
    assert said == pipe.caption(images, num_beams=2, max_new_tokens=6)


def test_pipeline_sees_the_image(captioner, pipe):
    images = [make_image(0), Image.new("RGB", (16, 16), "white")]
    ids = [captioner.preprocess({"images": one, "text": ""})["image_token_ids"] for one in images]
    assert torch.equal(torch.cat(ids), pipe.processor(images=images).image_token_ids)
    assert not torch.equal(*ids)


def test_pipeline_has_our_settings_by_default(captioner, pipe):
    (said,) = captioner(images=make_image(0), text="")
    assert [said["generated_text"]] == pipe.caption(make_image(0))


def test_pipeline_in_batches_says_the_same(captioner):
    texts = "a red", "", "a blue fish on the", "the"
    inputs = [{"images": make_image(i), "text": text} for i, text in enumerate(texts)]
    alone = [captioner(**one, generate_kwargs=SETTINGS)[0]["generated_text"] for one in inputs]
    together = captioner(images=[one["images"] for one in inputs], text=list(texts), generate_kwargs=SETTINGS)
    assert [one["generated_text"] for one in together] == alone
    for batch_size in (3, 4):
        collated = captioner((one for one in inputs), batch_size=batch_size, generate_kwargs=SETTINGS)
        assert [one[0]["generated_text"] for one in collated] == alone


def test_pipeline_goes_on_from_a_text(captioner, pipe):
    (said,) = captioner(images=make_image(0), text="a red", generate_kwargs=SETTINGS, return_full_text=False)
    config, processor = pipe.model.config, pipe.processor
    words = processor(text="a red").input_ids[:, :-1]
    prefix = torch.full((1, config.num_prefix_tokens + 1), config.image_token_id)
    prefix[:, -1] = config.bos_token_id
    image_token_ids = processor(images=make_image(0)).image_token_ids
    input_ids = torch.cat([prefix, words], dim=1)
    ids = pipe.model.generate(image_token_ids=image_token_ids, input_ids=input_ids, **SETTINGS)
    assert "a red" + said["generated_text"] == processor.decode(ids[0])


def test_a_text_leaves_room_for_the_rest_only(captioner, pipe):
    (said,) = captioner(images=make_image(0), text="a red bus", return_tensors=True, generate_kwargs={"num_beams": 1})
    length = len(said["generated_token_ids"]) - pipe.model.config.num_prefix_tokens - 1
    assert length == pipe.model.config.max_text_length


def test_padding_of_a_text_may_be_on_either_side(pipe):
    image_token_ids = pipe.processor(images=make_image(0)).image_token_ids
    left, right = torch.tensor([[0, 0, 3, 4]]), torch.tensor([[3, 4, 0, 0]])
    said = []
    for ids in (left, right):
        options = {"input_ids": ids, "attention_mask": (ids > 0).long()}
        said.append(pipe.model.generate(image_token_ids=image_token_ids, **options, **SETTINGS))
    assert torch.equal(*said)


def test_what_the_processor_returns_goes_into_the_model(pipe):
    inputs = pipe.processor(images=[make_image(0), make_image(1)])
    assert "pixel_values" in inputs
    said = pipe.processor.batch_decode(pipe.model.generate(**inputs, **SETTINGS))
    assert said == pipe.caption([make_image(0), make_image(1)], num_beams=2, max_new_tokens=6)


# Conversations


def conversation(*assistant: str) -> list[dict]:
    """A user's image, and what the assistant has begun to say to it."""
    image = {"type": "image", "image": make_image(0)}
    messages = [{"role": "user", "content": [image]}]
    return messages + [{"role": "assistant", "content": [{"type": "text", "text": text}]} for text in assistant]


def test_a_conversation_becomes_what_generate_takes(folder, pipe):
    processor, model = AutoProcessor.from_pretrained(folder), AutoModelForMultimodalLM.from_pretrained(folder)
    inputs = processor.apply_chat_template(conversation(), tokenize=True, return_dict=True)
    said = processor.batch_decode(model.generate(**inputs, **SETTINGS))
    assert said == pipe.caption(make_image(0), num_beams=2, max_new_tokens=6)


@pytest.fixture(params=["any-to-any", "image-text-to-text"])
def chat(request, folder, monkeypatch):
    """transformers asks for torchvision, which nothing in it uses for this model, before it makes the first one."""
    monkeypatch.setattr(any_to_any, "requires_backends", lambda *arguments: None)
    processor = AutoProcessor.from_pretrained(folder)
    return pipeline(request.param, model=str(folder), processor=processor, device="cpu")


def test_pipelines_answer_a_conversation_with_a_caption(chat, pipe):
    (said,) = chat(text=conversation(), generate_kwargs=SETTINGS)
    (caption,) = pipe.caption(make_image(0), num_beams=2, max_new_tokens=6)
    assert said["generated_text"][-1] == {"role": "assistant", "content": caption}


def test_pipelines_go_on_from_what_the_assistant_has_begun(chat, captioner):
    (said,) = chat(text=conversation("a red"), generate_kwargs=SETTINGS)
    (wanted,) = captioner(images=make_image(0), text="a red", generate_kwargs=SETTINGS)
    assert said["generated_text"][-1]["content"] == [{"type": "text", "text": wanted["generated_text"]}]


def test_what_goes_out_is_said_and_images_are_refused_by_the_class_that_captions(captioner, pipe):
    assert captioner.model.output_modalities == ("text",) == pipe.model.output_modalities
    assert ITITForImageGeneration.output_modalities == ("image",)
    ids = pipe.processor(images=make_image(0)).image_token_ids
    with pytest.raises(ValueError, match="`generation_mode` must be \"text\", got 'image': .* call `pipe"):
        pipe.model.generate(image_token_ids=ids, generation_mode="image")
    assert pipe.model.generate(image_token_ids=ids, generation_mode="text", **SETTINGS).ndim == 2


# Remote code


REMOTE = """
import sys
sys.modules["itit_hf"] = None  # any import of it fails
from PIL import Image
import transformers
folder, names = sys.argv[1], sys.argv[2:]
loaded = [getattr(transformers, name).from_pretrained(folder, trust_remote_code=True) for name in names]
model, processor = loaded[:2]
images = Image.open(folder + "/image.png")
inputs = processor(images=images, text="")
said = processor.batch_decode(model.generate(**inputs, num_beams=2, max_new_tokens=6, do_sample=False))
assert all(type(one).__module__.startswith("transformers_modules.") for one in loaded)
print(*(type(one).__name__ for one in loaded), said[0])
"""


@pytest.fixture
def remote_folder(pipe, folder, tmp_path, monkeypatch):
    """A folder with the code beside the weights."""
    for cls, auto_class in (
        (ITITConfig, "AutoConfig"),
        (ITITForCaptioning, "AutoModelForImageTextToText"),
        (ITITProcessor, "AutoProcessor"),
        (ITITImageProcessorPil, "AutoImageProcessor"),
    ):
        monkeypatch.setattr(cls, "_auto_class", None)  # put back after the test
        cls.register_for_auto_class(auto_class)
    path = tmp_path / "remote"
    ITITForCaptioning.from_pretrained(folder).save_pretrained(path)
    pipe.processor.save_pretrained(path)
    make_image(0).save(path / "image.png")
    return path


def test_remote_code_captions_without_the_package(remote_folder, pipe, tmp_path):
    names = ["AutoModelForImageTextToText", "AutoProcessor", "AutoConfig", "AutoImageProcessor"]
    printed = run(REMOTE, remote_folder, *names, HF_MODULES_CACHE=str(tmp_path / "modules"))
    (caption,) = pipe.caption(make_image(0), num_beams=2, max_new_tokens=6)
    classes = "ITITForCaptioning ITITProcessor ITITConfig ITITImageProcessorPil"
    assert printed.strip() == f"{classes} {caption}".strip()


def test_a_folder_with_code_opens_in_the_package_itself(remote_folder):
    assert "auto_map" in json.loads((remote_folder / "config.json").read_text())
    assert type(AutoModelForImageTextToText.from_pretrained(remote_folder)) is ITITForCaptioning
    assert not isinstance(AutoModelForImageTextToText.from_pretrained(remote_folder), ITITForPreTraining)


DIFFUSERS = """
import sys
if sys.argv[1] == "first":
    import diffusers
from itit_hf import ITITPipeline
import diffusers
print(diffusers.ITITPipeline is ITITPipeline, hasattr(diffusers, "ITITPipelines"))
"""


@pytest.mark.parametrize("slow", ["", "1"])
@pytest.mark.parametrize("order", ["first", "last"])
def test_diffusers_knows_the_pipeline_once_it_is_imported(order, slow):
    assert run(DIFFUSERS, order, DIFFUSERS_SLOW_IMPORT=slow) == "True False"


WITHOUT_THE_PACKAGE = """
import sys
from diffusers import DiffusionPipeline
try:
    DiffusionPipeline.from_pretrained(sys.argv[1])
except AttributeError as error:
    print(error)
"""


def test_diffusers_alone_names_the_class_that_it_lacks(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    assert run(WITHOUT_THE_PACKAGE, tmp_path) == "module diffusers has no attribute ITITPipeline"


# What travels: with what a captioner and its processor reach, and nothing that uploads, writes cards or distributes.
TRAVELLING = {
    "cache_itit.py",
    "compilation_itit.py",
    "configuration_itit.py",
    "cpu_kernels_itit.py",
    "forward_inputs_itit.py",
    "generation_itit.py",
    "image_loading_itit.py",
    "image_processing_itit.py",
    "image_tokenization_itit.py",
    "layers_itit.py",
    "modeling_itit.py",
    "modeling_outputs_itit.py",
    "placement_itit.py",
    "processing_itit.py",
    "straight_through_itit.py",
    "types_itit.py",
    "vocabulary_itit.py",
    "weight_files_itit.py",
}


def test_only_files_of_models_travel(remote_folder):
    models = Path(itit_hf.__file__).parent / "models"
    travelling = {path.name for path in remote_folder.glob("*.py")}
    assert travelling == TRAVELLING
    for name in travelling:
        assert (remote_folder / name).read_bytes() == (models / name).read_bytes()


@pytest.mark.parametrize("word", ["HfApi", "upload_folder", "create_repo", "ModelCard", "model_card", "accelerate"])
def test_no_file_that_travels_uploads_writes_cards_or_distributes(remote_folder, word):
    imported = set()
    for path in remote_folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                imported |= {*(node.module or "").split("."), *(alias.name for alias in node.names)}
            elif isinstance(node, ast.Import):
                imported |= {part for alias in node.names for part in alias.name.split(".")}
    assert "PreTrainedModel" in imported and word not in imported


def test_what_is_trained_brings_no_other_file(folder, tmp_path, monkeypatch):
    """The model with both decoders, as a training or a reward would publish it."""
    monkeypatch.setattr(ITITForPreTraining, "_auto_class", None)
    ITITForPreTraining.register_for_auto_class("AutoModelForPreTraining")
    ITITForPreTraining.from_pretrained(folder).save_pretrained(tmp_path)
    files = {path.name for path in tmp_path.glob("*.py")}
    assert "modeling_itit.py" in files and files < TRAVELLING
