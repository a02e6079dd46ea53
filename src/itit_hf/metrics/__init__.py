# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Scores of captions and of images, from words and features alone: no model, and nothing to download.

- `captions`: CIDEr-D, BLEU, ROUGE-L and diversity, without Java.
- `coco_captions`: the same and METEOR, SPICE by pycocoevalcap, where Java is there.
- `images`: Frechet distance, precision and recall, density and coverage, on features.
"""
