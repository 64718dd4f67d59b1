"""The Brier score as a loss: squared error of probabilities (Brier 1950)."""

from torch import Tensor

from hilum.training.losses.loss import Loss


class Brier(Loss):
    """y (1 - p)^2 + (1 - y) p^2, which is (y - p)^2 for labels 0 and 1.

    A proper score, as cross-entropy is: its minimum is where p is the share of positives. An entry costs 1 at most, so a
    wrong label pulls less than in cross-entropy; where p is near 0 or 1 its gradient is small, so it learns more slowly.
    """

    def terms(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        return (-logits).sigmoid().square(), logits.sigmoid().square()
