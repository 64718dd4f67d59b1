"""The view classifier: learnt from known views, judged on other patients, filled in only where unknown and sure."""

import json

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from hilum.cli import app
from hilum.data.cache import open_cache
from hilum.errors import InputError
from hilum.evaluation.proportion import proportion, wilson
from hilum.evaluation.view_report import judge_views, view_lines
from hilum.inference.fill_views import fill_views
from hilum.models.view_classifier import load_view_classifier, read_view_facts
from hilum.recipe import parse_recipe
from hilum.sources import import_studies
from hilum.tables import read_studies, studies_metadata, write_studies
from hilum.training.inputs import with_absolute_paths, without_folders
from hilum.training.plan import check_recipe
from hilum.training.view_classifier import best_temperature, tempered, train_view_classifier, views
from tests.small import write_small_studies

STEPS = 40


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny phantom, the classifier trained on it, and the report: (folder, studies, report)."""
    folder = tmp_path_factory.mktemp("phantom")
    studies, _ = import_studies("phantom", None, folder, studies=140, size=64, workers=1)
    report = views(studies, folder / "views", cache=folder / "cache", steps=STEPS)
    return folder, studies, report


def hidden(made, share=0.3, seed=0):
    """The table with the views of some images hidden, their raw codes too; and the truth by image id."""
    folder, studies, _ = made
    table = read_studies(studies)
    known = (table["view"] != "unknown").to_numpy()
    gone = pl.Series(known & (np.random.default_rng(seed).random(table.height) < share))
    view = pl.when(gone).then(pl.lit("unknown")).otherwise("view").alias("view")
    raw = pl.when(gone).then(pl.lit("")).otherwise("view_raw").alias("view_raw")
    target = folder / "hidden.parquet"
    write_studies(table.with_columns(view, raw), target, label_level="study", note=studies_metadata(studies)["note"])
    return target, dict(table.filter(gone).select("image_id", "view").iter_rows())


def test_frontal_and_lateral_are_told_apart_on_patients_never_seen(made):
    folder, _, report = made
    assert report["frontal_or_lateral"][0] > 0.95
    assert report["accuracy"][0] > 1 / 3
    assert sum(sum(row.values()) for row in report["confusion"].values()) == report["images"]
    assert 1.0 <= report["temperature"] <= 10.0
    assert "frontal or lateral" in "\n".join(view_lines(report))
    facts = read_view_facts(folder / "views")
    assert facts.report == json.loads(json.dumps(report))
    assert facts.views == ["PA", "AP", "LATERAL"]
    assert facts.sources == ["phantom"]
    assert "Phantom" in facts.note


def test_the_same_seed_gives_the_same_classifier(made):
    folder, studies, _ = made
    table = read_studies(studies).filter(pl.col("view").is_in(["PA", "LATERAL"])).head(40)
    cache = open_cache(folder / "cache")
    one, two, other = (train_view_classifier(table, cache, ["PA", "LATERAL"], steps=2, seed=seed) for seed in (1, 1, 2))
    assert (one.project.weight == two.project.weight).all()
    assert not (one.project.weight == other.project.weight).all()


def test_filling_never_touches_what_is_known(made, tmp_path):
    folder, _, _ = made
    target, truth = hidden(made)
    done = fill_views(target, folder / "views", tmp_path / "filled.parquet", cache=folder / "cache", confidence=0.6)
    before, after = read_studies(target), read_studies(tmp_path / "filled.parquet")
    known = before["view"] != "unknown"
    assert after.drop("view").equals(before.drop("view")), "view_raw and labels among them"
    assert after.filter(known)["view"].equals(before.filter(known)["view"])
    told = pl.read_parquet(tmp_path / "filled-views.parquet")
    assert told["image_id"].to_list() == before.filter(~known)["image_id"].to_list()
    for name, view, confidence, filled in told.iter_rows():
        assert filled is (confidence >= 0.6)
        assert after.filter(pl.col("image_id") == name)["view"][0] == (view if filled else "unknown")
    sides = [
        (view == "LATERAL") == (truth[name] == "LATERAL")
        for name, view, _, filled in told.iter_rows()
        if filled and name in truth
    ]
    assert len(sides) > 10
    assert np.mean(sides) > 0.9
    assert (done.unknown, done.left) == (told.height, told.height - sum(done.filled.values()))
    assert done.confidence[1] >= 0.6
    assert f"{sum(done.filled.values()):,} of" in studies_metadata(tmp_path / "filled.parquet")["note"]
    assert "Phantom" in studies_metadata(tmp_path / "filled.parquet")["note"]


def test_nothing_is_filled_in_that_is_not_sure_enough(made, tmp_path):
    folder, _, _ = made
    target, _ = hidden(made)
    whole = {"cache": folder / "cache", "confidence": 0.0}
    assert fill_views(target, folder / "views", tmp_path / "all.parquet", **whole).left == 0
    told = pl.read_parquet(tmp_path / "all-views.parquet")
    middle = float(told["confidence"].median())
    unsure = set(told.filter(pl.col("confidence") < middle)["image_id"])
    assert 0 < len(unsure) < told.height
    done = fill_views(target, folder / "views", tmp_path / "filled.parquet", cache=folder / "cache", confidence=middle)
    after = read_studies(tmp_path / "filled.parquet").filter(pl.col("view") == "unknown")
    assert set(after["image_id"]) == unsure
    assert done.left == len(unsure) == done.unknown - sum(done.filled.values())
    sure = fill_views(target, folder / "views", tmp_path / "none.parquet", cache=folder / "cache", confidence=1.0)
    assert told["confidence"].max() < 1
    assert (sure.filled, sure.left) == ({}, told.height)
    assert read_studies(tmp_path / "none.parquet").equals(read_studies(target))
    with pytest.raises(InputError, match="never changed"):
        fill_views(target, folder / "views", target, cache=folder / "cache")
    with pytest.raises(InputError, match="no probability"):
        fill_views(target, folder / "views", tmp_path / "x.parquet", cache=folder / "cache", confidence=90)


def test_a_table_without_unknown_views_comes_back_equal(made, tmp_path):
    folder, studies, _ = made
    table = read_studies(studies).filter(pl.col("view") != "unknown")
    write_studies(table, tmp_path / "known.parquet", label_level="study")
    done = fill_views(tmp_path / "known.parquet", folder / "views", tmp_path / "out.parquet", cache=folder / "cache")
    assert (done.unknown, done.filled, done.left, done.confidence) == (0, {}, 0, None)
    assert read_studies(tmp_path / "out.parquet").equals(table)
    assert "note" not in studies_metadata(tmp_path / "out.parquet")


def test_pixels_of_another_kind_are_refused(made, tmp_path):
    folder, studies, _ = made
    page = {"studies": str(studies), "cache": {"folder": "c", "size": 96, "fit": "stretch"}}
    page["model"] = {
        "backbone": {"name": "by_view", "frontal": "test_resnet", "view_classifier": str(folder / "views")}
    }
    with pytest.raises(InputError, match="learnt from pad, as_is"):
        check_recipe(parse_recipe(page))
    page["cache"]["fit"] = "pad"
    check_recipe(parse_recipe(page))


def test_the_folder_is_absolute_in_a_run_and_a_name_in_a_bundle(made, monkeypatch):
    folder, _, _ = made
    monkeypatch.chdir(folder)
    backbone = {"name": "by_view", "frontal": "test_resnet", "view_classifier": "views"}
    run = with_absolute_paths(parse_recipe({"model": {"backbone": backbone}}))
    assert run.stages[0].model.backbone.options["view_classifier"] == str(folder / "views")
    assert without_folders(run).stages[0].model.backbone.options["view_classifier"] == "views"


def test_the_commands_lead_from_one_to_the_next(made, tmp_path):
    folder, studies, _ = made
    table = read_studies(studies).head(60)
    write_studies(table, tmp_path / "few.parquet", label_level="study")
    words = ["views", str(tmp_path / "few.parquet"), "--cache", str(folder / "cache")]
    trained = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "views"), "--steps", "1"], catch_exceptions=False)
    assert "Next: hilum views" in trained.stdout
    assert load_view_classifier(tmp_path / "views")[1].report["steps"] == 1
    filled = CliRunner().invoke(app, [*words, "--fill", str(folder / "views")], catch_exceptions=False)
    assert "Next: hilum check" in filled.stdout
    assert (tmp_path / "few-filled.parquet").exists()


def test_what_cannot_be_trained_is_said(made, tmp_path):
    folder, studies, _ = made
    with pytest.raises(InputError, match="in use"):
        views(studies, folder / "views", cache=folder / "cache")
    alone = read_studies(studies).filter(pl.col("view") == "PA")
    with pytest.raises(InputError, match="no two views"):
        views(alone, tmp_path / "views", cache=folder / "cache")
    with pytest.raises(InputError, match="teach nothing"):
        views(studies, tmp_path / "views", cache=folder / "cache", steps=0)


def test_the_split_of_the_table_counts_and_patients_stay_apart(tmp_path):
    table = read_studies(write_small_studies(tmp_path, patients=24))
    report = views(table, tmp_path / "dealt", cache=tmp_path / "cache", steps=1)
    assert report["patients"] < 24
    last = pl.col("patient_id").str.slice(1).cast(pl.Int32)
    split = pl.when(last < 14).then(pl.lit("train")).when(last < 18).then(pl.lit("valid")).otherwise(pl.lit("test"))
    own = table.with_columns(split=split)
    report = views(own, tmp_path / "own", cache=tmp_path / "cache", steps=1)
    known = own.filter(pl.col("view") != "unknown")
    assert report["images"] == known.filter(pl.col("split") == "test").height
    assert sum(report["trained_on"].values()) == known.filter(pl.col("split") == "train").height
    assert report["patients"] <= 6


# -- the figures ------------------------------------------------------------------------------------------------------


def test_a_report_counts_what_it_says():
    truth = np.array([0, 0, 1, 1, 2, 2])
    chances = np.array([[.8, .1, .1], [.3, .6, .1], [.2, .7, .1], [.1, .8, .1], [.1, .1, .8], [.3, .3, .4]])  # fmt: skip
    report = judge_views(truth, chances, list("aabbcc"), ["PA", "AP", "LATERAL"])
    assert report["confusion"]["PA"] == {"PA": 1, "AP": 1, "LATERAL": 0}
    assert report["accuracy"][0] == pytest.approx(5 / 6)
    assert report["frontal_or_lateral"][0] == pytest.approx(5 / 6), "less than half for lateral is frontal"
    assert report["pa_or_ap"][0] == pytest.approx(3 / 4)
    assert report["views"]["AP"]["recall"][0] == 1.0
    assert report["views"]["AP"]["precision"][0] == pytest.approx(2 / 3)
    assert sum(one["images"] for one in report["reliability"]) == 6
    two = judge_views(truth[:4], chances[:4, :2], list("aabb"), ["PA", "AP"])
    assert two["frontal_or_lateral"] is None


def test_intervals_count_patients_not_images():
    right = [True] * 90 + [False] * 10
    assert proportion([], []) is None
    one_each = proportion(right, [str(k) for k in range(100)])
    same = [str(k // 10) for k in range(100)]  # ten images a patient, one patient wrong throughout
    clustered = proportion(right, same)
    assert one_each[0] == clustered[0] == pytest.approx(0.9)
    assert one_each[1:] == pytest.approx([0.8256, 0.9448], abs=5e-4)  # Wilson 1927 at n = 100
    assert clustered[2] - clustered[1] > 2 * (one_each[2] - one_each[1])
    whole = proportion([True] * 100, same)
    assert whole == [1.0, pytest.approx(wilson(1.0, 10)[0]), 1.0]
    assert whole[1] < 0.75, "ten patients are ten witnesses"


def test_a_temperature_mends_what_is_too_sure_and_sharpens_nothing():
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=4000)
    logits = rng.normal(size=(4000, 3)) + 1.0 * np.eye(3)[truth]
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert best_temperature(chances, truth) == pytest.approx(1.0, abs=0.15)
    assert best_temperature(tempered(chances, 1 / 4), truth) == pytest.approx(4.0, rel=0.1)
    assert best_temperature(tempered(chances, 3), truth) == 1.0
    np.testing.assert_allclose(tempered(chances, 2).sum(1), 1)
