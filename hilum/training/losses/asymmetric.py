"""The asymmetric loss: easy negatives count for little, plain and weighted by prevalence."""

from typing import Unpack

from torch import Tensor
from torch.nn import functional as F

from hilum.errors import InputError
from hilum.training.losses.loss import Loss, LossOptions


class Asymmetric(Loss):
    """-[y (1-p)^g+ log p + (1-y) p_m^g- log(1-p_m)], p_m = max(p - m, 0) (Ridnik et al. 2021, equations 4 to 7).

    gamma_pos, gamma_neg: focusing exponents g+ and g-; clip: the shift m of negatives, in probability.
    focus_gradient: let the gradient flow through the focusing weights, as the equation and CheXFusion do; the
        authors' own code stops it there by default.
    """

    def __init__(
        self,
        counts: Tensor,
        known: Tensor,
        *,
        gamma_neg: float = 4.0,
        gamma_pos: float = 1.0,
        clip: float = 0.05,
        focus_gradient: bool = True,
        **options: Unpack[LossOptions],
    ):
        super().__init__(counts, known, **options)
        if min(gamma_neg, gamma_pos) < 0 or not 0 <= clip < 1:
            told = f"gamma_neg {gamma_neg:g}, gamma_pos {gamma_pos:g}, clip {clip:g}"
            raise InputError(
                f"the asymmetric loss has {told}", do="give gammas of 0 or more and a clip from 0 to below 1"
            )
        self.gamma_neg, self.gamma_pos, self.clip, self.focus_gradient = gamma_neg, gamma_pos, clip, focus_gradient

    def terms(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        missed = (-logits).sigmoid()  # 1 - p from the logit keeps its digits where p is near 1
        alarm, negative = logits.sigmoid(), F.softplus(logits)
        if self.clip > 0:
            alarm = (alarm - self.clip).clamp(min=0)
            negative = -(1 - alarm).log()  # 1 - p_m >= m, so the log is safe
        if not self.focus_gradient:
            return missed.detach() ** self.gamma_pos * F.softplus(-logits), alarm.detach() ** self.gamma_neg * negative
        return missed**self.gamma_pos * F.softplus(-logits), alarm**self.gamma_neg * negative
