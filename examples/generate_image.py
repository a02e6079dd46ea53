# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Generate images from text, or edit one, with a pipeline folder, by default the one in this repository:

    python examples/generate_image.py "a red bus"
    python examples/generate_image.py "a red bus" "a blue fish" --num_images_per_prompt 4 --seed 1
    python examples/generate_image.py "a blue fish" --image bus.png --mask_image mask.png
    python examples/generate_image.py "a red bus" --image bus.png --strength 0.6

Writes every image and one labelled grid, and logs where. Takes seconds on a CPU.
"""

from itit_hf.commands.generate import main

if __name__ == "__main__":
    main()
