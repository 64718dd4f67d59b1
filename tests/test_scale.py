"""bench/scale.py: a split that parts a patient's images does not pass, and the page says what was measured."""

import importlib
import json
import re
from pathlib import Path

import polars as pl
import pytest

from hilum.data import splits
from hilum.tables import read_studies
from tests.small import write_small_studies

BENCH = Path(__file__).parent.parent / "bench"


def test_a_patient_in_two_parts_is_found(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    scale = importlib.import_module("scale")
    rows = read_studies(write_small_studies(tmp_path, patients=12)).height
    assert scale.split(tmp_path) == rows
    parts = (
        pl.int_range(pl.len())
        .cast(pl.String)
        .replace_strict({str(row): ("train", "valid")[row % 2] for row in range(rows)})
    )
    monkeypatch.setattr(splits, "hold_out", lambda table, **shares: table.with_columns(split=parts))
    with pytest.raises(SystemExit, match="several parts"):
        scale.split(tmp_path)


def test_the_page_says_what_was_measured():
    root = Path(__file__).parents[1]
    page = (root / "docs/how-to/mimic.md").read_text()
    made = json.loads((root / "bench/results/scale.json").read_text())
    table = re.findall(r"^\| (?!step|-)(.*?) \| (\d+) \| ([\d.]+) \|$", page, re.MULTILINE)
    assert [(seconds, held) for _, seconds, held in table] == [
        (f"{row['cpu_seconds']:.0f}", f"{row['gigabytes']:.1f}") for row in made["rows"]
    ]
    assert max(row["gigabytes"] for row in made["rows"]) < 2, "the goal"
