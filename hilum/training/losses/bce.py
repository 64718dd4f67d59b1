"""Binary cross-entropy, and the same after the odds of the training set are taken out."""

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from hilum.training.losses.loss import Loss, LossOptions


class BCE(Loss):
    """-[y log p + (1 - y) log(1 - p)]. Its minimum is where p is the share of positives."""

    def terms(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        return F.softplus(-logits), F.softplus(logits)


class LogitAdjusted(Loss):
    """Binary cross-entropy of x + tau log(pi / (1 - pi)), pi the prevalence in training (Menon et al. 2021).

    The paper adds tau log pi before a softmax; with one sigmoid per finding that is tau times the log odds. Its minimum
    is at the logit of the share of positives less tau times the log odds: with tau = 1 the model's p says how much more
    the image speaks for the finding than the training set did, and one half means no more and no less. Such
    probabilities have to be calibrated before they are read as chances; rankings within a finding need no such thing.

    A finding with no positives, or no negatives, gets the odds of half a one.
    """

    shift: Tensor

    def __init__(self, counts: Tensor, known: Tensor, *, tau: float = 1.0, **options: Unpack[LossOptions]):
        super().__init__(counts, known, **options)
        odds = counts.clamp(min=0.5) / (known - counts).clamp(min=0.5)
        self.register_buffer("shift", tau * torch.log(odds), persistent=False)

    def terms(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        adjusted = logits + self.shift.to(logits.dtype)
        return F.softplus(-adjusted), F.softplus(adjusted)
