"""The two contracts: what passes comes back as it went, each fault has its sentence; labels as a matrix."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.errors import InputError
from hilum.tables import (
    Predictions,
    check_studies,
    labels_of,
    read_predictions,
    read_studies,
    studies_metadata,
    write_predictions,
    write_studies,
)
from tests.small import FINDINGS, small_studies

LONG = ("324123412341234123412341234123412341234", "324123412341234123412341234123412341235")  # equal as floats


def table() -> pl.DataFrame:
    return small_studies(patients=6)[0]


def test_a_study_table_comes_back_as_it_went(tmp_path):
    write_studies(table(), tmp_path / "s.parquet", label_level="study", note="A note.")
    back = read_studies(tmp_path / "s.parquet")
    assert back.equals(check_studies(table()))
    assert studies_metadata(tmp_path / "s.parquet")["note"] == "A note."


def test_39_digit_ids_stay_apart(tmp_path):
    two = table().head(2).with_columns(patient_id=pl.Series(LONG), study_id=pl.Series(LONG), image_id=pl.Series(LONG))
    write_studies(two, tmp_path / "s.parquet", label_level="study")
    assert read_studies(tmp_path / "s.parquet")["patient_id"].n_unique() == 2
    assert float(LONG[0]) == float(LONG[1])


def test_root_rebases_paths(tmp_path):
    write_studies(table(), tmp_path / "s.parquet", label_level="study")
    moved = read_studies(tmp_path / "s.parquet", root=tmp_path / "new")
    assert moved["path"][0] == str(tmp_path / "new" / f"{moved['image_id'][0]}.png")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop("patient_id"), "lacks the column 'patient_id'"),
        (lambda t: t.with_columns(patient_id=pl.lit(3)), "Ids are strings"),
        (lambda t: t.with_columns(extra=pl.lit(1.5)), "neither a known column nor a finding"),
        (lambda t: t.with_columns(Edema=pl.lit(2, dtype=pl.Int8)), "values other than 1, 0, -1"),
        (lambda t: t.with_columns(view=pl.lit("FRONT")), "may hold unknown, PA, AP, LATERAL"),
        (lambda t: t.with_columns(split=pl.lit("dev")), "may hold train, valid, test"),
        (lambda t: pl.concat([t, t.head(1)]), "more than once"),
        (lambda t: t.with_columns(study_id=pl.lit("one")), "belongs to several patients"),
        (lambda t: t.with_columns(patient_id=pl.when(pl.int_range(pl.len()) > 2).then("patient_id")), "patient_id is empty in 3"),
        (lambda t: t.head(0), "no rows"),
    ],
)  # fmt: skip
def test_faults_of_a_study_table(change, said, tmp_path):
    with pytest.raises(InputError, match=said):
        write_studies(change(table()), tmp_path / "s.parquet", label_level="study")
    assert not any(tmp_path.iterdir())


def test_labels_are_by_name_and_unknown_is_nan():
    labels = labels_of(table(), ["Mass", "Not there", "Edema"])
    assert np.isnan(labels.values[:, 1]).all()
    for i, study in enumerate(labels.ids):
        rows = table().filter(pl.col("study_id") == study)
        for j, name in ((0, "Mass"), (2, "Edema")):
            value = rows[name][0]
            assert np.isnan(labels.values[i, j]) if value is None else labels.values[i, j] == value
        assert labels.patients[i] == rows["patient_id"][0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([1, 0, -1, None]), min_size=1, max_size=4))
def test_a_study_shows_what_any_of_its_images_shows(values):
    rows = pl.concat([table().head(1)] * len(values)).with_columns(
        image_id=pl.Series([str(i) for i in range(len(values))]), Edema=pl.Series(values, dtype=pl.Int8)
    )
    value = labels_of(rows, ["Edema"]).values[0, 0]
    known = [entry for entry in values if entry is not None]
    expected = 1.0 if 1 in known else np.nan if -1 in known or not known else 0.0
    assert value == expected or (np.isnan(value) and np.isnan(expected))


def test_unknown_patients_count_as_their_studies():
    labels = labels_of(table().with_columns(patient_id=pl.lit(None, dtype=pl.String)), FINDINGS)
    assert labels.patients == labels.ids


def predictions(**changes) -> Predictions:
    frame = pl.DataFrame(
        {"study_id": ["a", "b"], "patient_id": ["p", "p"], "Edema": [0.25, 1.0]}, schema_overrides={"Edema": pl.Float32}
    )
    return Predictions(
        table=frame.with_columns(**changes), positives={"Edema": 3}, known={"Edema": 9}, thresholds={"Edema": 0.5}
    )


def test_predictions_come_back_with_their_facts(tmp_path):
    write_predictions(predictions(), tmp_path / "p.parquet")
    back = read_predictions(tmp_path / "p.parquet")
    assert back.table.equals(predictions().table)
    assert (back.positives, back.known, back.thresholds, back.findings) == (
        {"Edema": 3},
        {"Edema": 9},
        {"Edema": 0.5},
        ["Edema"],
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Edema": pl.lit(1.5, dtype=pl.Float32)}, "no probabilities"),
        ({"Edema": pl.lit(None, dtype=pl.Float32)}, "no probabilities"),
        ({"Edema": pl.lit(float("nan"), dtype=pl.Float32)}, "no probabilities"),
        ({"Edema": pl.lit(0.5, dtype=pl.Float64)}, "not Float32"),
        ({"study_id": pl.lit("a")}, "several rows"),
    ],
)
def test_faults_of_predictions(change, said, tmp_path):
    with pytest.raises(InputError, match=said):
        write_predictions(predictions(**change), tmp_path / "p.parquet")
    assert not any(tmp_path.iterdir())


def test_tables_are_not_mistaken_for_one_another(tmp_path):
    write_studies(table(), tmp_path / "s.parquet", label_level="study")
    with pytest.raises(InputError, match="is a studies table, not predictions"):
        read_predictions(tmp_path / "s.parquet")
    (tmp_path / "t.parquet").write_text("text")
    with pytest.raises(InputError, match="not a parquet file"):
        read_studies(tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"id you mean 's.parquet'"):
        read_studies(tmp_path / "ss.parquet")
