"""The focal loss: entries that are already right count for little."""

from typing import Unpack

from torch import Tensor
from torch.nn import functional as F

from hilum.errors import InputError
from hilum.training.losses.loss import Loss, LossOptions


class Focal(Loss):
    """-[y (1 - p)^g log p + (1 - y) p^g log(1 - p)] (Lin et al. 2017, without their factor alpha).

    gamma: g; 0 is binary cross-entropy. Published as a sum over the image's boxes, divided by those with an object.
    Its minimum lies between the share of positives and one half. The paper's alpha, one factor for all positives, is
    left to class_weights.
    """

    def __init__(self, counts: Tensor, known: Tensor, *, gamma: float = 2.0, **options: Unpack[LossOptions]):
        super().__init__(counts, known, **options)
        if gamma < 0:
            raise InputError(f"the option gamma of the loss is {gamma}", do="give 0 or more")
        self.gamma = gamma

    def terms(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        alarm, missed = logits.sigmoid(), (-logits).sigmoid()  # p and 1 - p, each with its own digits
        return missed**self.gamma * F.softplus(-logits), alarm**self.gamma * F.softplus(logits)
