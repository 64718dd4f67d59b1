"""The dual-weighted metric loss: weighted cross-entropy, and an image nearer to the labels it has than to those it has not."""

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from hilum.errors import InputError
from hilum.training.losses.class_weights import weights_of_terms
from hilum.training.losses.loss import Loss, LossOptions


class DualWeightedMetric(Loss):
    """y BCE+ + (1 - y) BCE- + w y d_c (K / P) log(1 + sum over n of (1 - y_n) e^(x_n - x_c + m)), per entry of finding c.

    x are logits of the head `metric`, scaled cosines of an image and a label. The sum is over the study's known findings, so
    the last factor is small once the image is nearer to label c than to every label it has not, by the margin m.
    Two weights: of the image, K / P, its known entries over its positives, so that in the mean over known entries every image
    with a finding counts alike, however many it has; and of the disease, d_c, its class-balanced weight (Cui et al. 2019, beta
    .9999) to the power `disease_power`, so that rare diseases count for more.

    metric_weight: w. margin: m, in logits. The name and the idea, with its two weights on top of weighted cross-entropy, are
    of Jin et al. 2023, whose formula we could not find: this one is ours.

    Not linear in the label: the labels of a study meet in the sum. A label that is unknown is on neither side of it.
    """

    disease: Tensor

    def __init__(
        self,
        counts: Tensor,
        known: Tensor,
        *,
        metric_weight: float = 0.1,
        margin: float = 1.0,
        disease_power: float = 0.5,
        **options: Unpack[LossOptions],
    ):
        super().__init__(counts, known, **options)
        if metric_weight < 0:
            raise InputError(f"the option metric_weight of the loss is {metric_weight}", do="give 0 or more")
        self.metric_weight, self.margin = metric_weight, margin
        weights, _ = weights_of_terms(
            "class_balanced", counts, known, beta=0.9999, power=disease_power, terms="positives"
        )
        self.register_buffer("disease", weights, persistent=False)

    def terms(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        return F.softplus(-logits), F.softplus(logits)

    def elementwise(self, logits: Tensor, labels: Tensor) -> Tensor:
        wide = torch.promote_types(logits.dtype, torch.float32)
        x, unknown = logits.to(wide), torch.isnan(labels)
        y = labels.to(wide).masked_fill(unknown, 0.0)
        absent = (1 - y).masked_fill(unknown, 0.0)
        nowhere = torch.finfo(wide).min / 4  # in place of log 0, whose gradient would be none
        others = torch.logsumexp(
            torch.where(absent > 0, x + absent.clamp(min=1e-30).log(), nowhere), dim=1, keepdim=True
        )
        image = (~unknown).sum(dim=1, keepdim=True) / y.sum(dim=1, keepdim=True).clamp(min=1e-6)
        apart = F.softplus(others - x + self.margin)
        pull = self.metric_weight * y * self.disease.to(wide) * image * apart
        return (super().elementwise(x, labels) + pull).to(logits.dtype)
