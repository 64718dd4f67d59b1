"""Backbones by view in training: cached features know the view that they were made for."""

import numpy as np
import polars as pl
import torch
from lightning_fabric import Fabric

from hilum.batches.dataset import Studies
from hilum.models.classifier import build_classifier
from hilum.pixels.spec import PixelSpec
from hilum.recipe import Choice, ModelSpec, Stage, TrainSpec
from hilum.training.features import StageFeatures
from tests.small import FINDINGS, small_studies

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
