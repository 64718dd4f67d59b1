"""The phantom as data: who comes, what they have, what the labels say, and files that are the same wherever they are drawn."""

import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hilum.errors import InputError, MachineError
from hilum.sources.phantom import NOTE, import_phantom, source
from hilum.sources.phantom.labels import (
    PPV,
    SENSITIVITY,
    UNKNOWN,
    look_alikes,
    mined_labels,
    truth_of,
)
from hilum.sources.phantom.patients import Study, first_studies, studies_of
from hilum.sources.phantom.prevalence import (
    BOTH_VIEWS,
    DECOY_SHARE,
    DECOYS,
    DEVICES,
    FINDINGS,
    IMAGES_PER_STUDY,
    NO_FINDING,
    ONE_VIEW,
    ONE_VIEW_SHARE,
    persistence,
)
from hilum.sources.phantom.worlds import FLOAT, WORLDS
from hilum.tables import check_studies, finding_names

NF = FINDINGS.index(NO_FINDING)
MANY = 8000
WORLD = WORLDS["cxr-lt-2023"]
TIER, PREVALENCE = WORLD.tiers, WORLD.prevalence


@pytest.fixture(scope="module")
def studies() -> list[Study]:
    return list(first_studies(7, MANY))


@pytest.fixture(scope="module")
def truth(studies: list[Study]) -> np.ndarray:
    return truth_of(studies)


@pytest.fixture(scope="module")
def mined(studies: list[Study]) -> FLOAT:
    return mined_labels(studies)


def test_the_declared_numbers() -> None:
    assert IMAGES_PER_STUDY == (0.45, 0.46, 0.08, 0.01)
    assert SENSITIVITY == {"head": 0.93, "medium": 0.88, "tail": 0.80}
    assert PPV == {"head": 0.95, "medium": 0.88, "tail": 0.75}
    assert (UNKNOWN, DECOY_SHARE, ONE_VIEW_SHARE) == (0.05, 0.05, 0.40)
    assert [sum(tier == t for tier in TIER.values()) for t in ("head", "medium", "tail")] == [9, 11, 6]
    assert PREVALENCE["Support Devices"] == pytest.approx(89140 / 264849)
    assert PREVALENCE["Pneumoperitoneum"] == pytest.approx(543 / 264849)


def test_asking_for_more_leaves_the_first_as_they_were() -> None:
    few, more = list(first_studies(3, 9)), list(first_studies(3, 40))
    assert [s.study_id for s in few] == [s.study_id for s in more[:9]]
    for one, other in zip(few, more[:9], strict=True):
        assert one.lesions == other.lesions
        assert one.images == other.images
        assert one.day == other.day
    np.testing.assert_array_equal(mined_labels(few), mined_labels(more)[:9])


def test_a_study_depends_on_its_patient_alone() -> None:
    among = [s for s in first_studies(3, 60) if s.patient == 5]
    alone = list(studies_of(3, 5))
    assert [s.lesions for s in among] == [s.lesions for s in alone]
    assert [s.lesions for s in studies_of(4, 5)] != [s.lesions for s in alone]


def test_patients_have_one_to_twelve_studies_in_order_of_date(studies: list[Study]) -> None:
    by_patient = defaultdict(list)
    for study in studies[:-12]:  # the last patient may be cut short
        by_patient[study.patient].append(study)
    counts = np.array([len(own) for own in list(by_patient.values())[:-1]])
    assert counts.min() == 1
    assert counts.max() == 12
    assert counts.mean() == pytest.approx(3.4, abs=4 * 2.6 / len(counts) ** 0.5)
    for own in by_patient.values():
        assert all(a.day < b.day and a.age < b.age and a.sex == b.sex for a, b in pairwise(own))


def test_views(studies: list[Study]) -> None:
    counts = np.bincount([len(s.images) for s in studies], minlength=5)[1:] / len(studies)
    np.testing.assert_allclose(counts, IMAGES_PER_STUDY, atol=0.02)
    frontal = [[i for i in s.images if i.drawn != "LATERAL"] for s in studies]
    assert all(frontal)
    assert sum(len(f) > 1 for f in frontal) > 0.05 * len(studies)
    assert {i.view for s in studies for i in s.images} == {"PA", "AP", "LATERAL", "unknown"}
    assert {i.view_raw for s in studies for i in s.images if i.view == "LATERAL"} == {"LATERAL", "LL"}


def test_patients_imaged_in_bed_are_sicker(studies: list[Study], truth: np.ndarray) -> None:
    portable = np.array([s.images[0].drawn == "AP" for s in studies])
    assert 0.3 < portable.mean() < 0.6
    sick = truth[:, [k for k in range(len(FINDINGS)) if k != NF]].sum(axis=1)
    assert sick[portable].mean() > sick[~portable].mean() + 0.5
    assert truth[portable, NF].mean() < 0.7 * truth[~portable, NF].mean()


def test_prevalences_are_the_published_ones(truth: np.ndarray) -> None:
    for k, name in enumerate(FINDINGS):
        p = PREVALENCE[name]
        # Studies of a patient go together: at most twelve, so the deviation is well under the square root of 8 times.
        slack = 4 * (5 * p * (1 - p) / MANY) ** 0.5 + (0.012 if name == NO_FINDING else 0)
        assert truth[:, k].mean() == pytest.approx(p, abs=slack), name


def test_findings_keep_company(truth: np.ndarray) -> None:
    def together(one: str, other: str) -> float:
        a, b = truth[:, FINDINGS.index(one)], truth[:, FINDINGS.index(other)]
        return float((a & b).mean() / (a.mean() * b.mean()))

    assert together("Cardiomegaly", "Edema") > 1.25
    assert together("Pneumonia", "Lung Opacity") > 1.2
    assert together("Pneumonia", "Consolidation") > 1.2
    assert together("Subcutaneous Emphysema", "Pneumothorax") > 1.5


def test_no_finding_stands_alone_but_for_devices(truth: np.ndarray, mined: FLOAT) -> None:
    others = [k for k, name in enumerate(FINDINGS) if name not in (NO_FINDING, DEVICES)]
    assert not truth[truth[:, NF]][:, others].any()
    assert truth[~truth[:, NF]][:, others].any(axis=1).all()
    assert truth[truth[:, NF], FINDINGS.index(DEVICES)].any()
    assert not (mined[mined[:, NF] == 1][:, others] == 1).any()


@pytest.mark.parametrize(("kind", "share"), [("chronic", 0.9), ("acute", 0.3), ("device", 0.6)])
def test_findings_persist(studies: list[Study], kind: str, share: float) -> None:
    names = {name for name in FINDINGS if persistence(name) == share}
    assert (DEVICES in names) == (kind == "device")
    stay = seen = 0
    for a, b in pairwise(studies):
        if a.patient == b.patient:
            later = {(item.finding, item.key, item.where) for item in b.lesions if not item.mimic}
            for item in a.lesions:
                if item.finding in names and not item.mimic:
                    seen += 1
                    stay += (item.finding, item.key, item.where) in later
    assert seen > 500
    assert stay / seen == pytest.approx(share, abs=4 * (share * (1 - share) / seen) ** 0.5)


def test_some_findings_show_on_one_view_only(studies: list[Study]) -> None:
    medium_or_head = [name for name in ONE_VIEW if TIER[name] in ("head", "medium")]
    assert len(ONE_VIEW) == 8
    assert len(medium_or_head) >= 4
    hidden, total = dict.fromkeys(ONE_VIEW, 0), dict.fromkeys(ONE_VIEW, 0)
    for item in {(i.finding, i.key): i for s in studies for i in s.lesions}.values():
        assert item.frontal or item.lateral
        if item.finding in ONE_VIEW:
            total[item.finding] += 1
            hidden[item.finding] += not (item.frontal and item.lateral)
        else:
            assert item.frontal
            assert item.lateral
    for name, count in total.items():
        spread = 4 * (ONE_VIEW_SHARE * (1 - ONE_VIEW_SHARE) / count) ** 0.5
        assert hidden[name] / count == pytest.approx(ONE_VIEW_SHARE, abs=spread), name


def test_mimics_only_without_the_finding_and_decoys_in_five_percent(studies: list[Study], truth: np.ndarray) -> None:
    mimic = np.stack([s.mimic for s in studies])
    assert not (mimic[truth] > 0).any()
    with_mimics = {FINDINGS[k] for k in np.flatnonzero(mimic.any(axis=0))}
    assert with_mimics == set(BOTH_VIEWS)
    assert len(BOTH_VIEWS) == 4
    assert np.mean([s.decoy != "" for s in studies]) == pytest.approx(DECOY_SHARE, abs=0.01)
    assert {s.decoy for s in studies} == {"", *DECOYS}


@pytest.mark.parametrize("tier", ["head", "medium", "tail"])
def test_mined_labels_have_their_sensitivity_and_ppv(tier: str, truth: np.ndarray, mined: FLOAT) -> None:
    columns = [k for k, name in enumerate(FINDINGS) if TIER[name] == tier]
    there, said = truth[:, columns], mined[:, columns]
    known = ~np.isnan(said)
    hits = (there & (said == 1)).sum()
    positives, calls = (there & known).sum(), (said == 1).sum()
    for value, wanted, count in ((hits / positives, SENSITIVITY[tier], positives), (hits / calls, PPV[tier], calls)):
        assert value == pytest.approx(wanted, abs=5 * (wanted * (1 - wanted) / count) ** 0.5 + 0.005)


def test_mined_labels_miss_what_is_subtle_and_see_what_is_alike(
    studies: list[Study], truth: np.ndarray, mined: FLOAT
) -> None:
    clarity = np.stack([s.clarity for s in studies])
    disease = [k for k in range(len(FINDINGS)) if k != NF]
    there, said, clear = truth[:, disease], mined[:, disease], clarity[:, disease]
    assert clear[there & (said == 0)].mean() < 0.35
    assert clear[there & (said == 1)].mean() > 0.5
    decoys = np.array([[s.decoy == name for name in DECOYS] for s in studies])
    alike = look_alikes(FINDINGS, truth, np.stack([s.mimic for s in studies]) > 0, decoys)[:, disease]
    false = ~there & (said == 1)
    assert alike[false].mean() == pytest.approx(0.5, abs=0.06)
    assert alike[~there].mean() < 0.35


def test_five_percent_are_unknown(mined: FLOAT) -> None:
    np.testing.assert_allclose(np.isnan(mined).mean(axis=0), UNKNOWN, atol=0.012)
    assert set(np.unique(mined[~np.isnan(mined)])) == {0.0, 1.0}


def test_the_tables(tmp_path: Path) -> None:
    made = import_phantom(tmp_path, studies=12, size=64, seed=2, workers=1)
    assert made.note == NOTE
    assert made.truth is not None
    assert made.regions is not None
    for table in (made.studies, made.truth):
        assert check_studies(table).equals(table)
        assert finding_names(table) == list(FINDINGS)
        assert table["study_id"].n_unique() == 12
        assert set(table["source"]) == {"phantom"}
        assert all(Path(p).is_absolute() and Path(p).is_file() for p in table["path"])
    assert made.truth.select(FINDINGS).null_count().sum_horizontal()[0] == 0
    labels = made.studies.group_by("study_id").agg(pl.col(f).n_unique() for f in FINDINGS)
    assert labels.select(pl.max_horizontal(FINDINGS)).max().item() == 1
    assert len(list(tmp_path.rglob("*.png"))) == made.studies.height
    positives = {(r["image_id"], f) for r in made.truth.iter_rows(named=True) for f in FINDINGS if r[f] == 1}
    boxes = made.regions
    assert boxes.height > 5
    assert set(zip(boxes["image_id"], boxes["finding"])) <= positives
    assert boxes.select((pl.col("x0") >= 0) & (pl.col("x0") < pl.col("x1")) & (pl.col("x1") <= 64)).to_series().all()
    assert boxes.select((pl.col("y0") >= 0) & (pl.col("y0") < pl.col("y1")) & (pl.col("y1") <= 64)).to_series().all()


def test_processes_and_order_change_nothing(tmp_path: Path) -> None:
    one = import_phantom(tmp_path / "one", studies=18, size=32, workers=1)
    two = import_phantom(tmp_path / "two", studies=18, size=32, workers=2)
    drop = one.studies.drop("path")
    assert drop.equals(two.studies.drop("path"))
    assert one.regions is not None
    assert two.regions is not None
    assert one.regions.equals(two.regions)
    for a, b in zip(one.studies["path"], two.studies["path"], strict=True):
        assert Path(a).read_bytes() == Path(b).read_bytes()


def test_drawing_goes_on_where_it_stopped(tmp_path: Path) -> None:
    first = import_phantom(tmp_path, studies=5, size=48, workers=1)
    paths = [Path(p) for p in first.studies["path"]]
    before = [p.read_bytes() for p in paths]
    paths[0].unlink()
    paths[1].write_bytes(before[1][: len(before[1]) // 2])
    stamp = paths[2].stat().st_mtime_ns
    again = import_phantom(tmp_path, studies=5, size=48, workers=1)
    assert [p.read_bytes() for p in paths] == before
    assert paths[2].stat().st_mtime_ns == stamp
    assert again.regions is not None
    assert again.regions.equals(first.regions)
    other = import_phantom(tmp_path, studies=5, size=48, seed=1, workers=1)
    assert set(other.studies["path"]).isdisjoint(first.studies["path"])
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".png"]


def test_a_failure_names_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = source.draw

    def breaks(study: Study, number: int, size: int) -> object:
        if study.study_id == "p000000_s02":
            raise ValueError("a broken pencil")
        return real(study, number, size)

    monkeypatch.setattr(source, "draw", breaks)
    count = len(list(studies_of(0, 0))) + 1
    with pytest.raises(MachineError, match=r"p000000_s02 .*broken pencil"):
        import_phantom(tmp_path, studies=max(count, 3), size=32, workers=1)


SCRIPT = """
from pathlib import Path
from hilum.sources.phantom import import_phantom
if __name__ == "__main__":
    import_phantom(Path("."), studies=5000, size=64, workers=2)
"""


def members(session: int) -> list[int]:
    """The processes of a session."""
    told = {path.parent.name: _text(path).rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat")}
    return [int(pid) for pid, stat in told.items() if stat and int(stat[3]) == session and stat[0] != "Z"]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended meanwhile
        return ""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc to see processes")
def test_no_worker_outlives_a_killed_import(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    parent = subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path, start_new_session=True)
    until = time.monotonic() + 60
    while not list(tmp_path.rglob("*.png")) and time.monotonic() < until:
        time.sleep(0.1)
    assert len(members(parent.pid)) >= 3
    parent.kill()
    parent.wait()
    until = time.monotonic() + 60
    while members(parent.pid) and time.monotonic() < until:
        time.sleep(0.1)
    assert not members(parent.pid)


@pytest.mark.parametrize("wrong", [{"studies": 0}, {"size": 8}, {"seed": -1}])
def test_numbers_out_of_range(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(InputError):
        import_phantom(tmp_path, **wrong)  # type: ignore[arg-type]


def test_age_alone_does_not_change_who_it_is() -> None:
    study = next(studies_of(0, 0))
    assert replace(study, number=3).patient_id == study.patient_id
    assert study.study_id.startswith(study.patient_id)
