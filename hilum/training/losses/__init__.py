"""Losses by name. A new one is a class in its family's file and its line here."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hilum.builders import check_options, choose
from hilum.training.losses.asymmetric import Asymmetric
from hilum.training.losses.bce import BCE
from hilum.training.losses.loss import Loss, known_weight
from hilum.training.losses.robust import RobustAsymmetric

LOSSES: dict[str, Callable[..., Loss]] = {
    "bce": BCE,
    "weighted_bce": partial(BCE, weighted=True),
    "asymmetric": Asymmetric,  # published as a sum over the batch (reduction: sum); a mean keeps learning rates comparable
    "weighted_asymmetric": partial(Asymmetric, weighted=True),  # CheXFusion's, with its mean
    "robust_asymmetric": RobustAsymmetric,  # published as a sum, too
    "weighted_robust_asymmetric": partial(RobustAsymmetric, weighted=True),
}


def build_loss(
    name: str, counts: Tensor | Sequence[float], known: Tensor | Sequence[float] | int, **options: Any
) -> Loss:
    """The loss of that name.

    counts: (F,) positives among the training entries; known: how many were labelled, int or (F,).
    Raises InputError for an unknown name or option.
    """
    builder = choose("loss", LOSSES, name)
    check_options("loss", name, builder, options)
    positives = torch.as_tensor(counts, dtype=torch.float64)
    labelled = torch.as_tensor(known, dtype=torch.float64).expand_as(positives)
    loss: Loss = builder(positives, labelled, **options)
    return loss


__all__ = ["LOSSES", "Loss", "build_loss", "known_weight"]
