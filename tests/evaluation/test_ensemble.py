"""Ensembles: each method by hand, laws that hold of any members, and every mismatch told in a sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import hilum
from hilum.cli import app
from hilum.errors import InputError
from hilum.evaluation.combining import METHODS, Rule, chosen, combine, equal, fitted, thresholds_of
from hilum.evaluation.ensemble import ensemble
from hilum.evaluation.evaluate import evaluate
from hilum.evaluation.metrics import average_precision
from hilum.tables import Predictions, read_predictions, write_predictions, write_studies
from tests.evaluation.conftest import FINDINGS, World

RULES = [
    Rule(method, prior=prior, shared=shared) for method in METHODS for prior, shared in ((100.0, False), (0.0, True))
]
COUNTS = {"positives": dict(zip(FINDINGS, (350, 80, 6, 0))), "known": dict.fromkeys(FINDINGS, 1000)}


def scores(*members: list[list[float]]) -> np.ndarray:
    return np.array(members, dtype=np.float32)


# by hand


def test_mean_by_hand():
    members = scores([[0.1, 0.8]], [[0.5, 0.2]])
    np.testing.assert_allclose(combine(members, equal(2, 2)), [[0.3, 0.5]], atol=1e-7)
    logits = combine(members, equal(2, 2), space="logit")  # odds multiply: sqrt(1/9 * 1), sqrt(4 * 1/4)
    np.testing.assert_allclose(logits, [[0.25, 0.5]], atol=1e-6)


def test_vote_by_hand():
    members = scores([[0.3], [0.6]], [[0.7], [0.1]], [[0.4], [0.4]])
    calls = combine(members, equal(3, 1), thresholds=np.array([[0.3], [0.8], [0.4]]))  # at a threshold is a call
    np.testing.assert_allclose(calls, [[2 / 3], [2 / 3]], atol=1e-6)
    labels = np.array([[1], [0], [np.nan]], dtype=np.float32)
    own = thresholds_of(labels, scores([[0.3], [0.1], [0.9]], [[0.2], [0.6], [0.0]]))
    np.testing.assert_allclose(own, [[0.3], [0.2]])


def test_per_finding_by_hand():
    labels = np.array([[1, 1], [0, 1], [0, 0]], dtype=np.float32)
    right, wrong = [0.9, 0.2, 0.1], [0.1, 0.2, 0.9]
    members = np.stack(
        [np.column_stack(pair) for pair in ((right, wrong), (wrong, right[::-1]), (right, [0.8, 0.9, 0.1]))]
    )
    weights = chosen(labels, members.astype(np.float32), best=1, least=1)
    np.testing.assert_allclose(weights, [[0.5, 0], [0, 0], [0.5, 1]])  # two are level at the first finding
    np.testing.assert_allclose(chosen(labels, members.astype(np.float32), best=1, least=3), 1 / 3)


def test_weights_by_hand():
    """One positive said 0.8 or 0.2, one negative said 0.5 by both: least -log(0.8 w + 0.2 (1 - w)) is at w = 1 ..."""
    labels = np.array([[1], [0]], dtype=np.float32)
    members = scores([[0.8], [0.5]], [[0.2], [0.5]])
    np.testing.assert_allclose(fitted(labels, members, prior=0.0), [[1], [0]], atol=1e-2)
    # ... and with a prior worth one positive, of w solving w = (r / 2 + w / 2 + 1 / 2) / 2, r = 0.8 w / (0.6 w + 0.2)
    w = fitted(labels, members, prior=1.0)[0, 0]
    assert w == pytest.approx((0.8 * w / (0.6 * w + 0.2) / 2 + w / 2 + 0.5) / 2, abs=1e-5)


def test_the_better_member_gets_more_where_positives_tell_it():
    rng = np.random.default_rng(0)
    labels = (rng.random((2000, 2)) < (0.3, 0.004)).astype(np.float32)
    skilled, idle = (1 / (1 + np.exp(1.5 - skill * labels - rng.standard_normal(labels.shape))) for skill in (3, 0))
    members = np.stack([skilled, idle]).astype(np.float32)
    weights = fitted(labels, members, prior=30.0)
    assert weights[0, 0] > 0.9
    assert 0.5 < weights[0, 1] < 0.75, "few positives: drawn towards the mean"
    own, mean = (average_precision(labels, combine(members, each)) for each in (weights, equal(2, 2)))
    assert own[0] > mean[0]
    together = fitted(labels, members, shared=True)
    np.testing.assert_allclose(together[:, 0], together[:, 1])


# laws


@st.composite
def worlds(draw: Any) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N, F) with unknown entries, and probabilities (M, N, F), ties and 0 and 1 among them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count, rows, width = draw(st.integers(1, 5)), draw(st.integers(2, 40)), draw(st.integers(1, 4))
    labels = rng.choice([0.0, 1.0, np.nan], p=[0.6, 0.3, 0.1], size=(rows, width)).astype(np.float32)
    said = np.round(rng.random((count, rows, width)), draw(st.integers(0, 4))).astype(np.float32)
    return labels, said


def made(rule: Rule, labels: np.ndarray, members: np.ndarray) -> np.ndarray:
    thresholds = thresholds_of(labels, members) if rule.method == "vote" else None
    return combine(members, METHODS[rule.method](rule, labels, members), thresholds=thresholds)


@settings(max_examples=40, deadline=None)
@given(worlds(), st.sampled_from(RULES), st.randoms(use_true_random=False))
def test_laws(world, rule, chance):
    labels, members = world
    weights = METHODS[rule.method](rule, labels, members)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    whole = made(rule, labels, members)
    assert ((whole >= 0) & (whole <= 1)).all()
    order = list(range(len(members)))
    chance.shuffle(order)
    np.testing.assert_allclose(made(rule, labels, members[order]), whole, atol=1e-5)
    if rule.method != "vote":
        np.testing.assert_array_equal(made(rule, labels, members[:1]), members[0])
        np.testing.assert_allclose(made(rule, labels, np.repeat(members[:1], 4, axis=0)), members[0], atol=1e-6)
        low, high = members.min(axis=0), members.max(axis=0)
        assert ((whole >= low - 1e-6) & (whole <= high + 1e-6)).all()


@settings(max_examples=20, deadline=None)
@given(worlds())
def test_logit_space_keeps_one_member_and_its_order(world):
    said = world[1][:1]
    np.testing.assert_allclose(combine(said, equal(1, said.shape[2]), space="logit"), said[0], atol=1e-6)
    tiny = np.array([[[1e-20], [1e-12], [1 - 1e-7]]], dtype=np.float32)
    assert (np.diff(combine(tiny, equal(1, 1), space="logit")[:, 0]) > 0).all()


# tables


class Members:
    """Three members of a world: predictions of its test studies, and of its training studies as held-out ones."""

    def __init__(self, world: World):
        rng = np.random.default_rng(1)
        self.world, self.test, self.fit = world, [], []
        for place, skill in enumerate((3.0, 1.0, 0.0)):
            for split, files in (("test", self.test), ("train", self.fit)):
                rows = world.table.filter(pl.col("split") == split).unique("study_id", maintain_order=True)
                truth = rows.select(FINDINGS).fill_null(0).to_numpy() > 0.5
                said = 1 / (1 + np.exp(1.5 - skill * truth - rng.standard_normal(truth.shape)))
                table = rows.select("study_id", "patient_id").hstack(
                    pl.DataFrame(said.astype(np.float32), schema=list(FINDINGS))
                )
                table = table.sample(fraction=1.0, shuffle=True, seed=place)  # matched by id, never by place
                facts = {"bundle": f"hash {place}", "split": "valid" if split == "train" else split, **COUNTS}
                files.append(world.predictions(f"{split}{place}.parquet", table, **facts))

    def changed(self, place: int, change: Any = None, **facts: Any) -> list[Path]:
        """The test tables, one of them otherwise."""
        said = read_predictions(self.test[place])
        said.table = change(said.table) if change else said.table
        for name, value in facts.items():
            setattr(said, name, value)
        write_predictions(said, self.world.folder / "changed.parquet")
        return [self.world.folder / "changed.parquet" if k == place else file for k, file in enumerate(self.test)]


@pytest.fixture(scope="module")
def members(tmp_path_factory) -> Members:
    return Members(World(tmp_path_factory.mktemp("world")))


def test_a_mean_of_tables_can_be_judged_by_tiers(members, tmp_path):
    done = hilum.ensemble(members.test, tmp_path / "p.parquet")
    back = read_predictions(tmp_path / "p.parquet")
    parts = [read_predictions(file).table.sort("study_id") for file in members.test]
    mean = np.mean([part["Edema"].to_numpy() for part in parts], axis=0)
    np.testing.assert_allclose(back.table.sort("study_id")["Edema"], mean, atol=1e-6)
    assert back.ensemble == done.predictions.ensemble
    assert [member["bundle"] for member in back.ensemble["members"]] == ["hash 0", "hash 1", "hash 2"]
    assert (back.positives, back.known, back.split) == (COUNTS["positives"], COUNTS["known"], "test")
    judged = evaluate([tmp_path / "p.parquet"], members.world.studies, tmp_path / "report", replicates=20)
    assert judged["tiers"] == {"Edema": "head", "Mass": "medium", "Hernia": "tail", "Nodule": "tail"}
    assert judged["doubts"] == []
    turned = ensemble(members.test[::-1], tmp_path / "q.parquet").predictions
    assert turned.bundle == back.bundle
    assert ensemble(members.test[:2], tmp_path / "q.parquet").predictions.bundle != back.bundle


@pytest.mark.parametrize("method", ["weighted", "per-finding", "vote"])
def test_what_is_learned_on_others_makes_the_better_ensemble(members, tmp_path, method):
    done = ensemble(
        members.test, tmp_path / "p.parquet", method=method, fit_on=members.fit, studies=members.world.studies
    )
    assert list(done.judged) == ["test0.parquet", "test1.parquet", "test2.parquet", "mean", method]
    if method != "vote":
        assert done.judged[method] > done.judged["mean"] > done.judged["test2.parquet"]
        assert done.weights[0, 0] > done.weights[2, 0]
    else:
        assert set((done.predictions.table["Edema"] * 3).round(3)) == {0, 1, 2, 3}
    training = members.world.table.filter(pl.col("split") == "train")
    assert list(done.predictions.thresholds) == [name for name in FINDINGS if (training[name] == 1).any()]
    assert done.predictions.ensemble["weights"]["Edema"] == done.weights[:, 0].tolist()


def test_folds_of_a_member_are_one_table(members, tmp_path):
    whole = read_predictions(members.fit[1])
    for half in range(2):
        part = Predictions(whole.table.filter(pl.int_range(pl.len()) % 2 == half), bundle=f"fold {half}")
        write_predictions(part, tmp_path / f"fold{half}.parquet")
    words = ["ensemble", *map(str, members.test), "-o", str(tmp_path / "p.parquet"), "--method", "weighted"]
    for file in (members.fit[0], f"{tmp_path}/fold0.parquet,{tmp_path}/fold1.parquet", members.fit[2]):
        words += ["--fit-on", str(file)]
    told = CliRunner().invoke(app, [*words, "--studies", str(members.world.studies)])
    assert told.exit_code == 0, told.output
    assert "3 members" in told.output
    assert "Next: hilum evaluate" in told.output
    again = ensemble(
        members.test, tmp_path / "q.parquet", method="weighted", fit_on=members.fit, studies=members.world.studies
    )
    assert read_predictions(tmp_path / "p.parquet").table.equals(again.predictions.table)


def test_a_vote_takes_the_thresholds_that_came_with_the_tables(members, tmp_path):
    at = dict.fromkeys(FINDINGS, 0.4)
    files = [members.changed(place, thresholds=at)[place].rename(tmp_path / f"v{place}.parquet") for place in range(3)]
    done = ensemble(files, tmp_path / "p.parquet", method="vote").predictions
    parts = [read_predictions(file).table.sort("study_id")["Mass"].to_numpy() >= np.float32(0.4) for file in files]
    np.testing.assert_allclose(done.table.sort("study_id")["Mass"], np.mean(parts, axis=0), atol=1e-6)
    assert done.thresholds == dict.fromkeys(FINDINGS, 0.5)
    with pytest.raises(InputError, match="holds no thresholds"):
        ensemble(members.test, tmp_path / "p.parquet", method="vote")


def test_every_mismatch_is_told(members, tmp_path):
    def refused(match: str, files: list[Path], **options: Any) -> None:
        with pytest.raises(InputError, match=match):
            ensemble(files, tmp_path / "p.parquet", **options)

    def per_image(table: pl.DataFrame) -> pl.DataFrame:
        return table.with_columns(image_id="study_id").select("study_id", "patient_id", "image_id", *FINDINGS)

    fit, studies = members.fit, members.world.studies
    learned = {"method": "weighted", "fit_on": fit, "studies": studies}
    refused("study .* alone", members.changed(1, lambda table: table.head(-1)))
    refused("finding 'Mass' is in test0.parquet alone", members.changed(2, lambda table: table.drop("Mass")))
    refused("changed.parquet is calibrated and test0.parquet is not", members.changed(1, calibrated=True))
    refused("changed.parquet is predicted per image", members.changed(1, per_image, level="image"))
    refused("Did you mean 'weighted'", members.test, method="weigthed")
    refused("learns from held-out studies", members.test, method="per-finding")
    refused("2 tables for 3 members", members.test, **{**learned, "fit_on": fit[:2]})
    refused("labels of its studies", members.test, **{**learned, "studies": None})
    refused("has no logit space", members.test, **learned, space="logit")
    refused("--best 4", members.test, method="per-finding", best=4)
    refused("studies of --fit-on are also combined", members.test, **{**learned, "fit_on": members.test})
    refused(
        "was made by the model of test1.parquet, and stands for test0",
        members.test,
        **{**learned, "fit_on": [fit[1], fit[0], fit[2]]},
    )
    refused(
        "is calibrated and test0.parquet is not",
        members.test,
        **{**learned, "fit_on": [*members_calibrated(members, tmp_path), *fit[1:]]},
    )
    assert not (tmp_path / "p.parquet").exists()


def members_calibrated(members: Members, folder: Path) -> list[Path]:
    said = read_predictions(members.fit[0])
    said.calibrated = True
    write_predictions(said, folder / "calibrated.parquet")
    return [folder / "calibrated.parquet"]


def test_a_patient_on_both_sides_is_refused(members, tmp_path):
    """The studies differ; the patient behind two of them does not, and only the study table knows."""
    owner = members.world.table.filter(pl.col("split") == "train")["patient_id"][0]
    other = members.world.table.filter(pl.col("split") == "test")["patient_id"][0]
    table = members.world.table.with_columns(pl.col("patient_id").replace({other: owner}))
    write_studies(table, tmp_path / "studies.parquet", label_level="study")
    with pytest.raises(InputError, match=f"patients of --fit-on also have studies .*{owner}"):
        ensemble(
            members.test,
            tmp_path / "p.parquet",
            method="weighted",
            fit_on=members.fit,
            studies=tmp_path / "studies.parquet",
        )
