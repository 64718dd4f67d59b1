"""The margin loss LDAM: the rarer a finding, the further its positives must be above the line."""

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from hilum.errors import InputError
from hilum.training.losses.loss import Loss, LossOptions


class LDAM(Loss):
    """Binary cross-entropy of s (x - d y), d = M (n_min / n)^(1/4) for a finding with n positives (Cao et al. 2019).

    max_margin, scale: M, the margin of the rarest finding that has positives, and s.

    The paper has a softmax over classes and takes the margin from the logit of the true one; with one sigmoid per
    finding it is taken from the logits of positives. The margin follows from a bound in the number of positives seen,
    so n counts them, whatever share of the entries is labelled. The paper's classifier is a cosine (|x| <= 1), for which
    s = 30 was meant; Holste et al. 2022 have the same s on plain logits, where it makes the loss 30 times as steep. The
    model's p stays sigmoid(x), far milder than sigmoid(s x): calibrate it. A soft label is a share of a positive with
    the margin and of a negative without.
    """

    margin: Tensor

    def __init__(
        self,
        counts: Tensor,
        known: Tensor,
        *,
        max_margin: float = 0.5,
        scale: float = 30.0,
        **options: Unpack[LossOptions],
    ):
        super().__init__(counts, known, **options)
        if scale <= 0:
            raise InputError(f"the option scale of the loss is {scale}", do="give a number above 0")
        fewest = torch.where(counts > 0, counts, torch.inf).min()
        margin = max_margin * torch.where(counts > 0, fewest / counts, 1.0) ** 0.25
        self.register_buffer("margin", margin, persistent=False)
        self.scale = scale

    def terms(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        beyond = logits - self.margin.to(logits.dtype)
        return F.softplus(-self.scale * beyond), F.softplus(self.scale * logits)
