"""Ways to combine the probabilities of several models: each gives every member a weight per finding; the score is the weighted sum.

    mean         equal weights
    weighted     weights of least balanced log loss on held-out studies, drawn towards equal ones where positives are few
    per-finding  equal weights for the members best at a finding, 0 for the others ("class-wise": Hong and Dai, CXR-LT 2023)
    vote         equal weights, of calls instead of probabilities: the share of members that call the finding
                 ("max vote": IIT Guwahati's ensemble on NIH, 2023)

Shapes: members (M, N, F) probabilities of M members for N rows and F findings; labels (N, F) of 1, 0, NaN (unknown);
weights (M, F), none below 0, each finding's summing to 1. Nothing depends on the members' order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hilum.evaluation.metrics import average_precision, best_f1_threshold
from hilum.evaluation.platt import sigmoid
from hilum.evaluation.ranking import Floats

Values = NDArray[np.float64]
Method = Literal["mean", "weighted", "vote", "per-finding"]
Space = Literal["probability", "logit"]

_SMALLEST, _LARGEST = 1e-30, 1 - 2.0**-25  # what float32 can tell from 0 and from 1
_EDGE = 1e-6  # a member that was quite sure and wrong does not rule itself out
_ROUNDS, _STILL = 500, 1e-7


def combine(
    members: Floats, weights: Values, *, space: Space = "probability", thresholds: Values | None = None
) -> Floats:
    """(N, F) float32: the weighted sum of probabilities, of logits (then mapped back), or with thresholds (M, F) of calls."""
    if thresholds is not None:
        values = (members.astype(np.float64) >= thresholds[:, None, :]).astype(np.float64)
    elif space == "logit":
        inner = np.clip(members.astype(np.float64), _SMALLEST, _LARGEST)
        values = np.log(inner) - np.log1p(-inner)
    else:
        values = members.astype(np.float64)
    summed = (weights[:, None, :] * values).sum(axis=0)
    if space == "logit" and thresholds is None:
        summed = sigmoid(summed)
    combined: Floats = np.clip(summed, 0.0, 1.0).astype(np.float32)
    return combined


def equal(members: int, findings: int) -> Values:
    """(M, F) equal weights."""
    return np.full((members, findings), 1 / members)


def fitted(labels: Floats, members: Floats, *, prior: float = 100.0, shared: bool = False) -> Values:
    """Weights of least balanced log loss of the weighted mean of probabilities, found by expectation maximisation.

    A finding's positives count half and its negatives half: calibrated or not, members are told apart by how they separate
    the two. prior: how many positives the equal weights are worth beside those that a finding has.
    shared: one weight per member for all findings, each finding counting by its positives. A finding without a known
    positive or negative keeps equal weights. Ours: a linear pool with a Dirichlet prior.
    """
    count, _, width = members.shape
    positive, negative = labels > 0.5, labels <= 0.5
    hits = np.where(negative.any(axis=0), positive.sum(axis=0), 0).astype(np.float64)  # (F,)
    with np.errstate(divide="ignore", invalid="ignore"):
        entries = (positive / positive.sum(axis=0) + negative / negative.sum(axis=0)) / 2
    entries = np.where(hits > 0, np.nan_to_num(entries), 0.0)  # (N, F), a finding's summing to 1
    said = np.clip(members.astype(np.float64), _EDGE, 1 - _EDGE)
    likely = np.where(positive, said, 1 - said)
    prior, weights = max(prior, 1e-9), equal(count, width)
    for _ in range(_ROUNDS):
        share = weights[:, None, :] * likely
        explained = (entries * share / share.sum(axis=0)).sum(axis=1)  # (M, F): of each finding's entries, by whom
        if shared:
            pooled = (explained @ hits + prior / count) / (hits.sum() + prior)
            moved = np.tile(pooled[:, None], width)
        else:
            moved = (hits * explained + prior / count) / (hits + prior)
        still, weights = np.abs(moved - weights).max() < _STILL, moved
        if still:
            break
    told: Values = weights / weights.sum(axis=0)
    return told


def chosen(labels: Floats, members: Floats, *, best: int, least: int = 50) -> Values:
    """Equal weights for the `best` members of highest average precision at each finding, those level with the last too.

    Where fewer than `least` entries are positive, or all are, a choice would be chance: all members keep equal weights.
    """
    count, _, width = members.shape
    weights = equal(count, width)
    precision = np.stack([average_precision(labels, scores) for scores in members])  # (M, F)
    clear = ((labels > 0.5).sum(axis=0) >= least) & (labels <= 0.5).any(axis=0)
    last = np.sort(precision, axis=0)[-min(best, count)]
    kept = precision >= last - 1e-12
    with np.errstate(invalid="ignore"):
        return np.where(clear, kept / np.maximum(kept.sum(axis=0), 1), weights)


def thresholds_of(labels: Floats, members: Floats) -> Values:
    """(M, F): each member's own threshold of best F1; 0.5 where a finding has no positive."""
    return np.nan_to_num(np.stack([best_f1_threshold(labels, scores) for scores in members]), nan=0.5)


@dataclass(frozen=True)
class Rule:
    """How to combine: a method and its options; see `combine`, `fitted` and `chosen`. best: None = half of the members."""

    method: Method = "mean"
    space: Space = "probability"
    shared: bool = False
    prior: float = 100.0
    best: int | None = None


# Method -> weights (M, F) of labels and members; those of mean and vote need no labels.
METHODS: dict[str, Callable[[Rule, Floats, Floats], Values]] = {
    "mean": lambda rule, labels, members: equal(len(members), members.shape[2]),
    "weighted": lambda rule, labels, members: fitted(labels, members, prior=rule.prior, shared=rule.shared),
    "vote": lambda rule, labels, members: equal(len(members), members.shape[2]),
    "per-finding": lambda rule, labels, members: chosen(labels, members, best=rule.best or (len(members) + 1) // 2),
}
LEARNED = ("weighted", "per-finding")
