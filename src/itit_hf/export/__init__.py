# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Graphs of a pipeline for other runtimes, and what runs them without torch."""
