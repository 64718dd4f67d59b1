"""An LSTM over the findings: each is judged knowing the image and what was thought of those before (Yao et al. 2017)."""

import torch
from torch import Tensor, nn

from hilum.errors import InputError
from hilum.models.heads.pooling import mean_token


class LabelLSTM(nn.Module):
    """tokens (B, T, C), mask bool (B, T) or None -> logits (B, F).

    One step of a long short-term memory per finding, in the order of the model's findings. A step takes the mean of the
    tokens, which finding is asked, and the probability the step before gave; its hidden state gives the finding's logit. The
    mean of the tokens is also where the memory starts.

    Yao et al. factorise p(y_1, ..., y_F | x) and train each step on the *true* earlier labels. Here a step is fed its own
    earlier probability, in training as at prediction (ours): logits need no labels, an unknown label is no trouble, and no
    gap opens between training and use. Findings depend on those before them, so a subset of findings is another model, and
    the vocabulary is closed.
    """

    def __init__(self, channels: int, findings: int, dim: int, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.start = nn.Linear(channels, 2 * dim)
        self.image, self.recur = nn.Linear(channels, 4 * dim), nn.Linear(dim, 4 * dim, bias=False)
        self.asked = nn.Parameter(torch.randn(findings, 4 * dim) * dim**-0.5)
        self.before = nn.Parameter(torch.randn(4 * dim) * dim**-0.5)
        self.answer = nn.Linear(dim, findings)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        pooled = self.dropout(mean_token(tokens, mask))
        state, memory = self.start(pooled).tanh().chunk(2, dim=-1)
        image, earlier, logits = self.image(pooled), torch.zeros_like(pooled[:, :1]), []
        for asked, weight, bias in zip(self.asked, self.answer.weight, self.answer.bias):
            gates = image + asked + self.recur(state) + earlier * self.before
            keep, write, show, new = gates.chunk(4, dim=-1)
            memory = keep.sigmoid() * memory + write.sigmoid() * new.tanh()
            state = show.sigmoid() * memory.tanh()
            logits.append((self.dropout(state) * weight).sum(dim=-1) + bias)
            earlier = logits[-1].sigmoid()[:, None]
        return torch.stack(logits, dim=1)


def label_lstm(channels: int, findings: int, *, dim: int = 256, dropout: float = 0.0) -> nn.Module:
    """An LSTM of `dim` units over the findings, fed with its own earlier answers; `dropout` on its input and states."""
    if dim < 1:
        raise InputError(f"head label_lstm: dim is {dim}", do="give at least 1")
    return LabelLSTM(channels, findings, dim, dropout)
