"""What every loss is: a value per study and finding, nothing where the label is unknown, and one number for a batch."""

from typing import Literal

import torch
from torch import Tensor, nn

Reduction = Literal["mean", "sum"]


class Loss(nn.Module):
    """y * positive term + (1 - y) * negative term, over logits (B, F) and labels (B, F) in [0, 1], NaN = unknown.

    A loss of this form is linear in the label, so soft labels and mixed labels mean what they say.

    counts, known: (F,) positives and labelled entries in training. A finding nobody labelled has prevalence 0.
    weighted: weigh positives by e^(1 - pi) and negatives by e^pi, pi the prevalence among known training entries
        (CheXFusion, Kim 2023).
    reduction: mean over known entries (a batch without any gives 0), or sum, as published losses differ. Where entries
        are weighed the sum is of weight times loss, and the mean is that sum over the weights of the known entries: an
        entry of weight 0 is an unknown one.
    """

    positive_weight: Tensor
    negative_weight: Tensor

    def __init__(self, counts: Tensor, known: Tensor, *, weighted: bool = False, reduction: Reduction = "mean"):
        super().__init__()
        prevalence = torch.where(known > 0, counts / known.clamp(min=1), 0.0)
        ones = torch.ones_like(prevalence)
        self.register_buffer("positive_weight", torch.exp(1 - prevalence) if weighted else ones, persistent=False)
        self.register_buffer("negative_weight", torch.exp(prevalence) if weighted else ones, persistent=False)
        self.reduction = reduction

    def terms(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each entry were it positive, and were it negative: two (B, F). For subclasses."""
        raise NotImplementedError

    def elementwise(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B, F) losses in the dtype of the logits, exactly 0 (and without gradient) where the label is NaN."""
        unknown = torch.isnan(labels)
        wide = torch.promote_types(logits.dtype, torch.float32)  # half precision has too few digits for logs of small p
        y = labels.to(wide).masked_fill(unknown, 0.0)
        positive, negative = self.terms(logits.to(wide))
        values = y * self.positive_weight.to(wide) * positive + (1 - y) * self.negative_weight.to(wide) * negative
        return values.masked_fill(unknown, 0.0).to(logits.dtype)

    def forward(self, logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """The loss of the batch, a scalar; weights (B, F), 0 or more, None = all 1."""
        wide = torch.promote_types(logits.dtype, torch.float32)
        values = self.elementwise(logits.to(wide), labels)
        total = (values if weights is None else values * weights.to(wide)).sum()
        if self.reduction == "mean":
            known = known_weight(labels, weights)
            total = total / known.where(known > 0, 1)
        return total.to(logits.dtype)


def known_weight(labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """The weights of the known entries of labels (B, F), summed: their number where none is weighed."""
    known = ~torch.isnan(labels)
    return known.sum() if weights is None else weights.masked_fill(~known, 0.0).sum()
