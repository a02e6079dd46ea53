# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import re

import pytest
from huggingface_hub import HfApi

from itit_hf.commands import caption, generate
from itit_hf.commands.checkpoints import PUBLISHED
from push_checkpoints import CARDS, LINK, ROOT, card_for_hub, main, source_url

from ..hub_server import HubServer

SMALL = "emoji-scenes-dual-encoder"


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with HubServer(tmp_path_factory.mktemp("hub")) as server:
        yield server


@pytest.fixture(autouse=True)
def empty_hub(hub, tmp_path):
    hub.forget(tmp_path / "cache")


def test_a_repository_holds_the_files_of_the_checkpoint_and_its_card(hub):
    main(["--only", SMALL])
    files = hub.repository(f"itit-hf/{SMALL}").files
    committed = {path.name: path.read_bytes() for path in (ROOT / "checkpoints" / SMALL).iterdir()}
    assert {name: files[name] for name in committed} == committed
    assert set(files) - set(committed) == {".gitattributes", "README.md"}
    assert f'from_pretrained("itit-hf/{SMALL}")' in files["README.md"].decode()


def test_pushing_twice_changes_nothing(hub):
    main(["--only", SMALL])
    before = hub.repository(f"itit-hf/{SMALL}").files
    main(["--only", SMALL])
    assert hub.repository(f"itit-hf/{SMALL}").files == before


def test_what_is_no_longer_here_is_removed_there(hub):
    main(["--only", SMALL])
    HfApi().upload_file(path_or_fileobj=b"old", path_in_repo="old.json", repo_id=f"itit-hf/{SMALL}")
    main(["--only", SMALL])
    assert "old.json" not in hub.repository(f"itit-hf/{SMALL}").files


def test_the_commit_is_tagged(hub):
    main(["--only", SMALL, "--tag", "0.1.0", "--owner", "somebody"])
    repository = hub.repository(f"somebody/{SMALL}")
    assert repository.refs["0.1.0"] == repository.refs["main"]


def test_staging_pushes_nothing(hub, tmp_path):
    main(["--only", SMALL, "--stage", str(tmp_path / "stage")])
    assert (tmp_path / "stage" / SMALL / "README.md").is_file() and not hub.repositories


@pytest.mark.parametrize("name", PUBLISHED)
def test_links_of_a_card_lead_somewhere_on_the_hub(name, tmp_path):
    text = card_for_hub((CARDS / f"{name}.md").read_text(encoding="utf-8"), "itit-hf", tmp_path)
    assert [link for link, _ in LINK.findall(text) if not (tmp_path / link).is_file()] == []
    for path in re.findall(rf"\]\({re.escape(source_url())}/blob/main/([^()#\s]+)", text):
        assert (ROOT / path).exists()


def test_a_link_to_another_checkpoint_names_it_on_the_hub(tmp_path):
    card = "[judge](emoji-scenes-classifier.md#licence), `checkpoints/emoji-scenes-64`, [new](nowhere.md)"
    with pytest.raises(ValueError, match="links to `nowhere.md`"):
        card_for_hub(card, "me", tmp_path)
    wanted = "[judge](https://huggingface.co/me/emoji-scenes-classifier#licence), `me/emoji-scenes-64`"
    assert card_for_hub(card[: card.index(", [new]")], "me", tmp_path) == wanted


def test_what_was_pushed_generates_and_captions_in_an_empty_folder(hub, tmp_path, monkeypatch):
    main(["--only", "emoji-scenes-64"])
    monkeypatch.chdir(tmp_path)
    generate.main(["a red bus", "--num_inference_steps", "1"])
    caption.main(["out/images/00-a-red-bus.png", "--num_beams", "1"])
