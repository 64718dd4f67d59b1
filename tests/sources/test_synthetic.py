"""Synthetic images: flagged, each a patient of its own, in every run's training part and nowhere else, and told of."""

import cv2
import numpy as np
import polars as pl
import pytest

from hilum.data.check import check
from hilum.errors import InputError
from hilum.recipe import parse_recipe
from hilum.sources import import_studies
from hilum.tables import read_studies, studies_metadata, write_studies
from hilum.training.inputs import split_studies
from tests.small import write_small_studies


@pytest.fixture
def tables(tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    random = np.random.default_rng(0)
    for number in range(6):
        cv2.imwrite(str(made / f"g{number}.png"), random.integers(0, 255, (32, 32)).astype(np.uint8))
    lines = [f"g{number}.png,PA,{number % 2},1" for number in range(6)]
    (made / "made.csv").write_text("file,view,Hernia,Mass\n" + "\n".join(lines) + "\n")
    table, _ = import_studies("synthetic", made, tmp_path / "made.parquet", table="made.csv")
    return write_small_studies(tmp_path, patients=20, note="A test."), table


def test_the_table_says_what_they_are(tables):
    made = read_studies(tables[1])
    assert set(made["source"]) == {"synthetic"}
    assert set(made["split"]) == {"train"}
    assert made["patient_id"].n_unique() == 6
    assert made["Hernia"].to_list() == [0, 1, 0, 1, 0, 1]
    assert studies_metadata(tables[1])["note"] == "6 images for training were made by a generator."


@pytest.mark.parametrize("split", [{"valid": 0.4, "test": 0.4}, {"folds": 3, "fold": 1}, {"column": "split"}])
def test_they_train_whatever_the_split(tables, split):
    real = read_studies(tables[0])
    if "column" in split:
        parts = pl.Series(["train", "valid", "test"] * real.height)[: real.height]
        patients = real.select("patient_id").unique(maintain_order=True)
        parts = patients.with_columns(split=parts[: patients.height])
        write_studies(real.join(parts, on="patient_id"), tables[0], label_level="study", note="A test.")
    recipe = parse_recipe({"studies": [str(path) for path in tables], "split": split})
    united = split_studies(recipe)
    assert united.note == "6 images for training were made by a generator. A test."
    table = united.table
    assert table.filter(source="synthetic")["split"].to_list() == ["train"] * 6
    alone = split_studies(parse_recipe({"studies": str(tables[0]), "split": split})).table
    where = dict(alone.select("image_id", "split").iter_rows())
    kept = dict(table.filter(pl.col("source") != "synthetic").select("image_id", "split").iter_rows())
    assert kept == where  # with and without them, the real ones stand where they stood


def test_they_alone_are_no_data(tables):
    with pytest.raises(InputError, match="all images are synthetic"):
        split_studies(parse_recipe({"studies": str(tables[1])}))


def test_check_counts_them_and_finds_those_to_be_judged(tables, tmp_path):
    report = check(tables[1])
    assert any("6 of 6 images were made by a generator" in warning.what for warning in report.warnings)
    assert not any("synthetic" in fault.what for fault in report.faults)
    wrong = read_studies(tables[1]).with_columns(split=pl.Series(["test"] * 2 + ["train"] * 4))
    write_studies(wrong, tmp_path / "wrong.parquet", label_level="study")
    assert any(
        "2 synthetic images stand in valid or test" in fault.what for fault in check(tmp_path / "wrong.parquet").faults
    )
