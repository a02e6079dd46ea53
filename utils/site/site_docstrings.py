# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Docstrings in the Hugging Face form, for mkdocstrings: an extension of griffe, see mkdocs.yml."""

from griffe import Extension

from site_pages import public_paths, readable


class HuggingFaceDocstrings(Extension):
    """Applied to each object that griffe loads."""

    def __init__(self):
        self.paths = public_paths()

    def on_object(self, *, obj, loader, **kwargs):
        """Rewrite the docstring of an object, when it and its members are known.

        Args:
            obj (`griffe.Object`): The object.
            loader (`griffe.GriffeLoader`): What loads it.
            kwargs: Whatever else griffe hands out.
        """
        if obj.docstring is not None:
            obj.docstring.value = readable(obj.docstring.value, self.paths)
