"""What a bundle says of its findings: the measures of evaluation, nothing where too few are positive, plain JSON."""

import json

import numpy as np

from hilum.evaluation.metrics import auroc, average_precision
from hilum.evaluation.reliability import LEAST, as_bytes, measure_reliability, read_reliability, write_reliability

FINDINGS = ["Edema", "Hernia", "Mass"]


def measured():
    rng = np.random.default_rng(0)
    labels = (rng.random((400, 3)) < [0.3, 0.01, 0.5]).astype(float)
    labels[rng.random(labels.shape) < 0.1] = np.nan
    scores = np.clip(0.3 * np.nan_to_num(labels) + rng.random(labels.shape) * 0.7, 0, 1)
    patients = [f"p{number // 2}" for number in range(400)]
    thresholds = {"Edema": 0.4, "Mass": 0.6}
    return labels, scores, measure_reliability(FINDINGS, labels, scores, thresholds, patients, "Drawn studies.")


def test_measures_are_those_of_evaluation():
    labels, scores, told = measured()
    for column in (0, 2):
        of = told["findings"][FINDINGS[column]]
        assert np.isclose(of["ap"][0], average_precision(labels, scores)[column])
        assert np.isclose(of["auroc"][0], auroc(labels, scores)[column])
        for value, low, high in (of["ap"], of["auroc"], of["f1"]):
            assert 0 <= low < value < high <= 1
    edema, called = labels[:, 0], scores[:, 0] >= 0.4
    assert np.isclose(told["findings"]["Edema"]["sensitivity"], called[edema == 1].mean())
    assert np.isclose(told["findings"]["Edema"]["specificity"], 1 - called[edema == 0].mean())
    assert (told["studies"], told["patients"]) == (400, 200)


def test_too_few_positives_have_counts_alone():
    labels, _, told = measured()
    assert told["findings"]["Hernia"] == {
        "positives": int(np.nansum(labels[:, 1])),
        "known": int((~np.isnan(labels[:, 1])).sum()),
    }
    assert told["findings"]["Hernia"]["positives"] < LEAST


def test_it_is_written_and_read_back(tmp_path):
    _, _, told = measured()
    write_reliability(told, tmp_path)
    assert read_reliability(tmp_path) == told == json.loads(as_bytes(told))
    assert read_reliability(tmp_path / "elsewhere") == {}
