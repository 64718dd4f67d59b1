"""The softmax of mutually exclusive findings: cross-entropy over all of them at once (the form of Holste et al. 2022)."""

import torch
from torch import Tensor

from hilum.training.losses.loss import Loss


class Softmax(Loss):
    """-log softmax(x)_c of the finding c that a study has, averaged over studies. For `single_label: true` alone.

    A mixed label is shared among findings. Class weights stand on the finding that is there. smoothing is not the
    softmax's own and is best left at 0. Unknown entries compete like any other; a single-label study has none.
    """

    def terms(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        # the mean is over B x F entries: F times each makes it the mean over B studies
        share = logits.shape[1] if self.reduction == "mean" else 1
        return -share * logits.log_softmax(dim=1), torch.zeros_like(logits)
