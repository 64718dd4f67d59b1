"""The optimiser and the learning rate of every step."""

import math

import torch
from torch import nn


def build_optimizer(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; biases, norms and other vectors are not decayed (common practice since BERT)."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=lr)


def learning_rate(step: int, total: int, *, peak: float, warmup: float, final: float) -> float:
    """The learning rate of step 0 .. total - 1: a linear rise over the first `warmup` share, then half a cosine.

    The first step after the rise has `peak`, the last step of all has exactly `final * peak`.
    """
    rising = round(warmup * total)
    if step < rising:
        return peak * (step + 1) / (rising + 1)
    along = (step - rising) / max(1, total - 1 - rising)
    return peak * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, along))))
