"""Losses by name. A new one is a class in its family's file and its line here."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hilum.builders import check_options, choose
from hilum.training.losses.absolute import MAE
from hilum.training.losses.asymmetric import Asymmetric
from hilum.training.losses.bce import BCE, LogitAdjusted
from hilum.training.losses.brier import Brier
from hilum.training.losses.class_aware import ClassAware
from hilum.training.losses.consistency import consistent
from hilum.training.losses.distribution_balanced import DistributionBalanced
from hilum.training.losses.dual_weighted_metric import DualWeightedMetric
from hilum.training.losses.focal import Focal
from hilum.training.losses.ldam import LDAM
from hilum.training.losses.loss import Loss
from hilum.training.losses.robust import RobustAsymmetric
from hilum.training.losses.softmax import Softmax
from hilum.training.losses.upweighted import upweighted

LOSSES: dict[str, Callable[..., Loss]] = {
    "bce": BCE,
    "weighted_bce": partial(BCE, class_weights="prevalence"),
    "focal": Focal,
    "class_balanced": partial(Focal, gamma=0.0, class_weights="class_balanced"),  # with gamma: class-balanced focal
    "inverse": partial(Focal, gamma=0.0, class_weights="inverse"),
    "asymmetric": Asymmetric,  # published as a sum over the batch (reduction: sum); a mean keeps learning rates comparable
    "weighted_asymmetric": partial(Asymmetric, class_weights="prevalence"),  # CheXFusion's, with its mean
    "robust_asymmetric": RobustAsymmetric,  # published as a sum, too
    "weighted_robust_asymmetric": partial(RobustAsymmetric, class_weights="prevalence"),
    "class_aware": ClassAware,
    "ldam": LDAM,
    "distribution_balanced": DistributionBalanced,
    # what the winner of CXR-LT 2026 calls distribution-balanced, but with margins that grow towards the tail
    "balanced_margin": partial(
        LDAM, max_margin=0.2, scale=1.0, class_weights="class_balanced", power=0.5, weigh="both"
    ),
    "dual_weighted_metric": partial(DualWeightedMetric, class_weights="prevalence"),  # of the head metric; ours
    "logit_adjusted": LogitAdjusted,
    "brier": Brier,
    "mae": MAE,
    "softmax": Softmax,  # of findings that exclude one another
}
# What any loss may have besides, by its options; each takes (loss, findings, **options).
AROUND: list[tuple[Callable[..., Loss], tuple[str, ...]]] = [
    (upweighted, ("upweight",)),
    (consistent, ("parents", "parent_weight")),
]


def build_loss(
    name: str,
    counts: Tensor | Sequence[float],
    known: Tensor | Sequence[float] | int,
    *,
    findings: Sequence[str] | None = None,
    **options: Any,
) -> Loss:
    """The loss of that name.

    counts: (F,) positives among the training entries; known: how many were labelled, int or (F,). findings: their names,
    for the options `upweight` and `parents`, which are left out where they are None. Raises InputError for an unknown name
    or option.
    """
    builder, own, around = _checked(name, options)
    positives = torch.as_tensor(counts, dtype=torch.float64)
    labelled = torch.as_tensor(known, dtype=torch.float64).expand_as(positives)
    loss = builder(positives, labelled, **own)
    for wrap, given in around if findings is not None else []:
        loss = wrap(loss, findings, **given)
    return loss


def check_loss(name: str, options: Mapping[str, Any]) -> None:
    """Raise InputError for a loss that cannot be built, before any data is opened: ours are built on a made-up finding."""
    builder, own, _ = _checked(name, options)
    if name in LOSSES:
        builder(torch.ones(1), torch.full((1,), 2.0), **own)


def _checked(
    name: str, options: Mapping[str, Any]
) -> tuple[Callable[..., Loss], dict[str, Any], list[tuple[Callable[..., Loss], dict[str, Any]]]]:
    """The builder with its own options, and what is put around with its options, all of known names and types."""
    builder = choose("loss", LOSSES, name)
    common = {key for _, keys in AROUND for key in keys}
    own = {key: value for key, value in options.items() if key not in common}
    check_options("loss", name, builder, own)
    around = []
    for wrap, keys in AROUND:
        if given := {key: options[key] for key in keys if key in options}:
            check_options("loss", name, wrap, given)
            around.append((wrap, given))
    return builder, own, around


__all__ = ["LOSSES", "Loss", "build_loss", "check_loss"]
