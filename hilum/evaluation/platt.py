"""Platt's map per finding, p' = sigmoid(slope * logit(p) + intercept), shrunk towards a common map where positives are few.

Platt (1999) fits two numbers per finding. With a handful of positives they are mostly noise, so each finding's pair is drawn
towards the pair fitted to all findings together, by a Gaussian prior whose strength is chosen by cross-fitted log loss (ours).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
STRENGTHS = (0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_EDGE = 1e-6  # probabilities of exactly 0 and 1 have no logit


@dataclass(frozen=True)
class Maps:
    """slopes, intercepts: (F,) float64; strength: of the pull towards the common map."""

    slopes: Values
    intercepts: Values
    strength: float

    def apply(self, scores: NDArray[np.floating]) -> Values:
        """(N, F) probabilities mapped; order within a finding is kept, as slopes are positive."""
        return sigmoid(self.slopes * logit(scores) + self.intercepts)


def logit(scores: NDArray[np.floating]) -> Values:
    """log(p / (1 - p)) of probabilities kept off 0 and 1."""
    p = np.clip(np.asarray(scores, dtype=np.float64), _EDGE, 1 - _EDGE)
    return np.log(p) - np.log1p(-p)


def sigmoid(x: Values) -> Values:
    """1 / (1 + e^-x) without overflow."""
    return np.exp(-np.logaddexp(0.0, -x))


def fit_maps(labels: NDArray[np.floating], scores: NDArray[np.floating], strength: float) -> Maps:
    """The maps of all findings: labels (N, F) with NaN = unknown, scores (N, F) probabilities.

    strength: weight of the prior, in units of entries' information; 0 = each finding by itself.
    A finding without a known positive or negative gets the common map.
    """
    x, known = logit(scores), ~np.isnan(labels)
    common = _newton(x[known], labels[known], np.array([1.0, 0.0]), 1e-6)
    pairs = np.tile(common, (labels.shape[1], 1))
    for finding in range(labels.shape[1]):
        rows = known[:, finding]
        y = labels[rows, finding]
        if 0 < y.sum() < len(y):
            pairs[finding] = _newton(x[rows, finding], y, common, max(strength, 1e-6))
    return Maps(pairs[:, 0], pairs[:, 1], strength)


def cross_fit(
    labels: NDArray[np.floating], scores: NDArray[np.floating], fold: NDArray[np.integer], strength: float
) -> Values:
    """(N, F) probabilities, each mapped by what was fitted without its own fold; fold (N,) keeps patients together."""
    mapped = np.empty(scores.shape)
    for part in np.unique(fold):
        inside = fold == part
        mapped[inside] = fit_maps(labels[~inside], scores[~inside], strength).apply(scores[inside])
    return mapped


def choose_strength(labels: NDArray[np.floating], scores: NDArray[np.floating], fold: NDArray[np.integer]) -> float:
    """The strength with the least cross-fitted log loss, averaged over findings so that rare ones count as much."""
    losses = [log_loss(labels, cross_fit(labels, scores, fold, strength)) for strength in STRENGTHS]
    return STRENGTHS[int(np.argmin(losses))]


def log_loss(labels: NDArray[np.floating], scores: NDArray[np.floating]) -> float:
    """Mean over findings of the mean log loss over known entries."""
    p = np.clip(np.asarray(scores, dtype=np.float64), _EDGE, 1 - _EDGE)
    entries = -np.where(labels > 0.5, np.log(p), np.log1p(-p))
    known = ~np.isnan(labels)
    counts = known.sum(axis=0)
    sums = np.where(known, entries, 0.0).sum(axis=0)
    return float((sums[counts > 0] / counts[counts > 0]).mean())


def _newton(x: Values, y: NDArray[np.floating], start: Values, strength: float) -> Values:
    """(slope, intercept) of least log loss plus strength / 2 * distance from `start` squared; the slope stays positive."""
    pair = start.copy()
    design = np.stack([x, np.ones_like(x)], axis=1)

    def objective(candidate: Values) -> float:
        z = design @ candidate
        return float(np.sum(np.logaddexp(0.0, z) - y * z) + 0.5 * strength * np.sum((candidate - start) ** 2))

    for _ in range(50):
        p = sigmoid(design @ pair)
        gradient = design.T @ (p - y) + strength * (pair - start)
        curvature = (design * (p * (1 - p))[:, None]).T @ design + (strength + 1e-9) * np.eye(2)
        step, size, before = np.linalg.solve(curvature, gradient), 1.0, objective(pair)
        while size > 1e-6 and (pair[0] - size * step[0] <= 1e-3 or objective(pair - size * step) > before + 1e-12):
            size /= 2
        if size <= 1e-6:
            break
        pair = pair - size * step
        if np.abs(size * step).max() < 1e-9:
            break
    return pair
