"""The figures on the page about labels half known are those of the stored result; its hospitals are what it says."""

import importlib
import json
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from tests.figures import interval

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/why/partial-labels.md").read_text()
ROWS = json.loads((ROOT / "bench/results/partial_labels.json").read_text())["rows"]
MATRIX = [row for row in ROWS if row["what"] == "matrix"]
AGAINST = [row for row in ROWS if row["what"] == "against"]


@pytest.mark.parametrize("row", MATRIX, ids=lambda row: row["train"])
def test_every_row_of_the_matrix(row):
    cells = " | ".join(interval(values) for values in row["test"].values())
    assert f"| {row['train']} | {cells} |" in PAGE


@pytest.mark.parametrize("row", AGAINST, ids=lambda row: f"{row['from']}-{row['to']}-{row['test']}")
def test_every_difference(row):
    cells = []
    for tier in ("all", "head", "medium", "tail"):
        one = row["tiers"].get(tier)
        cells.append(interval(one["difference"], "+") if one and one["difference"][1] is not None else "")
    maps = row["tiers"]["all"]["map"]
    head = f"| {row['from']}, {row['to']} | {row['findings']} | {row['test']} | {maps[0]:.3f}, {maps[1]:.3f} |"
    assert f"{head} {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |") in PAGE


@pytest.mark.parametrize("row", [row for row in ROWS if row["what"] == "entries"], ids=lambda row: row["train"])
def test_the_entries_that_nobody_labelled(row):
    cells = " | ".join(interval(values) for values in row.values() if isinstance(values, list))
    assert f"| {row['train']} | {cells} |" in PAGE


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return importlib.import_module("partial_labels")


def labelled(**columns):
    height = len(next(iter(columns.values())))
    return pl.DataFrame({"study_id": [str(k) for k in range(height)], **columns}).cast(dict.fromkeys(columns, pl.Int8))


def test_zeros_fill_what_nobody_labelled_and_unite_the_two_words(bench):
    union = labelled(**{
        "Edema": [1, 0, None, -1], "Hernia": [None, None, 1, 0],
        "No Finding": [0, None, None, 1], "No Finding (chexpert)": [None, 1, None, None],
    })  # fmt: skip
    made = bench.zeros(union)
    assert made.columns == ["study_id", "Edema", "Hernia", "No Finding"]
    assert made["Edema"].to_list() == [1, 0, 0, -1]
    assert made["Hernia"].to_list() == [0, 0, 1, 0]
    assert made["No Finding"].to_list() == [0, 1, 0, 1]


def test_no_finding_of_the_ward_denies_its_own_list(bench):
    listed = [name for name in bench.LABELLED["ward"] if name not in ("No Finding", "Support Devices")]
    none = {name: [0, 0, 0, 0] for name in listed}
    own = {"Support Devices": [1, 0, 0, 0], "Edema": [0, 1, None, None], "Mass": [1, 1, 1, 1]}
    known = labelled(**{"No Finding": [0, 0, 1, 1], **none, **own, "Pneumonia": [0, None, 0, 1]})
    assert bench.denying_its_own(known)["No Finding"].to_list() == [1, 0, None, 0]


def test_every_hospital_has_its_own_device(bench, tmp_path):
    random = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / "a.png"), random.integers(60, 190, (64, 64)).astype(np.uint8))
    table = pl.DataFrame({"image_id": ["a"], "path": [str(tmp_path / "a.png")]})
    seen = {}
    for name, device in bench.DEVICES.items():
        made, again = (bench.taken_by(device, table, tmp_path / folder) for folder in (name, f"{name}-again"))
        assert made["device"].to_list() == [device.name]
        one, other = (cv2.imread(each["path"][0], cv2.IMREAD_GRAYSCALE) for each in (made, again))
        assert (one == other).all()
        seen[name] = one.astype(float)
    inside = {name: picture[8:-8, 8:-8].mean() for name, picture in seen.items()}
    assert inside["practice"] > inside["university"] + 10 > inside["ward"] + 20
    edges = {name: (picture[0, 30], picture[30, 0]) for name, picture in seen.items()}
    assert (edges["practice"][1], edges["university"][0]) == (3, 3)
    assert min(edges["practice"][0], edges["university"][1], *edges["ward"]) > 3
    flat = np.full((64, 64), 128, np.uint8)
    noise = {name: bench.pictured(device, flat, seed=1)[8:-8, 8:-8].std() for name, device in bench.DEVICES.items()}
    assert noise == pytest.approx({name: device.noise for name, device in bench.DEVICES.items()}, rel=0.1)


def test_what_the_page_says_of_zeros():
    tiers = next(row["tiers"] for row in AGAINST if (row["from"], row["to"], row["test"]) == ("zeros", "union", "all"))
    said = PAGE.replace("\n ", "")
    for tier in ("all", "head"):
        assert interval(tiers[tier]["difference"]) in said
        assert tiers[tier]["difference"][1] > 0, "the sentence says that it is above"
    ward = next(row["tiers"] for row in AGAINST if (row["from"], row["to"], row["test"]) == ("ward", "union", "all"))
    assert f"gains {interval(ward['all']['difference'])}" in said
    told = {row["train"]: row for row in ROWS if row["what"] == "entries"}["zeros"]
    first = next(values for values in told.values() if isinstance(values, list))
    assert f"zeros tell {first[0]:.3f} cases" in PAGE
