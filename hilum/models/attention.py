"""Attention of queries to tokens, with a mask that says which tokens are there."""

from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017) of queries (B, Q, D) to tokens (B, T, D) -> (B, Q, D).

    mask: bool (B, T), False where a token is not there and gets no weight (it must be finite all the same), or None.
    """

    def __init__(self, dim: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def weights(self, queries: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Weights (B, Q, T) that the queries give the tokens, the mean over the attention heads; they sum to 1 over T."""
        q, k = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query(queries), self.key(tokens))
        )
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, :], float("-inf"))
        weights: Tensor = scores.softmax(dim=-1).mean(dim=1)
        return weights

    def forward(self, queries: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(queries), self.key(tokens), self.value(tokens))
        )
        allowed = None if mask is None else mask[:, None, None, :]
        heads = F.scaled_dot_product_attention(q, k, v, allowed, dropout_p=self.dropout if self.training else 0.0)
        answer: Tensor = self.out(heads.transpose(1, 2).flatten(2))
        return answer
