# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Counts what code does and keeps, without a stopwatch: FLOPs of products, and activations saved for backward."""

import gc
import weakref
from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

BYTES_PER_NUMBER = 4


class TableTextEncoder(torch.nn.Module):
    """In the place of T5: a table, without a product to count.

    Args:
        config ([`ITITConfig`]): The network's, for the sizes of the table.
    """

    def __init__(self, config):
        super().__init__()
        self.table = torch.nn.Embedding(config.vocab_size, config.text_hidden_size).requires_grad_(False)

    def get_input_embeddings(self) -> torch.nn.Embedding:
        """The table, of shape `(vocab_size, text_hidden_size)`."""
        return self.table

    def forward(self, input_ids=None, inputs_embeds=None, attention_mask=None) -> SimpleNamespace:
        """Rows of the table for ids of shape `(batch_size, text_length)`, or the embeddings that are given."""
        return SimpleNamespace(last_hidden_state=self.table(input_ids) if inputs_embeds is None else inputs_embeds)


class ProductCounter(TorchDispatchMode):
    """FLOPs, in `total`, by the formulas of torch's `FlopCounterMode`, and of `addmm_`, which that one lacks; it also
    fails on weights that are read without gradients, as in a synthesis. Fused attention on a CPU is not counted."""

    FORMULAS = flop_registry | {torch.ops.aten.addmm_: flop_registry[torch.ops.aten.addmm]}

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        formula = self.FORMULAS.get(func.overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


def counted(function: Callable[[], object]) -> int:
    """FLOPs of the products of one call."""
    with ProductCounter() as counter:
        function()
    return counter.total


def numbers_kept(function: Callable[[], torch.Tensor], *modules: torch.nn.Module) -> float:
    """Numbers of four bytes that are kept for the backward pass of a loss, weights and buffers left out.

    Args:
        function (`Callable`): Computes the loss, a `torch.FloatTensor` of shape `()`.
        modules (`torch.nn.Module`): Whose weights do not count.
    """
    alive = weakref.WeakSet()

    class Kept:
        def __init__(self, tensor):
            self.tensor = tensor.detach()  # with its graph, a result that is kept would never be let go
            alive.add(self)

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        loss = function()
    gc.collect()
    storages = [kept.tensor.untyped_storage() for kept in alive]
    sizes = {storage.data_ptr(): storage.nbytes() for storage in storages}
    weights = (weight for module in modules for weight in (*module.parameters(), *module.buffers()))
    for weight in weights:
        sizes.pop(weight.untyped_storage().data_ptr(), None)
    del loss  # its graph, and so what is alive, lives until here
    return sum(sizes.values()) / BYTES_PER_NUMBER
