"""Intervals by resampling patients: whole patients are drawn with replacement, and every replicate is read off one sort.

Studies of one patient resemble each other, so patients are drawn, not studies. A resampled table repeats its positives,
and a repeated positive ranks beside itself: average precision is higher on replicates than on the data they were drawn
from. Plain percentile intervals inherit that shift and miss. Ours are *centred*: percentiles shifted by the value
minus the replicates' mean. What they cover is the **expected value of the measure on a test set of this size**, not its
limit on an endless one. docs/why/intervals.md has the measured coverage.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hilum.evaluation.ranking import Floats, Ranking
from hilum.progress import Progress, silent

Values = NDArray[np.float64]

MEASURES = ("ap", "auroc", "f1")
LEVEL = 0.95
CHUNK = 50  # replicates whose patient weights are in memory at once: 50 x 80,000 patients x 4 bytes = 16 MB


@dataclass(frozen=True)
class Fold:
    """Labels and scores that one model was judged on.

    labels:     (N, F) 1, 0, NaN (unknown).
    scores:     (N, F) probabilities.
    thresholds: (F,) a score at or above it is a call, for F1.
    patients:   (N,) whole numbers 0..P-1, the same patient having the same number in every fold.
    """

    labels: Floats
    scores: Floats
    thresholds: Values
    patients: NDArray[np.intp]


@dataclass(frozen=True)
class Resampled:
    """The measures on the data and on every replicate, each already averaged over the folds where it is defined.

    value: measure -> (F,); replicates: measure -> (R, F). NaN = undefined (no positive drawn).
    """

    value: dict[str, Values]
    replicates: dict[str, Values]


def resample(
    folds: Sequence[Fold],
    *,
    replicates: int = 1000,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress = silent,
) -> Resampled:
    """AP, AUROC and F1 of every finding on the data and on `replicates` draws of its patients with replacement.

    A patient drawn k times counts k times in every row and fold. The result depends on `seed` alone, not on `threads`.
    """
    rng = np.random.default_rng(seed)
    patients = 1 + max(int(fold.patients.max()) for fold in folds)
    columns = folds[0].labels.shape[1]
    with ThreadPoolExecutor(threads or min(4, os.cpu_count() or 1)) as pool:  # numpy gathers and sums without the GIL
        ranked = list(pool.map(lambda column: [_Ranked.of(fold, column) for fold in folds], range(columns)))
        ones = np.ones((1, patients), dtype=np.int32)
        value = np.stack(list(pool.map(lambda ranks: _measured(ranks, ones)[0], ranked)), axis=1)  # (3, F)
        drawn = np.empty((replicates, len(MEASURES), columns))
        starts = range(0, replicates, CHUNK)
        for start in progress(starts, total=len(starts), label="resampling patients", unit="chunks"):
            weights = np.stack([_draw(rng, patients) for _ in range(min(CHUNK, replicates - start))])
            for column, values in enumerate(pool.map(lambda ranks: _measured(ranks, weights), ranked)):  # noqa: B023
                drawn[start : start + len(weights), :, column] = values
    return Resampled(
        value={name: value[number] for number, name in enumerate(MEASURES)},
        replicates={name: drawn[:, number] for number, name in enumerate(MEASURES)},
    )


def _draw(rng: np.random.Generator, patients: int) -> NDArray[np.int32]:
    """How often each patient is drawn, (P,): P draws with replacement."""
    return np.bincount(rng.integers(0, patients, patients), minlength=patients).astype(np.int32)


@dataclass(frozen=True)
class _Ranked:
    ranking: Ranking
    owners: NDArray[np.intp]  # (K,) the patient of every ranked entry
    called: int

    @classmethod
    def of(cls, fold: Fold, column: int) -> "_Ranked":
        ranking = Ranking.of(fold.labels[:, column], fold.scores[:, column])
        return cls(ranking, fold.patients[ranking.rows], ranking.above(float(fold.thresholds[column])))


def _measured(folds: Sequence[_Ranked], weights: NDArray[np.int32]) -> Values:
    """Measures (C, 3) under C weightings of the patients (C, P), averaged over the folds where they are defined."""
    values = np.full((len(folds), len(weights), len(MEASURES)), np.nan)
    for number, ranked in enumerate(folds):
        if not len(ranked.ranking.hits):
            continue
        weight = np.empty(len(ranked.owners), dtype=np.int32)
        for row, drawn in enumerate(weights):
            np.take(drawn, ranked.owners, out=weight, mode="clip")  # clip: with `out`, the default mode would copy
            average, area = ranked.ranking.measures(weight)
            values[number, row] = average, area, ranked.ranking.f1(weight, ranked.called)
    return mean_of_defined(values, axis=0)


def mean_of_defined(values: Values, axis: int) -> Values:
    """Mean over the entries that are not NaN; NaN where all are (without numpy's warning)."""
    defined = ~np.isnan(values)
    count = defined.sum(axis)
    total = np.where(defined, values, 0.0).sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def macro(values: Values, chosen: NDArray[np.bool_]) -> Values:
    """Mean over the `chosen` (F,) findings of the last axis of values (..., F): the set is the same in every replicate.

    Where a replicate holds no positive of a finding, the finding's mean over the other replicates stands in, so that
    no replicate is averaged over another set.
    """
    kept = values[..., chosen]
    if kept.ndim > 1:
        kept = np.where(np.isnan(kept), mean_of_defined(kept, axis=0), kept)
    return np.asarray(kept.mean(-1))


def centred(value: float, replicates: Values, level: float = LEVEL) -> tuple[float, float]:
    """Percentiles of the replicates (R,), shifted by value minus their mean, within 0..1; NaN where undefined."""
    low, high = percentile(replicates, level)
    shift = value - float(mean_of_defined(replicates, axis=0))
    return float(np.clip(low + shift, 0, 1)), float(np.clip(high + shift, 0, 1))


def percentile(replicates: Values, level: float = LEVEL) -> tuple[float, float]:
    """Plain percentiles of the replicates (R,) that are defined: for contrast only, see the head of this file."""
    defined = replicates[~np.isnan(replicates)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
