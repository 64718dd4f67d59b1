"""One sort per finding: average precision and AUROC under any row weights, with ties handled exactly."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.intp]


@dataclass(frozen=True)
class Ranking:
    """The known entries of one finding, highest score first, and where its positives stand among them.

    rows:       (K,) row numbers of the known entries, in falling order of score.
    scores:     (K,) float64, their scores.
    hits:       (P,) positions within `rows` that are positive.
    ends:       (G,) one past the last position of each group of tied scores that holds a positive.
    hit_starts: (G,) where the positives of each such group begin within `hits`.
    tied:       (T,) positions of the negatives that share a score with a positive.
    tied_group: groups (numbers 0..G-1) that hold such negatives; tied_starts: where theirs begin within `tied`.

    Only the G groups with a positive add to either measure. That is why a weighted replicate costs one gather and one
    segmented sum over K entries and everything else is as long as the number of positives (ours).
    """

    rows: Ints
    scores: NDArray[np.float64]
    hits: Ints
    ends: Ints
    hit_starts: Ints
    tied: Ints
    tied_group: Ints
    tied_starts: Ints

    @classmethod
    def of(cls, labels: Floats, scores: Floats) -> "Ranking":
        """labels (N,) of 1, 0 and NaN (unknown, left out); scores (N,) finite."""
        known = np.flatnonzero(~np.isnan(labels))
        rows = known[np.argsort(-scores[known], kind="stable")]
        ordered = scores[rows].astype(np.float64)
        positive = labels[rows] > 0.5
        hits = np.flatnonzero(positive)
        group_of = np.zeros(len(rows), dtype=np.intp)  # number of the tie group at every position
        np.cumsum(ordered[1:] != ordered[:-1], out=group_of[1:])
        groups, hit_starts = np.unique(group_of[hits], return_index=True)
        ends = np.searchsorted(group_of, groups, side="right")
        tied = np.flatnonzero(~positive & np.isin(group_of, groups))
        tied_group, tied_starts = np.unique(np.searchsorted(groups, group_of[tied]), return_index=True)
        return cls(rows, ordered, hits, ends, hit_starts, tied, tied_group, tied_starts)

    def above(self, threshold: float) -> int:
        """How many entries score at or above `threshold`: the length of the head of `rows` that is called positive."""
        return int(np.searchsorted(-self.scores, -threshold, side="right"))

    def measures(self, weights: NDArray[np.integer]) -> tuple[float, float]:
        """(average precision, AUROC) of the entries taken `weights` times each.

        weights: (K,) whole numbers >= 0 in the order of `rows`. Equal to scikit-learn on physically repeated rows.
        NaN where undefined: no positive (both), no negative (AUROC).
        """
        if not len(self.hits):
            return float("nan"), float("nan")
        gained = weights[self.hits]
        if len(self.ends) < len(self.hits):
            gained = np.add.reduceat(gained, self.hit_starts, dtype=np.int64)
        true = np.cumsum(gained, dtype=np.int64)
        positives = int(true[-1])
        if not positives:
            return float("nan"), float("nan")
        last = self.ends[-1]
        if len(self.ends) > len(self.rows) // 16:  # many short segments: one running sum is quicker than their sums
            called = np.cumsum(weights[:last], dtype=np.int64)[self.ends - 1]
        else:
            called = np.cumsum(np.add.reduceat(weights[:last], np.append(0, self.ends[:-1]), dtype=np.int64))
        precision = true / np.maximum(called, 1)  # nothing called: nothing gained either
        average = float(gained @ precision) / positives
        negatives = int(called[-1]) + int(weights[last:].sum(dtype=np.int64)) - positives
        if not negatives:
            return average, float("nan")
        below = gained @ (negatives - (called - true))
        tied = 0.0
        if len(self.tied):
            weight = np.add.reduceat(weights[self.tied], self.tied_starts, dtype=np.int64)
            tied = float(gained[self.tied_group] @ weight)
        return average, (float(below) + 0.5 * tied) / (positives * negatives)

    def f1(self, weights: NDArray[np.integer], called: int) -> float:
        """F1 of calling the first `called` entries positive, entries taken `weights` times each; NaN without a positive."""
        positives = int(weights[self.hits].sum(dtype=np.int64))
        if not positives:
            return float("nan")
        true = int(weights[self.hits[: np.searchsorted(self.hits, called)]].sum(dtype=np.int64))
        return 2 * true / (int(weights[:called].sum(dtype=np.int64)) + positives)
