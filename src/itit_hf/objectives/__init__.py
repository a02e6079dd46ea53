# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Losses by name, the two cycles among them. Takes the model as an argument."""
