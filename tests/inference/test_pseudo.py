"""Pseudo labels: which entries get one, soft and hard, by which rules; the verb, its table and its refusals."""

import json
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from hilum.bundle import read_bundle
from hilum.cli import app
from hilum.data.pseudo_table import PseudoLabels, check_pseudo, lines_of, read_pseudo, write_pseudo
from hilum.data.seen import Seen, check_apart
from hilum.errors import InputError
from hilum.inference.calibrate import calibrate
from hilum.inference.predict import load
from hilum.inference.pseudo import pseudo, seen_by
from hilum.inference.pseudo_rules import CASES, Rules, cases_of, check_rules, choose_labels, counts_of
from hilum.tables import labels_of, read_predictions, read_studies, write_studies
from hilum.training.run import train
from tests.small import FINDINGS, write_small_studies

NAMES = ("Edema", "Mass", "Hernia")
worlds = st.tuples(st.integers(0, 2**31), st.integers(1, 40))


def world(seed, rows):
    """Scores with ties, labels with holes and a source that lacks a finding."""
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random((rows, 3)), 1).astype(np.float32)
    labels = np.where(rng.random((rows, 3)) < 0.4, np.nan, rng.integers(0, 2, (rows, 3)))
    labels[rng.random(rows) < 0.3] = np.nan
    sources = rng.choice(["one", "other"], rows).tolist()
    labels[np.array(sources) == "other", 2] = np.nan
    lot = np.stack([rng.permutation(rows) for _ in range(3)], axis=1)
    return scores, labels, sources, lot


def chosen(seed, rows, rules, prevalence=(0.3, 0.1, 0.02)):
    scores, labels, sources, lot = world(seed, rows)
    cases = cases_of(labels, sources)
    wanted = np.logical_or.reduce(list(cases.values()))
    made = choose_labels(scores, wanted, NAMES, np.array(prevalence), rules, lot)
    return scores, labels, cases, wanted, made


RULES = [
    Rules(),
    Rules(low=0.2, high=0.7),
    Rules(hard=True, low=0.2, high={"*": 0.7, "Hernia": 0.4}),
    Rules(hard=True, high=0.5),
    Rules(match_prevalence=True),
    Rules(match_prevalence=True, negatives=2.0),
    Rules(negatives=1.5),
]


@pytest.mark.parametrize("rules", RULES)
@settings(max_examples=30, deadline=None)
@given(worlds)
def test_laws_of_every_rule(rules, drawn):
    scores, labels, cases, wanted, made = chosen(*drawn, rules)
    assert np.isnan(made.labels[~np.isnan(labels)]).all(), "a known entry gets no pseudo label"
    count = np.stack(list(cases.values())).sum(axis=0)
    assert (count == np.isnan(labels)).all(), "every unknown entry is of exactly one case"
    given = ~np.isnan(made.labels)
    assert ((given.astype(int) + made.between + made.dropped) == wanted).all()
    counts = counts_of(made, cases, NAMES)
    for case in CASES:
        for column, name in enumerate(NAMES):
            one = counts[case][name]
            assert one["entries"] == cases[case][:, column].sum()
            assert one["labelled"] + one["between"] + one["dropped"] == one["entries"]
            assert 0 <= one["positives"] <= one["labelled"]
    for column in range(3):
        rows = given[:, column]
        order = np.argsort(scores[rows, column], kind="stable")
        s, y = scores[rows, column][order], made.labels[rows, column][order]
        assert (y[1:] >= y[:-1])[s[1:] > s[:-1]].all(), "a higher score never has a lower label"
        if rules.hard or rules.match_prevalence:
            assert set(y) <= {0.0, 1.0}
        if rules.negatives is not None:
            before = choose_labels(
                scores, wanted, NAMES, np.array((0.3, 0.1, 0.02)), replace(rules, negatives=None), world(*drawn)[3]
            )
            most = np.ceil(rules.negatives * np.nansum(before.labels[:, column]))
            assert (y < 0.5).sum() <= most


@settings(max_examples=40, deadline=None)
@given(worlds, st.floats(0, 1))
def test_hard_labels_match_the_prevalence(drawn, prevalence):
    scores, _, _, wanted, made = chosen(*drawn, Rules(match_prevalence=True), (prevalence, np.nan, 0.5))
    for column, share in ((0, prevalence), (2, 0.5)):
        entries = wanted[:, column].sum()
        assert np.nansum(made.labels[:, column]) == round(share * entries)
        top = scores[made.labels[:, column] == 1, column]
        rest = scores[made.labels[:, column] == 0, column]
        assert not len(top) or not len(rest) or top.min() >= rest.max()
    assert np.isnan(made.labels[:, 1]).all(), "a finding without a prevalence is not matched"


def test_bounds_leave_what_lies_between_unknown():
    scores = np.array([[0.1], [0.2], [0.5], [0.7], [0.9]], dtype=np.float32)
    wanted, lot = np.ones((5, 1), dtype=bool), np.arange(5)[:, None]

    def labels(rules):
        return choose_labels(scores, wanted, ["Edema"], np.array([0.5]), rules, lot).labels[:, 0]

    np.testing.assert_array_equal(labels(Rules(low=0.25, high=0.6)), np.float32([0.1, 0.2, np.nan, 0.7, 0.9]))
    np.testing.assert_array_equal(labels(Rules(hard=True, low=0.25, high=0.6)), np.float32([0, 0, np.nan, 1, 1]))
    np.testing.assert_array_equal(labels(Rules(hard=True, high=0.6)), np.float32([np.nan] * 3 + [1, 1]))
    np.testing.assert_array_equal(labels(Rules(low={"Edema": 0.15})), np.float32([0.1] + [np.nan] * 4))
    np.testing.assert_array_equal(labels(Rules()), scores[:, 0])


def test_three_cases():
    nan = np.nan
    labels = np.array([[1, nan, nan], [nan, nan, nan], [0, 1, nan], [nan, 0, nan], [1, 1, 0]], dtype=np.float32)
    cases = cases_of(labels, ["a", "a", "a", "b", "c"])
    assert np.argwhere(cases["unlabelled"]).tolist() == [[1, 0], [1, 1], [1, 2]]
    assert np.argwhere(cases["unknown"]).tolist() == [[0, 1]]
    assert np.argwhere(cases["absent"]).tolist() == [[0, 2], [2, 2], [3, 0], [3, 2]]


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (Rules(hard=True), "which probabilities are sure"),
        (Rules(match_prevalence=True, low=0.1), "exclude one another"),
        (Rules(low=0.5, high=0.4), "low 0.5 is above high 0.4"),
        (Rules(high=60), "60 is no probability"),
        (Rules(high={"Edma": 0.5}), r"[Dd]id you mean 'Edema'"),
        (Rules(cases=("unlabeled",)), r"[Dd]id you mean 'unlabelled'"),
        (Rules(cases=()), "no case"),
        (Rules(negatives=-1), "negatives -1 is out of range"),
        (Rules(weight=float("nan")), "weight nan is out of range"),
    ],
)
def test_rules_that_cannot_be(rules, said):
    with pytest.raises(InputError, match=said):
        check_rules(rules, NAMES)


def table_of(**changes):
    frame = pl.DataFrame(
        {"study_id": ["a", "b"], "patient_id": ["p", "p"], "weight": [1.0, 0.5], "Edema": [0.25, None]},
        schema_overrides={"weight": pl.Float32, "Edema": pl.Float32},
    )
    return PseudoLabels(
        frame.with_columns(**changes), teacher="ab12", rule={"hard": False}, seen=Seen(frozenset({1, 2**64 - 1}))
    )


def test_the_table_comes_back_as_it_went(tmp_path):
    write_pseudo(table_of(), tmp_path / "p.parquet")
    back = read_pseudo(tmp_path / "p.parquet")
    assert back.table.equals(table_of().table)
    assert replace(back, table=None) == replace(table_of(), table=None)
    with pytest.raises(InputError, match="is a pseudo table, not predictions"):
        read_predictions(tmp_path / "p.parquet")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Edema": pl.lit(1.5, dtype=pl.Float32)}, "no label"),
        ({"Edema": pl.lit(float("nan"), dtype=pl.Float32)}, "no label"),
        ({"Edema": pl.lit(0.5)}, "no label"),
        ({"weight": pl.lit(-1.0, dtype=pl.Float32)}, "weight is below 0"),
        ({"weight": pl.lit(None, dtype=pl.Float32)}, "empty entries"),
        ({"study_id": pl.lit("a")}, "several rows"),
    ],
)
def test_faults_of_the_table(change, said):
    with pytest.raises(InputError, match=said):
        check_pseudo(table_of(**change))


def people(**parts):
    rows = [(patient, part) for part, patients in parts.items() for patient in patients]
    return pl.DataFrame(
        {"patient_id": [p for p, _ in rows], "study_id": [f"s{p}" for p, _ in rows], "split": [s for _, s in rows]}
    )


def test_whom_a_teacher_saw_and_what_that_forbids():
    seen = Seen.of(people(train=["a", "b"], valid=["c"], test=["d"]))
    assert Seen.from_page(json.loads(json.dumps(seen.page()))) == seen
    check_apart(seen, people(train=["a", "c", "d"], valid=["c", "e"], test=["d"]), "here")
    check_apart(Seen(), people(valid=["a"], test=["b"]), "here")
    with pytest.raises(InputError, match=r"trained on 1 patients .* first 'b' of valid"):
        check_apart(seen, people(train=["a"], valid=["b"]), "here")
    with pytest.raises(InputError, match=r"trained on 2 patients .* first 'a' of test"):
        check_apart(seen, people(test=["a", "b", "c"]), "here")
    with pytest.raises(InputError, match=r"chosen or calibrated on 1 patients of test, first 'c'"):
        check_apart(seen | Seen(), people(test=["c", "d"]), "here")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A teacher with a run folder, calibrated, whose studies have 1 in 3 training studies unlabelled."""
    folder = tmp_path_factory.mktemp("teacher")
    write_small_studies(folder, patients=60)
    options = [f"studies={folder / 'studies.parquet'}", f"cache.folder={folder / 'cache'}", "cache.size=32", "findings=null",
               "train.epochs=2", "train.batch_size=16", "split.valid=0.3", "split.test=0.2"]  # fmt: skip
    run = train("demo", options, run=folder / "run")
    calibrate(run / "bundle", run / "studies.parquet", cache=folder / "cache")
    table = read_studies(run / "studies.parquet")
    gone = (pl.col("split") == "train") & (pl.col("patient_id").str.slice(1).cast(pl.Int32) % 3 == 0)
    nulls = [pl.when(gone).then(None).otherwise(pl.col(name)).alias(name) for name in FINDINGS]
    write_studies(table.with_columns(nulls), folder / "partly.parquet", label_level="study", note="A test.")
    return run


def test_the_verb_labels_unknown_training_entries_with_what_the_teacher_says(run, tmp_path):
    partly = run.parent / "partly.parquet"
    made = pseudo(run / "bundle", partly, tmp_path / "p.parquet", cache=run.parent / "cache")
    back = read_pseudo(tmp_path / "p.parquet")
    assert back.table.equals(made.table)
    table = read_studies(partly)
    training = table.filter(pl.col("split") == "train")
    assert set(made.table["study_id"]) <= set(training["study_id"])
    labels = labels_of(training, FINDINGS)
    said = load(run / "bundle").predict(training, cache=run.parent / "cache")
    joined = pl.DataFrame({"study_id": labels.ids}).join(made.table, on="study_id", how="left", maintain_order="left")
    scores = pl.DataFrame({"study_id": labels.ids}).join(said, on="study_id", how="left", maintain_order="left")
    for column, name in enumerate(FINDINGS):
        unknown = np.isnan(labels.values[:, column])
        np.testing.assert_array_equal(joined[name].is_not_null().to_numpy(), unknown)
        np.testing.assert_allclose(joined[name].to_numpy()[unknown], scores[name].to_numpy()[unknown], atol=1e-6)
    assert back.teacher == read_bundle(run / "bundle").identity
    assert back.note == "A test."
    assert back.seen == Seen.of(read_studies(run / "studies.parquet"))
    assert back.rule["calibrated"] is True
    sums = {case: sum(one["entries"] for one in findings.values()) for case, findings in back.counts.items()}
    assert sums["unlabelled"] > 0 < sums["unknown"]
    assert sum(sums.values()) == np.isnan(labels.values).sum()
    only = pseudo(run / "bundle", partly, tmp_path / "q.parquet", rules=Rules(cases=("unlabelled",), weight=0.5),
                  cache=run.parent / "cache")  # fmt: skip
    assert list(only.counts) == ["unlabelled"]
    assert only.table.height == np.isnan(labels.values).all(axis=1).sum()
    assert set(only.table["weight"]) == {0.5}
    assert "Hernia" in lines_of(only)


def test_the_order_of_rows_has_no_say(run, tmp_path):
    table = read_studies(run.parent / "partly.parquet")
    write_studies(table.sample(fraction=1, shuffle=True, seed=1), tmp_path / "s.parquet", label_level="study")
    rules = Rules(match_prevalence=True, negatives=1.0)
    one, other = (
        pseudo(run / "bundle", file, tmp_path / "p.parquet", rules=rules, cache=run.parent / "cache").table.sort(
            "study_id"
        )
        for file in (run.parent / "partly.parquet", tmp_path / "s.parquet")
    )
    assert one.equals(other)


def test_refusals(run, tmp_path):
    partly, cache = run.parent / "partly.parquet", run.parent / "cache"
    table = read_studies(partly)
    with pytest.raises(InputError, match="no entry is sure enough"):
        pseudo(run / "bundle", partly, tmp_path / "p.parquet", rules=Rules(low=0.0), cache=cache)
    swapped = table.with_columns(split=pl.col("split").replace({"train": "test", "test": "train"}))
    write_studies(swapped, tmp_path / "s.parquet", label_level="study")
    with pytest.raises(InputError, match=r"the teacher was trained on \d+ patients of valid and test"):
        pseudo(run / "bundle", tmp_path / "s.parquet", tmp_path / "p.parquet", cache=cache)
    whole = table.filter(pl.all_horizontal(pl.col(FINDINGS).is_not_null()))
    write_studies(whole, tmp_path / "w.parquet", label_level="study")
    with pytest.raises(InputError, match="labelled already"):
        pseudo(run / "bundle", tmp_path / "w.parquet", tmp_path / "p.parquet", cache=cache)
    write_studies(table.filter(pl.col("split") == "test"), tmp_path / "t.parquet", label_level="study")
    with pytest.raises(InputError, match="no row of the table is in train"):
        pseudo(run / "bundle", tmp_path / "t.parquet", tmp_path / "p.parquet", cache=cache)
    assert not (tmp_path / "p.parquet").exists()


def test_a_bundle_away_from_its_run_must_say_whom_it_saw(run, tmp_path):
    shutil.copytree(run / "bundle", tmp_path / "bundle")
    bundle = read_bundle(tmp_path / "bundle")
    with pytest.raises(InputError, match=r"not known which patients.*--teacher-studies"):
        seen_by(bundle)
    assert seen_by(bundle, run / "studies.parquet") == seen_by(read_bundle(run / "bundle"))
    assert not seen_by(bundle, "other")
    with pytest.raises(InputError, match="has no split"):
        seen_by(bundle, run.parent / "studies.parquet")


def test_an_uncalibrated_teacher_is_refused_unless_its_order_is_all_that_counts(tmp_path):
    write_small_studies(tmp_path, patients=24)
    options = [f"studies={tmp_path / 'studies.parquet'}", f"cache.folder={tmp_path / 'cache'}", "cache.size=32", "findings=null",
               "train.epochs=1", "train.batch_size=16", "split.valid=0.3", "split.test=0.2"]  # fmt: skip
    run = train("demo", options, run=tmp_path / "run")
    words = ["pseudo", str(run / "bundle"), str(run / "studies.parquet"), "-o", str(tmp_path / "p.parquet"), "--cache",
             str(tmp_path / "cache")]  # fmt: skip
    refused = CliRunner().invoke(app, words)
    assert isinstance(refused.exception, InputError)
    assert "not calibrated" in str(refused.exception)
    for more in (["--match-prevalence"], ["--uncalibrated", "--low", "0.5", "--high", "0.5", "--high", "Mass=0.6"]):
        done = CliRunner().invoke(app, [*words, *more])
        assert done.exit_code == 0, done.output
        assert "Next: hilum train RECIPE" in done.output
    assert read_pseudo(tmp_path / "p.parquet").rule["high"] == {"*": 0.5, "Mass": 0.6}
    wrong = CliRunner().invoke(app, [*words, "--low", "few"])
    assert "--low 'few' is no number" in str(wrong.exception)
