"""The measures of one table of predictions, per finding; unknown labels (NaN) are left out, undefined values are NaN."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hilum.evaluation.ranking import Floats, Ranking

Values = NDArray[np.float64]


def average_precision(labels: Floats, scores: Floats) -> Values:
    """Average precision per finding: the sum over ranks of precision times the recall gained (no interpolation).

    labels (N, F) of 1, 0, NaN (unknown); scores (N, F) finite, any scale. Returns (F,) in 0..1, NaN without a positive.
    As sklearn.metrics.average_precision_score, tied scores counted as one step.
    """
    return _per_finding(labels, scores)[:, 0]


def auroc(labels: Floats, scores: Floats) -> Values:
    """Area under the ROC curve per finding, ties counted half. Shapes as `average_precision`; NaN unless both classes occur."""
    return _per_finding(labels, scores)[:, 1]


def _per_finding(labels: Floats, scores: Floats) -> Values:
    values = np.empty((labels.shape[1], 2))
    for column in range(labels.shape[1]):
        ranking = Ranking.of(labels[:, column], scores[:, column])
        values[column] = ranking.measures(np.ones(len(ranking.rows), dtype=np.int32))
    return values


def random_ap(positives: ArrayLike, known: ArrayLike) -> Values:
    """Expected average precision of a random ranking of `known` entries, `positives` of them positive; NaN without a positive.

    With N known, R positive and H = 1 + 1/2 + ... + 1/N it is ((R-1)/(N-1) (N-H) + H) / N, which exceeds the prevalence
    R/N (Bestgen 2015, "Exact expected average precision of the random baseline"). Any shapes that broadcast.
    """
    hits, total = np.broadcast_arrays(np.asarray(positives, dtype=np.float64), np.asarray(known, dtype=np.float64))
    largest = int(total.max(initial=1))
    harmonic = np.concatenate(([0.0], np.cumsum(1.0 / np.arange(1, largest + 1))))[total.astype(np.intp)]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(total > 1, (hits - 1) / (total - 1), 0.0)
        floor = (share * (total - harmonic) + harmonic) / total
    return np.asarray(np.where(hits > 0, floor, np.nan))


@dataclass(frozen=True)
class Confusion:
    """Counts per finding, each (F,) float64: true and false positives, false and true negatives, among known entries."""

    tp: Values
    fp: Values
    fn: Values
    tn: Values

    @property
    def f1(self) -> Values:
        """2 TP / (2 TP + FP + FN); 0 where positives exist and none is called, NaN where no entry is positive."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.tp + self.fn > 0, 2 * self.tp / (2 * self.tp + self.fp + self.fn), np.nan)

    @property
    def sensitivity(self) -> Values:
        """TP / (TP + FN); NaN where no entry is positive."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.tp / (self.tp + self.fn)

    @property
    def specificity(self) -> Values:
        """TN / (TN + FP); NaN where no entry is negative."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.tn / (self.tn + self.fp)

    @property
    def precision(self) -> Values:
        """TP / (TP + FP); NaN where nothing is called."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.tp / (self.tp + self.fp)

    @property
    def balanced_accuracy(self) -> Values:
        """Mean of sensitivity and specificity; NaN unless both classes occur."""
        return (self.sensitivity + self.specificity) / 2

    @property
    def accuracy(self) -> Values:
        """Share of known entries called rightly; NaN without a known entry."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return (self.tp + self.tn) / (self.tp + self.fp + self.fn + self.tn)


def confusion(labels: Floats, scores: Floats, thresholds: ArrayLike = 0.5) -> Confusion:
    """Counts at `thresholds`, one for all or (F,); a score at or above its threshold is a call."""
    # float64 throughout: a float32 score set against a Python number would round the threshold, not the score
    called = scores.astype(np.float64) >= np.asarray(thresholds, dtype=np.float64)
    positive, negative = labels > 0.5, labels <= 0.5
    return Confusion(
        tp=(called & positive).sum(0).astype(np.float64),
        fp=(called & negative).sum(0).astype(np.float64),
        fn=(~called & positive).sum(0).astype(np.float64),
        tn=(~called & negative).sum(0).astype(np.float64),
    )


def f1(labels: Floats, scores: Floats, thresholds: ArrayLike = 0.5) -> Values:
    """F1 per finding at `thresholds` (one, or (F,)); NaN where a finding has no positive."""
    return confusion(labels, scores, thresholds).f1


def best_f1_threshold(labels: Floats, scores: Floats) -> Values:
    """The score at or above which calling a finding gives the highest F1, (F,); among equals the highest score; NaN without a positive.

    To be chosen on validation data: F1 at a threshold chosen on the data it is judged on is too high.
    """
    thresholds = np.full(labels.shape[1], np.nan)
    for column in range(labels.shape[1]):
        ranking = Ranking.of(labels[:, column], scores[:, column])
        if len(ranking.hits):
            true = np.searchsorted(ranking.hits, ranking.ends)
            best = int(np.argmax(2 * true / (ranking.ends + len(ranking.hits))))
            thresholds[column] = ranking.scores[ranking.ends[best] - 1]
    return thresholds


@dataclass(frozen=True)
class Curve:
    """A line to draw: x and y of equal length, in 0..1."""

    x: Values
    y: Values


def roc_curve(labels: Floats, scores: Floats, points: int = 120) -> Curve | None:
    """False positive rate (x) against sensitivity (y) of one finding, labels and scores (N,); at most `points` corners.

    None unless both classes occur.
    """
    ranking = Ranking.of(labels, scores)
    corners, true = _corners(ranking)
    negatives = len(ranking.rows) - len(ranking.hits)
    if not len(ranking.hits) or not negatives:
        return None
    return _thinned((corners - true) / negatives, true / len(ranking.hits), points)


def pr_curve(labels: Floats, scores: Floats, points: int = 120) -> Curve | None:
    """Recall (x) against precision (y) of one finding, labels and scores (N,); at most `points` corners; None without a positive."""
    ranking = Ranking.of(labels, scores)
    if not len(ranking.hits):
        return None
    corners, true = _corners(ranking)
    corners, true = corners[1:], true[1:]  # precision of no call is undefined
    keep = np.flatnonzero(np.diff(true, append=-1) != 0)  # of calls with equal recall draw the first and the last
    keep = np.unique(np.concatenate((keep, np.minimum(keep + 1, len(true) - 1), [0])))
    return _thinned(true[keep] / len(ranking.hits), (true / corners)[keep], points)


def _corners(ranking: Ranking) -> tuple[Values, Values]:
    """Entries called and true positives at every distinct score, from none called to all."""
    ends = np.concatenate(([0], np.flatnonzero(np.diff(ranking.scores)) + 1, [len(ranking.rows)]))
    return ends.astype(np.float64), np.searchsorted(ranking.hits, ends).astype(np.float64)


def _thinned(x: Values, y: Values, points: int) -> Curve:
    """Corners evenly spaced along the line, first and last kept."""
    if len(x) <= points:
        return Curve(x, y)
    along = np.concatenate(([0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))))
    keep = np.unique(np.searchsorted(along, np.linspace(0.0, along[-1], points)).clip(0, len(x) - 1))
    keep = np.unique(np.concatenate(([0], keep, [len(x) - 1])))
    return Curve(x[keep], y[keep])
