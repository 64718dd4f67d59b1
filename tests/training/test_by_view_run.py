"""Backbones by view in training: cached features know their view, and a run leaves a bundle that stands by itself."""

import shutil

import numpy as np
import polars as pl
import torch
from lightning_fabric import Fabric

from hilum.batches.dataset import Studies
from hilum.inference.predict import load
from hilum.models.classifier import build_classifier
from hilum.models.view_classifier import ViewFacts, build_view_classifier, write_view_classifier
from hilum.pixels.spec import PixelSpec
from hilum.recipe import Choice, ModelSpec, Stage, TrainSpec
from hilum.tables import read_predictions, read_studies
from hilum.training.features import StageFeatures
from hilum.training.run import train
from tests.small import FINDINGS, small_studies, write_small_studies

SPEC = PixelSpec(64)
BY_VIEW = {"name": "by_view", "frontal": "test_resnet"}


def features_of(folder, table, images, backbone):
    torch.manual_seed(0)
    model = build_classifier(ModelSpec(backbone=backbone), FINDINGS, SPEC.size).eval()
    late = table["patient_id"] == "p4"
    parts = (Studies(table.filter(~late), images, FINDINGS), Studies(table.filter(late), images, FINDINGS))
    stage = Stage(freeze=["backbone"], augment=Choice("none"), train=TrainSpec(epochs=1))
    return model, StageFeatures(stage, model, Fabric(accelerator="cpu", devices=1), *parts, folder, SPEC)


def test_cached_features_are_those_of_the_view(tmp_path):
    table, images = small_studies(patients=5, size=SPEC.size)
    model, features = features_of(tmp_path, table, images, BY_VIEW)
    features.compute()
    for plain, cached in zip((features.train, features.valid), features.studies()):
        one, other = (studies.batch(np.arange(len(studies))) for studies in (plain, cached))
        with torch.no_grad():
            expected = model.encode(one.images[one.present].float() / 255, one.view[one.present])
        torch.testing.assert_close(other.features[other.present].float(), expected, rtol=2e-3, atol=1e-4)


def test_another_view_of_the_same_pixels_is_computed_anew_only_where_it_matters(tmp_path):
    table, images = small_studies(patients=5, size=SPEC.size)
    turned = table.with_columns(view=pl.col("view").replace({"PA": "LATERAL"}))
    changed = int((table["view"] == "PA").sum())
    assert changed
    for name, backbone, anew in (("by_view", BY_VIEW, changed), ("plain", {"name": "test_resnet"}, 0)):
        features_of(tmp_path / name, table, images, backbone)[1].compute()
        assert features_of(tmp_path / name, turned, images, backbone)[1].compute() == anew, name


def test_a_run_leaves_a_bundle_that_stands_by_itself(tmp_path):
    studies = write_small_studies(tmp_path, patients=16)
    judge = build_view_classifier(["PA", "AP", "LATERAL"])
    write_view_classifier(judge, ViewFacts(judge.architecture, SPEC, {}, ["test"]), tmp_path / "views")
    page = tmp_path / "recipe.yaml"
    page.write_text(
        f"studies: {studies}\n"
        f"cache: {{folder: {tmp_path / 'cache'}, size: 64}}\n"
        "stages:\n"
        "  - name: images\n"
        f"    model: {{backbone: {{name: by_view, frontal: test_resnet, view_classifier: {tmp_path / 'views'}}}, heads: by_view}}\n"
        "    train: {level: image, epochs: 1, batch_size: 8, ema: 0.9, device: cpu}\n"
        "  - {name: studies, init: images, freeze: backbone, train: {level: study, epochs: 1}}\n"
    )
    lines = []
    run = train(page, run=tmp_path / "run", say=lines.append)
    assert any("linear by view" in line for line in lines)
    assert any(line.startswith("init") and "missing" not in line for line in lines)
    shutil.rmtree(tmp_path / "views")
    model = load(run / "bundle", device="cpu")
    table = read_studies(run / "studies.parquet").filter(pl.col("split") == "test")
    predicted = read_predictions(run / "predictions_test.parquet").table
    again = model.predict(table).join(predicted, on="study_id", suffix="_then")
    assert again.height == predicted.height
    for name in model.findings:
        np.testing.assert_allclose(again[name], again[f"{name}_then"], atol=1e-5)
    assert str(tmp_path) not in (run / "bundle" / "recipe.yaml").read_text()
    assert "test_resnet for frontal" in (run / "bundle" / "card.md").read_text()
