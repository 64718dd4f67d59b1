"""The optimiser, by name, and the learning rate of each layer."""

from collections.abc import Callable
from functools import partial

import torch
from timm.models import group_parameters
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


def build_optimizer(
    model: nn.Module, lr: float, weight_decay: float, steps: Steps = torch.optim.AdamW, layer_decay: float = 1.0
) -> Optimizer:
    """The optimiser of the trainable parameters; biases, norms and other vectors are not decayed (as since BERT).

    layer_decay: d, so that the k-th layer of the backbone from its end learns at d^k times the rate (Clark et al. 2020).
    A group's `scale` is its part of the rate, which the loop keeps to.
    """
    scales = layer_scales(model, layer_decay) if layer_decay != 1 else {}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for scale in sorted({1.0, *scales.values()}, reverse=True):
        for decayed in (True, False):
            groups[scale, decayed] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[scales.get(name, 1.0), parameter.ndim > 1].append(parameter)
    return steps(
        [
            {"params": group, "weight_decay": weight_decay if decayed else 0.0, "scale": scale, "lr": lr * scale}
            for (scale, decayed), group in groups.items()
            if group
        ],
        lr=lr,
    )


def layer_scales(model: nn.Module, layer_decay: float) -> dict[str, float]:
    """The part of the learning rate that each of the backbone's parameters has, by name: d for its last layer, d^2 before it.

    What a layer is, timm says of its networks. Raises InputError for a network that timm does not know.
    """
    scales: dict[str, float] = {}
    for path, network in model.named_modules():
        if path.split(".")[0] != "backbone" or path.split(".")[-1] != "network":
            continue
        if not hasattr(network, "group_matcher"):
            raise InputError("train.layer_decay: this backbone tells no layers apart", do="set it to 1, or take timm's")
        layers = group_parameters(network, network.group_matcher(coarse=False))
        depth = max(layers)
        for layer, names in layers.items():
            scales |= {f"{path}.{name}": layer_decay ** (depth - layer + 1) for name in names}
    return scales
