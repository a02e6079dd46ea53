# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Optimizers that transformers lacks: Adafactor with the paper's decay, and Muon beside another one."""

import math
from collections.abc import Callable, Sequence

import torch
from transformers import Trainer
from transformers.optimization import Adafactor

from ..models.cpu_kernels_itit import cpu_multiplies_bfloat16

# Longer than so many times its short side, a matrix is orthogonalised with fewer products by way of its Gram matrix:
# n steps cost 4 short^2 long + (8 n - 6) short^3 in place of n (4 short^2 long + 2 short^3).
_LONG = 1.5


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


def _loss_of(closure: Callable | None):
    """What a closure of `step` gives, if there is one; its gradients are computed though `step` itself has none."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


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
        loss = _loss_of(closure)
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


def orthogonalize(
    matrix: torch.Tensor, coefficients: tuple[float, float, float], num_steps: int, eps: float, dtype: torch.dtype
) -> torch.Tensor:
    """Newton-Schulz iteration of Muon: singular values of the matrix are brought near 1, its directions stay.

    Args:
        matrix (`torch.FloatTensor` of shape `(num_rows, num_columns)`)
        coefficients (`tuple[float, float, float]`): a, b, c of the quintic `a X + b (X X^T) X + c (X X^T)^2 X`.
        num_steps (`int`): Iterations.
        eps (`float`): Least norm that the matrix is divided by.
        dtype (`torch.dtype`): What the products are computed in.

    Returns:
        `torch.Tensor` of the same shape, of `dtype`.
    """
    a, b, c = coefficients
    wide = matrix.size(0) <= matrix.size(1)
    x = matrix.to(dtype) if wide else matrix.to(dtype).T  # (short, long)
    x = x / x.norm().clamp(min=eps)  # no singular value above 1
    if dtype == torch.float32 and num_steps > 1 and x.size(1) > _LONG * x.size(0):
        x = _orthogonalizer(x @ x.T, coefficients, num_steps) @ x  # (short, long)
        return x if wide else x.T
    for _ in range(num_steps):
        gram = x @ x.T  # (short, short)
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)  # (short, long)
    return x if wide else x.T


def _orthogonalizer(gram: torch.Tensor, coefficients: tuple[float, float, float], num_steps: int) -> torch.Tensor:
    """The same iteration on `gram`, which is `X X^T`: the matrix, of its shape `(short, short)`, that X is multiplied
    by. Each factor is a polynomial of `gram`, so they commute. In bfloat16 small eigenvalues would drown in rounding.
    """
    a, b, c = coefficients
    product = None
    for step in range(num_steps):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        product = factor if product is None else factor @ product
        if step < num_steps - 1:
            gram = factor @ (factor @ gram)
    return product


class Muon(torch.optim.Muon):
    """torch's Muon, in the arithmetic that suits the machine; arguments and saved states are torch's.

    torch always orthogonalises in bfloat16. Without bfloat16 in hardware that is most of an update's time on a CPU
    (16 to 35 times as slow as float32), so there it is done in float32.
    """

    @torch.no_grad()
    def step(self, closure=None):
        """One update; the loss, if a closure gives one."""
        loss = _loss_of(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: torch.Tensor, group: dict):
        gradient = parameter.grad
        momentum = group["momentum"]
        if "momentum_buffer" not in self.state[parameter]:
            self.state[parameter]["momentum_buffer"] = torch.zeros_like(gradient)
        average = self.state[parameter]["momentum_buffer"].lerp_(gradient, 1 - momentum)
        direction = gradient.lerp(average, momentum) if group["nesterov"] else average
        in_float32 = parameter.device.type == "cpu" and not cpu_multiplies_bfloat16()
        dtype = torch.float32 if in_float32 else torch.bfloat16
        direction = orthogonalize(direction, group["ns_coefficients"], group["ns_steps"], group["eps"], dtype)
        num_rows, num_columns = parameter.shape
        scale = math.sqrt(max(1, num_rows / num_columns))
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(direction, alpha=-group["lr"] * scale)


def create_muon(
    model: torch.nn.Module, muon_learning_rate: float, weight_decay: float, others: tuple[type, dict]
) -> CombinedOptimizer:
    """Muon for the matrices inside the Transformer blocks, another optimizer for all other parameters.

    Muon orthogonalises each matrix's update. With 10^4 to 10^5 samples it reaches a loss in a quarter of AdamW's steps
    (docs/experiments/training.md). The scale of its rate is torch's own: about ten times that of AdamW.

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
    matrices = [p for name, p in trained if p.ndim == 2 and ".layers." in name]
    if not matrices:
        raise ValueError("`model` must have matrices in `layers`, which Muon trains; got none that wants a gradient")
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in trained if id(p) not in chosen]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer_class, arguments = others
    muon = Muon(matrices, lr=muon_learning_rate, weight_decay=weight_decay)
    groups = [group for group in groups if group["params"]]  # none where adapters of the blocks alone are trained
    return CombinedOptimizer([muon, *([optimizer_class(groups, **arguments)] if groups else [])])


def optimizer_factory(args, model: torch.nn.Module | None = None) -> tuple:
    """Adafactor by Table 3, every other optimizer as in transformers; Muon beside it if it has a rate.

    Args:
        args ([`ITITTrainingArguments`]): Names the optimizer and its rates.
        model (`torch.nn.Module`, *optional*): As in transformers.

    Returns:
        `(optimizer, arguments)`, as `Trainer.get_optimizer_cls_and_kwargs`: a class of optimizers, or a factory that
        takes the model first.
    """
    if args.optim == "adafactor":
        others = (CappedAdafactor, {"lr": args.learning_rate, "beta1": args.adam_beta1, "beta2": args.adam_beta2})
    else:
        others = Trainer.get_optimizer_cls_and_kwargs(args, model)
    if args.muon_learning_rate is None:
        return others
    rates = {"muon_learning_rate": args.muon_learning_rate, "weight_decay": args.weight_decay}
    return (lambda: create_muon), rates | {"others": others}  # a factory, in transformers' words
