"""Age and sex beside the image: their numbers stand in every token that a head reads (after Pillai 2022; the way of joining is ours)."""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.errors import InputError
from hilum.models.fusions.apart import HeadPair


class Concat(nn.Module):
    """demographics float32 (B, 4) = age in decades, age known, sex (F 0, M 1), sex known -> (B, channels).

    Age counts from 50 years in steps of 20, sex is -1 or 1. What is unknown has a learned stand-in, which starts in the middle
    between both sexes and at 50, and its flag says so: an unknown value is never read, be it NaN.
    hidden: units of a ReLU layer over these four numbers; 0 hands on the numbers themselves.
    """

    def __init__(self, hidden: int):
        super().__init__()
        self.channels = hidden or 4
        self.unknown = nn.Parameter(torch.zeros(2))
        self.layer = nn.Linear(4, hidden) if hidden else None

    def forward(self, demographics: Tensor) -> Tensor:
        known = demographics[:, 1::2] > 0
        age, sex = (demographics[:, ::2]).masked_fill(~known, 0.0).unbind(1)
        values = torch.where(known, torch.stack([(age - 5) / 2, 2 * sex - 1], dim=1), self.unknown)
        numbers = torch.cat([values, known.to(values.dtype)], dim=1)
        return numbers if self.layer is None else F.relu(self.layer(numbers))


class Informed(nn.Module):
    """A head, or a pair of them, whose tokens end in what is known of the patient. Never called itself: see `knowing`.

    A head that averages its tokens reads the pooled features with the numbers beside them, as published; one that attends
    may also look elsewhere for the old than for the young.
    """

    def __init__(self, head: nn.Module, beside: Concat):
        super().__init__()
        self.head, self.beside = head, beside

    def knowing(self, demographics: Tensor | None, studies: int) -> Callable[..., Tensor] | SimpleNamespace:
        """The head for these studies, as a fusion asks it; None = nothing is known of anyone."""
        if demographics is None:
            demographics = torch.zeros(studies, 4, device=self.beside.unknown.device)
        numbers = self.beside(demographics)
        if isinstance(self.head, HeadPair):
            sides = {side: getattr(self.head, side) for side in ("frontal", "lateral")}
            return SimpleNamespace(**{side: partial(_asked, head, numbers) for side, head in sides.items()})
        return partial(_asked, self.head, numbers)


def _asked(head: nn.Module, numbers: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
    """Logits of tokens (N, T, C), N = B, or B times the views where each view is asked by itself."""
    # shapes, not len(): an exported graph takes any number
    rows = numbers.repeat_interleave(tokens.shape[0] // numbers.shape[0], dim=0)[:, None].expand(
        -1, tokens.shape[1], -1
    )
    logits: Tensor = head(torch.cat([tokens, rows.to(tokens.dtype)], dim=-1), mask)
    return logits


def concat(*, hidden: int = 0) -> Concat:
    """Four numbers of age and sex beside the features, or `hidden` units made of them."""
    if hidden < 0:
        raise InputError(f"demographics concat: hidden is {hidden}", do="give 0 for the plain numbers, or more")
    return Concat(hidden)


DEMOGRAPHICS: dict[str, Callable[..., Concat]] = {"concat": concat}
