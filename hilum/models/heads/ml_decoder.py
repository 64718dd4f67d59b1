"""ML-Decoder: a few queries ask the image tokens, and each query answers for a group of findings."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.errors import InputError
from hilum.models.attention import Attention
from hilum.models.heads.queries import Kind, Projection, asked, queries_of


class DecoderLayer(nn.Module):
    """Cross-attention and feed-forward with post-normalisation; queries never see one another (ML-Decoder, section 2.3)."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float):
        super().__init__()
        self.attend = Attention(dim, heads, dropout)
        self.expand, self.contract = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def weights(self, queries: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Weights (B, Q, T) of the cross-attention."""
        return self.attend.weights(self.norms[0](queries + self.dropout(queries)), tokens, mask)

    def forward(self, queries: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        queries = self.norms[0](queries + self.dropout(queries))
        queries = self.norms[1](queries + self.dropout(self.attend(queries, tokens, mask)))
        answer = self.contract(self.dropout(F.relu(self.expand(queries))))
        normed: Tensor = self.norms[2](queries + self.dropout(answer))
        return normed


class MLDecoder(nn.Module):
    """tokens (B, T, C), mask bool (B, T) or None -> logits (B, F) (Ridnik et al. 2023, ML-Decoder).

    The group projection is one product: weight (G, D, ceil(F / G)), where the authors' code loops over groups.
    shared: one such weight and one bias for all queries. open: these, and queries made of texts: queries never see one
    another, so findings can be added and leave the others as they are.
    """

    def __init__(
        self,
        channels: int,
        findings: int,
        groups: int,
        dim: int,
        heads: int,
        hidden: int,
        layers: int,
        dropout: float,
        queries: Kind,
        projection: Projection,
        shared: bool,
    ):
        super().__init__()
        self.open = queries == "text" and shared
        self.findings = None if self.open else findings
        self.embed = nn.Linear(channels, dim)
        self.queries = queries_of(queries, groups, dim, projection)
        self.layers = nn.ModuleList(DecoderLayer(dim, heads, hidden, dropout) for _ in range(layers))
        width = math.ceil(findings / groups)
        self.weight = nn.Parameter(torch.empty(1 if shared else groups, dim, width))
        self.bias = nn.Parameter(torch.zeros(1 if shared else findings))
        nn.init.trunc_normal_(self.weight, std=dim**-0.5)

    def attention(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Weights (B, F, T) of the last layer, which sum to 1; findings of one group have the same."""
        memory, answers = self._memory(tokens, mask), asked(self.queries).expand(tokens.shape[0], -1, -1)
        for layer in self.layers[:-1]:
            answers = layer(answers, memory, mask)
        weights: Tensor = self.layers[-1].weights(answers, memory, mask)  # type: ignore[operator]
        return weights.repeat_interleave(self.weight.shape[-1], dim=1)[:, : self.findings]

    def _memory(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        if mask is not None:  # attention gives such a token no weight, but no weight times NaN is NaN
            tokens = tokens.masked_fill(~mask[..., None], 0.0)
        return F.relu(self.embed(tokens))

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        memory = self._memory(tokens, mask)
        answers = asked(self.queries).expand(tokens.shape[0], -1, -1)
        for layer in self.layers:
            answers = layer(answers, memory, mask)
        logits = torch.einsum("bgd,gdw->bgw", answers, self.weight.expand(answers.shape[1], -1, -1)).flatten(1)
        return logits[:, : self.findings] + self.bias


def ml_decoder(
    channels: int,
    findings: int,
    *,
    groups: int | Literal["auto"] = "auto",
    dim: int = 768,
    heads: int = 8,
    hidden: int = 2048,
    layers: int = 1,
    dropout: float = 0.1,
    queries: Kind = "learned",
    projection: Projection = "tuned",
    classifier: Literal["separate", "shared"] = "separate",
) -> nn.Module:
    """ML-Decoder.

    groups: auto = one query per finding, at most 100. queries: fixed = random and never trained, as published; or learned,
    one_hot or text, with their projection (`hilum.models.heads.queries`): one per finding then.
    classifier: a last layer per finding, or one for all queries, which then have to be one per finding (the frame that
    Hong and Dai 2023 start from; the former is their trick "separate classifier").
    """
    if dim % heads:
        raise InputError(f"head ml_decoder: dim {dim} is not a multiple of heads {heads}", do="change one of them")
    count = min(100, findings) if groups == "auto" else groups
    if not 1 <= count <= findings:
        raise InputError(
            f"head ml_decoder: {count} groups for {findings} findings", do=f"choose 1 to {findings}, or auto"
        )
    shared = classifier == "shared"
    if shared and count < findings:
        raise InputError(
            f"head ml_decoder: a shared classifier for {count} groups of {findings} findings", do="set groups=auto"
        )
    if queries in ("text", "one_hot") and count < findings:
        raise InputError(
            f"head ml_decoder: {count} groups for the labels of {findings} findings", do=f"set groups={findings}"
        )
    return MLDecoder(channels, findings, count, dim, heads, hidden, layers, dropout, queries, projection, shared)
