"""Training on pseudo labels: unknown entries of training studies alone; weight 0 as if there were none; rounds end to end."""

import json
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from hilum.batches.dataset import Studies
from hilum.data.cache import build_cache
from hilum.data.pseudo_table import PseudoLabels, read_pseudo, write_pseudo
from hilum.data.seen import Seen
from hilum.errors import InputError
from hilum.inference.pseudo_rules import Rules
from hilum.recipe import parse_recipe
from hilum.tables import labels_of, read_studies, write_studies
from hilum.training.inputs import Material
from hilum.training.plan import check_recipe
from hilum.training.pseudo import entries_of, lay_pseudo
from hilum.training.run import train
from hilum.training.self_training import self_training
from tests.small import FINDINGS, small_studies, write_small_studies

QUICK = ["findings=null", "cache.size=32", "train.epochs=1", "train.batch_size=16", "train.ema=0", "split.valid=0.25",
         "split.test=0.25", "model.backbone.name=test_resnet"]  # fmt: skip


@pytest.mark.parametrize("level", ["study", "image"])
def test_known_entries_stay_and_unknown_ones_get_the_study_s_label(level):
    table, images = small_studies(unknown=0.5)
    studies = Studies(table, images, FINDINGS, level=level)
    random = np.random.default_rng(0)
    chosen = studies.studies[::2]
    frame = pl.DataFrame({"study_id": sorted(set(chosen))}).with_columns(
        pl.lit(None, dtype=pl.String).alias("patient_id"),
        pl.Series("weight", random.random(len(set(chosen))), dtype=pl.Float32),
        pl.Series("Mass", random.random(len(set(chosen))), dtype=pl.Float32),
        pl.Series("Hernia", [None] * len(set(chosen)), dtype=pl.Float32),
        pl.Series("Not here", random.random(len(set(chosen))), dtype=pl.Float32),
    )
    labels, weights = entries_of(PseudoLabels(frame), studies, list(FINDINGS))
    laid = studies.with_pseudo(labels, weights * np.float32(0.5))
    known = ~np.isnan(studies.labels)
    np.testing.assert_array_equal(laid.labels[known], studies.labels[known])
    assert (laid.weights[known] == 1).all()
    said = {row["study_id"]: row for row in frame.iter_rows(named=True)}
    for i, study in enumerate(studies.studies):
        if known[i, 1]:
            continue
        expected = said[study]["Mass"] if study in said else np.nan
        np.testing.assert_equal(float(laid.labels[i, 1]), expected)
        if study in said:
            assert laid.weights[i, 1] == pytest.approx(0.5 * said[study]["weight"])
    np.testing.assert_array_equal(np.isnan(laid.labels[:, [0, 2]]), np.isnan(studies.labels[:, [0, 2]]))
    for before, after in zip(studies.counts(), laid.counts()):
        np.testing.assert_array_equal(before, after)
    batch = laid.batch(np.array([3, 0]))
    np.testing.assert_array_equal(batch.weights.numpy(), laid.weights[[3, 0]])
    assert studies.batch(np.array([3])).weights is None


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Studies with their split, most of those in train unlabelled, and pseudo labels of them all."""
    folder = tmp_path_factory.mktemp("data")
    write_small_studies(folder, patients=40)
    table = read_studies(folder / "studies.parquet")
    number = pl.col("patient_id").str.slice(1).cast(pl.Int32)
    split = pl.when(number < 24).then(pl.lit("train")).when(number < 32).then(pl.lit("valid")).otherwise(pl.lit("test"))
    nulls = [pl.when((number >= 8) & (number < 24)).then(None).otherwise(pl.col(name)).alias(name) for name in FINDINGS]
    write_studies(table.with_columns(nulls).with_columns(split=split), folder / "partly.parquet", label_level="study")
    ids = table.select("study_id", "patient_id").unique("study_id", maintain_order=True)
    random = np.random.default_rng(0)
    frame = ids.with_columns(
        pl.lit(1.0, dtype=pl.Float32).alias("weight"),
        *(pl.Series(name, random.random(ids.height), dtype=pl.Float32) for name in FINDINGS),
    )
    write_pseudo(PseudoLabels(frame, teacher="ab" * 32, seen=Seen()), folder / "pseudo.parquet")
    return folder


def options(data, *more):
    given = [f"studies={data / 'partly.parquet'}", f"cache.folder={data / 'cache'}", "split.column=split"]
    return [*given, *QUICK, *more]


def weights(run):
    return load_file(run / "bundle" / "model.safetensors")


def test_a_run_on_pseudo_labels(data, tmp_path):
    """Weight 0 ends bit for bit where no pseudo labels end; weight 1 elsewhere; valid and counts are untouched."""
    said: list[str] = []
    alone: list[str] = []
    table = f"pseudo.table={data / 'pseudo.parquet'}"
    plain = train("demo", options(data), run=tmp_path / "plain", say=alone.append)
    nothing = train("demo", options(data, table, "pseudo.weight=0"), run=tmp_path / "nothing")
    taught = train("demo", options(data, table), run=tmp_path / "taught", say=said.append)
    assert all(torch.equal(value, weights(nothing)[key]) for key, value in weights(plain).items())
    assert any(not torch.equal(value, weights(taught)[key]) for key, value in weights(plain).items())
    logs = [pl.read_csv(run / "log.csv").drop("seconds", "studies_per_second") for run in (plain, nothing)]
    assert logs[0].equals(logs[1])
    facts = [json.loads((run / "bundle" / "bundle.json").read_text()) for run in (plain, taught)]
    assert facts[0]["positives"] == facts[1]["positives"]
    assert facts[0]["known"] == facts[1]["known"]
    assert read_studies(taught / "studies.parquet").equals(read_studies(plain / "studies.parquet"))
    manifest = json.loads((taught / "manifest.json").read_text())["stages"]["main"]["pseudo"]
    train_ids = set(read_studies(data / "partly.parquet").filter(pl.col("split") == "train")["study_id"])
    assert manifest["samples"] <= len(train_ids)
    studies = read_studies(data / "partly.parquet").filter(pl.col("split") == "train")
    labels = labels_of(studies, FINDINGS).values
    assert manifest["entries"] == int(np.isnan(labels).sum())
    assert manifest["start"] == "starts from scratch"
    told = f"in stage `main` {manifest['entries']:,} entries of {manifest['samples']:,} samples are a model's"
    assert told in (taught / "bundle" / "card.md").read_text()
    assert "Pseudo" not in (plain / "bundle" / "card.md").read_text()
    with pytest.raises(InputError, match="not the pseudo labels that the run began with"):
        lay_again(data, manifest | {"content": "another"})
    assert lay_again(data, manifest) == manifest
    assert any("other patients" in line for line in said)
    assert any("of the samples have none" in line for line in alone)
    assert not any("of the samples have none" in line for line in said)


def lay_again(data, before):
    """The facts of the pseudo labels of a run that is resumed."""
    table = read_studies(data / "partly.parquet")
    images = build_cache(table, data / "cache", size=32)
    material = Material(table=table, images=images, findings=list(FINDINGS), uncertain="ignore", note=None)
    stage = parse_recipe({}, [f"pseudo.table={data / 'pseudo.parquet'}"]).stages[0]
    return lay_pseudo(stage, material.part("train", stage), material, before=before)[1]


def test_the_second_stage_takes_them_from_cached_features_too(data, tmp_path):
    page = tmp_path / "two.yaml"
    page.write_text(
        f"findings: null\npseudo: {{table: {data / 'pseudo.parquet'}, weight: 0.5}}\nstages:\n"
        "  - {name: single, pseudo: null, model: {backbone: {name: test_resnet}}, train: {level: image, epochs: 1}}\n"
        "  - {name: fusion, init: single, freeze: backbone, train: {level: study, feature_cache: on}}\n"
    )
    given = [option for option in options(data) if not option.startswith(("train.ema", "model", "findings"))]
    said: list[str] = []
    taught = train(
        page,
        [*given, f"stages.fusion.pseudo.table={data / 'pseudo.parquet'}"],
        run=tmp_path / "taught",
        say=said.append,
    )
    nothing = train(
        page,
        [*given, f"stages.fusion.pseudo={{table: {data / 'pseudo.parquet'}, weight: 0}}"],
        run=tmp_path / "nothing",
    )
    manifest = json.loads((taught / "manifest.json").read_text())["stages"]
    assert manifest["single"]["pseudo"] is None
    assert manifest["fusion"]["features"]["used"]
    assert manifest["fusion"]["pseudo"]["entries"] > 0
    assert manifest["fusion"]["pseudo"]["start"] == "goes on from single"
    ends = [load_file(run / "fusion" / "checkpoints" / "best.safetensors") for run in (taught, nothing)]
    assert any(not torch.equal(value, ends[1][key]) for key, value in ends[0].items() if "head" in key)
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items() if key.startswith("model/backbone"))


def test_recipes_say_pseudo():
    recipe = parse_recipe({"pseudo": {"table": "p.parquet"}}, ["pseudo.weight=0.5"])
    assert (recipe.stages[0].pseudo.table, recipe.stages[0].pseudo.weight) == ("p.parquet", 0.5)
    assert parse_recipe(recipe.to_page()) == recipe
    with pytest.raises(InputError, match=r"pseudo.wight is not an option of pseudo; did you mean 'weight'"):
        parse_recipe({}, ["pseudo.table=p.parquet", "pseudo.wight=1"])
    with pytest.raises(InputError, match=r"pseudo\.table is missing"):
        parse_recipe({}, ["pseudo.weight=1"])
    with pytest.raises(InputError, match=r"no such table of pseudo labels.*hilum pseudo"):
        check_recipe(recipe)
    with pytest.raises(InputError, match=r"pseudo\.weight is -1"):
        check_recipe(parse_recipe({}, ["pseudo.table=p.parquet", "pseudo.weight=-1"]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seen": None}, "do not say which patients their teacher saw"),
        ({"seen": "valid"}, "the teacher was trained on 8 patients of valid and test"),
        ({"rows": "none"}, "no training study has a pseudo label here"),
    ],
)
def test_tables_that_a_run_refuses(data, tmp_path, change, said):
    made = read_pseudo(data / "pseudo.parquet")
    if change.get("rows"):
        made.table = made.table.with_columns(study_id=pl.lit("x") + pl.col("study_id"))
    elif change["seen"]:
        held = (
            read_studies(data / "partly.parquet").filter(pl.col("split") == "valid").with_columns(split=pl.lit("train"))
        )
        made.seen = Seen.of(held)
    else:
        made.seen = None
    write_pseudo(made, tmp_path / "p.parquet")
    with pytest.raises(InputError, match=said):
        train("demo", options(data, f"pseudo.table={tmp_path / 'p.parquet'}"), run=tmp_path / "run")


def test_two_rounds_share_a_split_and_go_on_where_they_stopped(data, tmp_path):
    said: list[str] = []
    given = {
        "folder": tmp_path / "self",
        "rounds": 2,
        "student": ["augment.erase=0.3"],
        "start": "continued",
        "say": said.append,
    }
    last = self_training("demo", options(data), **given)
    base = tmp_path / "self"
    assert last == base / "student-2"
    tables = [read_studies(base / run / "studies.parquet") for run in ("teacher", "student-1", "student-2")]
    held = [set(table.filter(pl.col("split") != "train")["study_id"]) for table in tables]
    assert held[0] == held[1] == held[2]
    assert tables[0].filter(pl.col("split") == "train").height < tables[1].filter(pl.col("split") == "train").height
    recipes = [(base / run / "recipe.yaml").read_text() for run in ("teacher", "student-1", "student-2")]
    assert "teacher/bundle" in recipes[1]
    assert "student-1/bundle" in recipes[2]
    assert "erase" not in recipes[0]
    first, second = (read_pseudo(base / f"pseudo-{number}.parquet") for number in (1, 2))
    assert first.teacher != second.teacher
    assert first.seen.trained <= second.seen.trained, "the second teacher saw what the first saw"
    assert any("continue from their teachers" in line for line in said)
    stamps = {path: path.stat().st_mtime_ns for path in base.rglob("*.safetensors")}
    assert self_training("demo", options(data), **given) == last
    assert {path: path.stat().st_mtime_ns for path in base.rglob("*.safetensors")} == stamps
    assert self_training("demo", options(data), **given | {"rounds": 1}) == base / "student-1"


@pytest.fixture(scope="module")
def one_round(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one") / "self"
    self_training("demo", options(data), folder=folder, rounds=1)
    return folder


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"overrides": ["train.lr=0.02"]}, "another recipe"),
        ({"teacher": ["train.epochs=2"]}, "another recipe"),
        ({"student": ["augment.erase=0.3"]}, "another recipe"),
        ({"weight": 0.5}, "another recipe"),
        ({"start": "continued"}, "another recipe"),
        ({"rules": Rules(low=0.1, high=0.9)}, "other rules"),
        ({"rules": Rules(cases=("unlabelled",))}, "other rules"),
        ({"seed": 1}, "other rules"),
        ({"overrides": ["split.column=null"]}, "not the studies"),
    ],
)
def test_what_other_options_made_is_not_handed_back(data, one_round, change, said):
    given = {"rules": Rules(), **change}
    more = given.pop("overrides", [])
    stamps = {path: path.stat().st_mtime_ns for path in one_round.rglob("*")}
    with pytest.raises(InputError, match=f"{said}.*[Gg]ive the options of then"):
        self_training("demo", options(data, *more), folder=one_round, rounds=1, **given)
    assert {path: path.stat().st_mtime_ns for path in one_round.rglob("*")} == stamps


def test_rounds_whose_middle_was_changed_are_not_handed_back(data, one_round, tmp_path):
    shutil.copytree(one_round, base := tmp_path / "self")
    for run in ("teacher", "student-1"):  # the copy is as if it had been made here
        page = base / run / "recipe.yaml"
        page.write_text(page.read_text().replace(str(one_round), str(base)))
    assert self_training("demo", options(data), folder=base, rounds=1) == base / "student-1"
    made = read_pseudo(base / "pseudo-1.parquet")
    write_pseudo(
        replace(made, table=made.table.with_columns(weight=pl.lit(0.5, pl.Float32))), base / "pseudo-1.parquet"
    )
    with pytest.raises(InputError, match="taught by other pseudo labels"):
        self_training("demo", options(data), folder=base, rounds=1)
    write_pseudo(replace(made, teacher="another"), base / "pseudo-1.parquet")
    with pytest.raises(InputError, match="another teacher's"):
        self_training("demo", options(data), folder=base, rounds=1)


def test_rounds_that_cannot_be(data, tmp_path):
    folder = tmp_path / "self"
    with pytest.raises(InputError, match="0 rounds"):
        self_training("demo", options(data), folder=folder, rounds=0)
    with pytest.raises(InputError, match="at least as large"):
        self_training(
            "demo", options(data), folder=folder, teacher=["model.head={name: ml_decoder, dim: 16, heads: 2}"]
        )
    with pytest.raises(InputError, match="which probabilities are sure"):
        self_training("demo", options(data), folder=folder, rules=Rules(hard=True))
    assert not folder.exists()
