"""The absolute error of probabilities, for comparison."""

from torch import Tensor

from hilum.training.losses.loss import Loss


class MAE(Loss):
    """y (1 - p) + (1 - y) p, which is |y - p| for labels 0 and 1.

    Its minimum is p = 0 where a finding is less likely than one half and p = 1 where it is more likely: for rare
    findings a model that calls every one of them absent is at the optimum, or near it. Here for comparison, not for use.
    Soft labels are taken as shares of both labels; |y - p| would pull p towards y itself.
    """

    def terms(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        return (-logits).sigmoid(), logits.sigmoid()
