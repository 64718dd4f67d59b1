"""The class-aware loss: how much an entry counts depends on its finding's prevalence and on p."""

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from hilum.errors import InputError
from hilum.training.losses.loss import Loss, LossOptions


class ClassAware(Loss):
    """-[y w+ log p + (1 - y) w- log(1 - p_m)], w+ = 1 - a^(1-p), w- = 1 - (1-a)^p, p_m = max(p - m, 0), a the
    prevalence (Dang, Nguyen and Nguyen 2023, a capstone project at FPT University: slides only).

    margin: m; 0 is their ablation "without margin".
    decoupled: two weights, as above. False is our reading of their ablation "without decoupling", which the source
        does not define: one weight 1 - a^|y - p| for both terms.

    The source leaves open, and so these are choices:
    shifted_weight: whether w- sees p_m. Off, as its equations have p in w- and p_m in the logarithm.
    weight_gradient: whether the gradient flows through w+ and w-. On, as the loss is the function that is written.
    w_i, a weight per finding "based on the ratio of positives between classes": off; class_weights with `weigh: both`
        gives one.
    Published as a sum over findings; the mean over entries here differs by a factor.

    For a rare finding w+ is near 1 and w- near a p: negatives nearly vanish, and its probabilities come out far above
    its prevalence. Prevalences stay 1e-6 away from 0 and 1, where a weight would be nothing.
    """

    log_share: Tensor
    log_rest: Tensor

    def __init__(
        self,
        counts: Tensor,
        known: Tensor,
        *,
        margin: float = 0.2,
        decoupled: bool = True,
        shifted_weight: bool = False,
        weight_gradient: bool = True,
        **options: Unpack[LossOptions],
    ):
        super().__init__(counts, known, **options)
        if not 0 <= margin < 1:
            raise InputError(f"the option margin of the loss is {margin}", do="give a number from 0 to below 1")
        self.margin, self.shifted_weight, self.weight_gradient = margin, shifted_weight, weight_gradient
        share = (counts / known.clamp(min=1)).clamp(1e-6, 1 - 1e-6)
        self.register_buffer("log_share", torch.log(share), persistent=False)
        self.register_buffer("log_rest", torch.log1p(-share) if decoupled else torch.log(share), persistent=False)

    def terms(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        alarm, missed = logits.sigmoid(), (-logits).sigmoid()
        shifted = (alarm - self.margin).clamp(min=0)
        positive_weight = -torch.expm1(missed * self.log_share.to(logits.dtype))
        negative_weight = -torch.expm1((shifted if self.shifted_weight else alarm) * self.log_rest.to(logits.dtype))
        if not self.weight_gradient:
            positive_weight, negative_weight = positive_weight.detach(), negative_weight.detach()
        negative = -(1 - shifted).log() if self.margin > 0 else F.softplus(logits)  # 1 - p_m >= m, so the log is safe
        return positive_weight * F.softplus(-logits), negative_weight * negative
