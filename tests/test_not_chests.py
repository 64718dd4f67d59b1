"""Plug and play: pots of several makers, photographed from the front and the side, go the whole way that chests go."""

import json
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from hilum.cli import app
from hilum.reproduce import reproduce
from hilum.tables import read_studies, studies_metadata, write_studies

SIZE = 32
MARKS = {  # name -> share of the pots that bear it, and the side it is seen from
    "blue rim": (0.5, "front"),
    "handle": (0.4, "side"),
    "cross": (0.3, "front"),
    "spout": (0.2, "side"),
    "dots": (0.12, "front"),
    "foot": (0.06, "side"),
    "stamp": (0.03, "front"),
    "crack": (0.015, "side"),
}
TINY = ["cache.size=32", "train.batch_size=16", "train.feature_versions=1", "train.ema=0.0"]


def picture(random: np.random.Generator, marks: list[str], side: str) -> np.ndarray:
    """(SIZE, SIZE, 3) uint8: a grey pot on a noisy ground, and of its marks those that this side shows, some in colour."""
    shown = random.integers(0, 60, (SIZE, SIZE, 3)).astype(np.uint8)
    x, y = (int(place) for place in random.integers(14, 18, 2))
    cv2.circle(shown, (x, y), 9, (90, 90, 90), -1)
    lines = {  # BGR colour, width, corners
        "blue rim": [((255, 150, 90), 3, (x - 8, y - 9), (x + 8, y - 9))],
        "handle": [((230, 230, 230), 4, (x + 11, y - 5), (x + 11, y + 5))],
        "cross": [((230, 230, 230), 2, (x - 4, y + s * 4), (x + 4, y - s * 4)) for s in (-1, 1)],
        "spout": [((230, 230, 230), 4, (x - 8, y), (x - 12, y - 7))],
        "dots": [((20, 20, 250), 3, (x + s, y), (x + s, y)) for s in (-6, 0, 6)],
        "foot": [((240, 240, 240), 3, (x - 6, y + 11), (x + 6, y + 11))],
        "stamp": [((0, 0, 0), 5, (x, y + 5), (x, y + 5))],
        "crack": [((0, 0, 0), 2, (x - 3, y - 8), (x + 3, y + 8))],
    }
    for mark in marks:
        for colour, width, start, end in lines[mark] if MARKS[mark][1] == side else []:
            cv2.line(shown, start, end, colour, width)
    return shown


@pytest.fixture(scope="module")
def pots(tmp_path_factory) -> Path:
    """A folder of about 500 PNG and JPEG files with a table of a person's own making."""
    root, random = tmp_path_factory.mktemp("pots"), np.random.default_rng(0)
    rows = [["photo", "maker", "pot", "taken from", "glaze", *MARKS]]
    for maker in range(80):
        for pot in range(random.integers(1, 5)):
            bears = {mark: random.random() < share for mark, (share, _) in MARKS.items()}
            for photo in range(random.integers(1, 5)):
                side = ("front", "side")[photo % 2]
                name = f"maker {maker}/{pot}-{photo}.{('png', 'jpg')[photo % 2]}"
                (root / name).parent.mkdir(exist_ok=True)
                assert cv2.imwrite(str(root / name), picture(random, [mark for mark in bears if bears[mark]], side))
                rows.append([name, str(maker), str(pot), side, "matt", *(str(int(shown)) for shown in bears.values())])
    (root / "pots.csv").write_text("\n".join(map(",".join, rows)) + "\n")
    return root


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


@pytest.fixture(scope="module")
def studies(pots) -> Path:
    """The study table that `hilum import folder` makes of the photographs."""
    columns = ["--image-column", "photo", "--patient-column", "maker", "--study-column", "pot"]
    views = ["--view-column", "taken from", "--view-names", "front=PA,side=LATERAL"]
    said = run("import", "folder", pots, "--table", "pots.csv", *columns, *views, "-o", pots / "studies.parquet")
    assert "8 findings: blue rim, handle, cross, spout, dots, foot, stamp, crack." in said
    assert "Columns left out: glaze." in said
    return pots / "studies.parquet"


def test_the_recipe_of_chexfusion_learns_pots(pots, studies, tmp_path):
    said = run("check", studies)
    assert "Faults: none" in said
    assert "PA: " in said
    run("cache", studies, "--size", SIZE, "-o", pots / "cache")
    words = [f"studies={studies}", "findings=null", "split={by: patient, valid: 0.15, test: 0.4}"]
    words += [
        f"cache.folder={pots / 'cache'}",
        *TINY,
        "stages.single_view.train.epochs=7",
        "stages.fusion.train.epochs=5",
    ]
    run("train", "chexfusion_small", *words, "--run", tmp_path / "run")
    table = read_studies(tmp_path / "run" / "studies.parquet")
    held_out = table.filter(pl.col("split") == "test")
    assert set(held_out["patient_id"]).isdisjoint(table.filter(pl.col("split") != "test")["patient_id"])
    level = studies_metadata(studies)["label_level"]
    write_studies(held_out, tmp_path / "test.parquet", label_level=level)
    run("predict", tmp_path / "run" / "bundle", tmp_path / "test.parquet", "-o", tmp_path / "p.parquet")
    run("evaluate", tmp_path / "p.parquet", tmp_path / "test.parquet", "-o", tmp_path / "report", "--replicates", 200)
    judged = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert judged["n_studies"] == held_out["study_id"].n_unique()
    value, low, high = judged["macro"]["map"]
    assert judged["macro"]["map_floor"] < low < value < high, judged["macro"]
    above = {mark for mark, found in judged["findings"].items() if found["scored"] and found["ap"][1] > found["floor"]}
    assert {MARKS[mark][1] for mark in above} == {"front", "side"}, "each side teaches something"
    assert judged["tiers"]["crack"] != "head"
    assert "chest" not in (tmp_path / "run" / "bundle" / "card.md").read_text().casefold()


def test_its_published_table_runs_on_pots(studies, tmp_path):
    quick = [*TINY, "train.epochs=2", "split={by: patient, valid: 0.2, test: 0.4}"]
    options = {"small": True, "runs": tmp_path / "runs", "tables": ["views"], "replicates": 40}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hilum.training.run_folder.draw_curves", lambda rows, path: None)
        made = reproduce("chexfusion", studies, quick, **options)
    every, several = made["tables"][0]["panels"]
    assert made["skipped"] == []
    assert every["findings"]["all"] > 0
    assert 0 < several["studies"] < every["studies"]
    for row in every["rows"]:
        value, low, high = row["ours"]["all"]
        assert low <= value <= high
