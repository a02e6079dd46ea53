# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Which pairs are worth training on, and how much each counts; imported by the scripts of examples/."""
