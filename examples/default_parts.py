# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The frozen parts that scripts take where no argument names any: the one place that says so."""

# Text encoder, tokenizer, image tokenizer and image processor of the emoji scenes, and of a checkpoint to start from.
FROZEN_PARTS = "checkpoints/emoji-scenes-64"
# What reads one's own texts and images, for new weights; `None` is what `FROZEN_PARTS` has.
OWN_TEXT_ENCODER: str | None = "checkpoints/text-encoder-minilm"
OWN_IMAGE_TOKENIZER: str | None = "checkpoints/image-tokenizer-art"
