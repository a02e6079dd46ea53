# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
