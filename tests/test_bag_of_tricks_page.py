"""The figures on the page about Bag of Tricks and label queries are those of the stored results."""

import json
from pathlib import Path

import pytest

from tests.figures import interval

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/why/bag-of-tricks.md").read_text()
NIH = json.loads((ROOT / "bench/results/label_queries_nih.json").read_text())
STORED = ROOT / "bench/results/reproduce_bag_of_tricks.json"


@pytest.mark.parametrize("row", NIH["rows"], ids=lambda row: row["what"])
def test_every_row_on_real_images(row):
    value = row["value"]
    told = interval(value) if len(value) == 3 else f"{value[0]:.3f}"
    assert f"| {row['what']} | {told} |" in PAGE


def test_the_rows_of_the_poster():
    tables = json.loads(STORED.read_text())["tables"]
    assert [table["name"] for table in tables] == ["tricks", "ensembles"]
    for table in tables:
        for row in table["panels"][0]["rows"]:
            assert f"| {row['name']} | {interval(row['ours']['all'])} |" in PAGE, row["name"]
