"""The single-label form in training: torch's cross-entropy, mixed and weighed and in parts; the studies kept; a whole run."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from torch.nn import functional as F

from hilum.errors import InputError
from hilum.recipe import parse_recipe
from hilum.tables import read_studies
from hilum.training.inputs import split_studies
from hilum.training.losses.softmax import Softmax
from hilum.training.plan import check_recipe
from hilum.training.run import train
from tests.small import FINDINGS, write_small_studies

COUNTS, KNOWN = torch.tensor([50.0, 30.0, 4.0, 1.0]), torch.full((4,), 85.0)


def made(count=20, seed=0):
    random = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, 4, (count,), generator=random)
    return torch.randn(count, 4, generator=random), truth, F.one_hot(truth, 4).float()


def test_equals_torchs_cross_entropy():
    logits, truth, labels = made()
    torch.testing.assert_close(Softmax(COUNTS, KNOWN)(logits, labels), F.cross_entropy(logits, truth))
    total = Softmax(COUNTS, KNOWN, reduction="sum")(logits, labels)
    torch.testing.assert_close(total, F.cross_entropy(logits, truth, reduction="sum"))


@pytest.mark.parametrize("kind", ["class_balanced", "inverse"])
def test_class_weights_are_those_of_torchs_cross_entropy(kind):
    logits, truth, labels = made()
    loss = Softmax(COUNTS, KNOWN, class_weights=kind)
    weights = loss.positive_weight.float()
    assert weights[3] > weights[0]
    torch.testing.assert_close(loss(logits, labels), F.cross_entropy(logits, truth, weight=weights))
    total = Softmax(COUNTS, KNOWN, class_weights=kind, reduction="sum")(logits, labels)
    torch.testing.assert_close(total, F.cross_entropy(logits, truth, weight=weights, reduction="sum"))


def test_a_weighed_batch_in_parts_is_the_whole_batch():
    logits, _, labels = made()
    loss = Softmax(COUNTS, KNOWN, class_weights="inverse")
    whole = loss.divisor(labels)
    parts = [loss(logits[rows], labels[rows]) * loss.divisor(labels[rows]) for rows in (slice(7), slice(7, None))]
    torch.testing.assert_close(sum(parts) / whole, loss(logits, labels))
    doubled = loss(logits, labels, torch.full_like(labels, 2.0))
    torch.testing.assert_close(doubled, loss(logits, labels))


def test_mixed_labels_share_the_loss():
    logits, truth, labels = made()
    loss = Softmax(COUNTS, KNOWN)
    mixed = 0.3 * labels + 0.7 * labels.flip(0)
    expected = 0.3 * F.cross_entropy(logits, truth) + 0.7 * F.cross_entropy(logits, truth.flip(0))
    torch.testing.assert_close(loss(logits, mixed), expected)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("single")
    return write_small_studies(folder, patients=40)


def test_only_studies_of_exactly_one_known_finding_are_kept(table):
    kept = split_studies(parse_recipe({"studies": str(table), "single_label": True})).table
    values = read_studies(table).select(FINDINGS).to_numpy().astype(float)
    expected = (~np.isnan(values).any(axis=1) & (np.nan_to_num(values).sum(axis=1) == 1)).sum()
    assert 0 < kept.height == expected < len(values)
    assert (kept.select(pl.sum_horizontal(*FINDINGS)).to_series() == 1).all()


def test_softmax_wants_single_labels():
    with pytest.raises(InputError, match="Set single_label: true"):
        check_recipe(parse_recipe({"loss": "softmax"}))


def test_a_whole_run_is_judged_by_balanced_accuracy(table, tmp_path):
    page = {"studies": str(table), "single_label": True, "cache": {"folder": str(tmp_path / "cache"), "size": 32},
            "split": {"valid": 0.25, "test": 0.25}, "loss": "softmax", "model": {"backbone": {"name": "test_resnet"}},
            "train": {"epochs": 2, "batch_size": 8, "select": "balanced_accuracy", "sampler": "balanced"}}  # fmt: skip
    (tmp_path / "page.yaml").write_text(json.dumps(page))
    folder = train(tmp_path / "page.yaml", run=tmp_path / "run")
    metrics = json.loads((folder / "report" / "metrics.json").read_text())
    assert metrics["single_label"]["rows"] == metrics["n_studies"]
    assert not metrics["doubts"]
    assert "valid_balanced_accuracy" in (folder / "log.csv").read_text()
