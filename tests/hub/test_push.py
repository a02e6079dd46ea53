# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Pushes and loads, end to end, against the Hub-compatible server of hub_server.py on loopback."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import PIL.Image
import pytest
import torch
from huggingface_hub import HfApi, ModelCard, hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from transformers import AutoModelForImageTextToText, AutoProcessor, TrainerCallback

from itit_hf import ITITForCaptioning, ITITForPreTraining, ITITPipeline, ITITProcessor, ITITScheduler
from itit_hf.hub import push
from itit_hf.hub.push import UploadError, is_transient, push_model_card, redact_tokens, with_retries

from ..hub_server import TOKEN, Fault, HubServer
from ..testing_utils import generators, tiny_pipeline
from ..training_utils import make_trainer

CAPTION = {"num_beams": 1, "max_new_tokens": 3}


@pytest.fixture(scope="module")
def lasting_server(tmp_path_factory):
    with HubServer(tmp_path_factory.mktemp("cache")) as server:
        yield server


@pytest.fixture
def server(lasting_server, tmp_path, monkeypatch):
    """An empty one, and an empty cache."""
    lasting_server.forget(tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", lasting_server.cache_dir)
    return lasting_server


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """The pauses between attempts, which are not made; nor are those of the library."""
    pauses = []
    monkeypatch.setattr(push, "sleep", pauses.append)
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda _: None, time=time.time))
    return pauses


@pytest.fixture
def log(caplog):
    """All that transformers, huggingface_hub and httpx would log, down to the last detail."""
    names = ["itit_hf.hub.push", "transformers", "huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2"]
    before = [(logging.getLogger(name), logging.getLogger(name).propagate) for name in names]
    caplog.set_level(logging.DEBUG)
    for logger, _ in before:
        logger.propagate = True
        caplog.set_level(logging.DEBUG, logger.name)
    yield caplog
    for logger, propagate in before:
        logger.propagate = propagate


def drawn(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe("a red bus", num_inference_steps=2, generator=generators(3), output_type="latent").images


def test_a_model_comes_back_by_its_revision(server):
    pipe = tiny_pipeline()
    first = pipe.model.push_to_hub("user/model", tags=["itit"]).oid
    with torch.no_grad():
        pipe.model.text_decoder.embed_tokens.weight.add_(1.0)
    pipe.model.push_to_hub("user/model")
    weights = [
        ITITForPreTraining.from_pretrained("user/model", revision=revision).text_decoder.embed_tokens.weight
        for revision in (first, "main")
    ]
    torch.testing.assert_close(weights[0] + 1.0, weights[1])
    assert isinstance(AutoModelForImageTextToText.from_pretrained("user/model"), ITITForCaptioning)
    assert "itit" in ModelCard.load("user/model").data.tags


def test_the_card_of_a_model_says_how_to_open_it_and_what_is_not_known(server):
    model = ITITForCaptioning(tiny_pipeline().model.config)
    model.push_to_hub("user/model")
    push_model_card(model, "user/model", facts={"licence": "apache-2.0"})
    card = ModelCard.load("user/model")
    assert (card.data.library_name, card.data.pipeline_tag) == ("itit_hf", "image-text-to-text")
    assert card.data.license == "apache-2.0" and 'ITITForCaptioning.from_pretrained("user/model")' in card.text
    assert "transformers model" not in card.text and "Not recorded: description" in card.text
    assert "model.safetensors" in server.repository("user/model").files


def test_the_card_of_a_model_is_tried_again_and_a_refusal_is_named(server, waits):
    model = tiny_pipeline().model
    model.push_to_hub("user/model")
    server.faults.append(Fault("POST .*/commit/", 500))
    push_model_card(model, "user/model")
    assert ModelCard.load("user/model").data.library_name == "itit_hf"
    server.faults.append(Fault("POST .*/commit/", 403, times=9))
    with pytest.raises(UploadError, match="the upload to user/model failed, attempt 1"):
        push_model_card(model, "user/model", facts={"licence": "mit"})


def test_the_card_that_a_model_has_stays_and_gets_its_tags(server):
    model = tiny_pipeline().model
    model.push_to_hub("user/model")
    by_hand = b"---\ntags: [mine]\n---\nby hand\n"
    HfApi().upload_file(path_or_fileobj=by_hand, path_in_repo="README.md", repo_id="user/model")
    model.push_to_hub("user/model", tags=["new"])
    card = ModelCard.load("user/model")
    assert card.data.tags == ["mine", "new"] and card.text.strip() == "by hand"


def test_a_large_file_is_stored_apart_in_shards_and_comes_back_whole(server):
    model = tiny_pipeline().model
    model.push_to_hub("user/shards", max_shard_size="60KB")
    names = [name for name in server.repository("user/shards").files if name.endswith(".safetensors")]
    assert len(names) > 1 and len(server.objects) == len(names)
    loaded = ITITForPreTraining.from_pretrained("user/shards").state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())


def test_a_processor_comes_back_with_its_image_tokenizer(server):
    processor = tiny_pipeline().processor
    processor.push_to_hub("user/processor")
    image = PIL.Image.new("RGB", (16, 16), "red")
    ids = processor(images=[image])["image_token_ids"]
    for loaded in (ITITProcessor.from_pretrained("user/processor"), AutoProcessor.from_pretrained("user/processor")):
        assert torch.equal(loaded(images=[image])["image_token_ids"], ids)


def test_a_scheduler_is_pushed_alone(server):
    ITITScheduler(mask_token_id=23, temperature=7.5).push_to_hub("user/scheduler")
    assert ITITScheduler.from_pretrained("user/scheduler").config.temperature == 7.5


def test_a_pipeline_comes_back_and_draws_and_says_the_same(server, monkeypatch):
    pipe = tiny_pipeline()
    commit = pipe.push_to_hub("user/pipe").oid
    loaded = ITITPipeline.from_pretrained("user/pipe", revision=commit)
    assert torch.equal(drawn(pipe), drawn(loaded))
    image = PIL.Image.new("RGB", (16, 16), "red")
    assert pipe.caption(image, **CAPTION) == loaded.caption(image, **CAPTION)
    asked = len(server.requests)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert torch.equal(drawn(pipe), drawn(ITITPipeline.from_pretrained("user/pipe", revision=commit)))
    assert len(server.requests) == asked


def test_a_pipeline_that_is_saved_may_be_pushed_at_once(server, tmp_path):
    pipe = tiny_pipeline()
    pipe.save_pretrained(tmp_path / "saved", push_to_hub=True, repo_id="user/saved", commit_message="First")
    assert (tmp_path / "saved" / "model_index.json").exists()
    assert torch.equal(drawn(ITITPipeline.from_pretrained("user/saved")), drawn(pipe))


def test_the_card_of_a_pipeline_shows_images_and_facts(server):
    facts = {"licence": "apache-2.0", "losses": {"eval_loss_t2i": 2.5, "eval_loss_i2t": 1.5}}
    tiny_pipeline().push_to_hub("user/pipe", prompts=["a red bus", "a blue fish"], facts=facts)
    card = ModelCard.load("user/pipe")
    assert card.data.license == "apache-2.0" and set(card.data.tags) >= {"itit", "text-to-image", "image-to-text"}
    assert {(r.task_type, r.metric_name, r.metric_value) for r in card.data.eval_results} == {
        ("text-to-image", "t2i (nats)", 2.5),
        ("image-to-text", "i2t (nats)", 1.5),
    }
    assert (
        'ITITPipeline.from_pretrained("user/pipe")' in card.text
        and "![a red bus](images/00-a-red-bus.png)" in card.text
    )
    assert [each["output"]["url"] for each in card.data.widget] == [
        "images/00-a-red-bus.png",
        "images/01-a-blue-fish.png",
    ]
    assert PIL.Image.open(hf_hub_download("user/pipe", "images/01-a-blue-fish.png")).size == (16, 16)


def test_a_card_that_the_repository_has_stays(server):
    pipe = tiny_pipeline()
    pipe.push_to_hub("user/pipe")
    HfApi().upload_file(path_or_fileobj=b"by hand", path_in_repo="README.md", repo_id="user/pipe")
    pipe.push_to_hub("user/pipe")
    assert server.repository("user/pipe").files["README.md"] == b"by hand"


def test_the_card_of_the_folder_a_pipeline_came_from_goes_along(server, tmp_path):
    tiny_pipeline().save_pretrained(tmp_path / "mine")
    Path(tmp_path, "mine", "README.md").write_text("the card of mine", encoding="utf-8")
    ITITPipeline.from_pretrained(tmp_path / "mine").push_to_hub("user/pipe")
    assert server.repository("user/pipe").files["README.md"] == b"the card of mine"


def pushing(folder, **changes):
    """Four updates of the tiny model, a checkpoint and a push after every second one."""
    settings = {"push_to_hub": True, "hub_model_id": "user/run", "save_strategy": "steps", "save_steps": 2}
    return make_trainer(folder, **(settings | {"hub_token": TOKEN, "monitoring": False} | changes))


def test_a_trainer_pushes_a_pipeline_with_its_card_and_samples(server, tmp_path):
    trainer = pushing(tmp_path, sample_steps=4, sample_inference_steps=1, sample_prompts=["a red bus"])
    trainer.train()
    trainer.evaluate()
    trainer.push_to_hub(facts={"licence": "mit"})
    card = ModelCard.load("user/run")
    assert card.data.license == "mit" and {"eval_loss_t2i", "i2t (nats)"} & {
        result.metric_name for result in card.data.eval_results
    }
    assert "![Step 4](samples/step-0000004.png)" in card.text and TOKEN not in str(card)
    assert torch.equal(drawn(ITITPipeline.from_pretrained("user/run")), drawn(trainer.create_pipeline()))


def test_each_checkpoint_is_pushed_while_training_goes_on_and_can_be_resumed_from(server, tmp_path):
    trainer = pushing(tmp_path, hub_strategy="checkpoint", hub_always_push=True, save_total_limit=1)
    trainer.train()
    repository = server.repository("user/run")
    messages = [message for message in repository.messages.values() if "step" in message]
    assert sorted(messages) == ["Training in progress, step 2", "Training in progress, step 4"]
    assert not any(
        path.endswith(("training_args.bin", ".pkl")) for tree in repository.commits.values() for path in tree
    )
    assert not list(tmp_path.glob("_push-*"))
    folder = Path(snapshot_download("user/run", allow_patterns="last-checkpoint/*")) / "last-checkpoint"
    resumed = pushing(tmp_path / "other", push_to_hub=False, max_steps=6)
    resumed.train(resume_from_checkpoint=str(folder))
    assert resumed.state.global_step == 6


def test_no_pushed_file_and_no_request_but_its_header_holds_the_token(server, tmp_path):
    trainer = pushing(tmp_path, hub_strategy="all_checkpoints", hub_always_push=True)
    trainer.train()
    trainer.push_to_hub()
    files = [file.content for commit in server.repository("user/run").commits.values() for file in commit.values()]
    assert not any(TOKEN.encode() in content for content in files + server.bodies)
    assert not any(TOKEN in request for request in server.requests)


PASSING = {
    "an internal error at the commit": Fault("POST .*/commit/", 500),
    "a bad gateway again and again": Fault("POST .*/preupload/", 502, times=8),
    "too many requests": Fault("POST .*/objects/batch", 429),
    "an object that cannot be stored": Fault("PUT /lfs/", 503, times=2),
    "a connection cut in an upload": Fault("PUT /lfs/", "cut"),
    "a connection cut before the commit": Fault("POST .*/commit/", "cut"),
    "a commit whose answer is lost": Fault("POST .*/commit/", "lost"),
    "a commit at the same time": Fault("POST .*/commit/", 412),
    "an answer that is no JSON": Fault("POST .*/preupload/", "garbage"),
    "a slow server": Fault("(POST|PUT) ", "slow", times=99),
}
REFUSED = {
    "a token that has ended": Fault("POST .*/(preupload|commit)/", 401, times=99),
    "no right to write": Fault("POST .*/commit/", 403, times=99),
    "a repository that is gone": Fault("POST .*/(preupload|commit)/", 404, times=99),
    "a server that never comes back": Fault("POST .*/commit/", 500, times=99),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_training_goes_on_and_the_push_is_tried_again(server, tmp_path, log, fault):
    trainer = pushing(tmp_path, max_steps=2)
    server.faults.append(fault)
    trainer.train()
    assert trainer.state.global_step == 2 and (tmp_path / "checkpoint-2" / "model.safetensors").is_file()
    repository = server.repository("user/run")
    assert list(repository.messages.values()) == ["initial commit", "Training in progress, step 2"]
    assert (
        repository.files["model/model.safetensors"] == (tmp_path / "checkpoint-2" / "model.safetensors").read_bytes()
    )
    assert TOKEN not in log.text


@pytest.mark.parametrize("fault", REFUSED.values(), ids=REFUSED)
def test_a_refused_push_is_said_once_and_the_checkpoint_stays(server, tmp_path, log, fault):
    trainer = pushing(tmp_path, max_steps=2)
    server.faults.append(fault)
    trainer.train()
    assert trainer.state.global_step == 2 and (tmp_path / "checkpoint-2" / "model.safetensors").is_file()
    assert list(server.repository("user/run").messages.values()) == ["initial commit"]
    said = [record.message for record in log.records if "training goes on" in record.message]
    assert len(said) == 1 and "user/run" in said[0] and "checkpoint-2" in said[0]
    assert TOKEN not in log.text and not list(tmp_path.glob("_push-*"))


class Release(TrainerCallback):
    """Lets the server go on after the last checkpoint."""

    def __init__(self, server):
        self.server = server

    def on_save(self, args, state, control, **kwargs):
        if state.global_step == args.max_steps:
            self.server.released.set()


def test_training_does_not_wait_for_a_server_that_hangs(server, tmp_path):
    trainer = pushing(tmp_path)
    trainer.add_callback(Release(server))
    server.faults.append(Fault("POST .*/preupload/", "held"))
    trainer.train()
    messages = server.repository("user/run").messages
    assert list(messages.values()) == ["initial commit", "Training in progress, step 2"]
    trainer.push_to_hub()  # what was left out comes with the next push
    assert "End of training" in messages.values()


def test_a_run_that_cannot_push_says_so_before_it_begins(server, tmp_path):
    server.faults.append(Fault("POST /api/repos/create", 401, times=9))
    with pytest.raises(UploadError, match="making user/run failed, attempt 1"):
        pushing(tmp_path)


def test_a_push_by_hand_that_fails_raises_and_a_later_one_succeeds(server, tmp_path):
    trainer = pushing(tmp_path, hub_strategy="end")
    server.faults.append(Fault("POST .*/commit/", 403))
    with pytest.raises(UploadError, match="the upload to user/run failed, attempt 1"):
        trainer.push_to_hub()
    trainer.push_to_hub()
    assert "End of training" in server.repository("user/run").messages.values()


def test_a_download_with_another_files_etag_or_cut_in_half_never_leaves_a_broken_file(server):
    pipe = tiny_pipeline()
    pipe.push_to_hub("user/pipe")
    weights = server.repository("user/pipe").files["model/model.safetensors"]
    server.faults.append(Fault("GET .*/resolve/main/model/model.safetensors", "half", times=2))
    path = hf_hub_download("user/pipe", "model/model.safetensors")
    assert Path(path).read_bytes() == weights
    server.faults.append(Fault("HEAD .*/resolve/main/model/model.safetensors", "etag"))
    assert Path(hf_hub_download("user/pipe", "model/model.safetensors")).read_bytes() == weights


def test_what_is_not_there_is_named(server):
    tiny_pipeline().push_to_hub("user/pipe")
    with pytest.raises((OSError, HfHubHTTPError), match="nowhere"):
        ITITForPreTraining.from_pretrained("user/nowhere")
    with pytest.raises((OSError, HfHubHTTPError), match="v9"):
        ITITPipeline.from_pretrained("user/pipe", revision="v9")
    with pytest.raises(LocalEntryNotFoundError):
        hf_hub_download("user/pipe", "model_index.json", local_files_only=True)


def test_pickled_arguments_stay_on_this_machine_wherever_they_lie(server, tmp_path):
    (tmp_path / "checkpoint-1").mkdir()
    for name in ("training_args.bin", "checkpoint-1/training_args.bin", "checkpoint-1/training_args.json"):
        (tmp_path / name).write_text("token")
    push.make_repository("user/run")
    push.upload(str(tmp_path), "user/run", "a run")
    files = server.repository("user/run").files
    assert "checkpoint-1/training_args.json" in files and not any(name.endswith(".bin") for name in files)


def test_what_is_stale_is_removed_where_a_folder_is_uploaded_to(server, tmp_path):
    push.make_repository("user/run")
    for name in ("old.txt", "new.txt"):
        (tmp_path / name).write_text(name)
    push.upload(str(tmp_path), "user/run", "a run")
    (tmp_path / "old.txt").unlink()
    push.upload(str(tmp_path), "user/run", "later", delete_patterns=["old*"])
    assert {"new.txt", "old.txt"} & set(server.repository("user/run").files) == {"new.txt"}


def test_pauses_grow_and_end(waits):
    def fail():
        raise ConnectionError("nobody is there")

    with pytest.raises(UploadError, match="asking failed, attempt 5: ConnectionError: nobody is there"):
        with_retries(fail, "asking")
    assert waits == [2.0, 4.0, 8.0, 16.0]


def test_a_missing_file_is_not_looked_for_again():
    assert not is_transient(FileNotFoundError("gone"))


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {TOKEN}",
        f"https://me:{TOKEN}@hub.example/me",
        f"token={TOKEN}",
        "Bearer of-another-form",
    ],
)
def test_no_token_gets_into_a_message(text):
    told = redact_tokens(text)
    assert TOKEN not in told and "of-another-form" not in told and "***" in told


def test_a_token_of_any_form_is_kept_out_if_it_is_in_use():
    assert redact_tokens("what is s3cret?", "s3cret") == "what is ***?"


PUSH = """
import sys, torch
from itit_hf import ITITPipeline
pipe = ITITPipeline.from_pretrained(sys.argv[1])
pipe.push_to_hub("user/other-process", private=True)
pipe.set_progress_bar_config(disable=True)
loaded = ITITPipeline.from_pretrained("user/other-process")
"""
RELOAD = """
import socket
def refuse(*_, **__): raise AssertionError("a connection was asked for")
socket.socket.connect = socket.create_connection = refuse
from itit_hf import ITITPipeline
print(len(ITITPipeline.from_pretrained("user/other-process").tokenizer))
"""


def test_another_process_pushes_by_hf_endpoint_and_a_third_reloads_without_a_network(server, tmp_path):
    pipe = tiny_pipeline()
    pipe.save_pretrained(tmp_path / "mine")
    environment = os.environ | server.environment | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", PUSH, tmp_path / "mine"], env=environment, check=True, capture_output=True)
    asked = len(server.requests)
    offline = environment | {"HF_HUB_OFFLINE": "1"}
    said = subprocess.run([sys.executable, "-c", RELOAD], env=offline, check=True, capture_output=True, text=True)
    assert int(said.stdout.split()[-1]) == len(pipe.tokenizer) and len(server.requests) == asked
