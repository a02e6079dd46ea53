# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The page of this Space: `itit app`, with the model that the variable ITIT_MODEL names."""

from itit_hf.commands.app import main

if __name__ == "__main__":
    main()
