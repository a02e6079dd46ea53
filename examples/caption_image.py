# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Caption images with a pipeline folder, by default the one in this repository:

    python examples/caption_image.py out/images/00-a-red-bus.png
    python examples/caption_image.py out/images/00-a-red-bus.png --prompt "a picture of"

Logs one line per image: its file and its caption.
"""

from itit_hf.commands.caption import main

if __name__ == "__main__":
    main()
