"""Platt's maps: equal to an independent fit, shrunk where positives are few, better than nothing and than no shrinking."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from hilum.evaluation.platt import choose_strength, cross_fit, fit_maps, log_loss, logit, sigmoid


def world(studies=3000, seed=0, prevalence=(0.3, 0.1, 0.03, 0.006, 0.004, 0.003)):
    """Scores that overstate: true logits scaled and shifted, the same way for every finding."""
    random = np.random.default_rng(seed)
    base = np.log(np.array(prevalence) / (1 - np.array(prevalence)))
    true = base + 1.5 * random.standard_normal((studies, len(prevalence)))
    labels = (random.random(true.shape) < sigmoid(true)).astype(np.float32)
    labels[random.random(labels.shape) < 0.05] = np.nan
    return labels, sigmoid(0.6 * true + 1.0)


def test_equals_logistic_regression_without_the_pull():
    labels, scores = world()
    maps = fit_maps(labels, scores, 0.0)
    for finding in range(3):
        rows = ~np.isnan(labels[:, finding])
        free = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
            logit(scores[rows, finding])[:, None], labels[rows, finding]
        )
        assert maps.slopes[finding] == pytest.approx(free.coef_[0, 0], rel=1e-3)
        assert maps.intercepts[finding] == pytest.approx(free.intercept_[0], rel=1e-3, abs=1e-3)


def test_a_strong_pull_is_the_common_map_and_unseen_findings_get_it():
    labels, scores = world()
    labels[:, 5] = 0
    common = fit_maps(labels, scores, 1e9)
    assert np.ptp(common.slopes) < 1e-4
    weak = fit_maps(labels, scores, 1.0)
    assert weak.slopes[5] == pytest.approx(common.slopes[5], abs=1e-6)


def test_order_within_a_finding_is_kept_and_maps_are_probabilities():
    labels, scores = world(seed=1)
    flipped = fit_maps(1 - labels, scores, 0.0)  # scores that point the wrong way may be flattened, never turned round
    assert (flipped.slopes > 0).all()
    mapped = fit_maps(labels, scores, 3.0).apply(scores)
    assert ((mapped > 0) & (mapped < 1)).all()
    for finding in range(scores.shape[1]):
        assert (np.diff(mapped[np.argsort(scores[:, finding]), finding]) >= 0).all()


def test_calibration_helps_and_shrinking_helps_more():
    """Judged on new studies, averaged over worlds: raw scores overstate, and free maps of rare findings are noise."""
    gains = []
    for seed in range(6):
        labels, scores = world(studies=800, seed=seed)
        fold = np.arange(800) % 5
        strength = choose_strength(labels, scores, fold)
        new_labels, new_scores = world(studies=20000, seed=100 + seed)
        losses = [log_loss(new_labels, fit_maps(labels, scores, pull).apply(new_scores)) for pull in (0.0, strength)]
        ideal = log_loss(new_labels, sigmoid((logit(new_scores) - 1.0) / 0.6))
        gains.append(np.array([log_loss(new_labels, new_scores), *losses]) - ideal)
    raw, free, shrunk = np.mean(gains, axis=0)  # how much worse than the true probabilities
    assert shrunk < free < raw
    assert shrunk < raw / 20


def test_cross_fitting_never_sees_its_own_fold():
    labels, scores = world(studies=500)
    fold = np.arange(500) % 5
    before = cross_fit(labels, scores, fold, 1.0)
    changed = labels.copy()
    changed[fold == 2] = 1 - changed[fold == 2]
    after = cross_fit(changed, scores, fold, 1.0)
    np.testing.assert_array_equal(before[fold == 2], after[fold == 2])
    assert (before[fold != 2] != after[fold != 2]).any()


@pytest.mark.parametrize("seed", range(3))
def test_extreme_scores_stay_finite(seed):
    random = np.random.default_rng(seed)
    scores = random.choice([0.0, 1.0, 0.5], (200, 3))
    labels = (random.random((200, 3)) < 0.2).astype(np.float32)
    maps = fit_maps(labels, scores, 0.0)
    assert np.isfinite(maps.slopes).all()
    assert np.isfinite(maps.apply(scores)).all()
