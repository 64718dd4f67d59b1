"""Comparisons: paired by patient, over seeds where there are several, refused where tables differ, right as often as promised."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import hilum
from hilum.cli import app
from hilum.errors import InputError
from hilum.evaluation.compare import about_runs, compare, difference, holm, macro_difference, over_runs
from hilum.evaluation.difference_lines import lines_of
from hilum.evaluation.evaluate import evaluate
from tests.evaluation.conftest import FINDINGS, World

ALL = np.ones(4, dtype=bool)


def varied(world: World, name: str, skill: float = 0.0, noise: float = 0.0, seed: int = 1) -> Path:
    """The world's predictions with their logits moved towards the truth by `skill` and by `noise`."""
    rng = np.random.default_rng(seed)
    rows = world.scores.select("study_id").join(world.table.unique("study_id"), on="study_id", maintain_order="left")
    truth = rows.select(FINDINGS).fill_null(0).to_numpy() > 0.5
    scores = world.scores.select(FINDINGS).to_numpy().astype(np.float64)
    logits = np.log(scores / (1 - scores)) + skill * truth + noise * rng.standard_normal(scores.shape)
    moved = pl.DataFrame((1 / (1 + np.exp(-logits))).astype(np.float32), schema=list(FINDINGS))
    return world.predictions(name, world.scores.select("study_id").hstack(moved))


def dealt(world: World, whole: Path, folds: int = 3, deal: int = 0) -> list[Path]:
    """A predictions file cut into folds by patient."""
    table = pl.read_parquet(whole)
    patient = table["study_id"].str.extract(r"p(\d+)s").cast(pl.Int64)
    fold = np.random.default_rng(deal).integers(0, folds, 1000)[patient.to_numpy()]
    return [
        world.predictions(f"{whole.stem}-{deal}-{number}.parquet", table.filter(fold == number))
        for number in range(folds)
    ]


def made_up(seed: int, patients: int = 150) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Labels (N, 4) and patients (N,) of a small world; rows of a patient share part of their labels."""
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(patients), 1 + rng.integers(0, 3, patients))
    ill = rng.random((patients, 4)) < 0.25
    return (ill[owners] & (rng.random((len(owners), 4)) < 0.8)).astype(np.float32), owners, rng


def test_a_table_beside_itself(world: World) -> None:
    path = world.predictions()
    made = compare([path, path], world.studies, replicates=50)
    for row in made["pairs"][0]["macro"].values():
        for measure in ("map", "auroc") if row else ():
            assert row[measure]["difference"] == [0, 0, 0]
            assert row[measure]["verdict"] == "cannot be told apart"
            assert (row[measure]["p"], row[measure]["told_apart_holm"]) == (1, False)


def test_a_better_table_is_told_apart_and_written(world: World) -> None:
    good, output = varied(world, "good.parquet", skill=1.5), world.folder / "comparison.json"
    made = hilum.compare([good, world.predictions()], world.studies, output=output, replicates=200)
    assert json.loads(output.read_text(), parse_constant=pytest.fail) == made
    whole = made["pairs"][0]["macro"]["all"]
    assert whole["findings"] == ["Edema", "Mass"]
    value, low, high = whole["map"]["difference"]
    assert 0 < low < value < high
    assert value == pytest.approx(whole["map"]["values"][0] - whole["map"]["values"][1])
    assert whole["map"]["verdict"] == f"A is better by {value:.3f} [{low:.3f}, {high:.3f}]"
    assert whole["map"]["told_apart_holm"] is True
    assert made["not_scored"] == ["Hernia", "Nodule"]
    hernia = made["pairs"][0]["findings"]["Hernia"]["ap"]
    assert hernia["difference"][1:] == [None, None]
    assert (hernia["told_apart"], hernia["verdict"]) == (None, "not scored")
    assert made["pairs"][0]["macro"]["tail"] is None
    assert "leaves training's randomness out" in made["about_runs"]


def test_order_of_sides_rows_and_runs(world: World) -> None:
    runs = [varied(world, f"r{seed}.parquet", noise=0.8, seed=seed) for seed in range(3)]
    other = world.predictions()
    straight = compare([other, runs], world.studies, replicates=60)["pairs"][0]
    turned = compare([runs[::-1], other], world.studies, replicates=60)["pairs"][0]
    for row, mirror in zip(straight["macro"].values(), turned["macro"].values()):
        for measure in ("map", "auroc") if row else ():
            value, low, high = row[measure]["difference"]
            np.testing.assert_allclose(mirror[measure]["difference"], [-value, -high, -low], atol=1e-12)
            assert mirror[measure]["told_apart"] == row[measure]["told_apart"]
    table = world.scores.sample(fraction=1, shuffle=True, seed=3).select("study_id", *reversed(FINDINGS))
    shuffled = compare([world.predictions("s.parquet", table), runs], world.studies, replicates=60)["pairs"][0]
    assert shuffled["macro"] == straight["macro"]
    assert shuffled["findings"] == straight["findings"]


def test_pairing_narrows_the_interval() -> None:
    labels, patients, rng = made_up(0)
    shared = 1.5 * labels + rng.standard_normal(labels.shape)
    first, second = (shared + 0.3 * rng.standard_normal(labels.shape) for _ in range(2))
    one = over_runs(labels, [first], patients, replicates=300, seed=0)
    width = {}
    for seed in (0, 1):  # under another seed the second side sees other patients
        found = macro_difference(one, over_runs(labels, [second], patients, replicates=300, seed=seed), "ap", ALL)
        width[seed] = found.high - found.low
    assert width[0] < 0.6 * width[1]


def test_equal_predictors_are_seldom_told_apart() -> None:
    worlds, told = 100, 0
    for number in range(worlds):
        labels, patients, rng = made_up(100 + number)
        shared = labels + 0.7 * rng.standard_normal(labels.shape)
        sides = [
            over_runs(labels, [shared + 0.7 * rng.standard_normal(labels.shape)], patients, replicates=100, seed=0)
            for _ in range(2)
        ]
        told += bool(macro_difference(*sides, "ap", ALL).told_apart)
    assert told / worlds <= 0.10


def test_scatter_of_runs_widens_the_interval() -> None:
    labels, patients, rng = made_up(1)
    shared = 1.5 * labels + 0.5 * rng.standard_normal(labels.shape)
    steady = [shared + 0.1 * rng.standard_normal(labels.shape) for _ in range(4)]
    rough = [shared + noise * rng.standard_normal(labels.shape) for noise in (0.1, 0.8, 2.0, 4.0)]
    base = over_runs(labels, [shared], patients, replicates=300, seed=0)
    width = {}
    for name, runs in {"one": rough[1:2], "steady": steady, "rough": rough}.items():
        side = over_runs(labels, runs, patients, replicates=300, seed=0)
        found = macro_difference(side, base, "ap", ALL)
        width[name] = found.high - found.low
    assert width["rough"] > 1.5 * width["one"]
    assert width["rough"] > 2 * width["steady"]


def test_the_drawn_runs_spread_as_their_mean_does() -> None:
    """Runs of which each ranks all rows at once: the spread over replicates is that of a mean of n, s / sqrt(n)."""
    labels, patients, rng = made_up(2, patients=600)
    runs = [skill * labels + rng.standard_normal(labels.shape) for skill in (0.0, 1.0, 3.0)]
    side = over_runs(labels, runs, patients, replicates=2000, seed=0)
    values = [over_runs(labels, [run], patients, replicates=2, seed=0).value["auroc"].mean() for run in runs]
    assert side.value["auroc"].mean() == pytest.approx(np.mean(values))
    assert side.replicates["auroc"].mean(1).std() == pytest.approx(np.std(values, ddof=1) / np.sqrt(3), rel=0.05)


def test_different_studies_and_findings(world: World) -> None:
    whole, part = world.predictions(), world.predictions("part.parquet", world.scores.head(250).drop("Mass"))
    rows = world.scores.height
    with pytest.raises(InputError, match=rf"not of the same studies: p.parquet has {rows}; part.parquet has 250; 250"):
        compare([whole, part], world.studies)
    few = world.predictions("few.parquet", world.scores.drop("Mass"))
    with pytest.raises(InputError, match=r"not of the same labelled findings.*has 4; few.parquet has 3.*--common"):
        compare([whole, few], world.studies)
    made = compare([whole, part], world.studies, replicates=20, common=True)
    assert made["n_rows"] == 250
    assert made["left_out"] == {"rows": rows - 250, "findings": ["Mass"]}
    assert f"{rows - 250} rows and the findings Mass are left out" in lines_of(made)
    apart = world.predictions("apart.parquet", world.scores.tail(rows - 250))
    with pytest.raises(InputError, match="Check the ids"):
        compare([part, apart], world.studies, common=True)


def test_folds_are_one_side_and_scored_as_evaluate_does(world: World) -> None:
    good, plain = varied(world, "good.parquet", skill=1.5), world.predictions()
    sides = [dealt(world, good), dealt(world, plain)]
    made = compare(sides, world.studies, replicates=60)
    assert [(side["runs"], side["folds"], len(side["files"])) for side in made["sides"]] == [(1, 3, 3)] * 2
    assert "(1 x 3 folds)" in lines_of(made)
    whole = made["pairs"][0]["macro"]["all"]
    for number, files in enumerate(sides):
        judged = evaluate(files, world.studies, world.folder / "report", replicates=2)["macro"]
        assert [whole[key]["values"][number] for key in ("map", "auroc")] == [judged["map"][0], judged["auroc"][0]]
    assert whole["map"]["told_apart"] is True
    turned = compare([sides[0][::-1], sides[1]], world.studies, replicates=60)
    assert turned["pairs"][0]["macro"] == made["pairs"][0]["macro"]
    mixed = compare([plain, sides[1]], world.studies, replicates=20)  # the whole table is ranked within the folds too
    assert mixed["pairs"][0]["macro"]["all"]["map"]["difference"] == [0, 0, 0]


def test_folds_of_several_runs(world: World) -> None:
    wholes = [varied(world, f"r{seed}.parquet", noise=0.8, seed=seed) for seed in range(2)]
    runs, other = [dealt(world, whole) for whole in wholes], dealt(world, world.predictions())
    by_run = compare([runs[0] + runs[1], other], world.studies, replicates=40)
    assert (by_run["sides"][0]["runs"], by_run["sides"][0]["folds"]) == (2, 3)
    by_fold = compare([[file for pair in zip(*runs) for file in pair], other], world.studies, replicates=40)
    assert by_fold["pairs"] == by_run["pairs"]
    alone = [compare([run, other], world.studies, replicates=2)["pairs"][0] for run in runs]
    values = [pair["macro"]["all"]["map"]["values"][0] for pair in alone]
    assert by_run["pairs"][0]["macro"]["all"]["map"]["values"][0] == pytest.approx(np.mean(values))
    assert "Runs: A 2, B 1" in by_run["about_runs"]


def test_folds_that_make_no_side(world: World) -> None:
    plain, noisy = world.predictions(), varied(world, "noisy.parquet", noise=0.8)
    folds, others = dealt(world, plain), dealt(world, noisy)
    with pytest.raises(InputError, match=r"not of the same studies: p-0-0.parquet \(3 folds\) has \d+; noisy.*\(2 fo"):
        compare([[*folds, *others[:2]], plain], world.studies)
    with pytest.raises(InputError, match=r"noisy-1-0.parquet \(3 folds\) is dealt otherwise than p-0-0"):
        compare([folds, dealt(world, noisy, deal=1)], world.studies)
    with pytest.raises(InputError, match="folds are one side"):
        compare(folds, world.studies)
    with pytest.raises(InputError, match=r"same predictions twice, also in p-0-0.parquet"):
        compare([[*folds, *others[:2], folds[2]], plain], world.studies)


def test_tables_without_tiers_or_findings_to_score(world: World) -> None:
    world.table.drop("split").write_parquet(world.folder / "bare.parquet")
    made = compare(
        [world.predictions(), varied(world, "q.parquet", noise=1)], world.folder / "bare.parquet", replicates=20
    )
    assert [name for name, row in made["pairs"][0]["macro"].items() if row] == ["all"]
    assert "Tiers are unknown" in lines_of(made)
    nothing = compare([world.predictions()] * 2, world.studies, replicates=20, min_positives=10_000)
    assert nothing["pairs"][0]["macro"]["all"] is None
    assert "no finding with enough" in lines_of(nothing)


def test_sides_that_make_no_comparison(world: World) -> None:
    path = world.predictions()
    with pytest.raises(InputError, match="needs two"):
        compare([path], world.studies)
    with pytest.raises(InputError, match="same predictions twice"):
        compare([[path, path], path], world.studies)
    with pytest.raises(InputError, match="replicates"):
        compare([path, path], world.studies, replicates=1)
    with pytest.raises(InputError, match="no tier list"):
        compare([path, path], world.studies, tiers="chexfusion")
    images = world.table.filter(pl.col("split") == "test").select("study_id", "image_id")
    per_image = world.predictions("i.parquet", images.join(world.scores, on="study_id"), level="image")
    with pytest.raises(InputError, match="--level"):
        compare([path, per_image], world.studies)
    made = compare([path, per_image], world.studies, level="study", replicates=20)
    np.testing.assert_allclose(made["pairs"][0]["macro"]["all"]["map"]["difference"], 0, atol=1e-9)


def test_holm_and_p() -> None:
    assert holm([0.04, 0.01, 0.03, 0.005]) == pytest.approx([0.06, 0.03, 0.06, 0.02])  # R: p.adjust(p, "holm")
    assert holm([]) == []
    found = difference(0.2, np.linspace(0.0, 0.4, 999))
    assert (found.low, found.high, found.told_apart) == (pytest.approx(0.01), pytest.approx(0.39), True)
    assert found.p == pytest.approx(2 * 2 / 1000)  # one replicate at 0 and the data
    assert difference(0.2, np.empty(0)).told_apart is None


def test_what_is_said_of_runs() -> None:
    assert "leaves training's randomness out" in about_runs({"A": 1, "B": 1})
    assert "With one run of B the intervals leave" in about_runs({"A": 3, "B": 1})
    assert "too narrow" in about_runs({"A": 3, "B": 5})
    assert about_runs({"A": 5, "B": 6}).endswith("the randomness of training.")


def test_verb(world: World) -> None:
    good = varied(world, "good.parquet", skill=1.5)
    runs = ",".join(str(varied(world, f"r{seed}.parquet", noise=0.8, seed=seed)) for seed in range(2))
    words = ["compare", str(good), str(world.predictions()), runs, "--studies", str(world.studies)]
    result = CliRunner().invoke(app, [*words, "--replicates", "100", "-o", str(world.folder / "c.json")])
    assert result.exit_code == 0, result.output
    assert "C  r0.parquet, r1.parquet" in result.output
    assert "A is better by" in result.output
    assert "corrected for 6 tests" in result.output  # two pairs x (all, head, medium)
    assert "100 replicates cannot tell the smallest of 6 tests" in result.output
    assert len(json.loads((world.folder / "c.json").read_text())["pairs"]) == 2


def test_verb_with_patterns(world: World) -> None:
    for name in ("a", "b"):
        dealt(world, varied(world, f"{name}.parquet", noise=0.3, seed=ord(name)))
    words = [f"{world.folder}/a-0-*.parquet", f"{world.folder}/b-0-*.parquet", "--studies", str(world.studies)]
    result = CliRunner().invoke(app, ["compare", *words, "--replicates", "20"])
    assert result.exit_code == 0, result.output
    assert "B  b-0-0.parquet, b-0-1.parquet, b-0-2.parquet  (1 x 3 folds)" in result.output
    result = CliRunner().invoke(app, ["compare", f"{world.folder}/c-*.parquet", *words[1:]])
    assert "no file fits this pattern" in str(result.exception)


def test_the_page_shows_the_measured_false_alarms() -> None:
    root = Path(__file__).parents[2]
    measured = json.loads((root / "bench/results/comparison.json").read_text())
    assert measured["ours"] <= 0.10
    shown = [line for line in (root / "docs/how-to/compare.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert shown == [
        f"| {'scatter' if row['scatter'] else 'alike'} | {row['runs']} | {100 * row['map']:.1f} % |"
        for row in measured["rows"]
    ]
