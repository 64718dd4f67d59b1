"""The figures on the pages about heat maps and the gate are those of the stored results."""

import json
from pathlib import Path

import pytest

from tests.figures import interval

ROOT = Path(__file__).parents[1]
POINTING = json.loads((ROOT / "bench/results/pointing.json").read_text())["rows"]
GATE = json.loads((ROOT / "bench/results/gate.json").read_text())["rows"]


def pointing_lines(row) -> list[str]:
    names = {"chance": "noise", "middle": "the middle of the image"}
    made = []
    for one in row["methods"]:
        name = names.get(one["method"], f"`{one['method']}`")
        seen = one["method"] not in names
        areas = ["", ""] if one["deletion"] is None else [f"{one['deletion']:.3f}", f"{one['insertion']:.3f}"]
        made.append(
            f"| {name} | {interval(one['hits'])} | {areas[0]} | {areas[1]} | {one['cpu_seconds'] if seen else ''} |"
        )
    return made


def gate_lines(rows) -> list[str]:
    kinds = list(dict.fromkeys(kind["kind"] for row in rows for kind in row["kinds"]))
    told = [{kind["kind"]: interval(kind["refused"]) for kind in row["kinds"]} for row in rows]
    return [f"| {kind} | {' | '.join(each.get(kind, '') for each in told)} |" for kind in kinds]


@pytest.mark.parametrize("line", pointing_lines(next(row for row in POINTING if row["what"] == "phantom")))
def test_every_method_stands_on_the_page_as_measured(line):
    assert line in (ROOT / "docs/why/explanations.md").read_text()


def test_the_page_says_how_many_images_and_findings():
    row = next(row for row in POINTING if row["what"] == "phantom")
    page = (ROOT / "docs/why/explanations.md").read_text()
    assert f"over {row['images']} images of {row['findings']} findings" in page
    assert f"boxes cover {row['boxes_cover']:.3f} of an image" in page


@pytest.mark.parametrize("line", gate_lines(GATE))
def test_every_kind_of_picture_stands_on_the_page_of_the_gate(line):
    assert line in (ROOT / "docs/why/gate.md").read_text()


def test_the_claims_of_the_page_of_the_gate_hold():
    for row in GATE:
        refused = {kind["kind"]: kind["refused"] for kind in row["kinds"]}
        assert refused["held-out chests"][0] < 0.04
        for kind in ("hand", "slice of a CT", "cat", "photograph", "noise", "blank", "inverted"):
            assert refused[kind][0] > 0.95, (row["what"], kind)
        for kind in ("upside down", "on its side"):
            assert refused[kind][0] > 0.75, (row["what"], kind)
