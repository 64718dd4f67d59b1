"""The verb `reproduce`: both tables of CheXFusion on small studies, resumed, judged; its data held against the builders."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from hilum.cli import app
from hilum.errors import InputError
from hilum.recipe import load_recipe
from hilum.reproduce import reproduce
from hilum.reproductions import Row, System, Table, read_system, system_names
from hilum.reproductions.judged import judge_table, over_trainings
from hilum.reproductions.page import as_markdown, as_text
from hilum.reproductions.runs import Runs, Seeds, held_out, weighted_average
from hilum.tables import Predictions, read_predictions, read_studies, write_predictions, write_studies
from tests.small import write_small_studies

QUICK = ["cache.size=32", "train.epochs=1", "train.batch_size=32", "train.ema=0.0", "train.feature_versions=1"]
TEACHER = "wBCE + ASL + ML-Decoder"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """200 studies of images in which a square is a finding: no chests, other findings than theirs, the whole of all tables."""
    folder = tmp_path_factory.mktemp("data")
    studies, said = write_small_studies(folder, patients=100), []
    options = {"small": True, "runs": folder / "runs", "replicates": 40, "seeds": 2, "first_seeds": 1}
    with pytest.MonkeyPatch.context() as patch:  # the curves of each of 15 runs would take half of the time
        patch.setattr("hilum.training.run_folder.draw_curves", lambda rows, path: None)
        made = reproduce("chexfusion", studies, QUICK, **options, say=said.append)
    return made, said, studies, options


def test_every_row_of_both_tables_is_there(whole):
    made, _, _, options = whole
    components, views, flips = made["tables"]
    theirs = {table.name: table for table in read_system("chexfusion").tables}
    assert [row["name"] for row in components["panels"][0]["rows"]] == [row.name for row in theirs["components"].rows]
    assert [panel["name"] for panel in views["panels"]] == ["every study", "studies of two or more images"]
    assert [row["name"] for row in views["panels"][0]["rows"]] == [row.name for row in theirs["views"].rows]
    assert [row["runs"] for row in views["panels"][0]["rows"]] == [1] * 5 + [2] * 6
    assert [row["name"] for row in flips["panels"][0]["rows"]] == [row.name for row in theirs["flip"].rows]
    for table in made["tables"]:
        for row in table["panels"][0]["rows"]:
            value, low, high = row["ours"]["all"]
            assert low <= value <= high
    assert made["skipped"] == []
    assert json.loads((options["runs"] / "reproduction.json").read_text()) == made


def test_stage_one_is_trained_once_and_its_features_are_cached(whole):
    _, said, _, options = whole
    shared = options["runs"] / "wbce-asl-ml-decoder" / "seed-0"
    assert sum(line.startswith("run  ") and line.endswith(str(shared)) for line in said) == 1
    for seed in range(2):
        facts = json.loads((options["runs"] / "chexfusion" / f"seed-{seed}" / "manifest.json").read_text())
        assert facts["stages"]["fusion"]["features"]["used"]
    plans = [load_recipe(options["runs"] / "concat" / f"seed-{seed}" / "recipe.yaml").stages[0] for seed in range(2)]
    assert [stage.init for stage in plans] == [str(shared / "bundle")] * 2
    assert [stage.train.seed for stage in plans] == [0, 1]
    assert plans[0].freeze == ["backbone"]


def test_the_arms_of_the_flip_are_two_trainings_asked_in_two_ways(whole):
    *_, options = whole
    assert not (options["runs"] / "flip-in-both").exists()
    for name, flip in (("no-flip", 0.0), ("flip-in-training", 0.5)):
        plan = load_recipe(options["runs"] / name / "seed-0" / "recipe.yaml")
        assert plan.stages[0].augment.options["flip"] == flip
        assert plan.predict.tta == []
    for start, name in (("no-flip", "flip-in-prediction"), ("flip-in-training", "flip-in-both")):
        run = options["runs"] / start / "seed-0"
        plain, both = (read_predictions(run / f"predictions_{file}.parquet") for file in ("images", name))
        assert plain.tta == {}
        assert both.tta == {"transforms": ["identity", "flip"], "space": "probability"}
        assert plain.bundle == both.bundle
        assert both.table["image_id"].equals(plain.table["image_id"])
        assert not both.table.equals(plain.table)


def test_the_weighted_mean_is_the_one_that_stage_one_was_validated_with(whole):
    """7:3 of single images, from a table, equals the fusion that averages probabilities inside the model."""
    *_, options = whole
    inside = read_predictions(held_out(options["runs"] / "wbce-asl-ml-decoder" / "seed-0")).table
    outside = read_predictions(options["runs"] / "predictions" / "weighted-7-3-seed-0.parquet").table
    images = read_studies(options["runs"] / "wbce-asl-ml-decoder" / "seed-0" / "studies.parquet")[
        "study_id"
    ].value_counts()
    few = images.filter(pl.col("count") <= 4)["study_id"]  # beyond four the model reads the first four only
    joined = inside.filter(pl.col("study_id").is_in(few.implode())).join(outside, on="study_id", suffix="_outside")
    assert joined.height > 20
    for name in ("Edema", "Mass", "Hernia"):
        np.testing.assert_allclose(joined[name], joined[f"{name}_outside"], atol=1e-6)


def test_students_learn_what_nobody_labelled(whole):
    *_, options = whole
    for kind in ("hard", "soft"):
        manifest = json.loads((options["runs"] / f"{kind}-pseudo-labels" / "seed-0" / "manifest.json").read_text())
        assert manifest["stages"]["single_view"]["pseudo"]["entries"] > 0
    hard, soft = (
        pl.read_parquet(options["runs"] / "pseudo" / f"{kind}-pseudo-labels-seed-0" / "pseudo.parquet")["Edema"]
        for kind in ("hard", "soft")
    )
    assert set(hard.drop_nulls()) <= {0.0, 1.0}
    assert soft.drop_nulls().is_between(0, 1, closed="none").all()
    bundle = options["runs"] / "wbce-asl-ml-decoder" / "seed-0" / "bundle" / "operating_points.csv"
    taught = options["runs"] / "pseudo" / "soft-pseudo-labels-seed-0" / "teacher" / "operating_points.csv"
    assert bundle.read_text() != taught.read_text(), "the copy is calibrated, the run's own bundle is left as it was"


def test_what_is_done_is_not_done_again(whole):
    made, _, studies, options = whole
    said: list[str] = []
    (options["runs"] / "concat" / "seed-1" / "report" / "report.html").unlink()
    again = reproduce("chexfusion", studies, QUICK, **options, say=said.append)
    assert again == made
    assert [line for line in said if line.startswith("run  ")] == [f"run       {options['runs'] / 'concat' / 'seed-1'}"]
    with pytest.raises(InputError, match="made with another recipe"):
        reproduce("chexfusion", studies, [*QUICK, "train.lr=0.5"], **options)


def test_the_verb_prints_ours_beside_theirs(whole):
    _, _, studies, options = whole
    words = ["reproduce", "chexfusion", *QUICK, "--studies", str(studies), "--small", "--runs", str(options["runs"])]
    words += ["--seeds", "2", "--first-seeds", "1", "--replicates", "20", "--table", "views"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "ours minus weighted 7:3" in result.output
    assert "over trainings" in result.output
    assert "By theirs:  CheXFusion > weighted 7:3" in result.output
    assert "0.354" in result.output  # of 4:6, as derived
    assert "Components" not in result.output


def test_mistakes_are_told(tmp_path):
    with pytest.raises(InputError, match=r"[Dd]id you mean 'chexfusion'"):
        reproduce("chexfusoin")
    with pytest.raises(InputError, match=r"Choose among components, views"):
        reproduce("chexfusion", tables=["view"])
    with pytest.raises(InputError, match="first ones at most as many"):
        reproduce("chexfusion", seeds=2, first_seeds=3)
    with pytest.raises(InputError, match="no such file"):
        reproduce("chexfusion", tmp_path / "nowhere.parquet")


@pytest.mark.parametrize("name", system_names())
@pytest.mark.parametrize("small", [False, True])
def test_every_row_fits_the_builders(name, small, tmp_path, monkeypatch):
    system = read_system(name)
    recipe = system.small if small else system.recipe
    (tmp_path / "here" / "clinical-t5").mkdir(parents=True)  # the folder that one of them reads, as its page says
    monkeypatch.chdir(tmp_path / "here")
    work = Runs(tmp_path / "runs", system, recipe, [], lambda recipe: recipe, small=small, seeds=Seeds())
    work.check()
    trained = [
        row
        for row in system.rows.values()
        if row.stage and not (row.start or row.pseudo or row.poor or (small and row.frozen))
    ]
    plans = [work.plan(row, 0) for row in trained]
    assert all(plans[k] != plans[m] for k in range(len(plans)) for m in range(k)), "two rows are one training"
    assert not (tmp_path / "runs").exists()


def test_the_arms_of_the_losses_differ_in_one_thing_at_a_time():
    system = read_system("robust_loss")
    for small in (False, True):
        work = Runs(Path(), system, system.small if small else system.recipe, [], lambda recipe: recipe, small=small)
        stages = [work.plan(row, 0).stages[0] for row in system.rows.values()]
        shared = [{**stage.loss.options, "reduction": stage.loss.options.get("reduction", "mean")} for stage in stages]
        assert all(options == shared[0] for options in shared)
        rates = [stage.train.lr for stage in stages]
        assert rates == rates[:3] * 4
        assert rates[:3] == sorted(set(rates))


def test_published_figures_are_the_posters():
    rows = read_system("chexfusion").rows
    assert rows["baseline"].published[0] == 0.311
    assert rows["CheXFusion"].published == [0.372, 0.630, 0.312, 0.188, 0.847]
    derived = rows["weighted 4:6"].published
    assert derived[0] == pytest.approx((8 * derived[1] + 10 * derived[2] + 8 * derived[3]) / 26, abs=6e-4)
    for name in (
        "single view",
        "weighted 5:5",
        "weighted 7:3",
        "concat",
        "CheXFusion",
    ):  # the printed ones agree with theirs
        total, head, medium, tail, _ = rows[name].published
        assert total == pytest.approx((8 * head + 10 * medium + 8 * tail) / 26, abs=1.5e-3), name


def test_weighted_average_by_hand():
    said = pl.DataFrame(
        {"study_id": ["a", "a", "b", "c", "c"], "patient_id": ["p", "p", "q", "r", "r"], "image_id": list("12345"),
         "Edema": pl.Series([0.2, 0.6, 0.9, 0.1, 0.5], dtype=pl.Float32)}
    )  # fmt: skip
    views = pl.DataFrame({"image_id": list("12345"), "view": ["PA", "LATERAL", "AP", "unknown", "LATERAL"]})
    found = weighted_average(said, views, {"frontal": 7, "lateral": 3, "other": 5})
    assert found["study_id"].to_list() == ["a", "b", "c"]
    np.testing.assert_allclose(found["Edema"], [0.7 * 0.2 + 0.3 * 0.6, 0.9, (5 * 0.1 + 3 * 0.5) / 8], atol=1e-6)
    with pytest.raises(InputError, match="frontal, lateral, other"):
        weighted_average(said, views, {"frontal": 1})


def test_over_trainings_is_students_interval():
    one, other = np.array([0.1, 0.2, 0.3]), np.array([0.2, 0.25, 0.45])
    mean, low, high = over_trainings(one, other)
    assert mean == pytest.approx(0.1)
    assert (high - low) / 2 == pytest.approx(4.303 * 0.05 / 3**0.5)  # differences .1, .05, .15
    assert over_trainings(one[:1], other[:1]) is None
    assert over_trainings(one[:1], other) == pytest.approx(over_trainings(np.repeat(one[:1], 3), other))


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Three rows of planted skill, B as A but for noise and C far better, over 300 patients of one or two images."""
    folder, rng = tmp_path_factory.mktemp("planted"), np.random.default_rng(0)
    ids = [f"s{k}" for k in range(300)]
    ill = (rng.random((300, 2)) < (0.4, 0.05)).astype(np.int8)
    rows = [(study, image) for k, study in enumerate(ids) for image in range(1 + k % 2)]
    owner = [ids.index(study) for study, _ in rows]
    table = pl.DataFrame(
        {"study_id": [study for study, _ in rows], "patient_id": [study for study, _ in rows],
         "image_id": [f"{study}-{image}" for study, image in rows], "path": ["/x.png"] * len(rows),
         "view": ["PA"] * len(rows), "source": ["test"] * len(rows), "Edema": ill[owner, 0], "Mass": ill[owner, 1]}
    )  # fmt: skip
    write_studies(table, folder / "studies.parquet", label_level="study")
    shared = rng.standard_normal(ill.shape)

    def file(name: str, skill: float, seed: int) -> Path:
        noise = 0.1 * np.random.default_rng(seed).standard_normal(ill.shape)
        score = (1 / (1 + np.exp(-(skill * ill + shared + noise)))).astype(np.float32)
        frame = pl.DataFrame({"study_id": ids, "Edema": score[:, 0], "Mass": score[:, 1]})
        counts = {"positives": {"Edema": 40, "Mass": 5}, "known": {"Edema": 100, "Mass": 100}}
        write_predictions(Predictions(frame, **counts), folder / f"{name}.parquet")
        return folder / f"{name}.parquet"

    made = {name: [file(f"{name}{k}", skill, 10 * place + k) for k in range(3)]
            for place, (name, skill) in enumerate((("A", 1.0), ("B", 1.0), ("C", 3.0)))}  # fmt: skip
    told = [Row("A", stage="x", published=[0.3, 0.6, 0.2, 0.1, 0.8]), Row("B", stage="x", published=[0.4, 0.6, 0.2, 0.1, 0.8]),
            Row("C", stage="x", published=[0.2, 0.6, 0.2, 0.1, 0.8])]  # fmt: skip
    return Table("t", "A table", told, against=["A"], several_views=True), made, folder / "studies.parquet"


def test_planted_differences_are_found_and_noise_is_called_noise(planted):
    table, files, studies = planted
    made = judge_table(table, files, studies, replicates=200)
    every, several = made["panels"]
    assert (every["studies"], every["rows_judged"], several["studies"], several["rows_judged"]) == (300, 450, 150, 300)
    assert every["findings"] == {"all": 2, "head": 1, "medium": 1, "tail": 0}
    found = {(pair["from"], pair["to"]): pair["columns"]["all"] for pair in every["differences"]}
    assert not found["A", "B"]["told_apart"]
    assert found["A", "C"]["told_apart"]
    assert found["A", "C"]["over_trainings"][1] > 0
    assert found["A", "C"]["theirs"] == pytest.approx(-0.1)
    assert every["order"]["pairs"] == {"as_published": 0, "the_other_way": 2, "noise": 1}
    assert every["order"]["ours"][0] == "C"
    assert every["order"]["theirs"] == ["B", "A", "C"]
    assert every["differences"][0]["columns"]["tail"] is None
    seconds = {row["name"]: row["ours"] for row in several["rows"]}
    assert seconds["C"]["all"][0] != every["rows"][2]["ours"]["all"][0]


def test_the_page_turns_a_difference_round_where_the_reference_stands_later(planted):
    table, files, studies = planted
    turned = Table("t", "A | table", table.rows, against=["C"])
    made = {"title": "T", "source": "s", "judged": "j", "ours": "o", "remarks": [], "skipped": ["X: not run."],
            "tables": [judge_table(turned, files, studies, replicates=50)]}  # fmt: skip
    text, page = as_text(made), as_markdown(made)
    value, low, high = (
        -end for end in made["tables"][0]["panels"][0]["differences"][1]["columns"]["all"]["difference"]
    )
    assert f"{value:+.3f} [{high:+.3f}, {low:+.3f}]" in text
    assert "X: not run." in text
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert page.startswith("# T")
    assert len({line.count("|") for line in rows[:5]}) == 1
    assert "tail" not in text.split("AUROC")[0].split("mAP, medium")[1]


def test_a_system_that_contradicts_itself_is_refused():
    with pytest.raises(ValueError, match="one of stage, average, tta and same"):
        Row("x")
    with pytest.raises(ValueError, match="no row 'y'"):
        System("t", "s", "j", "r", "m", "rule", [Table("t", "t", [Row("x", same="y")], against=[])])
