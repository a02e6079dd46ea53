# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""`transformers serve`, started from examples/serve.py, on loopback."""

import base64
import io
import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..testing_utils import tiny_pipeline

SCRIPT = Path(__file__).parents[2] / "examples" / "serve.py"
# Without beams, which a server that streams cannot have, and no longer than the model: what it captions otherwise.
SETTINGS = {"num_beams": 1, "max_new_tokens": 6, "do_sample": False, "eos_token_id": 1, "pad_token_id": 0}


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


@pytest.fixture(scope="module")
def folder(pipe, tmp_path_factory):
    path = tmp_path_factory.mktemp("captioner")
    pipe.model.save_pretrained(path)
    pipe.processor.save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def address(folder):
    """Where a server of the folder listens, on a free port."""
    for name in ("fastapi", "uvicorn", "openai"):
        pytest.importorskip(name)
    command = [sys.executable, str(SCRIPT), "serve", folder, "--device", "cpu", "--host", "127.0.0.1", "--port", "0"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    server = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        found = re.search(r"running on (http://127\.0\.0\.1:\d+)", line)
        if found:
            break
    assert found, "the server ended before it listened"
    yield found.group(1)
    server.terminate()
    server.wait(timeout=30)
    server.stderr.close()


def make_image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))


def ask(address: str, folder: str, **options) -> str:
    """The answer to a request for a caption, by a `data:` URL."""
    file = io.BytesIO()
    make_image().save(file, "PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
    body = {"model": folder, "messages": messages, "generation_config": json.dumps(SETTINGS)} | options
    request = urllib.request.Request(
        address + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return response.read().decode()


@pytest.mark.slow
def test_the_server_answers_with_the_caption_of_the_pipeline(address, folder, pipe):
    answer = json.loads(ask(address, folder))["choices"][0]["message"]
    assert [answer["content"]] == pipe.caption(make_image(), num_beams=1, max_new_tokens=6)


@pytest.mark.slow
def test_the_server_streams_the_same_caption(address, folder, pipe):
    lines = [json.loads(line[len("data: ") :]) for line in ask(address, folder, stream=True).splitlines() if line]
    said = "".join(choice["delta"].get("content", "") for line in lines for choice in line["choices"])
    assert [said] == pipe.caption(make_image(), num_beams=1, max_new_tokens=6)
