"""Label queries: a transformer decoder in which every finding's label asks the image tokens whether it is there."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.errors import InputError
from hilum.models.attention import Attention
from hilum.models.heads.pooling import present_only
from hilum.models.heads.queries import Kind, Projection, asked, queries_of


class QueryLayer(nn.Module):
    """Queries (B, F, D) read tokens (B, T, D); a norm before each part. together: the queries see one another first."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float, together: bool):
        super().__init__()
        self.together = Attention(dim, heads, dropout) if together else None
        self.attend = Attention(dim, heads, dropout)
        self.expand, self.contract = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2 + together))
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        queries = self._met(queries)
        queries = queries + self.dropout(self.attend(self.norms[0](queries), tokens, mask))
        answer = self.contract(self.dropout(F.gelu(self.expand(self.norms[1](queries)))))
        result: Tensor = queries + self.dropout(answer)
        return result

    def weights(self, queries: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Weights (B, F, T) of the cross-attention."""
        weights: Tensor = self.attend.weights(self.norms[0](self._met(queries)), tokens, mask)
        return weights

    def _met(self, queries: Tensor) -> Tensor:
        if self.together is None:
            return queries
        normed = self.norms[2](queries)
        met: Tensor = queries + self.dropout(self.together(normed, normed))
        return met


class LabelQuery(nn.Module):
    """tokens (B, T, C), mask bool (B, T) or None -> logits (B, F).

    open: every finding is answered from its label's vector by weights that all findings share, and none sees another, so
    findings can be added and leave the others as they are.
    """

    def __init__(
        self,
        channels: int,
        findings: int,
        dim: int,
        layers: list[QueryLayer],
        queries: Kind,
        projection: Projection,
        separate: bool,
    ):
        super().__init__()
        self.embed, self.norm = nn.Linear(channels, dim), nn.LayerNorm(dim)
        self.queries = queries_of(queries, findings, dim, projection)
        self.layers, self.last = nn.ModuleList(layers), nn.LayerNorm(dim)
        self.weight = nn.Parameter(torch.randn(findings if separate else 1, dim) * dim**-0.5)
        self.bias = nn.Parameter(torch.zeros(findings if separate else 1))
        self.open = queries == "text" and not separate and all(layer.together is None for layer in layers)

    def _memory(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        memory: Tensor = self.norm(self.embed(present_only(tokens, mask)))
        return memory

    def attention(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Weights (B, F, T) of the last layer, which sum to 1."""
        memory, answers = self._memory(tokens, mask), asked(self.queries).expand(tokens.shape[0], -1, -1)
        for layer in self.layers[:-1]:
            answers = layer(answers, memory, mask)
        weights: Tensor = self.layers[-1].weights(answers, memory, mask)  # type: ignore[operator]
        return weights

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        memory, answers = self._memory(tokens, mask), asked(self.queries).expand(tokens.shape[0], -1, -1)
        for layer in self.layers:
            answers = layer(answers, memory, mask)
        logits: Tensor = (self.last(answers) * self.weight).sum(dim=-1) + self.bias
        return logits


def label_query(
    channels: int,
    findings: int,
    *,
    dim: int = 256,
    heads: int = 4,
    hidden: int = 1024,
    layers: int = 2,
    dropout: float = 0.1,
    queries: Kind = "text",
    projection: Projection = "tuned",
    query_self_attention: bool = False,
    classifier: Literal["shared", "separate"] = "shared",
) -> nn.Module:
    """A transformer decoder with a query per finding (after Query2Label, Liu et al. 2021, and MedKLIP, Wu et al. 2023).

    queries: see `hilum.models.heads.queries`; `text` reads the vectors that `model.labels` describes. projection: tuned or
    frozen. query_self_attention: queries see one another; classifier: the last layer shared by all findings or one for each.
    Either of the two, and queries that are not text, close the vocabulary; the defaults leave it open. Ours: the norm
    before each part, which lets several layers learn without warm-up tricks, and the shared last layer.
    """
    if dim % heads or min(dim, heads, hidden, layers) < 1:
        raise InputError(
            f"head label_query: dim {dim}, heads {heads}, hidden {hidden}, layers {layers} do not fit together",
            do="give numbers of at least 1, dim a multiple of heads",
        )
    stack = [QueryLayer(dim, heads, hidden, dropout, query_self_attention) for _ in range(layers)]
    return LabelQuery(channels, findings, dim, stack, queries, projection, classifier == "separate")
