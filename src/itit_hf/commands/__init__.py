# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What the command `itit` does; scripts of the same names in examples/ call the same functions."""
