"""One multi-layer perceptron per finding on the mean of the tokens (SwinCheX, Taslimi et al. 2022). Closed vocabulary."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.errors import InputError
from hilum.models.heads.pooling import mean_token

SWINCHEX = (384, 48, 48)


class PerFinding(nn.Module):
    """A linear map of its own for each of F findings: (B, F, I) -> (B, F, O), started as nn.Linear is."""

    def __init__(self, findings: int, into: int, out: int):
        super().__init__()
        bound = into**-0.5
        self.weight = nn.Parameter(torch.empty(findings, into, out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(findings, out).uniform_(-bound, bound))

    def forward(self, values: Tensor) -> Tensor:
        return torch.einsum("bfi,fio->bfo", values, self.weight) + self.bias


class MLPHead(nn.Module):
    """tokens (B, T, C), mask bool (B, T) or None -> logits (B, F). The F networks share nothing but the mean they read."""

    def __init__(self, channels: int, findings: int, hidden: Sequence[int], dropout: float):
        super().__init__()
        sizes = [channels, *hidden, 1]
        self.layers = nn.ModuleList(PerFinding(findings, into, out) for into, out in pairwise(sizes))
        self.findings, self.dropout = findings, nn.Dropout(dropout)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        values = mean_token(tokens, mask)[:, None].expand(-1, self.findings, -1)
        for layer in self.layers[:-1]:
            values = self.dropout(F.relu(layer(values)))
        logits: Tensor = self.layers[-1](values)[..., 0]
        return logits


def mlp(channels: int, findings: int, *, hidden: Sequence[int] = SWINCHEX, dropout: float = 0.0) -> nn.Module:
    """One network per finding: hidden layers of these sizes with ReLU and `dropout`, then a logit.

    Published: 384, 48, 48 units and a softmax over two outputs, "is there" and "is not"; their difference is one logit, so
    one output says the same. An empty list is the linear head.
    """
    if isinstance(hidden, str) or any(
        isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in hidden
    ):
        raise InputError(f"head mlp: hidden is {hidden!r}", do="give a list of sizes, such as [384, 48, 48]")
    return MLPHead(channels, findings, hidden, dropout)
