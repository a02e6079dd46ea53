# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Emoji scenes: an endless image world of licence-clean art with exact meaning, for small training runs and tests.

- `categories`: the committed tables of categories and colours.
- `art`: where the drawings come from, and their licences.
- `sprites`: rendering, recolouring and scaling of one drawing.
- `scenes`: scene `n` of seed `s` as a pure function, sampled and rendered.
- `languages`: what captions can be written in, each a table in a module of its own (`english`, `german`) of the form
  that `templates` states.
- `grammar`: captions of a scene, and the exact way back.
- `splits`: what no training stream may contain.
- `build`: a dataset folder of parquet files with its card.
- `seen_scenes`: an image as a judge reads it.
- `classifier`, `scene_transformer`: two judges, small networks of different architecture.
- `judges`: the door to either.
- `evaluation`: how true captions and images are.
"""
