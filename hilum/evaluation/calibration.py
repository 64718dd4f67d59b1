"""How far probabilities can be believed: Brier score, calibration error, reliability; each beside a constant predictor's."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hilum.evaluation.ranking import Floats

Values = NDArray[np.float64]

BINS = 15  # as is customary since Guo et al. 2017


def brier(labels: Floats, scores: Floats) -> Values:
    """Mean squared distance of probability and label per finding; labels, scores (N, F), NaN = unknown. (F,) in 0..1, NaN if none is known."""
    known = ~np.isnan(labels)
    errors = np.where(known, (scores.astype(np.float64) - np.nan_to_num(labels)) ** 2, 0.0)
    with np.errstate(invalid="ignore"):
        return np.asarray(errors.sum(0) / known.sum(0))


def brier_of_constant(prevalence: ArrayLike, constant: ArrayLike) -> Values:
    """Brier score of one who gives every study the probability `constant`, where the finding has `prevalence`."""
    share = np.asarray(prevalence, dtype=np.float64)
    return np.asarray(share * (1 - share) + (np.asarray(constant, dtype=np.float64) - share) ** 2)


def brier_skill(labels: Floats, scores: Floats) -> Values:
    """1 - Brier score / that of the prevalence, per finding; labels, scores (N, F), NaN = unknown. (F,), at most 1.

    0 is what the judged studies' own prevalence would score, below 0 is worse than that. NaN where the labels known are
    all alike, or none is (Murphy 1973).
    """
    known = ~np.isnan(labels)
    with np.errstate(invalid="ignore"):
        share = np.where(known, labels, 0.0).sum(0, dtype=np.float64) / known.sum(0)
        constant = brier_of_constant(share, share)
        return np.where(constant > 0, 1 - brier(labels, scores) / np.where(constant > 0, constant, 1.0), np.nan)


@dataclass(frozen=True)
class Reliability:
    """Bins of equal mass of one finding, each array (bins,): mean probability, share positive, entries."""

    probability: Values
    positive: Values
    entries: Values

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance of probability and share, weighted by entries; NaN if nothing is known."""
        if not len(self.entries):
            return float("nan")
        return float(np.abs(self.probability - self.positive) @ self.entries / self.entries.sum())


def reliability(labels: Floats, scores: Floats, bins: int = BINS) -> Reliability:
    """Equal-mass bins of one finding, labels and scores (N,); tied scores share a bin, so the order of rows cannot matter.

    Equal mass, because with bins of equal width nearly every study of a rare finding falls into the first.
    """
    known = ~np.isnan(labels)
    score, label = scores[known].astype(np.float64), labels[known].astype(np.float64)
    if not len(score):
        return Reliability(np.empty(0), np.empty(0), np.empty(0))
    _, group, size = np.unique(score, return_inverse=True, return_counts=True)
    middle = np.cumsum(size) - (size + 1) / 2  # mean rank of a group of ties, from 0
    of_entry = np.floor((middle + 0.5) * bins / len(score))[group].astype(np.intp).clip(0, bins - 1)
    entries = np.bincount(of_entry, minlength=bins).astype(np.float64)
    used = entries > 0
    mean = [np.bincount(of_entry, weights=values, minlength=bins)[used] / entries[used] for values in (score, label)]
    return Reliability(mean[0], mean[1], entries[used])


def ece(labels: Floats, scores: Floats, bins: int = BINS) -> Values:
    """Expected calibration error per finding with equal-mass bins; labels, scores (N, F). (F,) in 0..1, NaN if none is known."""
    return np.array(
        [reliability(labels[:, column], scores[:, column], bins).error for column in range(labels.shape[1])]
    )
