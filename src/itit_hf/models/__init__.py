# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The network, its processors and its cache: what travels to the Hub. Imports nothing of ours outside itself."""
