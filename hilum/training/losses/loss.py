"""What every loss is: a value per study and finding, nothing where the label is unknown, and one number for a batch."""

from typing import Literal, TypedDict

import torch
from torch import Tensor, nn

from hilum.errors import InputError
from hilum.training.losses.class_weights import ClassWeights, WeighedTerms, weights_of_terms

Reduction = Literal["mean", "sum"]


class LossOptions(TypedDict, total=False):
    """The options of every loss; what they mean stands at `Loss`."""

    class_weights: ClassWeights
    beta: float
    power: float
    weigh: WeighedTerms
    smoothing: float
    reduction: Reduction


class Loss(nn.Module):
    """y * positive term + (1 - y) * negative term, over logits (B, F) and labels (B, F) in [0, 1], NaN = unknown.

    A loss of this form is linear in the label, so soft labels and mixed labels mean what they say: a label of 0.3 is a
    positive that counts 0.3 and a negative that counts 0.7.

    counts, known: (F,) positives and labelled entries in training. A finding nobody labelled has prevalence 0.
    class_weights, beta, power, weigh: weights of findings and the terms that get them; see `weights_of_terms`.
    smoothing: s, which moves labels to y (1 - s) + s / 2 (Szegedy et al. 2016, for two classes; SwinCheX has 0.1),
        in validation losses, too.
    reduction: mean over known entries (a batch without any gives 0), or sum, as published losses differ. Where entries
        are weighed the sum is of weight times loss, and the mean is that sum over the weights of the known entries: an
        entry of weight 0 is an unknown one. Class weights do not enter the mean's denominator (`divisor`).
    """

    positive_weight: Tensor
    negative_weight: Tensor

    def __init__(
        self,
        counts: Tensor,
        known: Tensor,
        *,
        class_weights: ClassWeights = "none",
        beta: float = 0.9999,
        power: float = 1.0,
        weigh: WeighedTerms = "positives",
        smoothing: float = 0.0,
        reduction: Reduction = "mean",
    ):
        super().__init__()
        if not 0 <= smoothing < 1:
            raise InputError(f"the option smoothing of the loss is {smoothing}", do="give a number from 0 to below 1")
        positive, negative = weights_of_terms(class_weights, counts, known, beta=beta, power=power, terms=weigh)
        self.register_buffer("positive_weight", positive, persistent=False)
        self.register_buffer("negative_weight", negative, persistent=False)
        self.smoothing, self.reduction = smoothing, reduction

    def terms(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each entry were it positive, and were it negative: two (B, F). For subclasses."""
        raise NotImplementedError

    def elementwise(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B, F) losses in the dtype of the logits, exactly 0 (and without gradient) where the label is NaN."""
        unknown = torch.isnan(labels)
        wide = torch.promote_types(logits.dtype, torch.float32)  # half precision has too few digits for logs of small p
        y = labels.to(wide).masked_fill(unknown, 0.0) * (1 - self.smoothing) + self.smoothing / 2
        positive, negative = self.terms(logits.to(wide))
        values = y * self.positive_weight.to(wide) * positive + (1 - y) * self.negative_weight.to(wide) * negative
        return values.masked_fill(unknown, 0.0).to(logits.dtype)

    def forward(self, logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """The loss of the batch, a scalar; weights (B, F), 0 or more, None = all 1."""
        wide = torch.promote_types(logits.dtype, torch.float32)
        if weights is not None:
            labels = labels.masked_fill(weights == 0, torch.nan)
        values = self.elementwise(logits.to(wide), labels)
        total = (values if weights is None else values * weights.to(wide)).sum()
        if self.reduction == "mean":
            divisor = self.divisor(labels, weights)
            total = total / divisor.where(divisor > 0, 1)
        return total.to(logits.dtype)

    def divisor(self, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """What the mean of a batch divides its sum by, a scalar that adds up over parts of a batch: the weights of known entries,
        summed; their number where none is weighed.
        """
        known = ~torch.isnan(labels)
        return known.sum() if weights is None else weights.masked_fill(~known, 0.0).sum()
