"""Every recipe of the package trains: by its own name, an epoch on few small studies, large networks replaced by a tiny one."""

import csv
import math
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from hilum.bundle import read_bundle
from hilum.recipe import load_recipe, recipe_names
from hilum.tables import read_predictions, read_studies, write_studies
from hilum.training.run import train
from tests.small import short_run, write_small_studies

HERE = Path(__file__).parent
# Trained by their own names elsewhere, for what else is to be seen in it.
ELSEWHERE = {
    "bag_of_tricks": "test_foundation_recipes.py",
    "chexfusion_small": "test_chexfusion.py",
    "cxr_context_small": "test_context_run.py",
    "demo": "test_run.py",
    "dual_weighted_metric": "test_foundation_recipes.py",
    "foundation_queries": "test_foundation_recipes.py",
    "label_embeddings_small": "test_label_texts.py",
    "ldam_drw": "test_drw.py",
    "lora_vlm_2024": "test_foundation_recipes.py",
    "nih_quick": "test_split.py",
    "vlm_prompts_2026": "test_foundation_recipes.py",
    "zero_shot_small": "test_label_texts.py",
}
TINY = ["model.backbone.name=test_resnet"]
OWN = {
    "attention_ensemble": ["model.backbone.name=test_convnext"],  # in 16 parts of a batch: no batch norm of one value
    "location_aware_densenet": ["model.backbone={name: test_resnet, coordinates: true}"],
    "view_specific": ["model.backbone.frontal=test_resnet", "model.backbone.lateral=test_resnet"],
    "view_specific_small": [],
}
TEXTS = {"label_embeddings": "stages.fusion.model.labels.model", "zero_shot": "model.labels.model"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Studies with a split, dates and requests, so that no recipe lacks what it reads."""
    folder = tmp_path_factory.mktemp("data")
    table = read_studies(write_small_studies(folder, patients=14))
    place = {name: number for number, name in enumerate(table["patient_id"].unique(maintain_order=True))}
    split = [("train", "train", "valid", "train", "test")[place[name] % 5] for name in table["patient_id"]]
    days = [date(2020, 1, 1 + int(name.split("s")[1])) for name in table["study_id"]]
    told = table.with_columns(split=pl.Series(split), study_date=pl.Series(days), indication=pl.lit("fall"))
    write_studies(told, folder / "studies.parquet", label_level="study")
    return folder


@pytest.mark.parametrize("name", [name for name in recipe_names() if name not in ELSEWHERE])
def test_it_trains_an_epoch(name, data, tmp_path, monkeypatch):
    monkeypatch.setattr("hilum.training.run_folder.draw_curves", lambda rows, path: None)  # half of the time
    plan = load_recipe(name)
    given = [*short_run(data), f"cache.folder={data / plan.cache.fit}", *OWN.get(name, TINY)]
    if name in TEXTS:
        folders = pytest.importorskip("tests.models.text_folders")
        given.append(f"{TEXTS[name]}={folders.write_bert(tmp_path / 'bert')}")
    run = train(name, given, run=tmp_path / "run")
    with (run / "log.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [row["stage"] for row in rows] == [stage.name for stage in plan.stages]
    assert all(math.isfinite(float(row["train_loss"])) for row in rows)
    assert read_bundle(run / "bundle").findings
    assert read_predictions(run / "predictions_test.parquet").table.height


@pytest.mark.parametrize(("name", "file"), ELSEWHERE.items())
def test_the_others_are_trained_elsewhere(name, file):
    assert f'train("{name}"' in (HERE / file).read_text()
