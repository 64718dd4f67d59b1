"""The figures on the page about fusions are those of the stored results."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/why/fusion.md").read_text()
EVERY, SEVERAL = json.loads((ROOT / "bench/results/reproduce_chexfusion_views.json").read_text())["tables"][0]["panels"]


def interval(values, sign=""):
    return f"{values[0]:{sign}.3f} [{values[1]:{sign}.3f}, {values[2]:{sign}.3f}]"


def above(panel, lower, upper):
    """mAP of the row `upper` minus that of `lower`, [value, low, high]."""
    for pair in panel["differences"]:
        found = pair["columns"]["all"]["difference"]
        if (pair["from"], pair["to"]) == (lower, upper):
            return found
        if (pair["to"], pair["from"]) == (lower, upper):
            return [-found[0], -found[2], -found[1]]
    raise KeyError((lower, upper))


@pytest.mark.parametrize("row", range(len(EVERY["rows"])))
def test_every_row_of_the_views_table(row):
    one, other = EVERY["rows"][row], SEVERAL["rows"][row]
    beyond = "" if one["name"] == "weighted 7:3" else interval(above(SEVERAL, "weighted 7:3", one["name"]), "+") + " "
    printed = f"{one['theirs']['all']:.3f} " if one["theirs"] else ""
    line = f"| {one['name']} | {interval(one['ours']['all'])} | {interval(other['ours']['all'])} | {beyond}| {printed}|"
    assert line in PAGE


@pytest.mark.parametrize("lower", ["weights learned per finding", "concat"])
def test_the_transformer_is_above_by_what_the_page_says(lower):
    assert interval(above(SEVERAL, lower, "CheXFusion")) + " above" in PAGE.replace("\n", " ")
