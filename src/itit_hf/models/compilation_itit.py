# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""What compiled graphs need of the model: checks of values that break no graph, and room for all graphs there are."""

from collections.abc import Callable

import torch
from transformers.utils.import_utils import torch_compilable_check

# A training with both cycles is 13 graphs of the model; a pipeline that generates and captions one image and several
# is 30: what a pass is given (a text, dropped positions, padding) times a first size and then any. Past its limit, by
# default 8, dynamo goes on without compiling.
MAX_GRAPHS = 64


def check_values(condition: torch.Tensor, message: str | Callable[[], str]):
    """Raise a `ValueError` unless values of tensors are as they should be. Within a compiled graph the graph itself
    does so when it runs, with a `RuntimeError` on a CPU: asking for a number there would cut it in two.

    Args:
        condition (`torch.BoolTensor` of shape `()`): Whether they are.
        message (`str` or `Callable`): What they should be, or a function that says so.

    Raises:
        ValueError: If they are not.
    """
    if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
        torch._assert_async(condition, "inputs are out of range; without `compile` the same call says which")
    else:
        torch_compilable_check(condition, message)


def make_room_for_graphs():
    """Let dynamo compile a function `MAX_GRAPHS` times at least, in all of this process."""
    from torch._dynamo import config  # slow to import, and not all users compile

    config.recompile_limit = max(config.recompile_limit, MAX_GRAPHS)


class CompilationMixin:
    """Compilation of a model, whole or block by block."""

    _no_split_modules: list[str]  # names of the classes of blocks

    def compile(self, *args, **kwargs):
        """Compile `forward` in place, with as many graphs as there are kinds of passes: torch's own would stop at 8.

        Args:
            args: As `torch.compile` takes them.
            kwargs: Likewise, such as `mode` and `backend`.
        """
        make_room_for_graphs()
        super().compile(*args, **kwargs)

    def compile_blocks(self, *args, **kwargs):
        """Compile each block in place, whose code is shared: a few small graphs in place of several large ones, which
        takes a fraction of the time of `compile`, and leaves what stands around the blocks as it is.

        Args:
            args: As `torch.compile` takes them.
            kwargs: Likewise, such as `mode` and `backend`.
        """
        make_room_for_graphs()
        for module in self.modules():
            if type(module).__name__ in self._no_split_modules:
                module.compile(*args, **kwargs)
