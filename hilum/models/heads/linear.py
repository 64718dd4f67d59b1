"""The plain head: average over the tokens, one linear map."""

from torch import Tensor, nn

from hilum.models.heads.pooling import mean_token


class LinearHead(nn.Module):
    """tokens (B, T, C), mask bool (B, T) or None -> logits (B, F)."""

    def __init__(self, channels: int, findings: int, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(channels, findings)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        logits: Tensor = self.project(self.dropout(mean_token(tokens, mask)))
        return logits


def linear(channels: int, findings: int, *, dropout: float = 0.0) -> nn.Module:
    """Mean over the tokens that are there, then a linear map; `dropout` on the mean."""
    return LinearHead(channels, findings, dropout)
