"""Attention by location: a 1 x 1 convolution weighs the positions, their weighted sum is read (IIT Guwahati 2023)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.errors import InputError
from hilum.models.heads.pooling import present_only, softmax_over


class LocationAttention(nn.Module):
    """tokens (B, T, C), mask bool (B, T) or None -> logits (B, F).

    Each of n attention heads weighs the positions for C / n of the channels (n = 1 as published). Weights are a softmax over
    the positions, or sigmoids; either way they are divided by their sum, so that more positions or views do not mean larger
    features. A softmax sees no constant added to its scores, so there the scores have no bias.

    per_finding: each finding has maps, and weights of the features it reads, of its own: closed vocabulary either way.
    """

    def __init__(self, channels: int, findings: int, heads: int, sigmoid: bool, per_finding: bool, dropout: float):
        super().__init__()
        self.heads, self.sigmoid, self.per_finding = heads, sigmoid, per_finding
        self.score = nn.Linear(channels, heads * (findings if per_finding else 1), bias=sigmoid)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(channels, findings)

    def weights(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Weights (B, T, M, n) of the positions, float32, summing to 1 over T: M = 1 map for all findings, or F."""
        scores = self.score(present_only(tokens, mask)).float().unflatten(-1, (-1, self.heads))
        # sigmoids divided by their sum are a softmax of their logarithms
        return softmax_over(F.logsigmoid(scores) if self.sigmoid else scores, mask)

    def attention(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Weights (B, F, T), the mean over the attention heads."""
        weights = self.weights(tokens, mask).mean(dim=-1).transpose(1, 2)
        return weights.expand(-1, self.project.out_features, -1)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        values = present_only(tokens, mask).reshape(*tokens.shape[:2], self.heads, -1)
        pooled = torch.einsum("btmn,btnc->bmnc", self.weights(tokens, mask).to(values.dtype), values).flatten(2)
        pooled = self.dropout(pooled)
        if self.per_finding:
            return torch.einsum("bfc,fc->bf", pooled, self.project.weight) + self.project.bias
        logits: Tensor = self.project(pooled[:, 0])
        return logits


def location_attention(
    channels: int,
    findings: int,
    *,
    weights: Literal["softmax", "sigmoid"] = "softmax",
    maps: Literal["shared", "per_finding"] = "shared",
    heads: int = 1,
    dropout: float = 0.0,
) -> nn.Module:
    """A weight per position, the weighted mean of the features, a linear map; `dropout` on the mean.

    maps: one for all findings, as published, or one per finding. heads: attention heads, each weighing its own part of the
    channels (the paper's future work).
    """
    if heads < 1 or channels % heads:
        raise InputError(
            f"head location_attention: {channels} channels do not divide by heads {heads}", do="choose another number"
        )
    return LocationAttention(channels, findings, heads, weights == "sigmoid", maps == "per_finding", dropout)
