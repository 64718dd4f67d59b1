"""The figures on the page about labels half known are those of the stored result."""

import json
from pathlib import Path

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
