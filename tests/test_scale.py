"""bench/scale.py: a split that parts a patient's images does not pass."""

import importlib
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
