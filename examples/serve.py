# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Captions over HTTP with the server of transformers, which knows this package's models when it is started from here:

    pip install fastapi uvicorn openai
    python examples/serve.py serve out/captioner --device cpu --port 8000

The folder is one of a model and its processor: `pipe.model.save_pretrained(folder)` and
`pipe.processor.save_pretrained(folder)`. A request in OpenAI's form has one image, as a path on the server or as a
`data:` URL, and may have the beginning of its caption as the assistant's last message:

    curl localhost:8000/v1/chat/completions -H "Content-Type: application/json" -d \
        '{"model": "out/captioner", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url":
          {"url": "bus.png"}}]}]}'

Whoever can send requests can have any image file captioned that the server can read: serve on loopback, or put
something in front that lets `data:` URLs through alone. All other arguments are those of `transformers`.
"""

from transformers.cli.transformers import main
from transformers.models.auto.modeling_auto import MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES

import itit_hf.models  # noqa: F401  (the auto classes know the models from here on)
from itit_hf import ITITConfig, ITITForCaptioning

# The server finds the class of a model, and what it takes, by these names, which `register` leaves as they are.
MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES[ITITConfig.model_type] = ITITForCaptioning.__name__

if __name__ == "__main__":
    main()
