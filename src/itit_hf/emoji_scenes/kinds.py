# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""The committed tables of the emoji scenes: which things exist, and in which colours."""

# Name -> code point, the most distinct silhouettes first: a world of N kinds takes the first N. All stand in all four
# packaged styles, and each was looked at in each colour; kinds that stay grey or mostly black are left out.
KINDS = {
    "bus": "1f68c",
    "tree": "1f333",
    "fish": "1f41f",
    "umbrella": "2602",
    "star": "2b50",
    "car": "1f697",
    "balloon": "1f388",
    "mushroom": "1f344",
    "shirt": "1f455",
    "key": "1f511",
    "butterfly": "1f98b",
    "apple": "1f34e",
    "crown": "1f451",
    "cactus": "1f335",
    "elephant": "1f418",
    "heart": "2764",
    "turtle": "1f422",
    "teapot": "1fad6",
    "chair": "1fa91",
    "boot": "1f462",
    "flower": "1f337",
    "bell": "1f514",
    "cat": "1f408",
    "bird": "1f426",
    "house": "1f3e0",
    "guitar": "1f3b8",
    "octopus": "1f419",
    "dress": "1f457",
    "crab": "1f980",
    "truck": "1f69a",
    "dolphin": "1f42c",
    "dinosaur": "1f995",
    "rabbit": "1f407",
    "cap": "1f9e2",
    "bag": "1f45c",
    "snake": "1f40d",
    "pear": "1f350",
    "horse": "1f40e",
    "carrot": "1f955",
    "bucket": "1faa3",
    "book": "1f4d5",
    "scooter": "1f6f5",
    "trophy": "1f3c6",
    "telephone": "260e",
    "anchor": "2693",
    "magnet": "1f9f2",
    "whale": "1f433",
    "owl": "1f989",
    "dog": "1f415",
    "seal": "1f9ad",
    "squid": "1f991",
    "bicycle": "1f6b2",
    "helicopter": "1f681",
    "tractor": "1f69c",
    "hammer": "1f528",
    "pig": "1f416",
    "camel": "1f42a",
    "kangaroo": "1f998",
}

# Hue in degrees that keeps its colour while all else changes, where the widest hue is not the thing's own: this bus is
# white with a yellow band, and its windows are the widest.
SPARED_HUES = {("fluent", "bus"): 200}

# Name -> (hue in degrees, saturation, lightness) of a mid-tone, in HSL.
COLOURS = {
    "red": (0, 0.85, 0.46),
    "orange": (28, 1.0, 0.52),
    "yellow": (52, 1.0, 0.56),
    "green": (128, 0.62, 0.38),
    "blue": (218, 0.85, 0.50),
    "purple": (276, 0.62, 0.44),
    "pink": (328, 0.95, 0.77),
    "teal": (178, 0.75, 0.42),
}
