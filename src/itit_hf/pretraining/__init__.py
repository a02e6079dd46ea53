# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""How the two frozen parts are made: image tokenizer and text encoder."""
