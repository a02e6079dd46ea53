# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Optimizers that transformers lacks: Adafactor with the paper's decay, and Muon beside another one."""

import math
from collections.abc import Sequence

import torch
from transformers.optimization import Adafactor


class CappedAdafactor(Adafactor):
    """Adafactor with momentum and a cap on the decay of the second moment: `min(beta2, 1 - step**-0.8)`.

    The paper gives beta1 0.9 and beta2 0.96 (Table 3); transformers' Adafactor knows the growing decay only.

    Args:
        params: Parameters or groups of them.
        lr (`float`): Learning rate, as it is: neither relative nor scaled by the parameter.
        beta1 (`float`, *optional*, defaults to 0.9): Momentum.
        beta2 (`float`, *optional*, defaults to 0.96): Largest decay of the second moment.
        weight_decay (`float`, *optional*, defaults to 0.0): Decoupled weight decay.
    """

    def __init__(self, params, lr: float, beta1: float = 0.9, beta2: float = 0.96, weight_decay: float = 0.0):
        super().__init__(
            params, lr=lr, beta1=beta1, weight_decay=weight_decay, scale_parameter=False, relative_step=False
        )
        self.beta2 = beta2

    def step(self, closure=None):
        """One update."""
        for group in self.param_groups:
            step = max((self.state[p].get("step", 0) for p in group["params"] if p in self.state), default=0) + 1
            capped = math.log(1 - self.beta2) / math.log(step) if step > 1 else -0.8  # 1 - step**capped == beta2
            group["decay_rate"] = max(-0.8, capped)
        return super().step(closure)


class CombinedOptimizer(torch.optim.Optimizer):
    """Several optimizers, each with parameters of its own, that step and are saved as one.

    Args:
        optimizers (`Sequence[torch.optim.Optimizer]`): Their groups of parameters are shared, not copied: a schedule
            that sets a rate here sets it there.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]):
        self.optimizers = list(optimizers)
        super().__init__([group for optimizer in self.optimizers for group in optimizer.param_groups], {})
        self._share()

    def _share(self):
        self.param_groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        self.state.clear()
        for optimizer in self.optimizers:
            self.state.update(optimizer.state)

    @torch.no_grad()
    def step(self, closure=None):
        """One update of each; the loss, if a closure gives one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
            self.state.update(optimizer.state)
        return loss

    def state_dict(self) -> dict:
        """The states of all, in their order."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state_dict: dict):
        """Load what `state_dict` gave.

        Raises:
            ValueError: If it is not the state of as many optimizers.
        """
        states = state_dict.get("optimizers", [])
        if len(states) != len(self.optimizers):
            raise ValueError(
                f"`state_dict` must hold the states of {len(self.optimizers)} optimizers, got {len(states)}: was it "
                "written by a run with the same optimizers?"
            )
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(state)
        self._share()


def create_muon(
    model: torch.nn.Module, muon_learning_rate: float, weight_decay: float, others: tuple[type, dict]
) -> CombinedOptimizer:
    """Muon for the matrices inside the Transformer blocks, another optimizer for all other parameters.

    Muon orthogonalises each matrix's update. With 10^4 to 10^5 samples it reaches a loss in a quarter of AdamW's steps
    (docs/experiments.md). It is torch's own, at its own scale of the rate: about ten times that of AdamW.

    Args:
        model (`torch.nn.Module`): Parameters that want no gradient are left out.
        muon_learning_rate (`float`): Muon's peak rate.
        weight_decay (`float`): Of all matrices, decoupled; vectors have none.
        others (`tuple[type, dict]`): Class and keyword arguments of the other optimizer.

    Returns:
        [`CombinedOptimizer`].

    Raises:
        ValueError: If the model has no Transformer block.
    """
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    hidden = [p for name, p in trained if p.ndim == 2 and ".layers." in name]
    if not hidden:
        raise ValueError("`model` must have matrices in `layers`, which Muon trains; got none that wants a gradient")
    chosen = {id(p) for p in hidden}
    rest = [p for _, p in trained if id(p) not in chosen]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer_class, arguments = others
    muon = torch.optim.Muon(hidden, lr=muon_learning_rate, weight_decay=weight_decay)
    return CombinedOptimizer([muon, optimizer_class([group for group in groups if group["params"]], **arguments)])
