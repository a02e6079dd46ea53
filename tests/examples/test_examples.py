# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The scripts of examples/, in process, with the tiny pipeline."""

import ast
import importlib
import json
import logging
import shutil

import PIL.Image
import pytest

from itit_hf import ITITForPreTraining, ITITPipeline, ITITTrainingArguments
from itit_hf.commands import train as training
from itit_hf.models.image_processing_itit import load_image_processor

from ..testing_utils import ROOT, script, tiny_pairs, tiny_text_encoder, tiny_tokenizer

COMMANDS = ROOT / "src" / "itit_hf" / "commands"


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    with open(folder / "metadata.jsonl", "w") as file:
        for i, row in enumerate(tiny_pairs(8)):
            row["image"].save(folder / f"{i}.png")
            file.write(json.dumps({"file_name": f"{i}.png", "text": row["text"][0]}) + "\n")
    return str(folder)


SCRIPTS = {
    "generate_image": "generate",
    "caption_image": "caption",
    "train_itit": "train",
    "evaluate_itit": "evaluate",
    "app": "app",
    "convert_data": "convert",
}


@pytest.mark.parametrize(("name", "command"), SCRIPTS.items())
def test_a_script_that_is_a_command_too_holds_no_code_of_its_own(name, command):
    assert script(name).main is importlib.import_module(f"itit_hf.commands.{command}").main
    body = ast.parse((ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")).body
    assert [type(each).__name__ for each in body] == ["Expr", "ImportFrom", "If"]  # its docstring first


def lines_of_a_cycle(caplog, *arguments):
    with caplog.at_level(logging.INFO):
        script("cycle").main([*arguments, "--num_inference_steps", "2", "--num_beams", "1"])
    return [record.message for record in caplog.records if record.name == "cycle"]


def test_cycle_writes_a_figure_and_a_line_for_each_text_and_each_image(pipeline_folder, tmp_path, caplog):
    arguments = ["--model", pipeline_folder, "--output", str(tmp_path / "new" / "cycle.png"), "--rounds", "3"]
    lines = lines_of_a_cycle(caplog, "--prompt", "a red bus", *arguments)
    assert lines[0] == "given: the first text: 'a red bus'"
    names = ["given", "round 1", "round 2", "round 3", "round 1", "round 2", "round 3"]
    assert [line.split(":")[0] for line in lines[:-1]] == names and "the first image, log p -" in lines[4]
    assert PIL.Image.open(tmp_path / "new" / "cycle.png").size == (4 * 200 + 8, 2 * 234 + 8)


def test_cycle_starts_from_a_image_too(pipeline_folder, image_folder, tmp_path, caplog):
    arguments = ["--model", pipeline_folder, "--output", str(tmp_path / "cycle.png"), "--rounds", "2"]
    lines = lines_of_a_cycle(caplog, "--image", f"{image_folder}/0.png", *arguments)
    assert [line.split(":")[0] for line in lines[:-1]] == ["round 1", "round 2", "given", "round 1", "round 2"]
    given = PIL.Image.open(tmp_path / "cycle.png").getpixel((8 + 96, 8 + 96))  # an image stands first, not a text
    assert given != (240, 240, 240)


def train(pipeline_folder, image_folder, output_dir, *more):
    arguments = ["--frozen_parts", pipeline_folder, "--paired_dataset", image_folder]
    arguments += ["--output_dir", str(output_dir), "--per_device_train_batch_size", "8", "--logging_steps", "1"]
    arguments += ["--save_steps", "2", "--sample_steps", "0", "--use_cpu", "--disable_tqdm", "true"]
    arguments += ["--i2i_batch_fraction", "1.0", "--i2t_batch_fraction", "1.0"]
    script("train_itit").main([*arguments, *more])


def test_train_itit_trains_on_a_folder_of_images_and_saves_a_pipeline(pipeline_folder, image_folder, tmp_path):
    train(pipeline_folder, image_folder, tmp_path, "--max_steps", "2")
    pipe = ITITPipeline.from_pretrained(tmp_path / "pipeline")
    assert pipe.model.config.codebook_size == 23 and len(pipe("a red bus", num_inference_steps=2).images) == 1
    assert any((tmp_path / "samples").iterdir())


def test_image_tokens_that_are_made_online_are_those_that_are_made_ahead(pipeline_folder, image_folder, tmp_path):
    losses = []
    for tokenize in ("ahead", "online"):
        folder = tmp_path / tokenize
        train(pipeline_folder, image_folder, folder, "--max_steps", "2", "--tokenize", tokenize)
        state = json.loads((folder / "checkpoint-2" / "trainer_state.json").read_text())
        losses.append([entry["loss"] for entry in state["log_history"] if "loss" in entry])
    assert len(losses[0]) == 2 and losses[0] == losses[1]


@pytest.mark.parametrize(("name", "value"), [("tokenize", "never"), ("data_access", "fast")])
def test_train_itit_refuses_a_way_of_reading_that_there_is_not(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be one of .*, got '{value}'"):
        training.ScriptArguments(**{name: value})


def test_train_itit_keeps_its_pipeline_if_the_last_evaluation_fails(
    pipeline_folder, image_folder, tmp_path, monkeypatch
):
    def fail(trainer):
        raise RuntimeError("no memory left")

    monkeypatch.setattr("itit_hf.training.trainer.ITITTrainer.evaluate", fail)
    with pytest.raises(RuntimeError, match="no memory left"):
        train(pipeline_folder, image_folder, tmp_path, "--max_steps", "1", "--eval_split", "train[:4]")
    assert ITITPipeline.from_pretrained(tmp_path / "pipeline").model.config.codebook_size == 23


def test_train_itit_takes_bad_images_out_of_the_evaluation_and_keeps_the_rule_for_wide_ones(
    pipeline_folder, image_folder, tmp_path, caplog
):
    logging.getLogger("itit_hf").propagate = True
    folder = tmp_path / "mine"
    shutil.copytree(image_folder, folder)
    (folder / "6.png").write_bytes(b"<html>")
    splits = ["--paired_split", "train[:4]", "--eval_split", "train[4:]", "--max_steps", "1", "--sample_steps", "1"]
    with pytest.raises(ValueError, match=r"row 2 of `train\[4:\]` .*6.png.* it cannot be read"):
        train(pipeline_folder, str(folder), tmp_path / "out", *splits)
    train(pipeline_folder, str(folder), tmp_path / "out", *splits, "--on_bad_image", "skip", "--aspect_ratio", "pad")
    assert "`train[4:]`: 1 of 4 images cannot be used" in caplog.text
    assert ITITPipeline.from_pretrained(tmp_path / "out" / "pipeline").image_processor.aspect_ratio == "pad"


def test_the_rule_of_an_image_tokenizer_is_that_of_the_model(pipeline_folder, tmp_path):
    pipe = ITITPipeline.from_pretrained(pipeline_folder)
    pipe.image_tokenizer.save_pretrained(tmp_path)
    source = (pipeline_folder, str(tmp_path))
    assert load_image_processor(*source).to_dict() == pipe.image_processor.to_dict()
    pipe.image_processor.with_size(16, 16, "crop").save_pretrained(tmp_path)  # as train_vq.py does
    assert load_image_processor(*source).aspect_ratio == "crop"
    found = load_image_processor(*source, resolution=[32])
    assert (found.aspect_ratio, dict(found.size)) == ("crop", {"height": 32, "width": 32})
    assert load_image_processor(*source, aspect_ratio="squeeze").aspect_ratio == "squeeze"
    with pytest.raises(ValueError, match="`aspect_ratio` must be one of"):
        training.ScriptArguments(aspect_ratio="stretch")


def test_only_emoji_scenes_have_prompts_of_their_own(tmp_path):
    settings = ITITTrainingArguments(str(tmp_path), use_cpu=True)
    training.choose_sample_prompts(training.ScriptArguments(paired_dataset="mine"), settings)
    assert settings.sample_prompts is None
    training.choose_sample_prompts(training.ScriptArguments(), settings)
    assert settings.sample_prompts[0] == "a red bus"


def test_train_itit_goes_on_from_its_last_checkpoint(pipeline_folder, image_folder, tmp_path):
    train(pipeline_folder, image_folder, tmp_path / "whole", "--max_steps", "4")
    # Interrupted after step 2: the schedule is that of the whole run.
    train(pipeline_folder, image_folder, tmp_path / "cut", "--max_steps", "4")
    for name in ("checkpoint-4", "pipeline", "samples"):
        (tmp_path / "cut" / name).rename(tmp_path / f"away-{name}")
    train(pipeline_folder, image_folder, tmp_path / "cut", "--max_steps", "4", "--resume_from_checkpoint")
    whole, cut = (ITITForPreTraining.from_pretrained(tmp_path / f / "pipeline" / "model") for f in ("whole", "cut"))
    for (name, ours), theirs in zip(whole.named_parameters(), cut.parameters(), strict=True):
        assert ours.equal(theirs), name


def test_train_itit_mixes_what_its_start_knows_into_the_pairs(pipeline_folder, image_folder, tmp_path, caplog):
    (tmp_path / "known.txt").write_text("a red bus\nthe green tree\n", encoding="utf-8")
    start = ["--model_name_or_path", f"{pipeline_folder}/model", "--max_steps", "1"]
    known = ["--prior_images", "4", "--prior_prompts", str(tmp_path / "known.txt"), "--prior_fraction", "0.25"]
    with caplog.at_level(logging.INFO, "itit_hf"):
        train(pipeline_folder, image_folder, tmp_path, *start, *known)
    assert "12 rows of 8 new pairs, and 4 of 4 of the start's own" in caplog.text


@pytest.mark.parametrize("arguments", [[], ["--model_name_or_path", "{}/model", "--objectives", "t2t"]])
def test_train_itit_refuses_a_prior_without_a_start_or_without_pairs(
    pipeline_folder, image_folder, tmp_path, arguments
):
    (tmp_path / "known.txt").write_text("a red bus\n", encoding="utf-8")
    texts = ["--text_dataset", str(tmp_path / "known.txt"), "--prior_prompts", str(tmp_path / "known.txt")]
    given = [each.format(pipeline_folder) for each in arguments]
    with pytest.raises(ValueError, match="`prior_images` are what `model_name_or_path` generates"):
        train(pipeline_folder, image_folder, tmp_path, *given, *texts, "--prior_images", "4")


@pytest.mark.parametrize("resolution", [["24"], ["16", "32"]])
def test_adapt_checkpoint_writes_a_pipeline_for_larger_images_and_other_words(pipeline_folder, tmp_path, resolution):
    tiny_text_encoder().save_pretrained(tmp_path / "t5")
    tiny_tokenizer().save_pretrained(tmp_path / "t5")
    given = ["--model", pipeline_folder, "--resolution", *resolution, "--text_encoder", str(tmp_path / "t5")]
    script("adapt_checkpoint").main([*given, "--output_dir", str(tmp_path / "start")])
    pipe = ITITPipeline.from_pretrained(tmp_path / "start")
    assert pipe.model.config.text_encoder_name_or_path == str(tmp_path / "t5")
    image = pipe("a red bus", num_inference_steps=2).images[0]
    height, width = int(resolution[0]), int(resolution[-1])
    assert image.size == (width, height) and isinstance(pipe.caption(image, max_new_tokens=4)[0], str)


@pytest.mark.parametrize(
    "arguments, message", [([], "nothing to adapt"), (["--resolution", "18"], "multiple of 4.*got 18")]
)
def test_adapt_checkpoint_refuses_what_it_cannot_do(pipeline_folder, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        script("adapt_checkpoint").main(
            ["--model", pipeline_folder, "--output_dir", str(tmp_path / "start"), *arguments]
        )
    assert not (tmp_path / "start").exists()


def calls_of_load_rows():
    for path in sorted([*(ROOT / "examples").rglob("*.py"), *COMMANDS.glob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "load_rows":
                names = {keyword.arg for keyword in node.keywords}
                yield path.name, len(node.args) >= 3 or bool(names & {"columns", None})


def test_every_script_that_reads_rows_lets_their_columns_be_named():
    found = list(calls_of_load_rows())
    assert len({name for name, _ in found}) >= 10
    assert [name for name, has_columns in found if not has_columns] == []


def test_no_script_opens_data_by_itself():
    readers = ("load_dataset(", "load_from_disk", "Image.open(")
    folders = (ROOT / "examples", ROOT / "examples" / "experimental", COMMANDS)
    paths = [path for folder in folders for path in folder.glob("*.py")]
    scripts = {path.name: path.read_text(encoding="utf-8") for path in paths}
    del scripts["run_onnx.py"]  # it runs where this package is not
    assert len(scripts) >= 15
    assert [(name, reader) for name, text in scripts.items() for reader in readers if reader in text] == []
