"""The verb: joined by id and name, folds, tiers, levels, what is not scored, and a metrics.json without NaN."""

import json
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score

from hilum.errors import InputError
from hilum.evaluation.evaluate import above_floor, evaluate
from hilum.tables import write_studies
from tests.evaluation.conftest import FINDINGS, World, subset


def study_labels(world: World, name: str) -> pl.DataFrame:
    """study_id and the known labels of a finding, 1 and 0."""
    rows = world.table.unique("study_id").select("study_id", label=name).filter(pl.col("label") >= 0)
    return rows.join(world.scores.select("study_id", score=name), on="study_id")


def test_content_and_files(world: World) -> None:
    made = evaluate([world.predictions()], world.studies, world.folder / "report", replicates=50)
    written = json.loads((world.folder / "report" / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert written == made
    assert (world.folder / "report" / "report.html").stat().st_size > 10_000
    assert made["level"] == "study"
    assert made["n_studies"] == world.scores.height
    assert made["n_patients"] == 150
    assert made["not_scored"] == ["Hernia", "Nodule"]
    assert made["note"] == ["These images are made up."]
    assert made["findings"]["Nodule"]["ap"] == [None, None, None]
    assert made["tiers"]["Edema"] == "head"
    assert made["tiers"]["Mass"] == "medium"
    assert made["macro"]["tail"] is None
    assert made["macro"]["findings"] == ["Edema", "Mass"]
    edema = made["findings"]["Edema"]
    rows = study_labels(world, "Edema")
    assert edema["known"] == rows.height
    assert edema["ap"][0] == pytest.approx(average_precision_score(rows["label"], rows["score"]), abs=1e-9)
    assert edema["ap"][1] < edema["ap"][0] < edema["ap"][2]
    assert edema["floor"] > edema["prevalence"]
    mean = np.mean([made["findings"][name]["ap"][0] for name in ("Edema", "Mass")])
    assert made["macro"]["map"][0] == pytest.approx(mean)


def test_rows_and_columns_are_matched_not_counted(world: World) -> None:
    straight = evaluate([world.predictions()], world.studies, world.folder / "a", replicates=20)
    shuffled = world.scores.sample(fraction=1, shuffle=True, seed=1).select("study_id", *reversed(FINDINGS))
    crooked = evaluate([world.predictions("q.parquet", shuffled)], world.studies, world.folder / "b", replicates=20)
    assert list(crooked["findings"]) == list(reversed(FINDINGS))
    for name in FINDINGS:
        for key in ("ap", "auroc", "f1"):
            assert crooked["findings"][name][key][0] == pytest.approx(straight["findings"][name][key][0], nan_ok=True)
        assert crooked["findings"][name]["ece"] == pytest.approx(straight["findings"][name]["ece"])


def test_average_all_and_fewer_positives(world: World) -> None:
    made = evaluate([world.predictions()], world.studies, world.folder / "r", replicates=20, average_all=True)
    assert made["not_scored"] == ["Nodule"]  # without a positive nothing is defined
    fewer = evaluate([world.predictions()], world.studies, world.folder / "r", replicates=20, min_positives=1000)
    assert fewer["macro"]["map"] == [None, None, None]
    assert above_floor(fewer) == {"head": None, "medium": None, "tail": None}


def test_skill_clears_the_floor_and_chance_does_not(make_world: Callable[..., World]) -> None:
    skilled, guessing = make_world("skilled"), make_world("guessing", skill=0.0)
    claims = [above_floor(evaluate([w.predictions()], w.studies, w.folder / "r")) for w in (skilled, guessing)]
    assert claims[0] == {"head": True, "medium": True, "tail": None}
    assert claims[1] == {"head": False, "medium": False, "tail": None}


def test_tiers_follow_the_counts_of_the_predictions_first(world: World) -> None:
    counts = {"positives": dict(zip(FINDINGS, (5, 500, 50, 1))), "known": dict.fromkeys(FINDINGS, 1000)}
    made = evaluate([world.predictions(**counts)], world.studies, world.folder / "r", replicates=20)
    assert made["tiers"] == dict(zip(FINDINGS, ("tail", "head", "medium", "tail")))
    assert made["findings"]["Mass"]["constant"] == 0.5
    listed = evaluate([world.predictions()], world.studies, world.folder / "r", replicates=20, tiers="chexfusion-2023")
    assert listed["tiers"]["Edema"] == "head"
    write_studies(world.table.drop("split"), world.folder / "bare.parquet", label_level="study")
    bare = evaluate([world.predictions()], world.folder / "bare.parquet", world.folder / "r", replicates=20)
    assert set(bare["tiers"].values()) == {None}
    assert bare["macro"]["head"] is None
    with pytest.raises(InputError, match="no tier list"):
        evaluate([world.predictions()], world.studies, world.folder / "r", tiers="chexfusion")


def test_thresholds_of_the_predictions_are_used(world: World) -> None:
    path = world.predictions(thresholds={"Edema": 0.3, "Mass": 0.4})
    made = evaluate([path], world.studies, world.folder / "r", replicates=20)
    edema, hernia = made["findings"]["Edema"], made["findings"]["Hernia"]
    assert edema["f1"][0] == edema["at"]["chosen"]["f1"] != edema["at"]["half"]["f1"]
    assert (edema["threshold"], edema["threshold_from"]) == (pytest.approx(0.3), "validation")
    assert hernia["at"]["chosen"]["f1"] is None
    assert hernia["f1"][0] == hernia["at"]["half"]["f1"]


def test_folds_share_a_macro_set_and_are_averaged(world: World) -> None:
    studies = world.scores["study_id"].to_list()
    halves = [subset(world.scores, studies[:140]), subset(world.scores, studies[140:])]
    paths = [world.predictions(f"fold{number}.parquet", half) for number, half in enumerate(halves)]
    made = evaluate(paths, world.studies, world.folder / "r", replicates=20, min_positives=20)
    assert made["macro"]["findings"] == ["Edema", "Mass"]  # Mass has 20 positive patients in both together only
    values = []
    for half in halves:
        rows = study_labels(world, "Mass").filter(pl.col("study_id").is_in(half["study_id"].to_list()))
        values.append(average_precision_score(rows["label"], rows["score"]))
    assert made["findings"]["Mass"]["ap"][0] == pytest.approx(np.mean(values), abs=1e-9)
    with pytest.raises(InputError, match="stands in"):
        evaluate([paths[0], paths[0]], world.studies, world.folder / "r")


def test_levels_meet(world: World) -> None:
    images = world.table.filter(pl.col("split") == "test").select("study_id", "image_id")
    per_image = images.join(world.scores, on="study_id", maintain_order="left")
    path = world.predictions("images.parquet", per_image, level="image")
    straight = evaluate([world.predictions()], world.studies, world.folder / "r", replicates=20)
    averaged = evaluate([path], world.studies, world.folder / "r", replicates=20, level="study")
    assert averaged["findings"]["Edema"]["ap"][0] == pytest.approx(straight["findings"]["Edema"]["ap"][0])
    assert "averaged" in averaged["level_rule"]
    by_image = evaluate([path], world.studies, world.folder / "r", replicates=20)
    repeated = evaluate([world.predictions()], world.studies, world.folder / "r", replicates=20, level="image")
    assert by_image["level"] == repeated["level"] == "image"
    assert by_image["n_rows"] == images.height > by_image["n_studies"]
    assert by_image["macro"] == repeated["macro"]
    with pytest.raises(InputError, match="--level"):
        evaluate([path, world.predictions()], world.studies, world.folder / "r")


def test_unknown_patients_are_said(world: World) -> None:
    table = world.table.with_columns(patient_id=pl.lit(None, pl.String))
    write_studies(table, world.folder / "unknown.parquet", label_level="study")
    made = evaluate([world.predictions()], world.folder / "unknown.parquet", world.folder / "r", replicates=20)
    assert made["patients_known"] is False
    assert made["n_patients"] == made["n_studies"]
    assert "Patients are unknown" in (world.folder / "r" / "report.html").read_text()


def test_findings_of_one_side_are_listed(world: World) -> None:
    table = world.scores.rename({"Nodule": "Kyphosis"})
    made = evaluate([world.predictions(table=table)], world.studies, world.folder / "r", replicates=20)
    assert (made["only_predicted"], made["only_labelled"]) == (["Kyphosis"], ["Nodule"])
    nothing = world.scores.select("study_id", edem="Edema")
    with pytest.raises(InputError, match=r"no finding in common.*Edema"):
        evaluate([world.predictions(table=nothing)], world.studies, world.folder / "r")


def test_foreign_ids_are_refused(world: World) -> None:
    table = world.scores.with_columns(
        study_id=pl.when(pl.int_range(pl.len()) < 3).then(pl.lit("x") + pl.col("study_id")).otherwise("study_id")
    )
    with pytest.raises(InputError, match=f"3 of {table.height} predicted studies are not in the study table"):
        evaluate([world.predictions(table=table)], world.studies, world.folder / "r")


def test_doubts_about_splits(world: World) -> None:
    assert evaluate([world.predictions()], world.studies, world.folder / "r", replicates=20)["doubts"] == []
    fewer = world.predictions(table=world.scores.head(200))
    spoilt = world.table.with_columns(
        split=pl.when(pl.col("study_id") == world.scores["study_id"][0]).then(pl.lit("train")).otherwise("split")
    )
    write_studies(spoilt, world.folder / "spoilt.parquet", label_level="study")
    doubts = evaluate([fewer], world.folder / "spoilt.parquet", world.folder / "r", replicates=20)["doubts"]
    assert any("training studies" in doubt for doubt in doubts)
    assert any("have no prediction" in doubt for doubt in doubts)
    held_out = world.predictions(table=world.scores.head(200), split="test")  # they answer to their run's own split
    assert evaluate([held_out], world.folder / "spoilt.parquet", world.folder / "r", replicates=20)["doubts"] == []


def test_too_few_replicates(world: World) -> None:
    with pytest.raises(InputError, match="replicates"):
        evaluate([world.predictions()], world.studies, world.folder / "r", replicates=1)
