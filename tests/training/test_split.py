"""Who trains, who validates, who is tested: what a table itself calls test is never trained on, whatever the recipe deals."""

import polars as pl
import pytest

from hilum.data.splits import folds, hold_out
from hilum.errors import InputError
from hilum.recipe import load_recipe, parse_recipe, recipe_names
from hilum.tables import read_predictions, read_studies, write_studies
from hilum.training.inputs import split_studies
from hilum.training.run import train
from tests.small import short_run, small_studies, write_small_studies

OF_NIH = [name for name in recipe_names() if load_recipe(name).findings == "nih"]


def called(table, test, rest="train"):
    """The table with a column split of its own: these patients test."""
    inside = pl.col("patient_id").is_in(test)
    return table.with_columns(split=pl.when(inside).then(pl.lit("test")).otherwise(pl.lit(rest)))


@pytest.fixture
def official(tmp_path):
    """A table whose own list tests six patients, and their names."""
    table, _ = small_studies(40)
    tested = table["patient_id"].unique(maintain_order=True).to_list()[::7]
    write_studies(called(table, tested), tmp_path / "studies.parquet", label_level="study")
    return tmp_path / "studies.parquet", set(tested)


@pytest.mark.parametrize("name", OF_NIH)
def test_no_recipe_of_nih_trains_on_its_official_test_patients(name, official):
    file, tested = official
    recipe = load_recipe(name, [f"studies={file}", "findings=null"])
    dealt = split_studies(recipe)
    sides = {side: set(rows["patient_id"]) for (side,), rows in dealt.table.group_by("split")}
    assert not (sides["train"] | sides["valid"]) & tested
    assert not sides["train"] & sides["valid"]
    if recipe.split.folds is None:
        assert sides["test"] == tested
        assert dealt.table.height == read_studies(file).height
        share = len(sides["valid"]) / len(sides["train"] | sides["valid"])
        assert share == pytest.approx(recipe.split.valid / (1 - recipe.split.test), abs=0.06)
    else:
        assert not sides["test"] & tested, "official test images are in no fold"
    assert dealt.kept
    assert "never trained on" in dealt.kept


def test_what_the_table_calls_valid_is_dealt_anew(official):
    file, tested = official
    write_studies(called(read_studies(file), tested, rest="valid"), file, label_level="study")
    dealt = split_studies(parse_recipe({"studies": str(file)})).table
    assert set(dealt["split"]) == {"train", "valid", "test"}
    assert set(dealt.filter(split="test")["patient_id"]) == tested


@pytest.mark.parametrize("column", [None, "train"])
def test_without_test_rows_it_deals_as_ever(tmp_path, column):
    table, _ = small_studies(40)
    table = table if column is None else table.with_columns(split=pl.lit(column))
    write_studies(table, tmp_path / "studies.parquet", label_level="study")
    stored, page = read_studies(tmp_path / "studies.parquet"), {"studies": str(tmp_path / "studies.parquet")}
    dealt = split_studies(parse_recipe(page))
    assert dealt.table.equals(hold_out(stored))
    assert dealt.kept is None
    for fold in range(3):
        recipe = parse_recipe({**page, "split": {"folds": 3, "fold": fold}})
        assert split_studies(recipe).table.equals(folds(stored, count=3, fold=fold))


def test_a_patient_with_a_test_image_trains_with_none(official):
    file, tested = official
    table = read_studies(file)
    torn = table.with_columns(
        split=pl.when(pl.col("patient_id").is_first_distinct()).then("split").otherwise(pl.lit("train"))
    )
    write_studies(torn, file, label_level="study")
    dealt = split_studies(parse_recipe({"studies": str(file)})).table
    assert set(dealt.filter(split="test")["patient_id"]) == tested
    assert not set(dealt.filter(pl.col("split") != "test")["patient_id"]) & tested


def test_nothing_but_test_is_told(official):
    file, _ = official
    write_studies(read_studies(file).with_columns(split=pl.lit("test")), file, label_level="study")
    with pytest.raises(InputError, match="in its own test part"):
        split_studies(parse_recipe({"studies": str(file)}))


def test_a_run_says_so_and_tests_on_them(tmp_path):
    file = write_small_studies(tmp_path, patients=20)
    tested = ["p3", "p8"]
    write_studies(called(read_studies(file), tested), file, label_level="study")
    said: list[str] = []
    given = [*short_run(tmp_path), "split.folds=null", "split.valid=0.25", "split.test=0.2"]
    run = train("nih_quick", given, run=tmp_path / "run", say=said.append)
    studies = read_studies(file).filter(pl.col("patient_id").is_in(tested))["study_id"]
    assert set(read_predictions(run / "predictions_test.parquet").table["study_id"]) == set(studies)
    assert sum(line.startswith("split     ") and "validation is dealt among the others" in line for line in said) == 1
