"""Our measures against scikit-learn's, on ties, unknown labels and absent classes."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from hilum.evaluation import calibration, metrics
from hilum.evaluation.ranking import Ranking

NEAR = 1e-9


def table(seed: int, n: int = 400, levels: int | None = 12) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores (n, 8): common to rare findings, one without positives, one without negatives, one unknown."""
    rng = np.random.default_rng(seed)
    prevalence = np.array([0.5, 0.2, 0.05, 0.02, 0.3, 0.0, 1.0, 0.1])
    labels = (rng.random((n, 8)) < prevalence).astype(np.float32)
    scores = np.clip(0.3 * labels + rng.random((n, 8)) * 0.7, 0, 1).astype(np.float32)
    if levels:
        scores = np.round(scores * levels).astype(np.float32) / np.float32(levels)
    labels[rng.random((n, 8)) < 0.15] = np.nan
    labels[:, 7] = np.nan
    return labels, scores


@pytest.mark.parametrize("levels", [2, 12, None])
@pytest.mark.parametrize("seed", range(4))
def test_all_measures_equal_scikit_learn(seed: int, levels: int | None) -> None:
    labels, scores = table(seed, levels=levels)
    thresholds = np.linspace(0.2, 0.8, 8)
    counts = metrics.confusion(labels, scores, thresholds)
    ours = {
        "ap": metrics.average_precision(labels, scores),
        "auroc": metrics.auroc(labels, scores),
        "f1": metrics.f1(labels, scores, thresholds),
        "balanced": counts.balanced_accuracy,
        "accuracy": counts.accuracy,
        "brier": calibration.brier(labels, scores),
        "brier skill": calibration.brier_skill(labels, scores),
    }
    for column in range(8):
        known = ~np.isnan(labels[:, column])
        y, s = labels[known, column].astype(int), scores[known, column].astype(np.float64)
        called = s >= thresholds[column]
        both = len(set(y.tolist())) == 2
        expected = {
            "ap": reference.average_precision_score(y, s) if y.sum() else np.nan,
            "auroc": reference.roc_auc_score(y, s) if both else np.nan,
            "f1": reference.f1_score(y, called, zero_division=0) if y.sum() else np.nan,
            "balanced": reference.balanced_accuracy_score(y, called) if both else np.nan,
            "accuracy": reference.accuracy_score(y, called) if len(y) else np.nan,
            "brier": np.mean((s - y) ** 2) if len(y) else np.nan,
            "brier skill": reference.d2_brier_score(y, s) if both else np.nan,
        }
        for name, value in expected.items():
            assert ours[name][column] == pytest.approx(value, abs=NEAR, nan_ok=True), (name, column)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=40).filter(
        lambda rows: 0 < sum(y * w for y, _, w in rows) < sum(w for _, _, w in rows)
    )
)
def test_weights_mean_repeated_rows(rows: list[tuple[int, int, int]]) -> None:
    y, s, w = (np.array(values) for values in zip(*rows))
    ranking = Ranking.of(y.astype(np.float32), s.astype(np.float32))
    average, area = ranking.measures(w[ranking.rows])
    assert average == pytest.approx(reference.average_precision_score(y.repeat(w), s.repeat(w)), abs=NEAR)
    assert area == pytest.approx(reference.roc_auc_score(y.repeat(w), s.repeat(w)), abs=NEAR)


@pytest.mark.parametrize(("positives", "known"), [(1, 1), (1, 2), (1, 5), (2, 5), (3, 6), (4, 4), (5, 7)])
def test_floor_is_the_mean_over_all_rankings(positives: int, known: int) -> None:
    labels = [1.0] * positives + [0.0] * (known - positives)
    falling = np.arange(known, 0, -1, dtype=np.float64)[:, None]
    values = [metrics.average_precision(np.array(order)[:, None], falling)[0] for order in set(permutations(labels))]
    assert metrics.random_ap(positives, known) == pytest.approx(np.mean(values), abs=1e-12)


def test_floor_takes_arrays_and_knows_no_positive() -> None:
    floors = metrics.random_ap([0, 5, 100], 1000)
    assert math.isnan(floors[0])
    assert 0.005 < floors[1] < 0.02
    assert floors[2] > 0.1


def test_best_threshold_gives_the_highest_f1() -> None:
    labels, scores = table(3)
    thresholds = metrics.best_f1_threshold(labels, scores)
    assert np.isnan(thresholds[[5, 7]]).all()
    best = metrics.f1(labels, scores, np.nan_to_num(thresholds))
    for other in np.unique(scores):
        values = metrics.f1(labels, scores, other)
        assert not (values > best + NEAR).any()


def test_order_of_rows_does_not_matter() -> None:
    labels, scores = table(5)
    order = np.random.default_rng(0).permutation(len(labels))
    for measure in (
        metrics.average_precision, metrics.auroc, metrics.f1, metrics.best_f1_threshold, calibration.ece,
    ):  # fmt: skip
        np.testing.assert_allclose(
            measure(labels, scores), measure(labels[order], scores[order]), atol=1e-12, rtol=0, equal_nan=True
        )


def test_curves_enclose_the_areas() -> None:
    labels, scores = table(7, n=3000, levels=None)
    roc = metrics.roc_curve(labels[:, 1], scores[:, 1], points=10**6)
    assert roc is not None
    assert np.trapezoid(roc.y, roc.x) == pytest.approx(metrics.auroc(labels, scores)[1], abs=NEAR)
    thin = metrics.roc_curve(labels[:, 1], scores[:, 1], points=60)
    assert thin is not None
    assert len(thin.x) <= 62
    assert np.trapezoid(thin.y, thin.x) == pytest.approx(metrics.auroc(labels, scores)[1], abs=0.01)
    precision = metrics.pr_curve(labels[:, 1], scores[:, 1])
    assert precision is not None
    assert precision.x[-1] == 1
    assert metrics.roc_curve(labels[:, 5], scores[:, 5]) is None
    assert metrics.pr_curve(labels[:, 5], scores[:, 5]) is None


def test_calibration_error_of_equal_masses() -> None:
    rng = np.random.default_rng(1)
    scores = rng.random((1500, 1))
    labels = (rng.random((1500, 1)) < scores**2).astype(np.float64)
    order = np.argsort(scores[:, 0])
    expected = sum(
        abs(scores[part, 0].mean() - labels[part, 0].mean()) * len(part) for part in np.array_split(order, 15)
    )
    assert calibration.ece(labels, scores)[0] == pytest.approx(expected / 1500, abs=1e-12)
    constant = np.full_like(scores, 0.2)
    assert calibration.ece(labels, constant)[0] == pytest.approx(abs(labels.mean() - 0.2), abs=1e-12)
    assert calibration.brier(labels, constant)[0] == pytest.approx(
        calibration.brier_of_constant(labels.mean(), 0.2), abs=1e-12
    )
