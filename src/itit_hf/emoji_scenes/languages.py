# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The languages that captions of the emoji scenes can be written in."""

from .english import ENGLISH
from .german import GERMAN

LANGUAGES = {"en": ENGLISH, "de": GERMAN}  # by ISO 639-1
