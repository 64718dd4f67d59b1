"""What a model is told besides a study's images, and the tokens that say it: optional throughout, masked where unknown."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hilum.data.context import Part


class Context(NamedTuple):
    """What is known of B studies; a part that nobody gives is None. Flags alone say what is known, never values.

    demographics float32 (B, 4): age in decades, age known, sex (F 0, M 1), sex known.
    prior bool (B, V): which of the present images are of the patient's study before. years float32 (B,): since then.
    indication float32 (B, D): the request as a vector. told bool (B,): whether there is one.
    """

    demographics: Tensor | None = None
    prior: Tensor | None = None
    years: Tensor | None = None
    indication: Tensor | None = None
    told: Tensor | None = None

    def own(self, present: Tensor) -> Tensor:
        """`present` (B, V) without the images of the study before."""
        return present if self.prior is None else present & ~self.prior


class ContextTokens(nn.Module):
    """context -> tokens (B, T, dim), mask bool (B, T): one each for age, sex and indication, as far as these are read.

    width: of an indication's vector. Images of the study before are tokens already; `marks` tells them apart.
    """

    def __init__(self, parts: Sequence[Part], dim: int, width: int):
        super().__init__()
        self.age = nn.Linear(1, dim) if "demographics" in parts else None
        self.sex = nn.Embedding(2, dim) if "demographics" in parts else None
        self.words = nn.Linear(width, dim) if "indication" in parts else None
        self.before = nn.Linear(1, dim) if "prior" in parts else None
        if self.words is not None:  # of the size of the other tokens from the start: rows of length 1 are few words
            nn.init.normal_(self.words.weight)

    def forward(self, context: Context) -> tuple[Tensor, Tensor] | None:
        tokens, known = [], []
        if self.age is not None and self.sex is not None and context.demographics is not None:
            age, sex = context.demographics[:, :2], context.demographics[:, 2:]
            for column, flag in ((age, age[:, 1] > 0), (sex, sex[:, 1] > 0)):
                value = column[:, :1].masked_fill(~flag[:, None], 0.0)
                tokens.append(self.age((value - 5) / 2) if column is age else self.sex((value[:, 0] > 0.5).long()))
                known.append(flag)
        if self.words is not None and context.indication is not None and context.told is not None:
            tokens.append(self.words(context.indication.masked_fill(~context.told[:, None], 0.0)))
            known.append(context.told)
        return (torch.stack(tokens, dim=1), torch.stack(known, dim=1)) if tokens else None

    def marks(self, context: Context) -> Tensor | None:
        """(B, V, dim), added to the tokens of each image: nothing to the study's own, to those before what they are and
        how long ago, on a logarithm of months.
        """
        if self.before is None or context.prior is None:
            return None
        some = context.prior.any(dim=1)
        years = torch.zeros_like(some, dtype=torch.float32) if context.years is None else context.years
        ago = (12 * years.masked_fill(~some, 0.0)).clamp(min=0).log1p()
        marks: Tensor = self.before(ago[:, None])[:, None]
        return marks * context.prior[..., None].to(marks.dtype)
