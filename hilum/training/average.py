"""The exponential moving average of a model's weights."""

import copy

import torch
from torch import nn


class MovingAverage:
    """Keeps average = decay * average + (1 - decay) * weights; buffers (such as batch-norm statistics) are copied.

    In its first steps it follows faster, with decay min(decay, (1 + n) / (10 + n)), so that it forgets the random start.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after optimiser step `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        weights = dict(model.named_parameters())
        for name, value in self.model.named_parameters():
            if weights[name].requires_grad:  # frozen ones are as they were
                value.lerp_(weights[name].to(value.dtype), 1 - decay)
        for kept, buffer in zip(self.model.buffers(), model.buffers()):
            kept.copy_(buffer)
