# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Datasets: where rows come from, streams of them, and image tokens made beforehand."""
