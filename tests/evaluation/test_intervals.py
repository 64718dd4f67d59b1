"""Replicates are what resampling rows would give; intervals are centred, clustered by patient, and cover."""

import numpy as np
import pytest
from sklearn import metrics as reference

from hilum.evaluation.intervals import Fold, centred, macro, percentile, resample


def fold(seed: int, n: int = 240, patients: int = 90, findings: int = 4) -> Fold:
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, findings)) < [0.4, 0.15, 0.05, 0.02]).astype(np.float32)
    scores = np.round(np.clip(0.3 * labels + 0.7 * rng.random((n, findings)), 0, 1) * 20).astype(np.float32) / 20
    labels[rng.random((n, findings)) < 0.1] = np.nan
    return Fold(labels, scores, np.full(findings, 0.5), rng.integers(0, patients, n))


def drawn_rows(seed: int, replicate: int, patients: np.ndarray) -> np.ndarray:
    """Rows of a replicate by hand: the same draw of patients, every row of a patient as often as the patient was drawn."""
    rng = np.random.default_rng(seed)
    total = int(patients.max()) + 1
    for _ in range(replicate + 1):
        drawn = rng.integers(0, total, total)
    return np.concatenate([np.flatnonzero(patients == patient) for patient in drawn])


def test_replicates_equal_scikit_learn_on_resampled_rows() -> None:
    data = fold(0)
    result = resample([data], replicates=60, seed=7)
    for replicate in (0, 1, 55):  # the last lies in a second chunk
        rows = drawn_rows(7, replicate, data.patients)
        for column in range(4):
            rows_known = rows[~np.isnan(data.labels[rows, column])]
            y, s = data.labels[rows_known, column].astype(int), data.scores[rows_known, column].astype(float)
            if not y.any():
                assert np.isnan(result.replicates["ap"][replicate, column])
                continue
            expected = {
                "ap": reference.average_precision_score(y, s),
                "auroc": reference.roc_auc_score(y, s),
                "f1": reference.f1_score(y, s >= 0.5, zero_division=0),
            }
            for name, value in expected.items():
                assert result.replicates[name][replicate, column] == pytest.approx(value, abs=1e-9)


def test_seed_alone_decides() -> None:
    one = resample([fold(1)], replicates=30, seed=3, threads=1).replicates["ap"]
    two = resample([fold(1)], replicates=30, seed=3, threads=3).replicates["ap"]
    other = resample([fold(1)], replicates=30, seed=4).replicates["ap"]
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other, equal_nan=True)


def test_folds_are_scored_apart_then_averaged() -> None:
    first, second = fold(1), fold(2)
    # On the pooled table the second fold's shifted scores would rank all its rows above the first's.
    second = Fold(second.labels, second.scores + 5, second.thresholds + 5, second.patients + 90)
    both = resample([first, second], replicates=5)
    apart = [resample([one], replicates=2).value["ap"] for one in (first, second)]
    np.testing.assert_allclose(both.value["ap"], np.mean(apart, axis=0), atol=1e-12)


def test_centred_interval_is_shifted_and_kept_in_range() -> None:
    replicates = np.linspace(0.4, 0.6, 1001)
    low, high = centred(0.45, replicates)
    plain = percentile(replicates)
    assert (low, high) == pytest.approx((plain[0] - 0.05, plain[1] - 0.05))
    assert centred(0.02, replicates)[0] == 0.0
    assert np.isnan(percentile(np.full(3, np.nan))).all()


def test_macro_keeps_its_set_in_every_replicate() -> None:
    replicates = np.array([[0.2, 0.8, 0.1], [np.nan, 0.6, 0.1], [0.4, 0.7, 0.1]])
    chosen = np.array([True, True, False])
    np.testing.assert_allclose(macro(replicates, chosen), [0.5, 0.45, 0.55])  # the gap is filled by .3, not left out


def test_clustered_patients_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat((rng.random((150, 1)) < 0.3).astype(np.float32), 4, axis=0)
    scores = np.repeat(rng.random((150, 1)), 4, axis=0).astype(np.float32) + 0.3 * labels
    width = {}
    for name, patients in (("patients", np.repeat(np.arange(150), 4)), ("rows", np.arange(600))):
        data = Fold(labels, scores, np.array([0.5]), patients)
        result = resample([data], replicates=300)
        low, high = centred(float(result.value["auroc"][0]), result.replicates["auroc"][:, 0])
        width[name] = high - low
    assert width["patients"] > 1.6 * width["rows"]  # copies of a study bring no news: the truth is a factor of 2


def test_intervals_cover_the_expected_map() -> None:
    """The short form of bench/coverage.py: independent rare findings, 150 test sets; 90 % of 95 % within sampling error."""
    patients, findings, sets = 400, 10, 150

    def test_set(seed: tuple[int, int]) -> Fold:
        rng = np.random.default_rng(seed)
        rows = np.repeat(np.arange(patients), 1 + rng.integers(0, 3, patients))
        ill = rng.random((patients, findings)) < 0.05
        labels = (ill[rows] & (rng.random((len(rows), findings)) < 0.8)).astype(np.float32)
        scores = labels + rng.standard_normal((patients, findings))[rows] * 0.5 + rng.standard_normal(labels.shape)
        return Fold(labels, scores.astype(np.float32), np.ones(findings), rows)

    everything = np.ones(findings, dtype=bool)
    target = np.mean([resample([test_set((0, n))], replicates=0, threads=1).value["ap"] for n in range(600)])
    held = 0
    for number in range(sets):
        result = resample([test_set((1, number))], replicates=100, seed=number, threads=1)
        low, high = centred(float(result.value["ap"].mean()), macro(result.replicates["ap"], everything))
        held += low <= target <= high
    assert held / sets >= 0.88
