"""Rankings by name for bench/zero_shot.py: unseen findings against chance, against wrong names, and against a few examples.

Scores are an (N, K) matrix: studies by the names that the model was asked about. A permutation of the names gives every
finding another's column, so all of them follow from one matrix of the AP of each finding by each column.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hilum.evaluation.metrics import average_precision, random_ap

PERMUTATIONS, DRAWS = 200, 200


@dataclass(frozen=True)
class Scored:
    """A model's scores (N, K) of test studies by `names` (K), and the truth (N, K), 1 or 0."""

    names: list[str]
    scores: np.ndarray
    truth: np.ndarray

    def place(self, findings: list[str]) -> np.ndarray:
        return np.array([self.names.index(name) for name in findings])


def crossed(scored: Scored, unseen: list[str]) -> np.ndarray:
    """(U, K) average precision of each unseen finding when it is ranked by each name."""
    rows = []
    for column in scored.place(unseen):
        labels = np.repeat(scored.truth[:, [column]], len(scored.names), axis=1)
        rows.append(average_precision(labels, scored.scores))
    return np.stack(rows)


def unseen_only(scored: Scored, unseen: list[str], seed: int = 0) -> dict[str, Any]:
    """Mean AP of ranking studies by the unseen findings' names, chance, the permutations' 95 % quantile, an interval.

    p: share of permutations (and the true naming itself) that do as well. own: findings whose own name ranks them better
    than the median of the other names.
    """
    ap, own = crossed(scored, unseen), scored.place(unseen)
    rows = np.arange(len(unseen))
    random = np.random.default_rng(seed)
    shuffled = [ap[rows, random.permutation(len(scored.names))[own]].mean() for _ in range(PERMUTATIONS)]
    value = float(ap[rows, own].mean())
    counts = scored.truth[:, own].sum(axis=0)
    draws = []
    for _ in range(DRAWS):  # of studies; a test patient has one
        drawn = random.integers(0, len(scored.scores), len(scored.scores))
        draws.append(np.nanmean(average_precision(scored.truth[np.ix_(drawn, own)], scored.scores[np.ix_(drawn, own)])))
    better = sum(ap[row, own[row]] > np.median(np.delete(ap[row], own[row])) for row in rows)
    return {
        "ap": [value, *(np.quantile(draws, [0.025, 0.975]) + value - np.mean(draws)).tolist()],  # centred, as everywhere
        "chance": float(random_ap(counts, np.full(len(own), len(scored.scores))).mean()),
        "wrong_names_95": float(np.quantile(shuffled, 0.95)),
        "wrong_names": float(np.mean(shuffled)),
        "p": (1 + sum(one >= value for one in shuffled)) / (1 + PERMUTATIONS),
        "own": int(better),
        "findings": {
            name: {"ap": float(ap[row, own[row]]), "positives": int(counts[row]), "prevalence": float(counts[row] / len(scored.scores)),
                   "best_wrong_name": scored.names[int(np.argmax(np.where(np.arange(ap.shape[1]) == own[row], -1, ap[row])))]}
            for row, name in enumerate(unseen)
        },
    }  # fmt: skip


def generalised(scored: Scored, unseen: list[str], seed: int = 0) -> dict[str, Any]:
    """Ranking of all findings, seen and unseen, within each study that shows an unseen one: AP of the unseen positives.

    The study's seen positives are left out, because ranking these first is no mistake. Beside it the permutations of the
    unseen findings' names among all, and what a random order gives.
    """
    own = scored.place(unseen)
    rows = np.flatnonzero(scored.truth[:, own].any(axis=1))
    truth, scores = scored.truth[rows], scored.scores[rows]
    candidates = truth == 0
    candidates[:, own] = True
    random = np.random.default_rng(seed)

    def mean_ap(columns: np.ndarray) -> float:
        asked = scores[:, exchanged(len(scored.names), own, columns)]
        return float(within(asked, truth[:, own] > 0, candidates, own).mean())

    shuffled = [mean_ap(random.permutation(len(scored.names))[own]) for _ in range(PERMUTATIONS)]
    noise = np.random.default_rng(seed + 1).standard_normal(scores.shape)
    value = mean_ap(own)
    return {
        "studies": len(rows), "ap": value, "chance": float(within(noise, truth[:, own] > 0, candidates, own).mean()),
        "wrong_names_95": float(np.quantile(shuffled, 0.95)), "wrong_names": float(np.mean(shuffled)),
        "p": (1 + sum(one >= value for one in shuffled)) / (1 + PERMUTATIONS),
    }  # fmt: skip


def exchanged(count: int, own: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The order of `count` columns in which those at `own` are `columns`, and whoever lent one has the borrower's."""
    order = np.arange(count)
    for borrower, column in zip(own, columns):
        lender = int(np.flatnonzero(order == column)[0])
        order[[borrower, lender]] = order[[lender, borrower]]
    return order


def within(scores: np.ndarray, positive: np.ndarray, candidates: np.ndarray, own: np.ndarray) -> np.ndarray:
    """(n,) AP of the positives (n, U), columns `own` of scores (n, K), among each row's candidates (n, K); ties count against."""
    mine = scores[:, own]
    above = ((scores[:, None, :] >= mine[:, :, None]) & candidates[:, None, :]).sum(axis=2)
    good = ((mine[:, None, :] >= mine[:, :, None]) & positive[:, None, :]).sum(axis=2)
    precise = np.where(positive, good / above, 0.0)
    mean: np.ndarray = precise.sum(axis=1) / positive.sum(axis=1)
    return mean


def few_shot(
    features: np.ndarray,
    labels: np.ndarray,
    tested: np.ndarray,
    truth: np.ndarray,
    shots: int,
    draws: int,
    seed: int = 0,
) -> float:
    """Mean AP over draws of a linear discriminant on frozen features, from `shots` positives and the mean of all studies.

    features (n, C), labels (n,) of training studies (NaN unknown); tested (N, C), truth (N,). The discriminant's spread is
    that of the training features, which needs no label, drawn a tenth of the way to a round one. NaN with too few positives.
    """
    positives = np.flatnonzero(labels == 1)
    if len(positives) < shots:
        return float("nan")
    centre = features.mean(axis=0)
    spread = np.cov(features.T)
    spread = 0.9 * spread + 0.1 * np.trace(spread) / len(spread) * np.eye(len(spread))
    random = np.random.default_rng(seed)
    chosen = [random.choice(positives, shots, replace=False) for _ in range(draws)]
    axes = np.stack([np.linalg.solve(spread, features[rows].mean(axis=0) - centre) for rows in chosen], axis=1)
    return float(average_precision(np.repeat(truth[:, None], draws, axis=1), tested @ axes).mean())
