"""The robust asymmetric loss: asymmetric, and forgiving to negatives that look like positives."""

from typing import Unpack

from torch import Tensor
from torch.nn import functional as F

from hilum.training.losses.loss import Loss, LossOptions


class RobustAsymmetric(Loss):
    """-[y (1-p)^g+ (log p + a1 (1-p) + a2 (1-p)^2 / 2)
         + (1-y) p_m^g- (log(1-p_m) + b (1-p_m)) p^2 (L - p) (L - (1-p_m))], p_m = max(p - m, 0)
    (Park et al. 2023, as their code has it).

    gamma_pos, gamma_neg, clip: g+, g- and m as in the asymmetric loss.
    poly_pos, poly_pos2, poly_neg: a1, a2 and b, which change the first coefficients of the logarithms' series (PolyLoss,
        Leng et al. 2022).
    hill: L, which lets the gradient of a negative fall again where p nears 1: a label that contradicts so much may be
        wrong (Hill loss, Zhang et al. 2021).

    Published with the defaults, as a sum over the batch and without weights; a mean keeps learning rates comparable.
    """

    def __init__(
        self,
        counts: Tensor,
        known: Tensor,
        *,
        gamma_neg: float = 4.0,
        gamma_pos: float = 0.0,
        clip: float = 0.05,
        poly_pos: float = 1.0,
        poly_pos2: float = -2.5,
        poly_neg: float = 0.0,
        hill: float = 1.5,
        **options: Unpack[LossOptions],
    ):
        super().__init__(counts, known, **options)
        self.gamma_neg, self.gamma_pos, self.clip, self.hill = gamma_neg, gamma_pos, clip, hill
        self.poly_pos, self.poly_pos2, self.poly_neg = poly_pos, poly_pos2, poly_neg

    def terms(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        alarm, missed = logits.sigmoid(), (-logits).sigmoid()  # p and 1 - p, each with its own digits
        positive = F.softplus(-logits) - self.poly_pos * missed - self.poly_pos2 / 2 * missed**2
        if self.clip > 0:
            shifted = (alarm - self.clip).clamp(min=0)
            spared, negative = 1 - shifted, -(1 - shifted).log()  # 1 - p_m >= m, so the log is safe
        else:
            shifted, spared, negative = alarm, missed, F.softplus(logits)
        forgiven = alarm**2 * (self.hill - alarm) * (self.hill - spared)
        return missed**self.gamma_pos * positive, shifted**self.gamma_neg * (
            negative - self.poly_neg * spared
        ) * forgiven
