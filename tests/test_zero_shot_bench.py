"""bench/zero_shot.py: what is hidden with a held-out family, and the rankings by name against values worked out by hand."""

import importlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hilum.evaluation.metrics import average_precision
from hilum.findings import FINDING_SETS, IMPLIES

BENCH = Path(__file__).parent.parent / "bench"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


def test_what_would_tell_of_a_held_out_finding_is_hidden(bench):
    held_out = bench("held_out")
    labels = {  # rows: a mass and nothing else; a mass, an opacity and edema; edema alone; nothing; a mass with a tube;
        # an opacity where nobody looked for nodules; the same with edema; a mass that may be one
        "Mass": [1, 1, 0, 0, 1, 0, 0, -1], "Nodule": [0, 0, 0, 0, None, None, None, 0],
        "Lung Opacity": [0, 1, 0, 0, 0, 1, 1, 1], "Edema": [0, 1, 1, 0, 0, 0, 1, 0],
        "No Finding": [0, 0, 0, 1, 0, 0, 0, 0], "Support Devices": [0, 0, 0, 0, 1, 0, 0, 0],
    }  # fmt: skip
    table = pl.DataFrame({"study_id": list("abcdefgh"), **labels}, schema_overrides=dict.fromkeys(labels, pl.Int8))
    left = held_out.without(table, ["Mass", "Nodule"])
    assert left.columns == ["study_id", "Lung Opacity", "Edema", "No Finding", "Support Devices"]
    assert left["Lung Opacity"].to_list() == [None, None, 0, 0, None, None, None, None]
    assert left["No Finding"].to_list() == [None, 0, 0, 1, None, None, 0, None]
    assert left["Edema"].to_list() == [0, 1, 1, 0, 0, 0, 1, 0]


def test_no_finding_is_hidden_only_where_nothing_else_is_positive(bench):
    held_out = bench("held_out")
    labels = {"Hernia": [1, 1, 0], "Edema": [0, 1, 0], "No Finding": [0, 0, 1], "Support Devices": [1, 0, 0]}
    table = pl.DataFrame({"study_id": list("abc"), **labels}, schema_overrides=dict.fromkeys(labels, pl.Int8))
    assert held_out.without(table, ["Hernia"])["No Finding"].to_list() == [None, 0, 1]


def test_families_are_whole(bench):
    """Whatever a held-out finding implies, or implies it, is held out with it or unknown where that finding is to be seen."""
    held_out = bench("held_out")
    known = sorted({name for names in FINDING_SETS.values() for name in names})
    pairs = {frozenset((child, parent)) for child, implied in IMPLIES.items() for parent in implied}
    for family in held_out.FAMILIES.values():
        assert set(family) <= set(known)
        for member in family:  # one study that shows this alone, labelled absent in everything else
            study = pl.DataFrame({"study_id": ["a"], **{name: [int(name == member)] for name in known}})
            left = held_out.without(study.cast(dict.fromkeys(known, pl.Int8)), family)
            for near in (name for name in known if frozenset((name, member)) in pairs):
                assert near in family or left[near].to_list() == [None], (member, near)
    assert "Lung Opacity" in held_out.relatives(["Mass"])
    assert "Hydropneumothorax" in held_out.relatives(["Pneumothorax"])


def test_the_right_names_win_where_they_should_and_not_where_they_cannot(bench):
    by_name = bench("by_name")
    random = np.random.default_rng(0)
    names = [f"f{i}" for i in range(20)]
    truth = (random.random((600, 20)) < 0.1).astype(np.float32)
    told = by_name.Scored(names, truth + 0.5 * random.standard_normal(truth.shape), truth)
    blind = by_name.Scored(names, random.standard_normal(truth.shape), truth)
    unseen = ["f3", "f11", "f17"]
    good, bad = by_name.unseen_only(told, unseen), by_name.unseen_only(blind, unseen)
    assert good["ap"][0] > good["wrong_names_95"] > good["chance"]
    assert good["p"] < 0.02
    assert good["own"] == 3
    assert good["ap"][1] <= good["ap"][0] <= good["ap"][2]
    assert bad["p"] > 0.05
    assert bad["ap"][0] == pytest.approx(bad["chance"], abs=0.05)
    assert good["findings"]["f3"]["prevalence"] == pytest.approx(truth[:, 3].mean())
    among, amiss = by_name.generalised(told, unseen), by_name.generalised(blind, unseen)
    assert among["ap"] > among["wrong_names_95"]
    assert among["p"] < 0.02
    assert amiss["p"] > 0.05
    assert amiss["ap"] == pytest.approx(amiss["chance"], abs=0.06)


def test_intervals_are_centred(bench):
    """A drawn study ranks beside its own copy, so that rare findings look better in every draw than they are."""
    by_name = bench("by_name")
    random = np.random.default_rng(0)
    truth = (random.random((600, 12)) < 0.02).astype(np.float32)
    scores = truth + random.standard_normal(truth.shape)
    names = [f"f{i}" for i in range(12)]
    value, low, high = by_name.unseen_only(by_name.Scored(names, scores, truth), names)["ap"]
    drawn = [random.integers(0, 600, 600) for _ in range(200)]
    shift = np.mean([average_precision(truth[rows], scores[rows]).mean() for rows in drawn]) - value
    assert shift > 0.15 * (high - low), "else there is nothing to centre"
    assert (low + high) / 2 == pytest.approx(value, abs=0.08 * (high - low))


def test_names_are_exchanged(bench):
    exchanged = bench("by_name").exchanged
    own, columns = np.array([0, 1, 4]), np.array([1, 3, 4])
    order = exchanged(6, own, columns)
    assert order[own].tolist() == columns.tolist()
    assert sorted(order) == list(range(6))


def test_ranking_within_a_study_by_hand(bench):
    """Columns 0 and 1 are unseen. Row 1: 0 is positive, ranked second of the candidates, for the seen positive is left out."""
    within = bench("by_name").within
    scores = np.array([[0.5, 0.1, 0.9, 0.8], [0.7, 0.6, 0.1, 0.2], [0.3, 0.3, 0.3, 0.0]])
    positive = np.array([[True, False], [True, True], [True, False]])
    candidates = np.array([[True, True, False, True], [True] * 4, [True] * 4])
    assert within(scores, positive, candidates, np.array([0, 1])).tolist() == pytest.approx([1 / 2, 1.0, 1 / 3])


def test_few_examples_find_a_direction(bench):
    few_shot = bench("by_name").few_shot
    random = np.random.default_rng(1)
    features, labels = random.standard_normal((800, 6)), (random.random(800) < 0.1).astype(np.float32)
    shifted = features + 3.0 * labels[:, None] * np.array([1, 0, 0, 0, 0, 0])
    few, more = (few_shot(shifted, labels, shifted, labels, shots, 10) for shots in (1, 20))
    assert more > few > labels.mean()
    assert more > 0.7
    assert few_shot(features, labels, features, labels, 20, 10) < 0.3, "nothing to be found"
    assert np.isnan(few_shot(features, labels, features, labels, 500, 2))
