"""Calibrating a bundle: maps and thresholds land in it, predictions pass through them, its identity stays."""

import numpy as np
import polars as pl
import pytest

from hilum.bundle import read_bundle
from hilum.errors import InputError
from hilum.evaluation.reliability import read_reliability
from hilum.inference.calibrate import calibrate, patient_folds
from hilum.inference.predict import load, predict
from hilum.tables import read_predictions, read_studies, write_studies
from hilum.training.run import train
from tests.small import FINDINGS, write_small_studies


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrate")
    write_small_studies(folder, patients=60)
    options = [f"studies={folder / 'studies.parquet'}", f"cache.folder={folder / 'cache'}", "cache.size=32", "findings=null",
               "train.epochs=3", "train.batch_size=16", "split.valid=0.3", "split.test=0.2"]  # fmt: skip
    return train("demo", options, run=folder / "run")


def test_maps_land_in_the_bundle_and_are_applied(run, tmp_path):
    cache = run.parent / "cache"
    before = read_bundle(run / "bundle")
    raw = load(run / "bundle").predict(read_studies(run / "studies.parquet"), cache=cache)
    done = calibrate(run / "bundle", run / "studies.parquet", cache=cache)
    after = read_bundle(run / "bundle")
    assert after.identity == before.identity
    assert [point.finding for point in after.operating_points] == list(FINDINGS)
    assert after.operating_points == done.points
    told = read_reliability(run / "bundle")
    assert list(told["findings"]) == list(FINDINGS)
    assert "calibrated" in told["measured_on"]
    predict(run / "bundle", run / "studies.parquet", tmp_path / "p.parquet", cache=cache)
    mapped = read_predictions(tmp_path / "p.parquet")
    assert mapped.calibrated
    joined = raw.join(mapped.table, on="study_id", suffix="_mapped")
    for point in done.points:
        p = joined[point.finding].to_numpy().astype(np.float64)
        expected = 1 / (1 + np.exp(-(point.slope * np.log(p / (1 - p)) + point.intercept)))
        rounding = 1.2e-7 * point.slope / (p * (1 - p))  # p was stored as float32, and its logit magnifies that
        assert (np.abs(joined[f"{point.finding}_mapped"].to_numpy() - expected) <= 1e-5 + rounding).all()
        assert mapped.thresholds[point.finding] == point.threshold


def test_a_wanted_sensitivity_is_reached_on_the_studies_it_was_chosen_on(run):
    done = calibrate(run / "bundle", run / "studies.parquet", cache=run.parent / "cache", sensitivity=0.8, split=None)
    assert {point.criterion for point in done.points} == {"sensitivity 0.8"}
    eager = calibrate(run / "bundle", run / "studies.parquet", cache=run.parent / "cache", sensitivity=0.95, split=None)
    assert all(low.threshold >= high.threshold for low, high in zip(done.points, eager.points))


def test_folds_keep_patients_together_whatever_the_order():
    patients = [f"p{i // 3}" for i in range(60)]
    fold = patient_folds(patients, 0)
    assert all(len(set(fold[3 * i : 3 * i + 3])) == 1 for i in range(20))
    order = np.random.default_rng(0).permutation(60)
    assert (patient_folds([patients[i] for i in order], 0) == fold[order]).all()
    assert set(fold) == set(range(5))


def test_mistakes(run, tmp_path):
    cache = run.parent / "cache"
    with pytest.raises(InputError, match="between 0 and 1"):
        calibrate(run / "bundle", run / "studies.parquet", cache=cache, sensitivity=80)
    with pytest.raises(InputError, match="split 'dev'"):
        calibrate(run / "bundle", run / "studies.parquet", cache=cache, split="dev")
    write_studies(read_studies(run / "studies.parquet").drop("Mass"), tmp_path / "s.parquet", label_level="study")
    with pytest.raises(InputError, match="no labels of 'Mass'"):
        calibrate(run / "bundle", tmp_path / "s.parquet", cache=cache)
    few = read_studies(run / "studies.parquet").filter(pl.col("patient_id").is_in(["p1", "p2"]))
    write_studies(few.drop("split"), tmp_path / "few.parquet", label_level="study")
    with pytest.raises(InputError, match="too few to calibrate"):
        calibrate(run / "bundle", tmp_path / "few.parquet", cache=cache)
