"""Binary cross-entropy, plain and weighted by prevalence."""

from torch import Tensor
from torch.nn import functional as F

from hilum.training.losses.loss import Loss


class BCE(Loss):
    """-[y log p + (1 - y) log(1 - p)]."""

    def terms(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        return F.softplus(-logits), F.softplus(logits)
