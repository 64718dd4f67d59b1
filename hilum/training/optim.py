"""The optimiser, by name."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.optim import Optimizer

from hilum.errors import InputError

Steps = Callable[..., Optimizer]  # groups of parameters, lr -> what takes the steps


def adamw() -> Steps:
    """AdamW: weight decay apart from the gradient (Loshchilov 2019)."""
    return torch.optim.AdamW


def adam() -> Steps:
    """Adam, with weight decay as an L2 penalty within the gradient."""
    return torch.optim.Adam


def sgd(*, momentum: float = 0.9, nesterov: bool = False) -> Steps:
    """Stochastic gradient descent with momentum, weight decay as an L2 penalty."""
    if not 0 <= momentum < 1 or (nesterov and not momentum):
        advice = "give a momentum of at least 0 and below 1, above 0 with nesterov"
        raise InputError(f"train.optimizer: sgd with momentum {momentum}, nesterov {nesterov}", do=advice)
    return partial(torch.optim.SGD, momentum=momentum, nesterov=nesterov)


OPTIMIZERS: dict[str, Callable[..., Steps]] = {"adamw": adamw, "adam": adam, "sgd": sgd}


def build_optimizer(model: nn.Module, lr: float, weight_decay: float, steps: Steps = torch.optim.AdamW) -> Optimizer:
    """The optimiser of the trainable parameters; biases, norms and other vectors are not decayed (as since BERT)."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return steps([group for group in groups if group["params"]], lr=lr)
