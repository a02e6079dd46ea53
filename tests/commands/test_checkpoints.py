# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
from huggingface_hub import HfApi

from itit_hf.commands import generate
from itit_hf.commands.checkpoints import HUB_OWNER, PUBLISHED, load_pipeline, locate
from itit_hf.models.image_processing_itit import has_image_processor, load_image_processor

from ..hub_server import HubServer
from ..testing_utils import ROOT, tiny_pipeline

NAME = "checkpoints/emoji-scenes-64"


@pytest.fixture(scope="module")
def hub(tmp_path_factory, pipeline_folder):
    """A Hub with a tiny pipeline in place of the committed one."""
    with HubServer(tmp_path_factory.mktemp("hub")) as server:
        HfApi().create_repo(f"{HUB_OWNER}/emoji-scenes-64")
        HfApi().upload_folder(repo_id=f"{HUB_OWNER}/emoji-scenes-64", folder_path=pipeline_folder)
        yield server


def test_a_folder_that_is_there_is_taken(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert locate(NAME, "--model") == NAME


@pytest.mark.parametrize("source", ["me/mine", "out/mine/pipeline", "checkpoints/mine", "emoji-scenes-64"])
def test_what_is_none_of_the_published_folders_stays_as_it_is(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert locate(source, "--model") == source


def test_outside_a_checkout_the_repository_of_the_hub_is_taken(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert locate(NAME, "--model") == "itit-hf/emoji-scenes-64"
    below = locate(f"{NAME}/model", "--model_name_or_path")
    assert below.startswith(hub.cache_dir) and below.endswith("/model")


def test_an_image_is_generated_in_an_empty_folder(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generate.main(["a red bus", "--num_inference_steps", "2"])
    assert (tmp_path / "out" / "images" / "00-a-red-bus.png").is_file()


def test_an_image_processor_beside_an_image_tokenizer_is_read_from_the_hub_too(hub, tmp_path):
    pipe = tiny_pipeline()
    for name, parts in (("whole", ("image_tokenizer", "image_processor")), ("bare", ("image_tokenizer",))):
        for part in parts:
            getattr(pipe, part).save_pretrained(tmp_path / name)
    padded = pipe.image_processor.with_size(16, 24, "pad")
    padded.save_pretrained(tmp_path / "whole")
    pipe.save_pretrained(tmp_path / "pipeline")
    for name in ("whole", "bare"):
        HfApi().create_repo(f"me/{name}")
        HfApi().upload_folder(repo_id=f"me/{name}", folder_path=tmp_path / name)
    found = {name: load_image_processor(str(tmp_path / "pipeline"), f"me/{name}") for name in ("whole", "bare")}
    assert (found["whole"].aspect_ratio, found["whole"].output_size) == ("pad", (16, 24))
    assert found["bare"].output_size == pipe.image_processor.output_size
    assert not has_image_processor("me/nothing") and not has_image_processor("a b/c d")


def test_where_neither_can_be_reached_the_argument_is_named(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = (
        "no folder `checkpoints/text-encoder-minilm` here.*`itit-hf/text-encoder-minilm` of the Hub.*`--text_encoder`"
    )
    with pytest.raises(ValueError, match=wanted):
        locate("checkpoints/text-encoder-minilm", "--text_encoder")


@pytest.mark.parametrize("model", ["nowhere/nothing", "a b/c", "{tmp_path}"])
def test_what_is_no_pipeline_is_said_in_a_line(hub, model, tmp_path):
    with pytest.raises(ValueError, match="`--model` must be a pipeline folder or a Hub id, got") as caught:
        load_pipeline(model.format(tmp_path=tmp_path))
    assert "\n" not in str(caught.value)


def test_every_committed_checkpoint_is_published():
    assert sorted(PUBLISHED) == sorted(path.name for path in (ROOT / "checkpoints").iterdir())
