"""The recipe cxr_context from table to bundle: trained on cached features or without, and what the bundle then asks of studies."""

import shutil
from datetime import date

import numpy as np
import polars as pl
import pytest
import torch

from hilum.evaluation.platt import log_loss
from hilum.inference.calibrate import calibrate
from hilum.inference.predict import load
from hilum.models.context import Context, ContextTokens
from hilum.recipe import load_recipe
from hilum.tables import labels_of, read_predictions, read_studies, write_studies
from hilum.training.plan import check_recipe
from hilum.training.run import train
from tests.small import FINDINGS, write_small_studies

QUICK = [
    "findings=null",
    "cache.size=32",
    "train.epochs=1",
    "train.batch_size=16",
    "train.ema=0.0",
    "augment={name: none}",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Studies on the first, second and third of a month; every second patient's are asked for in words."""
    folder = tmp_path_factory.mktemp("data")
    table = read_studies(write_small_studies(folder, patients=40))
    days = [date(2020, 1, 1 + int(name.split("s")[1])) for name in table["study_id"]]
    words = ["fall, rule out fracture" if int(name[1:]) % 2 else None for name in table["patient_id"]]
    write_studies(
        table.with_columns(study_date=pl.Series(days), indication=pl.Series(words, dtype=pl.String)),
        folder / "studies.parquet", label_level="study",
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return train("cxr_context_small", options(data), run=tmp_path_factory.mktemp("runs") / "on")


def options(data):
    return [f"studies={data / 'studies.parquet'}", f"cache.folder={data / 'cache'}", "split.valid=0.25", *QUICK]


@pytest.mark.parametrize("name", ["cxr_context", "cxr_context_small"])
def test_the_recipes_can_be_run(name):
    recipe = load_recipe(name)
    check_recipe(recipe)
    single, fusion = recipe.stages
    assert "context" not in single.model.fusion.options
    assert fusion.model.fusion.options["context"] == ["prior", "indication", "demographics"]
    assert (fusion.init, fusion.freeze) == ("single_view", ["backbone"])


def test_cached_features_of_the_study_before_are_those_computed_anew(run, data, tmp_path):
    again = train("cxr_context_small", [*options(data), "train.feature_cache=off"], run=tmp_path / "off")
    tables = [read_predictions(folder / "predictions_test.parquet").table for folder in (run, again)]
    assert tables[0]["study_id"].equals(tables[1]["study_id"])
    for name in FINDINGS:
        np.testing.assert_allclose(tables[0][name], tables[1][name], atol=2e-3)
    read = pl.read_parquet(run / "studies.parquet").filter(pl.col("split") == "test")
    assert read.group_by("patient_id").agg(pl.col("study_id").n_unique())["study_id"].max() > 1


def test_the_bundle_asks_the_table_and_does_without(run, data):
    model = load(run / "bundle", device="cpu")
    assert isinstance(model.classifier.fusion.told, ContextTokens)
    table = pl.read_parquet(data / "studies.parquet")
    whole = model.predict(table, cache=data / "cache")
    said = read_predictions(run / "predictions_test.parquet").table
    joined = whole.join(said, on="study_id", suffix="_run")
    for name in FINDINGS:
        np.testing.assert_allclose(joined[name], joined[f"{name}_run"], atol=1e-5)
    first = whole["study_id"].str.ends_with("s0")
    wordless = whole["patient_id"].str.slice(1).cast(pl.Int64) % 2 == 0
    for column, untouched in (("study_date", first), ("indication", wordless)):
        less = model.predict(table.drop(column), cache=data / "cache")
        moved = (whole[FINDINGS[0]] - less[FINDINGS[0]]).abs()
        assert moved.filter(untouched).max() < 1e-6, column
        assert moved.filter(~untouched).min() > 1e-7, column
    ageless = model.predict(table.drop("age", "sex"), cache=data / "cache")
    assert (whole[FINDINGS[0]] - ageless[FINDINGS[0]]).abs().min() > 1e-7
    alone = model.predict([table["path"][0]])
    assert alone[FINDINGS[0]].is_between(0, 1).all()


def test_calibration_rests_on_what_prediction_says(run, data, tmp_path):
    bundle = shutil.copytree(run / "bundle", tmp_path / "bundle")
    said = load(bundle, device="cpu").predict(data / "studies.parquet", cache=data / "cache")
    labels = labels_of(read_studies(data / "studies.parquet"), FINDINGS)
    assert labels.ids == said["study_id"].to_list()
    found = calibrate(bundle, data / "studies.parquet", cache=data / "cache")
    assert found.log_loss[0] == pytest.approx(log_loss(labels.values, said.select(FINDINGS).to_numpy()), abs=1e-6)


@torch.no_grad()
def test_logits_of_tensors_take_a_context_too(run):
    model, generator = load(run / "bundle", device="cpu"), torch.Generator().manual_seed(0)
    images, present = torch.rand(2, 3, 1, 32, 32, generator=generator), torch.ones(2, 3, dtype=torch.bool)
    view, prior = torch.tensor([[1, 3, 1]] * 2, dtype=torch.int8), torch.tensor([[False, False, True]] * 2)
    bare = model.logits(images[:, :2], present[:, :2], view[:, :2])
    unread = model.logits(images, present & ~prior, view)
    torch.testing.assert_close(unread, bare, atol=1e-5, rtol=1e-5)
    told = model.logits(images, present, view, None, Context(prior=prior, years=torch.tensor([0.5, 2.0])))
    assert (told - bare).abs().amax(dim=1).min() > 1e-6
