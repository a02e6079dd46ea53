# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The trainers, their arguments, checkpoints and logs."""
