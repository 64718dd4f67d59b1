"""The plain head: average over the tokens, one linear map."""

from torch import Tensor, nn


class LinearHead(nn.Module):
    """tokens (B, T, C) -> logits (B, F)."""

    def __init__(self, channels: int, findings: int, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(channels, findings)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.project(self.dropout(tokens.mean(dim=1)))
        return logits


def linear(channels: int, findings: int, *, dropout: float = 0.0) -> nn.Module:
    """Mean over positions, then a linear map; `dropout` on the mean."""
    return LinearHead(channels, findings, dropout)
