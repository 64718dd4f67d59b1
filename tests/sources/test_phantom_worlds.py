"""The worlds of the phantom: the 45 findings keep their laws, and the benchmarks are what they say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hilum.errors import InputError
from hilum.findings import FINDING_SETS
from hilum.sources import import_studies
from hilum.sources.phantom.benchmarks import BENCHMARKS, cohort, keep_labels
from hilum.sources.phantom.difficulty import CONTRAST
from hilum.sources.phantom.labels import LOOK_ALIKES, mined_labels, truth_of
from hilum.sources.phantom.lesions import PAINTS, SHAPES
from hilum.sources.phantom.oracle import oracle_scores
from hilum.sources.phantom.patients import first_studies
from hilum.sources.phantom.picture import draw
from hilum.sources.phantom.prevalence import ALSO, DECOYS, DEVICES, FINDINGS, KIND_OF, LOADINGS, NO_FINDING
from hilum.sources.phantom.sheet import specimen
from hilum.sources.phantom.source import import_phantom
from hilum.sources.phantom.worlds import WORLDS
from hilum.tables import finding_names, read_studies

ALL = WORLDS["cxr-lt-2024"]


def test_the_large_world_has_every_finding_of_the_challenges() -> None:
    new = {*FINDING_SETS["cxr-lt-2024-task1"], *FINDING_SETS["cxr-lt-2024-task3"]} - {*FINDINGS, "Normal"}
    assert len(ALL.findings) == 45
    assert set(ALL.findings) == {*FINDINGS, *new}
    assert ALL.findings[:26] == FINDINGS


def test_every_name_in_the_numbers_is_a_finding() -> None:
    named = {*KIND_OF, *KIND_OF.values(), *ALSO, *ALSO.values(), *LOOK_ALIKES}
    named |= {name for shares in LOADINGS.values() for name in shares} | set(CONTRAST)
    assert named <= set(ALL.findings)
    assert {other for others in LOOK_ALIKES.values() for other in others} <= {*ALL.findings, *DECOYS}
    assert set(LOOK_ALIKES) == set(ALL.findings) - {NO_FINDING}
    assert {*SHAPES, *PAINTS} == {*ALL.findings, *DECOYS} - {NO_FINDING}


def test_a_kind_is_among_what_it_is_a_kind_of_and_drawn_in_its_place() -> None:
    studies = list(first_studies(4, 6000, ALL))
    truth = dict(zip(ALL.findings, truth_of(studies).T, strict=True))
    for kind, parent in KIND_OF.items():
        assert truth[kind].any(), kind
        assert truth[parent][truth[kind]].all()
    assert truth["Pleural Effusion"][truth["Hydropneumothorax"]].all()
    for k, study in enumerate(studies):
        drawn = {lesion.finding for lesion in study.lesions if not lesion.mimic}
        for kind, parent in KIND_OF.items():
            if truth[kind][k]:
                assert kind in drawn
                assert parent not in drawn
                assert study.clarity[ALL.findings.index(parent)] >= study.clarity[ALL.findings.index(kind)]


def test_what_a_kind_implies_is_boxed_where_the_kind_is() -> None:
    study = specimen("Hydropneumothorax", 0.9)
    for view in (0, 1):
        boxes = draw(study, view, 64)[1]
        assert set(boxes) == {"Hydropneumothorax", "Pneumothorax", "Pleural Effusion"}
        assert len(set(boxes.values())) == 1


def test_prevalences_and_mined_labels_of_the_large_world() -> None:
    studies = list(first_studies(5, 12_000, ALL))
    truth, mined = truth_of(studies), mined_labels(studies, ALL)
    for k, name in enumerate(ALL.findings):
        if name in (NO_FINDING, "Pleural Effusion"):  # derived; and raised by what implies it
            continue
        p = ALL.prevalence[name]
        assert truth[:, k].mean() == pytest.approx(p, abs=4 * (6 * p * (1 - p) / len(studies)) ** 0.5), name
    known = ~np.isnan(mined)
    assert known.mean() == pytest.approx(0.95, abs=0.003)
    others = [k for k, name in enumerate(ALL.findings) if name not in (NO_FINDING, DEVICES)]
    normal = ALL.findings.index(NO_FINDING)
    assert not (mined[mined[:, normal] == 1][:, others] == 1).any()
    assert not truth[truth[:, normal]][:, others].any()


def test_contrast_changes_the_drawing_alone() -> None:
    plain = WORLDS["cxr-lt-2023"]
    faint = plain.changed("faint", contrast=dict.fromkeys(FINDINGS, 0.5))
    for one, other in zip(first_studies(1, 40, plain), first_studies(1, 40, faint), strict=True):
        same = [replace(lesion, contrast=1.0) for lesion in one.lesions]
        assert same == [replace(lesion, contrast=1.0) for lesion in other.lesions]
        assert all(lesion.contrast == 0.5 for lesion in other.lesions if lesion.finding not in DECOYS)
        assert (one.truth == other.truth).all()


def test_the_small_benchmark_is_what_it_says() -> None:
    benchmark = BENCHMARKS["phantom-26-small"]
    parts = cohort(benchmark)
    assert {name: len(part) for name, part in parts.items()} == {"train": 8000, "valid": 4000, "test": 20_000}
    patients = {name: {study.patient for study in part} for name, part in parts.items()}
    assert len(patients["test"]) == 20_000
    assert not patients["train"] & patients["valid"]
    assert not (patients["train"] | patients["valid"]) & patients["test"]
    tail = [name for name, tier in benchmark.world.tiers.items() if tier == "tail"]
    assert sorted(benchmark.world.prevalence[name] for name in tail) == pytest.approx(np.linspace(0.0060, 0.0095, 6))
    counts = dict(zip(benchmark.world.findings, truth_of(parts["test"]).sum(axis=0), strict=True))
    assert all(120 <= counts[name] <= 190 for name in tail), {name: counts[name] for name in tail}
    mined = mined_labels(parts["train"], benchmark.world)
    share = (mined == 1).sum(axis=0) / (~np.isnan(mined)).sum(axis=0)
    by_rule = ["head" if s > 0.10 else "tail" if s < 0.01 else "medium" for s in share]
    assert by_rule == list(benchmark.world.tiers.values())
    labelled = keep_labels(parts["train"], benchmark.labelled)
    assert 2000 <= len(labelled) < 2012
    kept = {study.patient for study in parts["train"] if study.study_id in labelled}
    assert all(study.study_id in labelled for study in parts["train"] if study.patient in kept)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(BENCHMARKS["phantom-26-small"], size=32, train=20, valid=8, test=10, labelled=6)
    monkeypatch.setitem(BENCHMARKS, "tiny", small)


@pytest.mark.usefixtures("tiny")
def test_a_benchmark_is_imported_with_its_split_and_its_partly_labelled_form(tmp_path: Path) -> None:
    table, imported = import_studies("phantom", None, tmp_path, benchmark="tiny", workers=1)
    studies, partly, truth = (read_studies(tmp_path / f"{name}.parquet") for name in ("studies", "partly", "truth"))
    assert table == tmp_path / "studies.parquet"
    assert studies.group_by("split").agg(pl.col("study_id").n_unique()).sort("split").rows() == [
        ("test", 10),
        ("train", 20),
        ("valid", 8),
    ]
    assert truth["split"].to_list() == studies["split"].to_list()
    findings = finding_names(studies)
    assert partly.drop(findings).equals(studies.drop(findings))
    train = partly["split"] == "train"
    assert partly.filter(~train).equals(studies.filter(~train))
    unlabelled = partly.select(pl.all_horizontal(pl.col(findings).is_null())).to_series()
    assert 0 < partly.filter(train & ~unlabelled)["study_id"].n_unique() < 20
    assert any("tiny" in note for note in imported.notes)


def test_likely_mistakes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="phantom-26-small"):
        import_phantom(tmp_path, benchmark="phantom-26-smal")
    with pytest.raises(InputError, match=r"fixes size itself.*Leave out --size"):
        import_phantom(tmp_path, benchmark="phantom-26-small", size=64)
    with pytest.raises(InputError, match="cxr-lt-2023"):
        import_phantom(tmp_path, findings="cxr-lt-203")
    with pytest.raises(InputError, match="option 'studies'"):
        import_studies("phantom", None, tmp_path, studies="many")


def test_the_oracle_tells_what_is_drawn_from_what_is_not() -> None:
    world = WORLDS["cxr-lt-2023"]
    studies = list(first_studies(2, 30, world))
    truth, scores = truth_of(studies), oracle_scores(studies, world, 64)
    disease = [k for k, name in enumerate(world.findings) if name != NO_FINDING]
    there = truth[:, disease]
    mimic = np.stack([study.mimic for study in studies])[:, disease] > 0
    assert np.median(scores[:, disease][there]) > 4
    assert scores[:, disease][~there & ~mimic].max() < 5  # noise of unit deviation
    assert scores[truth[:, world.findings.index(NO_FINDING)], world.findings.index(NO_FINDING)].min() > -5


def test_a_ward_lies_in_bed_and_a_practice_stands_up() -> None:
    small = WORLDS["cxr-lt-2023"]
    ward = small.changed("ward", images=(0.8, 0.2), bedside=1.0)
    practice = small.changed("practice", images=(0.1, 0.9), bedside=-4.0)
    views = [
        [image.drawn for study in first_studies(3, 400, world) for image in study.images]
        for world in (ward, small, practice)
    ]
    portable = [each.count("AP") / (each.count("AP") + each.count("PA")) for each in views]
    assert portable[0] > portable[1] + 0.2 > portable[2] + 0.4
    assert len(views[0]) < len(views[1]) < len(views[2])
    assert truth_of(list(first_studies(3, 400, ward))).tolist() == truth_of(list(first_studies(3, 400, small))).tolist()
