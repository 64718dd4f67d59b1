"""Class-specific residual attention: the mean of a finding's scores plus a little of where they are highest (Zhu, Wu 2021)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.errors import InputError
from hilum.models.heads.pooling import mean_token, only, present_only, softmax_over


class CSRA(nn.Module):
    """tokens (B, T, C), mask bool (B, T) or None -> logits (B, F). Closed vocabulary: a row of weights per finding.

    Each of n heads scores every position for every finding, s = x . w / |w|, and answers mean(s) + share * sum(softmax(T s) s)
    over the positions; with T = inf the sum is their maximum. The heads' answers are added (Zhu, Wu 2021, equations 4 to 8).
    """

    def __init__(
        self, channels: int, findings: int, share: float, temperatures: Sequence[float], normalise: bool, bias: bool
    ):
        super().__init__()
        self.share, self.temperatures, self.normalise = share, tuple(temperatures), normalise
        bound = channels**-0.5
        self.weight = nn.Parameter(torch.empty(len(temperatures), findings, channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(findings)) if bias else None

    def scores(self, tokens: Tensor) -> Tensor:
        """Scores (B, T, n, F) of the positions."""
        weight = F.normalize(self.weight, dim=-1) if self.normalise else self.weight
        return torch.einsum("btc,nfc->btnf", tokens, weight)

    def attention(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Weights (B, F, T) of the positions in the attended score, the mean over the heads."""
        weights = []
        for scores, temperature in zip(self.scores(present_only(tokens, mask)).float().unbind(2), self.temperatures):
            here = only(scores, mask)
            highest = (here == here.amax(dim=1, keepdim=True)).float()
            flat = highest / highest.sum(dim=1, keepdim=True)
            weights.append(flat if math.isinf(temperature) else softmax_over(temperature * scores, mask))
        return torch.stack(weights).mean(dim=0).transpose(1, 2)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        answers = []
        for scores, temperature in zip(self.scores(present_only(tokens, mask)).float().unbind(2), self.temperatures):
            if math.isinf(temperature):
                attended = only(scores, mask).amax(dim=1)
            else:
                attended = (softmax_over(temperature * scores, mask) * scores).sum(dim=1)
            answers.append(mean_token(scores, mask) + self.share * attended)
        logits = torch.stack(answers).sum(dim=0)
        return logits if self.bias is None else logits + self.bias


def csra(
    channels: int,
    findings: int,
    *,
    share: float = 0.1,
    heads: int = 1,
    temperatures: Sequence[float] | None = None,
    normalise: bool = True,
    bias: bool = False,
) -> nn.Module:
    """Residual attention for each finding.

    share: of the attended score, lambda in the paper. heads: with temperatures 1, 2, 3, ..., the last of several infinite, as
    the paper's code has them (1; 1, inf; 1, 2, 4, inf; 1 to 5, inf; 1 to 7, inf); or give `temperatures` (.inf = maximum).
    normalise: divide each row of weights by its norm, as that code does. bias: one per finding, which it has not.
    """
    if temperatures is None:
        temperatures = _published(heads)
    if not isinstance(temperatures, list | tuple) or not temperatures or not all(_is_warm(t) for t in temperatures):
        raise InputError(f"head csra: temperatures are {temperatures!r}", do="give a list of numbers above 0, or .inf")
    if heads not in (1, len(temperatures)):
        raise InputError(f"head csra: {len(temperatures)} temperatures for {heads} heads", do="give one for each")
    return CSRA(channels, findings, share, temperatures, normalise, bias)


def _published(heads: int) -> list[float]:
    if heads < 1:
        raise InputError(f"head csra: there are {heads} heads", do="give at least 1")
    return {1: [1.0], 4: [1.0, 2.0, 4.0, math.inf]}.get(heads) or [*map(float, range(1, heads)), math.inf]


def _is_warm(temperature: object) -> bool:
    return isinstance(temperature, int | float) and not isinstance(temperature, bool) and temperature > 0
