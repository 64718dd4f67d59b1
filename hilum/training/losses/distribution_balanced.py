"""The distribution-balanced loss: weights for what sampling by class would do to co-occurring findings."""

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from hilum.training.losses.loss import Loss, LossOptions


class DistributionBalanced(Loss):
    """r [y f+ log(1 + e^-(x - v)) + (1 - y) f- log(1 + e^(L (x - v))) / L] (Wu et al. 2020, equations 4 to 10).

    Re-balanced weighting: r = lift + sigmoid(slope (q - centre)), q = (1 / n_c) / (sum of y_i / n_i over the study's
    known findings i): how often sampling by the finding alone would draw the study, over how often sampling by all of
    its findings does. n counts positives in training.
    Negative-tolerant regularisation: L = negative_scale, which lets a negative go once it is well below the line, and
    v = bias log(1 / pi - 1), the logit a finding starts from.
    gamma: f+ = (1 - sigmoid(x - v))^gamma and f- = sigmoid(L (x - v))^gamma, their focal variant; their released
        settings have 2 and a further factor 2 on the whole loss. 0, the equation, has none.

    Defaults are those for COCO: lift, slope, centre are the paper's alpha, beta, mu, and negative_scale and bias its
    lambda and kappa. The authors' code divides v by lambda, which they call a mistake (issue 8 of their repository); we
    do not. Published for training with class-aware sampling, as a mean.

    Not linear in the label: r follows from the study's labels, and a soft one enters its sum by its share. A study
    without positives, which their data never has, gets the limit: r = lift + 1. An unknown label is left out of the sum.
    """

    rarity: Tensor
    start: Tensor

    def __init__(
        self,
        counts: Tensor,
        known: Tensor,
        *,
        lift: float = 0.1,
        slope: float = 10.0,
        centre: float = 0.2,
        negative_scale: float = 2.0,
        bias: float = 0.05,
        gamma: float = 0.0,
        **options: Unpack[LossOptions],
    ):
        super().__init__(counts, known, **options)
        self.lift, self.slope, self.centre, self.negative_scale, self.gamma = lift, slope, centre, negative_scale, gamma
        odds = counts.clamp(min=0.5) / (known - counts).clamp(min=0.5)
        self.register_buffer("rarity", 1 / counts.clamp(min=1), persistent=False)
        self.register_buffer("start", -bias * torch.log(odds), persistent=False)

    def terms(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        above = logits - self.start.to(logits.dtype)
        scaled = self.negative_scale * above
        positive, negative = F.softplus(-above), F.softplus(scaled) / self.negative_scale
        return (-above).sigmoid() ** self.gamma * positive, scaled.sigmoid() ** self.gamma * negative

    def elementwise(self, logits: Tensor, labels: Tensor) -> Tensor:
        rarity = self.rarity.to(torch.promote_types(logits.dtype, torch.float32))
        drawn = (labels.to(rarity.dtype).nan_to_num(0.0) * rarity).sum(dim=1, keepdim=True)
        share = rarity / drawn  # infinite in a study without positives
        balance = self.lift + torch.sigmoid(self.slope * (share - self.centre))
        return (balance * super().elementwise(logits, labels)).to(logits.dtype)
