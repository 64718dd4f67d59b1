"""Rows of `reproduce` that share a backbone, learn from further studies, or answer together: on two rows of Bag of Tricks."""

import numpy as np
import polars as pl
import pytest
import torch

from hilum.errors import InputError
from hilum.evaluation.ensemble import ensemble
from hilum.inference.predict import load
from hilum.recipe import load_recipe
from hilum.reproduce import reproduce
from hilum.reproductions import Row, System, Table, read_system
from hilum.tables import read_predictions, read_studies, write_studies
from tests.small import FINDINGS, write_small_studies

QUICK = ["cache.size=32", "train.epochs=1", "train.batch_size=32", "train.ema=0.0", "train.feature_versions=0"]
QUICK += ["model.head={name: linear}", "split.valid=0.3", "split.test=0.3"]
ROWS = [
    Row("frame", stage="main", overrides=["train.mix=none", "predict.tta=none"]),
    Row(
        "more",
        stage="main",
        frozen="frame",
        extra=True,
        tta=["flip"],
        overrides=["train.mix=none"],
        published=[0.3] + 4 * [None],
    ),
    Row("flipped", start="frame", tta=["flip"]),
    Row("mean", ensemble="mean", of=["frame", "more"]),
    Row("best", ensemble="per-finding", of=["frame", "more"]),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    studies = write_small_studies(folder, patients=40)
    table = read_studies(studies)
    further = table.with_columns(
        *(pl.concat_str(pl.lit("x"), name).alias(name) for name in ("study_id", "patient_id", "image_id")),
        split=pl.lit("train"), Mass=pl.lit(None, dtype=pl.Int8),
    )  # fmt: skip
    write_studies(further, folder / "extra.parquet", label_level="study")
    dealt = table.with_columns(
        split=pl.col("patient_id").str.slice(1).cast(pl.Int32).map_elements(
            lambda k: ("train", "train", "valid", "test")[k % 4], return_dtype=pl.String
        )
    )  # fmt: skip
    write_studies(dealt, studies, label_level="study")
    system = System("T", "s", "j", "bag_of_tricks", "bag_of_tricks_small", "rule", [Table("t", "T", ROWS, ["frame"])])
    options = {"small": True, "runs": folder / "runs", "replicates": 20}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hilum.reproduce.read_system", lambda name: system)
        whole = reproduce("t", studies, QUICK, extra=folder / "extra.parquet", **options)
        without = reproduce("t", studies, QUICK, **{**options, "runs": folder / "without"})
    return folder, whole, without


def test_a_row_keeps_the_backbone_of_another_and_learns_from_further_studies(made):
    folder, _, _ = made
    frame, more = (load(folder / "runs" / name / "seed-0" / "bundle", device="cpu") for name in ("frame", "more"))
    one, other = frame.classifier.state_dict(), more.classifier.state_dict()
    kept = [key for key in one if key.startswith("backbone.")]
    assert all(torch.equal(one[key], other[key]) for key in kept)
    assert not torch.equal(one["head.project.weight"], other["head.project.weight"]), "a head of its own"
    assert more.bundle.known["Edema"] > frame.bundle.known["Edema"]
    assert more.bundle.known["Mass"] == frame.bundle.known["Mass"], "which the further studies do not label"
    said = read_predictions(folder / "runs" / "more" / "seed-0" / "predictions_more.parquet")
    assert said.tta["transforms"] == ["identity", "flip"]
    assert load_recipe(folder / "runs" / "recipes" / "more-seed-0.yaml").predict.tta == [], "epochs are chosen without"


def test_ensembles_are_those_of_the_verb(made, tmp_path):
    folder, whole, _ = made
    runs = [folder / "runs" / name / "seed-0" for name in ("frame", "more")]
    files = [runs[0] / "predictions_test.parquet", runs[1] / "predictions_more.parquet"]
    fit = {"fit_on": [run / "predictions_valid.parquet" for run in runs], "studies": runs[0] / "studies.parquet"}
    for name, method, options in (("mean", "mean", {}), ("best", "per-finding", fit)):
        expected = ensemble(files, tmp_path / f"{name}.parquet", method=method, **options).predictions.table
        found = read_predictions(folder / "runs" / "predictions" / f"{name}-seed-0.parquet").table
        np.testing.assert_array_equal(found[list(FINDINGS)], expected[list(FINDINGS)])
    assert [row["name"] for row in whole["tables"][0]["panels"][0]["rows"]] == [
        "frame",
        "more",
        "flipped",
        "mean",
        "best",
    ]


def test_without_further_studies_what_needs_them_is_left_out(made):
    _, _, without = made
    assert [row["name"] for row in without["tables"][0]["panels"][0]["rows"]] == ["frame", "flipped"]
    assert [line.split(":")[0] for line in without["skipped"]] == ["more", "mean", "best"]


def test_further_studies_are_for_training_alone(tmp_path):
    studies = write_small_studies(tmp_path, patients=4)
    with pytest.raises(InputError, match="for training alone"):
        reproduce("bag_of_tricks", studies, QUICK, extra=studies, small=True, runs=tmp_path / "runs")


def test_the_posters_figures():
    rows = read_system("bag_of_tricks").rows
    assert [row.published[0] for row in rows.values() if row.published] == [
        0.3187, 0.3193, 0.3220, 0.3273, 0.3236, 0.3273, 0.3247, 0.3244, 0.3280, 0.347, 0.348, 0.349,
    ]  # fmt: skip
