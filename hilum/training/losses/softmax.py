"""The softmax of mutually exclusive findings: cross-entropy over all of them at once (the form of Holste et al. 2022)."""

import torch
from torch import Tensor

from hilum.training.losses.loss import Loss


class Softmax(Loss):
    """-log softmax(x)_c of the finding c that a study has, averaged over studies. For `single_label: true` alone.

    A mixed label is shared among findings. Class weights stand on the finding that is there, and the mean is over these
    weights, as torch's cross-entropy has it: so that a batch with a rare finding does not outweigh the others, and only the
    ratios of the weights count. smoothing is not the softmax's own and is best left at 0. Unknown entries compete like any
    other; a single-label study has none.
    """

    def terms(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        return -logits.log_softmax(dim=1), torch.zeros_like(logits)

    def divisor(self, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        there = labels.nan_to_num() * self.positive_weight.to(labels)
        return (there if weights is None else there * weights).sum()
