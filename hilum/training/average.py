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
        own, new = self.model.state_dict(), model.state_dict()
        for key, value in own.items():
            if value.is_floating_point():
                value.lerp_(new[key].to(value.dtype), 1 - decay) if _is_parameter(self.model, key) else value.copy_(
                    new[key]
                )
            else:
                value.copy_(new[key])


def _is_parameter(model: nn.Module, key: str) -> bool:
    module, _, name = key.rpartition(".")
    return name in model.get_submodule(module)._parameters
